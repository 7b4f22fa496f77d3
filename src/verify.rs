//! Compares a directory with a receipt: is everything still what was received? The receipt is believed only once its
//! signature is good and its lines fold into the digest that was signed; files are read past the cache and hashed.
//! It changes nothing, follows no link, and does not decide what a difference is worth.

pub mod output;

use std::io;
use std::ops::Range;

use crate::attributes::{FileKind, Level, Timestamp};
use crate::digest::{Folder, OutcomeHasher, PathHash, chunk_digest, path_hash};
use crate::disk::{Access, AlignedBuffer, Disk, DiskFile, Stat};
use crate::geometry::{ChunkRun, Geometry};
use crate::limits::{CHUNK_BYTES, PATH_BYTES_MAX};
use crate::net::verify_signature;
use crate::path::RelPath;
use crate::receipt::{Core, DecodeError, Line, head_from_json, signing_bytes};

/// Bytes read at once from a receipt.
const READ_BYTES: usize = 64 << 10;
/// Bytes of the longest line: a path and a link target, encoded.
const LINE_BYTES_MAX: usize = 16 * PATH_BYTES_MAX;
/// Permission bits that travel.
const MODE_BITS: u32 = 0o777;

/// Why a receipt proves nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReceiptError {
    /// It cannot be read.
    #[error("reading it failed")]
    Io(#[from] io::Error),
    /// It is no receipt, a damaged one, or one of a newer version.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The receiver's key did not sign this.
    #[error("its signature is not good: it was not made by the receiver that it names, or it was changed")]
    BadSignature,
    /// The lines are not those that were signed.
    #[error("its lines are not those that were signed: some were changed, added or removed")]
    LinesDiffer,
}

/// A receipt whose signature and lines are good.
#[derive(Debug)]
pub struct Receipt<F> {
    file: F,
    core: Core,
    /// Where the lines begin, in canonical order.
    starts: Vec<u64>,
}

impl<F: DiskFile> Receipt<F> {
    /// Reads a receipt and believes it, or says why not. Costs 24 bytes of memory for each line while it reads.
    pub fn open(file: F) -> Result<Receipt<F>, ReceiptError> {
        let mut lines = Lines::new(&file);
        let (_, head) = lines.next()?.ok_or(DecodeError::Malformed)?;
        let (bytes, signature) = head_from_json(&head)?;
        let core = Core::decode(&bytes)?;
        if !verify_signature(&core.receiver, &signing_bytes(&bytes), &signature) {
            return Err(ReceiptError::BadSignature);
        }
        let mut places: Vec<(PathHash, u64)> = Vec::new();
        while let Some((start, text)) = lines.next()? {
            let line = parse(&text, places.len())?;
            places.push((path_hash(&line.path), start));
        }
        places.sort_unstable();
        let mut hasher = OutcomeHasher::default();
        for (number, (_, start)) in places.iter().enumerate() {
            hasher.line(&parse(&lines.at(*start)?, number)?.canonical());
        }
        if hasher.finish() != core.outcome {
            return Err(ReceiptError::LinesDiffer);
        }
        drop(lines);
        Ok(Receipt { file, core, starts: places.into_iter().map(|(_, start)| start).collect() })
    }

    /// What was signed.
    pub fn core(&self) -> &Core {
        &self.core
    }

    /// All lines, in canonical order. They were parsed before; an error is one of reading.
    pub fn lines(&self) -> impl Iterator<Item = Result<Line, ReceiptError>> {
        let mut lines = Lines::new(&self.file);
        self.starts.iter().enumerate().map(move |(number, start)| Ok(parse(&lines.at(*start)?, number)?))
    }
}

fn parse(text: &str, number: usize) -> Result<Line, DecodeError> {
    // The head is the file's first line.
    Line::from_json(text).ok_or(DecodeError::BadLine(number as u64 + 2))
}

/// Lines of a file, in order or by their places.
struct Lines<'f, F> {
    file: &'f F,
    /// Offset of the buffer's first byte.
    base: u64,
    buffer: Vec<u8>,
    /// Where in the buffer the next line begins.
    next: usize,
}

