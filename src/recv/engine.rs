//! The receiver's three threads: they own the intake, the syncer and the settler, and hand work on in this order.
//! Commands go in, what they hear comes out; all end with the engine.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver as Commands, RecvTimeoutError, Sender as Commander, SyncSender, channel, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::UnboundedSender;

use crate::disk::Disk;
use crate::error::is_full;
use crate::geometry::EntryIndex;
use crate::limits::{
    ARRIVAL_BYTES_MIN, ARRIVAL_CHUNKS_MAX, INTAKE_SILENCE_MS, POOL_THREADS, PROGRESS_MS, SPACE_CHECK_MS,
};
use crate::manifest::{Header, Position};
use crate::outcome::Reason;
use crate::pool::Pool;
use crate::session::receiver::Receiver;
use crate::state::log::AppendError;
use crate::state::outcome::Live;
use crate::store::{Done, Intake, Layout, Observed, Policy, Proof, Settler, Shared, Syncer, Work, recover};
use crate::task::receiver::{Input, Noted, SettledFile, Task};
use crate::wire::ChunkHeader;

/// Makes, signs and persists the receipt.
pub(super) type Issue<D> = Arc<dyn Fn(&Shared<D>, &Live) -> io::Result<()> + Send + Sync>;

/// Words that the intake keeps back at most.
const WORDS_KEPT_MAX: usize = 64;

/// What the intake's thread is told.
pub(super) enum Command {
    /// A task of the brain.
    Task(Task),
    /// The body of a `Records` message. The permit bounds how many wait.
    Records(Bytes, OwnedSemaphorePermit),
    /// A chunk as it came. The permit bounds the bytes that wait.
    Chunk(ChunkHeader, Option<Bytes>, OwnedSemaphorePermit),
    /// A new link is in use. Told to the brain after everything before.
    Connected,
    /// The sender's log ends there, and so must this one after everything before.
    SettledAt(Position),
    /// What settling did.
    Settled(Vec<SettledFile>),
    /// Answer this when everything before was done.
    Reached(SyncSender<()>),
    /// End: the readers of a link hold handles too, and may outlive the engine by a while.
    End,
}

/// What the driver hears.
pub(super) enum Heard {
    /// For the brain.
    Input(Input),
    /// Records were appended; the last page may have been bad after them.
    Records(Vec<Noted>, Option<AppendError>),
    /// Wrong bytes that a read-back met.
    Observed(Vec<Observed>),
    /// Symlinks and directories that were left out.
    LeftOut(Vec<(EntryIndex, Reason)>),
}

/// What an engine is started with.
pub(super) struct Parts<D: Disk> {
    pub(super) disk: D,
    pub(super) root: D::Dir,
    pub(super) header: Header,
    pub(super) policy: Policy,
    pub(super) issue: Issue<D>,
    pub(super) heard: UnboundedSender<Heard>,
}

/// Whether the engine ends, for a thread that waits for space, and whether one does.
#[derive(Debug, Default)]
struct Pause {
    is_ending: Mutex<bool>,
    ends: Condvar,
    is_waiting: AtomicBool,
}

impl Pause {
    /// Waits until it is time to look again. `false` if the engine ends.
    fn wait(&self) -> bool {
        self.is_waiting.store(true, Ordering::Relaxed);
        let pause = Duration::from_millis(SPACE_CHECK_MS);
        let is_ending = self.is_ending.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.ends.wait_timeout_while(is_ending, pause, |is_ending| !*is_ending);
        let is_ending = *waited.unwrap_or_else(PoisonError::into_inner).0;
        self.is_waiting.store(false, Ordering::Relaxed);
        !is_ending
    }

    fn end(&self) {
        *self.is_ending.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.ends.notify_all();
    }
}

/// The three threads.
pub(super) struct Engine<D: Disk> {
    commands: Option<Commander<Command>>,
    pause: Arc<Pause>,
    intake: Option<JoinHandle<()>>,
    syncer: Option<JoinHandle<()>>,
    settler: Option<JoinHandle<()>>,
    pub(super) shared: Arc<Shared<D>>,
    /// Which state files were damaged when it was started.
    pub(super) is_log_cut: bool,
    pub(super) is_journal_cut: bool,
}

