//! The search: states in the order of how many departures from the ordinary course lead to them. From each new state
//! the ordinary course is followed to its end, which must come, or to a state that is known; on the way every state is
//! checked, and each is a place to depart from. Of a course only its first state is kept: the others are walked again.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Instant;

use super::fingerprint::is_sound;
use super::intake::DiskFault;
use super::moves::Move;
use super::state::{Budget, Course, State};
use super::{Broken, Mark, Violation};

/// Moves of one ordinary course to its end, at most: several times what the longest one needs.
const COURSE_MAX: usize = 5000;

/// Kinds of what goes wrong, each with what shows that it was met.
pub(super) const KINDS: [(Mark, Mark); 7] = [
    (Mark::Damaged, Mark::DamageSeen),
    (Mark::Corrupted, Mark::ReadBackDiffered),
    (Mark::SyncFailed, Mark::SyncFailureSeen),
    (Mark::Full, Mark::FullSeen),
    (Mark::ReceiverKilled, Mark::Resumed),
    (Mark::LinkLost, Mark::Acknowledged),
    (Mark::Doubled, Mark::DuplicateTaken),
];

/// Which of [`KINDS`] a move is.
fn kind_of(what: Move) -> Option<usize> {
    Some(match what {
        Move::Damage(_) => 0,
        Move::Syncer(DiskFault::Corrupt(_)) => 1,
        Move::Syncer(DiskFault::SyncFails) | Move::Settler(DiskFault::SyncFails) => 2,
        Move::Syncer(DiskFault::Full) | Move::Settler(DiskFault::Full) | Move::Intake(DiskFault::Full) => 3,
        Move::KillReceiver | Move::CutReceiver(_) | Move::KillSender | Move::CutSender(_) => 4,
        Move::LoseLink => 5,
        Move::Double(_) => 6,
        _ => return None,
    })
}

/// Courses that are kept to depart from, at most: bounds the memory, at a kibibyte or two each.
const STARTS_MAX: usize = 3_000_000;

/// How a search is run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Distinct states after which it ends.
    pub states_max: usize,
    /// Departures from the ordinary course on one path.
    pub departures_max: u32,
    /// How often each side may end before its time.
    pub ends: u8,
    /// How many links may be lost.
    pub losses: u8,
    /// How many chunks may be doubled.
    pub doubles: u8,
    /// How many chunks, pages or syncs may go wrong.
    pub faults: u8,
    /// A model that is wrong on purpose.
    pub broken: Option<Broken>,
}

impl Default for Options {
    fn default() -> Options {
        Options { states_max: 1_000_000, departures_max: 64, ends: 3, losses: 2, doubles: 1, faults: 2, broken: None }
    }
}

impl Options {
    fn budget(&self) -> Budget {
        let Options { ends, losses, doubles, faults, .. } = *self;
        Budget { receiver_ends: ends, sender_ends: ends, losses, doubles, faults }
    }
}

/// What a search has found.
#[derive(Clone, Debug)]
pub struct Found {
    /// Distinct states.
    pub states: usize,
    /// Moves that were made.
    pub moves: u64,
    /// Departures within which every state was visited; `None` if not even all with none.
    pub complete_to: Option<u32>,
    /// There was nothing more to visit at all.
    pub is_exhausted: bool,
    /// Most moves to any state.
    pub depth_max: u32,
    marks: u64,
    /// Moves in which something went wrong, by [`KINDS`].
    pub(super) struck: [u64; KINDS.len()],
    /// What is wrong, with the moves that lead there.
    pub violation: Option<(Violation, Vec<String>)>,
}

impl Found {
    /// Marks that were reached.
    pub fn has(&self, mark: Mark) -> bool {
        self.marks & 1 << mark as u64 != 0
    }
}

/// How a state was reached first.
#[derive(Clone, Copy)]
struct Step {
    from: u32,
    depth: u32,
    what: Move,
    /// The ordinary course on which it was met first; 0 until it was.
    course: u32,
}

/// No state: the first one came from nowhere.
const NOWHERE: u32 = u32::MAX;

struct Search {
    options: Options,
    began: Instant,
    marks: u64,
    known: HashMap<u64, u32>,
    steps: Vec<Step>,
    moves: u64,
    struck: [u64; KINDS.len()],
    /// Ordinary courses that were followed.
    courses: u32,
    /// Where the courses begin from which the next departures are made.
    starts: Vec<(u32, State)>,
    /// More courses began than are kept: what follows is a sample.
    is_sample: bool,
}

/// Searches. An error is one of the harness.
pub fn search(options: Options) -> Result<Found, String> {
    if !is_sound() {
        return Err("this standard library hashes instants otherwise than the search relies upon".into());
    }
    let began = Instant::now();
    let mut search = Search {
        options,
        began,
        marks: 0,
        known: HashMap::with_capacity(options.states_max),
        steps: Vec::with_capacity(options.states_max),
        moves: 0,
        struck: [0; KINDS.len()],
        courses: 0,
        starts: vec![],
        is_sample: false,
    };
    let first = State::new(began, options.budget());
    search.run(first)
}

impl Search {
    fn run(&mut self, first: State) -> Result<Found, String> {
        let (root, _) = self.enter(&first, NOWHERE, Move::Time)?;
        if let Err(wrong) = self.follow(root, first.clone())? {
            return Ok(self.found(None, false, Some(wrong)));
        }
        self.starts.push((root, first));
        let mut complete_to = 0;
        for departures in 1..=self.options.departures_max {
            let starts = std::mem::take(&mut self.starts);
            if starts.is_empty() {
                return Ok(self.found(Some(complete_to), !self.is_sample, None));
            }
            for (at, state) in starts {
                if let Err(wrong) = self.depart_along(at, state)? {
                    return Ok(self.found(Some(complete_to), false, Some(wrong)));
                }
                if self.is_full() {
                    return Ok(self.found(Some(complete_to), false, None));
                }
            }
            if !self.is_sample {
                complete_to = departures;
            }
        }
        Ok(self.found(Some(complete_to), false, None))
    }

