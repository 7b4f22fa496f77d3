//! The two sides as the command sees them: one here, one in a child process that is asked line by line.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::line::{Answered, Asked};
use super::source::Voucher;
use super::target::Pruner;
use super::{Entry, Fate, Lister, Listing, Protected, Refused, Seen};
use crate::disk::{Disk, Rooted};
use crate::error::Error;
use crate::identity::Role;
use crate::limits::{
    DELETE_BATCH_BYTES, DELETE_BATCH_ENTRIES, DELETE_ENTRIES_MAX, DELETE_LINE_BYTES_MAX, DELETE_PATHS_BYTES_MAX,
};
use crate::options::ChildCommand;
use crate::path::RelPath;
use crate::plan::{Broken, FromOther, Other, ToOther, read_line};

/// What is on this side.
enum Near<D: Disk> {
    /// The sources.
    Source(Voucher<D>),
    /// The target.
    Target(Pruner<D>),
}

/// Both sides.
pub struct Ends<D: Disk> {
    near: Near<D>,
    far: Far,
    /// Directories of the target below which the sources are the whole truth. `None` is the target itself.
    below: Vec<Option<RelPath>>,
}

/// The other side: each line is answered before the next is written.
struct Far {
    /// Closed before the process is waited for: their end is what it ends by.
    input: FromOther,
    output: ToOther,
    other: Other,
    peer: Role,
    number: u64,
    line: Vec<u8>,
}

impl<D: Rooted> Ends<D> {
    /// With the sources here and the target at a child, which is started here. One that says nothing for as long as there is
    /// `patience` ends it.
    pub fn send(
        disk: &D,
        sources: &[PathBuf],
        child: &ChildCommand,
        patience: Option<Duration>,
    ) -> Result<Ends<D>, Error> {
        let voucher = Voucher::open(disk, sources)?;
        let below = voucher.directories();
        Ok(Ends { near: Near::Source(voucher), far: Far::start(child, Role::Receiver, patience)?, below })
    }

    /// With the target here, a directory beside which `home` is this side's state, and the source, which arrives under a name or at the top, at a child.
    pub fn receive(
        disk: &D,
        (dir, home): (&Path, &Path),
        name: Option<RelPath>,
        child: &ChildCommand,
        patience: Option<Duration>,
    ) -> Result<Ends<D>, Error> {
        let pruner = Pruner::open(disk, dir, home)?;
        Ok(Ends { near: Near::Target(pruner), far: Far::start(child, Role::Sender, patience)?, below: vec![name] })
    }
}

impl<D: Disk> Ends<D> {
    /// Lists what the target has and the sources have not, below the directories that the transfer has brought if there was
    /// one. `go_on` may end it.
    pub fn list(
        &mut self,
        protected: Option<&Protected>,
        mut go_on: impl FnMut() -> Result<(), Error>,
    ) -> Result<Listing, Error> {
        let mut below = std::mem::take(&mut self.below);
        if let Some(protected) = protected {
            below.retain(|start| start.as_ref().is_none_or(|start| protected.has_directory(start)));
        }
        // What arrives at the top makes the whole target theirs.
        if below.contains(&None) {
            below = vec![None];
        }
        below.sort();
        below.dedup();
        let mut lister = Lister::default();
        let keeps = |path: &RelPath| protected.is_some_and(|protected| protected.keeps(path));
        let Ends { near, far, .. } = self;
        match near {
            Near::Source(voucher) => {
                far.say(&Asked::Scan(below.clone()))?;
                loop {
                    go_on()?;
                    let seen = match far.hear()? {
                        Answered::Seen(seen) => seen,
                        Answered::Scanned => break,
                        _ => return Err(far.refused(Refused::Misbehaved)),
                    };
                    for seen in seen {
                        let stays = matches!(&seen, Seen::Entry(entry)
                            if keeps(&entry.path) || voucher.is_there(&entry.path));
                        lister.take(seen, &below, stays).map_err(|refused| far.refused(refused))?;
                    }
                }
            }
            Near::Target(pruner) => pruner.scan(&below, |batch| {
                go_on()?;
                let paths = batch.iter().filter_map(|seen| match seen {
                    Seen::Entry(entry) => Some(entry.path.clone()),
                    Seen::Stays(..) => None,
                });
                let mut are_there = far.exist(paths.collect())?.into_iter();
                for seen in batch {
                    let stays = match &seen {
                        Seen::Entry(entry) => are_there.next().unwrap_or(true) || keeps(&entry.path),
                        Seen::Stays(..) => false,
                    };
                    lister.take(seen, &below, stays).map_err(|refused| far.refused(refused))?;
                }
                Ok(())
            })?,
        }
        Ok(lister.finish())
    }

