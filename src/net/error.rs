//! Why a link could not be had or ended, in our own words: codes that sides close links with, and one error for
//! every operation on a link. The peer's reason bytes are never shown. What follows from an error is decided above.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use quinn::{ConnectionError, ReadError, TransportErrorCode, VarInt, WriteError};
use thiserror::Error;

use crate::identity::PeerKey;

/// Alert of a TLS peer that shares no application protocol with us (RFC 7301).
const ALERT_NO_APPLICATION_PROTOCOL: u8 = 120;
const CODE_DROPPED: u32 = 0;

/// Why a side closes a link on purpose. The number travels; the words are ours on each side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseCode {
    /// Nothing was said: the process let go of the link, or had no room for it.
    Dropped,
    /// All is done and acknowledged.
    Finished,
    /// The ticket was taken by another key, which the refusing side may name.
    Taken(Option<PeerKey>),
    /// The ticket was not taken in time.
    Expired,
    /// The dialler could not prove that it holds the ticket.
    WrongProof,
    /// The person or the options on the other side said no.
    Declined,
    /// The versions have nothing in common.
    OtherVersion,
    /// Both sides want to send, or both to receive.
    EqualRoles,
    /// Not now: the other side serves somebody else.
    Busy,
    /// The same owner has opened a newer link.
    Superseded,
    /// This side broke the protocol, as the other sees it.
    Misbehaved,
    /// The other side was stopped by its user and keeps its state.
    Interrupted,
    /// The other side failed for a reason that running again will not cure.
    Failed,
    /// The other side has no such transfer.
    UnknownTransfer,
    /// Authentication took too long.
    TooSlow,
    /// A code of a later version.
    Unknown(u64),
}

impl CloseCode {
    fn number(self) -> u32 {
        match self {
            CloseCode::Dropped => CODE_DROPPED,
            CloseCode::Finished => 1,
            CloseCode::Taken(_) => 2,
            CloseCode::Expired => 3,
            CloseCode::WrongProof => 4,
            CloseCode::Declined => 5,
            CloseCode::OtherVersion => 6,
            CloseCode::EqualRoles => 7,
            CloseCode::Busy => 8,
            CloseCode::Superseded => 9,
            CloseCode::Misbehaved => 10,
            CloseCode::Interrupted => 11,
            CloseCode::Failed => 12,
            CloseCode::UnknownTransfer => 13,
            CloseCode::TooSlow => 14,
            // Nobody sends what it does not know; a code passed on by mistake says nothing.
            CloseCode::Unknown(_) => CODE_DROPPED,
        }
    }

    /// The number for the wire.
    pub(super) fn to_varint(self) -> VarInt {
        VarInt::from_u32(self.number())
    }

    /// The reason bytes for the wire: a key where one is named, else none.
    pub(super) fn reason(&self) -> &[u8] {
        match self {
            CloseCode::Taken(Some(key)) => &key.0,
            _ => &[],
        }
    }

    /// What a number from the wire means. Of the reason only a key is understood; nothing else of it is used.
    pub(super) fn from_wire(number: u64, reason: &[u8]) -> CloseCode {
        match number {
            0 => CloseCode::Dropped,
            1 => CloseCode::Finished,
            2 => CloseCode::Taken(reason.try_into().map(PeerKey).ok()),
            3 => CloseCode::Expired,
            4 => CloseCode::WrongProof,
            5 => CloseCode::Declined,
            6 => CloseCode::OtherVersion,
            7 => CloseCode::EqualRoles,
            8 => CloseCode::Busy,
            9 => CloseCode::Superseded,
            10 => CloseCode::Misbehaved,
            11 => CloseCode::Interrupted,
            12 => CloseCode::Failed,
            13 => CloseCode::UnknownTransfer,
            14 => CloseCode::TooSlow,
            other => CloseCode::Unknown(other),
        }
    }

    /// Whether dialling again may end otherwise without anybody doing anything.
    pub fn is_retryable(self) -> bool {
        matches!(self, CloseCode::Dropped | CloseCode::Busy | CloseCode::Interrupted | CloseCode::TooSlow)
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CloseCode::Dropped => f.write_str("the other side dropped the link"),
            CloseCode::Finished => f.write_str("the other side has finished"),
            CloseCode::Taken(Some(key)) => write!(
                f,
                "the ticket is already taken by {}; if that is not you, somebody read the ticket",
                key.fingerprint()
            ),
            CloseCode::Taken(None) => {
                f.write_str("the ticket is already taken by another key; if that is not you, somebody read the ticket")
            }
            CloseCode::Expired => f.write_str("the ticket has expired"),
            CloseCode::WrongProof => f.write_str("the other side does not know this ticket"),
            CloseCode::Declined => f.write_str("the other side declined"),
            CloseCode::OtherVersion => f.write_str("the other side runs a version that cannot talk to this one"),
            CloseCode::EqualRoles => f.write_str("both sides have the same role: one must send and one must receive"),
            CloseCode::Busy => f.write_str("the other side is busy"),
            CloseCode::Superseded => f.write_str("a newer link of the same owner took over"),
            CloseCode::Misbehaved => f.write_str("the other side says that this side broke the protocol"),
            CloseCode::Interrupted => f.write_str("the other side was stopped and keeps its state"),
            CloseCode::Failed => f.write_str("the other side failed for good"),
            CloseCode::UnknownTransfer => f.write_str("the other side has no such transfer"),
            CloseCode::TooSlow => f.write_str("the other side waited too long to be convinced"),
            CloseCode::Unknown(number) => write!(f, "the other side refused with code {number}, of a later version"),
        }
    }
}

