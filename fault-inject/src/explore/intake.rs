//! The intake's half of the receiver's hands: what `store/examine.rs`, `store/adopt.rs`, `store/intake.rs` and
//! `store/renew.rs` do to a disk, on the model of one.

use landfall::geometry::{ChunkRun, EntryIndex};
use landfall::limits::SIMULATED_CHUNK_BYTES;
use landfall::task::receiver::{AdoptItem, AdoptedItem, Disposition, Input, Kept, Task, WriteError};
use landfall::wire::Place;

use super::disk::{ALL, CHUNKS, Disk, Page, bit, chunks_of};
use super::receiving::{Flying, Receiving, Scene};
use super::settler::Work;
use super::{Broken, Mark};

const FILE: EntryIndex = EntryIndex(0);

/// What can go wrong with a piece of work on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum DiskFault {
    None,
    /// There is no space.
    Full,
    /// A sync fails, and what was dirty is gone.
    SyncFails,
    /// A page reaches the drive damaged.
    Corrupt(u32),
}

/// What the hands know of the file.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Hands {
    /// The inode that is being received into, or the target that was adopted.
    pub slot: Option<u8>,
    pub is_target: bool,
    pub held: u8,
    pub verified: u8,
    /// The closed batch that is to seal it, by number: no more writes.
    pub sealed_by: Option<u8>,
    pub is_accepted: bool,
    pub candidate: Option<Candidate>,
    pub batch: u8,
    pub is_finishing: bool,
    pub is_sealed: bool,
    pub is_left_out: bool,
    /// Chunks that there is a reason on record to fetch again.
    pub excused: u8,
}

/// What the file is compared with.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) struct Candidate {
    pub target: Option<u8>,
    is_comparing: bool,
    may_replace: bool,
}

fn place(chunk: u32) -> Place {
    Place { entry: FILE.0, chunk }
}

fn run_of(run: ChunkRun) -> u8 {
    (run.first..run.first + run.count).fold(0, |set, chunk| set | bit(chunk))
}

fn bytes_of(set: u8) -> u64 {
    u64::from(set.count_ones()) * u64::from(SIMULATED_CHUNK_BYTES)
}

impl Receiving {
    /// Does what the brain asks. What it comes to, if that is known at once.
    pub(super) fn perform(&mut self, scene: &mut Scene<'_>, task: Task) -> Option<Input> {
        Some(match task {
            Task::Examine(first, count) => {
                let found = (0..count).map(|_| match scene.disk.journal.sealed {
                    Some(_) => Disposition::Placed,
                    None => self.examine(scene),
                });
                Input::Examined(first, found.collect())
            }
            Task::ExamineClaims(entries) => {
                let found = entries.into_iter().map(|entry| (entry, self.examine_claim(scene)));
                Input::ClaimsExamined(found.collect())
            }
            Task::Adopt(items) => {
                let adopted = items.into_iter().map(|item| self.adopt(scene, &item)).collect();
                scene.mark(Mark::Adopted);
                Input::Adopted(adopted)
            }
            Task::Finish(_) => {
                self.hands.is_finishing = self.hands.slot.is_some();
                return None;
            }
            Task::Settle => {
                let hands = &mut self.hands;
                self.closed += 1;
                let is_whole = hands.is_finishing && hands.held == ALL;
                hands.sealed_by = if is_whole { Some(self.closed) } else { hands.sealed_by };
                let (chunks, is_finish) = (std::mem::take(&mut hands.batch), std::mem::take(&mut hands.is_finishing));
                let chunks = chunks & hands.held;
                let missing = if is_finish { ALL & !hands.held } else { 0 };
                self.to_settler.push_back(Work::settle(hands.slot, hands.is_target, chunks, is_finish, is_whole));
                if missing == 0 {
                    return None;
                }
                Input::Missing(vec![(FILE, chunks_of(missing).collect())])
            }
            Task::ReadBack(entry, run) => match self.hands.slot {
                Some(slot) => {
                    self.to_settler.push_back(Work::ReadBack { slot, run });
                    return None;
                }
                None => Input::ReadBackDone(entry, run, vec![]),
            },
            Task::NewInode(_) => self.renew(scene),
            Task::Abandon(..) => {
                self.abandon();
                return None;
            }
            Task::CheckLog => Input::LogChecked(true),
            Task::LookAtSpace => Input::Space(u64::MAX, u64::MAX),
            Task::FinishTree => return self.pass_on(Work::FinishTree),
            Task::IssueReceipt => return self.pass_on(Work::IssueReceipt { step: 0 }),
            Task::Close => return self.pass_on(Work::Close),
            Task::Send(_) | Task::SendReceipt | Task::Misbehaved(_) | Task::Restart | Task::End(_) => return None,
        })
    }

