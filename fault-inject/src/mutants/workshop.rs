//! Where mutants are made: a copy of the tree beside the build directory, which is kept, so that a run compiles only
//! what has changed since the last one and what a patch touches.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::{Apply, Mutant, apply};
use crate::rig::process::ends_within;
use crate::verdict::{How, Report, Verdict};

/// Time that a killer may take.
const HUNT: Duration = Duration::from_secs(60);
/// What is not copied with the tree.
const LEFT_BEHIND: [&str; 2] = [".git", "target"];
/// Exit code of a command that lacks a facility.
const SKIPPED: i32 = 5;

/// A copy of the tree, with a target directory that all mutants share, so that only landfall and the harness are
/// compiled anew for each.
pub struct Workshop {
    root: PathBuf,
    /// What each killer makes of the tree as it is.
    sound: BTreeMap<String, Verdict>,
    /// Held: two runs in one workshop would build each other's mutants.
    _lock: File,
}

/// How a command of the harness ended.
struct Hunt {
    /// `None`: it took too long.
    code: Option<i32>,
    took: Duration,
    /// The line in which it says what is wrong.
    says: String,
}

impl Workshop {
    /// Copies the tree, builds it as it is, and sees that each killer finds nothing in it; `told` hears how long that
    /// took.
    pub fn open(mutants: &[Mutant], told: &mut dyn FnMut(&str)) -> Result<Workshop, String> {
        let tree = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace");
        let built = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| tree.join("target"), PathBuf::from);
        let root = built.join("mutants");
        let failed = |error: io::Error| format!("{}: {error}", root.display());
        fs::create_dir_all(&root).map_err(failed)?;
        let lock = File::create(root.join("lock")).map_err(failed)?;
        lock.try_lock().map_err(|error| format!("{}: another run works there: {error}", root.display()))?;
        follow(tree, &root.join("tree"), &LEFT_BEHIND).map_err(|error| format!("{}: {error}", tree.display()))?;
        let mut workshop = Workshop { root, sound: BTreeMap::new(), _lock: lock };
        let took = workshop.build()?;
        told(&format!("the tree as it is: built in {:.1} s", took.as_secs_f64()));
        for mutant in mutants {
            if workshop.sound.contains_key(&mutant.killer) {
                continue;
            }
            let hunt = workshop.hunt(&mutant.killer)?;
            told(&format!("  {:.1} s  {}", hunt.took.as_secs_f64(), mutant.killer));
            let verdict = match hunt.code {
                Some(0) => Verdict::Good,
                Some(SKIPPED) => Verdict::Skipped(format!("what `{}` needs", mutant.killer)),
                other => {
                    let says = hunt.says;
                    Verdict::Failed(format!("`{}` ends with {other:?} on the tree as it is: {says}", mutant.killer))
                }
            };
            workshop.sound.insert(mutant.killer.clone(), verdict);
        }
        Ok(workshop)
    }

    /// Applies one mutant, hunts it, and takes it back.
    pub fn try_one(&self, mutant: &Mutant, seed: u64) -> Report {
        if let Some(bad) = self.sound.get(&mutant.killer).filter(|verdict| **verdict != Verdict::Good) {
            return Report { verdict: bad.clone(), ..Report::skipped(&mutant.name, How::Script, "") };
        }
        let (verdict, log) = match self.hunt_one(mutant) {
            Ok((built, hunt)) => (judge(&mutant.killer, &hunt), told(&mutant.killer, built, &hunt)),
            Err(why) => (Verdict::Failed(why), vec![]),
        };
        let is_dead = verdict == Verdict::Good;
        Report {
            fault: mutant.name.clone(),
            how: How::Script,
            injected: u64::from(!log.is_empty()),
            detected: u64::from(is_dead),
            repaired: 0,
            verdict,
            plan: mutant.breaks.clone(),
            log,
            reproduce: format!(
                "cargo run --release -p fault-inject -- mutants --only {} --seed {seed:#x}",
                mutant.name
            ),
        }
    }

    fn hunt_one(&self, mutant: &Mutant) -> Result<(Duration, Hunt), String> {
        let tree = self.root.join("tree");
        let changed = changed_file(&mutant.patch).ok_or("the patch names no file")?;
        let path = tree.join(changed);
        let before = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        apply(&mutant.patch, &tree, Apply::Now).map_err(|why| format!("the patch does not apply: {why}"))?;
        let result = self.build().and_then(|took| Ok((took, self.hunt(&mutant.killer)?)));
        fs::write(&path, before).map_err(|error| format!("{}: {error}", path.display()))?;
        result
    }

    /// Builds what is there now; gives how long that took.
    fn build(&self) -> Result<Duration, String> {
        let began = Instant::now();
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        // Each mutant changes a few lines: what is kept of the last compilation saves most of the next.
        cargo.env("CARGO_INCREMENTAL", "1").env("CARGO_PROFILE_DEV_DEBUG", "0");
        cargo.env("CARGO_TARGET_DIR", &self.root).current_dir(self.root.join("tree")).stdin(Stdio::null());
        cargo.args(["build", "--quiet", "--package", "landfall", "--package", "fault-inject"]);
        let output = cargo.output().map_err(|error| format!("cargo could not be run: {error}"))?;
        let why = || format!("it does not build: {}", String::from_utf8_lossy(&output.stderr));
        if output.status.success() { Ok(began.elapsed()) } else { Err(why()) }
    }

    /// Runs a command of the harness that was just built, and whatever it starts in a group of their own.
    fn hunt(&self, killer: &str) -> Result<Hunt, String> {
        let began = Instant::now();
        let (program, said) = (self.root.join("debug/fault-inject"), self.root.join("said"));
        let failed = |error: io::Error| format!("{}: {error}", said.display());
        let out = File::create(&said).map_err(failed)?;
        let started = Command::new(&program)
            .args(killer.split_whitespace())
            .env_remove("CARGO")
            .env_remove("LANDFALL_TEST_BIN")
            .stdin(Stdio::null())
            .stdout(out.try_clone().map_err(failed)?)
            .stderr(out)
            .process_group(0)
            .spawn();
        let mut child = started.map_err(|error| format!("{}: {error}", program.display()))?;
        let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let ended = ends_within(&mut child, HUNT).map_err(|error| error.to_string())?;
        // What it started and did not wait for.
        if let Some(group) = group {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let text = String::from_utf8_lossy(&fs::read(&said).map_err(failed)?).into_owned();
        let code = ended.map(|status| status.code().unwrap_or(128));
        Ok(Hunt { code, took: began.elapsed(), says: telling_line(&text) })
    }
}

