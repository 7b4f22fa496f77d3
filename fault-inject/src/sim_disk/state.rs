//! The state behind a simulated disk and its ground rules: who may act, what time it is, what chance says, which
//! objects exist and how much room there is. Names are in `names`, bytes in `content`, power cuts in `crash`.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use landfall::attributes::{FileKind, Timestamp};
use landfall::disk::Stat;

use super::counts::SimCounts;
use super::dials::{FailAt, Repeat, SimDials, SimFault, SkipSync, Stop, StopAt};
use super::inode::{Body, Content, Directory, Inode, Meta};
use crate::damage::PAGE_BYTES;
use crate::errno::{EBADF, EIO, ENOENT, ENOSPC, ENOTDIR, error};
use crate::operation::Operation;
use crate::rng::{Dice, Odds};

/// The root directory, as on ext4.
pub(super) const ROOT: u64 = 2;
/// The first inode that is given out.
const FIRST_INODE: u64 = 11;
/// Device number in every stat.
pub(super) const DEVICE: u64 = 0x51;
/// Owner of everything; not root, so modes matter.
const OWNER: u32 = 1000;
/// The logical clock starts here, in seconds.
const EPOCH_SECONDS: i64 = 1_700_000_000;
/// One tick of the logical clock: each change gets a stamp of its own.
const TICK_NANOS: u64 = 1_000_000;
/// Total size that is reported where no capacity is set.
const BOUNDLESS_BYTES: u64 = 1 << 50;

/// Everything of one simulated disk.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) inodes: BTreeMap<u64, Inode>,
    pub(super) dials: SimDials,
    pub(super) dice: Dice,
    pub(super) skip_sync: Option<SkipSync>,
    pub(super) stop_at: Option<StopAt>,
    pub(super) fail_at: Option<FailAt>,
    pub(super) counts: SimCounts,
    /// Set from a stop until the reboot.
    pub(super) stopped: Option<Stop>,
    /// Handles of an older one are dead.
    pub(super) generation: u64,
    /// Renames so far: names the two halves of each.
    pub(super) renames: u64,
    /// Write-back errors so far, of all files: what a sync of the whole file system reports.
    pub(super) write_back_errors: u64,
    ticks: u64,
    free_inodes: BTreeSet<u64>,
    next_inode: u64,
}

impl State {
    pub(super) fn new(seed: u64, dials: SimDials) -> State {
        let mut state = State {
            inodes: BTreeMap::new(),
            dials,
            dice: Dice::new(seed),
            skip_sync: None,
            stop_at: None,
            fail_at: None,
            counts: SimCounts::default(),
            stopped: None,
            generation: 0,
            renames: 0,
            write_back_errors: 0,
            ticks: 0,
            free_inodes: BTreeSet::new(),
            next_inode: FIRST_INODE,
        };
        state.make_root();
        state
    }

    /// Puts an empty root where there is none or an old one.
    pub(super) fn make_root(&mut self) {
        let now = self.tick();
        let meta = Meta { mode: 0o755, mtime: now, ctime: now };
        let mut root = Inode::new(Body::Directory(Directory::default()), meta);
        root.links = 1;
        root.kept = 1;
        self.inodes.insert(ROOT, root);
    }

    /// Lets one operation pass, or says why it may not.
    pub(super) fn begin(&mut self, operation: Operation, generation: u64) -> io::Result<()> {
        match self.stopped {
            Some(Stop::PowerCut) => return Err(io::Error::other("the power is off")),
            Some(Stop::Kill) => return Err(io::Error::other("the process was killed")),
            None if generation != self.generation => {
                return Err(io::Error::other("the handle belongs to a process that is no more"));
            }
            None => {}
        }
        self.counts.operations += 1;
        *self.counts.by_kind.entry(operation).or_default() += 1;
        let number = self.counts.operations;
        if let Some(at) = self.stop_at
            && at.operation == number
        {
            self.stop(at.how);
            return Err(io::Error::other("the process ends at this operation"));
        }
        if let Some(at) = self.fail_at
            && (at.operation == number || at.repeat == Repeat::FromThenOn && at.operation < number)
        {
            self.counts.failed_at += 1;
            self.counts.first_failed.get_or_insert(operation);
            return Err(error(at.errno));
        }
        Ok(())
    }

