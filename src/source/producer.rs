//! The producer: walks the source, hashes what is new, and appends to the manifest log what there is.
//!
//! ```text
//! an earlier run's open file ─► walk ─► withdraw what was not met again ─► read once more what changed ─► settled
//!                                                                             ▲ what serving found changed │
//!                                                                             └────────────────────────────┘
//! ```
//!
//! [`Producer::step`] does one small piece, so that a simulator runs it inline and the product on a thread. An
//! unchanged entry of an earlier run costs a stat and nothing else. A version of a file is one consistent reading:
//! stamps at its end equal those at its begin, or it is withdrawn and read once more when all else is done.
//! What it does not do: wait, send, or decide what the receiver gets. Trouble with one entry never ends the others.

mod batch;
mod hashing;
mod known;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::mem;
use std::path::PathBuf;
use std::sync::Arc;

use crate::attributes::FileKind;
use crate::digest::{PathHash, path_hash};
use crate::disk::{Access, Disk, DiskFile};
use crate::error::Error;
use crate::event::{Event, Notice};
use crate::geometry::{EntryIndex, Geometry};
use crate::identity::Role;
use crate::limits::{RECORD_DIGESTS_MAX, STEP_COMPARED_ENTRIES_MAX, VERSIONS_MAX};
use crate::manifest::{Position, Record};
use crate::outcome::{Counts, NotPreserved, Reason};
use crate::path::RelPath;
use crate::source::ahead::HashAhead;
use crate::source::log::SharedLog;
use crate::source::reason_of;
use crate::source::roots::Roots;
use crate::source::stamps::StampFile;
use crate::source::walk::{Exclusions, Extended, Found, Parent, Walk, Walked};
use crate::state::log::{AppendError, ManifestLog};
use crate::wire::Place;

use batch::Batch;
use hashing::{Hashing, Origin, permissions};
use known::{Change, Known, count, too_long_key};

pub use known::Replay;

/// Why a producer runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To bring the log up to what the source is.
    Produce,
    /// To see whether the source still is what the log says: nothing is written, see [`Producer::differs`].
    Compare,
}

/// What a producer works with.
pub struct Setup<D: Disk> {
    /// What the user named.
    pub roots: Roots<D>,
    /// What the walk passes over.
    pub exclusions: Exclusions,
    /// The log; nobody else appends to it.
    pub log: ManifestLog<D>,
    /// What its replay showed.
    pub replay: Replay,
    /// The private stamps beside it.
    pub stamps: StampFile<D>,
    /// Where both are, for messages.
    pub state_path: PathBuf,
    /// The user as whom this side runs: what others own does not keep its owner.
    pub user: u32,
    /// Why it runs.
    pub purpose: Purpose,
}

/// What a step leaves to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// More, at once.
    Ready,
    /// More, when the receiver has considered what is there: see [`HashAhead::wait_for_room`].
    Blocked,
    /// Nothing, unless [`Producer::request`] brings something. The log says what the source is.
    Settled(Position),
}

/// Result of a step.
#[derive(Debug)]
pub struct Stepped {
    /// What is left.
    pub work: Work,
    /// What the user should hear of.
    pub events: Vec<Event>,
}

/// How far the producer is, for screens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// What the log holds, withdrawn entries not counted.
    pub counts: Counts,
    /// Bytes read and hashed by this process.
    pub hashed_bytes: u64,
    /// File that is being hashed.
    pub object: Option<RelPath>,
    /// Whether the counts are totals.
    pub is_total: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Walk,
    Vanished,
    Later,
    Settled,
}

/// What is read once more when the walk is done.
#[derive(Debug)]
enum Later {
    /// Whatever is under this path now.
    Path(RelPath),
    /// A new version of this entry.
    Entry(EntryIndex, Reason),
}

/// How an object that the walk met stands to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Same(EntryIndex),
    New,
    Changed(EntryIndex),
}

