//! `--delete`: what the target has and the sources have not is listed, asked about, noted and removed, once a transfer has
//! succeeded. Looking and removing is `crate::prune`'s; this is who is asked, what is shown, and what is written down.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use serde_json::{Map, Value};

use super::arguments::{BothArguments, ReceiverArguments, RecvArguments, SendArguments};
use super::console::Console;
use super::failure::Failure;
use super::run::Job;
use super::screen::{Output, can_ask};
use super::signals::Shutdown;
use super::values::ExistingWord;
use super::{child, json, plan, settings, shown, streams, verify};
use crate::attributes::FileKind;
use crate::disk::Rooted;
use crate::error::{Error, Exit};
use crate::identity::{Role, TransferId};
use crate::options::{ChildCommand, CommonOptions, RecvOptions, SendOptions};
use crate::path::{Escaped, RelPath};
use crate::progress::figures::{bytes, count, counted};
use crate::prune::{Ends, Entry, Fate, Listing, Protected};
use crate::receipt::kind_word;
use crate::state::home::Home;

/// Between two looks for a signal while a question stands on the screen.
const WAIT_MS: u64 = 100;

/// Whether the user has agreed already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Agreed {
    /// With `--yes`.
    Yes,
    /// Not yet.
    No,
}

/// What this side has of the two.
#[derive(Clone, Debug)]
pub(super) enum Side {
    /// The sources.
    Sender(Vec<PathBuf>),
    /// The target.
    Receiver(PathBuf),
}

/// A deletion that is to come.
#[derive(Debug)]
pub(super) struct Deletion {
    agreed: Agreed,
    side: Side,
    child: ChildCommand,
    home: PathBuf,
    patience: Option<Duration>,
    /// The target, as it was typed.
    dir: String,
}

/// Whether a sender is to delete at its receiver.
pub(super) fn asked_of_send(arguments: &SendArguments) -> Result<Option<Agreed>, Failure> {
    let is_stream = streams::input_name(arguments)?.is_some();
    let example = "`landfall send PATH... --to DIR --delete`";
    asked(&arguments.both, &arguments.receiver, arguments.to.is_some(), is_stream, example)
}

/// Whether a receiver is to delete what its sender has not.
pub(super) fn asked_of_recv(arguments: &RecvArguments) -> Result<Option<Agreed>, Failure> {
    let example = "`landfall recv DIR --from SRC --delete`";
    asked(&arguments.both, &arguments.receiver, arguments.from.is_some(), arguments.stdout, example)
}

fn asked(
    both: &BothArguments,
    receiver: &ReceiverArguments,
    has_both: bool,
    is_stream: bool,
    example: &str,
) -> Result<Option<Agreed>, Failure> {
    match both.delete {
        false => Ok(None),
        true if receiver.existing == Some(ExistingWord::Rename) => Err(Failure::usage(
            "`--delete` makes the target a copy of the sources, and `--existing rename` keeps what the sources have not",
        )
        .hint("leave out one of the two")),
        true if is_stream => {
            Err(Failure::usage("`--delete` compares directories, and a stream is none").hint("leave out `--delete`"))
        }
        true if !has_both => Err(Failure::usage(
            "`--delete` needs `--to` or `--from`: with a ticket the other side is not under this command",
        )
        .hint(format!("name the other side, as {example}"))),
        true => Ok(Some(if both.yes { Agreed::Yes } else { Agreed::No })),
    }
}

impl Deletion {
    /// After the transfer that a job is.
    pub(super) fn after(job: &Job, agreed: Agreed) -> Result<Deletion, Failure> {
        let child = plan::child_of(job.common().meeting.clone())?;
        let side = match job {
            Job::Send(SendOptions { paths, .. }) => Side::Sender(paths.clone()),
            Job::Receive(RecvOptions { dir, .. }) => Side::Receiver(dir.clone()),
        };
        if let Some(receipt) = &job.common().receipt {
            refuse_below(&side, &child, receipt, "the receipt")?;
        }
        Ok(Deletion { agreed, ..Deletion::planned(side, &child, job.common())? })
    }

    /// One that is only listed.
    pub(super) fn planned(side: Side, child: &ChildCommand, common: &CommonOptions) -> Result<Deletion, Failure> {
        let sources = match &side {
            Side::Sender(paths) => paths.clone(),
            Side::Receiver(_) => child::path_of(&child.options).into_iter().collect(),
        };
        sources.iter().try_for_each(|source| refuse_below(&side, child, source, "the source"))?;
        let dir = match &side {
            Side::Receiver(dir) => shown::path(dir).to_string(),
            Side::Sender(_) => {
                let path = child::path_of(&child.options).unwrap_or_default();
                let host = child.remote.as_ref().map(|remote| format!("{}:", Escaped(remote.host.as_bytes())));
                host.unwrap_or_default() + &shown::path(&path).to_string()
            }
        };
        let (home, patience) = (common.home.clone(), common.answer_patience);
        Ok(Deletion { agreed: Agreed::No, side, child: child::deleting(child), home, patience, dir })
    }

