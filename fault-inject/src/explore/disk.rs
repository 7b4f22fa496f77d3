//! What each side's disk holds, as little of it as decides: pages of two chunks, names, the journal's claims, the
//! log's records, the receipt. Each with what a power cut may take of it. No bytes, no paths.

use super::Broken;

/// Chunks of the one file.
pub(super) const CHUNKS: u32 = 2;
/// Both chunks as a set.
pub(super) const ALL: u8 = 0b11;
/// Inodes that can be needed at once: a staged one, the target, one that is left, one that only a cut brings back.
const SLOTS: usize = 5;
/// Records of the manifest: the file begins, its digests, its end, complete.
pub(super) const RECORDS: u8 = 4;

/// What stands in a page, against what it should be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Page {
    #[default]
    Hole,
    Good,
    Bad,
}

/// One inode of the receiver's disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Inode {
    /// What a program sees.
    pub cache: [Page; 2],
    /// What the drive returns.
    pub device: [Page; 2],
    /// What a power cut leaves for sure.
    pub durable: [Page; 2],
    /// Chunks whose cached page the drive was not given.
    pub dirty: u8,
}

/// A file that is replaced by rename.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Kept {
    #[default]
    None,
    /// Renamed, and its directory not synced.
    Named,
    Durable,
}

/// Claims of the receiver's journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Journal {
    /// Chunks claimed durable, for each inode.
    pub durable: [u8; SLOTS],
    /// The file is about to get its name.
    pub is_sealing: bool,
    /// The inode that was sealed.
    pub sealed: Option<u8>,
    /// The sealed claim is appended and not synced.
    pub is_seal_pending: bool,
}

/// The receiver's disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Disk {
    pub inodes: [Option<Inode>; SLOTS],
    /// What the staging name stands for, now and after a power cut.
    pub staging: Name,
    /// What the final name stands for.
    pub target: Name,
    pub journal: Journal,
    /// Records of the log. Nothing but a claim that needs them makes them last.
    pub records: u8,
    pub receipt: Kept,
}

/// A name in a directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Name {
    pub live: Option<u8>,
    pub durable: Option<u8>,
}

/// The sender's disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct SenderDisk {
    pub records: u8,
    pub receipt: Kept,
}

pub(super) fn bit(chunk: u32) -> u8 {
    1 << chunk
}

pub(super) fn chunks_of(set: u8) -> impl Iterator<Item = u32> {
    (0..CHUNKS).filter(move |chunk| set & bit(*chunk) != 0)
}

impl Inode {
    /// Gives the drive what is dirty, as a direct read and a sync do first.
    pub(super) fn write_back(&mut self) {
        for chunk in chunks_of(std::mem::take(&mut self.dirty)) {
            self.device[chunk as usize] = self.cache[chunk as usize];
        }
    }

    /// Whether the drive returns a chunk as it should be.
    pub(super) fn is_good(&mut self, chunk: u32) -> bool {
        self.write_back();
        self.device[chunk as usize] == Page::Good
    }

    /// Whether a power cut leaves both chunks as they should be.
    pub(super) fn is_durable(&self) -> bool {
        self.dirty == 0 && self.durable == [Page::Good; 2]
    }
}

impl Disk {
    pub(super) fn inode(&mut self, slot: u8) -> &mut Inode {
        self.inodes[usize::from(slot)].get_or_insert_default()
    }

    /// A new inode, with the lowest number that nothing uses, as real file systems give them out.
    pub(super) fn make_inode(&mut self, is_used: impl Fn(u8) -> bool) -> u8 {
        let free = (0..).find(|slot| !is_used(*slot) && !self.is_named(*slot));
        let slot = free.expect("some slot is free");
        assert!(usize::from(slot) < SLOTS, "more inodes than the model has");
        self.inodes[usize::from(slot)] = Some(Inode::default());
        slot
    }

    fn is_named(&self, slot: u8) -> bool {
        let names = [self.staging.live, self.staging.durable, self.target.live, self.target.durable];
        names.contains(&Some(slot))
    }

    /// Forgets inodes that nothing can reach.
    pub(super) fn forget_unused(&mut self, is_used: impl Fn(u8) -> bool) {
        for slot in (0..).take(SLOTS) {
            if !is_used(slot) && !self.is_named(slot) {
                self.inodes[usize::from(slot)] = None;
            }
        }
    }

    /// Syncs an inode. A drive that lies keeps what it was given in a cache of its own.
    pub(super) fn sync(&mut self, slot: u8, broken: Option<Broken>) {
        let inode = self.inode(slot);
        inode.write_back();
        if broken != Some(Broken::SkippedSync) {
            inode.durable = inode.device;
        }
    }

    /// Whether the final name stands for the right bytes, as far as a power cut now could say otherwise.
    pub(super) fn is_delivered(&self) -> bool {
        let durable = self.target.durable.and_then(|slot| self.inodes[usize::from(slot)]);
        self.target.live == self.target.durable && durable.is_some_and(|inode| inode.is_durable())
    }

