//! Everything that can be set on a simulated disk: how often each fault strikes, when an operation fails or the
//! machine stops, which syncs are skipped. Only settings; what they do stands where the operations are.

use std::collections::BTreeMap;

use landfall::attributes::Level;
use rand::Rng;

use crate::operation::Operation;
use crate::rng::{Odds, stream};

/// What a simulated disk can do wrong by chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SimFault {
    /// Per write: EIO, with an unknown part written.
    WriteFails,
    /// Per read, cached or not: EIO.
    ReadFails,
    /// Per uncached read: the buffer is damaged once, the device is not.
    BadRead,
    /// Per page that a read takes from the device: its bytes there rot before the read, for good. Those in the
    /// cache stay as they were.
    Rot,
    /// Per page written back: the drive confirms and keeps the old bytes.
    LostWriteBack,
    /// Per page written back: it arrives damaged.
    CorruptWriteBack,
    /// Per page written back: it arrives at the place of another page of the file that is not synced either, and
    /// the old bytes stay at its own (TigerBeetle's bounding: never where a finished verify could not see it).
    MisdirectedWriteBack,
    /// Per page written back: the place turns bad and damages each write from now on, in this inode only.
    BadPlace,
    /// Per page written back other than by a sync: the page is lost and marked clean; the next sync through each
    /// handle that was open says EIO once.
    WriteBackFails,
    /// Per sync: EIO or ENOSPC; some dirty pages are lost and all are marked clean, so that the next sync succeeds
    /// and cached reads look right (fsyncgate).
    SyncFails,
    /// Per sync of any kind: success, and nothing more is durable than before.
    SyncLies,
    /// Per sync of a directory: EIO, and nothing more is durable than before.
    SyncDirFails,
    /// Per creation, rename or removal of a name: EIO, and nothing happened.
    NameFails,
}

impl SimFault {
    /// All of them.
    pub const ALL: [SimFault; 13] = [
        SimFault::WriteFails,
        SimFault::ReadFails,
        SimFault::BadRead,
        SimFault::Rot,
        SimFault::LostWriteBack,
        SimFault::CorruptWriteBack,
        SimFault::MisdirectedWriteBack,
        SimFault::BadPlace,
        SimFault::WriteBackFails,
        SimFault::SyncFails,
        SimFault::SyncLies,
        SimFault::SyncDirFails,
        SimFault::NameFails,
    ];

    /// The word in reports; also the label of its random stream.
    pub fn word(self) -> &'static str {
        match self {
            SimFault::WriteFails => "write-fails",
            SimFault::ReadFails => "read-fails",
            SimFault::BadRead => "bad-read",
            SimFault::Rot => "rot",
            SimFault::LostWriteBack => "lost-write-back",
            SimFault::CorruptWriteBack => "corrupt-write-back",
            SimFault::MisdirectedWriteBack => "misdirected-write-back",
            SimFault::BadPlace => "bad-place",
            SimFault::WriteBackFails => "write-back-fails",
            SimFault::SyncFails => "sync-fails",
            SimFault::SyncLies => "sync-lies",
            SimFault::SyncDirFails => "sync-dir-fails",
            SimFault::NameFails => "name-fails",
        }
    }

    /// Whether no receiver could notice it before its receipt (limit L5 of the guarantee): the swarm leaves it off.
    pub fn is_beyond_the_guarantee(self) -> bool {
        self == SimFault::SyncLies
    }
}

/// What kind of disk it is and how often it fails. Printable as one line of a reproduction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimDials {
    /// How often each fault strikes; an absent one never does. Set by [`SimDials::with`].
    pub odds: BTreeMap<SimFault, Odds>,
    /// Bytes that all files together may hold; `None` is no bound.
    pub capacity_bytes: Option<u64>,
    /// Objects that may exist; `None` is no bound.
    pub capacity_inodes: Option<u64>,
    /// How far an uncached read is proved. `Device` and `Evicted` see the device; the other two may be served from
    /// the cache, and always are.
    pub level: Level,
    /// What `Space::is_syncfs_good` says. `sync_file_system` itself always works.
    pub is_syncfs_good: bool,
    /// The whole content is gone after a power cut, as on tmpfs.
    pub is_volatile: bool,
}

