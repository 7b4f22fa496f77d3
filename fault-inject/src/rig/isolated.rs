//! A network of its own for one of the two processes, with nothing in it but a loopback. The sides tell each other all
//! their addresses, so that after a lost link one could dial past a proxy; from here it cannot.

use std::io::{self, BufRead, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::facility;

/// What runs inside and keeps the network alive: it ends by itself when its standard input does, with this process.
const HOLDER: &str = "ip link set lo up && echo up && exec cat";

/// A network namespace that lives until this is dropped.
pub struct Isolated {
    holder: Child,
}

impl Isolated {
    /// `Err` names what this machine or this user lacks.
    pub fn new() -> Result<Isolated, String> {
        if !facility::is_root() {
            return Err("root, for a network namespace".to_owned());
        }
        let holder = Command::new("unshare")
            .args(["--net", "sh", "-c", HOLDER])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let holder = holder.map_err(|error| format!("`unshare`, for a network namespace ({error})"))?;
        let mut isolated = Isolated { holder };
        let mut line = String::new();
        let stdout = isolated.holder.stdout.take().expect("it was asked for");
        let _ = BufReader::new(stdout).read_line(&mut line);
        if line != "up\n" {
            return Err("network namespaces with `unshare` and `ip`".to_owned());
        }
        let entered = isolated.below();
        let (program, arguments) = entered.split_first().expect("it begins with a program");
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).chain(["true"]).collect();
        facility::run(program, &arguments).map_err(|why| format!("`nsenter` ({why})"))?;
        Ok(isolated)
    }

    fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/net", self.holder.id()))
    }

    /// What a program runs below to be inside.
    pub fn below(&self) -> Vec<String> {
        vec!["nsenter".to_owned(), format!("--net={}", self.path().display())]
    }

    /// A socket inside, used from here: a socket stays in the network in which it was made.
    pub fn bind(&self, bind: impl FnOnce() -> io::Result<UdpSocket> + Send + 'static) -> io::Result<UdpSocket> {
        self.inside(bind)
    }

    /// Makes something inside that stays there when it is used from here: a socket, a network device.
    pub fn inside<T: Send + 'static>(&self, make: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
        let inside = std::fs::File::open(self.path())?;
        let made = std::thread::spawn(move || {
            // Only this thread moves, and it ends here.
            rustix::thread::move_into_link_name_space(inside.as_fd(), None)?;
            make()
        });
        made.join().expect("the thread does not panic")
    }

    /// Whether an address outside can be reached from inside: it must not.
    pub fn reaches(&self, address: SocketAddr) -> io::Result<bool> {
        let outside = UdpSocket::bind(address)?;
        outside.set_read_timeout(Some(std::time::Duration::from_millis(100)))?;
        let to = outside.local_addr()?;
        let inside = self.bind(|| UdpSocket::bind("127.0.0.1:0"))?;
        let _ = inside.send_to(b"anyone?", to);
        Ok(outside.recv_from(&mut [0; 16]).is_ok())
    }
}

impl Drop for Isolated {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
