//! From the brain's tasks to the store's methods: the same for a driver with a thread for each part and for a simulator
//! that runs everything inline. What belongs to the link (sending, restarting, ending) is left to the caller.

use std::io;

use super::batch::Batch;
use super::intake::{Handle, Intake};
use super::settle::Settler;
use super::sync::{Synced, Syncer};
use super::{Shared, is_full, locked};
use crate::disk::Disk;
use crate::geometry::{ChunkRun, EntryIndex};
use crate::state::outcome::Live;
use crate::task::receiver::{Input, SettleResult, SettledFile, Task};

/// What the intake hands out, which owns what goes into it: to the syncer, and from there to the settler, in this order.
pub enum Work<D: Disk> {
    /// Settle a closed batch.
    Settle(Batch<D>),
    /// What the syncer has nothing to do with.
    Errand(Errand<D>),
}

/// What the syncer passes on.
pub enum Proof<D: Disk> {
    /// A batch that is durable and claimed: read it back and seal what is whole.
    Batch(Synced<D>),
    /// The settler's alone.
    Errand(Errand<D>),
}

/// What the settler does besides batches.
pub enum Errand<D: Disk> {
    /// Read back chunks that an earlier run claimed durable.
    ReadBack(EntryIndex, ChunkRun, Handle<D>),
    /// Make symlinks, set directories' modes and times.
    FinishTree,
    /// Make, sign and persist the receipt.
    IssueReceipt,
    /// Remove the working state.
    Close,
}

/// What came of a task.
pub enum Done<D: Disk> {
    /// The brain has to hear this.
    Input(Input),
    /// The syncer has to do this, and then the settler.
    Work(Work<D>),
    /// Nothing more.
    Nothing,
    /// The task is the caller's.
    NotMine(Task),
}

impl<D: Disk> Intake<D> {
    /// Does a task of the brain, or passes it on.
    pub fn perform(&mut self, task: Task) -> Done<D> {
        let done = self.do_task(task);
        match std::mem::take(&mut self.is_log_suspect) {
            true => Done::Input(Input::LogChecked(false)),
            false => done,
        }
    }

    fn do_task(&mut self, task: Task) -> Done<D> {
        match task {
            Task::Examine(first, count) => Done::Input(Input::Examined(first, self.examine(first, count))),
            Task::ExamineClaims(entries) => Done::Input(Input::ClaimsExamined(self.examine_claims(entries))),
            Task::Adopt(items) => Done::Input(Input::Adopted(self.adopt(items))),
            Task::Finish(entry) => match self.finish(entry) {
                Ok(()) => Done::Nothing,
                Err(input) => Done::Input(input),
            },
            Task::NewInode(entry) => Done::Input(self.renew(entry)),
            Task::Abandon(entry, reason) => {
                self.abandon(entry, reason);
                Done::Nothing
            }
            Task::CheckLog => Done::Input(Input::LogChecked(self.is_log_undamaged())),
            Task::LookAtSpace => match self.space() {
                Ok((bytes, inodes)) => Done::Input(Input::Space(bytes, inodes)),
                // A file system that does not tell is not one that is full.
                Err(_) => Done::Input(Input::Space(u64::MAX, u64::MAX)),
            },
            Task::Settle => Done::Work(Work::Settle(self.close_batch())),
            Task::ReadBack(entry, run) => match self.handle(entry) {
                Some(handle) => Done::Work(Work::Errand(Errand::ReadBack(entry, run, handle))),
                None => Done::Input(Input::ReadBackDone(entry, run, vec![])),
            },
            Task::FinishTree => Done::Work(Work::Errand(Errand::FinishTree)),
            Task::IssueReceipt => Done::Work(Work::Errand(Errand::IssueReceipt)),
            Task::Close => Done::Work(Work::Errand(Errand::Close)),
            Task::Send(_) | Task::SendReceipt | Task::Misbehaved(_) | Task::Restart | Task::End(_) => {
                Done::NotMine(task)
            }
        }
    }

