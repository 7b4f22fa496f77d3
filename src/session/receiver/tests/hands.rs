//! The hands of the world: what tasks lead to, with and without faults.
#![allow(clippy::type_complexity)]

use rand::Rng;

use super::world::World;
use crate::attributes::Level;
use crate::geometry::{ChunkRun, EntryIndex};
use crate::limits::CHUNK_BYTES;
use crate::outcome::Reason;
use crate::task::receiver::{
    AdoptItem, AdoptedItem, Disposition, Input, Kept, SettleResult, SettledFile, Task, WriteError,
};

/// What the settler has to do.
pub(super) enum Work {
    /// Files of a batch with their inode, the chunks written, whether they are to be sealed, and after how many writes they
    /// were whole then.
    Settle(Vec<(u32, (u32, Vec<u32>, bool), Option<u32>)>),
    ReadBack(EntryIndex, ChunkRun, u32),
    FinishTree,
    IssueReceipt,
    Close,
}

impl World {
    /// The intake does its next task.
    pub(super) fn do_task(&mut self) {
        let Some(task) = self.intake.pop_front() else { return };
        let input = match task {
            Task::Examine(first, count) => {
                let found = (first.0..first.0 + count).map(|entry| self.examine(entry, false)).collect();
                Input::Examined(first, found)
            }
            Task::ExamineClaims(entries) => {
                Input::ClaimsExamined(entries.into_iter().map(|entry| (entry, self.examine(entry.0, true))).collect())
            }
            Task::Adopt(items) => Input::Adopted(items.into_iter().map(|item| self.adopt(item)).collect()),
            Task::Finish(entry) => match self.finish(entry) {
                Some(input) => input,
                None => return,
            },
            Task::Settle => {
                let whole_at = |entry: &u32| {
                    let state = &self.entries[*entry as usize];
                    (state.held.len() == state.chunks as usize).then_some(state.writes)
                };
                let batch = std::mem::take(&mut self.batch);
                let lacks = |(entry, file): (&u32, &(u32, Vec<u32>, bool))| {
                    let state = &self.entries[*entry as usize];
                    let missing: Vec<u32> = (0..state.chunks).filter(|chunk| !state.held.contains(chunk)).collect();
                    (file.2 && !missing.is_empty()).then_some((EntryIndex(*entry), missing))
                };
                let missing: Vec<_> = batch.iter().filter_map(lacks).collect();
                if !missing.is_empty() {
                    self.inputs.push_back(Input::Missing(missing));
                }
                let batch = batch.into_iter();
                let batch = batch.map(|(entry, file)| (entry, file, whole_at(&entry))).collect();
                return self.syncer.push_back(Work::Settle(batch));
            }
            Task::ReadBack(entry, run) => {
                let inode = self.entries[entry.0 as usize].inode;
                return self.syncer.push_back(Work::ReadBack(entry, run, inode));
            }
            Task::NewInode(entry) => self.renew(entry),
            Task::Abandon(entry, reason) => {
                let state = &mut self.entries[entry.0 as usize];
                (state.is_accepted, state.is_left_out) = (false, state.is_left_out || reason.is_some());
                self.batch.remove(&entry.0);
                return;
            }
            Task::CheckLog => Input::LogChecked(true),
            Task::LookAtSpace if self.is_unlucky() => Input::Space(0, 0),
            Task::LookAtSpace => Input::Space(u64::MAX, u64::MAX),
            Task::FinishTree => return self.syncer.push_back(Work::FinishTree),
            Task::IssueReceipt => return self.syncer.push_back(Work::IssueReceipt),
            Task::Close => return self.syncer.push_back(Work::Close),
            other => panic!("{other:?} is not for the intake"),
        };
        self.inputs.push_back(input);
    }

    fn examine(&mut self, entry: u32, is_claim: bool) -> Disposition {
        let unlucky = self.is_unlucky();
        let kind = self.dice.random_range(0..8);
        let state = &mut self.entries[entry as usize];
        if state.is_withdrawn || !state.is_file || (state.is_claimed && !is_claim) {
            return Disposition::Placed;
        }
        assert!(!state.is_sealed && !state.is_accepted, "{entry} is looked at twice");
        if is_claim && kind < 4 || kind == 0 {
            state.is_sealed = true;
            return Disposition::Sealed;
        }
        if unlucky || kind == 1 {
            state.is_left_out = true;
            return Disposition::LeftOut(if unlucky { Reason::TargetDenied } else { Reason::Kept });
        }
        state.is_accepted = true;
        match kind {
            2 | 3 => Disposition::Candidate,
            4 if state.known > 0 => {
                let first = self.dice.random_range(0..state.known);
                let run = ChunkRun { first, count: self.dice.random_range(0..state.known - first) + 1 };
                state.held = (run.first..run.first + run.count).collect();
                Disposition::Staged(vec![run])
            }
            _ => Disposition::Fresh,
        }
    }

    fn adopt(&mut self, item: AdoptItem) -> AdoptedItem {
        let (entry, run) = (item.entry, item.run);
        let mut result =
            AdoptedItem { entry, run, missing: vec![], copied_bytes: 0, is_restarted: false, refused: None };
        let luck = self.dice.random_range(0..10);
        let state = &mut self.entries[entry.0 as usize];
        assert!(run.first + run.count <= state.known, "only what is known can be compared");
        if !state.is_accepted || state.is_withdrawn {
            result.missing = (run.first..run.first + run.count).collect();
            return result;
        }
        if luck == 0 && self.faults.one_in > 0 {
            (state.is_left_out, state.is_accepted) = (true, false);
            result.refused = Some(Reason::ExistsDifferent);
            return result;
        }
        if luck == 1 && !state.was_restarted {
            state.was_restarted = true;
            state.held.clear();
            result.is_restarted = true;
            return result;
        }
        for chunk in run.first..run.first + run.count {
            if self.dice.random_range(0..3) > 0 {
                state.held.insert(chunk);
                self.batch.entry(entry.0).or_insert((state.inode, vec![], false)).1.push(chunk);
                result.copied_bytes += u64::from(CHUNK_BYTES);
            } else if !state.held.contains(&chunk) {
                result.missing.push(chunk);
            }
        }
        result
    }

