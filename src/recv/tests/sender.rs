//! A sender of a few lines: a log of records for a tree in memory, and the chunks that it names.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::attributes::Timestamp;
use crate::digest::{Folder, chunk_digest, is_zero};
use crate::geometry::{ChunkRun, EntryIndex, Geometry};
use crate::identity::TransferId;
use crate::limits::{RECORD_DIGESTS_MAX, SIMULATED_CHUNK_BYTES};
use crate::manifest::{Header, Record};
use crate::outcome::{Counts, Reason};
use crate::path::RelPath;
use crate::wire::{Body, ChunkHeader, Place, push_record};

pub(super) const CHUNK: usize = SIMULATED_CHUNK_BYTES as usize;
pub(super) const HEADER: Header =
    Header { chunk_bytes: SIMULATED_CHUNK_BYTES, transfer: TransferId(*b"a transfer of us") };

/// What a path is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Node {
    File { bytes: Vec<u8>, mode: u16, mtime: Timestamp },
    Directory { mode: u16, mtime: Timestamp },
    Symlink { target: Vec<u8> },
}

pub(super) type Tree = BTreeMap<String, Node>;

/// Bytes that differ with their seed and repeat nowhere near a chunk's length.
pub(super) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| next()).collect()
}

pub(super) fn file(seed: u64, length: usize) -> Node {
    let mtime = Timestamp { seconds: -1000 - i64::try_from(seed).unwrap(), nanos: 123_456_789 };
    Node::File { bytes: noise(seed, length), mode: 0o644, mtime }
}

/// A tree with something of everything.
pub(super) fn tree() -> Tree {
    let mtime = Timestamp { seconds: 1_000_000, nanos: 5 };
    let mut tree = Tree::new();
    tree.insert("a".into(), Node::Directory { mode: 0o755, mtime });
    tree.insert("a/deep".into(), Node::Directory { mode: 0o555, mtime });
    tree.insert("a/deep/nested".into(), Node::Directory { mode: 0o700, mtime });
    tree.insert("empty-directory".into(), Node::Directory { mode: 0o711, mtime });
    tree.insert("link".into(), Node::Symlink { target: b"/nowhere/at/all".to_vec() });
    tree.insert("a/link".into(), Node::Symlink { target: b"../a/one".to_vec() });
    tree.insert("empty".into(), file(1, 0));
    tree.insert("a/one".into(), file(2, 1));
    tree.insert("a/exact".into(), file(3, CHUNK));
    tree.insert("a/deep/many".into(), file(4, 21 * CHUNK + 17));
    tree.insert("a/deep/nested/read-only".into(), Node::File { bytes: noise(5, 100), mode: 0o444, mtime });
    tree.insert("a/secret".into(), Node::File { bytes: noise(6, 3 * CHUNK), mode: 0, mtime });
    let mut holes = vec![0; 9 * CHUNK + 1];
    holes[4 * CHUNK] = 1;
    tree.insert("holes".into(), Node::File { bytes: holes, mode: 0o600, mtime });
    tree.insert("zero".into(), Node::File { bytes: vec![0; 50], mode: 0o600, mtime });
    tree
}

/// The log, and what its entries hold.
#[derive(Default)]
pub(super) struct Sender {
    pub(super) records: Vec<Vec<u8>>,
    pub(super) bytes: Vec<Option<Vec<u8>>>,
    paths: Vec<String>,
    /// Bytes that were asked for.
    pub(super) sent_bytes: u64,
    /// Chunks to be spoiled on their way: each once.
    pub(super) spoiled: Vec<Place>,
}

impl Sender {
    pub(super) fn of(tree: &Tree) -> Sender {
        let mut sender = Sender::default();
        tree.iter().for_each(|(path, node)| sender.add(path, node));
        sender.complete();
        sender
    }

    fn push(&mut self, record: &Record) {
        self.records.push(record.encode());
    }

    pub(super) fn complete(&mut self) {
        self.push(&Record::Complete(Counts::default()));
    }

    pub(super) fn entry(&self, path: &str) -> EntryIndex {
        let entry = self.paths.iter().rposition(|other| other == path).unwrap();
        EntryIndex(u32::try_from(entry).unwrap())
    }

    pub(super) fn withdraw(&mut self, path: &str) {
        let entry = self.entry(path);
        self.push(&Record::Withdraw { entry, reason: Reason::Changed });
    }

    pub(super) fn add(&mut self, path: &str, node: &Node) {
        let entry = EntryIndex(u32::try_from(self.paths.len()).unwrap());
        self.paths.push(path.to_owned());
        let path = RelPath::parse(path.as_bytes()).unwrap();
        self.bytes.push(None);
        match node {
            Node::Directory { mode, mtime } => self.push(&Record::Directory { path, mode: *mode, mtime: *mtime }),
            Node::Symlink { target } => {
                self.push(&Record::Symlink { path, target: target.clone(), mtime: Timestamp::default() });
            }
            Node::File { bytes, mode, mtime } => {
                let geometry = Geometry::new(bytes.len() as u64, HEADER.chunk_bytes).unwrap();
                self.push(&Record::Begin { path, size: bytes.len() as u64 });
                let all = ChunkRun { first: 0, count: geometry.chunk_count() };
                let digest = |(chunk, bytes): (_, &[u8])| chunk_digest(geometry, chunk, bytes);
                let digests: Vec<_> = geometry.chunks(all).zip(bytes.chunks(CHUNK)).map(digest).collect();
                let mut folder = Folder::default();
                digests.iter().for_each(|digest| folder.push(*digest));
                for some in digests.chunks(RECORD_DIGESTS_MAX) {
                    self.push(&Record::Chunks { entry, digests: some.to_vec() });
                }
                self.push(&Record::End { entry, digest: folder.finish(), mode: *mode, mtime: *mtime });
                *self.bytes.last_mut().unwrap() = Some(bytes.clone());
            }
        }
    }

    /// The body of a `Records` message with at most so many records from there on.
    pub(super) fn page(&self, from: u64, count: usize) -> Vec<u8> {
        let mut page = vec![];
        let from = usize::try_from(from).unwrap();
        self.records.iter().skip(from).take(count).for_each(|record| push_record(&mut page, record));
        page
    }

    /// A chunk as it travels.
    pub(super) fn chunk(&mut self, place: Place) -> (ChunkHeader, Option<Bytes>) {
        let all = self.bytes[place.entry as usize].as_ref().unwrap();
        let start = place.chunk as usize * CHUNK;
        let mut bytes = all[start..all.len().min(start + CHUNK)].to_vec();
        let body = match is_zero(&bytes) {
            true => Body::Zero,
            false => Body::Bytes(u32::try_from(bytes.len()).unwrap()),
        };
        self.sent_bytes += bytes.len() as u64;
        if let Some(at) = self.spoiled.iter().position(|spoiled| *spoiled == place) {
            self.spoiled.remove(at);
            bytes[0] ^= 1;
        }
        let header = ChunkHeader { entry: EntryIndex(place.entry), chunk: place.chunk, body };
        (header, (body != Body::Zero).then(|| bytes.into()))
    }
}
