//! How a sending run ends: with a receipt, also one of an earlier run, or with a reason.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::work::{open_producer, state_error};
use super::{Driver, Ended};
use crate::disk::{RealDisk, Rooted};
use crate::error::{Error, Exit};
use crate::event::{Event, Events, Summary};
use crate::identity::Role;
use crate::net::{CloseCode, verify_signature};
use crate::receipt::{Core, head_from_json, signing_bytes};
use crate::source::producer::{Purpose, Work};
use crate::source::roots::open_roots;
use crate::state::closing::Concluded;
use crate::state::home::Home;
use crate::state::transfer::{End as Closing, TransferRecord};
use crate::task::sender::End;
use crate::wire::{Retry, Stop, StopReason};

impl<D: Rooted> Driver<D> {
    /// Says goodbye, closes what is to be closed, and gives the result.
    pub(super) async fn conclude(mut self, ended: Ended) -> Result<Concluded, Error> {
        let code = match &ended {
            Ended::Misbehaved(_) => CloseCode::Misbehaved,
            Ended::By(End::Acknowledged) => CloseCode::Finished,
            Ended::By(End::Stopped(StopReason::Interrupted)) => CloseCode::Interrupted,
            Ended::By(End::Stopped(_)) => CloseCode::Failed,
            Ended::By(End::PeerStopped(_)) => CloseCode::Dropped,
        };
        if let Some(line) = self.line.take() {
            match code {
                CloseCode::Misbehaved => line.link.close(code),
                _ => line.close(code).await,
            }
        }
        let result = self.result(ended);
        let Driver { meet, workers, .. } = self;
        drop(workers);
        meet.finish(code).await;
        result
    }

    /// The receiver is not there any more, and what it signed is held: that is the answer.
    pub(super) async fn answer_alone(self) -> Result<Concluded, Error> {
        let Driver { disk, meet, workers, events, started, .. } = self;
        drop(workers);
        let (home, record) = (meet.home().clone(), meet.record().clone());
        let answer = answer_from_receipt(&disk, &home, &record, &events, started);
        meet.finish(CloseCode::Finished).await;
        let Concluded { exit, summary, .. } = answer?;
        Ok(Concluded::new(exit, summary, home, record, Closing::Finished))
    }

    fn result(&mut self, ended: Ended) -> Result<Concluded, Error> {
        let peer = Role::Receiver;
        match ended {
            Ended::Misbehaved(what) => Err(Error::Misbehaved { peer, what: what.to_owned() }),
            Ended::By(End::PeerStopped(stop)) => {
                if stop.reason == StopReason::Closed {
                    self.meet.close(Closing::Abandoned)?;
                }
                Err(Error::StoppedByPeer { peer, reason: stop.reason, exit: exit_of(stop) })
            }
            Ended::By(End::Stopped(StopReason::OutcomeDiffers)) => Err(Error::OutcomeDiffers),
            Ended::By(End::Stopped(StopReason::Finished)) => {
                let core = self.arrived.core();
                let date = core.map_or_else(|| "an earlier day".to_owned(), |core| date_of(core.finished.seconds));
                Err(Error::Finished { id: self.meet.record().id, date })
            }
            Ended::By(End::Stopped(_)) => Err(self.failure.take().unwrap_or(Error::OutcomeDiffers)),
            Ended::By(End::Acknowledged) => self.finish(),
        }
    }

    /// Counts one more link. The first is when the clock of the summary starts.
    pub(super) fn begin_line(&mut self) {
        if self.line_count == 0 {
            self.started = Instant::now();
        }
        self.line_count += 1;
    }

    fn finish(&mut self) -> Result<Concluded, Error> {
        let agreed = self.agreed.take().expect("what was acknowledged has been compared");
        let receipt = self.meet.home().receipt_path(agreed.core.transfer, Role::Sender);
        let summary = Summary {
            wire_bytes: self.wire_bytes.load(Ordering::Relaxed),
            reused: self.reused,
            attributes_not_applied: agreed.told.tally.attributes_not_applied,
            renamed: agreed.told.tally.renamed,
            elapsed: self.started.elapsed(),
            ..Summary::of(&agreed.core, Role::Sender, receipt)
        };
        agreed.tell_exceptions(&self.log, &self.events).map_err(|source| state_error(&self.meet, source))?;
        let (exit, summary) = told(summary, &self.events);
        let (home, record) = (self.meet.home().clone(), self.meet.record().clone());
        Ok(Concluded::new(exit, summary, home, record, Closing::Finished))
    }
}

