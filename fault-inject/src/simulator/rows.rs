//! Rows of the fault matrix that the simulator injects: a campaign with the classes of one row alone, its counts being
//! those of what was seen.

use std::collections::BTreeSet;

use super::campaign::{self, Campaign};
use super::{Class, Options, Violation};
use crate::verdict::{How, Report, Verdict};

/// Seeds of one row.
const SEEDS: u64 = 400;

/// Which classes make a row, and which sights count as injected, detected and repaired.
struct Recipe {
    title: &'static str,
    classes: &'static [Class],
    injected: &'static [&'static str],
    detected: &'static [&'static str],
    repaired: &'static [&'static str],
}

const READ_BACK: &[&str] = &["read-back mismatch"];
const REPAIRED: &[&str] = &["read-back mismatch repaired"];
/// What shows that a process has gone on from what an earlier one left.
const RESUMED: &[&str] = &["claims of an earlier run stood", "candidate adopted"];

fn recipe(number: u8) -> Option<Recipe> {
    let recipe =
        |title, classes, injected, detected, repaired| Some(Recipe { title, classes, injected, detected, repaired });
    match number {
        13 => recipe(
            "the sender's log and stamps are damaged",
            &[Class::DamageSenderState, Class::KillSender],
            &["sender's state damaged"],
            &["log rewound"],
            &["receipt acknowledged"],
        ),
        31 | 58 | 70 => recipe(
            "the receiver's log and journal are damaged",
            &[Class::DamageReceiverState, Class::KillReceiver],
            &["journal or log damaged"],
            &["journal cut", "manifest log cut"],
            &["receipt acknowledged"],
        ),
        33 => recipe(
            "writes stray to another place",
            &[Class::WriteBack],
            &["misdirected-write-back"],
            READ_BACK,
            REPAIRED,
        ),
        38 => recipe("writes are lost", &[Class::WriteBack], &["lost-write-back"], READ_BACK, REPAIRED),
        39 => recipe("writes are corrupted", &[Class::WriteBack], &["corrupt-write-back"], READ_BACK, REPAIRED),
        40 => recipe("the same place is always bad", &[Class::WriteBack], &["bad-place"], &["new inode"], REPAIRED),
        41 => recipe(
            "a sync fails, the next succeeds",
            &[Class::SyncErrors],
            &["sync-fails"],
            &["new inode"],
            &["receipt acknowledged"],
        ),
        62 | 63 => recipe(
            "both are killed, also while they recover",
            &[Class::KillReceiver, Class::KillSender, Class::CutReceiver],
            &["receiver killed", "sender killed"],
            RESUMED,
            &["receipt acknowledged"],
        ),
        65 => recipe(
            "power cuts with any part of what was not synced",
            &[Class::CutReceiver, Class::CutSender],
            &["unsynced data lost", "torn page"],
            RESUMED,
            &["receipt acknowledged"],
        ),
        66 => recipe(
            "a name is durable and its data is not",
            &[Class::CutReceiver],
            &["name without data"],
            RESUMED,
            &["receipt acknowledged"],
        ),
        _ => None,
    }
}

/// Runs a row, if the simulator has one of that number.
pub fn row(number: u8, seed: u64) -> Option<Report> {
    let recipe = recipe(number)?;
    let dropped: BTreeSet<Class> = Class::ALL.into_iter().filter(|class| !recipe.classes.contains(class)).collect();
    let campaign = campaign::run(seed, SEEDS, &Options { dropped: dropped.clone(), ..Options::default() });
    let words =
        |classes: &mut dyn Iterator<Item = &Class>| classes.map(|class| class.word()).collect::<Vec<_>>().join(",");
    let count = |sights: &[&str]| {
        campaign.coverage.all().filter(|(what, _)| sights.contains(what)).map(|(_, times)| times).sum()
    };
    let first = campaign.failures.first().map_or(seed, |failure| failure.seed);
    Some(Report {
        fault: recipe.title.to_owned(),
        how: How::Simulator,
        injected: count(recipe.injected),
        detected: count(recipe.detected),
        repaired: count(recipe.repaired),
        verdict: verdict(&campaign),
        plan: format!("seeds={seed:#x}+{SEEDS} classes={}", words(&mut recipe.classes.iter())),
        log: campaign.coverage.all().map(|(what, times)| format!("{times:8}  {what}")).collect(),
        reproduce: format!(
            "cargo run --release -p fault-inject -- simulate --seed {first:#x} --drop {}",
            words(&mut dropped.iter())
        ),
    })
}

fn verdict(campaign: &Campaign) -> Verdict {
    let of = |failure: &campaign::Failure| match &failure.violation {
        Some(Violation::Wrong(what)) => Verdict::Wrong(format!("seed {:#x}: {what}", failure.seed)),
        Some(Violation::Stuck(what)) => Verdict::Stuck(format!("seed {:#x}: {what}", failure.seed)),
        None => Verdict::Failed(failure.plan.clone()),
    };
    campaign.failures.iter().map(of).fold(Verdict::Good, Verdict::and)
}
