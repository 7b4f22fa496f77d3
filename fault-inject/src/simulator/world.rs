//! The world of one seed: two processes, their disks, the link, time, and the schedule that decides which of all
//! that could move next does. A safety phase in which anything of the plan may go wrong, then a liveness phase in
//! which nothing does and both sides must end. What goes wrong is in `faults.rs`, what is true in `oracle.rs`.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use landfall::identity::TransferId;
use landfall::wire::Message;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::coverage::Coverage;
use super::link::{Flying, Link, LinkId};
use super::opening::Setting;
use super::oracle::Oracle;
use super::plan::{Class, Plan};
use super::receiving::{HOME, Receiving, TARGET};
use super::resent::Resent;
use super::sending::{self, Naming, Sending};
use super::tree::{History, make_older_target, make_source, source_tree, target_tree};
use crate::rng::stream;
use crate::sim_disk::{SimDials, SimDisk, SkipSync, View};

/// Steps in which both sides must end once nothing goes wrong any more.
pub(super) const LIVENESS_STEPS_MAX: u64 = 30_000;

/// What is wrong with a seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// Something wrong was acknowledged, or stands under a final name.
    Wrong(String),
    /// The two sides did not end.
    Stuck(String),
}

/// Whether a side still has something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Running, or to be run again.
    Open,
    /// Ended well and closed its record.
    Closed,
    /// Ended well, but the sender may not know.
    Unconfirmed,
    /// Refused for good, in a way that the edits of the source excuse.
    Refused,
}

/// What may go wrong now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Safety,
    Liveness,
}

/// One thing that can move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Move {
    StartReceiver,
    StartSender,
    Connect,
    MeetReceiver,
    MeetSender,
    LoseReceiver,
    LoseSender,
    Intake,
    Syncer,
    Settler,
    ReceiverDriver,
    Producer,
    Server,
    SenderDriver,
    Errand,
    FrameToReceiver,
    FrameToSender,
    Chunk,
    Time,
}

/// See the module.
pub struct World {
    pub(super) plan: Plan,
    pub(super) schedule: ChaCha8Rng,
    pub(super) faults: ChaCha8Rng,
    pub(super) strangers: ChaCha8Rng,
    pub(super) receiver_setting: Setting,
    pub(super) sender_setting: sending::Setting,
    pub(super) receiving: Option<Receiving>,
    pub(super) sending: Option<Sending>,
    pub(super) receiver_fate: Fate,
    pub(super) sender_fate: Fate,
    pub(super) links: Vec<Link>,
    pub(super) next_link: LinkId,
    pub(super) began: Instant,
    pub(super) elapsed: Duration,
    pub(super) step: u64,
    pub(super) stage: Stage,
    pub(super) oracle: Oracle,
    pub(super) coverage: Coverage,
    pub(super) resent: Resent,
    /// The step at which the running sender began.
    pub(super) sender_began: u64,
    /// The step at which that sender began which has settled the manifest on the receiver's link.
    pub(super) settled_since: u64,
    /// The same, when the receipt was asked for.
    pub(super) issuing_since: u64,
    pub(super) last_error: String,
    /// The receiver's machine lost power since it last ran.
    pub(super) is_cut: bool,
    /// Entries of which a read-back differed.
    pub(super) bad_entries: BTreeSet<u32>,
    pub(super) log: Option<Vec<String>>,
    pub(super) trace: blake3::Hasher,
}

fn no_fault(what: &str) -> String {
    format!("the world could not be set up: {what}")
}

