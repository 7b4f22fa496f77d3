//! Receipts that are good, and in every way bad; directories that are the same, and in every way not.
#![allow(clippy::unwrap_used)]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

use super::*;
use crate::attributes::Level;
use crate::digest::{FileDigest, OutcomeDigest};
use crate::disk::{RealDisk, RealFile};
use crate::identity::TransferId;
use crate::net::Identity;
use crate::outcome::{Counts, Outcome, Reason};
use crate::receipt::{VERSION, head_to_json};

const MTIME: Timestamp = Timestamp { seconds: -5, nanos: 123_456_789 };
const DELIVERED: Outcome = Outcome::Delivered;

/// A directory with a received tree in `tree/` and room for its receipt.
struct Fixture {
    dir: tempfile::TempDir,
    identity: Identity,
    lines: Vec<Line>,
}

impl Fixture {
    fn new() -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let fixture = Fixture { dir, identity: Identity::generate().unwrap(), lines: Vec::new() };
        fs::create_dir(fixture.tree()).unwrap();
        fixture
    }

    /// One of each kind, with a file of several chunks.
    fn with_one_of_each() -> Fixture {
        let mut fixture = Fixture::new();
        fixture.directory(b"d", 0o750);
        fixture.file(b"d/empty", b"", 0o600);
        fixture.file(b"d/\xff\n", b"bytes", 0o444);
        fixture.file(b"large", &vec![7; (1 << 20) * 3 + 5], 0o644);
        fixture.link(b"link", b"d/\xfftarget");
        fixture.line(b"gone", FileKind::Regular, Outcome::LeftOut(Reason::Vanished), |_| {});
        fixture
    }

    fn tree(&self) -> std::path::PathBuf {
        self.dir.path().join("tree")
    }

    fn path(&self, name: &[u8]) -> std::path::PathBuf {
        self.tree().join(OsStr::from_bytes(name))
    }

    fn line(&mut self, name: &[u8], kind: FileKind, outcome: Outcome, fill: impl Fn(&mut Line)) {
        let path = RelPath::parse(name).unwrap();
        let mut line = Line { path, kind, size: 0, digest: None, mode: 0, mtime: MTIME, target: vec![], outcome };
        fill(&mut line);
        self.lines.push(line);
    }

    fn directory(&mut self, name: &[u8], mode: u16) {
        fs::create_dir(self.path(name)).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode.into())).unwrap();
        self.line(name, FileKind::Directory, DELIVERED, |line| line.mode = mode);
    }

    fn file(&mut self, name: &[u8], content: &[u8], mode: u16) {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode.into())).unwrap();
        set_mtime(&path, MTIME);
        let digest = FileDigest(*blake3::hash(content).as_bytes());
        self.line(name, FileKind::Regular, DELIVERED, |line| {
            (line.size, line.mode, line.digest) = (content.len() as u64, mode, Some(digest));
        });
    }

    fn link(&mut self, name: &[u8], target: &[u8]) {
        symlink(OsStr::from_bytes(target), self.path(name)).unwrap();
        set_mtime(&self.path(name), MTIME);
        self.line(name, FileKind::Symlink, DELIVERED, |line| line.target = target.to_vec());
    }

    fn core(&self) -> Core {
        let mut sorted: Vec<&Line> = self.lines.iter().collect();
        sorted.sort_by_key(|line| path_hash(&line.path));
        let mut hasher = OutcomeHasher::default();
        sorted.iter().for_each(|line| hasher.line(&line.canonical()));
        Core {
            version: VERSION,
            transfer: TransferId([1; 16]),
            outcome: hasher.finish(),
            counts: Counts::default(),
            delivered_files: 0,
            delivered_bytes: 0,
            left_out: 0,
            kept: 0,
            bytes_by_level: [0; 4],
            is_durable: true,
            started: MTIME,
            finished: MTIME,
            sender: self.identity.public_key(),
            receiver: self.identity.public_key(),
            sender_host: "s".into(),
            receiver_host: "r".into(),
            sender_version: "0".into(),
            receiver_version: "0".into(),
        }
    }

    fn text(&self) -> String {
        let core = self.core();
        let signature = self.identity.sign(&signing_bytes(&core.encode()));
        let lines = self.lines.iter().map(Line::to_json);
        let all: Vec<String> = std::iter::once(head_to_json(&core, &signature)).chain(lines).collect();
        all.join("\n") + "\n"
    }

    fn open(&self, text: &str) -> Result<Receipt<RealFile>, ReceiptError> {
        fs::write(self.dir.path().join("receipt"), text).unwrap();
        let dir = RealDisk::open_root(self.dir.path()).unwrap();
        Receipt::open(RealDisk::new().open(&dir, b"receipt", Access::Read).unwrap())
    }

    /// What differs, by name, in the words of `Debug`.
    fn differences(&self) -> Vec<(Vec<u8>, String)> {
        let root = RealDisk::open_root(&self.tree()).unwrap();
        let mut comparer = Comparer::new(RealDisk::new(), root);
        let receipt = self.open(&self.text()).unwrap();
        let lines: Vec<Line> = receipt.lines().map(Result::unwrap).collect();
        assert_eq!(lines.len(), self.lines.len());
        let found = lines.iter().filter_map(|line| Some((line.path.clone(), comparer.compare(line)?)));
        let found = found.flat_map(|(path, finding)| {
            let name = path.as_bytes().to_vec();
            finding.differences.into_iter().map(move |difference| (name.clone(), format!("{difference:?}")))
        });
        let mut found: Vec<_> = found.collect();
        found.sort();
        found
    }
}

