//! What a hostile peer does, step by step: a script is a list of [`Act`]s, and a [`Play`] performs them on one
//! connection, in either role. What is honest in it is there to get far enough to lie.

use std::collections::BTreeMap;
use std::time::Duration;

use landfall::attributes::{FileKind, Timestamp};
use landfall::digest::{FileDigest, OutcomeHasher, path_hash};
use landfall::geometry::EntryIndex;
use landfall::identity::{Role, Secret, TransferId};
use landfall::limits::CHUNK_BYTES;
use landfall::manifest::{Header, Position, Record};
use landfall::outcome::{Counts, Outcome};
use landfall::receipt::{Core, Line as Delivered, VERSION, signing_bytes};
use landfall::wire::{CHUNK_HEADER_BYTES, Hello, Message, Place, Want, WantRun, split_records};
use tokio::time::{sleep, timeout};

use super::keys::Key;
use super::line::{End, Line, PATIENCE};
use super::words::{self, Manifest};

/// One step. In a script the steps after [`Act::Hostile`] are the attack: a script that does not get there has
/// injected nothing.
#[derive(Clone, Debug)]
pub enum Act {
    /// Exchanges honest hellos.
    Hello,
    /// Exchanges hellos, with something changed in this side's.
    HelloWith(fn(&mut Hello)),
    /// Sender: records continue from the empty log.
    Continue,
    /// Marks where the attack begins.
    Hostile,
    /// Sends a message.
    Say(Message),
    /// Sends bytes as one frame.
    Frame(Vec<u8>),
    /// Sends bytes on the control stream.
    Bytes(Vec<u8>),
    /// Sends manifest records, in one frame.
    Records(Vec<Vec<u8>>),
    /// Sends a manifest, and that it is settled.
    Offer(Manifest),
    /// Sender: answers wants, and the receipt.
    Serve(Manifest),
    /// Sender: answers wants until the receipt, and says nothing to that.
    ServeUnacknowledged(Manifest),
    /// Sender: answers every want with these bytes, and acknowledges the receipt.
    ServeLies(Vec<u8>),
    /// Sender: records continue from the end of what the receiver holds.
    ContinueLast,
    /// Sender: waits for a want.
    AwaitWant,
    /// Sends bytes on a data stream.
    Data(usize, Vec<u8>),
    /// Ends a data stream.
    EndData(usize),
    /// Resets a data stream.
    ResetData(usize),
    /// Ends the control stream.
    Finish,
    /// Resets the control stream.
    Reset,
    /// Stops reading the control stream.
    StopReading,
    /// Receiver: takes the whole manifest, until it is settled.
    Learn,
    /// Receiver: wants chunks of an entry.
    Want {
        /// Entry number.
        entry: u32,
        /// First chunk.
        first: u32,
        /// Chunks.
        count: u32,
    },
    /// Receiver: reads one chunk and compares it with what the source holds.
    Fetch(Vec<u8>),
    /// Receiver: sends a receipt for all that was learnt, changed, and signed by its own key or another.
    Receipt(fn(&mut Core), Signer),
    /// Receiver: waits for the acknowledgement.
    AwaitAcknowledge,
    /// Does the same again: so many times.
    Repeat(u32, Box<Act>),
    /// Waits so many milliseconds.
    Pause(u64),
    /// Sends one byte on the control stream, and waits so many milliseconds.
    Drip(u8, u64),
    /// Fails if the binary has ended the connection.
    StillThere,
    /// Opens a stream beyond what is allowed, which has to block: a data stream, or a second control stream.
    Blocked {
        /// Whether it is a bidirectional one.
        is_control: bool,
    },
    /// Sends a datagram, which nobody may take.
    Datagram,
    /// Closes the connection with a code and reason bytes.
    Leave(u64, Vec<u8>),
}

/// Whose signature a receipt bears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signer {
    /// The receiver's own.
    Own,
    /// Another key.
    Other,
    /// 64 zero bytes.
    Nobody,
}

/// What wants are answered with.
#[derive(Clone, Copy)]
enum Answers<'a> {
    /// What was offered.
    Contents(&'a BTreeMap<u32, Vec<u8>>),
    /// The same bytes, whatever is wanted.
    Always(&'a [u8]),
}

impl Answers<'_> {
    fn to(self, entry: u32, number: u32) -> Option<Vec<u8>> {
        match self {
            Answers::Always(chunk) => Some(chunk.to_vec()),
            Answers::Contents(contents) => {
                let bytes = contents.get(&entry)?.chunks(CHUNK_BYTES as usize).nth(number as usize)?;
                Some(words::chunk(entry, number, bytes))
            }
        }
    }
}

