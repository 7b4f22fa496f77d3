//! The trees of a seed: the source as it is made and edited, every version of each path with the time in which it
//! was there, and what the target holds before anything is sent. The oracle's own memory of the truth.

use std::collections::BTreeMap;
use std::io;

use landfall::attributes::FileKind;
use rand::{Rng, RngCore};
use rand_chacha::ChaCha8Rng;

use super::receiving::TARGET;
use super::sending::{Naming, SOURCE};
use crate::sim_disk::{Seen, SimDisk, View};

/// Objects by path below the target.
pub(super) type Tree = BTreeMap<Vec<u8>, Seen>;

const CHUNK: usize = 4096;
const FILE_BYTES_MAX: usize = 40 << 10;
const MODES: [u32; 5] = [0o644, 0o600, 0o755, 0o444, 0o640];

fn join(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.to_owned() } else { format!("{parent}/{name}") }
}

fn length(dice: &mut ChaCha8Rng) -> usize {
    match dice.random_range(0..8) {
        0 => 0,
        1 => dice.random_range(1..CHUNK),
        2 => CHUNK,
        3 => CHUNK * dice.random_range(1..4) + 1,
        4 => CHUNK * dice.random_range(1..10),
        5 => dice.random_range(1..FILE_BYTES_MAX),
        _ => dice.random_range(1..3 * CHUNK),
    }
}

fn noise(dice: &mut ChaCha8Rng, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    dice.fill_bytes(&mut bytes);
    bytes
}

/// Makes one file, sometimes with a hole or with zeros in it.
fn make_file(disk: &SimDisk, path: &str, dice: &mut ChaCha8Rng) -> io::Result<()> {
    let length = length(dice);
    let mut bytes = noise(dice, length);
    match dice.random_range(0..6) {
        0 if length > 2 * CHUNK => {
            disk.write_file(path.as_bytes(), &bytes[..CHUNK])?;
            disk.truncate(path.as_bytes(), length as u64)?;
            disk.edit(path.as_bytes(), (length - 1) as u64, b"x")?;
        }
        1 => {
            bytes[length / 2..].fill(0);
            disk.write_file(path.as_bytes(), &bytes)?;
        }
        _ => disk.write_file(path.as_bytes(), &bytes)?,
    }
    disk.change_mode(path.as_bytes(), MODES[dice.random_range(0..MODES.len())])
}

/// Makes the source.
pub(super) fn make_source(disk: &SimDisk, files_max: usize, dice: &mut ChaCha8Rng) -> io::Result<()> {
    disk.make_directory(SOURCE.as_bytes())?;
    let mut directories = vec![SOURCE.to_owned()];
    for number in 0..dice.random_range(0..4) {
        let parent = directories[dice.random_range(0..directories.len())].clone();
        let path = join(&parent, &format!("d{number}"));
        disk.make_directory(path.as_bytes())?;
        directories.push(path);
    }
    for number in 0..dice.random_range(1..=files_max) {
        let parent = directories[dice.random_range(0..directories.len())].clone();
        // Some have the very name that another may get where its own is taken.
        let name =
            ["f0", "f1.x", "f0 (1)", "f3", "f1 (1).x"].get(number).map_or(format!("f{number}"), ToString::to_string);
        make_file(disk, &join(&parent, &name), dice)?;
    }
    for number in 0..dice.random_range(0..3) {
        let parent = directories[dice.random_range(0..directories.len())].clone();
        disk.make_link(join(&parent, &format!("l{number}")).as_bytes(), b"d0/../f0")?;
    }
    if dice.random_range(0..6) == 0 {
        disk.make_fifo(join(SOURCE, "pipe").as_bytes())?;
    }
    for path in &directories[1..] {
        disk.change_mode(path.as_bytes(), [0o755, 0o700, 0o555, 0o755][dice.random_range(0..4)])?;
    }
    Ok(())
}

/// Paths of a kind in the source, as the disk knows them.
fn paths(disk: &SimDisk, kind: FileKind) -> Vec<Vec<u8>> {
    let below = [SOURCE.as_bytes(), b"/"].concat();
    let tree = disk.tree(View::Cached);
    tree.into_iter()
        .filter(|(path, seen)| seen.kind == kind && path.starts_with(&below))
        .map(|(path, _)| path)
        .collect()
}

/// Another program changes something in the source.
pub(super) fn edit_source(disk: &SimDisk, number: u64, dice: &mut ChaCha8Rng) -> io::Result<()> {
    let files = paths(disk, FileKind::Regular);
    let choice = if files.is_empty() { 9 } else { dice.random_range(0..12) };
    let pick = |dice: &mut ChaCha8Rng| files[dice.random_range(0..files.len())].clone();
    match choice {
        0..4 => {
            let path = pick(dice);
            let size = disk.look(&path, View::Cached).map_or(0, |seen| seen.bytes.len());
            let offset = dice.random_range(0..=size.max(1));
            let length = [1, 100, CHUNK][dice.random_range(0..3)];
            let mut bytes = noise(dice, length);
            // Sometimes a chunk of zeros takes the place of another: it travels without bytes.
            let is_zeroed = length == CHUNK && bytes[0].is_multiple_of(2);
            let offset = if is_zeroed { offset / CHUNK * CHUNK } else { offset };
            if is_zeroed {
                bytes.fill(0);
            }
            disk.edit(&path, offset as u64, &bytes)
        }
        4 => {
            let path = pick(dice);
            disk.truncate(&path, dice.random_range(0..FILE_BYTES_MAX as u64))
        }
        5 => {
            let path = pick(dice);
            disk.delete(&path)
        }
        6 => {
            let path = pick(dice);
            disk.change_mode(&path, [0o644, 0o600, 0o444, 0o000][dice.random_range(0..4)])
        }
        7 => {
            let (from, to) = (pick(dice), pick(dice));
            if from == to { Ok(()) } else { disk.swap(&from, &to) }
        }
        8 => {
            let path = pick(dice);
            disk.delete(&path)?;
            disk.make_directory(&path)
        }
        9 | 10 => {
            let name = join(SOURCE, &format!("n{number}"));
            make_file(disk, &name, dice)
        }
        _ => {
            let path = pick(dice);
            disk.delete(&path)?;
            disk.make_link(&path, b"elsewhere")
        }
    }
}