fn set_mtime(path: &Path, time: Timestamp) {
    let time = Timespec { tv_sec: time.seconds, tv_nsec: i64::from(time.nanos) };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

#[test]
fn a_tree_that_is_as_it_was_received_differs_in_nothing() {
    let fixture = Fixture::with_one_of_each();
    assert_eq!(fixture.differences(), []);
    let root = RealDisk::open_root(&fixture.tree()).unwrap();
    let mut comparer = Comparer::new(RealDisk::new(), root);
    let levels: Vec<Option<Level>> =
        fixture.lines.iter().filter_map(|line| comparer.compare(line)).map(|finding| finding.level).collect();
    assert_eq!(levels.iter().flatten().count(), 2, "both files with bytes were read: {levels:?}");
}

#[test]
fn the_time_of_a_directory_is_not_compared() {
    let fixture = Fixture::with_one_of_each();
    fs::write(fixture.path(b"d/added later"), "").unwrap();
    assert_eq!(fixture.differences(), []);
}

#[test]
fn each_kind_of_difference_is_found_by_its_name() {
    let change = |act: &dyn Fn(&Fixture)| {
        let fixture = Fixture::with_one_of_each();
        act(&fixture);
        fixture.differences()
    };
    let large = |words: &str| vec![(b"large".to_vec(), words.to_owned())];
    let missing = change(&|fixture| fs::remove_file(fixture.path(b"large")).unwrap());
    assert_eq!(missing, large("Missing"));
    let size = change(&|fixture| {
        fs::write(fixture.path(b"large"), "x").unwrap();
        set_mtime(&fixture.path(b"large"), MTIME);
    });
    assert_eq!(size, large("Size { expected: 3145733, found: 1 }"));
    let content = change(&|fixture| {
        let mut bytes = vec![7; (1 << 20) * 3 + 5];
        bytes[2_500_000] ^= 1;
        fs::write(fixture.path(b"large"), bytes).unwrap();
        set_mtime(&fixture.path(b"large"), MTIME);
    });
    assert_eq!(content, large("Content"));
    let mode = change(&|fixture| {
        fs::set_permissions(fixture.path(b"large"), fs::Permissions::from_mode(0o600)).unwrap();
    });
    assert_eq!(mode, large("Mode { expected: 420, found: 384 }"));
    let time = change(&|fixture| set_mtime(&fixture.path(b"large"), Timestamp { seconds: -5, nanos: 1 }));
    assert_eq!(time.len(), 1);
    assert!(time[0].1.starts_with("Mtime"), "{time:?}");
    let target = change(&|fixture| {
        fs::remove_file(fixture.path(b"link")).unwrap();
        symlink("elsewhere", fixture.path(b"link")).unwrap();
        set_mtime(&fixture.path(b"link"), MTIME);
    });
    assert_eq!(target.len(), 1);
    assert!(target[0].1.starts_with("Target"), "{target:?}");
    let kind = change(&|fixture| {
        fs::remove_file(fixture.path(b"link")).unwrap();
        fs::create_dir(fixture.path(b"link")).unwrap();
    });
    assert_eq!(kind, [(b"link".to_vec(), "Kind { expected: Symlink, found: Directory }".to_owned())]);
}

#[test]
fn a_link_in_the_place_of_a_directory_is_not_followed() {
    let fixture = Fixture::with_one_of_each();
    fs::rename(fixture.path(b"d"), fixture.path(b"moved")).unwrap();
    symlink("moved", fixture.path(b"d")).unwrap();
    let names: Vec<_> = fixture.differences().into_iter().map(|(name, words)| (name, words[..4].to_owned())).collect();
    let unreadable = |name: &[u8]| (name.to_vec(), "Unre".to_owned());
    assert_eq!(names, [(b"d".to_vec(), "Kind".to_owned()), unreadable(b"d/empty"), unreadable(b"d/\xff\n")]);
}

#[test]
fn what_the_target_could_not_keep_is_not_a_difference() {
    let mut fixture = Fixture::new();
    fixture.file(b"coarse", b"x", 0o644);
    set_mtime(&fixture.path(b"coarse"), Timestamp { nanos: 123_456_700, ..MTIME });
    fixture.file(b"bare", b"y", 0o644);
    fs::set_permissions(fixture.path(b"bare"), fs::Permissions::from_mode(0o600)).unwrap();
    fixture.lines[1].outcome = Outcome::AttributesNotApplied;
    assert_eq!(fixture.differences(), []);
}

#[test]
fn a_receipt_is_believed_only_as_it_was_signed() {
    let fixture = Fixture::with_one_of_each();
    let good = fixture.text();
    assert_eq!(fixture.open(&good).unwrap().core().outcome, fixture.core().outcome);
    let failure = |text: &str| fixture.open(text).unwrap_err().to_string();
    let lines: Vec<&str> = good.lines().collect();

    let removed = good.replacen(&format!("{}\n", lines[2]), "", 1);
    assert!(failure(&removed).contains("not those that were signed"));
    let doubled = good.replacen(lines[2], &format!("{}\n{}", lines[2], lines[2]), 1);
    assert!(failure(&doubled).contains("not those that were signed"));
    let changed = good.replacen("\"mode\":\"0644\"", "\"mode\":\"0645\"", 1);
    assert!(changed != good && failure(&changed).contains("not those that were signed"));

    let other = Fixture { identity: Identity::generate().unwrap(), ..Fixture::with_one_of_each() };
    let forged = head_to_json(&fixture.core(), &other.identity.sign(&signing_bytes(&fixture.core().encode())));
    assert!(failure(&good.replacen(lines[0], &forged, 1)).contains("signature is not good"));

    assert!(failure("").contains("not a receipt"));
    assert!(failure("{}\n").contains("not a receipt"));
    assert!(failure(&good[..good.len() - 1]).contains("damaged"), "the last line is cut short");
    assert!(failure(&good.replacen(lines[3], "{}", 1)).contains("line 4"));
}

#[test]
fn the_order_of_the_lines_does_not_matter() {
    let mut fixture = Fixture::new();
    for number in 0..3000_u32 {
        fixture.line(format!("{number:0100}").as_bytes(), FileKind::Directory, DELIVERED, |_| {});
    }
    let receipt = fixture.open(&fixture.text()).unwrap();
    let paths: Vec<RelPath> = receipt.lines().map(|line| line.unwrap().path).collect();
    let mut expected: Vec<RelPath> = fixture.lines.iter().map(|line| line.path.clone()).collect();
    expected.sort_by_key(path_hash);
    assert_eq!(paths, expected);
    assert_ne!(receipt.core().outcome, OutcomeDigest([0; 32]));
}

/// What is given on of a file with that content, whose line speaks of `received`.
fn given_on(received: &[u8], found: &[u8]) -> (Vec<u8>, Result<(), output::OutputError>) {
    let mut fixture = Fixture::new();
    fixture.directory(b"d", 0o700);
    fixture.file(b"d/f", received, 0o600);
    fs::write(fixture.path(b"d/f"), found).unwrap();
    let root = RealDisk::open_root(&fixture.tree()).unwrap();
    let mut out = Vec::new();
    let line = fixture.lines.last().unwrap();
    let given = output::write_out(&RealDisk::new(), &root, line, |bytes| {
        out.extend_from_slice(bytes);
        Ok(())
    });
    (out, given)
}

#[test]
fn a_file_is_given_on_whole_or_without_its_end() {
    const CHUNK: usize = 1 << 20;
    for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5] {
        let received: Vec<u8> = (0..length).map(|at| at.to_le_bytes()[0] ^ at.to_le_bytes()[2]).collect();
        let (out, given) = given_on(&received, &received);
        assert!(given.is_ok() && out == received, "{length}: {given:?}");
        let mut harmed = vec![received[..length.saturating_sub(1)].to_vec(), [&received[..], b"x"].concat()];
        harmed.extend([0, length / 2, length.saturating_sub(1)].map(|at| {
            let mut found = received.clone();
            found.get_mut(at).into_iter().for_each(|byte| *byte ^= 1);
            found
        }));
        for found in harmed.iter().filter(|found| **found != received) {
            let (out, given) = given_on(&received, found);
            assert!(matches!(given, Err(output::OutputError::Differs)), "{length}: {given:?}");
            assert!(out.len() <= length.saturating_sub(1) / CHUNK * CHUNK, "{length}: {} bytes were given", out.len());
        }
    }
}

#[test]
fn what_takes_a_file_may_fail_and_the_file_may_be_gone() {
    let mut fixture = Fixture::new();
    fixture.file(b"f", &[7; 3 << 20], 0o600);
    let (root, line) = (RealDisk::open_root(&fixture.tree()).unwrap(), fixture.lines[0].clone());
    let broken = || io::Error::from(io::ErrorKind::BrokenPipe);
    let given =
        output::write_out(
            &RealDisk::new(),
            &root,
            &line,
            |bytes| {
                if bytes.is_empty() { Ok(()) } else { Err(broken()) }
            },
        );
    assert!(matches!(given, Err(output::OutputError::Write(_))), "{given:?}");
    fs::remove_file(fixture.path(b"f")).unwrap();
    let given = output::write_out(&RealDisk::new(), &root, &line, |_| Ok(()));
    assert!(matches!(given, Err(output::OutputError::Read(_))), "{given:?}");
}
