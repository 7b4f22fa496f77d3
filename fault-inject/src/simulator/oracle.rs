//! The oracle: whether what the receiver said is true, by the disks' side doors and the simulator's own memory of
//! the source. It shares no code with the product: it reads receipt files as text, compares bytes with bytes, and
//! hashes nothing.

use std::collections::{BTreeMap, BTreeSet};

use landfall::attributes::FileKind;
use landfall::geometry::EntryIndex;
use landfall::options::Existing;

use super::plan::{Class, Plan};
use super::receiving::HOME;
use super::tree::{History, Tree, target_tree};
use crate::sim_disk::{Seen, SimDisk, SimFault, View};

/// What really struck so far; only that excuses anything.
#[derive(Clone, Debug, Default)]
pub(super) struct Excuses {
    /// The source was edited.
    pub edits: u64,
    /// The source was touched, perhaps in nothing but the time of its last change: a mode that was set to what it was.
    /// Whoever reads the file just then cannot know that its content is the same, and may say that it changed.
    pub touches: u64,
    /// Chunks were damaged on their way.
    pub damaged_chunks: u64,
    /// State or staging of the receiver was damaged, or its machine lost power.
    pub receiver_state: u64,
    /// The receiver's disk was full.
    pub full: u64,
    /// Bytes of staged files were changed while the receiver was down, in a file of the number that the journal knows.
    pub marred: u64,
    /// Staged files were exchanged. Once, each is a file that no claim of its name speaks of; twice, it may be the one
    /// that a claim speaks of, with what was written under the other name.
    pub swapped: u64,
    /// Another program meddled with the target.
    pub meddled: u64,
    /// Entries that were withdrawn. Where the sender has lost the end of its log, one may hold again, and its claims
    /// speak of bytes that a later version has overwritten in the same staging file.
    pub withdrawn: BTreeSet<u32>,
    /// The receiver's log was cut to an earlier position, by whatever means. An earlier version whose withdrawal was in
    /// what is gone holds again until it is told anew, and what is copied for it from the target overwrites what claims
    /// of the later version speak of.
    pub log_cut: bool,
}

/// What a receipt says of one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said {
    /// The outcome's word.
    pub outcome: String,
    /// Under which path it stands.
    pub place: Vec<u8>,
}

/// The oracle of one seed.
#[derive(Clone, Debug)]
pub(super) struct Oracle {
    /// Every version of the source.
    pub history: History,
    /// What the target held before.
    pub before: Tree,
    /// What struck.
    pub excuses: Excuses,
    /// What another program put under names of the source where nothing stood: not ours to replace.
    pub planted: BTreeMap<Vec<u8>, Vec<u8>>,
    may_replace: bool,
    may_rename: bool,
    /// What was delivered under the last receipt: it must stay.
    promised: BTreeMap<Vec<u8>, Seen>,
    /// The receipt's bytes, once there is one.
    pub receipt: Option<Vec<u8>>,
    /// The last receipt names an entry under another name than its own.
    pub has_renamed: bool,
    has_rot: bool,
    has_source_errors: bool,
}

/// The text of a JSON string field in a line, as far as the simulator's plain names need it.
fn field<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let start = line.find(&format!("\"{key}\":\""))? + key.len() + 4;
    line[start..].split('"').next()
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

fn receipt_path(disk: &SimDisk, role: &str) -> Option<Vec<u8>> {
    let suffix = format!(".{role}.receipt");
    let start = format!("{HOME}/receipts/");
    let tree = disk.tree(View::Durable);
    let is_it = |path: &&Vec<u8>| path.starts_with(start.as_bytes()) && path.ends_with(suffix.as_bytes());
    tree.keys().find(|path| is_it(path) && !path[start.len()..].starts_with(b".")).cloned()
}

