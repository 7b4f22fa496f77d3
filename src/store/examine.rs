//! Looking at what is where entries go: nothing, a staging file with or without claims, a target of any kind.

use std::io;
use std::sync::Arc;

use super::adopt::Candidate;
use super::directories::reason_of;
use super::intake::{FileEntry, Intake};
use super::staging::{Held, Origin, Place, open_left};
use super::{Shared, locked};
use crate::attributes::FileKind;
use crate::digest::{FileDigest, Folder, PathHash, chunk_digest, path_hash};
use crate::disk::{Access, AlignedBuffer, Disk, DiskFile, Stat};
use crate::geometry::{ChunkRun, EntryIndex, Geometry};
use crate::journal::{Claim, run_tag};
use crate::manifest::Record;
use crate::options::Existing;
use crate::outcome::{Outcome, Reason};
use crate::path::RelPath;
use crate::task::receiver::Disposition;

/// A staging file of an earlier run, and the runs that valid claims cover.
type Staged<D> = (Arc<Held<D>>, Vec<ChunkRun>);

impl<D: Disk> Intake<D> {
    /// Looks at `count` entries from `first` on. Those that are claimed to be sealed are looked at with
    /// [`Intake::examine_claims`].
    pub fn examine(&mut self, first: EntryIndex, count: u32) -> Vec<Disposition> {
        let examine = |entry| {
            let is_claimed = locked(&self.shared.journal).is_sealed(entry);
            if is_claimed { Disposition::Placed } else { self.examine_one(entry) }
        };
        (first.0..first.0 + count).map(EntryIndex).map(examine).collect()
    }

    fn examine_one(&mut self, entry: EntryIndex) -> Disposition {
        if self.shared.ledger().is_withdrawn(entry) {
            return Disposition::Placed;
        }
        if self.paths.collisions.contains(&entry.0) {
            return self.leave_out(entry, Reason::Collision);
        }
        let introduction = match self.shared.with_log(|log| log.introduction(entry)) {
            Ok(introduction) => introduction,
            Err(error) => return self.fail(entry, &error),
        };
        if introduction.path().is_none_or(|path| !self.paths.is_of(path_hash(path), entry)) {
            return self.fail(entry, &io::ErrorKind::InvalidData.into());
        }
        match introduction {
            Record::Directory { path, .. } => {
                let opened = locked(&self.shared.directories).open(&path);
                match opened {
                    Ok(_) => Disposition::Placed,
                    Err(reason) => self.leave_out(entry, reason),
                }
            }
            Record::Begin { .. } => match self.shared.file_entry(entry) {
                Ok(file) => {
                    let disposition = self.examine_file(entry, file);
                    if !matches!(disposition, Disposition::LeftOut(_)) {
                        self.accepted.insert(entry.0);
                    }
                    disposition
                }
                Err(error) => self.fail(entry, &error),
            },
            _ => Disposition::Placed,
        }
    }

    /// What an error means for an entry, if it is not the log that was damaged.
    fn fail(&mut self, entry: EntryIndex, error: &io::Error) -> Disposition {
        if error.kind() == io::ErrorKind::InvalidData {
            self.is_log_suspect = true;
            return Disposition::Placed;
        }
        self.leave_out(entry, reason_of(error))
    }

    fn leave_out(&mut self, entry: EntryIndex, reason: Reason) -> Disposition {
        self.shared.ledger().exceptions.insert(entry.0, Outcome::LeftOut(reason));
        Disposition::LeftOut(reason)
    }

