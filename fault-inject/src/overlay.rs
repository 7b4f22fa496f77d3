//! What is altered below the page cache, as an overlay over files that are really intact: uncached reads are changed
//! by it, cached reads are not, and writing heals what can be healed. Lives in memory, as long as the plan.

use std::collections::BTreeMap;
use std::ops::Range;

use rand_chacha::ChaCha8Rng;

use crate::damage::Damage;
use crate::plan::Lasting;

/// A file, told apart by device and inode.
pub(crate) type Identity = (u64, u64);

/// Altered places of all files.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    files: BTreeMap<Identity, Altered>,
}

#[derive(Debug, Default)]
struct Altered {
    places: Vec<Place>,
    /// Written since the last sync that succeeded.
    unsynced: Vec<Range<u64>>,
}

#[derive(Debug)]
struct Place {
    range: Range<u64>,
    change: Change,
    lasting: Lasting,
}

#[derive(Debug)]
enum Change {
    /// Each byte of the range is changed by the byte here.
    Xor(Vec<u8>),
    Zeros,
}

fn overlap(a: &Range<u64>, b: &Range<u64>) -> Range<u64> {
    let start = a.start.max(b.start);
    start..a.end.min(b.end).max(start)
}

fn index(at: u64, start: u64) -> usize {
    usize::try_from(at - start).expect("a distance within a buffer fits")
}

impl Overlay {
    /// A new inode took that number: nothing of an old one counts.
    pub(crate) fn forget(&mut self, file: Identity) {
        self.files.remove(&file);
    }

    /// Alters a place within a range, for as long as that says.
    pub(crate) fn alter(
        &mut self,
        file: Identity,
        read: Range<u64>,
        damage: Damage,
        lasting: Lasting,
        stream: &mut ChaCha8Rng,
    ) {
        let mut xor = vec![0; index(read.end, read.start)];
        damage.apply(&mut xor, stream);
        let first = xor.iter().position(|&byte| byte != 0).unwrap_or(0);
        let after = xor.iter().rposition(|&byte| byte != 0).map_or(first, |last| last + 1);
        let range = read.start + first as u64..read.start + after as u64;
        let change = Change::Xor(xor[first..after].to_vec());
        self.files.entry(file).or_default().places.push(Place { range, change, lasting });
    }

    /// Notes a write: it heals what can be healed and is not synced.
    pub(crate) fn written(&mut self, file: Identity, range: Range<u64>) {
        let altered = self.files.entry(file).or_default();
        let places = std::mem::take(&mut altered.places);
        for place in places {
            if place.lasting == Lasting::Always || overlap(&place.range, &range).is_empty() {
                altered.places.push(place);
                continue;
            }
            altered.places.extend(place.without(&range));
        }
        altered.unsynced.push(range);
    }

    /// A sync succeeded.
    pub(crate) fn synced(&mut self, file: Identity) {
        if let Some(altered) = self.files.get_mut(&file) {
            altered.unsynced.clear();
        }
    }

    /// A sync of everything succeeded.
    pub(crate) fn all_synced(&mut self) {
        for altered in self.files.values_mut() {
            altered.unsynced.clear();
        }
    }

    /// A sync failed and what was not synced is gone from below the cache.
    pub(crate) fn lost(&mut self, file: Identity) {
        let Some(altered) = self.files.get_mut(&file) else { return };
        for range in std::mem::take(&mut altered.unsynced) {
            altered.places.push(Place { range, change: Change::Zeros, lasting: Lasting::UntilRewritten });
        }
    }

    /// Changes what an uncached read found.
    pub(crate) fn apply(&self, file: Identity, offset: u64, buffer: &mut [u8]) {
        let Some(altered) = self.files.get(&file) else { return };
        let read = offset..offset + buffer.len() as u64;
        for place in &altered.places {
            let common = overlap(&place.range, &read);
            if common.is_empty() {
                continue;
            }
            let target = &mut buffer[index(common.start, read.start)..index(common.end, read.start)];
            match &place.change {
                Change::Zeros => target.fill(0),
                Change::Xor(xor) => {
                    let xor = &xor[index(common.start, place.range.start)..];
                    target.iter_mut().zip(xor).for_each(|(byte, change)| *byte ^= change);
                }
            }
        }
    }
}

impl Place {
    /// What is left of a place when a range of it is rewritten.
    fn without(self, range: &Range<u64>) -> impl Iterator<Item = Place> {
        let before = self.part(self.range.start..range.start.max(self.range.start));
        let after = self.part(range.end.min(self.range.end)..self.range.end);
        [before, after].into_iter().filter(|place| !place.range.is_empty())
    }

    fn part(&self, range: Range<u64>) -> Place {
        let change = match &self.change {
            Change::Zeros => Change::Zeros,
            Change::Xor(xor) => {
                Change::Xor(xor[index(range.start, self.range.start)..index(range.end, self.range.start)].to_vec())
            }
        };
        Place { range, change, lasting: self.lasting }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::stream;

    const FILE: Identity = (1, 2);

    #[test]
    fn a_write_heals_only_what_it_covers() {
        let mut overlay = Overlay::default();
        overlay.alter(FILE, 0..4096, Damage::Page, Lasting::UntilRewritten, &mut stream(1, "x"));
        overlay.written(FILE, 100..200);
        let mut buffer = vec![0; 5000];
        overlay.apply(FILE, 0, &mut buffer);
        assert!(buffer[100..200].iter().all(|&byte| byte == 0));
        assert!(buffer[..100].iter().any(|&byte| byte != 0) && buffer[200..4096].iter().any(|&byte| byte != 0));
        let mut tail = vec![0; 4000];
        overlay.apply(FILE, 1000, &mut tail);
        assert_eq!(tail, buffer[1000..]);
    }

    #[test]
    fn a_bad_place_is_never_healed_and_dies_with_its_inode() {
        let mut overlay = Overlay::default();
        overlay.alter(FILE, 0..512, Damage::Bit, Lasting::Always, &mut stream(1, "x"));
        overlay.written(FILE, 0..512);
        let mut buffer = [0; 512];
        overlay.apply(FILE, 0, &mut buffer);
        assert_ne!(buffer, [0; 512]);
        overlay.forget(FILE);
        let mut buffer = [0; 512];
        overlay.apply(FILE, 0, &mut buffer);
        assert_eq!(buffer, [0; 512]);
    }

    #[test]
    fn a_failed_sync_loses_only_what_was_not_synced() {
        let mut overlay = Overlay::default();
        overlay.written(FILE, 0..10);
        overlay.synced(FILE);
        overlay.written(FILE, 10..20);
        overlay.lost(FILE);
        let mut buffer = [7; 30];
        overlay.apply(FILE, 0, &mut buffer);
        assert_eq!(buffer, [[7; 10], [0; 10], [7; 10]].concat()[..]);
    }
}
