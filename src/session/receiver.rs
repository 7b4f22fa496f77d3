//! The receiver's brain: wanted = manifest − durable, until nothing is wanted and everything was read back.
//!
//! ```text
//! a chunk:  Missing → Wanted → Held (written) → Durable → Verified (read back)
//!              ↑         │ link lost, differed         │ differs
//!              └─────────┴──────────────────────────────┘
//! a file:   Unexamined → Active → Finishing → Sealed
//!                 └────────┴──────────┴─────→ LeftOut, Withdrawn
//! ```
//!
//! First transfer, resume, a damaged chunk, a failed read-back and an update over an old copy are this one machine.
//! It holds no names, bytes or handles; what is done with its [`Task`]s is `store/`'s and `recv.rs`'s business.

mod batch;
mod end;
mod files;
mod wants;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use crate::geometry::EntryIndex;
use crate::limits::{PROGRESS_MS, SPACE_CHECK_MS};
use crate::outcome::Reason;
use crate::task::receiver::{End, Input, Noted, Tally, Task};
use crate::wire::{Message, Phase, Place, Progress, StopReason};

use batch::Batch;
use end::Standing;
use files::{Active, Latest};

pub use end::Ending;

/// What is known of one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phases {
    /// A file nobody has looked at.
    Unexamined,
    /// A file with a claim that it is sealed; its target's stamps are still to be compared.
    Claimed,
    /// A file that is being received: it has an [`Active`].
    Active,
    /// Under its name.
    Sealed,
    /// Not delivered, which counts.
    LeftOut,
    /// Not delivered, by policy.
    Kept,
    /// No longer holds.
    Withdrawn,
    /// Not a file.
    Other,
    /// Not a file, and not delivered, which counts.
    OtherLeftOut,
}

#[derive(Clone, Copy, Debug, Hash)]
struct Entry {
    size: u64,
    phase: Phases,
}

/// Settings of a run that the brain decides by.
#[derive(Clone, Copy, Debug, Hash)]
pub struct Settings {
    /// Chunk size of the manifest.
    pub chunk_bytes: u32,
    /// Largest transfer that is accepted.
    pub max_bytes: Option<u64>,
    /// How long a full disk is waited for; `None` is for ever.
    pub patience: Option<Duration>,
    /// How long a receipt is lingered with.
    pub linger: Duration,
    /// Files in one batch: [`crate::limits::BATCH_FILES_MAX`], or fewer where descriptors are scarce.
    pub batch_files: u32,
}

/// The machine.
#[derive(Clone, Debug, Hash)]
pub struct Receiver {
    settings: Settings,
    entries: Vec<Entry>,
    latest: Latest,
    active: BTreeMap<u32, Active>,
    /// Claimed entries that were not looked at yet.
    claimed: BTreeSet<u32>,
    /// Files that are neither sealed, left out nor withdrawn.
    open_files: u64,
    /// Everything before this place was looked at.
    scan: Place,
    examined_to: u32,
    is_examining: bool,
    is_checking_claims: bool,
    rewants: BTreeSet<Place>,
    considered_sent: Place,
    in_flight_bytes: u64,
    in_flight_count: u32,
    to_adopt: BTreeSet<u32>,
    is_adopting: bool,
    to_read_back: BTreeSet<u32>,
    /// Files that could not be sealed for lack of space.
    to_finish: BTreeSet<u32>,
    batch: Batch,
    is_linked: bool,
    /// There was a link before: without one now, there is time for other work.
    was_linked: bool,
    /// A chunk has arrived on this link.
    has_arrived: bool,
    is_consented: bool,
    is_log_checking: bool,
    /// Since when nothing is wanted for lack of space.
    full_since: Option<Instant>,
    /// Since when nothing could be written for lack of space, whatever the file system says of its free space.
    short_since: Option<Instant>,
    space_due: Option<Instant>,
    progress_due: Option<Instant>,
    is_complete: bool,
    /// Records taken.
    record_count: u64,
    /// Where the sender has settled on this link.
    settled_at: Option<u64>,
    ending: Ending,
    tally: Tally,
    tasks: VecDeque<Task>,
}

