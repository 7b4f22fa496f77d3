//! Data streams: one way each, from the sender to the receiver; headers of a fixed length and bodies whose length
//! the header tells. What stands in a header is `wire.rs`; bodies are verified elsewhere.

use bytes::Bytes;
use quinn::{ReadExactError, RecvStream, SendStream};

use super::error::LinkError;
use super::limiter::Limiter;
use crate::buffers::Buffer;

/// The sender's end of a data stream.
#[derive(Debug)]
pub struct DataSender {
    stream: SendStream,
    limiter: Limiter,
}

impl DataSender {
    pub(super) fn new(stream: SendStream, limiter: Limiter) -> DataSender {
        DataSender { stream, limiter }
    }

    /// Sends a header and its body, if it has one. The body is not copied: QUIC holds it until it is acknowledged.
    /// Must not be cancelled: a part of the body would stay unsent.
    pub async fn send(&mut self, header: &[u8], body: Option<Bytes>) -> Result<(), LinkError> {
        let header = Bytes::copy_from_slice(header);
        let Some(mut body) = body else { return Ok(self.stream.write_chunk(header).await?) };
        let piece = self.next_piece(&mut body).await;
        self.stream.write_all_chunks(&mut [header, piece]).await?;
        while !body.is_empty() {
            let piece = self.next_piece(&mut body).await;
            self.stream.write_chunk(piece).await?;
        }
        Ok(())
    }

    /// What of a body goes next, once it is within the limit.
    async fn next_piece(&self, body: &mut Bytes) -> Bytes {
        let piece = body.split_to(self.limiter.piece_bytes(body.len()));
        self.limiter.take(piece.len()).await;
        piece
    }

    /// Says that no header follows. What was sent still arrives, as long as the link lives.
    pub fn finish(mut self) {
        // It fails only on a stream that the peer no longer reads, and then there is nobody to tell.
        let _ = self.stream.finish();
    }
}

/// What comes next on a data stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A header was read.
    Header,
    /// The sender has finished this stream.
    End,
}

/// The receiver's end of a data stream.
#[derive(Debug)]
pub struct DataReceiver {
    stream: RecvStream,
    limiter: Limiter,
}

impl DataReceiver {
    pub(super) fn new(stream: RecvStream, limiter: Limiter) -> DataReceiver {
        DataReceiver { stream, limiter }
    }

    /// Fills `header`, or finds the end of the stream in its place. Must not be cancelled: a part would be lost.
    pub async fn read_header(&mut self, header: &mut [u8]) -> Result<Next, LinkError> {
        match self.stream.read_exact(header).await {
            Ok(()) => Ok(Next::Header),
            Err(ReadExactError::FinishedEarly(0)) => Ok(Next::End),
            Err(ReadExactError::FinishedEarly(_)) => Err(LinkError::Misbehaved("a data stream ended inside a header")),
            Err(ReadExactError::ReadError(error)) => Err(error.into()),
        }
    }

    /// Reads a body of `length` bytes into one buffer. The caller has compared the length with what it asked for: it is
    /// not merely what the peer claims. Must not be cancelled.
    pub async fn read_body(&mut self, length: usize) -> Result<Bytes, LinkError> {
        let mut body = Buffer::take(length);
        let mut filled = 0;
        while filled < length {
            match self.stream.read_chunk(self.limiter.piece_bytes(length - filled), true).await? {
                Some(chunk) => {
                    self.limiter.take(chunk.bytes.len()).await;
                    body.bytes_mut()[filled..filled + chunk.bytes.len()].copy_from_slice(&chunk.bytes);
                    filled += chunk.bytes.len();
                }
                None => return Err(LinkError::Misbehaved("a data stream ended inside a body")),
            }
        }
        Ok(body.freeze())
    }
}