    fn is_full(&self) -> bool {
        self.steps.len() >= self.options.states_max
    }

    fn found(&self, complete_to: Option<u32>, is_exhausted: bool, violation: Option<(Violation, u32)>) -> Found {
        Found {
            states: self.steps.len(),
            moves: self.moves,
            complete_to,
            is_exhausted,
            depth_max: self.steps.iter().map(|step| step.depth).max().unwrap_or(0),
            marks: self.marks,
            struck: self.struck,
            violation: violation.map(|(violation, at)| (violation, self.trace(at))),
        }
    }

    /// Takes a state in. Its number, and whether it is new.
    fn enter(&mut self, state: &State, from: u32, what: Move) -> Result<(u32, bool), String> {
        let key = state.fingerprint(self.began).ok_or("an instant could not be read")?;
        let number = u32::try_from(self.steps.len()).map_err(|_| "too many states for their numbers")?;
        match self.known.entry(key) {
            Entry::Occupied(slot) => Ok((*slot.get(), false)),
            Entry::Vacant(slot) => {
                slot.insert(number);
                let depth = self.steps.get(from as usize).map_or(0, |step| step.depth + 1);
                self.steps.push(Step { from, depth, what, course: 0 });
                Ok((number, true))
            }
        }
    }

    fn make(&mut self, state: &State, what: Move) -> (State, Result<(), Violation>) {
        let mut next = state.clone();
        let mut course = Course { began: self.began, broken: self.options.broken, marks: &mut self.marks };
        self.moves += 1;
        if let Some(kind) = kind_of(what) {
            self.struck[kind] += 1;
        }
        let made = next.act(&mut course, what);
        (next, made)
    }

    /// P5: the ordinary course from a new state leads to the end, or to a state from which it is known to.
    fn follow(&mut self, at: u32, state: State) -> Result<Result<(), (Violation, u32)>, String> {
        self.courses += 1;
        let (mut at, mut state) = (at, state);
        for _ in 0..COURSE_MAX {
            match self.steps[at as usize].course {
                0 => self.steps[at as usize].course = self.courses,
                course if course == self.courses => {
                    return Ok(Err((Violation::Stuck("the ordinary course runs in a circle (P5)".into()), at)));
                }
                _ => return Ok(Ok(())),
            }
            if state.is_done() {
                return Ok(Ok(()));
            }
            let Some(what) = state.ordinary() else {
                return Ok(Err((Violation::Stuck("nothing can move (P5)".into()), at)));
            };
            let (next, made) = self.make(&state, what);
            if let Err(violation) = made {
                return Ok(Err(self.wrong(violation, at, what)));
            }
            (at, state) = (self.enter(&next, at, what)?.0, next);
        }
        Ok(Err((Violation::Stuck("the ordinary course does not end (P5)".into()), at)))
    }

    /// A violation, with a step of its own for the move that led to it.
    fn wrong(&mut self, violation: Violation, from: u32, what: Move) -> (Violation, u32) {
        let at = u32::try_from(self.steps.len()).unwrap_or(from);
        self.steps.push(Step { from, depth: 0, what, course: 0 });
        (violation, at)
    }

    /// Every departure from every state that was met first on the course that begins here.
    fn depart_along(&mut self, at: u32, state: State) -> Result<Result<(), (Violation, u32)>, String> {
        let course = self.steps[at as usize].course;
        let (mut at, mut state) = (at, state);
        while !state.is_done() && self.steps[at as usize].course == course && !self.is_full() {
            let ordinary = state.ordinary();
            for what in state.moves().into_iter().filter(|what| Some(*what) != ordinary) {
                if let Err(wrong) = self.depart(at, &state, what)? {
                    return Ok(Err(wrong));
                }
            }
            let Some(what) = ordinary else { break };
            let (next, _) = self.make(&state, what);
            (at, state) = (self.enter(&next, at, what)?.0, next);
        }
        Ok(Ok(()))
    }

    /// One departure, and the ordinary course from where it leads.
    fn depart(&mut self, at: u32, state: &State, what: Move) -> Result<Result<(), (Violation, u32)>, String> {
        let (next, made) = self.make(state, what);
        if let Err(violation) = made {
            return Ok(Err(self.wrong(violation, at, what)));
        }
        let (number, is_new) = self.enter(&next, at, what)?;
        if !is_new {
            return Ok(Ok(()));
        }
        let followed = self.follow(number, next.clone())?;
        if self.starts.len() < STARTS_MAX {
            self.starts.push((number, next));
        } else {
            self.is_sample = true;
        }
        Ok(followed)
    }

    /// The moves that lead to a state, departures marked.
    fn trace(&self, at: u32) -> Vec<String> {
        let mut moves = vec![];
        let mut at = at;
        while at != NOWHERE && moves.len() < COURSE_MAX {
            let step = self.steps[at as usize];
            if step.from != NOWHERE {
                moves.push(step.what);
            }
            at = step.from;
        }
        moves.reverse();
        let mut state = State::new(self.began, self.options.budget());
        let mut marks = 0;
        let shown = moves.iter().map(|what| {
            let is_ordinary = state.ordinary() == Some(*what);
            let mut course = Course { began: self.began, broken: self.options.broken, marks: &mut marks };
            drop(state.act(&mut course, *what));
            format!("{} {what:?}", if is_ordinary { " " } else { "*" })
        });
        shown.collect()
    }
}