impl Receiver {
    /// A machine for an empty log. What a replay found is told with [`Receiver::note`] first.
    pub fn new(settings: Settings, ending: Ending) -> Receiver {
        Receiver {
            settings,
            entries: vec![],
            latest: Latest::default(),
            active: BTreeMap::new(),
            claimed: BTreeSet::new(),
            open_files: 0,
            scan: Place::default(),
            examined_to: 0,
            is_examining: false,
            is_checking_claims: false,
            rewants: BTreeSet::new(),
            considered_sent: Place::default(),
            in_flight_bytes: 0,
            in_flight_count: 0,
            to_adopt: BTreeSet::new(),
            is_adopting: false,
            to_read_back: BTreeSet::new(),
            to_finish: BTreeSet::new(),
            batch: Batch::new(settings.batch_files),
            is_linked: false,
            was_linked: false,
            has_arrived: false,
            is_consented: false,
            is_log_checking: false,
            full_since: None,
            short_since: None,
            space_due: None,
            progress_due: None,
            is_complete: false,
            record_count: 0,
            settled_at: None,
            ending,
            tally: Tally::default(),
            tasks: VecDeque::new(),
        }
    }

    /// Takes what happened. The tasks that follow from it are drained with [`Receiver::poll`].
    pub fn handle(&mut self, now: Instant, input: Input) {
        if self.ending.is_over() {
            return;
        }
        match input {
            Input::Connected => self.on_connected(),
            Input::LinkLost => self.on_link_lost(),
            Input::Noted(notes) => notes.into_iter().for_each(|noted| self.note(noted)),
            Input::Settled(position) => self.settled_at = Some(position),
            Input::Examined(first, found) => self.on_examined(first, found),
            Input::ClaimsExamined(fallen) => self.on_claims_examined(fallen),
            Input::Adopted(items) => self.on_adopted(items),
            Input::Written(chunk, bytes) => self.on_written(chunk, bytes),
            Input::Differed(chunk) => self.on_differed(chunk),
            Input::Gone(chunk, _) => self.on_gone(chunk),
            Input::WriteFailed(chunk, error) => self.on_write_failed(now, chunk, error),
            Input::FinishFailed(entry, error) => self.on_finish_failed(now, entry, error),
            Input::BatchSynced => self.batch.synced(),
            Input::Missing(files) => self.on_missing(files),
            Input::BatchSettled(files) => self.on_batch_settled(now, files),
            Input::ReadBackDone(entry, run, bad) => self.on_read_back(entry, run, &bad),
            Input::Renewed(entry, result) => self.on_renewed(entry, result),
            Input::LogChecked(is_good) => self.on_log_checked(is_good),
            Input::Space(bytes, inodes) => self.on_space(now, bytes, inodes),
            Input::Consented => self.is_consented = true,
            Input::Declined => self.stop(StopReason::Declined),
            Input::StopRequested(reason) => self.stop(reason),
            Input::StateFailed => self.on_state_failed(),
            Input::StateFull => {
                self.meet_full(now);
                self.ending.stall();
            }
            Input::PeerStopped(reason) => self.ending.peer_stopped(&mut self.tasks, reason),
            Input::TreeFinished
            | Input::ReceiptIssued
            | Input::ReceiptRefused
            | Input::Acknowledged
            | Input::PatienceOver
            | Input::Closed => {
                let standing = self.standing();
                self.ending.hear(&mut self.tasks, now, &input, standing);
            }
            Input::Tick => (),
        }
        self.advance(now);
    }

    /// The next task, if any.
    pub fn poll(&mut self) -> Option<Task> {
        self.tasks.pop_front()
    }

    /// When a [`Input::Tick`] is due if nothing else happens.
    pub fn poll_timeout(&self) -> Option<Instant> {
        // With a receipt nothing is settled any more.
        let batch_due = if self.ending.has_receipt() { None } else { self.batch.due() };
        let times = [batch_due, self.space_due, self.progress_due, self.ending.due(), self.full_deadline()];
        times.into_iter().flatten().min()
    }

