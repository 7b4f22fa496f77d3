//! The walk, the producer and the server on a real disk: fresh, resumed, and with sources that do not hold still.
#![allow(clippy::unwrap_used)]

mod expecting;
mod listing;
mod produce;
mod restart;
mod serving;
mod walking;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::attributes::Timestamp;
use crate::digest::FileDigest;
use crate::disk::{Disk, RealDisk};
use crate::event::{Event, Notice};
use crate::geometry::EntryIndex;
use crate::identity::TransferId;
use crate::lists::DigestList;
use crate::manifest::{Header, Position, Record};
use crate::options::Selection;
use crate::outcome::{Counts, Reason};
use crate::source::producer::{Producer, Purpose, Replay, Setup, Work};
use crate::source::roots::open_roots;
use crate::source::selection::Selector;
use crate::source::serve::Server;
use crate::source::stamps::StampFile;
use crate::source::walk::{Exclusions, Walk, Walked};
use crate::state::log::ManifestLog;
use crate::wire::{Place, split_records};

const CHUNK: usize = 4096;
const TRANSFER: TransferId = TransferId([1; 16]);

/// A source tree and a sender's state, each in a temporary directory.
struct Bench {
    home: tempfile::TempDir,
}

impl Bench {
    fn new() -> Bench {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("state")).unwrap();
        fs::create_dir(home.path().join("source")).unwrap();
        Bench { home }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.home.path().join("source").join(path)
    }

    fn write(&self, path: &str, bytes: impl AsRef<[u8]>) {
        fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        fs::write(self.at(path), bytes).unwrap();
    }

    fn state(&self) -> PathBuf {
        self.home.path().join("state")
    }

    fn sources(&self) -> Vec<PathBuf> {
        vec![self.home.path().join("source/.")]
    }

    fn producer_of(&self, sources: &[PathBuf], purpose: Purpose) -> Producer<RealDisk> {
        self.producer_with(sources, purpose, None)
    }

    fn producer_with(
        &self,
        sources: &[PathBuf],
        purpose: Purpose,
        expected: Option<Arc<DigestList>>,
    ) -> Producer<RealDisk> {
        let (disk, dir) = (RealDisk::new(), RealDisk::open_root(&self.state()).unwrap());
        let mut replay = Replay::default();
        let header = Header { chunk_bytes: u32::try_from(CHUNK).unwrap(), transfer: TRANSFER };
        let opened = ManifestLog::open(&disk, &dir, b"manifest", header, |record, step| replay.note(record, step));
        let own = disk.stat_dir(&dir).unwrap();
        Producer::new(Setup {
            roots: open_roots(&RealDisk::new(), sources).unwrap().0,
            exclusions: exclusions(&Selection::default(), vec![(own.device, own.inode)]),
            log: opened.unwrap().0,
            replay,
            stamps: StampFile::open(&disk, &dir, b"stamps", TRANSFER).unwrap(),
            state_path: self.state(),
            user: own.owner,
            reads_twice: false,
            expected,
            purpose,
        })
        .unwrap()
    }

    fn producer(&self) -> Producer<RealDisk> {
        self.producer_of(&self.sources(), Purpose::Produce)
    }

    fn server(&self, producer: &Producer<RealDisk>) -> Server<RealDisk> {
        let (disk, dir) = (RealDisk::new(), RealDisk::open_root(&self.state()).unwrap());
        let stamps = StampFile::open(&disk, &dir, b"stamps", TRANSFER).unwrap();
        Server::new(open_roots(&RealDisk::new(), &self.sources()).unwrap().0, producer.log(), producer.ahead(), stamps)
    }

    /// Runs until the source is settled, as a receiver that wants nothing would have it.
    fn settle(&self) -> Run {
        let mut producer = self.producer();
        let run = settle(&mut producer);
        Run { producer: Some(producer), ..run }
    }
}

fn exclusions(selection: &Selection, held: Vec<(u64, u64)>) -> Exclusions {
    let listed = selection.listed.clone().and_then(|given| given.list);
    Exclusions { selector: Selector::new(selection).unwrap(), listed, transfer: Some(TRANSFER), held }
}

/// What a producer did.
struct Run {
    events: Vec<Event>,
    position: Position,
    producer: Option<Producer<RealDisk>>,
}

impl Run {
    fn producer(&mut self) -> &mut Producer<RealDisk> {
        self.producer.as_mut().unwrap()
    }

    fn counts(&mut self) -> Counts {
        self.producer().figures().counts
    }

    fn left_out(&self) -> Vec<(String, Reason)> {
        let left_out = |event: &Event| match event {
            Event::LeftOut { path, reason, .. } => Some((path.to_string(), *reason)),
            _ => None,
        };
        self.events.iter().filter_map(left_out).collect()
    }

    fn retried(&self) -> Vec<String> {
        let retried = |event: &Event| match event {
            Event::Notice(Notice::Retried { path, .. }) => Some(path.to_string()),
            _ => None,
        };
        self.events.iter().filter_map(retried).collect()
    }
}

fn settle(producer: &mut Producer<RealDisk>) -> Run {
    let mut events = vec![];
    for _ in 0..1_000_000 {
        let stepped = producer.step().unwrap();
        events.extend(stepped.events);
        match stepped.work {
            Work::Settled(position) => return Run { events, position, producer: None },
            Work::Blocked => consider_all(producer),
            Work::Ready => {}
        }
    }
    panic!("the producer does not settle");
}

fn consider_all(producer: &Producer<RealDisk>) {
    producer.ahead().considered(Place { entry: producer.log().entry_count(), chunk: 0 }, &[]);
}

/// Every record of a producer's log.
fn records(producer: &Producer<RealDisk>) -> Vec<Record> {
    producer.log().with(|log| {
        let start = Position { record_count: 0, chain: log.header().chain() };
        let mut cursor = log.find(start).unwrap().unwrap();
        let mut records = vec![];
        while cursor.record_count() < log.position().record_count {
            let page = log.page(&mut cursor).unwrap();
            records.extend(split_records(&page).unwrap().into_iter().map(|record| Record::decode(record).unwrap()));
        }
        records
    })
}

/// One line for each record: easy to compare, and to read when a comparison fails.
fn outline(records: &[Record]) -> Vec<String> {
    let line = |record: &Record| match record {
        Record::Begin { path, size } => format!("begin {path} {size}"),
        Record::Chunks { entry, digests } => format!("chunks {} {}", entry.0, digests.len()),
        Record::End { entry, .. } => format!("end {}", entry.0),
        Record::Directory { path, .. } => format!("directory {path}"),
        Record::Symlink { path, target, .. } => format!("symlink {path} {}", String::from_utf8_lossy(target)),
        Record::LeftOut { path, reason, .. } => format!("left out {path} {}", reason.word()),
        Record::Withdraw { entry, reason } => format!("withdraw {} {}", entry.0, reason.word()),
        Record::Complete(_) => "complete".to_owned(),
    };
    records.iter().map(line).collect()
}

fn sample(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

fn digests(records: &[Record]) -> Vec<(EntryIndex, FileDigest)> {
    let digest = |record: &Record| match record {
        Record::End { entry, digest, .. } => Some((*entry, *digest)),
        _ => None,
    };
    records.iter().filter_map(digest).collect()
}

fn set_mtime(path: &Path, seconds: i64) {
    let dir = RealDisk::open_root(path.parent().unwrap()).unwrap();
    let name = path.file_name().unwrap().as_encoded_bytes();
    RealDisk::new().set_mtime(&dir, name, Timestamp { seconds, nanos: 5 }).unwrap();
}
