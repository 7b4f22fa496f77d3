//! A transfer's record: what a side has to know to continue it after any crash, as values and as JSON, and which
//! record a command line means. It touches no disk; `home` does.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::attributes::Level;
use crate::digest::ListDigest;
use crate::identity::{PeerKey, Role, Secret, TransferId};
use crate::lists::Given;
use crate::options::{
    ChildCommand, CommonOptions, Consent, Continue, Existing, Meeting, RecvOptions, Remote, Resumption, Selection,
    SendOptions,
};
use crate::state::files::{Damage, Kind, disclose, enclose};
use crate::state::text::{hex, path};

const KIND: Kind = Kind { name: "landfall transfer", version: 1 };

impl hex::Bytes for TransferId {
    fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn from_bytes(bytes: &[u8]) -> Option<TransferId> {
        bytes.try_into().map(TransferId).ok()
    }
}

impl hex::Bytes for PeerKey {
    fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn from_bytes(bytes: &[u8]) -> Option<PeerKey> {
        bytes.try_into().map(PeerKey).ok()
    }
}

impl hex::Bytes for ListDigest {
    fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn from_bytes(bytes: &[u8]) -> Option<ListDigest> {
        bytes.try_into().map(ListDigest).ok()
    }
}

impl hex::Bytes for Secret {
    fn bytes(&self) -> &[u8] {
        self.expose()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Secret> {
        bytes.try_into().map(Secret::from_bytes).ok()
    }
}

/// How this side takes part in the meeting. It never changes during a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// Gave the ticket.
    Listener,
    /// Got the ticket.
    Dialler,
    /// Starts the other side as a child and dials it.
    Parent,
    /// Was started by its parent and listens for it.
    Child,
}

impl Side {
    /// Whether this side makes links instead of waiting for them.
    pub fn dials(self) -> bool {
        matches!(self, Side::Dialler | Side::Parent)
    }
}

/// How a transfer was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum End {
    /// The summary was printed, and both sides hold the receipt.
    Finished,
    /// The summary was printed; the sender has not confirmed the receipt, and `resume` answers it.
    Unconfirmed,
    /// A new transfer of the same description took its place, or its ticket expired.
    Abandoned,
}

/// That a transfer is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    /// When, in seconds since 1970.
    pub seconds: u64,
    /// How.
    pub end: End,
}

/// Options of a receiver that `resume` needs again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiverSettings {
    /// What happens where the target has something else under a name.
    pub existing: Existing,
    /// Largest transfer that is accepted.
    pub max_bytes: Option<u64>,
    /// Bytes to leave free.
    pub reserve_bytes: Option<u64>,
    /// Lowest level of read-back that counts as success.
    pub accept_level: Level,
}

/// Options that `resume` needs again.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Settings {
    /// Time without any link after which a taken transfer gives up; `None` is for ever.
    pub patience: Option<Duration>,
    /// A further copy of the receipt.
    pub receipt: Option<PathBuf>,
    /// At a sender: whether each file is read twice.
    pub reads_twice: bool,
    /// Only at a receiver.
    pub receiver: Option<ReceiverSettings>,
}

/// What one side knows of one transfer, besides its data.
#[derive(Clone, Debug)]
pub struct TransferRecord {
    /// Which.
    pub id: TransferId,
    /// What this side does with the data.
    pub role: Role,
    /// Who listens and who dials.
    pub side: Side,
    /// Where a listener binds: the address that was asked for, if one was, with the port that it got.
    pub listen: Option<SocketAddr>,
    /// The port that a listener got and binds again.
    pub port: Option<u16>,
    /// The ticket's secret, until the ticket is taken. Erased then.
    pub secret: Option<Secret>,
    /// Until when the ticket can be taken, in seconds since 1970.
    pub expiry_seconds: u64,
    /// The peer: at a listener whoever took the ticket, once somebody has; at a dialler the ticket's key.
    pub peer: Option<PeerKey>,
    /// Where a dialler reaches its peer, as the ticket and then the peer itself said.
    pub addresses: Vec<SocketAddr>,
    /// Canonical sources of a sender, or the one target directory of a receiver.
    pub paths: Vec<PathBuf>,
    /// What of a sender's sources goes; at a receiver, of those of the sender that it starts.
    pub selection: Selection,
    /// Of a parent: the directory on the child's side.
    pub other: Option<PathBuf>,
    /// Of a parent: how the child is started.
    pub child: Option<ChildCommand>,
    /// Of a listener: where its ticket is written instead of being shown.
    pub write_ticket: Option<PathBuf>,
    /// Of a listener: whether a code is shown in place of its ticket.
    pub shows_code: bool,
    /// Options of this side.
    pub settings: Settings,
    /// When it began here, in seconds since 1970.
    pub created_seconds: u64,
    /// Whether the user at a receiver has agreed. Never asked again then.
    pub is_agreed: bool,
    /// That it is closed, if it is.
    pub closed: Option<Closed>,
}

