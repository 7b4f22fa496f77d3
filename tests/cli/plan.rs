//! `--plan` against what the same command does without it, and that it leaves no trace on either side.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::common::oracle::{Snapshot, snapshot};
use crate::common::process::{Finished, Landfall, binary};
use crate::common::scratch::Scratch;
use crate::common::tree::{Content, Tree};

const MIB: u64 = 1 << 20;

fn landfall(scratch: &Scratch, arguments: &[&str]) -> Finished {
    let put = |text: &&str| text.replace('@', scratch.path().to_str().unwrap());
    Landfall::new("plan", &scratch.join("home")).args(arguments.iter().map(put)).run()
}

/// A source of everything, and a target that has some of it as it is, some otherwise, and some in the way.
fn ground(test: &str) -> Scratch {
    let scratch = Scratch::new(test);
    let mut tree = Tree::new(&scratch.join("photos"), 3);
    for path in ["new/a", "new/b", "same", "other", "blocked/x", "dir-there", "excluded.o"] {
        tree.small(path);
    }
    tree.file("large", &Content::Random(5 * MIB + 7));
    tree.file("longer", &Content::Random(2 * MIB));
    tree.file("empty", &Content::Bytes(vec![]));
    tree.file(b"not-\xfftext", &Content::Random(9));
    tree.symlink("link", "same");
    tree.symlink("link-there", "same");
    tree.symlink("link-other", "same");
    tree.special("fifo", rustix::fs::FileType::Fifo).unwrap();
    tree.mode("new/a", 0o600);
    let photos = tree.finish();
    let there = scratch.dir("to").join("photos");
    fs::create_dir_all(there.join("dir-there")).unwrap();
    let copy = |name: &str| fs::copy(photos.join(name), there.join(name)).unwrap();
    for name in ["same", "large", "longer", "empty"] {
        copy(name);
    }
    let mut large = fs::read(photos.join("large")).unwrap();
    large[2 << 20] ^= 1;
    fs::write(there.join("large"), large).unwrap();
    fs::write(there.join("longer"), [fs::read(photos.join("longer")).unwrap(), b"more".to_vec()].concat()).unwrap();
    fs::write(there.join("other"), "something else").unwrap();
    fs::write(there.join("blocked"), "a file").unwrap();
    symlink("same", there.join("link-there")).unwrap();
    symlink("elsewhere", there.join("link-other")).unwrap();
    scratch
}

/// All that is there, with the times of every directory.
fn everything(scratch: &Scratch) -> Snapshot {
    snapshot(scratch.path())
}

/// What a plan says of each path.
fn actions(planned: &Finished) -> BTreeMap<String, String> {
    let entries = planned.events().into_iter().filter(|event| event["event"] == "plan-entry");
    let word = |event: &Value, key: &str| event[key].as_str().map(str::to_owned);
    let path = |event: &Value| word(event, "path").or_else(|| word(event, "path_b64")).unwrap();
    let said = |event: &Value| word(event, "reason").or_else(|| word(event, "action")).unwrap();
    entries.map(|event| (path(&event), said(&event))).collect()
}

fn last(finished: &Finished) -> Value {
    finished.events().pop().unwrap_or_else(|| panic!("nothing was said\n{}", finished.describe()))
}

/// A list says what goes in a plan too. Digests show only when everything is read, which a plan does not do.
#[test]
fn a_plan_keeps_to_the_list() {
    let scratch = ground("plan-listed");
    fs::write(scratch.join("list"), "new\nsame\nabsent\n").unwrap();
    let list = ["--files-from", "@/list", "--json", "-n"];
    for line in [["send", "@/photos", "--to", "@/empty"], ["recv", "@/empty", "--from", "@/photos"]] {
        let planned = landfall(&scratch, &[&line[..], &list[..]].concat());
        let plan = last(&planned);
        let told = ["files", "send_files", "left_out", "exit"].map(|key| plan[key].as_u64());
        assert_eq!(told, [Some(3), Some(3), Some(1), Some(5)], "{}", planned.describe());
        let refused = landfall(&scratch, &[&line[..], &["-n", "--expect", "@/list"]].concat());
        assert_eq!(refused.code(), Some(2), "{}", refused.describe());
        assert!(refused.stderr_text().contains("cannot tell what `--expect` finds"), "{}", refused.describe());
    }
}