    fn pass_on(&mut self, work: Work) -> Option<Input> {
        self.to_settler.push_back(work);
        None
    }

    /// Looks at where the file goes, as `store/examine.rs`.
    fn examine(&mut self, scene: &mut Scene<'_>) -> Disposition {
        self.hands.is_accepted = true;
        let (disk, journal) = (&scene.disk, scene.disk.journal);
        let is_ours = |slot: u8| journal.sealed == Some(slot) || journal.is_sealing;
        let target = disk.target.live;
        let candidate = target.map(|slot| Candidate { target, is_comparing: true, may_replace: is_ours(slot) });
        let Some(slot) = disk.staging.live.filter(|slot| target != Some(*slot)) else {
            self.hands.candidate = candidate;
            return if target.is_some() { Disposition::Candidate } else { Disposition::Fresh };
        };
        let claims = if scene.broken == Some(Broken::ForgottenClaims) { 0 } else { journal.durable[usize::from(slot)] };
        self.hands.slot = Some(slot);
        self.hands.held = claims;
        if scene.broken == Some(Broken::ForgottenClaims) {
            return Disposition::Fresh;
        }
        if claims == 0 || target.is_some() {
            let copying = Candidate { target: None, is_comparing: false, may_replace: true };
            let beside = candidate.map(|found| Candidate { is_comparing: !found.may_replace, ..found });
            self.hands.candidate = Some(beside.unwrap_or(copying));
            return Disposition::Candidate;
        }
        scene.mark(Mark::Resumed);
        let runs = chunks_of(claims).map(|chunk| ChunkRun { first: chunk, count: 1 });
        Disposition::Staged(runs.collect())
    }

    fn examine_claim(&mut self, scene: &mut Scene<'_>) -> Disposition {
        if scene.disk.target.live.is_some() && scene.disk.target.live == scene.disk.journal.sealed {
            self.hands.is_sealed = true;
            scene.mark(Mark::ClaimStood);
            return Disposition::Sealed;
        }
        self.examine(scene)
    }

    /// Compares with a candidate and takes what matches, as `store/adopt.rs`.
    fn adopt(&mut self, scene: &mut Scene<'_>, item: &AdoptItem) -> AdoptedItem {
        let run = item.run;
        let mut result =
            AdoptedItem { entry: FILE, run, missing: vec![], copied_bytes: 0, is_restarted: false, refused: None };
        let Some(candidate) = self.hands.candidate else { return result };
        if let Some(target) = candidate.target {
            scene.disk.sync(target, scene.broken);
        }
        let set = run_of(run);
        let is_good =
            |disk: &mut Disk, slot: Option<u8>, chunk| slot.is_some_and(|slot| disk.inode(slot).is_good(chunk));
        if candidate.is_comparing {
            if chunks_of(set).all(|chunk| is_good(scene.disk, candidate.target, chunk)) {
                (self.hands.slot, self.hands.is_target) = (candidate.target, true);
                self.hands.held |= set;
                self.hands.verified |= set;
            } else if candidate.may_replace {
                self.hands.candidate = Some(Candidate { is_comparing: false, ..candidate });
                (self.hands.slot, self.hands.is_target, self.hands.held) = (None, false, 0);
                result.is_restarted = true;
            } else {
                result.refused = Some(landfall::outcome::Reason::ExistsDifferent);
                self.abandon();
            }
            return result;
        }
        for chunk in chunks_of(set) {
            if is_good(scene.disk, self.hands.slot, chunk) {
                self.hands.held |= bit(chunk);
                self.hands.batch |= bit(chunk);
            } else if is_good(scene.disk, candidate.target, chunk) {
                self.write(scene, chunk);
            } else {
                result.missing.push(chunk);
                self.hands.held &= !bit(chunk);
                continue;
            }
            result.copied_bytes += u64::from(SIMULATED_CHUNK_BYTES);
        }
        if run.first + run.count >= CHUNKS {
            self.hands.candidate = None;
        }
        result
    }

