//! The words between the receiver's brain (`session/receiver.rs`) and its hands (`store/`, `recv.rs`).

use crate::attributes::Level;
use crate::geometry::{ChunkRun, EntryIndex};
use crate::outcome::Reason;
use crate::wire::{Message, Phase, Place, StopReason};

/// A chunk as a bare pair of numbers.
pub type Chunk = Place;

/// What the brain learns of one record that was appended to the receiver's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Noted {
    /// A regular file begins.
    File {
        /// Its size in bytes.
        size: u64,
        /// The journal claims that this entry is sealed.
        claim: SealClaim,
    },
    /// A directory, symlink or an entry that the sender left out.
    Other {
        /// What it is.
        kind: OtherKind,
    },
    /// Digests of the last file, up to (not including) this chunk, are known.
    DigestsTo(u32),
    /// The last file has ended.
    Ended,
    /// This entry no longer holds.
    Withdrawn(EntryIndex),
    /// The manifest is complete at this position.
    Complete,
}

/// Kinds of entries that have no chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OtherKind {
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// Left out by the sender, and whether that makes the exit code 5.
    LeftOut(Reason),
}

/// Whether an entry is claimed to be sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SealClaim {
    /// It is.
    Claimed,
    /// It is not.
    None,
}

/// What was found where an entry goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Disposition {
    /// Nothing that could hold its bytes.
    Fresh,
    /// A staging file whose claims cover these chunks; they are still to be read back.
    Staged(Vec<ChunkRun>),
    /// A file that may hold its bytes: read it with [`Task::Adopt`] as digests become known.
    Candidate,
    /// It was sealed before, and its target is unchanged.
    Sealed,
    /// It cannot be delivered, or may not.
    LeftOut(Reason),
    /// Not a file: it is in its place, or will be made in the end.
    Placed,
}

/// One file to be compared with a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AdoptItem {
    /// The file.
    pub entry: EntryIndex,
    /// Chunks to be compared; their digests are known.
    pub run: ChunkRun,
}

/// Result of comparing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AdoptedItem {
    /// The file.
    pub entry: EntryIndex,
    /// The chunks that were compared.
    pub run: ChunkRun,
    /// Those that are not there; the others are held.
    pub missing: Vec<u32>,
    /// Bytes of it that were copied into staging, and so joined the open batch.
    pub copied_bytes: u64,
    /// The target turned out to differ and may be replaced: what was compared before does not count, and the file is
    /// compared again from its start, now copying what matches.
    pub is_restarted: bool,
    /// The policy forbids to change a target that differs: the entry is left out.
    pub refused: Option<Reason>,
}

/// Result of settling one file of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SettledFile {
    /// The file.
    pub entry: EntryIndex,
    /// What happened.
    pub result: SettleResult,
}

/// What settling did to a file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SettleResult {
    /// Its chunks of this batch are durable and were read back, except these, which differ.
    Durable {
        /// Bytes of the batch that were read back and equal.
        verified_bytes: u64,
        /// Chunks that the device did not return as written.
        bad: Vec<u32>,
    },
    /// It is sealed.
    Sealed {
        /// Lowest level of its read-back.
        level: Level,
    },
    /// Syncing failed: its inode may not be used again.
    SyncFailed,
    /// Its staging file is not under its name any more, or an adopted target is no longer equal: what is good of it is
    /// taken over to a new inode.
    InodeLost,
    /// No space: it is tried again when there is some.
    Full,
    /// It cannot be sealed.
    LeftOut(Reason),
}

/// What the brain asks the hands to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Task {
    /// Look at what is where these entries go (`first`, `count`).
    Examine(EntryIndex, u32),
    /// Look again whether these claimed targets are unchanged.
    ExamineClaims(Vec<EntryIndex>),
    /// Compare files with their candidates.
    Adopt(Vec<AdoptItem>),
    /// All chunks of the file are held and its end is known: seal it with the open batch.
    Finish(EntryIndex),
    /// Close the open batch: make it durable, claim, read back, seal.
    Settle,
    /// Read back chunks that were claimed durable by an earlier run.
    ReadBack(EntryIndex, ChunkRun),
    /// Leave the file's staging inode, and take what verifies of it over to a new one.
    NewInode(EntryIndex),
    /// Forget the file: it is withdrawn, or left out for this reason.
    Abandon(EntryIndex, Option<Reason>),
    /// Compare the log on disk with its chain.
    CheckLog,
    /// Look at the free space again.
    LookAtSpace,
    /// Make symlinks, set directories' modes and times.
    FinishTree,
    /// Make, sign and persist the receipt.
    IssueReceipt,
    /// Remove the working state: the receipt is acknowledged or lingered for.
    Close,
    /// Send a message on the control stream.
    Send(Message),
    /// Send the receipt with its exceptions.
    SendReceipt,
    /// End the link: the peer broke the protocol in this way.
    Misbehaved(&'static str),
    /// Drop the link and connect again: the log was damaged and is to be replayed.
    Restart,
    /// The run is over.
    End(End),
}