impl From<&RecvOptions> for Settings {
    fn from(options: &RecvOptions) -> Settings {
        let receiver = ReceiverSettings {
            existing: options.existing,
            max_bytes: options.max_bytes,
            reserve_bytes: options.reserve_bytes,
            accept_level: options.accept_level,
        };
        Settings { receiver: Some(receiver), ..Settings::from(&options.common) }
    }
}

impl From<&CommonOptions> for Settings {
    fn from(options: &CommonOptions) -> Settings {
        Settings { patience: options.patience, receipt: options.receipt.clone(), ..Settings::default() }
    }
}

impl TransferRecord {
    /// Whether the transfer is to be continued by the same command or by `resume`.
    pub fn is_open(&self) -> bool {
        self.closed.is_none()
    }

    /// Whether `resume` has something to do: it is open, or the sender may not know that all is done. A child is
    /// continued by its parent.
    pub fn is_resumable(&self) -> bool {
        let answers = self.closed.is_some_and(|closed| closed.end == End::Unconfirmed);
        self.side != Side::Child && (self.is_open() || answers)
    }

    /// Whether the peer was ever met: the ticket is taken then, and its secret forgotten. A parent meets nobody else.
    pub fn was_taken(&self) -> bool {
        self.secret.is_none() || self.side == Side::Parent
    }

    /// Whether it is about these sources, in any order, or this target directory.
    pub fn has_paths(&self, paths: &[PathBuf]) -> bool {
        self.paths.iter().all(|path| paths.contains(path)) && paths.iter().all(|path| self.paths.contains(path))
    }

    /// Whether nobody took the ticket and nobody can any more.
    pub fn is_expired(&self, now_seconds: u64) -> bool {
        self.side == Side::Listener && self.peer.is_none() && now_seconds >= self.expiry_seconds
    }

    /// The options with which `resume` continues a sender.
    pub fn send_options(&self, home: PathBuf) -> SendOptions {
        SendOptions {
            common: self.common_options(home),
            paths: self.paths.clone(),
            selection: self.selection.clone(),
            reads_twice: self.settings.reads_twice,
        }
    }

    /// The options with which `resume` continues a receiver; `None` if this is no receiver's record. Whoever has
    /// agreed is not asked again.
    pub fn recv_options(&self, home: PathBuf, consent: Consent) -> Option<RecvOptions> {
        let (settings, dir) = (self.settings.receiver?, self.paths.first()?.clone());
        Some(RecvOptions {
            common: self.common_options(home),
            dir,
            existing: settings.existing,
            max_bytes: settings.max_bytes,
            reserve_bytes: settings.reserve_bytes,
            accept_level: settings.accept_level,
            consent: if self.is_agreed { Consent::Given } else { consent },
            selection: self.selection.clone(),
        })
    }

    fn common_options(&self, home: PathBuf) -> CommonOptions {
        CommonOptions {
            answer_patience: None,
            limit_bytes_per_s: None,
            home,
            meeting: Meeting::Resume(self.id, Resumption::AsItWas),
            patience: self.settings.patience,
            receipt: self.settings.receipt.clone(),
            continuation: Continue::Open,
        }
    }

