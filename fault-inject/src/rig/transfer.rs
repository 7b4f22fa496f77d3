//! One transfer as a user would run it: a listening and a dialling process, each with its own home, and, if wanted,
//! a relay between them. Restarts are the same command again, or `landfall resume`.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::isolated::Isolated;
use super::process::{Finished, Landfall, PATIENT, Running};
use super::relay::Relay;
use super::scratch::Scratch;
use super::state::{self, Places};
use super::{facility, oracle};

/// Which side prints the ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listens {
    /// `recv` listens, `send --ticket-file` dials.
    Receiver,
    /// `send` listens, `recv --ticket-file` dials.
    Sender,
}

/// Both directions.
pub const BOTH_DIRECTIONS: [Listens; 2] = [Listens::Receiver, Listens::Sender];

/// One of the two sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// `landfall send`.
    Sender,
    /// `landfall recv`.
    Receiver,
}

/// What stands on stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// Events, one JSON object to a line.
    Json,
    /// Words for people.
    Plain,
}

/// A transfer that can be started, stopped and started again.
pub struct Setup {
    base: PathBuf,
    /// What is sent, as it stands on the command line.
    pub sources: Vec<PathBuf>,
    /// DIR of the receiver.
    pub target: PathBuf,
    /// The sender's home.
    pub sender_home: PathBuf,
    /// The receiver's home.
    pub receiver_home: PathBuf,
    /// Who prints the ticket.
    pub listens: Listens,
    /// More options of the sender.
    pub sender_options: Vec<String>,
    /// More options of the receiver.
    pub receiver_options: Vec<String>,
    /// The sender's working directory, if not the test's.
    pub directory: Option<PathBuf>,
    /// Whether both speak JSON on stdout.
    pub speaks: Speaks,
    /// A program that both run below, as `setpriv`.
    pub below: Vec<String>,
    /// A program that only the sender runs below.
    pub sender_below: Vec<String>,
    /// A program that only the receiver runs below.
    pub receiver_below: Vec<String>,
    /// A program that the dialling side runs below instead, as `nsenter`.
    pub dialler_below: Vec<String>,
    relay: Option<Relay>,
    is_astray: bool,
    listen_address: SocketAddr,
}

impl Setup {
    /// Homes and target below the scratch directory, under names that begin with `name`.
    pub fn new(scratch: &Scratch, name: &str, sources: &[&Path], listens: Listens) -> Setup {
        let base = scratch.dir(name);
        let made = |leaf: &str| {
            let path = base.join(leaf);
            std::fs::create_dir(&path).unwrap();
            path
        };
        let (sender_home, receiver_home) = (made("sender-home"), made("receiver-home"));
        Setup {
            sources: sources.iter().map(|path| path.to_path_buf()).collect(),
            target: base.join("target"),
            sender_home,
            receiver_home,
            listens,
            sender_options: Vec::new(),
            receiver_options: Vec::new(),
            directory: None,
            speaks: Speaks::Json,
            below: Vec::new(),
            sender_below: Vec::new(),
            receiver_below: Vec::new(),
            dialler_below: Vec::new(),
            relay: None,
            is_astray: false,
            listen_address: "127.0.0.1:0".parse().unwrap(),
            base,
        }
    }

    /// Puts a relay between the sides. The ticket is made by a listener at the relay's future address that is stopped
    /// before anybody takes it; the same command then listens elsewhere, and the first ticket leads to the relay.
    pub fn through_relay(&mut self, seed: u64) -> &Relay {
        let (front, back) = self.led_astray();
        self.relay.insert(Relay::new(front, back, seed).unwrap())
    }

    /// The same with the dialling side in a network from which nothing but the relay can be reached: sides tell each
    /// other their addresses, and would go round it after a loss.
    pub fn through_the_only_relay(&mut self, seed: u64, network: &Isolated) -> &Relay {
        let (front, back) = self.led_astray();
        self.dialler_below = network.below();
        let front = network.bind(move || crate::proxy::socket(front)).unwrap();
        self.relay.insert(Relay::on(front, back, seed).unwrap())
    }

    /// Leads the dialling side to an address at which somebody else may stand, and the listener to another. Gives
    /// both.
    pub fn led_astray(&mut self) -> (SocketAddr, SocketAddr) {
        let (front, back) = (free_address(), free_address());
        self.listen_address = front;
        self.listener().wait_for_ticket(&self.ticket()).kill();
        std::fs::rename(self.ticket(), self.base.join("relayed-ticket")).unwrap();
        self.listen_address = back;
        self.is_astray = true;
        (front, back)
    }

