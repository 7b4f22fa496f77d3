//! Signals other than SIGKILL, and limits of the system that end a process: asked to stop, a closed stdout, a file
//! size limit, abort, segmentation fault, no memory. However a process ends, what it had made durable stays and the
//! same command finishes.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use super::campaign::arrived;
use super::{Counts, failed as harness_failed, summed};
use crate::rig::kill::Pair;
use crate::rig::process::{Finished, Running};
use crate::rig::scratch::Scratch;
use crate::rig::transfer::{Listens, Live, Setup, Side};
use crate::rig::{facility, oracle, process, trees};
use crate::verdict::{How, Report, Verdict};

/// Bytes a second while the signal has to hit the middle.
const RATE: u64 = 6 << 20;
/// How long a process may take to end after a signal.
const ENDING: Duration = Duration::from_secs(20);
/// How long a peer has to end because of it.
const PEER_ENDING: Duration = Duration::from_millis(1500);
/// From the last restart to the end.
const PATIENCE: Duration = Duration::from_secs(120);

/// One way to end, or to trouble, a process.
#[derive(Clone, Copy, Debug)]
pub enum Case {
    /// A signal that asks: exit code 128 and its number.
    Asks(Signal),
    /// A signal that must change nothing.
    Ignored(Signal),
    /// A signal that ends the process on the spot.
    Ends(Signal),
    /// A shell line below which it runs: a limit that it meets on the way.
    Below(&'static str, &'static str),
    /// Its stdout is a pipe that nobody reads.
    ClosedStdout,
}

/// What a user or a session manager does.
pub const POLITE: [Case; 6] = [
    Case::Asks(Signal::INT),
    Case::Asks(Signal::TERM),
    Case::Asks(Signal::HUP),
    Case::Ignored(Signal::PIPE),
    Case::ClosedStdout,
    Case::Below("file size limit (SIGXFSZ)", "ulimit -c 0; ulimit -f 4000; exec \"$@\""),
];

/// What a bug or a poor machine does. An abort stands for a panic, a segmentation fault for a stack that overflows.
pub const DEADLY: [Case; 4] = [
    Case::Ends(Signal::ABORT),
    Case::Ends(Signal::SEGV),
    Case::Ends(Signal::BUS),
    Case::Below("no memory", "ulimit -c 0; ulimit -v 45000; exec \"$@\""),
];

/// Each case on each side.
pub fn signals(fault: &str, cases: &[Case], seed: u64) -> Report {
    if let Err(why) = process::build_landfall() {
        return harness_failed(fault, why);
    }
    let scratch = Scratch::new("signals");
    let source = trees::medley(&scratch.join("source"), seed);
    let sides = |case: &Case| match case {
        Case::Below(..) => vec![(*case, Side::Receiver)],
        _ => vec![(*case, Side::Sender), (*case, Side::Receiver)],
    };
    let all: Vec<(Case, Side)> = cases.iter().flat_map(sides).collect();
    let results: Vec<(String, Counts, Verdict)> = std::thread::scope(|scope| {
        let (scratch, source) = (&scratch, &source);
        let started = all.into_iter().enumerate().map(|(number, (case, side))| {
            scope.spawn(move || {
                let mut setup = Setup::new(scratch, &format!("run-{number}"), &[source], Listens::Sender);
                setup.through_relay(seed).rate(RATE);
                let mut counts = Counts::default();
                let verdict = trouble(&setup, source, case, side, &mut counts);
                (format!("{case:?} at {side:?}"), counts, verdict)
            })
        });
        let started: Vec<_> = started.collect();
        started.into_iter().map(|case| case.join().expect("a panic ends the whole harness")).collect()
    });
    let report = Report {
        plan: "each signal to each side, at half way".to_owned(),
        reproduce: format!("cargo run --release -p fault-inject -- kill --signals --seed {seed:#x}"),
        ..Report::skipped(fault, How::Signal, "")
    };
    summed(report, results)
}

