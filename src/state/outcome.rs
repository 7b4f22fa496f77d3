//! The outcome of a transfer, computed from a complete manifest log and the exceptions of the receiver: the digest
//! that both sides compare, the counts of the receipt, and the lines of the receipt file. The same code on both
//! sides. One pass over the log collects 24 bytes for each live entry ([`Live`]); records are read again in the order of
//! path hashes. What it does not do: sign, or decide what an exception is.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::attributes::{FileKind, Timestamp};
use crate::digest::{FileDigest, OutcomeDigest, OutcomeHasher, PathHash, path_hash};
use crate::disk::Disk;
use crate::error::Error;
use crate::geometry::EntryIndex;
use crate::identity::Role;
use crate::limits::STATE_MENDS_ROUNDS_MAX;
use crate::manifest::{Position, Record};
use crate::outcome::{Outcome, Reason};
use crate::receipt::{self, Core, Line};
use crate::state::home::Home;
use crate::state::log::ManifestLog;
use crate::wire::split_records;

/// What a transfer came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// Digest of the canonical lines.
    pub digest: OutcomeDigest,
    /// Files verified, durable and under their names.
    pub delivered_files: u64,
    /// Their bytes.
    pub delivered_bytes: u64,
    /// Entries left out on either side, kept ones not counted.
    pub left_out: u64,
    /// Entries of which the target's own version was kept.
    pub kept: u64,
    /// Entries that are there, but whose mode or times could not be applied.
    pub attributes_not_applied: u64,
}

/// The entries that hold at one state of a log, in the order in which their lines are hashed. Clones share them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Live {
    /// Path hash and number, sorted by path hash.
    entries: Arc<Vec<(PathHash, u32)>>,
    record_count: u64,
    /// Where the log ended when they were collected.
    seen_at: Position,
}

impl Live {
    /// Those of the log as it is.
    pub fn of<D: Disk>(log: &ManifestLog<D>) -> io::Result<Live> {
        Live::when(log, log.position().record_count)
    }

    /// Those of the log when it had so many records.
    fn when<D: Disk>(log: &ManifestLog<D>, record_count: u64) -> io::Result<Live> {
        let entries = Arc::new(live_entries(log, record_count)?);
        Ok(Live { entries, record_count, seen_at: log.position() })
    }

    /// Whether they are all that holds now.
    pub fn is_of<D: Disk>(&self, log: &ManifestLog<D>) -> bool {
        self.seen_at == log.position() && self.record_count == self.seen_at.record_count
    }
}

/// How a receipt stands to a manifest log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Agreement {
    /// It speaks of what the log says now. With the receiver's exceptions, by entry.
    Now(Tally, HashMap<EntryIndex, Outcome>, Live),
    /// It speaks of what the log said when it was complete before: the source has changed since.
    Before,
    /// It speaks of nothing that the log ever said.
    Never,
}

/// Compares a receipt with the log of the sender. `exceptions` are those that came with it, by path hash.
pub fn compare<D: Disk>(
    log: &ManifestLog<D>,
    core: &Core,
    exceptions: &HashMap<PathHash, Outcome>,
) -> io::Result<Agreement> {
    let now = log.position().record_count;
    if let Some(Record::Complete(_)) = log.last()?
        && let Some((tally, by_entry, live)) = agrees(log, now, core, exceptions)?
    {
        return Ok(Agreement::Now(tally, by_entry, live));
    }
    for record_count in completions(log)?.into_iter().rev().filter(|count| *count != now) {
        if agrees(log, record_count, core, exceptions)?.is_some() {
            return Ok(Agreement::Before);
        }
    }
    Ok(Agreement::Never)
}

/// What a log says: its tally, the outcomes that are no success, and what was live.
type Told = (Tally, HashMap<EntryIndex, Outcome>, Live);

/// What the log says when it had so many records, if a receipt says the same.
fn agrees<D: Disk>(
    log: &ManifestLog<D>,
    record_count: u64,
    core: &Core,
    exceptions: &HashMap<PathHash, Outcome>,
) -> io::Result<Option<Told>> {
    let live = Live::when(log, record_count)?;
    let by_entry = by_entry(&live, exceptions);
    let tally = tally(log, &live, |entry| by_entry.get(&entry).copied(), |_, _| ())?;
    let ours = (tally.digest, tally.delivered_files, tally.delivered_bytes, tally.left_out, tally.kept);
    let theirs = (core.outcome, core.delivered_files, core.delivered_bytes, core.left_out, core.kept);
    Ok((ours == theirs && by_entry.len() == exceptions.len()).then_some((tally, by_entry, live)))
}

