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

mod expecting;
mod files;
mod hashing;
mod known;
mod writer;

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::path::PathBuf;
use std::sync::Arc;

use crate::attributes::FileKind;
use crate::digest::{PathHash, path_hash};
use crate::disk::{AlignedBuffer, Disk, DiskFile};
use crate::error::Error;
use crate::event::{Event, Notice};
use crate::geometry::EntryIndex;
use crate::identity::Role;
use crate::limits::STEP_COMPARED_ENTRIES_MAX;
use crate::lists::DigestList;
use crate::manifest::{Position, Record};
use crate::outcome::{Counts, NotPreserved, Reason};
use crate::path::RelPath;
use crate::source::ahead::HashAhead;
use crate::source::log::SharedLog;
use crate::source::reason_of;
use crate::source::roots::Roots;
use crate::source::stamps::StampFile;
use crate::source::walk::{Exclusions, Extended, Found, Parent, Walk, Walked};
use crate::state::log::ManifestLog;

use expecting::Expecting;
use hashing::{Hashing, permissions};
use known::{Known, too_long_key};
use writer::{Records, Writer};

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
    /// Whether each file is read a second time, past the cache, before its end is written.
    pub reads_twice: bool,
    /// What each file is to hash to, if the user has said so; no other file goes then.
    pub expected: Option<Arc<DigestList>>,
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
    writer: Writer<D>,
    ahead: Arc<HashAhead>,
    user: u32,
    walk: Walk<D>,
    known: Known,
    phase: Phase,
    current: Option<Hashing<D>>,
    stash: Option<Walked<D>>,
    later: VecDeque<Later>,
    versions: HashMap<PathHash, u32>,
    not_preserved: NotPreserved,
    excluded: u64,
    /// The walk may pass over what an earlier run has begun.
    may_change_its_mind: bool,
    events: Vec<Event>,
    hashed_bytes: u64,
    reads_twice: bool,
    expecting: Option<Expecting>,
    /// Of second readings.
    buffer: AlignedBuffer,
}

impl<D: Disk> Producer<D> {
    /// A producer for a log that was just opened. What an earlier run was in the middle of goes on if the file is
    /// still the same, else it is withdrawn.
    pub fn new(setup: Setup<D>) -> Result<Producer<D>, Error> {
        let ahead = Arc::new(HashAhead::new(setup.log.entry_count()));
        let (writer, known) = Writer::new(
            Records { log: setup.log, replay: setup.replay, stamps: setup.stamps, state_path: setup.state_path },
            Arc::clone(&ahead),
            setup.purpose,
        )?;
        let mut producer = Producer {
            may_change_its_mind: setup.exclusions.selector.reads_ignore_files(),
            walk: Walk::new(setup.roots.clone(), setup.exclusions),
            roots: setup.roots,
            writer,
            ahead,
            user: setup.user,
            known,
            phase: Phase::Walk,
            current: None,
            stash: None,
            later: VecDeque::new(),
            versions: HashMap::new(),
            not_preserved: NotPreserved::default(),
            excluded: 0,
            events: vec![],
            hashed_bytes: 0,
            reads_twice: setup.reads_twice,
            expecting: setup.expected.map(Expecting::new),
            buffer: AlignedBuffer::default(),
        };
        producer.take_up_open_file()?;
        Ok(producer)
    }

    /// The log, to be read by others.
    pub fn log(&self) -> SharedLog<D> {
        self.writer.log().clone()
    }

    /// The buffer that this producer fills.
    pub fn ahead(&self) -> Arc<HashAhead> {
        Arc::clone(&self.ahead)
    }

    /// How far it is.
    pub fn figures(&self) -> Figures {
        Figures {
            counts: Counts { not_preserved: self.not_preserved, ..self.writer.counts() },
            hashed_bytes: self.hashed_bytes,
            object: self.current.as_ref().map(|hashing| hashing.path.clone()),
            is_total: self.phase == Phase::Settled,
        }
    }

