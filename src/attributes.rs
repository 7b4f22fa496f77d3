//! What is known about a file besides its bytes: kind, times, stamps, and how well a read was proved.

use serde::{Deserialize, Serialize};

/// How far below this process a verifying read is proved to have come from. Ordered: the lowest heads a receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Level {
    /// Possibly from the page cache.
    Cache,
    /// The cache was asked to step aside, without proof that it did.
    Requested,
    /// Buffered, after each page was probed and found absent from the cache.
    Evicted,
    /// `O_DIRECT` on a file system that states its alignment for it: below this kernel's page cache.
    Device,
}

impl Level {
    /// All levels, lowest first.
    pub const ALL: [Level; 4] = [Level::Cache, Level::Requested, Level::Evicted, Level::Device];

    /// The word used on screens, in JSON and in receipts.
    pub fn word(self) -> &'static str {
        match self {
            Level::Cache => "cache",
            Level::Requested => "requested",
            Level::Evicted => "evicted",
            Level::Device => "device",
        }
    }
}

/// What kind of thing a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FileKind {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A FIFO, socket or device: never opened.
    Special,
}

/// Nanoseconds since 1970, negative before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Timestamp {
    /// Whole seconds, rounded down.
    pub seconds: i64,
    /// 0 to 999,999,999.
    pub nanos: u32,
}

/// The part of a stat by which an unchanged file is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Stamps {
    /// Length in bytes.
    pub size: u64,
    /// Time of the last change of content.
    pub mtime: Timestamp,
    /// Time of the last change of the inode.
    pub ctime: Timestamp,
    /// Inode number.
    pub inode: u64,
    /// Device number.
    pub device: u64,
}
