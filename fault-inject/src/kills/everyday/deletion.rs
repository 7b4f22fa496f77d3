//! `--delete`, and deaths before, in and after the removal. Whatever dies: what the sources have is never touched, what
//! they do not have goes only once all of them has arrived, each removal stands in the log before it happens, and nothing
//! outside of what was sent changes. The same command then makes the copy a true one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::FileType;

use super::strikes::{Calls, Victim, ended, killed, struck};
use super::{Amount, Case, play};
use crate::kills::{Counts, failed};
use crate::rig::oracle::{self, Canary, Node, Snapshot};
use crate::rig::process::{self, Finished, Landfall, Running};
use crate::rig::scratch::Scratch;
use crate::rig::sshd::Sshd;
use crate::rig::tree::{Content, Tree};
use crate::rig::{facility, held, state};
use crate::syscalls::Point;
use crate::verdict::{How, Report, Verdict};

const FAULT: &str = "SIGKILL of a command with --delete, and of its child";
/// Places in the removal itself, in each direction and of each of the two processes.
const IN_REMOVAL: usize = 24;
/// Places in all of a command, most of them before the removal, in each direction.
const ANYWHERE: usize = 28;
/// Files that only the target has where a signal has to come between two batches of removals.
const MANY: usize = 700;
/// What must be gone when a signal comes: one of the first batch, one of the second, of the third.
const GONE: [usize; 3] = [1, 257, 600];
/// How often a command is run until it says 0.
const LIVES_MAX: usize = 8;
/// Between two lives: one that was just killed may have a child that is about to end.
const PAUSE: Duration = Duration::from_millis(50);
/// Until what a signal waits for shows.
const PATIENCE: Duration = Duration::from_secs(60);
/// The directory that is sent, as it is called in the target.
const TREE: &[u8] = b"tree";

/// Who has the command.
#[derive(Clone, Copy, Debug)]
enum Typed {
    /// `send --to`: the child removes.
    To,
    /// `recv --from`: the command removes.
    From,
}

/// Row 77: `--delete`.
pub(super) fn report(amount: Amount, seed: u64) -> Report {
    let ground = match Ground::new(amount, seed) {
        Ok(ground) => ground,
        Err(why) => return failed(FAULT, why),
    };
    let mut cases = vec![];
    for typed in [Typed::To, Typed::From] {
        cases.extend(ground.at_calls(typed));
        cases.extend(ground.by_signals(typed));
    }
    if amount == Amount::Row {
        cases.extend(ground.over_ssh());
    }
    let report = play(FAULT, How::Strace, &cases);
    drop(cases);
    let changes = ground.changes();
    if changes.is_empty() { report } else { Report { verdict: Verdict::Wrong(oracle::in_lines(&changes)), ..report } }
}

/// The sources, and what lies beside the targets.
struct Ground {
    outside: Canary,
    source: PathBuf,
    before: Snapshot,
    /// What of it is below the directory that is sent.
    wanted: Snapshot,
    amount: Amount,
    seed: u64,
    sshd: Option<Sshd>,
    // Last: removed when everything else has ended.
    scratch: Scratch,
}

impl Ground {
    fn new(amount: Amount, seed: u64) -> Result<Ground, String> {
        process::build_landfall()?;
        let scratch = Scratch::new("deletion");
        let outside = Canary::new(&scratch.join("outside"));
        let mut tree = Tree::new(&scratch.join("source"), seed);
        tree.file("notes", &Content::Random(3000));
        tree.file("tree/chunks", &Content::Random(2_500_000));
        tree.file("tree/stays", &Content::Random(5000));
        tree.small("tree/sub/below");
        tree.dir("tree/empty");
        tree.symlink("tree/link", "sub/below");
        tree.mode("tree/sub", 0o750);
        tree.mtime("tree/sub", 1_234_567_890, 5);
        let source = tree.finish();
        let before = oracle::snapshot(&source);
        let wanted = oracle::snapshot(&source.join("tree"));
        let is_row = amount == Amount::Row;
        let sshd = is_row.then(|| Sshd::start("kills in --delete over ssh", &scratch.dir("ssh"))).flatten();
        Ok(Ground { outside, source, before, wanted, amount, seed, sshd, scratch })
    }

