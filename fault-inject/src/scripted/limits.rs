//! What no check between two disks can find: bytes that were wrong when they were read the first time. They are
//! delivered as they were read, and only a digest from elsewhere tells. The README says so (limits L1 and L2); here it
//! is shown, and that nothing else goes wrong with it.

use crate::child::Child;
use crate::play::Play;
use crate::verdict::{How, Report, Verdict};

const FILES: u32 = 4;
const FILE_BYTES: u64 = 2 << 20;

pub(super) fn first_read(seed: u64) -> Result<Report, String> {
    played(
        "first-read",
        seed,
        "read-cached@source/file-2 nth:1 corrupt-cached:bit",
        "L2: the sender read it wrongly once",
    )
}

pub(super) fn every_read(seed: u64) -> Result<Report, String> {
    let name = "L1: the source disk reads the same wrong bytes each time";
    played("every-read", seed, "read-cached@source/file-2 nth:2 corrupt-cached:4k", name)
}

fn played(name: &str, seed: u64, rule: &str, limit: &'static str) -> Result<Report, String> {
    let mut play = Play::new(name, seed, FILES, FILE_BYTES)?;
    let child = Child { rules: vec![rule.parse()?], seed, log: play.path("injected") };
    play.setup.sender_below = child.command().map_err(|error| error.to_string())?;
    let live = play.setup.start();
    let ending = play.finish(live)?;
    let injected = child.injected();
    injected.iter().for_each(|line| play.note(format!("injected: {line}")));
    let differences = play.differences(&ending);
    differences.iter().for_each(|line| play.note(format!("an outside digest: {line}")));
    // Only what was read wrongly may differ, and only in its bytes.
    let is_only = differences.len() == 1 && differences[0].starts_with("file-2: bytes ");
    let report = play.report("", How::Child, injected.len() as u64, &ending);
    let verdict = if is_only && ending.is_done() { Verdict::Limit(limit.to_owned()) } else { report.verdict };
    Ok(Report { detected: differences.len() as u64, repaired: 0, verdict, ..report })
}
