//! Some chunks of one file. Its memory follows the highest chunk that was ever put in, never the size that a peer says
//! the file has: of that only the arithmetic is believed.

use std::hash::{Hash, Hasher};

use fixedbitset::FixedBitSet;

use super::{ChunkRun, Geometry};

/// A set of chunks of one file, at one bit each up to the highest. Two sets with the same chunks hash alike.
#[derive(Clone, Debug)]
pub struct ChunkSet {
    bits: FixedBitSet,
    len: u32,
    chunk_count: u32,
}

impl ChunkSet {
    /// None of the file's chunks.
    pub fn new(geometry: Geometry) -> ChunkSet {
        ChunkSet { bits: FixedBitSet::new(), len: 0, chunk_count: geometry.chunk_count() }
    }

    /// Puts a chunk in, which the file has. Says whether it was not in.
    pub fn insert(&mut self, chunk: u32) -> bool {
        assert!(chunk < self.chunk_count, "chunk {chunk} of a file of {}", self.chunk_count);
        let is_new = !self.contains(chunk);
        self.bits.grow_and_insert(chunk as usize);
        self.len += u32::from(is_new);
        is_new
    }

    /// Puts a run in that lies in the file.
    pub fn insert_run(&mut self, run: ChunkRun) {
        for chunk in run.first..run.first + run.count {
            self.insert(chunk);
        }
    }

    /// Takes a chunk out. Says whether it was in.
    pub fn remove(&mut self, chunk: u32) -> bool {
        let was_in = self.contains(chunk);
        if was_in {
            self.bits.set(chunk as usize, false);
            self.len -= 1;
        }
        was_in
    }

    /// Takes all out.
    pub fn clear(&mut self) {
        self.bits.clear();
        self.len = 0;
    }

    /// Whether a chunk is in.
    pub fn contains(&self, chunk: u32) -> bool {
        self.bits.contains(chunk as usize)
    }

    /// How many are in.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether none is in.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether every chunk of the file is in.
    pub fn is_full(&self) -> bool {
        self.len == self.chunk_count
    }

    /// Those that are in, in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.bits.ones().map(|chunk| u32::try_from(chunk).expect("only chunk numbers were put in"))
    }

    /// Those below `end` that are not in, in order.
    pub fn missing_below(&self, end: u32) -> impl Iterator<Item = u32> {
        (0..end.min(self.chunk_count)).filter(|chunk| !self.contains(*chunk))
    }
}

impl Hash for ChunkSet {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.chunk_count, self.len).hash(state);
        self.iter().for_each(|chunk| chunk.hash(state));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::hash::DefaultHasher;

    use super::*;

    fn set(chunk_count: u64) -> ChunkSet {
        ChunkSet::new(Geometry::new(chunk_count << 20, 1 << 20).unwrap())
    }

    #[test]
    fn memory_follows_the_highest_chunk_and_not_the_size_of_the_file() {
        let mut set = set(1 << 30);
        assert_eq!(set.bits.len(), 0);
        set.insert(1000);
        assert_eq!(set.bits.len(), 1001);
        assert!(!set.contains((1 << 30) - 1) && !set.remove((1 << 30) - 1) && !set.is_full());
        assert_eq!(set.bits.len(), 1001, "asking and taking out costs nothing");
        assert_eq!(set.iter().collect::<Vec<_>>(), [1000]);
    }

    #[test]
    fn it_counts_what_is_in_it() {
        let mut set = set(3);
        assert!(set.is_empty() && !set.is_full() && set.insert(2) && !set.insert(2));
        assert_eq!((set.len(), set.missing_below(9).collect::<Vec<_>>()), (1, vec![0, 1]));
        set.insert_run(ChunkRun { first: 0, count: 2 });
        assert!(set.is_full() && set.remove(1) && !set.remove(1));
        assert_eq!((set.len(), set.missing_below(1).count()), (2, 0));
        set.clear();
        assert!(set.is_empty() && set.iter().count() == 0);
    }

    #[test]
    fn a_file_without_chunks_has_them_all() {
        assert!(set(0).is_full());
    }

    #[test]
    #[should_panic(expected = "chunk 3 of a file of 3")]
    fn a_chunk_that_the_file_does_not_have_is_a_mistake_of_ours() {
        set(3).insert(3);
    }

    #[test]
    fn what_was_in_it_once_does_not_show_in_its_hash() {
        let digest = |set: &ChunkSet| {
            let mut hasher = DefaultHasher::new();
            set.hash(&mut hasher);
            hasher.finish()
        };
        let (mut one, mut other) = (set(100), set(100));
        one.insert(3);
        one.insert(90);
        one.remove(90);
        other.insert(3);
        assert_eq!(digest(&one), digest(&other));
        other.insert(4);
        assert_ne!(digest(&one), digest(&other));
    }
}