    /// What no command may change.
    fn changes(&self) -> Vec<String> {
        let mut found = self.outside.changes();
        if oracle::snapshot(&self.source) != self.before {
            found.push("the source is not what it was".to_owned());
        }
        found
    }

    /// A target that was a copy once, with so many files more than the sources have.
    fn stand(&self, name: &str, typed: Typed, many: usize) -> Stand<'_> {
        let base = self.scratch.dir(name);
        let mut tree = Tree::new(&base.join("target"), self.seed ^ 1);
        tree.file("tree/chunks", &Content::Random(2_500_000));
        tree.dir("tree/empty");
        tree.small("tree/old");
        tree.symlink("tree/old-link", self.outside.path().to_str().unwrap_or_default());
        tree.symlink("tree/sub/old-link", self.outside.path().join("song").to_str().unwrap_or_default());
        tree.special("tree/sub/old-pipe", FileType::Fifo).unwrap_or_else(|error| panic!("a pipe: {error}"));
        for dir in ["tree/sub", "tree/empty", "tree/dead", "tree/dead/deep", "tree/dead/shut"] {
            (0..6).for_each(|number| tree.small(format!("{dir}/gone-{number}")));
        }
        tree.dir("tree/dead/empty/empty");
        tree.mode("tree/dead/shut", 0o500);
        (0..many).for_each(|number| tree.file(format!("tree/many/{number}"), &Content::Bytes(vec![1])));
        // Beside the directory that is sent.
        tree.small("sibling");
        tree.small("siblings/one");
        tree.small("tree-old/two");
        tree.symlink("tree.link", "tree");
        let target = tree.finish();
        let home = base.join("home");
        std::fs::create_dir(&home).unwrap_or_else(|error| panic!("{}: {error}", home.display()));
        let before = oracle::snapshot(&target);
        Stand { ground: self, base, target, home, typed, before }
    }

    /// Deaths at system calls: in the removal, of the one who removes and of the one who writes it down, and anywhere.
    fn at_calls(&self, typed: Typed) -> Vec<Case<'_>> {
        let stand = self.stand(&format!("count-{typed:?}"), typed, 0);
        let counted = Calls::of(&self.scratch, &format!("count-{typed:?}-trace"), &stand.command());
        let (calls, _) = match counted.and_then(|(calls, done)| Ok((calls, stand.judge(&done)?))) {
            Ok(counted) => counted,
            Err(why) => return vec![Case::new("system calls", format!("{typed:?}"), move |_| why.clone())],
        };
        let is_log = |line: &String| line.contains(".deleted\"");
        let is_removal = |line: &String| line.starts_with("unlinkat(") && line.contains("/target/tree");
        let noted = |thread: &[String]| thread.iter().position(is_log);
        let removing = |thread: &[String]| thread.iter().position(is_removal).map(|at| at.saturating_sub(4));
        let places = [
            ("a call of the one who writes it down", calls.own(noted, self.amount.of(IN_REMOVAL), self.seed)),
            ("a call of the one who removes", calls.own(removing, self.amount.of(IN_REMOVAL), self.seed ^ 2)),
            ("any call", calls.any(self.amount.of(ANYWHERE), self.seed ^ 3)),
        ];
        if places.iter().any(|(_, points)| points.is_empty()) {
            let why = Verdict::Failed("the trace shows no call of a removal".to_owned());
            return vec![Case::new("system calls", format!("{typed:?}"), move |_| why.clone())];
        }
        let case = |what: &str, point: Point| {
            let label = format!("{typed:?}: {} {}", point.call, point.nth);
            let name = format!("{typed:?}-{}-{}-{}", what.len(), point.call, point.nth);
            Case::new(&format!("{what}, {typed:?}"), label, move |counts: &mut Counts| {
                let stand = self.stand(&name, typed, 0);
                let struck = struck(&self.scratch, &name, &stand.command(), &point);
                let ended = struck.and_then(|(first, hit)| stand.go_on(&first, hit.is_some(), counts));
                stand.end(ended)
            })
        };
        places.into_iter().flat_map(|(what, points)| points.into_iter().map(move |point| case(what, point))).collect()
    }

    /// Deaths between batches of removals, and as soon as anything is written down.
    fn by_signals(&self, typed: Typed) -> Vec<Case<'_>> {
        let mut cases = vec![];
        for victim in Victim::ALL {
            for gone in std::iter::once(0).chain(GONE).take(self.amount.of(1 + GONE.len())) {
                let name = format!("{typed:?}-{victim:?}-{gone}");
                let label = format!("{typed:?}: {victim:?} when {gone} are gone");
                cases.push(Case::new(&format!("a signal, {typed:?}"), label, move |counts: &mut Counts| {
                    let stand = self.stand(&name, typed, MANY);
                    let strike = || {
                        let mut running = stand.command().start();
                        stand.wait_for(&mut running, gone);
                        killed(running, victim)
                    };
                    let ended = strike().and_then(|(first, is_dead)| stand.go_on(&first, is_dead, counts));
                    stand.end(ended)
                }));
            }
        }
        cases
    }

    /// The same with the target behind a real sshd: the command dies, or the landfall at the far end.
    fn over_ssh(&self) -> Vec<Case<'_>> {
        let kind = "a signal, over ssh";
        let Some(sshd) = &self.sshd else {
            return vec![Case::new(kind, String::new(), |_| Verdict::Skipped("sshd".to_owned()))];
        };
        let case = |victim: Victim| {
            let name = format!("ssh-{victim:?}");
            let far = sshd.installation(&name, "exec \"$@\"");
            let label = format!("{victim:?}");
            Case::new(kind, label, move |counts: &mut Counts| {
                let stand = self.stand(&name, Typed::To, MANY);
                let target = format!("web1:{}", stand.target.display());
                let program = far.program.display().to_string();
                let more = ["--ssh", sshd.ssh(), "--remote-landfall", &program];
                let command = stand.command_to(&target).args(more);
                let mut running = command.start();
                stand.wait_for(&mut running, 1);
                let died = match (victim, far.alive().last()) {
                    (Victim::Child, Some(process)) => {
                        let killed = facility::run("kill", &["-9", &process.to_string()]).is_ok();
                        ended(running).map(|first| (first, killed))
                    }
                    (Victim::Child, None) => ended(running).map(|first| (first, false)),
                    _ => killed(running, Victim::Command),
                };
                let ended = died.and_then(|(first, is_dead)| stand.go_on_with(&command, &first, is_dead, counts));
                stand.end(ended)
            })
        };
        vec![case(Victim::Command), case(Victim::Child)]
    }
}

