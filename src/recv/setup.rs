//! The beginning and the end of a receiver's run: its directory and lock, what it asks the user, what it sums up.

use std::cell::Cell;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;

use super::engine::{Heard, Parts};
use super::mends::Mends;
use super::news::{Watch, missing_bytes};
use super::receipt::{self, Held, Issuer, Parties};
use crate::disk::{Disk, RealDisk, Rooted, descriptors_max};
use crate::error::{Error, Exit};
use crate::event::{Event, Events, Notice, Summary};
use crate::identity::{Role, TransferId};
use crate::limits::{
    BATCH_FILES_MAX, BATCH_FILES_MIN, CHUNK_BYTES, DESCRIPTORS_PER_BATCH_FILE, DESCRIPTORS_RESERVED, DYING_MS,
    LINGER_MS, QUESTION_MS,
};
use crate::manifest::Header;
use crate::meet::{Meet, Met, Opened, Wish, patiently};
use crate::net::Limiter;
use crate::options::{Answer, Consent, Existing, Meeting, Question, RecvOptions};
use crate::outcome::Reused;
use crate::path::STATE_DIR_NAME;
use crate::session;
use crate::session::receiver::{Ending, Receiver};
use crate::state::closing::Concluded;
use crate::state::given;
use crate::state::home::Home;
use crate::state::limit::LimitInbox;
use crate::state::lock::Lock;
use crate::state::transfer::{ReceiverSettings, Settings, Side, TransferRecord};
use crate::store::{Policy, Shared};
use crate::task::receiver::Tally;
use crate::wire::{FEATURE_RENAMED, StopReason};

/// How the run begins.
pub(super) enum Start<D: Rooted> {
    /// The transfer is finished: its receipt answers.
    Finished(Box<Concluded>),
    /// There is work.
    Work(Box<Setup<D>>),
}

/// What a run works with.
pub(super) struct Setup<D: Rooted> {
    disk: D,
    pub(super) events: Events,
    pub(super) meet: Option<Box<Meet>>,
    pub(super) settings: ReceiverSettings,
    pub(super) patience: Option<Duration>,
    pub(super) limiter: Limiter,
    limits: LimitInbox<RealDisk>,
    pub(super) is_agreed: bool,
    pub(super) consent: Consent,
    question: Asked,
    pub(super) dir: PathBuf,
    home: Home<RealDisk>,
    root: D::Dir,
    transfer: TransferId,
    issuer: Arc<Issuer>,
    copy: Option<PathBuf>,
    has_receipt: bool,
    mends: Mends,
    /// What the last hello said of it.
    said_receipt: Cell<bool>,
    /// Held as long as this process works in the directory.
    _lock: Lock,
}

/// Finds or begins the transfer, takes the locks.
pub(super) async fn open<D: Rooted>(disk: D, options: RecvOptions, events: Events) -> Result<Start<D>, Error> {
    let home = Home::<RealDisk>::open(&options.common.home)?;
    let identity = Arc::new(home.identity()?);
    let wish = wish(&options)?;
    let opened = Meet::open(
        &options.common,
        wish,
        Home::<RealDisk>::open(&options.common.home)?,
        Arc::clone(&identity),
        events.clone(),
    )
    .await?;
    let meet = match opened {
        Opened::Meet(meet) => meet,
        Opened::Finished(record) => return Ok(Start::Finished(Box::new(answer(&home, &record, &events)?))),
    };
    let record = meet.record().clone();
    let dir = record.paths.first().cloned().ok_or_else(|| Error::Usage("this transfer has no directory".to_owned()))?;
    // A directory that went away since is made again: whatever was in it is missing, and comes again.
    make_dir(&dir)?;
    let root = disk.open_root(&dir).map_err(|source| local(&dir, "could not be opened", source))?;
    let lock = lock(&dir).await?;
    let settings = record.settings.receiver.unwrap_or_else(|| settings(&options));
    let issuer = Issuer {
        home: Home::<RealDisk>::open(&options.common.home)?,
        identity,
        transfer: record.id,
        host: host_name(),
        started_seconds: record.created_seconds,
        parties: Arc::new(Mutex::new(None)),
        issued: Mutex::new(None),
    };
    let is_asking = matches!(options.consent, Consent::Ask(_)) && record.side == Side::Listener;
    let (held, was_damaged) = receipt::load_whole(&home, record.id, &meet.identity().public_key())?;
    if was_damaged {
        tell_receipt_damage(&events);
    }
    let has_receipt = held.is_some();
    Ok(Start::Work(Box::new(Setup {
        disk,
        events,
        settings,
        patience: record.settings.patience,
        limiter: Limiter::new(options.common.limit_bytes_per_s),
        limits: home.limit_inbox(record.id, Role::Receiver)?,
        is_agreed: record.is_agreed || !is_asking,
        consent: options.consent,
        question: Asked::NotYet,
        dir,
        home,
        root,
        transfer: record.id,
        issuer: Arc::new(issuer),
        copy: record.settings.receipt.clone(),
        has_receipt,
        mends: Mends::default(),
        said_receipt: Cell::new(false),
        meet: Some(meet),
        _lock: lock,
    })))
}