/// Computes the outcome of these entries, with a look at each of its lines. `exceptions` tells the receiver's outcome of
/// an entry where it is not plain delivery.
pub fn tally<D: Disk>(
    log: &ManifestLog<D>,
    live: &Live,
    exceptions: impl Fn(EntryIndex) -> Option<Outcome>,
    mut each: impl FnMut(EntryIndex, &Line),
) -> io::Result<Tally> {
    let mut hasher = OutcomeHasher::default();
    let mut tally = Tally {
        digest: hasher.finish(),
        delivered_files: 0,
        delivered_bytes: 0,
        left_out: 0,
        kept: 0,
        attributes_not_applied: 0,
    };
    for (_, entry) in live.entries.iter() {
        let entry = EntryIndex(*entry);
        let line = line_of(log, entry, exceptions(entry))?;
        hasher.line(&line.canonical());
        each(entry, &line);
        match line.outcome {
            Outcome::LeftOut(Reason::Kept) => tally.kept += 1,
            Outcome::LeftOut(reason) => tally.left_out += u64::from(reason.counts_as_left_out()),
            Outcome::Delivered | Outcome::AttributesNotApplied => {
                tally.attributes_not_applied += u64::from(line.outcome == Outcome::AttributesNotApplied);
                tally.delivered_files += u64::from(line.kind == FileKind::Regular);
                tally.delivered_bytes += line.size;
            }
        }
    }
    tally.digest = hasher.finish();
    Ok(tally)
}

/// Makes the receipt file of one side durable: core and signature, then each live path in the order in which it was hashed.
/// One that does not read back as it was written is written anew.
pub fn store_receipt<D: Disk, E: Disk>(
    log: &ManifestLog<D>,
    live: &Live,
    exceptions: impl Fn(EntryIndex) -> Option<Outcome>,
    core: &Core,
    signature: &[u8; 64],
    home: &Home<E>,
    role: Role,
) -> io::Result<()> {
    let mut rounds = 1;
    loop {
        let mut out = home.create_receipt(core.transfer, role).map_err(|error| match error {
            Error::State { source, .. } => source,
            other => io::Error::other(other),
        })?;
        out.line(&receipt::head_to_json(core, signature))?;
        for (_, entry) in live.entries.iter() {
            let entry = EntryIndex(*entry);
            out.line(&line_of(log, entry, exceptions(entry))?.to_json())?;
        }
        match out.finish() {
            Err(error) if error.kind() == io::ErrorKind::InvalidData && rounds < STATE_MENDS_ROUNDS_MAX => rounds += 1,
            done => return done,
        }
    }
}

/// The entries that have these paths. Paths that no live entry has are missing in the result.
fn by_entry(live: &Live, outcomes: &HashMap<PathHash, Outcome>) -> HashMap<EntryIndex, Outcome> {
    if outcomes.is_empty() {
        return HashMap::new();
    }
    live.entries.iter().filter_map(|(path, entry)| Some((EntryIndex(*entry), *outcomes.get(path)?))).collect()
}

/// Copies a stored receipt to where the user wants it too: whole, durable and under its name, or not at all.
pub fn copy_receipt(from: &Path, to: &Path) -> io::Result<()> {
    let dir = match to.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let mut copy = tempfile::NamedTempFile::new_in(dir)?;
    io::copy(&mut std::fs::File::open(from)?, &mut copy)?;
    copy.as_file().sync_all()?;
    copy.persist(to)?;
    std::fs::File::open(dir)?.sync_all()
}

/// Path hash and number of each entry that holds when the log has so many records, sorted by path hash.
fn live_entries<D: Disk>(log: &ManifestLog<D>, record_count: u64) -> io::Result<Vec<(PathHash, u32)>> {
    let mut keys = Vec::with_capacity(log.entry_count() as usize);
    let (mut withdrawn, mut next) = (HashSet::new(), 0);
    for_each_record(log, |number, record| {
        if number >= record_count {
            return;
        }
        if let Record::Withdraw { entry, .. } = record {
            withdrawn.insert(entry.0);
        } else if let Some(path) = record.path() {
            keys.push((path_hash(path), next));
            next += 1;
        }
    })?;
    keys.retain(|(_, entry)| !withdrawn.contains(entry));
    keys.sort_unstable();
    Ok(keys)
}

