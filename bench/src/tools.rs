//! The tools that are compared, each as a careful user would call it. What a tool does not do (check, sync, read back)
//! stands in `promises`, so that a faster one is not taken for a better one.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use fault_inject::rig::{facility, process};

use crate::pair::Pair;
use crate::sshd::Sshd;
use crate::{direct, program};

/// A way to copy a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Tool {
    /// `cp -a`, then `sync`: the floor of writing, without a network.
    Cp,
    /// The same, then an O_DIRECT read of everything with a hash: the floor of a verified copy.
    Careful,
    /// `rsync -a` over ssh.
    Rsync,
    /// `rsync -a --fsync`.
    RsyncFsync,
    /// `rsync -a`, then `rsync -a -c` over the result.
    RsyncC,
    /// `scp -rp`.
    Scp,
    /// `tar` through ssh.
    Tar,
    /// `qcp`.
    Qcp,
    /// `sendme`.
    Sendme,
    /// landfall, two processes.
    Landfall,
    /// `landfall send --to`, a copy on one machine.
    LandfallTo,
    /// The same command once more after its success; only that is timed.
    LandfallAgain,
    /// `rsync -a -c` over what `rsync -a` has made; only that is timed.
    RsyncAgain,
}

impl Tool {
    /// As it stands on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Tool::Cp => "cp",
            Tool::Careful => "careful",
            Tool::Rsync => "rsync",
            Tool::RsyncFsync => "rsync-fsync",
            Tool::RsyncC => "rsync-c",
            Tool::Scp => "scp",
            Tool::Tar => "tar",
            Tool::Qcp => "qcp",
            Tool::Sendme => "sendme",
            Tool::Landfall => "landfall",
            Tool::LandfallTo => "landfall-to",
            Tool::LandfallAgain => "landfall-again",
            Tool::RsyncAgain => "rsync-again",
        }
    }

    /// What has been done when it says that it is done.
    pub fn promises(self) -> &'static str {
        match self {
            Tool::Cp => "synced; nothing compared",
            Tool::Careful => "synced; read from the device and hashed; no network",
            Tool::Rsync => "a checksum of the stream",
            Tool::RsyncFsync => "a checksum of the stream; synced file by file",
            Tool::RsyncC | Tool::RsyncAgain => "both sides hashed, from the cache",
            Tool::Scp | Tool::Tar | Tool::Qcp => "nothing beyond the transport",
            Tool::Sendme => "chunks verified on arrival",
            Tool::Landfall | Tool::LandfallTo | Tool::LandfallAgain => {
                "synced; read from the device and verified; a signed receipt"
            }
        }
    }

    /// What this machine lacks for it.
    pub fn lacks(self) -> Option<String> {
        let programs: &[&str] = match self {
            Tool::Cp | Tool::Careful => &["cp", "sync"],
            Tool::Rsync | Tool::RsyncFsync | Tool::RsyncC | Tool::RsyncAgain => &["rsync", "ssh", "sshd", "ssh-keygen"],
            Tool::Scp => &["scp", "ssh", "sshd", "ssh-keygen"],
            Tool::Tar => &["tar", "ssh", "sshd", "ssh-keygen"],
            Tool::Qcp => &["qcp", "ssh", "sshd", "ssh-keygen"],
            Tool::Sendme => &["sendme"],
            Tool::Landfall | Tool::LandfallTo | Tool::LandfallAgain => &[],
        };
        let missing = programs.iter().find(|name| program::find(name).is_none());
        missing.map(|name| format!("`{name}` is not installed"))
    }

    /// Whether it runs over ssh.
    pub fn needs_ssh(self) -> bool {
        matches!(
            self,
            Tool::Rsync | Tool::RsyncFsync | Tool::RsyncC | Tool::RsyncAgain | Tool::Scp | Tool::Tar | Tool::Qcp
        )
    }

    /// Where the tree stands that arrived in `target`: some put the named directory inside.
    pub fn arrived(self, source: &Path, target: &Path) -> PathBuf {
        match source.file_name() {
            Some(name) if matches!(self, Tool::Qcp | Tool::Sendme) => target.join(name),
            _ => target.to_owned(),
        }
    }
}

