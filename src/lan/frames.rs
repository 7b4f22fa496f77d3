//! Frames on a TCP connection: two bytes of length, big-endian, and so many bytes, each within a time of its own.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::limits::{LAN_FRAME_BYTES_MAX, LAN_FRAME_MS};

/// Reads the next frame. A longer one than any is refused before there is memory for it.
pub(super) async fn read(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    in_time(async {
        let length = usize::from(stream.read_u16().await?);
        if length > LAN_FRAME_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut frame = vec![0; length];
        stream.read_exact(&mut frame).await?;
        Ok(frame)
    })
    .await
}

/// Writes a frame.
pub(super) async fn write(stream: &mut TcpStream, frame: &[u8]) -> io::Result<()> {
    let length = u16::try_from(frame.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    in_time(stream.write_all(&[&length.to_be_bytes(), frame].concat())).await
}

async fn in_time<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(Duration::from_millis(LAN_FRAME_MS), work).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}
