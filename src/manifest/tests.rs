//! The documented bytes, the places of digests, the ladder, and that damage never passes.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

fn header() -> Header {
    Header { chunk_bytes: 1 << 20, transfer: TransferId([7; 16]) }
}

fn path(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).unwrap()
}

fn samples() -> Vec<Record> {
    let mtime = Timestamp { seconds: -1, nanos: 999_999_999 };
    vec![
        Record::Directory { path: path("d"), mode: 0o755, mtime },
        Record::Begin { path: path("d/f"), size: 5 },
        Record::Chunks { entry: EntryIndex(1), digests: vec![ChunkDigest([1; 32])] },
        Record::End { entry: EntryIndex(1), digest: FileDigest([1; 32]), mode: 0o644, mtime },
        Record::Symlink { path: path("l"), target: b"../x\xff".to_vec(), mtime },
        Record::LeftOut { path: path("fifo"), kind: FileKind::Special, reason: Reason::Special },
        Record::Withdraw { entry: EntryIndex(1), reason: Reason::Changed },
        Record::Complete(Counts { files: 1, bytes: 5, ..Counts::default() }),
    ]
}

#[test]
fn the_header_has_the_documented_bytes() {
    let bytes = header().encode();
    assert_eq!(&bytes[..18], b"landfall manifest\n");
    assert_eq!(bytes[18..24], [0, 1, 0, 16, 0, 0]);
    assert_eq!(bytes[24..], [7; 16]);
}

#[test]
fn every_record_comes_back_and_a_longer_one_does_not() {
    for record in samples() {
        let mut bytes = record.encode();
        assert_eq!(Record::decode(&bytes), Ok(record));
        bytes.push(0);
        assert_eq!(Record::decode(&bytes), Err(DecodeError::Malformed));
    }
}

#[test]
fn impossible_values_are_refused() {
    let mtime = Timestamp { seconds: 0, nanos: 1_000_000_000 };
    for record in [
        Record::Begin { path: path("a"), size: u64::MAX },
        Record::Chunks { entry: EntryIndex(0), digests: vec![] },
        Record::Chunks { entry: EntryIndex(0), digests: vec![ChunkDigest([0; 32]); 17] },
        Record::Directory { path: path("a"), mode: 0o4755, mtime: Timestamp::default() },
        Record::Directory { path: path("a"), mode: 0o755, mtime },
        Record::Symlink { path: path("a"), target: vec![], mtime: Timestamp::default() },
        Record::Symlink { path: path("a"), target: vec![0], mtime: Timestamp::default() },
    ] {
        assert!(matches!(Record::decode(&record.encode()), Err(DecodeError::Impossible(_))), "{record:?}");
    }
    let hostile = postcard::to_stdvec(&(0_u8, b"../x".as_slice(), 1_u64)).unwrap();
    assert_eq!(Record::decode(&hostile), Err(DecodeError::Malformed));
}

#[test]
fn digests_stand_where_arithmetic_says() {
    for (entry, chunks) in [(0, 0), (0, 1), (127, 15), (128, 16), (20_000, 17), (3_000_000, 100), (300_000_000, 33)] {
        let geometry = Geometry::new(chunks * 4096, 4096).unwrap();
        let digest = |raw: u64| ChunkDigest([u8::try_from(raw % 251).unwrap() + 1; 32]);
        let mut file = vec![0; 77];
        let places = DigestPlaces::new(77, EntryIndex(entry), geometry);
        let mut chain = header().chain();
        let all: Vec<ChunkDigest> = (0..chunks).map(digest).collect();
        for digests in all.chunks(RECORD_DIGESTS_MAX) {
            let record = Record::Chunks { entry: EntryIndex(entry), digests: digests.to_vec() };
            let (bytes, next) = frame(&record.encode(), chain);
            file.extend_from_slice(&bytes);
            chain = next;
        }
        for (raw, expected) in (0_u32..).zip(&all) {
            let at = usize::try_from(places.offset(raw)).unwrap();
            assert_eq!(file[at..at + 32], expected.0, "chunk {raw} of entry {entry}");
        }
        assert_eq!(places.end_offset(), file.len() as u64);
    }
}

#[test]
fn a_ladder_has_few_rungs_near_the_end_and_always_the_start() {
    let start = header().chain();
    let mut ladder = Ladder::default();
    assert_eq!(ladder.rungs(start), [Position { record_count: 0, chain: start }]);
    for record_count in 1..=1_000_000 {
        ladder.push(Position { record_count, chain: start });
    }
    let counts: Vec<u64> = ladder.rungs(start).iter().map(|position| position.record_count).collect();
    assert_eq!((counts[0], counts[1], *counts.last().unwrap()), (1_000_000, 999_999, 0));
    assert!(counts.len() < 64, "{}", counts.len());
    for pair in counts.windows(2) {
        assert!(pair[0] - pair[1] <= 1 + 2 * (1_000_000 - pair[0]).next_power_of_two().max(1), "{pair:?}");
    }
}

proptest! {
    #[test]
    fn a_changed_byte_anywhere_ends_the_usable_part_there(at in 0_usize..10_000, bit in 0_u8..8) {
        let mut file = Vec::new();
        let mut ends = Vec::new();
        let mut chain = header().chain();
        for record in samples() {
            let (bytes, next) = frame(&record.encode(), chain);
            file.extend_from_slice(&bytes);
            ends.push(file.len());
            chain = next;
        }
        let at = at % file.len();
        file[at] ^= 1 << bit;
        let (mut chain, mut offset, mut good) = (header().chain(), 0, 0);
        while let Parsed::Frame { chain: next, frame_bytes, .. } = parse_frame(&file[offset..], chain) {
            (chain, offset, good) = (next, offset + frame_bytes, good + 1);
        }
        let expected = ends.iter().filter(|end| **end <= at).count();
        prop_assert_eq!(good, expected);
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = Record::decode(&bytes);
        let _ = parse_frame(&bytes, header().chain());
    }
}
