//! What a run is asked to do, after the command line was parsed. Plain values; the library does nothing beyond them.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64;
use serde_json::{Map, Value};

use crate::attributes::Level;
use crate::identity::{PeerKey, Secret, TransferId};
use crate::lists::{DigestList, Given, List, PathList};
use crate::ticket::Ticket;

/// How the two sides meet.
#[derive(Clone, Debug)]
pub enum Meeting {
    /// Listen and give a ticket.
    Listen {
        /// Address and port; port 0 and `None` mean a random port that is kept for this transfer.
        address: Option<SocketAddr>,
        /// Write the ticket here instead of showing it.
        write_ticket: Option<PathBuf>,
        /// Show and announce a code in place of the ticket.
        shows_code: bool,
    },
    /// Dial the listener of a ticket.
    Dial(Ticket),
    /// As a dialler without a ticket: continue the open transfer of the same description, which has one.
    Continue,
    /// As the child of `--to` or `--from`: listen for its parent, which owns the transfer already.
    Child {
        /// The parent's key.
        owner: PeerKey,
        /// The secret from which the transfer's id is derived.
        secret: Secret,
        /// From where the parent comes.
        reach: Reach,
    },
    /// As the parent of such a child: dial it, again after each restart.
    Parent {
        /// Starts the child and tells its key and addresses; called again when it ended.
        child: ChildCommand,
        /// The directory on the child's side; on another machine as it was typed.
        other: PathBuf,
    },
    /// Continue the open transfer whose state is in this directory of `$LANDFALL_HOME/transfers`.
    Resume(TransferId, Resumption),
}

/// How an open transfer is continued by its id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Resumption {
    /// As it was.
    #[default]
    AsItWas,
    /// At a dialler: its peer is found here now.
    PeerAt(SocketAddr),
    /// At a listener: its peer has lost its identity. A new transfer of the same description takes the place of this one,
    /// and adopts what has come.
    NewTicket,
}

/// How a child process is started: program, arguments, and the JSON it gets on stdin.
#[derive(Clone, Debug)]
pub struct ChildCommand {
    /// Program to run: this very binary, or one that starts it on another machine.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<std::ffi::OsString>,
    /// Options of the child's role, as JSON for its stdin (the parent adds key and secret).
    pub options: serde_json::Value,
    /// Where it runs, if not on this machine.
    pub remote: Option<Remote>,
}

/// Another machine, on which a child runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Its name, as the program that reaches it is told.
    pub host: String,
    /// Datagrams travel through the child's pipes.
    pub is_relayed: bool,
}

/// From where a child can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// From this machine alone.
    Machine,
    /// From wherever the network leads.
    Network,
    /// Through its own pipes.
    Pipes,
}

impl Reach {
    /// All of them.
    pub const ALL: [Reach; 3] = [Reach::Machine, Reach::Network, Reach::Pipes];

    /// The word for it in a child's options.
    pub fn word(self) -> &'static str {
        match self {
            Reach::Machine => "machine",
            Reach::Network => "network",
            Reach::Pipes => "pipes",
        }
    }
}

/// Whether an open transfer of the same description is continued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Continue {
    /// Yes, without asking.
    Open,
    /// No: it is closed and a new one started (`--new`).
    New,
}

/// Options of both roles.
#[derive(Clone, Debug)]
pub struct CommonOptions {
    /// `$LANDFALL_HOME`.
    pub home: PathBuf,
    /// How the sides meet.
    pub meeting: Meeting,
    /// Time without any link after which a taken transfer gives up; `None` is for ever.
    pub patience: Option<Duration>,
    /// How long another side that plans or deletes may say nothing. It may be at work for long without a word, so that only
    /// what was asked for counts; `None`: for ever.
    pub answer_patience: Option<Duration>,
    /// Content that this side lets through in a second; it is not kept with the transfer.
    pub limit_bytes_per_s: Option<NonZeroU64>,
    /// A further copy of the receipt.
    pub receipt: Option<PathBuf>,
    /// Whether an open transfer is continued.
    pub continuation: Continue,
}

/// What of the sources goes. All of it by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Lines as of a gitignore file that lies where the sources arrive: the last that matches says whether something goes,
    /// and nothing goes below a directory that does not.
    pub patterns: Vec<String>,
    /// Whether `.gitignore` and `.ignore` in the tree count.
    pub ignore_files: bool,
    /// Whether what is mounted below a source stays here.
    pub one_file_system: bool,
    /// Of the one directory that is sent only these paths, with what is below them.
    pub listed: Option<Given<PathList>>,
    /// Of the files only those that have these digests.
    pub expected: Option<Given<DigestList>>,
}