/// For every policy and from both sides: a plan writes nothing, and the transfer does what the plan has said.
#[test]
fn what_a_plan_says_is_what_the_transfer_does_and_the_plan_leaves_no_trace() {
    for policy in ["refuse", "keep", "replace", "rename"] {
        let scratch = ground(&format!("plan-{policy}"));
        let options = ["--exclude", "*.o", "--existing", policy, "--json"];
        let to = [&["send", "@/photos", "--to", "@/to"], &options[..]].concat();
        let from = [&["recv", "@/to", "--from", "@/photos"], &options[..]].concat();
        let before = everything(&scratch);
        let planned = landfall(&scratch, &[&to[..], &["--plan"]].concat());
        let turned = landfall(&scratch, &[&from[..], &["-n"]].concat());
        assert_eq!(everything(&scratch), before, "a plan writes nothing\n{}", planned.describe());
        let plan = last(&planned);
        assert_eq!((plan["event"].as_str(), last(&turned)), (Some("plan"), plan.clone()), "{}", turned.describe());
        assert_eq!(actions(&planned), actions(&turned));

        let done = landfall(&scratch, &to);
        let summary = last(&done);
        assert_eq!((planned.code(), turned.code()), (done.code(), done.code()), "{}", planned.describe());
        for (foretold, came) in [
            ("exit", "exit"),
            ("files", "files"),
            ("directories", "directories"),
            ("symlinks", "symlinks"),
            ("bytes", "bytes"),
            ("send_bytes", "wire_bytes"),
            ("kept", "kept"),
            ("left_out", "left_out"),
            ("rename", "renamed"),
        ] {
            assert_eq!(plan[foretold], summary[came], "{policy}: {foretold}\n{plan}\n{}", done.describe());
        }
        let delivered = plan["send_files"].as_u64().unwrap() + plan["present_files"].as_u64().unwrap();
        assert_eq!(summary["delivered_files"].as_u64(), Some(delivered), "{policy}");
        assert_eq!(plan["excluded"], 1);

        let again = landfall(&scratch, &[&to[..], &["-n"]].concat());
        assert_eq!(last(&again)["send_files"], 0, "everything is there\n{}", again.describe());
    }
}

#[test]
fn each_entry_is_named_with_what_would_become_of_it() {
    let scratch = ground("plan-entries");
    let planned = landfall(&scratch, &["send", "@/photos", "--to", "@/to", "-n", "--json", "--existing", "replace"]);
    let expected = [
        ("cGhvdG9zL25vdC3/dGV4dA==", "send"),
        ("photos", "present"),
        ("photos/blocked", "parent-left-out"),
        ("photos/blocked/x", "parent-left-out"),
        ("photos/dir-there", "exists-different"),
        ("photos/empty", "present"),
        ("photos/excluded.o", "send"),
        ("photos/fifo", "special"),
        ("photos/large", "replace"),
        ("photos/link", "send"),
        ("photos/link-other", "replace"),
        ("photos/link-there", "present"),
        ("photos/longer", "replace"),
        ("photos/new", "send"),
        ("photos/new/a", "send"),
        ("photos/new/b", "send"),
        ("photos/other", "replace"),
        ("photos/same", "present"),
    ];
    let expected: BTreeMap<String, String> = expected.map(|(path, word)| (path.to_owned(), word.to_owned())).into();
    assert_eq!(actions(&planned), expected, "{}", planned.describe());
    let large = planned.events().into_iter().find(|event| event["path"] == "photos/large").unwrap();
    assert_eq!((large["bytes"].as_u64(), large["send_bytes"].as_u64()), (Some(5 * MIB + 7), Some(MIB)));

    let told = landfall(&scratch, &["send", "@/photos", "--to", "@/to", "-n", "--exclude", "*.o"]);
    told.assert_code(5);
    let text = told.stdout_text();
    assert!(text.contains("would leave out `photos/other`: the target has something else under this name\n"), "{text}");
    assert!(text.contains("nothing was written; nothing is proved"), "{text}");
    assert!(!text.contains("photos/same") && !text.contains("photos/new/a"), "{text}");
    assert!(told.stderr_text().contains("1 file or directory is excluded"), "{}", told.describe());
    let all = landfall(&scratch, &["send", "@/photos", "--to", "@/to", "-n", "-v"]).stdout_text();
    assert!(all.contains("is there already: `photos/same`\n") && all.contains("would send `photos/new/a`"), "{all}");
}