    /// Looks at a file's place. A handle and what is known of it is kept for what follows.
    fn examine_file(&mut self, entry: EntryIndex, file: FileEntry<D>) -> Disposition {
        let parent = locked(&self.shared.directories).parent_of(&file.path);
        let parent = match parent {
            Ok(parent) => parent,
            Err(reason) => return self.leave_out(entry, reason),
        };
        let hash = path_hash(&file.path);
        // In a directory that we made ourselves there is nothing but what we put there.
        let target = if parent.is_new && !self.paths.repeated.contains(&entry.0) {
            None
        } else {
            match self.shared.stat_target(&parent.dir, &file.path) {
                Ok(stat) => Some(stat),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return self.leave_out(entry, reason_of(&error)),
            }
        };
        let is_taken = target.is_some();
        let target = match target.map(|stat| self.judge_target(entry, hash, &file, &parent.dir, stat)) {
            Some(Err(reason)) => return self.leave_out(entry, reason),
            Some(Ok(target)) => target,
            None => None,
        };
        let may_rename = is_taken && self.shared.may_rename() && !self.ours.contains(&entry.0);
        let target = match target {
            Some(target) if may_rename && !target.is_comparing => Some(self.candidate_after(entry, &target)),
            None if may_rename => self.next_numbered(&file, &parent.dir, None, None),
            target => target,
        };
        match self.open_staged(entry, hash, &file) {
            Err(error) => self.leave_out(entry, reason_of(&error)),
            Ok(Some((held, runs))) => {
                self.held.insert(entry.0, held);
                if runs.is_empty() || target.is_some() {
                    self.candidates.insert(entry.0, Candidate::copying(target, may_rename));
                    return Disposition::Candidate;
                }
                Disposition::Staged(runs)
            }
            Ok(None) => match target.or_else(|| self.find_elsewhere(&file)) {
                Some(target) => {
                    self.candidates.insert(entry.0, target);
                    Disposition::Candidate
                }
                None => Disposition::Fresh,
            },
        }
    }

    /// What may be done with something that stands under the final name. `Ok(None)`: it will be replaced and cannot
    /// help; `Err`: the entry is left out.
    fn judge_target(
        &mut self,
        entry: EntryIndex,
        hash: PathHash,
        file: &FileEntry<D>,
        parent: &D::Dir,
        stat: Stat,
    ) -> Result<Option<Candidate<D>>, Reason> {
        let existing = self.shared.policy.existing;
        let refusal = match existing {
            Existing::Keep => Reason::Kept,
            Existing::Refuse | Existing::Replace | Existing::Rename => Reason::ExistsDifferent,
        };
        let may_arrive = matches!(existing, Existing::Replace | Existing::Rename);
        match stat.kind {
            FileKind::Directory if existing == Existing::Rename => return Ok(None),
            FileKind::Directory => return Err(refusal),
            FileKind::Symlink | FileKind::Special if may_arrive => return Ok(None),
            FileKind::Symlink | FileKind::Special => return Err(refusal),
            FileKind::Regular => (),
        }
        let opened = self.shared.disk.open_seen(parent, file.path.name(), Access::Read, &stat);
        let is_same_size = stat.size == file.geometry.file_bytes();
        let target = match opened {
            Ok(target) => target,
            Err(_) if may_arrive => return Ok(None),
            Err(_) => return Err(refusal),
        };
        let may_replace = existing == Existing::Replace || self.shared.is_ours(hash, &target, &stat);
        if may_replace {
            self.ours.insert(entry.0);
        }
        if !is_same_size && !may_replace && !may_arrive {
            return Err(refusal);
        }
        let is_doubted = locked(&self.shared.journal).is_doubted(hash, stat.inode);
        if is_doubted && !may_replace && !may_arrive {
            return Err(Reason::SyncFailed);
        }
        Ok(Some(Candidate {
            target: Some(Arc::new(target)),
            stamps: Some(stat.stamps()),
            is_comparing: is_same_size && !is_doubted,
            is_claimed: self.shared.may_be_claimed(hash, &stat),
            replace: (may_replace || may_arrive).then_some(()).ok_or(refusal),
            origin: Origin::SameName,
            number: None,
            own: None,
        }))
    }

