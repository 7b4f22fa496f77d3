//! A line that is cut in the middle of a transfer: how soon after its end the line is full again.

use std::path::Path;
use std::time::{Duration, Instant};

use fault_inject::rig::tree::{Content, Tree};

use super::LineOptions;
use super::emulator::{self, Emulated};
use crate::cli::{Common, Failure, Say};
use crate::measure::spread;
use crate::plot::{Chart, Shape};
use crate::program::Ended;
use crate::table::{Table, figure};
use crate::tools::Workshop;
use crate::{oracle, pair};

/// Pause between two looks at what has passed.
const LOOK_PAUSE: Duration = Duration::from_millis(50);
/// Looks that make one judgement of the rate: half a second of them.
const WINDOW_LOOKS: usize = 10;
/// Share of the rate before the outage that counts as full.
const FULL: f64 = 0.9;
/// Time that the transfer has to end after the line was mended, besides that which the line takes for the file.
const END_PATIENCE: Duration = Duration::from_secs(120);

/// Times how soon a line is full again after an outage in the middle of a transfer (root).
#[derive(Debug, clap::Args)]
pub struct Outage {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    line: LineOptions,
    /// Lost packets, in percent, each in both directions.
    #[arg(long, default_value_t = 1.0)]
    loss: f64,
    /// Seconds that the line is cut.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Seconds of the transfer before that.
    #[arg(long, default_value_t = 15)]
    after: u64,
    /// Size of the file that is sent: long enough to last until the line is full again.
    #[arg(long, default_value_t = 400)]
    mib: u64,
    /// Runs of each cut.
    #[arg(long, default_value_t = 1)]
    runs: usize,
}

/// What is cut, and which directions that is.
const CUTS: [(&str, &[usize]); 3] =
    [("both ways", &[0, 1]), ("from the receiver to the sender", &[1]), ("from the sender to the receiver", &[0])];

impl Outage {
    /// Options that all commands share.
    pub fn common(&self) -> &Common {
        &self.common
    }

    /// A row for each way of cutting.
    pub fn run(&self, work: &Path, say: Say<'_>) -> Result<Chart, Failure> {
        let mut tree = Tree::new(&work.join("source"), self.common.seed);
        tree.file("file", &Content::Random(self.mib << 20));
        let source = tree.finish();
        say(&format!(
            "\n## {}, {} % loss, one file of {} MiB, cut after {} s for {} s\n",
            self.line, self.loss, self.mib, self.after, self.seconds
        ));
        let mut table =
            Table::new(&["what was cut", "s until full again", "Mbit/s before", "packets that met the cut"]);
        let mut medians = vec![];
        for (what, directions) in CUTS {
            let runs: Result<Vec<Run>, Failure> =
                (0..self.runs).map(|run| self.once(directions, run as u64, &source, work)).collect();
            let runs = runs?;
            let seconds = spread(runs.iter().map(|run| run.seconds_until_full));
            let before = spread(runs.iter().map(|run| run.megabits_before));
            let text = seconds.map_or_else(String::new, |found| match self.runs {
                1 => figure(found.median),
                _ => format!("{} ({}-{})", figure(found.median), figure(found.least), figure(found.greatest)),
            });
            medians.push(seconds.map(|found| found.median));
            let cut: u64 = runs.iter().map(|run| run.packets_cut).sum();
            let before = before.map_or_else(String::new, |found| figure(found.median));
            table.row([what.to_owned(), text, before, cut.to_string()]);
        }
        say(&table.markdown());
        Ok(Chart {
            title: format!("After an outage of {} s", self.seconds),
            unit: "s until the line is full again".to_owned(),
            shape: Shape::Bars,
            groups: CUTS.map(|(what, _)| what.to_owned()).to_vec(),
            series: vec![("landfall".to_owned(), medians)],
        })
    }

