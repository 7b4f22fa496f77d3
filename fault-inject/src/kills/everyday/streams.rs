//! Both ends of a pipe: `send -` and `recv --stdout`, killed, their other side killed, their reader gone, their writer dead,
//! their input failing. Exit 0 of `recv --stdout` says that the whole file came out of the pipe; of what was not read to
//! its end nothing is sent; and what was is resumed without it.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rand::RngCore;
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};

use super::strikes::{Calls, Victim, ended, killed, struck};
use super::{Amount, Case, play};
use crate::kills::{Counts, failed};
use crate::rig::process::{self, Finished, Landfall, Running};
use crate::rig::scratch::Scratch;
use crate::rig::{held, state};
use crate::rng::stream;
use crate::syscalls::Point;
use crate::syscalls::trace::missing;
use crate::verdict::{How, Report, Verdict};

const FAULT: &str = "either end of a pipe killed, closed or failing";
/// Places in each of the two commands.
const CALLS: usize = 48;
/// Bytes of what goes through: some chunks, and a rest.
const LENGTH: usize = (5 << 20) + 13;
/// What a reader takes before it goes away. A pipe takes 64 KiB more than that.
const TAKEN: [usize; 4] = [0, 1, 1 << 20, LENGTH - (200 << 10)];
/// Bytes that a writer has written when it dies, or when the command does.
const WRITTEN: usize = 3 << 20;
/// How often a command is run until it says 0.
const LIVES_MAX: usize = 8;
/// Between two lives.
const PAUSE: Duration = Duration::from_millis(50);
/// Until what a signal waits for shows.
const PATIENCE: Duration = Duration::from_secs(60);

/// Row 80: pipes.
pub(super) fn report(amount: Amount, seed: u64) -> Report {
    if let Err(why) = process::build_landfall() {
        return failed(FAULT, why);
    }
    let ground = Ground::new(amount, seed);
    let mut cases = ground.out_at_calls();
    cases.extend(ground.out());
    cases.extend(ground.in_at_calls());
    cases.extend(ground.inward());
    play(FAULT, How::Strace, &cases)
}

struct Ground {
    content: Vec<u8>,
    amount: Amount,
    seed: u64,
    scratch: Scratch,
}

/// One home, one file, one target.
struct Stand<'a> {
    ground: &'a Ground,
    base: PathBuf,
}

impl Ground {
    fn new(amount: Amount, seed: u64) -> Ground {
        let mut content = vec![0; LENGTH];
        stream(seed, "content").fill_bytes(&mut content);
        Ground { content, amount, seed, scratch: Scratch::new("pipes") }
    }