    /// Opens what an earlier run left in staging for the path, with the runs that valid claims cover.
    fn open_staged(&mut self, entry: EntryIndex, hash: PathHash, file: &FileEntry<D>) -> io::Result<Option<Staged<D>>> {
        let name = super::layout::staging_name(hash);
        if !self.staged.contains(&name) {
            return Ok(None);
        }
        let shared = Arc::clone(&self.shared);
        let Some(opened) = open_left(&shared.disk, &shared.layout.staging, &name, file.geometry)? else {
            self.staged.remove(&name);
            return Ok(None);
        };
        let held: Held<D> = Held::new(entry, hash, Place::Staging, opened, file.geometry, file.digests.clone())?;
        let known = shared.with_log(|log| match log.sequence().open() {
            Some(open) if open.entry == entry => open.folder.count(),
            _ => file.geometry.chunk_count(),
        });
        let mut runs = vec![];
        for claim in locked(&shared.journal).durable(entry) {
            let end = claim.run.first.saturating_add(claim.run.count);
            if claim.inode != held.inode || end > known {
                continue;
            }
            let digests: io::Result<Vec<_>> = (claim.run.first..end).map(|chunk| file.digests.get(chunk)).collect();
            if run_tag(&digests?) == claim.tag {
                locked(&held.marks).held.insert_run(claim.run);
                runs.push(claim.run);
            }
        }
        // What a killed process had written since lies in the cache. Were it given to the device page by page while the
        // claims are read back, a write that goes astray could hit what was read just before.
        if !runs.is_empty() && held.file.sync().is_err() {
            self.staged.remove(&name);
            shared.disk.remove(&shared.layout.staging, &name)?;
            return Ok(None);
        }
        Ok(Some((Arc::new(held), merged(runs))))
    }

    /// Looks again at targets that are claimed to be sealed. Stamps that are equal are the only ones ever trusted.
    pub fn examine_claims(&mut self, entries: Vec<EntryIndex>) -> Vec<(EntryIndex, Disposition)> {
        let shared = Arc::clone(&self.shared);
        let standing = shared.pool.map(entries, |entry| (entry, does_claim_stand(&shared, entry)));
        standing
            .into_iter()
            .map(|(entry, stands)| (entry, if stands { Disposition::Sealed } else { self.examine_one(entry) }))
            .collect()
    }
}

fn does_claim_stand<D: Disk>(shared: &Shared<D>, entry: EntryIndex) -> bool {
    let look = || -> io::Result<bool> {
        let file = shared.file_entry(entry)?;
        let Record::End { digest: expected, mode, mtime, .. } = shared.with_log(|log| log.end_of(&file.digests))?
        else {
            return Ok(false);
        };
        let Some(Claim::Sealed { digest, level, stamps, path, .. }) = locked(&shared.journal).sealed(entry)? else {
            return Ok(false);
        };
        let parent = locked(&shared.directories).parent_of(&file.path).map_err(|_| io::ErrorKind::NotFound)?;
        let Some((number, place)) = file.path.names().find(|(_, name)| path_hash(name) == path) else {
            return Ok(false);
        };
        let stat = shared.stat_target(&parent.dir, &place)?;
        // What could not be applied then is tried again, so that it is named again if it still cannot.
        let is_as_stated = stat.mode & 0o777 == u32::from(mode) && stat.mtime == mtime;
        let stands = stat.kind == FileKind::Regular
            && is_as_stated
            && stat.stamps() == stamps
            && digest == expected
            && !locked(&shared.journal).is_doubted(path, stat.inode);
        if stands {
            shared.is_shared(stamps, entry);
            let mut ledger = shared.ledger();
            ledger.set_level(entry, level);
            if number.is_some() {
                ledger.exceptions.insert(entry.0, Outcome::arrived(number, false));
            }
        }
        Ok(stands)
    };
    look().unwrap_or(false)
}

