//! The parent of `--to` and `--from`: it starts the other side, keeps its stdin open as a sign of life, and starts it
//! again with backoff when it ends without being done. On another machine it is ssh that is started here, and that starts
//! the other side there. What it says to the child is `child.rs`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncWriteExt, BufReader, copy, sink};
use tokio::net::lookup_host;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::debug;

use super::child::Ready;
use super::dial::{self, Backoff};
use super::lines::Lines;
use super::{Effort, Meet, Way};
use crate::error::{Error, Exit};
use crate::event::{Event, Notice};
use crate::limits::{
    BLOCKADE_MS, LINGER_MS, LINK_VERDICT_MS, LOGIN_LINES_MAX, REMOTE_START_DELAY_MS_MAX, RETRY_DELAY_MS_MAX,
};
use crate::net::relay::Relay;
use crate::net::{CloseCode, Link};
use crate::options::ChildCommand;

const VERDICT: Duration = Duration::from_millis(LINK_VERDICT_MS);
const LINGER: Duration = Duration::from_millis(LINGER_MS);
const BLOCKADE: Duration = Duration::from_millis(BLOCKADE_MS);
/// What stands for any port of this machine.
const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// Exit codes of a shell that cannot run a command.
const NOT_EXECUTABLE: i32 = 126;
const NOT_FOUND: i32 = 127;
/// OpenSSH's exit code for its own failures; anything else is the command's (ssh(1)).
const SSH_FAILED: i32 = 255;

/// A child that is started again and again until all is done.
#[derive(Debug)]
pub(super) struct Parenting {
    command: ChildCommand,
    task_line: Vec<u8>,
    running: Option<Running>,
    backoff: Backoff,
    /// A child of this process was ready: what is in the way now may pass.
    was_ready: bool,
    /// There was a link, or its absence was told.
    is_blockade_over: bool,
    /// Addresses of the machine that ssh reaches.
    reached: Vec<IpAddr>,
}

#[derive(Debug)]
struct Running {
    process: Child,
    /// Its stdin, once it was told what to do, where more is to be said to it.
    stdin: Option<oneshot::Receiver<ChildStdin>>,
    /// Its stdout until it is ready.
    lines: Option<Lines<BufReader<ChildStdout>>>,
    /// Holds its stdin open, drains its stdout, and closes the link that it leaves behind.
    tasks: JoinSet<()>,
    /// Lines that were not the child's.
    strange_lines: u32,
    /// Looks for the machine that ssh reaches.
    search: JoinSet<Vec<IpAddr>>,
    since: Instant,
    ready_since: Option<Instant>,
}

/// What happens to a child.
#[derive(Debug)]
pub(super) enum Input {
    StartIsDue,
    /// It said a line, or closed its stdout.
    Said(std::io::Result<Option<String>>),
    Ended(std::io::Result<ExitStatus>),
    /// Where ssh goes.
    Reached(Vec<IpAddr>),
}

impl Parenting {
    pub(super) fn new(command: ChildCommand, task_line: Vec<u8>) -> Parenting {
        // A login costs more than a process, and some machines count them.
        let delay_max = if command.remote.is_some() { REMOTE_START_DELAY_MS_MAX } else { RETRY_DELAY_MS_MAX };
        Parenting {
            command,
            task_line,
            running: None,
            backoff: Backoff::up_to(Duration::from_millis(delay_max)),
            was_ready: false,
            is_blockade_over: false,
            reached: vec![],
        }
    }

    /// Whether the child listens.
    pub(super) fn is_ready(&self) -> bool {
        self.running.as_ref().is_some_and(|running| running.ready_since.is_some())
    }

    /// There is a link to the child.
    pub(super) fn met(&mut self) {
        self.is_blockade_over = true;
    }

