//! Datagrams through a pair of pipes, where nothing but a byte stream gets to the other machine: each stands behind its
//! length in two bytes, big-endian. QUIC above it sees a link like any other; nothing depends on what comes out.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::thread;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UdpSocket;
use tokio::sync::oneshot;

/// The longest datagram that a length can speak of.
const DATAGRAM_BYTES_MAX: usize = u16::MAX as usize;

/// One end of the pipes, with a socket for whoever dials on this machine.
#[derive(Debug)]
pub struct Relay {
    socket: UdpSocket,
    address: SocketAddr,
}

impl Relay {
    /// Binds the socket, on loopback. Must be called inside a tokio runtime.
    pub fn bind() -> io::Result<Relay> {
        let socket = loopback_socket()?;
        socket.set_nonblocking(true)?;
        let socket = UdpSocket::from_std(socket)?;
        let address = socket.local_addr()?;
        Ok(Relay { socket, address })
    }

    /// Where to dial.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Passes datagrams on both ways until a pipe ends. The reason is the result.
    pub async fn run(self, output: impl AsyncWrite + Unpin, input: impl AsyncRead + Unpin) -> io::Error {
        let dialler = Mutex::new(None);
        let ended = tokio::select! {
            ended = self.outwards(output, &dialler) => ended,
            ended = self.back(input, &dialler) => ended,
        };
        ended.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    async fn outwards(
        &self,
        mut output: impl AsyncWrite + Unpin,
        dialler: &Mutex<Option<SocketAddr>>,
    ) -> io::Result<()> {
        let mut frame = vec![0; 2 + DATAGRAM_BYTES_MAX];
        loop {
            let (length, from) = match self.socket.recv_from(&mut frame[2..]).await {
                // What an earlier datagram met on its way back.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
                other => other?,
            };
            *dialler.lock().unwrap_or_else(PoisonError::into_inner) = Some(from);
            frame[..2].copy_from_slice(&length_bytes(length));
            output.write_all(&frame[..2 + length]).await?;
            output.flush().await?;
        }
    }

    async fn back(&self, mut input: impl AsyncRead + Unpin, dialler: &Mutex<Option<SocketAddr>>) -> io::Result<()> {
        let mut buffer = BytesMut::new();
        while input.read_buf(&mut buffer).await? > 0 {
            while let Some(datagram) = next_datagram(&mut buffer) {
                let to = *dialler.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(to) = to {
                    // A datagram may be lost anywhere.
                    let _ = self.socket.send_to(&datagram, to).await;
                }
            }
        }
        Ok(())
    }
}

/// The other end: passes datagrams between blocking pipes and a listener on this machine. What it returns is answered when
/// the input has ended. The threads behind it end with the pipes or the process.
pub fn serve(
    mut input: Box<dyn Read + Send>,
    mut output: Box<dyn Write + Send>,
    listener: SocketAddr,
) -> io::Result<oneshot::Receiver<()>> {
    let socket = loopback_socket()?;
    socket.connect(listener)?;
    let answers = socket.try_clone()?;
    let (sender, receiver) = oneshot::channel();
    thread::Builder::new().name("relay-in".into()).spawn(move || {
        let mut datagram = vec![0; DATAGRAM_BYTES_MAX];
        let mut pass_on = || -> io::Result<()> {
            let mut length = [0; 2];
            input.read_exact(&mut length)?;
            let datagram = &mut datagram[..usize::from(u16::from_be_bytes(length))];
            input.read_exact(datagram)?;
            // A datagram may be lost anywhere.
            let _ = socket.send(datagram);
            Ok(())
        };
        while pass_on().is_ok() {}
        // Nobody listens any more where this process has ended first.
        let _ = sender.send(());
    })?;
    thread::Builder::new().name("relay-out".into()).spawn(move || {
        let mut frame = vec![0; 2 + DATAGRAM_BYTES_MAX];
        loop {
            let length = match answers.recv(&mut frame[2..]) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
                Err(_) => return,
            };
            frame[..2].copy_from_slice(&length_bytes(length));
            if output.write_all(&frame[..2 + length]).and_then(|()| output.flush()).is_err() {
                return;
            }
        }
    })?;
    Ok(receiver)
}

fn loopback_socket() -> io::Result<std::net::UdpSocket> {
    std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
}

fn length_bytes(length: usize) -> [u8; 2] {
    u16::try_from(length).expect("no datagram is longer").to_be_bytes()
}

/// Takes a whole datagram off the front, if there is one.
fn next_datagram(buffer: &mut BytesMut) -> Option<BytesMut> {
    let length = usize::from(u16::from_be_bytes(*buffer.first_chunk::<2>()?));
    if buffer.len() < 2 + length {
        return None;
    }
    buffer.advance(2);
    Some(buffer.split_to(length))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn datagrams_of_every_length_cross_both_ways_and_the_end_is_told() {
        let listener = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (near_in, far_out) = std::io::pipe().unwrap();
        let (far_in, near_out) = std::io::pipe().unwrap();
        let ended = serve(Box::new(far_in), Box::new(far_out), listener.local_addr().unwrap()).unwrap();
        let relay = Relay::bind().unwrap();
        let address = relay.address();
        let input = tokio::net::unix::pipe::Receiver::from_owned_fd(near_in.into()).unwrap();
        let output = tokio::net::unix::pipe::Sender::from_owned_fd(near_out.into()).unwrap();
        let running = tokio::spawn(relay.run(output, input));
        let dialler = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        dialler.connect(address).await.unwrap();
        let mut buffer = vec![0; 70_000];
        for length in [0, 1, 2, 1200, 6500, 65_000] {
            let datagram: Vec<u8> = (0..length).map(|at: usize| at.to_le_bytes()[0]).collect();
            dialler.send(&datagram).await.unwrap();
            let (count, from) = listener.recv_from(&mut buffer).await.unwrap();
            assert!(buffer[..count] == datagram, "{length} bytes on the way there");
            listener.send_to(&datagram, from).await.unwrap();
            let count = dialler.recv(&mut buffer).await.unwrap();
            assert!(buffer[..count] == datagram, "{length} bytes on the way back");
        }
        running.abort();
        tokio::time::timeout(Duration::from_secs(10), ended).await.unwrap().unwrap();
    }
}