/// The producer. See the module's doc.
pub struct Producer<D: Disk> {
    roots: Roots<D>,
    log: SharedLog<D>,
    ahead: Arc<HashAhead>,
    stamps: StampFile<D>,
    state_path: PathBuf,
    user: u32,
    purpose: Purpose,
    chunk_bytes: u32,
    walk: Walk<D>,
    known: Known,
    phase: Phase,
    current: Option<Hashing<D>>,
    stash: Option<Walked<D>>,
    later: VecDeque<Later>,
    versions: HashMap<PathHash, u32>,
    counts: Counts,
    batch: Batch,
    events: Vec<Event>,
    hashed_bytes: u64,
    has_differed: bool,
}

impl<D: Disk> Producer<D> {
    /// A producer for a log that was just opened. What an earlier run was in the middle of goes on if the file is
    /// still the same, else it is withdrawn.
    pub fn new(setup: Setup<D>) -> Result<Producer<D>, Error> {
        let withdrawn = setup.replay.withdrawn().clone();
        let (known, mut counts) = setup.replay.finish();
        let state = |source| Error::State { path: setup.state_path.clone(), source };
        for entry in &withdrawn {
            let record = setup.log.introduction(EntryIndex(*entry)).map_err(state)?;
            count(&mut counts, &record, Change::Removed);
        }
        let entry_count = setup.log.entry_count();
        let mut producer = Producer {
            walk: Walk::new(setup.roots.clone(), setup.exclusions),
            roots: setup.roots,
            chunk_bytes: setup.log.header().chunk_bytes,
            log: SharedLog::new(setup.log, withdrawn),
            ahead: Arc::new(HashAhead::new(entry_count)),
            stamps: setup.stamps,
            state_path: setup.state_path,
            user: setup.user,
            purpose: setup.purpose,
            known,
            phase: Phase::Walk,
            current: None,
            stash: None,
            later: VecDeque::new(),
            versions: HashMap::new(),
            counts,
            batch: Batch::new(entry_count),
            events: vec![],
            hashed_bytes: 0,
            has_differed: false,
        };
        producer.take_up_open_file()?;
        Ok(producer)
    }

    /// The log, to be read by others.
    pub fn log(&self) -> SharedLog<D> {
        self.log.clone()
    }

    /// The buffer that this producer fills.
    pub fn ahead(&self) -> Arc<HashAhead> {
        Arc::clone(&self.ahead)
    }

    /// How far it is.
    pub fn figures(&self) -> Figures {
        Figures {
            counts: self.counts,
            hashed_bytes: self.hashed_bytes,
            object: self.current.as_ref().map(|hashing| hashing.path.clone()),
            is_total: self.phase == Phase::Settled,
        }
    }

    /// Whether a comparing producer has found a difference; then it is settled at once.
    pub fn differs(&self) -> bool {
        self.has_differed
    }

    /// Serving has found that an entry can no longer be read as it stands in the log.
    pub fn request(&mut self, entry: EntryIndex, reason: Reason) {
        self.later.push_back(Later::Entry(entry, reason));
        if self.phase == Phase::Settled {
            self.phase = Phase::Later;
        }
    }

    /// Does the next piece of work. An error ends the run: it is the state that failed, or a root that is gone.
    pub fn step(&mut self) -> Result<Stepped, Error> {
        let mut work = self.work()?;
        self.flush()?;
        if self.has_differed {
            (self.phase, self.current) = (Phase::Settled, None);
        }
        if self.phase == Phase::Settled {
            work = Work::Settled(self.log.position());
        }
        Ok(Stepped { work, events: mem::take(&mut self.events) })
    }

