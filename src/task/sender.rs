//! The words between the sender's brain (`session/sender.rs`) and its hands (`source/`, `send.rs`).

use crate::digest::OutcomeDigest;
use crate::geometry::EntryIndex;
use crate::manifest::Position;
use crate::outcome::Reason;
use crate::wire::{Message, Progress, Stop, StopReason, Want};

/// What the brain asks the hands to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Task {
    /// Send a message on the control stream.
    Send(Message),
    /// Send the next page of records behind what was sent on this link, and say how far that went.
    SendPage,
    /// Let the hash-ahead buffer know what was considered, and answer each wanted chunk once on a data stream.
    Serve(Want),
    /// The link is gone: forget what was wanted on it.
    DropWants,
    /// Have a new version of this entry made: it can no longer be served, for this reason.
    Renew(EntryIndex, Reason),
    /// Compare the receipt with this side's own log, and its signature with the peer's key.
    CheckReceipt,
    /// Make the receipt durable here.
    StoreReceipt,
    /// End the link: the peer broke the protocol in this way.
    Misbehaved(&'static str),
    /// The run is over.
    End(End),
}

/// How a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// The receipt is stored and acknowledged.
    Acknowledged,
    /// This side gives up.
    Stopped(StopReason),
    /// The peer stopped.
    PeerStopped(Stop),
}

/// Whether the receiver says in its hello that it holds a receipt already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PeerReceipt {
    /// It does.
    Held,
    /// It does not.
    None,
}

/// What comparing a receipt has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReceiptVerdict {
    /// It says what this side's log says, and the peer has signed it. With the digest that both have.
    Agrees(OutcomeDigest),
    /// It says what this side's log said before the source changed.
    Outdated,
    /// It says something that this side's log never said.
    Differs,
    /// It cannot be read, names others, or is not signed by the peer.
    Forged,
}

/// What the producer is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Production {
    /// It reads the source.
    Busy,
    /// It waits for the receiver to consider what there is.
    Blocked,
    /// The log says what the source is.
    Settled,
}

/// What the brain hears.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// A link is up, and the logs agree up to this position.
    Connected(Position, PeerReceipt),
    /// The link is gone.
    LinkLost,
    /// The log ends here now.
    Produced(Position, Production),
    /// A page was sent; so many records of the log are sent on this link.
    PageSent(u64),
    /// The receiver wants chunks.
    Wanted(Want),
    /// So many wanted chunks were answered.
    Served(u32),
    /// A chunk was wanted that the log does not have.
    WantedOutside,
    /// An entry can no longer be served.
    Unservable(EntryIndex, Reason),
    /// The receiver says how far it is.
    Progress(Progress),
    /// So many exceptions arrived.
    Exceptions(u64),
    /// The receipt arrived.
    ReceiptArrived,
    /// The receipt was compared.
    ReceiptChecked(ReceiptVerdict),
    /// The receipt is durable here.
    ReceiptStored,
    /// A message arrived that a receiver does not send.
    Unexpected,
    /// The peer stops.
    PeerStopped(Stop),
    /// This side is to stop.
    StopRequested(StopReason),
}