    /// Whether a comparing producer has found a difference; then it is settled at once.
    pub fn differs(&self) -> bool {
        self.writer.has_differed()
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
        self.writer.flush()?;
        if self.writer.has_differed() {
            (self.phase, self.current) = (Phase::Settled, None);
        }
        if self.phase == Phase::Settled {
            work = Work::Settled(self.writer.log().position());
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
        let Some(open) = self.writer.log().with(|log| log.sequence().open().cloned()) else { return Ok(()) };
        if self.writer.is_comparing() {
            return Ok(());
        }
        let entry = open.entry;
        let path = self.writer.path_of(entry)?;
        let stamps = self.writer.stamps_of(entry, path_hash(&path));
        let is_asked = !self.may_change_its_mind;
        let unchanged = self.roots.open_file(&path).ok().filter(|_| is_asked).and_then(|file| {
            let stat = file.stat().ok()?;
            (Some(stat.stamps()) == stamps && stat.size == open.geometry.file_bytes()).then_some((file, stat))
        });
        match unchanged {
            Some((file, stat)) => {
                let hashing = Hashing::new(entry, path, file, stat, open.geometry).resumed(open.folder);
                self.current = Some(self.once_or_twice(hashing));
                Ok(())
            }
            None => {
                self.writer.withdraw(entry, Reason::Superseded)?;
                // The walk asks the log what is withdrawn.
                self.writer.flush()
            }
        }
    }

    fn walk_on(&mut self) -> Result<Work, Error> {
        for _ in 0..STEP_COMPARED_ENTRIES_MAX {
            let waited = self.stash.take().map(|walked| walked.looked_at_again(self.roots.disk()));
            let Some(walked) = waited.or_else(|| self.next_walked()) else {
                self.phase = Phase::Vanished;
                if self.excluded > 0 {
                    self.events.push(Event::Notice(Notice::Excluded { objects: self.excluded }));
                }
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
            if self.current.is_some() || self.writer.is_full() {
                break;
            }
        }
        Ok(Work::Ready)
    }

    /// What the walk meets, and then what was listed and not met.
    fn next_walked(&mut self) -> Option<Walked<D>> {
        let walked = self.walk.step();
        let Some(expecting) = &mut self.expecting else { return walked };
        walked.map(|walked| expecting.judge(walked)).or_else(|| expecting.next_missing())
    }

    /// Whether what the walk met is in the log already.
    fn compare(&mut self, walked: &Walked<D>) -> Result<Standing, Error> {
        let key = match walked {
            Walked::Directory(found) | Walked::File(found, _) | Walked::Symlink(found, _) => path_hash(&found.path),
            Walked::LeftOut(path, ..) => path_hash(path),
            Walked::TooLong(directory) => too_long_key(directory),
            Walked::Skipped(_)
            | Walked::Excluded
            | Walked::Mounted(_)
            | Walked::BadPattern(..)
            | Walked::RootFailed(..) => return Ok(Standing::New),
        };
        let Some(entry) = self.known.find(key).filter(|entry| !self.writer.log().is_withdrawn(*entry)) else {
            return Ok(Standing::New);
        };
        let is_same = match walked {
            Walked::File(found, _) => self.writer.stamps_of(entry, key) == Some(found.stat.stamps()),
            _ => Some(self.writer.introduction(entry)?) == record_of(walked),
        };
        Ok(if is_same { Standing::Same(entry) } else { Standing::Changed(entry) })
    }

    /// Brings what the walk met, and the log does not have as it is, into the log.
    fn take(&mut self, walked: Walked<D>, standing: Standing) -> Result<(), Error> {
        let notice = match walked {
            Walked::Skipped(path) => Notice::StateSkipped(path),
            Walked::Mounted(path) => Notice::MountSkipped(path),
            Walked::BadPattern(file, bad) => Notice::BadPattern { file, why: bad.to_string() },
            Walked::Excluded => {
                self.excluded += 1;
                return Ok(());
            }
            Walked::RootFailed(object, source) => {
                return Err(Error::Local { what: "source", object, problem: "cannot be listed", source: Some(source) });
            }
            object => return self.take_object(object, standing),
        };
        self.events.push(Event::Notice(notice));
        Ok(())
    }

    fn take_object(&mut self, walked: Walked<D>, standing: Standing) -> Result<(), Error> {
        if let Standing::Changed(entry) = standing {
            let was_directory = matches!(self.writer.introduction(entry)?, Record::Directory { .. });
            if was_directory && !matches!(walked, Walked::Directory(_)) {
                // What was in the directory is withdrawn first, since nothing can be beside and below a file.
                let path = self.writer.path_of(entry)?;
                self.later.push_back(Later::Path(path));
                return Ok(());
            }
            self.known.see(entry);
            self.writer.withdraw(entry, Reason::Changed)?;
        }
        self.count_not_preserved(&walked);
        self.tell_left_out(&walked);
        match walked {
            Walked::File(found, parent) => self.begin_file(found.path, &parent, &found.stat),
            other => {
                let record = record_of(&other).expect("all other kinds were dealt with");
                self.writer.introduce(&record);
                Ok(())
            }
        }
    }

    fn withdraw_vanished(&mut self) -> Result<(), Error> {
        while !self.writer.is_full() {
            let Some(entry) = self.known.next_unseen() else {
                self.phase = Phase::Later;
                break;
            };
            if !self.writer.log().is_withdrawn(entry) {
                self.writer.withdraw(entry, Reason::Vanished)?;
            }
        }
        Ok(())
    }

    /// Reads the next of what is to be read once more; when nothing is left, the log is complete.
    fn read_again(&mut self) -> Result<(), Error> {
        let path = match self.later.pop_front() {
            Some(Later::Path(path)) => path,
            Some(Later::Entry(entry, _)) if self.writer.log().is_withdrawn(entry) => return Ok(()),
            Some(Later::Entry(entry, reason)) => {
                let path = self.writer.path_of(entry)?;
                self.writer.withdraw(entry, reason)?;
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
            Ok((parent, stat)) if stat.kind == FileKind::Regular => self.begin_file(path, &parent, &stat),
            Ok((_, stat)) if stat.kind == FileKind::Special => self.leave_out(path, stat.kind, Reason::Special),
            Ok((_, stat)) => self.leave_out(path, stat.kind, Reason::Changed),
        }
    }

    fn complete(&mut self) -> Result<(), Error> {
        self.writer.flush()?;
        if !self.writer.log().with(|log| log.sequence().is_complete()) {
            let counts = self.figures().counts;
            self.writer.push(&Record::Complete(counts));
        }
        self.phase = Phase::Settled;
        Ok(())
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
        add_not_preserved(&mut self.not_preserved, found, kind, self.user);
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
        Walked::File(..)
        | Walked::Skipped(_)
        | Walked::Excluded
        | Walked::Mounted(_)
        | Walked::BadPattern(..)
        | Walked::RootFailed(..) => return None,
    })
}
