//! A relay above the encryption: it holds the private keys of both sides, so that to each it is the other. What no
//! cipher guards any more is altered here: bytes in the memory of a sender that has hashed them, bytes in the memory of
//! a receiver that has not yet, whole messages.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use landfall::identity::{Role, Secret};
use landfall::limits::{CHUNK_BYTES, FRAME_BYTES_MAX};
use landfall::net::{
    Accept, CloseCode, ControlReceiver, ControlSender, DataReceiver, DataSender, Endpoint, Identity, Limiter, Link,
    LinkError, NewLink, Next,
};
use landfall::ticket::Ticket;
use landfall::wire::{Body, CHUNK_HEADER_BYTES, ChunkHeader, Message};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// How long a listener that is not there is dialled.
const DIAL_PATIENCE: Duration = Duration::from_secs(5);
/// How long the last frames of a side that ended have to arrive at the other.
const FAREWELL: Duration = Duration::from_millis(300);

/// Who alters what passes.
pub trait Meddler: Send + 'static {
    /// A chunk with bytes, on its way to the receiver.
    fn chunk(&mut self, _header: &mut ChunkHeader, _body: &mut Vec<u8>) {}

    /// A control message on its way to that role: what passes in its place.
    fn message(&mut self, _to: Role, message: Message) -> Vec<Message> {
        vec![message]
    }
}

/// The keys and the place of a relay.
pub struct Between<'a> {
    /// Where the dialling side finds it: the address of its ticket.
    pub front: SocketAddr,
    /// Where the listening side is.
    pub back: SocketAddr,
    /// Home of the side that listens.
    pub listener_home: &'a Path,
    /// Home of the side that dials.
    pub dialler_home: &'a Path,
    /// The ticket that the dialling side was given.
    pub ticket: &'a Path,
    /// What the side that dials does.
    pub dialler: Role,
}

/// A relay that runs until it is dropped.
pub struct Above<M> {
    meddler: Arc<Mutex<M>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct Relay<M> {
    front: SocketAddr,
    back: SocketAddr,
    listener: Arc<Identity>,
    dialler: Arc<Identity>,
    secret: Secret,
    dialler_role: Role,
    meddler: Arc<Mutex<M>>,
}

impl<M: Meddler> Above<M> {
    /// Puts itself between two sides.
    pub fn start(between: &Between<'_>, meddler: M) -> Result<Above<M>, String> {
        let identity = |home: &Path| {
            let loaded = Identity::load_or_create(&home.join("identity"));
            loaded.map(Arc::new).map_err(|error| format!("the identity in {}: {error}", home.display()))
        };
        let text = std::fs::read_to_string(between.ticket).map_err(|error| format!("the ticket: {error}"))?;
        let ticket = Ticket::decode(text.trim()).map_err(|error| format!("the ticket: {error}"))?;
        let meddler = Arc::new(Mutex::new(meddler));
        let relay = Relay {
            front: between.front,
            back: between.back,
            listener: identity(between.listener_home)?,
            dialler: identity(between.dialler_home)?,
            secret: ticket.secret,
            dialler_role: between.dialler,
            meddler: Arc::clone(&meddler),
        };
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime needs nothing that could lack");
            runtime.block_on(async {
                tokio::select! {
                    () = relay.run(ready) => (),
                    _ = stopped => (),
                }
            });
        });
        let bound = is_ready.recv().map_err(|_| "the relay has ended at once".to_owned())?;
        bound.map_err(|error| format!("the relay's socket: {error}"))?;
        Ok(Above { meddler, stop: Some(stop), thread: Some(thread) })
    }

    /// Who meddles, to be asked or told something.
    pub fn meddler(&self) -> MutexGuard<'_, M> {
        self.meddler.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M> Drop for Above<M> {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // Nobody hears it if the thread has ended already.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            // Its panic has been told by the hook.
            let _ = thread.join();
        }
    }
}

/// Both links of one connection, each with its control stream.
struct Pair {
    near: NewLink,
    far: NewLink,
}

impl<M: Meddler> Relay<M> {
    async fn run(&self, ready: std::sync::mpsc::Sender<Result<(), String>>) {
        let bound = Endpoint::bind(self.front, Arc::clone(&self.listener), Accept::Incoming);
        let any = SocketAddr::new(self.back.ip(), 0);
        let out = Endpoint::bind(any, Arc::clone(&self.dialler), Accept::Nothing);
        let (mut front, out) = match (bound, out) {
            (Ok(front), Ok(out)) => (front, out),
            (Err(error), _) | (_, Err(error)) => {
                drop(ready.send(Err(error.to_string())));
                return;
            }
        };
        drop(ready.send(Ok(())));
        while let Some(near) = front.accept().await {
            let link = near.link.clone();
            match self.join(&out, near).await {
                Ok(pair) => self.pass(pair).await,
                Err(_) => link.close(CloseCode::Dropped),
            }
        }
    }