    /// The same for a write, of which a part may be done when the process ends in the middle.
    pub(super) fn begin_write(&mut self, generation: u64, inode: u64, bytes: &[u8], offset: u64) -> io::Result<()> {
        let was_running = self.stopped.is_none();
        let begun = self.begin(Operation::Write, generation);
        if was_running && self.stopped.is_some() {
            let part = self.dice.below("part written at a stop", bytes.len() + 1);
            self.write_pages(inode, &bytes[..part], offset)?;
        }
        begun
    }

    /// Ends every process that holds a handle.
    pub(super) fn stop(&mut self, how: Stop) {
        self.stopped = Some(how);
        self.stop_at = None;
    }

    /// Whether a fault strikes now; counts it if so.
    pub(super) fn strikes(&mut self, fault: SimFault) -> bool {
        let odds = self.dials.odds(fault);
        if odds == Odds::NEVER || !self.dice.roll(fault.word(), odds) {
            return false;
        }
        *self.counts.faults.entry(fault).or_default() += 1;
        true
    }

    /// EIO if that fault strikes.
    pub(super) fn fails_by(&mut self, fault: SimFault) -> io::Result<()> {
        if self.strikes(fault) { Err(error(EIO)) } else { Ok(()) }
    }

    /// The next moment of the logical clock.
    pub(super) fn tick(&mut self) -> Timestamp {
        self.ticks += 1;
        let nanos = self.ticks * TICK_NANOS;
        let seconds = i64::try_from(nanos / 1_000_000_000).expect("the logical clock does not run for centuries");
        let nanos = u32::try_from(nanos % 1_000_000_000).expect("a remainder of a billion fits");
        Timestamp { seconds: EPOCH_SECONDS + seconds, nanos }
    }

    pub(super) fn inode(&self, inode: u64) -> &Inode {
        self.inodes.get(&inode).expect("an inode lives while a name, a handle or a kept change refers to it")
    }

    pub(super) fn inode_mut(&mut self, inode: u64) -> &mut Inode {
        self.inodes.get_mut(&inode).expect("an inode lives while a name, a handle or a kept change refers to it")
    }

    /// The names of a directory.
    pub(super) fn directory(&self, inode: u64) -> io::Result<&Directory> {
        match &self.inode(inode).body {
            Body::Directory(directory) => Ok(directory),
            _ => Err(error(ENOTDIR)),
        }
    }

    pub(super) fn directory_mut(&mut self, inode: u64) -> &mut Directory {
        match &mut self.inode_mut(inode).body {
            Body::Directory(directory) => directory,
            _ => unreachable!("callers have looked at the kind"),
        }
    }

    /// The content of a regular file.
    pub(super) fn content(&self, inode: u64) -> io::Result<&Content> {
        match &self.inode(inode).body {
            Body::File(content) => Ok(content),
            _ => Err(error(EBADF)),
        }
    }

    pub(super) fn content_mut(&mut self, inode: u64) -> io::Result<&mut Content> {
        match &mut self.inode_mut(inode).body {
            Body::File(content) => Ok(content),
            _ => Err(error(EBADF)),
        }
    }

    pub(super) fn stat(&self, inode: u64) -> Stat {
        let object = self.inode(inode);
        Stat {
            kind: object.kind(),
            size: object.size(),
            mode: object.meta.mode,
            mtime: object.meta.mtime,
            ctime: object.meta.ctime,
            inode,
            device: DEVICE,
            links: u64::from(object.links),
            owner: OWNER,
        }
    }

    /// Makes an object without a name. The lowest free number is taken again at once, as real file systems do.
    pub(super) fn make_inode(&mut self, body: Body, mode: u32) -> io::Result<u64> {
        if self.dials.capacity_inodes.is_some_and(|capacity| self.living_inodes() >= capacity) {
            self.counts.full += 1;
            return Err(error(ENOSPC));
        }
        let now = self.tick();
        let number = self.free_inodes.pop_first().unwrap_or_else(|| {
            self.next_inode += 1;
            self.next_inode - 1
        });
        self.inodes.insert(number, Inode::new(body, Meta { mode, mtime: now, ctime: now }));
        Ok(number)
    }