impl World {
    /// Sets the scene of a plan, with a sync that is skipped at the receiver or none.
    pub fn new(plan: Plan, skip: Option<SkipSync>) -> Result<World, String> {
        let mut trees = stream(plan.seed, "trees");
        let (receiver, sender) = (SimDisk::new(plan.seed, SimDials::off()), SimDisk::new(!plan.seed, SimDials::off()));
        let source = SimDisk::new(plan.seed.rotate_left(32), SimDials::off());
        let home = SimDisk::new(!plan.seed.rotate_left(32), SimDials::off());
        let naming = if trees.random_range(0..3) == 0 { Naming::Contents } else { Naming::Named };
        make_source(&source, plan.files_max, &mut trees).map_err(|error| no_fault(&error.to_string()))?;
        for (disk, path) in [(&receiver, TARGET), (&home, HOME), (&sender, sending::HOME)] {
            disk.make_directory(path.as_bytes()).map_err(|error| no_fault(&error.to_string()))?;
        }
        let tree = source_tree(&source, naming);
        let mut coverage = Coverage::default();
        if plan.has(Class::OlderTree) {
            make_older_target(&receiver, &tree, &mut trees).map_err(|error| no_fault(&error.to_string()))?;
            coverage.mark("older tree in the target");
        }
        let mut history = History::default();
        history.observe(0, &tree);
        let before = target_tree(&receiver, View::Durable);
        let mut faults = stream(plan.seed, "faults");
        let mut dials = plan.receiver_dials(&mut faults);
        if plan.has(Class::NoSpace) {
            let used = receiver.tree(View::Cached).values().map(|seen| seen.bytes.len() as u64).sum::<u64>();
            dials.capacity_bytes = Some(used + faults.random_range(16_384..131_072));
        }
        receiver.set_dials(dials);
        source.set_dials(plan.source_dials());
        sender.set_dials(plan.sender_dials());
        receiver.set_skip_sync(skip.clone());
        home.set_skip_sync(skip);
        let transfer = TransferId([7; 16]);
        Ok(World {
            schedule: stream(plan.seed, "schedule"),
            faults,
            strangers: stream(plan.seed, "strangers"),
            receiver_setting: Setting { disk: receiver, home, transfer, existing: plan.existing },
            sender_setting: sending::Setting { disk: sender, source, transfer, naming },
            receiving: None,
            sending: None,
            receiver_fate: Fate::Open,
            sender_fate: Fate::Open,
            links: vec![],
            next_link: 1,
            began: Instant::now(),
            elapsed: Duration::ZERO,
            step: 0,
            stage: Stage::Safety,
            oracle: Oracle::new(history, before, &plan),
            coverage,
            resent: Resent::new(&plan),
            sender_began: 0,
            settled_since: 0,
            issuing_since: 0,
            last_error: String::new(),
            is_cut: false,
            bad_entries: BTreeSet::new(),
            log: None,
            trace: blake3::Hasher::new(),
            plan,
        })
    }

    /// Keeps a log of what moves.
    pub fn keep_log(&mut self) {
        self.log = Some(vec![]);
    }

    /// The log, if one is kept.
    pub fn take_log(&mut self) -> Vec<String> {
        self.log.take().unwrap_or_default()
    }

    /// Runs both phases.
    pub fn run(&mut self) -> Result<(), Violation> {
        while self.step < self.plan.safety_steps && !self.is_done() {
            self.strike()?;
            self.advance()?;
        }
        self.stage = Stage::Liveness;
        self.calm();
        let limit = self.step + LIVENESS_STEPS_MAX;
        while !self.is_done() {
            if self.step >= limit {
                return Err(self.stuck("too many steps"));
            }
            self.advance()?;
        }
        self.conclude()
    }

    /// What was seen.
    pub fn coverage(&self) -> Coverage {
        let mut coverage = self.coverage.clone();
        coverage.take_disk(&self.receiver_setting.disk.counts());
        coverage.take_disk(&self.sender_setting.disk.counts());
        coverage
    }

    /// Steps so far.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// A digest of everything that moved and of what the disks hold.
    pub fn trace(&mut self) -> [u8; 32] {
        let mut trace = self.trace.clone();
        let receiver = [&self.receiver_setting.disk, &self.receiver_setting.home];
        for disk in receiver.into_iter().chain([&self.sender_setting.disk, &self.sender_setting.source]) {
            trace.update(&disk.state_digest());
        }
        *trace.finalize().as_bytes()
    }

    pub(super) fn now(&self) -> Instant {
        self.began + self.elapsed
    }

    pub(super) fn note(&mut self, text: impl FnOnce() -> String) {
        if let Some(log) = &mut self.log {
            log.push(format!("{:5} {:7.3} {}", self.step, self.elapsed.as_secs_f64(), text()));
        }
    }

