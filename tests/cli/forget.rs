//! `landfall forget`: what it drops, what it leaves, and when it does not.

use std::path::Path;

use crate::common::process::{Finished, Landfall, PATIENT};
use crate::common::scratch::Scratch;
use crate::common::transfer::{Listens, Setup, Side};
use crate::common::tree::{Content, Tree};

fn landfall(home: &Path, words: &[&str]) -> Finished {
    Landfall::new("forget", home).args(words).run()
}

/// Ids of all transfers of a home.
fn ids(home: &Path) -> Vec<String> {
    let status = landfall(home, &["status", "--json"]);
    status.events().iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_forgotten_transfer_leaves_only_what_has_arrived() {
    let scratch = Scratch::new("forget");
    let mut tree = Tree::new(&scratch.join("source"), 3);
    tree.file("a-small", &Content::Random(1000));
    tree.file("large", &Content::Random(96 << 20));
    let source = tree.finish();
    let mut setup = Setup::new(&scratch, "run", &[&source], Listens::Receiver);
    setup.sender_options = vec!["--limit".into(), "30MB".into()];
    let mut live = setup.start();
    let state = setup.target.join(".landfall");
    let small = setup.target.join("source/a-small");
    live.side(Side::Receiver).wait_until("a file under its name", PATIENT, |_| small.exists());
    let id = ids(&setup.receiver_home).remove(0);
    let busy = landfall(&setup.receiver_home, &["forget", &id]);
    assert_eq!(busy.code(), Some(3), "{}", busy.describe());
    assert!(state.exists() && busy.stderr_text().contains(&live.receiver.id().to_string()), "{}", busy.describe());
    live.kill_both();

    let staging = state.join(&id).join("staging");
    assert!(std::fs::read_dir(&staging).unwrap().next().is_some(), "a staging file is there to be removed");
    for home in [&setup.receiver_home, &setup.sender_home] {
        let done = landfall(home, &["forget", &id[..6].to_uppercase()]);
        assert_eq!(done.code(), Some(0), "{}", done.describe());
        assert!(done.stdout_text().contains("forgotten"), "{}", done.describe());
        assert!(ids(home).is_empty());
        assert_eq!(landfall(home, &["forget", &id]).code(), Some(2));
    }
    assert!(!state.exists() && small.exists());
    // The same commands begin anew, and what has arrived is taken as it is.
    std::fs::remove_file(setup.ticket()).unwrap();
    setup.sender_options.clear();
    setup.run().assert_success();
    assert_ne!(ids(&setup.receiver_home), [id]);
}

#[test]
fn a_target_that_is_gone_does_not_keep_its_transfer() {
    let scratch = Scratch::new("forget-gone");
    let source = Tree::new(&scratch.join("source"), 3).finish();
    let setup = Setup::new(&scratch, "run", &[&source], Listens::Receiver);
    assert!(setup.listener().wait_for_ticket(&setup.ticket()).kill().was_killed());
    std::fs::remove_dir_all(&setup.target).unwrap();
    let id = ids(&setup.receiver_home).remove(0);
    let done = landfall(&setup.receiver_home, &["forget", &id]);
    assert_eq!(done.code(), Some(0), "{}", done.describe());
    assert!(!setup.target.exists() && ids(&setup.receiver_home).is_empty());
}

#[test]
fn a_transfer_whose_record_is_damaged_can_be_forgotten() {
    let scratch = Scratch::new("forget-damaged");
    let source = Tree::new(&scratch.join("source"), 3).finish();
    let setup = Setup::new(&scratch, "run", &[&source], Listens::Sender);
    assert!(setup.listener().wait_for_ticket(&setup.ticket()).kill().was_killed());
    let id = ids(&setup.sender_home).remove(0);
    let record = setup.sender_home.join("transfers").join(&id).join("sender/transfer");
    std::fs::write(&record, "nonsense").unwrap();
    assert_eq!(landfall(&setup.sender_home, &["resume"]).code(), Some(1));
    let done = landfall(&setup.sender_home, &["forget", &id]);
    assert_eq!(done.code(), Some(0), "{}", done.describe());
    assert!(!record.exists() && landfall(&setup.sender_home, &["resume"]).code() == Some(0));
    assert_eq!(landfall(&setup.sender_home, &["forget", &id]).code(), Some(2));
}

/// A stop between the removal of the transfer's own directory and of `.landfall`.
#[test]
fn what_was_half_forgotten_is_forgotten_by_the_same_command() {
    let scratch = Scratch::new("forget-half");
    let source = Tree::new(&scratch.join("source"), 3).finish();
    let setup = Setup::new(&scratch, "run", &[&source], Listens::Receiver);
    assert!(setup.listener().wait_for_ticket(&setup.ticket()).kill().was_killed());
    let id = ids(&setup.receiver_home).remove(0);
    let state = setup.target.join(".landfall");
    let _ = std::fs::remove_dir_all(state.join(&id));
    std::fs::create_dir_all(&state).unwrap();
    std::fs::write(state.join("lock"), "").unwrap();
    assert_eq!(landfall(&setup.receiver_home, &["forget", &id]).code(), Some(0));
    assert!(!state.exists() && setup.target.exists());
}

#[test]
fn shells_and_packagers_get_theirs() {
    let scratch = Scratch::new("print");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let done = landfall(&scratch.join("home"), &["completions", shell]);
        assert_eq!(done.code(), Some(0), "{}", done.describe());
        assert!(done.stdout_text().contains("relay-over-ssh"), "{shell}");
    }
    let page = landfall(&scratch.join("home"), &["man"]);
    assert_eq!(page.code(), Some(0), "{}", page.describe());
    assert!(page.stdout_text().contains(".TH landfall 1") && page.stdout_text().contains(".SH LANDFALL SEND"));
}
