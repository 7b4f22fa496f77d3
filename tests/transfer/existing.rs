//! Targets where something is already: adopted, left, kept or replaced, and never written through.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::common::oracle::{self, Canary};
use crate::common::scratch::Scratch;
use crate::common::transfer::{self, Listens, Setup};
use crate::common::tree::{Content, Tree};
use crate::common::{state, trees};

const MIB: u64 = trees::CHUNK_BYTES;

/// A source with one 16 MiB file, and a target that holds an older copy: chunk 5 differs.
fn with_older_copy(scratch: &Scratch, setup: &Setup) {
    fs::create_dir_all(setup.target.join("source")).unwrap();
    let mut bytes = fs::read(scratch.join("source/file")).unwrap();
    bytes[5 * 1024 * 1024 + 77] ^= 1; // in chunk 5
    fs::write(setup.target.join("source/file"), bytes).unwrap();
}

fn one_file(scratch: &Scratch) {
    let mut tree = Tree::new(&scratch.join("source"), 1);
    tree.file("file", &Content::Random(16 * MIB));
    tree.small("small");
    tree.finish();
}

#[test]
fn what_is_already_there_is_adopted_without_a_byte_on_the_wire() {
    let scratch = Scratch::new("adopted");
    one_file(&scratch);
    let source = scratch.join("source");
    let mut setup = Setup::new(&scratch, "run", &[&source], Listens::Receiver);
    fs::create_dir_all(setup.target.join("source")).unwrap();
    fs::copy(source.join("file"), setup.target.join("source/file")).unwrap();
    setup.through_relay(1);
    setup.run().assert_success();
    transfer::assert_arrived(&source, &setup.target);
    let crossed = setup.relay().all_bytes();
    assert!((1000..MIB).contains(&crossed), "{crossed} bytes crossed for a file that was there");
}

#[test]
fn a_second_run_adopts_everything() {
    let scratch = Scratch::new("again");
    let source = trees::medley(&scratch.join("source"), 1);
    let first = Setup::new(&scratch, "first", &[&source], Listens::Receiver);
    first.run().assert_success();
    let mut second = Setup::new(&scratch, "second", &[&source], Listens::Receiver);
    second.target = first.target.clone();
    second.through_relay(1);
    // The listener that made the ticket has its working directory there already.
    let before = oracle::snapshot_without(&first.target, &[b".landfall"]);
    second.run().assert_success();
    transfer::assert_arrived(&source, &second.target);
    let crossed = second.relay().all_bytes();
    assert!((1000..MIB).contains(&crossed), "{crossed} bytes crossed");
    let after = oracle::snapshot(&first.target);
    let replaced: Vec<_> = before.iter().filter(|(path, node)| after[*path].inode != node.inode).collect();
    assert!(replaced.is_empty(), "adopted means left in its place: {replaced:?}");
}

#[test]
fn other_content_is_refused_by_default_and_named() {
    let scratch = Scratch::new("refuse");
    one_file(&scratch);
    let source = scratch.join("source");
    let setup = Setup::new(&scratch, "run", &[&source], Listens::Receiver);
    with_older_copy(&scratch, &setup);
    let old = fs::read(setup.target.join("source/file")).unwrap();
    let done = setup.run();
    done.assert_codes(5, 5);
    done.assert_named_by_both("source/file");
    assert_eq!(fs::read(setup.target.join("source/file")).unwrap(), old, "it is untouched");
    assert_eq!(fs::read(setup.target.join("source/small")).unwrap(), fs::read(source.join("small")).unwrap());
    state::assert_no_work_left(&setup.target);
}

#[test]
fn a_link_that_cannot_be_made_is_named_by_both() {
    let scratch = Scratch::new("link-over");
    let mut tree = Tree::new(&scratch.join("source"), 1);
    tree.small("small");
    tree.symlink("link", "small");
    tree.symlink("below/link", "small");
    let source = tree.finish();
    let setup = Setup::new(&scratch, "run", &[&source], Listens::Receiver);
    fs::create_dir_all(setup.target.join("source")).unwrap();
    fs::write(setup.target.join("source/link"), "mine").unwrap();
    fs::write(setup.target.join("source/below"), "mine").unwrap();
    let done = setup.run();
    done.assert_codes(5, 5);
    done.assert_named_by_both("source/link");
    done.assert_named_by_both("source/below/link");
    assert_eq!(fs::read(setup.target.join("source/link")).unwrap(), b"mine", "it is untouched");
    assert_eq!(fs::read(setup.target.join("source/below")).unwrap(), b"mine", "it is untouched");
}

#[test]
fn other_content_is_kept_without_complaint_on_demand() {
    let scratch = Scratch::new("keep");
    one_file(&scratch);
    let source = scratch.join("source");
    let mut setup = Setup::new(&scratch, "run", &[&source], Listens::Receiver);
    setup.receiver_options = vec!["--existing".into(), "keep".into()];
    with_older_copy(&scratch, &setup);
    let old = fs::read(setup.target.join("source/file")).unwrap();
    setup.run().assert_success();
    assert_eq!(fs::read(setup.target.join("source/file")).unwrap(), old, "it is untouched");
    state::assert_no_work_left(&setup.target);
}