    /// Forgets an object that nothing can reach any more, not even after a power cut.
    pub(super) fn release(&mut self, inode: u64) {
        let object = self.inode(inode);
        if object.links > 0 || object.open > 0 || object.kept > 0 {
            return;
        }
        let gone = self.inodes.remove(&inode).expect("it was looked at just above");
        self.free_inodes.insert(inode);
        let Body::Directory(directory) = gone.body else { return };
        let pending = directory.pending.into_iter().filter_map(|change| change.to);
        for child in directory.durable.into_values().chain(pending) {
            self.unkeep(child);
        }
    }

    /// One name less that a power cut may bring back.
    pub(super) fn unkeep(&mut self, inode: u64) {
        self.inode_mut(inode).kept -= 1;
        self.release(inode);
    }

    /// A handle on an inode begins.
    pub(super) fn hold(&mut self, inode: u64) {
        self.inode_mut(inode).open += 1;
    }

    /// A handle ends. Those of an earlier generation ended with it.
    pub(super) fn unhold(&mut self, inode: u64, generation: u64) {
        if generation == self.generation {
            self.inode_mut(inode).open -= 1;
            self.release(inode);
        }
    }

    /// All handles end.
    pub(super) fn end_generation(&mut self) {
        self.generation += 1;
        self.stopped = None;
        self.stop_at = None;
        self.fail_at = None;
        let held: Vec<u64> =
            self.inodes.iter().filter(|(_, object)| object.open > 0).map(|(&number, _)| number).collect();
        for number in &held {
            self.inode_mut(*number).open = 0;
        }
        for number in held {
            if self.inodes.contains_key(&number) {
                self.release(number);
            }
        }
    }

    /// Sets which inode numbers are free, after a power cut has decided what exists.
    pub(super) fn recount_free_inodes(&mut self) {
        self.free_inodes = (FIRST_INODE..self.next_inode).filter(|number| !self.inodes.contains_key(number)).collect();
    }

    fn is_living(object: &Inode) -> bool {
        object.links > 0 || object.open > 0
    }

    pub(super) fn living_inodes(&self) -> u64 {
        self.inodes.values().filter(|object| State::is_living(object)).count() as u64
    }

    /// Pages that still fit; `None` without a bound.
    pub(super) fn free_pages(&self) -> Option<u64> {
        let capacity = self.dials.capacity_bytes? / PAGE_BYTES as u64;
        let used = self.inodes.values().filter(|object| State::is_living(object)).map(|object| match &object.body {
            Body::File(content) => content.allocated.len() as u64,
            _ => 0,
        });
        Some(capacity.saturating_sub(used.sum()))
    }

    /// Free and total bytes.
    pub(super) fn space_bytes(&self) -> (u64, u64) {
        let total = self.dials.capacity_bytes.unwrap_or(BOUNDLESS_BYTES);
        let free = self.free_pages().map_or(BOUNDLESS_BYTES, |pages| pages * PAGE_BYTES as u64);
        (free, total)
    }

    /// Whether a sync is one of those that are skipped; counts it if so.
    pub(super) fn skips(&mut self, operation: Operation, name: &[u8]) -> bool {
        let skips = self.skip_sync.as_ref().is_some_and(|skip| skip.covers(operation, name));
        self.counts.skipped_syncs += u64::from(skips);
        skips
    }

    /// The object at a path below the root, `/` between components; the empty path is the root. For the oracle: no
    /// permissions, no counting.
    pub(super) fn find(&self, path: &[u8]) -> io::Result<u64> {
        let mut at = ROOT;
        for component in path.split(|&byte| byte == b'/').filter(|component| !component.is_empty()) {
            at = self.directory(at)?.live.get(component).copied().ok_or_else(|| error(ENOENT))?;
        }
        Ok(at)
    }

    /// A regular file at a path.
    pub(super) fn find_file(&self, path: &[u8]) -> io::Result<u64> {
        let inode = self.find(path)?;
        if self.inode(inode).kind() == FileKind::Regular { Ok(inode) } else { Err(error(EBADF)) }
    }
}
