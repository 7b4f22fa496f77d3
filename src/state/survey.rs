//! What the state on disk says about a transfer, read without changing anything, also while another process works on
//! it. The figures are claims of the logs, good for a screen: nobody acts on them.

use std::collections::HashMap;
use std::io;

use crate::disk::{Access, Disk, DiskFile};
use crate::geometry::{ChunkRun, Geometry};
use crate::identity::TransferId;
use crate::journal::{self, Claim, next_claim};
use crate::limits::CHUNK_BYTES;
use crate::manifest::{self, Header, Parsed, Record, parse_frame};

/// Bytes read at once. No frame of either log is longer.
const READ_BYTES: usize = 1 << 20;

/// What a manifest log describes so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Described {
    /// Size of each entry; `None` if it is no file, or no longer holds.
    sizes: Vec<Option<u64>>,
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Entries that the sender left out.
    pub left_out: u64,
    /// Whether the above are totals.
    pub is_total: bool,
}

/// How much of it a receiver holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Files under their final name, read back from the device.
    pub sealed_files: u64,
    /// Their bytes.
    pub sealed_bytes: u64,
    /// Bytes that are durable in staging, of files that are not sealed yet.
    pub staged_bytes: u64,
}

/// Reads the manifest log of a transfer; `None` if there is none.
pub fn described<D: Disk>(disk: &D, dir: &D::Dir, name: &[u8], transfer: TransferId) -> io::Result<Option<Described>> {
    let Some(file) = find(disk, dir, name)? else { return Ok(None) };
    let header = Header { chunk_bytes: CHUNK_BYTES, transfer };
    let mut described = Described::default();
    let mut chain = header.chain();
    each_frame(&file, &header.encode(), |bytes| {
        let Parsed::Frame { record, chain: next, frame_bytes } = parse_frame(bytes, chain) else { return None };
        described.take(&Record::decode(record).ok()?)?;
        chain = next;
        Some(frame_bytes)
    })?;
    Ok(Some(described))
}

/// Reads the journal of a transfer whose manifest log is known.
pub fn held<D: Disk>(
    disk: &D,
    dir: &D::Dir,
    name: &[u8],
    transfer: TransferId,
    described: &Described,
) -> io::Result<Held> {
    let Some(file) = find(disk, dir, name)? else { return Ok(Held::default()) };
    let mut files: HashMap<u32, Claimed> = HashMap::new();
    let mut index = 0;
    each_frame(&file, &journal::header(transfer), |bytes| {
        let (claim, length) = next_claim(transfer, index, bytes)?;
        index += 1;
        match claim {
            Claim::Durable { entry, inode, run, .. } => files.entry(entry.0).or_default().add(inode, run),
            Claim::Sealed { entry, .. } => drop(files.insert(entry.0, Claimed::Sealed)),
            Claim::Sealing { .. } | Claim::Doubted { .. } => {}
        }
        Some(length)
    })?;
    let mut held = Held::default();
    for (entry, claimed) in files {
        let Some(size) = described.size(entry) else { continue };
        match claimed {
            Claimed::Sealed => {
                held.sealed_files += 1;
                held.sealed_bytes += size;
            }
            Claimed::Runs { runs, .. } => held.staged_bytes += bytes_of(runs, size),
        }
    }
    Ok(held)
}

impl Described {
    fn take(&mut self, record: &Record) -> Option<()> {
        self.is_total = matches!(record, Record::Complete(_));
        match record {
            Record::Begin { size, .. } => {
                self.sizes.push(Some(*size));
                self.files += 1;
                self.bytes += size;
            }
            Record::LeftOut { .. } => {
                self.sizes.push(None);
                self.left_out += 1;
            }
            Record::Directory { .. } | Record::Symlink { .. } => self.sizes.push(None),
            Record::Withdraw { entry, .. } => {
                if let Some(size) = self.sizes.get_mut(usize::try_from(entry.0).ok()?)?.take() {
                    self.files -= 1;
                    self.bytes -= size;
                }
            }
            Record::Chunks { .. } | Record::End { .. } | Record::Complete(_) => {}
        }
        Some(())
    }

    fn size(&self, entry: u32) -> Option<u64> {
        *self.sizes.get(usize::try_from(entry).ok()?)?
    }
}

/// What the journal claims of one file.
#[derive(Debug)]
enum Claimed {
    Runs { inode: u64, runs: Vec<ChunkRun> },
    Sealed,
}

impl Default for Claimed {
    fn default() -> Claimed {
        Claimed::Runs { inode: 0, runs: vec![] }
    }
}

impl Claimed {
    /// Claims of an inode that was left count no longer, nor does what was sealed before.
    fn add(&mut self, inode: u64, run: ChunkRun) {
        match self {
            Claimed::Runs { inode: known, runs } if *known == inode => runs.push(run),
            _ => *self = Claimed::Runs { inode, runs: vec![run] },
        }
    }
}

/// Bytes of all chunks that lie in at least one run.
fn bytes_of(mut runs: Vec<ChunkRun>, size: u64) -> u64 {
    let Some(geometry) = Geometry::new(size, CHUNK_BYTES) else { return 0 };
    runs.sort_by_key(|run| run.first);
    let (mut bytes, mut through) = (0, 0);
    for run in runs {
        let first = run.first.max(through);
        let end = run.first.saturating_add(run.count);
        if end > first {
            bytes += geometry.run_bytes(ChunkRun { first, count: end - first }).unwrap_or(0);
            through = end;
        }
    }
    bytes
}