#[test]
fn a_target_that_is_not_there_is_not_made() {
    let scratch = ground("plan-absent");
    let before = everything(&scratch);
    let planned = landfall(&scratch, &["send", "@/photos/new", "--to", "@/deep/er", "--plan"]);
    planned.assert_code(0);
    assert!(planned.stdout_text().starts_with("would send 2 files, "), "{}", planned.describe());
    let too_large =
        landfall(&scratch, &["send", "@/photos", "--to", "@/deep/er", "--plan", "--max-size", "1KB", "--json"]);
    too_large.assert_code(1);
    let events = too_large.events();
    assert_eq!(
        (events[events.len() - 2]["exit"].as_u64(), last(&too_large)["event"].as_str()),
        (Some(1), Some("error"))
    );
    assert_eq!(everything(&scratch), before);
}

/// A program in the place of ssh, which gets the machine's name and the command for its shell.
fn reach(scratch: &Scratch, script: &str) -> PathBuf {
    let path = scratch.join("reach");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn across(scratch: &Scratch, line: &[&str], program: &Path) -> Finished {
    let put = |text: &&str| text.replace('@', scratch.path().to_str().unwrap());
    let command = Landfall::new("plan", &scratch.join("home")).args(line.iter().map(put));
    command.arg("--ssh").arg(program).arg("--remote-landfall").arg(binary()).run()
}

#[test]
fn another_machine_is_asked_through_ssh_and_what_is_in_the_way_is_named() {
    let scratch = ground("plan-across");
    let there = reach(&scratch, "echo good morning; shift; exec sh -c \"$*\"");
    let send = ["send", "@/photos", "--to", "far:@/to", "-n", "--json"];
    let recv = ["recv", "@/to", "--from", "far:@/photos", "-n", "--json"];
    let before = everything(&scratch);
    let (sent, received) = (across(&scratch, &send, &there), across(&scratch, &recv, &there));
    sent.assert_code(5);
    received.assert_code(5);
    let here = landfall(&scratch, &["send", "@/photos", "--to", "@/to", "-n", "--json"]);
    assert_eq!((actions(&sent), actions(&received)), (actions(&here), actions(&here)));
    assert_eq!(everything(&scratch), before);
    for (script, code, words) in [
        ("exit 127", 1, "there is no landfall on `far`"),
        ("exit 255", 3, "`far` could not be reached"),
        ("echo ready {}", 1, "it did not say that it is ready"),
        ("exit 2", 2, "started on `far` ended with exit code 2"),
        ("echo ready plan 1; kill -9 $$", 3, "what was started on `far` ended"),
        ("echo ready plan 1; read line; echo hello; sleep 60", 1, "a line of its plan has no meaning"),
    ] {
        let program = reach(&scratch, script);
        for line in [send, recv] {
            let failed = across(&scratch, &line, &program);
            failed.assert_code(code);
            assert!(failed.stderr_text().contains(words), "{script}\n{}", failed.describe());
        }
    }
}