/// A path with a number in its last name, by the rule of the documentation.
fn numbered(path: &[u8], number: u32) -> Vec<u8> {
    let text = String::from_utf8(path.to_vec()).expect("names of the simulator are plain");
    let (above, name) = text.rsplit_once('/').map_or(("", &text[..]), |(above, name)| (above, name));
    let slash = if above.is_empty() { "" } else { "/" };
    match name.rsplit_once('.') {
        Some((stem, extension)) if !stem.is_empty() => format!("{above}{slash}{stem} ({number}).{extension}"),
        _ => format!("{above}{slash}{name} ({number})"),
    }
    .into_bytes()
}

/// The number with which a path has become another one.
fn number_of(path: &[u8], place: &[u8]) -> Option<u32> {
    const NUMBERS: u32 = 40;
    // Whatever comes from another name is longer, and most names are told apart by that.
    (place.len() > path.len()).then(|| (1..NUMBERS).find(|number| numbered(path, *number) == place)).flatten()
}

/// The bytes of the receipt that would survive a power cut now.
pub(super) fn durable_receipt(disk: &SimDisk, role: &str) -> Option<Vec<u8>> {
    Some(disk.look(&receipt_path(disk, role)?, View::Durable)?.bytes)
}

impl Oracle {
    /// An oracle for a source and a target as they are.
    pub(super) fn new(history: History, before: Tree, plan: &Plan) -> Oracle {
        Oracle {
            history,
            before,
            excuses: Excuses::default(),
            planted: BTreeMap::new(),
            may_replace: plan.existing == Existing::Replace,
            may_rename: plan.existing == Existing::Rename,
            promised: BTreeMap::new(),
            receipt: None,
            has_renamed: false,
            has_rot: plan.has(Class::Rot),
            has_source_errors: plan.has(Class::SourceErrors),
        }
    }

    /// No final name ever stands for bytes that were not verified: each file in the target is what was there before,
    /// or one version of the source.
    pub(super) fn check_names(&self, disk: &SimDisk, view: View) -> Result<(), String> {
        let damaged = if self.has_rot { disk.damaged_pages() } else { vec![] };
        let target = target_tree(disk, view);
        self.check_planted(&target)?;
        for (path, seen) in target {
            if seen.kind != FileKind::Regular {
                continue;
            }
            let is_before = self.before.get(&path).is_some_and(|before| before.bytes == seen.bytes);
            let is_version = self.is_a_version(&path, &seen);
            // Rot may strike what was verified and is read once more; whoever reads it then sees it.
            let is_rotten = damaged.iter().any(|page| page.path.ends_with(&path));
            if !is_before && !is_version && !is_rotten {
                return Err(format!("`{}` stands under its name and is no version of it ({view:?})", shown(&path)));
            }
        }
        Ok(())
    }

    /// Whether a file holds what the source once had for an entry that may have this name.
    fn is_a_version(&self, path: &[u8], seen: &Seen) -> bool {
        let is_of = |source: &Vec<u8>| {
            let versions = self.history.of(source).iter().map(|version| &version.seen);
            versions.into_iter().any(|version| version.kind == FileKind::Regular && version.bytes == seen.bytes)
        };
        is_of(&path.to_vec())
            || (self.may_rename
                && self.history.paths().any(|source| is_of(source) && number_of(source, path).is_some()))
    }

    /// What another program put under a name stays, unless the policy is to replace it.
    fn check_planted(&self, target: &Tree) -> Result<(), String> {
        let is_gone = |(path, bytes): &(&Vec<u8>, &Vec<u8>)| target.get(*path).is_none_or(|seen| seen.bytes != **bytes);
        match self.planted.iter().find(is_gone).filter(|_| !self.may_replace && !self.has_rot) {
            Some((path, _)) => Err(format!("`{}` was put there by somebody else and was replaced", shown(path))),
            None => Ok(()),
        }
    }

    /// After a power cut: what another program put into a directory that did not last is gone with it.
    pub(super) fn forget_what_was_lost(&mut self, disk: &SimDisk) {
        let target = target_tree(disk, View::Cached);
        let Oracle { planted, before, .. } = self;
        planted.retain(|path, _| {
            let is_there = target.contains_key(path);
            if !is_there {
                before.remove(path);
            }
            is_there
        });
    }

