//! Sealing: the only place where a received file gets its final name. Everything before it in `settle.rs` has been
//! synced and read back; here the claim that it is ours is synced, the name is given, the directory is synced.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::directories::reason_of;
use super::names::{Equal, Named};
use super::settle::{Settler, Settling};
use super::staging::{Finish, Held, Origin, Place};
use super::{Shared, is_full, locked};
use crate::attributes::{FileKind, Stamps};
use crate::digest::path_hash;
use crate::disk::{Access, Disk, DiskFile, Stat};
use crate::journal::Claim;
use crate::limits::SYNCFS_FILES_MIN;
use crate::options::Existing;
use crate::outcome::{Outcome, Reason};
use crate::path::RelPath;
use crate::task::receiver::SettleResult;

impl<D: Disk> Settler<D> {
    /// Seals those files that are whole, synced and read back.
    pub(super) fn seal(&mut self, files: &mut [Settling<D>]) -> io::Result<()> {
        let mut ready: Vec<&mut Settling<D>> = files.iter_mut().filter(|settling| is_ready(settling)).collect();
        if ready.is_empty() {
            return Ok(());
        }
        self.claim_sealing(&ready)?;
        let mut touched: BTreeMap<Vec<u8>, D::Dir> = BTreeMap::new();
        for settling in &mut ready {
            let Some(finish) = &settling.file.finish else { continue };
            match self.name(&settling.file.held, finish) {
                Ok((dir, named)) => {
                    settling.named = named;
                    let path = finish.path.parent().map_or(vec![], |parent| parent.as_bytes().to_vec());
                    touched.insert(path, dir);
                }
                Err(result) => settling.fail(result),
            }
        }
        if let Err(error) = self.sync_names(touched.into_values().collect()) {
            // The names may not last: nothing of this batch is claimed, and each file is looked at again.
            let result = if is_full(&error) { SettleResult::Full } else { SettleResult::SyncFailed };
            ready.iter_mut().for_each(|settling| settling.fail(result.clone()));
            return Ok(());
        }
        self.claim_sealed(&mut ready)
    }

    fn claim_sealing(&self, ready: &[&mut Settling<D>]) -> io::Result<()> {
        let claims: Vec<Claim> = ready
            .iter()
            .filter(|settling| settling.file.held.place == Place::Staging)
            .filter_map(|settling| {
                let finish = settling.file.finish.as_ref()?;
                // What stands there stays, and is not ours: no claim says so.
                let stays = self.shared.may_rename() && !finish.may_replace && self.is_taken(&finish.path);
                (!stays).then_some(Claim::Sealing { path: settling.file.held.path, digest: finish.digest })
            })
            .collect();
        if claims.is_empty() {
            return Ok(());
        }
        let mut journal = locked(&self.shared.journal);
        journal.append(&claims)?;
        journal.sync()
    }

    fn is_taken(&self, path: &RelPath) -> bool {
        let parent = locked(&self.shared.directories).parent_of(path);
        parent.is_ok_and(|parent| self.shared.disk.stat(&parent.dir, path.name()).is_ok())
    }