    /// The bytes of the record's file.
    pub fn encode(&self) -> Vec<u8> {
        let stored = Stored::of(self);
        let mut body = serde_json::to_vec_pretty(&stored).expect("all keys are texts, and encoding into memory works");
        body.push(b'\n');
        enclose(KIND, &body)
    }

    /// Parses a record's file.
    pub fn decode(bytes: &[u8]) -> Result<TransferRecord, Damage> {
        let stored: Stored = serde_json::from_slice(disclose(KIND, bytes)?).map_err(|_| Damage::Damaged)?;
        stored.into_record().ok_or(Damage::Damaged)
    }
}

/// What a command line says about a transfer.
#[derive(Clone, Copy, Debug)]
pub struct Description<'a> {
    /// What this side does.
    pub role: Role,
    /// Canonical sources, or the one target directory.
    pub paths: &'a [PathBuf],
    /// What of the sources goes; `None` is any choice.
    pub selection: Option<&'a Selection>,
    /// DEST of `--to` or `--from`.
    pub other: Option<&'a Path>,
    /// Now, in seconds since 1970.
    pub now_seconds: u64,
}

impl Description<'_> {
    /// The open records that it means. A ticket nobody can take any more is not continued, and a child is not
    /// anybody's but its parent's.
    pub fn matching<'r>(&self, records: &'r [TransferRecord]) -> Vec<&'r TransferRecord> {
        let fits = |record: &&TransferRecord| {
            record.role == self.role
                && record.is_open()
                && record.side != Side::Child
                && !record.is_expired(self.now_seconds)
                && record.other.as_deref() == self.other
                && record.has_paths(self.paths)
                && self.selection.is_none_or(|selection| record.selection == *selection)
        };
        records.iter().filter(fits).collect()
    }
}

/// The record as JSON. Part of formats: fields are added with a default or with a new version. What an older landfall does
/// not know may be what keeps something from being sent: it refuses the record.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    #[serde(with = "hex")]
    id: TransferId,
    role: String,
    side: Side,
    listen: Option<SocketAddr>,
    port: Option<u16>,
    #[serde(with = "hex::option")]
    secret: Option<Secret>,
    expiry_seconds: u64,
    #[serde(with = "hex::option")]
    peer: Option<PeerKey>,
    addresses: Vec<SocketAddr>,
    #[serde(with = "path::list")]
    paths: Vec<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    selection: Option<StoredSelection>,
    #[serde(with = "path::option")]
    other: Option<PathBuf>,
    child: Option<StoredChild>,
    #[serde(with = "path::option")]
    write_ticket: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    shows_code: bool,
    patience_ms: Option<u64>,
    #[serde(with = "path::option")]
    receipt: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    reads_twice: bool,
    receiver: Option<StoredReceiver>,
    created_seconds: u64,
    is_agreed: bool,
    closed: Option<Closed>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredSelection {
    patterns: Vec<String>,
    ignore_files: bool,
    one_file_system: bool,
    /// Digest of a list that lies beside the record.
    #[serde(default, with = "hex::option", skip_serializing_if = "Option::is_none")]
    listed: Option<ListDigest>,
    #[serde(default, with = "hex::option", skip_serializing_if = "Option::is_none")]
    expected: Option<ListDigest>,
}

impl StoredSelection {
    fn of(selection: &Selection) -> Option<StoredSelection> {
        let Selection { patterns, ignore_files, one_file_system, listed, expected } = selection.clone();
        let (listed, expected) = (listed.map(|given| given.digest), expected.map(|given| given.digest));
        let stored = StoredSelection { patterns, ignore_files, one_file_system, listed, expected };
        (*selection != Selection::default()).then_some(stored)
    }