impl<D: Disk> Engine<D> {
    /// Opens the store and starts the threads. The brain is told what the log holds. With a rung the log is cut to it.
    pub(super) fn start(parts: &Parts<D>, rung: Option<Position>, brain: &mut Receiver) -> io::Result<Engine<D>> {
        let layout = Layout::open(&parts.disk, parts.root.clone(), parts.header.transfer)?;
        let pool = Pool::new(POOL_THREADS);
        let recovered =
            recover(&parts.disk, layout, parts.header, parts.policy, pool, rung, |noted| brain.note(noted))?;
        let shared = Arc::clone(&recovered.store.shared);
        let store = recovered.store;
        let (commands, for_intake) = channel();
        let (work, for_syncer) = channel();
        let (proofs, for_settler) = channel();
        let (intake, heard, pause) = (store.intake, parts.heard.clone(), Arc::new(Pause::default()));
        let paused = Arc::clone(&pause);
        let intake = std::thread::Builder::new()
            .name("intake".into())
            .spawn(move || run_intake(intake, &for_intake, &work, &heard, &paused))?;
        let (syncer, heard) = (store.syncer, parts.heard.clone());
        let syncer = std::thread::Builder::new()
            .name("syncer".into())
            .spawn(move || run_syncer(syncer, &for_syncer, &proofs, &heard))?;
        let (settler, heard, issue) = (store.settler, parts.heard.clone(), Arc::clone(&parts.issue));
        let settler = std::thread::Builder::new()
            .name("settler".into())
            .spawn(move || run_settler(settler, &for_settler, &heard, &issue))?;
        Ok(Engine {
            commands: Some(commands),
            pause,
            intake: Some(intake),
            syncer: Some(syncer),
            settler: Some(settler),
            shared,
            is_log_cut: recovered.is_log_cut,
            is_journal_cut: recovered.is_journal_cut,
        })
    }

    /// A handle for others that give commands.
    pub(super) fn commander(&self) -> Commander<Command> {
        self.commands.clone().expect("only stopping takes it")
    }

    /// Gives a command.
    pub(super) fn tell(&self, command: Command) {
        if let Some(commands) = &self.commands {
            // The thread ends only when it is told to, or by a panic, which joining passes on.
            drop(commands.send(command));
        }
    }

    /// Waits until the intake has done everything that it was told so far. `false` if that waits for space.
    pub(super) fn catch_up(&self) -> bool {
        if self.pause.is_waiting.load(Ordering::Relaxed) {
            return false;
        }
        let (answer, reached) = sync_channel(1);
        self.tell(Command::Reached(answer));
        loop {
            match reached.recv_timeout(Duration::from_millis(PROGRESS_MS)) {
                Err(RecvTimeoutError::Timeout) if self.pause.is_waiting.load(Ordering::Relaxed) => return false,
                Err(RecvTimeoutError::Timeout) => {}
                // It fails only if the thread has ended by a panic, which joining passes on.
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return true,
            }
        }
    }

    /// Lets the threads finish what they were told and waits for them.
    pub(super) fn stop(&mut self) {
        self.pause.end();
        self.tell(Command::End);
        self.commands = None;
        for thread in [self.intake.take(), self.syncer.take(), self.settler.take()].into_iter().flatten() {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
    }
}

impl<D: Disk> Drop for Engine<D> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.stop();
        }
    }
}

/// What the intake has to say, kept back while it has more to do: each word wakes the driver, and thousands of small
/// chunks come together.
struct Words<'a> {
    heard: &'a UnboundedSender<Heard>,
    kept: Vec<Heard>,
    since: Instant,
}

impl Words<'_> {
    fn keep(&mut self, said: Heard) {
        if self.kept.is_empty() {
            self.since = Instant::now();
        }
        self.kept.push(said);
    }

    /// Whether they should wait no longer, whatever there is to do.
    fn is_due(&self) -> bool {
        self.kept.len() >= WORDS_KEPT_MAX
            || (!self.kept.is_empty() && self.since.elapsed() >= Duration::from_millis(INTAKE_SILENCE_MS))
    }

    /// `false` if nobody hears any more.
    fn say(&mut self) -> bool {
        self.kept.drain(..).all(|said| self.heard.send(said).is_ok())
    }
}

