//! Deaths in what people use every day besides a plain transfer: `--delete`, `--plan`, `--existing rename`, and the two
//! ends of a pipe. The shipped program is killed at system calls of one command and of the processes that it starts, as
//! `strace` shows them, and by signals at what can be seen from outside; the same command then runs again.

mod deletion;
mod plans;
mod renaming;
mod streams;
mod strikes;

use std::collections::BTreeMap;

pub use renaming::Taken;

use super::Counts;
use crate::several;
use crate::verdict::{How, Report, Verdict};

/// Commands that are struck at the same time.
const WORKERS: usize = 5;
/// Of all cases, one in so many at least has to meet its place.
const MET_MIN: usize = 2;
/// A kind of so many cases has one at least that does.
const KIND_MIN: u64 = 3;

/// What is struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Everyday {
    /// `--delete`.
    Deletion,
    /// `--plan`.
    Plan,
    /// `--existing rename`.
    Renaming,
    /// `send -` and `recv --stdout`.
    Pipes,
}

impl Everyday {
    /// Each with its row of the fault matrix.
    pub const ROWS: [(u8, Everyday); 4] =
        [(77, Everyday::Deletion), (78, Everyday::Plan), (79, Everyday::Renaming), (80, Everyday::Pipes)];
}

/// How much is struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Amount {
    /// All that a row of the matrix has.
    Row,
    /// What a test has time for.
    Test,
}

impl Amount {
    /// So many places at system calls for a row; a few for a test.
    fn of(self, places: usize) -> usize {
        if self == Amount::Row { places } else { 1 }
    }
}

/// The rows of the fault matrix on these: 77 (`--delete`), 78 (`--plan`), 79 (`--existing rename`) and 80 (pipes).
pub fn row(number: u8, seed: u64) -> Option<Report> {
    let (_, what) = Everyday::ROWS.into_iter().find(|(row, _)| *row == number)?;
    Some(strike(what, Amount::Row, seed))
}

/// All of them, one after the other.
pub fn all(seed: u64) -> impl Iterator<Item = Report> {
    Everyday::ROWS.into_iter().map(move |(_, what)| strike(what, Amount::Row, seed))
}

/// A few strikes of one of them.
pub fn cheap(what: Everyday, seed: u64) -> Report {
    strike(what, Amount::Test, seed)
}

fn strike(what: Everyday, amount: Amount, seed: u64) -> Report {
    let report = match what {
        Everyday::Deletion => deletion::report(amount, seed),
        Everyday::Plan => plans::report(amount, seed),
        Everyday::Renaming => renaming::report(amount, seed),
        Everyday::Pipes => streams::report(amount, seed),
    };
    let number = Everyday::ROWS.into_iter().find(|(_, row)| *row == what).map_or(0, |(number, _)| number);
    let command = format!("cargo run --release -p fault-inject -- matrix --row {number} --seed {seed:#x}");
    Report { reproduce: command, ..report }
}

/// One command that is struck.
struct Case<'a> {
    /// What it has in common with others.
    kind: String,
    /// What it has not.
    name: String,
    play: Play<'a>,
}

type Play<'a> = Box<dyn Fn(&mut Counts) -> Verdict + Sync + 'a>;

impl<'a> Case<'a> {
    fn new(kind: &str, name: String, play: impl Fn(&mut Counts) -> Verdict + Sync + 'a) -> Case<'a> {
        Case { kind: kind.to_owned(), name, play: Box::new(play) }
    }
}

/// Plays all of them. Each kind is a line of the log, and each case that did not come to its place or is not good.
fn play(fault: &str, how: How, cases: &[Case<'_>]) -> Report {
    let mut kinds: BTreeMap<&str, [u64; 2]> = BTreeMap::new();
    let mut report = Report { verdict: Verdict::Good, ..Report::skipped(fault, how, "") };
    report.plan = format!("{} commands, each struck once", cases.len());
    let (mut others, mut met, mut missing) = (vec![], 0, 0);
    let run = |case: &Case<'_>| {
        let mut counts = Counts::default();
        let verdict = (case.play)(&mut counts);
        (counts, verdict)
    };
    let mut cases_left = cases.iter();
    several::in_order(cases, WORKERS, run, |(counts, verdict)| {
        let Some(case) = cases_left.next() else { return };
        let kind = kinds.entry(&case.kind).or_default();
        kind[0] += counts.injected;
        kind[1] += u64::from(!matches!(verdict, Verdict::Skipped(_)));
        match (&verdict, counts.injected) {
            (Verdict::Good, 0) => others.push(format!("{}, {}: not met", case.kind, case.name)),
            (_, injected) => met += usize::from(injected > 0),
        }
        report.injected += counts.injected;
        report.detected += counts.noticed;
        report.repaired += counts.good;
        match verdict {
            Verdict::Good => {}
            Verdict::Skipped(needs) => {
                missing += 1;
                others.push(format!("{}, {}: skipped: needs {needs}", case.kind, case.name));
            }
            verdict => {
                others.push(format!("{}, {}: {verdict}", case.kind, case.name));
                report.verdict = std::mem::replace(&mut report.verdict, Verdict::Good).and(verdict);
            }
        }
    });
    report.log = kinds.iter().map(|(kind, [injected, all])| format!("{injected:5} of {all:3}  {kind}")).collect();
    report.log.extend(others);
    let unmet = kinds.iter().find(|(_, [injected, all])| *injected == 0 && *all >= KIND_MIN);
    if let (Verdict::Good, Some((kind, _))) = (&report.verdict, unmet) {
        report.verdict = Verdict::Failed(format!("no place was met of: {kind}"));
    }
    if report.verdict == Verdict::Good && met * MET_MIN < cases.len() - missing {
        report.verdict = Verdict::Failed(format!("only {met} of {} places were met", cases.len() - missing));
    }
    report.unless_vacuous()
}
