//! Both sides of a plan in one process, over real pipes and real directories; and one side with a peer that lies.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

use std::fs;
use std::io::{Cursor, pipe};
use std::os::unix::fs::{PermissionsExt, symlink};

use super::link::Link;
use super::*;
use crate::disk::RealDisk;
use crate::limits::{CHUNK_BYTES, PLAN_CHUNKS_MAX, PLAN_QUESTIONS_MAX};

const MIB: usize = CHUNK_BYTES as usize;

struct Ground {
    dir: tempfile::TempDir,
}

impl Ground {
    fn new() -> Ground {
        let ground = Ground { dir: tempfile::tempdir().unwrap() };
        fs::create_dir(ground.at("from")).unwrap();
        fs::create_dir(ground.at("to")).unwrap();
        ground
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn write(&self, path: &str, bytes: impl AsRef<[u8]>) {
        fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        fs::write(self.at(path), bytes).unwrap();
    }

    /// The same at both sides.
    fn both(&self, path: &str, bytes: impl AsRef<[u8]>) {
        self.write(&format!("from/{path}"), &bytes);
        self.write(&format!("to/{path}"), &bytes);
    }

    fn sources(&self, existing: Existing) -> Sources {
        Sources { paths: vec![self.at("from/.")], selection: Selection::default(), existing }
    }

    fn plan(&self, existing: Existing) -> Vec<Finding> {
        let (input, answers) = pipe().unwrap();
        let (questions, output) = pipe().unwrap();
        let (sources, dir) = (self.sources(existing), self.at("to"));
        let answering = std::thread::spawn(move || {
            let mut surveyor = Surveyor::open(&RealDisk::new(), &dir).unwrap();
            attend(&mut surveyor, &mut BufReader::new(questions), answers, None, &mut |_| {}).unwrap()
        });
        let mut found = vec![];
        let mut link = Link::new(BufReader::new(input), output, None).unwrap();
        let mut tell = |told| match told {
            Told::Found(finding) => found.push(finding),
            Told::Notice(notice) => panic!("{notice:?}"),
        };
        Planner::open(&RealDisk::new(), &sources, &mut tell).unwrap().run(&mut link, &mut tell).unwrap();
        link.close();
        assert_eq!(answering.join().unwrap(), End::Closed);
        found
    }

    /// In words: path, what would be done, bytes that move.
    fn said(&self, existing: Existing) -> Vec<String> {
        let words = |finding: Finding| match finding.action {
            Action::LeaveOut { reason, side } => format!("{} {} {}", finding.path, side.word(), reason.word()),
            action => format!("{} {action:?} {} of {}", finding.path, finding.moved_bytes, finding.bytes),
        };
        self.plan(existing).into_iter().map(words).collect()
    }
}

/// Bytes of which no chunk is like another.
fn sample(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at / MIB) as u8 ^ (at % 251) as u8).collect()
}