/// A target, and who writes into it.
struct Stand<'a> {
    ground: &'a Ground,
    base: PathBuf,
    target: PathBuf,
    home: PathBuf,
    typed: Typed,
    before: Snapshot,
}

impl Stand<'_> {
    fn command(&self) -> Landfall {
        match self.typed {
            Typed::To => self.command_to(&self.target.display().to_string()),
            Typed::From => {
                let command = Landfall::new("delete", &self.home).arg("recv").arg(&self.target).arg("--from");
                command.arg(self.ground.source.join("tree")).args(OPTIONS)
            }
        }
    }

    fn command_to(&self, target: &str) -> Landfall {
        let sources = [self.ground.source.join("tree"), self.ground.source.join("notes")];
        Landfall::new("delete", &self.home).arg("send").args(&sources).args(["--to", target]).args(OPTIONS)
    }

    /// Until so many of the many are gone; of none, until something is written down.
    fn wait_for(&self, running: &mut Running, gone: usize) {
        let many = self.target.join("tree/many");
        running.wait_until("a removal", PATIENCE, |_| match gone {
            0 => logs(&self.home).iter().any(|log| log.metadata().is_ok_and(|found| found.len() > 0)),
            gone => state::entries(&many).len() + gone <= MANY,
        });
    }

    fn go_on(&self, first: &Finished, is_dead: bool, counts: &mut Counts) -> Result<(), Verdict> {
        self.go_on_with(&self.command(), first, is_dead, counts)
    }

    /// After a life in which somebody died: the same command again, until it says 0.
    fn go_on_with(
        &self,
        command: &Landfall,
        first: &Finished,
        is_dead: bool,
        counts: &mut Counts,
    ) -> Result<(), Verdict> {
        counts.injected += u64::from(is_dead);
        let is_told =
            |life: &Finished| ["link-lost", "signal: 9", "\"resumed\""].iter().any(|word| life.text().contains(word));
        let is_noticed = first.code() != Some(0) || is_told(first);
        let mut last = self.judge(first)?;
        for _ in 0..LIVES_MAX {
            if last.code() == Some(0) {
                counts.noticed += u64::from(is_dead && is_noticed);
                counts.good += u64::from(is_dead);
                return Ok(());
            }
            std::thread::sleep(PAUSE);
            last = self.judge(&ended(command.start())?)?;
        }
        Err(Verdict::Stuck(format!("not 0 after {LIVES_MAX} lives\n{}", last.describe())))
    }

    /// What is wrong after a life. One that said 0 has made a true copy.
    fn judge(&self, life: &Finished) -> Result<Finished, Verdict> {
        let now = oracle::snapshot_without(&self.target, &[b".landfall"]);
        let mut found = self.beside(&now);
        found.extend(self.below(&now, life.code() == Some(0)));
        if life.code() == Some(0) {
            found.extend(state::work_left(&self.target));
        }
        match found.is_empty() {
            true => Ok(life.clone()),
            false => Err(Verdict::Wrong(format!("{}\n{}", oracle::in_lines(&found), life.describe()))),
        }
    }

    /// Everything outside of the directory that is sent is as it was, but for the file that is sent with it.
    fn beside(&self, now: &Snapshot) -> Vec<String> {
        let is_beside = |path: &[u8]| !path.is_empty() && !is_within(path);
        let mut found = vec![];
        for (path, node) in self.before.iter().filter(|(path, _)| is_beside(path)) {
            if now.get(path) != Some(node) {
                found.push(format!("{}: it lies beside what was sent, and changed", facility::shown(path)));
            }
        }
        let is_sent = |path: &[u8]| matches!(self.typed, Typed::To) && path == b"notes";
        let strangers = now.keys().filter(|path| is_beside(path) && !self.before.contains_key(*path));
        let strangers = strangers.filter(|path| !is_sent(path));
        found.extend(strangers.map(|path| format!("{}: it was never sent", facility::shown(path))));
        found
    }

    fn below(&self, now: &Snapshot, is_done: bool) -> Vec<String> {
        let surplus: Vec<(&Vec<u8>, &Node)> = self.before.iter().filter(|(path, _)| self.is_surplus(path)).collect();
        let gone: Vec<&Vec<u8>> =
            surplus.iter().map(|(path, _)| *path).filter(|path| !now.contains_key(*path)).collect();
        let begun = begun(&self.home);
        let mut found = vec![];
        let not_noted = gone.iter().filter(|path| !begun.contains(path.as_slice()));
        found.extend(not_noted.map(|path| format!("{}: removed without its line in the log", facility::shown(path))));
        let not_ours = begun.iter().filter(|path| !self.is_surplus(path));
        found.extend(not_ours.map(|path| format!("{}: the log wants to remove it", facility::shown(path))));
        for (path, node) in &surplus {
            if now.get(*path).is_some_and(|left| !is_as_it_was(left, node)) {
                found.push(format!("{}: it is neither gone nor as it was", facility::shown(path)));
            }
        }
        if is_done && gone.len() < surplus.len() {
            found.push(format!("said 0, and {} are there that the sources have not", surplus.len() - gone.len()));
        }
        if is_done || !gone.is_empty() {
            found.extend(self.arrived(now, is_done));
        }
        found
    }

    /// What is not there, or not right, of what was sent.
    fn arrived(&self, now: &Snapshot, is_done: bool) -> Vec<String> {
        let part = |path: &[u8]| Some(path.strip_prefix(TREE)?.strip_prefix(b"/").unwrap_or_default().to_vec());
        let tree = now.iter().filter(|(path, _)| is_within(path) && !self.is_surplus(path));
        let tree: Snapshot = tree.filter_map(|(path, node)| Some((part(path)?, node.clone()))).collect();
        let mut found = oracle::differences(&self.ground.wanted, &tree, &oracle::Rules::default());
        if !is_done {
            // A removal changes the time of its directory, which is set again only then.
            let is_dir = |line: &String| {
                line.split_once(": mtime ").is_some_and(|(path, _)| {
                    self.ground.wanted.get(path.as_bytes()).is_some_and(|node| node.kind == FileType::Directory)
                })
            };
            found.retain(|line| !is_dir(line));
        }
        let bytes = |node: Option<&Node>| node.map(|node| (node.digest, node.mode, node.mtime));
        let notes = &b"notes"[..];
        if matches!(self.typed, Typed::To) && bytes(now.get(notes)) != bytes(self.ground.before.get(notes)) {
            found.push("notes: it is not there, or other than the source".to_owned());
        }
        found.into_iter().map(|line| format!("something is gone, or 0 was said, and {line}")).collect()
    }

    fn is_surplus(&self, path: &[u8]) -> bool {
        let below = path.strip_prefix(TREE).and_then(|below| below.strip_prefix(b"/"));
        below.is_some_and(|below| !self.ground.wanted.contains_key(below))
    }

    /// Removes a target that is not needed any more.
    fn end(&self, ended: Result<(), Verdict>) -> Verdict {
        match ended {
            Ok(()) => {
                held::remove_all_below(&held::open_dir(&self.base));
                Verdict::Good
            }
            Err(bad) => bad,
        }
    }
}