    /// The relay, if there is one.
    pub fn relay(&self) -> &Relay {
        self.relay.as_ref().expect("the test has put a relay between")
    }

    /// Where the listener writes its ticket.
    pub fn ticket(&self) -> PathBuf {
        self.base.join("ticket")
    }

    /// The ticket that the dialling side is given.
    pub fn dialled_ticket(&self) -> PathBuf {
        if self.is_astray { self.base.join("relayed-ticket") } else { self.ticket() }
    }

    /// Where the state of this transfer is found.
    pub fn places(&self, file_count: usize) -> Places {
        let (sender_home, receiver_home) = (self.sender_home.clone(), self.receiver_home.clone());
        Places { sender_home, receiver_home, target: self.target.clone(), file_count, there_before: 0 }
    }

    /// The command of one side.
    pub fn command(&self, side: Side) -> Landfall {
        let (label, home, options) = match side {
            Side::Sender => ("sender", &self.sender_home, &self.sender_options),
            Side::Receiver => ("receiver", &self.receiver_home, &self.receiver_options),
        };
        let is_apart = side == self.dialling_side() && !self.dialler_below.is_empty();
        let both = if is_apart { &self.dialler_below } else { &self.below };
        let own = if side == Side::Sender { &self.sender_below } else { &self.receiver_below };
        let below: Vec<&str> = both.iter().chain(own).map(String::as_str).collect();
        let mut command = Landfall::new(label, home).below(&below);
        command = match side {
            Side::Sender => match &self.directory {
                Some(directory) => command.directory(directory).arg("send").args(&self.sources),
                None => command.arg("send").args(&self.sources),
            },
            Side::Receiver => command.arg("recv").arg(&self.target),
        };
        command = if side == self.listening_side() {
            let address = self.listen_address.to_string();
            command.args(["--listen", &address]).arg("--write-ticket").arg(self.ticket())
        } else {
            command.arg("--ticket-file").arg(self.dialled_ticket())
        };
        let json: &[&str] = if self.speaks == Speaks::Json { &["--json"] } else { &[] };
        command.args(json).arg("--yes").args(options)
    }

    /// `landfall resume` in the home of one side, with as much patience as its command has.
    pub fn resume_command(&self, side: Side) -> Landfall {
        let (home, options) = match side {
            Side::Sender => (&self.sender_home, &self.sender_options),
            Side::Receiver => (&self.receiver_home, &self.receiver_options),
        };
        let patience = options.iter().skip_while(|option| *option != "--patience").take(2);
        Landfall::new("resume", home).args(["resume", "--json"]).args(patience)
    }

    /// Whether a side has its transfer on record, so that `landfall resume` knows of it.
    pub fn has_record(&self, side: Side) -> bool {
        let home = if side == Side::Sender { &self.sender_home } else { &self.receiver_home };
        let role = if side == Side::Sender { "sender" } else { "receiver" };
        let transfers = std::fs::read_dir(home.join("transfers")).into_iter().flatten().flatten();
        transfers.into_iter().any(|id| id.path().join(role).join("transfer").exists())
    }

    /// The side that prints the ticket.
    pub fn listening_side(&self) -> Side {
        if self.listens == Listens::Receiver { Side::Receiver } else { Side::Sender }
    }

    /// The other one.
    pub fn dialling_side(&self) -> Side {
        if self.listens == Listens::Receiver { Side::Sender } else { Side::Receiver }
    }

    /// Starts the listening side alone.
    pub fn listener(&self) -> Running {
        self.command(self.listening_side()).start()
    }

    /// Starts both: the dialling side as soon as there is a ticket.
    pub fn start(&self) -> Live {
        let listener = self.listener();
        let listener = if self.dialled_ticket().exists() { listener } else { listener.wait_for_ticket(&self.ticket()) };
        let dialler = self.command(self.dialling_side()).start();
        match self.listens {
            Listens::Receiver => Live { sender: dialler, receiver: listener },
            Listens::Sender => Live { sender: listener, receiver: dialler },
        }
    }