    /// Chunks that are sure to be kept: durable, on the staged inode, with a claim.
    pub(super) fn claimed(&self) -> u8 {
        let Some(slot) = self.staging.live.filter(|slot| self.staging.durable == Some(*slot)) else { return 0 };
        let Some(inode) = self.inodes[usize::from(slot)] else { return 0 };
        let is_kept = |chunk: &u32| {
            let at = *chunk as usize;
            inode.durable[at] == Page::Good && inode.device[at] == Page::Good && inode.dirty & bit(*chunk) == 0
        };
        let kept = chunks_of(self.journal.durable[usize::from(slot)]).filter(is_kept);
        kept.fold(0, |set, chunk| set | bit(chunk))
    }

    /// How many outcomes a power cut has now.
    pub(super) fn outcomes(&self) -> u32 {
        let mut counter = Choice { rest: 0, count: 1 };
        let _ = self.after_cut(&mut counter);
        counter.count
    }

    /// The disk after a power cut with that outcome.
    pub(super) fn cut(&self, outcome: u32) -> Disk {
        self.after_cut(&mut Choice { rest: outcome, count: 1 })
    }

    fn after_cut(&self, choice: &mut Choice) -> Disk {
        let mut after = *self;
        for name in [&mut after.staging, &mut after.target] {
            if name.live != name.durable && choice.of(2) == 0 {
                name.live = name.durable;
            }
            name.durable = name.live;
        }
        for inode in after.inodes.iter_mut().flatten() {
            for chunk in 0..CHUNKS as usize {
                let newest = if inode.dirty & 1 << chunk != 0 { inode.cache[chunk] } else { inode.device[chunk] };
                if newest != inode.durable[chunk] {
                    let torn = Page::Bad;
                    inode.durable[chunk] = [inode.durable[chunk], newest, torn][choice.of(3) as usize];
                }
            }
            *inode = Inode { cache: inode.durable, device: inode.durable, durable: inode.durable, dirty: 0 };
        }
        if after.journal.is_seal_pending && choice.of(2) == 0 {
            after.journal.sealed = None;
        }
        after.journal.is_seal_pending = false;
        after.forget_unused(|_| false);
        after.records -= u8::try_from(choice.of(u32::from(after.records) + 1)).expect("a few records");
        after.receipt = after.receipt.after_cut(choice);
        after
    }
}

impl SenderDisk {
    pub(super) fn outcomes(&self) -> u32 {
        let mut counter = Choice { rest: 0, count: 1 };
        let _ = self.after_cut(&mut counter);
        counter.count
    }

    pub(super) fn cut(&self, outcome: u32) -> SenderDisk {
        self.after_cut(&mut Choice { rest: outcome, count: 1 })
    }

    fn after_cut(&self, choice: &mut Choice) -> SenderDisk {
        let lost = u8::try_from(choice.of(u32::from(self.records) + 1)).expect("a few records");
        SenderDisk { records: self.records - lost, receipt: self.receipt.after_cut(choice) }
    }
}

impl Kept {
    fn after_cut(self, choice: &mut Choice) -> Kept {
        match self {
            Kept::Named if choice.of(2) == 0 => Kept::None,
            Kept::Named => Kept::Durable,
            other => other,
        }
    }
}

/// A mixed-radix number whose digits are what was decided, one by one; counts how many numbers there are.
struct Choice {
    rest: u32,
    count: u32,
}

impl Choice {
    fn of(&mut self, ways: u32) -> u32 {
        let digit = self.rest % ways;
        self.rest /= ways;
        self.count *= ways;
        digit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_takes_any_subset_of_what_was_not_synced() {
        let mut disk = Disk::default();
        let slot = disk.make_inode(|_| false);
        disk.staging = Name { live: Some(slot), durable: Some(slot) };
        *disk.inode(slot) = Inode { cache: [Page::Good; 2], dirty: ALL, ..Inode::default() };
        assert_eq!(disk.outcomes(), 9, "each page is old, new or torn");
        let left: std::collections::HashSet<_> = (0..9).map(|outcome| disk.cut(outcome)).collect();
        assert_eq!(left.len(), 9);
        disk.sync(slot, None);
        assert_eq!(disk.outcomes(), 1);
        assert!(disk.cut(0).inodes[usize::from(slot)].is_some_and(|inode| inode.is_durable()));
        disk.target.live = Some(slot);
        assert_eq!(disk.outcomes(), 2, "a name without its directory's sync is there or not");
    }

    #[test]
    fn a_skipped_sync_leaves_everything_to_the_cut() {
        let mut disk = Disk::default();
        let slot = disk.make_inode(|_| false);
        disk.staging = Name { live: Some(slot), durable: Some(slot) };
        *disk.inode(slot) = Inode { cache: [Page::Good; 2], dirty: ALL, ..Inode::default() };
        disk.sync(slot, Some(Broken::SkippedSync));
        assert!(disk.inode(slot).is_good(0) && disk.outcomes() == 9);
    }
}
