//! Peers that break every rule, and users of the machine who plant what they can: by hand, against the shipped
//! binary, over its real transport. A case says what it does, what the binary has to answer, and what may stand in
//! the target afterwards; that nothing outside changed, that no memory was spent and that nothing was printed which
//! a terminal would obey holds for all of them. Nothing here knows how the product does it.

pub mod act;
pub mod announce;
pub mod caller;
pub mod door;
pub mod exchange;
pub mod far;
pub mod greetings;
pub mod ground;
pub mod host;
pub mod keys;
pub mod lies;
pub mod line;
pub mod names;
pub mod pipe;
pub mod planted;
pub mod races;
pub mod receipts;
pub mod rows;
pub mod sessions;
mod speeches;
pub mod stage;
pub mod words;

use rand::RngCore;

use crate::rng::stream;
use crate::several;
use crate::verdict::{How, Report, Verdict};
use keys::Key;
pub use rows::row;
use stage::{Script, Seen};

/// Cases that run at the same time.
const WORKERS: usize = 6;

/// One case.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its name.
    pub name: String,
    /// The attack class that it belongs to: the number after the S.
    pub class: u8,
    /// What is done.
    pub attack: Attack,
}

/// What a case does.
#[derive(Clone, Debug)]
pub enum Attack {
    /// A script on one connection.
    Script(Box<Script>),
    /// A stranger at the door, and an honest peer after it.
    Stranger(Box<door::Stranger>),
    /// Something planted where the binary looks.
    Planted(planted::Where),
    /// Something that takes several connections.
    Session(sessions::Session),
    /// A name that is swapped while the binary uses it.
    Race(races::Race),
    /// A far end of a dry run or a deletion.
    Pipe(Box<pipe::Pipe>),
    /// A caller at the door of `recv --lan`.
    Caller(caller::Visit),
    /// A host that `send --lan` finds.
    Host(host::Deed),
}

/// A case that is a script.
fn case(name: impl Into<String>, class: u8, script: Script) -> Case {
    Case { name: name.into(), class, attack: Attack::Script(Box::new(script)) }
}

/// Every case, with as many swaps to a race as a whole run makes.
pub fn cases() -> Vec<Case> {
    cases_with(races::SWAPS)
}

/// Every case, with so many swaps to a race.
pub fn cases_with(swaps: u64) -> Vec<Case> {
    let scripts = [names::cases(), lies::cases(), receipts::cases(), greetings::cases()].concat();
    [
        scripts,
        door::cases(),
        sessions::cases(),
        planted::cases(),
        pipe::cases(),
        caller::cases(),
        host::cases(),
        races::cases(swaps),
    ]
    .concat()
}

/// Whether a name matches a pattern in which `*` stands for anything.
pub fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, between)) = parts.split_last() else { return rest.is_empty() };
    for part in between {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// Runs cases, several at a time; `told` hears of each. Reports come in the order of the cases.
pub fn run(cases: &[Case], seed: u64, told: &(dyn Fn(&Report) + Sync)) -> Vec<Report> {
    let mut reports = vec![];
    several::in_order(
        cases,
        WORKERS,
        |case| run_one(case, seed),
        |report| {
            told(&report);
            reports.push(report);
        },
    );
    reports
}

/// Runs one case.
pub fn run_one(case: &Case, seed: u64) -> Report {
    let mut bytes = [0; 32];
    stream(seed, &case.name).fill_bytes(&mut bytes);
    let key = Key::new(bytes);
    let seen = match &case.attack {
        Attack::Script(script) => stage::perform(script, &key),
        Attack::Stranger(stranger) => door::perform(stranger, &key, seed),
        Attack::Planted(at) => planted::perform(*at, &key),
        Attack::Session(session) => sessions::perform(*session, &key),
        Attack::Race(race) => races::perform(race, &key, seed),
        Attack::Pipe(pipe) => pipe::perform(pipe),
        Attack::Caller(visit) => caller::perform(*visit, key.public().0, seed),
        Attack::Host(deed) => host::perform(*deed, key.public().0, seed),
    };
    report_of(&case.name, case.class, seed, seen)
}

/// What was seen, as the harness reports it.
fn report_of(name: &str, class: u8, seed: u64, seen: Seen) -> Report {
    let verdict = match (&seen.failed, seen.wrongs.first(), seen.complaints.first()) {
        _ if seen.lacks.is_some() => Verdict::Skipped(seen.lacks.clone().unwrap_or_default()),
        (_, Some(wrong), _) => Verdict::Wrong(wrong.clone()),
        (Some(why), ..) => Verdict::Failed(why.clone()),
        (_, _, Some(missing)) => Verdict::Stuck(missing.clone()),
        _ => Verdict::Good,
    };
    let injected = if seen.happened { seen.cells } else { 0 };
    let noticed = if seen.cells == 1 { u64::from(seen.noticed) } else { seen.noticed_cells };
    Report {
        fault: format!("S{class} {name}"),
        how: How::Script,
        injected,
        detected: if seen.happened { noticed } else { 0 },
        // Most attacks leave nothing to repair: they are refused, and that is all.
        repaired: if verdict == Verdict::Good { seen.survived.min(injected) } else { 0 },
        verdict,
        plan: format!("seed={seed:#x} case={name}"),
        log: seen.log,
        reproduce: format!("cargo run -p fault-inject -- hostile --case {name} --seed {seed:#x}"),
    }
    .unless_vacuous()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_patterns_find_them() {
        let cases = cases();
        let mut names: Vec<&str> = cases.iter().map(|case| case.name.as_str()).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count, "two cases share a name");
        for (pattern, name, is_match) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "ab", true),
            ("*b", "ab", true),
            ("a*c*e", "abcde", true),
            ("a*c*e", "abcd", false),
            ("*", "", true),
        ] {
            assert_eq!(matches(pattern, name), is_match, "{pattern} {name}");
        }
    }
}