    /// Gives a file its name. Gives the directory that holds it, and which name it is.
    fn name(&self, held: &Held<D>, finish: &Finish) -> Result<(D::Dir, Named), SettleResult> {
        let shared = &self.shared;
        let parent = locked(&shared.directories).parent_of(&finish.path);
        let dir = parent.map_err(|reason| shared.leave_out(held.entry, reason))?.dir;
        if held.place == Place::Target {
            return Ok((dir, Named { number: held.number, equal: None }));
        }
        let in_place = || {
            let number = shared.name_of(&dir, &finish.path, held.inode)?;
            Some(Named { number, equal: None })
        };
        if self.is_staging_lost(held) && in_place().is_none() {
            return Err(SettleResult::InodeLost);
        }
        let renamed = self.rename(held, finish, &dir).or_else(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => {
                locked(&shared.directories).let_in(finish.path.parent())?;
                self.rename(held, finish, &dir)
            }
            // Done before, and what failed then was to make the name durable.
            io::ErrorKind::NotFound => in_place().ok_or(error),
            _ => Err(error),
        });
        match renamed {
            Ok(named) => {
                // Whoever comes to the same file after this one, with the next of the batch, is to know it.
                if shared.may_rename()
                    && named.equal.is_none()
                    && let Ok(stat) = held.file.stat()
                {
                    shared.is_shared(stat.stamps(), held.entry);
                }
                Ok((dir, named))
            }
            Err(error) if is_full(&error) => Err(SettleResult::Full),
            Err(error) => Err(shared.leave_out(held.entry, self.refusal(&error))),
        }
    }

    fn rename(&self, held: &Held<D>, finish: &Finish, dir: &D::Dir) -> io::Result<Named> {
        let (shared, name, new) = (&self.shared, held.name(), finish.path.name());
        let staging = &shared.layout.staging;
        match held.unless_abandoned(|| shared.disk.rename_noreplace(staging, &name, dir, new)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let may_replace = finish.may_replace || self.is_target_ours(held, finish, dir).unwrap_or(false);
                let stays =
                    |stat: Stat| stat.kind == FileKind::Directory || shared.is_anothers(stat.stamps(), held.entry);
                if may_replace && !stays(shared.disk.stat(dir, new)?) {
                    held.unless_abandoned(|| shared.disk.replace(staging, &name, dir, new))?;
                    return Ok(Named::default());
                }
                if shared.may_rename() { self.rename_aside(held, finish, dir) } else { Err(error) }
            }
            other => other.map(|()| Named::default()),
        }
    }

    /// Whether what has the name is an earlier version that this transfer sealed, perhaps while this one was on its
    /// way.
    fn is_target_ours(&self, held: &Held<D>, finish: &Finish, dir: &D::Dir) -> io::Result<bool> {
        let target = self.shared.disk.open(dir, finish.path.name(), Access::Read)?;
        let stat = target.stat()?;
        Ok(self.shared.is_ours(held.path, &target, &stat))
    }

    /// Whether the staging name stands for nothing, or for another file than the one that was read back.
    fn is_staging_lost(&self, held: &Held<D>) -> bool {
        match self.shared.disk.stat(&self.shared.layout.staging, &held.name()) {
            Ok(stat) => stat.inode != held.inode || stat.kind != FileKind::Regular,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }

    fn refusal(&self, error: &io::Error) -> Reason {
        match (error.kind(), self.shared.policy.existing) {
            (io::ErrorKind::AlreadyExists, Existing::Keep) => Reason::Kept,
            (io::ErrorKind::AlreadyExists, Existing::Rename) => Reason::NamesTaken,
            (io::ErrorKind::AlreadyExists, _) => Reason::ExistsDifferent,
            _ => reason_of(error),
        }
    }

    /// Makes new names durable: each touched directory, and the parents of directories that were made.
    pub(super) fn sync_names(&self, touched: Vec<D::Dir>) -> io::Result<()> {
        let made_in = locked(&self.shared.directories).take_unsynced();
        let synced = self.sync_each_name(touched, &made_in);
        if synced.is_err() {
            locked(&self.shared.directories).put_back_unsynced(made_in);
        }
        synced
    }

    fn sync_each_name(&self, touched: Vec<D::Dir>, made_in: &BTreeSet<Vec<u8>>) -> io::Result<()> {
        let (shared, root) = (&self.shared, &self.shared.layout.root);
        let is_many = touched.len() + made_in.len() >= SYNCFS_FILES_MIN;
        if is_many
            && shared.disk.space(root).is_ok_and(|space| space.is_syncfs_good)
            && shared.disk.sync_file_system(root).is_ok()
        {
            let is_left = |dir: &D::Dir| shared.is_elsewhere(shared.disk.stat_dir(dir));
            let left = touched.into_iter().filter(is_left).collect();
            return shared.pool.map(left, |dir| shared.disk.sync_dir(&dir)).into_iter().collect();
        }
        shared.pool.map(touched, |dir| shared.disk.sync_dir(&dir)).into_iter().collect::<io::Result<()>>()?;
        let sync = |path: &Vec<u8>| {
            let dir = locked(&shared.directories).reopen(path)?;
            // Somebody may have removed it, and with it the names in it.
            dir.map_or(Ok(()), |dir| shared.disk.sync_dir(&dir))
        };
        shared.pool.map(made_in.iter().collect(), sync).into_iter().collect()
    }

    fn claim_sealed(&self, ready: &mut [&mut Settling<D>]) -> io::Result<()> {
        let mut claims = vec![];
        for settling in ready.iter_mut().filter(|settling| settling.result.is_none()) {
            let Some(finish) = settling.file.finish.clone() else { continue };
            let (held, Named { number, equal }) = (&settling.file.held, settling.named);
            let level = equal.map_or(locked(&held.marks).level, |equal| equal.level);
            let place = finish.path.under(number).ok_or(io::ErrorKind::InvalidFilename)?;
            if let Some(Equal { stat, .. }) = equal {
                settling.is_attributes_failed = stat.mode & 0o777 != finish.mode || stat.mtime != finish.mtime;
            }
            match self.look_at_sealed(held, &place, equal) {
                Ok(stamps) => {
                    claims.push(Claim::Sealed {
                        entry: held.entry,
                        path: path_hash(&place),
                        digest: finish.digest,
                        level,
                        stamps,
                    });
                    self.shared.is_shared(stamps, held.entry);
                    let mut ledger = self.shared.ledger();
                    ledger.set_level(held.entry, level);
                    let reused = &mut ledger.reused;
                    match (held.place, held.origin.get()) {
                        _ if equal.is_some() => (),
                        (Place::Target, _) => reused.unchanged_files += 1,
                        (Place::Staging, Some(Origin::SameName)) => reused.changed_files += 1,
                        (Place::Staging, Some(Origin::OtherName)) => reused.moved_files += 1,
                        (Place::Staging, None) => (),
                    }
                    let outcome = Outcome::arrived(number, settling.is_attributes_failed);
                    if outcome != Outcome::Delivered {
                        ledger.exceptions.insert(held.entry.0, outcome);
                    }
                    drop(ledger);
                    settling.result = Some(SettleResult::Sealed { level });
                }
                Err(_) => {
                    let result = self.shared.leave_out(held.entry, Reason::TargetChanged);
                    settling.fail(result);
                }
            }
        }
        locked(&self.shared.journal).append(&claims)
    }

    /// The name must stand for the very inode that was read back, and nobody may have written to it since: a rename
    /// leaves the time of content as it is, a write does not.
    fn look_at_sealed(&self, held: &Held<D>, path: &RelPath, equal: Option<Equal>) -> io::Result<Stamps> {
        let parent = locked(&self.shared.directories).parent_of(path).map_err(|_| io::ErrorKind::NotFound)?;
        let stat = self.shared.disk.stat(&parent.dir, path.name())?;
        if let Some(equal) = equal {
            let is_same = stat.stamps() == equal.stat.stamps();
            return if is_same { Ok(stat.stamps()) } else { Err(io::ErrorKind::InvalidData.into()) };
        }
        let is_same = stat.inode == held.inode && stat.size == held.geometry.file_bytes();
        let is_quiet = held.seen_mtime() == Some(stat.mtime);
        if is_same && is_quiet { Ok(stat.stamps()) } else { Err(io::ErrorKind::InvalidData.into()) }
    }
}

