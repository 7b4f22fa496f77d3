//! A real sshd on loopback with a configuration, keys and a client's configuration of its own: nothing of the machine's or
//! the user's is read or written, but for the empty directory that sshd wants where it is root.

use std::fmt::Write as _;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{facility, process};

/// Where distributions put it; it is not on a user's path.
const SSHD: &str = "/usr/sbin/sshd";
/// Where sshd goes before anybody has logged in, when it is root.
const EMPTY_DIRECTORY: &str = "/run/sshd";

/// A running sshd. The client's configuration knows it as `web1`, as `far` behind a jump through `web1`, and as `gone` on
/// a port where nobody listens.
pub struct Sshd {
    child: Child,
    dir: PathBuf,
    ssh: String,
}

impl Sshd {
    /// `None`, with a word on stderr, where the machine has none.
    pub fn start(test: &str, dir: &Path) -> Option<Sshd> {
        if !Path::new(SSHD).exists() {
            facility::skipped(test, "sshd");
            return None;
        }
        if facility::is_root() {
            fs::create_dir_all(EMPTY_DIRECTORY).unwrap();
        }
        for key in ["host", "user"] {
            let path = dir.join(key).to_string_lossy().into_owned();
            facility::run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &path]).unwrap();
        }
        fs::copy(dir.join("user.pub"), dir.join("authorized")).unwrap();
        let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (address, gone) = (free(), free());
        let here = dir.display();
        let server = format!(
            "ListenAddress {address}\nHostKey {here}/host\nAuthorizedKeysFile {here}/authorized\nPidFile none\n\
             StrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n\
             LogLevel ERROR\n"
        );
        fs::write(dir.join("sshd_config"), server).unwrap();
        let user = String::from_utf8(facility::run("id", &["-un"]).unwrap()).unwrap();
        let mut client = String::new();
        for (name, address, extra) in
            [("web1", address, ""), ("far", address, "ProxyJump web1\n"), ("gone", gone, "ConnectTimeout 5\n")]
        {
            let (ip, port) = (address.ip(), address.port());
            let _ = writeln!(client, "Host {name}\nHostName {ip}\nPort {port}\n{extra}");
        }
        let _ = write!(
            client,
            "Host *\nUser {}\nIdentityFile {here}/user\nIdentitiesOnly yes\nUserKnownHostsFile {here}/known\n\
             StrictHostKeyChecking no\nBatchMode yes\nLogLevel ERROR\n",
            user.trim()
        );
        fs::write(dir.join("ssh_config"), client).unwrap();
        let config = dir.join("sshd_config");
        let mut command = Command::new(SSHD);
        command.args(["-D", "-e", "-f"]).arg(&config).stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.stderr(fs::File::create(dir.join("sshd.log")).unwrap()).spawn().unwrap();
        let sshd = Sshd { child, ssh: format!("ssh -F {here}/ssh_config"), dir: dir.to_owned() };
        let started = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(started.elapsed() < Duration::from_secs(10), "sshd does not listen: {}", sshd.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(sshd)
    }

    /// What `--ssh` is given.
    pub fn ssh(&self) -> &str {
        &self.ssh
    }

    /// What it has said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("sshd.log")).unwrap_or_default()
    }

    /// An installation of landfall at the far end: a program for `--remote-landfall` with a home of its own, which notes
    /// its process id in a file beside it. `below` is shell that ends with running "$@".
    pub fn installation(&self, name: &str, below: &str) -> Installed {
        let (program, pids) = (self.dir.join(name), self.dir.join(format!("{name}.pids")));
        let (home, binary) = (self.dir.join(format!("{name}-home")), process::binary());
        fs::create_dir(&home).unwrap();
        let script = format!(
            "#!/bin/sh\nexport LANDFALL_HOME='{}'\necho $$ >> '{}'\nset -- '{}' \"$@\"\n{below}\n",
            home.display(),
            pids.display(),
            binary.display()
        );
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        Installed { program, pids, home }
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// See [`Sshd::installation`].
pub struct Installed {
    /// For `--remote-landfall`.
    pub program: PathBuf,
    /// Its state.
    pub home: PathBuf,
    pids: PathBuf,
}

impl Installed {
    /// Processes that it was started as, the last one at the end.
    pub fn pids(&self) -> Vec<u32> {
        let text = fs::read_to_string(&self.pids).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Those of them that still run.
    pub fn alive(&self) -> Vec<u32> {
        let lives = |pid: &u32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
        };
        self.pids().into_iter().filter(lives).collect()
    }
}