    fn work(&mut self) -> Result<Work, Error> {
        if self.phase != Phase::Settled && self.current.is_some() {
            return if self.ahead.has_room() { self.hash_on().map(|()| Work::Ready) } else { Ok(Work::Blocked) };
        }
        match self.phase {
            Phase::Walk => self.walk_on(),
            Phase::Vanished => self.withdraw_vanished().map(|()| Work::Ready),
            Phase::Later if !self.later.is_empty() && !self.ahead.has_room() => Ok(Work::Blocked),
            Phase::Later => self.read_again().map(|()| Work::Ready),
            Phase::Settled => Ok(Work::Ready),
        }
    }

    fn take_up_open_file(&mut self) -> Result<(), Error> {
        let Some(open) = self.log.with(|log| log.sequence().open().cloned()) else { return Ok(()) };
        if self.purpose == Purpose::Compare {
            self.has_differed = true;
            return Ok(());
        }
        let entry = open.entry;
        let path = self.path_of(entry)?;
        let stamps = self.stamps.get(entry, path_hash(&path));
        let unchanged = self.roots.open_file(&path).ok().and_then(|file| {
            let stat = file.stat().ok()?;
            (Some(stat.stamps()) == stamps && stat.size == open.geometry.file_bytes()).then_some((file, stat))
        });
        match unchanged {
            Some((file, stat)) => {
                self.current = Some(Hashing::new(entry, path, file, stat, open.geometry).resumed(open.folder));
                Ok(())
            }
            None => {
                self.withdraw(entry, Reason::Superseded)?;
                // The walk asks the log what is withdrawn.
                self.flush()
            }
        }
    }

    fn walk_on(&mut self) -> Result<Work, Error> {
        for _ in 0..STEP_COMPARED_ENTRIES_MAX {
            let Some(walked) = self.stash.take().or_else(|| self.walk.step()) else {
                self.phase = Phase::Vanished;
                return Ok(Work::Ready);
            };
            let standing = self.compare(&walked)?;
            if let Standing::Same(entry) = standing {
                self.known.see(entry);
                self.count_not_preserved(&walked);
                self.tell_left_out(&walked);
                continue;
            }
            if !self.ahead.has_room() {
                self.stash = Some(walked);
                return Ok(Work::Blocked);
            }
            self.take(walked, standing)?;
            if self.current.is_some() || self.batch.is_full(self.chunk_bytes) {
                break;
            }
        }
        Ok(Work::Ready)
    }

    /// Whether what the walk met is in the log already.
    fn compare(&mut self, walked: &Walked<D>) -> Result<Standing, Error> {
        let key = match walked {
            Walked::Directory(found) | Walked::File(found, _) | Walked::Symlink(found, _) => path_hash(&found.path),
            Walked::LeftOut(path, ..) => path_hash(path),
            Walked::TooLong(directory) => too_long_key(directory),
            Walked::Skipped(_) | Walked::RootFailed(..) => return Ok(Standing::New),
        };
        let Some(entry) = self.known.find(key).filter(|entry| !self.log.is_withdrawn(*entry)) else {
            return Ok(Standing::New);
        };
        let is_same = match walked {
            Walked::File(found, _) => self.stamps.get(entry, key) == Some(found.stat.stamps()),
            _ => Some(self.introduction(entry)?) == record_of(walked),
        };
        Ok(if is_same { Standing::Same(entry) } else { Standing::Changed(entry) })
    }

    /// Brings what the walk met, and the log does not have as it is, into the log.
    fn take(&mut self, walked: Walked<D>, standing: Standing) -> Result<(), Error> {
        if let Walked::Skipped(path) = walked {
            self.events.push(Event::Notice(Notice::StateSkipped(path)));
            return Ok(());
        }
        if let Walked::RootFailed(object, source) = walked {
            return Err(Error::Local { what: "source", object, problem: "cannot be listed", source: Some(source) });
        }
        if let Standing::Changed(entry) = standing {
            let was_directory = matches!(self.introduction(entry)?, Record::Directory { .. });
            if was_directory && !matches!(walked, Walked::Directory(_)) {
                // What was in the directory is withdrawn first, since nothing can be beside and below a file.
                let path = self.path_of(entry)?;
                self.later.push_back(Later::Path(path));
                return Ok(());
            }
            self.known.see(entry);
            self.withdraw(entry, Reason::Changed)?;
        }
        self.count_not_preserved(&walked);
        self.tell_left_out(&walked);
        match walked {
            Walked::File(found, parent) => self.begin_file(found.path, &parent),
            other => {
                let record = record_of(&other).expect("all other kinds were dealt with");
                self.introduce(&record);
                Ok(())
            }
        }
    }