    /// Starts both again, with a ticket that is there already.
    pub fn restart(&self) -> Live {
        assert!(self.dialled_ticket().exists(), "a ticket of the first run");
        let listener = self.listener();
        let dialler = self.command(self.dialling_side()).start();
        match self.listens {
            Listens::Receiver => Live { sender: dialler, receiver: listener },
            Listens::Sender => Live { sender: listener, receiver: dialler },
        }
    }

    /// Starts both and waits for both.
    pub fn run(&self) -> Done {
        self.start().wait(PATIENT)
    }
}

/// Ports of [`free_address`].
const FIRST_PORT: u16 = 10_000;
const PORTS: u32 = 10_000;

/// An address of this machine that nobody uses, and that nobody gets by chance before it is bound: its port is below those
/// that systems give to whoever names none, and below those that a listener of landfall takes by itself.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(7919);
    let mut tries = (0..PORTS).map(|_| NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add(first) % PORTS);
    let port = tries.find_map(|offset| {
        let port = FIRST_PORT + u16::try_from(offset).unwrap();
        UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok().then_some(port)
    });
    SocketAddr::from((Ipv4Addr::LOCALHOST, port.expect("a port that nobody uses")))
}

impl Running {
    /// Waits until the listener has written its ticket.
    pub fn wait_for_ticket(mut self, ticket: &Path) -> Running {
        let is_there = self.wait_until("a ticket", Duration::from_secs(20), |_| ticket.exists());
        assert!(is_there, "the listener ended without a ticket\n{}", self.wait(PATIENT).describe());
        self
    }
}

/// Two running sides.
pub struct Live {
    /// `landfall send`.
    pub sender: Running,
    /// `landfall recv`.
    pub receiver: Running,
}

impl Live {
    /// One of them.
    pub fn side(&mut self, side: Side) -> &mut Running {
        if side == Side::Sender { &mut self.sender } else { &mut self.receiver }
    }

    /// Kills one side, which must still be running, looks around if asked to, and starts it again.
    pub fn kill_and_restart(self, side: Side, setup: &Setup, between: impl FnOnce()) -> Live {
        let restarted = |running: Running| {
            let finished = running.kill();
            assert!(finished.was_killed(), "it had ended before the kill\n{}", finished.describe());
            between();
            setup.command(side).start()
        };
        match side {
            Side::Sender => Live { sender: restarted(self.sender), receiver: self.receiver },
            Side::Receiver => Live { sender: self.sender, receiver: restarted(self.receiver) },
        }
    }

    /// Kills both, which must still be running.
    pub fn kill_both(self) {
        for finished in [self.receiver.kill(), self.sender.kill()] {
            assert!(finished.was_killed(), "it had ended before the kill\n{}", finished.describe());
        }
    }

    /// Waits for both. The sender may end first; a receiver lingers for its acknowledgement.
    pub fn wait(self, patience: Duration) -> Done {
        let (sender, receiver) = self.wait_for_sender(patience);
        let receiver = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| receiver.wait(patience)));
        let Ok(receiver) = receiver else { panic!("the receiver hangs; sender:\n{}", sender.describe()) };
        Done { sender, receiver }
    }

    /// Waits for the sender. If it does not end, what the receiver said is told too: it may have given up long before.
    pub fn wait_for_sender(self, patience: Duration) -> (Finished, Running) {
        let receiver_state = self.receiver.describe("while the sender was waited for");
        let sender = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.sender.wait(patience)));
        let Ok(sender) = sender else {
            panic!(
                "the sender hangs; receiver:\n{}\nat the start of the wait:\n{receiver_state}",
                self.receiver.describe("by now")
            );
        };
        (sender, self.receiver)
    }
}

/// Two sides that have ended.
#[derive(Debug)]
pub struct Done {
    /// `landfall send`.
    pub sender: Finished,
    /// `landfall recv`.
    pub receiver: Finished,
}

impl Done {
    /// Fails unless both exited with these codes.
    pub fn assert_codes(&self, sender: i32, receiver: i32) -> &Done {
        let codes = (self.sender.code(), self.receiver.code());
        assert_eq!(codes, (Some(sender), Some(receiver)), "exit codes of sender and receiver\n{}", self.describe());
        self
    }

    /// Fails unless both said 0.
    pub fn assert_success(&self) -> &Done {
        self.assert_codes(0, 0)
    }

    /// Both streams of both.
    pub fn describe(&self) -> String {
        format!("{}\n{}", self.sender.describe(), self.receiver.describe())
    }

