//! `matrix`: the 83 faults of the matrix, each with what was injected, detected and repaired; as a table, and as a page.

use std::path::PathBuf;
use std::process::ExitCode;

use super::Common;
use crate::matrix::rows::Layer;
use crate::matrix::{Cell, chosen, page, run_all};
use crate::verdict::{Report, Verdict};

/// Runs the fault matrix: 83 faults in eight layers. A row in which nothing was injected fails.
#[derive(Debug, clap::Args)]
pub(super) struct Matrix {
    /// Only this row; may be given several times.
    #[arg(long = "row", value_parser = clap::value_parser!(u8).range(1..=83))]
    rows: Vec<u8>,
    /// Writes a page for a browser, which needs nothing else.
    #[arg(long)]
    html: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

impl Matrix {
    pub(super) fn run(self) -> ExitCode {
        let (seed, rows) = (self.common.seed(), chosen(&self.rows));
        self.common.begin(seed, &format!("rows={}", rows.len()));
        let mut cells: Vec<Cell> = vec![];
        let mut layer: Option<Layer> = None;
        run_all(&rows, seed, |cell| {
            if layer != Some(cell.row.layer) && !self.common.json {
                println!("\n{:<58} {:>8} {:>8} {:>8}", cell.row.layer.title(), "injected", "detected", "repaired");
            }
            layer = Some(cell.row.layer);
            self.show(&cell);
            cells.push(cell);
        });
        if let Some(path) = &self.html {
            if let Err(error) = std::fs::write(path, page::render(&cells, seed)) {
                eprintln!("could not write {}: {error}", path.display());
                return ExitCode::from(4);
            }
            if !self.common.json {
                println!("\n{}", path.display());
            }
        }
        self.common.end(&cells.iter().map(|cell| as_report(cell, seed)).collect::<Vec<_>>())
    }

    fn show(&self, cell: &Cell) {
        let [injected, detected, repaired] = cell.counts();
        let verdict = cell.verdict();
        if self.common.json {
            println!(
                "{}",
                serde_json::json!({
                    "event": "row", "row": cell.row.number, "layer": cell.row.layer.title(), "fault": cell.row.fault,
                    "how": cell.how(), "injected": injected, "detected": detected, "repaired": repaired,
                    "verdict": verdict.to_string(), "exit": verdict.exit_code(), "seconds": cell.took.as_secs_f64(),
                })
            );
            return;
        }
        let fault: String = cell.row.fault.chars().take(54).collect();
        let said = verdict.to_string();
        let end =
            if verdict == Verdict::Good { cell.how() } else { said.lines().next().unwrap_or_default().to_owned() };
        println!("{:>2}  {fault:<54} {injected:>8} {detected:>8} {repaired:>8}  {end}", cell.row.number);
    }
}

/// A row as one report, for the end of the run.
fn as_report(cell: &Cell, seed: u64) -> Report {
    let [injected, detected, repaired] = cell.counts();
    let verdict = cell.verdict();
    let part = cell.reports.iter().find(|report| report.verdict == verdict);
    Report {
        fault: format!("row {}: {}", cell.row.number, cell.row.fault),
        how: part.map_or(crate::verdict::How::Script, |part| part.how),
        injected,
        detected,
        repaired,
        verdict,
        plan: part.map(|part| part.plan.clone()).unwrap_or_default(),
        log: part.map(|part| part.log.clone()).unwrap_or_default(),
        reproduce: format!("cargo run --release -p fault-inject -- matrix --row {} --seed {seed:#x}", cell.row.number),
    }
}
