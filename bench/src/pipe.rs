//! The transfer alone: bytes from the page cache through landfall's own QUIC into files that nobody syncs. No manifest,
//! no digest, no name on the wire, no staging, no rename, no receipt: what is left when every guarantee is taken away
//! but those of the transport. Reading, network and writing have a thread each.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use landfall::identity::{PeerKey, Role};
use landfall::net::{Accept, CloseCode, Endpoint, Identity, Limiter, Next};
use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::direct;

/// Bytes of one piece, as the product's chunks.
const PIECE_BYTES: usize = 1 << 20;
/// Pieces between two threads.
const PIECES_MAX: usize = 16;
/// How long the two ends may take to meet.
const MEETING_PATIENCE: Duration = Duration::from_secs(20);
/// File number, offset, length.
const HEADER_BYTES: usize = 16;

/// Where a piece belongs, and its bytes.
struct Piece {
    file: u32,
    offset: u64,
    bytes: Bytes,
}

/// Copies every regular file of `source` to its name in `target`.
pub fn run(source: &Path, target: &Path) -> Result<(), String> {
    let files = direct::files_below(source).map_err(|error| error.to_string())?;
    let named: Result<Vec<PathBuf>, _> =
        files.iter().map(|file| file.strip_prefix(source).map(|path| target.join(path))).collect();
    let targets = named.map_err(|error| error.to_string())?;
    let (ready, address) = oneshot::channel();
    std::thread::scope(|scope| {
        let receiver = scope.spawn(move || receive(&targets, ready));
        let sender = scope.spawn(move || send(&files, address));
        let sent = sender.join().expect("the sender does not panic");
        let received = receiver.join().expect("the receiver does not panic");
        sent.and(received)
    })
}

fn send(files: &[PathBuf], address: oneshot::Receiver<(SocketAddr, PeerKey)>) -> Result<(), String> {
    let (pieces, mut read) = mpsc::channel(PIECES_MAX);
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || read_all(files, &pieces));
        let runtime = Builder::new_current_thread().enable_all().build().map_err(text)?;
        let sent = runtime.block_on(async move {
            let (address, key) = address.await.map_err(text)?;
            let identity = Arc::new(Identity::generate().map_err(text)?);
            let endpoint = Endpoint::bind(loopback(), identity, Accept::Nothing).map_err(text)?;
            let mut link = endpoint.dial(&[address], key, MEETING_PATIENCE).await.map_err(text)?;
            link.sender.send(b"hello").await.map_err(text)?;
            link.receiver.recv_within(16, MEETING_PATIENCE).await.map_err(text)?;
            link.link.raise_windows(Role::Sender);
            let mut stream = link.link.open_data(&Limiter::default()).await.map_err(text)?;
            while let Some(piece) = read.recv().await {
                stream.send(&header(&piece), Some(piece.bytes)).await.map_err(text)?;
            }
            stream.finish();
            // The other end says when it has it all.
            link.receiver.recv_within(16, Duration::MAX).await.map_err(text)?;
            link.link.close(CloseCode::Finished);
            endpoint.wait_idle().await;
            Ok(())
        });
        reader.join().expect("the reader does not panic").map_err(text)?;
        sent
    })
}

fn read_all(files: &[PathBuf], pieces: &mpsc::Sender<Piece>) -> io::Result<()> {
    for (number, path) in (0u32..).zip(files) {
        let file = File::open(path)?;
        let (size, mut offset) = (file.metadata()?.len(), 0);
        loop {
            let left = size.saturating_sub(offset).min(PIECE_BYTES as u64);
            let mut bytes = vec![0; usize::try_from(left).expect("a piece is small")];
            file.read_exact_at(&mut bytes, offset)?;
            // An empty file travels as an empty piece. A closed channel is the other thread's failure, told there.
            if pieces.blocking_send(Piece { file: number, offset, bytes: bytes.into() }).is_err() {
                return Ok(());
            }
            offset += left;
            if offset >= size {
                break;
            }
        }
    }
    Ok(())
}

