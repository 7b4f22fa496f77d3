//! SIGKILL of either side and of both, after each durable step and at random moments; then the same command again, or
//! `landfall resume`, and a comparison. What a kill met is read from the state on the disks, and each kind of step has
//! to be met. What is sent and read again is counted in `resume/again.rs`, outside the product.
#![allow(clippy::unwrap_used)]

#[path = "resume/again.rs"]
mod again;
use fault_inject::rig as common;
#[path = "resume/whole.rs"]
mod whole;

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use common::kill::{Pair, Struck, Tally, Trigger, Victim};
use common::oracle::{self, Canary, Snapshot};
use common::scratch::Scratch;
use common::seed::Seed;
use common::state::{self, KILLABLE, Places, Step};
use common::transfer::{self, BOTH_DIRECTIONS, Listens, Setup, Side};
use common::{facility, trees};

/// Kills that the default run must reach.
const KILLS_MIN: u64 = 200;
/// Transfers that are hurt at the same time: they wait for disks and clocks more than they compute.
const WORKERS: usize = 4;
/// From the last restart to the end of both sides. The receiver's linger of a minute is in it.
const RESUME_PATIENCE: Duration = Duration::from_secs(120);

/// One transfer that is killed one or several times.
#[derive(Clone, Debug)]
struct Job {
    number: usize,
    listens: Listens,
    strikes: Vec<(Trigger, Victim)>,
}

/// What all jobs share.
struct Campaign<'a> {
    scratch: &'a Scratch,
    source: &'a Path,
    wanted: &'a Snapshot,
    file_count: usize,
    seed: u64,
}

impl Campaign<'_> {
    fn setup(&self, name: &str, listens: Listens) -> (Setup, Places) {
        let setup = Setup::new(self.scratch, name, &[self.source], listens);
        let places = setup.places(self.file_count);
        (setup, places)
    }

    /// Runs a job to its good end. Returns what its kills met.
    fn run(&self, job: &Job) -> Tally {
        let name = format!("job-{}", job.number);
        let (setup, places) = self.setup(&name, job.listens);
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed ^ job.number as u64);
        let mut tally = Tally::default();
        let mut pair = Pair::of(setup.start());
        let mut receipt = None;
        for (trigger, victim) in &job.strikes {
            let struck = pair.strike(&places, *trigger, *victim);
            tally.count(&struck);
            let held = state::receipts(&setup.receiver_home).first().map(|path| std::fs::read(path).unwrap());
            if receipt.is_none() {
                receipt = held;
            }
            // `landfall resume` continues what is on record: before that there is only the command itself.
            pair.revive(&setup, |side| rng.random_range(0..3) == 0 && setup.has_record(side));
            if matches!(struck, Struck::TooLate) {
                break;
            }
        }
        pair.wait(RESUME_PATIENCE);
        pair.assert_success();
        self.assert_finished(&setup, receipt.as_deref(), &pair);
        if !std::thread::panicking() {
            common::held::remove_all_below(&common::held::open_dir(&self.scratch.join(&name)));
        }
        tally
    }

    fn assert_finished(&self, setup: &Setup, early_receipt: Option<&[u8]>, pair: &Pair) {
        let arrived = setup.target.join(self.source.file_name().unwrap());
        facility::assert_locked(&arrived.join("locked"));
        let found = oracle::differences(self.wanted, &oracle::snapshot(&arrived), &oracle::Rules::default());
        assert!(found.is_empty(), "differs:\n  {}\n{}", oracle::in_lines(&found), pair.describe());
        state::assert_no_work_left(&setup.target);
        assert_eq!(state::entries(&setup.target).len(), 1, "only what was sent is in the target");
        let receipts = state::receipts(&setup.receiver_home);
        assert_eq!(receipts.len(), 1, "{receipts:?}\n{}", pair.describe());
        assert_eq!(state::receipts(&setup.sender_home).len(), 1, "the sender holds its receipt\n{}", pair.describe());
        if let Some(early) = early_receipt {
            assert!(std::fs::read(&receipts[0]).unwrap() == early, "the receipt was made a second time");
        }
    }

    /// How many visible changes of state a run without kills makes, and how long it takes.
    fn count_changes(&self) -> (u64, Duration) {
        let (setup, places) = self.setup("count", Listens::Receiver);
        let mut pair = Pair::of(setup.start());
        let mut last = places.look();
        let mut changes = 0;
        let start = Instant::now();
        while pair.is_running() {
            let look = places.look();
            changes += u64::from(look != last);
            last = look;
            assert!(start.elapsed() < RESUME_PATIENCE, "a run without kills does not end\n{}", pair.describe());
            std::thread::sleep(Duration::from_micros(100));
        }
        let took = start.elapsed();
        pair.assert_success();
        (changes, took)
    }
}

