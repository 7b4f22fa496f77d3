//! What each guarantee costs: the same tree by the transport alone, then with one guarantee more in each row, as
//! FIVER's tables (transfer and hash, each alone and together) and RIVA's (read back from memory or the device).

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use fault_inject::rig::oracle::Snapshot;
use landfall::digest;
use landfall::geometry::Geometry;
use landfall::limits::CHUNK_BYTES;

use crate::child::{self, Variant};
use crate::cli::{Common, Failure, Say};
use crate::load::{Load, Sizes};
use crate::measure::{Meter, Sample, median};
use crate::pair::Pair;
use crate::plot::{Chart, Shape};
use crate::table::{Table, figure, megabytes};
use crate::{direct, oracle, pipe};

/// Times the same transfer with fewer and with more guarantees.
#[derive(Debug, clap::Args)]
pub struct Overhead {
    #[command(flatten)]
    common: Common,
    /// What is moved.
    #[arg(long, value_delimiter = ',', default_value = "big,small")]
    loads: Vec<Load>,
    /// Runs of each row.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    #[command(flatten)]
    sizes: Sizes,
    /// Seconds after which a run has failed.
    #[arg(long, default_value_t = 600)]
    timeout: u64,
}

/// One row: a guarantee more than the row above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Hash,
    Transfer,
    Product(Variant),
}

const STEPS: [Step; 5] = [
    Step::Hash,
    Step::Transfer,
    Step::Product(Variant::Hashed),
    Step::Product(Variant::Synced),
    Step::Product(Variant::Full),
];

impl Step {
    fn name(self) -> &'static str {
        match self {
            Step::Hash => "hash alone",
            Step::Transfer => "transfer only",
            Step::Product(Variant::Hashed) => "+ hash",
            Step::Product(Variant::Synced) => "+ sync",
            Step::Product(Variant::Full) => "+ read-back: landfall",
        }
    }

    /// What is not done, in full.
    fn leaves_out(self) -> &'static str {
        match self {
            Step::Hash => "everything: chunk digests of the source, one thread, from the cache",
            Step::Transfer => {
                "manifest, digests, staging, journal, sync, read-back, receipt; modes and times; two threads, not two processes"
            }
            Step::Product(Variant::Hashed) => {
                "every sync, early write-back, the device: hashed at both ends and once more from memory"
            }
            Step::Product(Variant::Synced) => {
                "the device: the read-back is answered from a copy of what was written, and hashed"
            }
            Step::Product(Variant::Full) => "nothing",
        }
    }
}

impl Overhead {
    /// Options that all commands share.
    pub fn common(&self) -> &Common {
        &self.common
    }

    /// Runs all rows of all loads, interleaved.
    pub fn run(&self, work: &Path, say: Say<'_>) -> Result<Chart, Failure> {
        let mut groups = Vec::new();
        let mut series: Vec<(String, Vec<Option<f64>>)> =
            STEPS.iter().map(|step| (step.name().to_owned(), Vec::new())).collect();
        for load in &self.loads {
            let source = match load.make(work, self.sizes, self.common.seed) {
                Ok(source) => source,
                Err(why) => {
                    say(&format!("skipped: {}: {why}", load.name()));
                    continue;
                }
            };
            let wanted = oracle::look(&source);
            let (files, bytes) = oracle::totals(&wanted);
            let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); STEPS.len()];
            for _ in 0..self.runs {
                for (step, samples) in STEPS.iter().zip(&mut samples) {
                    samples.push(self.once(*step, &source, &wanted, work)?);
                }
            }
            std::fs::remove_dir_all(&source).map_err(Failure::broken)?;
            say(&format!(
                "\n## {}: {files} files, {} MB, {} interleaved runs\n",
                load.name(),
                megabytes(bytes),
                self.runs
            ));
            say(&table(&samples, bytes).markdown());
            say(&fiver(&samples));
            groups.push(load.name().to_owned());
            for (samples, (_, values)) in samples.iter().zip(&mut series) {
                values.push(Some(median(samples, |sample| sample.wall_seconds)));
            }
        }
        let title = "The same transfer with one guarantee more at a time".to_owned();
        Ok(Chart { title, unit: "s".to_owned(), shape: Shape::Bars, groups, series })
    }

    fn once(&self, step: Step, source: &Path, wanted: &Snapshot, work: &Path) -> Result<Sample, Failure> {
        let scratch = tempfile::Builder::new().prefix("run-").tempdir_in(work).map_err(Failure::broken)?;
        let target = scratch.path().join("target");
        let mut pair = Pair::new(&scratch.path().join("state"), source, &target);
        if let Step::Product(variant) = step {
            let words = child::words(variant).map_err(Failure::broken)?;
            (pair.sender_below, pair.receiver_below) = (words.clone(), words);
            pair.receiver_options = vec!["--accept-level".to_owned(), "cache".to_owned()];
        }
        let meter = Meter::start();
        let outcome = match step {
            Step::Hash => hash(source).map_err(|error| error.to_string()),
            Step::Transfer => pipe::run(source, &target),
            Step::Product(_) => pair.run(Duration::from_secs(self.timeout)),
        };
        let sample = meter.stop();
        outcome.map_err(|why| Failure::Broken(format!("{}: {why}", step.name())))?;
        let mut wrong = if step == Step::Hash { Vec::new() } else { oracle::wrong(wanted, &target) };
        if step == Step::Transfer {
            wrong.retain(|path| wanted.get(path.as_bytes()).is_some_and(|node| node.digest != Ok(None)));
        }
        match wrong.first() {
            None => Ok(sample),
            Some(path) => Err(Failure::Wrong(format!("{}: `{path}` differs", step.name()))),
        }
    }
}