fn trouble(setup: &Setup, source: &Path, case: Case, side: Side, counts: &mut Counts) -> Verdict {
    let below = match case {
        Case::Below(_, line) => Some(["sh", "-c", line, "limited"]),
        Case::ClosedStdout => Some(["bash", "-c", "exec \"$@\" > >(exec true)", "closed"]),
        _ => None,
    };
    let command = |who: Side| {
        let command = setup.command(who);
        if let Some(words) = below.filter(|_| who == side) { command.below(&words) } else { command }
    };
    let (sender, receiver) = (command(Side::Sender).start(), command(Side::Receiver).start());
    let mut pair = Pair::of(Live { sender, receiver });
    let struck = match case {
        Case::Ignored(_) | Case::Asks(_) | Case::Ends(_) => strike(setup, &mut pair, case, side),
        Case::Below(..) => limited(&mut pair, side),
        Case::ClosedStdout => Ok(()),
    };
    if let Err(bad) = struck {
        return bad;
    }
    counts.injected += 1;
    setup.relay().rate(0);
    revive_all(setup, &mut pair);
    if let Err(stuck) = pair.wait(PATIENCE).and_then(|()| pair.success()) {
        return Verdict::Stuck(stuck);
    }
    let lives = pair.lives(side);
    let is_survivor = matches!(case, Case::Ignored(_) | Case::ClosedStdout);
    if matches!(case, Case::ClosedStdout) && lives.iter().any(|life| !life.stdout.is_empty()) {
        return Verdict::Failed("somebody read the stdout that was to be closed".to_owned());
    }
    let is_noticed = is_survivor || lives.last().is_some_and(|life| life.stdout_text().contains("\"resumed\""));
    counts.noticed += u64::from(is_noticed);
    let name = source.file_name().expect("the source has a name");
    match arrived(&oracle::snapshot(source), &setup.target, Path::new(name)) {
        Some(what) => Verdict::Wrong(what),
        None => {
            counts.good += 1;
            Verdict::Good
        }
    }
}

/// Sends the signal at half way, and looks at how the process took it and what stands afterwards.
fn strike(setup: &Setup, pair: &mut Pair, case: Case, side: Side) -> Result<(), Verdict> {
    let places = setup.places(usize::MAX);
    let slot = if side == Side::Sender { &mut pair.sender } else { &mut pair.receiver };
    let mut running: Running = slot.take().expect("both have just been started");
    let is_half = running
        .wait_until("half of it", PATIENCE, |_| places.look().staging_files > 0 && setup.relay().all_bytes() > 4 << 20);
    let before = places.look();
    let (Case::Asks(signal) | Case::Ignored(signal) | Case::Ends(signal)) = case else { return Ok(()) };
    if !is_half || !running.signal(signal) {
        return Err(Verdict::Failed("too quick for a signal".to_owned()));
    }
    if let Case::Ignored(_) = case {
        let slot = if side == Side::Sender { &mut pair.sender } else { &mut pair.receiver };
        let is_alive = !running.ends_within(Duration::from_millis(300));
        *slot = Some(running);
        return if is_alive { Ok(()) } else { Err(Verdict::Stuck(format!("{signal:?} ended it"))) };
    }
    // The runtime's own handler takes the first SIGSEGV or SIGBUS for a look at the stack's guard page, and leaves the
    // second one to the kernel.
    if matches!(case, Case::Ends(_)) && !running.ends_within(Duration::from_millis(50)) {
        running.signal(signal);
    }
    if !running.ends_within(ENDING) {
        return Err(Verdict::Stuck(format!("{signal:?} did not end it\n{}", running.describe("is running"))));
    }
    let ended = running.wait(ENDING);
    let is_right = match case {
        Case::Asks(_) => ended.code() == Some(128 + signal.as_raw()) || facility::is_ignored(signal),
        _ => ended.status.signal() == Some(signal.as_raw()),
    };
    if !is_right {
        return Err(Verdict::Stuck(format!("{case:?} ended it in another way\n{}", ended.describe())));
    }
    if ended.code() == Some(0) {
        // Whoever runs us ignores the signal (`nohup`), and so does what we start: it went on to its end.
        pair.ended.push((side, ended));
        return Ok(());
    }
    let after = places.look();
    pair.killed.push((side, ended));
    let is_kept = after.staging_bytes >= before.staging_bytes || after.sealed_files > before.sealed_files;
    if is_kept { Ok(()) } else { Err(Verdict::Stuck(format!("{signal:?} cost progress: {before:?}, {after:?}"))) }
}

/// A process below a limit has to end by itself, and not well.
fn limited(pair: &mut Pair, side: Side) -> Result<(), Verdict> {
    let slot = if side == Side::Sender { &mut pair.sender } else { &mut pair.receiver };
    let mut running = slot.take().expect("both have just been started");
    if !running.ends_within(PATIENCE) {
        return Err(Verdict::Stuck(format!("neither done nor ended\n{}", running.describe("is running"))));
    }
    let ended: Finished = running.wait(ENDING);
    if ended.code() == Some(0) {
        return Err(Verdict::Failed(format!("the limit was not met\n{}", ended.describe())));
    }
    pair.killed.push((side, ended));
    Ok(())
}

/// Starts what is down, the peer included if it has ended because of the other one.
fn revive_all(setup: &Setup, pair: &mut Pair) {
    let started = std::time::Instant::now();
    while started.elapsed() < PEER_ENDING && pair.killed.len() + pair.ended.len() < 2 && pair.is_running() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let (done, again): (Vec<_>, Vec<_>) =
        std::mem::take(&mut pair.ended).into_iter().partition(|(_, ended)| ended.code() == Some(0));
    pair.ended = done;
    pair.killed.extend(again);
    pair.revive(setup, |_| false);
}