/// How many records the log had each time that it was complete, ascending.
fn completions<D: Disk>(log: &ManifestLog<D>) -> io::Result<Vec<u64>> {
    let mut counts = vec![];
    for_each_record(log, |number, record| {
        if matches!(record, Record::Complete(_)) {
            counts.push(number + 1);
        }
    })?;
    Ok(counts)
}

fn for_each_record<D: Disk>(log: &ManifestLog<D>, mut each: impl FnMut(u64, &Record)) -> io::Result<()> {
    let start = Position { record_count: 0, chain: log.header().chain() };
    let mut cursor = log.find(start)?.ok_or_else(damaged)?;
    let mut number = 0;
    while cursor.record_count() < log.position().record_count {
        let page = log.page(&mut cursor)?;
        for record in split_records(&page).map_err(|_| damaged())? {
            each(number, &Record::decode(record).map_err(|_| damaged())?);
            number += 1;
        }
    }
    Ok(())
}

/// The line of one entry. What the sender left out stays so; of the rest the receiver's word counts.
fn line_of<D: Disk>(log: &ManifestLog<D>, entry: EntryIndex, exception: Option<Outcome>) -> io::Result<Line> {
    let outcome = exception.unwrap_or(Outcome::Delivered);
    let (introduction, end) = log.whole(entry)?;
    Ok(match introduction {
        Record::Begin { path, size } => {
            let Some(Record::End { digest, mode, mtime, .. }) = end else { return Err(damaged()) };
            file_line(path, size, digest, mode, mtime, outcome)
        }
        Record::Directory { path, mode, mtime } => plain_line(path, FileKind::Directory, mode, mtime, outcome),
        Record::Symlink { path, target, mtime } => {
            Line { target, ..plain_line(path, FileKind::Symlink, 0, mtime, outcome) }
        }
        Record::LeftOut { path, kind, reason } => {
            plain_line(path, kind, 0, Timestamp::default(), Outcome::LeftOut(reason))
        }
        Record::Chunks { .. } | Record::End { .. } | Record::Withdraw { .. } | Record::Complete(_) => {
            return Err(damaged());
        }
    })
}

fn file_line(
    path: crate::path::RelPath,
    size: u64,
    digest: FileDigest,
    mode: u16,
    mtime: Timestamp,
    outcome: Outcome,
) -> Line {
    Line { size, digest: Some(digest), ..plain_line(path, FileKind::Regular, mode, mtime, outcome) }
}

