//! The only file that names `blake3`: digests of chunks, files, paths and logs, and the types that prove a
//! verification. A chunk's digest is the BLAKE3 chaining value of its aligned subtree, so that the digests of a
//! file's chunks fold into exactly what `b3sum FILE` prints (BLAKE3 specification, section 2.1 and `hazmat`).
//! In here BLAKE3's own unit of 1,024 bytes is called a *leaf*.

use blake3::hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::geometry::{ChunkId, ChunkIndex, Geometry};
use crate::path::RelPath;

/// Chaining value of a chunk's subtree; of a one-chunk file, the file's digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ChunkDigest(pub [u8; 32]);

/// What `b3sum` prints for the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FileDigest(pub [u8; 32]);

/// Value of the chain over a log's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ChainValue(pub [u8; 32]);

/// Digest of all outcomes of a transfer in canonical order: what both sides compare at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OutcomeDigest(pub [u8; 32]);

/// Digest of a list that the user has given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListDigest(pub [u8; 32]);

/// First 16 bytes of the BLAKE3 of a path: the name of its staging file and its key in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PathHash(pub [u8; 16]);

/// Bytes that came from a peer or a disk, with the place they claim. Not verified.
#[derive(Clone, Debug)]
pub struct ReceivedChunk {
    /// The place.
    pub id: ChunkId,
    /// The bytes, or `None` for a chunk that is said to be all zero.
    pub bytes: Option<Bytes>,
}

/// Bytes that hash to what the manifest says about their place. Only [`verify`] makes one.
#[derive(Clone, Debug)]
pub struct VerifiedChunk {
    id: ChunkId,
    bytes: Option<Bytes>,
}

impl VerifiedChunk {
    /// The place.
    pub fn id(&self) -> ChunkId {
        self.id
    }

    /// The bytes, or `None` if all are zero.
    pub fn bytes(&self) -> Option<&Bytes> {
        self.bytes.as_ref()
    }
}

/// Outcome of comparing bytes with a digest.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// The bytes are what the manifest says.
    Match(VerifiedChunk),
    /// They are not (a wrong length counts as a mismatch).
    Mismatch {
        /// What the manifest says.
        expected: ChunkDigest,
        /// What the bytes hash to.
        actual: ChunkDigest,
    },
}

/// Digest of the bytes of one chunk. `bytes` must have the chunk's length.
pub fn chunk_digest(geometry: Geometry, chunk: ChunkIndex, bytes: &[u8]) -> ChunkDigest {
    let mut hasher = blake3::Hasher::new();
    if geometry.chunk_count() == 1 {
        return ChunkDigest(*hasher.update(bytes).finalize().as_bytes());
    }
    hasher.set_input_offset(geometry.offset(chunk));
    hasher.update(bytes);
    ChunkDigest(hasher.finalize_non_root())
}

/// Compares a received chunk with the digest of its place.
pub fn verify(geometry: Geometry, received: ReceivedChunk, expected: ChunkDigest) -> Verdict {
    let len = geometry.chunk_len(received.id.chunk) as usize;
    let actual = match &received.bytes {
        Some(bytes) if bytes.len() != len => ChunkDigest(*blake3::hash(bytes).as_bytes()),
        Some(bytes) => chunk_digest(geometry, received.id.chunk, bytes),
        None => zero_digest(geometry, received.id.chunk),
    };
    let is_len_good = received.bytes.as_ref().is_none_or(|bytes| bytes.len() == len);
    if actual == expected && is_len_good {
        Verdict::Match(VerifiedChunk { id: received.id, bytes: received.bytes })
    } else {
        Verdict::Mismatch { expected, actual }
    }
}

/// Digest of a chunk of zeros at its place.
pub fn zero_digest(geometry: Geometry, chunk: ChunkIndex) -> ChunkDigest {
    static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
    let mut hasher = blake3::Hasher::new();
    let is_root = geometry.chunk_count() == 1;
    if !is_root {
        hasher.set_input_offset(geometry.offset(chunk));
    }
    let mut rest = geometry.chunk_len(chunk) as usize;
    while rest > 0 {
        let step = rest.min(ZEROS.len());
        hasher.update(&ZEROS[..step]);
        rest -= step;
    }
    ChunkDigest(if is_root { *hasher.finalize().as_bytes() } else { hasher.finalize_non_root() })
}

