//! Decides at each operation whether a fault strikes, and counts what really was injected. Owns the faults that are set,
//! the chance of them all (a stream of its own for each kind) and the places that stay bad; touches no file.

use std::collections::{BTreeMap, HashMap};

use rand::Rng;

use super::faults::{Fault, Kind};
use crate::rng::{Dice, stream};

/// Bytes of a place that stays bad.
const PLACE_BYTES: u64 = 4096;

/// Injections that are remembered one by one; beyond them only counts are kept.
const LOG_MAX: usize = 100_000;

/// One fault that really happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Injection {
    /// What.
    pub kind: Kind,
    /// To which path below the mount, as it was called then.
    pub path: String,
    /// Offset in the file, where that means something.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
}

/// A fault that is set, with its calendar.
#[derive(Debug)]
struct Armed {
    fault: Fault,
    seen: u64,
    struck: u64,
}

/// A place of an inode at which a fault strikes again.
#[derive(Debug)]
struct Mark {
    fault: Fault,
    at: u64,
    left: u64,
}

/// What becomes of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// So many of its bytes are stored, changed or not.
    Stored(usize),
    /// All of them are taken and none is stored.
    Lost,
    /// They are stored at another offset.
    Elsewhere(u64),
}

/// Where an operation on bytes takes place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) inode: u64,
    pub(super) path: &'a str,
    pub(super) offset: u64,
    /// Size of the file before it.
    pub(super) size: u64,
}

/// All faults of one disk.
#[derive(Debug)]
pub struct Injector {
    armed: Vec<Armed>,
    marks: HashMap<(Kind, u64, u64), Mark>,
    dice: Dice,
    counts: BTreeMap<Kind, u64>,
    log: Vec<Injection>,
    taken_bytes: u64,
}

impl Injector {
    /// With these faults.
    pub fn new(seed: u64, faults: Vec<Fault>) -> Injector {
        let (marks, counts, log) = (HashMap::new(), BTreeMap::new(), vec![]);
        let mut injector = Injector { armed: vec![], marks, dice: Dice::new(seed), counts, log, taken_bytes: 0 };
        faults.into_iter().for_each(|fault| injector.arm(fault));
        injector
    }

    /// One fault more.
    pub fn arm(&mut self, fault: Fault) {
        if fault.kind == Kind::WriteFull {
            self.taken_bytes = 0;
        }
        self.armed.push(Armed { fault, seen: 0, struck: 0 });
    }

    /// No faults of this kind any more; of any kind without one. Places that were bad are good again.
    pub fn disarm(&mut self, kind: Option<Kind>) {
        self.armed.retain(|armed| kind.is_some_and(|kind| armed.fault.kind != kind));
        self.marks.retain(|(marked, _, _), _| kind.is_some_and(|kind| *marked != kind));
    }

    /// What was injected, by kind.
    pub fn counts(&self) -> &BTreeMap<Kind, u64> {
        &self.counts
    }

    /// What was injected, one by one, up to a bound.
    pub fn log(&self) -> &[Injection] {
        &self.log
    }

    /// The chance of the disk, for what is left to it elsewhere.
    pub(super) fn dice(&mut self) -> &mut Dice {
        &mut self.dice
    }

    /// Asks for one operation without bytes. What it gives has been counted.
    pub(super) fn strike(&mut self, kind: Kind, path: &str) -> Option<Fault> {
        let fault = self.due(kind, path)?;
        self.note(kind, path, 0, 0);
        Some(fault)
    }

    fn due(&mut self, kind: Kind, path: &str) -> Option<Fault> {
        let mut found = None;
        for armed in self.armed.iter_mut().filter(|armed| armed.fault.kind == kind && armed.fault.concerns(path)) {
            armed.seen += 1;
            let is_due = armed.fault.is_due(armed.seen, armed.struck, self.dice.stream(kind.word()));
            if is_due && found.is_none() {
                armed.struck += 1;
                found = Some(armed.fault.clone());
            }
        }
        found
    }

    fn note(&mut self, kind: Kind, path: &str, offset: u64, len: u64) {
        *self.counts.entry(kind).or_default() += 1;
        if self.log.len() < LOG_MAX {
            self.log.push(Injection { kind, path: path.to_owned(), offset, len });
        }
    }

    /// Asks for one write; may change its bytes.
    pub(super) fn write(&mut self, place: Place<'_>, data: &mut [u8]) -> Result<Written, i32> {
        let len = data.len() as u64;
        if let Some(errno) = self.full(place.path, len) {
            return Err(errno);
        }
        if let Some(fault) = self.due(Kind::WriteFail, place.path) {
            self.note(Kind::WriteFail, place.path, place.offset, len);
            return Err(fault.errno);
        }
        self.taken_bytes += len;
        self.heal(place.inode, place.offset, len);
        if data.len() > 1 && self.due(Kind::WriteShort, place.path).is_some() {
            self.note(Kind::WriteShort, place.path, place.offset, len);
            return Ok(Written::Stored(data.len() / 2));
        }
        if self.due(Kind::WriteLost, place.path).is_some() {
            self.note(Kind::WriteLost, place.path, place.offset, len);
            return Ok(Written::Lost);
        }
        if self.due(Kind::WriteMisdirect, place.path).is_some() {
            let target = self.elsewhere(place);
            self.note(Kind::WriteMisdirect, place.path, place.offset, len);
            return Ok(Written::Elsewhere(target));
        }
        self.corrupt(Kind::WriteCorrupt, place, data);
        Ok(Written::Stored(data.len()))
    }