    fn stand(&self, name: &str) -> Stand<'_> {
        let base = self.scratch.dir(name);
        write(&base.join("file"), &self.content);
        Stand { ground: self, base }
    }

    fn case<'a>(
        &'a self,
        kind: &str,
        label: &str,
        play: impl Fn(&Stand<'a>, &mut Counts) -> Result<(), Verdict> + Sync + 'a,
    ) -> Case<'a> {
        let name: String = format!("{kind}-{label}").replace(|letter: char| !letter.is_ascii_alphanumeric(), "-");
        Case::new(kind, label.to_owned(), move |counts| {
            let stand = self.stand(&name);
            match play(&stand, counts) {
                Ok(()) => {
                    held::remove_all_below(&held::open_dir(&stand.base));
                    Verdict::Good
                }
                Err(bad) => bad,
            }
        })
    }

    /// Deaths of `recv --stdout`, or of its sender, at any call.
    fn out_at_calls(&self) -> Vec<Case<'_>> {
        let (kind, stand) = ("recv --stdout, any call", self.stand("count-out"));
        let counted = Calls::of(&self.scratch, "count-out-trace", &stand.recv());
        let (calls, _) = match counted.and_then(|(calls, done)| Ok((calls, stand.came_out(&done)?))) {
            Ok(counted) => counted,
            Err(why) => return vec![Case::new(kind, String::new(), move |_| why.clone())],
        };
        let case = |point: Point| {
            self.case(kind, &format!("{} {}", point.call, point.nth), move |stand, counts| {
                let name = format!("out-{}-{}", point.call, point.nth);
                let (first, hit) = struck(&self.scratch, &name, &stand.recv(), &point)?;
                stand.write_out(&first, hit.is_some(), counts)
            })
        };
        calls.any(self.amount.of(CALLS), self.seed).into_iter().map(case).collect()
    }

    fn out(&self) -> Vec<Case<'_>> {
        let mut cases = vec![];
        for taken in TAKEN.into_iter().rev().take(self.amount.of(TAKEN.len())) {
            let kind = "recv --stdout, its reader goes away";
            cases.push(self.case(kind, &format!("after {taken} bytes"), move |stand, counts| {
                let first = stand.read_by_head(taken)?;
                if first.stdout != self.content[..taken] {
                    return wrong("a reader that went away had something else than the file's beginning", &first);
                }
                if first.code() != Some(1) || !first.stderr_text().contains("standard output took only") {
                    return amiss("a reader that went away is not told of with 1", &first);
                }
                stand.write_out(&first, true, counts)
            }));
        }
        for is_resumed in [false, true] {
            let label = format!("in a write, then {}", if is_resumed { "resume" } else { "the same command" });
            cases.push(self.case("recv --stdout, killed", &label, move |stand, counts| {
                let (running, pipe) = stand.in_a_write()?;
                let (first, is_dead) = killed(running, Victim::Command)?;
                drop(pipe);
                if is_resumed {
                    stand.resume_out(&first, is_dead, counts)
                } else {
                    stand.write_out(&first, is_dead, counts)
                }
            }));
        }
        for victim in Victim::ALL {
            cases.push(self.case("recv --stdout --from, on the way", &format!("{victim:?}"), move |stand, counts| {
                let mut running = stand.recv().args(["--limit", "4MB"]).start();
                running.wait_until("a staging file", PATIENCE, |_| stand.has_staging("streams"));
                let (first, is_dead) = killed(running, victim)?;
                stand.write_out(&first, is_dead, counts)
            }));
        }
        for comes_back in [true, false].into_iter().take(self.amount.of(2)) {
            let label = if comes_back { "and it comes back" } else { "for good" };
            cases.push(self.case("recv --stdout --ticket-file, its sender is killed", label, move |stand, counts| {
                stand.lose_sender(comes_back, counts)
            }));
        }
        cases
    }

    /// Deaths of `send -`, or of its receiver, at any call.
    fn in_at_calls(&self) -> Vec<Case<'_>> {
        let (kind, stand) = ("send -, any call", self.stand("count-in"));
        let counted = Calls::of(&self.scratch, "count-in-trace", &stand.send(&self.content));
        let (calls, _) = match counted.and_then(|(calls, done)| Ok((calls, stand.went_in(&done, &self.content)?))) {
            Ok(counted) => counted,
            Err(why) => return vec![Case::new(kind, String::new(), move |_| why.clone())],
        };
        let case = |point: Point| {
            self.case(kind, &format!("{} {}", point.call, point.nth), move |stand, counts| {
                let name = format!("in-{}-{}", point.call, point.nth);
                let (first, hit) = struck(&self.scratch, &name, &stand.send(&self.content), &point)?;
                stand.read_in(&first, hit.is_some(), counts)
            })
        };
        calls.any(self.amount.of(CALLS), self.seed ^ 1).into_iter().map(case).collect()
    }

    fn inward(&self) -> Vec<Case<'_>> {
        let mut cases = vec![
            self.case("send -, killed", "before the end of its input", Stand::killed_at_input),
            self.case("send -, its writer is killed", "", Stand::writer_killed),
            self.case("send -, its input fails", "a directory", |stand, counts| {
                let first = ended(at(&stand.send(b""), "<", &stand.base).start())?;
                stand.input_failed(&first, true, counts)
            }),
            self.case("send -, its input fails", "after some of it", Stand::input_fails_later),
        ];
        for victim in Victim::ALL {
            for is_other in [false, true] {
                let then = if is_other { "other input" } else { "resume" };
                let label = format!("{victim:?}, then {then}");
                cases.push(self.case("send -, on the way", &label, move |stand, counts| {
                    stand.killed_on_the_way(victim, is_other, counts)
                }));
            }
        }
        cases
    }
}