/// Where tools run.
pub struct Workshop {
    dir: PathBuf,
    patience: Duration,
    address: IpAddr,
    sender_below: Vec<String>,
    receiver_below: Vec<String>,
    sshd: Option<Sshd>,
}

impl Workshop {
    /// On loopback, with its files in a directory.
    pub fn new(dir: &Path, patience: Duration) -> Workshop {
        let (sender_below, receiver_below) = (Vec::new(), Vec::new());
        let address = IpAddr::from([127, 0, 0, 1]);
        Workshop { dir: dir.to_owned(), patience, address, sender_below, receiver_below, sshd: None }
    }

    /// The two sides in networks of their own, the receiver at that address.
    pub fn between(mut self, sender_below: Vec<String>, receiver_below: Vec<String>, address: IpAddr) -> Workshop {
        (self.sender_below, self.receiver_below, self.address) = (sender_below, receiver_below, address);
        self
    }

    /// Starts what the tools need beside them.
    pub fn with_ssh(mut self) -> Result<Workshop, String> {
        self.sshd = Some(Sshd::start(&self.dir.join("ssh"), self.address, &self.receiver_below)?);
        Ok(self)
    }

    fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    fn ssh(&self) -> Result<&Sshd, String> {
        self.sshd.as_ref().ok_or_else(|| "no ssh server".to_owned())
    }

    fn run_words(&self, words: &[&str]) -> Result<(), String> {
        program::run(program::command(&self.sender_below, words), &self.log(), self.patience)
    }

    /// A pair of landfall processes from here to there.
    pub fn pair(&self, source: &Path, target: &Path) -> Result<Pair, String> {
        let state = tempfile::Builder::new().prefix("state-").tempdir_in(&self.dir);
        let state = state.map_err(|error| format!("{}: {error}", self.dir.display()))?.keep();
        let mut pair = Pair::new(&state, source, target);
        pair.address = self.address;
        (pair.sender_below, pair.receiver_below) = (self.sender_below.clone(), self.receiver_below.clone());
        Ok(pair)
    }

    /// What has to stand in `target` before the clock starts.
    pub fn prepare(&self, tool: Tool, source: &Path, target: &Path) -> Result<(), String> {
        match tool {
            Tool::LandfallAgain => self.local_copy(source, target),
            Tool::RsyncAgain => self.run(Tool::Rsync, source, target),
            _ => Ok(()),
        }
    }

    /// One command for both sides, with a state of its own for each target.
    fn local_copy(&self, source: &Path, target: &Path) -> Result<(), String> {
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let home = format!("LANDFALL_HOME={}", self.dir.join(format!("home-{name}")).display());
        let (program, from) = (process::binary(), format!("{}/.", source.display()));
        let words = ["env", &home, &program.to_string_lossy(), "send", &from, "--to", &target.to_string_lossy(), "-q"];
        self.run_words(&words)
    }

    /// Copies the contents of `source` into the empty directory `target`. An error says why it failed.
    pub fn run(&self, tool: Tool, source: &Path, target: &Path) -> Result<(), String> {
        let (from, to) = (source.to_string_lossy(), target.to_string_lossy());
        match tool {
            Tool::Cp | Tool::Careful => {
                self.run_words(&["cp", "-a", &format!("{from}/."), &to])?;
                self.run_words(&["sync", "-f", &to])?;
                if tool == Tool::Careful {
                    let files = direct::files_below(target);
                    let read = files.and_then(|files| direct::read_and_hash(&files));
                    read.map_err(|error| format!("read past the cache: {error}"))?;
                }
                Ok(())
            }
            Tool::Rsync | Tool::RsyncFsync | Tool::RsyncC | Tool::RsyncAgain => self.rsync(tool, &from, &to),
            Tool::Scp => {
                let config = self.ssh()?.client_config().to_string_lossy();
                self.run_words(&["scp", "-F", &config, "-rpq", &format!("{from}/."), &format!("peer:{to}")])
            }
            Tool::Tar => {
                let ssh = self.ssh()?.client();
                let script = format!("tar -C '{from}' -cf - . | {ssh} peer \"tar -C '{to}' -xf -\"");
                self.run_words(&["sh", "-c", &script])
            }
            Tool::Qcp => self.qcp(&from, &to),
            Tool::Sendme => self.sendme(source, target),
            Tool::Landfall => self.pair(source, target)?.run(self.patience),
            Tool::LandfallTo | Tool::LandfallAgain => self.local_copy(source, target),
        }
    }

