//! The wire: control messages, and the header in front of each chunk on a data stream.
//!
//! Control stream, both directions: frames of 4 bytes length (big-endian) and the postcard encoding of [`Message`].
//! Data streams, sender to receiver: 16 bytes header and the body, again and again:
//!
//! ```text
//! 4 entry · 4 chunk · 1 kind (0 bytes, 1 zero, 2 gone) · 1 reason (when gone) · 2 zero · 4 body length (0 unless bytes)
//! ```
//!
//! Versions: ALPN carries the major, [`Hello`] the minor, feature bits and limits. An unknown variant is an error of
//! the peer, since nobody sends what the other's hello did not offer. Nothing here is trusted: every number of a
//! peer is clamped or earned by whoever uses it.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::digest::OutcomeDigest;
use crate::geometry::EntryIndex;
use crate::identity::{Role, TransferId};
use crate::limits::WANT_RUNS_MAX;
use crate::manifest::Position;
use crate::outcome::{Outcome, Reason, Reused};
use crate::path::RelPath;

/// Minor version of the wire.
pub const MINOR: u16 = 0;
/// Feature of a sender: it hears [`Message::Reused`].
pub const FEATURE_REUSED: u64 = 1;
/// Feature of a sender: it understands that an entry was [`Outcome::Renamed`]. A receiver that renames wants it.
pub const FEATURE_RENAMED: u64 = 2;
/// Bytes of the header of a chunk.
pub const CHUNK_HEADER_BYTES: usize = 16;
/// Bytes of a host name or version text in a hello.
const TEXT_BYTES_MAX: usize = 255;
/// Addresses in a hello.
const ADDRESSES_MAX: usize = 64;
/// Rungs in a hello.
const RUNGS_MAX: usize = 140;

/// One control message. Part of formats: append variants, never reorder.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Message {
    /// First in each direction.
    Hello(Hello),
    /// Sender, once per link: the records that follow continue from here; the receiver truncates its copy to it.
    Continue(Position),
    /// Sender: whole records, each preceded by 4 bytes length (big-endian).
    Records(Vec<u8>),
    /// Sender: the stat pass is done, and the log says what the source is at this position or later.
    Settled(Position),
    /// Receiver: chunks to be served.
    Want(Want),
    /// Receiver: how far it is. A hint for screens.
    Progress(Progress),
    /// Receiver: entries whose outcome is not plain delivery; all pages stand before the receipt.
    Exceptions(Vec<Exception>),
    /// Receiver: everything is verified, durable and under its name.
    Receipt {
        /// Encoded core.
        core: Vec<u8>,
        /// Ed25519 over it, 64 bytes.
        signature: Vec<u8>,
    },
    /// Sender: the receipt agrees with its own manifest and is stored.
    Acknowledge(OutcomeDigest),
    /// Either: this side stops.
    Stop(Stop),
    /// Receiver, to a sender that offers [`FEATURE_REUSED`], before the receipt: a hint for screens.
    Reused(Reused),
}

/// First message in each direction.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Hello {
    /// Minor version.
    pub minor: u16,
    /// Optional features offered, as bits. Those that are not known are ignored.
    pub features: u64,
    /// What this side does with the data.
    pub role: Role,
    /// The transfer that is meant.
    pub transfer: TransferId,
    /// The dialler's proof of the ticket's secret; none from a listener or an owner without the secret.
    pub proof: Option<[u8; 32]>,
    /// Chunk size of the manifest.
    pub chunk_bytes: u32,
    /// The listener's current addresses; the dialler saves them.
    pub addresses: Vec<SocketAddr>,
    /// The receiver's log at exponentially growing distances from its end.
    pub ladder: Vec<Position>,
    /// The receiver holds a receipt.
    pub has_receipt: bool,
    /// Host name, to be shown escaped.
    pub host: String,
    /// Version text, to be shown escaped.
    pub version: String,
}

/// Chunks to be served, and how far the receiver has looked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Want {
    /// Every chunk before this place was looked at: what is neither wanted here nor before may be dropped.
    pub considered_through: Place,
    /// In the order in which they are to be served.
    pub runs: Vec<WantRun>,
}

/// A place in the order of the manifest, as a bare pair of numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    /// Entry number.
    pub entry: u32,
    /// Chunk number in it.
    pub chunk: u32,
}

/// A run of chunks of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct WantRun {
    /// The file.
    pub entry: EntryIndex,
    /// First chunk.
    pub first: u32,
    /// How many.
    pub count: u32,
}