    /// When it is to be told that a child on another machine is ready, and nothing comes back from it.
    pub(super) fn blockade_due(&self) -> Option<Instant> {
        let is_direct = self.command.remote.as_ref().is_some_and(|remote| !remote.is_relayed);
        let ready_since = self.running.as_ref().and_then(|running| running.ready_since);
        ready_since.filter(|_| is_direct && !self.is_blockade_over).map(|since| since + BLOCKADE)
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
                Some(lines) => lines.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            line = said => Input::Said(line),
            Some(Ok(reached)) = running.search.join_next() => Input::Reached(reached),
            status = running.process.wait() => Input::Ended(status),
        }
    }

    fn start(&mut self) -> Result<(), Error> {
        self.backoff.step();
        let mut command = Command::new(&self.command.program);
        command.args(&self.command.arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        if self.command.remote.is_none() {
            // A group of its own: keys that stop the parent reach the child as the end of its stdin, and not twice. ssh
            // stays in the terminal's, where it may have to ask for a password.
            command.process_group(0);
        }
        let started = command.spawn();
        let mut process = started.map_err(|source| Error::Local {
            what: "program",
            object: self.command.program.clone(),
            problem: "could not be started",
            source: Some(source),
        })?;
        let stdin = process.stdin.take().expect("stdin is piped");
        let stdout = process.stdout.take().expect("stdout is piped");
        let mut tasks = JoinSet::new();
        let is_relayed = self.command.remote.as_ref().is_some_and(|remote| remote.is_relayed);
        let (give, stdin_later) = oneshot::channel();
        tasks.spawn(hold_open(stdin, self.task_line.clone(), is_relayed.then_some(give)));
        let mut search = JoinSet::new();
        if let Some(question) = self.question() {
            search.spawn(address_of(question));
        }
        let lines = Some(Lines::new(BufReader::new(stdout)));
        let stdin = is_relayed.then_some(stdin_later);
        self.running = Some(Running {
            process,
            stdin,
            lines,
            tasks,
            strange_lines: 0,
            search,
            since: Instant::now(),
            ready_since: None,
        });
        Ok(())
    }

    /// Asks OpenSSH to which machine it would go, by the user's own configuration.
    fn question(&self) -> Option<Command> {
        self.command.remote.as_ref().filter(|remote| !remote.is_relayed)?;
        // Other programs are not known to answer.
        let words = &self.command.arguments;
        let host = words.iter().position(|word| word == "--")?;
        let mut question = Command::new(&self.command.program);
        question.args(&words[..host]).arg("-G").args(&words[host..=host + 1]);
        question.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        Some(question)
    }

    /// Lets the child end. One that has been told that all is done tidies up first; any other finds its stdin closed at
    /// once, keeps its state and ends.
    pub(super) async fn finish(self, code: CloseCode) {
        let Some(mut running) = self.running else { return };
        if code == CloseCode::Finished && timeout(LINGER, running.process.wait()).await.is_ok() {
            return;
        }
        running.tasks.shutdown().await;
        // One on another machine finds out by itself.
        let patience = if self.command.remote.is_some() { VERDICT } else { LINGER };
        if timeout(patience, running.process.wait()).await.is_err() {
            debug!("the child does not end: it is killed");
        }
    }
}

/// Where OpenSSH says that it goes. Nothing if it does not say.
async fn address_of(mut question: Command) -> Vec<IpAddr> {
    let Ok(Ok(answer)) = timeout(VERDICT, question.output()).await else { return vec![] };
    let text = String::from_utf8_lossy(&answer.stdout).into_owned();
    let Some(name) = text.lines().find_map(|line| line.strip_prefix("hostname ")) else { return vec![] };
    match timeout(VERDICT, lookup_host((name, 0))).await {
        Ok(Ok(found)) => found.map(|address| address.ip()).collect(),
        _ => vec![],
    }
}