    fn rsync(&self, tool: Tool, from: &str, to: &str) -> Result<(), String> {
        let (ssh, from, to) = (self.ssh()?.client(), format!("{from}/"), format!("peer:{to}/"));
        let mut words = vec!["rsync", "-a", "-e", &ssh, &from, &to];
        if tool == Tool::RsyncFsync {
            words.insert(2, "--fsync");
        }
        if tool != Tool::RsyncAgain {
            self.run_words(&words)?;
        }
        if matches!(tool, Tool::RsyncC | Tool::RsyncAgain) {
            words.insert(2, "-c");
            self.run_words(&words)?;
        }
        Ok(())
    }

    /// A plain `rsync`, not started yet, and where its diagnostics go.
    pub fn rsync_command(&self, source: &Path, target: &Path) -> Result<(Command, PathBuf), String> {
        let (from, to) = (format!("{}/", source.display()), format!("peer:{}/", target.display()));
        let words = ["rsync", "-a", "-e", &self.ssh()?.client(), &from, &to];
        Ok((program::command(&self.sender_below, &words), self.log()))
    }

    fn qcp(&self, from: &str, to: &str) -> Result<(), String> {
        let config = self.ssh()?.client_config().to_string_lossy();
        let qcp = program::find("qcp").ok_or("no `qcp`")?;
        let (qcp, to) = (qcp.to_string_lossy(), format!("peer:{to}"));
        let ssh = ["--ssh-config", &config, "-S", "-F", "-S", &config, "--remote-qcp-binary", &qcp];
        let words = [&[&*qcp, "-q", "-r", "-p"], &ssh[..], &[from, &to]].concat();
        self.run_words(&words)
    }

    /// The sender prints a ticket, the receiver dials it: direct addresses only, no relay.
    fn sendme(&self, source: &Path, target: &Path) -> Result<(), String> {
        let home = tempfile::tempdir_in(&self.dir).map_err(|error| error.to_string())?;
        let (said, log) = (home.path().join("said"), home.path().join("log"));
        let direct = ["--no-progress", "--relay", "disabled"];
        let from = source.to_string_lossy();
        let words = [&["sendme", "send"], &direct[..], &["--ticket-type", "addresses", &from]].concat();
        let mut command: Command = program::command(&self.sender_below, &words);
        let out = std::fs::File::create(&said).map_err(|error| error.to_string())?;
        command.current_dir(home.path()).stdout(out);
        let mut sender = program::start(command, &log)?;
        let received = ticket_in(&said, self.patience).and_then(|ticket| {
            let words = [&["sendme", "receive"], &direct[..], &[&ticket]].concat();
            let mut command = program::command(&self.receiver_below, &words);
            command.current_dir(target);
            program::run(command, &self.log(), self.patience)
        });
        let _ = sender.kill();
        let _ = sender.wait();
        received
    }
}

/// The ticket that `sendme` prints as the last word of the command for the other side.
fn ticket_in(said: &Path, patience: Duration) -> Result<String, String> {
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline {
        let text = std::fs::read_to_string(said).unwrap_or_default();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        if let Some(line) = whole.lines().find(|line| line.contains("sendme receive")) {
            return line.split_whitespace().last().map(str::to_owned).ok_or_else(|| "an empty line".to_owned());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Err("`sendme` printed no ticket".to_owned())
}

/// A fresh ext4 in a file, for targets with many files: a used disk varies tenfold from run to run.
pub fn fresh_ext4(below: &Path, gib: u64) -> Result<facility::LoopImage, String> {
    let image = facility::LoopImage::mounted("--ext4", below, gib << 30);
    image.ok_or_else(|| "no ext4 image could be mounted".to_owned())
}
