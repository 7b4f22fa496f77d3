//! The journal on disk: append, sync, and what can be found in it again by offset. Resident is one offset per
//! sealed entry, and a map by path only once a conflict asks for it.

use std::collections::{HashMap, HashSet};
use std::io;

use crate::digest::PathHash;
use crate::disk::{Disk, DiskFile};
use crate::geometry::{ChunkRun, EntryIndex};
use crate::identity::TransferId;
use crate::journal::{Claim, HEADER_BYTES, frame, header, next_claim};
use crate::state::files::open_own;

/// Bytes read at once when replaying.
const REPLAY_BYTES: usize = 64 << 10;
/// No claim at all.
const NO_OFFSET: u64 = 0;

/// A claim that a run of a staging inode is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DurableClaim {
    pub(super) inode: u64,
    pub(super) run: ChunkRun,
    pub(super) tag: [u8; 8],
}

/// Offsets of claims about paths.
#[derive(Default)]
struct ByPath {
    last: HashMap<PathHash, u64>,
    /// Those before the last that still may speak of what is there; few paths have any.
    earlier: HashMap<PathHash, Vec<u64>>,
}

impl ByPath {
    fn sealing(&mut self, path: PathHash, offset: u64) {
        if let Some(before) = self.last.insert(path, offset) {
            self.earlier.entry(path).or_default().push(before);
        }
    }

    fn sealed(&mut self, path: PathHash, offset: u64) {
        self.last.insert(path, offset);
        self.earlier.remove(&path);
    }

    fn offsets(&self, path: PathHash) -> Vec<u64> {
        let earlier = self.earlier.get(&path).into_iter().flatten();
        earlier.chain(self.last.get(&path)).copied().collect()
    }
}

/// A journal in a file.
pub(crate) struct Journal<D: Disk> {
    file: D::File,
    transfer: TransferId,
    claims: u64,
    end: u64,
    /// Offset of the last `Sealed` claim of each entry.
    sealed: Vec<u64>,
    /// Claims of runs, of entries that have no `Sealed` claim.
    durable: HashMap<u32, Vec<DurableClaim>>,
    /// Targets that are not to be taken as they are.
    doubted: HashSet<(PathHash, u64)>,
    /// Offsets of `Sealing` and `Sealed` claims by path, once asked for.
    by_path: Option<ByPath>,
    /// Bytes that were not usable when it was opened.
    pub(super) had_rest: bool,
}

impl<D: Disk> Journal<D> {
    /// Opens or makes the journal `name` in `dir`. What is torn or damaged at its end is cut off.
    pub(super) fn open(disk: &D, dir: &D::Dir, name: &[u8], transfer: TransferId) -> io::Result<Journal<D>> {
        let file = open_own(disk, dir, name)?;
        let mut journal: Journal<D> = Journal {
            file,
            transfer,
            claims: 0,
            end: HEADER_BYTES as u64,
            sealed: vec![],
            durable: HashMap::new(),
            doubted: HashSet::new(),
            by_path: None,
            had_rest: false,
        };
        let size = journal.file.stat()?.size;
        let mut bytes = [0; HEADER_BYTES];
        let is_ours = journal.file.read_at(&mut bytes, 0)? == HEADER_BYTES && bytes == header(transfer);
        if !is_ours {
            journal.had_rest = size > 0;
            journal.file.set_len(0)?;
            journal.file.write_all_at(&header(transfer), 0)?;
            return Ok(journal);
        }
        journal.replay(|journal, offset, claim| journal.index(offset, claim))?;
        journal.had_rest = size > journal.end;
        if journal.had_rest {
            journal.file.set_len(journal.end)?;
        }
        Ok(journal)
    }

    fn replay(&mut self, mut each: impl FnMut(&mut Self, u64, &Claim)) -> io::Result<()> {
        let mut buffer = vec![0; REPLAY_BYTES];
        let (mut claims, mut end) = (0, HEADER_BYTES as u64);
        loop {
            let length = self.file.read_at(&mut buffer, end)?;
            let mut at = 0;
            while let Some((claim, bytes)) = next_claim(self.transfer, claims, &buffer[at..length]) {
                each(self, end, &claim);
                claims += 1;
                at += bytes;
                end += bytes as u64;
            }
            if at == 0 {
                (self.claims, self.end) = (claims, end);
                return Ok(());
            }
        }
    }