impl Default for SimDials {
    fn default() -> SimDials {
        SimDials::off()
    }
}

impl SimDials {
    /// A boundless disk without faults. Power cuts still lose what was not synced.
    pub fn off() -> SimDials {
        SimDials {
            odds: BTreeMap::new(),
            capacity_bytes: None,
            capacity_inodes: None,
            level: Level::Device,
            is_syncfs_good: true,
            is_volatile: false,
        }
    }

    /// Dials drawn from a seed, each fault off in half of all seeds, so that whole classes are sometimes absent and
    /// rare combinations common (swarm testing). No capacity is set, and nothing beyond the guarantee.
    pub fn drawn(seed: u64) -> SimDials {
        let mut stream = stream(seed, "sim disk dials");
        let mut dials = SimDials::off();
        for fault in SimFault::ALL {
            let is_on = stream.random_range(0..2) == 1;
            let odds = Odds::per_million([300, 3_000, 30_000, 100_000][stream.random_range(0..4)]);
            if is_on && !fault.is_beyond_the_guarantee() {
                dials = dials.with(fault, odds);
            }
        }
        dials.is_syncfs_good = stream.random_range(0..2) == 1;
        dials
    }

    /// The same dials with one fault set.
    pub fn with(mut self, fault: SimFault, odds: Odds) -> SimDials {
        if odds == Odds::NEVER {
            self.odds.remove(&fault);
        } else {
            self.odds.insert(fault, odds);
        }
        self
    }

    /// The same disk without faults, for the phase in which everything must converge. Damage that was done stays.
    pub fn quiet(&self) -> SimDials {
        SimDials { odds: BTreeMap::new(), ..self.clone() }
    }

    /// How often a fault strikes.
    pub fn odds(&self, fault: SimFault) -> Odds {
        self.odds.get(&fault).copied().unwrap_or(Odds::NEVER)
    }
}

/// How the machine or the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// What was not synced is kept or lost piece by piece; all handles die.
    PowerCut,
    /// All handles die; everything written stays, in the cache as well.
    Kill,
}

/// When the machine or the process ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopAt {
    /// Number of the operation, counted as [`super::SimDisk::operations`] does, that does not happen any more. Of a
    /// write a part may.
    pub operation: u64,
    /// How it ends.
    pub how: Stop,
}

/// How often an operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// Only that one.
    Once,
    /// That one and all after it.
    FromThenOn,
}

/// The operation that fails, for loops over all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailAt {
    /// Number of the operation, counted as [`super::SimDisk::operations`] does.
    pub operation: u64,
    /// The error number.
    pub errno: i32,
    /// Whether later ones fail too.
    pub repeat: Repeat,
}

/// Syncs that do nothing and say yes: proves that a harness turns red when a program forgets them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SkipSync {
    /// Each sync of a file.
    Data,
    /// Each sync of a directory.
    Directory,
    /// Each sync of a file that was opened under that name.
    FileNamed(String),
    /// Each sync of the whole file system.
    FileSystem,
    /// Each of the above.
    All,
}

impl SkipSync {
    /// Whether a sync of that kind, of a file opened under that name, is skipped.
    pub(super) fn covers(&self, operation: Operation, name: &[u8]) -> bool {
        let is_file = matches!(operation, Operation::Sync | Operation::SyncData);
        match self {
            SkipSync::Data => is_file,
            SkipSync::Directory => operation == Operation::SyncDir,
            SkipSync::FileNamed(wanted) => is_file && wanted.as_bytes() == name,
            SkipSync::FileSystem => operation == Operation::SyncFileSystem,
            SkipSync::All => true,
        }
    }
}