/// Whether a file may be sealed: asked for, whole and unwritten since before the sync, without a bad chunk, and every chunk read back
/// since it was last written. Its length was compared after that.
fn is_ready<D: Disk>(settling: &Settling<D>) -> bool {
    let held = &settling.file.held;
    let is_whole = || {
        let marks = locked(&held.marks);
        settling.file.is_whole(&marks) && marks.held.is_full() && marks.verified.is_full()
    };
    let is_asked = settling.file.finish.is_some() && !held.is_sync_failed();
    settling.result.is_none() && is_asked && settling.bad.is_empty() && is_whole()
}

impl<D: Disk> Shared<D> {
    /// Makes everything claimed so far durable: before a receipt is made.
    pub fn sync_journal(&self) -> io::Result<()> {
        locked(&self.journal).sync()
    }

    /// Free space where the target lies, and what kind of file system it is.
    pub fn space(&self) -> io::Result<crate::disk::Space> {
        self.disk.space(&self.layout.root)
    }

    /// Whether the target has something under the name of a root.
    pub fn has_in_target(&self, root: &RelPath) -> bool {
        self.disk.stat(&self.layout.root, root.name()).is_ok()
    }

    /// Removes the working state: the receipt is persisted elsewhere.
    pub fn remove_state(&self) -> io::Result<()> {
        self.layout.remove(&self.disk)
    }
}
