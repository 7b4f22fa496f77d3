//! The child's end of the pipes between `--to` or `--from` and the other side that it starts. One line each way, JSON:
//!
//! ```text
//! parent to child  {"owner":"KEY","secret":"HEX","options":{...}}      and then the pipe stays open
//! child to parent  ready {"id":"HEX","key":"KEY","addresses":["127.0.0.1:20001"]}                 and then nothing
//!
//! parent to child  {"plan":{...}}                               a dry run: what follows both ways is `plan/`'s
//! ```
//!
//! The end of the first pipe is the end of the parent, whatever became of it; the child ends too. On another machine the
//! pipes are ssh's; where that is all that gets there, QUIC's datagrams follow the lines both ways (`net/relay.rs`). What
//! stands in the options is `cli/`'s business.

use std::fmt;
use std::io::{BufRead, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::thread;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::oneshot;

use crate::error::Error;
use crate::identity::{PeerKey, Secret, TransferId};
use crate::limits::CHILD_LINE_BYTES_MAX;
use crate::net::relay;

const READY: &str = "ready ";

/// What a child is started for.
#[derive(Debug)]
pub enum Task {
    /// A transfer.
    Transfer(ChildTask),
    /// A dry run, with the options of the child's role.
    Plan(Value),
}

/// What a child of a transfer is told.
#[derive(Debug)]
pub struct ChildTask {
    /// The parent's key, which owns the transfer from the start.
    pub owner: PeerKey,
    /// The secret that names the transfer.
    pub secret: Secret,
    /// Options of the child's role, as the parent's command line made them.
    pub options: Value,
}

#[derive(Serialize, Deserialize)]
struct TaskLine {
    owner: String,
    secret: String,
    options: Value,
}

#[derive(Serialize, Deserialize)]
struct PlanLine {
    plan: Value,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum FirstLine {
    Plan(PlanLine),
    Transfer(TaskLine),
}

#[derive(Serialize, Deserialize)]
struct ReadyLine {
    id: String,
    key: String,
    addresses: Vec<SocketAddr>,
}

/// What a child says when it listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ready {
    pub(super) id: TransferId,
    pub(super) key: PeerKey,
    pub(super) addresses: Vec<SocketAddr>,
}

/// Reads what a child is told: one line of its stdin. Nothing behind the line is lost, if later reads go through the
/// same buffer.
pub fn read_task(input: &mut impl BufRead) -> Result<Task, Error> {
    let wrong = |_| Error::Usage("stdin does not hold what a parent process tells its child".to_owned());
    let mut line = String::new();
    input.take(CHILD_LINE_BYTES_MAX as u64).read_line(&mut line).map_err(|source| Error::Local {
        what: "pipe",
        object: PathBuf::from("stdin"),
        problem: "could not be read",
        source: Some(source),
    })?;
    let line = match serde_json::from_str(&line).map_err(|_| ()).map_err(wrong)? {
        FirstLine::Plan(PlanLine { plan }) => return Ok(Task::Plan(plan)),
        FirstLine::Transfer(line) => line,
    };
    let owner = PeerKey(bytes(&line.owner).ok_or(()).map_err(wrong)?);
    let secret = Secret::from_bytes(bytes(&line.secret).ok_or(()).map_err(wrong)?);
    Ok(Task::Transfer(ChildTask { owner, secret, options: line.options }))
}

/// The line that tells a child to plan.
pub(crate) fn plan_line(options: &Value) -> Vec<u8> {
    line(&PlanLine { plan: options.clone() })
}

/// The line that tells a child what to do.
pub(super) fn task_line(owner: PeerKey, secret: &Secret, options: &Value) -> Vec<u8> {
    let (owner, secret) = (HEXLOWER.encode(&owner.0), HEXLOWER.encode(secret.expose()));
    line(&TaskLine { owner, secret, options: options.clone() })
}

impl Ready {
    fn line(&self) -> Vec<u8> {
        let (id, key) = (self.id.to_string(), HEXLOWER.encode(&self.key.0));
        [READY.as_bytes(), &line(&ReadyLine { id, key, addresses: self.addresses.clone() })].concat()
    }

    /// Whether a line is meant to be a child's.
    pub(super) fn is_meant(text: &str) -> bool {
        text.starts_with(READY)
    }

    /// What a child's line says, if it is one.
    pub(super) fn parse(text: &str) -> Option<Ready> {
        let line: ReadyLine = serde_json::from_str(text.strip_prefix(READY)?).ok()?;
        Some(Ready { id: line.id.parse().ok()?, key: PeerKey(bytes(&line.key)?), addresses: line.addresses })
    }
}

fn line(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(value).expect("all keys are texts, and encoding into memory works");
    bytes.push(b'\n');
    bytes
}

fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok()
}