#[test]
fn replacing_moves_only_the_chunks_that_differ() {
    let scratch = Scratch::new("replace");
    one_file(&scratch);
    let source = scratch.join("source");
    let mut setup = Setup::new(&scratch, "run", &[&source], Listens::Receiver);
    setup.receiver_options = vec!["--existing".into(), "replace".into()];
    with_older_copy(&scratch, &setup);
    let old_inode = setup.target.join("source/file").metadata().unwrap().ino();
    let other_name = setup.target.join("other-name");
    fs::hard_link(setup.target.join("source/file"), &other_name).unwrap();
    let old = fs::read(&other_name).unwrap();
    setup.through_relay(1);
    setup.run().assert_success();
    assert_eq!(fs::read(&other_name).unwrap(), old, "the old inode is not written in place");
    fs::remove_file(&other_name).unwrap();
    transfer::assert_arrived(&source, &setup.target);
    assert_ne!(setup.target.join("source/file").metadata().unwrap().ino(), old_inode);
    let crossed = setup.relay().all_bytes();
    assert!((MIB..3 * MIB).contains(&crossed), "{crossed} bytes crossed for one chunk");
}

/// An update: what did not change, what changed in part, what was renamed, and what is new. Both sides tell.
#[test]
fn an_update_tells_what_was_there() {
    let scratch = Scratch::new("update");
    let mut tree = Tree::new(&scratch.join("source"), 1);
    tree.file("same", &Content::Random(3 * MIB));
    tree.file("changed", &Content::Random(5 * MIB));
    tree.file("before", &Content::Random(7 * MIB));
    tree.small("short");
    let source = tree.finish();
    let first = Setup::new(&scratch, "first", &[&source], Listens::Receiver);
    first.run().assert_success();
    let mut bytes = fs::read(source.join("changed")).unwrap();
    bytes[2 * 1024 * 1024 + 5] ^= 1;
    fs::write(source.join("changed"), bytes).unwrap();
    fs::rename(source.join("before"), source.join("after")).unwrap();
    fs::write(source.join("new"), vec![7; 300_000]).unwrap();
    for listens in [Listens::Receiver, Listens::Sender] {
        let mut setup = Setup::new(&scratch, &format!("{listens:?}"), &[&source], listens);
        setup.receiver_options = vec!["--existing".into(), "replace".into()];
        copy(&first.target, &setup.target);
        let done = setup.run();
        done.assert_success();
        // The oracle wants nothing else there, and the directory's time as it was.
        fs::remove_file(setup.target.join("source/before")).unwrap();
        let time = source.metadata().unwrap().modified().unwrap();
        fs::File::open(setup.target.join("source")).unwrap().set_modified(time).unwrap();
        transfer::assert_arrived(&source, &setup.target);
        for side in [&done.sender, &done.receiver] {
            let summary = side.summary().unwrap();
            let told =
                ["unchanged_files", "changed_files", "moved_files", "wire_bytes"].map(|key| summary[key].as_u64());
            assert_eq!(told, [Some(2), Some(1), Some(1), Some(MIB + 300_000)], "{}", done.describe());
            assert_eq!(
                summary["adopted_bytes"].as_u64().map(|bytes| bytes / MIB),
                Some(3 + 4 + 7),
                "{}",
                done.describe()
            );
        }
    }
}

/// A copy that shares nothing with the original.
fn copy(from: &Path, to: &Path) {
    let copied = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}

#[test]
fn links_in_the_target_are_not_followed() {
    let scratch = Scratch::new("links");
    let canary = Canary::new(&scratch.join("canary"));
    let mut tree = Tree::new(&scratch.join("source"), 1);
    tree.small("cage/seed");
    tree.small("song");
    tree.small("free");
    let source = tree.finish();
    for (number, replace) in [false, true].into_iter().enumerate() {
        let mut setup = Setup::new(&scratch, &format!("run-{number}"), &[&source], Listens::Receiver);
        if replace {
            setup.receiver_options = vec!["--existing".into(), "replace".into()];
        }
        let arrived = setup.target.join("source");
        fs::create_dir_all(&arrived).unwrap();
        std::os::unix::fs::symlink(canary.path().join("cage"), arrived.join("cage")).unwrap();
        std::os::unix::fs::symlink(canary.path().join("song"), arrived.join("song")).unwrap();
        let done = setup.run();
        canary.assert_unchanged();
        let codes = (done.sender.code(), done.receiver.code());
        assert!(matches!(codes, (Some(0 | 5), Some(0 | 5))) && codes.0 == codes.1, "{}", done.describe());
        if codes.0 == Some(5) {
            done.assert_named_by_both("source/cage");
        } else {
            transfer::assert_arrived(&source, &setup.target);
        }
        assert_eq!(fs::read(arrived.join("free")).unwrap(), fs::read(source.join("free")).unwrap());
    }
}

