//! The answering side of a plan: what stands under a name below one directory, and how much of a file has given digests. It
//! opens for reading only, follows no link, makes nothing, and leaves the directory by no name; what an answer leads to is
//! not its business.

use std::io::{self, BufReader, Read, Write};
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;

use super::line::{Answer, Compare, Look, Said, read_line};
use super::link::Broken;
use super::{End, Told};
use crate::attributes::FileKind;
use crate::digest::chunk_digest;
use crate::disk::{Access, Disk, Rooted};
use crate::error::Error;
use crate::event::Notice;
use crate::geometry::{ChunkRun, Geometry};
use crate::limits::{CHUNK_BYTES, PLAN_LINE_BYTES_MAX};
use crate::outcome::Reason;
use crate::path::RelPath;
use crate::state::log::read_exact_at;
use crate::store::reason_of;

/// What a directory below the target is.
#[derive(Clone)]
enum Above<D: Disk> {
    /// It is there, perhaps on another file system than the target.
    Held { dir: D::Dir, is_elsewhere: bool },
    /// It would be made, perhaps there.
    Missing { is_elsewhere: bool },
    /// Nothing can be put into it.
    Refused(Reason),
}

/// Looks below one directory. Keeps the last directory and the last file, so that the next question costs less.
pub(super) struct Surveyor<D: Disk> {
    disk: D,
    /// The directory and its file system, if it is there.
    root: Option<(D::Dir, u64)>,
    above: Option<(RelPath, Above<D>)>,
    file: Option<(RelPath, D::File)>,
    buffer: Vec<u8>,
}