    fn into_selection(self) -> Selection {
        let StoredSelection { patterns, ignore_files, one_file_system, listed, expected } = self;
        let (listed, expected) = (listed.map(Given::kept), expected.map(Given::kept));
        Selection { patterns, ignore_files, one_file_system, listed, expected }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredChild {
    /// The program, then its arguments.
    #[serde(with = "path::list")]
    words: Vec<PathBuf>,
    options: serde_json::Value,
    #[serde(default)]
    remote: Option<StoredRemote>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredRemote {
    host: String,
    is_relayed: bool,
}

impl StoredChild {
    fn of(command: &ChildCommand) -> StoredChild {
        let arguments = command.arguments.iter().map(PathBuf::from);
        let words = std::iter::once(command.program.clone()).chain(arguments).collect();
        let remote = command.remote.clone().map(|Remote { host, is_relayed }| StoredRemote { host, is_relayed });
        StoredChild { words, options: command.options.clone(), remote }
    }

    fn into_command(self) -> Option<ChildCommand> {
        let mut words = self.words.into_iter();
        let program = words.next()?;
        let remote = self.remote.map(|StoredRemote { host, is_relayed }| Remote { host, is_relayed });
        Some(ChildCommand { program, arguments: words.map(PathBuf::into).collect(), options: self.options, remote })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredReceiver {
    existing: String,
    max_bytes: Option<u64>,
    reserve_bytes: Option<u64>,
    accept_level: String,
}

impl Stored {
    fn of(record: &TransferRecord) -> Stored {
        let settings = &record.settings;
        Stored {
            id: record.id,
            role: record.role.word().to_owned(),
            side: record.side,
            listen: record.listen,
            port: record.port,
            secret: record.secret.clone(),
            expiry_seconds: record.expiry_seconds,
            peer: record.peer,
            addresses: record.addresses.clone(),
            paths: record.paths.clone(),
            selection: StoredSelection::of(&record.selection),
            other: record.other.clone(),
            child: record.child.as_ref().map(StoredChild::of),
            write_ticket: record.write_ticket.clone(),
            shows_code: record.shows_code,
            patience_ms: settings.patience.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
            receipt: settings.receipt.clone(),
            reads_twice: settings.reads_twice,
            receiver: settings.receiver.map(|receiver| StoredReceiver {
                existing: existing_word(receiver.existing).to_owned(),
                max_bytes: receiver.max_bytes,
                reserve_bytes: receiver.reserve_bytes,
                accept_level: receiver.accept_level.word().to_owned(),
            }),
            created_seconds: record.created_seconds,
            is_agreed: record.is_agreed,
            closed: record.closed,
        }
    }

    fn into_record(self) -> Option<TransferRecord> {
        let receiver = match self.receiver {
            None => None,
            Some(stored) => Some(ReceiverSettings {
                existing: EXISTING.into_iter().find(|existing| existing_word(*existing) == stored.existing)?,
                max_bytes: stored.max_bytes,
                reserve_bytes: stored.reserve_bytes,
                accept_level: Level::ALL.into_iter().find(|level| level.word() == stored.accept_level)?,
            }),
        };
        let child = match self.child {
            None => None,
            Some(stored) => Some(stored.into_command()?),
        };
        let patience = self.patience_ms.map(Duration::from_millis);
        Some(TransferRecord {
            id: self.id,
            role: [Role::Sender, Role::Receiver].into_iter().find(|role| role.word() == self.role)?,
            side: self.side,
            listen: self.listen,
            port: self.port,
            secret: self.secret,
            expiry_seconds: self.expiry_seconds,
            peer: self.peer,
            addresses: self.addresses,
            paths: self.paths,
            selection: self.selection.map(StoredSelection::into_selection).unwrap_or_default(),
            other: self.other,
            child,
            write_ticket: self.write_ticket,
            shows_code: self.shows_code,
            settings: Settings { patience, receipt: self.receipt, reads_twice: self.reads_twice, receiver },
            created_seconds: self.created_seconds,
            is_agreed: self.is_agreed,
            closed: self.closed,
        })
    }
}

const EXISTING: [Existing; 4] = [Existing::Refuse, Existing::Keep, Existing::Replace, Existing::Rename];

fn existing_word(existing: Existing) -> &'static str {
    match existing {
        Existing::Refuse => "refuse",
        Existing::Keep => "keep",
        Existing::Replace => "replace",
        Existing::Rename => "rename",
    }
}
