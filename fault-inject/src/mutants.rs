//! Seeded bugs: patches of landfall's own code, each applied to a copy of the tree, built, and hunted with a command of
//! this harness. A mutant that lives says that the harness is blind in one place; what it says of the product is
//! nothing, so a survivor is a failure of the harness.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::rig::process::ends_within;
use crate::rig::scratch::Scratch;
use crate::verdict::{How, Report, Verdict};

/// Time that a killer may take.
const HUNT: Duration = Duration::from_secs(60);
/// What is not copied with the tree.
const LEFT_BEHIND: [&str; 2] = [".git", "target"];

/// One seeded bug.
#[derive(Clone, Debug)]
pub struct Mutant {
    /// Number and words, from the name of its file.
    pub name: String,
    /// The patch.
    pub patch: PathBuf,
    /// What it breaks.
    pub breaks: String,
    /// The command of this harness that has to kill it.
    pub killer: String,
}

/// All mutants that lie beside this crate's sources, by name.
pub fn all() -> Result<Vec<Mutant>, String> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("mutants");
    let said = |error: io::Error| format!("{}: {error}", dir.display());
    let mut found = vec![];
    for entry in fs::read_dir(&dir).map_err(said)? {
        let patch = entry.map_err(said)?.path();
        let text = fs::read_to_string(&patch).map_err(said)?;
        let name = patch.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let line = |begin: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(begin));
            line.map(str::to_owned).ok_or_else(|| format!("{name} has no line `{begin}`"))
        };
        let (breaks, killer) = (line("# breaks: ")?, line("# killed by: ")?);
        found.push(Mutant { name, patch, breaks, killer });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// Whether the patch applies to a tree; with `Apply::Now` it is applied.
pub fn apply(patch: &Path, tree: &Path, how: Apply) -> Result<(), String> {
    let check = |word: &'static str| (how == Apply::Check).then_some(word);
    let git = Command::new("git")
        .arg("apply")
        .args(check("--check"))
        .arg(patch)
        .current_dir(tree)
        // A tree below another repository is still a tree of its own.
        .env("GIT_CEILING_DIRECTORIES", tree.parent().unwrap_or(tree))
        .env_remove("GIT_DIR")
        .output();
    let output = match git {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut patching = Command::new("patch");
            patching.args(["-p1", "--batch", "--silent", "-i"]).arg(patch).args(check("--dry-run")).current_dir(tree);
            patching.output()
        }
        other => other,
    };
    let output = output.map_err(|error| format!("neither git nor patch could be run: {error}"))?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()) }
}

/// What [`apply`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Apply {
    /// Only says whether it would apply.
    Check,
    /// Changes the tree.
    Now,
}

/// A copy of the tree, with a target directory that all mutants share, so that only landfall and the harness are
/// compiled anew for each.
pub struct Workshop {
    scratch: Scratch,
    target: PathBuf,
}

impl Workshop {
    /// Copies the tree, builds it as it is, and sees that each killer finds nothing in it.
    pub fn open(mutants: &[Mutant]) -> Result<Workshop, String> {
        let scratch = Scratch::new("mutants");
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace");
        copy(root, &scratch.join("tree")).map_err(|error| format!("{}: {error}", root.display()))?;
        let built = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        let workshop = Workshop { scratch, target: built.join("mutants") };
        workshop.build()?;
        let mut killers: Vec<&str> = mutants.iter().map(|mutant| mutant.killer.as_str()).collect();
        killers.sort_unstable();
        killers.dedup();
        for killer in killers {
            match workshop.hunt(killer)? {
                Some(0) => (),
                other => return Err(format!("`{killer}` ends with {other:?} on the tree as it is")),
            }
        }
        Ok(workshop)
    }

    /// Applies one mutant, hunts it, and takes it back.
    pub fn try_one(&self, mutant: &Mutant, seed: u64) -> Report {
        let began = Instant::now();
        let hunted = self.hunt_one(mutant);
        let (injected, verdict) = match hunted {
            Ok(Some(1 | 2)) => (1, Verdict::Good),
            Ok(Some(code)) => {
                (1, Verdict::Failed(format!("it lives: `{}` ended with {code}, not with 1 or 2", mutant.killer)))
            }
            Ok(None) => (1, Verdict::Failed(format!("`{}` did not end within {HUNT:?}", mutant.killer))),
            Err(why) => (0, Verdict::Failed(why)),
        };
        let short: String = mutant.name.clone();
        Report {
            fault: short,
            how: How::Script,
            injected,
            detected: u64::from(verdict == Verdict::Good),
            repaired: 0,
            verdict,
            plan: mutant.breaks.clone(),
            log: vec![format!("{}: {:.1} s with the build", mutant.killer, began.elapsed().as_secs_f64())],
            reproduce: format!(
                "cargo run --release -p fault-inject -- mutants --only {} --seed {seed:#x}",
                mutant.name
            ),
        }
    }

    fn hunt_one(&self, mutant: &Mutant) -> Result<Option<i32>, String> {
        let tree = self.scratch.join("tree");
        let changed = changed_file(&mutant.patch).ok_or("the patch names no file")?;
        let path = tree.join(changed);
        let before = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        apply(&mutant.patch, &tree, Apply::Now).map_err(|why| format!("the patch does not apply: {why}"))?;
        let code = self.build().and_then(|()| self.hunt(&mutant.killer));
        fs::write(&path, before).map_err(|error| format!("{}: {error}", path.display()))?;
        code
    }

    fn cargo(&self) -> Command {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        // Each mutant changes a few lines: what is kept of the last compilation saves most of the next.
        cargo.env("CARGO_INCREMENTAL", "1").env("CARGO_TARGET_DIR", &self.target);
        cargo.current_dir(self.scratch.join("tree")).stdin(Stdio::null());
        cargo
    }

    fn build(&self) -> Result<(), String> {
        let packages = ["build", "--quiet", "--package", "landfall", "--package", "fault-inject"];
        let output =
            self.cargo().args(packages).output().map_err(|error| format!("cargo could not be run: {error}"))?;
        let why = || format!("it does not build: {}", String::from_utf8_lossy(&output.stderr));
        if output.status.success() { Ok(()) } else { Err(why()) }
    }

    /// Runs a command of the harness that was just built. `None`: it took too long.
    fn hunt(&self, killer: &str) -> Result<Option<i32>, String> {
        let program = self.target.join("debug/fault-inject");
        let started = Command::new(&program)
            .args(killer.split_whitespace())
            .env_remove("CARGO")
            .env_remove("LANDFALL_TEST_BIN")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let mut child = started.map_err(|error| format!("{}: {error}", program.display()))?;
        let ended = ends_within(&mut child, HUNT).map_err(|error| error.to_string())?;
        Ok(ended.map(|status| status.code().unwrap_or(128)))
    }
}

/// The one file that a patch changes.
fn changed_file(patch: &Path) -> Option<PathBuf> {
    let text = fs::read_to_string(patch).ok()?;
    text.lines().find_map(|line| line.strip_prefix("+++ b/")).map(PathBuf::from)
}

fn copy(from: &Path, into: &Path) -> io::Result<()> {
    fs::create_dir(into)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if LEFT_BEHIND.iter().any(|left| name == *left) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &into.join(name))?;
        } else if entry.file_type()?.is_file() {
            fs::copy(entry.path(), into.join(name))?;
        }
    }
    Ok(())
}
