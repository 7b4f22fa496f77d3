//! What goes wrong in one seed: which classes of faults are on, how often each strikes, which policy the receiver
//! has. Everything is drawn whether its class is on or not, so that dropping a class shifts no other draw. It only
//! says what may happen; `world.rs` makes it happen.

use std::collections::BTreeSet;
use std::fmt;

use landfall::options::Existing;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::rng::{Odds, stream};
use crate::sim_disk::{SimDials, SimFault};

/// A class of faults: on in some seeds, off in others, and what a shrink drops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// The sender's process is killed.
    KillSender,
    /// The receiver's process is killed.
    KillReceiver,
    /// The sender's machine loses power.
    CutSender,
    /// The receiver's machine loses power.
    CutReceiver,
    /// The link is lost, noticed by each side at its own time.
    LoseLink,
    /// Chunks arrive twice.
    Duplicate,
    /// Chunks overtake each other.
    Reorder,
    /// A chunk's bytes are changed on their way.
    DamageChunk,
    /// Another program changes the source.
    EditSource,
    /// Reads of the source fail.
    SourceErrors,
    /// The sender's log or stamps are damaged while it is down.
    DamageSenderState,
    /// The receiver's log or journal is damaged while it is down.
    DamageReceiverState,
    /// Staged files are damaged while the receiver is down.
    DamageStaging,
    /// The receiver's disk loses, corrupts or misplaces what is written back.
    WriteBack,
    /// The receiver's disk rots.
    Rot,
    /// Uncached reads at the receiver give wrong bytes once.
    BadReads,
    /// Syncs fail at the receiver.
    SyncErrors,
    /// Writes, reads and names fail at the receiver.
    DiskErrors,
    /// Operations fail on the sender's state.
    SenderDiskErrors,
    /// The receiver's disk is full for a while.
    NoSpace,
    /// The target holds another tree already.
    OlderTree,
    /// Another program writes into staged files, takes their place, and puts files where others are to go.
    Strangers,
}

impl Class {
    /// All of them.
    pub const ALL: [Class; 22] = [
        Class::KillSender,
        Class::KillReceiver,
        Class::CutSender,
        Class::CutReceiver,
        Class::LoseLink,
        Class::Duplicate,
        Class::Reorder,
        Class::DamageChunk,
        Class::EditSource,
        Class::SourceErrors,
        Class::DamageSenderState,
        Class::DamageReceiverState,
        Class::DamageStaging,
        Class::WriteBack,
        Class::Rot,
        Class::BadReads,
        Class::SyncErrors,
        Class::DiskErrors,
        Class::SenderDiskErrors,
        Class::NoSpace,
        Class::OlderTree,
        Class::Strangers,
    ];

    /// The word on command lines and in reports.
    pub fn word(self) -> &'static str {
        match self {
            Class::KillSender => "kill-sender",
            Class::KillReceiver => "kill-receiver",
            Class::CutSender => "cut-sender",
            Class::CutReceiver => "cut-receiver",
            Class::LoseLink => "lose-link",
            Class::Duplicate => "duplicate",
            Class::Reorder => "reorder",
            Class::DamageChunk => "damage-chunk",
            Class::EditSource => "edit-source",
            Class::SourceErrors => "source-errors",
            Class::DamageSenderState => "damage-sender-state",
            Class::DamageReceiverState => "damage-receiver-state",
            Class::DamageStaging => "damage-staging",
            Class::WriteBack => "write-back",
            Class::Rot => "rot",
            Class::BadReads => "bad-reads",
            Class::SyncErrors => "sync-errors",
            Class::DiskErrors => "disk-errors",
            Class::SenderDiskErrors => "sender-disk-errors",
            Class::NoSpace => "no-space",
            Class::OlderTree => "older-tree",
            Class::Strangers => "strangers",
        }
    }

    /// The class of a word.
    pub fn of_word(word: &str) -> Option<Class> {
        Class::ALL.into_iter().find(|class| class.word() == word)
    }
}

/// Odds per step of each thing that the world does by itself.
#[derive(Clone, Copy, Debug)]
pub struct StepOdds {
    /// A process or machine ends.
    pub end: Odds,
    /// The link is lost.
    pub lose_link: Odds,
    /// A chunk that is sent is sent twice.
    pub duplicate: Odds,
    /// A chunk that is sent is damaged.
    pub damage_chunk: Odds,
    /// The source is edited.
    pub edit: Odds,
    /// A state file is damaged, each time a process starts.
    pub damage_state: Odds,
    /// Another program meddles with the target.
    pub meddle: Odds,
}

/// The plan of one seed.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// Classes that are on.
    pub on: BTreeSet<Class>,
    /// How often things happen.
    pub odds: StepOdds,
    /// Steps of the safety phase.
    pub safety_steps: u64,
    /// What the receiver does with other content under a name.
    pub existing: Existing,
    /// The receiver listens, the sender dials.
    pub is_receiver_listening: bool,
    /// Files in the source, at most.
    pub files_max: usize,
    /// Odds of each disk fault of a class that is on.
    rates: [Odds; 13],
    is_syncfs_good: bool,
}

