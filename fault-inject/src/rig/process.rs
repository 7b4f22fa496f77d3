//! Real processes of the binary under test: started with a state directory of their own, watched from outside
//! (`/proc`), waited for with a deadline, and described in full when something is not as it should be.

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

/// How long an ordinary test waits for a process before it calls it hung.
pub const PATIENT: Duration = Duration::from_secs(90);

/// The binary under test: `LANDFALL_TEST_BIN`, else the one that cargo has built beside this program.
pub fn binary() -> PathBuf {
    std::env::var_os("LANDFALL_TEST_BIN").map_or_else(|| built("landfall"), PathBuf::from)
}

/// A program that cargo has put beside this one, or above it if this is a test.
pub fn built(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("this program has a path");
    let dir = own.parent().expect("a program lies in a directory");
    let dir = if dir.ends_with("deps") { dir.parent().expect("`deps` lies in a directory") } else { dir };
    dir.join(name)
}

/// Has cargo build the program beside this one unless it is new. Whoever names another, or runs without cargo, answers.
pub fn build_landfall() -> Result<(), String> {
    let Some(cargo) = std::env::var_os("CARGO").filter(|_| std::env::var_os("LANDFALL_TEST_BIN").is_none()) else {
        let is_there = binary().is_file();
        return if is_there { Ok(()) } else { Err(format!("there is no program at {}", binary().display())) };
    };
    // Cargo may have chosen other features for tests, and would build all of them again.
    if super::facility::is_newer_than_sources(&binary()) {
        return Ok(());
    }
    let profile: &[&str] = if cfg!(debug_assertions) { &[] } else { &["--release"] };
    let built = Command::new(cargo)
        .args(["build", "--quiet", "--package", "landfall", "--bin", "landfall"])
        .args(profile)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .status();
    match built {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("cargo could not build landfall: {status}")),
        Err(error) => Err(format!("cargo could not be run: {error}")),
    }
}

/// Is the binary an optimised one? Sizes of the memory tests depend on it.
pub fn is_release() -> bool {
    std::env::var_os("LANDFALL_TEST_BIN").is_some() || !cfg!(debug_assertions)
}

/// A command line of the product, not started yet.
#[derive(Clone, Debug)]
pub struct Landfall {
    label: String,
    home: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    directory: Option<PathBuf>,
    input: Vec<u8>,
    program: PathBuf,
    prefix: Vec<OsString>,
}

impl Landfall {
    /// With this state directory.
    pub fn new(label: &str, home: &Path) -> Landfall {
        Landfall {
            label: label.to_owned(),
            home: home.to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
            directory: None,
            input: Vec::new(),
            program: binary(),
            prefix: Vec::new(),
        }
    }

    /// One more argument.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Landfall {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// More arguments.
    pub fn args<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Landfall {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// One variable of the environment, over what the test has.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Landfall {
        self.environment.push((name.into(), value.as_ref().to_owned()));
        self
    }

    /// The working directory.
    pub fn directory(mut self, directory: &Path) -> Landfall {
        self.directory = Some(directory.to_owned());
        self
    }

    /// What stands on its standard input; without this it is empty.
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Landfall {
        self.input = input.into();
        self
    }

    /// Another program in the place of the binary: for the tests of this harness.
    pub fn program(mut self, program: &str) -> Landfall {
        self.program = PathBuf::from(program);
        self
    }

    /// Runs below another program, as `nsenter` or `setpriv`.
    pub fn below(mut self, prefix: &[&str]) -> Landfall {
        self.prefix = prefix.iter().map(OsString::from).collect();
        self
    }

    /// Starts it.
    pub fn start(&self) -> Running {
        let mut words: Vec<&OsStr> = self.prefix.iter().map(OsString::as_os_str).collect();
        words.push(self.program.as_os_str());
        words.extend(self.arguments.iter().map(OsString::as_os_str));
        let mut command = Command::new(words[0]);
        command
            .args(&words[1..])
            .env("LANDFALL_HOME", &self.home)
            .env_remove("LANDFALL_TICKET")
            .env("LC_ALL", "C.UTF-8");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let started = Instant::now();
        let mut child = command.spawn().unwrap_or_else(|error| panic!("start {words:?}: {error}"));
        let input = self.input.clone();
        let mut stdin = child.stdin.take().unwrap();
        let feeder = std::thread::spawn(move || {
            let _ = stdin.write_all(&input); // a process that does not read its input is its own business
        });
        let stdout = Collected::from(child.stdout.take().unwrap());
        let stderr = Collected::from(child.stderr.take().unwrap());
        let watch = Watch::over(child.id());
        let line = words.iter().map(|word| word.as_bytes().escape_ascii().to_string()).collect::<Vec<_>>().join(" ");
        Running { label: self.label.clone(), line, child, stdout, stderr, watch, feeder: Some(feeder), started }
    }

