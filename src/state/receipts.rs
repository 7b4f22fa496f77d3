//! Receipts in `$LANDFALL_HOME/receipts`, by transfer and role: written once, streamed, read back before they have a
//! name, found again whole. What a receipt says is `receipt.rs`.

use std::io;

use crate::digest::check8;
use crate::disk::{Access, AlignedBuffer, Disk, DiskFile};
use crate::identity::{Role, TransferId};
use crate::limits::PATH_BYTES_MAX;
use crate::state::files::{Damage, create_anew, temporary};

/// Bytes collected before they are written.
const BUFFER_BYTES: usize = 1 << 20;
/// Bytes read at once.
const READ_BYTES: usize = 64 << 10;
/// Bytes of the longest line: a path and a link target, encoded.
const LINE_BYTES_MAX: usize = 16 * PATH_BYTES_MAX;

/// The name of a receipt's file.
pub fn file_name(id: TransferId, role: Role) -> String {
    format!("{id}.{role}.receipt")
}

/// A receipt that is being written. It has no name until [`ReceiptWriter::finish`]; dropped before, it never was.
#[derive(Debug)]
pub struct ReceiptWriter<D: Disk> {
    disk: D,
    dir: D::Dir,
    name: Vec<u8>,
    file: D::File,
    written_bytes: u64,
    written: Written,
    buffer: Vec<u8>,
}

/// What was written to a receipt's file: length and check of each piece, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written(Vec<(usize, [u8; 8])>);

impl Written {
    /// Whether a file holds this and nothing more, read past the cache.
    fn is_in<F: DiskFile>(&self, file: &F) -> io::Result<bool> {
        let (mut buffer, mut offset) = (AlignedBuffer::default(), 0);
        for (length, check) in &self.0 {
            file.read_uncached_at(&mut buffer, offset, *length)?;
            if buffer.bytes().len() != *length || check8(&[buffer.bytes()]) != *check {
                return Ok(false);
            }
            offset += *length as u64;
        }
        Ok(file.stat()?.size == offset)
    }
}

impl<D: Disk> ReceiptWriter<D> {
    pub(super) fn create(disk: D, dir: D::Dir, name: Vec<u8>) -> io::Result<ReceiptWriter<D>> {
        let file = create_anew(&disk, &dir, &temporary(&name))?;
        Ok(ReceiptWriter { disk, dir, name, file, written_bytes: 0, written: Written::default(), buffer: vec![] })
    }

    /// Appends one line; the line's end is added.
    pub fn line(&mut self, line: &str) -> io::Result<()> {
        self.buffer.extend_from_slice(line.as_bytes());
        self.buffer.push(b'\n');
        if self.buffer.len() >= BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    /// Appends whole lines, each with its end.
    pub fn text(&mut self, lines: &[u8]) -> io::Result<()> {
        for piece in lines.chunks(BUFFER_BYTES) {
            self.buffer.extend_from_slice(piece);
            if self.buffer.len() >= BUFFER_BYTES {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.buffer, self.written_bytes)?;
        self.written.0.push((self.buffer.len(), check8(&[&self.buffer])));
        self.written_bytes += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Makes it durable, file and name, after it was read back. Only then may it be sent or told of.
    /// [`Damage::ReadsOtherwise`]: it is to be written anew.
    pub fn finish(mut self) -> io::Result<Written> {
        self.flush()?;
        self.file.sync()?;
        if !self.written.is_in(&self.file)? {
            return Err(Damage::ReadsOtherwise.into());
        }
        self.disk.replace(&self.dir, &temporary(&self.name), &self.dir, &self.name)?;
        self.disk.sync_dir(&self.dir)?;
        Ok(self.written)
    }
}

/// Whether the file of that name still is what was written.
pub(super) fn is_whole<D: Disk>(disk: &D, dir: &D::Dir, name: &[u8], written: &Written) -> io::Result<bool> {
    match disk.open(dir, name, Access::Read) {
        Ok(file) => written.is_in(&file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// A stored receipt, read line by line.
#[derive(Debug)]
pub struct ReceiptReader<F> {
    file: F,
    offset: u64,
    buffer: Vec<u8>,
    /// Bytes of `buffer` that were returned already.
    done: usize,
}

impl<F: DiskFile> ReceiptReader<F> {
    pub(super) fn open<D: Disk<File = F>>(disk: &D, dir: &D::Dir, name: &[u8]) -> io::Result<Option<ReceiptReader<F>>> {
        match disk.open(dir, name, Access::Read) {
            Ok(file) => Ok(Some(ReceiptReader { file, offset: 0, buffer: vec![], done: 0 })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The next line without its end; the first is the head with core and signature. `None` at the end of the file. A
    /// line without an end, or longer than any line is, is damage.
    pub fn line(&mut self) -> io::Result<Option<String>> {
        let mut searched = self.done;
        loop {
            if let Some(length) = self.buffer[searched..].iter().position(|byte| *byte == b'\n') {
                let line = self.buffer[self.done..searched + length].to_vec();
                self.done = searched + length + 1;
                return String::from_utf8(line).map(Some).map_err(|_| Damage::Damaged.into());
            }
            self.buffer.drain(..self.done);
            self.done = 0;
            searched = self.buffer.len();
            if searched > LINE_BYTES_MAX {
                return Err(Damage::Damaged.into());
            }
            self.buffer.resize(searched + READ_BYTES, 0);
            let length = self.file.read_at(&mut self.buffer[searched..], self.offset)?;
            self.buffer.truncate(searched + length);
            self.offset += length as u64;
            match (length, searched) {
                (0, 0) => return Ok(None),
                (0, _) => return Err(Damage::Damaged.into()),
                _ => {}
            }
        }
    }
}
