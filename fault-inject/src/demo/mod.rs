//! Four stories that anybody can watch on his own machine in seconds: a disk that fails, what a check through the page
//! cache says about it, and what landfall says. Each tells what really happened, line by line, and ends in a verdict;
//! programs that are not installed are left out, and what this machine cannot do is named.

mod fsyncgate;
mod lost_write;
mod power_cut;
mod riva;
mod stage;

use crate::verdict::{How, Report, Verdict};

/// Which story.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Story {
    /// A bit flips below the page cache: which read-back sees it?
    Riva,
    /// A sync fails once, and the next one says that all is well.
    Fsyncgate,
    /// The power goes: what is under the final name after it?
    PowerCut,
    /// A write succeeds and stores nothing.
    LostWrite,
}

/// What a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// A step that was taken.
    Step,
    /// Somebody says that all is well, and it is not.
    Fooled,
    /// Somebody sees or prevents the damage, or there is none.
    Right,
}

/// One line of a story.
#[derive(Clone, Debug)]
pub struct Line {
    /// What was done or asked.
    pub what: String,
    /// What came of it.
    pub says: String,
    /// What to think of it.
    pub mark: Mark,
}

/// A story while it is told: lines go out as they happen.
pub struct Teller<'a> {
    hear: &'a mut dyn FnMut(&Line),
    fooled: u64,
    is_landfall_right: Option<bool>,
    log: Vec<String>,
}

impl Teller<'_> {
    fn line(&mut self, what: &str, says: &str, mark: Mark) {
        self.fooled += u64::from(mark == Mark::Fooled);
        self.log.push(format!("{what}: {says}"));
        (self.hear)(&Line { what: what.to_owned(), says: says.to_owned(), mark });
    }

    fn step(&mut self, what: &str, says: &str) {
        self.line(what, says, Mark::Step);
    }

    /// A check that says whether all is well, beside what is really there.
    fn check(&mut self, what: &str, says_well: bool, is_well: bool) {
        let says = if says_well { "\"all is well\"" } else { "damage found" };
        let mark = if says_well == is_well || !says_well { Mark::Right } else { Mark::Fooled };
        self.line(what, says, mark);
    }

    /// What landfall came to; it counts for the verdict.
    fn landfall(&mut self, what: &str, says: &str, is_right: bool) {
        self.is_landfall_right = Some(self.is_landfall_right.unwrap_or(true) && is_right);
        self.line(what, says, if is_right { Mark::Right } else { Mark::Fooled });
    }
}

impl Story {
    /// All of them, with their words.
    pub const ALL: [(Story, &'static str); 4] = [
        (Story::Riva, "riva"),
        (Story::Fsyncgate, "fsyncgate"),
        (Story::PowerCut, "powercut"),
        (Story::LostWrite, "lost-write"),
    ];

    /// Its word on the command line.
    pub fn word(self) -> &'static str {
        Story::ALL.iter().find(|(story, _)| *story == self).map_or("", |(_, word)| word)
    }

    /// What it is about, in one line.
    pub fn title(self) -> &'static str {
        match self {
            Story::Riva => "a bit flips on the platter: which read-back sees it?",
            Story::Fsyncgate => "fsync fails once, then succeeds: where are the data?",
            Story::PowerCut => "the power goes: what is under the final name?",
            Story::LostWrite => "a write succeeds and stores nothing: who notices?",
        }
    }

    fn how(self) -> How {
        if self == Story::LostWrite { How::Fuse } else { How::LoopImage }
    }

    /// Tells it. Each line is heard when it has happened.
    pub fn tell(self, seed: u64, hear: &mut dyn FnMut(&Line)) -> Report {
        let mut teller = Teller { hear, fooled: 0, is_landfall_right: None, log: vec![] };
        let told = crate::rig::process::build_landfall().map_err(stage::Stop::Broken).and_then(|()| match self {
            Story::Riva => riva::tell(seed, &mut teller),
            Story::Fsyncgate => fsyncgate::tell(seed, &mut teller),
            Story::PowerCut => power_cut::tell(seed, &mut teller),
            Story::LostWrite => lost_write::tell(seed, &mut teller),
        });
        let verdict = match (told, teller.is_landfall_right) {
            (Err(stage::Stop::Missing(needs)), _) => return Report::skipped(self.title(), self.how(), &needs),
            (Err(stage::Stop::Broken(why)), _) => Verdict::Failed(why),
            (Ok(()), Some(false)) => Verdict::Wrong("landfall was fooled".to_owned()),
            (Ok(()), Some(true)) => Verdict::Good,
            (Ok(()), None) => Verdict::Vacuous,
        };
        let is_good = verdict == Verdict::Good;
        let report = Report {
            fault: self.title().to_owned(),
            how: self.how(),
            injected: teller.fooled,
            detected: if is_good { teller.fooled } else { 0 },
            repaired: 0,
            verdict,
            plan: format!("seed={seed:#x} story={}", self.word()),
            log: teller.log,
            reproduce: format!("cargo run --release -p fault-inject -- demo {} --seed {seed:#x}", self.word()),
        };
        report.unless_vacuous()
    }
}