const OPTIONS: [&str; 5] = ["--delete", "--yes", "--existing", "replace", "--json"];

/// The directory that is sent, and what is below it.
fn is_within(path: &[u8]) -> bool {
    path.strip_prefix(TREE).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

/// Still what it was; a directory may have lost what was in it.
fn is_as_it_was(left: &Node, before: &Node) -> bool {
    let is_dir = before.kind == FileType::Directory;
    let same = (left.kind, &left.digest, left.mode, &left.target, left.inode)
        == (before.kind, &before.digest, before.mode, &before.target, before.inode);
    same && (is_dir || left.mtime == before.mtime)
}

/// The logs of removals in a home.
fn logs(home: &Path) -> Vec<PathBuf> {
    let is_log = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "deleted");
    state::entries(&home.join("receipts")).into_iter().filter(is_log).collect()
}

/// Paths whose removal was begun, by the logs. A line that a kill cut short says nothing.
fn begun(home: &Path) -> BTreeSet<Vec<u8>> {
    let text = logs(home).into_iter().filter_map(|log| std::fs::read_to_string(log).ok()).collect::<String>();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let begun = lines.filter(|line| line["event"] == "to-delete");
    begun.filter_map(|line| Some(line["path"].as_str()?.as_bytes().to_vec())).collect()
}