/// Tells the child what to do, and then holds the pipe for as long as the parent lives, or gives it away.
async fn hold_open(mut stdin: ChildStdin, line: Vec<u8>, give: Option<oneshot::Sender<ChildStdin>>) {
    if stdin.write_all(&line).await.is_ok() && stdin.flush().await.is_ok() {
        match give {
            // Whoever has no use for it any more closes it.
            Some(give) => drop(give.send(stdin)),
            None => std::future::pending().await,
        }
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
            Input::Ended(status) => self.child_ended(status),
            Input::Reached(reached) => {
                parenting.reached = reached;
                // Otherwise they are dialled once it is ready.
                let is_late = parenting.is_ready() && self.current.is_none();
                if is_late {
                    dialling.schedule_now();
                }
                let ready = self.desk.record.addresses.clone();
                if is_late && let Some(port) = ready.first().map(SocketAddr::port) {
                    self.add_reached(&ready, port);
                }
                Ok(())
            }
        }
    }

    fn child_said(&mut self, line: std::io::Result<Option<String>>) -> Result<(), Error> {
        let Way::Dial(dialling) = &mut self.way else { return Ok(()) };
        let Some(parenting) = &mut dialling.parenting else { return Ok(()) };
        let is_remote = parenting.command.remote.is_some();
        let Some(running) = &mut parenting.running else { return Ok(()) };
        let Some(lines) = running.lines.take() else { return Ok(()) };
        let peer = self.desk.record.role.other();
        let never_ready = || Error::Misbehaved { peer, what: "it did not say that it is ready".to_owned() };
        let line = match line {
            Ok(Some(line)) => line,
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => return Err(never_ready()),
            // Its end tells more than a closed pipe.
            Ok(None) | Err(_) => return Ok(()),
        };
        if is_remote && !Ready::is_meant(&line) && running.strange_lines < LOGIN_LINES_MAX {
            // What the start files of a login's shell say, for example.
            running.strange_lines += 1;
            running.lines = Some(lines);
            return Ok(());
        }
        let Some(ready) = Ready::parse(&line).filter(|ready| ready.id == self.desk.record.id) else {
            return Err(never_ready());
        };
        running.ready_since = Some(Instant::now());
        let mut stdout = lines.into_inner();
        let mut addresses = ready.addresses;
        match running.stdin.take() {
            None => {
                running.tasks.spawn(async move {
                    // It is not read for what it says, but so that the child never waits for a reader.
                    let _ = copy(&mut stdout, &mut sink()).await;
                });
            }
            Some(stdin) => {
                let relay = Relay::bind().map_err(|source| Error::Bind { address: LOOPBACK, source })?;
                addresses = vec![relay.address()];
                running.tasks.spawn(async move {
                    // Its end is the child's, or comes with it.
                    if let Ok(stdin) = stdin.await {
                        let _ = relay.run(stdin, stdout).await;
                    }
                });
            }
        }
        dialling.schedule_now();
        if let Some(parenting) = &mut dialling.parenting {
            parenting.was_ready = true;
        }
        self.desk.record.peer = Some(ready.key);
        let port = addresses.first().map_or(0, SocketAddr::port);
        self.add_reached(&addresses, port);
        self.desk.home.save(&self.desk.record)
    }

    /// The child's own addresses, behind those that ssh has reached: translation may stand before the others.
    fn add_reached(&mut self, addresses: &[SocketAddr], port: u16) {
        let Way::Dial(dialling) = &self.way else { return };
        let reached = dialling.parenting.iter().flat_map(|parenting| &parenting.reached);
        let reached: Vec<SocketAddr> = reached.map(|ip| SocketAddr::new(*ip, port)).collect();
        self.desk.record.addresses = dial::union(&[&reached, addresses]);
    }

    /// A child on another machine is ready, and nothing comes back from it: said once.
    pub(super) fn tell_blockade(&mut self) {
        let Way::Dial(dialling) = &mut self.way else { return };
        let Some(parenting) = &mut dialling.parenting else { return };
        parenting.is_blockade_over = true;
        let Some(remote) = &parenting.command.remote else { return };
        let (host, addresses) = (remote.host.clone(), self.desk.record.addresses.clone());
        self.desk.events.emit(Event::Notice(Notice::NoUdp { host, addresses }));
    }

    fn child_ended(&mut self, status: std::io::Result<ExitStatus>) -> Result<(), Error> {
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
        let code = status.ok().and_then(|status| status.code());
        let Way::Dial(dialling) = &mut self.way else { return Ok(()) };
        let Some(parenting) = &mut dialling.parenting else { return Ok(()) };
        let host = parenting.command.remote.as_ref().map(|remote| remote.host.clone());
        if let Some(host) = host.as_ref().filter(|_| !parenting.was_ready)
            && let Some(error) = ended_before_ready(&parenting.command, host, code)
        {
            return Err(error);
        }
        let place = host.map_or_else(|| "here".to_owned(), |host| format!("on `{host}`"));
        let failed = fatal_exit(code);
        self.doom = failed.map(|exit| (Instant::now() + VERDICT, Error::ChildFailed { peer, place, exit }));
        if let Some(running) = parenting.running.take() {
            parenting.backoff.step_after(running.since.elapsed());
        }
        Ok(())
    }
}

/// A killed child cannot close its link; one that has ended well has done so, and its last words are left to be read.
async fn close_later(link: Link) -> super::Step {
    sleep(VERDICT).await;
    link.close(CloseCode::Dropped);
    super::Step::Told(Ok(()))
}

/// What the end of a child on another machine, which was never ready, says of the way there.
pub(crate) fn ended_before_ready(command: &ChildCommand, host: &str, code: Option<i32>) -> Option<Error> {
    let host = host.to_owned();
    match code? {
        NOT_EXECUTABLE | NOT_FOUND => Some(Error::NotInstalled { host }),
        SSH_FAILED => Some(Error::HostNotReached { host, program: command.program.display().to_string() }),
        _ => None,
    }
}

/// Which ends of a child another start does not cure.
pub(crate) fn fatal_exit(code: Option<i32>) -> Option<Exit> {
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