/// Every step × victim × direction; after each k-th change; and chains of kills at random times.
fn jobs(changes: u64, took: Duration, rng: &mut ChaCha8Rng) -> Vec<Job> {
    let mut jobs: Vec<(Listens, Vec<(Trigger, Victim)>)> = Vec::new();
    let victims = [Victim::Sender, Victim::Receiver, Victim::Both];
    for listens in BOTH_DIRECTIONS {
        for victim in victims {
            jobs.extend(KILLABLE.iter().map(|step| (listens, vec![(Trigger::AtStep(*step), victim)])));
        }
    }
    let stride = (changes / 80).max(1);
    for (number, change) in (1..=changes).step_by(usize::try_from(stride).unwrap()).enumerate() {
        let listens = BOTH_DIRECTIONS[number % 2];
        jobs.push((listens, vec![(Trigger::AfterChanges(change), victims[number % 3])]));
    }
    for number in 0..40 {
        let chain = (0..rng.random_range(2..=4)).map(|_| {
            let time = took.mul_f64(rng.random_range(0.0..0.5));
            (Trigger::AfterTime(time), Victim::random(rng))
        });
        jobs.push((BOTH_DIRECTIONS[number % 2], chain.collect()));
    }
    let numbered = jobs.into_iter().enumerate();
    numbered.map(|(number, (listens, strikes))| Job { number, listens, strikes }).collect()
}

/// Kills that come as soon as a step shows, and are repeated with new transfers until it was really met.
fn make_up(campaign: &Campaign<'_>, first_number: usize, took: Duration, tally: &mut Tally) {
    let mut number = first_number;
    for _ in 0..6 {
        for step in tally.missed(&KILLABLE) {
            for (listens, victim) in [(Listens::Receiver, Victim::Both), (Listens::Sender, Victim::Receiver)] {
                tally.add(&campaign.run(&Job { number, listens, strikes: vec![(Trigger::AtStep(step), victim)] }));
                number += 1;
            }
        }
    }
    while tally.kills() < KILLS_MIN && number < first_number + 400 {
        // Spread over the first third of a run alone: what comes later is too late more often than not.
        let time = took.mul_f64((number * 37 % 100) as f64 / 300.0);
        let strikes = vec![(Trigger::AfterTime(time), Victim::Both)];
        tally.add(&campaign.run(&Job { number, listens: Listens::Receiver, strikes }));
        number += 1;
    }
}

#[test]
fn any_kill_is_survived() {
    let seed = Seed::of("resume", "any_kill_is_survived");
    let scratch = Scratch::new("kills");
    let canary = Canary::new(&scratch.join("canary"));
    let source = trees::medley(&scratch.join("source"), seed.value);
    facility::assert_locked(&source.join("locked"));
    let wanted = oracle::snapshot(&source);
    let file_count = wanted.values().filter(|node| node.kind == rustix::fs::FileType::RegularFile).count();
    let campaign = Campaign { scratch: &scratch, source: &source, wanted: &wanted, file_count, seed: seed.value };
    let (changes, took) = campaign.count_changes();
    assert!(changes > 20, "{changes} changes of state were seen: the watcher is blind");
    let mut jobs = jobs(changes, took, &mut seed.rng(1));
    let count = jobs.len();
    if let Ok(only) = std::env::var("LANDFALL_TEST_JOB") {
        jobs.retain(|job| job.number.to_string() == only);
    }
    let (next, total) = (AtomicUsize::new(0), Mutex::new(Tally::default()));
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let told = Told { job, seed: &seed };
                    let tally = campaign.run(job);
                    drop(told);
                    total.lock().unwrap().add(&tally);
                }
            });
        }
    });
    let mut tally = total.into_inner().unwrap();
    if jobs.len() == count {
        make_up(&campaign, count, took, &mut tally);
        assert!(tally.kills() >= KILLS_MIN, "{}", tally.summary());
        assert_eq!(tally.missed(&KILLABLE), Vec::<Step>::new(), "steps that no kill met; {}", tally.summary());
    }
    canary.assert_unchanged();
    facility::say(&format!("resume: {changes} changes of state in a run without kills; {}", tally.summary()));
}

/// Says which job failed, and how to run it alone.
struct Told<'a> {
    job: &'a Job,
    seed: &'a Seed,
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let (job, command) = (self.job, self.seed.command());
            facility::say(&format!("{job:?}\nreproduce this job alone: LANDFALL_TEST_JOB={} {command}", job.number));
        }
    }
}

#[test]
fn a_side_that_was_not_killed_needs_nothing() {
    let scratch = Scratch::new("untouched");
    let source = trees::medley(&scratch.join("source"), 1);
    for listens in BOTH_DIRECTIONS {
        for victim in [Side::Sender, Side::Receiver] {
            let mut setup = Setup::new(&scratch, &format!("{listens:?}-{victim:?}"), &[&source], listens);
            setup.through_relay(1).rate(8 << 20);
            let mut live = setup.start();
            let places = setup.places(usize::MAX);
            let is_under_way = live.receiver.wait_until("staged bytes", RESUME_PATIENCE, |_| {
                places.look().staging_files > 0 && setup.relay().all_bytes() > 2 << 20
            });
            assert!(is_under_way, "{}", live.receiver.describe("ended"));
            let live = live.kill_and_restart(victim, &setup, || ());
            setup.relay().rate(0);
            let done = live.wait(RESUME_PATIENCE);
            done.assert_success();
            transfer::assert_arrived(&source, &setup.target);
        }
    }
}
