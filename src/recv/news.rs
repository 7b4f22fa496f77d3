//! What the receiver's driver tells the face: progress with whom it waits for, entries left out, wrong bytes met.

use std::time::{Duration, Instant};

use crate::disk::Disk;
use crate::error::{Error, Exit};
use crate::event::{Event, Events, Found, Notice, Snapshot, WaitsFor};
use crate::geometry::EntryIndex;
use crate::identity::{PeerKey, Role};
use crate::limits::STALL_MS;
use crate::manifest::Record;
use crate::net::CloseCode;
use crate::outcome::Reason;
use crate::path::RelPath;
use crate::session::receiver::Receiver;
use crate::store::{Observed, Shared};
use crate::task::receiver::{Disposition, Input, Noted, OtherKind, SettleResult, Tally};
use crate::wire::{Phase, StopReason};

/// Follows a run for the face.
pub(super) struct Watch {
    events: Events,
    /// Body bytes that came over the wire.
    pub(super) wire_bytes: u64,
    /// The sender's key and host name, once it was met.
    pub(super) sender: Option<(PeerKey, String)>,
    /// When it was met first.
    pub(super) since: Option<Instant>,
    /// Entries of the log that were told to the face.
    entries: u32,
    /// Entries left out whose path could not be read from the log when they were.
    untold: Vec<(EntryIndex, Reason, Role)>,
    is_full_told: bool,
    moved: Moved,
    moved_at: Instant,
}

/// What counts as movement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Moved {
    held_bytes: u64,
    verified_bytes: u64,
    sealed_files: u64,
    wire_bytes: u64,
    known_files: u64,
    entries: u32,
}

impl Watch {
    pub(super) fn new(events: Events, now: Instant) -> Watch {
        Watch {
            events,
            wire_bytes: 0,
            sender: None,
            since: None,
            entries: 0,
            untold: vec![],
            is_full_told: false,
            moved: Moved::default(),
            moved_at: now,
        }
    }

    /// There is a link to the sender, perhaps one more.
    pub(super) fn linked(&mut self, sender: PeerKey, host: &str) {
        self.sender = Some((sender, host.to_owned()));
        self.since.get_or_insert_with(Instant::now);
    }

    /// State files that were damaged, and what follows.
    pub(super) fn tell_damage(&self, is_log_cut: bool, is_journal_cut: bool) {
        let tell = |what, instead| self.events.emit(Event::Notice(Notice::StateRebuilt { what, instead }));
        if is_log_cut {
            tell("manifest", "the sender sends the missing records again");
        }
        if is_journal_cut {
            tell("journal", "what is in staging is read and compared again");
        }
    }

    /// Progress, with the stall if there is one.
    pub(super) fn progress<D: Disk>(&mut self, now: Instant, brain: &Receiver, shared: &Shared<D>, is_linked: bool) {
        let tally = brain.tally();
        let moved = Moved {
            held_bytes: tally.held_bytes,
            verified_bytes: tally.verified_bytes,
            sealed_files: tally.sealed_files,
            wire_bytes: self.wire_bytes,
            known_files: tally.known_files,
            entries: self.entries,
        };
        if moved != self.moved {
            self.moved = moved;
            self.moved_at = now;
        }
        let idle = now.saturating_duration_since(self.moved_at);
        let is_stalled = idle >= Duration::from_millis(STALL_MS);
        self.tell_untold(shared);
        self.tell_space(&tally, shared);
        self.events.emit(Event::Progress(Snapshot {
            phase: tally.phase,
            object: tally.entry.and_then(|entry| path_of(shared, entry)),
            known_bytes: tally.known_bytes,
            known_files: tally.known_files,
            is_total: tally.is_total,
            hashed_bytes: 0,
            held_bytes: tally.held_bytes,
            verified_bytes: tally.verified_bytes,
            sealed_files: tally.sealed_files,
            wire_bytes: self.wire_bytes,
            stalled: is_stalled.then(|| (idle, self.waits_for(&tally, is_linked))),
        }));
    }

    fn waits_for(&self, tally: &Tally, is_linked: bool) -> WaitsFor {
        match tally.phase {
            Phase::DiskFull => WaitsFor::Space,
            _ if self.sender.is_none() => WaitsFor::Peer,
            _ if !is_linked => WaitsFor::Link,
            Phase::Consent => WaitsFor::Consent,
            Phase::Receipt => WaitsFor::Acknowledgement,
            _ if tally.in_flight_bytes > 0 => WaitsFor::Network,
            _ if tally.is_settling || tally.is_total => WaitsFor::ReceiverDisk,
            _ => WaitsFor::SenderDisk,
        }
    }

    fn tell_space<D: Disk>(&mut self, tally: &Tally, shared: &Shared<D>) {
        let is_full = tally.phase == Phase::DiskFull;
        if is_full == self.is_full_told {
            return;
        }
        self.is_full_told = is_full;
        let missing_bytes = missing_bytes(tally, shared);
        let notice = if is_full { Notice::DiskFull { missing_bytes } } else { Notice::DiskFreed };
        self.events.emit(Event::Notice(notice));
    }

