//! Brain and store in one thread over a temporary directory, stopped after any step.

use std::collections::VecDeque;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::sender::{HEADER, Node, Sender, Tree};
use crate::disk::{RealDir, RealDisk};
use crate::geometry::EntryIndex;
use crate::manifest::{Position, Record};
use crate::options::Existing;
use crate::outcome::Outcome;
use crate::pool::Pool;
use crate::session::receiver::{Ending, Receiver, Settings};
use crate::store::{Done, Layout, Policy, Proof, Recovered, Store, recover};
use crate::task::receiver::{End, Input, Task};
use crate::wire::{Message, Place};

/// Steps after which a run has surely gone astray.
const STEPS_MAX: usize = 100_000;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// By itself.
    End(End),
    /// It was stopped after the steps it was given.
    Killed,
}

/// A target directory, and how it is worked in.
pub(super) struct Rig {
    pub(super) dir: tempfile::TempDir,
    pub(super) policy: Policy,
    pub(super) pool: Pool,
    /// Records in one page.
    pub(super) page_records: usize,
    /// Outcomes other than delivery of the last receipt, by path.
    pub(super) exceptions: Arc<Mutex<Vec<(String, Outcome)>>>,
}

/// A store and a brain that are at work.
pub(super) struct Run {
    pub(super) brain: Receiver,
    pub(super) store: Store<RealDisk>,
    inputs: VecDeque<Input>,
    /// Batches that are synced and not read back yet: later than all else, so that they overlap.
    proofs: VecDeque<Proof<RealDisk>>,
    wanted: VecDeque<Place>,
    end: Option<End>,
    is_restarting: bool,
    /// Something of the target was compared.
    pub(super) has_compared: bool,
    /// The position at which the sender was said to have settled.
    settled: Option<u64>,
    now: Instant,
}

impl Rig {
    pub(super) fn new() -> Rig {
        Rig {
            dir: tempfile::tempdir().unwrap(),
            policy: Policy { existing: Existing::Refuse, reserve_bytes: Some(0) },
            pool: Pool::inline(),
            page_records: 1000,
            exceptions: Arc::default(),
        }
    }

    pub(super) fn with(existing: Existing) -> Rig {
        Rig { policy: Policy { existing, reserve_bytes: Some(0) }, ..Rig::new() }
    }

    pub(super) fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    /// The receiver's own files.
    pub(super) fn state(&self) -> PathBuf {
        self.at(".landfall").join(HEADER.transfer.to_string())
    }

    pub(super) fn root(&self) -> RealDir {
        RealDisk::open_root(self.dir.path()).unwrap()
    }

    /// Opens what is there. The brain has consent and a link.
    pub(super) fn start(&self, rung: Option<Position>) -> Run {
        let linger = Duration::from_secs(60);
        let settings = Settings {
            chunk_bytes: HEADER.chunk_bytes,
            max_bytes: None,
            patience: None,
            linger,
            batch_files: crate::limits::BATCH_FILES_MAX,
        };
        let mut brain = Receiver::new(settings, Ending::open(linger));
        let layout = Layout::open(&RealDisk::new(), self.root(), HEADER.transfer).unwrap();
        let note = |noted| brain.note(noted);
        let recovered = recover(&RealDisk::new(), layout, HEADER, self.policy, self.pool, rung, note).unwrap();
        let Recovered { store, .. } = recovered;
        let inputs = VecDeque::from([Input::Consented, Input::Connected]);
        let (proofs, wanted) = (VecDeque::new(), VecDeque::new());
        Run {
            brain,
            store,
            inputs,
            proofs,
            wanted,
            end: None,
            is_restarting: false,
            has_compared: false,
            settled: None,
            now: Instant::now(),
        }
    }

    /// Works until the end, or for so many steps. A log that the sender does not have is cut first.
    pub(super) fn run(&self, sender: &mut Sender, steps: usize) -> Ended {
        let mut run = self.start(None);
        if !run.is_log_of(sender) {
            drop(run);
            run = self.start(Some(Position { record_count: 0, chain: HEADER.chain() }));
        }
        self.go_on(&mut run, sender, steps)
    }

    pub(super) fn go_on(&self, run: &mut Run, sender: &mut Sender, steps: usize) -> Ended {
        let settled = sender.records.len() as u64;
        if run.settled.replace(settled) != Some(settled) {
            run.inputs.push_back(Input::Settled(settled));
        }
        for step in 0.. {
            if let Some(end) = run.end {
                return Ended::End(end);
            }
            if run.is_restarting {
                *run = self.start(None);
                run.settled = Some(settled);
                run.inputs.push_back(Input::Settled(settled));
            }
            if step >= steps {
                return Ended::Killed;
            }
            assert!(step < STEPS_MAX, "it does not end: {:?}", run.brain);
            self.step(run, sender);
        }
        unreachable!("the steps are counted")
    }

    /// One thing is done: a task, an input, a page or a chunk.
    fn step(&self, run: &mut Run, sender: &mut Sender) {
        if let Some(task) = run.brain.poll() {
            return self.perform(run, task);
        }
        if let Some(input) = run.inputs.pop_front() {
            if let Input::BatchSettled(files) = &input {
                run.store.intake.after_settle(files);
            }
            return run.brain.handle(run.now, input);
        }
        let position = run.store.shared.with_log(|log| log.position());
        if position.record_count < sender.records.len() as u64 {
            let mut notes = vec![];
            let page = sender.page(position.record_count, self.page_records);
            run.store.intake.append(&page, &mut notes).unwrap();
            return run.inputs.push_back(Input::Noted(notes));
        }
        if let Some(place) = run.wanted.pop_front() {
            let (header, bytes) = sender.chunk(place);
            return run.inputs.push_back(run.store.intake.receive(header, bytes));
        }
        if let Some(proof) = run.proofs.pop_front() {
            return self.settle(run, proof);
        }
        run.now = run.now.max(run.brain.poll_timeout().expect("something is due when nothing happens"));
        run.inputs.push_back(Input::Tick);
    }

