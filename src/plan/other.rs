//! The other side of a plan as a process that is started here, on this machine or through ssh: told what to do, waited for
//! until it is ready, and ended. What is in the way is told as it is before a transfer.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::line::{READY, READY_WORD, read_line};
use super::link::Broken;
use super::patient::Patient;
use crate::error::{Error, Exit};
use crate::identity::Role;
use crate::limits::{LINK_VERDICT_MS, LOGIN_LINES_MAX, PLAN_LINE_BYTES_MAX};
use crate::meet::{ended_before_ready, fatal_exit, plan_line};
use crate::options::ChildCommand;

/// Between two looks whether it has ended.
const LOOK: Duration = Duration::from_millis(5);

/// What it says.
pub(crate) type FromOther = BufReader<Patient<ChildStdout>>;
/// What it is told.
pub(crate) type ToOther = Patient<ChildStdin>;

/// A process that was started. It does not outlive this, unless it is in the middle of a change: then it ends by itself.
#[derive(Debug)]
pub(crate) struct Other {
    process: Child,
    command: ChildCommand,
    peer: Role,
    is_ready: bool,
    patience: Option<Duration>,
    /// It is asked to change something: it is left to end by itself, when its input has ended.
    is_changing: bool,
}

impl Other {
    /// Starts it, and waits until it is ready. Its output and input from then on, each with that patience.
    pub(crate) fn start(
        command: &ChildCommand,
        peer: Role,
        patience: Option<Duration>,
    ) -> Result<(Other, FromOther, ToOther), Error> {
        let mut program = Command::new(&command.program);
        program.args(&command.arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        if command.remote.is_none() {
            // Keys that stop this process reach the other one as the end of its input. ssh may have to ask for a password.
            program.process_group(0);
        }
        let mut process = program.spawn().map_err(|source| Error::Local {
            what: "program",
            object: command.program.clone(),
            problem: "could not be started",
            source: Some(source),
        })?;
        let mut stdin = Patient::new(process.stdin.take().expect("stdin is piped"), patience);
        let mut stdout = BufReader::new(Patient::new(process.stdout.take().expect("stdout is piped"), patience));
        let mut other =
            Other { process, command: command.clone(), peer, is_ready: false, patience, is_changing: false };
        // One that does not read it has ended, and its end says why.
        drop(stdin.write_all(&plan_line(&command.options)).and_then(|()| stdin.flush()));
        match other.hear_ready(&mut stdout) {
            Ok(()) => Ok((other, stdout, stdin)),
            Err(broken) => Err(other.failed(broken)),
        }
    }

    /// On another machine, what the start files of a login's shell say comes first.
    fn hear_ready(&mut self, stdout: &mut impl BufRead) -> Result<(), Broken> {
        let mut strange_lines = 0;
        let mut line = vec![];
        while read_line(stdout, &mut line, PLAN_LINE_BYTES_MAX).map_err(|error| self.broken(&error))? {
            if READY.strip_suffix(b"\n") == Some(&line) {
                self.is_ready = true;
                return Ok(());
            }
            let is_meant = line.starts_with(READY_WORD.as_bytes()) || self.command.remote.is_none();
            strange_lines += 1;
            if is_meant || strange_lines > LOGIN_LINES_MAX {
                return Err(Broken::Misbehaved);
            }
        }
        Err(Broken::Gone)
    }

    /// It is asked to change something from now on, and is not to be stopped in the middle of it.
    pub(crate) fn changes(&mut self) {
        self.is_changing = true;
    }

    /// Lets it end: nothing more is asked.
    pub(crate) fn finish(&mut self) {
        self.wait();
    }

    /// What a pipe that could not be read or written says of it.
    pub(crate) fn broken(&self, error: &io::Error) -> Broken {
        Broken::of(error, self.patience)
    }

    /// Why it did not do what it was started for.
    pub(crate) fn failed(&mut self, broken: Broken) -> Error {
        if broken == Broken::Misbehaved {
            let what =
                if self.is_ready { "a line of its plan has no meaning" } else { "it did not say that it is ready" };
            return Error::Misbehaved { peer: self.peer, what: what.to_owned() };
        }
        if let Broken::Silent(_) = broken {
            return broken.error(self.peer);
        }
        let Some(status) = self.wait() else { return broken.error(self.peer) };
        let remote = self.command.remote.as_ref();
        if let Some(remote) = remote.filter(|_| !self.is_ready)
            && let Some(error) = ended_before_ready(&self.command, &remote.host, status.code())
        {
            return error;
        }
        let place = remote.map_or_else(|| "here".to_owned(), |remote| format!("on `{}`", remote.host));
        let peer = self.peer;
        match fatal_exit(status.code()) {
            Some(exit) => Error::ChildFailed { peer, place, exit },
            None if status.code() == Some(Exit::Again.code().into()) => {
                Error::ChildFailed { peer, place, exit: Exit::Again }
            }
            None => Error::NoLink { peer, seconds: 0, cause: format!("what was started {place} ended ({status})") },
        }
    }

    /// How it ends, if it does so soon.
    fn wait(&mut self) -> Option<ExitStatus> {
        let until = Instant::now() + Duration::from_millis(LINK_VERDICT_MS);
        loop {
            match self.process.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if Instant::now() < until => thread::sleep(LOOK),
                Ok(None) | Err(_) => return None,
            }
        }
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // One that only looks can be ended anywhere. One that waits for a dead disk is reaped when this process ends.
        if !self.is_changing {
            drop(self.process.kill());
        }
        self.wait();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// One that goes on for a moment after the end of its input.
    fn started(done: &std::path::Path) -> (Other, FromOther, ToOther) {
        let script = format!("echo ready plan 1; cat >/dev/null; : > '{}'", done.display());
        let command = ChildCommand {
            program: "sh".into(),
            arguments: vec!["-c".into(), script.into()],
            options: serde_json::json!({}),
            remote: None,
        };
        Other::start(&command, Role::Receiver, None).unwrap()
    }

    #[test]
    fn one_that_changes_something_ends_by_itself_and_any_other_at_once() {
        let scratch = tempfile::tempdir().unwrap();
        let (looked, changed) = (scratch.path().join("looked"), scratch.path().join("changed"));
        let (other, input, output) = started(&looked);
        drop(other);
        drop((input, output));
        let (mut other, input, output) = started(&changed);
        other.changes();
        drop(other);
        drop((input, output));
        let until = Instant::now() + Duration::from_secs(20);
        while !changed.exists() {
            assert!(Instant::now() < until, "it was stopped in the middle");
            thread::sleep(LOOK);
        }
        assert!(!looked.exists(), "it was not ended");
    }
}