/// Chunk digests and their fold, file by file.
fn hash(source: &Path) -> std::io::Result<()> {
    for path in direct::files_below(source)? {
        let bytes = Bytes::from(std::fs::read(&path)?);
        let geometry = Geometry::new(bytes.len() as u64, CHUNK_BYTES);
        let geometry = geometry.expect("what fits into memory has a geometry");
        let mut folder = digest::Folder::default();
        for number in 0..geometry.chunk_count() {
            let chunk = geometry.chunk(number).expect("below the count of chunks");
            let start = usize::try_from(geometry.offset(chunk)).expect("what fits into memory");
            let end = start + geometry.chunk_len(chunk) as usize;
            folder.push(digest::chunk_digest(geometry, chunk, &bytes[start..end]));
        }
        std::hint::black_box(folder.finish());
    }
    Ok(())
}

fn walls(samples: &[Vec<Sample>]) -> Vec<f64> {
    samples.iter().map(|samples| median(samples, |sample| sample.wall_seconds)).collect()
}

fn table(samples: &[Vec<Sample>], bytes: u64) -> Table {
    let heads =
        ["row", "wall s", "MB/s", "CPU s", "CPU s/GB", "owed MB", "+ wall s", "× transfer only", "what it leaves out"];
    let mut table = Table::new(&heads);
    let walls = walls(samples);
    for (index, step) in STEPS.iter().enumerate() {
        let (wall, cpu) = (walls[index], median(&samples[index], |sample| sample.cpu_seconds));
        let is_first = index < 2;
        table.row([
            step.name().to_owned(),
            figure(wall),
            figure(bytes as f64 / 1e6 / wall),
            figure(cpu),
            figure(cpu / (bytes as f64 / 1e9)),
            figure(median(&samples[index], |sample| sample.owed_bytes as f64 / 1e6)),
            if is_first { "-".to_owned() } else { format!("{:+.2}", wall - walls[index - 1]) },
            figure(wall / walls[1]),
            step.leaves_out().to_owned(),
        ]);
    }
    table
}

/// FIVER's measure: how much longer the whole takes than the longer of its parts alone. RIVA's: the device against the
/// cache.
fn fiver(samples: &[Vec<Sample>]) -> String {
    let walls = walls(samples);
    let longer = walls[0].max(walls[1]);
    let over = |wall: f64| 100.0 * (wall - longer) / longer;
    format!(
        "FIVER: over the longer of hash alone and transfer only ({} s): + hash {:+.0} %, + sync {:+.0} %, landfall {:+.0} %.\n\
         RIVA: read-back from the device instead of memory: {:+.0} %.",
        figure(longer),
        over(walls[2]),
        over(walls[3]),
        over(walls[4]),
        100.0 * (walls[4] - walls[3]) / walls[3]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_is_compared_with_the_one_above_and_with_the_transfer() {
        let of = |wall: f64| vec![Sample { wall_seconds: wall, cpu_seconds: 1.0, ..Sample::default() }];
        let samples = [of(1.0), of(2.0), of(3.0), of(4.0), of(5.0)];
        let markdown = table(&samples, 2_000_000_000).markdown();
        let lines: Vec<Vec<&str>> = markdown.lines().map(|line| line.split('|').map(str::trim).collect()).collect();
        assert_eq!(lines[3][1..9], ["transfer only", "2.00", "1000", "1.00", "0.50", "0.00", "-", "1.00"]);
        assert_eq!(lines[6][1..9], ["+ read-back: landfall", "5.00", "400", "1.00", "0.50", "0.00", "+1.00", "2.50"]);
        let said = fiver(&samples);
        assert!(
            said.contains("+ hash +50 %, + sync +100 %, landfall +150 %") && said.contains("memory: +25 %"),
            "{said}"
        );
    }
}