/// Why an operation on a link, or the attempt to get one, failed. Cloneable: one loss ends many operations.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LinkError {
    /// No address answered, or none could be tried.
    #[error("no answer from {}", list(.addresses))]
    Unreachable {
        /// Those that were tried.
        addresses: Vec<SocketAddr>,
    },
    /// An address cannot be dialled from this machine.
    #[error("{address} cannot be dialled from here")]
    Undialable {
        /// The address.
        address: SocketAddr,
    },
    /// Nothing was heard for the whole idle timeout: the peer is suspect, not dead.
    #[error("nothing was heard from the other side for too long")]
    Silent,
    /// The peer's machine answers and knows nothing of this link: its process was restarted.
    #[error("the other side was restarted")]
    Reset,
    /// Whoever answers is not who the ticket names.
    #[error("the key at that address is {}, not {}: another landfall, or somebody in between", .found.fingerprint(), .expected.fingerprint())]
    WrongKey {
        /// The key that was pinned.
        expected: PeerKey,
        /// The key that was presented, with or without proof.
        found: PeerKey,
    },
    /// The peer speaks QUIC and no protocol of ours.
    #[error("the other side runs a version that cannot talk to this one")]
    OtherVersion,
    /// The peer closed the link on purpose.
    #[error("{0}")]
    Refused(CloseCode),
    /// The peer said its last word, a stop, and is about to close the link.
    #[error("the other side has said its last word")]
    Ended,
    /// This side closed the link.
    #[error("this side closed the link")]
    ClosedHere,
    /// The peer broke the protocol.
    #[error("the other side broke the protocol: {0}")]
    Misbehaved(&'static str),
    /// QUIC or TLS failed, here or at the peer, with this code of RFC 9000.
    #[error("the link failed in its transport: {0}")]
    Transport(TransportErrorText),
}

/// A QUIC error code in words, without any text from the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransportErrorText(u64, String);

impl fmt::Display for TransportErrorText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.1)
    }
}

impl TransportErrorText {
    fn new(code: TransportErrorCode) -> TransportErrorText {
        TransportErrorText(code.into(), code.to_string())
    }
}

impl LinkError {
    /// Whether dialling again may end otherwise without anybody doing anything.
    pub fn is_retryable(&self) -> bool {
        match self {
            LinkError::Unreachable { .. }
            | LinkError::Silent
            | LinkError::Reset
            | LinkError::Ended
            | LinkError::Transport(_) => true,
            LinkError::Refused(code) => code.is_retryable(),
            LinkError::Undialable { .. }
            | LinkError::WrongKey { .. }
            | LinkError::OtherVersion
            | LinkError::ClosedHere
            | LinkError::Misbehaved(_) => false,
        }
    }
}

impl From<ConnectionError> for LinkError {
    fn from(error: ConnectionError) -> LinkError {
        let no_protocol = TransportErrorCode::crypto(ALERT_NO_APPLICATION_PROTOCOL);
        match error {
            ConnectionError::VersionMismatch => LinkError::OtherVersion,
            ConnectionError::TransportError(error) if error.code == no_protocol => LinkError::OtherVersion,
            ConnectionError::ConnectionClosed(close) if close.error_code == no_protocol => LinkError::OtherVersion,
            ConnectionError::TransportError(error) => LinkError::Transport(TransportErrorText::new(error.code)),
            ConnectionError::ConnectionClosed(close) if is_lack_of_room(close.error_code) => {
                LinkError::Refused(CloseCode::Dropped)
            }
            ConnectionError::ConnectionClosed(close) => LinkError::Transport(TransportErrorText::new(close.error_code)),
            ConnectionError::ApplicationClosed(close) => {
                LinkError::Refused(CloseCode::from_wire(close.error_code.into_inner(), &close.reason))
            }
            ConnectionError::Reset => LinkError::Reset,
            ConnectionError::TimedOut => LinkError::Silent,
            ConnectionError::LocallyClosed => LinkError::ClosedHere,
            ConnectionError::CidsExhausted => {
                LinkError::Transport(TransportErrorText::new(TransportErrorCode::INTERNAL_ERROR))
            }
        }
    }
}