fn judge(killer: &str, hunt: &Hunt) -> Verdict {
    match hunt.code {
        Some(1 | 2) => Verdict::Good,
        Some(code) => Verdict::Failed(format!("it lives: `{killer}` ended with {code}, not with 1 or 2")),
        None => Verdict::Failed(format!("it lives: `{killer}` did not end within {HUNT:?}")),
    }
}

fn told(killer: &str, built: Duration, hunt: &Hunt) -> Vec<String> {
    let died = match hunt.code {
        Some(1) => "something wrong was acknowledged",
        Some(2) => "no convergence",
        _ => "nothing was seen",
    };
    let (built, took) = (built.as_secs_f64(), hunt.took.as_secs_f64());
    vec![format!("built in {built:.1} s, hunted for {took:.1} s: {killer}"), format!("{died}: {}", hunt.says)]
}

/// What a command of the harness said of the first thing that is wrong.
fn telling_line(text: &str) -> String {
    const LINE_CHARS_MAX: usize = 200;
    const WORDS: [&str; 8] =
        ["WRONG", "no convergence", "Wrong(", "Stuck(", "the harness failed", "vacuous", "too seldom", "skipped"];
    let line = WORDS.iter().find_map(|word| text.lines().find(|line| line.contains(word)));
    line.or_else(|| text.lines().last()).unwrap_or_default().trim().chars().take(LINE_CHARS_MAX).collect()
}

/// The one file that a patch changes.
fn changed_file(patch: &Path) -> Option<PathBuf> {
    let text = fs::read_to_string(patch).ok()?;
    text.lines().find_map(|line| line.strip_prefix("+++ b/")).map(PathBuf::from)
}

/// Makes a copy equal to its original. A file that is equal already keeps its time, and cargo what it made of it.
fn follow(from: &Path, into: &Path, left_behind: &[&str]) -> io::Result<()> {
    fs::create_dir_all(into)?;
    let mut kept = vec![];
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if left_behind.iter().any(|left| name == *left) {
            continue;
        }
        let (kind, copy) = (entry.file_type()?, into.join(&name));
        if kind.is_dir() {
            follow(&entry.path(), &copy, left_behind)?;
        } else if kind.is_file() {
            let bytes = fs::read(entry.path())?;
            if fs::read(&copy).ok().as_ref() != Some(&bytes) {
                fs::write(&copy, bytes)?;
            }
        }
        kept.push(name);
    }
    for entry in fs::read_dir(into)? {
        let entry = entry?;
        if kept.contains(&entry.file_name()) {
            continue;
        }
        if entry.file_type()?.is_dir() { fs::remove_dir_all(entry.path())? } else { fs::remove_file(entry.path())? }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_copy_follows_its_original_and_touches_only_what_differs() {
        let dir = tempfile::tempdir().unwrap();
        let (from, into) = (dir.path().join("from"), dir.path().join("into"));
        fs::create_dir_all(from.join("sub")).unwrap();
        fs::create_dir_all(from.join("target")).unwrap();
        fs::write(from.join("same"), "same").unwrap();
        fs::write(from.join("sub/changed"), "old").unwrap();
        fs::write(from.join("sub/gone"), "gone").unwrap();
        follow(&from, &into, &LEFT_BEHIND).unwrap();
        let time = |name: &str| fs::metadata(into.join(name)).unwrap().modified().unwrap();
        let before = time("same");
        fs::write(from.join("sub/changed"), "new").unwrap();
        fs::remove_file(from.join("sub/gone")).unwrap();
        follow(&from, &into, &LEFT_BEHIND).unwrap();
        assert_eq!(time("same"), before);
        assert_eq!(fs::read(into.join("sub/changed")).unwrap(), b"new");
        assert!(!into.join("sub/gone").exists() && !into.join("target").exists());
    }

    #[test]
    fn what_is_wrong_is_told_and_not_the_last_line() {
        let text = "seed=0x1\nsomething  WRONG: it is\n  plan\nREPRO: x\n";
        assert_eq!(telling_line(text), "something  WRONG: it is");
        assert_eq!(telling_line("0 good\n"), "0 good");
    }
}
