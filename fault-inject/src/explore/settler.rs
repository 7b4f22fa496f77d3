//! The syncer's and the settler's parts of the receiver's hands: what `store/sync.rs`, `store/settle.rs`, `store/seal.rs`
//! and the receipt do to a disk, one durable step to a move, so that a kill or a power cut can come between any two of them.

use landfall::attributes::Level;
use landfall::geometry::{ChunkRun, EntryIndex};
use landfall::limits::SIMULATED_CHUNK_BYTES;
use landfall::task::receiver::{Input, SettleResult, SettledFile};

use super::disk::{ALL, Disk, Kept, Page, RECORDS, bit, chunks_of};
use super::intake::DiskFault;
use super::receiving::{Receiving, Scene};
use super::{Broken, Mark, Violation};

/// Steps of settling a batch, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Step {
    Sync,
    Claim,
    ReadBack,
    ClaimSealing,
    Rename,
    SyncNames,
    ClaimSealed,
}

/// A batch that is being settled.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) struct Settling {
    slot: Option<u8>,
    is_target: bool,
    chunks: u8,
    is_finish: bool,
    /// Every chunk was there when it was closed, and none was written since.
    is_whole: bool,
    failed: Option<Failed>,
    step: Step,
    bad: u8,
    verified: u8,
}

/// What has gone wrong before the read-back.
#[derive(Clone, Copy, Debug, Hash)]
enum Failed {
    Sync,
    Full,
}

/// What the settler has to do.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) enum Work {
    Settle(Settling),
    ReadBack { slot: u8, run: ChunkRun },
    FinishTree,
    IssueReceipt { step: u8 },
    Close,
}

impl Work {
    pub(super) fn settle(slot: Option<u8>, is_target: bool, chunks: u8, is_finish: bool, is_whole: bool) -> Work {
        let (step, failed) = (Step::Sync, None);
        Work::Settle(Settling { slot, is_target, chunks, is_finish, is_whole, failed, step, bad: 0, verified: 0 })
    }

    fn is_unsynced(&self) -> bool {
        matches!(self, Work::Settle(Settling { step: Step::Sync | Step::Claim, .. }))
    }

    /// The inode that it works on.
    pub(super) fn slot(&self) -> Option<u8> {
        match self {
            Work::Settle(settling) => settling.slot,
            Work::ReadBack { slot, .. } => Some(*slot),
            Work::FinishTree | Work::IssueReceipt { .. } | Work::Close => None,
        }
    }

    /// Which faults can meet its next step.
    pub(super) fn faults(&self, disk: &Disk) -> Vec<DiskFault> {
        match self {
            Work::Settle(Settling { step: Step::Sync, slot: Some(slot), .. }) => {
                let dirty = disk.inodes[usize::from(*slot)].map_or(0, |inode| inode.dirty);
                let corrupt = chunks_of(dirty).map(DiskFault::Corrupt);
                corrupt.chain([DiskFault::SyncFails]).collect()
            }
            Work::Settle(Settling { step: Step::Claim | Step::ClaimSealing | Step::Rename, slot: Some(_), .. }) => {
                vec![DiskFault::Full]
            }
            Work::Settle(Settling { step: Step::SyncNames, slot: Some(_), .. }) => vec![DiskFault::SyncFails],
            Work::IssueReceipt { .. } => vec![DiskFault::Full],
            _ => vec![],
        }
    }
}

impl Settling {
    fn settled(&self, result: SettleResult) -> Input {
        Input::BatchSettled(vec![SettledFile { entry: EntryIndex(0), result }])
    }

    fn durable(&self) -> Input {
        let verified_bytes = u64::from(self.verified.count_ones()) * u64::from(SIMULATED_CHUNK_BYTES);
        self.settled(SettleResult::Durable { verified_bytes, bad: chunks_of(self.bad).collect() })
    }
}

impl Receiving {
    /// What the syncer is at.
    pub(super) fn syncer_work(&self) -> Option<&Work> {
        self.to_settler.iter().find(|work| work.is_unsynced())
    }

    /// What the settler is at: the syncer passes it on.
    pub(super) fn settler_work(&self) -> Option<&Work> {
        self.to_settler.front().filter(|work| !work.is_unsynced())
    }

    /// Something was written to an inode: what is whole then is not what was closed.
    pub(super) fn written(&mut self, slot: u8) {
        for work in &mut self.to_settler {
            if let Work::Settle(settling) = work {
                settling.is_whole &= settling.slot != Some(slot);
            }
        }
    }

    /// The syncer's thread does its next step.
    pub(super) fn run_syncer(&mut self, scene: &mut Scene<'_>, fault: DiskFault) {
        let Some(at) = self.to_settler.iter().position(Work::is_unsynced) else { return };
        let Work::Settle(mut settling) = self.to_settler[at] else { return };
        self.sync(scene, &mut settling, fault);
        self.to_settler[at] = Work::Settle(settling);
        if !self.to_settler[at].is_unsynced() {
            self.tell(Input::BatchSynced);
        }
    }

