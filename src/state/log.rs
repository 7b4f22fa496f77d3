//! The manifest log on disk, the same on both sides: append, replay, cut, and find things again by offset.
//! Resident are one offset per entry and a checkpoint every [`CHECKPOINT_RECORDS`] records, never names or digests.
//! What is appended is not synced: losing it costs work only, and what was sent of it is at the other side too. What
//! was there when it was opened is, lest a power cut bring back an end that was lost or cut and then written otherwise.

use std::io;
use std::sync::Arc;

use crate::digest::{ChainValue, ChunkDigest};
use crate::disk::{Disk, DiskFile};
use crate::geometry::{EntryIndex, Geometry};
use crate::limits::{RECORD_BYTES_MAX, RECORD_PAGE_BYTES};
use crate::manifest::{
    DecodeError, DigestPlaces, FRAME_OVERHEAD_BYTES, HEADER_BYTES, Header, Ladder, Parsed, Position, Record, Sequence,
    SequenceError, Step, frame, parse_frame,
};
use crate::state::blocks::Blocks;
use crate::state::files::open_own;
use crate::wire::push_record;

/// Records between two remembered offsets: what has to be read again to find a position.
const CHECKPOINT_RECORDS: u64 = 1024;
/// Bytes read at once when replaying.
const REPLAY_BYTES: usize = 64 << 10;

/// Why a record could not be appended.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The bytes are not a record.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The record may not stand here.
    #[error(transparent)]
    Sequence(#[from] SequenceError),
    /// The records are appended, and yet the log does not go through the position at which the sender's ends.
    #[error("the manifest is not the sender's")]
    Parted,
    /// The disk.
    #[error("writing the manifest log failed")]
    Io(#[source] io::Error),
}

/// What was found when a log was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// No log, or none of this transfer.
    Nothing,
    /// A log that is good to its end.
    Whole,
    /// A log whose end was torn or damaged, and cut off.
    Cut,
}

/// A place in the file: before its `record_count`-th record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    record_count: u64,
    offset: u64,
    /// Chain value there: damage behind it is found when it is read.
    chain: ChainValue,
}

impl Cursor {
    /// Records before the place.
    pub fn record_count(&self) -> u64 {
        self.record_count
    }
}

#[derive(Clone, Copy, Debug)]
struct Checkpoint {
    record_count: u64,
    offset: u64,
    chain: ChainValue,
}

impl Checkpoint {
    fn cursor(self) -> Cursor {
        Cursor { record_count: self.record_count, offset: self.offset, chain: self.chain }
    }
}

/// Digests of one file, found by arithmetic in the log file; usable from any thread.
#[derive(Debug)]
pub struct DigestTable<F> {
    file: Arc<Blocks<F>>,
    places: DigestPlaces,
}

impl<F> Clone for DigestTable<F> {
    fn clone(&self) -> DigestTable<F> {
        DigestTable { file: Arc::clone(&self.file), places: self.places }
    }
}