#[test]
fn the_working_state_of_another_transfer_is_taken_over() {
    let scratch = Scratch::new("orphan");
    let mut tree = Tree::new(&scratch.join("source"), 1);
    tree.file("file", &Content::Random(24 * MIB));
    let source = tree.finish();
    let mut first = Setup::new(&scratch, "first", &[&source], Listens::Receiver);
    first.through_relay(1).rate(8 << 20);
    let places = first.places(1);
    let mut live = first.start();
    let has_state = live.receiver.wait_until("staged bytes", crate::process::PATIENT, |_| {
        let look = places.look();
        look.staging_bytes >= 12 * MIB && look.journal_bytes > 100
    });
    assert!(has_state, "{}", live.receiver.describe("ended"));
    live.receiver.kill();
    live.sender.kill();
    assert!(places.work().is_some(), "it leaves its working state");
    let mut second = Setup::new(&scratch, "second", &[&source], Listens::Receiver);
    second.target = first.target.clone();
    second.through_relay(2);
    second.run().assert_success();
    transfer::assert_arrived(&source, &second.target);
    let crossed = second.relay().all_bytes();
    assert!(crossed < 20 * MIB, "{crossed} bytes crossed although half was there");
}

#[test]
fn the_working_directory_is_never_sent() {
    let scratch = Scratch::new("work");
    let mut tree = Tree::new(&scratch.join("source"), 1);
    tree.small("file");
    tree.small(".landfall/0123/journal");
    tree.small("below/.landfall/secret");
    let source = tree.finish();
    let setup = Setup::new(&scratch, "run", &[&source], Listens::Receiver);
    let done = setup.run();
    done.assert_success();
    assert!(done.sender.text().contains(".landfall"), "a notice is given\n{}", done.describe());
    let below: &[&[u8]] = &[b".landfall", b"below/.landfall"];
    transfer::assert_arrived_but(&source, &setup.target, below);
    assert!(Path::new(&setup.target.join("source/below")).is_dir());
}

/// What stands there stays, what arrives stands beside it, and both sides say so. A further transfer finds it there.
#[test]
fn what_is_taken_is_put_beside_it_on_demand() {
    for listens in [Listens::Receiver, Listens::Sender] {
        let scratch = Scratch::new("rename");
        one_file(&scratch);
        let source = scratch.join("source");
        std::os::unix::fs::symlink("small", source.join("link")).unwrap();
        let mut first = Setup::new(&scratch, "first", &[&source], listens);
        first.receiver_options = vec!["--existing".into(), "rename".into()];
        with_older_copy(&scratch, &first);
        let arrived = first.target.join("source");
        let old = fs::read(arrived.join("file")).unwrap();
        fs::write(arrived.join("link"), "mine").unwrap();
        first.through_relay(1);
        let done = first.run();
        done.assert_success();
        let crossed = first.relay().all_bytes();
        assert!((MIB..3 * MIB).contains(&crossed), "{crossed} bytes crossed for one chunk");
        done.assert_named_by_both("source/file (1)");
        done.assert_named_by_both("source/link (1)");
        let look = || {
            let names = ["file", "file (1)", "link", "link (1)", "small"];
            let listed = fs::read_dir(&arrived).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let mut listed: Vec<String> = listed.collect();
            listed.sort();
            assert_eq!(listed, names);
            assert_eq!(fs::read(arrived.join("file")).unwrap(), old, "it is untouched");
            assert_eq!(fs::read(arrived.join("file (1)")).unwrap(), fs::read(source.join("file")).unwrap());
            assert_eq!(fs::read(arrived.join("link")).unwrap(), b"mine", "it is untouched");
            assert_eq!(fs::read_link(arrived.join("link (1)")).unwrap(), Path::new("small"));
        };
        look();
        state::assert_no_work_left(&first.target);
        let mut second = Setup::new(&scratch, "second", &[&source], listens);
        second.receiver_options = first.receiver_options.clone();
        second.target.clone_from(&first.target);
        second.through_relay(1);
        let done = second.run();
        done.assert_success();
        look();
        let crossed = second.relay().all_bytes();
        assert!((1000..MIB).contains(&crossed), "{crossed} bytes crossed for what was there");
        for side in [&done.sender, &done.receiver] {
            let summary = side.summary().unwrap();
            assert_eq!(summary["renamed"].as_u64(), Some(2), "{}", done.describe());
            let receipt = summary["receipt"].as_str().unwrap().to_owned();
            let verify = |more: &[&std::ffi::OsStr]| {
                let verify = std::process::Command::new(crate::process::binary())
                    .arg("verify")
                    .arg(&receipt)
                    .args(more)
                    .output();
                verify.unwrap()
            };
            let verified = verify(&[second.target.as_os_str()]);
            assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
            let lines = String::from_utf8(verify(&["--b3sum".as_ref()]).stdout).unwrap();
            assert!(lines.contains("  source/file (1)\n") && !lines.contains("  source/file\n"), "{lines}");
        }
    }
}
