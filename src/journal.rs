//! The journal: append-only claims that save work. Losing any part of it costs work, never correctness.
//!
//! File layout (integers big-endian):
//!
//! ```text
//! header  17 "landfall journal\n" · 2 version (1) · 16 transfer id
//! frame    2 length n · n claim · 8 check
//! ```
//!
//! A claim is the postcard encoding of [`Claim`]. The check of the i-th frame is the first 8 bytes of
//! BLAKE3(transfer id ‖ i as 8 bytes ‖ claim), so that a torn tail, a repeated and a moved frame end the usable
//! part there. What this module does not do: I/O, and order of steps: that is `store/`.

use serde::{Deserialize, Serialize};

use crate::attributes::{Level, Stamps};
use crate::digest::{ChunkDigest, FileDigest, PathHash, check8};
use crate::geometry::{ChunkRun, EntryIndex};
use crate::identity::TransferId;

const MAGIC: &[u8; 17] = b"landfall journal\n";
const VERSION: u16 = 1;
/// Bytes of the header.
pub const HEADER_BYTES: usize = 35;
/// Bytes of the largest claim.
const CLAIM_BYTES_MAX: usize = 256;

/// One claim. Part of formats: append variants, never reorder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Claim {
    /// A run of chunks was written to this staging inode, and the inode synced afterwards.
    Durable {
        /// The file.
        entry: EntryIndex,
        /// The inode that was synced.
        inode: u64,
        /// Which chunks.
        run: ChunkRun,
        /// [`run_tag`] over their digests: tells when the entry number means something else now.
        tag: [u8; 8],
    },
    /// Synced before the rename: a target with that content is ours and may be replaced by a newer version.
    Sealing {
        /// The path.
        path: PathHash,
        /// Its verified content.
        digest: FileDigest,
    },
    /// Verified, renamed, and the directory synced.
    Sealed {
        /// The file.
        entry: EntryIndex,
        /// Its path.
        path: PathHash,
        /// Its verified content.
        digest: FileDigest,
        /// How its read-back was proved.
        level: Level,
        /// The target after the rename.
        stamps: Stamps,
    },
    /// This target's sync failed, or it read back as something else than was sealed: it is never again taken as it is,
    /// whatever its stamps say and whatever a later sync says.
    Doubted {
        /// The path.
        path: PathHash,
        /// The inode that had the name.
        inode: u64,
    },
}

/// The header's bytes.
pub fn header(transfer: TransferId) -> [u8; HEADER_BYTES] {
    let mut out = [0; HEADER_BYTES];
    out[..17].copy_from_slice(MAGIC);
    out[17..19].copy_from_slice(&VERSION.to_be_bytes());
    out[19..].copy_from_slice(&transfer.0);
    out
}

/// First 8 bytes of the BLAKE3 over the digests of a run.
pub fn run_tag(digests: &[ChunkDigest]) -> [u8; 8] {
    let parts: Vec<&[u8]> = digests.iter().map(|digest| &digest.0[..]).collect();
    check8(&parts)
}

/// The frame of the `index`-th claim.
pub fn frame(transfer: TransferId, index: u64, claim: &Claim) -> Vec<u8> {
    let body = postcard::to_stdvec(claim).expect("encoding into memory cannot fail");
    let mut out = Vec::with_capacity(body.len() + 10);
    out.extend_from_slice(&u16::try_from(body.len()).expect("claims are small").to_be_bytes());
    out.extend_from_slice(&body);
    out.extend_from_slice(&check8(&[&transfer.0, &index.to_be_bytes(), &body]));
    out
}

/// The `index`-th claim, if `bytes` begin with its undamaged frame, and the frame's length.
pub fn next_claim(transfer: TransferId, index: u64, bytes: &[u8]) -> Option<(Claim, usize)> {
    let (body, rest) = split_frame(bytes)?;
    if rest.get(..8)? != check8(&[&transfer.0, &index.to_be_bytes(), body]) {
        return None;
    }
    Some((decode_body(body)?, body.len() + 10))
}