impl Stand<'_> {
    fn landfall(&self) -> Landfall {
        Landfall::new("pipe", &self.base.join("home"))
    }

    fn recv(&self) -> Landfall {
        self.landfall().args(["recv", "--stdout", "--from"]).arg(self.base.join("file"))
    }

    fn send(&self, input: &[u8]) -> Landfall {
        self.landfall().args(["send", "-", "--name", "name", "--to"]).arg(self.base.join("in")).input(input)
    }

    /// Whether something has come, below a directory of the home or the target.
    fn has_staging(&self, below: &str) -> bool {
        let dir = if below == "in" { self.base.join("in") } else { self.base.join("home").join(below) };
        files(&dir)
            .iter()
            .any(|path| path.parent().is_some_and(|parent| parent.ends_with("staging")) && state::data_bytes(path) > 0)
    }

    /// What a life of `recv --stdout` has written: all, or not 0 and a part.
    fn came_out(&self, life: &Finished) -> Result<Finished, Verdict> {
        let content = &self.ground.content;
        if life.code() == Some(0) && life.stdout != *content {
            return wrong("0 was said, and the pipe had something else than the file", life);
        }
        if !content.starts_with(&life.stdout) {
            return wrong("the pipe had something that the file has not", life);
        }
        Ok(life.clone())
    }

    /// After a life: the same command again, until it says 0, writes all.
    fn write_out(&self, first: &Finished, is_struck: bool, counts: &mut Counts) -> Result<(), Verdict> {
        let first = self.came_out(first)?;
        self.until_done(first, &|| self.came_out(&ended(self.recv().start())?), is_struck, counts)
    }

    /// The same with `landfall resume ID`.
    fn resume_out(&self, first: &Finished, is_struck: bool, counts: &mut Counts) -> Result<(), Verdict> {
        let first = self.came_out(first)?;
        let id = self.open_transfer("receiver").ok_or_else(|| Verdict::Stuck(first.describe()))?;
        let resume = || self.came_out(&ended(self.landfall().args(["resume", &id]).start())?);
        self.until_done(first, &resume, is_struck, counts)
    }

    /// A transfer that a side has on record.
    fn open_transfer(&self, role: &str) -> Option<String> {
        let all = state::entries(&self.base.join("home/transfers"));
        let open = all.into_iter().find(|path| path.join(role).join("transfer").exists())?;
        Some(open.file_name()?.to_string_lossy().into_owned())
    }

    fn until_done(
        &self,
        mut last: Finished,
        again: &dyn Fn() -> Result<Finished, Verdict>,
        is_struck: bool,
        counts: &mut Counts,
    ) -> Result<(), Verdict> {
        counts.injected += u64::from(is_struck);
        let is_noticed = last.code() != Some(0) || last.stderr_text().contains("lost");
        for _ in 0..=LIVES_MAX {
            if last.code() == Some(0) {
                counts.noticed += u64::from(is_struck && is_noticed);
                counts.good += u64::from(is_struck);
                return Ok(());
            }
            std::thread::sleep(PAUSE);
            last = again()?;
        }
        Err(Verdict::Stuck(format!("not 0 after {LIVES_MAX} lives\n{}", last.describe())))
    }

    /// `recv --stdout | head -c N`, with the code of the first.
    fn read_by_head(&self, taken: usize) -> Result<Finished, Verdict> {
        let script = format!("\"$0\" \"$@\" | head -c {taken}");
        ended(self.recv().below(&["bash", "-o", "pipefail", "-c", &script]).start())
    }

    /// A `recv --stdout` that has received all, and is stuck in a write.
    fn in_a_write(&self) -> Result<(Running, File), Verdict> {
        let (path, mut pipe) = self.pipe();
        let mut running = at(&self.recv(), ">", &path).start();
        let has_bytes = |pipe: &File| rustix::io::ioctl_fionread(pipe).is_ok_and(|count| count > 0);
        let has_begun = running.wait_until("a byte in the pipe", PATIENCE, |_| has_bytes(&pipe));
        let mut first = [0];
        let is_out = has_begun && pipe.read_exact(&mut first).is_ok() && first[0] == self.ground.content[0];
        if is_out && !running.has_ended() {
            Ok((running, pipe))
        } else {
            Err(Verdict::Stuck(running.describe("is running")))
        }
    }

    /// A pipe with a name, held open at both ends.
    fn pipe(&self) -> (PathBuf, File) {
        let path = self.base.join("pipe");
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
            .unwrap_or_else(|error| panic!("a pipe: {error}"));
        let pipe = OpenOptions::new().read(true).write(true).open(&path);
        (path.clone(), pipe.unwrap_or_else(|error| panic!("{}: {error}", path.display())))
    }

    /// A receiver that dials, whose sender dies on the way.
    fn lose_sender(&self, comes_back: bool, counts: &mut Counts) -> Result<(), Verdict> {
        let ticket = self.base.join("ticket");
        let sender = || {
            let sender = Landfall::new("sender", &self.base.join("far")).arg("send").arg(self.base.join("file"));
            let sender = sender.args(["--listen", "127.0.0.1:0", "--limit", "4MB", "--write-ticket"]).arg(&ticket);
            sender.start()
        };
        let sending = sender().wait_for_ticket(&ticket);
        let recv = self.landfall().args(["recv", "--stdout", "--patience", "5s", "--ticket-file"]).arg(&ticket);
        let mut running = recv.start();
        running.wait_until("a staging file", PATIENCE, |_| self.has_staging("streams"));
        let is_dead = sending.kill().was_killed();
        let sending = comes_back.then(sender);
        let first = self.came_out(&ended(running)?)?;
        if !comes_back && !first.stdout.is_empty() {
            return wrong("the sender is gone, and something was written", &first);
        }
        if !comes_back && first.code() != Some(3) {
            return amiss("the sender is gone, and it is not 3", &first);
        }
        let sending = sending.unwrap_or_else(sender);
        let again = || self.came_out(&ended(recv.start())?);
        self.until_done(first, &again, is_dead, counts)?;
        ended(sending).map(drop)
    }

    /// Whatever a life of `send -` has left: nothing under the name, or all that went in, which is what a receipt needs.
    fn went_in(&self, life: &Finished, input: &[u8]) -> Result<Finished, Verdict> {
        let arrived = std::fs::read(self.base.join("in/name")).ok();
        let has_receipt = !state::receipts(&self.base.join("home")).is_empty();
        if arrived.as_deref().is_some_and(|arrived| arrived != input) {
            return wrong("something else than the input has its name", life);
        }
        if arrived.is_none() && (has_receipt || life.code() == Some(0)) {
            return wrong("there is a receipt, or 0, and no file", life);
        }
        Ok(life.clone())
    }

    /// After a life: what was read to its end is resumed without it, else the same command reads it again.
    fn read_in(&self, first: &Finished, is_struck: bool, counts: &mut Counts) -> Result<(), Verdict> {
        let input = &self.ground.content;
        let first = self.went_in(first, input)?;
        let resume = || {
            let resumed = ended(self.landfall().arg("resume").start())?;
            if resumed.text().contains("nothing to resume") {
                return self.went_in(&ended(self.send(input).start())?, input);
            }
            self.went_in(&resumed, input)
        };
        self.until_done(first, &resume, is_struck, counts)
    }

    /// Nothing was sent, and there is nothing to resume.
    fn nothing_sent(&self, life: &Finished) -> Result<(), Verdict> {
        let receipts = state::receipts(&self.base.join("home"));
        let resumed = ended(self.landfall().arg("resume").start())?;
        if self.base.join("in").exists() || !receipts.is_empty() || !resumed.text().contains("nothing to resume") {
            return wrong("it was not read to its end, and something was sent, or is to be", life);
        }
        Ok(())
    }

    fn killed_at_input(&self, counts: &mut Counts) -> Result<(), Verdict> {
        let (path, mut pipe) = self.pipe();
        let mut running = at(&self.send(b""), "<", &path).start();
        fill(&mut pipe, &self.ground.content[..WRITTEN]);
        let is_there = |path: &PathBuf| path.ends_with("unfinished") && state::data_bytes(path) > 0;
        let home = self.base.join("home");
        running.wait_until("a part of it on disk", PATIENCE, |_| files(&home).iter().any(is_there));
        let (first, is_dead) = killed(running, Victim::Command)?;
        drop(pipe);
        self.nothing_sent(&first)?;
        self.read_in(&first, is_dead, counts)
    }

    /// A writer that dies looks like one that has ended, as is stated: what it wrote arrives, all of it and no more.
    fn writer_killed(&self, counts: &mut Counts) -> Result<(), Verdict> {
        let script = format!("head -c {WRITTEN} {}; kill -9 $$", self.base.join("file").display());
        let line = format!("sh -c '{script}' | \"$0\" \"$@\"; echo \"${{PIPESTATUS[*]}}\" >&2");
        let life = ended(self.send(b"").below(&["bash", "-c", &line]).start())?;
        let codes = life.stderr_text().lines().last().unwrap_or_default().to_owned();
        if codes != "137 0" {
            return Err(Verdict::Failed(format!("the writer did not die: {codes}\n{}", life.describe())));
        }
        counts.injected += 1;
        let written = &self.ground.content[..WRITTEN];
        self.went_in(&life, written)?;
        let text =
            state::receipts(&self.base.join("home")).iter().map(std::fs::read_to_string).collect::<Result<String, _>>();
        let digest = blake3::hash(written).to_hex().to_string();
        if !text.is_ok_and(|text| text.contains(&digest)) {
            return wrong("no receipt tells of what was written", &life);
        }
        // The shell tells the two apart; landfall cannot.
        counts.noticed += 1;
        counts.good += 1;
        Ok(())
    }

    /// An input that ends with an error is exit 1, and none of it is sent.
    fn input_failed(&self, first: &Finished, is_struck: bool, counts: &mut Counts) -> Result<(), Verdict> {
        if is_struck && (first.code() != Some(1) || !first.text().contains("could not read standard input to its end"))
        {
            return amiss("an input that failed is not told of with 1", first);
        }
        self.nothing_sent(first)?;
        self.read_in(first, is_struck, counts)
    }

    /// The third read of a pipe fails: some of it has come.
    fn input_fails_later(&self, counts: &mut Counts) -> Result<(), Verdict> {
        if let Some(needs) = missing() {
            return Err(Verdict::Skipped(needs));
        }
        let (path, mut pipe) = self.pipe();
        let (log, name) = (self.base.join("log"), path.display().to_string());
        let log_name = log.display().to_string();
        let traced = ["strace", "-f", "-qq", "-o", &log_name, "-P", &name, "-e", "inject=read:error=EIO:when=3"];
        let script = format!("exec \"$0\" \"$@\" < '{name}'");
        let running = self.send(b"").below(&[&["sh", "-c", &script][..], &traced].concat()).start();
        let content = self.ground.content[..WRITTEN].to_vec();
        let writer = std::thread::spawn(move || drop(pipe.write_all(&content)));
        let first = ended(running);
        // Whoever still writes is read, so that it ends.
        drain(&path, &writer);
        let is_struck = std::fs::read_to_string(&log).is_ok_and(|log| log.contains("(INJECTED)"));
        self.input_failed(&first?, is_struck, counts)
    }

    /// It was read to its end: `resume` needs no input, and the same command goes on with another one.
    fn killed_on_the_way(&self, victim: Victim, is_other: bool, counts: &mut Counts) -> Result<(), Verdict> {
        let input = &self.ground.content;
        let mut running = self.send(input).args(["--limit", "4MB"]).start();
        running.wait_until("a staging file", PATIENCE, |_| self.has_staging("in"));
        let (first, is_dead) = killed(running, victim)?;
        if !is_other || victim == Victim::Child {
            return self.read_in(&first, is_dead, counts);
        }
        let first = self.went_in(&first, input)?;
        let mut other = input[..LENGTH - (1 << 20)].to_vec();
        other[2 << 20] ^= 1;
        let again = || self.went_in(&ended(self.send(&other).start())?, &other);
        self.until_done(first, &again, is_dead, counts)
    }
}

