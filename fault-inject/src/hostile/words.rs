//! What a hostile sender says of its files: manifest records written byte by byte, so that they can say what the
//! product's own types refuse to hold. Also the honest remainder: digests that fit, counts that add up.

use std::collections::BTreeMap;

use landfall::digest::{Folder, chunk_digest};
use landfall::geometry::{EntryIndex, Geometry};
use landfall::limits::{CHUNK_BYTES, RECORD_DIGESTS_MAX};
use landfall::wire::{Body, ChunkHeader, Message, push_record};

/// A number as postcard has it: seven bits in a byte, least first.
pub fn number(mut value: u64) -> Vec<u8> {
    let mut out = vec![];
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).expect("masked to seven bits") | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).expect("masked to seven bits"));
    out
}

/// One more than a limit in bytes, as a length on the wire.
pub fn over_the_limit(bytes_max: usize) -> u32 {
    u32::try_from(bytes_max + 1).expect("limits are small numbers")
}

/// A signed number: zigzag.
pub fn signed(value: i64) -> Vec<u8> {
    number(((value << 1) ^ (value >> 63)).cast_unsigned())
}

/// Bytes with their length.
pub fn text(bytes: &[u8]) -> Vec<u8> {
    [number(bytes.len() as u64), bytes.to_vec()].concat()
}

/// Seconds and nanoseconds.
pub fn time(seconds: i64, nanos: u64) -> Vec<u8> {
    [signed(seconds), number(nanos)].concat()
}

/// A time that nobody minds.
fn usual_time() -> Vec<u8> {
    time(1_700_000_000, 5)
}

/// `Begin`.
pub fn begin(path: &[u8], size: u64) -> Vec<u8> {
    [vec![0], text(path), number(size)].concat()
}

/// `Chunks`.
pub fn chunks(entry: u64, digests: &[[u8; 32]]) -> Vec<u8> {
    [vec![1], number(entry), number(digests.len() as u64), digests.concat()].concat()
}

/// `End`.
pub fn end(entry: u64, digest: &[u8; 32], mode: u64) -> Vec<u8> {
    [vec![2], number(entry), digest.to_vec(), number(mode), usual_time()].concat()
}

/// `Directory`.
pub fn directory(path: &[u8], mode: u64) -> Vec<u8> {
    [vec![3], text(path), number(mode), usual_time()].concat()
}

/// `Symlink`.
pub fn symlink(path: &[u8], target: &[u8]) -> Vec<u8> {
    [vec![4], text(path), text(target), usual_time()].concat()
}

/// `LeftOut`, of a kind and a reason.
pub fn left_out(path: &[u8], kind: u64, reason: u64) -> Vec<u8> {
    [vec![5], text(path), number(kind), number(reason)].concat()
}

/// `Withdraw`.
pub fn withdraw(entry: u64, reason: u64) -> Vec<u8> {
    [vec![6], number(entry), number(reason)].concat()
}

/// `Complete`: files, directories, symlinks, left out, bytes, and four counts of what is not preserved.
pub fn complete(counts: [u64; 5]) -> Vec<u8> {
    let counts = counts.into_iter().chain([0; 4]).flat_map(number);
    std::iter::once(7).chain(counts).collect()
}

/// A `Records` message.
pub fn records(all: &[Vec<u8>]) -> Message {
    let mut page = vec![];
    all.iter().for_each(|record| push_record(&mut page, record));
    Message::Records(page)
}

/// A manifest that holds together, and what can be served of it.
#[derive(Clone, Debug, Default)]
pub struct Manifest {
    /// All records so far.
    pub records: Vec<Vec<u8>>,
    /// Contents by entry number.
    pub contents: BTreeMap<u32, Vec<u8>>,
    entries: u32,
    counts: [u64; 5],
}

impl Manifest {
    /// A file with that content, mode 0644.
    #[must_use]
    pub fn file(self, path: &[u8], content: &[u8]) -> Manifest {
        self.file_with_mode(path, content, 0o644)
    }

    /// A file with another mode.
    #[must_use]
    pub fn file_with_mode(mut self, path: &[u8], content: &[u8], mode: u64) -> Manifest {
        let (digests, whole) = digests_of(content);
        let entry = self.entries;
        self.records.push(begin(path, content.len() as u64));
        for part in digests.chunks(RECORD_DIGESTS_MAX) {
            self.records.push(chunks(u64::from(entry), part));
        }
        self.records.push(end(u64::from(entry), &whole, mode));
        self.contents.insert(entry, content.to_vec());
        self.counts[0] += 1;
        self.counts[4] += content.len() as u64;
        self.entries += 1;
        self
    }

    /// A directory.
    #[must_use]
    pub fn directory(mut self, path: &[u8]) -> Manifest {
        self.records.push(directory(path, 0o755));
        self.counts[1] += 1;
        self.entries += 1;
        self
    }

    /// A symlink.
    #[must_use]
    pub fn symlink(mut self, path: &[u8], target: &[u8]) -> Manifest {
        self.records.push(symlink(path, target));
        self.counts[2] += 1;
        self.entries += 1;
        self
    }

    /// Any record, in its place, which introduces so many entries.
    #[must_use]
    pub fn raw(mut self, record: Vec<u8>, entries: u32) -> Manifest {
        self.records.push(record);
        self.entries += entries;
        self
    }

    /// With a `Complete` that tells the truth.
    #[must_use]
    pub fn complete(mut self) -> Manifest {
        self.records.push(complete(self.counts));
        self
    }

    /// The messages that carry it, each within the limit of a frame.
    pub fn messages(&self) -> Vec<Message> {
        let (mut pages, mut page, mut bytes) = (vec![], vec![], 0);
        for record in &self.records {
            if bytes + record.len() + 4 > landfall::limits::RECORD_PAGE_BYTES && !page.is_empty() {
                pages.push(records(&page));
                page.clear();
                bytes = 0;
            }
            bytes += record.len() + 4;
            page.push(record.clone());
        }
        if !page.is_empty() {
            pages.push(records(&page));
        }
        pages
    }
}

/// Digests of the chunks of a content, and of the whole.
pub fn digests_of(content: &[u8]) -> (Vec<[u8; 32]>, [u8; 32]) {
    let geometry = Geometry::new(content.len() as u64, CHUNK_BYTES).expect("contents of cases are small");
    let mut folder = Folder::default();
    let mut digests = vec![];
    for (number, bytes) in content.chunks(CHUNK_BYTES as usize).enumerate() {
        let number = u32::try_from(number).expect("contents of cases are small");
        let chunk = geometry.chunk(number).expect("a chunk of this content");
        let digest = chunk_digest(geometry, chunk, bytes);
        folder.push(digest);
        digests.push(digest.0);
    }
    (digests, folder.finish().0)
}

/// A chunk as it travels: its header and its bytes.
pub fn chunk(entry: u32, chunk: u32, bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).expect("a chunk of a case is small");
    let header = ChunkHeader { entry: EntryIndex(entry), chunk, body: Body::Bytes(length) };
    [&header.encode()[..], bytes].concat()
}

/// A chunk that is said to be all zero, or gone.
pub fn bare_chunk(entry: u32, chunk: u32, body: Body) -> Vec<u8> {
    ChunkHeader { entry: EntryIndex(entry), chunk, body }.encode().to_vec()
}
