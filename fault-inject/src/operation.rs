//! The operations of the storage seam as values, for counting and for plans. One per method of
//! [`landfall::disk::Disk`] and [`landfall::disk::DiskFile`]; what they do is written there.

/// One kind of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// `Disk::open_dir`
    OpenDir,
    /// `Disk::make_dir`
    MakeDir,
    /// `Disk::list`
    List,
    /// `Disk::stat`
    Stat,
    /// `Disk::stat_dir`
    StatDir,
    /// `Disk::open`
    Open,
    /// `Disk::create_exclusive`
    Create,
    /// `Disk::rename_noreplace`
    RenameNoReplace,
    /// `Disk::replace`
    Replace,
    /// `Disk::make_symlink`
    MakeSymlink,
    /// `Disk::read_link`
    ReadLink,
    /// `Disk::remove`
    Remove,
    /// `Disk::remove_dir`
    RemoveDir,
    /// `Disk::sync_dir`
    SyncDir,
    /// `Disk::sync_file_system`
    SyncFileSystem,
    /// `Disk::set_dir_metadata`
    SetDirMetadata,
    /// `Disk::set_mode`
    SetMode,
    /// `Disk::set_mtime`
    SetMtime,
    /// `Disk::space`
    Space,
    /// `Disk::has_extended_attributes`
    ExtendedAttributes,
    /// `DiskFile::stat`
    FileStat,
    /// `DiskFile::read_at`
    ReadCached,
    /// `DiskFile::read_uncached_at`
    ReadUncached,
    /// `DiskFile::write_all_at`
    Write,
    /// `DiskFile::punch`
    Punch,
    /// `DiskFile::reserve`
    Reserve,
    /// `DiskFile::set_len`
    SetLen,
    /// `DiskFile::start_writeback`
    StartWriteback,
    /// `DiskFile::sync`
    Sync,
    /// `DiskFile::sync_data`
    SyncData,
    /// `DiskFile::set_metadata`
    SetMetadata,
    /// `DiskFile::extent_at`
    ExtentAt,
}

impl Operation {
    /// All of them, in the order of the traits.
    pub const ALL: [Operation; 32] = [
        Operation::OpenDir,
        Operation::MakeDir,
        Operation::List,
        Operation::Stat,
        Operation::StatDir,
        Operation::Open,
        Operation::Create,
        Operation::RenameNoReplace,
        Operation::Replace,
        Operation::MakeSymlink,
        Operation::ReadLink,
        Operation::Remove,
        Operation::RemoveDir,
        Operation::SyncDir,
        Operation::SyncFileSystem,
        Operation::SetDirMetadata,
        Operation::SetMode,
        Operation::SetMtime,
        Operation::Space,
        Operation::ExtendedAttributes,
        Operation::FileStat,
        Operation::ReadCached,
        Operation::ReadUncached,
        Operation::Write,
        Operation::Punch,
        Operation::Reserve,
        Operation::SetLen,
        Operation::StartWriteback,
        Operation::Sync,
        Operation::SyncData,
        Operation::SetMetadata,
        Operation::ExtentAt,
    ];

    /// Whether it changes nothing that a later operation could see. Plans that fail every change, as a read-only
    /// file system does, ask this.
    pub fn is_reading(self) -> bool {
        matches!(
            self,
            Operation::OpenDir
                | Operation::List
                | Operation::Stat
                | Operation::StatDir
                | Operation::Open
                | Operation::ReadLink
                | Operation::Space
                | Operation::ExtendedAttributes
                | Operation::FileStat
                | Operation::ReadCached
                | Operation::ReadUncached
                | Operation::ExtentAt
        )
    }
}
