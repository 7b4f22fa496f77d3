//! What goes and what stays: `--exclude` and its kin, at a sender of its own and at one that `--from` starts.

use std::collections::BTreeSet;
use std::path::Path;

use crate::common::oracle::snapshot;
use crate::common::process::{Finished, Landfall, PATIENT};
use crate::common::scratch::Scratch;
use crate::common::transfer::{Listens, Setup, Side};
use crate::common::tree::{Content, Tree};

fn source(scratch: &Scratch) -> std::path::PathBuf {
    let mut tree = Tree::new(&scratch.join("work"), 5);
    for path in ["main.rs", "main.o", "keep.o", "target/debug/x", "docs/a.md", "docs/target", "docs/b.o"] {
        tree.small(path);
    }
    tree.file(".gitignore", &Content::Bytes(b"/target\n".to_vec()));
    tree.finish()
}

pub(super) fn paths(root: &Path) -> BTreeSet<String> {
    let all = snapshot(root);
    all.keys().map(|path| String::from_utf8_lossy(path).into_owned()).filter(|path| !path.is_empty()).collect()
}

fn landfall(scratch: &Scratch, arguments: &[&str]) -> Finished {
    let put = |text: &&str| text.replace('@', scratch.path().to_str().unwrap());
    Landfall::new("choice", &scratch.join("home")).args(arguments.iter().map(put)).run()
}

#[test]
fn what_is_excluded_stays_on_either_way() {
    let scratch = Scratch::new("choice");
    source(&scratch);
    std::fs::write(scratch.join("patterns"), "# objects\n*.o\n").unwrap();
    let options = ["--exclude-from", "@/patterns", "--include", "keep.o", "--ignore-files", "--exclude", "b.*"];
    let goes: BTreeSet<String> =
        [".gitignore", "docs", "docs/a.md", "docs/target", "keep.o", "main.rs"].map(str::to_owned).into();
    for (line, target) in [(["send", "@/work", "--to", "@/to"], "to"), (["recv", "@/from", "--from", "@/work"], "from")]
    {
        let done = landfall(&scratch, &[&line[..], &options].concat());
        assert_eq!(done.code(), Some(0), "{}", done.describe());
        assert_eq!(paths(&scratch.join(target).join("work")), goes, "{}", done.describe());
        let told = done.stderr_text().contains("3 files and directories are excluded and stay where they are");
        assert!(told || target == "from", "{}", done.describe());
    }
}

/// The same setup, whose sender now excludes this pattern.
fn excluding<'a>(setup: &'a mut Setup, glob: &str) -> &'a Setup {
    setup.sender_options = vec!["--exclude".into(), glob.into()];
    setup
}

#[test]
fn the_same_choice_is_the_same_transfer_and_another_is_another() {
    let scratch = Scratch::new("choice-again");
    let source = source(&scratch);
    let mut setup = Setup::new(&scratch, "run", &[&source], Listens::Sender);
    let mut ticket_of = |glob: &str| {
        let setup = excluding(&mut setup, glob);
        let listener = setup.listener().wait_for_ticket(&setup.ticket());
        assert!(listener.kill().was_killed());
        let ticket = std::fs::read(setup.ticket()).unwrap();
        std::fs::remove_file(setup.ticket()).unwrap();
        ticket
    };
    let (first, other) = (ticket_of("*.o"), ticket_of("*.rs"));
    assert_ne!(first, other);
    assert_eq!(ticket_of("*.o"), first);
    excluding(&mut setup, "*.o").run().assert_success();
    let arrived = paths(&setup.target.join("work"));
    assert!(arrived.contains("main.rs") && !arrived.iter().any(|path| path.ends_with(".o")), "{arrived:?}");
}

#[test]
fn a_ticket_keeps_the_choice_with_which_it_was_used() {
    let scratch = Scratch::new("choice-ticket");
    let source = source(&scratch);
    let mut setup = Setup::new(&scratch, "run", &[&source], Listens::Receiver);
    let receiver = setup.listener().wait_for_ticket(&setup.ticket());
    assert!(receiver.kill().was_killed());
    // The receiver is away: the sender takes the ticket, waits, and is stopped.
    let mut sender = excluding(&mut setup, "*.o").command(Side::Sender).start();
    sender.wait_until("a record", PATIENT, |_| setup.has_record(Side::Sender));
    assert!(sender.kill().was_killed());
    let refused = excluding(&mut setup, "*.rs").command(Side::Sender).run();
    assert_eq!(refused.code(), Some(2), "{}", refused.describe());
    assert!(refused.stderr_text().contains("which excludes something else"), "{}", refused.describe());
    excluding(&mut setup, "*.o").run().assert_success();
    assert!(!paths(&setup.target.join("work")).contains("main.o"));
}

/// The sender that `--from` starts has its own record of what goes.
#[test]
fn another_choice_is_another_transfer_also_for_a_sender_that_is_started() {
    let scratch = Scratch::new("choice-from");
    source(&scratch);
    let mut large = Tree::within(&scratch.join("work"), 6);
    large.file("zz-large", &Content::Random(40 << 20));
    large.finish();
    let line = ["recv", "@/in", "--from", "@/work"];
    for (first, second) in [(&[][..], &["--exclude", "*.o"][..]), (&["--exclude", "*.rs"], &[])] {
        let put = |text: &&str| text.replace('@', scratch.path().to_str().unwrap());
        let words = [&line[..], first, &["--limit", "20MB"]].concat();
        let mut stopped = Landfall::new("first", &scratch.join("home")).args(words.iter().map(put)).start();
        let state = scratch.join("in/.landfall");
        stopped.wait_until("work", PATIENT, |_| state.exists());
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert!(stopped.kill().was_killed());
        let done = landfall(&scratch, &[&line[..], second, &["--new"]].concat());
        assert_eq!(done.code(), Some(0), "{}", done.describe());
        let arrived = paths(&scratch.join("in/work"));
        assert_eq!(arrived.contains("main.o"), second.is_empty(), "{arrived:?}");
        assert!(arrived.contains("main.rs") && arrived.contains("zz-large"), "{arrived:?}");
        // What was given up is not gone on with.
        let resumed = landfall(&scratch, &["resume"]);
        assert!(resumed.stderr_text().contains("nothing to resume"), "{}", resumed.describe());
        std::fs::remove_dir_all(scratch.join("in")).unwrap();
    }
}

#[test]
fn a_finished_ticket_answers_for_its_own_choice_and_paths_only() {
    let scratch = Scratch::new("choice-finished");
    let source = source(&scratch);
    let mut setup = Setup::new(&scratch, "run", &[&source], Listens::Receiver);
    excluding(&mut setup, "*.o").run().assert_success();
    let again = setup.command(Side::Sender).run();
    assert_eq!(again.code(), Some(0), "{}", again.describe());
    let other = excluding(&mut setup, "*.rs").command(Side::Sender).run();
    assert_eq!(other.code(), Some(2), "{}", other.describe());
    setup.sources = vec![scratch.join("work/docs")];
    let elsewhere = excluding(&mut setup, "*.o").command(Side::Sender).run();
    assert_eq!(elsewhere.code(), Some(2), "{}", elsewhere.describe());
}
