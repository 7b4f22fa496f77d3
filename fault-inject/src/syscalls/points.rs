//! Where to strike: each side, kind of call, fault and number; and how some of them stand for all.

use std::fmt;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::trace::Calls;
use crate::rig::transfer::Side;

/// Calls that may lack space.
const TAKE_SPACE: [&str; 16] = [
    "open",
    "openat",
    "openat2",
    "write",
    "pwrite64",
    "pwritev",
    "pwritev2",
    "fsync",
    "fdatasync",
    "syncfs",
    "fallocate",
    "mkdir",
    "mkdirat",
    "renameat",
    "renameat2",
    "symlinkat",
];
/// Calls that move data towards a device or a peer and say how much; `write` is not among them, as it carries wake-ups
/// between threads and what stands on the screen.
const MOVE_DATA: [&str; 5] = ["pwrite64", "pwritev", "pwritev2", "sendmsg", "sendto"];
/// Calls that force data down and say nothing but that they have.
const SYNC: [&str; 3] = ["fsync", "fdatasync", "syncfs"];

/// What a call is made to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Fault {
    /// SIGKILL before it has done anything.
    Kill,
    /// It does nothing and fails with EIO.
    Eio,
    /// It does nothing and fails with ENOSPC.
    Enospc,
    /// It does nothing and reports success.
    Lie,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 4] = [Fault::Kill, Fault::Eio, Fault::Enospc, Fault::Lie];

    /// As on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Fault::Kill => "kill",
            Fault::Eio => "eio",
            Fault::Enospc => "enospc",
            Fault::Lie => "lie",
        }
    }

    fn suits(self, call: &str) -> bool {
        match self {
            Fault::Kill | Fault::Eio => true,
            Fault::Enospc => TAKE_SPACE.contains(&call),
            Fault::Lie => MOVE_DATA.contains(&call) || SYNC.contains(&call),
        }
    }
}

/// One place to strike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// Which side.
    pub side: Side,
    /// Which kind of call.
    pub call: String,
    /// What it is made to do.
    pub fault: Fault,
    /// Which call of one thread, from 1 on.
    pub nth: u32,
    /// Only calls on the large file of the source are counted and hit.
    pub on_source: bool,
    /// Every later call of that thread is hit as well.
    pub is_lasting: bool,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (side, call, fault, nth) = (word(self.side), &self.call, self.fault.word(), self.nth);
        write!(f, "--side {side} --call {call} --fault {fault} --nth {nth}")?;
        if self.on_source {
            f.write_str(" --source")?;
        }
        if self.is_lasting { f.write_str(" --lasting") } else { Ok(()) }
    }
}

/// The command of a side.
pub fn word(side: Side) -> &'static str {
    if side == Side::Sender { "send" } else { "recv" }
}

/// What is struck of all that there is; nothing given means all.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only this side.
    pub side: Option<Side>,
    /// Only these kinds of calls.
    pub calls: Vec<String>,
    /// Only this fault.
    pub fault: Option<Fault>,
    /// Only this call of each thread.
    pub nth: Option<u32>,
    /// Only calls on the large file of the source.
    pub on_source: bool,
    /// Every later call as well.
    pub is_lasting: bool,
}

/// Every point of one side, one group for each kind of call and fault.
pub fn groups(side: Side, calls: &Calls, filter: &Filter) -> Vec<Vec<Point>> {
    let is_meant = |call: &&String| filter.calls.is_empty() || filter.calls.contains(call);
    let mut found = vec![];
    for call in calls.keys().filter(is_meant) {
        for fault in
            Fault::ALL.into_iter().filter(|fault| fault.suits(call) && filter.fault.is_none_or(|only| only == *fault))
        {
            let last = u32::try_from(calls[call].results.len()).unwrap_or(u32::MAX);
            let point = |nth| {
                let Filter { on_source, is_lasting, .. } = *filter;
                Point { side, call: call.clone(), fault, nth, on_source, is_lasting }
            };
            // A number that this run did not reach may be reached the next time.
            found.push(filter.nth.map_or_else(|| (1..=last).map(point).collect(), |nth| vec![point(nth)]));
        }
    }
    found
}

/// So many of them: dealt out to the groups in turn, then spread evenly over each. Where there are more groups than
/// runs, every so many-th group has one.
pub fn sampled(groups: &[Vec<Point>], runs: usize, seed: u64) -> Vec<Point> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let total: usize = groups.iter().map(Vec::len).sum();
    let mut counts = vec![0; groups.len()];
    let mut left = runs.min(total);
    if left < groups.len() {
        let start = rng.random_range(0..groups.len());
        (0..left).for_each(|one| counts[(start + one * groups.len() / left) % groups.len()] = 1);
        left = 0;
    }
    while left > 0 {
        for (count, group) in counts.iter_mut().zip(groups) {
            let more = usize::from(left > 0 && *count < group.len());
            *count += more;
            left -= more;
        }
    }
    let mut chosen = vec![];
    for (count, group) in counts.into_iter().zip(groups).filter(|(count, _)| *count > 0) {
        let start = rng.random_range(0..group.len());
        chosen.extend((0..count).map(|one| group[(start + one * group.len() / count) % group.len()].clone()));
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syscalls::trace::Kind;

    fn kinds() -> Calls {
        let kind = |count: usize| Kind { calls: count as u64, results: vec![0; count] };
        [("fsync", 3), ("pwrite64", 40), ("statx", 7)]
            .into_iter()
            .map(|(name, count)| (name.to_owned(), kind(count)))
            .collect()
    }

    #[test]
    fn every_call_of_every_kind_is_there_and_only_faults_that_it_may_have() {
        let all = groups(Side::Receiver, &kinds(), &Filter::default());
        let lens: Vec<usize> = all.iter().map(Vec::len).collect();
        assert_eq!(lens, [3, 3, 3, 3, 40, 40, 40, 40, 7, 7]);
        let one = Filter { calls: vec!["fsync".into()], fault: Some(Fault::Kill), nth: Some(9), ..Filter::default() };
        let one = groups(Side::Receiver, &kinds(), &one).concat();
        assert_eq!(
            one.iter().map(Point::to_string).collect::<Vec<_>>(),
            ["--side recv --call fsync --fault kill --nth 9"]
        );
    }

    #[test]
    fn a_sample_leaves_no_kind_out_and_takes_no_point_twice() {
        let all = groups(Side::Sender, &kinds(), &Filter::default());
        for (runs, wanted) in [(4, 4), (10, 10), (60, 60), (1000, 186)] {
            let some = sampled(&all, runs, 7);
            assert_eq!(some.len(), wanted);
            assert!((1..some.len()).all(|at| !some[..at].contains(&some[at])), "{some:?}");
            let is_met = |group: &Vec<Point>| some.iter().any(|point| group.contains(point));
            assert!(runs < all.len() || all.iter().all(is_met));
        }
    }
}
