//! One transfer on a stage of its own, run to its end through restarts, and judged by the
//! rig's oracle. What goes wrong meanwhile is the business of whoever plays.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::rig::kill::Pair;
use crate::rig::oracle::{self, Rules, Snapshot};
use crate::rig::process::Finished;
use crate::rig::scratch::Scratch;
use crate::rig::state::Places;
use crate::rig::transfer::{Listens, Live, Setup, Side};
use crate::rig::tree::{Content, Tree};
use crate::verdict::{How, Report, Verdict};

/// A life of both sides that takes longer has hung.
pub const LIFE: Duration = Duration::from_secs(120);
/// How often both sides are started at most.
const LIVES_MAX: u32 = 6;
/// Between two looks at running sides.
const PAUSE: Duration = Duration::from_millis(15);
/// What the link carries where something is to be done in the middle.
const SLOW_BYTES_PER_S: u64 = 16 << 20;

/// A stage.
pub struct Play {
    /// Both sides and what lies between.
    pub setup: Setup,
    /// The directory that is sent; it arrives as `source`.
    pub source: PathBuf,
    /// What happened, line by line.
    pub log: Vec<String>,
    /// Seed of the tree and the relay.
    pub seed: u64,
    files: usize,
    /// What the sender may deliver of each file that somebody changes: one of these, whole.
    versions: BTreeMap<Vec<u8>, Vec<Vec<u8>>>,
    // Last: removed when everything else has ended.
    scratch: Scratch,
}

/// How the last life ended, and what all of them said.
#[derive(Debug, Default)]
pub struct Ending {
    /// Exit codes of sender and receiver.
    pub codes: (Option<i32>, Option<i32>),
    /// Wrong bytes that were named.
    pub mismatches: u64,
    /// Chunks that were sent again for it.
    pub resent: u64,
    /// Notices that state was damaged and is made anew, or an entry tried again.
    pub notices: u64,
    /// Entries whose mode or time could not be set, as the receiver counted them last.
    pub attributes_not_applied: u64,
    /// Paths that were left out.
    pub left_out: Vec<String>,
    /// Everything that both have said.
    pub texts: String,
    /// How often they were started.
    pub lives: u32,
}

impl Ending {
    /// Both sides said 0.
    pub fn is_done(&self) -> bool {
        self.codes == (Some(0), Some(0))
    }

    /// Both sides said 0 or 5: everything that was not left out was acknowledged.
    pub fn is_acknowledged(&self) -> bool {
        [self.codes.0, self.codes.1].iter().all(|code| matches!(code, Some(0 | 5)))
    }
}

impl Play {
    /// A source of so many random files of so many bytes each, a new home for each side, and a slow relay between.
    pub fn new(name: &str, seed: u64, files: u32, file_bytes: u64) -> Result<Play, String> {
        crate::rig::process::build_landfall()?;
        let scratch = Scratch::new(name);
        let mut tree = Tree::new(&scratch.join("source"), seed);
        for file in 0..files {
            tree.file(format!("file-{file}"), &Content::Random(file_bytes));
        }
        let source = tree.finish();
        let mut setup = Setup::new(&scratch, "run", &[&source], Listens::Receiver);
        setup.through_relay(seed).rate(SLOW_BYTES_PER_S);
        let (log, versions) = (vec![], BTreeMap::new());
        Ok(Play { setup, source, log, seed, files: files as usize, versions, scratch })
    }

    /// Receives in that directory, in place of the stage's own. The ticket belongs to it, and is a new one.
    pub fn receive_in(&mut self, target: PathBuf) {
        self.setup.target = target;
        self.setup.through_relay(self.seed).rate(SLOW_BYTES_PER_S);
    }

    /// A path on this stage.
    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    /// Where the state of the transfer lies.
    pub fn places(&self) -> Places {
        self.setup.places(self.files)
    }

    /// Takes a note.
    pub fn note(&mut self, line: impl Into<String>) {
        self.log.push(line.into());
    }

