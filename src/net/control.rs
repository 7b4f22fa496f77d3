//! The control stream: frames in order, each `length (4 bytes, big-endian) ‖ bytes`. What a frame means, and how
//! long one of its kind may be, is the caller's business.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use quinn::{RecvStream, SendStream};
use tokio::time::timeout;

use super::error::LinkError;

const LENGTH_BYTES: usize = 4;
/// Ahead of bulk data in the same connection, so that wants and records never queue behind chunk bodies.
const CONTROL_PRIORITY: i32 = 1;

/// The outgoing half of the control stream.
#[derive(Debug)]
pub struct ControlSender {
    stream: SendStream,
    /// Frames and parts of frames that are not yet handed to QUIC.
    pending: BytesMut,
}

impl ControlSender {
    pub(super) fn new(stream: SendStream) -> ControlSender {
        // It fails only on a stream that is closed, and then the first send says so.
        let _ = stream.set_priority(CONTROL_PRIORITY);
        ControlSender { stream, pending: BytesMut::new() }
    }

    /// Sends one frame; returns when QUIC has taken it, not when it has arrived. A call that is cancelled has queued
    /// the whole frame: the next call, or [`ControlSender::flush`], sends the rest.
    pub async fn send(&mut self, frame: &[u8]) -> Result<(), LinkError> {
        let length = u32::try_from(frame.len()).expect("a frame is bounded by limits.rs");
        self.pending.extend_from_slice(&length.to_be_bytes());
        self.pending.extend_from_slice(frame);
        self.flush().await
    }

    /// Hands to QUIC what a cancelled [`ControlSender::send`] left. May be cancelled and called again.
    pub async fn flush(&mut self) -> Result<(), LinkError> {
        while !self.pending.is_empty() {
            let written = self.stream.write(&self.pending).await?;
            self.pending.advance(written);
        }
        Ok(())
    }

    /// Sends bytes that are not a frame.
    #[cfg(test)]
    pub(super) async fn send_raw(&mut self, bytes: &[u8]) -> Result<(), LinkError> {
        self.pending.extend_from_slice(bytes);
        self.flush().await
    }

    /// Ends the stream after what was sent and waits until the peer's QUIC has all of it. Closing a link earlier
    /// may lose the last frames. That the peer's program has read them is another matter: only its answer says so.
    pub async fn finish(&mut self) -> Result<(), LinkError> {
        self.flush().await?;
        if self.stream.finish().is_err() {
            return Err(LinkError::ClosedHere);
        }
        match self.stream.stopped().await {
            Ok(None) => Ok(()),
            Ok(Some(_)) => Err(LinkError::Misbehaved("it stopped reading the control stream")),
            Err(quinn::StoppedError::ConnectionLost(error)) => Err(error.into()),
            Err(quinn::StoppedError::ZeroRttRejected) => Err(LinkError::ClosedHere),
        }
    }
}

/// The incoming half of the control stream.
#[derive(Debug)]
pub struct ControlReceiver {
    stream: RecvStream,
    /// Bytes of the frame that is coming in, its length first.
    partial: BytesMut,
    /// A frame that was read ahead.
    ahead: Option<Bytes>,
}

impl ControlReceiver {
    pub(super) fn new(stream: RecvStream) -> ControlReceiver {
        ControlReceiver { stream, partial: BytesMut::new(), ahead: None }
    }

    /// Reads a frame and leaves it for the next [`ControlReceiver::recv`].
    pub(super) async fn look_ahead(&mut self, bytes_max: usize) -> Result<(), LinkError> {
        if self.ahead.is_none() {
            self.ahead = Some(self.recv(bytes_max).await?);
        }
        Ok(())
    }

    /// The next frame. One that claims more than `bytes_max` is misbehaviour, as is the end of the stream
    /// within one; after one it is how a side makes sure that its last word arrives. Memory follows the bytes that arrive, never the length that is claimed. May be
    /// cancelled: nothing is lost.
    pub async fn recv(&mut self, bytes_max: usize) -> Result<Bytes, LinkError> {
        if let Some(frame) = self.ahead.take() {
            return match frame.len() <= bytes_max {
                true => Ok(frame),
                false => Err(too_long()),
            };
        }
        self.fill(LENGTH_BYTES).await?;
        let claimed = self.partial.first_chunk().map(|bytes| u32::from_be_bytes(*bytes)).unwrap_or_default();
        let length = usize::try_from(claimed).ok().filter(|length| *length <= bytes_max).ok_or_else(too_long)?;
        self.fill(LENGTH_BYTES + length).await?;
        self.partial.advance(LENGTH_BYTES);
        Ok(self.partial.split_to(length).freeze())
    }

    /// [`ControlReceiver::recv`] with an end to patience: the dialler's wait for the first reply, before which
    /// nothing else watches a peer that keeps its QUIC alive and says nothing.
    pub async fn recv_within(&mut self, bytes_max: usize, patience: Duration) -> Result<Bytes, LinkError> {
        match timeout(patience, self.recv(bytes_max)).await {
            Ok(received) => received,
            Err(_) => Err(LinkError::Silent),
        }
    }

    /// Waits until `partial` has at least `count` bytes; never takes more from the stream than that.
    async fn fill(&mut self, count: usize) -> Result<(), LinkError> {
        while self.partial.len() < count {
            match self.stream.read_chunk(count - self.partial.len(), true).await? {
                Some(chunk) => self.partial.extend_from_slice(&chunk.bytes),
                None if self.partial.is_empty() => return Err(LinkError::Ended),
                None => return Err(LinkError::Misbehaved("it ended the control stream within a frame")),
            }
        }
        Ok(())
    }
}

fn too_long() -> LinkError {
    LinkError::Misbehaved("a control frame is longer than its kind may be")
}