#[test]
fn each_entry_is_judged_as_the_receiver_of_a_transfer_judges_it() {
    let ground = Ground::new();
    ground.both("a-same", "one");
    ground.both("b-empty", "");
    ground.write("from/c-new", "12");
    ground.both("d-longer", "123");
    ground.write("to/d-longer", "1234");
    ground.both("e-other", "123");
    ground.write("to/e-other", "124");
    ground.write("from/f-dir", "1");
    fs::create_dir(ground.at("to/f-dir")).unwrap();
    ground.write("from/g-link", "1");
    symlink("nowhere", ground.at("to/g-link")).unwrap();
    ground.write("from/h-blocked/below", "1");
    ground.write("to/h-blocked", "a file");
    ground.write("from/i-new/below", "1");
    for (name, theirs) in [("j-same-link", Some("x")), ("k-other-link", Some("y")), ("l-new-link", None)] {
        symlink("x", ground.at(&format!("from/{name}"))).unwrap();
        if let Some(theirs) = theirs {
            symlink(theirs, ground.at(&format!("to/{name}"))).unwrap();
        }
    }
    symlink("x", ground.at("from/m-link-for-dir")).unwrap();
    fs::create_dir(ground.at("to/m-link-for-dir")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, ground.at("from/n-fifo"), rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
    ground.write("from/o-below-link/x", "1");
    ground.write("elsewhere/x", "1");
    symlink(ground.at("elsewhere"), ground.at("to/o-below-link")).unwrap();

    let stays = |word: &str| -> Vec<String> {
        let d = |name: &str| format!("{name} receiver {word}");
        let plain = |text: &str| text.to_owned();
        vec![
            plain("a-same Present 0 of 3"),
            plain("b-empty Present 0 of 0"),
            plain("c-new Send 2 of 2"),
            d("d-longer"),
            d("e-other"),
            d("f-dir"),
            d("g-link"),
            plain("h-blocked receiver parent-left-out"),
            plain("h-blocked/below receiver parent-left-out"),
            plain("i-new Send 0 of 0"),
            plain("i-new/below Send 1 of 1"),
            plain("j-same-link Present 0 of 0"),
            d("k-other-link"),
            plain("l-new-link Send 0 of 0"),
            d("m-link-for-dir"),
            plain("n-fifo sender special"),
            plain("o-below-link receiver parent-left-out"),
            plain("o-below-link/x receiver parent-left-out"),
        ]
    };
    assert_eq!(ground.said(Existing::Refuse), stays("exists-different"));
    assert_eq!(ground.said(Existing::Keep), stays("kept"));
    let mut replaced = stays("exists-different");
    replaced[3] = "d-longer Replace 0 of 3".into();
    replaced[4] = "e-other Replace 3 of 3".into();
    replaced[6] = "g-link Replace 1 of 1".into();
    replaced[12] = "k-other-link Replace 0 of 0".into();
    assert_eq!(ground.said(Existing::Replace), replaced);
    let mut renamed = stays("exists-different");
    for (at, moved) in [(3, "0 of 3"), (4, "3 of 3"), (5, "1 of 1"), (6, "1 of 1"), (12, "0 of 0"), (14, "0 of 0")] {
        renamed[at] = renamed[at].replace("receiver exists-different", &format!("Rename {{ number: 1 }} {moved}"));
    }
    assert_eq!(ground.said(Existing::Rename), renamed);
}

#[test]
fn the_first_name_that_is_free_or_has_the_same_is_foretold() {
    let ground = Ground::new();
    let bytes = sample(3 * MIB);
    for name in ["a", "b.txt", "c", "d (1)", "d", "e", "e (1)"] {
        ground.write(&format!("from/{name}"), if name == "a" { &bytes[..] } else { name.as_bytes() });
    }
    let mut differing = bytes.clone();
    differing[2 * MIB] ^= 1;
    ground.write("to/a", &differing);
    ground.write("to/a (1)", &differing);
    fs::create_dir(ground.at("to/a (2)")).unwrap();
    ground.write("to/b.txt", "x");
    ground.write("to/b (1).txt", "other");
    ground.write("to/b (2).txt", "b.txt");
    for name in ["c", "d", "e"] {
        ground.write(&format!("to/{name}"), "x x");
    }
    let expected = [
        format!("a Rename {{ number: 3 }} {MIB} of {}", 3 * MIB),
        "b.txt Present 0 of 5".into(),
        "c Rename { number: 1 } 1 of 1".into(),
        "d (1) Rename { number: 1 } 5 of 5".into(),
        "d Rename { number: 1 } 1 of 1".into(),
        "e (1) Rename { number: 1 } 5 of 5".into(),
        "e Rename { number: 1 } 1 of 1".into(),
    ];
    let mut said = ground.said(Existing::Rename);
    said.sort();
    assert_eq!(said, expected);
}

#[test]
fn chunks_are_compared_at_their_places() {
    let ground = Ground::new();
    let bytes = sample((PLAN_CHUNKS_MAX as usize + 2) * MIB + 5);
    let len = bytes.len();
    let last_differs = |mut bytes: Vec<u8>| {
        bytes[len - 1] ^= 1;
        bytes
    };
    ground.both("a-same", &bytes);
    ground.both("b-last", &bytes);
    ground.write("to/b-last", last_differs(bytes.clone()));
    ground.both("c-longer", &bytes);
    ground.write("to/c-longer", [&bytes[..], b"more"].concat());
    ground.both("d-shorter", &bytes);
    ground.write("to/d-shorter", &bytes[..3 * MIB]);
    ground.both("e-shifted", &bytes);
    ground.write("to/e-shifted", [b"x", &bytes[..len - 1]].concat());
    let all = format!("of {len}");
    let replaced = [
        format!("a-same Present 0 {all}"),
        format!("b-last Replace 5 {all}"),
        format!("c-longer Replace 0 {all}"),
        format!("d-shorter Replace {} {all}", len - 3 * MIB),
        format!("e-shifted Replace {len} {all}"),
    ];
    assert_eq!(ground.said(Existing::Replace), replaced);
    let refused =
        ["b-last", "c-longer", "d-shorter", "e-shifted"].map(|name| format!("{name} receiver exists-different"));
    assert_eq!(ground.said(Existing::Refuse)[1..], refused);
}

#[test]
fn more_entries_than_may_be_open_are_told_in_the_order_of_the_walk() {
    let ground = Ground::new();
    let count = 3 * PLAN_QUESTIONS_MAX;
    let mut expected = vec![];
    for number in 0..count {
        let name = format!("{number:05}");
        match number % 3 {
            0 => ground.both(&name, &name),
            1 => ground.write(&format!("from/{name}"), &name),
            _ => {
                ground.both(&name, &name);
                ground.write(&format!("to/{name}"), "other");
            }
        }
        expected.push(match number % 3 {
            0 => format!("{name} Present 0 of 5"),
            1 => format!("{name} Send 5 of 5"),
            _ => format!("{name} Replace 5 of 5"),
        });
    }
    assert_eq!(ground.said(Existing::Replace), expected);
}

#[test]
fn a_target_that_is_not_there_has_nothing_and_one_that_is_no_directory_is_an_error() {
    let ground = Ground::new();
    ground.write("from/a/b", "1");
    fs::remove_dir(ground.at("to")).unwrap();
    assert_eq!(ground.said(Existing::Refuse), ["a Send 0 of 0", "a/b Send 1 of 1"]);
    assert!(!ground.at("to").exists());
    ground.write("to", "a file");
    assert!(Surveyor::open(&RealDisk::new(), &ground.at("to")).is_err());
    assert!(Surveyor::open(&RealDisk::new(), &ground.at("to/below")).is_err());
}

#[test]
fn what_cannot_be_read_at_either_side_is_what_it_is_for_a_transfer() {
    let ground = Ground::new();
    let lock = |path: &str| fs::set_permissions(ground.at(path), fs::Permissions::from_mode(0o000)).unwrap();
    ground.write("from/a", "1");
    lock("from/a");
    ground.both("b", "1");
    lock("to/b");
    // Root reads everything.
    let (refused, replaced) = match rustix::process::geteuid().is_root() {
        true => (["a Send 1 of 1", "b Present 0 of 1"], ["a Send 1 of 1", "b Present 0 of 1"]),
        false => (["a sender unreadable", "b receiver exists-different"], ["a sender unreadable", "b Replace 1 of 1"]),
    };
    assert_eq!(ground.said(Existing::Refuse), refused);
    assert_eq!(ground.said(Existing::Replace), replaced);
}

/// A plan whose answers are these lines.
fn lied_to(ground: &Ground, existing: Existing, answers: &str) -> Result<(), Halted> {
    let input = BufReader::new(Cursor::new(answers.as_bytes().to_vec()));
    let mut link = Link::new(input, std::io::sink(), None).unwrap();
    Planner::open(&RealDisk::new(), &ground.sources(existing), &mut |_| {}).unwrap().run(&mut link, &mut |_| {})
}

#[test]
fn an_answer_that_cannot_be_ends_the_plan() {
    let ground = Ground::new();
    ground.write("from/a", "123");
    let file = r#"{"file":{"is_same_size":true,"is_elsewhere":false}}"#;
    let equal = |bytes: &str| format!("{file}\n{{\"equal\":{{\"bytes\":{bytes}}}}}\n");
    for (answers, broken) in [
        (String::new(), Broken::Gone),
        (format!("{file}\n"), Broken::Gone),
        ("hello\n".to_owned(), Broken::Misbehaved),
        ("\"there\"\n".to_owned(), Broken::Misbehaved),
        (r#"{"equal":{"bytes":3}}"#.to_owned() + "\n", Broken::Misbehaved),
        (format!("{file}\n{file}\n"), Broken::Misbehaved),
        (equal("4"), Broken::Misbehaved),
        (equal("-1"), Broken::Misbehaved),
    ] {
        let halted = lied_to(&ground, Existing::Replace, &answers);
        assert!(matches!(&halted, Err(Halted::Broken(found)) if *found == broken), "{answers}: {halted:?}");
    }
    assert!(lied_to(&ground, Existing::Replace, &equal("3")).is_ok());
}

#[test]
fn a_question_that_cannot_be_is_not_answered() {
    let ground = Ground::new();
    let ask = |line: &str| {
        let mut surveyor = Surveyor::open(&RealDisk::new(), &ground.at("to")).unwrap();
        let mut answers = vec![];
        let ended = attend(&mut surveyor, &mut BufReader::new(line.as_bytes()), &mut answers, None, &mut |_| {});
        (ended, String::from_utf8(answers).unwrap())
    };
    for bad in ["hello\n", "{\"look\":{\"path\":\"../x\",\"kind\":\"Regular\",\"size\":1}}\n"] {
        assert_eq!(ask(bad), (Err(Broken::Misbehaved), String::new()), "{bad}");
    }
    assert_eq!(ask("cut off").0, Err(Broken::Gone));
    ground.write("to/a", "1");
    for (size, first) in [(u64::MAX, 0), (1, u32::MAX), (2 << 20, 1)] {
        let compare = line::Compare {
            path: RelPath::parse(b"a").unwrap(),
            size,
            first,
            digests: vec![crate::digest::ChunkDigest([0; 32]); 2],
        };
        let text = String::from_utf8(Said::Compare(compare).line()).unwrap();
        let expected = if size == u64::MAX { "null" } else { "0" };
        assert_eq!(ask(&text), (Ok(End::Closed), format!("{{\"equal\":{{\"bytes\":{expected}}}}}\n")));
    }
}