impl Plan {
    /// The plan that a seed draws, without some classes.
    pub fn drawn(seed: u64, dropped: &BTreeSet<Class>) -> Plan {
        let mut dice = stream(seed, "plan");
        let share = [10, 30, 50, 70][dice.random_range(0..4)];
        let mut on = BTreeSet::new();
        for class in Class::ALL.into_iter().filter(|class| *class != Class::Strangers) {
            let is_on = dice.random_range(0..100) < share;
            if is_on && !dropped.contains(&class) {
                on.insert(class);
            }
        }
        // By dice of their own, like all that they do: what else a seed draws is the same with and without them.
        let mut own = stream(seed, "strangers in the plan");
        if own.random_range(0..4) == 0 && !dropped.contains(&Class::Strangers) {
            on.insert(Class::Strangers);
        }
        let meddle = Odds::per_million([5_000, 20_000, 60_000][own.random_range(0..3)]);
        let mut one_of = |rates: &[u32]| Odds::per_million(rates[dice.random_range(0..rates.len())]);
        let odds = StepOdds {
            end: one_of(&[2_000, 5_000, 12_000, 30_000]),
            lose_link: one_of(&[2_000, 8_000, 20_000]),
            duplicate: one_of(&[50_000, 300_000]),
            damage_chunk: one_of(&[20_000, 200_000]),
            edit: one_of(&[2_000, 8_000, 20_000]),
            damage_state: one_of(&[300_000, 700_000]),
            meddle,
        };
        let rates = std::array::from_fn(|_| one_of(&[1_000, 5_000, 20_000, 60_000]));
        let safety_steps = [200, 500, 1000][dice.random_range(0..3)];
        let existing = [Existing::Refuse, Existing::Keep, Existing::Replace][dice.random_range(0..3)];
        let is_renaming = stream(seed, "names in the plan").random_range(0..4) == 0;
        Plan {
            seed,
            on,
            odds,
            safety_steps,
            existing: if is_renaming { Existing::Rename } else { existing },
            is_receiver_listening: dice.random_range(0..2) == 0,
            files_max: [1, 3, 6, 10][dice.random_range(0..4)],
            rates,
            is_syncfs_good: dice.random_range(0..2) == 0,
        }
    }

    /// Whether a class is on.
    pub fn has(&self, class: Class) -> bool {
        self.on.contains(&class)
    }

    /// The odds of a step, if its class is on.
    pub fn odds_of(&self, class: Class, odds: Odds) -> Odds {
        if self.has(class) { odds } else { Odds::NEVER }
    }

    /// Dials of the receiver's disk in the safety phase.
    pub fn receiver_dials(&self, dice: &mut ChaCha8Rng) -> SimDials {
        let mut dials = SimDials { is_syncfs_good: self.is_syncfs_good, ..SimDials::off() };
        for (fault, rate) in SimFault::ALL.into_iter().zip(self.rates) {
            let class = match fault {
                SimFault::WriteFails | SimFault::ReadFails | SimFault::SyncDirFails | SimFault::NameFails => {
                    Class::DiskErrors
                }
                SimFault::BadRead => Class::BadReads,
                SimFault::Rot => Class::Rot,
                SimFault::LostWriteBack
                | SimFault::CorruptWriteBack
                | SimFault::MisdirectedWriteBack
                | SimFault::BadPlace => Class::WriteBack,
                SimFault::WriteBackFails | SimFault::SyncFails => Class::SyncErrors,
                SimFault::SyncLies => continue,
            };
            let is_drawn = dice.random_range(0..3) > 0;
            if self.has(class) && is_drawn {
                dials = dials.with(fault, rate);
            }
        }
        dials
    }

    /// Dials of the disk that holds the source.
    pub fn source_dials(&self) -> SimDials {
        let dials = SimDials::off();
        match self.has(Class::SourceErrors) {
            true => dials.with(SimFault::ReadFails, self.rates[0]).with(SimFault::BadRead, self.rates[1]),
            false => dials,
        }
    }

    /// Dials of the disk that holds the sender's state.
    pub fn sender_dials(&self) -> SimDials {
        let mut dials = SimDials::off();
        if self.has(Class::SenderDiskErrors) {
            for fault in [SimFault::WriteFails, SimFault::ReadFails, SimFault::NameFails, SimFault::SyncFails] {
                dials = dials.with(fault, Odds::per_million(self.rates[2].millionths() / 8));
            }
        }
        dials
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed={:#x} existing={:?} steps={} on=", self.seed, self.existing, self.safety_steps)?;
        let words: Vec<&str> = self.on.iter().map(|class| class.word()).collect();
        f.write_str(&words.join(","))?;
        let o = &self.odds;
        let per_million =
            [o.end, o.lose_link, o.duplicate, o.damage_chunk, o.edit, o.damage_state, o.meddle].map(Odds::millionths);
        write!(f, " odds={per_million:?}")
    }
}
