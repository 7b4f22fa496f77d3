//! Structured fuzzing of every format that a peer or a disk hands to the product, under plain `cargo test`: the golden
//! bytes of every released version, altered at random by a seed, and decoded. Nothing panics, memory does not grow,
//! and what is decoded encodes to bytes that decode to the same. Owns no corpus of its own: `tests/golden/` is it.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use fault_inject::rig::process::peak_bytes;
use fault_inject::rng::stream;
use landfall::identity::TransferId;
use landfall::journal;
use landfall::manifest::{self, Header, Parsed, Record};
use landfall::path::RelPath;
use landfall::receipt::{Core, Line, head_from_json};
use landfall::state::transfer::TransferRecord;
use landfall::ticket::Ticket;
use landfall::wire::{ChunkHeader, Message, split_records};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

const CASES: u64 = 20_000;
/// What decoding may cost over all cases together: nothing follows a length that is merely claimed.
const GROWTH_BYTES_MAX: u64 = 64 << 20;
const TRANSFER: TransferId = TransferId([0x5a; 16]);

fn golden(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(name)).unwrap()
}

/// One to four alterations, of which some are what attackers write: largest numbers, lengths, cuts, repetitions.
fn altered(mut bytes: Vec<u8>, rng: &mut ChaCha8Rng) -> Vec<u8> {
    for _ in 0..rng.random_range(1..=4) {
        let at = if bytes.is_empty() { 0 } else { rng.random_range(0..bytes.len()) };
        match rng.random_range(0..9) {
            _ if bytes.is_empty() => bytes.push(rng.random()),
            0 => bytes[at] ^= 1 << rng.random_range(0..8),
            1 => bytes[at] = rng.random(),
            2 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][rng.random_range(0..5)],
            3 => bytes.truncate(at),
            4 => drop(bytes.drain(at..(at + rng.random_range(1..9)).min(bytes.len()))),
            5 => bytes.insert(at, rng.random()),
            6 => {
                let number: &[u8] =
                    [&[0xff, 0xff, 0xff, 0xff, 0x0f][..], &[0xff; 9], &[0x80; 10]][rng.random_range(0..3)];
                drop(bytes.splice(at..at, number.iter().copied()));
            }
            7 => {
                let piece = bytes[at..(at + rng.random_range(1..40)).min(bytes.len())].to_vec();
                let to = rng.random_range(0..=bytes.len());
                drop(bytes.splice(to..to, piece));
            }
            _ => {
                let end = (at + 4).min(bytes.len());
                bytes[at..end].fill([0, 0xff][rng.random_range(0..2)]);
            }
        }
    }
    bytes
}

/// Runs a body over many alterations of a corpus. Fails, with the number of the case, if memory grows.
fn fuzz(name: &str, corpus: &[Vec<u8>], body: impl Fn(&[u8]) -> bool) {
    let me = std::process::id();
    let before = peak_bytes(me).unwrap();
    assert!(corpus.iter().all(|bytes| body(bytes)), "{name}: the corpus itself cannot be decoded");
    let (mut decoded, mut rng) = (0, stream(0, name));
    for number in 0..CASES {
        let bytes = altered(corpus[rng.random_range(0..corpus.len())].clone(), &mut rng);
        decoded += u64::from(body(&bytes));
        let growth = peak_bytes(me).filter(|_| number % 1000 == 0).unwrap_or(before).saturating_sub(before);
        assert!(growth < GROWTH_BYTES_MAX, "{name}: case {number}: memory grew by {growth} bytes");
    }
    // A mutator after which nothing is ever decoded tests the first check of a format, and no more.
    assert!(decoded > CASES / 1000, "{name}: only {decoded} of {CASES} could be decoded");
}

fn frames() -> Vec<Vec<u8>> {
    split_records(&golden("wire-v1.0")).unwrap().into_iter().map(<[u8]>::to_vec).collect()
}

#[test]
fn control_frames() {
    let corpus: Vec<Vec<u8>> = frames().into_iter().filter(|frame| Message::decode(frame).is_ok()).collect();
    fuzz("control frames", &corpus, |bytes| {
        let _ = split_records(bytes);
        let Ok(message) = Message::decode(bytes) else { return false };
        assert_eq!(Message::decode(&message.encode()), Ok(message));
        true
    });
}

#[test]
fn chunk_headers() {
    let corpus: Vec<Vec<u8>> = frames().into_iter().filter(|frame| frame.len() == 16).collect();
    fuzz("chunk headers", &corpus, |bytes| {
        let Some(bytes) = bytes.first_chunk() else { return false };
        let Ok(header) = ChunkHeader::decode(bytes, 1 << 20) else { return false };
        assert_eq!(ChunkHeader::decode(&header.encode(), 1 << 20), Ok(header));
        true
    });
}

