//! A wall clock that jumps: a small library in front of the C library gives the shipped program another year each time
//! it asks. The monotonic clock goes on as ever.

use crate::play::Play;
use crate::rig::facility;
use crate::verdict::{How, Report, Verdict};

const FILES: u32 = 6;
const FILE_BYTES: u64 = 2 << 20;

/// Both sides are killed half-way and go on with such a clock: nothing that was taken is too old to be resumed, and
/// nothing waits for a time that does not come. (A ticket that nobody has taken yet does expire by the wall clock.)
pub(super) fn jumps(seed: u64) -> Result<Report, String> {
    let mut play = Play::new("clock", seed, FILES, FILE_BYTES)?;
    let (source, library, jumps) = (play.path("clock.c"), play.path("clock.so"), play.path("jumps"));
    std::fs::write(&source, include_str!("clock.c")).map_err(|error| error.to_string())?;
    let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
    if facility::run("cc", &["-shared", "-fPIC", "-O", "-o", &text(&library), &text(&source)]).is_err() {
        return Ok(Report::skipped("", How::Script, "a C compiler, for a library in front of the clock"));
    }
    let below = [format!("LD_PRELOAD={}", text(&library)), format!("CLOCK_JUMPS={}", text(&jumps))];
    let below: Vec<String> = std::iter::once("env".to_owned()).chain(below).collect();
    let mut live = play.setup.start();
    play.await_staged(&mut live, 1 << 20)?;
    live.kill_both();
    (play.setup.sender_below, play.setup.receiver_below) = (below.clone(), below);
    let live = play.setup.restart();
    let ending = play.finish(live)?;
    let injected = std::fs::metadata(&jumps).map_or(0, |found| found.len());
    play.note(format!("injected: {injected} answers of the wall clock, a year off each, in turn before and after"));
    let resent = ending.resent;
    let report = play.report("", How::Script, injected, &ending);
    // Nothing is there to be noticed: only a monotonic clock decides anything. What shows it is that it went on.
    let is_good = report.verdict == Verdict::Good && resent == 0;
    let harmless = if is_good { injected } else { 0 };
    Ok(Report { detected: harmless, repaired: harmless, ..report })
}