/// The claim of a frame that was good when the journal was opened.
pub fn decode_claim(bytes: &[u8]) -> Option<Claim> {
    decode_body(split_frame(bytes)?.0)
}

fn split_frame(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    let length = u16::from_be_bytes(*length) as usize;
    if length > CLAIM_BYTES_MAX { None } else { rest.split_at_checked(length) }
}

fn decode_body(body: &[u8]) -> Option<Claim> {
    let (claim, rest) = postcard::take_from_bytes::<Claim>(body).ok()?;
    rest.is_empty().then_some(claim)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::attributes::Timestamp;

    const TRANSFER: TransferId = TransferId([9; 16]);

    fn samples() -> Vec<Claim> {
        let time = Timestamp { seconds: -5, nanos: 7 };
        vec![
            Claim::Durable { entry: EntryIndex(3), inode: 1 << 40, run: ChunkRun { first: 1, count: 64 }, tag: [1; 8] },
            Claim::Sealing { path: PathHash([2; 16]), digest: FileDigest([3; 32]) },
            Claim::Sealed {
                entry: EntryIndex(3),
                path: PathHash([2; 16]),
                digest: FileDigest([3; 32]),
                level: Level::Device,
                stamps: Stamps { size: 5, mtime: time, ctime: time, inode: 6, device: 7 },
            },
            Claim::Doubted { path: PathHash([2; 16]), inode: 6 },
        ]
    }

    fn file() -> (Vec<u8>, Vec<usize>) {
        let mut bytes = header(TRANSFER).to_vec();
        let mut ends = vec![];
        for (index, claim) in samples().iter().enumerate() {
            bytes.extend_from_slice(&frame(TRANSFER, index as u64, claim));
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    fn usable(file: &[u8]) -> Vec<Claim> {
        let (mut claims, mut at) = (vec![], HEADER_BYTES);
        while let Some((claim, bytes)) = file.get(at..).and_then(|rest| next_claim(TRANSFER, claims.len() as u64, rest))
        {
            claims.push(claim);
            at += bytes;
        }
        claims
    }

    #[test]
    fn the_frame_has_the_documented_bytes() {
        let claim = Claim::Sealing { path: PathHash([2; 16]), digest: FileDigest([3; 32]) };
        let bytes = frame(TRANSFER, 5, &claim);
        let body = [&[1_u8][..], &[2; 16], &[3; 32]].concat();
        assert_eq!(bytes[..2], 49_u16.to_be_bytes());
        assert_eq!(bytes[2..51], body);
        assert_eq!(bytes[51..], check8(&[&TRANSFER.0, &5_u64.to_be_bytes(), &body]));
    }

    #[test]
    fn a_journal_cut_at_any_byte_keeps_every_whole_claim() {
        let (bytes, ends) = file();
        for cut in 0..=bytes.len() {
            let expected = ends.iter().filter(|end| **end <= cut).count();
            assert_eq!(usable(&bytes[..cut]), samples()[..expected], "cut at {cut}");
        }
        assert_eq!(next_claim(TransferId([8; 16]), 0, &bytes[HEADER_BYTES..]), None);
    }

    #[test]
    fn a_repeated_frame_is_not_taken_twice() {
        let (mut bytes, ends) = file();
        let again = bytes[ends[0]..ends[1]].to_vec();
        bytes.extend_from_slice(&again);
        assert_eq!(usable(&bytes).len(), samples().len());
    }

    proptest! {
        #[test]
        fn a_changed_bit_never_changes_a_claim(at in 0_usize..10_000, bit in 0_u8..8) {
            let (mut bytes, _) = file();
            let at = HEADER_BYTES + at % (bytes.len() - HEADER_BYTES);
            bytes[at] ^= 1 << bit;
            let usable = usable(&bytes);
            prop_assert!(usable.len() < samples().len());
            prop_assert_eq!(&usable[..], &samples()[..usable.len()]);
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = next_claim(TRANSFER, 0, &bytes);
            let _ = decode_claim(&bytes);
        }
    }
}
