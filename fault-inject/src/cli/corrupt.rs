//! `corrupt`: one real transfer with bytes corrupted at one layer, narrated as it happens.

use std::process::ExitCode;

use super::Common;
use crate::corrupt::{Corruption, Layer, run};
use crate::damage::Damage;
use crate::verdict::{Report, Verdict};

/// One real transfer with bytes corrupted at one layer, told as it happens: injected here, caught there, repaired so.
#[derive(Debug, clap::Args)]
pub(super) struct Corrupt {
    /// Where: source, sender-memory, network, receiver-memory, disk-write, disk-rest, read-back, metadata, or all.
    #[arg(long, value_parser = layers)]
    layer: Layers,
    /// Size of each piece: bit, 512, 4k, 64k or mixed (1:0:1:8, as storage does it).
    #[arg(long, default_value = "mixed", value_parser = size)]
    size: Size,
    /// Odds of each operation, datagram or chunk, in millionths; at rest, the number of pieces. [default: by layer]
    #[arg(long)]
    rate: Option<u32>,
    /// Bytes of the source.
    #[arg(long, default_value_t = 32 << 20)]
    bytes: u64,
    /// Transfers go on, each with a seed of its own, until so many faults were injected at each layer.
    #[arg(long, default_value_t = 1)]
    injected: u64,
    #[command(flatten)]
    common: Common,
}

/// Transfers of one layer at most.
const TRANSFERS_MAX: usize = 200;

/// One layer, or all.
#[derive(Clone, Debug)]
struct Layers(Vec<Layer>);

/// A size, or a draw.
#[derive(Clone, Copy, Debug)]
struct Size(Option<Damage>);

fn layers(word: &str) -> Result<Layers, String> {
    match word {
        "all" => Ok(Layers(Layer::ALL.to_vec())),
        _ => Layer::of_word(word).map(|layer| Layers(vec![layer])).ok_or_else(|| format!("there is no layer `{word}`")),
    }
}

fn size(word: &str) -> Result<Size, String> {
    match word {
        "mixed" => Ok(Size(None)),
        _ => Damage::of_word(word).map(|size| Size(Some(size))).ok_or_else(|| format!("there is no size `{word}`")),
    }
}

impl Corrupt {
    pub(super) fn run(self) -> ExitCode {
        let seed = self.common.seed();
        let words: Vec<&str> = self.layer.0.iter().map(|layer| layer.word()).collect();
        let size = self.size.0.map_or("mixed", Damage::word);
        self.common.begin(seed, &format!("layer={} size={size} bytes={}", words.join(","), self.bytes));
        let mut reports = vec![];
        for layer in self.layer.0 {
            let rate = self.rate.unwrap_or(layer.usual_rate());
            let is_json = self.common.json;
            let mut tell = |line: &str| {
                if !is_json {
                    println!("  {line}");
                }
            };
            let mut sum: Option<Report> = None;
            for seed in (seed..).take(TRANSFERS_MAX) {
                let corruption = Corruption { layer, size: self.size.0, rate, bytes: self.bytes, seed };
                let report = run(&corruption, &mut tell);
                let whole = sum.map_or(report.clone(), |sum| sum.with(report));
                let is_over = whole.injected >= self.injected || whole.verdict != Verdict::Good;
                sum = Some(whole);
                if is_over {
                    break;
                }
            }
            let report = sum.expect("there is at least one transfer");
            self.common.show(&report);
            reports.push(report);
        }
        self.common.end(&reports)
    }
}