fn receive(targets: &[PathBuf], ready: oneshot::Sender<(SocketAddr, PeerKey)>) -> Result<(), String> {
    let (pieces, received) = mpsc::channel(PIECES_MAX);
    std::thread::scope(|scope| {
        let writer = scope.spawn(move || write_all(targets, received));
        let runtime = Builder::new_current_thread().enable_all().build().map_err(text)?;
        runtime.block_on(async {
            let identity = Arc::new(Identity::generate().map_err(text)?);
            let mut endpoint = Endpoint::bind(loopback(), identity.clone(), Accept::Incoming).map_err(text)?;
            let address = SocketAddr::from(([127, 0, 0, 1], endpoint.port()));
            ready.send((address, identity.public_key())).map_err(|_| "the sender is gone".to_owned())?;
            let mut link = endpoint.accept().await.ok_or("nobody came")?;
            link.receiver.recv_within(16, MEETING_PATIENCE).await.map_err(text)?;
            link.link.raise_windows(Role::Receiver);
            link.sender.send(b"welcome").await.map_err(text)?;
            let mut stream = link.link.accept_data(&Limiter::default()).await.map_err(text)?;
            let mut head = [0; HEADER_BYTES];
            while stream.read_header(&mut head).await.map_err(text)? == Next::Header {
                let (file, offset, length) = place(&head);
                let bytes = stream.read_body(length).await.map_err(text)?;
                if pieces.send(Piece { file, offset, bytes }).await.is_err() {
                    break; // told by the writer
                }
            }
            drop(pieces);
            writer.join().expect("the writer does not panic").map_err(text)?;
            link.sender.send(b"done").await.map_err(text)?;
            // What was sent may still be here when the runtime ends: the other end closes when it has it.
            timeout(MEETING_PATIENCE, link.link.closed()).await.map(drop).map_err(text)
        })
    })
}

fn write_all(targets: &[PathBuf], mut pieces: mpsc::Receiver<Piece>) -> io::Result<()> {
    let mut open: Option<(u32, File)> = None;
    while let Some(piece) = pieces.blocking_recv() {
        if open.as_ref().is_none_or(|(file, _)| *file != piece.file) {
            let path = targets.get(piece.file as usize).ok_or(io::ErrorKind::InvalidData)?;
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent)?;
            }
            open = Some((piece.file, File::create(path)?));
        }
        if let Some((_, file)) = &open {
            file.write_all_at(&piece.bytes, piece.offset)?;
        }
    }
    Ok(())
}

fn header(piece: &Piece) -> [u8; HEADER_BYTES] {
    let length = u32::try_from(piece.bytes.len()).expect("a piece is small");
    let mut out = [0; HEADER_BYTES];
    out[..4].copy_from_slice(&piece.file.to_be_bytes());
    out[4..12].copy_from_slice(&piece.offset.to_be_bytes());
    out[12..].copy_from_slice(&length.to_be_bytes());
    out
}

fn place(head: &[u8; HEADER_BYTES]) -> (u32, u64, usize) {
    let number = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let offset = u64::from(number(4)) << 32 | u64::from(number(8));
    (number(0), offset, number(12) as usize)
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::load::{Load, Sizes};
    use crate::oracle;

    use super::*;

    #[test]
    fn all_files_arrive_with_their_contents() {
        let scratch = tempfile::tempdir().unwrap();
        let sizes = Sizes { big_mib: 1, small_files: 150 };
        let source = Load::Small.make(scratch.path(), sizes, 3).unwrap();
        std::fs::write(source.join("empty"), "").unwrap();
        std::fs::write(source.join("longer"), vec![7; 3 * PIECE_BYTES + 5]).unwrap();
        let target = scratch.path().join("target");
        run(&source, &target).unwrap();
        assert_eq!(oracle::wrong(&oracle::look(&source), &target), [""; 0]);
    }
}