/// How far the receiver is, for screens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tally {
    /// What it does.
    pub phase: Phase,
    /// A file it is busy with.
    pub entry: Option<EntryIndex>,
    /// Files in the manifest so far, without withdrawn ones.
    pub known_files: u64,
    /// Their bytes.
    pub known_bytes: u64,
    /// Whether the manifest is complete.
    pub is_total: bool,
    /// Bytes held.
    pub held_bytes: u64,
    /// Bytes read back.
    pub verified_bytes: u64,
    /// Files sealed.
    pub sealed_files: u64,
    /// Entries left out so far, on either side.
    pub left_out: u64,
    /// Bytes adopted instead of wanted.
    pub adopted_bytes: u64,
    /// Chunks wanted again because a check found them wrong.
    pub resent_chunks: u64,
    /// Bytes on their way.
    pub in_flight_bytes: u64,
    /// A batch is being settled.
    pub is_settling: bool,
}

/// How a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// The receipt is acknowledged.
    Acknowledged,
    /// The receipt is issued; the sender has not confirmed that it has it.
    Unconfirmed,
    /// This side gives up.
    Stopped(StopReason),
    /// The peer stopped.
    PeerStopped(StopReason),
}

/// What a new inode has of the one that was left.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Kept {
    /// Bytes that were copied.
    pub bytes: u64,
    /// The chunks.
    pub chunks: Vec<u32>,
}

/// What the brain hears.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// A link is up; the log was replayed up to the rung that both share.
    Connected,
    /// The link is gone.
    LinkLost,
    /// There has been no link for as long as one is waited for.
    PatienceOver,
    /// Records were appended to the log, in order.
    Noted(Vec<Noted>),
    /// The sender has settled at the position that the log has (or will have after this many records).
    Settled(u64),
    /// Results of an examination, in order from the entry on.
    Examined(EntryIndex, Vec<Disposition>),
    /// Results for claimed targets: those that no longer stand.
    ClaimsExamined(Vec<(EntryIndex, Disposition)>),
    /// Results of adopting.
    Adopted(Vec<AdoptedItem>),
    /// A chunk arrived, was verified and written: so many bytes, or none if it is held already.
    Written(Chunk, u32),
    /// A chunk arrived and did not hash to its digest.
    Differed(Chunk),
    /// The sender cannot serve a chunk.
    Gone(Chunk, Reason),
    /// A chunk could not be written.
    WriteFailed(Chunk, WriteError),
    /// A file could not be put into the open batch.
    FinishFailed(EntryIndex, WriteError),
    /// The batch that was closed last is durable and claimed: the next may be closed while this one is read back.
    BatchSynced,
    /// The batch that is being closed was to seal these, and lacks these chunks of them. In order with what was said of
    /// chunks that were written: told by the same hands.
    Missing(Vec<(EntryIndex, Vec<u32>)>),
    /// The oldest closed batch is settled.
    BatchSettled(Vec<SettledFile>),
    /// Chunks of an earlier run were read back; these differ.
    ReadBackDone(EntryIndex, ChunkRun, Vec<u32>),
    /// A new inode holds what verified of the old one.
    Renewed(EntryIndex, Result<Kept, Reason>),
    /// The log was compared with its chain: whether it is undamaged.
    LogChecked(bool),
    /// Free bytes and inodes beyond the reserve.
    Space(u64, u64),
    /// The user's consent is given (or was not needed).
    Consented,
    /// The user declined.
    Declined,
    /// Symlinks and directories are done.
    TreeFinished,
    /// The receipt is persisted.
    ReceiptIssued,
    /// No receipt was made: the manifest has gone on, or names what is neither sealed nor left out.
    ReceiptRefused,
    /// The sender has stored the receipt.
    Acknowledged,
    /// The working state is removed.
    Closed,
    /// The peer stops.
    PeerStopped(StopReason),
    /// This side is asked to stop.
    StopRequested(StopReason),
    /// State could not be written.
    StateFailed,
    /// There was no space for what ends the transfer: it is tried again when there is some.
    StateFull,
    /// Time has passed.
    Tick,
}

/// Why a chunk was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WriteError {
    /// No space or quota: wait for it.
    Full,
    /// Something else: try a new inode.
    Failed,
    /// The entry no longer accepts chunks (withdrawn, sealed or unknown): nothing was done.
    Stale,
}
