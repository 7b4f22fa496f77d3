//! landfall beside other tools on the same trees. Runs are interleaved, so that what the machine does meanwhile meets
//! all of them; each copies into a fresh directory; contents are compared after the clock has stopped.

use std::path::{Path, PathBuf};
use std::time::Duration;

use fault_inject::rig::facility::LoopImage;
use fault_inject::rig::oracle::Snapshot;

use crate::cli::{Common, Failure, Say};
use crate::load::{Load, Sizes};
use crate::measure::{Meter, Sample, median, ratio, spread};
use crate::oracle;
use crate::plot::{Chart, Shape};
use crate::table::{Table, figure, figure_or_dash, megabytes};
use crate::tools::{Tool, Workshop, fresh_ext4};

/// Times landfall and its peers on the same trees.
#[derive(Debug, clap::Args)]
pub struct Peers {
    #[command(flatten)]
    common: Common,
    /// What is moved.
    #[arg(long, value_delimiter = ',', default_value = "big,mid,small,tree")]
    loads: Vec<Load>,
    /// Who moves it; what is not installed is named and left out.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "cp,careful,rsync,rsync-fsync,rsync-c,scp,tar,qcp,sendme,landfall,landfall-to,rsync-again,landfall-again"
    )]
    tools: Vec<Tool>,
    /// Runs of each tool on each load.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    #[command(flatten)]
    sizes: Sizes,
    /// Targets of `small` and `tree` lie on a fresh ext4 image of that many GiB (root).
    #[arg(long, value_name = "GIB")]
    ext4: Option<u64>,
    /// Whose wall time is 1.
    #[arg(long, default_value = "rsync")]
    baseline: Tool,
    /// Seconds after which a run has failed.
    #[arg(long, default_value_t = 600)]
    timeout: u64,
}

/// What one tool did with one load.
struct Row {
    tool: Tool,
    samples: Vec<Sample>,
    wrong: Vec<String>,
    failures: Vec<String>,
}

impl Peers {
    /// Options that all commands share.
    pub fn common(&self) -> &Common {
        &self.common
    }

    /// Runs all, and says each table as soon as it is there.
    pub fn run(&self, work: &Path, say: Say<'_>) -> Result<Chart, Failure> {
        let mut tools = Vec::new();
        for tool in &self.tools {
            match tool.lacks() {
                Some(what) => say(&format!("skipped: {}: {what}", tool.name())),
                None => tools.push(*tool),
            }
        }
        let mut workshop = Workshop::new(work, Duration::from_secs(self.timeout));
        if tools.iter().any(|tool| tool.needs_ssh()) {
            match workshop.with_ssh() {
                Ok(with_ssh) => workshop = with_ssh,
                Err(why) => {
                    say(&format!("skipped: all that need ssh: {why}"));
                    tools.retain(|tool| !tool.needs_ssh());
                    workshop = Workshop::new(work, Duration::from_secs(self.timeout));
                }
            }
        }
        if tools.is_empty() {
            return Err(Failure::Lacks("none of the tools is there".to_owned()));
        }
        let mut groups = Vec::new();
        let mut series: Vec<(String, Vec<Option<f64>>)> =
            tools.iter().map(|tool| (tool.name().to_owned(), Vec::new())).collect();
        let mut wrong = Vec::new();
        for load in &self.loads {
            let source = match load.make(work, self.sizes, self.common.seed) {
                Ok(source) => source,
                Err(why) => {
                    say(&format!("skipped: {}: {why}", load.name()));
                    continue;
                }
            };
            let rows = self.load(*load, &source, work, &tools, &workshop, say)?;
            std::fs::remove_dir_all(&source).map_err(Failure::broken)?;
            groups.push(load.name().to_owned());
            for (row, (_, values)) in rows.iter().zip(&mut series) {
                let rate = wall_seconds(row);
                values.push(rate);
                if !row.wrong.is_empty() {
                    wrong.push(row.tool.name());
                }
            }
        }
        if wrong.contains(&Tool::Landfall.name()) {
            return Err(Failure::Wrong("landfall said that it was done, and the tree differs".to_owned()));
        }
        let title = "Time until the tool says that it is done".to_owned();
        Ok(Chart { title, unit: "s".to_owned(), shape: Shape::Bars, groups, series })
    }

    fn load(
        &self,
        load: Load,
        source: &Path,
        work: &Path,
        tools: &[Tool],
        workshop: &Workshop,
        say: Say<'_>,
    ) -> Result<Vec<Row>, Failure> {
        let wanted = oracle::look(source);
        let (files, bytes) = oracle::totals(&wanted);
        let targets = tempfile::tempdir_in(work).map_err(Failure::broken)?;
        let image: Option<LoopImage> = match self.ext4.filter(|_| load.has_many_files()) {
            Some(gib) => Some(fresh_ext4(targets.path(), gib).map_err(Failure::Lacks)?),
            None => None,
        };
        let below: PathBuf = image.as_ref().map_or(targets.path(), LoopImage::path).to_owned();
        let mut rows: Vec<Row> = tools.iter().map(|tool| Row::new(*tool)).collect();
        for _ in 0..self.runs {
            for row in &mut rows {
                row.once(source, &wanted, &below, workshop)?;
            }
        }
        let place = if image.is_some() { ", targets on a fresh ext4" } else { "" };
        say(&format!(
            "\n## {}: {files} files, {} MB, {} interleaved runs{place}\n",
            load.name(),
            megabytes(bytes),
            self.runs
        ));
        say(&table(&rows, bytes, self.baseline).markdown());
        for row in &rows {
            for failure in &row.failures {
                say(&format!("failed: {}: {failure}", row.tool.name()));
            }
            if let Some(example) = row.wrong.first() {
                say(&format!("WRONG: {}: {} paths, as {example}", row.tool.name(), row.wrong.len()));
            }
        }
        Ok(rows)
    }
}

