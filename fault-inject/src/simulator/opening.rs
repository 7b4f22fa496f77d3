//! What each of the receiver's processes begins with: a brain, and the store as `recv/engine.rs` opens it.

use std::io;
use std::time::{Duration, Instant};

use landfall::identity::TransferId;
use landfall::limits::{BATCH_FILES_MAX, LINGER_MS, PATIENCE_MS, SIMULATED_CHUNK_BYTES};
use landfall::manifest::{Header, Position};
use landfall::options::Existing;
use landfall::pool::Pool;
use landfall::session::receiver::{Ending, Receiver, Settings};
use landfall::store::{Layout, Policy, Store, recover};

use super::sights::Sight;
use crate::sim_disk::{SimDir, SimDisk};

/// What stays the same over all processes of a seed.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    /// The disk that holds the target.
    pub disk: SimDisk,
    /// The disk that holds the home.
    pub home: SimDisk,
    /// The transfer.
    pub transfer: TransferId,
    /// The policy.
    pub existing: Existing,
}

/// A brain for an empty log.
pub(super) fn new_brain(has_receipt: bool, now: Instant) -> Receiver {
    let linger = Duration::from_millis(LINGER_MS);
    let ending = if has_receipt { Ending::issued(now, linger) } else { Ending::open(linger) };
    let patience = Some(Duration::from_millis(PATIENCE_MS));
    Receiver::new(
        Settings {
            chunk_bytes: SIMULATED_CHUNK_BYTES,
            max_bytes: None,
            patience,
            linger,
            batch_files: BATCH_FILES_MAX,
        },
        ending,
    )
}

/// The store, opened, with the brain told what the log holds.
pub(super) fn open_store(
    setting: &Setting,
    root: &SimDir,
    rung: Option<Position>,
    brain: &mut Receiver,
    sights: &mut Vec<Sight>,
) -> io::Result<Store<SimDisk>> {
    let layout = Layout::open(&setting.disk, root.clone(), setting.transfer)?;
    let header = Header { chunk_bytes: SIMULATED_CHUNK_BYTES, transfer: setting.transfer };
    let policy = Policy { existing: setting.existing, reserve_bytes: Some(0) };
    let recovered = recover(&setting.disk, layout, header, policy, Pool::inline(), rung, |noted| brain.note(noted))?;
    if recovered.is_journal_cut {
        sights.push(Sight::JournalCut);
    }
    if recovered.is_log_cut {
        sights.push(Sight::LogCut);
    }
    Ok(recovered.store)
}