    fn sync(&mut self, scene: &mut Scene<'_>, settling: &mut Settling, fault: DiskFault) {
        let Some(slot) = settling.slot else {
            settling.step = Step::ReadBack;
            return;
        };
        if fault == DiskFault::Full {
            scene.mark(Mark::FullSeen);
            (settling.failed, settling.step) = (Some(Failed::Full), Step::ReadBack);
            return;
        }
        if settling.step == Step::Claim {
            if !settling.is_target && settling.chunks != 0 {
                scene.disk.staging.durable = scene.disk.staging.live;
                scene.disk.journal.durable[usize::from(slot)] |= settling.chunks;
                scene.disk.journal.is_seal_pending = false;
            }
            settling.step = Step::ReadBack;
            return;
        }
        if fault == DiskFault::SyncFails || self.sync_failed & (1 << slot) != 0 {
            self.fail_sync(scene, settling, slot);
            (settling.failed, settling.step) = (Some(Failed::Sync), Step::ReadBack);
            return;
        }
        if !settling.is_target {
            scene.disk.sync(slot, scene.broken);
        }
        if let DiskFault::Corrupt(chunk) = fault {
            let inode = scene.disk.inode(slot);
            (inode.device[chunk as usize], inode.durable[chunk as usize]) = (Page::Bad, Page::Bad);
        }
        settling.step = Step::Claim;
    }

    /// The settler's thread does its next step.
    pub(super) fn run_settler(&mut self, scene: &mut Scene<'_>, fault: DiskFault) -> Result<(), Violation> {
        if self.settler_work().is_none() {
            return Ok(());
        }
        let Some(work) = self.to_settler.pop_front() else { return Ok(()) };
        match work {
            Work::Settle(mut settling) => match self.settle(scene, &mut settling, fault)? {
                Some(input) => self.tell(input),
                None => self.to_settler.push_front(Work::Settle(settling)),
            },
            Work::ReadBack { slot, run } => {
                let chunks = (run.first..run.first + run.count).fold(0, |set, chunk| set | bit(chunk));
                let bad = self.read_back(scene, slot, chunks);
                self.tell(Input::ReadBackDone(EntryIndex(0), run, chunks_of(bad).collect()));
            }
            Work::FinishTree => self.tell(Input::TreeFinished),
            Work::IssueReceipt { step } => self.issue(scene, step, fault)?,
            Work::Close => {
                let receipt = scene.disk.receipt;
                let target = scene.disk.target;
                let inodes = scene.disk.inodes;
                *scene.disk = Disk { inodes, target, receipt, ..Disk::default() };
                self.tell(Input::Closed);
            }
        }
        Ok(())
    }

    /// One step of a batch; its result once there is one.
    fn settle(
        &mut self,
        scene: &mut Scene<'_>,
        settling: &mut Settling,
        fault: DiskFault,
    ) -> Result<Option<Input>, Violation> {
        let Some(slot) = settling.slot else { return Ok(Some(Input::BatchSettled(vec![]))) };
        if fault == DiskFault::Full {
            scene.mark(Mark::FullSeen);
            return Ok(Some(settling.settled(SettleResult::Full)));
        }
        match settling.step {
            Step::Sync | Step::Claim => unreachable!("the syncer's"),
            Step::ReadBack if settling.failed.is_some() => {
                if self.hands.slot == Some(slot) {
                    self.hands.verified &= !settling.chunks;
                }
                let is_full = matches!(settling.failed, Some(Failed::Full));
                let result = if is_full { SettleResult::Full } else { SettleResult::SyncFailed };
                return Ok(Some(settling.settled(result)));
            }
            Step::ReadBack => return Ok(self.read_back_batch(scene, settling, slot)),
            Step::ClaimSealing => {
                scene.disk.journal.is_sealing = true;
                settling.step = Step::Rename;
            }
            Step::Rename => return self.rename(scene, settling, slot),
            Step::SyncNames if fault == DiskFault::SyncFails => {
                scene.mark(Mark::SyncFailureSeen);
                return Ok(Some(settling.settled(SettleResult::SyncFailed)));
            }
            Step::SyncNames => {
                if scene.broken != Some(Broken::SkippedDirectorySync) {
                    scene.disk.target.durable = scene.disk.target.live;
                }
                settling.step = Step::ClaimSealed;
            }
            Step::ClaimSealed => {
                scene.disk.journal.sealed = Some(slot);
                scene.disk.journal.is_seal_pending = true;
                self.hands.is_sealed = true;
                scene.mark(Mark::Sealed);
                return Ok(Some(settling.settled(SettleResult::Sealed { level: Level::Device })));
            }
        }
        Ok(None)
    }