impl Row {
    fn new(tool: Tool) -> Row {
        Row { tool, samples: Vec::new(), wrong: Vec::new(), failures: Vec::new() }
    }

    /// One timed run into a new directory, which is removed afterwards.
    fn once(&mut self, source: &Path, wanted: &Snapshot, below: &Path, workshop: &Workshop) -> Result<(), Failure> {
        let target = tempfile::Builder::new().prefix("target-").tempdir_in(below).map_err(Failure::broken)?;
        let prepared = workshop.prepare(self.tool, source, target.path());
        let meter = Meter::start();
        let outcome = prepared.and_then(|()| workshop.run(self.tool, source, target.path()));
        let sample = meter.stop();
        match outcome {
            Ok(()) => {
                let arrived = self.tool.arrived(source, target.path());
                if arrived.is_dir() {
                    self.wrong = oracle::wrong(wanted, &arrived);
                } else {
                    self.wrong = vec!["everything".to_owned()];
                }
                self.samples.push(sample);
            }
            Err(why) => self.failures.push(why),
        }
        Ok(())
    }

    fn verdict(&self) -> String {
        match (self.samples.len(), self.wrong.len(), self.failures.len()) {
            (0, _, _) => "failed".to_owned(),
            (_, 0, 0) => "equal".to_owned(),
            (_, 0, failed) => format!("equal; {failed} failed"),
            (_, wrong, _) => format!("WRONG: {wrong}"),
        }
    }
}

/// Median wall time, of a row that has one.
fn wall_seconds(row: &Row) -> Option<f64> {
    spread(row.samples.iter().map(|sample| sample.wall_seconds)).map(|wall| wall.median)
}

fn table(rows: &[Row], bytes: u64, baseline: Tool) -> Table {
    let against = rows.iter().find(|row| row.tool == baseline).and_then(wall_seconds);
    let times = format!("× {}", baseline.name());
    let heads =
        ["tool", "wall s", "min-max", "MB/s", "CPU s", "peak MiB", "owed MB", &times, "content", "when it says done"];
    let mut table = Table::new(&heads);
    for row in rows {
        let Some(wall) = spread(row.samples.iter().map(|sample| sample.wall_seconds)) else {
            table.row(
                [row.tool.name().to_owned(), "-".to_owned()]
                    .into_iter()
                    .chain((0..6).map(|_| "-".to_owned()))
                    .chain([row.verdict()]),
            );
            continue;
        };
        table.row([
            row.tool.name().to_owned(),
            figure(wall.median),
            format!("{}-{}", figure(wall.least), figure(wall.greatest)),
            figure(bytes as f64 / 1e6 / wall.median),
            figure(median(&row.samples, |sample| sample.cpu_seconds)),
            figure(median(&row.samples, |sample| sample.peak_bytes as f64 / f64::from(1 << 20))),
            figure(median(&row.samples, |sample| sample.owed_bytes as f64 / 1e6)),
            figure_or_dash(ratio(wall.median, against)),
            row.verdict(),
            row.tool.promises().to_owned(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(tool: Tool, walls: &[f64]) -> Row {
        let samples =
            walls.iter().map(|wall| Sample { wall_seconds: *wall, owed_bytes: 5_000_000, ..Sample::default() });
        Row { samples: samples.collect(), ..Row::new(tool) }
    }

    #[test]
    fn ratios_are_against_the_baseline_of_the_same_run() {
        let rows = [row(Tool::Cp, &[1.0, 4.0, 2.0]), row(Tool::Rsync, &[4.0]), row(Tool::Scp, &[])];
        let markdown = table(&rows, 8_000_000, Tool::Rsync).markdown();
        let lines: Vec<Vec<&str>> = markdown.lines().map(|line| line.split('|').map(str::trim).collect()).collect();
        assert_eq!(lines[2][1..10], ["cp", "2.00", "1.00-4.00", "4.00", "0.00", "0.00", "5.00", "0.50", "equal"]);
        assert_eq!(lines[3][8], "1.00");
        assert_eq!(lines[4][1..4], ["scp", "-", "-"]);
        assert_eq!(lines[4][9], "failed");
        let without = table(&rows[..1], 8_000_000, Tool::Rsync).markdown();
        assert!(without.contains("| - |") || without.contains(" - |"), "{without}");
    }
}
