//! What `--delete` has removed, in `$LANDFALL_HOME/receipts/<id>.<role>.deleted`: a line of JSON before each removal, and one
//! after it. Owns when the lines are durable; what they say is the face's.

use std::io;

use crate::disk::{Access, Disk, DiskFile};
use crate::identity::{Role, TransferId};

/// The name of a log's file.
pub(super) fn file_name(id: TransferId, role: Role) -> String {
    format!("{id}.{role}.deleted")
}

/// A log that is being written. What is in it stays, however the run ends.
#[derive(Debug)]
pub struct DeletionLog<D: Disk> {
    file: D::File,
    written_bytes: u64,
}

impl<D: Disk> DeletionLog<D> {
    /// Goes on at the end of a log that is there.
    pub(super) fn open(disk: &D, dir: &D::Dir, name: &[u8]) -> io::Result<DeletionLog<D>> {
        let file = match disk.create_exclusive(dir, name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => disk.open(dir, name, Access::Write),
            created => created,
        }?;
        disk.sync_dir(dir)?;
        let written_bytes = file.stat()?.size;
        Ok(DeletionLog { file, written_bytes })
    }

    /// Appends whole lines, and makes them durable.
    pub fn append(&mut self, lines: &str) -> io::Result<()> {
        self.file.write_all_at(lines.as_bytes(), self.written_bytes)?;
        self.written_bytes += lines.len() as u64;
        self.file.sync_data()
    }
}
