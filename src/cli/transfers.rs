//! Runs one or several transfers side by side, each on a thread of its own with its own screen, and waits for all of
//! them or for a second signal. It does not know what a driver does.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use super::console::{Console, Lent};
use super::delete::Deletion;
use super::failure::Failure;
use super::run::{Job, drive};
use super::screen::{Output, Screen};
use super::signals::{self, Shutdown, Signal};
use super::streams::{self, Held, Piped};
use crate::disk::{Rooted, widen_descriptor_table};
use crate::error::Exit;
use crate::event::Events;
use crate::identity::{Role, TransferId};
use crate::limits::{DESCRIPTORS_AT_START, EVENTS_MAX};
use crate::state::closing::Concluded;

/// Between two looks for a second signal while transfers run.
const WAIT_MS: u64 = 100;

/// A job, and its name where there are several.
#[derive(Debug)]
pub(super) struct Labelled {
    /// Which transfer; `None` if it is the only one.
    pub(super) label: Option<TransferId>,
    /// What is to be done.
    pub(super) job: Job,
    /// Its ticket is to be shown as a QR code too.
    pub(super) shows_qr: bool,
    /// The stream that it is about, if it is about one.
    pub(super) piped: Option<Piped>,
    /// What is deleted once it has succeeded.
    pub(super) deletion: Option<Deletion>,
    /// Until its first link, ssh speaks and asks on the terminal.
    pub(super) starts_ssh: bool,
}

impl Labelled {
    /// A job that is alone and of files.
    pub(super) fn of(job: Job) -> Labelled {
        let starts_ssh = job.starts_ssh();
        Labelled { label: None, job, shows_qr: false, piped: None, deletion: None, starts_ssh }
    }
}

/// Runs them all. Returns the exit code that matters most, or that of a second signal at once.
pub(super) fn run<D: Rooted>(
    disk: &D,
    jobs: Vec<Labelled>,
    console: &Arc<Console>,
    output: Output,
) -> Result<Exit, Failure> {
    if jobs.iter().any(|labelled| labelled.job.role() == Role::Receiver) {
        widen_descriptor_table(DESCRIPTORS_AT_START);
    }
    let (asker, shutdown) = Shutdown::new();
    let (second, seconds) = sync_channel(1);
    signals::watch(asker, second)?;
    let (ended, ends) = sync_channel(jobs.len());
    let mut open = jobs.len();
    // Before any of them draws.
    let lent: Vec<Option<Lent>> = jobs.iter().map(|job| job.starts_ssh.then(|| Lent::of(console))).collect();
    for (labelled, lent) in jobs.into_iter().zip(lent) {
        let (disk, console, shutdown, ended) = (disk.clone(), Arc::clone(console), shutdown.clone(), ended.clone());
        let work = move || {
            // Whoever waits has room for every exit, or waits no more.
            let _ = ended.try_send(one(disk, labelled, lent, console, output, shutdown));
        };
        let spawned = thread::Builder::new().name("transfer".into()).spawn(work);
        spawned.map_err(|error| Failure::new("could not start a thread", &error))?;
    }
    let mut exits = Vec::new();
    while open > 0 {
        match ends.recv_timeout(Duration::from_millis(WAIT_MS)) {
            Ok(exit) => {
                exits.push(exit);
                open -= 1;
            }
            Err(RecvTimeoutError::Timeout) => {
                if let Ok(Signal { number, .. }) = seconds.try_recv() {
                    return Ok(Exit::Signal(number));
                }
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    Ok(most_important(&exits))
}

/// One transfer from its options to its exit code, shown.
fn one<D: Rooted>(
    disk: D,
    labelled: Labelled,
    lent: Option<Lent>,
    console: Arc<Console>,
    output: Output,
    shutdown: Shutdown,
) -> Exit {
    let Labelled { label, job, shows_qr, piped, deletion, .. } = labelled;
    let mut screen = Screen::new(Arc::clone(&console), output, label, job.role(), shows_qr, lent);
    let outcome = streams::take(piped, &job).and_then(|held| {
        let concluded = driven(disk.clone(), job, held.as_ref(), &mut screen, &shutdown);
        let outcome = concluded.and_then(|concluded| {
            let transfer = concluded.summary.transfer;
            close(concluded, held.as_ref(), &shutdown, &console).map(|exit| (transfer, exit))
        });
        held.into_iter().for_each(Held::release);
        outcome
    });
    let outcome = match (outcome, deletion) {
        (Ok((transfer, exit)), Some(deletion)) => deletion.run(&disk, transfer, exit, &console, output, &shutdown),
        (Ok((_, exit)), None) => Ok(exit),
        (Err(failure), deletion) => {
            if deletion.is_some() {
                console.notice("nothing was deleted: that comes after everything has arrived");
            }
            Err(failure)
        }
    };
    match outcome {
        Ok(exit) => exit,
        Err(failure) => {
            if !failure.is_silent {
                screen.fail(&failure);
            }
            failure.exit
        }
    }
}

/// Drives a transfer to its end, with what has to be read before it.
fn driven<D: Rooted>(
    disk: D,
    job: Job,
    held: Option<&Held>,
    screen: &mut Screen,
    shutdown: &Shutdown,
) -> Result<Concluded, Failure> {
    let (sender, receiver) = mpsc::sync_channel(EVENTS_MAX);
    thread::scope(|scope| {
        let shown = thread::Builder::new().name("screen".into()).spawn_scoped(scope, || screen.run(receiver));
        if let Err(error) = shown {
            return Err(Failure::new("could not start a thread", &error));
        }
        let events = Events::new(sender);
        held.map_or(Ok(()), |held| held.read_in(&events, shutdown))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::new("could not start the network", &error))?;
        // The screen ends when the driver has dropped its events, so all of them are shown before the end is.
        runtime.block_on(drive(disk, job, events, shutdown.clone()))
    })
}

/// Closes a transfer, after what has to be written then.
fn close(concluded: Concluded, held: Option<&Held>, shutdown: &Shutdown, console: &Console) -> Result<Exit, Failure> {
    let written = held.map_or(Ok(()), |held| held.write_out(&concluded, shutdown, console));
    let closed = || concluded.close().map_err(|error| Failure::from(&error));
    match written {
        Ok(()) => closed(),
        Err(unwritten) if unwritten.is_over => closed().and(Err(unwritten.failure)),
        Err(unwritten) => Err(unwritten.failure),
    }
}

/// If several apply: what will not be cured first, then what another run may cure, then what was left out. A signal
/// explains all of them.
fn most_important(exits: &[Exit]) -> Exit {
    let rank = |exit: &Exit| match exit {
        Exit::Signal(_) => 6,
        Exit::Failed => 5,
        Exit::Usage => 4,
        Exit::Refused => 3,
        Exit::Again => 2,
        Exit::LeftOut => 1,
        Exit::Done => 0,
    };
    exits.iter().copied().max_by_key(rank).unwrap_or(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_that_matters_most_is_returned() {
        assert_eq!(most_important(&[]), Exit::Done);
        assert_eq!(most_important(&[Exit::Done, Exit::LeftOut]), Exit::LeftOut);
        assert_eq!(most_important(&[Exit::LeftOut, Exit::Again]), Exit::Again);
        assert_eq!(most_important(&[Exit::Again, Exit::Refused, Exit::Failed]), Exit::Failed);
        assert_eq!(most_important(&[Exit::Refused, Exit::Again]), Exit::Refused);
        assert_eq!(most_important(&[Exit::Failed, Exit::Signal(2)]), Exit::Signal(2));
    }
}
