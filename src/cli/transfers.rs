//! Runs one or several transfers side by side, each on a thread of its own with its own screen, and waits for all of
//! them or for a second signal. It does not know what a driver does.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use super::console::Console;
use super::failure::Failure;
use super::run::{Job, drive};
use super::screen::{Output, Screen};
use super::signals::{self, Shutdown, Signal};
use crate::disk::{Rooted, widen_descriptor_table};
use crate::error::Exit;
use crate::event::Events;
use crate::identity::{Role, TransferId};
use crate::limits::{DESCRIPTORS_AT_START, EVENTS_MAX};

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
    for labelled in jobs {
        let (disk, console, shutdown, ended) = (disk.clone(), Arc::clone(console), shutdown.clone(), ended.clone());
        let work = move || {
            // Whoever waits has room for every exit, or waits no more.
            let _ = ended.try_send(one(disk, labelled, console, output, shutdown));
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
fn one<D: Rooted>(disk: D, labelled: Labelled, console: Arc<Console>, output: Output, shutdown: Shutdown) -> Exit {
    let Labelled { label, job, shows_qr } = labelled;
    let mut screen = Screen::new(console, output, label, job.role(), shows_qr);
    let (sender, receiver) = mpsc::sync_channel(EVENTS_MAX);
    let outcome = thread::scope(|scope| {
        let shown = thread::Builder::new().name("screen".into()).spawn_scoped(scope, || screen.run(receiver));
        if let Err(error) = shown {
            return Err(Failure::new("could not start a thread", &error));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::new("could not start the network", &error))?;
        // The screen ends when the driver has dropped its events, so all of them are shown before the end is.
        runtime.block_on(drive(disk, job, Events::new(sender), shutdown))
    });
    match outcome.and_then(|concluded| concluded.close().map_err(|error| Failure::from(&error))) {
        Ok(exit) => exit,
        Err(failure) => {
            if !failure.is_silent {
                screen.fail(&failure);
            }
            failure.exit
        }
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
