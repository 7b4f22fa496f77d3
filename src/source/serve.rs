//! Serving: from a wanted chunk to its bytes. What is not in the hash-ahead buffer any more is read again below the
//! held roots, and nothing leaves that does not hash to what the log says: a source that changed since is noticed
//! here, not at the receiver. What it does not do: order, wait, or talk to the wire.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use crate::buffers::Buffer;
use crate::digest::{self, ReceivedChunk, Verdict};
use crate::disk::{AlignedBuffer, Disk, DiskFile, Extent};
use crate::event::{Event, Found};
use crate::geometry::{ChunkId, ChunkIndex, EntryIndex};
use crate::limits::OPEN_SOURCES_MAX;
use crate::outcome::Reason;
use crate::source::ahead::{Content, HashAhead};
use crate::source::log::{Look, SharedLog, SourceFile};
use crate::source::roots::Roots;
use crate::source::stamps::StampFile;
use crate::source::{read_chunk, reason_of};
use crate::state::log::ManifestLog;
use crate::wire::Place;

/// The answer to a want.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The chunk's content.
    Content(Content),
    /// It cannot be served, for this reason.
    Gone(Reason),
    /// There is no such chunk in the log: whoever wants it breaks the protocol.
    Outside,
}

/// The answer, and what follows from how it was found.
#[derive(Debug)]
pub struct Served {
    /// The answer.
    pub answer: Answer,
    /// What the user should hear of.
    pub event: Option<Event>,
    /// The source no longer holds this version: another one is to be made, for this reason.
    pub renew: Option<(EntryIndex, Reason)>,
}

impl Served {
    fn plain(answer: Answer) -> Served {
        Served { answer, event: None, renew: None }
    }
}

struct OpenSource<D: Disk> {
    entry: EntryIndex,
    described: SourceFile<D>,
    file: D::File,
}

/// Serves chunks. One per thread; it keeps a few files open.
pub struct Server<D: Disk> {
    roots: Roots<D>,
    log: SharedLog<D>,
    ahead: Arc<HashAhead>,
    stamps: StampFile<D>,
    open: VecDeque<OpenSource<D>>,
    buffer: AlignedBuffer,
}

impl<D: Disk> Server<D> {
    /// A server of this log. `stamps` is a handle of its own to the producer's stamps.
    pub fn new(roots: Roots<D>, log: SharedLog<D>, ahead: Arc<HashAhead>, stamps: StampFile<D>) -> Server<D> {
        Server { roots, log, ahead, stamps, open: VecDeque::new(), buffer: AlignedBuffer::default() }
    }

    /// Answers one want. An error is one of the log, not of the source.
    pub fn serve(&mut self, place: Place) -> io::Result<Served> {
        let (described, chunk) = match self.log.look_up(place)? {
            Look::Outside => return Ok(Served::plain(Answer::Outside)),
            Look::Withdrawn => return Ok(Served::plain(Answer::Gone(Reason::Changed))),
            Look::Chunk(described, chunk) => (described, chunk),
        };
        if let Some(content) = self.ahead.take(place) {
            return Ok(Served::plain(Answer::Content(content)));
        }
        self.read(EntryIndex(place.entry), described, chunk)
    }

    fn read(&mut self, entry: EntryIndex, described: SourceFile<D>, chunk: ChunkIndex) -> io::Result<Served> {
        let mut expected = described.table.get(chunk.get())?;
        let opened = self.open(entry, described);
        let read = opened.and_then(|source| {
            let content = read_content::<D>(&source.file, &source.described, chunk)?;
            Ok((content, source))
        });
        let (content, source) = match read {
            Ok(read) => read,
            Err(error) => return Ok(gone(entry, reason_of(&error), None)),
        };
        let id = ChunkId { entry, chunk };
        let mut is_good = is_right(&source.described, id, &content, expected);
        if !is_good {
            expected = source.described.table.get_anew(chunk.get())?;
            is_good = is_right(&source.described, id, &content, expected);
        }
        if is_good {
            self.open.push_front(source);
            return Ok(Served::plain(Answer::Content(content)));
        }
        let path = source.described.path.clone();
        let offset = source.described.geometry.offset(chunk);
        let mismatch = |found| Some(Event::Mismatch { path: path.clone(), offset, found });
        let again = self.read_past_cache(&source, chunk);
        if let Ok(content) = again
            && is_right(&source.described, id, &content, expected)
        {
            self.open.push_front(source);
            return Ok(Served { answer: Answer::Content(content), event: mismatch(Found::BadRead), renew: None });
        }
        let known = self.stamps.get(entry, digest::path_hash(&path));
        match source.file.stat() {
            Ok(stat) if Some(stat.stamps()) == known => {
                // Before a source is blamed: it may be the log's own file that changed.
                if !self.log.with(ManifestLog::is_undamaged)? {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "the manifest log was changed on disk"));
                }
                Ok(gone(entry, Reason::SourceUnsteady, mismatch(Found::Source)))
            }
            _ => Ok(gone(entry, Reason::Changed, mismatch(Found::Source))),
        }
    }

    /// Takes a file out of the few that are open, or opens it. Whoever is done with it puts it back in front.
    fn open(&mut self, entry: EntryIndex, described: SourceFile<D>) -> io::Result<OpenSource<D>> {
        if let Some(at) = self.open.iter().position(|source| source.entry == entry)
            && let Some(source) = self.open.remove(at)
        {
            return Ok(source);
        }
        self.open.truncate(OPEN_SOURCES_MAX - 1);
        let file = self.roots.open_file(&described.path)?;
        Ok(OpenSource { entry, described, file })
    }

    fn read_past_cache(&mut self, source: &OpenSource<D>, chunk: ChunkIndex) -> io::Result<Content> {
        let geometry = source.described.geometry;
        let len = geometry.chunk_len(chunk) as usize;
        source.file.read_uncached_at(&mut self.buffer, geometry.offset(chunk), len)?;
        let mut buffer = Buffer::take(self.buffer.bytes().len());
        buffer.bytes_mut().copy_from_slice(self.buffer.bytes());
        Ok(Content::of(buffer))
    }
}

fn gone(entry: EntryIndex, reason: Reason, event: Option<Event>) -> Served {
    Served { answer: Answer::Gone(reason), event, renew: Some((entry, reason)) }
}

fn read_content<D: Disk>(file: &D::File, described: &SourceFile<D>, chunk: ChunkIndex) -> io::Result<Content> {
    let (offset, len) = (described.geometry.offset(chunk), described.geometry.chunk_len(chunk));
    if described.geometry.chunk_count() > 1 {
        let extent = file.extent_at(offset).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidInput => io::ErrorKind::UnexpectedEof.into(),
            _ => error,
        })?;
        if matches!(extent, Extent::HoleUntil(end) if end >= offset + u64::from(len)) {
            return Ok(Content::Zero);
        }
    }
    read_chunk(file, offset, len as usize)
}

fn is_right<D: Disk>(described: &SourceFile<D>, id: ChunkId, content: &Content, expected: digest::ChunkDigest) -> bool {
    let bytes = match content {
        Content::Bytes(bytes) => Some(bytes.clone()),
        Content::Zero => None,
    };
    matches!(digest::verify(described.geometry, ReceivedChunk { id, bytes }, expected), Verdict::Match(_))
}