fn find<D: Disk>(disk: &D, dir: &D::Dir, name: &[u8]) -> io::Result<Option<D::File>> {
    match disk.open(dir, name, Access::Read) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Gives each frame of a log to `take`, which says how long it is, or that it is none. A file that does not begin
/// with the header has no frames; what is torn or damaged ends the log.
fn each_frame<F: DiskFile>(file: &F, header: &[u8], mut take: impl FnMut(&[u8]) -> Option<usize>) -> io::Result<()> {
    let mut buffer = vec![0; READ_BYTES];
    let length = file.read_at(&mut buffer[..manifest::HEADER_BYTES.max(journal::HEADER_BYTES)], 0)?;
    if !buffer[..length].starts_with(header) {
        return Ok(());
    }
    let mut offset = header.len() as u64;
    loop {
        let length = file.read_at(&mut buffer, offset)?;
        let mut at = 0;
        while let Some(frame_bytes) = take(&buffer[at..length]) {
            at += frame_bytes;
        }
        if at == 0 {
            return Ok(());
        }
        offset += at as u64;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::attributes::{Level, Stamps, Timestamp};
    use crate::digest::{ChunkDigest, FileDigest, PathHash};
    use crate::disk::{RealDir, RealDisk};
    use crate::geometry::EntryIndex;
    use crate::manifest::frame;
    use crate::outcome::{Counts, Reason};
    use crate::path::RelPath;

    const ID: TransferId = TransferId([3; 16]);

    fn begin(name: &[u8], size: u64) -> Record {
        Record::Begin { path: RelPath::parse(name).unwrap(), size }
    }

    fn log(records: &[Record]) -> Vec<u8> {
        let header = Header { chunk_bytes: CHUNK_BYTES, transfer: ID };
        let (mut bytes, mut chain) = (header.encode().to_vec(), header.chain());
        for record in records {
            let (framed, next) = frame(&record.encode(), chain);
            bytes.extend(framed);
            chain = next;
        }
        bytes
    }

    fn journal(claims: &[Claim]) -> Vec<u8> {
        let mut bytes = journal::header(ID).to_vec();
        for (index, claim) in claims.iter().enumerate() {
            bytes.extend(journal::frame(ID, index as u64, claim));
        }
        bytes
    }

    fn durable(entry: u32, inode: u64, first: u32, count: u32) -> Claim {
        Claim::Durable { entry: EntryIndex(entry), inode, run: ChunkRun { first, count }, tag: [0; 8] }
    }

    fn sealed(entry: u32) -> Claim {
        let time = Timestamp::default();
        let stamps = Stamps { size: 0, mtime: time, ctime: time, inode: 0, device: 0 };
        let (path, digest) = (PathHash([0; 16]), FileDigest([0; 32]));
        Claim::Sealed { entry: EntryIndex(entry), path, digest, level: Level::Device, stamps }
    }

    fn read(dir: &tempfile::TempDir) -> (Option<Described>, Held) {
        let root: RealDir = RealDisk::open_root(dir.path()).unwrap();
        let described = described(&RealDisk::new(), &root, b"manifest", ID).unwrap();
        let known = described.clone().unwrap_or_default();
        (described, held(&RealDisk::new(), &root, b"journal", ID, &known).unwrap())
    }

    #[test]
    fn figures_are_those_of_what_holds() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(&dir), (None, Held::default()));
        let chunk = u64::from(CHUNK_BYTES);
        let records = [
            begin(b"a", 3 * chunk + 1),
            Record::Chunks { entry: EntryIndex(0), digests: vec![ChunkDigest([0; 32]); 4] },
            begin(b"b", 10),
            Record::Directory { path: RelPath::parse(b"d").unwrap(), mode: 0, mtime: Timestamp::default() },
            begin(b"c", 100),
            Record::Withdraw { entry: EntryIndex(3), reason: Reason::Changed },
            Record::Complete(Counts::default()),
        ];
        std::fs::write(dir.path().join("manifest"), log(&records)).unwrap();
        let claims =
            [durable(0, 7, 0, 4), durable(0, 8, 0, 2), durable(0, 8, 1, 2), sealed(1), sealed(3), durable(9, 1, 0, 1)];
        std::fs::write(dir.path().join("journal"), journal(&claims)).unwrap();
        let (described, held) = read(&dir);
        let described = described.unwrap();
        assert_eq!((described.files, described.bytes, described.is_total), (2, 3 * chunk + 11, true));
        assert_eq!(held, Held { sealed_files: 1, sealed_bytes: 10, staged_bytes: 3 * chunk });
    }

    #[test]
    fn damage_ends_a_log_and_is_not_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let whole = log(&[begin(b"a", 1), begin(b"b", 2)]);
        for length in 0..whole.len() {
            std::fs::write(dir.path().join("manifest"), &whole[..length]).unwrap();
            assert!(read(&dir).0.unwrap().files < 2);
        }
        std::fs::write(dir.path().join("manifest"), &whole).unwrap();
        assert_eq!(read(&dir).0.unwrap().bytes, 3);
        std::fs::write(dir.path().join("journal"), b"nonsense").unwrap();
        assert_eq!(read(&dir).1, Held::default());
    }
}
