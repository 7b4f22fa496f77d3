//! A search over the real session machines of both sides: one file of two chunks, a link that can be lost at any
//! moment, overtaken and doubled chunks, and a model of the two disks on which the process or the machine can end
//! between any two durable steps. Every state that a bounded number of departures from the ordinary course can
//! reach is visited once, in the order of that number, and in each it is checked that
//!
//! - P1: nothing wrong stands under the final name, before and after each power cut;
//! - P2: a receipt is issued, and stays, only for what is equal and durable;
//! - P3: a file is published once and a receipt made once, however often anything is delivered;
//! - P4: the sender ends with "acknowledged" only where P2 holds and both sides hold the receipt;
//! - P5: from every state, if nothing goes wrong any more, both sides end;
//! - P6: chunks that are durable and claimed are never asked for again without a reason on record;
//! - P7: each fault, each repair and each outcome is reached ([`Mark`]).
//!
//! The machines are the product's, cloned and hashed; what they drive is a model of the hands (`store/`, `source/`),
//! whose real code the simulator and the crash enumeration run.

mod disk;
mod fingerprint;
mod intake;
mod moves;
mod receiving;
mod report;
mod search;
mod sending;
mod settler;
mod state;

pub use report::report;
pub use search::{Found, Options, search};

/// What is wrong with a state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// Something wrong was published or acknowledged.
    Wrong(String),
    /// The two sides do not end, or ask for what they have.
    Stuck(String),
}

/// A model that is wrong on purpose: shows that the search sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// Syncs of a file do nothing and say yes; the drive returns what it was given until the power goes.
    SkippedSync,
    /// The directory of the final name is not synced.
    SkippedDirectorySync,
    /// Nothing is read back.
    SkippedReadBack,
    /// What arrives is written without being verified, and not read back.
    UnverifiedArrival,
    /// A receipt is said to be issued before its directory is synced.
    UnsyncedReceipt,
    /// The sender acknowledges before its receipt is stored.
    AcknowledgedBeforeStored,
    /// After a start the claims of the journal are not looked at.
    ForgottenClaims,
}

impl Broken {
    /// All of them.
    pub const ALL: [Broken; 7] = [
        Broken::SkippedSync,
        Broken::SkippedDirectorySync,
        Broken::SkippedReadBack,
        Broken::UnverifiedArrival,
        Broken::UnsyncedReceipt,
        Broken::AcknowledgedBeforeStored,
        Broken::ForgottenClaims,
    ];
}

/// What a search must have reached to say anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mark {
    /// The receiver's process was killed.
    ReceiverKilled,
    /// Its machine lost power.
    ReceiverCut,
    /// The sender's process was killed.
    SenderKilled,
    /// Its machine lost power.
    SenderCut,
    /// Neither side was running.
    BothDown,
    /// A receiver that had been started again ended again.
    EndedAgain,
    /// A link was lost.
    LinkLost,
    /// A chunk was doubled.
    Doubled,
    /// A chunk was damaged on its way.
    Damaged,
    /// A page reached the drive damaged.
    Corrupted,
    /// A sync failed.
    SyncFailed,
    /// There was no space.
    Full,
    /// The second of two equal chunks was taken in.
    DuplicateTaken,
    /// A damaged chunk was refused.
    DamageSeen,
    /// A read-back differed.
    ReadBackDiffered,
    /// A failed sync was told.
    SyncFailureSeen,
    /// A full disk was told.
    FullSeen,
    /// An inode was left for a new one.
    Renewed,
    /// Claims of an earlier process were used.
    Resumed,
    /// Something that was there was compared instead of fetched.
    Adopted,
    /// A claim that the file is sealed stood.
    ClaimStood,
    /// The receiver's log was cut to what the sender still knew.
    Rewound,
    /// The file was sealed.
    Sealed,
    /// The receipt was issued.
    Issued,
    /// The sender acknowledged.
    Acknowledged,
    /// The receiver ended without hearing that.
    Unconfirmed,
    /// The sender ended between its receipt and its record, and answered from the receipt.
    AnsweredFromReceipt,
    /// The receiver gave up for a reason that running again may cure.
    GaveUp,
}

impl Mark {
    /// All of them.
    pub const ALL: [Mark; 28] = [
        Mark::ReceiverKilled,
        Mark::ReceiverCut,
        Mark::SenderKilled,
        Mark::SenderCut,
        Mark::BothDown,
        Mark::EndedAgain,
        Mark::LinkLost,
        Mark::Doubled,
        Mark::Damaged,
        Mark::Corrupted,
        Mark::SyncFailed,
        Mark::Full,
        Mark::DuplicateTaken,
        Mark::DamageSeen,
        Mark::ReadBackDiffered,
        Mark::SyncFailureSeen,
        Mark::FullSeen,
        Mark::Renewed,
        Mark::Resumed,
        Mark::Adopted,
        Mark::ClaimStood,
        Mark::Rewound,
        Mark::Sealed,
        Mark::Issued,
        Mark::Acknowledged,
        Mark::Unconfirmed,
        Mark::AnsweredFromReceipt,
        Mark::GaveUp,
    ];
}