    /// Reads back what the batch wrote, or all that was not read yet of a file that is to be sealed.
    fn read_back_batch(&mut self, scene: &mut Scene<'_>, settling: &mut Settling, slot: u8) -> Option<Input> {
        let is_mine = self.hands.slot == Some(slot);
        let whole = if is_mine && settling.is_whole { self.hands.held & !self.hands.verified } else { 0 };
        let chunks = settling.chunks | whole;
        settling.bad = self.read_back(scene, slot, chunks);
        settling.verified = chunks & !settling.bad;
        if !settling.is_finish || !settling.is_whole {
            return Some(settling.durable());
        }
        settling.bad = if is_mine { ALL & !self.hands.held } else { ALL };
        let is_sync_failed = self.sync_failed & (1 << slot) != 0;
        if settling.bad != 0 || self.hands.verified != ALL || is_sync_failed {
            return Some(settling.durable());
        }
        settling.step = if settling.is_target { Step::SyncNames } else { Step::ClaimSealing };
        None
    }

    /// What was dirty is clean and gone, and nobody may take the inode for good any more.
    fn fail_sync(&mut self, scene: &mut Scene<'_>, settling: &Settling, slot: u8) {
        scene.mark(Mark::SyncFailureSeen);
        self.sync_failed |= 1 << slot;
        let inode = scene.disk.inode(slot);
        inode.dirty = 0;
        if !settling.is_target && scene.disk.staging.live == Some(slot) {
            scene.disk.staging.live = None;
        }
        self.hands.excused = ALL;
    }

    /// Reads chunks past the cache. Gives those that differ; they are no longer held.
    fn read_back(&mut self, scene: &mut Scene<'_>, slot: u8, chunks: u8) -> u8 {
        let is_blind = matches!(scene.broken, Some(Broken::SkippedReadBack | Broken::UnverifiedArrival));
        let is_bad = |chunk: &u32| !is_blind && !scene.disk.inode(slot).is_good(*chunk);
        let bad = chunks_of(chunks).filter(is_bad).fold(0, |set, chunk| set | bit(chunk));
        if bad != 0 {
            scene.mark(Mark::ReadBackDiffered);
            self.hands.excused |= bad;
        }
        if self.hands.slot == Some(slot) {
            self.hands.held &= !bad;
            self.hands.verified = self.hands.verified & !bad | chunks & !bad;
        }
        bad
    }

    fn rename(&mut self, scene: &mut Scene<'_>, settling: &mut Settling, slot: u8) -> Result<Option<Input>, Violation> {
        if self.hands.is_left_out {
            return Ok(Some(settling.settled(SettleResult::InodeLost)));
        }
        let disk = &mut *scene.disk;
        if disk.staging.live != Some(slot) && disk.target.live != Some(slot) {
            return Ok(Some(settling.settled(SettleResult::InodeLost)));
        }
        // Before the seal is on record the same bytes may be named again: a process that ended may have left both names.
        let is_on_record =
            disk.receipt != Kept::None || disk.journal.sealed.is_some_and(|at| disk.target.live == Some(at));
        if is_on_record && disk.is_delivered() && disk.target.live != Some(slot) && self.hands.excused != ALL {
            return Err(Violation::Wrong("a file that was delivered is delivered again (P3)".into()));
        }
        disk.target.live = Some(slot);
        if disk.staging.live == Some(slot) {
            disk.staging.live = None;
        }
        settling.step = Step::SyncNames;
        Ok(None)
    }

    /// Makes the receipt durable: named, then its directory synced.
    fn issue(&mut self, scene: &mut Scene<'_>, step: u8, fault: DiskFault) -> Result<(), Violation> {
        if !self.hands.is_sealed || scene.disk.records != RECORDS {
            self.tell(Input::ReceiptRefused);
            return Ok(());
        }
        if fault == DiskFault::Full {
            scene.mark(Mark::FullSeen);
            self.tell(Input::StateFull);
            return Ok(());
        }
        if step == 0 {
            if scene.disk.receipt == Kept::Durable {
                return Err(Violation::Wrong("a receipt is made a second time (P3)".into()));
            }
            scene.disk.journal.is_seal_pending = false;
            self.to_settler.push_front(Work::IssueReceipt { step: 1 });
            return Ok(());
        }
        if step == 1 {
            scene.disk.receipt = Kept::Named;
            self.to_settler.push_front(Work::IssueReceipt { step: 2 });
            return Ok(());
        }
        if scene.broken != Some(Broken::UnsyncedReceipt) {
            scene.disk.receipt = Kept::Durable;
        }
        if scene.disk.receipt != Kept::Durable || !scene.disk.is_delivered() {
            return Err(Violation::Wrong("a receipt is issued for what a power cut would take (P2)".into()));
        }
        scene.mark(Mark::Issued);
        self.tell(Input::ReceiptIssued);
        Ok(())
    }
}
