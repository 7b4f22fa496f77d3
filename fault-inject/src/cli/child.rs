//! `child`: the harness's own process around the product's library. Other commands start it; the words after `--` are a
//! command line of landfall.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use super::number;
use crate::child;
use crate::plan::Rule;

/// Runs landfall's library over a disk with planned faults.
#[derive(Debug, clap::Args)]
pub(super) struct Child {
    /// A fault: `OPERATION[@PART] WHEN EFFECT`, as in `write@staging each:3 corrupt:4k`.
    #[arg(long = "rule")]
    rules: Vec<Rule>,
    /// Seed of what is random in them.
    #[arg(long, value_parser = number)]
    seed: u64,
    /// Where each fault is written down.
    #[arg(long)]
    log: PathBuf,
    /// A command line of landfall, with its name.
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

impl Child {
    pub(super) fn run(self) -> ExitCode {
        let child = child::Child { rules: self.rules, seed: self.seed, log: self.log };
        match child.run(self.command.into_iter()) {
            Ok(code) => ExitCode::from(code),
            Err(error) => {
                eprintln!("the child cannot write its log: {error}");
                ExitCode::from(4)
            }
        }
    }
}
