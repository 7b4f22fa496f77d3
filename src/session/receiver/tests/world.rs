//! A world around the receiver's brain: a sender with a log, a link, an intake and a settler, all made of numbers and
//! dice. It checks after every input what must always hold. It holds no opinion about names or bytes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::super::{Ending, Receiver, Settings};
use super::hands::Work;
use crate::geometry::{EntryIndex, Geometry};
use crate::limits::{CHUNK_BYTES, IN_FLIGHT_BYTES_MAX, IN_FLIGHT_CHUNKS_MAX};
use crate::outcome::Reason;
use crate::task::receiver::{Chunk, End, Input, Noted, OtherKind, SealClaim, Task, WriteError};
use crate::wire::{Message, Place, Want};

/// Tasks that may follow from one input, beside those for each file that it names.
const TASKS_MAX: usize = 2100;

/// An entry as the log and the disk have it.
#[derive(Debug, Default)]
pub(super) struct Entry {
    pub(super) is_file: bool,
    pub(super) chunks: u32,
    pub(super) known: u32,
    pub(super) is_ended: bool,
    pub(super) is_withdrawn: bool,
    pub(super) is_claimed: bool,
    pub(super) is_accepted: bool,
    pub(super) is_sealed: bool,
    pub(super) is_left_out: bool,
    pub(super) was_restarted: bool,
    /// Which inode its bytes are in.
    pub(super) inode: u32,
    pub(super) held: BTreeSet<u32>,
    pub(super) writes: u32,
    /// Of which inode a sync has failed.
    pub(super) sync_failed: Option<u32>,
}

/// What goes wrong, in one of so many cases; 0 is never.
#[derive(Clone, Copy, Debug)]
pub(super) struct Faults {
    pub(super) one_in: u32,
}

pub(super) struct World {
    pub(super) brain: Receiver,
    pub(super) dice: ChaCha8Rng,
    pub(super) now: Instant,
    pub(super) faults: Faults,
    /// Records that the sender has and the receiver does not.
    pub(super) ahead: VecDeque<Noted>,
    pub(super) record_count: u64,
    pub(super) entries: Vec<Entry>,
    pub(super) intake: VecDeque<Task>,
    pub(super) syncer: VecDeque<Work>,
    pub(super) settler: VecDeque<Work>,
    pub(super) batch: BTreeMap<u32, (u32, Vec<u32>, bool)>,
    pub(super) inputs: VecDeque<Input>,
    pub(super) is_linked: bool,
    is_settled_sent: bool,
    pub(super) outstanding: BTreeSet<Place>,
    considered: Place,
    pub(super) is_issued: bool,
    pub(super) end: Option<End>,
}

impl World {
    pub(super) fn new(seed: u64, ahead: Vec<Noted>) -> World {
        let second = Duration::from_secs(1);
        let settings = Settings {
            chunk_bytes: CHUNK_BYTES,
            max_bytes: None,
            patience: None,
            linger: 60 * second,
            batch_files: crate::limits::BATCH_FILES_MAX,
        };
        World {
            brain: Receiver::new(settings, Ending::open(60 * second)),
            dice: ChaCha8Rng::seed_from_u64(seed),
            now: Instant::now(),
            faults: Faults { one_in: 0 },
            ahead: ahead.into(),
            record_count: 0,
            entries: vec![],
            intake: VecDeque::new(),
            syncer: VecDeque::new(),
            settler: VecDeque::new(),
            batch: BTreeMap::new(),
            inputs: VecDeque::new(),
            is_linked: false,
            is_settled_sent: false,
            outstanding: BTreeSet::new(),
            considered: Place::default(),
            is_issued: false,
            end: None,
        }
    }