    /// Whether an inode may be left for a new one.
    pub(super) fn may_be_renewed(&self, disk: &SimDisk) -> bool {
        self.has_disk_faults(disk) || self.excuses.marred + self.excuses.meddled > 0
    }

    /// Whether bytes of an entry that differ when they are read back may be blamed on anybody.
    pub(super) fn may_differ(&self, disk: &SimDisk, entry: EntryIndex) -> bool {
        const NAMES_AND_WRITES: [SimFault; 3] = [SimFault::WriteFails, SimFault::SyncDirFails, SimFault::NameFails];
        let counts = disk.counts();
        let is_struck = |fault: &SimFault| counts.struck(*fault) > 0 && !NAMES_AND_WRITES.contains(fault);
        let excuses = &self.excuses;
        counts.failed_at > 0
            || SimFault::ALL.iter().any(is_struck)
            || excuses.marred + excuses.meddled > 0
            || excuses.swapped > 1
            || excuses.withdrawn.contains(&entry.0)
            || ((excuses.log_cut || excuses.receiver_state > 0) && !excuses.withdrawn.is_empty())
    }

    /// The receipt was persisted: everything it says is true now, on what would survive a power cut. `since` is the
    /// step at which the sender's process began that settled the manifest.
    pub(super) fn check_receipt(&mut self, disk: &SimDisk, home: &SimDisk, since: u64) -> Result<(), String> {
        let bytes = durable_receipt(home, "receiver").ok_or("a receipt was issued and is not durable")?;
        let text = String::from_utf8(bytes.clone()).map_err(|_| "the receipt is not text")?;
        let mut said = BTreeMap::new();
        for line in text.lines().skip(1) {
            let path = field(line, "path").ok_or_else(|| format!("no path in `{line}`"))?;
            let outcome = field(line, "outcome").ok_or_else(|| format!("no outcome in `{line}`"))?;
            let place = field(line, "renamed_to").unwrap_or(path).as_bytes().to_vec();
            said.insert(path.as_bytes().to_vec(), Said { outcome: outcome.to_owned(), place });
        }
        let target = target_tree(disk, View::Durable);
        let mut promised = BTreeMap::new();
        let all: Vec<Said> = said.values().cloned().collect();
        for (path, said) in &said {
            if self.history.since(path, since).next().is_none() {
                return Err(format!("the receipt names `{}`, which the source did not have", shown(path)));
            }
            let is_shared = all.iter().filter(|other| other.place == said.place).count() > 1;
            let found = target.get(&said.place);
            if let Some(seen) = self.check_path(disk, (path, &said.place, is_shared), &said.outcome, found, since)? {
                self.check_place(disk, path, said, &target)?;
                promised.insert(said.place.clone(), seen);
            }
        }
        self.check_before(disk, &target)?;
        self.has_renamed = said.iter().any(|(path, said)| said.place != *path);
        let missing =
            self.history.paths().find(|path| !said.contains_key(*path) && !self.history.was_missing_since(path, since));
        if let Some(path) = missing {
            return Err(format!("the receipt does not name `{}`, which the source has: {text}", shown(path)));
        }
        self.promised = promised;
        self.receipt = Some(bytes);
        self.check_unrelated(&target)
    }

