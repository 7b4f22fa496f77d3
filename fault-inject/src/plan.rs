//! The plan of a [`crate::faulty_disk::FaultyDisk`]: which operation on which name fails when and how, and the count
//! of what was really injected. The plan decides; the wrapper does.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand_chacha::ChaCha8Rng;

use crate::damage::Damage;
use crate::operation::Operation;
use crate::overlay::Overlay;
use crate::rng::{Dice, Odds};

mod text;

/// Which operations a rule is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// Each operation.
    Any,
    /// Each operation that changes or syncs something.
    Changes,
    /// One kind.
    Only(Operation),
}

/// Which objects a rule is for, by path below the wrapped root. A rename has two paths, either of which may match;
/// an open file keeps the path under which it was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameMatch {
    /// Each object.
    Any,
    /// Paths that end so.
    Suffix(Vec<u8>),
    /// Paths that hold this somewhere.
    Contains(Vec<u8>),
}

/// At which of the operations that match a rule strikes. They are counted per rule, the first is 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// At that one only.
    Nth(u64),
    /// At that one and all later ones.
    From(u64),
    /// At that many, the first ones.
    First(u64),
    /// At each whose number is a multiple.
    EachNth(u64),
    /// At all.
    Every,
    /// By chance, from the plan's seed.
    Chance(Odds),
}

/// For how long altered bytes stay altered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lasting {
    /// In that one buffer: a bad read of good data.
    Once,
    /// Until somebody writes there: bad data.
    UntilRewritten,
    /// For as long as the inode lives: a bad place on the device.
    Always,
}

/// What a failed sync did to the pages that it should have written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsynced {
    /// They are still there and a later sync would write them.
    Kept,
    /// They are marked clean and gone: cached reads look right, uncached reads give zeros, later syncs succeed.
    Lost,
}

/// What happens instead of the operation, or to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It fails with that number and nothing is done. A hint is not passed on; a question is answered with no.
    Errno(i32),
    /// It succeeds and nothing is done: a lost write, a sync that lies. For operations that return nothing.
    Lie,
    /// The write succeeds and only that many bytes are written.
    ShortWrite {
        /// Bytes from the start that are written.
        kept_bytes: usize,
    },
    /// The write fails with that number after that many bytes.
    TornWrite {
        /// Bytes from the start that are written.
        kept_bytes: usize,
        /// The error number.
        errno: i32,
    },
    /// The write succeeds with damaged bytes, which cached and uncached reads both see.
    CorruptWrite(Damage),
    /// The uncached read gives damaged bytes, which cached reads do not: bytes altered below the page cache.
    CorruptUncachedRead(Damage, Lasting),
    /// The cached read gives bytes that are damaged in that one buffer.
    CorruptCachedRead(Damage),
    /// The sync of a file fails with EIO.
    FailSync(Unsynced),
    /// It takes that much longer. Rules after this one are consulted as well.
    Delay {
        /// Milliseconds.
        ms: u64,
    },
    /// The plan's kill switch is called before it. Rules after this one are consulted if the switch returns.
    Kill,
}

/// One line of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Which operations.
    pub on: On,
    /// Which objects.
    pub name: NameMatch,
    /// At which of them.
    pub when: When,
    /// What happens.
    pub effect: Effect,
}

/// A plan in use: rules, and what they have done.
pub struct Plan {
    rules: Vec<Rule>,
    kill_switch: Box<dyn Fn() + Send + Sync>,
    witness: Box<dyn Fn(&Injected) + Send + Sync>,
    state: Mutex<PlanState>,
}

#[derive(Debug)]
struct PlanState {
    is_armed: bool,
    dice: Dice,
    matched: Vec<u64>,
    injected: Vec<u64>,
    seen: BTreeMap<Operation, u64>,
    overlay: Overlay,
}

/// What a rule wants done by the wrapper.
#[derive(Clone, Debug)]
pub(crate) struct Strike {
    pub(crate) rule: usize,
    pub(crate) effect: Effect,
    operation: Operation,
    path: Vec<u8>,
}

/// One fault that was really injected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Injected {
    /// Place of the rule in the plan.
    pub rule: usize,
    /// What was done to it.
    pub effect: Effect,
    /// The operation that it was done to.
    pub operation: Operation,
    /// Its object; of a rename the old name.
    pub path: Vec<u8>,
}

impl fmt::Debug for Plan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Plan").field("rules", &self.rules).finish_non_exhaustive()
    }
}

impl On {
    fn covers(self, operation: Operation) -> bool {
        match self {
            On::Any => true,
            On::Changes => !operation.is_reading(),
            On::Only(only) => only == operation,
        }
    }
}

impl NameMatch {
    /// Paths that end so.
    pub fn suffix(suffix: &str) -> NameMatch {
        NameMatch::Suffix(suffix.as_bytes().to_vec())
    }

