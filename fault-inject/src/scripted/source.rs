//! Sources that change while they are sent. What arrives is one version, whole, or nothing and a name.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::play::Play;
use crate::verdict::{How, Report};

const FILES: u32 = 6;
const FILE_BYTES: u64 = 4 << 20;

/// What somebody does to a file.
type Change = fn(&Path) -> std::io::Result<()>;

/// Starts, kills both when everything is hashed and little has arrived, does that to files of the source, and goes on:
/// what was said of them is not true any more.
fn played(name: &str, seed: u64, changes: &[(&str, Change)]) -> Result<Report, String> {
    let mut play = Play::new(name, seed, FILES, FILE_BYTES)?;
    let mut live = play.setup.start();
    play.await_staged(&mut live, 1 << 20)?;
    live.kill_both();
    let live = play.setup.restart();
    for (file, change) in changes {
        play.change_source(file, change)?;
        play.note(format!("injected: `{file}` changed"));
    }
    let ending = play.finish(live)?;
    let newest = play.newest();
    let report = play.report("", How::Script, changes.len() as u64, &ending);
    // What is delivered in its last version was noticed, and so is what was named.
    Ok(Report { detected: report.detected.max(newest), repaired: newest, ..report })
}

pub(super) fn truncated(seed: u64) -> Result<Report, String> {
    let cut: Change = |path| File::options().write(true).open(path)?.set_len(FILE_BYTES / 3);
    played("truncated", seed, &[("file-4", cut), ("file-5", cut)])
}

pub(super) fn rewritten(seed: u64) -> Result<Report, String> {
    played(
        "rewritten",
        seed,
        &[
            ("file-4", |path| File::options().write(true).open(path)?.write_all_at(&[7; 100_000], FILE_BYTES)),
            ("file-5", |path| File::options().write(true).open(path)?.write_all_at(&[9; 100_000], 1 << 20)),
        ],
    )
}

pub(super) fn replaced(seed: u64) -> Result<Report, String> {
    played(
        "replaced",
        seed,
        &[
            ("file-4", |path| {
                std::fs::remove_file(path)?;
                std::os::unix::fs::symlink("/etc/passwd", path)
            }),
            ("file-5", |path| {
                std::fs::remove_file(path)?;
                let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
                Ok(rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0)?)
            }),
        ],
    )
}

pub(super) fn vanished(seed: u64) -> Result<Report, String> {
    played(
        "vanished",
        seed,
        &[("file-4", |path| std::fs::remove_file(path)), ("file-5", |path| std::fs::remove_file(path))],
    )
}