fn plain_line(path: crate::path::RelPath, kind: FileKind, mode: u16, mtime: Timestamp, outcome: Outcome) -> Line {
    Line { path, kind, size: 0, digest: None, mode, mtime, target: vec![], outcome }
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the manifest log was changed on disk by something else")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::digest::{ChunkDigest, Folder};
    use crate::disk::RealDisk;
    use crate::identity::TransferId;
    use crate::manifest::Header;
    use crate::outcome::Counts;
    use crate::path::RelPath;

    fn path(text: &str) -> RelPath {
        RelPath::parse(text.as_bytes()).unwrap()
    }

    fn file(entry: u32, name: &str, chunks: u64) -> Vec<Record> {
        let digests = vec![ChunkDigest([7; 32]); usize::try_from(chunks).unwrap()];
        let mut folder = Folder::default();
        digests.iter().for_each(|digest| folder.push(*digest));
        let (entry, mtime) = (EntryIndex(entry), Timestamp::default());
        let mut records = vec![Record::Begin { path: path(name), size: chunks * 4096 }];
        records.extend((chunks > 0).then_some(Record::Chunks { entry, digests }));
        records.push(Record::End { entry, digest: folder.finish(), mode: 0o644, mtime });
        records
    }

    fn log(home: &std::path::Path, name: &[u8], records: &[Record]) -> ManifestLog<RealDisk> {
        let header = Header { chunk_bytes: 4096, transfer: TransferId([1; 16]) };
        let dir = RealDisk::open_root(home).unwrap();
        let (mut log, _) = ManifestLog::open(&RealDisk::new(), &dir, name, header, |_, _| ()).unwrap();
        let encoded: Vec<Vec<u8>> = records.iter().map(Record::encode).collect();
        log.append(encoded.iter().map(Vec::as_slice), |_, _| ()).unwrap();
        log
    }

    #[test]
    fn the_outcome_does_not_depend_on_how_the_log_was_written() {
        let home = tempfile::tempdir().unwrap();
        let directory = Record::Directory { path: path("d"), mode: 0o755, mtime: Timestamp::default() };
        let left_out = Record::LeftOut { path: path("x"), kind: FileKind::Special, reason: Reason::Special };
        let complete = Record::Complete(Counts::default());
        let withdraw = Record::Withdraw { entry: EntryIndex(1), reason: Reason::Changed };
        let one = [vec![directory.clone()], file(1, "d/a", 2), vec![left_out.clone()], file(3, "b", 1)].concat();
        let two = [
            file(0, "b", 1),
            file(1, "d/a", 5),
            vec![left_out, withdraw, complete.clone(), directory],
            file(4, "d/a", 2),
            vec![complete],
        ]
        .concat();
        let none = |_: EntryIndex| None;
        let (one, two) = (log(home.path(), b"1", &one), log(home.path(), b"2", &two));
        let tally_one = tally(&one, &Live::of(&one).unwrap(), none, |_, _| ()).unwrap();
        assert_eq!(tally(&two, &Live::of(&two).unwrap(), none, |_, _| ()).unwrap(), tally_one);
        assert_eq!((tally_one.delivered_files, tally_one.delivered_bytes, tally_one.left_out), (2, 3 * 4096, 1));
        let kept = |entry: EntryIndex| (entry.0 == 3).then_some(Outcome::LeftOut(Reason::Kept));
        let tally_kept = tally(&one, &Live::of(&one).unwrap(), kept, |_, _| ()).unwrap();
        assert_ne!(tally_kept.digest, tally_one.digest);
        assert_eq!((tally_kept.delivered_files, tally_kept.kept, tally_kept.left_out), (1, 1, 1));
        let attributes = |entry: EntryIndex| (entry.0 == 0).then_some(Outcome::AttributesNotApplied);
        assert_eq!(tally(&one, &Live::of(&one).unwrap(), attributes, |_, _| ()).unwrap().attributes_not_applied, 1);
    }

    #[test]
    fn a_receipt_is_compared_with_what_the_log_says_and_with_what_it_said_before() {
        let home = tempfile::tempdir().unwrap();
        let complete = Record::Complete(Counts::default());
        let withdraw = Record::Withdraw { entry: EntryIndex(0), reason: Reason::Changed };
        let before = [file(0, "a", 1), file(1, "b", 2), vec![complete.clone()]].concat();
        let now = [before.clone(), vec![withdraw], file(2, "a", 3), vec![complete]].concat();
        let (before, now) = (log(home.path(), b"1", &before), log(home.path(), b"2", &now));
        let kept = |name: &str| HashMap::from([(path_hash(&path(name)), Outcome::LeftOut(Reason::Kept))]);
        let core = |log: &ManifestLog<RealDisk>, kept: Option<u32>| {
            let said = |entry: EntryIndex| (Some(entry.0) == kept).then_some(Outcome::LeftOut(Reason::Kept));
            let tally = tally(log, &Live::of(log).unwrap(), said, |_, _| ()).unwrap();
            Core {
                outcome: tally.digest,
                delivered_files: tally.delivered_files,
                delivered_bytes: tally.delivered_bytes,
                left_out: tally.left_out,
                kept: tally.kept,
                ..receipt::tests::sample()
            }
        };
        let none = HashMap::new();
        let Agreement::Now(tally, ..) = compare(&now, &core(&now, None), &none).unwrap() else { panic!("it is now") };
        assert_eq!((tally.delivered_files, tally.delivered_bytes), (2, 5 * 4096));
        let agreement = compare(&now, &core(&now, Some(1)), &kept("b")).unwrap();
        assert!(matches!(agreement, Agreement::Now(_, by_entry, _) if by_entry.contains_key(&EntryIndex(1))));
        assert_eq!(compare(&now, &core(&before, None), &none).unwrap(), Agreement::Before);
        assert_eq!(compare(&now, &core(&before, Some(0)), &kept("a")).unwrap(), Agreement::Before);
        assert_eq!(compare(&before, &core(&now, None), &none).unwrap(), Agreement::Never);
        assert_eq!(compare(&now, &core(&now, None), &kept("no such path")).unwrap(), Agreement::Never);
    }
}