    fn check_path(
        &self,
        disk: &SimDisk,
        (path, place, is_shared): (&[u8], &[u8], bool),
        outcome: &str,
        target: Option<&Seen>,
        since: u64,
    ) -> Result<Option<Seen>, String> {
        let is_bare = match outcome {
            "delivered" => false,
            "renamed" if self.may_rename => false,
            "attributes-not-applied" if self.has_disk_faults(disk) || is_shared => true,
            "renamed-attributes-not-applied" if self.may_rename && (self.has_disk_faults(disk) || is_shared) => true,
            reason => return self.check_left_out(disk, path, reason, target).map(|()| None),
        };
        let Some(target) = target else { return Err(format!("`{}` is {outcome} and not there", shown(path))) };
        let is_equal = self.history.since(path, since).any(|version| {
            let source = &version.seen;
            let has_attributes = source.mtime == target.mtime
                && (source.kind == FileKind::Symlink || source.mode & 0o777 == target.mode & 0o777);
            source.kind == target.kind
                && (source.kind == FileKind::Directory || source.bytes == target.bytes)
                && (is_bare || has_attributes)
        });
        // A file that has its name may be read once more, to compare it with another entry's that wants this name too.
        let is_rotten = || {
            let damaged = if self.has_rot && self.may_rename { disk.damaged_pages() } else { vec![] };
            damaged.iter().any(|page| page.path.ends_with(place))
        };
        match is_equal || is_rotten() {
            true => Ok(Some(target.clone())),
            false => {
                let what = self.history.since(path, since).map(|version| {
                    let source = &version.seen;
                    let bytes = source.bytes.len().min(target.bytes.len());
                    let differs = (0..bytes).find(|at| source.bytes[*at] != target.bytes[*at]);
                    let lengths = (source.bytes.len(), target.bytes.len());
                    let attributes = (source.mode == target.mode, source.mtime == target.mtime);
                    format!("lengths {lengths:?}, first byte {differs:?}, mode and time {attributes:?}")
                });
                let what: Vec<String> = what.collect();
                Err(format!("`{}` is {outcome} and differs from the source: {}", shown(path), what.join("; ")))
            }
        }
    }

    /// An entry stands under the first of its names that was free or had the same: what has those before it differs.
    fn check_place(&self, disk: &SimDisk, path: &[u8], said: &Said, target: &Tree) -> Result<(), String> {
        if said.place == path {
            let is_plain = !said.outcome.starts_with("renamed");
            return if is_plain { Ok(()) } else { Err(format!("`{}` is {} to nothing", shown(path), said.outcome)) };
        }
        let number = number_of(path, &said.place);
        let number = number.ok_or_else(|| format!("`{}` is no name for `{}`", shown(&said.place), shown(path)))?;
        if self.has_disk_faults(disk) || self.excuses.meddled + self.excuses.edits > 0 {
            return Ok(());
        }
        let at = |place: &[u8]| target.get(place).map(|seen| (seen.kind, &seen.bytes));
        let earlier = std::iter::once(path.to_vec()).chain((1..number).map(|number| numbered(path, number)));
        for name in earlier {
            if at(&name).is_none() || at(&name) == at(&said.place) {
                let (name, place) = (shown(&name), shown(&said.place));
                return Err(format!("`{}` stands as `{place}` though `{name}` is free or the same", shown(path)));
            }
        }
        Ok(())
    }

    /// What stood in the target before is what it was, where entries get other names. Its time may be an equal entry's. What
    /// was equal to a version of its entry is the transfer's from then on: a newer version takes its place.
    fn check_before(&self, disk: &SimDisk, target: &Tree) -> Result<(), String> {
        if !self.may_rename || self.has_disk_faults(disk) {
            return Ok(());
        }
        for (path, before) in self.before.iter().filter(|(_, seen)| seen.kind != FileKind::Directory) {
            let is_same = |seen: &Seen| (seen.kind, &seen.bytes) == (before.kind, &before.bytes);
            let is_newer = || self.excuses.edits > 0 && self.is_a_version(path, before);
            if !target.get(path).is_some_and(is_same) && !is_newer() {
                return Err(format!("`{}` was there before and is not what it was", shown(path)));
            }
        }
        Ok(())
    }

