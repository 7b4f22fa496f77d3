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

    /// Its name in a plan.
    pub fn word(self) -> &'static str {
        match self {
            Operation::OpenDir => "open-dir",
            Operation::MakeDir => "make-dir",
            Operation::List => "list",
            Operation::Stat => "stat",
            Operation::StatDir => "stat-dir",
            Operation::Open => "open",
            Operation::Create => "create",
            Operation::RenameNoReplace => "rename-no-replace",
            Operation::Replace => "replace",
            Operation::MakeSymlink => "make-symlink",
            Operation::ReadLink => "read-link",
            Operation::Remove => "remove",
            Operation::RemoveDir => "remove-dir",
            Operation::SyncDir => "sync-dir",
            Operation::SyncFileSystem => "sync-file-system",
            Operation::SetDirMetadata => "set-dir-metadata",
            Operation::SetMode => "set-mode",
            Operation::SetMtime => "set-mtime",
            Operation::Space => "space",
            Operation::ExtendedAttributes => "extended-attributes",
            Operation::FileStat => "file-stat",
            Operation::ReadCached => "read-cached",
            Operation::ReadUncached => "read-uncached",
            Operation::Write => "write",
            Operation::Punch => "punch",
            Operation::Reserve => "reserve",
            Operation::SetLen => "set-len",
            Operation::StartWriteback => "start-writeback",
            Operation::Sync => "sync",
            Operation::SyncData => "sync-data",
            Operation::SetMetadata => "set-metadata",
            Operation::ExtentAt => "extent-at",
        }
    }

    /// The operation of that name.
    pub fn of_word(word: &str) -> Option<Operation> {
        Operation::ALL.into_iter().find(|operation| operation.word() == word)
    }

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