/// What follows from a peer that stops.
fn exit_of(stop: Stop) -> Exit {
    match (stop.retry, stop.reason) {
        (Retry::Later, _) => Exit::Again,
        (Retry::Never, StopReason::Closed | StopReason::Declined) => Exit::Refused,
        (Retry::Never, _) => Exit::Failed,
    }
}

/// The error of a run that a signal has stopped.
pub(super) fn interrupted(number: i32) -> Error {
    let name = match number {
        1 => "SIGHUP",
        2 => "SIGINT",
        15 => "SIGTERM",
        _ => "a signal",
    };
    Error::Interrupted { name, number: u8::try_from(number).unwrap_or(u8::MAX) }
}

/// Tells the summary.
fn told(summary: Summary, events: &Events) -> (Exit, Box<Summary>) {
    let summary = Box::new(summary);
    events.emit(Event::Summary(summary.clone()));
    (summary.exit(), summary)
}

/// A finished transfer is asked for again: if the source still is what was sent, its receipt is the answer.
pub(super) fn answer_from_receipt<D: Rooted>(
    disk: &D,
    home: &Home<RealDisk>,
    record: &TransferRecord,
    events: &Events,
    started: Instant,
) -> Result<Concluded, Error> {
    let path = home.receipt_path(record.id, Role::Sender);
    let damaged = || Error::Local {
        what: "receipt",
        object: path.clone(),
        problem: "is missing or cannot be read",
        source: None,
    };
    let (core, _signature) = head(home, record)?.ok_or_else(damaged)?;
    let (roots, _notices) = open_roots(disk, &record.paths)?;
    let (mut producer, _found) = open_producer(disk, home, record, roots, Purpose::Compare)?;
    while !matches!(producer.step()?.work, Work::Settled(_)) {}
    if producer.differs() {
        return Err(Error::Finished { id: record.id, date: date_of(core.finished.seconds) });
    }
    let summary = Summary { elapsed: started.elapsed(), ..Summary::of(&core, Role::Sender, path) };
    let (exit, summary) = told(summary, events);
    Ok(Concluded::before(exit, summary))
}

/// Whether a run before this one stored the receipt of this transfer, signed by its receiver, and did not get to
/// close the transfer.
pub(super) fn holds_receipt(home: &Home<RealDisk>, record: &TransferRecord) -> Result<bool, Error> {
    let Some(peer) = record.peer else { return Ok(false) };
    Ok(head(home, record)?.is_some_and(|(core, signature)| {
        let is_ours = core.transfer == record.id && core.receiver == peer;
        is_ours && verify_signature(&peer, &signing_bytes(&core.encode()), &signature)
    }))
}

/// The head of the receipt that this side has stored. `None` if there is none that can be read.
fn head(home: &Home<RealDisk>, record: &TransferRecord) -> Result<Option<(Core, [u8; 64])>, Error> {
    let Some(mut receipt) = home.open_receipt(record.id, Role::Sender)? else { return Ok(None) };
    let path = || home.receipt_path(record.id, Role::Sender);
    let line = match receipt.line() {
        Ok(line) => line,
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => None,
        Err(source) => return Err(Error::State { path: path(), source }),
    };
    let read = line.and_then(|line| head_from_json(&line).ok());
    Ok(read.and_then(|(core, signature)| Some((Core::decode(&core).ok()?, signature))))
}

/// A date as people write it, in UTC.
fn date_of(seconds: i64) -> String {
    let date = jiff::Timestamp::from_second(seconds);
    date.map_or_else(
        |_| format!("{seconds} seconds after 1970"),
        |date| date.strftime("%Y-%m-%d %H:%M UTC").to_string(),
    )
}