impl<'f, F: DiskFile> Lines<'f, F> {
    fn new(file: &'f F) -> Lines<'f, F> {
        Lines { file, base: 0, buffer: Vec::new(), next: 0 }
    }

    /// The line that begins there.
    fn at(&mut self, start: u64) -> Result<String, ReceiptError> {
        let inside = start.checked_sub(self.base).and_then(|at| usize::try_from(at).ok());
        match inside.filter(|at| *at < self.buffer.len()) {
            Some(at) => self.next = at,
            None => {
                self.buffer.clear();
                (self.base, self.next) = (start, 0);
            }
        }
        self.next()?.map(|(_, line)| line).ok_or_else(|| DecodeError::Malformed.into())
    }

    /// The next line without its end, and where it begins.
    fn next(&mut self) -> Result<Option<(u64, String)>, ReceiptError> {
        let mut searched = self.next;
        loop {
            if let Some(length) = self.buffer[searched..].iter().position(|byte| *byte == b'\n') {
                let line = self.take(self.next..searched + length);
                return line.map(Some);
            }
            self.buffer.drain(..self.next);
            self.base += self.next as u64;
            self.next = 0;
            searched = self.buffer.len();
            if searched > LINE_BYTES_MAX {
                return Err(DecodeError::Malformed.into());
            }
            self.buffer.resize(searched + READ_BYTES, 0);
            let length = self.file.read_at(&mut self.buffer[searched..], self.base + searched as u64)?;
            self.buffer.truncate(searched + length);
            match (length, searched) {
                (0, 0) => return Ok(None),
                (0, _) => return Err(DecodeError::Malformed.into()),
                _ => {}
            }
        }
    }

    fn take(&mut self, range: Range<usize>) -> Result<(u64, String), ReceiptError> {
        self.next = range.end + 1;
        let start = self.base + range.start as u64;
        let text = String::from_utf8(self.buffer[range].to_vec()).map_err(|_| DecodeError::Malformed)?;
        Ok((start, text))
    }
}

/// In what an entry differs from its line.
#[derive(Debug)]
pub enum Difference {
    /// Nothing has its name.
    Missing,
    /// Something of another kind has its name.
    Kind {
        /// What it was.
        expected: FileKind,
        /// What it is.
        found: FileKind,
    },
    /// Another length, in bytes.
    Size {
        /// What it was.
        expected: u64,
        /// What it is.
        found: u64,
    },
    /// Other bytes.
    Content,
    /// A link with another target.
    Target {
        /// What it is.
        found: Vec<u8>,
    },
    /// Other permission bits.
    Mode {
        /// What they were.
        expected: u32,
        /// What they are.
        found: u32,
    },
    /// Another time of change.
    Mtime {
        /// What it was.
        expected: Timestamp,
        /// What it is.
        found: Timestamp,
    },
    /// It is there and could not be examined.
    Unreadable(io::Error),
}

/// What was found out about one entry.
#[derive(Debug, Default)]
pub struct Finding {
    /// In what it differs; empty if in nothing.
    pub differences: Vec<Difference>,
    /// How far below this process its bytes came from; `None` if no byte was read.
    pub level: Option<Level>,
}

/// Compares entries below one directory. Keeps a buffer and the last directory, so that the next entry costs less.
pub struct Comparer<D: Disk> {
    disk: D,
    root: D::Dir,
    last: Option<(RelPath, D::Dir)>,
    buffer: AlignedBuffer,
}

impl<D: Disk> Comparer<D> {
    /// Below `root`.
    pub fn new(disk: D, root: D::Dir) -> Comparer<D> {
        Comparer { disk, root, last: None, buffer: AlignedBuffer::default() }
    }

    /// Compares one entry with its line; `None` if the receipt says that it was not delivered.
    pub fn compare(&mut self, line: &Line) -> Option<Finding> {
        if !line.outcome.has_arrived() {
            return None;
        }
        Some(self.examine(line, !line.outcome.is_without_attributes()).unwrap_or_else(|error| {
            let difference = match error.kind() {
                io::ErrorKind::NotFound => Difference::Missing,
                _ => Difference::Unreadable(error),
            };
            Finding { differences: vec![difference], level: None }
        }))
    }

