//! The bench's face: options, printing, exit codes. 0 measured, 1 a tree that landfall called delivered differs,
//! 2 usage, 4 the bench failed, 5 this machine or this user lacks what a command needs.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line program prints")]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use fault_inject::rig::{facility, process};

use crate::child::Child;
use crate::machine;
use crate::overhead::Overhead;
use crate::peers::Peers;
use crate::plot::Chart;
use crate::record::Record;
use crate::resume::Resume;
use crate::scale::Scale;
use crate::wan::Wan;
use crate::wan::fairness::Fairness;
use crate::wan::outage::Outage;

/// Takes a line for the user.
pub type Say<'a> = &'a mut dyn FnMut(&str);

/// Why a command gives no figures.
#[derive(Debug)]
pub enum Failure {
    /// The machine or the user lacks something.
    Lacks(String),
    /// The bench itself could not do its work.
    Broken(String),
    /// landfall acknowledged what the oracle does not find.
    Wrong(String),
}

impl Failure {
    /// The bench's own failure, of any kind.
    pub fn broken(error: impl std::fmt::Display) -> Failure {
        Failure::Broken(error.to_string())
    }
}

/// What every command takes.
#[derive(Clone, Debug, clap::Args)]
pub struct Common {
    /// Where trees and targets are made, and removed afterwards: never on tmpfs [default: the system's place].
    #[arg(long)]
    pub work: Option<PathBuf>,
    /// Seed of every random byte and loss.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Draws the figures into this file.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
}

/// Measures landfall: tables in Markdown on stdout, charts with `--svg`.
#[derive(Debug, Parser)]
#[command(name = "bench", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(hide = true)]
    Child(Child),
    Peers(Peers),
    Record(Record),
    Overhead(Overhead),
    Resume(Resume),
    Scale(Scale),
    Wan(Wan),
    Outage(Outage),
    Fairness(Fairness),
}

/// Parses, runs, prints.
pub fn main() -> ExitCode {
    let (common, drawn) = match Arguments::parse().command {
        Command::Child(child) => return ExitCode::from(child.run()),
        Command::Record(record) => {
            (record.common().clone(), with_work(record.common(), |work, say| record.run(work, say)))
        }
        Command::Peers(peers) => drawn(peers.common(), |work, say| peers.run(work, say)),
        Command::Overhead(overhead) => drawn(overhead.common(), |work, say| overhead.run(work, say)),
        Command::Resume(resume) => drawn(resume.common(), |work, say| resume.run(work, say)),
        Command::Scale(scale) => drawn(scale.common(), |work, say| scale.run(work, say)),
        Command::Wan(wan) => drawn(wan.common(), |work, say| wan.run(work, say)),
        Command::Outage(outage) => drawn(outage.common(), |work, say| outage.run(work, say)),
        Command::Fairness(fairness) => drawn(fairness.common(), |work, say| fairness.run(work, say)),
    };
    let written = drawn.and_then(|svg| match &common.svg {
        Some(path) => std::fs::write(path, svg).map_err(Failure::broken),
        None => Ok(()),
    });
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let (code, text) = match failure {
                Failure::Wrong(text) => (1, text),
                Failure::Broken(text) => (4, text),
                Failure::Lacks(text) => (5, format!("skipped: {text}")),
            };
            eprintln!("bench: {text}");
            ExitCode::from(code)
        }
    }
}

/// Runs a command whose figures make a chart.
fn drawn(
    common: &Common,
    run: impl FnOnce(&std::path::Path, Say<'_>) -> Result<Chart, Failure>,
) -> (Common, Result<String, Failure>) {
    (common.clone(), with_work(common, |work, say| run(work, say).map(|chart| chart.svg())))
}

/// Runs a command in a directory of its own, after the line that says where.
fn with_work(
    common: &Common,
    run: impl FnOnce(&std::path::Path, Say<'_>) -> Result<String, Failure>,
) -> Result<String, Failure> {
    let usual = [std::env::temp_dir(), PathBuf::from("/var/tmp")];
    let below = common.work.clone().or_else(|| usual.into_iter().find(|dir| !facility::is_tmpfs(dir)));
    let below = below.filter(|dir| !facility::is_tmpfs(dir));
    let below =
        below.ok_or_else(|| Failure::Lacks("a directory that is not on tmpfs: name one with --work".to_owned()))?;
    let work = tempfile::Builder::new().prefix("landfall-bench-").tempdir_in(&below).map_err(Failure::broken)?;
    // The path as the kernel knows it: mount points are found by it.
    let path = work.path().canonicalize().map_err(Failure::broken)?;
    println!("{}", machine::line(&path, common.seed));
    process::build_landfall().map_err(Failure::Broken)?;
    run(&path, &mut |line| println!("{line}"))
}
