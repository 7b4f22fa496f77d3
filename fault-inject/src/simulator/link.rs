//! The simulated link: two control streams in order, chunks in any order, and nothing of one link ever on another.
//! A link that is lost is noticed by each side at its own time; what had arrived before can still be read. It moves
//! encoded bytes and knows nothing of what they say.

use std::collections::VecDeque;

use bytes::Bytes;
use landfall::wire::{CHUNK_HEADER_BYTES, ChunkHeader};

/// Number of a link. A later one is larger.
pub(super) type LinkId = u64;

/// A chunk on its way.
#[derive(Clone, Debug)]
pub(super) struct Flying {
    /// Encoded header.
    pub header: [u8; CHUNK_HEADER_BYTES],
    /// Its body, if it has one.
    pub body: Option<Bytes>,
    /// It is the second of two.
    pub is_duplicate: bool,
}

impl Flying {
    /// A chunk as a sender gives it to a data stream.
    pub(super) fn new(header: &ChunkHeader, body: Option<Bytes>) -> Flying {
        Flying { header: header.encode(), body, is_duplicate: false }
    }
}

/// One link.
#[derive(Debug)]
pub(super) struct Link {
    /// Its number.
    pub id: LinkId,
    /// Frames to the receiver.
    pub to_receiver: VecDeque<Vec<u8>>,
    /// Frames to the sender.
    pub to_sender: VecDeque<Vec<u8>>,
    /// Chunks to the receiver.
    pub data: VecDeque<Flying>,
    /// Nothing more can be sent on it.
    pub is_lost: bool,
    /// The receiver's hello, until the sender has read it.
    pub hello_to_sender: Option<Vec<u8>>,
    /// The sender's hello, until the receiver has read it.
    pub hello_to_receiver: bool,
    /// The step at which the sender's process on it began.
    pub sender_began: u64,
}

impl Link {
    /// A link over which hellos have been exchanged and not yet read.
    pub(super) fn new(id: LinkId, receiver_hello: Vec<u8>) -> Link {
        Link {
            id,
            to_receiver: VecDeque::new(),
            to_sender: VecDeque::new(),
            data: VecDeque::new(),
            is_lost: false,
            hello_to_sender: Some(receiver_hello),
            hello_to_receiver: true,
            sender_began: 0,
        }
    }

    /// Whether both sides have taken it into use.
    pub(super) fn is_met(&self) -> bool {
        self.hello_to_sender.is_none() && !self.hello_to_receiver
    }
}