    /// Records that came.
    pub(super) fn noted<D: Disk>(&mut self, shared: &Shared<D>, notes: &[Noted]) {
        for noted in notes {
            match noted {
                Noted::Other { kind: OtherKind::LeftOut(reason) } => {
                    self.tell_left_out(shared, EntryIndex(self.entries), *reason, Role::Sender);
                    self.entries += 1;
                }
                Noted::Other { .. } | Noted::File { .. } => self.entries += 1,
                _ => (),
            }
        }
    }

    /// The log was replayed up to so many entries. What is left out is found and told anew.
    pub(super) fn replayed(&mut self, entries: u32) {
        self.entries = entries;
        self.untold.clear();
    }

    /// Looks for entries that are left out, and for chunks that differed.
    pub(super) fn look_at<D: Disk>(&mut self, shared: &Shared<D>, input: &Input) {
        match input {
            Input::Examined(first, found) => {
                for (entry, disposition) in (first.0..).zip(found) {
                    if let Disposition::LeftOut(reason) = disposition {
                        self.left_out(shared, EntryIndex(entry), *reason);
                    }
                }
            }
            Input::ClaimsExamined(found) => {
                for (entry, disposition) in found {
                    if let Disposition::LeftOut(reason) = disposition {
                        self.left_out(shared, *entry, *reason);
                    }
                }
            }
            Input::Adopted(items) => {
                for item in items {
                    if let Some(reason) = item.refused {
                        self.left_out(shared, item.entry, reason);
                    }
                }
            }
            Input::BatchSettled(files) => {
                for file in files {
                    if let SettleResult::LeftOut(reason) = file.result {
                        self.left_out(shared, file.entry, reason);
                    }
                }
            }
            Input::Renewed(entry, Err(reason)) => self.left_out(shared, *entry, *reason),
            Input::Differed(chunk) => {
                let offset = u64::from(chunk.chunk) * u64::from(crate::limits::CHUNK_BYTES);
                self.tell_mismatch(shared, EntryIndex(chunk.entry), offset, Found::Arrival);
            }
            _ => (),
        }
    }

    /// Wrong bytes that a read-back met.
    pub(super) fn observed<D: Disk>(&self, shared: &Shared<D>, observed: &[Observed]) {
        for one in observed {
            self.tell_mismatch(shared, one.entry, one.offset, one.found);
        }
    }

    /// An entry is left out on this side.
    pub(super) fn left_out<D: Disk>(&mut self, shared: &Shared<D>, entry: EntryIndex, reason: Reason) {
        self.tell_left_out(shared, entry, reason, Role::Receiver);
    }

    fn tell_left_out<D: Disk>(&mut self, shared: &Shared<D>, entry: EntryIndex, reason: Reason, side: Role) {
        match path_of(shared, entry) {
            Some(path) => self.events.emit(Event::LeftOut { path, reason, side }),
            None => self.untold.push((entry, reason, side)),
        }
    }

    /// Names what could not be named before. Before the last word there is no other time for it.
    pub(super) fn tell_untold<D: Disk>(&mut self, shared: &Shared<D>) {
        for (entry, reason, side) in std::mem::take(&mut self.untold) {
            self.tell_left_out(shared, entry, reason, side);
        }
    }

    fn tell_mismatch<D: Disk>(&self, shared: &Shared<D>, entry: EntryIndex, offset: u64, found: Found) {
        if let Some(path) = path_of(shared, entry) {
            self.events.emit(Event::Mismatch { path, offset, found });
        }
    }
}

/// Bytes that are still to come and for which there is no room.
pub(super) fn missing_bytes<D: Disk>(tally: &Tally, shared: &Shared<D>) -> u64 {
    let wanted = tally.known_bytes.saturating_sub(tally.held_bytes);
    wanted.saturating_sub(shared.space().map_or(0, |space| space.bytes_free)).max(1)
}

fn path_of<D: Disk>(shared: &Shared<D>, entry: EntryIndex) -> Option<RelPath> {
    shared.with_log(|log| log.introduction(entry)).ok().as_ref().and_then(Record::path).cloned()
}

/// What a stop of the sender means for the exit code here.
pub(super) fn exit_of_stop(reason: StopReason) -> Exit {
    match reason {
        StopReason::Interrupted | StopReason::DiskFull | StopReason::SyncFailed | StopReason::StateFailed => {
            Exit::Again
        }
        StopReason::Declined | StopReason::Closed => Exit::Refused,
        _ => Exit::Failed,
    }
}

/// A signal, by its number.
pub(super) fn interrupted(number: i32) -> Error {
    let number = u8::try_from(number).unwrap_or(15);
    let name = match number {
        1 => "SIGHUP",
        2 => "SIGINT",
        _ => "SIGTERM",
    };
    Error::Interrupted { name, number }
}

/// What the sender hears when this side ends with an error.
pub(super) fn close_code(error: &Error) -> CloseCode {
    match error {
        Error::Interrupted { .. } | Error::DiskFull { .. } | Error::SyncFailed { .. } => CloseCode::Interrupted,
        Error::Misbehaved { .. } => CloseCode::Misbehaved,
        Error::Declined => CloseCode::Declined,
        Error::StoppedByPeer { .. } | Error::RefusedByPeer { .. } | Error::NoLink { .. } | Error::ParentGone => {
            CloseCode::Dropped
        }
        _ => CloseCode::Failed,
    }
}
