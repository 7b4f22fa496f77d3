//! Programs of the machine: found, run to their end with a deadline, and what they said kept for a failure's text.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fault_inject::rig::process;
use rustix::process::{Pid, Signal, kill_process_group};

/// Where a program is found, by the search path and the places of system programs.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    let mut places = std::env::split_paths(&path).chain(usual).map(|dir| dir.join(name));
    places.find(|place| rustix::fs::access(place, rustix::fs::Access::EXEC_OK).is_ok() && place.is_file())
}

/// A command line, below another program (`nsenter ...`) if `below` has words.
pub fn command<S: AsRef<OsStr>>(below: &[String], words: &[S]) -> Command {
    let below = below.iter().map(OsStr::new);
    let mut words = below.chain(words.iter().map(AsRef::as_ref));
    let mut command = Command::new(words.next().expect("a command has a first word"));
    command.args(words).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// Starts it with its diagnostics in a file.
pub fn start(mut command: Command, log: &Path) -> Result<Child, String> {
    let file = File::create(log).map_err(|error| format!("{}: {error}", log.display()))?;
    command.stderr(file).spawn().map_err(|error| format!("{}: {error}", command.get_program().display()))
}

/// How a program ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with 0.
    Well,
    /// Its time was over, and it was killed.
    Cut,
}

/// Waits for its end; an error shows what it said last.
pub fn wait(mut child: Child, log: &Path, patience: Duration) -> Result<Ended, String> {
    let group = Pid::from_child(&child);
    match process::ends_within(&mut child, patience) {
        Ok(Some(status)) if status.success() => Ok(Ended::Well),
        Ok(Some(status)) => Err(format!("{status}: {}", last_words(log))),
        Ok(None) => {
            // What it has started, if it is at the head of a group of its own.
            let _ = kill_process_group(group, Signal::KILL);
            Ok(Ended::Cut)
        }
        Err(error) => Err(error.to_string()),
    }
}

/// Runs it to its end. To be late is an error.
pub fn run(command: Command, log: &Path, patience: Duration) -> Result<(), String> {
    match wait(start(command, log)?, log, patience)? {
        Ended::Well => Ok(()),
        Ended::Cut => Err(format!("not done within {} s", patience.as_secs())),
    }
}

fn last_words(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let from = text.char_indices().rev().nth(300).map_or(0, |(at, _)| at);
    text[from..].trim().replace('\n', "; ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_failure_shows_the_last_words_and_a_late_program_is_cut() {
        let scratch = tempfile::tempdir().unwrap();
        let log = scratch.path().join("log");
        let fails = command(&[], &["sh", "-c", "echo no such luck >&2; exit 3"]);
        assert!(run(fails, &log, Duration::from_secs(20)).unwrap_err().contains("3: no such luck"));
        let below = ["env".to_owned()];
        assert_eq!(run(command(&below, &["true"]), &log, Duration::from_secs(20)), Ok(()));
        let late = start(command(&[], &["sleep", "60"]), &log).unwrap();
        assert_eq!(wait(late, &log, Duration::from_millis(20)), Ok(Ended::Cut));
    }

    #[test]
    fn programs_are_found_where_they_are() {
        assert!(find("sh").is_some());
        assert_eq!(find("no-such-program-anywhere"), None);
    }
}
