//! The only place that calls the drivers. A driver gets its options, a way to tell, and a reason to stop; what it
//! returns becomes an exit code once the screen has shown the rest.

use super::failure::Failure;
use super::signals::Shutdown;
use crate::disk::Rooted;
use crate::event::Events;
use crate::identity::Role;
use crate::options::{CommonOptions, Meeting, RecvOptions, SendOptions};
use crate::state::closing::Concluded;

/// What a driver is asked to do.
#[derive(Debug)]
pub(super) enum Job {
    /// To send.
    Send(SendOptions),
    /// To receive.
    Receive(RecvOptions),
}

impl Job {
    /// What both roles have.
    pub(super) fn common(&self) -> &CommonOptions {
        let (Job::Send(SendOptions { common, .. }) | Job::Receive(RecvOptions { common, .. })) = self;
        common
    }

    /// Whether it starts the other side by ssh.
    pub(super) fn starts_ssh(&self) -> bool {
        matches!(&self.common().meeting, Meeting::Parent { child, .. } if child.remote.is_some())
    }

    /// What this side does.
    pub(super) fn role(&self) -> Role {
        match self {
            Job::Send(_) => Role::Sender,
            Job::Receive(_) => Role::Receiver,
        }
    }
}

/// Runs a transfer to its end. What it returns is to be closed once the summary was shown.
pub(super) async fn drive<D: Rooted>(
    disk: D,
    job: Job,
    events: Events,
    shutdown: Shutdown,
) -> Result<Concluded, Failure> {
    let asked = async { i32::from(shutdown.asked().await.number) };
    let outcome = match job {
        Job::Send(options) => Box::pin(crate::send::run(disk, options, events, asked)).await,
        Job::Receive(options) => Box::pin(crate::recv::run(disk, options, events, asked)).await,
    };
    outcome.map_err(|error| Failure::from(&error))
}