    /// Removes what was listed, the last first, unless the source has it again: somebody may have been asked meanwhile. Before
    /// a batch `announce` is called with it and after it `conclude`; either may end it.
    pub fn remove(
        &mut self,
        mut listed: Vec<Entry>,
        mut announce: impl FnMut(&[Entry]) -> Result<(), Error>,
        mut conclude: impl FnMut(&[Entry], &[Fate]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        while !listed.is_empty() {
            let (mut batch, mut bytes) = (vec![], 0);
            while batch.len() < DELETE_BATCH_ENTRIES && bytes < DELETE_BATCH_BYTES {
                let Some(entry) = listed.pop() else { break };
                bytes += entry.path.as_bytes().len();
                batch.push(entry);
            }
            let are_there = match &mut self.near {
                Near::Source(voucher) => {
                    voucher.look_anew();
                    batch.iter().map(|entry| voucher.is_there(&entry.path)).collect()
                }
                Near::Target(_) => self.far.exist(batch.iter().map(|entry| entry.path.clone()).collect())?,
            };
            let mut are_there = are_there.into_iter();
            let (back, batch): (Vec<Entry>, Vec<Entry>) =
                batch.into_iter().partition(|_| are_there.next().unwrap_or(true));
            conclude(&back, &vec![Fate::Back; back.len()])?;
            announce(&batch)?;
            let fates = match &mut self.near {
                Near::Source(_) => self.far.remove(&batch)?,
                Near::Target(pruner) => pruner.remove(&batch),
            };
            conclude(&batch, &fates)?;
        }
        Ok(())
    }

    /// Lets the other side end: nothing more is asked.
    pub fn finish(self) {
        let Far { mut other, input, output, .. } = self.far;
        drop((input, output));
        other.finish();
    }
}

impl Far {
    fn start(child: &ChildCommand, peer: Role, patience: Option<Duration>) -> Result<Far, Error> {
        let (other, input, output) = Other::start(child, peer, patience)?;
        Ok(Far { other, peer, input, output, number: 0, line: vec![] })
    }

    fn say(&mut self, asked: &Asked) -> Result<(), Error> {
        let said = self.output.write_all(&asked.line()).and_then(|()| self.output.flush());
        said.map_err(|error| self.other.failed(self.other.broken(&error)))
    }

    fn hear(&mut self) -> Result<Answered, Error> {
        let broken = match read_line(&mut self.input, &mut self.line, DELETE_LINE_BYTES_MAX) {
            Ok(true) => match Answered::parse(&self.line) {
                Some(answered) => return Ok(answered),
                None => Broken::Misbehaved,
            },
            Ok(false) => Broken::Gone,
            Err(error) => self.other.broken(&error),
        };
        Err(self.other.failed(broken))
    }

    /// Whether each of these is at the source.
    fn exist(&mut self, paths: Vec<RelPath>) -> Result<Vec<bool>, Error> {
        if paths.is_empty() {
            return Ok(vec![]);
        }
        let (number, count) = (self.next(), paths.len());
        self.say(&Asked::Exist(number, paths))?;
        match self.hear()? {
            Answered::Exist(heard, are_there) if heard == number && are_there.len() == count => Ok(are_there),
            _ => Err(self.refused(Refused::Misbehaved)),
        }
    }

    fn remove(&mut self, entries: &[Entry]) -> Result<Vec<Fate>, Error> {
        let number = self.next();
        // A removal that is under way is not given up: what has become of it would not be known.
        self.other.changes();
        self.input.get_mut().wait_for_ever();
        self.say(&Asked::Remove(number, entries.to_vec()))?;
        match self.hear()? {
            Answered::Removed(heard, fates) if heard == number && fates.len() == entries.len() => Ok(fates),
            _ => Err(self.refused(Refused::Misbehaved)),
        }
    }

    fn next(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    fn refused(&self, refused: Refused) -> Error {
        match refused {
            Refused::Misbehaved => {
                Error::Misbehaved { peer: self.peer, what: "what it says of the deletion has no meaning".to_owned() }
            }
            Refused::TooMany => {
                Error::Local { what: "deletion", object: PathBuf::from("--delete"), problem: too_many(), source: None }
            }
        }
    }
}

const _: () = assert!(DELETE_ENTRIES_MAX == 2_097_152 && DELETE_PATHS_BYTES_MAX == 256 << 20);

fn too_many() -> &'static str {
    "would delete more than 2,097,152 entries, or such with paths of more than 256 MiB, and nothing is: look whether it is the right target, or remove some by hand"
}
