//! Dialling: all addresses of a ticket, each a little after the one before it, until one answers with the right
//! key. It makes one round; when to try again is decided above.

use std::net::SocketAddr;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use quinn::{ConnectError, ConnectionError, Endpoint};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::config;
use super::error::LinkError;
use super::identity::Identity;
use super::link::{Link, NewLink};
use super::tls::SERVER_NAME;
use crate::identity::PeerKey;
use crate::limits::{DIAL_STAGGER_MS, TICKET_ADDRESSES_MAX};

/// Dials until the first link stands, all have failed, or `patience` has passed. Of several errors the most telling
/// is returned: a wrong key at one address matters more than silence at another.
pub(super) async fn dial(
    endpoint: &Endpoint,
    identity: &Arc<Identity>,
    addresses: &[SocketAddr],
    pinned: PeerKey,
    patience: Duration,
) -> Result<NewLink, LinkError> {
    let addresses = &addresses[..addresses.len().min(TICKET_ADDRESSES_MAX)];
    let deadline = Instant::now() + patience;
    let mut waiting = addresses.iter().copied();
    let mut attempts = JoinSet::new();
    let silence = || LinkError::Unreachable { addresses: addresses.to_vec() };
    let mut worst = None;
    let mut next_start = Instant::now();
    loop {
        if next_start <= Instant::now()
            && let Some(address) = waiting.next()
        {
            attempts.spawn(attempt(endpoint.clone(), identity.clone(), address, pinned));
            next_start = Instant::now() + Duration::from_millis(DIAL_STAGGER_MS);
        }
        if attempts.is_empty() && waiting.len() == 0 {
            return Err(worst.unwrap_or_else(silence));
        }
        tokio::select! {
            Some(done) = attempts.join_next() => match done {
                Ok(Ok(new)) => return Ok(new),
                Ok(Err(error)) => {
                    worst = Some(more_telling(worst, error));
                    next_start = Instant::now();
                }
                Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
                Err(_) => {}
            },
            () = sleep_until(next_start), if waiting.len() > 0 => {}
            () = sleep_until(deadline) => return Err(more_telling(worst, silence())),
        }
    }
}

async fn attempt(
    endpoint: Endpoint,
    identity: Arc<Identity>,
    address: SocketAddr,
    pinned: PeerKey,
) -> Result<NewLink, LinkError> {
    let (config, found) = config::dialler(&identity, pinned);
    let connecting = match endpoint.connect_with(config, address, SERVER_NAME) {
        Ok(connecting) => connecting,
        Err(ConnectError::EndpointStopping) => return Err(LinkError::ClosedHere),
        Err(_) => return Err(LinkError::Undialable { address }),
    };
    match connecting.await {
        Ok(connection) => Link::new(connection)?.open_control().await,
        Err(error) => match found.key() {
            Some(found) if found != pinned => Err(LinkError::WrongKey { expected: pinned, found }),
            _ if error == ConnectionError::TimedOut => Err(LinkError::Unreachable { addresses: vec![address] }),
            _ => Err(error.into()),
        },
    }
}

fn more_telling(one: Option<LinkError>, other: LinkError) -> LinkError {
    match one {
        Some(one) if telling(&one) >= telling(&other) => one,
        _ => other,
    }
}

/// How much an error tells about the peer.
fn telling(error: &LinkError) -> u8 {
    match error {
        LinkError::ClosedHere => 7,
        LinkError::WrongKey { .. } => 6,
        LinkError::OtherVersion => 5,
        LinkError::Refused(_) => 4,
        LinkError::Misbehaved(_) => 3,
        LinkError::Transport(_) | LinkError::Reset => 2,
        LinkError::Unreachable { .. } | LinkError::Silent | LinkError::Ended => 1,
        LinkError::Undialable { .. } => 0,
    }
}
