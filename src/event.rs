//! What drivers tell the face. The library prints nothing: it emits these and returns an outcome.

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Duration;

use crate::attributes::Level;
use crate::error::Exit;
use crate::identity::{PeerKey, Role, TransferId};
use crate::outcome::{Counts, Reason, Reused};
use crate::path::RelPath;
use crate::receipt::Core;

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// This side listens; the ticket is for the other side's user. A result: it belongs on stdout.
    Ticket {
        /// The ticket's text.
        text: String,
        /// Until when it can be taken, in seconds since 1970.
        expires: u64,
        /// Where it was written instead of being shown, if so.
        written_to: Option<PathBuf>,
    },
    /// This side listens and announces itself; the code takes the ticket's place. Again whenever a code is burnt. A result.
    Code {
        /// Three words.
        code: String,
        /// Until when it can be used, in seconds since 1970.
        expires: u64,
    },
    /// Standard input is read, before there is a transfer of it. May be dropped, but for the last.
    Reading {
        /// Bytes so far.
        bytes: u64,
        /// For how long.
        elapsed: Duration,
        /// Whether that is all: it has come to its end, and is durable here.
        is_total: bool,
    },
    /// A transfer begins or continues.
    Transfer {
        /// Which.
        id: TransferId,
        /// What this side does.
        role: Role,
        /// Whether state of an earlier run was found.
        start: Start,
    },
    /// A link is up and the peer authenticated.
    Connected {
        /// The peer.
        peer: PeerKey,
        /// Its host name, as it says.
        host: String,
        /// Its address.
        address: SocketAddr,
    },
    /// The link is gone; another is tried.
    LinkLost {
        /// Why, in our own words.
        cause: String,
    },
    /// How far the transfer is. May be dropped.
    Progress(Snapshot),
    /// Something the user should know and that stops nothing.
    Notice(Notice),
    /// An entry does not travel.
    LeftOut {
        /// Which.
        path: RelPath,
        /// Why.
        reason: Reason,
        /// On which side.
        side: Role,
    },
    /// An entry stands under another name, since the target has something else under its own.
    Renamed {
        /// Which.
        path: RelPath,
        /// Under which path it stands.
        renamed_to: RelPath,
    },
    /// Wrong bytes were found and will be replaced.
    Mismatch {
        /// In which file.
        path: RelPath,
        /// At which offset of it.
        offset: u64,
        /// Found by which check.
        found: Found,
    },
    /// The last word of a run.
    Summary(Box<Summary>),
}

/// Whether a transfer is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// It begins.
    New,
    /// It continues from persisted state.
    Resumed,
}

/// Which check found wrong bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Bytes that arrived did not hash to the manifest's digest.
    Arrival,
    /// Bytes read back from the device did not.
    ReadBack,
    /// A first read back did not, a second did: the read was bad, not the data.
    BadRead,
    /// Bytes read from the source no longer hash to the manifest's digest.
    Source,
}

/// A thing to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The same source was named twice and is sent once.
    NamedTwice(Vec<u8>),
    /// A directory with landfall's own state was skipped.
    StateSkipped(Vec<u8>),
    /// A directory on another file system: its name arrives, what is in it does not.
    MountSkipped(RelPath),
    /// A line of an ignore file that cannot be understood; it excludes nothing.
    BadPattern {
        /// Path of the file, as it would arrive.
        file: Vec<u8>,
        /// What is wrong.
        why: String,
    },
    /// What the user excluded stays here.
    Excluded {
        /// Files and directories; what is in such a directory was not looked at.
        objects: u64,
    },
    /// State was damaged or missing; work is repeated, nothing is lost.
    StateRebuilt {
        /// Which file.
        what: &'static str,
        /// What is done instead.
        instead: &'static str,
    },
    /// The target does not survive a power cut (tmpfs).
    NotDurable,
    /// The receipt is stored, but the sender has not confirmed that it has it.
    SenderMayNotKnow,
    /// The disk is full: so many more bytes are needed.
    DiskFull {
        /// Missing bytes.
        missing_bytes: u64,
    },
    /// There is space again.
    DiskFreed,
    /// A file that kept changing is read once more.
    Retried {
        /// Which.
        path: RelPath,
        /// Why.
        reason: Reason,
    },
    /// A listener that was started again waits here for whoever took its ticket.
    FoundAt {
        /// Which transfer.
        id: TransferId,
        /// Its addresses.
        addresses: Vec<SocketAddr>,
    },
    /// The other side is ready on another machine, and nothing comes back from it by UDP.
    NoUdp {
        /// Which machine.
        host: String,
        /// Where it was looked for.
        addresses: Vec<SocketAddr>,
    },
    /// This side's limit is another one from now on.
    Limited {
        /// Bytes of content a second; `None` is no limit.
        bytes_per_s: Option<NonZeroU64>,
    },
    /// Somebody typed a wrong code for this listener; another one is shown.
    WrongCode {
        /// From where.
        address: SocketAddr,
        /// It was one too many: this listener ends.
        is_last: bool,
    },
    /// Somebody who knew the code has the ticket now, and is about to call.
    TicketGiven {
        /// Who.
        address: SocketAddr,
    },
    /// Nobody on this network shows the first word of the code that was typed.
    NobodyFound {
        /// How many others wait.
        others: u64,
    },
    /// Somebody does, and the exchange cannot be begun there.
    FoundUnreachable {
        /// Where.
        address: SocketAddr,
    },
    /// A connection attempt was refused here: somebody else holds the ticket, or tried to guess it.
    Refused {
        /// From where.
        address: SocketAddr,
        /// Why, in our own words.
        why: String,
    },
}