    /// Lists what would be deleted, and deletes nothing. The exit code of the plan that it belongs to.
    pub(super) fn plan<D: Rooted>(
        self,
        disk: &D,
        exit: Exit,
        console: &Console,
        output: Output,
    ) -> Result<Exit, Failure> {
        let mut ends = self.open(disk)?;
        let listing = ends.list(None, || Ok(())).map_err(|error| failure(&error))?;
        ends.finish();
        let shown = Shown { console, output, dir: &self.dir, is_plan: true };
        shown.list(&listing);
        let exit = if exit == Exit::Done && !listing.unlisted.is_empty() { Exit::LeftOut } else { exit };
        shown.conclude(&Totals::of(&listing.entries), None, exit);
        Ok(exit)
    }

    /// Lists, asks and deletes after a transfer that has succeeded with this exit code.
    pub(super) fn run<D: Rooted>(
        self,
        disk: &D,
        transfer: TransferId,
        exit: Exit,
        console: &Arc<Console>,
        output: Output,
        shutdown: &Shutdown,
    ) -> Result<Exit, Failure> {
        let role = match self.side {
            Side::Sender(_) => Role::Sender,
            Side::Receiver(_) => Role::Receiver,
        };
        let home = Home::open(&self.home).map_err(|error| failure(&error))?;
        let protected = protected(&home.receipt_path(transfer, role))?;
        let go_on = || {
            shutdown.now().map_or(Ok(()), |signal| Err(Error::Interrupted { name: signal.name, number: signal.number }))
        };
        let mut ends = self.open(disk)?;
        let listing = ends.list(Some(&protected), go_on).map_err(|error| failure(&error))?;
        let shown = Shown { console, output, dir: &self.dir, is_plan: false };
        shown.list(&listing);
        let wanted = Totals::of(&listing.entries);
        let unlisted = listing.unlisted.len() as u64;
        if listing.entries.is_empty() {
            let exit = if unlisted > 0 { Exit::LeftOut } else { exit };
            shown.conclude(&wanted, Some(&Done::default()), exit);
            ends.finish();
            return Ok(exit);
        }
        if output == Output::Text {
            console.result(&(wanted.text("would delete") + &format!(" below {}\n", self.dir)));
        }
        if !self.is_agreed(console, shutdown)? {
            shown.conclude(&wanted, None, Exit::LeftOut);
            return Ok(Exit::LeftOut);
        }
        let mut log = home.open_deletion_log(transfer, role).map_err(|error| failure(&error))?;
        let path = home.deletion_log_path(transfer, role);
        let unkept = |source| Error::State { path: path.clone(), source };
        let mut done = Done { log: Some(path.clone()), ..Done::default() };
        let log = std::cell::RefCell::new(&mut log);
        let removed = ends.remove(
            listing.entries,
            |batch| {
                go_on()?;
                log.borrow_mut().append(&batch.iter().map(announced).collect::<String>()).map_err(unkept)
            },
            |batch, fates| {
                let lines: String = batch.iter().zip(fates).map(|(entry, fate)| concluded(entry, fate)).collect();
                batch.iter().zip(fates).for_each(|(entry, fate)| {
                    done.take(entry, fate);
                    shown.tell(entry, fate);
                });
                log.borrow_mut().append(&lines).map_err(unkept)
            },
        );
        removed.map_err(|error| {
            console.notice(&format!("{}; each is noted in `{}`", done.gone.text("deleted"), path.display()));
            failure(&error)
        })?;
        ends.finish();
        let exit = if done.left > 0 || unlisted > 0 { Exit::LeftOut } else { exit };
        shown.conclude(&wanted, Some(&done), exit);
        Ok(exit)
    }

    fn open<D: Rooted>(&self, disk: &D) -> Result<Ends<D>, Failure> {
        let opened = match &self.side {
            Side::Sender(paths) => Ends::send(disk, paths, &self.child, self.patience),
            Side::Receiver(dir) => {
                let name = child::arrives_as(&self.child).map(|name| RelPath::parse(&name)).transpose();
                let name = name.map_err(|refused| Failure::new("the source has no name", &refused))?;
                Ends::receive(disk, (dir, &self.home), name, &self.child, self.patience)
            }
        };
        opened.map_err(|error| failure(&error))
    }

