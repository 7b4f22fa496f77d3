//! The exchange of hellos on one link, on both sides, each as a task with a deadline. Judging is not done here.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::timeout;

use super::{HelloExtras, Met, fate};
use crate::identity::{Meeting, Role, Secret};
use crate::limits::{HANDSHAKE_MS_MAX, HELLO_BYTES_MAX};
use crate::net::{ControlSender, Identity, Link, LinkError, NewLink};
use crate::session::admission::{self, Refusal};
use crate::state::transfer::TransferRecord;
use crate::wire::{FEATURE_RENAMED, FEATURE_REUSED, Hello, MINOR, Message, Stop};

const DEADLINE: Duration = Duration::from_millis(HANDSHAKE_MS_MAX);
/// Bytes of a host name in a hello.
const HOST_BYTES_MAX: usize = 255;

/// A dialler that has said its hello, or something else.
#[derive(Debug)]
pub(super) struct Introduced {
    pub(super) new: NewLink,
    pub(super) said: Result<Hello, LinkError>,
}

/// Why an exchange of hellos did not end with a link.
#[derive(Debug)]
pub(super) enum GreetFailure {
    /// The link was refused or lost.
    Link(LinkError),
    /// The peer said in place of its hello that it stops.
    Stopped(Stop),
    /// The peer's hello does not go with this side's.
    Unfit(Refusal),
}

impl From<LinkError> for GreetFailure {
    fn from(error: LinkError) -> GreetFailure {
        GreetFailure::Link(error)
    }
}

/// This side's hello. A dialler that has the secret proves it, for this link only.
pub(super) fn hello(
    identity: &Identity,
    record: &TransferRecord,
    secret: Option<&Secret>,
    link: &Link,
    addresses: Vec<SocketAddr>,
    extras: HelloExtras,
) -> Hello {
    let proof = secret.filter(|_| record.side.dials()).map(|secret| {
        let (listener, dialler) = (link.peer_key(), identity.public_key());
        let meeting = Meeting { exporter: link.exporter(), listener, dialler, dialler_role: record.role };
        secret.proof(&meeting).to_bytes()
    });
    Hello {
        minor: MINOR,
        features: if record.role == Role::Sender { FEATURE_REUSED | FEATURE_RENAMED } else { 0 },
        role: record.role,
        transfer: record.id,
        proof,
        chunk_bytes: extras.chunk_bytes,
        addresses,
        ladder: extras.ladder,
        has_receipt: extras.has_receipt,
        host: host_name(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// This machine's name, for screens and receipts.
pub(super) fn host_name() -> String {
    let system = rustix::system::uname();
    let mut name = system.nodename().to_string_lossy().into_owned();
    while name.len() > HOST_BYTES_MAX {
        name.pop();
    }
    name
}

/// Listener: reads the dialler's hello, which has arrived already.
pub(super) async fn introduce(mut new: NewLink) -> Introduced {
    let said = match timeout(DEADLINE, first(&mut new)).await {
        Ok(Ok(Message::Hello(hello))) => Ok(hello),
        Ok(Ok(_)) => Err(LinkError::Misbehaved("its first message is no hello")),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(LinkError::Silent),
    };
    Introduced { new, said }
}

/// Listener: answers a dialler that is admitted.
pub(super) async fn answer(new: NewLink, ours: Hello, theirs: Hello) -> Result<Met, GreetFailure> {
    let NewLink { link, mut sender, receiver } = new;
    let role = ours.role;
    let sent = timeout(DEADLINE, sender.send(&Message::Hello(ours).encode())).await;
    sent.map_err(|_| LinkError::Silent)??;
    link.raise_windows(role);
    Ok(Met { link, sender, receiver, hello: theirs })
}

/// Dialler: says hello and waits for the answer, which is the first proof that it was admitted.
pub(super) async fn call(mut new: NewLink, ours: Hello) -> Result<Met, GreetFailure> {
    let (role, transfer, chunk_bytes) = (ours.role, ours.transfer, ours.chunk_bytes);
    let exchange = async {
        new.sender.send(&Message::Hello(ours).encode()).await?;
        first(&mut new).await
    };
    let theirs = match timeout(DEADLINE, exchange).await.map_err(|_| LinkError::Silent)?? {
        Message::Hello(hello) => hello,
        Message::Stop(stop) => return Err(GreetFailure::Stopped(stop)),
        _ => return Err(LinkError::Misbehaved("its first message is no hello").into()),
    };
    if let Err(refusal) = admission::accept(role, transfer, chunk_bytes, &theirs) {
        new.link.close(fate::code(refusal));
        return Err(GreetFailure::Unfit(refusal));
    }
    let NewLink { link, sender, receiver } = new;
    link.raise_windows(role);
    Ok(Met { link, sender, receiver, hello: theirs })
}

/// Tells the peer, in place of a hello or after one, that this side stops.
pub(super) async fn say_stop(sender: &mut ControlSender, stop: Stop) -> Result<(), GreetFailure> {
    let farewell = async {
        sender.send(&Message::Stop(stop).encode()).await?;
        sender.finish().await
    };
    Ok(timeout(DEADLINE, farewell).await.map_err(|_| LinkError::Silent)??)
}

async fn first(new: &mut NewLink) -> Result<Message, LinkError> {
    let frame = new.receiver.recv(HELLO_BYTES_MAX).await?;
    Message::decode(&frame).map_err(|_| LinkError::Misbehaved("its first message cannot be read"))
}