impl<F: DiskFile> DigestTable<F> {
    /// The digest of a chunk whose record was appended.
    pub fn get(&self, chunk: u32) -> io::Result<ChunkDigest> {
        let mut bytes = [0; 32];
        match self.file.read_at(&mut bytes, self.places.offset(chunk))? {
            32 => Ok(ChunkDigest(bytes)),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// The same, read from the disk once more: before a chunk is believed to be wrong, since what is kept in memory of
    /// the log may be.
    pub fn get_anew(&self, chunk: u32) -> io::Result<ChunkDigest> {
        self.file.changed(self.places.offset(chunk));
        self.get(chunk)
    }
}

/// A manifest log in a file.
#[derive(Debug)]
pub struct ManifestLog<D: Disk> {
    file: Arc<Blocks<D::File>>,
    header: Header,
    end: Checkpoint,
    sequence: Sequence,
    ladder: Ladder,
    checkpoints: Vec<Checkpoint>,
    entries: Vec<u64>,
    /// The log's last bytes, if they could not be written yet.
    unwritten: Vec<u8>,
}

impl<D: Disk> ManifestLog<D> {
    /// Opens the log `name` in `dir`, making it if it is not there, and replays it: `each` sees every good record
    /// with its step. What is damaged is cut off, with all that follows it.
    pub fn open(
        disk: &D,
        dir: &D::Dir,
        name: &[u8],
        header: Header,
        each: impl FnMut(&Record, Step),
    ) -> io::Result<(ManifestLog<D>, Found)> {
        let file = open_own(disk, dir, name)?;
        let mut log: ManifestLog<D> = ManifestLog::empty(Arc::new(Blocks::new(file)), header);
        let mut bytes = [0; HEADER_BYTES];
        let length = log.file.file().stat()?.size;
        let is_ours = match read_exact_at(log.file.file(), &mut bytes, 0) {
            Ok(()) => bytes == header.encode(),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => false,
            // What cannot be read now is no reason to throw it away.
            Err(error) => return Err(error),
        };
        if !is_ours {
            log.file.file().set_len(0)?;
            log.file.file().write_all_at(&header.encode(), 0)?;
            if length > 0 {
                log.file.file().sync_data()?;
            }
            return Ok((log, if length == 0 { Found::Nothing } else { Found::Cut }));
        }
        log.replay(each)?;
        let found = if log.end.offset == length { Found::Whole } else { Found::Cut };
        if found == Found::Cut {
            log.file.file().set_len(log.end.offset)?;
            log.file.changed(log.end.offset);
        }
        // The sender's stamps, which are in a file of their own, would vouch for records of an older end.
        log.file.file().sync_data()?;
        Ok((log, found))
    }

    fn empty(file: Arc<Blocks<D::File>>, header: Header) -> ManifestLog<D> {
        let start = Checkpoint { record_count: 0, offset: HEADER_BYTES as u64, chain: header.chain() };
        ManifestLog {
            file,
            header,
            end: start,
            sequence: Sequence::new(header.chunk_bytes),
            ladder: Ladder::default(),
            checkpoints: vec![start],
            entries: vec![],
            unwritten: vec![],
        }
    }

    fn replay(&mut self, mut each: impl FnMut(&Record, Step)) -> io::Result<()> {
        let mut buffer = vec![0; REPLAY_BYTES];
        loop {
            let length = self.file.file().read_at(&mut buffer, self.end.offset)?;
            let mut at = 0;
            while let Parsed::Frame { record, chain, frame_bytes } = parse_frame(&buffer[at..length], self.end.chain) {
                let Ok(record) = Record::decode(record) else { return Ok(()) };
                let Ok(step) = self.sequence.push(&record) else { return Ok(()) };
                self.note(step, frame_bytes, chain);
                each(&record, step);
                at += frame_bytes;
            }
            if at == 0 {
                return Ok(());
            }
        }
    }

    fn note(&mut self, step: Step, frame_bytes: usize, chain: ChainValue) {
        if let Step::Introduced(_) = step {
            self.entries.push(self.end.offset);
        }
        let record_count = self.end.record_count + 1;
        self.end = Checkpoint { record_count, offset: self.end.offset + frame_bytes as u64, chain };
        self.ladder.push(Position { record_count, chain });
        if record_count.is_multiple_of(CHECKPOINT_RECORDS) {
            self.checkpoints.push(self.end);
        }
    }

    /// Appends whole records with one write. Those before a bad one are appended; `each` sees what was. If the write
    /// fails, they are part of the log all the same, and [`ManifestLog::finish_writing`] tries it again.
    pub fn append<'a>(
        &mut self,
        records: impl IntoIterator<Item = &'a [u8]>,
        mut each: impl FnMut(&Record, Step),
    ) -> Result<(), AppendError> {
        let mut outcome = Ok(());
        for encoded in records {
            let parsed = Record::decode(encoded).map_err(AppendError::from);
            let step = parsed.and_then(|record| {
                let step = self.sequence.push(&record)?;
                Ok((record, step))
            });
            match step {
                Ok((record, step)) => {
                    let (framed, chain) = frame(encoded, self.end.chain);
                    self.note(step, framed.len(), chain);
                    self.unwritten.extend_from_slice(&framed);
                    each(&record, step);
                }
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
        }
        let written = self.finish_writing().map_err(AppendError::Io);
        outcome.and(written)
    }

    /// Writes what could not be written when it was appended.
    pub fn finish_writing(&mut self) -> io::Result<()> {
        let start = self.end.offset - self.unwritten.len() as u64;
        let written = self.file.file().write_all_at(&self.unwritten, start);
        self.file.changed(start);
        written?;
        self.unwritten.clear();
        Ok(())
    }

    /// The transfer and chunk size.
    pub fn header(&self) -> Header {
        self.header
    }

    /// Where the log ends.
    pub fn position(&self) -> Position {
        Position { record_count: self.end.record_count, chain: self.end.chain }
    }

    /// The cursor at the log's end.
    pub fn end(&self) -> Cursor {
        self.end.cursor()
    }

    /// The grammar's state at the log's end.
    pub fn sequence(&self) -> &Sequence {
        &self.sequence
    }

    /// The ladder for a hello.
    pub fn rungs(&self) -> Vec<Position> {
        self.ladder.rungs(self.header.chain())
    }

    /// The cursor at a position, if this log goes through it.
    pub fn find(&self, position: Position) -> io::Result<Option<Cursor>> {
        if position.record_count > self.end.record_count {
            return Ok(None);
        }
        let at = self.walk_to(position.record_count)?;
        Ok((at.chain == position.chain).then(|| at.cursor()))
    }

    /// The place before the record with that number, from the checkpoint before it.
    fn walk_to(&self, record_count: u64) -> io::Result<Checkpoint> {
        let index = usize::try_from(record_count / CHECKPOINT_RECORDS).expect("fewer than records");
        let mut at = self.checkpoints[index];
        let mut buffer = vec![];
        while at.record_count < record_count {
            let length = self.frame_at(at.offset, &mut buffer)?;
            let Parsed::Frame { chain, frame_bytes, .. } = parse_frame(&buffer[..length], at.chain) else {
                return Err(damaged());
            };
            at = Checkpoint { record_count: at.record_count + 1, offset: at.offset + frame_bytes as u64, chain };
        }
        Ok(at)
    }

    /// Cuts the log at a cursor that [`ManifestLog::find`] gave. The caller opens it again to replay the rest.
    pub fn cut(self, cursor: Cursor) -> io::Result<()> {
        self.file.file().set_len(cursor.offset)
    }

    /// The body of one `Records` message from the cursor on, and moves the cursor; empty at the log's end.
    pub fn page(&self, cursor: &mut Cursor) -> io::Result<Vec<u8>> {
        let (mut page, mut buffer) = (vec![], vec![0; RECORD_PAGE_BYTES]);
        let wanted = usize::try_from(self.end.offset - cursor.offset).unwrap_or(usize::MAX).min(buffer.len());
        let mut length = self.file.file().read_at(&mut buffer[..wanted], cursor.offset)?;
        let mut at = 0;
        while cursor.record_count < self.end.record_count && page.len() < RECORD_PAGE_BYTES {
            match parse_frame(&buffer[at..length], cursor.chain) {
                Parsed::Frame { record, chain, frame_bytes } => {
                    push_record(&mut page, record);
                    at += frame_bytes;
                    let (record_count, offset) = (cursor.record_count + 1, cursor.offset + frame_bytes as u64);
                    *cursor = Cursor { record_count, offset, chain };
                }
                Parsed::Short if at > 0 => break,
                Parsed::Short => {
                    length = self.frame_at(cursor.offset, &mut buffer)?;
                    if whole_frame(&buffer[..length]).is_none() {
                        return Err(damaged());
                    }
                }
                // What was sent of it could not be taken back.
                Parsed::Damaged => return Err(damaged()),
            }
        }
        Ok(page)
    }

    /// The last record, if there is any.
    pub fn last(&self) -> io::Result<Option<Record>> {
        let Some(before) = self.end.record_count.checked_sub(1) else { return Ok(None) };
        let at = self.walk_to(before)?;
        Ok(Some(self.record_at(at.offset)?.0))
    }

    /// Entries introduced so far.
    pub fn entry_count(&self) -> u32 {
        self.sequence.entry_count()
    }

    /// The record that introduced an entry.
    pub fn introduction(&self, entry: EntryIndex) -> io::Result<Record> {
        let offset = *self.entries.get(entry.0 as usize).ok_or_else(damaged)?;
        Ok(self.record_at(offset)?.0)
    }

    /// The introduction of a file, its geometry and its digests.
    pub fn file(&self, entry: EntryIndex) -> io::Result<(Record, Geometry, DigestTable<D::File>)> {
        let offset = *self.entries.get(entry.0 as usize).ok_or_else(damaged)?;
        let (record, next) = self.record_at(offset)?;
        let Record::Begin { size, .. } = record else { return Err(damaged()) };
        let geometry = Geometry::new(size, self.header.chunk_bytes).ok_or_else(damaged)?;
        let places = DigestPlaces::new(next, entry, geometry);
        Ok((record, geometry, DigestTable { file: Arc::clone(&self.file), places }))
    }

    /// The record that introduced an entry, and the `End` record of one that is a file and has one.
    pub fn whole(&self, entry: EntryIndex) -> io::Result<(Record, Option<Record>)> {
        let offset = *self.entries.get(entry.0 as usize).ok_or_else(damaged)?;
        let (record, next) = self.record_at(offset)?;
        let Record::Begin { size, .. } = record else { return Ok((record, None)) };
        let geometry = Geometry::new(size, self.header.chunk_bytes).ok_or_else(damaged)?;
        let end = self.record_at(DigestPlaces::new(next, entry, geometry).end_offset())?.0;
        Ok((record, Some(end)))
    }

    /// The `End` record of a file that has one.
    pub fn end_of(&self, table: &DigestTable<D::File>) -> io::Result<Record> {
        match self.record_at(table.places.end_offset())?.0 {
            record @ Record::End { .. } => Ok(record),
            _ => Err(damaged()),
        }
    }

    /// Reads every record again and compares the chain: whether the file still says what was appended.
    pub fn is_undamaged(&self) -> io::Result<bool> {
        self.reads_undamaged(|_| ())
    }

    /// The same, with a look at each record. What `each` has seen counts only if the whole is undamaged.
    pub fn reads_undamaged(&self, mut each: impl FnMut(&Record)) -> io::Result<bool> {
        let mut again: ManifestLog<D> = ManifestLog::empty(Arc::clone(&self.file), self.header);
        again.replay(|record, _| each(record))?;
        Ok(again.end.record_count == self.end.record_count && again.end.chain == self.end.chain)
    }

    fn record_at(&self, offset: u64) -> io::Result<(Record, u64)> {
        let mut buffer = vec![];
        let length = self.frame_at(offset, &mut buffer)?;
        let frame_bytes = whole_frame(&buffer[..length]).ok_or_else(damaged)?;
        let record = Record::decode(&buffer[4..frame_bytes - 8]).map_err(|_| damaged())?;
        Ok((record, offset + frame_bytes as u64))
    }

    /// Reads at least one frame, if there is one.
    fn frame_at(&self, offset: u64, buffer: &mut Vec<u8>) -> io::Result<usize> {
        let guess = 640;
        buffer.resize(buffer.len().max(guess), 0);
        let length = self.file.read_at(&mut buffer[..guess], offset)?;
        let frame_bytes = match buffer.first_chunk::<4>() {
            Some(bytes) if length >= 4 => u32::from_be_bytes(*bytes) as usize + FRAME_OVERHEAD_BYTES,
            _ => return Err(damaged()),
        };
        if frame_bytes <= length {
            return Ok(length);
        }
        if frame_bytes > RECORD_BYTES_MAX + FRAME_OVERHEAD_BYTES {
            return Err(damaged());
        }
        buffer.resize(buffer.len().max(frame_bytes), 0);
        self.file.read_at(&mut buffer[..frame_bytes], offset)
    }
}

fn whole_frame(bytes: &[u8]) -> Option<usize> {
    let length = u32::from_be_bytes(*bytes.first_chunk()?) as usize;
    let frame_bytes = length.checked_add(FRAME_OVERHEAD_BYTES)?;
    (length > 0 && frame_bytes <= bytes.len()).then_some(frame_bytes)
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the manifest log was changed on disk by something else")
}

/// Reads exactly `buffer.len()` bytes.
pub fn read_exact_at<F: DiskFile>(file: &F, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], offset + done as u64)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => done += length,
        }
    }
    Ok(())
}
