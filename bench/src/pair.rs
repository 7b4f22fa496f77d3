//! landfall as its users run it: `recv` that listens and `send` that dials, two processes with a home each.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fault_inject::rig::process::{Landfall, Running};

use crate::program::Ended;

/// How long a listener may take to have its ticket.
const TICKET_PATIENCE: Duration = Duration::from_secs(30);

/// Two sides that can be started, and started again.
#[derive(Clone, Debug)]
pub struct Pair {
    /// Homes and ticket.
    pub state: PathBuf,
    /// What is sent: its contents arrive in the target.
    pub source: PathBuf,
    /// Where.
    pub target: PathBuf,
    /// Address at which the receiver listens.
    pub address: IpAddr,
    /// What the sender runs below.
    pub sender_below: Vec<String>,
    /// What the receiver runs below.
    pub receiver_below: Vec<String>,
    /// Further options of the sender.
    pub sender_options: Vec<String>,
    /// Further options of the receiver.
    pub receiver_options: Vec<String>,
}

impl Pair {
    /// On loopback, with new state below a directory.
    pub fn new(state: &Path, source: &Path, target: &Path) -> Pair {
        Pair {
            state: state.to_owned(),
            source: source.to_owned(),
            target: target.to_owned(),
            address: IpAddr::from([127, 0, 0, 1]),
            sender_below: Vec::new(),
            receiver_below: Vec::new(),
            sender_options: Vec::new(),
            receiver_options: Vec::new(),
        }
    }

    fn ticket(&self) -> PathBuf {
        self.state.join("ticket")
    }

    /// The receiver's command line.
    pub fn receiver(&self) -> Landfall {
        let listen = format!("{}:0", self.address);
        let below: Vec<&str> = self.receiver_below.iter().map(String::as_str).collect();
        let command = Landfall::new("receiver", &self.state.join("receiver")).below(&below);
        let command = command.arg("recv").arg(&self.target).args(["--listen", &listen, "--yes", "--json"]);
        command.arg("--write-ticket").arg(self.ticket()).args(&self.receiver_options)
    }

    /// The sender's command line.
    pub fn sender(&self) -> Landfall {
        let below: Vec<&str> = self.sender_below.iter().map(String::as_str).collect();
        let command = Landfall::new("sender", &self.state.join("sender")).below(&below);
        let command = command.arg("send").arg(self.source.join(".")).arg("--ticket-file").arg(self.ticket());
        command.args(["--yes", "--json"]).args(&self.sender_options)
    }

    /// Starts both, the sender as soon as there is a ticket. Gives the sender first.
    pub fn start(&self) -> Result<(Running, Running), String> {
        std::fs::create_dir_all(&self.state).map_err(|error| format!("{}: {error}", self.state.display()))?;
        let mut receiver = self.receiver().start();
        let deadline = Instant::now() + TICKET_PATIENCE;
        while !self.ticket().exists() {
            if receiver.has_ended() || Instant::now() > deadline {
                return Err(format!("the receiver has no ticket: {}", receiver.stderr().trim()));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok((self.sender().start(), receiver))
    }

    /// Starts both again, each with the command that it had.
    pub fn restart(&self) -> (Running, Running) {
        let receiver = self.receiver().start();
        (self.sender().start(), receiver)
    }

    /// Runs both to their end.
    pub fn run(&self, patience: Duration) -> Result<(), String> {
        match wait(self.start()?, patience)? {
            Ended::Well => Ok(()),
            Ended::Cut => Err(format!("not done within {} s", patience.as_secs())),
        }
    }
}

/// Waits for both sides; both are killed when their time is over.
pub fn wait((mut sender, mut receiver): (Running, Running), patience: Duration) -> Result<Ended, String> {
    let deadline = Instant::now() + patience;
    let mut is_over = false;
    for side in [&mut sender, &mut receiver] {
        is_over |= !side.ends_within(deadline.saturating_duration_since(Instant::now()));
    }
    if is_over {
        sender.kill();
        receiver.kill();
        return Ok(Ended::Cut);
    }
    for finished in [sender.kill(), receiver.kill()] {
        if finished.code() != Some(0) {
            return Err(format!(
                "landfall: {}: {}",
                finished.status,
                finished.stderr_text().trim().replace('\n', "; ")
            ));
        }
    }
    Ok(Ended::Well)
}