    /// A log of random entries; some are withdrawn.
    pub(super) fn random_log(seed: u64, entries: u32) -> Vec<Noted> {
        let mut dice = ChaCha8Rng::seed_from_u64(seed ^ 0x5eed);
        let (mut log, mut files) = (vec![], vec![]);
        for entry in 0..entries {
            let chunks: u32 = *[0, 1, 1, 1, 2, 17, 40, 200].get(dice.random_range(0..8)).unwrap();
            match dice.random_range(0..12) {
                0 => log.push(Noted::Other { kind: OtherKind::Directory }),
                1 => log.push(Noted::Other { kind: OtherKind::LeftOut(Reason::Vanished) }),
                kind => {
                    let claim = if kind == 2 { SealClaim::Claimed } else { SealClaim::None };
                    let size = u64::from(chunks) * u64::from(CHUNK_BYTES);
                    log.push(Noted::File { size: size - u64::from(chunks > 0 && kind == 3), claim });
                    (16..chunks + 16).step_by(16).for_each(|known| log.push(Noted::DigestsTo(known.min(chunks))));
                    log.push(if kind == 4 { Noted::Withdrawn(EntryIndex(entry)) } else { Noted::Ended });
                    files.push(entry);
                }
            }
            if dice.random_range(0..8) == 0 && !files.is_empty() {
                log.push(Noted::Withdrawn(EntryIndex(files[dice.random_range(0..files.len())])));
            }
        }
        log.push(Noted::Complete);
        log
    }

    pub(super) fn is_unlucky(&mut self) -> bool {
        self.faults.one_in > 0 && self.dice.random_range(0..self.faults.one_in) == 0
    }

    pub(super) fn hear(&mut self, input: Input) {
        let weight = match &input {
            Input::Examined(_, found) => found.len(),
            Input::BatchSettled(files) => files.len(),
            Input::Noted(notes) => notes.len(),
            Input::Adopted(items) => items.len(),
            Input::Space(..) => self.entries.len(),
            _ => 0,
        };
        self.brain.handle(self.now, input);
        let mut tasks = 0;
        while let Some(task) = self.brain.poll() {
            tasks += 1;
            assert!(tasks <= TASKS_MAX + 2 * weight, "one input makes tasks without end");
            self.take(task);
        }
        let tally = self.brain.tally();
        assert!(tally.in_flight_bytes <= IN_FLIGHT_BYTES_MAX);
        assert!(tally.verified_bytes <= tally.held_bytes + tally.known_bytes, "{tally:?}");
    }

    fn take(&mut self, task: Task) {
        match task {
            Task::Send(Message::Want(want)) => self.take_want(&want),
            Task::Send(_) => (),
            Task::SendReceipt => self.inputs.push_back(Input::Acknowledged),
            Task::End(end) => self.end = Some(end),
            Task::Misbehaved(_) | Task::Restart => panic!("nobody misbehaved, and the log is good"),
            task => self.intake.push_back(task),
        }
    }

    fn take_want(&mut self, want: &Want) {
        assert!(self.is_linked, "a want without a link");
        assert!(want.considered_through >= self.considered, "what was considered stays considered");
        self.considered = want.considered_through;
        for run in &want.runs {
            let entry = &self.entries[run.entry.0 as usize];
            assert!(run.count > 0 && run.first + run.count <= entry.known, "{run:?} is not known to be there");
            for chunk in run.first..run.first + run.count {
                let place = Place { entry: run.entry.0, chunk };
                assert!(self.outstanding.insert(place), "{place:?} is wanted twice");
            }
        }
        assert!(self.outstanding.len() <= IN_FLIGHT_CHUNKS_MAX as usize);
    }

    pub(super) fn connect(&mut self) {
        if self.is_linked {
            return;
        }
        // Chunks of the old link were taken in before the new one is told.
        while !self.inputs.is_empty() {
            self.next_input();
        }
        (self.is_linked, self.is_settled_sent, self.considered) = (true, false, Place::default());
        self.hear(Input::Connected);
    }

    pub(super) fn lose_link(&mut self) {
        if self.is_linked {
            self.is_linked = false;
            self.outstanding.clear();
            self.hear(Input::LinkLost);
        }
    }