/// What a side is waiting for when nothing moves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WaitsFor {
    /// Nobody: things move.
    #[default]
    Nothing,
    /// A peer to take the ticket.
    Peer,
    /// The link to come back.
    Link,
    /// The sender's disk or hashing.
    SenderDisk,
    /// The receiver's disk.
    ReceiverDisk,
    /// The network.
    Network,
    /// The receiver's user to answer.
    Consent,
    /// Space on the receiver's disk.
    Space,
    /// The sender to confirm the receipt.
    Acknowledgement,
}

/// How far the transfer is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// What is being done.
    pub phase: crate::wire::Phase,
    /// What it is being done to.
    pub object: Option<RelPath>,
    /// Bytes known to be in the manifest so far.
    pub known_bytes: u64,
    /// Files known so far.
    pub known_files: u64,
    /// Whether the manifest is complete, so that the above are totals.
    pub is_total: bool,
    /// Bytes hashed from the source (sender only).
    pub hashed_bytes: u64,
    /// Bytes that are at the receiver, verified on arrival.
    pub held_bytes: u64,
    /// Bytes read back from the receiver's device and found equal.
    pub verified_bytes: u64,
    /// Files under their final name.
    pub sealed_files: u64,
    /// Body bytes that this process put on or took from the wire.
    pub wire_bytes: u64,
    /// Since when nothing has moved, and on whom it waits.
    pub stalled: Option<(Duration, WaitsFor)>,
}

/// The result of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The transfer.
    pub transfer: TransferId,
    /// What this side did.
    pub role: Role,
    /// The peer.
    pub peer: PeerKey,
    /// The peer's host name, as it says.
    pub peer_host: String,
    /// What the manifest holds.
    pub counts: Counts,
    /// Files verified, durable and under their names.
    pub delivered_files: u64,
    /// Their bytes.
    pub delivered_bytes: u64,
    /// Body bytes this process moved over the wire.
    pub wire_bytes: u64,
    /// What was at the target already. A sender has the receiver's word for it.
    pub reused: Reused,
    /// Chunks that had to be sent again because a check found them wrong.
    pub resent_chunks: u64,
    /// Entries left out on either side.
    pub left_out: u64,
    /// Entries of which the target's own version was kept.
    pub kept: u64,
    /// Entries whose mode or times could not be applied.
    pub attributes_not_applied: u64,
    /// Entries that stand under another name, since theirs was taken.
    pub renamed: u64,
    /// Lowest level of the read-back.
    pub level: Level,
    /// The target's contents survive a power cut.
    pub is_durable: bool,
    /// Wall time since this run was linked to the other side for the first time: what was waited for before is no part of
    /// it. Where an old receipt answered, the time that this took, or zero.
    pub elapsed: Duration,
    /// Where the receipt is.
    pub receipt: PathBuf,
    /// When the receipt was made, in seconds since 1970; differs from now when an old receipt answered.
    pub finished: i64,
}

impl Summary {
    /// What a receipt says, to the side with that role. What only the run knows is zero.
    pub fn of(core: &Core, role: Role, receipt: PathBuf) -> Summary {
        let (peer, peer_host) = match role {
            Role::Sender => (core.receiver, core.receiver_host.clone()),
            Role::Receiver => (core.sender, core.sender_host.clone()),
        };
        Summary {
            transfer: core.transfer,
            role,
            peer,
            peer_host,
            counts: core.counts,
            delivered_files: core.delivered_files,
            delivered_bytes: core.delivered_bytes,
            wire_bytes: 0,
            reused: Reused::default(),
            resent_chunks: 0,
            left_out: core.left_out,
            kept: core.kept,
            attributes_not_applied: 0,
            renamed: 0,
            level: core.level(),
            is_durable: core.is_durable,
            elapsed: Duration::ZERO,
            receipt,
            finished: core.finished.seconds,
        }
    }

    /// Exit code that follows.
    pub fn exit(&self) -> Exit {
        if self.left_out > 0 { Exit::LeftOut } else { Exit::Done }
    }
}

/// Where events go. Progress is dropped when the face is slow; everything else waits for it.
#[derive(Clone, Debug)]
pub struct Events(SyncSender<Event>);

impl Events {
    /// Events into a bounded channel.
    pub fn new(sender: SyncSender<Event>) -> Events {
        Events(sender)
    }

    /// Tells the face. A face that is gone is not an error: a closed screen never stops a transfer.
    pub fn emit(&self, event: Event) {
        match event {
            Event::Progress(_) | Event::Reading { is_total: false, .. } => match self.0.try_send(event) {
                Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => (),
            },
            _ => drop(self.0.send(event)),
        }
    }
}