fn wrong<T>(what: &str, life: &Finished) -> Result<T, Verdict> {
    Err(Verdict::Wrong(told(what, life)))
}

/// It did not end as it had to, and nothing wrong has come of it.
fn amiss<T>(what: &str, life: &Finished) -> Result<T, Verdict> {
    Err(Verdict::Stuck(told(what, life)))
}

fn told(what: &str, life: &Finished) -> String {
    format!("{what}\n{} {} bytes of output\n── stderr\n{}", life.status, life.stdout.len(), life.stderr_text())
}

/// The command with its standard input, or output, at a path.
fn at(command: &Landfall, direction: &str, path: &Path) -> Landfall {
    command.clone().below(&["sh", "-c", &format!("exec \"$0\" \"$@\" {direction} '{}'", path.display())])
}

fn write(path: &Path, content: &[u8]) {
    std::fs::write(path, content).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

fn fill(pipe: &mut File, content: &[u8]) {
    pipe.write_all(content).unwrap_or_else(|error| panic!("nobody reads the pipe: {error}"));
}

/// Reads a pipe until its writer has ended.
fn drain(path: &Path, writer: &std::thread::JoinHandle<()>) {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let Ok(mut pipe) = OpenOptions::new().read(true).custom_flags(flags).open(path) else { return };
    let mut buffer = vec![0; 1 << 16];
    while !writer.is_finished() {
        if pipe.read(&mut buffer).is_err() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// All paths below a directory.
fn files(dir: &Path) -> Vec<PathBuf> {
    let listed = state::entries(dir);
    let dirs = listed.iter().filter(|path| path.is_dir() && !path.is_symlink());
    let below: Vec<PathBuf> = dirs.flat_map(|path| files(path)).collect();
    listed.into_iter().chain(below).collect()
}
