//! Meetings over loopback, both sides in this process, each with its own home. Here: what the tests share.

#![allow(clippy::unwrap_used)]

mod family;
mod links;
mod refusals;
mod restarts;

use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use super::{HelloExtras, Meet, Met, Opened, Wish};
use crate::disk::RealDisk;
use crate::error::Error;
use crate::event::{Event, Events, Notice};
use crate::identity::Role;
use crate::limits::CHUNK_BYTES;
use crate::net::{Identity, LinkError};
use crate::options::{CommonOptions, Continue, Meeting, Resumption, Selection};
use crate::state::home::Home;
use crate::state::transfer::Settings;
use crate::ticket::Ticket;

/// Longer than anything here takes on a machine that works.
const PATIENCE: Duration = Duration::from_secs(20);

/// An installation: a home, and what its runs emit.
struct Installation {
    dir: TempDir,
    identity: Arc<Identity>,
}

/// A run of one side.
struct Run {
    meet: Meet,
    events: Receiver<Event>,
}

impl Installation {
    fn new() -> Installation {
        let dir = tempfile::tempdir().unwrap();
        let identity = Arc::new(Home::open(dir.path()).unwrap().identity().unwrap());
        Installation { dir, identity }
    }

    fn home(&self) -> Home<RealDisk> {
        Home::open(self.dir.path()).unwrap()
    }

    fn common(&self, meeting: Meeting) -> CommonOptions {
        CommonOptions {
            answer_patience: None,
            limit_bytes_per_s: None,
            home: self.dir.path().to_owned(),
            meeting,
            patience: None,
            receipt: None,
            continuation: Continue::Open,
        }
    }

    async fn open(&self, role: Role, meeting: Meeting) -> Result<Run, Error> {
        self.open_common(role, &self.common(meeting)).await
    }

    async fn open_common(&self, role: Role, common: &CommonOptions) -> Result<Run, Error> {
        let settings = Settings { patience: common.patience, ..Settings::default() };
        let wish = Wish { role, paths: vec![PathBuf::from("/the/tree")], selection: Selection::default(), settings };
        let (sender, events) = sync_channel(1000);
        let opened = Meet::open(common, wish, self.home(), Arc::clone(&self.identity), Events::new(sender)).await?;
        match opened {
            Opened::Meet(mut meet) => {
                meet.invite()?;
                Ok(Run { meet: *meet, events })
            }
            Opened::Finished(record) => panic!("{} is finished", record.id),
        }
    }

    async fn listen(&self, role: Role) -> Run {
        self.open(role, listen_on_loopback()).await.unwrap()
    }

    async fn dial(&self, role: Role, ticket: &Ticket) -> Run {
        self.open(role, Meeting::Dial(ticket.clone())).await.unwrap()
    }
}

impl Run {
    /// The ticket that this listener has shown.
    fn ticket(&self) -> Ticket {
        let text = self.events.try_iter().find_map(|event| match event {
            Event::Ticket { text, .. } => Some(text),
            _ => None,
        });
        Ticket::decode(&text.expect("a listener shows a ticket")).unwrap()
    }

    fn refusals(&self) -> Vec<String> {
        let refusal = |event| match event {
            Event::Notice(Notice::Refused { why, .. }) => Some(why),
            _ => None,
        };
        self.events.try_iter().filter_map(refusal).collect()
    }

    async fn next(&mut self) -> Result<Met, Error> {
        timeout(PATIENCE, self.meet.next(extras)).await.expect("something happens in time")
    }
}

/// Ends a listener's run as a kill would, without a word; returns when its port is free.
async fn kill(run: Run) {
    let port = run.meet.record().port.unwrap();
    drop(run);
    while UdpSocket::bind(("127.0.0.1", port)).is_err() {
        sleep(Duration::from_millis(1)).await;
    }
}

fn listen_on_loopback() -> Meeting {
    Meeting::Listen { address: Some(SocketAddr::from(([127, 0, 0, 1], 0))), write_ticket: None, shows_code: false }
}

fn extras() -> HelloExtras {
    HelloExtras { chunk_bytes: CHUNK_BYTES, ..HelloExtras::default() }
}

/// Both sides' next link, which must be the same one.
async fn meet(left: &mut Run, right: &mut Run) -> (Met, Met) {
    let (left, right) = tokio::join!(left.next(), right.next());
    let (left, right) = (left.unwrap(), right.unwrap());
    assert_eq!(left.link.exporter(), right.link.exporter());
    (left, right)
}

/// What one side hears while the other goes on accepting. The accepting side must not fail or meet anybody.
async fn hears(run: &mut Run, accepting: &mut Run) -> Error {
    tokio::select! {
        result = run.next() => result.expect_err("it is not admitted"),
        other = accepting.next() => panic!("the accepting side: {other:?}"),
    }
}
