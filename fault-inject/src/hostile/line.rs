//! One QUIC connection of a hostile peer to the shipped binary, bytes and all: frames as they should be, and bytes
//! as they should not. It never fails silently: every operation says how the connection ended.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use landfall::identity::{Meeting, PeerKey, Role, Secret, TransferId};
use landfall::limits::{CHUNK_BYTES, FRAME_BYTES_MAX};
use landfall::ticket::Ticket;
use landfall::wire::{Hello, Message};
use quinn::{Connection, ConnectionError, Endpoint, RecvStream, SendStream, TransportConfig, VarInt};
use rustls::pki_types::CertificateDer;
use tokio::time::timeout;

use super::keys::{self, Face, Key};

/// Longer than any answer takes on a machine that works.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How a connection ended, as this side saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The peer closed it with this code.
    Code(u64),
    /// The handshake failed, or QUIC found a fault.
    Transport(String),
    /// Nothing came in time.
    Silent,
    /// A stream was ended or refused while the connection lives.
    Stream(String),
    /// This side is not able to go on: what it met.
    Odd(String),
}

impl From<ConnectionError> for End {
    fn from(error: ConnectionError) -> End {
        match error {
            ConnectionError::ApplicationClosed(close) => End::Code(close.error_code.into_inner()),
            ConnectionError::TimedOut => End::Silent,
            other => End::Transport(other.to_string()),
        }
    }
}

/// The connection, with its control stream.
pub struct Line {
    /// The connection itself.
    pub connection: Connection,
    /// What keeps it alive.
    pub endpoint: Endpoint,
    send: SendStream,
    recv: RecvStream,
    /// The key that this side shows.
    pub ours: PeerKey,
    /// The key that the binary shows.
    pub theirs: PeerKey,
    is_dialler: bool,
    /// Data streams that were opened, oldest first.
    data: Vec<SendStream>,
    /// The binary's hello, once it was read.
    pub hello: Option<Hello>,
}

/// An endpoint on loopback that only dials.
pub fn dialling_endpoint() -> Result<Endpoint, End> {
    Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).map_err(|error| End::Odd(error.to_string()))
}

/// Dials with a face; the control stream is not opened yet.
pub async fn connect(endpoint: &Endpoint, face: &Face, address: SocketAddr) -> Result<Connection, End> {
    let mut config = quinn::ClientConfig::new(face.client());
    config.transport_config(Arc::new(transport()));
    let connecting = endpoint.connect_with(config, address, "landfall").map_err(|error| End::Odd(error.to_string()))?;
    Ok(timeout(PATIENCE, connecting).await.map_err(|_| End::Silent)??)
}

/// Listens at any port of loopback with a face.
pub fn listen(face: &Face) -> Result<Endpoint, End> {
    let mut config = quinn::ServerConfig::with_crypto(face.server());
    config.transport_config(Arc::new(transport()));
    Endpoint::server(config, SocketAddr::from(([127, 0, 0, 1], 0))).map_err(|error| End::Odd(error.to_string()))
}

fn transport() -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(8))
        .max_concurrent_uni_streams(VarInt::from_u32(8))
        .keep_alive_interval(Some(Duration::from_secs(3)));
    config
}

impl Line {
    /// Dials the address of a ticket and opens the control stream.
    pub async fn dial(key: &Key, address: SocketAddr) -> Result<Line, End> {
        Line::dial_from(&dialling_endpoint()?, key, address).await
    }

    /// Dials from a socket that others use too.
    pub async fn dial_from(endpoint: &Endpoint, key: &Key, address: SocketAddr) -> Result<Line, End> {
        let connection = connect(endpoint, &Face::of(key), address).await?;
        let (send, recv) = connection.open_bi().await?;
        Line::new(endpoint.clone(), connection, (send, recv), key, true)
    }

    /// Waits for a dialler and its control stream.
    pub async fn accept(endpoint: Endpoint, key: &Key) -> Result<Line, End> {
        let incoming = timeout(PATIENCE, endpoint.accept()).await.map_err(|_| End::Silent)?;
        let connection = incoming.ok_or_else(|| End::Odd("the endpoint is closed".to_owned()))?.await?;
        let streams = timeout(PATIENCE, connection.accept_bi()).await.map_err(|_| End::Silent)??;
        Line::new(endpoint, connection, streams, key, false)
    }

