//! What became of an entry, and why: the words that manifest, wire, receipt and screens share.

use std::fmt;
use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};

/// Why an entry was left out, withdrawn or not served. Part of formats: append, never reorder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Reason {
    /// The source could not be opened or listed for lack of permission.
    Unreadable,
    /// The source was gone when it was to be read.
    Vanished,
    /// A FIFO, socket or device.
    Special,
    /// The source changed while it was read, also on the second try.
    Changed,
    /// Reading the source failed (an I/O error).
    SourceError,
    /// Two reads of the unchanged source gave different bytes.
    SourceUnsteady,
    /// The path is too long or too deep to be expressed.
    PathTooLong,
    /// The manifest did not get to the end of this version; another one follows.
    Superseded,
    /// The target holds something else under this name, and the policy is to refuse.
    ExistsDifferent,
    /// The target holds something else under this name, and the policy is to keep it.
    Kept,
    /// Another entry has the same path, or one that cannot exist beside it.
    Collision,
    /// The directory it belongs into was left out.
    ParentLeftOut,
    /// A mount below the target directory: it cannot be sealed by a rename.
    OtherFileSystem,
    /// The target file system refuses the name.
    NameRefused,
    /// The device returned other data than was written, also on a new inode.
    DeviceDiffers,
    /// Making the data durable failed, also on a new inode.
    SyncFailed,
    /// Writing failed for a reason other than lack of space.
    WriteFailed,
    /// The chunk differed on arrival each time it was sent.
    ArrivalDiffers,
    /// No permission to write there.
    TargetDenied,
    /// Something else changed the target or staging file while it was being sealed.
    TargetChanged,
    /// The source does not have the digest that the user gave for it.
    Unexpected,
    /// The user gave digests, and none for it.
    Unlisted,
    /// The user listed it, and it is not among what is sent.
    Missing,
    /// The target has something else under each of the names that it could get.
    NamesTaken,
}

impl Reason {
    /// The stable word in JSON and receipts.
    pub fn word(self) -> &'static str {
        match self {
            Reason::Unreadable => "unreadable",
            Reason::Vanished => "vanished",
            Reason::Special => "special",
            Reason::Changed => "changed",
            Reason::SourceError => "source-error",
            Reason::SourceUnsteady => "source-unsteady",
            Reason::PathTooLong => "path-too-long",
            Reason::Superseded => "superseded",
            Reason::ExistsDifferent => "exists-different",
            Reason::Kept => "kept",
            Reason::Collision => "collision",
            Reason::ParentLeftOut => "parent-left-out",
            Reason::OtherFileSystem => "other-file-system",
            Reason::NameRefused => "name-refused",
            Reason::DeviceDiffers => "device-differs",
            Reason::SyncFailed => "sync-failed",
            Reason::WriteFailed => "write-failed",
            Reason::ArrivalDiffers => "arrival-differs",
            Reason::TargetDenied => "target-denied",
            Reason::TargetChanged => "target-changed",
            Reason::Unexpected => "unexpected",
            Reason::Unlisted => "unlisted",
            Reason::Missing => "missing",
            Reason::NamesTaken => "names-taken",
        }
    }

    /// Whether an entry with this reason makes the exit code 5. Kept ones are policy, and a superseded version has
    /// another in its place.
    pub fn counts_as_left_out(self) -> bool {
        !matches!(self, Reason::Kept | Reason::Superseded)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::Unreadable => "the sender may not read it",
            Reason::Vanished => "it was gone when the sender came to read it",
            Reason::Special => "it is not a file, directory or symlink",
            Reason::Changed => "it kept changing while the sender read it",
            Reason::SourceError => "reading it failed on the sender",
            Reason::SourceUnsteady => "two reads of the unchanged source gave different bytes",
            Reason::PathTooLong => "its path is too long",
            Reason::Superseded => "a newer version of it follows",
            Reason::ExistsDifferent => "the target has something else under this name",
            Reason::Kept => "the target's own version was kept",
            Reason::Collision => "another entry claims the same name",
            Reason::ParentLeftOut => "its directory was left out",
            Reason::OtherFileSystem => "its directory is a mount of another file system",
            Reason::NameRefused => "the target's file system refuses the name",
            Reason::DeviceDiffers => "the receiver's device returned other data than was written",
            Reason::SyncFailed => "the receiver could not make it durable",
            Reason::WriteFailed => "writing it failed on the receiver",
            Reason::ArrivalDiffers => "its bytes differed from the manifest each time they arrived",
            Reason::TargetDenied => "the receiver may not write there",
            Reason::TargetChanged => "something else changed it on the receiver",
            Reason::Unexpected => "it does not have the digest that was given for it",
            Reason::Unlisted => "no digest was given for it",
            Reason::Missing => "it is listed, and not among what is sent",
            Reason::NamesTaken => "the target has something else under each of the names that it could get",
        })
    }
}

