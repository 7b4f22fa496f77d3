//! Opening a store: whatever of journal, log and staging is good is used, whatever is not costs work only.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::{Arc, Mutex, RwLock};

use super::directories::Directories;
use super::intake::{Intake, Paths, noted};
use super::journal_file::Journal;
use super::layout::{JOURNAL_NAME, LEFT_SUFFIX, Layout, MANIFEST_NAME};
use super::{Ledger, Policy, Settler, Shared, Store, Syncer};
use crate::disk::Disk;
use crate::manifest::{Header, Position};
use crate::pool::Pool;
use crate::state::log::{Found, ManifestLog};
use crate::task::receiver::Noted;

/// A store, and what was wrong with its files.
pub struct Recovered<D: Disk> {
    /// The store.
    pub store: Store<D>,
    /// The manifest log was torn or damaged, and was cut.
    pub is_log_cut: bool,
    /// The journal was torn or damaged, and was cut.
    pub is_journal_cut: bool,
}

/// Opens the store in a layout; `each` sees what the brain has to know of every record of the log. With a `rung` the
/// log is cut to that position first, if it goes through it.
pub fn recover<D: Disk>(
    disk: &D,
    layout: Layout<D>,
    header: Header,
    policy: Policy,
    pool: Pool,
    rung: Option<Position>,
    mut each: impl FnMut(Noted),
) -> io::Result<Recovered<D>> {
    if let Some(position) = rung {
        let (log, _) = ManifestLog::open(disk, &layout.transfer, MANIFEST_NAME, header, |_, _| ())?;
        if let Some(cursor) = log.find(position)? {
            log.cut(cursor)?;
        }
    }
    let journal = Journal::open(disk, &layout.transfer, JOURNAL_NAME, header.transfer)?;
    let mut ledger = Ledger::default();
    let mut paths = Paths::default();
    let (log, found) = ManifestLog::open(disk, &layout.transfer, MANIFEST_NAME, header, |record, step| {
        paths.note(record, step, &mut ledger);
        each(noted(record, step, &journal));
    })?;
    // Claims save work after a power cut only if the journal itself is still there.
    disk.sync_dir(&layout.transfer)?;
    let mut staged = HashSet::new();
    for listed in disk.list(&layout.staging)? {
        if listed.name.ends_with(LEFT_SUFFIX) {
            disk.remove(&layout.staging, &listed.name)?;
        } else {
            staged.insert(listed.name);
        }
    }
    let (is_journal_cut, claimed) = (journal.had_rest, journal.claimed());
    let directories = Directories::new(disk.clone(), layout.root.clone(), &layout.state)?;
    let device = disk.stat_dir(&layout.root)?.device;
    let shared = Arc::new(Shared {
        disk: disk.clone(),
        layout,
        policy,
        pool,
        device,
        log: RwLock::new(log),
        journal: Mutex::new(journal),
        claimed,
        directories: Mutex::new(directories),
        ledger: Mutex::new(ledger),
        given: Mutex::new(HashMap::new()),
        gate: Mutex::new(()),
    });
    let store = Store {
        intake: Intake::new(Arc::clone(&shared), paths, staged),
        syncer: Syncer::new(Arc::clone(&shared)),
        settler: Settler::new(Arc::clone(&shared)),
        shared,
    };
    Ok(Recovered { store, is_log_cut: found == Found::Cut, is_journal_cut })
}