    fn perform(&self, run: &mut Run, task: Task) {
        run.has_compared |= matches!(task, Task::Adopt(_));
        match run.store.intake.perform(task) {
            Done::Nothing => (),
            Done::Input(input) => run.inputs.push_back(input),
            Done::Work(work) => {
                run.inputs.extend(run.store.intake.take_missing());
                match run.store.syncer.perform(work) {
                    Ok(proof @ Proof::Errand(_)) if run.proofs.is_empty() => self.settle(run, proof),
                    Ok(proof) => {
                        run.inputs.extend(matches!(proof, Proof::Batch(_)).then_some(Input::BatchSynced));
                        run.proofs.push_back(proof);
                    }
                    Err(input) => run.inputs.push_back(input),
                }
            }
            Done::NotMine(Task::Send(Message::Want(want))) => {
                for wanted in want.runs {
                    let entry = wanted.entry.0;
                    let chunks = wanted.first..wanted.first + wanted.count;
                    run.wanted.extend(chunks.map(|chunk| Place { entry, chunk }));
                }
            }
            Done::NotMine(Task::SendReceipt) => run.inputs.push_back(Input::Acknowledged),
            Done::NotMine(Task::Restart) => run.is_restarting = true,
            Done::NotMine(Task::End(end)) => run.end = Some(end),
            Done::NotMine(_) => (),
        }
    }

    fn settle(&self, run: &mut Run, proof: Proof<RealDisk>) {
        let exceptions = Arc::clone(&self.exceptions);
        let input = run.store.settler.perform(proof, |shared, _| {
            let found = shared.ledger().exceptions.clone();
            let named = found.into_iter().filter(|(entry, _)| !shared.ledger().is_withdrawn(EntryIndex(*entry)));
            let named = named.map(|(entry, outcome)| {
                let record: Record = shared.with_log(|log| log.introduction(EntryIndex(entry))).unwrap();
                (String::from_utf8(record.path().unwrap().as_bytes().to_vec()).unwrap(), outcome)
            });
            *exceptions.lock().unwrap() = named.collect();
            Ok(())
        });
        run.inputs.push_back(input);
    }

    /// Works to the end, which must be a good one, and compares the target with the tree.
    #[track_caller]
    pub(super) fn finish(&self, sender: &mut Sender, tree: &Tree) {
        assert_eq!(self.run(sender, STEPS_MAX), Ended::End(End::Acknowledged));
        assert!(!self.at(".landfall").exists(), "the state is removed");
        self.compare(tree);
    }

    /// The target holds the tree and nothing else.
    #[track_caller]
    pub(super) fn compare(&self, tree: &Tree) {
        let mut found = vec![];
        list(self.dir.path(), self.dir.path(), &mut found);
        let expected: Vec<&String> = tree.keys().collect();
        assert_eq!(found.iter().collect::<Vec<_>>(), expected);
        for (path, node) in tree {
            // Not shown: thousands of bytes tell nobody anything.
            assert!(look(&self.at(path)) == *node, "{path} is not what it should be");
        }
    }
}

impl Run {
    fn is_log_of(&self, sender: &Sender) -> bool {
        self.store.shared.with_log(|log| {
            let mut cursor = log.find(Position { record_count: 0, chain: HEADER.chain() }).unwrap().unwrap();
            let mut at = 0;
            loop {
                let page = log.page(&mut cursor).unwrap();
                if page.is_empty() {
                    return true;
                }
                for record in crate::wire::split_records(&page).unwrap() {
                    if sender.records.get(at).map(Vec::as_slice) != Some(record) {
                        return false;
                    }
                    at += 1;
                }
            }
        })
    }
}

/// Every path below, without our state; sorted like a tree's keys.
fn list(root: &Path, dir: &Path, found: &mut Vec<String>) {
    let is_denied = fs::metadata(dir).unwrap().permissions().mode() & 0o500 != 0o500;
    assert!(!is_denied || rustix::process::geteuid().is_root(), "no directory here locks its owner out");
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        if name == ".landfall" {
            continue;
        }
        found.push(name);
        if path.symlink_metadata().unwrap().is_dir() {
            list(root, &path, found);
        }
    }
    found.sort();
}

/// What is there.
fn look(path: &Path) -> Node {
    let stat = path.symlink_metadata().unwrap();
    let mode = u16::try_from(stat.mode() & 0o7777).unwrap();
    let nanos = u32::try_from(stat.mtime_nsec()).unwrap();
    let mtime = crate::attributes::Timestamp { seconds: stat.mtime(), nanos };
    if stat.is_dir() {
        return Node::Directory { mode, mtime };
    }
    if stat.is_symlink() {
        return Node::Symlink { target: fs::read_link(path).unwrap().into_os_string().into_encoded_bytes() };
    }
    if mode & 0o400 == 0 && !rustix::process::geteuid().is_root() {
        // Its owner may look at it only so.
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        let bytes = fs::read(path).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(u32::from(mode))).unwrap();
        return Node::File { bytes, mode, mtime };
    }
    Node::File { bytes: fs::read(path).unwrap(), mode, mtime }
}