    /// Starts the next version of a file. What fits into one chunk is done at once.
    fn begin_file(&mut self, path: RelPath, parent: &Parent<D>) -> Result<(), Error> {
        let opened = self.roots.disk().open(&parent.dir, &parent.name, Access::Read);
        let opened = opened.and_then(|file| file.stat().map(|stat| (file, stat)));
        let (file, begin) = match opened {
            Ok(opened) => opened,
            Err(error) => return self.give_up(path, None, reason_of(&error)),
        };
        let Some(geometry) = Geometry::new(begin.size, self.chunk_bytes) else {
            return self.leave_out(path, FileKind::Regular, Reason::SourceError);
        };
        let entry = EntryIndex(self.batch.entry_count());
        let mut hashing = Hashing::new(entry, path, file, begin, geometry);
        if geometry.chunk_count() > 1 {
            self.begin(&hashing);
            self.current = Some(hashing);
            return Ok(());
        }
        let mut hashed = None;
        if let Some(chunk) = hashing.next_chunk() {
            match hashing.hash(chunk) {
                Ok(result) => hashed = Some(result),
                Err(reason) => return self.give_up(hashing.path, None, reason),
            }
        }
        if let Err(reason) = hashing.look_again() {
            return self.give_up(hashing.path, None, reason);
        }
        self.begin(&hashing);
        if let Some(hashed) = hashed {
            self.ahead.put(Place { entry: entry.0, chunk: hashed.chunk.get() }, hashed.content);
            self.batch.push(&Record::Chunks { entry, digests: vec![hashed.digest] });
        }
        self.batch.weigh(geometry.file_bytes());
        self.hashed_bytes += geometry.file_bytes();
        self.end(&hashing);
        Ok(())
    }

    fn hash_on(&mut self) -> Result<(), Error> {
        let mut hashing = self.current.take().expect("the caller has seen it");
        let entry = hashing.entry;
        if let Some(chunk) = hashing.next_chunk() {
            match hashing.hash(chunk) {
                Ok(hashed) => {
                    self.ahead.put(Place { entry: entry.0, chunk: chunk.get() }, hashed.content);
                    self.hashed_bytes += u64::from(hashing.geometry.chunk_len(chunk));
                }
                Err(reason) => return self.give_up_begun(hashing, reason),
            }
        }
        let is_last = hashing.next_chunk().is_none();
        if hashing.pending.len() == RECORD_DIGESTS_MAX || (is_last && !hashing.pending.is_empty()) {
            self.batch.push(&Record::Chunks { entry, digests: mem::take(&mut hashing.pending) });
        }
        if !is_last {
            self.current = Some(hashing);
            return Ok(());
        }
        match hashing.look_again() {
            Ok(()) => {
                self.end(&hashing);
                Ok(())
            }
            Err(reason) => self.give_up_begun(hashing, reason),
        }
    }

    fn begin(&mut self, hashing: &Hashing<D>) {
        let record = Record::Begin { path: hashing.path.clone(), size: hashing.geometry.file_bytes() };
        let entry = self.introduce(&record);
        self.batch.stamp(entry, path_hash(&hashing.path), hashing.stamps());
    }

    fn end(&mut self, hashing: &Hashing<D>) {
        let (mode, mtime) = hashing.attributes();
        self.batch.push(&Record::End { entry: hashing.entry, digest: hashing.folder.finish(), mode, mtime });
    }

