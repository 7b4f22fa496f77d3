//! The listener's front door: many strangers at once, none of whom may slow another or hold much. Each gets one
//! deadline, armed before anything is read, for the handshake and its first frame together. When all places are
//! taken the oldest stranger makes room: whoever is honest needs a few round trips, whoever holds places needs to
//! keep coming. It does not judge keys or proofs: the driver does, on links that this hands over.

use std::collections::VecDeque;
use std::panic::resume_unwind;
use std::time::Duration;

use quinn::{Endpoint, Incoming};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use super::error::{CloseCode, LinkError};
use super::link::{Link, NewLink};
use crate::limits::{HELLO_BYTES_MAX, INCOMING_MAX, INCOMING_RETRY_MIN};

/// Runs the front door of an endpoint until the endpoint closes or nobody takes links any more.
pub(super) struct FrontDoor {
    endpoint: Endpoint,
    deadline: Duration,
    ready: mpsc::Sender<NewLink>,
    strangers: JoinSet<()>,
    /// The same tasks, oldest first; finished ones are removed when another comes.
    order: VecDeque<AbortHandle>,
}

impl FrontDoor {
    pub(super) fn new(endpoint: Endpoint, deadline: Duration, ready: mpsc::Sender<NewLink>) -> FrontDoor {
        FrontDoor { endpoint, deadline, ready, strangers: JoinSet::new(), order: VecDeque::new() }
    }

    pub(super) async fn run(mut self) {
        loop {
            tokio::select! {
                incoming = self.endpoint.accept() => match incoming {
                    Some(incoming) => self.admit(incoming),
                    None => return,
                },
                Some(done) = self.strangers.join_next() => pass_on_panic(done),
                () = self.ready.closed() => return,
            }
        }
    }

    fn admit(&mut self, incoming: Incoming) {
        self.order.retain(|task| !task.is_finished());
        if self.order.len() >= INCOMING_RETRY_MIN && !incoming.remote_address_validated() {
            // From here on an address must show that it receives what is sent to it, so that places cannot be taken
            // with forged ones.
            if let Err(error) = incoming.retry() {
                error.into_incoming().refuse();
            }
            return;
        }
        if self.order.len() >= INCOMING_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            debug!("all places are taken: the oldest stranger makes room");
            oldest.abort();
        }
        let meeting = meet(incoming, Instant::now() + self.deadline, self.ready.clone());
        self.order.push_back(self.strangers.spawn(meeting));
    }
}

fn pass_on_panic(done: Result<(), JoinError>) {
    if let Err(error) = done
        && error.is_panic()
    {
        resume_unwind(error.into_panic());
    }
}

/// Brings one stranger as far as its first frame, and hands it over.
async fn meet(incoming: Incoming, deadline: Instant, ready: mpsc::Sender<NewLink>) {
    let address = incoming.remote_address();
    let connection = match incoming.accept() {
        Ok(connecting) => timeout_at(deadline, connecting).await,
        Err(error) => Ok(Err(error)),
    };
    let link = match connection {
        Ok(Ok(connection)) => Link::new(connection),
        Ok(Err(error)) => Err(error.into()),
        // Dropping the attempt tells the peer.
        Err(_) => return debug!(%address, "the handshake took too long"),
    };
    let link = match link {
        Ok(link) => link,
        Err(error) => return debug!(%address, %error, "no handshake"),
    };
    let new = match timeout_at(deadline, first_frame(&link)).await {
        Ok(Ok(new)) => new,
        Ok(Err(error)) => {
            debug!(%address, %error, "no first frame");
            return link.close(CloseCode::Misbehaved);
        }
        Err(_) => return link.close(CloseCode::TooSlow),
    };
    match timeout_at(deadline, ready.reserve()).await {
        Ok(Ok(place)) => place.send(new),
        // The driver is gone, or has had no time for newcomers.
        Ok(Err(_)) | Err(_) => link.close(CloseCode::Busy),
    }
}

async fn first_frame(link: &Link) -> Result<NewLink, LinkError> {
    let mut new = link.accept_control().await?;
    new.receiver.look_ahead(HELLO_BYTES_MAX).await?;
    Ok(new)
}
