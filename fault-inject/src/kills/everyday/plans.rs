//! `--plan`, and deaths in it: whatever dies, and wherever, nothing has changed on either side, nor in what landfall keeps
//! itself, and the next plan says the same.

use std::path::PathBuf;
use std::time::Duration;

use rand::Rng;

use super::strikes::{Calls, Victim, ended, killed, struck};
use super::{Amount, Case, play};
use crate::kills::{Counts, failed};
use crate::rig::oracle::{self, Snapshot};
use crate::rig::process::{self, Finished, Landfall};
use crate::rig::scratch::Scratch;
use crate::rig::tree::{Content, Tree};
use crate::rng::stream;
use crate::verdict::{How, Report, Verdict};

const FAULT: &str = "SIGKILL of a plan, and of its child";
/// Places in each of the plans.
const CALLS: usize = 60;

/// One way to plan.
#[derive(Clone, Copy, Debug)]
struct Way {
    /// `send --to`, else `recv --from`.
    is_to: bool,
    deletes: bool,
    /// Nothing was ever run with this home: it is not there.
    is_new: bool,
}

/// Row 78: `--plan`.
pub(super) fn report(amount: Amount, seed: u64) -> Report {
    let ground = match Ground::new(amount, seed) {
        Ok(ground) => ground,
        Err(why) => return failed(FAULT, why),
    };
    let both = [true, false];
    let ways = both.iter().flat_map(|is_to| both.iter().map(move |deletes| (*is_to, *deletes)));
    let ways = ways.map(|(is_to, deletes)| Way { is_to, deletes, is_new: is_to != deletes });
    let cases: Vec<Case<'_>> = ways.flat_map(|way| ground.cases(way)).collect();
    play(FAULT, How::Strace, &cases)
}

/// Both sides and both homes, of which nothing may ever change.
struct Ground {
    base: PathBuf,
    before: Snapshot,
    amount: Amount,
    seed: u64,
    scratch: Scratch,
}

impl Ground {
    /// A target that is an old copy, in the state that a transfer to it has left behind.
    fn new(amount: Amount, seed: u64) -> Result<Ground, String> {
        process::build_landfall()?;
        let scratch = Scratch::new("plans");
        let base = scratch.dir("base");
        let mut tree = Tree::new(&base.join("source"), seed);
        tree.file("tree/large", &Content::Random(600_000));
        (0..12).for_each(|number| tree.small(format!("tree/part-{}/{number}", number % 3)));
        tree.symlink("tree/link", "large");
        tree.finish();
        let (source, target, home) = (base.join("source/tree"), base.join("target"), base.join("home"));
        let command = Landfall::new("before", &home).arg("send").arg(&source).arg("--to").arg(&target);
        let done = ended(command.start()).map_err(|bad| bad.to_string())?;
        if done.code() != Some(0) {
            return Err(done.describe());
        }
        let write = |path: &str, text: &str| std::fs::write(base.join(path), text).map_err(|error| error.to_string());
        write("source/tree/part-0/new", "new")?;
        write("target/tree/part-1/1", "other")?;
        write("target/tree/old", "old")?;
        write("target/beside", "beside")?;
        let before = oracle::snapshot(&base);
        Ok(Ground { base, before, amount, seed, scratch })
    }

    fn command(&self, way: Way) -> Landfall {
        let (source, target) = (self.base.join("source/tree"), self.base.join("target"));
        let command = Landfall::new("plan", &self.base.join(if way.is_new { "no-home" } else { "home" }));
        let command = match way.is_to {
            true => command.arg("send").arg(source).arg("--to").arg(target),
            false => command.arg("recv").arg(target).arg("--from").arg(source),
        };
        let command = command.args(["--plan", "--json", "--existing", "replace"]);
        if way.deletes { command.arg("--delete") } else { command }
    }

    fn cases(&self, way: Way) -> Vec<Case<'_>> {
        let name = format!("{way:?}").replace(|letter: char| !letter.is_ascii_alphanumeric(), "");
        let kind = format!("{way:?}");
        let planned = ended(self.command(way).start()).and_then(|planned| {
            let is_whole = planned.code() == Some(0) && !planned.stdout.is_empty();
            if is_whole { self.judge(planned) } else { Err(Verdict::Stuck(planned.describe())) }
        });
        let planned = match planned {
            Ok(planned) => planned.stdout,
            Err(bad) => return vec![Case::new(&kind, "without a kill".to_owned(), move |_| bad.clone())],
        };
        let mut cases = vec![];
        match Calls::of(&self.scratch, &format!("{name}-count"), &self.command(way)) {
            Err(why) => cases.push(Case::new(&kind, "system calls".to_owned(), move |_| why.clone())),
            Ok((calls, _)) => {
                for (number, point) in calls.any(self.amount.of(CALLS), self.seed).into_iter().enumerate() {
                    let (planned, label) = (planned.clone(), format!("{} {}", point.call, point.nth));
                    let name = format!("{name}-{number}");
                    cases.push(Case::new(&kind, label, move |counts: &mut Counts| {
                        let struck = struck(&self.scratch, &name, &self.command(way), &point);
                        let struck = struck.map(|(first, hit)| (first, hit.is_some()));
                        self.go_on(way, struck, &planned, counts)
                    }));
                }
            }
        }
        for victim in Victim::ALL {
            let planned = planned.clone();
            let wait = Duration::from_micros(stream(self.seed, &format!("{name}-{victim:?}")).random_range(0..15_000));
            cases.push(Case::new(&kind, format!("{victim:?} after {wait:?}"), move |counts: &mut Counts| {
                let running = self.command(way).start();
                std::thread::sleep(wait);
                self.go_on(way, killed(running, victim), &planned, counts)
            }));
        }
        cases
    }

    /// After a life in which somebody died, nothing has changed, and the next one says what the first one has said.
    fn go_on(
        &self,
        way: Way,
        struck: Result<(Finished, bool), Verdict>,
        planned: &[u8],
        counts: &mut Counts,
    ) -> Verdict {
        let again = struck.and_then(|(first, is_dead)| {
            counts.injected += u64::from(is_dead);
            let is_noticed = is_dead && first.code() != Some(0);
            if first.code() == Some(0) && first.stdout != planned {
                return Err(Verdict::Wrong(format!("a plan ended with 0, and is another\n{}", first.describe())));
            }
            self.judge(first)?;
            let again = self.judge(ended(self.command(way).start())?)?;
            if again.code() != Some(0) || again.stdout != planned {
                return Err(Verdict::Wrong(format!("the next plan is another\n{}", again.describe())));
            }
            counts.noticed += u64::from(is_noticed);
            counts.good += u64::from(is_dead);
            Ok(())
        });
        again.err().unwrap_or(Verdict::Good)
    }

    fn judge(&self, life: Finished) -> Result<Finished, Verdict> {
        let now = oracle::snapshot(&self.base);
        if now == self.before {
            return Ok(life);
        }
        let mut found = oracle::differences(&self.before, &now, &oracle::Rules::default());
        found.push("something changed under a plan: a byte, a name, a mode, a time or an inode".to_owned());
        Err(Verdict::Wrong(format!("{}\n{}", oracle::in_lines(&found), life.describe())))
    }
}