#[test]
fn manifest_logs_and_records() {
    let log = golden("manifest-v1");
    let header = Header { chunk_bytes: 1 << 20, transfer: TRANSFER };
    let (mut at, mut chain, mut records) = (manifest::HEADER_BYTES, header.chain(), vec![]);
    while let Parsed::Frame { record, chain: next, frame_bytes } = manifest::parse_frame(&log[at..], chain) {
        records.push(record.to_vec());
        (at, chain) = (at + frame_bytes, next);
    }
    fuzz("manifest records", &records, |bytes| {
        let Ok(record) = Record::decode(bytes) else { return false };
        assert_eq!(Record::decode(&record.encode()), Ok(record));
        true
    });
    fuzz("manifest logs", &[log], |bytes| {
        let (mut at, mut chain, mut count) = (manifest::HEADER_BYTES, header.chain(), 0);
        while let Some(rest) = bytes.get(at..) {
            let Parsed::Frame { chain: next, frame_bytes, .. } = manifest::parse_frame(rest, chain) else { break };
            (at, chain, count) = (at + frame_bytes, next, count + 1);
        }
        count > 0
    });
}

#[test]
fn journals() {
    fuzz("journals", &[golden("journal-v1")], |bytes| {
        let (mut at, mut count) = (journal::HEADER_BYTES, 0);
        while let Some((claim, length)) = bytes.get(at..).and_then(|rest| journal::next_claim(TRANSFER, count, rest)) {
            let again = journal::frame(TRANSFER, count, &claim);
            assert_eq!(journal::next_claim(TRANSFER, count, &again).map(|(claim, _)| claim), Some(claim));
            (at, count) = (at + length, count + 1);
        }
        let _ = journal::decode_claim(bytes);
        count > 0
    });
}

#[test]
fn tickets() {
    let whole = golden("ticket-v1");
    let mut rng = stream(0, "tickets");
    for number in 0..CASES {
        let bytes = altered(whole.clone(), &mut rng);
        let text = String::from_utf8_lossy(&bytes);
        // Blanks, hyphens and capitals are no alterations; everything else is met by the check.
        let spaced: String = text.chars().flat_map(|c| [c.to_ascii_uppercase(), ' ']).collect();
        let (plain, loose) = (Ticket::decode(&text), Ticket::decode(&spaced));
        assert_eq!(plain.is_ok(), loose.is_ok(), "case {number}: {text}");
        let letters: String = text.chars().filter(|c| !c.is_whitespace() && *c != '-').collect();
        let is_same = letters.to_ascii_lowercase().as_bytes() == whole;
        assert_eq!(plain.is_ok(), is_same, "case {number}: {text}");
    }
}

#[test]
fn receipts() {
    let text = golden("receipt-v1");
    let lines: Vec<Vec<u8>> =
        text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect();
    let (core, _) = head_from_json(std::str::from_utf8(&lines[0]).unwrap()).unwrap();
    fuzz("receipt cores", &[core], |bytes| {
        let Ok(core) = Core::decode(bytes) else { return false };
        assert_eq!(Core::decode(&core.encode()), Ok(core));
        true
    });
    fuzz("receipt heads", &lines[..1], |bytes| head_from_json(&String::from_utf8_lossy(bytes)).is_ok());
    fuzz("receipt lines", &lines[1..], |bytes| {
        let Some(line) = Line::from_json(&String::from_utf8_lossy(bytes)) else { return false };
        assert_eq!(Line::from_json(&line.to_json()), Some(line.clone()));
        let _ = line.canonical();
        true
    });
}

#[test]
fn transfer_records() {
    let whole = golden("transfer-v1");
    let damaged = |bytes: &[u8]| TransferRecord::decode(bytes).is_err();
    let mut rng = stream(0, "transfer records");
    assert!(!damaged(&whole));
    for number in 0..CASES / 4 {
        let bytes = altered(whole.clone(), &mut rng);
        assert!(damaged(&bytes) || bytes == whole, "case {number} was not noticed");
    }
}

/// What a path may be, said once more in other words.
fn is_plain(bytes: &[u8]) -> bool {
    let text: Vec<char> = bytes.iter().map(|byte| char::from(*byte)).collect();
    let text: String = text.into_iter().collect();
    let parts: Vec<&str> = text.split('/').collect();
    let is_state = |part: &str| part.eq_ignore_ascii_case(".landfall");
    let is_bad =
        |part: &&str| part.is_empty() || *part == "." || *part == ".." || is_state(part) || part.contains('\0');
    let is_long = |part: &&str| part.chars().count() > 255;
    bytes.len() <= 65_536 && parts.len() <= 4096 && !parts.iter().any(|part| is_bad(part) || is_long(part))
}

#[test]
fn paths_are_those_of_a_naive_reading() {
    let corpus: Vec<Vec<u8>> =
        [&b"a/b/c"[..], b"a/../b", b".landfall/x", b"x/.LANDFALL", b"./a", b"a//b", b"/a", b"a/"]
            .iter()
            .map(|bytes| bytes.to_vec())
            .chain([vec![b'n'; 256], b"a/".repeat(4095)])
            .collect();
    let mut rng = stream(0, "paths");
    let mut accepted = 0;
    for _ in 0..CASES {
        let bytes = altered(corpus[rng.random_range(0..corpus.len())].clone(), &mut rng);
        let parsed = RelPath::parse(&bytes);
        assert_eq!(parsed.is_ok(), is_plain(&bytes), "{}", bytes.escape_ascii());
        if let Ok(path) = parsed {
            assert_eq!(path.as_bytes(), bytes);
            let shown = path.to_string();
            assert!(!shown.chars().any(char::is_control), "{shown:?}");
            accepted += 1;
        }
    }
    assert!(accepted > CASES / 10, "only {accepted} paths were accepted");
}