    /// Waits until that many bytes stand in staging and under final names together, with a journal.
    pub fn await_staged(&self, live: &mut Live, bytes: u64) -> Result<(), String> {
        let places = self.places();
        let is_there = live.receiver.wait_until("staged bytes", LIFE, |_| {
            let look = places.look();
            look.staging_bytes >= bytes || (look.sealed_files > 0 && look.staging_files > 0)
        });
        if is_there { Ok(()) } else { Err("the receiver ended early".to_owned()) }
    }

    /// Changes a file of the source and remembers that the old content and the new are both right, and nothing else.
    pub fn change_source(
        &mut self,
        file: &str,
        change: impl FnOnce(&Path) -> std::io::Result<()>,
    ) -> Result<(), String> {
        let path = self.source.join(file);
        let read = |path: &Path| std::fs::read(path).map_err(|error| error.to_string());
        let known = self.versions.entry(file.as_bytes().to_vec()).or_default();
        if known.is_empty() {
            known.push(read(&path)?);
        }
        change(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        if path.symlink_metadata().is_ok_and(|found| found.is_file()) {
            known.push(read(&path)?);
        }
        Ok(())
    }

    /// Runs both to their end. A side that ends without success is started again, as its user would do it.
    pub fn finish(&mut self, live: Live) -> Result<Ending, String> {
        self.setup.relay().rate(0);
        let mut ending = Ending { lives: 1, ..Ending::default() };
        let mut pair = Pair::of(live);
        let deadline = Instant::now() + LIFE;
        while pair.is_running() {
            let open = |side| pair.ending(side).is_some_and(|finished| !matches!(finished.code(), Some(0 | 2 | 4 | 5)));
            if (open(Side::Sender) || open(Side::Receiver)) && ending.lives < LIVES_MAX {
                self.revive(&mut pair, &mut ending);
            }
            if Instant::now() > deadline {
                let said = last_lines(&pair.describe());
                pair.kill();
                return Err(format!("no end within {LIFE:?}\n{said}"));
            }
            std::thread::sleep(PAUSE);
        }
        while ending.lives < LIVES_MAX && self.revive(&mut pair, &mut ending) {
            pair.wait(LIFE)?;
        }
        pair.ended.iter().for_each(|(_, finished)| ending.take(finished));
        let code = |side| pair.ending(side).and_then(Finished::code);
        ending.codes = (code(Side::Sender), code(Side::Receiver));
        self.note(format!("ended: {:?} and {:?} after {} lives", ending.codes.0, ending.codes.1, ending.lives));
        Ok(ending)
    }

    /// Starts the sides again that have ended without success, and remembers what they said. `false`: there are none.
    fn revive(&self, pair: &mut Pair, ending: &mut Ending) -> bool {
        let failed: Vec<usize> =
            (0..pair.ended.len()).filter(|at| !matches!(pair.ended[*at].1.code(), Some(0 | 2 | 4 | 5))).collect();
        for at in failed.iter().rev() {
            let (_, finished) = pair.ended.remove(*at);
            ending.take(&finished);
        }
        if failed.is_empty() {
            return false;
        }
        ending.lives += 1;
        pair.revive(&self.setup, |_| false);
        true
    }

    /// What is wrong under final names: any difference where the run was acknowledged, else wrong bytes only.
    pub fn differences(&self, ending: &Ending) -> Vec<String> {
        let arrived = self.setup.target.join("source");
        let target = if arrived.is_dir() { oracle::snapshot(&arrived) } else { Snapshot::new() };
        let left_out: Vec<Vec<u8>> = ending
            .left_out
            .iter()
            .map(|path| path.trim_start_matches("source/").as_bytes().to_vec())
            .chain(self.versions.keys().cloned())
            .collect();
        let left_out: Vec<&[u8]> = left_out.iter().map(Vec::as_slice).collect();
        let mut found = oracle::differences(
            &oracle::snapshot(&self.source),
            &target,
            &Rules { left_out: &left_out, ..Rules::default() },
        );
        let is_changed = |line: &String| {
            self.versions.keys().any(|name| line.starts_with(&*format!("{}: ", String::from_utf8_lossy(name))))
        };
        found.retain(|line| !is_changed(line));
        // What may be one of several versions is looked at on its own, below; a directory's time follows its entries.
        found.retain(|line| {
            let is_of_root = line.starts_with(": ") && !self.versions.is_empty();
            !is_of_root && !line.contains("should have been left out")
        });
        if !ending.is_acknowledged() {
            found.retain(|line| line.contains(": bytes ") || line.contains(": size "));
        }
        for (name, versions) in &self.versions {
            let name = String::from_utf8_lossy(name);
            let path = arrived.join(&*name);
            // What became of it in the source may be a link, and is no file at the target either.
            let is_file = path.symlink_metadata().is_ok_and(|found| found.is_file());
            if is_file && !std::fs::read(&path).is_ok_and(|bytes| versions.contains(&bytes)) {
                found.push(format!("{name}: is no version that the source ever had"));
            }
        }
        found
    }

    /// Files somebody changed that arrived in their last version, or not at all if that is what it was.
    pub fn newest(&self) -> u64 {
        let is_newest = |(name, versions): &(&Vec<u8>, &Vec<Vec<u8>>)| {
            let name = String::from_utf8_lossy(name);
            let path = self.setup.target.join("source").join(&*name);
            let is_file = path.symlink_metadata().is_ok_and(|found| found.is_file());
            let arrived = if is_file { std::fs::read(&path).ok() } else { None };
            let is_there = self.source.join(&*name).symlink_metadata().is_ok_and(|found| found.is_file());
            if is_there { arrived.as_ref() == versions.last() } else { arrived.is_none() }
        };
        self.versions.iter().filter(is_newest).count() as u64
    }

    /// The report of a play that has to end with everything delivered, or with what could not be named.
    pub fn report(&mut self, fault: &str, how: How, injected: u64, ending: &Ending) -> Report {
        let differences = self.differences(ending);
        let verdict = if !differences.is_empty() {
            Verdict::Wrong(differences.join("; "))
        } else if ending.is_acknowledged() {
            Verdict::Good
        } else {
            Verdict::Stuck(format!("it ended with {:?}\n{}", ending.codes, last_lines(&ending.texts)))
        };
        self.note(format!("oracle: {} differences", differences.len()));
        let detected = ending.mismatches + ending.notices + ending.left_out.len() as u64;
        Report {
            fault: fault.to_owned(),
            how,
            injected,
            detected,
            repaired: if verdict == Verdict::Good {
                ending.resent.max(u64::from(ending.left_out.is_empty()))
            } else {
                0
            },
            verdict,
            plan: format!("files={} seed={:#x}", self.files, self.seed),
            log: std::mem::take(&mut self.log),
            reproduce: String::new(),
        }
    }
}

impl Ending {
    fn take(&mut self, finished: &Finished) {
        for event in finished.events() {
            let kind = event["kind"].as_str().unwrap_or_default();
            match event["event"].as_str().unwrap_or_default() {
                "mismatch" => self.mismatches += 1,
                "notice" if ["state-rebuilt", "retried", "disk-full"].contains(&kind) => self.notices += 1,
                "left-out" => self.left_out.extend(event["path"].as_str().map(str::to_owned)),
                "summary" => {
                    self.resent += event["resent_chunks"].as_u64().unwrap_or(0);
                    self.attributes_not_applied = event["attributes_not_applied"].as_u64().unwrap_or(0);
                }
                _ => (),
            }
        }
        self.texts.push_str(&finished.describe());
        self.texts.push('\n');
    }
}

/// The last lines of a text, each cut to what a screen shows.
fn last_lines(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| line.chars().take(160).collect()).collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}