/// What became of an entry at the receiver. Part of formats: append, never reorder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Outcome {
    /// Verified, durable and under its name.
    Delivered,
    /// As `Delivered`, but mode or times could not be applied.
    AttributesNotApplied,
    /// Not delivered.
    LeftOut(Reason),
    /// As `Delivered`, but under its name with this number in it ([`crate::path::RelPath::numbered`]): its own was taken.
    Renamed(NonZeroU16),
    /// As `Renamed`, but mode or times could not be applied.
    RenamedAttributesNotApplied(NonZeroU16),
}

impl Outcome {
    /// The stable word in receipts and canonical lines.
    pub fn word(self) -> &'static str {
        match self {
            Outcome::Delivered => "delivered",
            Outcome::AttributesNotApplied => "attributes-not-applied",
            Outcome::LeftOut(reason) => reason.word(),
            Outcome::Renamed(_) => "renamed",
            Outcome::RenamedAttributesNotApplied(_) => "renamed-attributes-not-applied",
        }
    }

    /// What became of an entry that arrived, under its own name or under one with a number.
    pub fn arrived(number: Option<NonZeroU16>, is_attributes_failed: bool) -> Outcome {
        match (number, is_attributes_failed) {
            (None, false) => Outcome::Delivered,
            (None, true) => Outcome::AttributesNotApplied,
            (Some(number), false) => Outcome::Renamed(number),
            (Some(number), true) => Outcome::RenamedAttributesNotApplied(number),
        }
    }

    /// The number in the name under which the entry stands; `None` if it has its own name, or does not stand there.
    pub fn number(self) -> Option<NonZeroU16> {
        match self {
            Outcome::Renamed(number) | Outcome::RenamedAttributesNotApplied(number) => Some(number),
            Outcome::Delivered | Outcome::AttributesNotApplied | Outcome::LeftOut(_) => None,
        }
    }

    /// Whether the entry arrived, but for its mode or times.
    pub fn is_without_attributes(self) -> bool {
        matches!(self, Outcome::AttributesNotApplied | Outcome::RenamedAttributesNotApplied(_))
    }

    /// Whether the entry arrived.
    pub fn has_arrived(self) -> bool {
        !matches!(self, Outcome::LeftOut(_))
    }
}

/// What a manifest holds when it is complete: live entries only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Regular files.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Entries the sender left out.
    pub left_out: u64,
    /// Bytes of the regular files.
    pub bytes: u64,
    /// What was there and does not travel.
    pub not_preserved: NotPreserved,
}

/// What a run found at the target and did not need to have sent. Says nothing about what arrived: for screens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Reused {
    /// Files that were there, of the same content under the same name.
    pub unchanged_files: u64,
    /// Files of which a part was there, under the same name.
    pub changed_files: u64,
    /// Files of which all or a part was there, under another name.
    pub moved_files: u64,
    /// Bytes that were there, of these files and of earlier runs.
    pub bytes: u64,
}

/// Attributes that were found at the source and are not carried over, by number of entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotPreserved {
    /// Owned by another user than the sender runs as.
    pub owners: u64,
    /// With ACLs or extended attributes.
    pub extended_attributes: u64,
    /// Regular files with several names.
    pub hard_links: u64,
    /// With setuid, setgid or sticky bits.
    pub special_bits: u64,
}

impl NotPreserved {
    /// Whether there is anything to say.
    pub fn is_empty(&self) -> bool {
        *self == NotPreserved::default()
    }
}