impl Selection {
    /// Adds the lists, as far as they are at hand, to the options of a child.
    pub fn put_lists(&self, options: &mut Map<String, Value>) {
        let listed = self.listed.as_ref().and_then(|given| given.list.as_ref()).map(|list| list.encode());
        let expected = self.expected.as_ref().and_then(|given| given.list.as_ref()).map(|list| list.encode());
        for (key, list) in [(LISTED, listed), (EXPECTED, expected)] {
            options.extend(list.map(|list| (key.to_owned(), BASE64.encode(&list).into())));
        }
    }

    /// With the lists that stand in the options of a child. `None` if they cannot be read.
    pub fn with_lists(self, options: &Value) -> Option<Selection> {
        Some(Selection { listed: read_list(options, LISTED)?, expected: read_list(options, EXPECTED)?, ..self })
    }
}

/// Key of the list of paths in the options of a child.
pub const LISTED: &str = "listed";
/// Key of the list of digests there.
pub const EXPECTED: &str = "expected";

fn read_list<L: List>(options: &Value, key: &str) -> Option<Option<Given<L>>> {
    let Some(text) = options.get(key) else { return Some(None) };
    let bytes = BASE64.decode(text.as_str()?.as_bytes()).ok()?;
    Some(Some(Given::new(L::decode(&bytes)?)))
}

/// Options of a sender.
#[derive(Clone, Debug)]
pub struct SendOptions {
    /// What both roles have.
    pub common: CommonOptions,
    /// Sources, as typed.
    pub paths: Vec<PathBuf>,
    /// What of them goes.
    pub selection: Selection,
    /// Whether each file is read a second time, past the cache, before it counts as read.
    pub reads_twice: bool,
}

/// Options of a receiver.
#[derive(Clone, Debug)]
pub struct RecvOptions {
    /// What both roles have.
    pub common: CommonOptions,
    /// Target directory, as typed; it is made if it is not there.
    pub dir: PathBuf,
    /// What happens where the target has something else under a name.
    pub existing: Existing,
    /// Largest transfer that is accepted.
    pub max_bytes: Option<u64>,
    /// Bytes to leave free; `None` is the smaller of 5 % and 2 GiB.
    pub reserve_bytes: Option<u64>,
    /// Lowest level of read-back that counts as success.
    pub accept_level: Level,
    /// Whether somebody is asked first.
    pub consent: Consent,
    /// What the sender that this side starts lets go; of another sender it knows nothing.
    pub selection: Selection,
}

/// What happens where the target has something else under a name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Existing {
    /// It is left untouched and named; exit 5.
    #[default]
    Refuse,
    /// It is left untouched and counted; no exit 5.
    Keep,
    /// It is replaced, reusing what is equal in it.
    Replace,
    /// It is left untouched, and what arrives gets the first name with a number that is free or holds the same.
    Rename,
}

/// Whether somebody is asked before anything is written.
#[derive(Clone)]
pub enum Consent {
    /// Holding the ticket is consent.
    Given,
    /// Ask once per transfer. Called on a thread of its own; may take as long as it likes.
    Ask(Arc<dyn Fn(Question) -> Answer + Send + Sync>),
}

impl fmt::Debug for Consent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Consent::Given => "Given",
            Consent::Ask(_) => "Ask",
        })
    }
}

/// What the user at a listening receiver is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Names of the roots, raw bytes, at most 20 of them.
    pub roots: Vec<Vec<u8>>,
    /// How many roots there are.
    pub root_count: u64,
    /// Files so far.
    pub files: u64,
    /// Bytes so far.
    pub bytes: u64,
    /// Whether the above are totals, or "at least".
    pub is_total: bool,
    /// The sender.
    pub peer: PeerKey,
    /// Its host name, as it says.
    pub host: String,
    /// Roots that exist in the target already.
    pub existing: u64,
    /// Free bytes of the target.
    pub bytes_free: u64,
    /// The target.
    pub dir: PathBuf,
}

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Go ahead; remembered for this transfer.
    Accept,
    /// Do not; the sender hears it.
    Decline,
}