    /// Dials the listener in the dialler's name, and passes the dialler's hello on with a proof for that link.
    async fn join(&self, out: &Endpoint, mut near: NewLink) -> Result<Pair, LinkError> {
        let frame = near.receiver.recv(FRAME_BYTES_MAX).await?;
        let mut far = out.dial(&[self.back], self.listener.public_key(), DIAL_PATIENCE).await?;
        let message = match Message::decode(&frame) {
            Ok(Message::Hello(mut hello)) => {
                let meeting = far.link.meeting(self.dialler.public_key(), self.dialler_role);
                hello.proof = hello.proof.map(|_| self.secret.proof(&meeting).to_bytes());
                hello.addresses.clear();
                Message::Hello(hello)
            }
            Ok(other) => other,
            Err(_) => return Err(LinkError::Misbehaved("its first message cannot be read")),
        };
        for message in self.meddle(self.dialler_role.other(), message) {
            far.sender.send(&message.encode()).await?;
        }
        near.link.raise_windows(self.dialler_role.other());
        far.link.raise_windows(self.dialler_role);
        Ok(Pair { near, far })
    }

    fn meddle(&self, to: Role, message: Message) -> Vec<Message> {
        self.meddler.lock().unwrap_or_else(PoisonError::into_inner).message(to, message)
    }

    /// Passes everything on until one of the links is gone, then lets go of the other with the same code.
    async fn pass(&self, pair: Pair) {
        let Pair { near, far } = pair;
        let (near_link, far_link) = (near.link.clone(), far.link.clone());
        let (sender, receiver) = match self.dialler_role {
            Role::Sender => (&near_link, &far_link),
            Role::Receiver => (&far_link, &near_link),
        };
        let mut passing = std::pin::pin!(async {
            tokio::join!(
                self.control(self.dialler_role.other(), near.receiver, far.sender),
                self.control(self.dialler_role, far.receiver, near.sender),
                self.data(sender, receiver),
            );
        });
        let (error, other) = tokio::select! {
            error = near_link.closed() => (error, &far_link),
            error = far_link.closed() => (error, &near_link),
            () = &mut passing => return,
        };
        // What the side that closed has said before is still on its way.
        drop(tokio::time::timeout(FAREWELL, passing).await);
        other.close(match error {
            LinkError::Refused(code) => code,
            _ => CloseCode::Dropped,
        });
    }

    async fn control(&self, to: Role, mut from: ControlReceiver, mut into: ControlSender) {
        while let Ok(frame) = from.recv(FRAME_BYTES_MAX).await {
            let messages = match Message::decode(&frame) {
                Ok(Message::Hello(mut hello)) => {
                    // Nobody is to find a way around this relay.
                    hello.addresses.clear();
                    self.meddle(to, Message::Hello(hello))
                }
                Ok(message) => self.meddle(to, message),
                Err(_) => vec![],
            };
            for message in messages {
                if into.send(&message.encode()).await.is_err() {
                    return std::future::pending().await;
                }
            }
        }
        // The end of the stream passes on as well; that the link is gone is met elsewhere.
        drop(tokio::time::timeout(FAREWELL, into.finish()).await);
        std::future::pending().await
    }

    async fn data(&self, sender: &Link, receiver: &Link) {
        let mut streams = JoinSet::new();
        while let Ok(from) = sender.accept_data(&Limiter::default()).await {
            let Ok(into) = receiver.open_data(&Limiter::default()).await else { break };
            streams.spawn(pump(from, into, Arc::clone(&self.meddler)));
        }
        std::future::pending().await
    }
}

/// Passes chunks on until their stream ends or breaks.
async fn pump<M: Meddler>(mut from: DataReceiver, mut into: DataSender, meddler: Arc<Mutex<M>>) {
    loop {
        let mut bytes = [0; CHUNK_HEADER_BYTES];
        match from.read_header(&mut bytes).await {
            Ok(Next::Header) => (),
            Ok(Next::End) => return into.finish(),
            Err(_) => return,
        }
        let Ok(mut header) = ChunkHeader::decode(&bytes, CHUNK_BYTES) else { return };
        let mut body = None;
        if let Body::Bytes(length) = header.body {
            let Ok(read) = from.read_body(length as usize).await else { return };
            let mut read = read.to_vec();
            meddler.lock().unwrap_or_else(PoisonError::into_inner).chunk(&mut header, &mut read);
            header.body = Body::Bytes(u32::try_from(read.len()).expect("a chunk's length fits"));
            body = Some(Bytes::from(read));
        }
        if into.send(&header.encode(), body).await.is_err() {
            return;
        }
    }
}