    /// Whether space for so many bytes more is there; the error number if not.
    pub(super) fn full(&mut self, path: &str, len: u64) -> Option<i32> {
        let taken = self.taken_bytes;
        let concerned = |armed: &&mut Armed| armed.fault.kind == Kind::WriteFull && armed.fault.concerns(path);
        let armed = self.armed.iter_mut().find(concerned)?;
        let is_full = taken + len > armed.fault.bytes && armed.struck < armed.fault.times_max();
        let errno = is_full.then_some(armed.fault.errno)?;
        armed.struck += 1;
        self.note(Kind::WriteFull, path, 0, len);
        Some(errno)
    }

    /// Bytes that are left to a disk that will be full. An answer counts: whoever asks first writes no more than that.
    pub(super) fn room(&mut self) -> Option<u64> {
        let full = self.armed.iter().find(|armed| armed.fault.kind == Kind::WriteFull)?;
        let left = full.fault.bytes.saturating_sub(self.taken_bytes);
        self.note(Kind::WriteFull, "the free space", 0, left);
        Some(left)
    }

    /// Another aligned offset within the first MiB or the size of the file, whichever is more.
    fn elsewhere(&mut self, place: Place<'_>) -> u64 {
        let units = (place.size.max(1 << 20) / PLACE_BYTES).max(2);
        let own = place.offset / PLACE_BYTES;
        let drawn = self.dice.stream("elsewhere").random_range(1..units);
        let unit = (own + drawn) % units;
        // The same remainder within its unit, as a drive that takes a wrong sector number would do it.
        unit * PLACE_BYTES + place.offset % PLACE_BYTES
    }

    /// Asks for one read; may change its bytes.
    pub(super) fn read(&mut self, place: Place<'_>, data: &mut [u8]) -> Result<(), i32> {
        let len = data.len() as u64;
        let marked = self.marked(Kind::ReadFail, place, len).first().copied();
        if let Some(key) = marked {
            let errno = self.again(key).map_or(crate::errno::EIO, |(fault, _)| fault.errno);
            self.note(Kind::ReadFail, place.path, place.offset, len);
            return Err(errno);
        }
        if let Some(fault) = self.due(Kind::ReadFail, place.path) {
            self.mark(&fault, place, place.offset + len / 2);
            self.note(Kind::ReadFail, place.path, place.offset, len);
            return Err(fault.errno);
        }
        self.corrupt(Kind::ReadCorrupt, place, data);
        Ok(())
    }

    /// Asks whether bytes rot that were just synced: where, and how much.
    pub(super) fn rot(&mut self, path: &str) -> Option<Fault> {
        self.due(Kind::Rot, path)
    }

    /// Counts a rot that happened.
    pub(super) fn rotted(&mut self, path: &str, offset: u64, len: u64) {
        self.note(Kind::Rot, path, offset, len);
    }

    /// Damages bytes at every bad place among them, else perhaps somewhere.
    fn corrupt(&mut self, kind: Kind, place: Place<'_>, data: &mut [u8]) {
        let seed = self.dice.seed();
        let bad = self.marked(kind, place, data.len() as u64);
        for key in &bad {
            let Some((fault, at)) = self.again(*key) else { continue };
            // The same damage each time, as a bad place gives it.
            let mut same = stream(seed, &format!("{kind:?} {} {at}", place.inode));
            let Ok(within) = usize::try_from(at - place.offset) else { continue };
            let len = fault.size.apply_at(data, within, &mut same);
            self.note(kind, place.path, at, len as u64);
        }
        if data.is_empty() || !bad.is_empty() {
            return;
        }
        let Some(fault) = self.due(kind, place.path) else { return };
        let within = self.dice.below("where", data.len());
        let at = place.offset + within as u64;
        let mut same = stream(seed, &format!("{kind:?} {} {at}", place.inode));
        let chance = if fault.again > 0 { &mut same } else { self.dice.stream("damage") };
        let len = fault.size.apply_at(data, within, chance);
        self.mark(&fault, place, at);
        self.note(kind, place.path, at, len as u64);
    }

    fn mark(&mut self, fault: &Fault, place: Place<'_>, at: u64) {
        if fault.again > 0 {
            let mark = Mark { fault: fault.clone(), at, left: fault.again };
            self.marks.insert((fault.kind, place.inode, at / PLACE_BYTES), mark);
        }
    }

    fn marked(&self, kind: Kind, place: Place<'_>, len: u64) -> Vec<(Kind, u64, u64)> {
        if self.marks.is_empty() {
            return vec![];
        }
        let within = |mark: &Mark| (place.offset..place.offset + len).contains(&mark.at);
        let is_hit = |key: &(Kind, u64, u64), mark: &Mark| key.0 == kind && key.1 == place.inode && within(mark);
        let mut found: Vec<_> =
            self.marks.iter().filter(|(key, mark)| is_hit(key, mark)).map(|(key, _)| *key).collect();
        found.sort_unstable();
        found
    }

    fn again(&mut self, key: (Kind, u64, u64)) -> Option<(Fault, u64)> {
        let mark = self.marks.get_mut(&key)?;
        mark.left -= 1;
        let found = (mark.fault.clone(), mark.at);
        if mark.left == 0 {
            self.marks.remove(&key);
        }
        Some(found)
    }

    /// A place that could not be read is given another sector when it is written.
    fn heal(&mut self, inode: u64, offset: u64, len: u64) {
        let is_healed = |key: &(Kind, u64, u64), mark: &Mark| {
            key.0 == Kind::ReadFail && key.1 == inode && (offset..offset + len).contains(&mark.at)
        };
        self.marks.retain(|key, mark| !is_healed(key, mark));
    }
}