    /// Takes note of what settling did, before the brain hears it.
    pub fn after_settle(&mut self, files: &[SettledFile]) {
        self.settled_batches += 1;
        for SettledFile { entry, result } in files {
            match result {
                SettleResult::Sealed { .. } => self.release([*entry]),
                SettleResult::LeftOut(_) => self.abandon(*entry, None),
                SettleResult::Durable { .. }
                | SettleResult::SyncFailed
                | SettleResult::InodeLost
                | SettleResult::Full => self.thaw(*entry),
            }
        }
    }
}

impl<D: Disk> Shared<D> {
    /// Whether the manifest is complete and each of its files is accounted for: a receipt says nothing else.
    fn is_all_settled(&self) -> bool {
        let (is_complete, count) = self.with_log(|log| (log.sequence().is_complete(), log.entry_count()));
        let ledger = self.ledger();
        is_complete && (0..count).all(|entry| ledger.is_other(entry) || ledger.is_settled(EntryIndex(entry)))
    }
}

/// What the brain hears where the journal or other state fails.
fn state_failed(error: &io::Error) -> Input {
    if is_full(error) { Input::StateFull } else { Input::StateFailed }
}

impl<D: Disk> Syncer<D> {
    /// Does its part of the work and gives what is left of it. The error is for the brain.
    pub fn perform(&mut self, work: Work<D>) -> Result<Proof<D>, Input> {
        match work {
            Work::Errand(errand) => Ok(Proof::Errand(errand)),
            Work::Settle(batch) => self.make_durable(batch).map(Proof::Batch).map_err(|error| {
                tracing::warn!(%error, "the journal could not be written");
                state_failed(&error)
            }),
        }
    }
}

impl<D: Disk> Settler<D> {
    /// Does one piece of work. `issue` makes, signs and persists the receipt, when it comes to that.
    pub fn perform(&mut self, proof: Proof<D>, issue: impl FnOnce(&Shared<D>, &Live) -> io::Result<()>) -> Input {
        let shared = std::sync::Arc::clone(&self.shared);
        let is_closing = matches!(proof, Proof::Errand(Errand::Close));
        let outcome = match proof {
            Proof::Batch(batch) => self.settle(batch).map(Input::BatchSettled),
            Proof::Errand(errand) => self.run(errand, &shared, issue),
        };
        outcome.unwrap_or_else(|error| {
            match is_closing {
                true => {
                    tracing::warn!(%error, "the working state in the target could not be removed; `.landfall` stays")
                }
                false => tracing::warn!(%error, "the working state could not be read or written"),
            }
            state_failed(&error)
        })
    }

    fn run(
        &mut self,
        errand: Errand<D>,
        shared: &Shared<D>,
        issue: impl FnOnce(&Shared<D>, &Live) -> io::Result<()>,
    ) -> io::Result<Input> {
        match errand {
            Errand::ReadBack(entry, run, handle) => Ok(Input::ReadBackDone(entry, run, self.read_back(&handle, run))),
            // From here on the log alone says what is done: it is read once as a whole.
            Errand::FinishTree => match shared.with_log(|log| Live::of_undamaged(log).unwrap_or(None)) {
                None => Ok(Input::LogChecked(false)),
                Some(live) => self.finish_tree().map(|()| {
                    self.finished = Some(live);
                    Input::TreeFinished
                }),
            },
            Errand::IssueReceipt => {
                let _closed = locked(&shared.gate);
                // What came since may be a symlink or a directory, which nothing else accounts for.
                let finished = self.finished.as_ref().filter(|live| shared.with_log(|log| live.is_of(log)));
                match finished.filter(|_| shared.is_all_settled()) {
                    Some(live) => {
                        shared.sync_journal().and_then(|()| issue(shared, live)).map(|()| Input::ReceiptIssued)
                    }
                    None => Ok(Input::ReceiptRefused),
                }
            }
            Errand::Close => shared.remove_state().map(|()| Input::Closed),
        }
    }
}
