//! One real transfer with bytes corrupted at one layer: what was injected, what noticed it, what became of it. Faults of
//! a disk come from a harness child, those above the encryption from [`crate::above`], those of the wire from the
//! relay, and those at rest are made on the files themselves while nobody runs.

mod at_rest;
mod layer;
mod stage;

use crate::damage::Damage;
use crate::verdict::{How, Report, Verdict};

pub use layer::Layer;
use stage::Stage;

/// What is to be corrupted, and how.
#[derive(Clone, Debug)]
pub struct Corruption {
    /// Where.
    pub layer: Layer,
    /// Size of each piece; `None` draws bit, 512 bytes or 4 KiB, and 64 KiB in the ratio 1:1:8.
    pub size: Option<Damage>,
    /// Odds of each operation (or datagram, or chunk) of that layer, in millionths; at rest, how many pieces.
    pub rate: u32,
    /// Bytes of the source.
    pub bytes: u64,
    /// Seed of everything.
    pub seed: u64,
}

/// Runs it. Each line that is worth a reader's time is told as it happens.
pub fn run(corruption: &Corruption, tell: &mut dyn FnMut(&str)) -> Report {
    let mut log = vec![];
    let mut keep = |line: &str| {
        log.push(line.to_owned());
        tell(line);
    };
    let outcome = crate::rig::process::build_landfall()
        .and_then(|()| Stage::set(corruption))
        .and_then(|mut stage| stage.play(&mut keep));
    let Corruption { layer, size, rate, bytes, seed } = corruption;
    let size = size.map_or("mixed", Damage::word);
    let reproduce = format!(
        "cargo run --release -p fault-inject -- corrupt --layer {} --size {size} --rate {rate} --bytes {bytes} --seed {seed:#x}",
        layer.word()
    );
    let plan = format!("layer={} size={size} rate={rate} bytes={bytes} seed={seed:#x}", layer.word());
    let report = Report { plan, log, reproduce, ..Report::skipped(layer.title(), layer.how(), "") };
    match outcome {
        Ok(found) => Report { verdict: found.verdict(*layer), ..found.counted(report) }.unless_vacuous(),
        Err(why) => Report { verdict: Verdict::Failed(why), ..report },
    }
}

/// What a run came to, as seen from outside.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    /// Faults that were injected.
    injected: u64,
    /// Wrong bytes that the product named: mismatches, and state that it made anew.
    noticed: u64,
    /// Chunks that the product moved or read again for it.
    cured: u64,
    /// Differences between the source and what was acknowledged.
    differences: Vec<String>,
    /// Both sides ended with everything delivered that they did not name.
    is_done: bool,
    /// Files that could not be cured and were named.
    left_out: Vec<String>,
    /// How it ended otherwise.
    ending: String,
}

impl Found {
    fn verdict(&self, layer: Layer) -> Verdict {
        if !self.differences.is_empty() {
            return Verdict::Wrong(self.differences.join("; "));
        }
        if !self.is_done {
            return Verdict::Stuck(self.ending.clone());
        }
        if self.injected > 0 && self.noticed == 0 && layer.is_named() {
            return Verdict::Stuck("nothing of it was noticed".to_owned());
        }
        Verdict::Good
    }

    fn counted(&self, report: Report) -> Report {
        Report { injected: self.injected, detected: self.noticed, repaired: self.cured, ..report }
    }
}

/// The same for a row of the fault matrix, with no one to tell.
pub fn row(number: u8, seed: u64) -> Option<Report> {
    let (layer, size, rate) = match number {
        1 => (Layer::Source, Some(Damage::Bit), 100_000),
        10 => (Layer::SenderMemory, Some(Damage::Bit), 100_000),
        24 | 28 => (Layer::SenderMemory, None, 100_000),
        29 => (Layer::ReceiverMemory, Some(Damage::Bit), 150_000),
        39 => (Layer::DiskWrite, None, 150_000),
        51 => (Layer::DiskRest, None, 40),
        55 => (Layer::ReadBack, Some(Damage::Bit), 150_000),
        _ => return None,
    };
    let corruption = Corruption { layer, size, rate, bytes: 24 << 20, seed };
    Some(run(&corruption, &mut |_| ()))
}

impl Layer {
    /// Which way it reaches into the product.
    pub fn how(self) -> How {
        match self {
            Layer::Source | Layer::SenderMemory | Layer::ReceiverMemory | Layer::DiskWrite | Layer::ReadBack => {
                How::Child
            }
            Layer::Network => How::Proxy,
            Layer::DiskRest | Layer::Metadata => How::Script,
        }
    }
}