    fn index(&mut self, offset: u64, claim: &Claim) {
        match *claim {
            Claim::Durable { entry, inode, run, tag } => {
                self.durable.entry(entry.0).or_default().push(DurableClaim { inode, run, tag });
            }
            Claim::Sealed { entry, path, stamps, .. } => {
                // A new file may have the number of one that is gone.
                self.doubted.remove(&(path, stamps.inode));
                let index = entry.0 as usize;
                if self.sealed.len() <= index {
                    self.sealed.resize(index + 1, NO_OFFSET);
                }
                self.sealed[index] = offset;
                self.durable.remove(&entry.0);
                if let Some(by_path) = &mut self.by_path {
                    by_path.sealed(path, offset);
                }
            }
            Claim::Sealing { path, .. } => {
                if let Some(by_path) = &mut self.by_path {
                    by_path.sealing(path, offset);
                }
            }
            Claim::Doubted { path, inode } => drop(self.doubted.insert((path, inode))),
        }
    }

    /// Appends claims with one write. They are hints until [`Journal::sync`].
    pub(super) fn append(&mut self, claims: &[Claim]) -> io::Result<()> {
        let (mut bytes, mut offsets) = (vec![], vec![]);
        for (index, claim) in (self.claims..).zip(claims) {
            offsets.push(self.end + bytes.len() as u64);
            bytes.extend_from_slice(&frame(self.transfer, index, claim));
        }
        self.file.write_all_at(&bytes, self.end)?;
        self.claims += claims.len() as u64;
        self.end += bytes.len() as u64;
        for (offset, claim) in offsets.into_iter().zip(claims) {
            // What this process made durable it knows itself; only what a later one asks for is indexed.
            if !matches!(claim, Claim::Durable { .. }) {
                self.index(offset, claim);
            }
        }
        Ok(())
    }

    /// Makes everything appended durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Whether an entry has a `Sealed` claim.
    pub(super) fn is_sealed(&self, entry: EntryIndex) -> bool {
        self.sealed.get(entry.0 as usize).is_some_and(|offset| *offset != NO_OFFSET)
    }

    /// The last `Sealed` claim of an entry.
    pub(super) fn sealed(&self, entry: EntryIndex) -> io::Result<Option<Claim>> {
        match self.sealed.get(entry.0 as usize) {
            Some(offset) if *offset != NO_OFFSET => self.claim_at(*offset),
            _ => Ok(None),
        }
    }

    /// Whether a target is not to be taken as it is.
    pub(super) fn is_doubted(&self, path: PathHash, inode: u64) -> bool {
        self.doubted.contains(&(path, inode))
    }

    /// Claims that runs of an entry are durable.
    pub(super) fn durable(&self, entry: EntryIndex) -> &[DurableClaim] {
        self.durable.get(&entry.0).map_or(&[], |claims| claims)
    }

    /// Entries of which runs were claimed to be durable before this process.
    pub(super) fn claimed(&self) -> HashSet<u32> {
        self.durable.keys().copied().collect()
    }

    /// The last `Sealed` claim about a path, of whatever entry, and each `Sealing` claim after it: what stands under
    /// the path is ours if it is any of them, since any of those renames may be the last that was done.
    pub(super) fn by_path(&mut self, path: PathHash) -> io::Result<Vec<Claim>> {
        if self.by_path.is_none() {
            let (mut by_path, place) = (ByPath::default(), (self.claims, self.end));
            self.replay(|_, offset, claim| match claim {
                Claim::Sealing { path, .. } => by_path.sealing(*path, offset),
                Claim::Sealed { path, .. } => by_path.sealed(*path, offset),
                Claim::Durable { .. } | Claim::Doubted { .. } => (),
            })?;
            (self.claims, self.end) = place;
            self.by_path = Some(by_path);
        }
        let offsets = self.by_path.as_ref().map_or(vec![], |by_path| by_path.offsets(path));
        let claims: io::Result<Vec<Option<Claim>>> = offsets.into_iter().map(|offset| self.claim_at(offset)).collect();
        Ok(claims?.into_iter().flatten().collect())
    }

    fn claim_at(&self, offset: u64) -> io::Result<Option<Claim>> {
        let mut bytes = [0; 512];
        let length = self.file.read_at(&mut bytes, offset)?;
        Ok(crate::journal::decode_claim(&bytes[..length]))
    }
}