    /// How far it is.
    pub fn tally(&self) -> Tally {
        Tally {
            phase: self.phase(),
            entry: self.active.keys().next().map(|entry| EntryIndex(*entry)),
            is_total: self.is_complete,
            in_flight_bytes: self.in_flight_bytes,
            is_settling: self.batch.is_busy(),
            ..self.tally
        }
    }

    /// Whether the link carries wants that are not answered.
    pub fn is_waiting_for_chunks(&self) -> bool {
        self.in_flight_count > 0
    }

    /// Takes one record of the log, in order.
    pub fn note(&mut self, noted: Noted) {
        self.is_complete = matches!(noted, Noted::Complete);
        self.record_count += 1;
        match noted {
            Noted::Complete => (),
            Noted::File { size, claim } => self.note_file(size, claim),
            Noted::Other { kind } => self.note_other(kind),
            Noted::DigestsTo(known) => self.note_digests(known),
            Noted::Ended => self.note_end(),
            Noted::Withdrawn(entry) => self.note_withdrawn(entry),
        }
        if !self.is_complete {
            self.ending.reopen();
        }
        if self.settings.max_bytes.is_some_and(|max| self.tally.known_bytes > max) {
            self.stop(StopReason::TooLarge);
        }
    }

    fn on_connected(&mut self) {
        self.is_linked = true;
        self.was_linked = true;
        self.has_arrived = false;
        self.settled_at = None;
        self.considered_sent = Place::default();
        for (entry, active) in &mut self.active {
            for chunk in active.gone.drain(..) {
                self.rewants.insert(Place { entry: *entry, chunk });
            }
        }
        self.tasks.push_back(Task::LookAtSpace);
        self.ending.on_connected(&mut self.tasks);
    }

    fn on_link_lost(&mut self) {
        self.is_linked = false;
        self.settled_at = None;
        for (entry, active) in &mut self.active {
            for chunk in active.wanted.iter() {
                self.rewants.insert(Place { entry: *entry, chunk });
            }
            active.wanted.clear();
        }
        self.in_flight_bytes = 0;
        self.in_flight_count = 0;
    }

    fn on_space(&mut self, now: Instant, bytes: u64, inodes: u64) {
        self.space_due = Some(now + Duration::from_millis(SPACE_CHECK_MS));
        let missing = self.tally.known_bytes.saturating_sub(self.tally.held_bytes);
        let is_enough = bytes >= missing.min(crate::limits::IN_FLIGHT_BYTES_MAX) && (inodes > 0 || missing == 0);
        match (is_enough, self.full_since) {
            (true, _) => {
                self.full_since = None;
                for entry in std::mem::take(&mut self.to_finish) {
                    self.finish_if_whole(entry);
                }
            }
            (false, None) => self.full_since = Some(now),
            (false, Some(_)) => (),
        }
    }

    /// Something could not be written for lack of space.
    fn meet_full(&mut self, now: Instant) {
        self.full_since.get_or_insert(now);
        self.short_since.get_or_insert(now);
        self.space_due.get_or_insert(now);
    }

    /// Something was written after all.
    fn meet_room(&mut self) {
        self.short_since = None;
    }

    fn full_deadline(&self) -> Option<Instant> {
        let since = [self.full_since, self.short_since].into_iter().flatten().min()?;
        Some(since + self.settings.patience?)
    }

    /// With a receipt that is persisted and done with, what is left of the state costs nobody anything.
    fn on_state_failed(&mut self) {
        if !self.ending.give_up_closing(&mut self.tasks) {
            self.stop(StopReason::StateFailed);
        }
    }

    fn on_log_checked(&mut self, is_good: bool) {
        self.is_log_checking = false;
        if !is_good {
            self.tasks.push_back(Task::Restart);
        }
    }

    fn stop(&mut self, reason: StopReason) {
        let stop = crate::wire::Stop { reason, retry: end::retry_of(reason) };
        if self.is_linked {
            self.tasks.push_back(Task::Send(Message::Stop(stop)));
        }
        self.ending.end(&mut self.tasks, End::Stopped(reason));
    }