/// What the receiver is doing, for the sender's screen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Progress {
    /// What it does.
    pub phase: Phase,
    /// Entry it is busy with, if one.
    pub entry: Option<EntryIndex>,
    /// Bytes held, verified on arrival.
    pub held_bytes: u64,
    /// Bytes read back from the device.
    pub verified_bytes: u64,
    /// Files under their final name.
    pub sealed_files: u64,
    /// Entries left out there so far.
    pub left_out: u64,
}

/// Phases of a side, for screens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Phase {
    /// No link.
    #[default]
    Connecting,
    /// The receiver's user is asked.
    Consent,
    /// The source is walked and hashed.
    Scanning,
    /// Chunks move.
    Transferring,
    /// What is already there is read and compared.
    Adopting,
    /// Everything is there; it is read back and sealed.
    Verifying,
    /// Symlinks and directories get their final state.
    Finishing,
    /// The receipt is exchanged.
    Receipt,
    /// The target's disk is full.
    DiskFull,
    /// Done.
    Done,
}

/// An entry whose outcome is not plain delivery.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Exception {
    /// The entry's path.
    pub path: RelPath,
    /// What became of it.
    pub outcome: Outcome,
}

/// This side stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Stop {
    /// Why.
    pub reason: StopReason,
    /// Whether running again may help.
    pub retry: Retry,
}

/// Whether running the same command again may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Retry {
    /// It may.
    Later,
    /// It will not.
    Never,
}

/// Why a side stops. Part of formats: append, never reorder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum StopReason {
    /// A signal.
    Interrupted,
    /// The user at the receiver declined.
    Declined,
    /// The transfer was closed there by `--new`.
    Closed,
    /// The disk is full and patience has ended.
    DiskFull,
    /// Making data durable failed again.
    SyncFailed,
    /// The state on disk could not be written.
    StateFailed,
    /// The transfer is larger than the receiver's `--max-size`.
    TooLarge,
    /// The receiver's file system does not reach the accepted level of read-back.
    LevelTooLow,
    /// The outcome digests differ.
    OutcomeDiffers,
    /// The ticket is finished and the source has changed since.
    Finished,
    /// The peer broke the protocol.
    Misbehaved,
    /// The source or target root is gone.
    RootGone,
}

/// Why bytes are not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not the encoding of any message of this version.
    #[error("a control message cannot be read")]
    Malformed,
    /// A list or text in it is longer than it may be.
    #[error("a control message is too long")]
    TooLong,
    /// A chunk header with impossible values.
    #[error("a chunk header cannot be read")]
    BadHeader,
}

impl Message {
    /// The message's bytes, without the frame's length.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("encoding into memory cannot fail")
    }

    /// Parses one message.
    pub fn decode(bytes: &[u8]) -> Result<Message, DecodeError> {
        let (message, rest) = postcard::take_from_bytes::<Message>(bytes).map_err(|_| DecodeError::Malformed)?;
        let is_within_limits = match &message {
            Message::Hello(hello) => {
                hello.host.len() <= TEXT_BYTES_MAX
                    && hello.version.len() <= TEXT_BYTES_MAX
                    && hello.addresses.len() <= ADDRESSES_MAX
                    && hello.ladder.len() <= RUNGS_MAX
            }
            Message::Want(want) => want.runs.len() <= WANT_RUNS_MAX,
            Message::Receipt { signature, .. } => signature.len() == 64,
            _ => true,
        };
        if !rest.is_empty() {
            return Err(DecodeError::Malformed);
        }
        if is_within_limits { Ok(message) } else { Err(DecodeError::TooLong) }
    }
}

/// Splits the body of a `Records` message.
pub fn split_records(mut page: &[u8]) -> Result<Vec<&[u8]>, DecodeError> {
    let mut records = vec![];
    while !page.is_empty() {
        let (length, rest) = page.split_first_chunk::<4>().ok_or(DecodeError::Malformed)?;
        let length = u32::from_be_bytes(*length) as usize;
        if length == 0 || length > rest.len() {
            return Err(DecodeError::Malformed);
        }
        let (record, after) = rest.split_at(length);
        records.push(record);
        page = after;
    }
    Ok(records)
}

/// Adds one record to the body of a `Records` message.
pub fn push_record(page: &mut Vec<u8>, record: &[u8]) {
    page.extend_from_slice(&u32::try_from(record.len()).expect("bounded by RECORD_BYTES_MAX").to_be_bytes());
    page.extend_from_slice(record);
}

/// How a chunk travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// So many bytes follow.
    Bytes(u32),
    /// All zero; nothing follows.
    Zero,
    /// It cannot be served; nothing follows.
    Gone(Reason),
}

