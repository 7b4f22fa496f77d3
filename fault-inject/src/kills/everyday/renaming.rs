//! `--existing rename`, and deaths at each step: what stood in the target is untouched, and what came lies beside it once,
//! under the name that both receipts tell.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::FileType;

use super::Amount;
use crate::kills::campaign::{Campaign, Ground};
use crate::kills::{failed, jobs};
use crate::rig::kill::{Trigger, Victim};
use crate::rig::oracle::{self, Node, Rules, Snapshot};
use crate::rig::scratch::Scratch;
use crate::rig::state::{self, KILLABLE, Step};
use crate::rig::transfer::{BOTH_DIRECTIONS, Setup};
use crate::rig::tree::{Content, Tree};
use crate::rig::{facility, held};
use crate::verdict::Report;

const FAULT: &str = "SIGKILL at each step with --existing rename";
/// Small files, of which every second one's name is taken.
const SMALL: usize = 24;
/// How long a receiver that holds its receipt waits for a sender who may hold it too.
const PATIENCE: &str = "10s";
/// The directory that is sent.
const TREE: &str = "tree";

/// Row 79: `--existing rename`.
pub(super) fn report(amount: Amount, seed: u64) -> Report {
    let ground = match Ground::taken(seed) {
        Ok(ground) => ground,
        Err(why) => return failed(FAULT, why),
    };
    // A sender that holds its receipt answers by itself, and the receiver then lingers for a minute.
    let is_wanted = |victim: Victim, step: Step| victim == Victim::Receiver || step < Step::Receipt;
    let mut all = vec![];
    for listens in BOTH_DIRECTIONS {
        let points = jobs::VICTIMS.into_iter().flat_map(|victim| KILLABLE.into_iter().map(move |step| (victim, step)));
        for (victim, step) in points.filter(|(victim, step)| is_wanted(*victim, *step)) {
            all.push(jobs::at_step(all.len(), step, victim, listens));
        }
    }
    if amount == Amount::Test {
        // One of each victim and direction, while files get their names.
        all.retain(|job| matches!(job.strikes[..], [(Trigger::AtStep(Step::Sealing), _)]));
    }
    let outcome = Campaign::on(&ground).run(&all);
    ground.assert_canary();
    outcome.report(FAULT, "kill --everyday", seed)
}

/// What stands in a target under the names of what comes.
pub struct Taken {
    seed: u64,
    source: PathBuf,
    /// Where each path goes that is not free. Written by hand: the first free of `stem (1).ext`, `stem (2).ext`, ...
    places: Vec<(String, String)>,
    /// Targets as they were before their transfers.
    before: Mutex<BTreeMap<PathBuf, Snapshot>>,
}

impl Taken {
    /// A source, and what its target is to have.
    pub(crate) fn new(scratch: &Scratch, seed: u64) -> (PathBuf, Taken) {
        let mut tree = Tree::new(&scratch.join(TREE), seed);
        tree.file("large.bin", &Content::Random(8 << 20));
        tree.file("photo.jpg", &Content::Random(1_500_000));
        tree.file("archive.tar.gz", &Content::Random(300_000));
        tree.file("dir/plain", &Content::Random(70_000));
        tree.file("twice.txt", &Content::Random(4000));
        tree.file("free.bin", &Content::Random(2 << 20));
        tree.small(".profile");
        (0..SMALL).for_each(|number| tree.small(format!("many/{number}.txt")));
        tree.symlink("link", "dir/plain");
        tree.symlink("free-link", "photo.jpg");
        tree.mtime("dir", 1_234_567_890, 7);
        tree.mode("dir", 0o750);
        let source = tree.finish();
        let by_hand = [
            ("large.bin", "large (1).bin"),
            ("photo.jpg", "photo (1).jpg"),
            ("archive.tar.gz", "archive.tar (1).gz"),
            ("dir/plain", "dir/plain (1)"),
            ("twice.txt", "twice (2).txt"),
            (".profile", ".profile (1)"),
            ("link", "link (1)"),
        ];
        let by_hand = by_hand.into_iter().map(|(path, place)| (path.to_owned(), place.to_owned()));
        let small =
            (0..SMALL).step_by(2).map(|number| (format!("many/{number}.txt"), format!("many/{number} (1).txt")));
        (source.clone(), Taken { seed, source, places: by_hand.chain(small).collect(), before: Mutex::default() })
    }

