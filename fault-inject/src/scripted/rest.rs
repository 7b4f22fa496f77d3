//! What happens to files of the receiver while nobody looks: edits, rot, old snapshots, damaged receipts.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use landfall::limits::CHUNK_BYTES;

use crate::play::{Ending, LIFE, Play};
use crate::rig::facility;
use crate::rig::kill::{Pair, Struck, Trigger, Victim};
use crate::rig::process::Landfall;
use crate::rig::state::{self, JOURNAL_HEADER_BYTES_MAX, Step};
use crate::rig::transfer::Live;
use crate::verdict::{How, Report, Verdict};

const FILES: u32 = 6;
const FILE_BYTES: u64 = 4 << 20;

/// Changes one byte in place.
fn flip(path: &Path, at: u64) -> Result<(), String> {
    let flip = || {
        let file = File::options().read(true).write(true).open(path)?;
        let mut byte = [0];
        file.read_exact_at(&mut byte, at)?;
        file.write_all_at(&[!byte[0]], at)
    };
    flip().map_err(|error: std::io::Error| format!("{}: {error}", path.display()))
}

/// Edits one staged file, cuts another and removes a third under the receiver's hands.
pub(super) fn meddled(seed: u64) -> Result<Report, String> {
    let mut play = Play::new("meddled", seed, FILES, FILE_BYTES)?;
    let mut live = play.setup.start();
    play.await_staged(&mut live, 2 << 20)?;
    let staged = play.places().work().map(|work| state::entries(&work.join("staging"))).unwrap_or_default();
    let mut injected = 0;
    for (file, nth) in staged.iter().zip(0..) {
        let done = match nth % 3 {
            0 => flip(file, 100).is_ok(),
            1 => File::options().write(true).open(file).and_then(|file| file.set_len(FILE_BYTES / 2)).is_ok(),
            _ => std::fs::remove_file(file).is_ok(),
        };
        injected += u64::from(done);
        play.note(format!("injected: staged file {nth} {}", ["edited", "cut", "removed"][nth % 3]));
    }
    let ending = play.finish(live)?;
    Ok(play.report("", How::Script, injected, &ending))
}

/// After everything is acknowledged, one byte of a delivered file changes and its time does not. `verify` with the
/// receipt says so; the data comes again with a new transfer that moves what differs.
pub(super) fn rotten_later(seed: u64) -> Result<Report, String> {
    let mut play = Play::new("rotten", seed, FILES, FILE_BYTES)?;
    let live = play.setup.start();
    let ending = play.finish(live)?;
    let clean = play.differences(&ending);
    let victim = play.setup.target.join("source/file-3");
    let times = File::open(&victim).and_then(|file| file.metadata()).and_then(|found| found.modified());
    flip(&victim, 1_500_000)?;
    let restored = times.and_then(|time| File::options().write(true).open(&victim)?.set_modified(time));
    restored.map_err(|error| error.to_string())?;
    play.note("injected: one byte of `file-3` after the acknowledgement, its time unchanged");
    let receipts = state::receipts(&play.setup.receiver_home);
    let receipt = receipts.first().ok_or("the receiver holds no receipt")?;
    let verify = Landfall::new("verify", &play.setup.receiver_home).arg("verify").arg("--json").arg(receipt);
    let said = verify.arg(&play.setup.target).run();
    let named = said.events().iter().filter(|event| event["event"] == "difference").count() as u64;
    play.note(format!("verify: exit {:?}, {named} differences named", said.code()));
    let report = play.report("", How::Script, 1, &ending);
    let verdict = match (said.code(), named) {
        _ if !clean.is_empty() => Verdict::Wrong(clean.join("; ")),
        (Some(1), 1) => Verdict::Good,
        _ => Verdict::Wrong(format!("verify passed over a rotten file\n{}", said.describe())),
    };
    Ok(Report { detected: named, repaired: 0, verdict, ..report })
}

/// Kills the sender as soon as the receiver holds its receipt, damages that, and starts both again.
pub(super) fn receipt_damaged(seed: u64) -> Result<Report, String> {
    let mut play = Play::new("receipt", seed, FILES, 64 << 10)?;
    let places = play.places();
    let mut pair = Pair::of(play.setup.start());
    let struck = pair.strike(&places, Trigger::AtStep(Step::Receipt), Victim::Both)?;
    let receipts = state::receipts(&play.setup.receiver_home);
    let Some(receipt) = receipts.first().filter(|_| matches!(struck, Struck::Killed(_))) else {
        return Err("both ended before they could be killed with a receipt".to_owned());
    };
    flip(receipt, 60)?;
    play.note("injected: one byte of the receipt that the receiver holds");
    let live = play.setup.restart();
    let ending = play.finish(live)?;
    Ok(play.report("", How::Script, 1, &ending))
}

/// The journal forgets every claim about what lies in staging, while the sound bytes stay: chunks that are there come
/// once more, and what they are written over stays whole.
pub(super) fn claims_forgotten(seed: u64) -> Result<Report, String> {
    let mut play = Play::new("forgotten", seed, FILES, FILE_BYTES)?;
    let mut pair = Pair::of(play.setup.start());
    let places = play.places();
    let struck = pair.strike(&places, Trigger::AtStep(Step::Claimed), Victim::Both)?;
    let journal = places.work().map(|work| work.join("journal")).filter(|_| matches!(struck, Struck::Killed(_)));
    let journal = journal.ok_or("both ended before they could be killed with claims")?;
    let look = places.look();
    let cut = File::options().write(true).open(&journal);
    let cut = cut.and_then(|file| file.set_len(JOURNAL_HEADER_BYTES_MAX));
    cut.map_err(|error| format!("{}: {error}", journal.display()))?;
    let injected = look.staging_bytes / CHUNK_BYTES as u64;
    play.note(format!("injected: the claims of {injected} chunks in {} staged files are gone", look.staging_files));
    let live = play.setup.restart();
    let ending = play.finish(live)?;
    let report = play.report("", How::Script, injected, &ending);
    // There is nothing to detect: what came twice is in its place.
    let done = if report.verdict == Verdict::Good { injected } else { 0 };
    Ok(Report { detected: done, repaired: done, ..report })
}

/// Goes back to a snapshot of the working state that is older than what was sealed since.
pub(super) fn rolled_back(seed: u64) -> Result<Report, String> {
    let mut play = Play::new("rollback", seed, FILES, FILE_BYTES)?;
    let mut live = play.setup.start();
    play.await_staged(&mut live, 1 << 20)?;
    live.kill_both();
    let (work, snapshot) = (play.setup.target.join(".landfall"), play.path("snapshot"));
    let text = |path: &Path| path.to_string_lossy().into_owned();
    facility::run("cp", &["-a", &text(&work), &text(&snapshot)])?;
    let mut live = play.setup.restart();
    let places = play.places();
    let has_sealed = live.receiver.wait_until("sealed files", LIFE, |_| places.look().sealed_files >= 3);
    if !has_sealed {
        return Err("the receiver ended early".to_owned());
    }
    kill(live);
    std::fs::remove_dir_all(&work).map_err(|error| error.to_string())?;
    facility::run("cp", &["-a", &text(&snapshot), &text(&work)])?;
    play.note("injected: manifest log, journal and staging of an earlier moment");
    let live = play.setup.restart();
    let ending: Ending = play.finish(live)?;
    let report = play.report("", How::Script, 1, &ending);
    // Seen by its effect: what was sealed since is not in the old journal, and is read and taken again.
    Ok(Report { detected: u64::from(report.verdict == Verdict::Good), ..report })
}

fn kill(live: Live) {
    live.receiver.kill();
    live.sender.kill();
}