/// Header of a chunk on a data stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkHeader {
    /// The file.
    pub entry: EntryIndex,
    /// The chunk, not yet compared with a geometry.
    pub chunk: u32,
    /// How it travels.
    pub body: Body,
}

impl ChunkHeader {
    /// The header's bytes.
    pub fn encode(&self) -> [u8; CHUNK_HEADER_BYTES] {
        let mut out = [0; CHUNK_HEADER_BYTES];
        out[..4].copy_from_slice(&self.entry.0.to_be_bytes());
        out[4..8].copy_from_slice(&self.chunk.to_be_bytes());
        match self.body {
            Body::Bytes(length) => out[12..].copy_from_slice(&length.to_be_bytes()),
            Body::Zero => out[8] = 1,
            Body::Gone(reason) => {
                out[8] = 2;
                out[9] = postcard::to_stdvec(&reason).expect("encoding into memory cannot fail")[0];
            }
        }
        out
    }

    /// Parses a header. A body is at most `chunk_bytes` long and never empty.
    pub fn decode(bytes: &[u8; CHUNK_HEADER_BYTES], chunk_bytes: u32) -> Result<ChunkHeader, DecodeError> {
        let number = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let length = number(12);
        let body = match bytes[8] {
            0 if length > 0 && length <= chunk_bytes && bytes[9] == 0 => Body::Bytes(length),
            1 if length == 0 && bytes[9] == 0 => Body::Zero,
            2 if length == 0 => Body::Gone(postcard::from_bytes(&bytes[9..10]).map_err(|_| DecodeError::BadHeader)?),
            _ => return Err(DecodeError::BadHeader),
        };
        if bytes[10..12] != [0, 0] {
            return Err(DecodeError::BadHeader);
        }
        Ok(ChunkHeader { entry: EntryIndex(number(0)), chunk: number(4), body })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_chunk_header_has_the_documented_bytes() {
        let header = ChunkHeader { entry: EntryIndex(1), chunk: 2, body: Body::Bytes(1 << 20) };
        assert_eq!(header.encode(), [0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 16, 0, 0]);
        for body in [Body::Bytes(7), Body::Zero, Body::Gone(Reason::Changed), Body::Gone(Reason::TargetChanged)] {
            let header = ChunkHeader { body, ..header };
            assert_eq!(ChunkHeader::decode(&header.encode(), 4096), Ok(header));
        }
        assert_eq!(ChunkHeader::decode(&header.encode(), 4096), Err(DecodeError::BadHeader));
        for (at, value) in [(8, 3), (9, 1), (10, 1)] {
            let mut bytes = ChunkHeader { body: Body::Bytes(7), ..header }.encode();
            bytes[at] = value;
            assert_eq!(ChunkHeader::decode(&bytes, 4096), Err(DecodeError::BadHeader));
        }
    }

    #[test]
    fn a_want_has_the_documented_bytes() {
        let runs = vec![WantRun { entry: EntryIndex(300), first: 0, count: 64 }];
        let message = Message::Want(Want { considered_through: Place { entry: 301, chunk: 0 }, runs });
        assert_eq!(message.encode(), [4, 0xad, 2, 0, 1, 0xac, 2, 0, 64]);
        assert_eq!(Message::decode(&message.encode()), Ok(message));
    }

    #[test]
    fn records_are_packed_and_split() {
        let mut page = vec![];
        push_record(&mut page, b"one");
        push_record(&mut page, b"three");
        assert_eq!(split_records(&page).unwrap(), [&b"one"[..], b"three"]);
        for cut in 1..page.len() {
            if cut != 7 {
                assert!(split_records(&page[..cut]).is_err(), "{cut}");
            }
        }
        assert!(split_records(&[0, 0, 0, 0]).is_err());
    }

    #[test]
    fn a_list_beyond_its_limit_is_refused() {
        let runs = vec![WantRun { entry: EntryIndex(0), first: 0, count: 1 }; WANT_RUNS_MAX + 1];
        let message = Message::Want(Want { considered_through: Place::default(), runs });
        assert_eq!(Message::decode(&message.encode()), Err(DecodeError::TooLong));
        let message = Message::Receipt { core: vec![], signature: vec![0; 63] };
        assert_eq!(Message::decode(&message.encode()), Err(DecodeError::TooLong));
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Message::decode(&bytes);
            let _ = split_records(&bytes);
            if let Some(header) = bytes.first_chunk() {
                let _ = ChunkHeader::decode(header, 1 << 20);
            }
        }
    }
}
