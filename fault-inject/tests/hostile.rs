//! Hostile peers against the shipped binary, as `fault-inject hostile` runs them: some of every class and every room,
//! and proof that the judgement would notice what it is there to notice.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use fault_inject::hostile::act::Act;
use fault_inject::hostile::far::Talk;
use fault_inject::hostile::names::{delivered, opening, with_good};
use fault_inject::hostile::pipe::{Command, Pipe, Speech};
use fault_inject::hostile::stage::{Script, Thing};
use fault_inject::hostile::{Attack, Case, cases_with, run, run_one};
use fault_inject::rig::facility::{say, skipped};
use fault_inject::rig::process;
use fault_inject::verdict::{Report, Verdict};

const SEED: u64 = 0x5eed;
/// Swaps of a race.
const SWAPS: u64 = 40;
/// Cases of one class and kind.
const SAMPLE: usize = 4;

fn kind(attack: &Attack) -> &'static str {
    match attack {
        Attack::Script(_) => "script",
        Attack::Stranger(_) => "stranger",
        Attack::Planted(_) => "planted",
        Attack::Session(_) => "session",
        Attack::Race(_) => "race",
        Attack::Pipe(_) => "pipe",
        Attack::Caller(_) => "caller",
        Attack::Host(_) => "host",
    }
}

/// Where the machine or the user cannot do it, that is said.
fn is_skipped(report: &Report) -> bool {
    let Verdict::Skipped(needs) = &report.verdict else { return false };
    skipped(&report.fault, needs);
    true
}

fn assert_good(reports: &[Report]) {
    let bad: Vec<String> = reports
        .iter()
        .filter(|report| report.verdict != Verdict::Good && !is_skipped(report))
        .map(|report| format!("{}: {}\n{}\n{}", report.fault, report.verdict, report.log.join("\n"), report.reproduce))
        .collect();
    assert!(bad.is_empty(), "{} cases:\n{}", bad.len(), bad.join("\n\n"));
}

#[test]
fn some_of_every_class_are_survived() {
    process::build_landfall().unwrap();
    let mut taken: BTreeMap<(u8, &str), usize> = BTreeMap::new();
    let mut all = cases_with(SWAPS);
    // The slow ones wait for a deadline of ten seconds, and are run by the command.
    all.retain(|case| {
        let is_slow = ["silence", "trickles", "never", "middle", "small-point", "thousand", "half-a-frame"]
            .iter()
            .any(|word| case.name.contains(word));
        kind(&case.attack) == "session" || !is_slow
    });
    let chosen: Vec<Case> = all
        .into_iter()
        .rev()
        .filter(|case| {
            let count = taken.entry((case.class, kind(&case.attack))).or_default();
            *count += 1;
            *count <= SAMPLE || kind(&case.attack) == "session"
        })
        .collect();
    let reports = run(&chosen, SEED, &|_| ());
    say(&format!("hostile: {} cases of {} classes and kinds", reports.len(), taken.len()));
    assert_good(&reports);
    let is_skipped = |report: &Report| matches!(report.verdict, Verdict::Skipped(_));
    assert!(reports.iter().all(|report| report.injected > 0 || is_skipped(report)));
}

fn alone(script: Script) -> Report {
    process::build_landfall().unwrap();
    let case = Case { name: "alone".into(), class: 1, attack: Attack::Script(Box::new(script)) };
    run_one(&case, SEED)
}

#[test]
fn a_file_that_was_never_offered_to_the_judge_is_a_wrong_file() {
    let manifest = with_good().file(b"stowaway", b"x").complete();
    let report = alone(delivered(&manifest, 0).allow(b"good", Thing::File(b"good".to_vec())));
    assert!(matches!(report.verdict, Verdict::Wrong(_)), "{}", report.verdict);
    let report = alone(delivered(&manifest, 0).allow(b"good", Thing::File(b"other".to_vec())));
    assert!(matches!(report.verdict, Verdict::Wrong(_)), "{}", report.verdict);
}

#[test]
fn a_change_outside_is_a_wrong_file() {
    let script = delivered(&with_good().complete(), 0).allow(b"good", Thing::File(b"good".to_vec()));
    let script = script.plant(|place| {
        let song = place.canary.path().join("song");
        std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(5));
            std::fs::write(song, "changed").unwrap();
        });
    });
    let report = alone(script);
    assert!(matches!(report.verdict, Verdict::Wrong(_)), "{}", report.verdict);
}

#[test]
fn an_exit_that_is_not_the_right_one_is_noticed() {
    let manifest = with_good().complete();
    let allowed = |script: Script| script.allow(b"good", Thing::File(b"good".to_vec()));
    let well = alone(allowed(delivered(&manifest, 0).ends(&[1], "")));
    assert!(matches!(well.verdict, Verdict::Wrong(_)), "{}", well.verdict);
    let refused = with_good().raw(vec![8], 1);
    let ill = allowed(Script::against_receiver([opening(), vec![Act::Hostile, Act::Offer(refused)]].concat()));
    let report = alone(ill.clone().ends(&[5], ""));
    assert!(matches!(report.verdict, Verdict::Stuck(_)), "{}", report.verdict);
    let report = alone(ill.ends(&[1], "words that it never says"));
    assert!(matches!(report.verdict, Verdict::Stuck(_)), "{}", report.verdict);
}

#[test]
fn a_script_that_attacks_nobody_is_vacuous() {
    let manifest = with_good().complete();
    let acts = vec![Act::Offer(manifest.clone()), Act::Serve(manifest)];
    let script = Script::against_receiver([opening(), acts].concat()).ends(&[0], "");
    let report = alone(script.allow(b"good", Thing::File(b"good".to_vec())));
    assert_eq!((report.injected, report.verdict), (0, Verdict::Vacuous));
}

fn far(command: Command, speech: fn(&mut Talk), exits: &'static [i32]) -> Report {
    process::build_landfall().unwrap();
    let pipe = Pipe { command, speech: Speech::Does(speech), exits, says: "" };
    run_one(&Case { name: "far".into(), class: 8, attack: Attack::Pipe(Box::new(pipe)) }, SEED)
}

/// Agrees that nothing of it is at the source.
fn all_gone(talk: &mut Talk) {
    talk.begin();
    talk.answer_each(|question| {
        let asked: serde_json::Value = serde_json::from_str(question).unwrap();
        let are_there = vec![false; asked["exist"]["paths"].as_array().unwrap().len()];
        Some(serde_json::json!({ "exist": { "number": asked["exist"]["number"], "are_there": are_there } }).to_string())
    });
}

#[test]
fn a_far_end_that_does_harm_is_noticed() {
    let report = far(Command::RecvDelete, all_gone, &[0]);
    assert_eq!((report.verdict, report.injected), (Verdict::Good, 1));
    let report = far(Command::RecvDelete, all_gone, &[1]);
    assert!(matches!(report.verdict, Verdict::Wrong(_)), "an exit 0 that is not to be: {}", report.verdict);
    let report = far(Command::RecvDelete, |talk| talk.begin(), &[3]);
    assert_eq!((report.verdict, report.injected), (Verdict::Vacuous, 0), "it attacks nobody");
    let report = far(
        Command::RecvDelete,
        |talk| {
            talk.begin();
            talk.hear();
            talk.strike();
            // As if the binary had removed what it had not listed.
            talk.remove_at_the_target("zz");
        },
        &[3],
    );
    assert!(matches!(report.verdict, Verdict::Wrong(_)), "{}", report.verdict);
}
