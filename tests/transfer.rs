//! Real trees over loopback between two real processes, in both directions, compared by an oracle that shares no code
//! with the product. What a source does while it is read stands in `transfer/sources.rs`, what was there before in
//! `transfer/existing.rs`, links that lose and change in `transfer/links.rs`.
#![allow(clippy::unwrap_used)]

use fault_inject::rig as common;
#[path = "transfer/existing.rs"]
mod existing;
#[path = "transfer/links.rs"]
mod links;
#[path = "transfer/sources.rs"]
mod sources;

use std::path::{Path, PathBuf};
use std::time::Duration;

use common::oracle::{self, Canary};
use common::process::{self, Landfall};
use common::scratch::Scratch;
use common::transfer::{self, BOTH_DIRECTIONS, Listens, Setup, Speaks};
use common::tree::{Content, Tree};
use common::{facility, state, trees};

/// Waits this long for the trees with very many files.
const VERY_PATIENT: Duration = Duration::from_secs(400);

/// Sends one tree in both directions; it must arrive, be verifiable from the receipt, and nothing else may change.
fn arrives(name: &str, patience: Duration, build: impl Fn(&Path) -> PathBuf) {
    let scratch = Scratch::new(name);
    let canary = Canary::new(&scratch.join("canary"));
    let source = build(&scratch.join("source"));
    let before = oracle::snapshot(&source);
    for listens in BOTH_DIRECTIONS {
        let setup = Setup::new(&scratch, &format!("{listens:?}"), &[&source], listens);
        setup.start().wait(patience).assert_success();
        transfer::assert_arrived(&source, &setup.target);
        transfer::assert_receipt_verifies(&setup);
        canary.assert_unchanged();
    }
    let differences = oracle::differences(&before, &oracle::snapshot(&source), &oracle::Rules::default());
    assert!(differences.is_empty(), "the source was changed: {differences:?}");
}

#[test]
fn files_of_every_size_arrive() {
    arrives("sizes", process::PATIENT, |root| trees::sizes(root, 1));
}

#[test]
fn sparse_files_and_zeros_arrive() {
    arrives("sparse", process::PATIENT, |root| trees::sparse(root, 2));
}

#[test]
fn nested_and_empty_directories_arrive() {
    arrives("directories", process::PATIENT, |root| trees::directories(root, 3));
}

#[test]
fn an_empty_directory_arrives() {
    arrives("empty", process::PATIENT, |root| Tree::new(root, 1).finish());
}

#[test]
fn symlinks_arrive_as_links() {
    arrives("symlinks", process::PATIENT, |root| trees::symlinks(root, 4, Path::new("/etc/hostname")));
}

#[test]
fn modes_arrive_of_files_and_of_read_only_directories() {
    arrives("modes", process::PATIENT, |root| trees::modes(root, 5));
}

#[test]
fn times_arrive_to_the_nanosecond() {
    arrives("times", process::PATIENT, |root| trees::times(root, 6));
}

#[test]
fn any_name_arrives() {
    arrives("names", process::PATIENT, |root| trees::names(root, 7));
}

#[test]
fn a_hundred_thousand_files_in_one_directory_arrive() {
    let count = if process::is_release() { 100_000 } else { 20_000 };
    arrives("many", VERY_PATIENT, |root| trees::many(root, 8, count));
}

#[test]
fn paths_beyond_path_max_arrive() {
    let scratch = Scratch::new("deep");
    let source = trees::deep(&scratch.join("source"), 9);
    for listens in BOTH_DIRECTIONS {
        let setup = Setup::new(&scratch, &format!("{listens:?}"), &[&source], listens);
        setup.run().assert_success();
        transfer::assert_arrived(&source, &setup.target);
    }
}

#[test]
fn hard_links_arrive_as_files_and_are_mentioned() {
    arrives("hard-links", process::PATIENT, |root| trees::hard_links(root, 10));
    let scratch = Scratch::new("hard-links-said");
    let source = trees::hard_links(&scratch.join("source"), 10);
    let mut setup = Setup::new(&scratch, "plain", &[&source], Listens::Receiver);
    setup.speaks = Speaks::Plain;
    let done = setup.run();
    done.assert_success();
    assert!(done.sender.text().contains("hard link"), "{}", done.describe());
}

#[test]
fn what_is_not_carried_is_mentioned() {
    let scratch = Scratch::new("attributes");
    let (source, has_attributes) = trees::attributes(&scratch.join("source"), 11);
    if !has_attributes {
        facility::skipped("what_is_not_carried_is_mentioned", "a file system with xattr and ACL");
        return;
    }
    let mut setup = Setup::new(&scratch, "plain", &[&source], Listens::Receiver);
    setup.speaks = Speaks::Plain;
    let done = setup.run();
    done.assert_success();
    transfer::assert_arrived(&source, &setup.target);
    let text = done.sender.text();
    assert!(text.contains("extended attributes") || text.contains("xattr"), "{}", done.describe());
    let other = trees::directories(&scratch.join("without"), 1);
    let mut setup = Setup::new(&scratch, "without-attributes", &[&other], Listens::Receiver);
    setup.speaks = Speaks::Plain;
    let done = setup.run();
    let text = done.sender.text();
    let is_quiet = !text.contains("extended attributes") && !text.contains("xattr") && !text.contains("hard link");
    assert!(is_quiet, "only what was there is mentioned\n{}", done.describe());
}

#[test]
fn special_files_are_left_out_and_named() {
    let scratch = Scratch::new("specials");
    let (source, made) = trees::specials(&scratch.join("source"), 12);
    for listens in BOTH_DIRECTIONS {
        let setup = Setup::new(&scratch, &format!("{listens:?}"), &[&source], listens);
        let done = setup.run();
        done.assert_codes(5, 5);
        for name in &made {
            done.assert_named_by_both(name);
        }
        transfer::assert_arrived(&source, &setup.target); // the oracle wants specials absent
    }
}