    fn give_up_begun(&mut self, hashing: Hashing<D>, reason: Reason) -> Result<(), Error> {
        match hashing.origin {
            // The walk will meet the file as a new one.
            Origin::EarlierRun => self.withdraw(hashing.entry, Reason::Superseded),
            Origin::Walk => self.give_up(hashing.path, Some(hashing.entry), reason),
        }
    }

    /// A version of a file could not be read as one. It is read once more later, or left out.
    fn give_up(&mut self, path: RelPath, begun: Option<EntryIndex>, reason: Reason) -> Result<(), Error> {
        if let Some(entry) = begun {
            self.withdraw(entry, reason)?;
        }
        if reason != Reason::Unreadable && self.may_retry(path_hash(&path)) {
            self.events.push(Event::Notice(Notice::Retried { path: path.clone(), reason }));
            self.later.push_back(Later::Path(path));
            return Ok(());
        }
        self.leave_out(path, FileKind::Regular, reason)
    }

    /// Whether a further version of a path may be read; it counts as begun then.
    fn may_retry(&mut self, key: PathHash) -> bool {
        let versions = self.versions.entry(key).or_insert(1);
        *versions += 1;
        *versions <= VERSIONS_MAX
    }

    fn leave_out(&mut self, path: RelPath, kind: FileKind, reason: Reason) -> Result<(), Error> {
        self.events.push(Event::LeftOut { path: path.clone(), reason, side: Role::Sender });
        self.introduce(&Record::LeftOut { path, kind, reason });
        Ok(())
    }

    fn withdraw_vanished(&mut self) -> Result<(), Error> {
        while !self.batch.is_full(self.chunk_bytes) {
            let Some(entry) = self.known.next_unseen() else {
                self.phase = Phase::Later;
                break;
            };
            if !self.log.is_withdrawn(entry) {
                self.withdraw(entry, Reason::Vanished)?;
            }
        }
        Ok(())
    }

    /// Reads the next of what is to be read once more; when nothing is left, the log is complete.
    fn read_again(&mut self) -> Result<(), Error> {
        let path = match self.later.pop_front() {
            Some(Later::Path(path)) => path,
            Some(Later::Entry(entry, _)) if self.log.is_withdrawn(entry) => return Ok(()),
            Some(Later::Entry(entry, reason)) => {
                let path = self.path_of(entry)?;
                self.withdraw(entry, reason)?;
                if !self.may_retry(path_hash(&path)) {
                    return self.leave_out(path, FileKind::Regular, reason);
                }
                self.events.push(Event::Notice(Notice::Retried { path: path.clone(), reason }));
                path
            }
            None => return self.complete(),
        };
        let looked = self.roots.parent_of(&path).and_then(|(dir, name)| {
            let stat = self.roots.disk().stat(&dir, &name)?;
            Ok((Parent { dir, name }, stat))
        });
        match looked {
            Err(error) => self.leave_out(path, FileKind::Special, reason_of(&error)),
            Ok((parent, stat)) if stat.kind == FileKind::Regular => self.begin_file(path, &parent),
            Ok((_, stat)) if stat.kind == FileKind::Special => self.leave_out(path, stat.kind, Reason::Special),
            Ok((_, stat)) => self.leave_out(path, stat.kind, Reason::Changed),
        }
    }

    fn complete(&mut self) -> Result<(), Error> {
        self.flush()?;
        if !self.log.with(|log| log.sequence().is_complete()) {
            self.batch.push(&Record::Complete(self.counts));
        }
        self.phase = Phase::Settled;
        Ok(())
    }

    fn introduce(&mut self, record: &Record) -> EntryIndex {
        count(&mut self.counts, record, Change::Added);
        self.batch.introduce(record)
    }

