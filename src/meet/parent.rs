//! The parent of `--to` and `--from`: it starts the other side, keeps its stdin open as a sign of life, and starts it
//! again with backoff when it ends without being done. What it says to the child is `child.rs`.

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines, copy, sink};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::debug;

use super::child::Ready;
use super::dial::Backoff;
use super::{Effort, Meet, Way};
use crate::error::{Error, Exit};
use crate::limits::{LINGER_MS, LINK_VERDICT_MS};
use crate::net::{CloseCode, Link};
use crate::options::ChildCommand;

const VERDICT: Duration = Duration::from_millis(LINK_VERDICT_MS);
const LINGER: Duration = Duration::from_millis(LINGER_MS);

/// A child that is started again and again until all is done.
#[derive(Debug)]
pub(super) struct Parenting {
    command: ChildCommand,
    task_line: Vec<u8>,
    running: Option<Running>,
    backoff: Backoff,
}

#[derive(Debug)]
struct Running {
    process: Child,
    /// Its stdout until it is ready.
    lines: Option<Lines<BufReader<ChildStdout>>>,
    /// Holds its stdin open, drains its stdout, and closes the link that it leaves behind.
    tasks: JoinSet<()>,
    since: Instant,
    is_ready: bool,
}

/// What happens to a child.
#[derive(Debug)]
pub(super) enum Input {
    StartIsDue,
    /// It said a line, or closed its stdout.
    Said(std::io::Result<Option<String>>),
    Ended(std::io::Result<ExitStatus>),
}

impl Parenting {
    pub(super) fn new(command: ChildCommand, task_line: Vec<u8>) -> Parenting {
        Parenting { command, task_line, running: None, backoff: Backoff::new() }
    }

    /// Whether the child listens.
    pub(super) fn is_ready(&self) -> bool {
        self.running.as_ref().is_some_and(|running| running.is_ready)
    }

    pub(super) async fn next_input(&mut self, effort: Effort) -> Input {
        let Some(running) = &mut self.running else {
            if effort == Effort::Nothing {
                std::future::pending::<()>().await;
            }
            sleep_until(self.backoff.due()).await;
            return Input::StartIsDue;
        };
        let said = async {
            match &mut running.lines {
                Some(lines) => lines.next_line().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            line = said => Input::Said(line),
            status = running.process.wait() => Input::Ended(status),
        }
    }

    fn start(&mut self) -> Result<(), Error> {
        self.backoff.step();
        let started = Command::new(&self.command.program)
            .args(&self.command.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // A group of its own: keys that stop the parent reach the child as the end of its stdin, and not twice.
            .process_group(0)
            .kill_on_drop(true)
            .spawn();
        let mut process = started.map_err(|source| Error::Local {
            what: "program",
            object: self.command.program.clone(),
            problem: "could not be started",
            source: Some(source),
        })?;
        let stdin = process.stdin.take().expect("stdin is piped");
        let stdout = process.stdout.take().expect("stdout is piped");
        let mut tasks = JoinSet::new();
        tasks.spawn(hold_open(stdin, self.task_line.clone()));
        let lines = Some(BufReader::new(stdout).lines());
        self.running = Some(Running { process, lines, tasks, since: Instant::now(), is_ready: false });
        Ok(())
    }

    /// Lets the child end. One that has been told that all is done tidies up first; any other finds its stdin closed at
    /// once, keeps its state and ends.
    pub(super) async fn finish(self, code: CloseCode) {
        let Some(mut running) = self.running else { return };
        if code == CloseCode::Finished && timeout(LINGER, running.process.wait()).await.is_ok() {
            return;
        }
        running.tasks.shutdown().await;
        if timeout(LINGER, running.process.wait()).await.is_err() {
            debug!("the child does not end: it is killed");
        }
    }
}

/// Tells the child what to do, and then holds the pipe for as long as the parent lives.
async fn hold_open(mut stdin: ChildStdin, line: Vec<u8>) {
    if stdin.write_all(&line).await.is_ok() && stdin.flush().await.is_ok() {
        std::future::pending().await
    }
    // Otherwise the child has ended, and its end says why.
}

impl Meet {
    pub(super) fn tend_child(&mut self, input: Input) -> Result<(), Error> {
        let Way::Dial(dialling) = &mut self.way else { return Ok(()) };
        let Some(parenting) = &mut dialling.parenting else { return Ok(()) };
        match input {
            Input::StartIsDue => parenting.start(),
            Input::Said(line) => self.child_said(line),
            Input::Ended(status) => {
                self.child_ended(status);
                Ok(())
            }
        }
    }

    fn child_said(&mut self, line: std::io::Result<Option<String>>) -> Result<(), Error> {
        let Way::Dial(dialling) = &mut self.way else { return Ok(()) };
        let Some(running) = dialling.parenting.as_mut().and_then(|parenting| parenting.running.as_mut()) else {
            return Ok(());
        };
        let Some(lines) = running.lines.take() else { return Ok(()) };
        // Its end tells more than a closed pipe.
        let Ok(Some(line)) = line else { return Ok(()) };
        let Some(ready) = Ready::parse(&line).filter(|ready| ready.id == self.desk.record.id) else {
            let what = "it did not say that it is ready".to_owned();
            return Err(Error::Misbehaved { peer: self.desk.record.role.other(), what });
        };
        running.is_ready = true;
        let mut stdout = lines.into_inner();
        running.tasks.spawn(async move {
            // It is not read for what it says, but so that the child never waits for a reader.
            let _ = copy(&mut stdout, &mut sink()).await;
        });
        dialling.schedule_now();
        self.desk.record.peer = Some(ready.key);
        self.desk.record.addresses = ready.addresses;
        self.desk.home.save(&self.desk.record)
    }

    fn child_ended(&mut self, status: std::io::Result<ExitStatus>) {
        let peer = self.desk.record.role.other();
        self.last_cause = match &status {
            Ok(status) => format!("the {peer} that was started here ended ({status})"),
            Err(error) => format!("the {peer} that was started here is lost: {error}"),
        };
        debug!(cause = self.last_cause, "the child ended");
        let link = self.current.as_ref().map(|current| current.link.clone());
        if let Some(link) = link {
            self.greetings.spawn(close_later(link));
        }
        let failed = status.ok().and_then(|status| fatal_exit(status.code()));
        self.doom = failed.map(|exit| (Instant::now() + VERDICT, Error::ChildFailed { peer, exit }));
        let Way::Dial(dialling) = &mut self.way else { return };
        let Some(parenting) = &mut dialling.parenting else { return };
        if let Some(running) = parenting.running.take() {
            parenting.backoff.step_after(running.since.elapsed());
        }
    }
}

/// A killed child cannot close its link; one that has ended well has done so, and its last words are left to be read.
async fn close_later(link: Link) -> super::Step {
    sleep(VERDICT).await;
    link.close(CloseCode::Dropped);
    super::Step::Told(Ok(()))
}

/// Which ends of a child another start does not cure.
fn fatal_exit(code: Option<i32>) -> Option<Exit> {
    match code? {
        1 => Some(Exit::Failed),
        2 => Some(Exit::Usage),
        4 => Some(Exit::Refused),
        _ => None,
    }
}

/// The program of a child where the one that was saved is gone: this one.
pub(super) fn program_or_this(saved: PathBuf) -> PathBuf {
    if saved.is_file() { saved } else { std::env::current_exe().unwrap_or(saved) }
}