fn tell_receipt_damage(events: &Events) {
    let instead = "everything is read back and a new one is made";
    events.emit(Event::Notice(Notice::StateRebuilt { what: "receipt", instead }));
}

/// What the command line asks for, with its directory made and by its canonical name.
fn wish(options: &RecvOptions) -> Result<Wish, Error> {
    let paths = match options.common.meeting {
        Meeting::Resume(..) => vec![],
        _ => {
            make_dir(&options.dir)?;
            let canonical = given::canonical(&options.dir);
            vec![canonical.map_err(|source| local(&options.dir, "could not be resolved", source))?]
        }
    };
    let settings = Settings {
        reads_twice: false,
        patience: options.common.patience,
        receipt: options.common.receipt.clone(),
        receiver: Some(settings(options)),
    };
    Ok(Wish { role: Role::Receiver, paths, selection: options.selection.clone(), settings })
}

fn settings(options: &RecvOptions) -> ReceiverSettings {
    ReceiverSettings {
        existing: options.existing,
        max_bytes: options.max_bytes,
        reserve_bytes: options.reserve_bytes,
        accept_level: options.accept_level,
    }
}

fn make_dir(dir: &Path) -> Result<(), Error> {
    given::make_dir(dir).map_err(|source| local(dir, "could not be made", source))
}

fn local(dir: &Path, problem: &'static str, source: io::Error) -> Error {
    Error::Local { what: "the directory", object: dir.to_owned(), problem, source: Some(source) }
}

/// One process at a time works in a directory.
async fn lock(dir: &Path) -> Result<Lock, Error> {
    let state = dir.join(STATE_DIR_NAME);
    let take = || {
        // Whoever held it may have finished meanwhile, and removed the state directory with the lock.
        given::make_private_dir(&state).map_err(|source| local(dir, "cannot be written to", source))?;
        Lock::take(&state.join("lock"), || format!("`{}`", dir.display()))
    };
    patiently(Duration::from_millis(DYING_MS), take).await
}

/// The host's own name, cut to what a hello may hold.
fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().chars().take(64).collect()
}

/// Whether the user was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    NotYet,
    /// As soon as the manifest is complete, or at this time with what is known then.
    At(Instant),
    Waiting,
}

impl<D: Rooted> Setup<D> {
    /// A brain at its beginning.
    pub(super) fn brain(&self, now: Instant) -> Receiver {
        let linger = Duration::from_millis(LINGER_MS);
        let ending = if self.has_receipt { Ending::issued(now, linger) } else { Ending::open(linger) };
        let settings = session::receiver::Settings {
            chunk_bytes: CHUNK_BYTES,
            max_bytes: self.settings.max_bytes,
            patience: self.patience,
            linger,
            batch_files: batch_files(descriptors_max()),
        };
        Receiver::new(settings, ending)
    }

