//! The bytes of every released version of every format are decoded for ever: `tests/golden/` holds them, and what
//! is encoded now is equal to the newest of them. `LANDFALL_WRITE_GOLDEN=1` writes files that are missing, never
//! one that is there.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::fs;
use std::num::NonZeroU16;
use std::path::PathBuf;

use landfall::attributes::{FileKind, Level, Stamps, Timestamp};
use landfall::digest::{ChunkDigest, FileDigest, Folder, OutcomeDigest, PathHash};
use landfall::geometry::{ChunkRun, EntryIndex};
use landfall::identity::{PeerKey, Role, Secret, TransferId};
use landfall::journal::{self, Claim};
use landfall::manifest::{self, Header, Parsed, Position, Record};
use landfall::outcome::{Counts, NotPreserved, Outcome, Reason, Reused};
use landfall::path::RelPath;
use landfall::receipt::{self, Core, Line};
use landfall::ticket::Ticket;
use landfall::wire::{
    self, Body, ChunkHeader, Exception, Hello, Message, Phase, Place, Progress, Retry, Stop, StopReason, Want, WantRun,
};

const TRANSFER: TransferId = TransferId([0x5a; 16]);
/// In the name of an entry whose own is taken.
const NUMBER: NonZeroU16 = NonZeroU16::new(300).unwrap();
const TIME: Timestamp = Timestamp { seconds: -1_000_000_007, nanos: 999_999_999 };

/// The golden bytes of a format; they are written first where there are none and that is asked for.
fn golden(name: &str, now: &[u8]) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if !path.exists() && std::env::var_os("LANDFALL_WRITE_GOLDEN").is_some() {
        fs::write(&path, now).unwrap();
        eprintln!("wrote {}", path.display());
    }
    fs::read(&path).unwrap()
}

fn path(bytes: &[u8]) -> RelPath {
    RelPath::parse(bytes).unwrap()
}

fn records() -> Vec<Record> {
    let digests: Vec<ChunkDigest> = (1..=17).map(|byte| ChunkDigest([byte; 32])).collect();
    let mut folder = Folder::default();
    digests.iter().for_each(|digest| folder.push(*digest));
    let entry = EntryIndex(1);
    let counts = Counts {
        files: 1,
        directories: 2,
        symlinks: 3,
        left_out: 4,
        bytes: 5,
        not_preserved: NotPreserved { owners: 6, extended_attributes: 7, hard_links: 8, special_bits: 9 },
    };
    vec![
        Record::Directory { path: path(b"d"), mode: 0o755, mtime: TIME },
        Record::Begin { path: path(b"d/\xff\n"), size: (16 << 20) + 1 },
        Record::Chunks { entry, digests: digests[..16].to_vec() },
        Record::Chunks { entry, digests: digests[16..].to_vec() },
        Record::End { entry, digest: folder.finish(), mode: 0o640, mtime: TIME },
        Record::Symlink { path: path(b"l"), target: b"../\xfe".to_vec(), mtime: TIME },
        Record::LeftOut { path: path(b"p"), kind: FileKind::Special, reason: Reason::Special },
        Record::Withdraw { entry, reason: Reason::Changed },
        Record::Complete(counts),
    ]
}

#[test]
fn manifest_logs() {
    let header = Header { chunk_bytes: 1 << 20, transfer: TRANSFER };
    let mut bytes = header.encode().to_vec();
    let mut chain = header.chain();
    for record in records() {
        let (frame, next) = manifest::frame(&record.encode(), chain);
        bytes.extend_from_slice(&frame);
        chain = next;
    }
    let golden = golden("manifest-v1", &bytes);
    assert_eq!(bytes, golden);
    let (mut at, mut chain, mut found) = (manifest::HEADER_BYTES, header.chain(), vec![]);
    while let Parsed::Frame { record, chain: next, frame_bytes } = manifest::parse_frame(&golden[at..], chain) {
        found.push(Record::decode(record).unwrap());
        (at, chain) = (at + frame_bytes, next);
    }
    assert_eq!((found, at), (records(), golden.len()));
}