    fn phase(&self) -> Phase {
        if self.full_since.is_some() {
            Phase::DiskFull
        } else if !self.is_linked {
            Phase::Connecting
        } else if !self.is_consented {
            Phase::Consent
        } else if let Some(phase) = self.ending.phase() {
            phase
        } else if self.in_flight_count > 0 || !self.rewants.is_empty() {
            Phase::Transferring
        } else if self.is_adopting || self.is_checking_claims {
            Phase::Adopting
        } else if self.is_complete {
            Phase::Verifying
        } else {
            Phase::Transferring
        }
    }

    fn standing(&self) -> Standing {
        match self.settled_at {
            _ if !self.is_linked => Standing::Alone,
            Some(position) if self.record_count >= position => Standing::Settled,
            _ => Standing::Linked,
        }
    }

    /// Everything that may follow from what is known now.
    fn advance(&mut self, now: Instant) {
        if self.ending.is_over() {
            return;
        }
        if self.full_deadline().is_some_and(|deadline| now >= deadline) {
            return self.stop(StopReason::DiskFull);
        }
        self.ending.advance(&mut self.tasks, now, self.full_since.is_some());
        if self.is_consented && !self.ending.has_receipt() {
            self.examine_more();
            self.adopt_more();
            if self.is_linked {
                self.want_more();
            }
            self.settle_more(now);
            self.check_claims();
            let is_all_done = self.is_complete && self.open_files == 0 && self.claimed.is_empty();
            // What is complete before the sender has settled may be an older state of the source.
            let is_settled = self.standing() == Standing::Settled;
            if is_all_done && is_settled && self.batch.is_idle() && !self.is_checking_claims && !self.is_examining {
                // The sender hears of it at once: it can compute then what the receipt should say.
                if self.ending.finish(&mut self.tasks) {
                    self.progress_due = None;
                }
            }
        }
        if self.space_due.is_some_and(|due| now >= due) {
            self.space_due = None;
            self.tasks.push_back(Task::LookAtSpace);
        }
        self.report(now);
    }

    fn report(&mut self, now: Instant) {
        if self.progress_due.is_some_and(|due| now < due) {
            return;
        }
        self.progress_due = Some(now + Duration::from_millis(PROGRESS_MS));
        if self.is_linked {
            let tally = self.tally();
            self.tasks.push_back(Task::Send(Message::Progress(Progress {
                phase: tally.phase,
                entry: tally.entry,
                held_bytes: tally.held_bytes,
                verified_bytes: tally.verified_bytes,
                sealed_files: tally.sealed_files,
                left_out: tally.left_out,
            })));
        }
    }

    /// The entry will not be delivered.
    fn leave_out(&mut self, entry: u32, reason: Reason) {
        let is_counted = reason.counts_as_left_out();
        self.forget(entry, if is_counted { Phases::LeftOut } else { Phases::Kept });
        self.tally.left_out += u64::from(is_counted);
    }

    /// Takes a file out of everything that would still work on it.
    fn forget(&mut self, entry: u32, phase: Phases) {
        let slot = &mut self.entries[entry as usize];
        let was_open = matches!(slot.phase, Phases::Unexamined | Phases::Active | Phases::Claimed);
        slot.phase = phase;
        self.claimed.remove(&entry);
        self.to_adopt.remove(&entry);
        self.to_read_back.remove(&entry);
        self.to_finish.remove(&entry);
        if was_open {
            self.open_files -= 1;
        }
        let Some(active) = self.active.remove(&entry) else { return };
        for chunk in active.wanted.iter() {
            self.in_flight_bytes -= active.len(chunk);
            self.in_flight_count -= 1;
        }
        let (low, high) = (Place { entry, chunk: 0 }, Place { entry: entry + 1, chunk: 0 });
        while let Some(place) = self.rewants.range(low..high).next().copied() {
            self.rewants.remove(&place);
        }
        if phase != Phases::Sealed {
            self.tally.held_bytes -= active.held_bytes();
            self.tally.verified_bytes -= active.verified_bytes.min(self.tally.verified_bytes);
        }
    }
}

#[cfg(test)]
mod tests;