    /// Starts it and waits until it ends.
    pub fn run(&self) -> Finished {
        self.start().wait(PATIENT)
    }
}

/// A process that has been started.
pub struct Running {
    label: String,
    line: String,
    child: Child,
    stdout: Collected,
    stderr: Collected,
    watch: Watch,
    feeder: Option<JoinHandle<()>>,
    started: Instant,
}

impl Running {
    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Has it ended?
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Time since its start.
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// Sends a signal. `false` if the process was already gone, which does not count as a kill.
    pub fn signal(&mut self, signal: Signal) -> bool {
        !self.has_ended() && rustix::process::kill_process(pid(self.child.id()), signal).is_ok()
    }

    /// SIGKILL, and waits. The result tells whether the signal ended it: it may have been quicker.
    pub fn kill(mut self) -> Finished {
        self.signal(Signal::KILL);
        self.wait(Duration::from_secs(20))
    }

    /// What it has written to stderr so far.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// What it has written to stdout so far.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// Bytes that it has read and written by system calls, and of those at devices, so far.
    pub fn io(&self) -> Option<Io> {
        Io::of(self.child.id())
    }

    /// Waits until it has ended; a process that does not is killed and the test fails.
    pub fn wait(mut self, patience: Duration) -> Finished {
        let deadline = Instant::now() + patience;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > deadline {
                let state = stack_of(self.child.id());
                let _ = self.child.kill();
                let _ = self.child.wait();
                panic!("{} did not end within {patience:?} ({state})\n{}", self.label, self.describe("was killed"));
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        self.finish(status)
    }

    /// Has it ended by then? It goes on if not.
    pub fn ends_within(&mut self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while !self.has_ended() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        self.has_ended()
    }

    /// Waits until a condition holds while the process lives. `false`: it ended first. Fails after `patience`.
    pub fn wait_until(&mut self, what: &str, patience: Duration, mut is_so: impl FnMut(&Running) -> bool) -> bool {
        let deadline = Instant::now() + patience;
        loop {
            if is_so(self) {
                return true;
            }
            if self.has_ended() {
                return is_so(self);
            }
            assert!(Instant::now() < deadline, "{what}: not within {patience:?}\n{}", self.describe("is running"));
            std::thread::sleep(Duration::from_micros(300));
        }
    }

    /// Everything that there is to know about it, for a failure's text.
    pub fn describe(&self, status: &str) -> String {
        describe(&self.label, &self.line, status, &self.stdout.text(), &self.stderr.text())
    }

    fn finish(mut self, status: ExitStatus) -> Finished {
        let elapsed = self.started.elapsed();
        if let Some(feeder) = self.feeder.take() {
            let _ = feeder.join();
        }
        let (stdout, stderr) = (self.stdout.end(), self.stderr.end());
        let (peak_bytes, io) = self.watch.end();
        let (label, line) = (std::mem::take(&mut self.label), std::mem::take(&mut self.line));
        Finished { label, line, status, stdout, stderr, peak_bytes, io, elapsed }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// A process that has ended.
#[derive(Clone, Debug)]
pub struct Finished {
    label: String,
    line: String,
    /// How it ended.
    pub status: ExitStatus,
    /// All of its standard output.
    pub stdout: Vec<u8>,
    /// All of its standard error.
    pub stderr: Vec<u8>,
    /// Largest `VmHWM` that was seen; 0 if it ended before the first look.
    pub peak_bytes: u64,
    /// The last look at its `/proc/PID/io`.
    pub io: Io,
    /// From its start to its end.
    pub elapsed: Duration,
}

impl Finished {
    /// Its exit code; `None` if a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Was it ended by SIGKILL?
    pub fn was_killed(&self) -> bool {
        self.status.signal() == Some(Signal::KILL.as_raw())
    }

    /// Standard error as text.
    pub fn stderr_text(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Standard output as text.
    pub fn stdout_text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Both streams.
    pub fn text(&self) -> String {
        self.stdout_text() + &self.stderr_text()
    }

    /// The events of a run with `--json`; fails if a line of stdout is not an object.
    pub fn events(&self) -> Vec<serde_json::Value> {
        let text = self.stdout_text();
        let parse = |line: &str| match serde_json::from_str::<serde_json::Value>(line) {
            Ok(value) if value.is_object() => value,
            other => panic!("not a JSON object on stdout: {line:?}: {other:?}\n{}", self.describe()),
        };
        text.lines().map(parse).collect()
    }

    /// The last event of a run with `--json`, if it is a summary; tolerates a line that a kill cut short.
    pub fn summary(&self) -> Option<serde_json::Value> {
        let last = self.stdout_text().lines().last().map(str::to_owned)?;
        serde_json::from_str::<serde_json::Value>(&last).ok().filter(|event| event["event"] == "summary")
    }

    /// Everything that there is to know about it, for a failure's text.
    pub fn describe(&self) -> String {
        let status = format!("{} after {:?}", self.status, self.elapsed);
        describe(&self.label, &self.line, &status, &self.stdout_text(), &self.stderr_text())
    }

    /// Fails unless it exited with this code.
    pub fn assert_code(&self, wanted: i32) {
        assert_eq!(self.code(), Some(wanted), "exit code\n{}", self.describe());
    }
}

fn describe(label: &str, line: &str, status: &str, stdout: &str, stderr: &str) -> String {
    let tail = |text: &str| {
        let from = text.char_indices().rev().nth(6000).map_or(0, |(at, _)| at);
        text[from..].to_owned()
    };
    format!("── {label}: {line}\n── {status}\n── stdout\n{}\n── stderr\n{}\n──", tail(stdout), tail(stderr))
}

fn pid(raw: u32) -> Pid {
    Pid::from_raw(i32::try_from(raw).expect("process ids are small")).expect("process ids are not 0")
}

fn stack_of(id: u32) -> String {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{id}/{name}")).unwrap_or_default();
    format!("state {}, waits in {}", read("stat").split(' ').nth(2).unwrap_or("?"), read("wchan"))
}

struct Collected {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Collected {
    fn from(mut stream: impl Read + Send + 'static) -> Collected {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&bytes);
        let reader = std::thread::spawn(move || {
            let mut buffer = [0u8; 8192];
            while let Ok(got @ 1..) = stream.read(&mut buffer) {
                into.lock().unwrap().extend_from_slice(&buffer[..got]);
            }
        });
        Collected { bytes, reader: Some(reader) }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap()).into_owned()
    }

    /// Waits for the end of the stream, but not for ever: a grandchild may hold it open.
    fn end(&mut self) -> Vec<u8> {
        let deadline = Instant::now() + Duration::from_secs(5);
        let reader = self.reader.take().unwrap();
        while !reader.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.bytes.lock().unwrap().clone()
    }
}

/// `/proc/PID/io`, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Io {
    /// By read system calls of any kind but sockets' `recvmsg`.
    pub read_bytes: u64,
    /// By write system calls of any kind but sockets' `sendmsg`.
    pub written_bytes: u64,
    /// Fetched from devices.
    pub device_read_bytes: u64,
    /// Sent to devices.
    pub device_written_bytes: u64,
}

impl Io {
    /// `None` if the process is gone.
    pub fn of(id: u32) -> Option<Io> {
        let text = std::fs::read_to_string(format!("/proc/{id}/io")).ok()?;
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        Some(Io {
            read_bytes: field("rchar:")?,
            written_bytes: field("wchar:")?,
            device_read_bytes: field("read_bytes:")?,
            device_written_bytes: field("write_bytes:")?,
        })
    }
}

/// `VmHWM` of a process, in bytes; `None` if it is gone.
pub fn peak_bytes(id: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches("kB").trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Looks at a process again and again; `VmHWM` only grows, so the last look is the peak but for the last moment.
struct Watch {
    is_over: Arc<AtomicBool>,
    peak_bytes: Arc<AtomicU64>,
    io: Arc<Mutex<Io>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    fn over(id: u32) -> Watch {
        let (is_over, peak) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let io = Arc::new(Mutex::new(Io::default()));
        let mut watch = Watch { is_over: is_over.clone(), peak_bytes: peak.clone(), io: io.clone(), thread: None };
        watch.thread = Some(std::thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                peak.fetch_max(peak_bytes(id).unwrap_or(0), Ordering::Relaxed);
                if let Some(seen) = Io::of(id) {
                    let mut last = io.lock().unwrap();
                    if seen.read_bytes >= last.read_bytes {
                        *last = seen;
                    }
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }));
        watch
    }

    fn end(&mut self) -> (u64, Io) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        (self.peak_bytes.load(Ordering::Relaxed), *self.io.lock().unwrap())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end();
    }
}

/// Waits for any child, and kills it if it has not ended by then: `None`.
pub fn ends_within(child: &mut Child, patience: Duration) -> std::io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill()?;
    child.wait().map(|_| None)
}