/// A target that need not be there, and what is `told` of it. `None` if it is not.
pub(crate) fn open_root<D: Rooted, T>(
    disk: &D,
    dir: &Path,
    told: impl FnOnce(&D::Dir) -> io::Result<T>,
) -> Result<Option<(D::Dir, T)>, Error> {
    let opened = disk.open_root(dir).and_then(|root| told(&root).map(|told| (root, told)));
    match opened {
        Ok(root) => Ok(Some(root)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => {
            let (what, problem) = ("the directory", "could not be opened");
            Err(Error::Local { what, object: dir.to_owned(), problem, source: Some(source) })
        }
    }
}

impl<D: Rooted> Surveyor<D> {
    /// Below a directory that need not be there.
    pub(super) fn open(disk: &D, dir: &Path) -> Result<Surveyor<D>, Error> {
        let root = open_root(disk, dir, |root| Ok(disk.stat_dir(root)?.device))?;
        Ok(Surveyor { disk: disk.clone(), root, above: None, file: None, buffer: vec![] })
    }
}

impl<D: Disk> Surveyor<D> {
    /// What stands under a name.
    pub(super) fn look(&mut self, look: &Look) -> Answer {
        let (dir, is_elsewhere) = match self.above(&look.path) {
            Above::Refused(reason) => return Answer::Refused { reason },
            Above::Missing { is_elsewhere } => return Answer::Nothing { is_elsewhere },
            Above::Held { dir, is_elsewhere } => (dir, is_elsewhere),
        };
        let name = look.path.name();
        let stat = match self.disk.stat(&dir, name) {
            Ok(stat) => stat,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Answer::Nothing { is_elsewhere },
            Err(error) => return Answer::Refused { reason: reason_of(&error) },
        };
        match (look.kind, stat.kind) {
            (FileKind::Directory, FileKind::Directory) => match self.disk.open_dir(&dir, name) {
                Ok(_) => Answer::There,
                Err(error) => Answer::Refused { reason: reason_of(&error) },
            },
            (FileKind::Directory, _) => Answer::Refused { reason: Reason::ParentLeftOut },
            (_, FileKind::Directory) => Answer::Directory,
            (FileKind::Regular, FileKind::Regular) => {
                Answer::File { is_same_size: stat.size == look.size, is_elsewhere }
            }
            (FileKind::Symlink, FileKind::Symlink)
                if self.disk.read_link(&dir, name).is_ok_and(|found| found == look.target) =>
            {
                Answer::There
            }
            _ => Answer::Other { is_elsewhere },
        }
    }

    /// How much of a file has these digests, at the same places.
    pub(super) fn compare(&mut self, compare: &Compare) -> Answer {
        Answer::Equal { bytes: self.equal_bytes(compare) }
    }

    fn equal_bytes(&mut self, compare: &Compare) -> Option<u64> {
        let geometry = Geometry::new(compare.size, CHUNK_BYTES)?;
        if self.file.as_ref().is_none_or(|(path, _)| *path != compare.path) {
            self.file = None;
            let Above::Held { dir, .. } = self.above(&compare.path) else { return None };
            let file = self.disk.open(&dir, compare.path.name(), Access::Read).ok()?;
            self.file = Some((compare.path.clone(), file));
        }
        let (_, file) = self.file.as_ref()?;
        let count = u32::try_from(compare.digests.len()).expect("a line holds fewer");
        let run = ChunkRun { first: compare.first, count };
        let mut equal_bytes = 0;
        for (chunk, expected) in geometry.chunks(run).zip(&compare.digests) {
            let length = geometry.chunk_len(chunk);
            self.buffer.resize(length as usize, 0);
            // What cannot be read, or is not there, is not equal.
            let is_read = read_exact_at(file, &mut self.buffer, geometry.offset(chunk)).is_ok();
            if is_read && chunk_digest(geometry, chunk, &self.buffer) == *expected {
                equal_bytes += u64::from(length);
            }
        }
        Some(equal_bytes)
    }

    /// The directory that an entry goes into.
    fn above(&mut self, path: &RelPath) -> Above<D> {
        let Some((root, _)) = &self.root else { return Above::Missing { is_elsewhere: false } };
        let Some(parent) = path.parent() else { return Above::Held { dir: root.clone(), is_elsewhere: false } };
        match &self.above {
            Some((last, above)) if *last == parent => return above.clone(),
            // Nothing is below what is not there, or no directory.
            Some((last, above @ (Above::Missing { .. } | Above::Refused(_)))) if is_below(&parent, last) => {
                return above.clone();
            }
            _ => {}
        }
        let above = self.find(&parent);
        self.above = Some((parent, above.clone()));
        above
    }

    fn find(&self, path: &RelPath) -> Above<D> {
        let Some((root, device)) = &self.root else { return Above::Missing { is_elsewhere: false } };
        let is_elsewhere = |dir: &D::Dir| self.disk.stat_dir(dir).is_ok_and(|stat| stat.device != *device);
        let mut next = Some(path.clone());
        while let Some(there) = next {
            match self.disk.open_dir(root, there.as_bytes()) {
                Ok(dir) if there == *path => return Above::Held { is_elsewhere: is_elsewhere(&dir), dir },
                Ok(dir) => return Above::Missing { is_elsewhere: is_elsewhere(&dir) },
                Err(error) if error.kind() == io::ErrorKind::NotFound => next = there.parent(),
                Err(error) if is_no_directory(&error) => return Above::Refused(Reason::ParentLeftOut),
                Err(error) => return Above::Refused(reason_of(&error)),
            }
        }
        Above::Missing { is_elsewhere: false }
    }
}

fn is_below(path: &RelPath, above: &RelPath) -> bool {
    path.as_bytes().strip_prefix(above.as_bytes()).is_some_and(|rest| rest.starts_with(b"/"))
}

/// Whether something else than a directory stands in the way: a file, or a link, which is never followed.
fn is_no_directory(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotADirectory || error.raw_os_error() == Some(Errno::LOOP.raw_os_error())
}

/// Answers what comes in, and hands on what is only said, until all is done or the pipe is closed. Answers are held back
/// only while there is a further question at hand. `patience` is that of the pipes.
pub(super) fn attend<D: Disk>(
    surveyor: &mut Surveyor<D>,
    input: &mut BufReader<impl Read>,
    output: impl Write,
    patience: Option<Duration>,
    tell: &mut impl FnMut(Told),
) -> Result<End, Broken> {
    let broken = |error: io::Error| Broken::of(&error, patience);
    let mut output = io::BufWriter::new(output);
    let mut line = vec![];
    loop {
        if input.buffer().is_empty() {
            output.flush().map_err(broken)?;
        }
        if !read_line(input, &mut line, PLAN_LINE_BYTES_MAX).map_err(broken)? {
            return Ok(End::Closed);
        }
        let answer = match Said::parse(&line).ok_or(Broken::Misbehaved)? {
            Said::Look(look) => surveyor.look(&look),
            Said::Compare(compare) => surveyor.compare(&compare),
            Said::Found(finding) => {
                tell(Told::Found(finding));
                continue;
            }
            Said::Done { excluded } => {
                if excluded > 0 {
                    tell(Told::Notice(Notice::Excluded { objects: excluded }));
                }
                return Ok(End::Done);
            }
        };
        output.write_all(&answer.line()).map_err(broken)?;
    }
}
