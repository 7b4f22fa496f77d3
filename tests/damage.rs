//! {flip, truncate, delete, swap} × {staging, journal, manifest log, sealed file, receipt, sender's state, source} ×
//! {before the resume, during a run, after the end}. Each cell asserts that its object existed and changed, and then:
//! the same final tree, or a refusal that names it. What changes below the page cache stands in `damage/platter.rs`.
#![allow(clippy::unwrap_used)]

use fault_inject::rig as common;
#[path = "damage/harm.rs"]
mod harm;
#[path = "damage/platter.rs"]
mod platter;

use std::path::{Path, PathBuf};
use std::time::Duration;

use common::kill::{Pair, Struck, Trigger, Victim};
use common::oracle;
use common::process::{Landfall, PATIENT};
use common::scratch::Scratch;
use common::state::{self, Places, Step};
use common::transfer::{self, Done, Listens, Live, Setup, Side};
use common::tree::{Content, Tree};
use common::trees::CHUNK_BYTES;
use harm::{HARMS, Harm};
use rustix::process::Signal;

/// Regular files of the source.
const FILES: usize = 7;

/// Two files that are sealed early, two large ones of which one is under way when the link stops, and small ones that
/// come last, one of them in a directory that may not be written.
fn source(scratch: &Scratch, name: &str) -> PathBuf {
    let mut tree = Tree::new(&scratch.dir(name).join("source"), 7);
    for (file, chunks) in [("a-early", 2), ("b-early", 2), ("c-large", 24), ("d-large", 40)] {
        tree.file(file, &Content::Random(chunks * CHUNK_BYTES));
    }
    tree.small("y-last");
    tree.small("z-last");
    tree.small("locked/read-only");
    tree.mode("locked/read-only", 0o444);
    tree.mode("locked", 0o555);
    let source = tree.finish();
    common::facility::assert_locked(&source.join("locked"));
    source
}

/// A transfer that stands still half-way: early files sealed, a large one staged, everything durable.
fn stopped(scratch: &Scratch, name: &str) -> (Setup, Places, PathBuf, Live) {
    let source = source(scratch, &format!("{name}-tree"));
    let mut setup = Setup::new(scratch, name, &[&source], Listens::Receiver);
    let relay = setup.through_relay(1);
    // Slow enough that on a loaded machine little waits between the link and the disk.
    relay.rate(12 << 20);
    let places = setup.places(FILES);
    let mut live = setup.start();
    // Not before a large file is nearly whole: what has arrived by now might still seal it.
    let is_amid = |bytes: u64| bytes <= 8 * CHUNK_BYTES || (26..30).contains(&(bytes / CHUNK_BYTES));
    let reached = live.sender.wait_until("half of the work", PATIENT, |_| {
        let look = places.look();
        is_half_way(&look) && is_amid(look.staging_bytes)
    });
    assert!(reached, "{}", live.sender.describe("ended"));
    setup.relay().silence();
    let mut last = (places.look(), std::time::Instant::now());
    while last.1.elapsed() < Duration::from_millis(1800) {
        std::thread::sleep(Duration::from_millis(20));
        let look = places.look();
        if look != last.0 {
            last = (look, std::time::Instant::now());
        }
    }
    let look = last.0;
    assert!(is_half_way(&look), "{look:?}");
    (setup, places, source, live)
}

/// The early files are sealed, and a large one is under way. Bytes on the wire would not tell: on a loaded machine
/// many of them are sent twice.
fn is_half_way(look: &state::Look) -> bool {
    look.sealed_files >= 2 && look.staging_files >= 1 && look.staging_bytes > CHUNK_BYTES
}

/// Runs all four harms of one column, each on a transfer of its own, at the same time.
fn column(name: &str, cell: impl Fn(&Scratch, &str, Harm) + Sync) {
    let scratch = Scratch::new(name);
    std::thread::scope(|scope| {
        let running = HARMS.map(|harm| {
            let (cell, scratch) = (&cell, &scratch);
            (harm, scope.spawn(move || cell(scratch, &format!("{harm:?}").to_lowercase(), harm)))
        });
        let failed = running.map(|(harm, thread)| thread.join().err().map(|panic| (harm, words(&*panic))));
        let failed: Vec<_> = failed.into_iter().flatten().collect();
        let text: Vec<String> = failed.iter().map(|(harm, why)| format!("{name} × {harm:?}: {why}")).collect();
        assert!(failed.is_empty(), "{}", text.join("\n\n"));
    });
}

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

/// Continues after damage between two runs.
fn resumed(setup: &Setup, live: Live, damage: impl FnOnce()) -> Done {
    live.kill_both();
    damage();
    setup.relay().speak();
    setup.relay().rate(0);
    setup.restart().wait(PATIENT)
}