    /// An entry was left out: something that struck must justify the reason.
    fn check_left_out(&self, disk: &SimDisk, path: &[u8], reason: &str, target: Option<&Seen>) -> Result<(), String> {
        let excuses = &self.excuses;
        let disk_faults = self.has_disk_faults(disk);
        let is_special = self.history.of(path).iter().any(|version| version.seen.kind == FileKind::Special);
        let is_closed = self.history.of(path).iter().any(|version| version.seen.mode & 0o400 == 0);
        let is_justified = match reason {
            "special" => is_special,
            "unreadable" => is_closed || excuses.edits > 0,
            "changed" => excuses.edits + excuses.touches > 0,
            "vanished" => excuses.edits > 0,
            "source-error" | "source-unsteady" => self.has_source_errors,
            "arrival-differs" => excuses.damaged_chunks > 0,
            "exists-different" | "kept" => {
                let has_history = excuses.edits > 0 && (excuses.receiver_state > 0 || disk_faults);
                self.stood_in_the_way(path) || has_history || disk_faults
            }
            "collision" | "parent-left-out" => self.stood_in_the_way(path) || excuses.edits > 0 || disk_faults,
            "write-failed" => disk_faults || excuses.full > 0,
            "target-changed" | "device-differs" => disk_faults || excuses.meddled > 0,
            "sync-failed" | "target-denied" => disk_faults,
            _ => false,
        };
        if !is_justified {
            return Err(format!("`{}` was left out as {reason} though nothing justifies it", shown(path)));
        }
        let is_refused = matches!(reason, "exists-different" | "kept");
        if is_refused && excuses.edits == 0 && !disk_faults && target != self.before.get(path) {
            return Err(format!("`{}` was left out as {reason} and is not what it was", shown(path)));
        }
        Ok(())
    }

    /// Whether the target held something at the path, above or below it.
    fn stood_in_the_way(&self, path: &[u8]) -> bool {
        self.before.iter().any(|(other, seen)| {
            other == path || (path.starts_with(&[other, &b"/"[..]].concat()) && seen.kind != FileKind::Directory)
        })
    }

    fn has_disk_faults(&self, disk: &SimDisk) -> bool {
        let counts = disk.counts();
        counts.failed_at > 0 || SimFault::ALL.into_iter().any(|fault| counts.struck(fault) > 0)
    }

    /// What nobody sent stays as it was.
    fn check_unrelated(&self, target: &Tree) -> Result<(), String> {
        let is_ours = |path: &[u8]| self.history.paths().any(|ours| ours == path);
        for (path, before) in
            self.before.iter().filter(|(path, seen)| !is_ours(path) && seen.kind != FileKind::Directory)
        {
            if target.get(path).map(|seen| &seen.bytes) != Some(&before.bytes) {
                return Err(format!("`{}` was nobody's to change", shown(path)));
            }
        }
        Ok(())
    }

    /// Whether another program put a file into that directory, which changes its time.
    fn is_planted_in(&self, dir: &[u8]) -> bool {
        let parent = |path: &Vec<u8>| path.iter().rposition(|byte| *byte == b'/').map(|slash| path[..slash].to_vec());
        self.planted.keys().any(|path| parent(path).is_some_and(|parent| parent == dir))
    }

    /// What was promised stands, in that view of the disk.
    pub(super) fn check_promise(&self, disk: &SimDisk, view: View) -> Result<(), String> {
        let target = target_tree(disk, view);
        for (path, promised) in &self.promised {
            let is_kept = target.get(path).is_some_and(|seen| {
                let are_bytes_kept = seen.kind == FileKind::Directory || seen.bytes == promised.bytes;
                let is_time_kept = seen.mtime == promised.mtime || self.is_planted_in(path);
                are_bytes_kept && is_time_kept && (seen.kind, seen.mode) == (promised.kind, promised.mode)
            });
            if !is_kept {
                return Err(format!("`{}` was acknowledged and is not there any more ({view:?})", shown(path)));
            }
        }
        Ok(())
    }

    /// The sender has acknowledged: both sides hold the same receipt, and the tree is what it says.
    pub(super) fn check_acknowledged(
        &self,
        receiver: &SimDisk,
        home: &SimDisk,
        sender: &SimDisk,
    ) -> Result<(), String> {
        let theirs = durable_receipt(home, "receiver");
        let theirs = theirs.ok_or("the sender has acknowledged a receipt that is not durable at the receiver")?;
        let ours = durable_receipt(sender, "sender").ok_or("an acknowledged receipt is not durable at the sender")?;
        if ours != theirs || self.receipt.as_ref() != Some(&theirs) {
            let show = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            return Err(format!("the two sides hold different receipts: {} and {}", show(&ours), show(&theirs)));
        }
        self.check_promise(receiver, View::Durable)
    }
}
