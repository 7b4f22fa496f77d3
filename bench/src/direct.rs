//! What a careful person does after `cp` and `sync`: reads everything back past the page cache and hashes it. With
//! what they did before, it is the floor of a verified copy: no network, no second hash, no proof.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use landfall::disk::AlignedBuffer;
use rustix::fs::{CWD, Mode, OFlags};

/// Bytes of one read.
const READ_BYTES: usize = 1 << 20;
/// Readers at once: many small files are worth it, and one large file has one.
const THREADS: usize = 16;

/// Every regular file below a directory.
pub fn files_below(root: &Path) -> io::Result<Vec<PathBuf>> {
    let (mut found, mut open) = (Vec::new(), vec![root.to_owned()]);
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            match entry.file_type()? {
                kind if kind.is_dir() => open.push(entry.path()),
                kind if kind.is_file() => found.push(entry.path()),
                _ => {}
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Reads and hashes all of them by O_DIRECT; gives the digests in the order of the files.
pub fn read_and_hash(files: &[PathBuf]) -> io::Result<Vec<blake3::Hash>> {
    let next = AtomicUsize::new(0);
    let read = || {
        let (mut buffer, mut found) = (AlignedBuffer::default(), Vec::new());
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(path) = files.get(index) else { return io::Result::Ok(found) };
            found.push((index, hash_one(path, &mut buffer)?));
        }
    };
    let mut found = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..THREADS.min(files.len())).map(|_| scope.spawn(read)).collect();
        let mut all = Vec::with_capacity(files.len());
        for reader in readers {
            all.extend(reader.join().expect("a reader does not panic")?);
        }
        io::Result::Ok(all)
    })?;
    found.sort_by_key(|(index, _)| *index);
    Ok(found.into_iter().map(|(_, digest)| digest).collect())
}

fn hash_one(path: &Path, buffer: &mut AlignedBuffer) -> io::Result<blake3::Hash> {
    let flags = OFlags::RDONLY | OFlags::DIRECT | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(CWD, path, flags, Mode::empty())?);
    let (mut hasher, mut offset) = (blake3::Hasher::new(), 0);
    loop {
        let slice = buffer.prepare(READ_BYTES);
        let got = file.read_at(slice, offset)?;
        if got == 0 {
            return Ok(hasher.finalize());
        }
        hasher.update(&slice[..got]);
        offset += got as u64;
        if got < READ_BYTES {
            return Ok(hasher.finalize()); // short only at the end of the file
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use fault_inject::rig::scratch::Scratch;

    use super::*;

    #[test]
    fn digests_are_those_of_the_contents_in_the_order_of_the_files() {
        let scratch = Scratch::new("direct");
        let contents = [vec![1; 3], vec![2; READ_BYTES], vec![3; READ_BYTES + 4097], vec![]];
        for (index, content) in contents.iter().enumerate() {
            std::fs::write(scratch.join(&index.to_string()), content).unwrap();
        }
        let files = files_below(scratch.path()).unwrap();
        let expected: Vec<_> = contents.iter().map(|content| blake3::hash(content)).collect();
        assert_eq!(read_and_hash(&files).unwrap(), expected);
    }
}