#[test]
fn one_file_arrives() {
    let scratch = Scratch::new("one");
    let mut tree = Tree::new(&scratch.join("dir"), 1);
    tree.file("alone", &Content::Random(3 * trees::CHUNK_BYTES + 5));
    tree.mode("alone", 0o444);
    tree.mtime("alone", -3, 3);
    tree.small("beside");
    let source = tree.finish().join("alone");
    for listens in BOTH_DIRECTIONS {
        let setup = Setup::new(&scratch, &format!("{listens:?}"), &[&source], listens);
        setup.run().assert_success();
        transfer::assert_arrived(&source, &setup.target);
        assert_eq!(state::entries(&setup.target).len(), 1, "only the one file");
    }
}

#[test]
fn several_sources_arrive_side_by_side() {
    let scratch = Scratch::new("several");
    let first = trees::medley(&scratch.join("first"), 1);
    let second = trees::directories(&scratch.join("second"), 2);
    let mut tree = Tree::new(&scratch.join("holder"), 3);
    tree.small("third");
    tree.symlink("fourth", "nowhere");
    let holder = tree.finish();
    let (third, fourth) = (holder.join("third"), holder.join("fourth"));
    let setup = Setup::new(&scratch, "run", &[&first, &second, &third, &fourth], Listens::Receiver);
    setup.run().assert_success();
    for source in [&first, &second, &third] {
        transfer::assert_arrived(source, &setup.target);
    }
    assert_eq!(std::fs::read_link(setup.target.join("fourth")).unwrap(), Path::new("nowhere"));
    assert_eq!(state::entries(&setup.target).len(), 4);
}

#[test]
fn a_trailing_slash_changes_nothing_and_a_dot_means_the_contents() {
    let scratch = Scratch::new("dots");
    let source = trees::medley(&scratch.join("source"), 1);
    for (number, ending) in ["/", "//", "/.", "/./"].into_iter().enumerate() {
        let mut setup = Setup::new(&scratch, &format!("run-{number}"), &[], Listens::Receiver);
        setup.sources = vec![PathBuf::from(format!("{}{ending}", source.display()))];
        setup.run().assert_success();
        if ending.contains('.') {
            let rules = oracle::Rules { root: oracle::Root::Ignored, ..oracle::Rules::default() };
            oracle::assert_same(&source, &setup.target, &rules);
        } else {
            transfer::assert_arrived(&source, &setup.target);
        }
    }
    let mut setup = Setup::new(&scratch, "dot", &[Path::new(".")], Listens::Receiver);
    setup.directory = Some(source.clone());
    setup.run().assert_success();
    let rules = oracle::Rules { root: oracle::Root::Ignored, ..oracle::Rules::default() };
    oracle::assert_same(&source, &setup.target, &rules);
}

#[test]
fn a_source_named_twice_is_sent_once_with_a_notice() {
    let scratch = Scratch::new("twice");
    let source = trees::medley(&scratch.join("source"), 1);
    let slashed = PathBuf::from(format!("{}/", source.display()));
    let setup = Setup::new(&scratch, "run", &[&source, &slashed, &source], Listens::Receiver);
    let done = setup.run();
    done.assert_success();
    transfer::assert_arrived(&source, &setup.target);
    assert!(done.sender.stderr_text().contains("source"), "a notice is given\n{}", done.describe());
    assert_eq!(state::entries(&setup.target).len(), 1);
}

#[test]
fn a_local_copy_is_verified_too() {
    let scratch = Scratch::new("local");
    let canary = Canary::new(&scratch.join("canary"));
    let source = trees::medley(&scratch.join("source"), 1);
    for (number, form) in ["to", "from"].into_iter().enumerate() {
        let (home, target) = (scratch.dir(&format!("home-{number}")), scratch.join(&format!("target-{number}")));
        let command = Landfall::new("local copy", &home);
        let command = match form {
            "to" => command.arg("send").arg(&source).arg("--to").arg(&target),
            _ => command.arg("recv").arg(&target).arg("--from").arg(&source),
        };
        command.arg("--yes").run().assert_code(0);
        transfer::assert_arrived(&source, &target);
        assert!(!state::receipts(&home).is_empty(), "a local copy has its receipt");
        canary.assert_unchanged();
    }
}

#[test]
fn holes_stay_holes_and_zeros_do_not_travel() {
    let scratch = Scratch::new("holes");
    let source = trees::sparse(&scratch.join("source"), 2);
    let mut setup = Setup::new(&scratch, "run", &[&source], Listens::Receiver);
    setup.through_relay(1);
    setup.run().assert_success();
    transfer::assert_arrived(&source, &setup.target);
    let (wanted, got) = (oracle::snapshot(&source), oracle::snapshot(&setup.target.join("source")));
    for (path, node) in &wanted {
        // A chunk is the smallest piece that can be a hole: `ragged` has a little data in each of its three.
        let allowed = node.allocated_bytes + 3 * trees::CHUNK_BYTES;
        let allocated = got[path].allocated_bytes;
        assert!(allocated <= allowed, "{}: {allocated} bytes allocated", facility::shown(path));
    }
    // hole-first, hole-last, hole-middle, three chunks of ragged, one of huge-hole, one of zeros-but-one
    let data_bytes = (1 + 1 + 4 + 3 + 1 + 1) * trees::CHUNK_BYTES;
    let crossed = setup.relay().all_bytes();
    assert!(crossed > data_bytes, "the relay was on the way: {crossed}");
    assert!(crossed < data_bytes + data_bytes / 4 + 6 * trees::CHUNK_BYTES, "{crossed} bytes for {data_bytes} of data");
}