    /// Whether the user agrees. A signal ends the question.
    fn is_agreed(&self, console: &Arc<Console>, shutdown: &Shutdown) -> Result<bool, Failure> {
        if self.agreed == Agreed::Yes {
            return Ok(true);
        }
        if !can_ask() {
            console.error(
                "nothing was deleted: nobody can be asked here\nhint: run the same command again with `--yes`\n",
            );
            return Ok(false);
        }
        let (answered, answers) = sync_channel(1);
        let asking = Arc::clone(console);
        let ask = move || {
            // Whoever waits has room for the answer, or waits no more.
            let _ = answered.try_send(asking.ask("delete them? [y/N] "));
        };
        let spawned = thread::Builder::new().name("question".into()).spawn(ask);
        spawned.map_err(|error| Failure::new("could not start a thread", &error))?;
        loop {
            match answers.recv_timeout(Duration::from_millis(WAIT_MS)) {
                Ok(answer) => {
                    let answer = answer.unwrap_or_default().trim().to_ascii_lowercase();
                    return Ok(matches!(answer.as_str(), "y" | "yes"));
                }
                Err(RecvTimeoutError::Timeout) => {
                    if let Some(signal) = shutdown.now() {
                        let failure = Failure::usage(format!("stopped by {}; nothing was deleted", signal.name));
                        return Err(Failure { exit: Exit::Signal(signal.number), ..failure });
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(false),
            }
        }
    }
}

/// What lies in the target of this machine would be compared with the sources, and removed.
fn refuse_below(side: &Side, child: &ChildCommand, path: &Path, what: &str) -> Result<(), Failure> {
    let target = match side {
        Side::Receiver(dir) => Some(dir.clone()),
        Side::Sender(_) => child::path_of(&child.options).filter(|_| child.remote.is_none()),
    };
    let is_far = child.remote.is_some() && matches!(side, Side::Receiver(_)) && what == "the source";
    let target = target.filter(|_| !is_far).and_then(|target| settings::resolved(&target));
    match (target, settings::resolved(path)) {
        (Some(target), Some(path)) if path.starts_with(&target) => Err(Failure::usage(format!(
            "{what} `{}` lies inside the target, where `--delete` could remove it",
            shown::path(&path)
        ))
        .hint("choose a target outside of it")),
        _ => Ok(()),
    }
}

/// What the transfer knows, from its receipt.
fn protected(path: &Path) -> Result<Protected, Failure> {
    let mut protected = Protected::default();
    for line in verify::open(path)?.lines() {
        protected.add(&line.map_err(|error| verify::unbelieved(path, &error))?);
    }
    Ok(protected)
}

fn failure(error: &Error) -> Failure {
    let failure = Failure::from(error);
    match error {
        // The transfer is closed: there is nothing that could be resumed.
        Error::NoLink { .. } | Error::Interrupted { .. } => failure.hint("run the same command again"),
        _ => failure,
    }
}

/// How many of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Totals {
    files: u64,
    directories: u64,
    symlinks: u64,
    specials: u64,
    bytes: u64,
}

impl Totals {
    fn of(entries: &[Entry]) -> Totals {
        let mut totals = Totals::default();
        entries.iter().for_each(|entry| totals.add(entry));
        totals
    }

    fn add(&mut self, entry: &Entry) {
        match entry.kind {
            FileKind::Regular => self.files += 1,
            FileKind::Directory => self.directories += 1,
            FileKind::Symlink => self.symlinks += 1,
            FileKind::Special => self.specials += 1,
        }
        self.bytes = self.bytes.saturating_add(entry.size);
    }

    /// As "would delete 3 files, 1 directory, 2.0 MiB".
    fn text(&self, verb: &str) -> String {
        let all = [
            (self.files, "file", "files"),
            (self.directories, "directory", "directories"),
            (self.symlinks, "symlink", "symlinks"),
            (self.specials, "special file", "special files"),
        ];
        let some = all.iter().filter(|(number, ..)| *number > 0);
        let mut parts: Vec<String> = some.map(|(number, one, many)| counted(*number, one, many)).collect();
        match parts.is_empty() {
            true => return format!("{verb} nothing"),
            false => parts.push(bytes(self.bytes)),
        }
        format!("{verb} {}", parts.join(", "))
    }
}

/// What became of all.
#[derive(Debug, Default)]
struct Done {
    gone: Totals,
    left: u64,
    log: Option<PathBuf>,
}

impl Done {
    fn take(&mut self, entry: &Entry, fate: &Fate) {
        match fate {
            Fate::Removed => self.gone.add(entry),
            Fate::Gone => {}
            Fate::Changed | Fate::Back | Fate::NotEmpty | Fate::Failed(_) => self.left += 1,
        }
    }
}

/// Why an entry is still there.
fn why(fate: &Fate) -> Option<String> {
    match fate {
        Fate::Removed | Fate::Gone => None,
        Fate::Changed => Some("it is not what was listed any more".to_owned()),
        Fate::Back => Some("the source has it again".to_owned()),
        Fate::NotEmpty => Some("something is in it now".to_owned()),
        Fate::Failed(words) => Some(Escaped(words.as_bytes()).to_string()),
    }
}

/// The line of the log before a removal.
fn announced(entry: &Entry) -> String {
    json::line(entry_object("to-delete", entry), None)
}

/// The line of the log after it.
fn concluded(entry: &Entry, fate: &Fate) -> String {
    let word = match fate {
        Fate::Removed => "deleted",
        Fate::Gone => "absent",
        Fate::Changed | Fate::Back | Fate::NotEmpty | Fate::Failed(_) => "not-deleted",
    };
    let mut object = entry_object(word, entry);
    object.extend(why(fate).map(|why| ("message".to_owned(), why.into())));
    json::line(object, None)
}

fn entry_object(event: &str, entry: &Entry) -> Map<String, Value> {
    let mut object = json::object(event);
    json::put_bytes(&mut object, "path", entry.path.as_bytes());
    object.insert("kind".into(), kind_word(entry.kind).into());
    if entry.kind == FileKind::Regular {
        object.insert("bytes".into(), entry.size.into());
    }
    object
}

/// The screen.
struct Shown<'a> {
    console: &'a Console,
    output: Output,
    dir: &'a str,
    /// Nobody is asked, and nothing goes.
    is_plan: bool,
}

