//! What really happened, for assertions against vacuous runs: a test that meant to inject and did not must fail.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use super::dials::SimFault;
use crate::operation::Operation;

/// What power cuts did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CrashCounts {
    /// Power cuts.
    pub crashes: u64,
    /// Changes of content (a page, a length) that were not synced and are gone, wholly or in part.
    pub unsynced_data_lost: u64,
    /// Changes of content that were not synced and survived.
    pub unsynced_data_kept: u64,
    /// Files that had content and whose unsynced name survived with none of it: empty, or zeros.
    pub name_without_data: u64,
    /// Files that kept a grown length without all pages in it: zeros inside.
    pub size_without_data: u64,
    /// Pages of which some sectors are new and some old.
    pub torn_pages: u64,
    /// Renames of which one half survived: the file has both names or none.
    pub renames_half_kept: u64,
    /// Names that were made without a sync and are gone.
    pub new_names_lost: u64,
    /// Names that were removed without a sync and are back.
    pub removed_names_back: u64,
    /// Modes or times that were set without a sync and are gone.
    pub metadata_lost: u64,
    /// Objects that were reachable and whose last name is gone.
    pub objects_lost: u64,
}

impl AddAssign for CrashCounts {
    fn add_assign(&mut self, more: CrashCounts) {
        self.crashes += more.crashes;
        self.unsynced_data_lost += more.unsynced_data_lost;
        self.unsynced_data_kept += more.unsynced_data_kept;
        self.name_without_data += more.name_without_data;
        self.size_without_data += more.size_without_data;
        self.torn_pages += more.torn_pages;
        self.renames_half_kept += more.renames_half_kept;
        self.new_names_lost += more.new_names_lost;
        self.removed_names_back += more.removed_names_back;
        self.metadata_lost += more.metadata_lost;
        self.objects_lost += more.objects_lost;
    }
}

/// All counters of a disk since it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SimCounts {
    /// Operations that were asked for while the power was on.
    pub operations: u64,
    /// The same by kind.
    pub by_kind: BTreeMap<Operation, u64>,
    /// Faults that struck.
    pub faults: BTreeMap<SimFault, u64>,
    /// Operations that failed because there was no space or no inode.
    pub full: u64,
    /// Operations that [`super::FailAt`] failed.
    pub failed_at: u64,
    /// The kind of the first of them.
    pub first_failed: Option<Operation>,
    /// Syncs that [`super::SkipSync`] skipped.
    pub skipped_syncs: u64,
    /// Processes ended by [`super::Stop::Kill`].
    pub kills: u64,
    /// Bytes of content written by the program.
    pub bytes_written: u64,
    /// Bytes read from the cache or through it.
    pub bytes_read_cached: u64,
    /// Bytes read past the cache.
    pub bytes_read_uncached: u64,
    /// What power cuts did.
    pub crash: CrashCounts,
}

impl SimCounts {
    /// How often a fault struck.
    pub fn struck(&self, fault: SimFault) -> u64 {
        self.faults.get(&fault).copied().unwrap_or(0)
    }

    /// How often an operation of that kind was asked for.
    pub fn of_kind(&self, operation: Operation) -> u64 {
        self.by_kind.get(&operation).copied().unwrap_or(0)
    }

    /// Everything that was injected, power cuts and kills included.
    pub fn injected(&self) -> u64 {
        let faults: u64 = self.faults.values().sum();
        faults + self.full + self.failed_at + self.skipped_syncs + self.kills + self.crash.crashes
    }
}
