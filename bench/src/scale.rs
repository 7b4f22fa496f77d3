//! How cost grows: files by tens, from a thousand on, and one sparse file by tens of GiB. Time, processor and memory,
//! for the whole and for each file or GB; a line that stays flat is what is wanted.

use std::path::Path;
use std::time::Duration;

use fault_inject::rig::facility::LoopImage;
use fault_inject::rig::tree::{Content, Tree};

use crate::cli::{Common, Failure, Say};
use crate::measure::{Meter, Sample};
use crate::oracle;
use crate::pair::Pair;
use crate::plot::{Chart, Shape};
use crate::table::{Table, figure};
use crate::tools::fresh_ext4;

/// Data in one MiB of so many.
const STRIDE: u64 = 16;
/// Bytes of each of many files, and files in a directory.
const FILE_BYTES: u64 = 64;
const FILES_IN_DIRECTORY: u64 = 1000;
const MIB: u64 = 1 << 20;

/// Times landfall as trees and files grow.
#[derive(Debug, clap::Args)]
pub struct Scale {
    #[command(flatten)]
    common: Common,
    /// Most files: 1,000, 10,000, ... up to this.
    #[arg(long, default_value_t = 100_000)]
    files_max: u64,
    /// Largest file: 1, 10, ... GiB up to this, with data in one MiB of sixteen.
    #[arg(long, default_value_t = 10)]
    gib_max: u64,
    /// Targets of many files lie on a fresh ext4 image of that many GiB (root).
    #[arg(long, value_name = "GIB")]
    ext4: Option<u64>,
    /// Seconds after which a run has failed.
    #[arg(long, default_value_t = 3600)]
    timeout: u64,
}

impl Scale {
    /// Options that all commands share.
    pub fn common(&self) -> &Common {
        &self.common
    }

    /// Files first, then sizes; a line of the table at a time, since the last ones take long.
    pub fn run(&self, work: &Path, say: Say<'_>) -> Result<Chart, Failure> {
        let mut table = Table::new(&["tree", "wall s", "CPU s", "peak MiB", "wall ms/file", "CPU ms/file"]);
        let (mut groups, mut peaks) = (Vec::new(), Vec::new());
        for count in tens(1000, self.files_max) {
            let source = many(&work.join("source"), self.common.seed, count);
            let sample = self.once(&source, work, true)?;
            let each = |seconds: f64| figure(seconds * 1000.0 / count as f64);
            let ends = [each(sample.wall_seconds), each(sample.cpu_seconds)];
            table.row(whole(format!("{count} files"), sample).into_iter().chain(ends));
            groups.push(format!("{count} files"));
            peaks.push(Some(mib(sample)));
            std::fs::remove_dir_all(&source).map_err(Failure::broken)?;
        }
        say(&format!("\n{}", table.markdown()));
        let mut table = Table::new(&["file", "wall s", "CPU s", "peak MiB", "wall s/GB", "CPU s/GB"]);
        for gib in tens(1, self.gib_max) {
            let source = sparse(&work.join("source"), self.common.seed, gib);
            let sample = self.once(&source, work, false)?;
            let each = |seconds: f64| figure(seconds / ((gib << 30) as f64 / 1e9));
            let ends = [each(sample.wall_seconds), each(sample.cpu_seconds)];
            table.row(whole(format!("{gib} GiB, {} MiB of data", gib * 1024 / STRIDE), sample).into_iter().chain(ends));
            groups.push(format!("{gib} GiB"));
            peaks.push(Some(mib(sample)));
            std::fs::remove_dir_all(&source).map_err(Failure::broken)?;
        }
        say(&table.markdown());
        let series = vec![("larger process".to_owned(), peaks)];
        let title = "Peak memory as trees grow".to_owned();
        Ok(Chart { title, unit: "MiB".to_owned(), shape: Shape::Bars, groups, series })
    }

    fn once(&self, source: &Path, work: &Path, has_many_files: bool) -> Result<Sample, Failure> {
        let wanted = oracle::look(source);
        let scratch = tempfile::Builder::new().prefix("run-").tempdir_in(work).map_err(Failure::broken)?;
        let image: Option<LoopImage> = match self.ext4.filter(|_| has_many_files) {
            Some(gib) => Some(fresh_ext4(scratch.path(), gib).map_err(Failure::Lacks)?),
            None => None,
        };
        let target = image.as_ref().map_or(scratch.path(), LoopImage::path).join("target");
        let pair = Pair::new(&scratch.path().join("state"), source, &target);
        let meter = Meter::start();
        let outcome = pair.run(Duration::from_secs(self.timeout));
        let sample = meter.stop();
        outcome.map_err(Failure::Broken)?;
        match oracle::wrong(&wanted, &target).first() {
            None => Ok(sample),
            Some(path) => Err(Failure::Wrong(format!("`{path}` differs"))),
        }
    }
}

/// `first`, ten times that, and so on, up to `last`.
fn tens(first: u64, last: u64) -> impl Iterator<Item = u64> {
    std::iter::successors(Some(first), |value| value.checked_mul(10)).take_while(move |value| *value <= last)
}

fn many(root: &Path, seed: u64, count: u64) -> std::path::PathBuf {
    let mut tree = Tree::new(root, seed);
    for number in 0..count {
        let (directory, name) = (number / FILES_IN_DIRECTORY, number % FILES_IN_DIRECTORY);
        tree.file(format!("{directory:04}/{name:03}"), &Content::Random(FILE_BYTES));
    }
    tree.finish()
}

fn sparse(root: &Path, seed: u64, gib: u64) -> std::path::PathBuf {
    let mut tree = Tree::new(root, seed);
    let size_bytes = gib << 30;
    let data = (0..size_bytes / MIB / STRIDE).map(|piece| (piece * STRIDE * MIB, MIB)).collect();
    tree.file("sparse", &Content::Sparse { size_bytes, data });
    tree.finish()
}

fn mib(sample: Sample) -> f64 {
    sample.peak_bytes as f64 / MIB as f64
}

fn whole(name: String, sample: Sample) -> Vec<String> {
    vec![name, figure(sample.wall_seconds), figure(sample.cpu_seconds), figure(mib(sample))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_grow_tenfold_up_to_the_limit() {
        assert_eq!(tens(1000, 100_000).collect::<Vec<_>>(), [1000, 10_000, 100_000]);
        assert_eq!(tens(1, 9).collect::<Vec<_>>(), [1]);
        assert_eq!(tens(1000, 999).count(), 0);
    }
}