/// A script being performed.
pub struct Play {
    /// The connection.
    pub line: Line,
    key: Key,
    role: Role,
    transfer: TransferId,
    secret: Option<Secret>,
    learnt: Vec<Record>,
    wants: Vec<WantRun>,
    /// What the binary did that it must never do.
    pub wrongs: Vec<String>,
    /// Receipts that the binary sent: core and signature.
    pub receipts: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Play {
    /// On a connection, in a role.
    pub fn new(line: Line, key: &Key, role: Role, secret: &Secret) -> Play {
        let (transfer, secret) = (secret.transfer_id(), Some(secret.clone()));
        Play {
            line,
            key: key.clone(),
            role,
            transfer,
            secret,
            learnt: vec![],
            wants: vec![],
            wrongs: vec![],
            receipts: vec![],
        }
    }

    /// Performs acts in order. Gives how many were done and why it stopped before the end.
    pub async fn perform(&mut self, acts: &[Act]) -> (usize, Option<End>) {
        for (number, act) in acts.iter().enumerate() {
            if let Err(end) = Box::pin(self.act(act)).await {
                return (number, Some(end));
            }
        }
        (acts.len(), None)
    }

    async fn act(&mut self, act: &Act) -> Result<(), End> {
        match act {
            Act::Hello => self.hello(|_| ()).await,
            Act::HelloWith(change) => self.hello(change).await,
            Act::Continue => self.line.say(&Message::Continue(self.start())).await,
            Act::Hostile => Ok(()),
            Act::Say(message) => self.line.say(message).await,
            Act::Frame(body) => self.line.frame(body).await,
            Act::Bytes(bytes) => self.line.bytes(bytes).await,
            Act::Records(all) => self.line.say(&words::records(all)).await,
            Act::Offer(manifest) => self.offer(manifest).await,
            Act::Serve(manifest) => {
                self.serve(Answers::Contents(&manifest.contents)).await?;
                self.acknowledge().await
            }
            Act::ServeUnacknowledged(manifest) => self.serve(Answers::Contents(&manifest.contents)).await,
            Act::ServeLies(chunk) => {
                self.serve(Answers::Always(chunk)).await?;
                self.acknowledge().await
            }
            Act::ContinueLast => {
                let last = self.line.hello.as_ref().and_then(|hello| hello.ladder.first().copied());
                self.line.say(&Message::Continue(last.unwrap_or_else(|| self.start()))).await
            }
            Act::AwaitWant => self.await_want().await,
            Act::Data(index, bytes) => self.line.data(*index, bytes).await,
            Act::EndData(index) => self.line.end_data(*index, false),
            Act::ResetData(index) => self.line.end_data(*index, true),
            Act::Finish => self.line.finish(),
            Act::Reset => self.line.reset(),
            Act::StopReading => self.line.stop_reading(),
            Act::Learn => self.learn().await,
            Act::Want { entry, first, count } => self.want(*entry, *first, *count).await,
            Act::Fetch(content) => self.fetch(content).await,
            Act::Receipt(change, signer) => self.receipt(*change, *signer).await,
            Act::AwaitAcknowledge => self.await_acknowledge().await,
            Act::Repeat(times, act) => {
                for _ in 0..*times {
                    Box::pin(self.act(act)).await?;
                }
                Ok(())
            }
            Act::Pause(ms) => {
                sleep(Duration::from_millis(*ms)).await;
                Ok(())
            }
            Act::Drip(byte, ms) => {
                self.line.bytes(&[*byte]).await?;
                sleep(Duration::from_millis(*ms)).await;
                Ok(())
            }
            Act::StillThere => self.line.connection.close_reason().map_or(Ok(()), |error| Err(error.into())),
            Act::Blocked { is_control } => self.blocked(*is_control).await,
            Act::Datagram => {
                if self.line.connection.send_datagram(vec![0; 100].into()).is_ok() {
                    self.wrongs.push("datagrams are taken".to_owned());
                }
                Ok(())
            }
            Act::Leave(code, reason) => {
                self.line.leave(*code, reason).await;
                Ok(())
            }
        }
    }

    /// The place of the empty log of this transfer.
    fn start(&self) -> Position {
        let header = Header { chunk_bytes: CHUNK_BYTES, transfer: self.transfer };
        Position { record_count: 0, chain: header.chain() }
    }

    async fn hello(&mut self, change: impl FnOnce(&mut Hello)) -> Result<(), End> {
        let mut hello = self.line.honest_hello(self.role, self.transfer, self.secret.as_ref())?;
        if self.role == Role::Receiver {
            hello.ladder.push(self.start());
        }
        change(&mut hello);
        self.line.say(&Message::Hello(hello)).await?;
        match self.line.next().await? {
            Message::Hello(_) => Ok(()),
            other => Err(End::Odd(format!("no hello but {other:?}"))),
        }
    }

    async fn offer(&mut self, manifest: &Manifest) -> Result<(), End> {
        for message in manifest.messages() {
            self.line.say(&message).await?;
        }
        let Position { record_count, chain } = self.start();
        let follow = |chain, record: &Vec<u8>| landfall::manifest::frame(record, chain).1;
        let chain = manifest.records.iter().fold(chain, follow);
        let settled = Position { record_count: record_count + manifest.records.len() as u64, chain };
        self.line.say(&Message::Settled(settled)).await
    }

    /// Answers wants until the receipt.
    async fn serve(&mut self, answers: Answers<'_>) -> Result<(), End> {
        loop {
            for run in std::mem::take(&mut self.wants) {
                for number in run.first..run.first.saturating_add(run.count) {
                    let Some(chunk) = answers.to(run.entry.0, number) else {
                        self.wrongs.push(format!("the receiver wants what was never offered: {run:?}"));
                        return Ok(());
                    };
                    self.line.data(0, &chunk).await?;
                }
            }
            match self.line.next().await? {
                Message::Want(want) => self.wants.extend(want.runs),
                Message::Receipt { core, signature } => {
                    self.receipts.push((core, signature));
                    return Ok(());
                }
                Message::Stop(stop) => return Err(End::Odd(format!("the receiver stops: {:?}", stop.reason))),
                _ => {}
            }
        }
    }

    /// Acknowledges the receipt that came last.
    async fn acknowledge(&mut self) -> Result<(), End> {
        match self.receipts.last().and_then(|(core, _)| Core::decode(core).ok()) {
            Some(core) => self.line.say(&Message::Acknowledge(core.outcome)).await,
            None => Err(End::Odd("there is no receipt to acknowledge".to_owned())),
        }
    }

    async fn await_want(&mut self) -> Result<(), End> {
        while self.wants.is_empty() {
            match self.line.next().await? {
                Message::Want(want) => self.wants.extend(want.runs),
                Message::Stop(stop) => return Err(End::Odd(format!("the receiver stops: {:?}", stop.reason))),
                _ => {}
            }
        }
        Ok(())
    }

    async fn learn(&mut self) -> Result<(), End> {
        let (mut is_complete, mut is_settled) = (false, false);
        while !(is_complete && is_settled) {
            match self.line.next().await? {
                Message::Records(page) => {
                    for bytes in split_records(&page).map_err(|error| End::Odd(error.to_string()))? {
                        let record = Record::decode(bytes).map_err(|error| End::Odd(error.to_string()))?;
                        is_complete = matches!(record, Record::Complete(_));
                        self.learnt.push(record);
                    }
                }
                Message::Settled(_) => is_settled = true,
                Message::Continue(_) | Message::Progress(_) => {}
                other => return Err(End::Odd(format!("the sender says {other:?}"))),
            }
        }
        Ok(())
    }

    async fn want(&mut self, entry: u32, first: u32, count: u32) -> Result<(), End> {
        let runs = vec![WantRun { entry: EntryIndex(entry), first, count }];
        let considered_through = Place { entry: entry.saturating_add(1), chunk: 0 };
        self.line.say(&Message::Want(Want { considered_through, runs })).await
    }

    async fn fetch(&mut self, content: &[u8]) -> Result<(), End> {
        let accepted = timeout(PATIENCE, self.line.connection.accept_uni()).await.map_err(|_| End::Silent)?;
        let mut stream = accepted?;
        let mut got = vec![0; CHUNK_HEADER_BYTES + content.len()];
        let read = timeout(PATIENCE, stream.read_exact(&mut got)).await.map_err(|_| End::Silent)?;
        read.map_err(|error| End::Stream(error.to_string()))?;
        if got[CHUNK_HEADER_BYTES..] != *content {
            self.wrongs.push("the sender sent other bytes than its source holds".to_owned());
        }
        Ok(())
    }

    async fn receipt(&mut self, change: fn(&mut Core), signer: Signer) -> Result<(), End> {
        let mut core = self.honest_core();
        change(&mut core);
        let bytes = core.encode();
        let signature = match signer {
            Signer::Own => self.key.sign(&signing_bytes(&bytes)),
            Signer::Other => Key::new([0x77; 32]).sign(&signing_bytes(&bytes)),
            Signer::Nobody => vec![0; 64],
        };
        self.line.say(&Message::Receipt { core: bytes, signature }).await
    }

    /// A core that says that everything in the manifest was delivered.
    pub fn honest_core(&self) -> Core {
        let (mut lines, mut counts) = (delivered(&self.learnt), Counts::default());
        lines.sort_by_key(|line| path_hash(&line.path));
        let mut hasher = OutcomeHasher::default();
        lines.iter().for_each(|line| hasher.line(&line.canonical()));
        if let Some(Record::Complete(said)) = self.learnt.last() {
            counts = *said;
        }
        let files = lines.iter().filter(|line| line.kind == FileKind::Regular).count() as u64;
        let bytes = lines.iter().map(|line| line.size).sum();
        Core {
            version: VERSION,
            transfer: self.transfer,
            outcome: hasher.finish(),
            counts,
            delivered_files: files,
            delivered_bytes: bytes,
            left_out: 0,
            kept: 0,
            bytes_by_level: [0, 0, 0, bytes],
            is_durable: true,
            started: Timestamp::default(),
            finished: Timestamp::default(),
            sender: self.line.theirs,
            receiver: self.line.ours,
            sender_host: String::new(),
            receiver_host: "hostile".to_owned(),
            sender_version: String::new(),
            receiver_version: "0.0.0".to_owned(),
        }
    }

    async fn await_acknowledge(&mut self) -> Result<(), End> {
        loop {
            match self.line.next().await? {
                Message::Acknowledge(_) => return Ok(()),
                Message::Stop(stop) => return Err(End::Odd(format!("the sender stops: {:?}", stop.reason))),
                _ => {}
            }
        }
    }

    async fn blocked(&mut self, is_control: bool) -> Result<(), End> {
        let pause = Duration::from_millis(300);
        let is_open = match is_control {
            true => timeout(pause, self.line.connection.open_bi()).await.map(|opened| opened.map(drop)),
            false => timeout(pause, self.line.connection.open_uni()).await.map(|opened| opened.map(drop)),
        };
        match is_open {
            Err(_) => Ok(()),
            Ok(Err(error)) => Err(error.into()),
            Ok(Ok(())) => {
                self.wrongs.push("a stream was opened beyond what is allowed".to_owned());
                Ok(())
            }
        }
    }
}

/// A line of the outcome for each entry that was not withdrawn, as if it had been delivered.
fn delivered(records: &[Record]) -> Vec<Delivered> {
    let mut lines: Vec<Option<Delivered>> = vec![];
    for record in records {
        let Some(path) = record.path() else {
            match (record, lines.last_mut()) {
                (Record::End { digest, mode, mtime, .. }, Some(Some(last))) => {
                    (last.digest, last.mode, last.mtime) = (Some(FileDigest(digest.0)), *mode, *mtime);
                }
                (Record::Withdraw { entry, .. }, _) => {
                    if let Some(line) = lines.get_mut(entry.0 as usize) {
                        *line = None;
                    }
                }
                _ => (),
            }
            continue;
        };
        let mut line = Delivered {
            path: path.clone(),
            kind: FileKind::Regular,
            size: 0,
            digest: None,
            mode: 0,
            mtime: Timestamp::default(),
            target: vec![],
            outcome: Outcome::Delivered,
        };
        let is_deliverable = match record {
            Record::Begin { size, .. } => {
                line.size = *size;
                true
            }
            Record::Directory { mode, mtime, .. } => {
                (line.kind, line.mode, line.mtime) = (FileKind::Directory, *mode, *mtime);
                true
            }
            Record::Symlink { target, mtime, .. } => {
                (line.kind, line.mtime) = (FileKind::Symlink, *mtime);
                line.target.clone_from(target);
                true
            }
            _ => false,
        };
        lines.push(is_deliverable.then_some(line));
    }
    lines.into_iter().flatten().collect()
}

/// A position of no log.
pub fn nowhere() -> Position {
    Position { record_count: 1, chain: landfall::digest::ChainValue([9; 32]) }
}