impl Shown<'_> {
    fn result(&self, object: Map<String, Value>) {
        self.console.result(&json::line(object, None));
    }

    /// Every entry, and every directory about which nothing is known.
    fn list(&self, listing: &Listing) {
        for entry in &listing.entries {
            match self.output {
                Output::Json => self.result(entry_object("to-delete", entry)),
                Output::Text | Output::Aside | Output::Nothing => self.console.result(&entry_text(entry)),
            }
        }
        for path in &listing.unlisted {
            let named = path.as_ref().map_or_else(|| self.dir.to_owned(), ToString::to_string);
            self.console.error(&format!("warning: `{named}` cannot be listed, and nothing in it is deleted\n"));
            if self.output == Output::Json {
                let mut object = json::object("not-listed");
                path.iter().for_each(|path| json::put_bytes(&mut object, "path", path.as_bytes()));
                self.result(object);
            }
        }
    }

    /// Of one that was to be removed.
    fn tell(&self, entry: &Entry, fate: &Fate) {
        let Some(why) = why(fate) else { return };
        self.console.error(&format!("warning: `{}` was not deleted: {why}\n", entry.path));
        if self.output == Output::Json {
            let mut object = entry_object("not-deleted", entry);
            object.insert("message".into(), why.into());
            self.result(object);
        }
    }

    /// The sum. `None` if nobody has agreed, or nobody was to be asked.
    fn conclude(&self, wanted: &Totals, done: Option<&Done>, exit: Exit) {
        if self.output == Output::Json {
            return self.result(sum_object(wanted, done, exit));
        }
        let dir = self.dir;
        let text = match done {
            None if !self.is_plan => "nothing was deleted\n".to_owned(),
            None => format!("{} below {dir}\n", wanted.text("would delete")),
            Some(_) if *wanted == Totals::default() => format!("nothing to delete below {dir}\n"),
            Some(Done { gone, left, log }) => {
                let left = if *left > 0 { format!("; {} not deleted", count(*left)) } else { String::new() };
                let log = log.as_ref().map(|log| format!("; each is noted in {}", shown::path(log)));
                format!("{} below {dir}{left}{}\n", gone.text("deleted"), log.unwrap_or_default())
            }
        };
        self.console.result(&text);
    }
}

fn entry_text(entry: &Entry) -> String {
    let path = &entry.path;
    match entry.kind {
        FileKind::Regular => format!("would delete `{path}` ({})\n", bytes(entry.size)),
        FileKind::Directory => format!("would delete the directory `{path}`\n"),
        FileKind::Symlink => format!("would delete the symlink `{path}`\n"),
        FileKind::Special => format!("would delete the special file `{path}`\n"),
    }
}

fn sum_object(wanted: &Totals, done: Option<&Done>, exit: Exit) -> Map<String, Value> {
    let mut object = json::object("deletion");
    object.insert("exit".into(), exit.code().into());
    let gone = done.map(|done| done.gone).unwrap_or_default();
    for (prefix, totals) in [("", wanted), ("deleted_", &gone)] {
        let fields = [
            ("files", totals.files),
            ("directories", totals.directories),
            ("symlinks", totals.symlinks),
            ("specials", totals.specials),
            ("bytes", totals.bytes),
        ];
        object.extend(fields.map(|(key, number)| (format!("{prefix}{key}"), number.into())));
    }
    object.insert("is_agreed".into(), done.is_some().into());
    object.insert("not_deleted".into(), done.map_or(0, |done| done.left).into());
    if let Some(log) = done.and_then(|done| done.log.as_ref()) {
        json::put_path(&mut object, "log", log);
    }
    object
}