    /// Paths that hold this somewhere.
    pub fn contains(part: &str) -> NameMatch {
        NameMatch::Contains(part.as_bytes().to_vec())
    }

    fn covers(&self, path: &[u8]) -> bool {
        match self {
            NameMatch::Any => true,
            NameMatch::Suffix(suffix) => path.ends_with(suffix),
            NameMatch::Contains(part) => {
                part.is_empty() || path.windows(part.len()).any(|window| window == part.as_slice())
            }
        }
    }
}

impl Effect {
    /// Whether the wrapper can do it to that operation.
    fn fits(self, on: On) -> bool {
        use Operation as Op;
        match self {
            Effect::Errno(_) | Effect::Delay { .. } | Effect::Kill => true,
            Effect::Lie => match on {
                On::Any | On::Changes => false,
                On::Only(Op::Create) => false,
                On::Only(operation) => !operation.is_reading(),
            },
            Effect::ShortWrite { .. } | Effect::TornWrite { .. } | Effect::CorruptWrite(_) => on == On::Only(Op::Write),
            Effect::CorruptUncachedRead(..) => on == On::Only(Op::ReadUncached),
            Effect::CorruptCachedRead(_) => on == On::Only(Op::ReadCached),
            Effect::FailSync(_) => matches!(on, On::Only(Op::Sync | Op::SyncData)),
        }
    }

    fn alters_what_is_stored(self) -> bool {
        matches!(
            self,
            Effect::FailSync(Unsynced::Lost)
                | Effect::CorruptUncachedRead(_, Lasting::UntilRewritten | Lasting::Always)
        )
    }
}

impl Rule {
    /// A rule for each object.
    pub fn new(on: On, when: When, effect: Effect) -> Rule {
        Rule { on, name: NameMatch::Any, when, effect }
    }

    /// The same rule for some objects only.
    pub fn named(self, name: NameMatch) -> Rule {
        Rule { name, ..self }
    }
}

impl Plan {
    /// A plan. An effect that its operation cannot have is a bug of the caller and panics.
    pub fn new(seed: u64, rules: Vec<Rule>) -> Plan {
        for rule in &rules {
            assert!(rule.effect.fits(rule.on), "{:?} cannot happen to {:?}", rule.effect, rule.on);
            assert!(rule.when != When::EachNth(0), "no operation has a number that is a multiple of 0");
        }
        let state = PlanState {
            is_armed: true,
            dice: Dice::new(seed),
            matched: vec![0; rules.len()],
            injected: vec![0; rules.len()],
            seen: BTreeMap::new(),
            overlay: Overlay::default(),
        };
        let (kill_switch, witness) = (Box::new(|| std::process::abort()), Box::new(|_: &Injected| ()));
        Plan { rules, kill_switch, witness, state: Mutex::new(state) }
    }

    /// What [`Effect::Kill`] calls: may end the process, or tell somebody and return. Without one the process aborts.
    pub fn with_kill_switch(self, switch: impl Fn() + Send + Sync + 'static) -> Plan {
        Plan { kill_switch: Box::new(switch), ..self }
    }

    /// Whom to tell of each fault, before a kill and after everything else.
    pub fn with_witness(self, witness: impl Fn(&Injected) + Send + Sync + 'static) -> Plan {
        Plan { witness: Box::new(witness), ..self }
    }

    /// Ends all injection; counts go on. What is altered below the cache stays so until it is rewritten.
    pub fn disarm(&self) {
        self.lock().is_armed = false;
    }

    /// Everything injected so far.
    pub fn injected(&self) -> u64 {
        self.lock().injected.iter().sum()
    }

    /// Injected so far by one rule, by its place in the plan.
    pub fn injected_by(&self, rule: usize) -> u64 {
        self.lock().injected[rule]
    }

    /// Rules that have injected nothing: what a test that meant them must not accept.
    pub fn idle_rules(&self) -> Vec<Rule> {
        let state = self.lock();
        self.rules.iter().zip(&state.injected).filter(|(_, count)| **count == 0).map(|(rule, _)| rule.clone()).collect()
    }

    /// Operations of that kind that passed the wrapper so far, failed ones included.
    pub fn seen(&self, operation: Operation) -> u64 {
        self.lock().seen.get(&operation).copied().unwrap_or(0)
    }

    /// Operations of all kinds that passed the wrapper so far.
    pub fn seen_in_all(&self) -> u64 {
        self.lock().seen.values().sum()
    }

    /// Asks what is to be done to one operation. Delays and kills are done here.
    pub(crate) fn consult(&self, operation: Operation, paths: &[&[u8]]) -> Option<Strike> {
        let struck = self.struck(operation, paths);
        for rule in struck {
            let path = paths.first().map(|path| path.to_vec()).unwrap_or_default();
            let strike = Strike { rule, effect: self.rules[rule].effect, operation, path };
            match strike.effect {
                Effect::Delay { ms } => {
                    self.note(&strike);
                    std::thread::sleep(Duration::from_millis(ms));
                }
                Effect::Kill => {
                    self.note(&strike);
                    (self.kill_switch)();
                }
                _ => return Some(strike),
            }
        }
        None
    }