    /// Hears of a new limit.
    pub(super) fn look_at_limit(&self) {
        if let Some(bytes_per_s) = self.limits.take() {
            self.limiter.set(bytes_per_s);
            self.events.emit(Event::Notice(Notice::Limited { bytes_per_s }));
        }
    }

    /// Whether the user is still to be asked.
    pub(super) fn is_asking(&self) -> bool {
        !self.is_agreed && self.question != Asked::Waiting
    }

    /// Whether the question is to be put now.
    pub(super) fn is_question_due(&mut self, now: Instant, is_total: bool) -> bool {
        match self.question {
            Asked::NotYet => {
                self.question = Asked::At(now + Duration::from_millis(QUESTION_MS));
                is_total
            }
            Asked::At(due) => is_total || now >= due,
            Asked::Waiting => false,
        }
    }

    /// Asks on a thread of its own: the user may take as long as it likes. If nobody can be asked, that is a no.
    pub(super) fn put_question(&mut self, question: Question, answers: UnboundedSender<Answer>) {
        self.question = Asked::Waiting;
        let Consent::Ask(ask) = self.consent.clone() else { return };
        let unasked = answers.clone();
        let started = std::thread::Builder::new().name("question".into()).spawn(move || {
            // A driver that is gone needs no answer.
            let _ = answers.send(ask(question));
        });
        if started.is_err() {
            let _ = unasked.send(Answer::Decline);
        }
    }

    /// What the engine is started with.
    pub(super) fn parts(&self, heard: UnboundedSender<Heard>) -> Parts<D> {
        let issuer = Arc::clone(&self.issuer);
        Parts {
            disk: self.disk.clone(),
            root: self.root.clone(),
            header: Header { chunk_bytes: CHUNK_BYTES, transfer: self.transfer },
            policy: Policy { existing: self.settings.existing, reserve_bytes: self.settings.reserve_bytes },
            issue: Arc::new(move |shared, live| issuer.issue(shared, live)),
            heard,
        }
    }

    /// Refuses a file system that cannot be read back as well as is asked for, before the first byte.
    pub(super) fn look_at_level(&self, shared: &Shared<D>) -> Result<(), Error> {
        if self.has_receipt {
            return Ok(());
        }
        let level = shared.probe_level().map_err(|error| self.state_error(error))?;
        if level < self.settings.accept_level {
            return Err(Error::LevelTooLow { dir: self.dir.clone(), found: level.word() });
        }
        if shared.space().is_ok_and(|space| space.is_volatile) {
            self.events.emit(Event::Notice(Notice::NotDurable));
        }
        Ok(())
    }

    /// The sender was met. One that does not know what a new name is would take the receipt for a lie.
    pub(super) fn met(&self, met: &Met) -> Result<(), Error> {
        if self.settings.existing == Existing::Rename && met.hello.features & FEATURE_RENAMED == 0 {
            return Err(Error::TooOld { peer: Role::Sender, option: "--existing rename" });
        }
        if let Ok(mut parties) = self.issuer.parties.lock() {
            *parties = Some(Parties::of(met));
        }
        Ok(())
    }

    /// Whether a receipt is persisted.
    pub(super) fn has_receipt(&self) -> bool {
        self.has_receipt
    }

    /// Whether a receipt is persisted, for a hello.
    pub(super) fn say_receipt(&self) -> bool {
        self.said_receipt.set(self.has_receipt);
        self.has_receipt
    }

    /// Whether a receipt was made since the last hello, which did not speak of it.
    pub(super) fn has_unsaid_receipt(&self) -> bool {
        self.has_receipt && !self.said_receipt.get()
    }

    /// A receipt was made.
    pub(super) fn issued(&mut self) {
        self.has_receipt = true;
    }

    /// The receipt as it is to be sent. `None` if it was damaged and cannot be written again: a new one is made.
    pub(super) fn receipt(&mut self, shared: &Shared<D>) -> Result<Option<Held>, Error> {
        let held = self.issuer.held(shared)?;
        if held.is_none() {
            tell_receipt_damage(&self.events);
            self.has_receipt = false;
        }
        Ok(held)
    }