/// Large chunks that came one after the other: taken together, one is hashed while another is written.
struct Arrivals {
    chunks: Vec<(ChunkHeader, Option<Bytes>)>,
    permits: Vec<OwnedSemaphorePermit>,
}

impl Arrivals {
    fn beginning(first: (ChunkHeader, Option<Bytes>), permit: OwnedSemaphorePermit) -> Arrivals {
        Arrivals { chunks: vec![first], permits: vec![permit] }
    }

    /// Takes along what waits and belongs to them. Gives what came then and does not.
    fn gather(&mut self, commands: &Commands<Command>) -> Option<Command> {
        while self.chunks.len() < ARRIVAL_CHUNKS_MAX {
            match commands.try_recv().ok()? {
                Command::Chunk(header, bytes, permit) if is_large(&bytes) && !self.has_place_of(&header) => {
                    self.chunks.push((header, bytes));
                    self.permits.push(permit);
                }
                other => return Some(other),
            }
        }
        None
    }

    fn has_place_of(&self, header: &ChunkHeader) -> bool {
        self.chunks.iter().any(|(other, _)| (other.entry, other.chunk) == (header.entry, header.chunk))
    }
}

/// Whether a thread costs little beside a chunk's hash.
fn is_large(body: &Option<Bytes>) -> bool {
    body.as_ref().is_some_and(|bytes| bytes.len() >= ARRIVAL_BYTES_MIN)
}

fn run_intake<D: Disk>(
    mut intake: Intake<D>,
    commands: &Commands<Command>,
    work: &Commander<Work<D>>,
    heard: &UnboundedSender<Heard>,
    pause: &Pause,
) {
    let mut words = Words { heard, kept: vec![], since: Instant::now() };
    let mut ahead = None;
    loop {
        let next = ahead.take().or_else(|| if words.is_due() { None } else { commands.try_recv().ok() });
        let command = match next {
            Some(command) => command,
            None => {
                if !words.say() {
                    return;
                }
                let Ok(command) = commands.recv() else { return };
                command
            }
        };
        let said = match command {
            Command::Task(task) => match intake.perform(task) {
                Done::Input(input) => Heard::Input(input),
                Done::Work(piece) => match hand_on(&mut intake, piece, &mut words, work) {
                    true => continue,
                    false => return,
                },
                Done::Nothing | Done::NotMine(_) => continue,
            },
            Command::Records(page, permit) => {
                let Some(said) = append(&mut intake, &page, &mut words, pause) else { return };
                drop(permit);
                said
            }
            Command::Chunk(header, bytes, permit) => {
                ahead = take_in(&mut intake, (header, bytes), permit, commands, &mut words);
                continue;
            }
            Command::Connected => {
                intake.begin_link();
                Heard::Input(Input::Connected)
            }
            Command::SettledAt(position) => Heard::Input(intake.settled_at(position)),
            Command::End => {
                words.say();
                return;
            }
            Command::Reached(answer) => {
                // Whoever waits for it takes what was said before.
                let is_heard = words.say();
                let _ = answer.send(());
                if !is_heard {
                    return;
                }
                continue;
            }
            Command::Settled(files) => {
                intake.after_settle(&files);
                continue;
            }
        };
        words.keep(said);
    }
}

/// Takes in a chunk, with large ones that wait behind a large one. Gives the command that came behind them.
fn take_in<D: Disk>(
    intake: &mut Intake<D>,
    first: (ChunkHeader, Option<Bytes>),
    permit: OwnedSemaphorePermit,
    commands: &Commands<Command>,
    words: &mut Words<'_>,
) -> Option<Command> {
    if !is_large(&first.1) {
        words.keep(Heard::Input(intake.receive(first.0, first.1)));
        return None;
    }
    let mut arrivals = Arrivals::beginning(first, permit);
    let behind = arrivals.gather(commands);
    for input in intake.receive_all(arrivals.chunks) {
        words.keep(Heard::Input(input));
    }
    behind
}

