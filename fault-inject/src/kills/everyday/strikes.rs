//! One command, all that it starts, and where one of these processes dies.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::rig::process::{Finished, Landfall, Running};
use crate::rig::scratch::Scratch;
use crate::rig::transfer::Side;
use crate::rig::{held, state};
use crate::syscalls::points::sampled;
use crate::syscalls::trace::{LEFT_OUT, Trace, missing, name_of};
use crate::syscalls::{Fault, Point};
use crate::verdict::Verdict;

/// A command that has not ended by then hangs.
const LIFE: Duration = Duration::from_secs(60);

/// A traced command that goes on for so long is stopped, as its user would stop it: what it starts anew is met anew.
const STRUCK_LIFE: Duration = Duration::from_secs(4);

/// How long a child is looked for.
const CHILD: Duration = Duration::from_millis(100);

/// Who dies of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Victim {
    /// The process that was typed.
    Command,
    /// What it has started.
    Child,
    /// Both.
    Both,
}

impl Victim {
    pub(super) const ALL: [Victim; 3] = [Victim::Command, Victim::Child, Victim::Both];
}

/// The calls of each thread of a command and of what it starts, in a run without kills.
pub(super) struct Calls(Vec<Vec<String>>);

impl Calls {
    /// Runs a command once. `Skipped` where nothing can be traced.
    pub(super) fn of(scratch: &Scratch, name: &str, command: &Landfall) -> Result<(Calls, Finished), Verdict> {
        if let Some(needs) = missing() {
            return Err(Verdict::Skipped(needs));
        }
        let trace = Trace::new(scratch.join(name)).map_err(|error| Verdict::Failed(error.to_string()))?;
        let finished = ended(below(command, &trace.counting()).start())?;
        Ok((Calls(trace.threads()), finished))
    }

    /// So many places among the calls of threads for which `from` says at which call they begin to count. Only calls whose
    /// number no other thread reaches, so that it is this one which dies there.
    pub(super) fn own(&self, from: impl Fn(&[String]) -> Option<usize>, runs: usize, seed: u64) -> Vec<Point> {
        let counts: Vec<BTreeMap<&str, u32>> = self.0.iter().map(|thread| numbered(thread).1).collect();
        let mut groups: BTreeMap<&str, Vec<Point>> = BTreeMap::new();
        for (at, thread) in self.0.iter().enumerate() {
            let Some(from) = from(thread) else { continue };
            let reached = |name: &str| {
                let others = counts.iter().enumerate().filter(|(other, _)| *other != at);
                others.filter_map(|(_, counts)| counts.get(name)).max().copied().unwrap_or(0)
            };
            for (name, nth) in numbered(thread).0.into_iter().skip(from).flatten() {
                if nth > reached(name) {
                    groups.entry(name).or_default().push(kill(name, nth));
                }
            }
        }
        sampled(&groups.into_values().collect::<Vec<_>>(), runs, seed)
    }

    /// So many places among all calls of all threads.
    pub(super) fn any(&self, runs: usize, seed: u64) -> Vec<Point> {
        let mut most: BTreeMap<&str, u32> = BTreeMap::new();
        for (name, count) in self.0.iter().flat_map(|thread| numbered(thread).1) {
            let most = most.entry(name).or_default();
            *most = count.max(*most);
        }
        let groups = most.into_iter().map(|(name, most)| (1..=most).map(|nth| kill(name, nth)).collect());
        sampled(&groups.collect::<Vec<_>>(), runs, seed)
    }
}

fn kill(name: &str, nth: u32) -> Point {
    // The side is of no account here: it is a command with both.
    Point { side: Side::Sender, call: name.to_owned(), fault: Fault::Kill, nth, on_source: false, is_lasting: false }
}

/// A call by name, and its number in its thread.
type Nth<'a> = (&'a str, u32);

/// Each line of a thread as a call, where it is one; and how many of each there are.
fn numbered(thread: &[String]) -> (Vec<Option<Nth<'_>>>, BTreeMap<&str, u32>) {
    let mut counts = BTreeMap::new();
    let lines = thread
        .iter()
        .map(|line| {
            let name = name_of(line).filter(|name| !LEFT_OUT.contains(name))?;
            let count = counts.entry(name).or_insert(0);
            *count += 1;
            Some((name, *count))
        })
        .collect();
    (lines, counts)
}

/// Runs a command of which one process dies at a call. The call, if one did.
pub(super) fn struck(
    scratch: &Scratch,
    name: &str,
    command: &Landfall,
    point: &Point,
) -> Result<(Finished, Option<String>), Verdict> {
    let dir = scratch.join(&format!("{name}-trace"));
    let trace = Trace::new(dir.clone()).map_err(|error| Verdict::Failed(error.to_string()))?;
    let mut running = below(command, &trace.hurting(point, Path::new(""), 0)).start();
    if !running.ends_within(STRUCK_LIFE) {
        // The tracer ends with the last that it traces.
        kill_children(&running);
    }
    let finished = ended(running)?;
    let hit = trace.hits(point).lines.into_iter().next();
    held::remove_all_below(&held::open_dir(&dir));
    Ok((finished, hit))
}

fn below(command: &Landfall, words: &[String]) -> Landfall {
    command.clone().below(&words.iter().map(String::as_str).collect::<Vec<_>>())
}

/// The end of a command, which has to come.
pub(super) fn ended(mut running: Running) -> Result<Finished, Verdict> {
    if running.ends_within(LIFE) {
        return Ok(running.wait(LIFE));
    }
    let stuck = running.describe("does not end");
    // What is traced would live on without its tracer.
    kill_children(&running);
    running.kill();
    Err(Verdict::Stuck(stuck))
}

fn kill_children(running: &Running) {
    for child in children(running.id()) {
        // One that has ended meanwhile needs no signal.
        let _ = rustix::process::kill_process(child, Signal::KILL);
    }
}

/// Kills who is to die, if he is alive, and waits for the end of the command. Whether somebody died of it.
pub(super) fn killed(mut running: Running, victim: Victim) -> Result<(Finished, bool), Verdict> {
    let mut is_dead = victim != Victim::Command && kill_a_child(&mut running);
    if victim != Victim::Child {
        running.signal(Signal::KILL);
    }
    let finished = ended(running)?;
    is_dead |= victim != Victim::Child && finished.was_killed();
    Ok((finished, is_dead))
}

/// Kills what a command has started, as soon as it shows: the kernel may leave a child out while threads come and go.
fn kill_a_child(running: &mut Running) -> bool {
    let is_killed = |child: Pid| is_alive(child) && rustix::process::kill_process(child, Signal::KILL).is_ok();
    let kill = |running: &Running| children(running.id()).into_iter().filter(|child| is_killed(*child)).count() > 0;
    let began = Instant::now();
    while began.elapsed() < CHILD && !running.has_ended() {
        if kill(running) {
            return true;
        }
    }
    false
}

/// Processes that a thread of this one has started, and that are not reaped.
fn children(parent: u32) -> Vec<Pid> {
    let threads = state::entries(Path::new(&format!("/proc/{parent}/task"))).into_iter();
    let text = threads.map(|thread| std::fs::read_to_string(thread.join("children")).unwrap_or_default());
    let ids: Vec<String> =
        text.flat_map(|text| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect();
    ids.iter().filter_map(|id| Pid::from_raw(id.parse().ok()?)).collect()
}

fn is_alive(process: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero())).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}