    /// The store was begun anew, from what is good of its state.
    pub(super) fn mended(&mut self, shared: &Shared<D>) -> Result<(), Error> {
        let records = shared.with_log(|log| log.position().record_count);
        self.mends.note(records).map_err(|error| self.state_error(error))
    }

    /// State in the target could not be used.
    pub(super) fn state_error(&self, source: io::Error) -> Error {
        Error::State { path: self.dir.join(STATE_DIR_NAME), source }
    }

    /// Why this side has stopped.
    pub(super) fn stopped(&self, reason: StopReason, tally: Tally, shared: &Shared<D>) -> Error {
        match reason {
            StopReason::Declined => Error::Declined,
            StopReason::TooLarge => Error::TooLarge,
            StopReason::DiskFull => {
                Error::DiskFull { dir: self.dir.clone(), missing_bytes: missing_bytes(&tally, shared) }
            }
            StopReason::SyncFailed => Error::SyncFailed { path: self.dir.clone() },
            _ => self.state_error(io::Error::other("writing it failed")),
        }
    }

    /// Sums up a run that has a receipt, and stores the further copy that was asked for.
    pub(super) fn summary(
        &self,
        watch: &Watch,
        tally: Tally,
        shared: &Shared<D>,
    ) -> Result<(Exit, Box<Summary>), Error> {
        let held = self.issuer.held(shared)?;
        let held = held.ok_or_else(|| self.state_error(io::ErrorKind::NotFound.into()))?;
        held.tell_renamed(&self.events);
        let receipt = self.home.receipt_path(self.transfer, Role::Receiver);
        let receipt = match &self.copy {
            Some(copy) => {
                given::copy(&receipt, copy).map_err(|source| Error::Local {
                    what: "the receipt's copy",
                    object: copy.clone(),
                    problem: "could not be written",
                    source: Some(source),
                })?;
                copy.clone()
            }
            None => receipt,
        };
        let (peer, peer_host) = watch.sender.clone().unwrap_or((held.core.sender, held.core.sender_host.clone()));
        let summary = Summary {
            peer,
            peer_host,
            wire_bytes: watch.wire_bytes,
            reused: reused(tally, shared),
            resent_chunks: tally.resent_chunks,
            attributes_not_applied: held.attributes_not_applied,
            renamed: held.renamed,
            elapsed: watch.since.map_or(Duration::ZERO, |since| since.elapsed()),
            ..Summary::of(&held.core, Role::Receiver, receipt)
        };
        Ok((summary.exit(), Box::new(summary)))
    }
}

/// What this run has found at the target so far.
pub(super) fn reused<D: Disk>(tally: Tally, shared: &Shared<D>) -> Reused {
    Reused { bytes: tally.adopted_bytes, ..shared.ledger().reused }
}

/// Files of one batch that so many descriptors allow: three batches, what is on its way, and what is compared.
fn batch_files(descriptors: u64) -> u32 {
    let files = descriptors.saturating_sub(DESCRIPTORS_RESERVED) / DESCRIPTORS_PER_BATCH_FILE;
    u32::try_from(files).unwrap_or(u32::MAX).clamp(BATCH_FILES_MIN, BATCH_FILES_MAX)
}

/// A transfer that is finished here answers from its receipt.
fn answer(home: &Home<RealDisk>, record: &TransferRecord, events: &Events) -> Result<Concluded, Error> {
    let held = receipt::load(home, record.id)?;
    let path = home.receipt_path(record.id, Role::Receiver);
    let missing = || Error::State { path: path.clone(), source: io::ErrorKind::NotFound.into() };
    let held = held.ok_or_else(missing)?;
    let summary = Summary::of(&held.core, Role::Receiver, path.clone());
    let (attributes_not_applied, renamed) = (held.attributes_not_applied, held.renamed);
    let summary = Box::new(Summary { attributes_not_applied, renamed, ..summary });
    events.emit(Event::Summary(summary.clone()));
    Ok(Concluded::before(summary.exit(), summary))
}
