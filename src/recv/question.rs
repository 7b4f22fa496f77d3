//! What the user at a listening receiver is asked before anything is written.

use std::path::Path;

use crate::disk::Disk;
use crate::geometry::EntryIndex;
use crate::identity::PeerKey;
use crate::options::Question;
use crate::store::Shared;
use crate::task::receiver::Tally;

/// Roots that are named.
const ROOTS_MAX: usize = 20;
/// Entries that are looked at for roots: more would only delay the question.
const ENTRIES_LOOKED_AT_MAX: u32 = 100_000;

/// Puts the question together from what the manifest says so far.
pub(super) fn ask<D: Disk>(shared: &Shared<D>, tally: &Tally, peer: PeerKey, host: String, dir: &Path) -> Question {
    let (mut roots, mut root_count, mut existing) = (vec![], 0, 0);
    let count = shared.with_log(|log| log.entry_count()).min(ENTRIES_LOOKED_AT_MAX);
    for entry in 0..count {
        let introduction = shared.with_log(|log| log.introduction(EntryIndex(entry)));
        let Ok(Some(path)) = introduction.map(|record| record.path().cloned()) else { continue };
        if path.parent().is_some() {
            continue;
        }
        root_count += 1;
        existing += u64::from(shared.has_in_target(&path));
        if roots.len() < ROOTS_MAX {
            roots.push(path.as_bytes().to_vec());
        }
    }
    Question {
        roots,
        root_count,
        files: tally.known_files,
        bytes: tally.known_bytes,
        is_total: tally.is_total,
        peer,
        host,
        existing,
        bytes_free: shared.space().map_or(0, |space| space.bytes_free),
        dir: dir.to_owned(),
    }
}
