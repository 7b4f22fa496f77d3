//! Gives one received file on, to somebody who may see nothing that was not read back and compared: read past the cache and
//! hashed once more on its way. It does not know where the bytes go.

use std::io;

use crate::digest::{Folder, chunk_digest};
use crate::disk::{Access, AlignedBuffer, Disk, DiskFile};
use crate::geometry::{ChunkRun, Geometry};
use crate::limits::CHUNK_BYTES;
use crate::receipt::Line;

/// Why a file was not given on whole.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// It could not be read.
    #[error("reading it failed")]
    Read(#[source] io::Error),
    /// It is not what was received any more. The last of its bytes were kept back.
    #[error("its bytes are others now than those that were received")]
    Differs,
    /// Whoever takes the bytes failed.
    #[error(transparent)]
    Write(io::Error),
}

/// Gives the content of a line's file in order to `write`, a chunk at a time. The last chunk is given only when all that was
/// read hashes to what the line says.
pub fn write_out<D: Disk>(
    disk: &D,
    root: &D::Dir,
    line: &Line,
    mut write: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), OutputError> {
    let parent = line.path.parent();
    let dir = disk.open_dir(root, parent.as_ref().map_or(&[][..], |parent| parent.as_bytes()));
    let file = dir.and_then(|dir| open(disk, &dir, line.path.name())).map_err(OutputError::Read)?;
    let geometry = Geometry::new(line.size, CHUNK_BYTES).ok_or(OutputError::Differs)?;
    let mut folder = Folder::default();
    let (mut buffer, mut held_back) = (AlignedBuffer::default(), AlignedBuffer::default());
    for chunk in geometry.chunks(ChunkRun { first: 0, count: geometry.chunk_count() }) {
        let length = usize::try_from(geometry.chunk_len(chunk)).expect("a chunk fits into memory");
        file.read_uncached_at(&mut buffer, geometry.offset(chunk), length).map_err(OutputError::Read)?;
        if buffer.bytes().len() != length {
            return Err(OutputError::Differs);
        }
        folder.push(chunk_digest(geometry, chunk, buffer.bytes()));
        write(held_back.bytes()).map_err(OutputError::Write)?;
        std::mem::swap(&mut buffer, &mut held_back);
    }
    let has_grown = file.stat().map_err(OutputError::Read)?.size != line.size;
    if has_grown || line.digest != Some(folder.finish()) {
        return Err(OutputError::Differs);
    }
    write(held_back.bytes()).map_err(OutputError::Write)
}

/// It has the mode that it came with, which may keep its owner from reading it. It is about to be dropped.
fn open<D: Disk>(disk: &D, dir: &D::Dir, name: &[u8]) -> io::Result<D::File> {
    match disk.open(dir, name, Access::Read) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            disk.set_mode(dir, name, 0o600)?;
            disk.open(dir, name, Access::Read)
        }
        opened => opened,
    }
}