    /// The sender sends some records, or says that it has settled, which it may do before it has sent them all.
    pub(super) fn send_records(&mut self) {
        if !self.is_linked {
            return;
        }
        if !self.is_settled_sent && self.dice.random_range(0..4) == 0 {
            self.is_settled_sent = true;
            self.inputs.push_back(Input::Settled(self.record_count + self.ahead.len() as u64));
        }
        let count = self.dice.random_range(0..60).min(self.ahead.len());
        let notes: Vec<Noted> = self.ahead.drain(..count).collect();
        notes.iter().for_each(|noted| self.append(*noted));
        self.inputs.push_back(Input::Noted(notes));
    }

    fn append(&mut self, noted: Noted) {
        self.record_count += 1;
        match noted {
            Noted::File { size, claim } => {
                let chunks = Geometry::new(size, CHUNK_BYTES).unwrap().chunk_count();
                let is_claimed = claim == SealClaim::Claimed;
                self.entries.push(Entry { is_file: true, chunks, is_claimed, ..Entry::default() });
            }
            Noted::Other { .. } => self.entries.push(Entry::default()),
            Noted::DigestsTo(known) => self.entries.last_mut().unwrap().known = known,
            Noted::Ended => self.entries.last_mut().unwrap().is_ended = true,
            Noted::Withdrawn(entry) => self.entries[entry.0 as usize].is_withdrawn = true,
            Noted::Complete => (),
        }
    }

    /// One wanted chunk comes, or does not.
    pub(super) fn deliver(&mut self) {
        let count = self.outstanding.len();
        if count == 0 {
            return;
        }
        let place = *self.outstanding.iter().nth(self.dice.random_range(0..count.min(8))).unwrap();
        self.outstanding.remove(&place);
        if self.is_unlucky() {
            let fault = match self.dice.random_range(0..5) {
                0 => Input::Differed(place),
                1 => Input::Gone(place, Reason::Changed),
                2 => Input::WriteFailed(place, WriteError::Failed),
                3 => Input::WriteFailed(place, WriteError::Full),
                _ => Input::WriteFailed(place, WriteError::Stale),
            };
            return self.inputs.push_back(fault);
        }
        let input = self.write(place);
        self.inputs.push_back(input);
    }

    fn write(&mut self, place: Chunk) -> Input {
        let entry = &mut self.entries[place.entry as usize];
        if !entry.is_accepted || entry.is_sealed || entry.is_left_out || entry.is_withdrawn {
            return Input::WriteFailed(place, WriteError::Stale);
        }
        if !entry.held.insert(place.chunk) {
            return Input::Written(place, 0);
        }
        entry.writes += 1;
        self.batch.entry(place.entry).or_insert((entry.inode, vec![], false)).1.push(place.chunk);
        Input::Written(place, CHUNK_BYTES)
    }

    pub(super) fn next_input(&mut self) {
        if let Some(input) = self.inputs.pop_front() {
            self.hear(input);
        }
    }

    /// One thing happens.
    pub(super) fn step(&mut self) {
        match self.dice.random_range(0..13) {
            0 => self.send_records(),
            1..=4 => self.deliver(),
            5 | 6 => self.do_task(),
            7 => self.do_work(),
            12 => self.do_sync(),
            8 => {
                self.now += Duration::from_millis(self.dice.random_range(0..700));
                self.hear(Input::Tick);
            }
            _ => self.next_input(),
        }
    }

    /// Runs until the end, which must come.
    pub(super) fn run_to_end(&mut self) {
        self.faults = Faults { one_in: 0 };
        for _ in 0..200_000 {
            if self.end.is_some() {
                return;
            }
            self.connect();
            self.step();
            if self.intake.is_empty()
                && self.syncer.is_empty()
                && self.settler.is_empty()
                && self.inputs.is_empty()
                && self.outstanding.is_empty()
            {
                let due = self.brain.poll_timeout().expect("something is due when nothing happens");
                self.now = self.now.max(due);
                self.hear(Input::Tick);
            }
        }
        panic!("it does not end: {:?}", self.brain);
    }
}