/// The address of this machine to which its user has logged in, as sshd tells it: one that reaches it from there.
pub(super) fn address_of_login(port: u16) -> Vec<SocketAddr> {
    let told = std::env::var("SSH_CONNECTION").unwrap_or_default();
    let address: Option<IpAddr> = told.split(' ').nth(2).and_then(|word| word.parse().ok());
    address.map(|address| SocketAddr::new(address, port)).into_iter().collect()
}

/// The child's pipes to its parent.
pub(super) struct Pipes {
    pub(super) input: Box<dyn Read + Send>,
    pub(super) output: Box<dyn Write + Send>,
}

impl Pipes {
    /// Those that the process was started with.
    pub(super) fn of_process() -> Pipes {
        Pipes { input: Box::new(std::io::stdin()), output: Box::new(std::io::stdout()) }
    }

    /// Tells the parent where this child listens, and watches for the parent's end. Given an address, datagrams for it come
    /// through the pipes from then on.
    pub(super) fn announce(mut self, ready: &Ready, relayed_to: Option<SocketAddr>) -> Result<ParentWatch, Error> {
        let failed = |source| Error::Local {
            what: "pipe",
            object: PathBuf::from("stdout"),
            problem: "to the parent process is closed",
            source: Some(source),
        };
        self.output.write_all(&ready.line()).and_then(|()| self.output.flush()).map_err(failed)?;
        match relayed_to {
            Some(listener) => relay::serve(self.input, self.output, listener).map(ParentWatch).map_err(failed),
            None => Ok(ParentWatch::start(self.input)),
        }
    }
}

impl fmt::Debug for Pipes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pipes")
    }
}

/// Finds out when the parent is gone. The thread behind it ends with the pipe or the process: a read of a pipe cannot
/// be taken back.
#[derive(Debug)]
pub(super) struct ParentWatch(oneshot::Receiver<()>);

impl ParentWatch {
    fn start(mut input: Box<dyn Read + Send>) -> ParentWatch {
        let (sender, receiver) = oneshot::channel();
        thread::spawn(move || {
            let mut ignored = [0; 64];
            while matches!(input.read(&mut ignored), Ok(1..)) {}
            // Nobody listens any more where the child has ended first.
            let _ = sender.send(());
        });
        ParentWatch(receiver)
    }

    /// Waits for the parent's end. May be cancelled.
    pub(super) async fn gone(&mut self) {
        // Without the thread nothing can be known, and the parent is as good as gone.
        let _ = (&mut self.0).await;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn a_task_survives_its_line_and_leaves_the_rest() {
        let options = json!({"dir": "/x", "accept_level": null});
        let mut input = task_line(PeerKey([1; 32]), &Secret::from_bytes([2; 16]), &options);
        input.extend_from_slice(b"rest");
        let mut input = &input[..];
        let Task::Transfer(task) = read_task(&mut input).unwrap() else { panic!("not a transfer") };
        assert_eq!((task.owner, *task.secret.expose(), task.options), (PeerKey([1; 32]), [2; 16], options));
        assert_eq!(input, b"rest");
    }

    #[test]
    fn a_plan_is_no_transfer() {
        let options = json!({"role": "receiver", "path": "/x"});
        let Task::Plan(told) = read_task(&mut &plan_line(&options)[..]).unwrap() else { panic!("not a plan") };
        assert_eq!(told, options);
    }

    #[test]
    fn what_is_no_task_is_a_matter_of_usage() {
        for text in ["", "\n", "{}\n", "{\"owner\":\"00\",\"secret\":\"00\",\"options\":{}}\n"] {
            assert!(matches!(read_task(&mut text.as_bytes()), Err(Error::Usage(_))), "{text}");
        }
    }

    #[test]
    fn a_ready_line_is_as_documented() {
        let ready = Ready {
            id: TransferId([0xAB; 16]),
            key: PeerKey([1; 32]),
            addresses: vec!["127.0.0.1:9".parse().unwrap()],
        };
        let text = String::from_utf8(ready.line()).unwrap();
        let (id, key) = ("ab".repeat(16), "01".repeat(32));
        assert_eq!(text, format!("ready {{\"id\":\"{id}\",\"key\":\"{key}\",\"addresses\":[\"127.0.0.1:9\"]}}\n"));
        assert_eq!(Ready::parse(text.trim_end()), Some(ready));
        for bad in ["", "ready", "ready {}", "error {}", &text[6..]] {
            assert_eq!(Ready::parse(bad), None, "{bad}");
        }
    }
}