    fn write(&mut self, scene: &mut Scene<'_>, chunk: u32) {
        let slot = match self.hands.slot {
            Some(slot) => slot,
            None => {
                let slot = scene.disk.make_inode(|slot| self.uses(slot));
                self.sync_failed &= !(1 << slot);
                scene.disk.staging.live = Some(slot);
                self.hands.slot = Some(slot);
                slot
            }
        };
        self.written(slot);
        let inode = scene.disk.inode(slot);
        inode.cache[chunk as usize] = Page::Good;
        inode.dirty |= bit(chunk);
        self.hands.held |= bit(chunk);
        self.hands.verified &= !bit(chunk);
        self.hands.batch |= bit(chunk);
    }

    /// Takes a chunk as it came.
    pub(super) fn receive(&mut self, scene: &mut Scene<'_>, flying: Flying, fault: DiskFault) -> Input {
        let (at, hands) = (place(flying.chunk), &self.hands);
        let is_closed = hands.is_sealed || hands.is_left_out || !hands.is_accepted || hands.is_target;
        if flying.is_copy {
            scene.mark(Mark::DuplicateTaken);
        }
        if is_closed {
            return Input::WriteFailed(at, WriteError::Stale);
        }
        if hands.held & bit(flying.chunk) != 0 {
            return Input::Written(at, 0);
        }
        if hands.sealed_by.is_some() {
            return Input::WriteFailed(at, WriteError::Stale);
        }
        if flying.is_damaged && scene.broken != Some(Broken::UnverifiedArrival) {
            scene.mark(Mark::DamageSeen);
            return Input::Differed(at);
        }
        if fault == DiskFault::Full {
            scene.mark(Mark::FullSeen);
            return Input::WriteFailed(at, WriteError::Full);
        }
        self.write(scene, flying.chunk);
        if flying.is_damaged {
            let slot = self.hands.slot.unwrap_or_default();
            scene.disk.inode(slot).cache[flying.chunk as usize] = Page::Bad;
        }
        Input::Written(at, SIMULATED_CHUNK_BYTES)
    }

    /// Leaves the inode for a new one, as `store/renew.rs`.
    fn renew(&mut self, scene: &mut Scene<'_>) -> Input {
        scene.mark(Mark::Renewed);
        let was_held = self.hands.held;
        self.hands.excused = ALL;
        (self.hands.batch, self.hands.is_finishing, self.hands.sealed_by) = (0, false, None);
        self.hands.candidate = None;
        let Some(old) = self.hands.slot.take() else { return Input::Renewed(FILE, Ok(Kept::default())) };
        if !self.hands.is_target && scene.disk.staging.live == Some(old) {
            scene.disk.staging.live = None;
        }
        (self.hands.is_target, self.hands.held, self.hands.verified) = (false, 0, 0);
        let is_good: Vec<bool> =
            (0..CHUNKS).map(|chunk| was_held & bit(chunk) != 0 && scene.disk.inode(old).is_good(chunk)).collect();
        let slot = scene.disk.make_inode(|slot| slot == old || self.uses(slot));
        self.sync_failed &= !(1 << slot);
        scene.disk.staging.live = Some(slot);
        self.hands.slot = Some(slot);
        let chunks: Vec<u32> =
            (0..CHUNKS).zip(is_good).filter_map(|(chunk, is_good)| is_good.then_some(chunk)).collect();
        chunks.iter().for_each(|chunk| self.write(scene, *chunk));
        Input::Renewed(FILE, Ok(Kept { bytes: bytes_of(self.hands.held), chunks }))
    }
}