/// What a peer says that lets go of a link before the handshake is done (RFC 9000, section 10.2.3).
fn is_lack_of_room(code: TransportErrorCode) -> bool {
    code == TransportErrorCode::CONNECTION_REFUSED || code == TransportErrorCode::APPLICATION_ERROR
}

impl From<WriteError> for LinkError {
    fn from(error: WriteError) -> LinkError {
        match error {
            WriteError::ConnectionLost(error) => error.into(),
            WriteError::Stopped(_) => LinkError::Misbehaved("it stopped reading a stream"),
            WriteError::ClosedStream | WriteError::ZeroRttRejected => LinkError::ClosedHere,
        }
    }
}

impl From<ReadError> for LinkError {
    fn from(error: ReadError) -> LinkError {
        match error {
            ReadError::ConnectionLost(error) => error.into(),
            ReadError::Reset(_) => LinkError::Misbehaved("it abandoned a stream"),
            ReadError::ClosedStream | ReadError::IllegalOrderedRead | ReadError::ZeroRttRejected => {
                LinkError::ClosedHere
            }
        }
    }
}

fn list(addresses: &[SocketAddr]) -> String {
    match addresses {
        [] => "any address".to_owned(),
        some => some.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(", "),
    }
}

/// Why no endpoint could be had.
#[derive(Debug, Error)]
pub enum BindError {
    /// Another process has the port.
    #[error("address {address} is in use by another process")]
    InUse {
        /// The address.
        address: SocketAddr,
    },
    /// The system said no.
    #[error("could not listen on {address}")]
    Io {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use quinn::ApplicationClose;

    use super::*;

    const ALL: [CloseCode; 16] = [
        CloseCode::Dropped,
        CloseCode::Finished,
        CloseCode::Taken(Some(PeerKey([7; 32]))),
        CloseCode::Taken(None),
        CloseCode::Expired,
        CloseCode::WrongProof,
        CloseCode::Declined,
        CloseCode::OtherVersion,
        CloseCode::EqualRoles,
        CloseCode::Busy,
        CloseCode::Superseded,
        CloseCode::Misbehaved,
        CloseCode::Interrupted,
        CloseCode::Failed,
        CloseCode::UnknownTransfer,
        CloseCode::TooSlow,
    ];

    #[test]
    fn every_code_survives_the_wire() {
        for code in ALL {
            assert_eq!(CloseCode::from_wire(code.to_varint().into_inner(), code.reason()), code);
        }
        assert_eq!(CloseCode::from_wire(15, &[]), CloseCode::Unknown(15));
    }

    #[test]
    fn nothing_that_the_peer_wrote_is_shown() {
        for number in 0..20_u32 {
            let close = ApplicationClose { error_code: VarInt::from_u32(number), reason: "\u{1b}[31mEVIL".into() };
            let error = LinkError::from(ConnectionError::ApplicationClosed(close));
            assert!(!format!("{error} {error:?}").contains("EVIL"), "{error}");
        }
        let close = quinn::ConnectionClose {
            error_code: TransportErrorCode::PROTOCOL_VIOLATION,
            frame_type: None,
            reason: "EVIL".into(),
        };
        let error = LinkError::from(ConnectionError::ConnectionClosed(close));
        assert!(matches!(error, LinkError::Transport(_)));
        assert!(!format!("{error} {error:?}").contains("EVIL"), "{error}");
    }

    #[test]
    fn the_taker_is_named_by_fingerprint_only_if_a_key_was_sent() {
        let named = CloseCode::Taken(Some(PeerKey([7; 32]))).to_string();
        assert!(named.contains(&PeerKey([7; 32]).fingerprint().to_string()), "{named}");
        assert_eq!(CloseCode::from_wire(2, &[7; 31]), CloseCode::Taken(None));
    }

    #[test]
    fn only_what_may_pass_by_itself_is_tried_again() {
        let retried: Vec<CloseCode> = ALL.into_iter().filter(|code| code.is_retryable()).collect();
        assert_eq!(retried, [CloseCode::Dropped, CloseCode::Busy, CloseCode::Interrupted, CloseCode::TooSlow]);
        assert!(LinkError::Silent.is_retryable() && LinkError::Reset.is_retryable());
        let (expected, found) = (PeerKey([1; 32]), PeerKey([2; 32]));
        assert!(!LinkError::WrongKey { expected, found }.is_retryable());
        assert!(!LinkError::OtherVersion.is_retryable() && !LinkError::ClosedHere.is_retryable());
    }
}