/// Whether all bytes are zero.
pub fn is_zero(bytes: &[u8]) -> bool {
    let words = bytes.chunks_exact(16);
    let tail = words.remainder();
    words.into_iter().all(|word| word == [0; 16]) && tail.iter().all(|byte| *byte == 0)
}

/// Folds a file's chunk digests, in order, into its file digest, in memory logarithmic in their number.
#[derive(Clone, Debug, Default)]
pub struct Folder {
    stack: Vec<ChainingValue>,
    count: u32,
}

impl Folder {
    /// Adds the next chunk's digest.
    pub fn push(&mut self, digest: ChunkDigest) {
        // All subtrees but the last are complete, so equal-sized neighbours merge as soon as a further chunk
        // shows that neither is the root (BLAKE3 specification, section 5.1.2).
        let mut merges = self.count.trailing_zeros();
        while merges > 0 && self.count > 0 {
            let right = self.stack.pop().expect("count says that it is there");
            let left = self.stack.pop().expect("count says that it is there");
            self.stack.push(merge_subtrees_non_root(&left, &right, Mode::Hash));
            merges -= 1;
        }
        self.stack.push(digest.0);
        self.count += 1;
    }

    /// Number of digests pushed.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The file's digest. With no chunk it is the digest of the empty input.
    pub fn finish(&self) -> FileDigest {
        let mut stack = self.stack.clone();
        let Some(mut right) = stack.pop() else {
            return FileDigest(*blake3::hash(b"").as_bytes());
        };
        while let Some(left) = stack.pop() {
            if stack.is_empty() {
                return FileDigest(*merge_subtrees_root(&left, &right, Mode::Hash).as_bytes());
            }
            right = merge_subtrees_non_root(&left, &right, Mode::Hash);
        }
        FileDigest(right)
    }
}

/// Hash of a path.
pub fn path_hash(path: &RelPath) -> PathHash {
    let mut out = [0; 16];
    out.copy_from_slice(&blake3::hash(path.as_bytes()).as_bytes()[..16]);
    PathHash(out)
}

impl ListDigest {
    /// Of the bytes of a list.
    pub fn of(bytes: &[u8]) -> ListDigest {
        ListDigest(*blake3::hash(bytes).as_bytes())
    }
}

impl ChainValue {
    /// Value before the first record of a log: the hash of its header.
    pub fn of_header(header: &[u8]) -> ChainValue {
        ChainValue(*blake3::hash(header).as_bytes())
    }

    /// Value after a further record.
    pub fn next(self, record: &[u8]) -> ChainValue {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.0).update(record);
        ChainValue(*hasher.finalize().as_bytes())
    }

    /// What stands beside a record in a file on disk, to find damage.
    pub fn check(self) -> [u8; 8] {
        first_eight(&self.0)
    }
}

/// First 8 bytes of the BLAKE3 of the parts, each preceded by nothing: a check of a file's own bytes.
pub fn check8(parts: &[&[u8]]) -> [u8; 8] {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    first_eight(hasher.finalize().as_bytes())
}

/// First 4 bytes of the BLAKE3 of `bytes`: the check of a ticket.
pub fn check4(bytes: &[u8]) -> [u8; 4] {
    let mut out = [0; 4];
    out.copy_from_slice(&blake3::hash(bytes).as_bytes()[..4]);
    out
}

fn first_eight(bytes: &[u8; 32]) -> [u8; 8] {
    let mut out = [0; 8];
    out.copy_from_slice(&bytes[..8]);
    out
}

/// BLAKE3 in key-derivation mode.
pub fn derive_key(context: &str, material: &[u8]) -> [u8; 32] {
    blake3::derive_key(context, material)
}

/// Proof of a ticket's secret, bound to one TLS connection. Compare the results with `==` of [`Proof`], which
/// takes the same time wherever two proofs differ.
#[derive(Clone, Copy, Debug)]
pub struct Proof(blake3::Hash);

impl Proof {
    /// Keyed hash over the parts in order.
    pub fn new(key: &[u8; 32], parts: &[&[u8]]) -> Proof {
        let mut hasher = blake3::Hasher::new_keyed(key);
        for part in parts {
            hasher.update(part);
        }
        Proof(hasher.finalize())
    }

    /// A proof that came over the wire.
    pub fn from_bytes(bytes: [u8; 32]) -> Proof {
        Proof(blake3::Hash::from_bytes(bytes))
    }

    /// The bytes for the wire.
    pub fn to_bytes(self) -> [u8; 32] {
        *self.0.as_bytes()
    }
}

