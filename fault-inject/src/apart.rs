//! A command of the harness in a process of its own: one that falls over, or hangs, takes nothing else with it, and what
//! it has started and mounted goes with it.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::mount::UnmountFlags;
use rustix::process::{Pid, Signal, kill_process_group};

use crate::rig::process::ends_within;
use crate::rig::scratch::Scratch;

/// Lines of what a process said last that are worth showing.
const LAST_LINES: usize = 20;

/// How it ended, and what it said.
pub struct Apart {
    /// `None`: it was killed, because it took too long.
    pub status: Option<ExitStatus>,
    /// Its standard output.
    pub stdout: String,
    /// The last lines of its standard error.
    pub said: Vec<String>,
}

/// Runs this program with other words, in a directory of its own, for no longer than that.
pub fn run(words: &[&str], patience: Duration) -> io::Result<Apart> {
    let scratch = Scratch::new("apart");
    let (answer, said) = (scratch.join("answer"), scratch.join("said"));
    let stage = scratch.dir("stage");
    let mut child = Command::new(std::env::current_exe()?)
        .args(words)
        .env("LANDFALL_TEST_DIR", &stage)
        .stdin(Stdio::null())
        .stdout(File::create(&answer)?)
        .stderr(File::create(&said)?)
        .process_group(0)
        .spawn()?;
    let status = ends_within(&mut child, patience)?;
    if status.is_none_or(|status| !status.success()) {
        if let Some(group) = Pid::from_raw(child.id().cast_signed()) {
            // It may have left nobody behind.
            let _ = kill_process_group(group, Signal::KILL);
        }
        unmount_below(&stage);
    }
    let text = |path: &Path| std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let said: Vec<String> = text(&said)?.lines().map(str::to_owned).collect();
    let said = said[said.len().saturating_sub(LAST_LINES)..].to_vec();
    Ok(Apart { status, stdout: text(&answer)?, said })
}

fn unmount_below(stage: &Path) {
    let stage = stage.to_string_lossy();
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mounted: Vec<&str> = mounts.lines().filter_map(|line| line.split(' ').nth(1)).collect();
    for place in mounted.into_iter().rev().filter(|place| place.starts_with(&*stage)) {
        if rustix::mount::unmount(place, UnmountFlags::DETACH).is_err() {
            let _ = Command::new("fusermount3").args(["-u", "-z", place]).stdin(Stdio::null()).status();
        }
    }
}