fn claims() -> Vec<Claim> {
    let stamps = Stamps { size: 1 << 41, mtime: TIME, ctime: TIME, inode: u64::MAX, device: 9 };
    let (path, digest) = (PathHash([3; 16]), FileDigest([4; 32]));
    vec![
        Claim::Durable { entry: EntryIndex(7), inode: 8, run: ChunkRun { first: 9, count: 64 }, tag: [5; 8] },
        Claim::Sealing { path, digest },
        Claim::Sealed { entry: EntryIndex(u32::MAX), path, digest, level: Level::Evicted, stamps },
        Claim::Doubted { path, inode: 10 },
    ]
}

#[test]
fn journals() {
    let mut bytes = journal::header(TRANSFER).to_vec();
    for (index, claim) in (0..).zip(claims()) {
        bytes.extend_from_slice(&journal::frame(TRANSFER, index, &claim));
    }
    let golden = golden("journal-v1", &bytes);
    assert_eq!(bytes, golden);
    let (mut at, mut found) = (journal::HEADER_BYTES, vec![]);
    while let Some((claim, length)) = journal::next_claim(TRANSFER, found.len() as u64, &golden[at..]) {
        found.push(claim);
        at += length;
    }
    assert_eq!((found, at), (claims(), golden.len()));
}

fn messages() -> Vec<Message> {
    let position = Position { record_count: 300, chain: landfall::digest::ChainValue([6; 32]) };
    let hello = Hello {
        minor: 0,
        features: 1 << 40,
        role: Role::Receiver,
        transfer: TRANSFER,
        proof: Some([7; 32]),
        chunk_bytes: 1 << 20,
        addresses: vec!["192.0.2.1:28170".parse().unwrap(), "[2001:db8::1]:1".parse().unwrap()],
        ladder: vec![position],
        has_receipt: true,
        host: "host".into(),
        version: "0.1.0".into(),
    };
    let runs = vec![WantRun { entry: EntryIndex(1), first: 2, count: 3 }];
    let progress = Progress {
        phase: Phase::Verifying,
        entry: Some(EntryIndex(4)),
        held_bytes: 5,
        verified_bytes: 6,
        sealed_files: 7,
        left_out: 8,
    };
    let exceptions = [Outcome::AttributesNotApplied, Outcome::LeftOut(Reason::TargetChanged)];
    let exceptions = exceptions.map(|outcome| Exception { path: path(b"a/b"), outcome }).to_vec();
    vec![
        Message::Hello(hello),
        Message::Continue(position),
        Message::Records(vec![0, 0, 0, 1, 9]),
        Message::Settled(position),
        Message::Want(Want { considered_through: Place { entry: 1, chunk: 2 }, runs }),
        Message::Progress(progress),
        Message::Exceptions(exceptions),
        Message::Receipt { core: vec![1, 2, 3], signature: vec![4; 64] },
        Message::Acknowledge(OutcomeDigest([8; 32])),
        Message::Stop(Stop { reason: StopReason::RootGone, retry: Retry::Never }),
    ]
}

#[test]
fn messages_and_chunk_headers() {
    let mut bytes = vec![];
    for message in messages() {
        wire::push_record(&mut bytes, &message.encode());
    }
    for body in [Body::Bytes(1 << 20), Body::Zero, Body::Gone(Reason::SourceUnsteady)] {
        let header = ChunkHeader { entry: EntryIndex(0x0102_0304), chunk: 0x0506_0708, body };
        wire::push_record(&mut bytes, &header.encode());
    }
    let golden = golden("wire-v1.0", &bytes);
    assert_eq!(bytes, golden);
    let frames = wire::split_records(&golden).unwrap();
    let (first, last) = frames.split_at(messages().len());
    let found: Vec<Message> = first.iter().map(|frame| Message::decode(frame).unwrap()).collect();
    assert_eq!(found, messages());
    for frame in last {
        let header = ChunkHeader::decode((*frame).try_into().unwrap(), 1 << 20).unwrap();
        assert_eq!(header.encode(), *frame);
    }
}

/// What was added to the wire since its first version, each for a feature that a hello offers.
#[test]
fn messages_of_features() {
    let reused = Reused { unchanged_files: 300, changed_files: 2, moved_files: 1, bytes: 1 << 40 };
    let message = Message::Reused(reused);
    let golden = golden("wire-v1.0-reused", &message.encode());
    assert_eq!(message.encode(), golden);
    assert_eq!(Message::decode(&golden), Ok(message));
    let exceptions = [Outcome::Renamed(NUMBER), Outcome::RenamedAttributesNotApplied(NUMBER)];
    let exceptions = exceptions.map(|outcome| Exception { path: path(b"a/b.c"), outcome }).to_vec();
    let message = Message::Exceptions(exceptions);
    let golden = self::golden("wire-v1.0-renamed", &message.encode());
    assert_eq!(message.encode(), golden);
    assert_eq!(Message::decode(&golden), Ok(message));
}

