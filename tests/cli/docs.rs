//! The scripts of docs/automation.md do what is said there.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::oracle::snapshot;
use crate::common::process::{Landfall, PATIENT, binary};
use crate::common::scratch::Scratch;
use crate::common::tree::Tree;

/// The n-th shell script of the document.
fn script(scratch: &Scratch, nth: usize) -> PathBuf {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/automation.md")).unwrap();
    let after = text.split("```sh\n").nth(nth + 1).expect("a script");
    let path = scratch.join(&format!("script-{nth}"));
    std::fs::write(&path, after.split("```").next().unwrap()).unwrap();
    path
}

/// `sh` with this landfall as the one that is installed.
fn sh(scratch: &Scratch, script: &Path, home: &str, settings: &[(&str, &Path)]) -> Command {
    let path = format!("{}:{}", binary().parent().unwrap().display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("sh");
    command.arg(script).env("PATH", path).env("LANDFALL_HOME", scratch.join(home));
    command.envs(settings.iter().copied());
    command
}

fn are_same(source: &Path, target: &Path) -> bool {
    let (source, target) = (snapshot(source), snapshot(target));
    source
        .iter()
        .all(|(path, node)| path.is_empty() || target.get(path).is_some_and(|other| other.digest == node.digest))
}

#[test]
fn the_script_for_every_night_sends_what_has_changed_and_keeps_receipts() {
    let scratch = Scratch::new("automation");
    let source = {
        let mut tree = Tree::new(&scratch.join("data"), 1);
        ["a", "b/c"].iter().for_each(|path| tree.small(path));
        tree.finish()
    };
    let (script, receipts, copy) = (script(&scratch, 0), scratch.join("receipts"), scratch.join("copy"));
    let contents = source.join(".");
    let settings = [("SOURCE", &*contents), ("DEST", &*copy), ("RECEIPTS", &*receipts)];
    for round in 0..2 {
        let done = sh(&scratch, &script, "home", &settings).output().unwrap();
        assert_eq!((done.status.code(), &*done.stdout), (Some(0), &b""[..]), "{done:?}");
        assert!(are_same(&source, &copy));
        std::fs::write(source.join("a"), format!("changed {round}")).unwrap();
        std::thread::sleep(Duration::from_millis(1100)); // receipts are named by the second
    }
    assert_eq!(std::fs::read_dir(&receipts).unwrap().count(), 2);
    // What another run does not cure is not tried again.
    let nowhere = source.join("a/below");
    let settings = [("SOURCE", &*contents), ("DEST", &*nowhere), ("RECEIPTS", &*receipts)];
    let failed = sh(&scratch, &script, "home", &settings).output().unwrap();
    assert!(![0, 3].contains(&failed.status.code().unwrap()) && !failed.stderr.is_empty(), "{failed:?}");
}

#[test]
fn the_script_for_a_receiver_takes_one_transfer_after_the_other() {
    let scratch = Scratch::new("automation-recv");
    let (script, ticket, dir) = (script(&scratch, 1), scratch.join("ticket"), scratch.join("in"));
    let settings =
        [("DIR", &*dir), ("TICKET", &*ticket), ("LISTEN", Path::new("127.0.0.1:0")), ("ROUNDS", Path::new("2"))];
    let mut receiver = sh(&scratch, &script, "receiver-home", &settings).spawn().unwrap();
    let mut old = None;
    for name in ["one", "two"] {
        let mut tree = Tree::new(&scratch.join(name), 1);
        tree.small("f");
        let source = tree.finish();
        let deadline = Instant::now() + PATIENT;
        let is_new = |old: &Option<Vec<u8>>| std::fs::read(&ticket).is_ok_and(|text| Some(&text) != old.as_ref());
        while !is_new(&old) {
            assert!(Instant::now() < deadline, "no new ticket for {name}");
            std::thread::sleep(Duration::from_millis(5));
        }
        old = std::fs::read(&ticket).ok();
        let sender = Landfall::new("sender", &scratch.join("sender-home")).arg("send").arg(&source);
        let done = sender.arg("--ticket-file").arg(&ticket).run();
        assert_eq!(done.code(), Some(0), "{}", done.describe());
        assert!(are_same(&source, &dir.join(name)));
    }
    assert_eq!(receiver.wait().unwrap().code(), Some(0));
}
