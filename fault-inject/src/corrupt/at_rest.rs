//! Damage to files that nobody has open: what lies in staging, and the state files of both sides.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::Corruption;
use crate::rig::state::{self, Places};

/// One damaged piece.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    /// File that it lies in.
    pub(super) file: PathBuf,
    /// First byte that changed.
    pub(super) at: u64,
}

/// Files of staging that hold data.
pub(super) fn staged(places: &Places) -> Vec<PathBuf> {
    let work = places.work();
    work.map(|work| state::entries(&work.join("staging"))).unwrap_or_default()
}

/// Manifest log and journal of the receiver, manifest log and stamps of the sender.
pub(super) fn metadata(places: &Places) -> Vec<PathBuf> {
    let receiver = places.work().into_iter().flat_map(|work| [work.join("manifest"), work.join("journal")]);
    let sender = places.sender_state().into_iter().flat_map(|dir| [dir.join("manifest"), dir.join("stamps")]);
    receiver.chain(sender).filter(|path| path.is_file()).collect()
}

/// Damages pieces of these files where they hold data. Each piece differs afterwards from what it was.
pub(super) fn damage(files: &[PathBuf], corruption: &Corruption, stream: &mut ChaCha8Rng) -> io::Result<Vec<Piece>> {
    let mut pieces = vec![];
    if files.is_empty() {
        return Ok(pieces);
    }
    for _ in 0..corruption.rate {
        let file = &files[stream.random_range(0..files.len())];
        if let Some(at) = damage_once(file, corruption, stream)? {
            pieces.push(Piece { file: file.clone(), at });
        }
    }
    Ok(pieces)
}

fn damage_once(path: &Path, corruption: &Corruption, stream: &mut ChaCha8Rng) -> io::Result<Option<u64>> {
    const WINDOW_BYTES: u64 = 64 << 10;
    let file = File::options().read(true).write(true).open(path)?;
    let len = file.metadata()?.len();
    if len == 0 {
        return Ok(None);
    }
    let start = stream.random_range(0..len) / WINDOW_BYTES * WINDOW_BYTES;
    let mut bytes = vec![0; usize::try_from(WINDOW_BYTES.min(len - start)).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, start)?;
    // A hole holds nothing that could rot.
    if bytes.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let before = bytes.clone();
    corruption.draw(stream).apply(&mut bytes, stream);
    let Some(at) = before.iter().zip(&bytes).position(|(before, after)| before != after) else { return Ok(None) };
    file.write_all_at(&bytes, start)?;
    file.sync_all()?;
    Ok(Some(start + at as u64))
}