impl<D: Disk> Shared<D> {
    /// Whether a target is what an earlier version of this transfer sealed: by the stamps of its claim, or by its
    /// content.
    pub(super) fn is_ours(&self, hash: PathHash, target: &D::File, stat: &Stat) -> bool {
        let mut claims = locked(&self.journal).by_path(hash).unwrap_or_default();
        claims.retain(|claim| self.is_of_path(claim, hash));
        if claims.is_empty() || has_stamps(&claims, stat) {
            return !claims.is_empty();
        }
        let Ok(found) = digest_of(target, stat.size) else { return false };
        claims.iter().any(|claim| match claim {
            Claim::Sealed { digest, .. } | Claim::Sealing { digest, .. } => *digest == found,
            Claim::Durable { .. } | Claim::Doubted { .. } => false,
        })
    }

    /// Whether a claim about a path is one of an entry that has it as its own: another may have got it as another name.
    fn is_of_path(&self, claim: &Claim, hash: PathHash) -> bool {
        match claim {
            Claim::Sealed { entry, .. } if self.may_rename() => {
                let introduction = self.with_log(|log| log.introduction(*entry));
                introduction.is_ok_and(|record| record.path().is_some_and(|path| path_hash(path) == hash))
            }
            _ => true,
        }
    }

    /// Whether a target may have the very stamps with which this transfer sealed it: a journal that cannot be read now
    /// may be readable at the next start.
    pub(super) fn may_be_claimed(&self, hash: PathHash, stat: &Stat) -> bool {
        locked(&self.journal).by_path(hash).map_or(true, |claims| has_stamps(&claims, stat))
    }

    /// Takes note that these targets are never to be taken as they are. Durable when it returns.
    pub(super) fn doubt(&self, targets: &[(PathHash, u64)]) -> io::Result<()> {
        if targets.is_empty() {
            return Ok(());
        }
        let claims: Vec<Claim> =
            targets.iter().map(|(path, inode)| Claim::Doubted { path: *path, inode: *inode }).collect();
        let mut journal = locked(&self.journal);
        journal.append(&claims)?;
        journal.sync()
    }

    /// Stat of what stands under a path. An earlier run may have given its directory a mode that locks us out.
    fn stat_target(&self, parent: &D::Dir, path: &RelPath) -> io::Result<Stat> {
        match self.disk.stat(parent, path.name()) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                locked(&self.directories).let_in(path.parent())?;
                self.disk.stat(parent, path.name())
            }
            other => other,
        }
    }
}

/// Whether one of the claims is a seal with these very stamps.
fn has_stamps(claims: &[Claim], stat: &Stat) -> bool {
    claims.iter().any(|claim| matches!(claim, Claim::Sealed { stamps, .. } if *stamps == stat.stamps()))
}

/// What `b3sum` would print for an open file, read past the cache.
fn digest_of<F: DiskFile>(file: &F, size: u64) -> io::Result<FileDigest> {
    let geometry = Geometry::new(size, crate::limits::CHUNK_BYTES).ok_or(io::ErrorKind::InvalidData)?;
    let (mut folder, mut buffer) = (Folder::default(), AlignedBuffer::default());
    for chunk in geometry.chunks(super::intake::whole(geometry)) {
        let length = geometry.chunk_len(chunk) as usize;
        file.read_uncached_at(&mut buffer, geometry.offset(chunk), length)?;
        if buffer.bytes().len() != length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        folder.push(chunk_digest(geometry, chunk, buffer.bytes()));
    }
    Ok(folder.finish())
}

/// The same chunks in as few ascending runs as possible.
fn merged(mut runs: Vec<ChunkRun>) -> Vec<ChunkRun> {
    runs.sort_by_key(|run| run.first);
    let mut out: Vec<ChunkRun> = vec![];
    for run in runs {
        match out.last_mut() {
            Some(last) if run.first <= last.first + last.count => {
                last.count = last.count.max(run.first + run.count - last.first);
            }
            _ => out.push(run),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_that_touch_or_overlap_become_one() {
        let run = |first, count| ChunkRun { first, count };
        assert_eq!(merged(vec![run(8, 2), run(0, 4), run(4, 1), run(2, 1)]), [run(0, 5), run(8, 2)]);
        assert!(merged(vec![]).is_empty());
    }
}
