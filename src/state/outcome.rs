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
use crate::limits::{RECEIPT_TEXT_BYTES_MAX, STATE_MENDS_ROUNDS_MAX};
use crate::manifest::{Position, Record};
use crate::outcome::{Outcome, Reason};
use crate::receipt::{self, Core, Line};
use crate::state::home::Home;
use crate::state::log::ManifestLog;
use crate::state::receipts::Written;
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
    /// Entries that are there under another name than their own.
    pub renamed: u64,
}

impl Tally {
    /// Whether a receipt says the same.
    fn is_told_by(&self, core: &Core) -> bool {
        let ours = (self.digest, self.delivered_files, self.delivered_bytes, self.left_out, self.kept);
        ours == (core.outcome, core.delivered_files, core.delivered_bytes, core.left_out, core.kept)
    }
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

    /// Those of the log as it is, if it is undamaged: what is collected is what was compared with the chain.
    pub fn of_undamaged<D: Disk>(log: &ManifestLog<D>) -> io::Result<Option<Live>> {
        let (mut collector, seen_at) = (Collector::new(log), log.position());
        let is_undamaged = log.reads_undamaged(|record| collector.see(record))?;
        let live = || Live { entries: Arc::new(collector.finish()), record_count: seen_at.record_count, seen_at };
        Ok(is_undamaged.then(live))
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

/// The lines of a receipt: what is live, and the text that was hashed, unless it is long.
#[derive(Clone, Debug)]
pub struct Lines {
    live: Live,
    text: Option<Arc<Vec<u8>>>,
}

impl Lines {
    /// Lines whose text is made when they are written.
    pub fn of(live: Live) -> Lines {
        Lines { live, text: None }
    }
}

/// Collects [`Lines`].
struct Text(Option<Vec<u8>>);

impl Text {
    fn add(&mut self, line: &Line) {
        let Some(text) = &mut self.0 else { return };
        text.extend_from_slice(line.to_json().as_bytes());
        text.push(b'\n');
        if text.len() > RECEIPT_TEXT_BYTES_MAX {
            self.0 = None;
        }
    }
}

/// What a log says if the receiver excepts nothing: computed while the receiver still makes its receipt.
#[derive(Clone, Debug)]
pub struct Expected {
    tally: Tally,
    lines: Lines,
}

impl Expected {
    /// Of the log as it is.
    pub fn of<D: Disk>(log: &ManifestLog<D>) -> io::Result<Expected> {
        let live = Live::of(log)?;
        let (tally, lines) = tally(log, &live, |_| None, |_, _| ())?;
        Ok(Expected { tally, lines })
    }
}

/// How a receipt stands to a manifest log.
#[derive(Clone, Debug)]
pub enum Agreement {
    /// It speaks of what the log says now.
    Now(Box<Told>),
    /// It speaks of what the log said when it was complete before: the source has changed since.
    Before,
    /// It speaks of nothing that the log ever said.
    Never,
}

/// Compares a receipt with the log of the sender. `exceptions` are those that came with it, by path hash; `expected`
/// saves work where it is of this log as it is and there are none.
pub fn compare<D: Disk>(
    log: &ManifestLog<D>,
    core: &Core,
    exceptions: &HashMap<PathHash, Outcome>,
    expected: Option<&Expected>,
) -> io::Result<Agreement> {
    let now = log.position().record_count;
    if let Some(Record::Complete(_)) = log.last()? {
        if let Some(Expected { tally, lines }) = expected.filter(|expected| expected.lines.live.is_of(log))
            && exceptions.is_empty()
            && tally.is_told_by(core)
        {
            let (exceptions, lines) = (HashMap::new(), lines.clone());
            return Ok(Agreement::Now(Box::new(Told { tally: *tally, exceptions, lines })));
        }
        if let Some(told) = agrees(log, now, core, exceptions)? {
            return Ok(Agreement::Now(Box::new(told)));
        }
    }
    for record_count in completions(log)?.into_iter().rev().filter(|count| *count != now) {
        if agrees(log, record_count, core, exceptions)?.is_some() {
            return Ok(Agreement::Before);
        }
    }
    Ok(Agreement::Never)
}

/// What a log says.
#[derive(Clone, Debug)]
pub struct Told {
    /// What it comes to.
    pub tally: Tally,
    /// The receiver's exceptions, by entry.
    pub exceptions: HashMap<EntryIndex, Outcome>,
    /// Its lines.
    pub lines: Lines,
}

/// What the log says when it had so many records, if a receipt says the same.
fn agrees<D: Disk>(
    log: &ManifestLog<D>,
    record_count: u64,
    core: &Core,
    exceptions: &HashMap<PathHash, Outcome>,
) -> io::Result<Option<Told>> {
    let live = Live::when(log, record_count)?;
    let by_entry = by_entry(&live, exceptions);
    let mut are_all_possible = true;
    let look = |_, line: &Line| are_all_possible &= line.is_possible();
    let (tally, lines) = tally(log, &live, |entry| by_entry.get(&entry).copied(), look)?;
    let is_agreed = tally.is_told_by(core) && by_entry.len() == exceptions.len() && are_all_possible;
    Ok(is_agreed.then_some(Told { tally, exceptions: by_entry, lines }))
}

/// Computes the outcome of these entries and its lines, with a look at each. `exceptions` tells the receiver's outcome of
/// an entry where it is not plain delivery.
pub fn tally<D: Disk>(
    log: &ManifestLog<D>,
    live: &Live,
    exceptions: impl Fn(EntryIndex) -> Option<Outcome>,
    mut each: impl FnMut(EntryIndex, &Line),
) -> io::Result<(Tally, Lines)> {
    let (mut hasher, mut text) = (OutcomeHasher::default(), Text(Some(vec![])));
    let mut tally = Tally {
        digest: hasher.finish(),
        delivered_files: 0,
        delivered_bytes: 0,
        left_out: 0,
        kept: 0,
        attributes_not_applied: 0,
        renamed: 0,
    };
    for (_, entry) in live.entries.iter() {
        let entry = EntryIndex(*entry);
        let line = line_of(log, entry, exceptions(entry))?;
        hasher.line(&line.canonical());
        text.add(&line);
        each(entry, &line);
        match line.outcome {
            Outcome::LeftOut(Reason::Kept) => tally.kept += 1,
            Outcome::LeftOut(reason) => tally.left_out += u64::from(reason.counts_as_left_out()),
            arrived => {
                tally.attributes_not_applied += u64::from(arrived.is_without_attributes());
                tally.renamed += u64::from(arrived.number().is_some());
                tally.delivered_files += u64::from(line.kind == FileKind::Regular);
                tally.delivered_bytes += line.size;
            }
        }
    }
    tally.digest = hasher.finish();
    Ok((tally, Lines { live: live.clone(), text: text.0.map(Arc::new) }))
}

/// Makes the receipt file of one side durable: core and signature, then each live path in the order in which it was hashed,
/// from the text that was kept of them.
/// One that does not read back as it was written is written anew. Gives what it is known by from then on.
pub fn store_receipt<D: Disk, E: Disk>(
    log: &ManifestLog<D>,
    lines: &Lines,
    exceptions: impl Fn(EntryIndex) -> Option<Outcome>,
    core: &Core,
    signature: &[u8; 64],
    home: &Home<E>,
    role: Role,
) -> io::Result<Written> {
    let mut rounds = 1;
    loop {
        let mut out = home.create_receipt(core.transfer, role).map_err(|error| match error {
            Error::State { source, .. } => source,
            other => io::Error::other(other),
        })?;
        out.line(&receipt::head_to_json(core, signature))?;
        match &lines.text {
            Some(text) => out.text(text)?,
            None => {
                for (_, entry) in lines.live.entries.iter() {
                    let entry = EntryIndex(*entry);
                    out.line(&line_of(log, entry, exceptions(entry))?.to_json())?;
                }
            }
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
    let mut collector = Collector::new(log);
    for_each_record(log, |number, record| {
        if number < record_count {
            collector.see(record);
        }
    })?;
    Ok(collector.finish())
}

/// Collects what is live from the records of a log, in their order.
struct Collector {
    keys: Vec<(PathHash, u32)>,
    withdrawn: HashSet<u32>,
    next: u32,
}

impl Collector {
    fn new<D: Disk>(log: &ManifestLog<D>) -> Collector {
        Collector { keys: Vec::with_capacity(log.entry_count() as usize), withdrawn: HashSet::new(), next: 0 }
    }

    fn see(&mut self, record: &Record) {
        if let Record::Withdraw { entry, .. } = record {
            self.withdrawn.insert(entry.0);
        } else if let Some(path) = record.path() {
            self.keys.push((path_hash(path), self.next));
            self.next += 1;
        }
    }

    /// Path hash and number of each entry that was not withdrawn, sorted by path hash.
    fn finish(self) -> Vec<(PathHash, u32)> {
        let Collector { mut keys, withdrawn, .. } = self;
        keys.retain(|(_, entry)| !withdrawn.contains(entry));
        keys.sort_unstable();
        keys
    }
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
mod tests;
