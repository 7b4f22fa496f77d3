//! `row`: one row of the matrix, answered as JSON for the command that runs them all.

use std::process::ExitCode;

use super::number;
use crate::matrix;

/// Runs one row of the fault matrix here and prints the reports of its parts.
#[derive(Debug, clap::Args)]
pub(super) struct RowCommand {
    /// Its number.
    #[arg(value_parser = clap::value_parser!(u8).range(1..=83))]
    row: u8,
    /// Seed of everything random.
    #[arg(long, value_parser = number)]
    seed: u64,
}

impl RowCommand {
    pub(super) fn run(self) -> ExitCode {
        let cells = matrix::chosen(&[self.row]).into_iter().map(|row| matrix::run(row, self.seed));
        let reports: Vec<_> = cells.flat_map(|cell| cell.reports).collect();
        match serde_json::to_string(&reports) {
            Ok(text) => println!("{text}"),
            Err(error) => {
                eprintln!("{error}");
                return ExitCode::from(4);
            }
        }
        ExitCode::SUCCESS
    }
}