/// Hands work on to the syncer. What the settler says of a batch is heard after what was said of its chunks. `false` if
/// nobody hears any more.
fn hand_on<D: Disk>(intake: &mut Intake<D>, piece: Work<D>, words: &mut Words<'_>, work: &Commander<Work<D>>) -> bool {
    intake.take_missing().into_iter().for_each(|missing| words.keep(Heard::Input(missing)));
    let is_heard = words.say();
    if is_heard {
        drop(work.send(piece));
    }
    is_heard
}

/// Appends records, however long that waits for space. `None` if the engine ends meanwhile.
fn append<D: Disk>(intake: &mut Intake<D>, page: &[u8], words: &mut Words<'_>, pause: &Pause) -> Option<Heard> {
    let mut notes = vec![];
    let mut error = intake.append(page, &mut notes).err();
    while let Some(AppendError::Io(full)) = &error
        && is_full(full)
    {
        words.keep(Heard::Input(Input::StateFull));
        if !words.say() || !pause.wait() {
            return None;
        }
        error = intake.finish_append().err();
    }
    Some(Heard::Records(notes, error))
}

fn run_syncer<D: Disk>(
    mut syncer: Syncer<D>,
    work: &Commands<Work<D>>,
    proofs: &Commander<Proof<D>>,
    heard: &UnboundedSender<Heard>,
) {
    while let Ok(piece) = work.recv() {
        let done = syncer.perform(piece);
        let said = match &done {
            Ok(Proof::Batch(_)) => Some(Input::BatchSynced),
            Ok(Proof::Errand(_)) => None,
            Err(input) => Some(input.clone()),
        };
        // Said before the settler has it: what that says of the batch is heard later.
        if said.is_some_and(|input| heard.send(Heard::Input(input)).is_err()) {
            return;
        }
        if done.is_ok_and(|proof| proofs.send(proof).is_err()) {
            return;
        }
    }
}

fn run_settler<D: Disk>(
    mut settler: Settler<D>,
    proofs: &Commands<Proof<D>>,
    heard: &UnboundedSender<Heard>,
    issue: &Issue<D>,
) {
    while let Ok(proof) = proofs.recv() {
        let input = settler.perform(proof, |shared, live| issue(shared, live));
        let observed = settler.take_observed();
        if !observed.is_empty() {
            drop(heard.send(Heard::Observed(observed)));
        }
        let left_out = settler.take_left_out();
        if !left_out.is_empty() {
            drop(heard.send(Heard::LeftOut(left_out)));
        }
        if heard.send(Heard::Input(input)).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;
    use crate::wire::Body;

    #[test]
    fn large_chunks_are_taken_along_until_something_else_comes() {
        let permits = Arc::new(Semaphore::new(100));
        let chunk = |chunk: u32, bytes: usize| {
            let body = Body::Bytes(u32::try_from(bytes).expect("short"));
            let permit = Arc::clone(&permits).try_acquire_owned().expect("one of many");
            (ChunkHeader { entry: EntryIndex(1), chunk, body }, Some(Bytes::from(vec![0; bytes])), permit)
        };
        let large = ARRIVAL_BYTES_MIN;
        // What waits behind chunk 0, how much of it is taken along, and whether one is given back.
        for (waiting, taken, has_behind) in [
            (vec![], 1, false),
            (vec![(1, large), (2, large)], 3, false),
            (vec![(1, large), (0, large)], 2, true),
            (vec![(1, large - 1), (2, large)], 1, true),
            (vec![(1, large), (2, large), (3, large), (4, large)], ARRIVAL_CHUNKS_MAX, false),
        ] {
            let (sender, commands) = channel();
            for (number, bytes) in &waiting {
                let (header, body, permit) = chunk(*number, *bytes);
                assert!(sender.send(Command::Chunk(header, body, permit)).is_ok());
            }
            let (header, body, permit) = chunk(0, large);
            let mut arrivals = Arrivals::beginning((header, body), permit);
            let behind = arrivals.gather(&commands);
            assert_eq!((arrivals.chunks.len(), arrivals.permits.len()), (taken, taken), "{waiting:?}");
            assert_eq!(behind.is_some(), has_behind, "{waiting:?}");
        }
    }
}
