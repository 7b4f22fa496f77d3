//! Seeded bugs: patches of landfall's own code, each applied to a copy of the tree, built, and hunted with a command of
//! this harness. A mutant that lives says that the harness is blind in one place; what it says of the product is
//! nothing, so a survivor is a failure of the harness.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

mod workshop;

pub use workshop::Workshop;

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
