//! SIGSTOP of one side in the middle, and a second process that wants the same transfer meanwhile. The sleeper holds
//! its lock, so the second one has to be refused, without ever having a staging file open; after SIGCONT the first
//! one finishes, even where its peer has given the link up.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::campaign::arrived;
use super::{Counts, failed, summed};
use crate::rig::process::{Landfall, Running};
use crate::rig::scratch::Scratch;
use crate::rig::transfer::{BOTH_DIRECTIONS, Live, Setup, Side};
use crate::rig::{oracle, process, trees};
use crate::verdict::{How, Report, Verdict};

/// Exit code of a process that another one keeps from its work.
const AGAIN: i32 = 3;
/// Bytes a second while the pause has to hit the middle.
const RATE: u64 = 6 << 20;
/// How long a second process may take to find that there is a first one.
const REFUSAL: Duration = Duration::from_secs(20);
/// From SIGCONT to the end.
const PATIENCE: Duration = Duration::from_secs(120);

/// Stops each side in each direction for each of these times.
pub fn pauses(seed: u64, lengths: &[Duration]) -> Report {
    let fault = "SIGSTOP, a second process, SIGCONT";
    if let Err(why) = process::build_landfall() {
        return failed(fault, why);
    }
    let scratch = Scratch::new("pauses");
    let source = trees::medley(&scratch.join("source"), seed);
    let cases = lengths.iter().flat_map(|length| {
        let sides = [Side::Sender, Side::Receiver].into_iter();
        sides.flat_map(move |side| BOTH_DIRECTIONS.into_iter().map(move |listens| (*length, side, listens)))
    });
    let cases: Vec<_> = cases.enumerate().collect();
    let results: Vec<(String, Counts, Verdict)> = std::thread::scope(|scope| {
        let (scratch, source) = (&scratch, &source);
        let started: Vec<_> = cases
            .into_iter()
            .map(|(number, (length, side, listens))| {
                scope.spawn(move || {
                    let mut setup = Setup::new(scratch, &format!("run-{number}"), &[source], listens);
                    setup.through_relay(seed).rate(RATE);
                    let mut counts = Counts::default();
                    let verdict = pause(&setup, source, side, length, &mut counts);
                    (format!("{side:?} for {length:?}, {listens:?} listens"), counts, verdict)
                })
            })
            .collect();
        started.into_iter().map(|case| case.join().expect("a panic ends the whole harness")).collect()
    });
    let report = Report {
        plan: "each side in each direction, at half way".to_owned(),
        reproduce: format!("cargo run --release -p fault-inject -- kill --stop --seed {seed:#x}"),
        ..Report::skipped(fault, How::Signal, "")
    };
    summed(report, results)
}

fn pause(setup: &Setup, source: &Path, side: Side, length: Duration, counts: &mut Counts) -> Verdict {
    let mut live = setup.start();
    let places = setup.places(usize::MAX);
    let is_half = live
        .receiver
        .wait_until("half of it", PATIENCE, |_| places.look().staging_files > 0 && setup.relay().all_bytes() > 4 << 20);
    if !is_half {
        return Verdict::Failed(format!("too quick to be stopped\n{}", live.receiver.describe("ended")));
    }
    let began = Instant::now();
    if !live.side(side).signal(Signal::STOP) || !is_stopped(live.side(side)) {
        return Verdict::Failed("SIGSTOP did not stop the process".to_owned());
    }
    counts.injected += 1;
    let second = second(setup, side);
    std::thread::sleep(length.saturating_sub(began.elapsed()));
    live.side(side).signal(Signal::CONT);
    match second {
        Verdict::Good => counts.noticed += 1,
        bad => return bad,
    }
    setup.relay().rate(0);
    finish(setup, source, live, counts)
}

fn finish(setup: &Setup, source: &Path, mut live: Live, counts: &mut Counts) -> Verdict {
    if !live.sender.ends_within(PATIENCE) || !live.receiver.ends_within(PATIENCE) {
        let sides = [&live.sender, &live.receiver].map(|side| side.describe("is running"));
        return Verdict::Stuck(format!("not done after SIGCONT\n{}", sides.join("\n")));
    }
    let done = live.wait(PATIENCE);
    if (done.sender.code(), done.receiver.code()) != (Some(0), Some(0)) {
        return Verdict::Stuck(format!("after SIGCONT\n{}", done.describe()));
    }
    let name = source.file_name().expect("the source has a name");
    match arrived(&oracle::snapshot(source), &setup.target, Path::new(name)) {
        Some(what) => Verdict::Wrong(what),
        None => {
            counts.good += 1;
            Verdict::Good
        }
    }
}

fn is_stopped(running: &Running) -> bool {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", running.id())).unwrap_or_default();
        if stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T')) {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The same command again, while the first process sleeps: it must be refused, and never hold a staging file.
fn second(setup: &Setup, side: Side) -> Verdict {
    let command: Landfall = setup.command(side);
    let mut second = command.start();
    let deadline = Instant::now() + REFUSAL;
    while !second.has_ended() {
        if let Some(path) = staging_file_of(second.id()) {
            return Verdict::Wrong(format!("a second process has {path} open\n{}", second.describe("is running")));
        }
        if Instant::now() > deadline {
            return Verdict::Stuck(format!("a second process is not refused\n{}", second.describe("is running")));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let ended = second.wait(REFUSAL);
    let is_refused = ended.code() == Some(AGAIN) && ended.text().contains("another landfall");
    if is_refused {
        Verdict::Good
    } else {
        Verdict::Wrong(format!("a second process was let in\n{}", ended.describe()))
    }
}

fn staging_file_of(process: u32) -> Option<String> {
    let open = std::fs::read_dir(format!("/proc/{process}/fd")).ok()?.flatten();
    let mut paths = open.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    paths
        .find(|path| path.components().any(|part| part.as_os_str() == "staging") && path.is_file())
        .map(|path| path.display().to_string())
}
