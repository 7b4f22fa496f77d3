//! Signals that stop a run: the first one asks, the second one ends the process at once. What stopping means is the
//! drivers' business.

use std::io;
use std::sync::mpsc::SyncSender;
use std::thread;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::failure::Failure;
use crate::state::given::read_text;

/// Bytes of what the kernel says about this process.
const STATUS_BYTES_MAX: usize = 64 << 10;

/// A signal that stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Signal {
    /// Its name.
    pub(super) name: &'static str,
    /// Its number.
    pub(super) number: u8,
}

/// Ctrl-C.
pub(super) const INTERRUPT: Signal = Signal { name: "SIGINT", number: 2 };
/// A polite `kill`.
pub(super) const TERMINATE: Signal = Signal { name: "SIGTERM", number: 15 };
/// The terminal is gone.
pub(super) const HANG_UP: Signal = Signal { name: "SIGHUP", number: 1 };

/// Resolves once a signal has come.
#[derive(Clone, Debug)]
pub(super) struct Shutdown(watch::Receiver<Option<Signal>>);

/// Asks for a shutdown from inside the program.
#[derive(Clone, Debug)]
pub(super) struct Asker(watch::Sender<Option<Signal>>);

impl Asker {
    /// Asks; only the first reason counts. Says whether it was the first.
    pub(super) fn ask(&self, signal: Signal) -> bool {
        self.0.send_if_modified(|asked| {
            let is_first = asked.is_none();
            asked.get_or_insert(signal);
            is_first
        })
    }
}

impl Shutdown {
    /// A shutdown and who may ask for it.
    pub(super) fn new() -> (Asker, Shutdown) {
        let (sender, receiver) = watch::channel(None);
        (Asker(sender), Shutdown(receiver))
    }

    /// The reason to stop, if there is one by now.
    pub(super) fn now(&self) -> Option<Signal> {
        *self.0.borrow()
    }

    /// Waits for the reason to stop.
    pub(super) async fn asked(mut self) -> Signal {
        loop {
            if let Some(signal) = *self.0.borrow_and_update() {
                return signal;
            }
            if self.0.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

/// Watches from now on: the first signal asks for a shutdown, the second one goes to `second`.
pub(super) fn watch(asker: Asker, second: SyncSender<Signal>) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::new("could not prepare for signals", &error);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(failed)?;
    let guard = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    // A program started with SIGHUP ignored is meant to outlive its terminal (nohup).
    let mut hang_up = match is_hang_up_ignored() {
        true => None,
        false => Some(signal(SignalKind::hangup()).map_err(failed)?),
    };
    drop(guard);
    let watching = async move {
        loop {
            let came = tokio::select! {
                _ = interrupt.recv() => INTERRUPT,
                _ = terminate.recv() => TERMINATE,
                () = next(&mut hang_up) => HANG_UP,
            };
            if !asker.ask(came) {
                // Nobody listens any more: the process ends anyway.
                let _ = second.try_send(came);
            }
        }
    };
    let spawned = thread::Builder::new().name("signals".into()).spawn(move || runtime.block_on(watching));
    spawned.map(drop).map_err(failed)
}

async fn next(signal: &mut Option<tokio::signal::unix::Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// Whether this process was started with SIGHUP ignored, as the kernel says.
fn is_hang_up_ignored() -> bool {
    let status = read_text("/proc/self/status".as_ref(), STATUS_BYTES_MAX).unwrap_or_default();
    is_ignored(&status, HANG_UP)
}

fn is_ignored(status: &str, signal: Signal) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal.number - 1) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ignored_signal_is_found_in_the_mask() {
        let status = "Name:\tlandfall\nSigIgn:\t0000000000001001\n";
        assert!(is_ignored(status, HANG_UP));
        assert!(!is_ignored(status, INTERRUPT));
        assert!(!is_ignored("", HANG_UP));
    }

    #[test]
    fn the_first_reason_to_stop_counts_for_everybody() {
        let (asker, shutdown) = Shutdown::new();
        assert!(asker.ask(TERMINATE) && !asker.ask(INTERRUPT));
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let signal =
            runtime.map(|runtime| runtime.block_on(async { (shutdown.clone().asked().await, shutdown.asked().await) }));
        assert_eq!(signal.ok(), Some((TERMINATE, TERMINATE)));
    }
}
