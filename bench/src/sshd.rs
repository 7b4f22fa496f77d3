//! An ssh server of the bench's own for the tools that need one: keys, configuration and log in a scratch directory,
//! nothing of the user's touched, one cipher for all.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use fault_inject::rig::facility;

use crate::program;

/// The fastest one that both ends have on ordinary hardware.
const CIPHER: &str = "aes128-gcm@openssh.com";
/// How long it may take to listen.
const START_PATIENCE: Duration = Duration::from_secs(10);

/// A running server; it ends with this.
pub struct Sshd {
    server: Child,
    client_config: PathBuf,
}

impl Sshd {
    /// At an address, below a program that enters a network if `below` has words.
    pub fn start(dir: &Path, address: IpAddr, below: &[String]) -> Result<Sshd, String> {
        let server = program::find("sshd").ok_or("no `sshd`")?;
        let port = free_port(address).or_else(|_| free_port(IpAddr::from([127, 0, 0, 1])));
        let port = port.map_err(|error| format!("no free port: {error}"))?;
        std::fs::create_dir(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        for key in ["host", "user"] {
            let path = dir.join(key).to_string_lossy().into_owned();
            facility::run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &path])?;
        }
        let _ = std::fs::create_dir("/run/sshd"); // root's servers separate privileges there; it may exist
        let user = facility::run("id", &["-un"])?;
        let (server_config, client_config, log) = (dir.join("server"), dir.join("client"), dir.join("log"));
        let (server_text, client_text) = configuration(dir, address, port, String::from_utf8_lossy(&user).trim());
        for (path, text) in [(&server_config, server_text), (&client_config, client_text)] {
            std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        let words = [server.as_os_str(), "-D".as_ref(), "-e".as_ref(), "-f".as_ref(), server_config.as_os_str()];
        let server = program::start(program::command(below, &words), &log)?;
        let mut sshd = Sshd { server, client_config };
        let deadline = Instant::now() + START_PATIENCE;
        while !std::fs::read_to_string(&log).unwrap_or_default().contains("listening on") {
            if Instant::now() > deadline || !matches!(sshd.server.try_wait(), Ok(None)) {
                return Err(format!("`sshd` does not listen: {}", std::fs::read_to_string(&log).unwrap_or_default()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(sshd)
    }

    /// What a client is given: the host is called `peer`.
    pub fn client_config(&self) -> &Path {
        &self.client_config
    }

    /// The command for tools that ask for one.
    pub fn client(&self) -> String {
        format!("ssh -F {}", self.client_config.display())
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// A port that nobody uses at the moment.
fn free_port(address: IpAddr) -> std::io::Result<u16> {
    Ok(TcpListener::bind(SocketAddr::new(address, 0))?.local_addr()?.port())
}

/// The client of a run that was cut is gone without a word: its session asks for it, and ends.
fn configuration(dir: &Path, address: IpAddr, port: u16, user: &str) -> (String, String) {
    let dir = dir.display();
    let server = format!(
        "Port {port}\nListenAddress {address}\nHostKey {dir}/host\nAuthorizedKeysFile {dir}/user.pub\nPidFile none\n\
         StrictModes no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\nUsePAM no\n\
         Subsystem sftp internal-sftp\nCiphers {CIPHER}\nClientAliveInterval 10\nClientAliveCountMax 3\n"
    );
    let client = format!(
        "Host peer\n HostName {address}\n Port {port}\n User {user}\n IdentityFile {dir}/user\n IdentitiesOnly yes\n \
         StrictHostKeyChecking no\n UserKnownHostsFile /dev/null\n LogLevel ERROR\n Ciphers {CIPHER}\n Compression no\n"
    );
    (server, client)
}