#[test]
fn tickets() {
    let ticket = Ticket {
        role: Role::Receiver,
        key: PeerKey([0xa5; 32]),
        secret: Secret::from_bytes([0x3c; 16]),
        addresses: vec!["192.0.2.1:28170".parse().unwrap(), "[2001:db8::1]:28170".parse().unwrap()],
        expiry_seconds: 1_800_000_000,
    };
    let golden = golden("ticket-v1", ticket.encode().as_bytes());
    assert_eq!(ticket.encode().as_bytes(), golden);
    let found = Ticket::decode(std::str::from_utf8(&golden).unwrap()).unwrap();
    assert_eq!((found.role, found.key, found.addresses), (ticket.role, ticket.key, ticket.addresses));
    assert_eq!((found.expiry_seconds, found.secret.expose()), (ticket.expiry_seconds, ticket.secret.expose()));
}

fn core() -> Core {
    Core {
        version: 1,
        transfer: TRANSFER,
        outcome: OutcomeDigest([1; 32]),
        counts: Counts { files: 3, bytes: 1 << 40, ..Counts::default() },
        delivered_files: 2,
        delivered_bytes: 1 << 39,
        left_out: 1,
        kept: 4,
        bytes_by_level: [0, 5, 6, 7],
        is_durable: true,
        started: TIME,
        finished: Timestamp { seconds: 1_800_000_000, nanos: 1 },
        sender: PeerKey([2; 32]),
        receiver: PeerKey([3; 32]),
        sender_host: "a".into(),
        receiver_host: "b".into(),
        sender_version: "0.1.0".into(),
        receiver_version: "0.1.0".into(),
    }
}

fn lines() -> Vec<Line> {
    let line = Line {
        path: path(b"d/\xff\n"),
        kind: FileKind::Regular,
        size: 5,
        digest: Some(FileDigest([9; 32])),
        mode: 0o640,
        mtime: TIME,
        target: vec![],
        outcome: Outcome::Delivered,
    };
    let link = Line { kind: FileKind::Symlink, size: 0, digest: None, mode: 0, target: b"t".to_vec(), ..line.clone() };
    vec![line.clone(), Line { outcome: Outcome::LeftOut(Reason::Kept), ..line }, link]
}

#[test]
fn receipts() {
    let mut text = receipt::head_to_json(&core(), &[7; 64]) + "\n";
    for line in lines() {
        text += &(line.to_json() + "\n");
    }
    let golden = golden("receipt-v1", text.as_bytes());
    assert_eq!(text.as_bytes(), golden);
    let golden = std::str::from_utf8(&golden).unwrap();
    let (head, rest) = golden.split_once('\n').unwrap();
    let (bytes, signature) = receipt::head_from_json(head).unwrap();
    assert_eq!((Core::decode(&bytes).unwrap(), signature), (core(), [7; 64]));
    let found: Vec<Line> = rest.lines().map(|line| Line::from_json(line).unwrap()).collect();
    assert_eq!(found, lines());
}

/// Lines that were added since: of entries under another name than their own.
#[test]
fn lines_of_renamed_entries() {
    let [file, _, link] = <[Line; 3]>::try_from(lines()).unwrap();
    let lines = [
        Line { outcome: Outcome::Renamed(NUMBER), path: path(b"d/a.b"), ..file.clone() },
        Line { outcome: Outcome::RenamedAttributesNotApplied(NUMBER), ..file },
        Line { outcome: Outcome::Renamed(NonZeroU16::MIN), ..link },
    ];
    let text: String = lines.iter().map(|line| line.to_json() + "\n").collect();
    let golden = golden("receipt-v1-renamed", text.as_bytes());
    assert_eq!(text.as_bytes(), golden);
    let found = std::str::from_utf8(&golden).unwrap().lines().map(|line| Line::from_json(line).unwrap());
    assert_eq!(found.collect::<Vec<_>>(), lines);
}