    fn once(&self, directions: &[usize], run: u64, source: &Path, work: &Path) -> Result<Run, Failure> {
        let scratch = tempfile::Builder::new().prefix("run-").tempdir_in(work).map_err(Failure::broken)?;
        let seed = self.common.seed.wrapping_add(run);
        let emulated = Emulated::own(self.line.line(self.loss), seed).map_err(Failure::Lacks)?;
        let target = scratch.path().join("target");
        std::fs::create_dir(&target).map_err(Failure::broken)?;
        let workshop = Workshop::new(scratch.path(), END_PATIENCE).between(
            emulated.sender_below(),
            emulated.receiver_below(),
            emulator::receiver_address(),
        );
        let mut sides = workshop.pair(source, &target).and_then(|pair| pair.start()).map_err(Failure::Broken)?;
        let mut looks = vec![];
        let mut look_for = |how_long: Duration| {
            let until = Instant::now() + how_long;
            while Instant::now() < until && !sides.0.has_ended() {
                looks.push((Instant::now(), udp_bytes(&emulated)));
                std::thread::sleep(LOOK_PAUSE);
            }
        };
        look_for(Duration::from_secs(self.after));
        let cut = |is_cut| directions.iter().for_each(|direction| emulated.cut(*direction, is_cut));
        let cut_at = Instant::now();
        cut(true);
        look_for(Duration::from_secs(self.seconds));
        let mended_at = Instant::now();
        cut(false);
        let at_rate = Duration::from_secs(self.mib * 9 / self.line.rate.max(1));
        look_for(at_rate + END_PATIENCE);
        match pair::wait(sides, END_PATIENCE).map_err(Failure::Broken)? {
            Ended::Well => {}
            Ended::Cut => return Err(Failure::Broken("the transfer did not end after the outage".to_owned())),
        }
        if let Some(path) = oracle::wrong(&oracle::look(source), &target).first() {
            return Err(Failure::Wrong(format!("`{path}` differs")));
        }
        let packets_cut = emulated.counts().map_or(0, |counts| counts.iter().map(|counts| counts.cut).sum());
        judge(&looks, cut_at, mended_at, packets_cut).map_err(Failure::Broken)
    }
}

/// What one outage came to.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Run {
    seconds_until_full: f64,
    megabits_before: f64,
    packets_cut: u64,
}

fn udp_bytes(emulated: &Emulated) -> u64 {
    emulated.counts().map_or(0, |[there, _]| there.udp_bytes)
}

/// The first window after the line was mended in which as much passes as before it was cut, by the median of the windows
/// of its last five seconds.
fn judge(looks: &[(Instant, u64)], cut_at: Instant, mended_at: Instant, packets_cut: u64) -> Result<Run, String> {
    let windows: Vec<(Instant, Instant, f64)> = looks
        .windows(WINDOW_LOOKS + 1)
        .map(|looks| {
            let ((from, before), (to, after)) = (looks[0], looks[WINDOW_LOOKS]);
            (from, to, (after - before) as f64 * 8.0 / 1e6 / to.duration_since(from).as_secs_f64())
        })
        .collect();
    let settled = |(from, to, _): &&(Instant, Instant, f64)| {
        *to <= cut_at && cut_at.saturating_duration_since(*from) < Duration::from_secs(5)
    };
    let before = spread(windows.iter().filter(settled).map(|window| window.2));
    let before = before.ok_or("the transfer ended before the line was cut: take a larger file")?.median;
    if packets_cut == 0 {
        return Err("no packet met the cut line".to_owned());
    }
    let full = windows.iter().find(|(from, _, rate)| *from >= mended_at && *rate >= FULL * before);
    let (full_from, _, _) = full.ok_or("the line was not full again before the end: take a larger file")?;
    let seconds_until_full = full_from.duration_since(mended_at).as_secs_f64();
    Ok(Run { seconds_until_full, megabits_before: before, packets_cut })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Looks at a line that carries 1 MB in each look, none from the 200th to the 300th and then half of it for 40 looks.
    fn looks(from: Instant) -> Vec<(Instant, u64)> {
        let mut bytes = 0;
        let step = |look: u32| {
            bytes += match look {
                200..300 => 0,
                300..340 => 500_000,
                _ => 1_000_000,
            };
            (from + LOOK_PAUSE * look, bytes)
        };
        (0..600).map(step).collect()
    }

    #[test]
    fn full_is_what_it_was_before() {
        let from = Instant::now();
        let (cut_at, mended_at) = (from + LOOK_PAUSE * 200, from + LOOK_PAUSE * 300);
        let run = judge(&looks(from), cut_at, mended_at, 7).unwrap();
        assert!((run.megabits_before - 160.0).abs() < 1.0, "{run:?}");
        // From look 337 on a window of ten has at least nine tenths: two halves are lost.
        assert!((run.seconds_until_full - 1.9).abs() < 0.11, "{run:?}");
        assert!(judge(&looks(from), cut_at, mended_at, 0).unwrap_err().contains("no packet"));
        assert!(judge(&looks(from)[..310], cut_at, mended_at, 7).unwrap_err().contains("not full again"));
        assert!(judge(&looks(from)[..5], cut_at, mended_at, 7).unwrap_err().contains("before the line was cut"));
    }
}