/// Continues after damage under the hands of running processes. Exit 3 is a word that has to be kept: the same
/// commands once more.
fn continued(setup: &Setup, live: Live, damage: impl FnOnce()) -> Done {
    damage();
    setup.relay().speak();
    setup.relay().rate(0);
    let mut done = live.wait(PATIENT);
    for _ in 0..2 {
        if [done.sender.code(), done.receiver.code()].contains(&Some(3)) {
            done = setup.restart().wait(PATIENT);
        }
    }
    done
}

/// State is worth work, never correctness: whatever happened to it, everything arrives.
fn state_cell(scratch: &Scratch, name: &str, harm: Harm, is_during: bool, object: fn(&Places) -> Object) {
    let (setup, places, source, live) = stopped(scratch, name);
    let object = object(&places);
    let damage = || object.damage(harm);
    let done = if is_during { continued(&setup, live, damage) } else { resumed(&setup, live, damage) };
    done.assert_success();
    transfer::assert_arrived(&source, &setup.target);
    transfer::assert_receipt_verifies(&setup);
}

/// A file to be damaged, and one to exchange it with; without one, its own halves are exchanged.
struct Object {
    path: PathBuf,
    other: Option<PathBuf>,
}

impl Object {
    fn damage(&self, harm: Harm) {
        harm::damage(&self.path, self.other.as_deref(), harm);
    }
}

fn staging(places: &Places) -> Object {
    let files = state::entries(&places.work().unwrap().join("staging"));
    let largest =
        files.into_iter().max_by_key(|path| std::os::unix::fs::MetadataExt::blocks(&path.metadata().unwrap()));
    Object { path: largest.unwrap(), other: None }
}

fn journal(places: &Places) -> Object {
    let work = places.work().unwrap();
    Object { path: work.join("journal"), other: Some(work.join("manifest")) }
}

fn manifest(places: &Places) -> Object {
    let work = places.work().unwrap();
    Object { path: work.join("manifest"), other: None }
}

fn sender_log(places: &Places) -> Object {
    let state = places.sender_state().unwrap();
    Object { path: state.join("manifest"), other: Some(state.join("stamps")) }
}

fn sender_stamps(places: &Places) -> Object {
    Object { path: places.sender_state().unwrap().join("stamps"), other: None }
}

macro_rules! state_columns {
    ($($before:ident, $during:ident, $object:ident;)*) => {$(
        #[test]
        fn $before() {
            column(stringify!($before), |scratch, name, harm| state_cell(scratch, name, harm, false, $object));
        }

        #[test]
        fn $during() {
            column(stringify!($during), |scratch, name, harm| state_cell(scratch, name, harm, true, $object));
        }
    )*};
}

state_columns! {
    staging_before, staging_during, staging;
    journal_before, journal_during, journal;
    manifest_before, manifest_during, manifest;
    sender_log_before, sender_log_during, sender_log;
    sender_stamps_before, sender_stamps_during, sender_stamps;
}

/// A sealed file that changes is found (before, and after by `verify`), or was right when it was sealed and the
/// receipt shows that it no longer is (during). Never is it counted twice.
fn sealed_cell(scratch: &Scratch, name: &str, harm: Harm, is_during: bool) {
    let (setup, _, source, live) = stopped(scratch, name);
    let early = |file: &str| setup.target.join("source").join(file);
    let damage = || harm::damage(&early("a-early"), Some(&early("b-early")), harm);
    let done = if is_during { continued(&setup, live, damage) } else { resumed(&setup, live, damage) };
    state::assert_no_work_left(&setup.target);
    match (done.sender.code(), done.receiver.code()) {
        (Some(5), Some(5)) => done.assert_named_by_both("a-early"),
        (Some(0), Some(0)) if !is_during => transfer::assert_arrived(&source, &setup.target),
        (Some(0), Some(0)) => {
            let found = oracle::differences(
                &oracle::snapshot(&source),
                &oracle::snapshot(&setup.target.join("source")),
                &oracle::Rules::default(),
            );
            let verdict = verify(&setup);
            assert_eq!(verdict.code(), Some(i32::from(!found.is_empty())), "{found:?}\n{}", verdict.describe());
            assert!(found.iter().all(|text| text.contains("early") || text.starts_with(": mtime")), "{found:?}");
        }
        _ => panic!("{}", done.describe()),
    }
}

fn verify(setup: &Setup) -> common::process::Finished {
    let receipt = &state::receipts(&setup.receiver_home)[0];
    Landfall::new("verify", &setup.receiver_home).arg("verify").arg(receipt).arg(&setup.target).run()
}

#[test]
fn sealed_file_before() {
    column("sealed_file_before", |scratch, name, harm| sealed_cell(scratch, name, harm, false));
}