/// Makes an older tree at the target, from the source as it is.
pub(super) fn make_older_target(disk: &SimDisk, source: &Tree, dice: &mut ChaCha8Rng) -> io::Result<()> {
    let below = |path: &[u8]| [TARGET.as_bytes(), b"/", path].concat();
    disk.write_file(&below(b"unrelated/keep"), b"mine")?;
    for (path, seen) in source {
        let target = below(path);
        if dice.random_range(0..2) == 0 || disk.look(&target, View::Cached).is_some() {
            continue;
        }
        let is_other_kind = dice.random_range(0..12) == 0;
        match seen.kind {
            FileKind::Regular if is_other_kind => drop(disk.make_directory(&target)),
            FileKind::Regular => {
                let mut bytes = seen.bytes.clone();
                match dice.random_range(0..4) {
                    0 => (),
                    1 if !bytes.is_empty() => {
                        let at = dice.random_range(0..bytes.len());
                        bytes[at] ^= 1;
                    }
                    2 => bytes.truncate(dice.random_range(0..=seen.bytes.len())),
                    _ => bytes.extend_from_slice(b"more"),
                }
                // A parent that is no directory makes everything below it impossible; then there is nothing older.
                drop(disk.write_file(&target, &bytes));
            }
            FileKind::Directory if is_other_kind => drop(disk.write_file(&target, b"not a directory")),
            FileKind::Directory => drop(disk.make_directory(&target)),
            FileKind::Symlink => drop(disk.make_link(&target, [&seen.bytes[..], b"other"][dice.random_range(0..2)])),
            FileKind::Special => (),
        }
    }
    disk.settle();
    Ok(())
}

/// What is in the target, without landfall's own state, by path below it.
pub(super) fn target_tree(disk: &SimDisk, view: View) -> Tree {
    let below = [TARGET.as_bytes(), b"/"].concat();
    let tree = disk.tree(view).into_iter();
    tree.filter_map(|(path, seen)| Some((path.strip_prefix(&below[..])?.to_vec(), seen)))
        .filter(|(path, _)| path != b".landfall" && !path.starts_with(b".landfall/"))
        .collect()
}

/// What is in the source, by path below the target.
pub(super) fn source_tree(disk: &SimDisk, naming: Naming) -> Tree {
    let tree = disk.tree(View::Cached).into_iter();
    match naming {
        Naming::Named => tree.collect(),
        Naming::Contents => {
            let below = [SOURCE.as_bytes(), b"/"].concat();
            tree.filter_map(|(path, seen)| Some((path.strip_prefix(&below[..])?.to_vec(), seen))).collect()
        }
    }
}

/// One version of a path.
#[derive(Clone, Debug)]
pub(super) struct Version {
    /// What it was.
    pub seen: Seen,
    /// From this step on.
    pub from: u64,
    /// Before this step; `None` if it still is.
    pub to: Option<u64>,
}

/// Every version of every path of the source.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    versions: BTreeMap<Vec<u8>, Vec<Version>>,
}

impl History {
    /// Takes note of what the source is at a step. Returns the paths that differ from what was known.
    pub(super) fn observe(&mut self, step: u64, tree: &Tree) -> Vec<Vec<u8>> {
        let mut changed = vec![];
        for (path, versions) in &mut self.versions {
            let Some(last) = versions.last_mut().filter(|last| last.to.is_none()) else { continue };
            if tree.get(path) != Some(&last.seen) {
                last.to = Some(step);
                changed.push(path.clone());
            }
        }
        for (path, seen) in tree {
            let versions = self.versions.entry(path.clone()).or_default();
            if versions.last().is_none_or(|last| last.to.is_some()) {
                versions.push(Version { seen: seen.clone(), from: step, to: None });
                changed.push(path.clone());
            }
        }
        changed
    }

    /// All versions of a path, oldest first.
    pub(super) fn of(&self, path: &[u8]) -> &[Version] {
        self.versions.get(path).map_or(&[], |versions| versions)
    }

    /// Versions of a path that were there at or after a step.
    pub(super) fn since<'a>(&'a self, path: &[u8], step: u64) -> impl Iterator<Item = &'a Version> {
        self.of(path).iter().filter(move |version| version.to.is_none_or(|to| to >= step))
    }

    /// Whether a path was missing at some time at or after a step.
    pub(super) fn was_missing_since(&self, path: &[u8], step: u64) -> bool {
        let mut covered = false;
        let mut at = step;
        for version in self.since(path, step) {
            if version.from > at {
                return true;
            }
            match version.to {
                Some(to) => at = to,
                None => covered = true,
            }
        }
        !covered
    }

    /// All paths that ever were.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.versions.keys()
    }
}