    /// Fills the target of a transfer. How many files stand there.
    pub(crate) fn prepare(&self, setup: &mut Setup) -> usize {
        setup.receiver_options = ["--existing", "rename", "--patience", PATIENCE].map(str::to_owned).to_vec();
        let mut tree = Tree::new(&setup.target, self.seed ^ 1);
        let own = |path: &str| format!("{TREE}/{path}");
        for (path, _) in self.places.iter().filter(|(path, _)| path != "large.bin" && path != "link") {
            tree.small(own(path));
        }
        // A chunk of it is another: what is not is copied from here, into another file.
        let mut large = std::fs::read(self.source.join("large.bin")).unwrap_or_default();
        large[3 << 20] ^= 1;
        tree.file(own("large.bin"), &Content::Bytes(large));
        tree.symlink(own("link"), "elsewhere");
        tree.small(own("twice (1).txt"));
        tree.small(own("beside"));
        tree.small("beside");
        let before = oracle::snapshot(&tree.finish());
        let files = before.values().filter(|node| node.kind == FileType::RegularFile).count();
        self.before.lock().unwrap_or_else(PoisonError::into_inner).insert(setup.target.clone(), before);
        files
    }

    /// What is wrong with a transfer that both sides call finished.
    pub(crate) fn judge(&self, wanted: &Snapshot, setup: &Setup) -> Option<String> {
        let before = self.before.lock().unwrap_or_else(PoisonError::into_inner).remove(&setup.target);
        let before = before.unwrap_or_default();
        let now = oracle::snapshot_without(&setup.target, &[b".landfall"]);
        let is_dir = |node: &Node| node.kind == FileType::Directory;
        let stays = || before.iter().filter(|(_, node)| !is_dir(node));
        let mut expected: Snapshot = stays().map(|(path, node)| (path.clone(), node.clone())).collect();
        let sent = wanted.iter().map(|(path, node)| (held::join(TREE.as_bytes(), &self.place(path)), node.clone()));
        expected.extend(sent.map(|(path, node)| (path.strip_suffix(b"/").map_or(path.clone(), <[u8]>::to_vec), node)));
        expected.extend(now.get(&b""[..]).map(|root| (vec![], root.clone())));
        let mut found = oracle::differences(&expected, &now, &Rules::default());
        let is_touched = |(path, node): &(&Vec<u8>, &Node)| now.get(*path) != Some(*node);
        let touched = stays().filter(is_touched);
        found.extend(touched.map(|(path, _)| format!("{}: it stood there, and was touched", facility::shown(path))));
        found.extend(state::work_left(&setup.target));
        for home in [&setup.receiver_home, &setup.sender_home] {
            state::receipts(home).iter().for_each(|receipt| found.extend(self.not_named(wanted, receipt)));
        }
        (!found.is_empty()).then(|| oracle::in_lines(&found))
    }

    fn place(&self, path: &[u8]) -> Vec<u8> {
        let taken = self.places.iter().find(|(own, _)| own.as_bytes() == path);
        taken.map_or_else(|| path.to_vec(), |(_, place)| place.clone().into_bytes())
    }

    /// What a receipt does not tell of the new names, or tells wrongly.
    fn not_named(&self, wanted: &Snapshot, receipt: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(receipt).unwrap_or_default();
        let lines: Vec<serde_json::Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let mut found = vec![];
        for (path, place) in &self.places {
            let line = lines.iter().find(|line| line["path"].as_str() == Some(&*format!("{TREE}/{path}")));
            let named = line.and_then(|line| line["renamed_to"].as_str());
            let digest = wanted.get(path.as_bytes()).and_then(|node| node.digest.ok().flatten());
            let digest = digest.map(|digest| blake3::Hash::from_bytes(digest).to_hex().to_string());
            let is_right = line.is_some_and(|line| line["digest"].as_str() == digest.as_deref());
            if named != Some(&*format!("{TREE}/{place}")) || !is_right {
                found.push(format!("{path}: {} says {line:?}", receipt.display()));
            }
        }
        found
    }
}