    /// Rules that strike, in order. Each counts what matches it, whether another strikes before it or not.
    fn struck(&self, operation: Operation, paths: &[&[u8]]) -> Vec<usize> {
        let mut state = self.lock();
        *state.seen.entry(operation).or_default() += 1;
        let mut struck = Vec::new();
        for (number, rule) in self.rules.iter().enumerate() {
            if !rule.on.covers(operation) || !paths.iter().any(|path| rule.name.covers(path)) {
                continue;
            }
            state.matched[number] += 1;
            let matched = state.matched[number];
            let strikes = match rule.when {
                When::Nth(nth) => matched == nth,
                When::From(first) => matched >= first,
                When::First(count) => matched <= count,
                When::EachNth(nth) => matched.is_multiple_of(nth),
                When::Every => true,
                When::Chance(odds) => state.dice.roll(&format!("rule {number}"), odds),
            };
            if strikes && state.is_armed {
                struck.push(number);
            }
        }
        struck
    }

    /// Counts a strike that was really done.
    pub(crate) fn note(&self, strike: &Strike) {
        let Strike { rule, effect, operation, path } = strike.clone();
        self.lock().injected[rule] += 1;
        (self.witness)(&Injected { rule, effect, operation, path });
    }

    /// Damages a buffer somewhere.
    pub(crate) fn damage(&self, damage: Damage, bytes: &mut [u8]) {
        let mut state = self.lock();
        damage.apply(bytes, state.dice.stream("damage"));
    }

    /// Whether some rule alters what later reads see, so that files must be told apart.
    pub(crate) fn alters_what_is_stored(&self) -> bool {
        self.rules.iter().any(|rule| rule.effect.alters_what_is_stored())
    }

    /// Uses what is altered below the cache.
    pub(crate) fn with_overlay<T>(&self, run: impl FnOnce(&mut Overlay, &mut ChaCha8Rng) -> T) -> T {
        let PlanState { overlay, dice, .. } = &mut *self.lock();
        run(overlay, dice.stream("damage below the cache"))
    }

    fn lock(&self) -> MutexGuard<'_, PlanState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::errno::EIO;

    fn strikes(when: When) -> Vec<u64> {
        let plan = Plan::new(3, vec![Rule::new(On::Only(Operation::Write), when, Effect::Errno(EIO))]);
        (1..=12).filter(|_| plan.consult(Operation::Write, &[b"a"]).is_some()).collect()
    }

    #[test]
    fn a_rule_strikes_exactly_when_it_says() {
        assert_eq!(strikes(When::Nth(3)), [3]);
        assert_eq!(strikes(When::From(10)), [10, 11, 12]);
        assert_eq!(strikes(When::First(2)), [1, 2]);
        assert_eq!(strikes(When::EachNth(4)), [4, 8, 12]);
        assert_eq!(strikes(When::Every).len(), 12);
        assert!(strikes(When::Chance(Odds::NEVER)).is_empty());
        assert_eq!(
            strikes(When::Chance(Odds::per_million(500_000))),
            strikes(When::Chance(Odds::per_million(500_000)))
        );
    }

    #[test]
    fn a_rule_strikes_only_its_names_and_operations() {
        let rule = Rule::new(On::Changes, When::Every, Effect::Errno(EIO)).named(NameMatch::suffix("journal"));
        let plan = Plan::new(0, vec![rule.clone()]);
        assert!(plan.consult(Operation::Write, &[b"x/journal"]).is_some());
        assert!(plan.consult(Operation::Replace, &[b"x/new", b"x/journal"]).is_some());
        assert!(plan.consult(Operation::Write, &[b"x/journal.old"]).is_none());
        assert!(plan.consult(Operation::ReadCached, &[b"x/journal"]).is_none());
        assert_eq!(plan.idle_rules(), [rule], "a strike that nobody carried out is not injected");
        let strike = plan.consult(Operation::Write, &[b"journal"]).unwrap();
        plan.note(&strike);
        assert!(plan.idle_rules().is_empty());
        plan.disarm();
        assert!(plan.consult(Operation::Write, &[b"x/journal"]).is_none());
        assert_eq!((plan.seen(Operation::Write), plan.seen_in_all()), (4, 6));
        assert!(NameMatch::contains("our").covers(b"journal") && !NameMatch::contains("ours").covers(b"journal"));
    }

    #[test]
    #[should_panic(expected = "cannot happen to")]
    fn an_effect_on_the_wrong_operation_is_refused() {
        Plan::new(0, vec![Rule::new(On::Any, When::Every, Effect::Lie)]);
    }
}
