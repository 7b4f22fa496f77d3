//! What machines do to a transfer: few descriptors, a thin disk, a platter that changes, other process ids.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use crate::child::Child;
use crate::play::{LIFE, Play};
use crate::rig::facility::{self, LoopImage};
use crate::rig::state;
use crate::verdict::{How, Report, Verdict};

const FILES: u32 = 6;
const FILE_BYTES: u64 = 2 << 20;
/// Open files that the starved sender may have: enough to start, not enough to work.
const DESCRIPTORS: u32 = 12;

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The sender runs out of descriptors, says so, and goes on when it has some.
pub(super) fn few_descriptors(seed: u64) -> Result<Report, String> {
    if facility::run("prlimit", &["--version"]).is_err() {
        return Ok(Report::skipped("", How::Script, "prlimit"));
    }
    let mut play = Play::new("descriptors", seed, FILES, FILE_BYTES)?;
    play.setup.sender_below =
        vec!["prlimit".to_owned(), format!("--nofile={DESCRIPTORS}:{DESCRIPTORS}"), "--".to_owned()];
    let mut live = play.setup.start();
    let starved = loop {
        if live.sender.has_ended() {
            break live.sender.wait(LIFE);
        }
        if play.places().look().sender_receipts > 0 {
            return Err(format!("{DESCRIPTORS} descriptors were enough"));
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let is_named = starved.text().to_lowercase().contains("too many open files");
    play.note(format!("injected: the sender with {DESCRIPTORS} descriptors ended with {:?}", starved.code()));
    play.setup.sender_below = vec![];
    let sender = play.setup.command(crate::rig::transfer::Side::Sender).start();
    let ending = play.finish(crate::rig::transfer::Live { sender, receiver: live.receiver })?;
    let report = play.report("", How::Script, 1, &ending);
    Ok(Report { detected: u64::from(is_named), ..report })
}

/// No mode and no time can be set at the receiver: the bytes are delivered, and how many entries are without their
/// attributes is said.
pub(super) fn attributes_refused(seed: u64) -> Result<Report, String> {
    let mut play = Play::new("attributes", seed, FILES, FILE_BYTES)?;
    let rules = ["set-metadata", "set-dir-metadata"].map(|what| format!("{what} every errno:EPERM").parse());
    let rules = rules.into_iter().collect::<Result<_, _>>()?;
    let child = Child { rules, seed, log: play.path("injected") };
    play.setup.receiver_below = child.command().map_err(|error| error.to_string())?;
    let live = play.setup.start();
    let ending = play.finish(live)?;
    let injected = child.injected();
    injected.iter().for_each(|line| play.note(format!("injected: {line}")));
    let (attributes, wrong): (Vec<String>, Vec<String>) = play
        .differences(&ending)
        .into_iter()
        .partition(|line| [": mode ", ": mtime "].iter().any(|of| line.contains(of)));
    let entries: BTreeSet<&str> = attributes.iter().filter_map(|line| line.split(": ").next()).collect();
    play.note(format!(
        "{} entries have another mode or time; said of {}",
        entries.len(),
        ending.attributes_not_applied
    ));
    let verdict = if !wrong.is_empty() || (entries.len() as u64) > ending.attributes_not_applied {
        Verdict::Wrong(wrong.into_iter().chain(attributes).collect::<Vec<_>>().join("; "))
    } else if ending.is_done() {
        Verdict::Good
    } else {
        Verdict::Stuck(format!("it ended with {:?}", ending.codes))
    };
    let detected = ending.attributes_not_applied;
    let report = play.report("", How::Child, injected.len() as u64, &ending);
    // Nothing can be repaired: it is said.
    Ok(Report { detected, repaired: 0, verdict, ..report })
}

/// ext4 on a sparse image on a small tmpfs: writes succeed, and the disk below has no room for them.
pub(super) fn thin_disk(seed: u64) -> Result<Report, String> {
    if !facility::is_root() {
        return Ok(Report::skipped("", How::LoopImage, "root, to mount a loop image"));
    }
    let mut play = Play::new("thin", seed, FILES, 4 << 20)?;
    let (thin, mount) = (play.path("thin"), play.path("mount"));
    for dir in [&thin, &mount] {
        std::fs::create_dir(dir).map_err(|error| error.to_string())?;
    }
    facility::run("mount", &["-t", "tmpfs", "-o", "size=14m", "tmpfs", &text(&thin)])?;
    let _thin = Mounted(thin.clone());
    let image = thin.join("image");
    std::fs::File::create(&image).and_then(|file| file.set_len(64 << 20)).map_err(|error| error.to_string())?;
    facility::run("mkfs.ext4", &["-q", "-F", &text(&image)])?;
    facility::run("mount", &["-o", "loop", &text(&image), &text(&mount)])?;
    let _mounted = Mounted(mount.clone());
    play.setup.receiver_options.extend(["--patience".to_owned(), "20s".to_owned()]);
    play.setup.sender_options.extend(["--patience".to_owned(), "20s".to_owned()]);
    play.receive_in(mount.join("target"));
    let live = play.setup.start();
    play.setup.relay().rate(0);
    let mut pair = crate::rig::kill::Pair::of(live);
    let began = std::time::Instant::now();
    while pair.is_running() && began.elapsed() < Duration::from_secs(45) {
        std::thread::sleep(Duration::from_millis(20));
    }
    pair.kill();
    let free = facility::run("stat", &["-f", "-c", "%a", &text(&thin)])?;
    let is_full = String::from_utf8_lossy(&free).trim() == "0";
    play.note(format!("injected: the disk below is full: {is_full}"));
    let is_acknowledged = play.places().look().sender_receipts > 0;
    // What the page cache says of such a disk is worth nothing: what was acknowledged is the question.
    let verdict = if is_acknowledged {
        Verdict::Wrong("24 MiB were acknowledged on a disk of 14".to_owned())
    } else {
        Verdict::Good
    };
    let receiver = pair.ending(crate::rig::transfer::Side::Receiver);
    let detected = u64::from(receiver.is_some_and(|finished| finished.code() != Some(0)));
    play.note(format!("the receiver ended with {:?}", receiver.and_then(|finished| finished.code())));
    Ok(Report {
        injected: u64::from(is_full),
        detected,
        verdict,
        plan: format!("files={FILES} of 4 MiB, tmpfs of 14 MiB, seed={seed:#x}"),
        log: play.log.clone(),
        ..Report::skipped("", How::LoopImage, "")
    })
}

struct Mounted(std::path::PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let text = text(&self.0);
        if facility::run("umount", &[&text]).is_err() {
            // A busy mount goes when its last user does.
            drop(facility::run("umount", &["-l", &text]));
        }
    }
}

/// Flips bits of a staged file on the platter while its pages are cached: reads through the cache stay right, and only
/// a read of the device sees it.
pub(super) fn platter(seed: u64) -> Result<Report, String> {
    const BYTES: u64 = 20 << 20;
    const SILENT_AFTER_BYTES: u64 = 14 << 20;
    if !facility::is_root() {
        return Ok(Report::skipped("", How::LoopImage, "root, to mount a loop image"));
    }
    let mut play = Play::new("platter", seed, 1, BYTES)?;
    let below = play.path("image");
    std::fs::create_dir(&below).map_err(|error| error.to_string())?;
    let Some(image) = LoopImage::mounted("platter", &below, 128 << 20) else {
        return Ok(Report::skipped("", How::LoopImage, "a loop device and ext4"));
    };
    play.receive_in(image.path().join("target"));
    play.setup.relay().silence_after(SILENT_AFTER_BYTES);
    let mut live = play.setup.start();
    live.sender.wait_until("a silent link", LIFE, |_| play.setup.relay().is_silent());
    // What has arrived becomes durable meanwhile.
    std::thread::sleep(Duration::from_millis(2500));
    live.kill_both();
    let staged = play.places().work().map(|work| state::entries(&work.join("staging"))).unwrap_or_default();
    let staged = staged.first().ok_or("nothing is staged")?;
    let read = || std::fs::read(staged).map_err(|error| error.to_string());
    let source = std::fs::read(play.source.join("file-0")).map_err(|error| error.to_string())?;
    let before = read()?;
    let mut injected = 0;
    for place in (0..source.len()).step_by(1 << 20) {
        let sector = &source[place..place + 512];
        if &before[place..place + 512] == sector {
            injected += image.flip_on_platter(sector) as u64;
        }
    }
    let is_cached = read()? == before;
    play.note(format!("injected: {injected} bits on the platter; a read through the cache passes: {is_cached}"));
    play.setup.relay().speak();
    let live = play.setup.restart();
    let ending = play.finish(live)?;
    std::fs::write("/proc/sys/vm/drop_caches", "3").map_err(|error| error.to_string())?;
    let report = play.report("", How::LoopImage, injected, &ending);
    drop(image);
    // What the read of the device found wrong came again: else the file would be wrong now, its cache being gone.
    let found = if report.verdict == Verdict::Good { injected } else { 0 };
    Ok(Report { detected: found, repaired: found, ..report })
}

/// A receiver that was killed comes back in another namespace, where its process id is taken or tiny.
pub(super) fn other_pids(seed: u64) -> Result<Report, String> {
    if facility::run("unshare", &["--pid", "--fork", "true"]).is_err() {
        return Ok(Report::skipped("", How::Script, "a process namespace of its own"));
    }
    let mut play = Play::new("pids", seed, FILES, FILE_BYTES)?;
    let mut live = play.setup.start();
    play.await_staged(&mut live, 1 << 20)?;
    live.kill_both();
    let words = ["unshare", "--pid", "--fork", "--kill-child"].map(str::to_owned);
    play.setup.receiver_below = words.to_vec();
    play.note("injected: the receiver runs with process id 2 of a namespace of its own");
    let live = play.setup.restart();
    let ending = play.finish(live)?;
    let report = play.report("", How::Script, 1, &ending);
    Ok(Report { detected: u64::from(report.verdict == Verdict::Good), ..report })
}