    fn withdraw(&mut self, entry: EntryIndex, reason: Reason) -> Result<(), Error> {
        let record = self.introduction(entry)?;
        count(&mut self.counts, &record, Change::Removed);
        self.ahead.forget_entry(entry);
        self.batch.push(&Record::Withdraw { entry, reason });
        Ok(())
    }

    /// The record of an entry, also of one that this step has begun.
    fn introduction(&mut self, entry: EntryIndex) -> Result<Record, Error> {
        self.flush()?;
        self.log.introduction(entry).map_err(|source| self.state(source))
    }

    fn path_of(&mut self, entry: EntryIndex) -> Result<RelPath, Error> {
        let record = self.introduction(entry)?;
        Ok(record.path().expect("introductions have a path").clone())
    }

    /// Stamps first: a slot without its record says nothing, a record without its slot would be hashed again.
    fn flush(&mut self) -> Result<(), Error> {
        if self.batch.is_empty() {
            return Ok(());
        }
        if self.purpose == Purpose::Compare {
            self.has_differed = true;
            self.batch.clear();
            return Ok(());
        }
        self.stamps.put(&self.batch.slots).map_err(|source| self.state(source))?;
        self.log.append(&self.batch.records).map_err(|error| match error {
            AppendError::Io(source) => self.state(source),
            AppendError::Sequence(_) => Error::Local {
                what: "source",
                object: PathBuf::from("."),
                problem: "has more entries than one transfer can hold",
                source: None,
            },
            AppendError::Decode(error) => unreachable!("a record of our own cannot be read: {error}"),
        })?;
        self.ahead.produced(self.batch.entry_count());
        self.batch.clear();
        Ok(())
    }

    fn state(&self, source: io::Error) -> Error {
        Error::State { path: self.state_path.clone(), source }
    }

    fn tell_left_out(&mut self, walked: &Walked<D>) {
        let (path, reason) = match walked {
            Walked::LeftOut(path, _, reason) => (path.clone(), *reason),
            Walked::TooLong(directory) => (directory.clone(), Reason::PathTooLong),
            _ => return,
        };
        self.events.push(Event::LeftOut { path, reason, side: Role::Sender });
    }

    fn count_not_preserved(&mut self, walked: &Walked<D>) {
        let (found, kind) = match walked {
            Walked::Directory(found) => (found, FileKind::Directory),
            Walked::File(found, _) => (found, FileKind::Regular),
            Walked::Symlink(found, _) => (found, FileKind::Symlink),
            _ => return,
        };
        add_not_preserved(&mut self.counts.not_preserved, found, kind, self.user);
    }
}

fn add_not_preserved(counts: &mut NotPreserved, found: &Found, kind: FileKind, user: u32) {
    counts.owners += u64::from(found.stat.owner != user);
    counts.extended_attributes += u64::from(found.extended == Extended::Present);
    counts.hard_links += u64::from(kind == FileKind::Regular && found.stat.links > 1);
    counts.special_bits += u64::from(kind != FileKind::Symlink && found.stat.mode & 0o7000 != 0);
}

/// The record that stands for what the walk met; none for a file, which has several.
fn record_of<D: Disk>(walked: &Walked<D>) -> Option<Record> {
    Some(match walked {
        Walked::Directory(Found { path, stat, .. }) => {
            Record::Directory { path: path.clone(), mode: permissions(stat), mtime: stat.mtime }
        }
        Walked::Symlink(Found { path, stat, .. }, target) => {
            Record::Symlink { path: path.clone(), target: target.clone(), mtime: stat.mtime }
        }
        Walked::LeftOut(path, kind, reason) => Record::LeftOut { path: path.clone(), kind: *kind, reason: *reason },
        Walked::TooLong(path) => {
            Record::LeftOut { path: path.clone(), kind: FileKind::Directory, reason: Reason::PathTooLong }
        }
        Walked::File(..) | Walked::Skipped(_) | Walked::RootFailed(..) => return None,
    })
}
