//! What was seen over many seeds, and how much of it a campaign must have seen at least: a campaign that met no torn
//! claim has shown nothing about torn claims.

use std::collections::BTreeMap;

use landfall::wire::Phase;

use crate::sim_disk::SimCounts;

/// Counts by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    counts: BTreeMap<&'static str, u64>,
}

/// What must have been seen, how often in 10,000 seeds.
pub const MINIMUMS: [(&str, u64); 39] = [
    ("unsynced data lost", 500),
    ("name without data", 50),
    ("torn claim", 20),
    ("duplicate delivered", 1000),
    ("crash between rename and claim", 20),
    ("log rewound", 50),
    ("candidate adopted", 500),
    ("read-back mismatch", 200),
    ("read-back mismatch repaired", 100),
    ("new inode", 100),
    ("full disk met", 200),
    ("source changed", 500),
    ("claims of an earlier run stood", 500),
    ("chunk damaged on its way", 500),
    ("link lost", 2000),
    ("receiver killed", 1000),
    ("receiver's power cut", 1000),
    ("sender killed", 1000),
    ("sender's power cut", 1000),
    ("journal or log damaged", 200),
    ("staging damaged", 50),
    ("older tree in the target", 500),
    ("staging meddled with", 500),
    ("file put in the way", 100),
    ("entry left out", 50),
    ("entry under another name", 200),
    ("receiver ended while connecting", 100),
    ("receiver ended while transferring", 200),
    ("receiver ended while adopting", 5),
    ("receiver ended while verifying", 100),
    ("receiver ended while finishing", 50),
    ("receiver ended with a receipt", 50),
    ("sender ended while connecting", 100),
    ("sender ended while scanning", 20),
    ("sender ended while transferring", 200),
    ("sender ended while verifying", 30),
    ("sender ended while finishing", 10),
    ("sender ended with a receipt", 20),
    ("receipt acknowledged", 9000),
];

impl Coverage {
    /// Counts something.
    pub fn mark(&mut self, what: &'static str) {
        self.add(what, 1);
    }

    /// Counts something several times.
    pub fn add(&mut self, what: &'static str, times: u64) {
        if times > 0 {
            *self.counts.entry(what).or_default() += times;
        }
    }

    /// Adds the counts of another.
    pub fn merge(&mut self, other: &Coverage) {
        for (what, times) in &other.counts {
            self.add(what, *times);
        }
    }

    /// How often something was seen.
    pub fn of(&self, what: &str) -> u64 {
        self.counts.get(what).copied().unwrap_or(0)
    }

    /// All counts.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.counts.iter().map(|(what, times)| (*what, *times))
    }

    /// What was seen too seldom for that many seeds: name, seen, needed.
    pub fn missing(&self, seeds: u64) -> Vec<(&'static str, u64, u64)> {
        let needed = |per_ten_thousand: u64| per_ten_thousand * seeds / 10_000;
        let all = MINIMUMS.into_iter().map(|(what, minimum)| (what, self.of(what), needed(minimum)));
        all.filter(|(_, seen, needed)| seen < needed).collect()
    }

    /// Takes over what a disk counted.
    pub fn take_disk(&mut self, counts: &SimCounts) {
        self.add("unsynced data lost", counts.crash.unsynced_data_lost);
        self.add("name without data", counts.crash.name_without_data);
        self.add("rename half kept", counts.crash.renames_half_kept);
        self.add("torn page", counts.crash.torn_pages);
        for (fault, times) in &counts.faults {
            self.add(fault.word(), *times);
        }
    }

    /// A receiver has ended in a phase.
    pub fn receiver_ended(&mut self, phase: Phase) {
        self.mark(match phase {
            Phase::Connecting | Phase::Consent => "receiver ended while connecting",
            Phase::Scanning | Phase::Transferring => "receiver ended while transferring",
            Phase::Adopting => "receiver ended while adopting",
            Phase::Verifying => "receiver ended while verifying",
            Phase::Finishing => "receiver ended while finishing",
            Phase::Receipt | Phase::Done => "receiver ended with a receipt",
            Phase::DiskFull => "receiver ended with a full disk",
        });
    }

    /// A sender has ended in a phase.
    pub fn sender_ended(&mut self, phase: Phase) {
        self.mark(match phase {
            Phase::Connecting | Phase::Consent => "sender ended while connecting",
            Phase::Scanning => "sender ended while scanning",
            Phase::Transferring | Phase::Adopting => "sender ended while transferring",
            Phase::Verifying => "sender ended while verifying",
            Phase::Finishing => "sender ended while finishing",
            Phase::Receipt | Phase::Done => "sender ended with a receipt",
            Phase::DiskFull => "sender ended with a full disk",
        });
    }
}