    /// Fails unless both sides name this path.
    pub fn assert_named_by_both(&self, name: &str) {
        for finished in [&self.sender, &self.receiver] {
            assert!(finished.text().contains(name), "`{name}` is not named\n{}", self.describe());
        }
    }
}

/// Asks `landfall verify` whether the target still is what was received: with its exit code, and with the lines for
/// `b3sum -c`, which are checked here against plain hashes. Names that such lines cannot express must be announced.
pub fn assert_receipt_verifies(setup: &Setup) {
    for home in [&setup.receiver_home, &setup.sender_home] {
        let held = state::receipts(home);
        assert_eq!(held.len(), 1, "receipts in {}: {held:?}", home.display());
    }
    let receipt = &state::receipts(&setup.receiver_home)[0];
    let command = || Landfall::new("verify", &setup.receiver_home).arg("verify").arg(receipt);
    command().arg(&setup.target).run().assert_code(0);
    let listed = command().arg("--b3sum").directory(&setup.target).run();
    let unlisted = if listed.code() == Some(1) { listed.stderr_text() } else { String::new() };
    assert!(listed.code() == Some(0) || !unlisted.is_empty(), "{}", listed.describe());
    let mut lines: std::collections::BTreeMap<Vec<u8>, String> = std::collections::BTreeMap::new();
    for line in listed.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let (is_escaped, line) = line.strip_prefix(b"\\").map_or((false, line), |rest| (true, rest));
        let (digest, name) = (&line[..64], &line[66..]);
        assert_eq!(&line[64..66], b"  ", "not a line of b3sum: {}", facility::shown(line));
        let name = if is_escaped { b3sum_unescaped(name) } else { name.to_vec() };
        lines.insert(name, String::from_utf8(digest.to_vec()).unwrap());
    }
    for (path, node) in oracle::snapshot_without(&setup.target, &[b".landfall"]) {
        let Ok(Some(digest)) = node.digest else { continue };
        let is_plain = std::str::from_utf8(&path).is_ok_and(|path| !path.contains('\u{fffd}'));
        match lines.get(&path) {
            Some(listed) if node.size_bytes <= 1 << 30 => {
                assert_eq!(*listed, blake3::Hash::from_bytes(digest).to_hex().as_str(), "{}", facility::shown(&path));
            }
            Some(_) => {}
            None => assert!(!is_plain, "{} is not listed\n{}", facility::shown(&path), listed.describe()),
        }
    }
}

/// The name that a line of `b3sum` with a leading backslash stands for.
fn b3sum_unescaped(name: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    let mut bytes = name.iter();
    while let Some(byte) = bytes.next() {
        let found = if *byte == b'\\' { bytes.next().copied() } else { Some(*byte) };
        plain.push(match (byte, found) {
            (b'\\', Some(b'n')) => b'\n',
            (b'\\', Some(b'r')) => b'\r',
            (b'\\', Some(b'\\')) => b'\\',
            (byte, Some(_)) if *byte != b'\\' => *byte,
            _ => panic!("no escape of b3sum: {}", facility::shown(name)),
        });
    }
    plain
}

/// Fails unless `source` (a directory or file) arrived in `target` under its own name, nothing else is there, and no
/// working state is left.
pub fn assert_arrived(source: &Path, target: &Path) {
    assert_arrived_but(source, target, &[]);
}

/// Like [`assert_arrived`], without the paths that were left out.
pub fn assert_arrived_but(source: &Path, target: &Path, left_out: &[&[u8]]) {
    state::assert_no_work_left(target);
    let arrived = target.join(source.file_name().expect("a source with a name"));
    assert!(arrived.symlink_metadata().is_ok(), "{} did not arrive", facility::shown_path(&arrived));
    let rules = oracle::Rules { left_out, ..oracle::Rules::default() };
    if source.symlink_metadata().unwrap().is_dir() {
        oracle::assert_same(source, &arrived, &rules);
    } else {
        let only = |path: &Path| {
            let all = oracle::snapshot(path.parent().unwrap());
            let name = std::os::unix::ffi::OsStrExt::as_bytes(path.file_name().unwrap());
            oracle::Snapshot::from([(name.to_vec(), all[name].clone())])
        };
        let found = oracle::differences(&only(source), &only(&arrived), &rules);
        assert!(found.is_empty(), "{}", oracle::in_lines(&found));
    }
}