    fn examine(&mut self, line: &Line, are_attributes_due: bool) -> io::Result<Finding> {
        let path = line.place().ok_or(io::ErrorKind::InvalidFilename)?;
        let dir = self.parent(&path)?;
        let name = path.name();
        let stat = self.disk.stat(&dir, name)?;
        let mut finding = Finding::default();
        if stat.kind != line.kind {
            finding.differences.push(Difference::Kind { expected: line.kind, found: stat.kind });
            return Ok(finding);
        }
        match line.kind {
            FileKind::Regular => self.examine_content((&dir, name), line, &stat, &mut finding)?,
            FileKind::Symlink => {
                let found = self.disk.read_link(&dir, name)?;
                finding.differences.extend((found != line.target).then_some(Difference::Target { found }));
            }
            FileKind::Directory | FileKind::Special => {}
        }
        if are_attributes_due {
            finding.differences.extend(differing_attributes(line, &stat));
        }
        Ok(finding)
    }

    /// The directory that holds a path.
    fn parent(&mut self, path: &RelPath) -> io::Result<D::Dir> {
        let Some(parent) = path.parent() else { return Ok(self.root.clone()) };
        if let Some((_, dir)) = self.last.as_ref().filter(|(last, _)| *last == parent) {
            return Ok(dir.clone());
        }
        let dir = self.disk.open_dir(&self.root, parent.as_bytes())?;
        self.last = Some((parent, dir.clone()));
        Ok(dir)
    }

    fn examine_content(
        &mut self,
        (dir, name): (&D::Dir, &[u8]),
        line: &Line,
        stat: &Stat,
        finding: &mut Finding,
    ) -> io::Result<()> {
        if stat.size != line.size {
            finding.differences.push(Difference::Size { expected: line.size, found: stat.size });
            return Ok(());
        }
        let file = self.disk.open(dir, name, Access::Read)?;
        let Some(geometry) = Geometry::new(line.size, CHUNK_BYTES) else {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than any file that landfall moves"));
        };
        let mut folder = Folder::default();
        for chunk in geometry.chunks(ChunkRun { first: 0, count: geometry.chunk_count() }) {
            let length = usize::try_from(geometry.chunk_len(chunk)).expect("a chunk fits into memory");
            let level = file.read_uncached_at(&mut self.buffer, geometry.offset(chunk), length)?;
            finding.level = Some(finding.level.map_or(level, |lowest| lowest.min(level)));
            if self.buffer.bytes().len() != length {
                // It shrinks while it is read.
                finding.differences.push(Difference::Content);
                return Ok(());
            }
            folder.push(chunk_digest(geometry, chunk, self.buffer.bytes()));
        }
        let is_same = line.digest == Some(folder.finish());
        finding.differences.extend((!is_same).then_some(Difference::Content));
        Ok(())
    }
}

/// Mode and time, where the kind has them. A directory's time is not compared: whatever is added or removed in it
/// later changes it.
fn differing_attributes(line: &Line, stat: &Stat) -> Vec<Difference> {
    let mut differences = Vec::new();
    let (expected, found) = (u32::from(line.mode) & MODE_BITS, stat.mode & MODE_BITS);
    if line.kind != FileKind::Symlink && expected != found {
        differences.push(Difference::Mode { expected, found });
    }
    if line.kind != FileKind::Directory && !is_same_time(line.mtime, stat.mtime) {
        differences.push(Difference::Mtime { expected: line.mtime, found: stat.mtime });
    }
    differences
}

/// Whether a time is the other one, as a file system with coarser times keeps it.
fn is_same_time(expected: Timestamp, found: Timestamp) -> bool {
    const GRAINS_NS: [u32; 5] = [1, 100, 1_000, 1_000_000, 1_000_000_000];
    let is_cut = |grain: u32| found.nanos == expected.nanos / grain * grain;
    expected.seconds == found.seconds && GRAINS_NS.into_iter().any(is_cut)
}

#[cfg(test)]
mod tests;