impl PartialEq for Proof {
    fn eq(&self, other: &Proof) -> bool {
        self.0 == other.0
    }
}

/// Hash of a stream of canonical lines.
#[derive(Clone, Debug, Default)]
pub struct OutcomeHasher(blake3::Hasher);

impl OutcomeHasher {
    /// Adds one line.
    pub fn line(&mut self, line: &[u8]) {
        self.0.update(line);
    }

    /// The digest of all lines.
    pub fn finish(&self) -> OutcomeDigest {
        OutcomeDigest(*self.0.finalize().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::cast_possible_truncation, clippy::cast_possible_wrap)]
    use super::*;
    use proptest::prelude::*;

    use crate::geometry::EntryIndex;

    fn by_chunks(bytes: &[u8], chunk_bytes: u32) -> FileDigest {
        let geometry = Geometry::new(bytes.len() as u64, chunk_bytes).unwrap();
        let mut folder = Folder::default();
        for raw in 0..geometry.chunk_count() {
            let chunk = geometry.chunk(raw).unwrap();
            let start = geometry.offset(chunk) as usize;
            let body = &bytes[start..start + geometry.chunk_len(chunk) as usize];
            folder.push(chunk_digest(geometry, chunk, body));
        }
        folder.finish()
    }

    fn sample(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i % 251) as u8).collect()
    }

    #[test]
    fn chunk_digests_fold_into_what_b3sum_prints_around_every_boundary() {
        for chunk_bytes in [1024_u32, 4096, 1 << 20] {
            let chunk = chunk_bytes as usize;
            for chunks in 0..18 {
                for delta in [-1025_i64, -1024, -1, 0, 1, 63, 64, 1024, 1025] {
                    let Ok(len) = usize::try_from((chunks * chunk) as i64 + delta) else { continue };
                    if chunk_bytes == 1 << 20 && chunks > 5 {
                        continue;
                    }
                    let bytes = sample(len);
                    assert_eq!(by_chunks(&bytes, chunk_bytes).0, *blake3::hash(&bytes).as_bytes(), "{len} by {chunk}");
                }
            }
        }
    }

    #[test]
    fn a_zero_chunk_has_the_digest_of_its_zeros() {
        for len in [1_u64, 4095, 4096, 4097, 8192, 10_000] {
            let geometry = Geometry::new(len, 4096).unwrap();
            for raw in 0..geometry.chunk_count() {
                let chunk = geometry.chunk(raw).unwrap();
                let zeros = vec![0; geometry.chunk_len(chunk) as usize];
                assert_eq!(zero_digest(geometry, chunk), chunk_digest(geometry, chunk, &zeros));
            }
        }
    }

    #[test]
    fn a_wrong_byte_length_or_place_is_a_mismatch() {
        let geometry = Geometry::new(8192, 4096).unwrap();
        let (zero, one) = (geometry.chunk(0).unwrap(), geometry.chunk(1).unwrap());
        let body = Bytes::from(sample(4096));
        let expected = chunk_digest(geometry, zero, &body);
        let at = |chunk, bytes| ReceivedChunk { id: ChunkId { entry: EntryIndex(0), chunk }, bytes };
        assert!(matches!(verify(geometry, at(zero, Some(body.clone())), expected), Verdict::Match(_)));
        assert!(matches!(verify(geometry, at(one, Some(body.clone())), expected), Verdict::Mismatch { .. }));
        assert!(matches!(verify(geometry, at(zero, Some(body.slice(1..))), expected), Verdict::Mismatch { .. }));
        assert!(matches!(verify(geometry, at(zero, None), expected), Verdict::Mismatch { .. }));
        let mut flipped = body.to_vec();
        flipped[7] ^= 1;
        assert!(matches!(verify(geometry, at(zero, Some(flipped.into())), expected), Verdict::Mismatch { .. }));
    }

    #[test]
    fn zero_is_told_from_nearly_zero() {
        for len in [0, 1, 15, 16, 17, 4096] {
            assert!(is_zero(&vec![0; len]));
            for at in 0..len.min(40) {
                let mut bytes = vec![0; len];
                bytes[at] = 1;
                assert!(!is_zero(&bytes));
            }
        }
    }

    proptest! {
        #[test]
        fn any_length_folds_into_the_plain_hash(len in 0_usize..200_000, shift in 10_u32..16) {
            let bytes = sample(len);
            prop_assert_eq!(by_chunks(&bytes, 1 << shift).0, *blake3::hash(&bytes).as_bytes());
        }
    }
}
