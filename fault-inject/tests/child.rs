//! What the product has to do when one operation of its disk fails in a child, beyond what campaigns ask of it.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::time::Duration;

use fault_inject::child::Child;
use fault_inject::rig::process::build_landfall;
use fault_inject::rig::scratch::Scratch;
use fault_inject::rig::transfer::{Listens, Setup};
use fault_inject::rig::tree::{Content, Tree};

/// Reads of the log that are tried; a run makes fewer.
const READS: u64 = 12;
/// A receiver that has not ended by then hangs; its linger is in it.
const PATIENCE: Duration = Duration::from_secs(90);

/// The path of what is left out stands in the manifest log, which may not be readable at that moment.
#[test]
fn what_is_left_out_is_named_although_the_log_could_not_be_read_then() {
    build_landfall().unwrap();
    let scratch = Scratch::new("unread");
    let mut tree = Tree::new(&scratch.join("source"), 1);
    ["one", "two", "three"].iter().for_each(|name| tree.small(name));
    let source = tree.finish();
    let mut ended = 0;
    for nth in 1..=READS {
        let mut setup = Setup::new(&scratch, &format!("run-{nth}"), &[&source], Listens::Sender);
        let rule = format!("read-cached@manifest nth:{nth} errno:EIO").parse().unwrap();
        let child = Child { rules: vec![rule], seed: 1, log: scratch.join(&format!("log-{nth}")) };
        setup.receiver_below = child.command().unwrap();
        fs::create_dir_all(setup.target.join("source")).unwrap();
        fs::write(setup.target.join("source/two"), "mine").unwrap();
        let live = setup.start();
        let receiver = live.receiver.wait(PATIENCE);
        // Some of these reads end the receiver, and nobody comes again for the sender.
        live.sender.kill();
        if !child.injected().is_empty() && receiver.code() == Some(5) {
            ended += 1;
            let names = |event: &serde_json::Value| event["event"] == "left-out" && event["path"] == "source/two";
            let is_named = receiver.events().iter().any(names);
            assert!(is_named, "read {nth} failed, and `two` was left out in silence\n{}", receiver.describe());
        }
        assert_eq!(fs::read(setup.target.join("source/two")).unwrap(), b"mine", "it is untouched");
    }
    assert!(ended > 0, "no read of the log failed in a run that went on");
}

/// The sender's first reading of each file is wrong in one bit somewhere. Nobody can know, unless it reads twice, or was
/// told what the files hash to.
#[test]
fn a_source_that_was_read_wrong_is_noticed_by_a_second_reading() {
    build_landfall().unwrap();
    let scratch = Scratch::new("twice");
    let mut tree = Tree::new(&scratch.join("source"), 1);
    tree.file("large", &Content::Random(5 << 20));
    tree.file("sparse", &Content::Sparse { size_bytes: 4 << 20, data: vec![(1 << 20, 70_000)] });
    tree.small("small");
    let source = tree.finish();
    let sum = |file: &str| {
        let digest = blake3::hash(&fs::read(source.join(file)).unwrap()).to_hex();
        format!("{digest}  {}\n", source.join(file).display())
    };
    fs::write(scratch.join("sums"), ["large", "sparse", "small"].map(sum).concat()).unwrap();
    let sums = scratch.join("sums").display().to_string();
    for (name, options) in [("once", &[][..]), ("twice", &["--reread-source"]), ("expected", &["--expect", &sums])] {
        let mut setup = Setup::new(&scratch, name, &[&source], Listens::Receiver);
        let rules =
            ["large", "sparse", "small"].map(|file| format!("read-cached@source/{file} nth:1 corrupt-cached:bit"));
        let rules = rules.iter().map(|rule| rule.parse().unwrap()).collect();
        let child = Child { rules, seed: 1, log: scratch.join(&format!("log-{name}")) };
        setup.sender_below = child.command().unwrap();
        setup.sender_options = options.iter().map(|option| (*option).to_owned()).collect();
        let done = setup.run();
        assert_eq!(child.injected().len(), 3, "{}", done.describe());
        done.assert_success();
        let is_same = |file: &str| {
            fs::read(source.join(file)).unwrap() == fs::read(setup.target.join("source").join(file)).unwrap()
        };
        let same = ["large", "sparse", "small"].map(is_same);
        assert_eq!(same, [name != "once"; 3], "{}", done.describe());
    }
}

/// A disk that takes all writes of the log and keeps none: the store begins anew a few times, and then says so.
#[test]
fn a_log_that_keeps_nothing_is_named_and_not_begun_for_ever() {
    build_landfall().unwrap();
    let scratch = Scratch::new("forgetful");
    let mut tree = Tree::new(&scratch.join("source"), 1);
    ["one", "two", "three"].iter().for_each(|name| tree.small(name));
    let source = tree.finish();
    for (name, rule) in [("all", "write@manifest every lie"), ("records", "write@manifest from:2 lie")] {
        let mut setup = Setup::new(&scratch, name, &[&source], Listens::Sender);
        let child = Child { rules: vec![rule.parse().unwrap()], seed: 1, log: scratch.join(&format!("log-{name}")) };
        setup.receiver_below = child.command().unwrap();
        let live = setup.start();
        let receiver = live.receiver.wait(PATIENCE);
        live.sender.kill();
        assert!(!child.injected().is_empty(), "{name}: no write was lost\n{}", receiver.describe());
        receiver.assert_code(1);
        assert!(receiver.stderr_text().contains("is not there when it is read"), "{name}\n{}", receiver.describe());
        assert!(!setup.target.join("source").exists(), "{name}: something got its name\n{}", receiver.describe());
    }
}