#[test]
fn sealed_file_during() {
    column("sealed_file_during", |scratch, name, harm| sealed_cell(scratch, name, harm, true));
}

/// A finished transfer.
fn finished(scratch: &Scratch, name: &str) -> (Setup, PathBuf) {
    let source = source(scratch, &format!("{name}-tree"));
    let setup = Setup::new(scratch, name, &[&source], Listens::Receiver);
    setup.run().assert_success();
    (setup, source)
}

/// A new transfer of the same source into the same target, by the same installations.
fn another(scratch: &Scratch, name: &str, first: &Setup, existing: &str) -> Done {
    let sources: Vec<&Path> = first.sources.iter().map(PathBuf::as_path).collect();
    let mut second = Setup::new(scratch, &format!("{name}-second"), &sources, Listens::Receiver);
    second.target.clone_from(&first.target);
    second.sender_home.clone_from(&first.sender_home);
    second.receiver_home.clone_from(&first.receiver_home);
    second.receiver_options = vec!["--existing".into(), existing.into()];
    second.run()
}

#[test]
fn sealed_file_after() {
    column("sealed_file_after", |scratch, name, harm| {
        let (setup, source) = finished(scratch, name);
        let early = |file: &str| setup.target.join("source").join(file);
        harm::damage(&early("a-early"), Some(&early("b-early")), harm);
        let verdict = verify(&setup);
        verdict.assert_code(1);
        assert!(verdict.text().contains("a-early"), "{}", verdict.describe());
        another(scratch, name, &setup, "replace").assert_success();
        transfer::assert_arrived(&source, &setup.target);
    });
}

#[test]
fn working_state_after_is_gone() {
    let scratch = Scratch::new("gone");
    let (setup, _) = finished(&scratch, "run");
    state::assert_no_work_left(&setup.target); // staging, journal and manifest log have no after
}

#[test]
fn receipt_after() {
    column("receipt_after", |scratch, name, harm| {
        let (other, _) = finished(scratch, &format!("{name}-other"));
        let (setup, source) = finished(scratch, name);
        let receipt = state::receipts(&setup.receiver_home)[0].clone();
        let foreign = state::receipts(&other.receiver_home)[0].clone();
        harm::damage(&receipt, Some(&foreign), harm);
        let command = Landfall::new("verify", &setup.receiver_home).arg("verify").arg(&receipt);
        let verdict = command.arg(&setup.target).run();
        let is_the_others_tree = harm == Harm::Swap; // signed, and of an equal tree: only then may it say 0
        let codes: &[i32] = if is_the_others_tree { &[0, 1] } else { &[1, 2] };
        assert!(verdict.code().is_some_and(|code| codes.contains(&code)), "{}", verdict.describe());
        assert!(!verdict.text().is_empty());
        another(scratch, name, &setup, "refuse").assert_success();
        transfer::assert_arrived(&source, &setup.target);
    });
}

/// A transfer that was killed, both sides, when the receiver held its receipt and the sender did not.
fn with_receipt_in_one_hand(scratch: &Scratch, name: &str) -> (Setup, PathBuf) {
    for attempt in 0..20 {
        let name = format!("{name}-{attempt}");
        let source = source(scratch, &format!("{name}-tree"));
        let setup = Setup::new(scratch, &name, &[&source], Listens::Receiver);
        let places = setup.places(FILES);
        let mut pair = Pair::of(setup.start());
        let struck = pair.strike(&places, Trigger::AtStep(Step::Receipt), Victim::Both).unwrap();
        if matches!(struck, Struck::Killed(Step::Receipt)) && pair.ended.is_empty() {
            return (setup, source);
        }
    }
    panic!("in twenty attempts no kill came between the receipt and the sender's copy");
}

#[test]
fn receipt_before() {
    column("receipt_before", |scratch, name, harm| {
        let (other, _) = finished(scratch, &format!("{name}-other"));
        let (setup, source) = with_receipt_in_one_hand(scratch, name);
        let receipt = state::receipts(&setup.receiver_home)[0].clone();
        harm::damage(&receipt, Some(&state::receipts(&other.receiver_home)[0]), harm);
        setup.restart().wait(PATIENT).assert_success();
        transfer::assert_arrived(&source, &setup.target);
        transfer::assert_receipt_verifies(&setup);
    });
}