    fn finish(&mut self, entry: EntryIndex) -> Option<Input> {
        if self.is_unlucky() {
            let is_full = self.dice.random_range(0..3) > 0;
            return Some(Input::FinishFailed(entry, if is_full { WriteError::Full } else { WriteError::Failed }));
        }
        let state = &self.entries[entry.0 as usize];
        if !state.is_withdrawn {
            self.batch.entry(entry.0).or_insert((state.inode, vec![], false)).2 = true;
        }
        None
    }

    fn renew(&mut self, entry: EntryIndex) -> Input {
        let unlucky = self.is_unlucky();
        self.batch.remove(&entry.0);
        let state = &mut self.entries[entry.0 as usize];
        if unlucky {
            (state.is_left_out, state.is_accepted) = (true, false);
            return Input::Renewed(entry, Err(Reason::TargetDenied));
        }
        state.inode += 1;
        let before = std::mem::take(&mut state.held);
        state.held = before.into_iter().filter(|_| self.dice.random_range(0..3) > 0).collect();
        let chunks: Vec<u32> = state.held.iter().copied().collect();
        let copied_bytes = chunks.len() as u64 * u64::from(CHUNK_BYTES);
        self.batch.insert(entry.0, (state.inode, chunks.clone(), false));
        Input::Renewed(entry, Ok(Kept { bytes: copied_bytes, chunks }))
    }

    /// The syncer passes its next piece of work on.
    pub(super) fn do_sync(&mut self) {
        let Some(work) = self.syncer.pop_front() else { return };
        if let Work::Settle(_) = work {
            self.inputs.push_back(Input::BatchSynced);
        }
        self.settler.push_back(work);
    }

    /// The settler does its next piece of work.
    pub(super) fn do_work(&mut self) {
        let Some(work) = self.settler.pop_front() else { return };
        let input = match work {
            Work::Settle(files) => {
                let each = files.into_iter();
                let settled = each.map(|(entry, file, whole_at)| self.settle(entry, file, whole_at)).collect();
                Input::BatchSettled(settled)
            }
            Work::ReadBack(entry, run, inode) => {
                let mut bad = vec![];
                for chunk in run.first..run.first + run.count {
                    if self.is_unlucky() {
                        bad.push(chunk);
                        let state = &mut self.entries[entry.0 as usize];
                        state.held.retain(|held| state.inode != inode || *held != chunk);
                    }
                }
                Input::ReadBackDone(entry, run, bad)
            }
            Work::FinishTree | Work::IssueReceipt if self.is_unlucky() => Input::StateFull,
            Work::FinishTree => Input::TreeFinished,
            Work::IssueReceipt => {
                let is_settled = |state: &super::world::Entry| {
                    !state.is_file || state.is_withdrawn || state.is_sealed || state.is_left_out
                };
                assert!(self.entries.iter().all(is_settled), "a receipt before everything is settled");
                assert!(self.ahead.is_empty(), "a receipt before the sender has settled");
                self.is_issued = true;
                Input::ReceiptIssued
            }
            Work::Close => Input::Closed,
        };
        self.inputs.push_back(input);
    }

    fn settle(&mut self, number: u32, file: (u32, Vec<u32>, bool), whole_at: Option<u32>) -> SettledFile {
        let (inode, chunks, is_finish) = (file.0, &file.1, file.2);
        let entry = EntryIndex(number);
        let luck = if self.is_unlucky() { self.dice.random_range(0..4) } else { 9 };
        let state = &mut self.entries[number as usize];
        let verified_bytes = chunks.len() as u64 * u64::from(CHUNK_BYTES);
        if state.inode != inode || !state.is_accepted || state.is_withdrawn {
            // It was left or abandoned meanwhile: whatever is said of it does not hold.
            let bad = chunks.iter().copied().take(2).collect();
            return SettledFile { entry, result: SettleResult::Durable { verified_bytes, bad } };
        }
        let mut bad = vec![];
        // A later sync of the same inode fails as well.
        match luck {
            _ if state.sync_failed == Some(inode) => return SettledFile { entry, result: SettleResult::SyncFailed },
            0 => {
                state.sync_failed = Some(inode);
                return SettledFile { entry, result: SettleResult::SyncFailed };
            }
            1 => return SettledFile { entry, result: SettleResult::Full },
            2 => bad.extend(chunks.first()),
            3 if is_finish => bad.extend(state.held.first()),
            _ => (),
        }
        state.held.retain(|chunk| !bad.contains(chunk));
        if is_finish && whole_at == Some(state.writes) {
            bad = (0..state.chunks).filter(|chunk| !state.held.contains(chunk)).collect();
            if bad.is_empty() {
                assert!(state.is_ended, "a file is sealed before its end is known");
                (state.is_sealed, state.is_accepted) = (true, false);
                return SettledFile { entry, result: SettleResult::Sealed { level: Level::Device } };
            }
        }
        SettledFile { entry, result: SettleResult::Durable { verified_bytes, bad } }
    }
}