    fn new(
        endpoint: Endpoint,
        connection: Connection,
        (send, recv): (SendStream, RecvStream),
        key: &Key,
        is_dialler: bool,
    ) -> Result<Line, End> {
        let shown = connection.peer_identity().and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok());
        let theirs = shown.as_ref().and_then(|shown| keys::key_of(shown.first()?));
        let theirs = theirs.ok_or_else(|| End::Odd("the binary shows no key".to_owned()))?;
        let ours = key.public();
        Ok(Line { connection, endpoint, send, recv, ours, theirs, is_dialler, data: vec![], hello: None })
    }

    /// What a proof on this connection is bound to, for this role of this side.
    pub fn meeting(&self, role: Role) -> Result<Meeting, End> {
        let mut exporter = [0; 32];
        self.connection
            .export_keying_material(&mut exporter, b"EXPORTER-landfall-v1", &[])
            .map_err(|_| End::Odd("no keying material".to_owned()))?;
        Ok(match self.is_dialler {
            true => Meeting { exporter, listener: self.theirs, dialler: self.ours, dialler_role: role },
            false => Meeting { exporter, listener: self.ours, dialler: self.theirs, dialler_role: role.other() },
        })
    }

    /// The hello of an honest peer in this role.
    pub fn honest_hello(&self, role: Role, transfer: TransferId, secret: Option<&Secret>) -> Result<Hello, End> {
        let meeting = self.meeting(role)?;
        let proof = secret.filter(|_| self.is_dialler).map(|secret| secret.proof(&meeting).to_bytes());
        Ok(plain_hello(role, transfer, proof))
    }

    /// Sends one frame.
    pub async fn frame(&mut self, body: &[u8]) -> Result<(), End> {
        let length = u32::try_from(body.len()).map_err(|error| End::Odd(error.to_string()))?;
        self.bytes(&[&length.to_be_bytes()[..], body].concat()).await
    }

    /// Sends one message.
    pub async fn say(&mut self, message: &Message) -> Result<(), End> {
        self.frame(&message.encode()).await
    }

    /// Sends bytes on the control stream as they are.
    pub async fn bytes(&mut self, bytes: &[u8]) -> Result<(), End> {
        let writing = self.send.write_all(bytes);
        match timeout(PATIENCE, writing).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.stream_end(&error.to_string())),
            Err(_) => Err(End::Silent),
        }
    }

    /// Ends the control stream of this side.
    pub fn finish(&mut self) -> Result<(), End> {
        self.send.finish().map_err(|error| End::Stream(error.to_string()))
    }

    /// Resets the control stream of this side.
    pub fn reset(&mut self) -> Result<(), End> {
        self.send.reset(VarInt::from_u32(7)).map_err(|error| End::Stream(error.to_string()))
    }

    /// Stops reading the control stream.
    pub fn stop_reading(&mut self) -> Result<(), End> {
        self.recv.stop(VarInt::from_u32(7)).map_err(|error| End::Stream(error.to_string()))
    }

    /// Bytes on the `index`-th data stream, which is opened at need.
    pub async fn data(&mut self, index: usize, bytes: &[u8]) -> Result<(), End> {
        while self.data.len() <= index {
            let opened = timeout(PATIENCE, self.connection.open_uni()).await.map_err(|_| End::Silent)??;
            self.data.push(opened);
        }
        let written = timeout(PATIENCE, self.data[index].write_all(bytes)).await.map_err(|_| End::Silent)?;
        written.map_err(|error| self.stream_end(&error.to_string()))
    }

    /// Ends a data stream that was opened, or resets it.
    pub fn end_data(&mut self, index: usize, is_reset: bool) -> Result<(), End> {
        let stream = self.data.get_mut(index).ok_or_else(|| End::Odd("no such data stream".to_owned()))?;
        match is_reset {
            true => stream.reset(VarInt::from_u32(7)).map_err(|error| End::Stream(error.to_string())),
            false => stream.finish().map_err(|error| End::Stream(error.to_string())),
        }
    }

    /// The next message of the binary.
    pub async fn next(&mut self) -> Result<Message, End> {
        match timeout(PATIENCE, self.next_frame()).await {
            Ok(frame) => {
                let message = Message::decode(&frame?).map_err(|error| End::Odd(error.to_string()))?;
                if let Message::Hello(hello) = &message {
                    self.hello = Some(hello.clone());
                }
                Ok(message)
            }
            Err(_) => Err(End::Silent),
        }
    }

    async fn next_frame(&mut self) -> Result<Vec<u8>, End> {
        let mut length = [0; 4];
        if let Err(error) = self.recv.read_exact(&mut length).await {
            return Err(self.stream_end(&error.to_string()));
        }
        let length = u32::from_be_bytes(length) as usize;
        if length > FRAME_BYTES_MAX {
            return Err(End::Odd(format!("the binary sent a frame of {length} bytes")));
        }
        let mut frame = vec![0; length];
        match self.recv.read_exact(&mut frame).await {
            Ok(()) => Ok(frame),
            Err(error) => Err(self.stream_end(&error.to_string())),
        }
    }

    /// Why a stream failed: the end of the connection, where there is one.
    fn stream_end(&self, what: &str) -> End {
        self.connection.close_reason().map_or_else(|| End::Stream(what.to_owned()), End::from)
    }

    /// Waits until the binary ends the connection.
    pub async fn end(&self, patience: Duration) -> Option<End> {
        timeout(patience, self.connection.closed()).await.ok().map(End::from)
    }

    /// Closes the connection with a code and reason bytes, and gives the peer time to hear of it.
    pub async fn leave(&self, code: u64, reason: &[u8]) {
        let code = VarInt::from_u64(code).unwrap_or(VarInt::MAX);
        self.connection.close(code, reason);
        let _ = timeout(Duration::from_secs(2), self.endpoint.wait_idle()).await;
    }
}

/// A hello with nothing remarkable in it.
pub fn plain_hello(role: Role, transfer: TransferId, proof: Option<[u8; 32]>) -> Hello {
    Hello {
        minor: landfall::wire::MINOR,
        features: 0,
        role,
        transfer,
        proof,
        chunk_bytes: CHUNK_BYTES,
        addresses: vec![],
        ladder: vec![],
        has_receipt: false,
        host: "hostile".to_owned(),
        version: "0.0.0".to_owned(),
    }
}

/// The loopback address of a ticket.
pub fn address_of(ticket: &Ticket) -> Result<SocketAddr, End> {
    let found = ticket.addresses.iter().find(|address| address.ip().is_loopback());
    found.copied().ok_or_else(|| End::Odd("the ticket names no loopback address".to_owned()))
}