#[test]
fn receipt_during() {
    column("receipt_during", |scratch, name, harm| {
        let (other, _) = finished(scratch, &format!("{name}-other"));
        let source = source(scratch, &format!("{name}-tree"));
        let setup = Setup::new(scratch, name, &[&source], Listens::Receiver);
        let places = setup.places(FILES);
        let mut live = setup.start();
        let is_there = live.receiver.wait_until("all names", PATIENT, |_| places.look().sealed_files == FILES);
        assert!(is_there, "{}", live.receiver.describe("ended"));
        assert!(live.sender.signal(Signal::STOP), "{}", live.sender.describe("ended"));
        let is_there = live.receiver.wait_until("a receipt", Duration::from_secs(15), |_| {
            places.look().receiver_receipts > 0 || live.sender.stdout().contains("summary")
        });
        assert!(is_there, "{}", live.receiver.describe("ended"));
        harm::damage(&state::receipts(&setup.receiver_home)[0], Some(&state::receipts(&other.receiver_home)[0]), harm);
        live.sender.signal(Signal::CONT);
        let mut done = live.wait(PATIENT);
        if [done.sender.code(), done.receiver.code()].contains(&Some(3)) {
            done = setup.restart().wait(PATIENT);
        }
        done.assert_success();
        transfer::assert_arrived(&source, &setup.target);
        let held = state::receipts(&setup.sender_home);
        let verdict = Landfall::new("verify", &setup.sender_home).arg("verify").arg(&held[0]).arg(&setup.target).run();
        verdict.assert_code(0);
    });
}

#[test]
fn sender_state_after() {
    column("sender_state_after", |scratch, name, harm| {
        let (setup, source) = finished(scratch, name);
        let places = setup.places(FILES);
        if let Some(state) = places.sender_state() {
            harm::damage(&state.join("manifest"), Some(&state.join("stamps")), harm);
            let mut command = setup.command(Side::Sender);
            command = command.args(["--patience", "3s"]);
            let again = command.run();
            assert!(matches!(again.code(), Some(0 | 1 | 3)), "the ticket is finished: {}", again.describe());
        }
        another(scratch, name, &setup, "refuse").assert_success();
        transfer::assert_arrived(&source, &setup.target);
    });
}

/// The source is the truth as it is when it is read: its new version arrives, or it is left out and named.
fn source_cell(scratch: &Scratch, name: &str, harm: Harm, is_during: bool) {
    let (setup, _, source, live) = stopped(scratch, name);
    // What is sealed is not looked at again by a sender that is running: during a run only the file under way changes.
    let other = (!is_during).then(|| source.join("c-large"));
    let damage = || harm::damage(&source.join("d-large"), other.as_deref(), harm);
    let before = oracle::snapshot(&source);
    let done = if is_during { continued(&setup, live, damage) } else { resumed(&setup, live, damage) };
    match (done.sender.code(), done.receiver.code()) {
        // What was hashed whole before it changed under a running sender is one consistent version as well.
        (Some(0), Some(0)) if is_during => {
            let found = oracle::snapshot(&setup.target.join("source"));
            let rules = oracle::Rules::default();
            let from_old = oracle::differences(&before, &found, &rules);
            let from_new = oracle::differences(&oracle::snapshot(&source), &found, &rules);
            let lines = oracle::in_lines(&from_new);
            assert!(from_old.is_empty() || from_new.is_empty(), "neither version arrived whole:\n  {lines}");
        }
        (Some(0), Some(0)) => transfer::assert_arrived(&source, &setup.target),
        (Some(5), Some(5)) => {
            done.assert_named_by_both("-large");
            let mut out: Vec<&[u8]> = vec![b"c-large", b"d-large"];
            out.retain(|name| !setup.target.join("source").join(std::str::from_utf8(name).unwrap()).exists());
            assert!(!out.is_empty(), "left out means absent\n{}", done.describe());
            transfer::assert_arrived_but(&source, &setup.target, &out);
        }
        _ => panic!("{}", done.describe()),
    }
}

#[test]
fn source_before() {
    column("source_before", |scratch, name, harm| source_cell(scratch, name, harm, false));
}

#[test]
fn source_during() {
    column("source_during", |scratch, name, harm| source_cell(scratch, name, harm, true));
}

#[test]
fn source_after() {
    column("source_after", |scratch, name, harm| {
        let (setup, source) = finished(scratch, name);
        let old = std::fs::read(setup.target.join("source/a-early")).unwrap();
        harm::damage(&source.join("a-early"), Some(&source.join("b-early")), harm);
        verify(&setup).assert_code(0);
        let done = another(scratch, name, &setup, "refuse");
        assert_eq!(std::fs::read(setup.target.join("source/a-early")).unwrap(), old, "refused means untouched");
        if harm == Harm::Delete {
            done.assert_success();
            return;
        }
        done.assert_codes(5, 5);
        done.assert_named_by_both("a-early");
        another(scratch, &format!("{name}-again"), &setup, "replace").assert_success();
        transfer::assert_arrived(&source, &setup.target);
    });
}