    pub(super) fn stuck(&self, what: &str) -> Violation {
        Violation::Stuck(format!(
            "{what}: receiver {:?} {} sender {:?} {} links {} last error `{}`",
            self.receiver_fate,
            self.receiving.as_ref().map_or("down".into(), |receiving| format!("{:?}", receiving.phase())),
            self.sender_fate,
            self.sending.as_ref().map_or("down".into(), |sending| format!("{:?}", sending.phase(self.now()))),
            self.links.len(),
            self.last_error
        ))
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self.sender_fate, Fate::Closed | Fate::Refused) && self.receiver_fate != Fate::Open
    }

    fn link(&self, id: Option<LinkId>) -> Option<&Link> {
        self.links.iter().find(|link| Some(link.id) == id)
    }

    pub(super) fn link_mut(&mut self, id: Option<LinkId>) -> Option<&mut Link> {
        self.links.iter_mut().find(|link| Some(link.id) == id)
    }

    /// Links that nobody uses any more are forgotten.
    pub(super) fn tidy_links(&mut self) {
        let used = [self.receiving.as_ref().and_then(Receiving::line), self.sending.as_ref().and_then(Sending::line)];
        self.links.retain(|link| used.contains(&Some(link.id)) || (!link.is_lost && !link.is_met()));
    }

    /// Everything that could move now, with its weight.
    fn moves(&self) -> Vec<(Move, u32)> {
        let mut moves = Vec::with_capacity(20);
        let is_calm = self.stage == Stage::Liveness;
        let mut offer = |is_possible: bool, what: Move, weight: u32| {
            if is_possible {
                moves.push((what, weight));
            }
        };
        let wants_receiver = self.receiver_fate == Fate::Open
            || (self.receiver_fate == Fate::Unconfirmed && self.sender_fate == Fate::Open);
        offer(self.receiving.is_none() && wants_receiver, Move::StartReceiver, 4);
        offer(self.sending.is_none() && self.sender_fate == Fate::Open, Move::StartSender, 4);
        if let (Some(receiving), Some(sending)) = (&self.receiving, &self.sending) {
            let dialler = if self.plan.is_receiver_listening { sending.line() } else { receiving.line() };
            let is_dialling = self.links.iter().any(|link| !link.is_lost && !link.is_met());
            offer(dialler.is_none() && !is_dialling, Move::Connect, 4);
        }
        if let Some(receiving) = &self.receiving {
            let link = self.link(receiving.line());
            let has_frames = link.is_some_and(|link| !link.to_receiver.is_empty());
            let has_chunks = link.is_some_and(|link| !link.data.is_empty());
            offer(has_frames, Move::FrameToReceiver, 6);
            offer(has_chunks, Move::Chunk, 6);
            let is_lost = receiving.line().is_some() && link.is_none_or(|link| link.is_lost);
            offer(is_lost && !(is_calm && (has_frames || has_chunks)), Move::LoseReceiver, 2);
            offer(receiving.has_intake_work(), Move::Intake, 8);
            offer(receiving.has_syncer_work(), Move::Syncer, 4);
            offer(receiving.has_settler_work(), Move::Settler, 4);
            offer(receiving.has_news(), Move::ReceiverDriver, 8);
            let is_new = self.links.iter().any(|link| link.hello_to_receiver && !link.is_lost);
            offer(is_new, Move::MeetReceiver, 4);
        }
        if let Some(sending) = &self.sending {
            let link = self.link(sending.line());
            let has_frames = link.is_some_and(|link| !link.to_sender.is_empty());
            offer(has_frames, Move::FrameToSender, 6);
            let is_lost = sending.line().is_some() && link.is_none_or(|link| link.is_lost);
            offer(is_lost && !(is_calm && has_frames), Move::LoseSender, 2);
            offer(sending.has_producer_work(), Move::Producer, 4);
            offer(sending.has_server_work(), Move::Server, 6);
            offer(sending.has_news(), Move::SenderDriver, 8);
            offer(sending.has_errand(), Move::Errand, 4);
            let is_new = self.links.iter().any(|link| link.hello_to_sender.is_some() && !link.is_lost);
            offer(is_new, Move::MeetSender, 4);
        }
        offer(true, Move::Time, 1);
        moves
    }

    fn advance(&mut self) -> Result<(), Violation> {
        self.step_once()?;
        self.look()
    }

    /// One move, before anybody looks what came of it.
    pub(super) fn step_once(&mut self) -> Result<(), Violation> {
        let moves = self.moves();
        let total: u32 = moves.iter().map(|(_, weight)| weight).sum();
        let mut at = self.schedule.random_range(0..total);
        let mut chosen = Move::Time;
        for (what, weight) in &moves {
            if at < *weight {
                chosen = *what;
                break;
            }
            at -= weight;
        }
        self.step += 1;
        self.trace.update(&[chosen as u8]);
        if chosen != Move::Time {
            self.note(|| format!("{chosen:?}"));
        }
        self.act(chosen, moves.len() == 1)
    }

    fn act(&mut self, chosen: Move, is_alone: bool) -> Result<(), Violation> {
        let now = self.now();
        match chosen {
            Move::StartReceiver => return self.start_receiver(),
            Move::StartSender => return self.start_sender(),
            Move::Connect => self.connect(),
            Move::MeetReceiver => self.meet_receiver(),
            Move::MeetSender => return self.meet_sender(),
            Move::FrameToReceiver => return self.frame_to_receiver(),
            Move::FrameToSender => self.frame_to_sender(),
            Move::Chunk => self.chunk_to_receiver(),
            Move::Time => return self.pass_time(is_alone),
            Move::LoseReceiver | Move::Intake | Move::Syncer | Move::Settler | Move::ReceiverDriver => {
                let Some(receiving) = &mut self.receiving else { return Ok(()) };
                match chosen {
                    Move::LoseReceiver => receiving.lose(now),
                    Move::Intake => receiving.run_intake(),
                    Move::Syncer => receiving.run_syncer(),
                    Move::Settler => return self.run_settler(),
                    _ => receiving.run_driver(now),
                }
            }
            Move::LoseSender | Move::Producer | Move::Server | Move::SenderDriver | Move::Errand => {
                let Some(sending) = &mut self.sending else { return Ok(()) };
                match chosen {
                    Move::LoseSender => sending.lose(now),
                    Move::Producer => sending.run_producer(now),
                    Move::Server => sending.run_server(now),
                    Move::SenderDriver => sending.run_driver(now),
                    _ => sending.run_errand(now),
                }
            }
        }
        Ok(())
    }

    fn pass_time(&mut self, is_alone: bool) -> Result<(), Violation> {
        let due = self.receiving.as_ref().and_then(Receiving::due);
        if !is_alone {
            self.elapsed += Duration::from_millis(self.schedule.random_range(0..300));
        } else if let Some(due) = due {
            self.elapsed = self.elapsed.max(due.saturating_duration_since(self.began));
        } else {
            return Err(self.stuck("nothing can move"));
        }
        let now = self.now();
        if let Some(receiving) = &mut self.receiving
            && due.is_some_and(|due| due <= now)
        {
            receiving.tick(now);
        }
        Ok(())
    }

    fn connect(&mut self) {
        let Some(receiving) = &mut self.receiving else { return };
        let hello = receiving.hello();
        self.trace.update(&hello);
        self.links.push(Link::new(self.next_link, hello));
        self.next_link += 1;
    }

    fn meet_receiver(&mut self) {
        let now = self.now();
        let Some(link) = self.links.iter_mut().find(|link| link.hello_to_receiver && !link.is_lost) else { return };
        link.hello_to_receiver = false;
        let id = link.id;
        if let Some(receiving) = &mut self.receiving {
            receiving.connect(now, id);
        }
        self.tidy_links();
    }

    fn meet_sender(&mut self) -> Result<(), Violation> {
        let now = self.now();
        let (began, new) = (self.sender_began, |link: &&mut Link| link.hello_to_sender.is_some() && !link.is_lost);
        let Some(link) = self.links.iter_mut().find(new) else { return Ok(()) };
        let hello = link.hello_to_sender.take().unwrap_or_default();
        link.sender_began = began;
        let id = link.id;
        let met = self.sending.as_mut().map_or(Ok(()), |sending| sending.connect(now, id, &hello));
        if let Err(error) = met {
            self.end_sender_by_itself(&error.to_string());
        }
        self.tidy_links();
        Ok(())
    }

    fn frame_to_receiver(&mut self) -> Result<(), Violation> {
        let now = self.now();
        let line = self.receiving.as_ref().and_then(Receiving::line);
        let Some(link) = self.link_mut(line) else { return Ok(()) };
        let Some(frame) = link.to_receiver.pop_front() else { return Ok(()) };
        let began = link.sender_began;
        if let Ok(Message::Settled(_)) = Message::decode(&frame) {
            self.settled_since = began;
        }
        let taken = self.receiving.as_mut().map_or(Ok(()), |receiving| receiving.control(now, &frame));
        if let Err(error) = taken {
            self.end_receiver_by_itself(&error.to_string());
        }
        Ok(())
    }

    fn frame_to_sender(&mut self) {
        let now = self.now();
        let line = self.sending.as_ref().and_then(Sending::line);
        let Some(frame) = self.link_mut(line).and_then(|link| link.to_sender.pop_front()) else { return };
        if let Some(sending) = &mut self.sending {
            sending.control(now, &frame);
        }
    }

    fn chunk_to_receiver(&mut self) {
        let line = self.receiving.as_ref().and_then(Receiving::line);
        let is_reordering = self.plan.has(Class::Reorder);
        let count = self.link(line).map_or(0, |link| link.data.len());
        if count == 0 {
            return;
        }
        let at = if is_reordering { self.schedule.random_range(0..count) } else { 0 };
        let chunk: Option<Flying> = self.link_mut(line).and_then(|link| link.data.remove(at));
        if let (Some(receiving), Some(chunk)) = (&mut self.receiving, chunk) {
            receiving.chunk(chunk);
        }
    }

    /// Adds what was sent to the trace.
    pub(super) fn trace_bytes(&mut self, bytes: &[u8]) {
        self.trace.update(bytes);
    }
}
