//! `send -` and `recv --stdout`: what is refused, standard input before a transfer, standard output after one. Where the
//! bytes lie meanwhile is `state::stream`'s; the transfer itself does not know that they are not a file of the user's.

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::fd::AsFd;

use super::arguments::{RecvArguments, SendArguments, SenderArguments};
use super::console::Console;
use super::failure::Failure;
use super::pipes::{self, Input, Written};
use super::run::Job;
use super::screen::short;
use super::signals::{Shutdown, Signal};
use super::text::quoted;
use super::transfers::Labelled;
use super::values::ExistingWord;
use super::{invitation, lan, settings, shown, verify};
use crate::attributes::FileKind;
use crate::disk::RealDisk;
use crate::error::{Exit, is_full};
use crate::event::{Event, Events, Summary};
use crate::identity::Role;
use crate::limits::{CHUNK_BYTES, PROGRESS_MS};
use crate::options::Meeting;
use crate::outcome::Outcome;
use crate::path::RelPath;
use crate::progress::figures::{bytes, counted};
use crate::receipt::Line;
use crate::state::closing::Concluded;
use crate::state::given;
use crate::state::home::Home;
use crate::state::stream::{self, Spool, Stream, StreamKey};
use crate::state::transfer::TransferRecord;
use crate::verify::output::{OutputError, write_out};

/// What is typed for standard input.
const INPUT: &str = "-";

/// The stream that a transfer is about.
#[derive(Debug)]
pub(super) struct Piped {
    key: StreamKey,
    use_: Use,
}

/// What this process does with the stream.
#[derive(Debug)]
enum Use {
    /// Reads it from standard input first, under this name.
    Input(OsString),
    /// Writes it to standard output last.
    Output,
    /// Goes on with what was read, or answers for what was written.
    Kept,
}

/// What `send` is asked to do.
pub(super) fn send(mut arguments: SendArguments, console: &Console) -> Result<Labelled, Failure> {
    let shows_qr = arguments.both.qr;
    let Some(name) = input_name(&arguments)? else {
        let job = Job::Send(settings::send(arguments, console)?);
        return Ok(Labelled { shows_qr, ..Labelled::of(job) });
    };
    refuse_closed("input", io::stdin())?;
    refuse_unreadable(&arguments, io::stdin().is_terminal())?;
    arguments.paths.clear();
    let mut options = settings::send(arguments, console)?;
    let key = StreamKey::new(Role::Sender, &name, &options.common.meeting);
    options.paths = vec![key.content_dir(&options.common.home).join(&name)];
    let piped = Some(Piped { key, use_: Use::Input(name) });
    Ok(Labelled { shows_qr, piped, ..Labelled::of(Job::Send(options)) })
}

/// What `recv` is asked to do.
pub(super) fn recv(mut arguments: RecvArguments, console: &Arc<Console>) -> Result<Labelled, Failure> {
    let shows_qr = arguments.both.qr;
    if !arguments.stdout {
        let job = Job::Receive(settings::recv(arguments, console)?);
        return Ok(Labelled { shows_qr, ..Labelled::of(job) });
    }
    refuse_closed("output", io::stdout())?;
    if io::stdout().is_terminal() {
        return Err(Failure::usage("standard output is a terminal, and what comes may be anything")
            .hint("give it on: `landfall recv --stdout | zcat`, or `> FILE`"));
    }
    arguments.dir = settings::home()?;
    // What lies there is an earlier version of the same.
    arguments.receiver.existing = Some(ExistingWord::Replace);
    let mut options = settings::recv(arguments, console)?;
    let key = StreamKey::new(Role::Receiver, OsStr::new(""), &options.common.meeting);
    options.dir = key.content_dir(&options.common.home);
    let piped = Some(Piped { key, use_: Use::Output });
    Ok(Labelled { shows_qr, piped, ..Labelled::of(Job::Receive(options)) })
}

/// What `resume` does with the stream that a record is about, if it is about one.
pub(super) fn resumed(home: &Home<RealDisk>, record: &TransferRecord) -> Option<Piped> {
    let key = stream::key_of(home, record)?;
    // What is closed was written out before.
    let use_ = if record.role == Role::Receiver && record.is_open() { Use::Output } else { Use::Kept };
    Some(Piped { key, use_ })
}

impl Piped {
    /// Whether what comes goes to standard output.
    pub(super) fn is_output(&self) -> bool {
        matches!(self.use_, Use::Output)
    }
}

/// The name of what comes from standard input; `None` if nothing does.
pub(super) fn input_name(arguments: &SendArguments) -> Result<Option<OsString>, Failure> {
    let is_input = arguments.paths.iter().any(|path| path.as_os_str() == INPUT);
    match (is_input, &arguments.name) {
        (false, None) => Ok(None),
        (false, Some(_)) => Err(Failure::usage("`--name` names standard input, and that is not sent")
            .hint("`landfall send - --name NAME` sends it; a file arrives under the name that it has")),
        (true, _) if arguments.paths.len() > 1 => Err(Failure::usage("`-` is standard input, which is sent alone")
            .hint("a file that is called `-` is written as `./-`")),
        (true, None) => Err(Failure::usage("standard input has no name under which it could arrive")
            .hint("`landfall send - --name NAME` gives it one; a file that is called `-` is written as `./-`")),
        (true, Some(name)) => {
            let is_plain = !name.as_bytes().contains(&b'/');
            match RelPath::parse(name.as_bytes()) {
                Ok(_) if is_plain => Ok(Some(name.clone())),
                Ok(_) => Err(bad_name(name, "it is the name of a file, without directories")),
                Err(refused) => Err(bad_name(name, &refused.to_string())),
            }
        }
    }
}

fn bad_name(name: &OsStr, cause: &str) -> Failure {
    let failure = Failure::usage(format!("nothing can arrive under the name `{}`", shown::os(name)));
    failure.cause(cause).hint("give another with `--name NAME`; DEST says into which directory")
}

/// What was closed before this process began would be the null device to it: everything goes in, and nothing comes out.
fn refuse_closed(which: &str, stream: impl AsFd) -> Result<(), Failure> {
    match given::is_closed(stream) {
        false => Ok(()),
        true => Err(Failure::usage(format!("standard {which} is closed"))
            .hint(format!("give it a pipe or a file; if the null device is meant, open it for {which} alone"))),
    }
}

/// What cannot be done with standard input.
fn refuse_unreadable(arguments: &SendArguments, is_terminal: bool) -> Result<(), Failure> {
    if is_terminal {
        return Err(Failure::usage("standard input is a terminal, and `-` sends what comes from there")
            .hint("pipe something in: `pg_dump db | landfall send - --name db.sql`"));
    }
    if arguments.both.ticket && !invitation::is_in_environment() {
        return Err(Failure::usage("the ticket and what is sent cannot both come from standard input")
            .hint("give the ticket with `--ticket-file FILE`, or in `LANDFALL_TICKET`"));
    }
    if arguments.both.lan && !lan::is_in_environment() {
        return Err(Failure::usage("the code and what is sent cannot both come from standard input")
            .hint("give the code in `LANDFALL_CODE`"));
    }
    let chosen = SenderArguments { reread_source: false, ..arguments.sender.clone() };
    if chosen != SenderArguments::default() {
        return Err(Failure::usage("standard input is sent whole: there is nothing to choose from")
            .hint("leave out `--exclude` and its kin"));
    }
    Ok(())
}

/// A stream on which this process works alone.
pub(super) struct Held {
    stream: Stream,
    use_: Use,
}

/// Takes the stream of a transfer, if it is about one.
pub(super) fn take(piped: Option<Piped>, job: &Job) -> Result<Option<Held>, Failure> {
    let Some(Piped { key, use_ }) = piped else { return Ok(None) };
    let take = || {
        let home = Home::open(&job.common().home)?;
        match job.common().meeting {
            Meeting::Resume(..) => Stream::hold(&home, &key),
            _ => Stream::begin(&home, &key),
        }
    };
    let stream = take().map_err(|error| Failure::from(&error))?;
    Ok(Some(Held { stream, use_ }))
}

impl Held {
    /// Reads standard input to its end, if it is what is sent. Nothing is promised before that, and nothing stays if it does
    /// not come to it.
    pub(super) fn read_in(&self, events: &Events, shutdown: &Shutdown) -> Result<(), Failure> {
        let Use::Input(name) = &self.use_ else { return Ok(()) };
        let mut spool = self.stream.spool().map_err(|error| self.not_kept(0, &error))?;
        let (started, mut told) = (Instant::now(), Instant::now());
        let mut buffer = vec![0; CHUNK_BYTES as usize];
        let tell = |spool: &Spool<_>, is_total| {
            events.emit(Event::Reading { bytes: spool.bytes(), elapsed: started.elapsed(), is_total });
        };
        loop {
            if let Some(signal) = shutdown.now() {
                return Err(stopped(signal, "before the end of standard input; nothing was sent"));
            }
            if told.elapsed() >= Duration::from_millis(PROGRESS_MS) {
                tell(&spool, false);
                told = Instant::now();
            }
            let input = pipes::read(&mut buffer);
            match input.map_err(|error| Failure::new("could not read standard input to its end", &error))? {
                Input::Bytes(count) => {
                    spool.write(&buffer[..count]).map_err(|error| self.not_kept(spool.bytes(), &error))?;
                }
                Input::Nothing => {}
                Input::End => break,
            }
        }
        let total_bytes = spool.bytes();
        let last = Event::Reading { bytes: total_bytes, elapsed: started.elapsed(), is_total: true };
        spool.finish(name).map_err(|error| self.not_kept(total_bytes, &error))?;
        events.emit(last);
        Ok(())
    }

    /// Standard input could not be written to this machine's disk.
    fn not_kept(&self, read_bytes: u64, error: &io::Error) -> Failure {
        let dir = self.stream.content_dir();
        let message = format!("could not keep standard input in `{}`", dir.display());
        let failure = Failure::new(&message, error).cause(&format!("{} of it had come", bytes(read_bytes)));
        match is_full(error) {
            true => Failure { exit: Exit::Again, ..failure }.hint(
                "free space there, or choose another place with `LANDFALL_HOME=DIR`; then run the same command again",
            ),
            false => failure,
        }
    }

    /// Writes what has come to standard output, if that is where it goes.
    pub(super) fn write_out(
        &self,
        concluded: &Concluded,
        shutdown: &Shutdown,
        console: &Console,
    ) -> Result<(), Unwritten> {
        if !matches!(self.use_, Use::Output) {
            return Ok(());
        }
        if concluded.was_closed() {
            let failure =
                nothing_written().cause("what this ticket brought was written by an earlier run, and is not kept");
            return Err(Unwritten::kept(failure.hint("start both sides again for a new ticket")));
        }
        let summary = &concluded.summary;
        let line = self.only_file(summary)?;
        let (dir, size) = (self.stream.content_dir(), line.size);
        let written_bytes = Arc::new(AtomicU64::new(0));
        let work = move |write: &dyn Fn(&[u8]) -> io::Result<()>| {
            let root = RealDisk::open_root(&dir).map_err(OutputError::Read)?;
            write_out(&RealDisk::new(), &root, &line, write)
        };
        let written = pipes::aside(shutdown, &written_bytes, work)
            .map_err(|error| Unwritten::kept(Failure::new("could not write to standard output", &error)))?;
        let so_far = format!("{} of {}", bytes(written_bytes.load(Ordering::Relaxed)), bytes(size));
        match written {
            Written::Ended(Ok(())) => {
                console.notice(&format!("{} read back once more and written to standard output", bytes(size)));
                Ok(())
            }
            Written::Ended(Err(error)) => Err(Unwritten::kept(self.broken_off(&error, &so_far, summary))),
            Written::Stopped(signal) => {
                let what = format!("when {so_far} were written to standard output; what has come is kept");
                Err(Unwritten::kept(stopped(signal, &what)))
            }
        }
    }

    fn broken_off(&self, error: &OutputError, so_far: &str, summary: &Summary) -> Failure {
        let id = short(summary.transfer);
        match error {
            OutputError::Write(error) => {
                Failure::new(&format!("standard output took only {so_far}"), error).hint(format!(
                    "what has come is kept: the same command writes it from the beginning, `landfall forget {id}` drops it"
                ))
            }
            error => {
                let dir = self.stream.content_dir();
                let message = format!("what has come into `{}` cannot be read as it was received", dir.display());
                Failure::new(&message, error)
                    .cause(&format!("standard output has had {so_far}"))
                    .hint(format!("`landfall forget {id}` drops it; then receive it anew"))
            }
        }
    }

    /// The line of the one file that has come.
    fn only_file(&self, summary: &Summary) -> Result<Line, Unwritten> {
        let path = self.receipt(summary);
        let receipt = verify::open(&path).map_err(Unwritten::kept)?;
        let mut lines = Vec::new();
        for line in receipt.lines().take(2) {
            lines.push(line.map_err(|error| Unwritten::kept(verify::unbelieved(&path, &error)))?);
        }
        let nothing = |cause: String| Unwritten { failure: nothing_written().cause(&cause), is_over: true };
        match lines.as_slice() {
            [] => Err(nothing("nothing has come".to_owned())),
            [line] => match line.outcome {
                Outcome::LeftOut(reason) => Err(nothing(format!("`{}` was left out: {reason}", line.path))),
                _ if line.kind == FileKind::Regular => Ok(line.clone()),
                _ => Err(self.not_one_file(summary)),
            },
            _ => Err(self.not_one_file(summary)),
        }
    }

    fn not_one_file(&self, summary: &Summary) -> Unwritten {
        let (counts, id) = (&summary.counts, short(summary.transfer));
        let all = [
            (counts.files, "file", "files"),
            (counts.directories, "directory", "directories"),
            (counts.symlinks, "symlink", "symlinks"),
            (counts.left_out, "entry that was left out", "entries that were left out"),
        ];
        let came = all.iter().filter(|(number, ..)| *number > 0);
        let came: Vec<String> = came.map(|(number, one, many)| counted(*number, one, many)).collect();
        let dir = self.stream.content_dir();
        Unwritten::kept(
            nothing_written()
                .cause(&format!("{} came, and it takes one file and nothing else", came.join(", ")))
                .cause(&format!("they lie in `{}`", dir.display()))
                .hint(format!("copy it from there, then drop it with `landfall forget {id}`")),
        )
    }

    /// The receipt in this home, whatever copy was asked for.
    fn receipt(&self, summary: &Summary) -> PathBuf {
        self.stream.home().receipt_path(summary.transfer, Role::Receiver)
    }

    /// Lets go of the stream. What no open transfer is about is removed.
    pub(super) fn release(self) {
        self.stream.release();
    }
}

/// Why standard output did not get what has come.
pub(super) struct Unwritten {
    pub(super) failure: Failure,
    /// There is nothing that another run could write: the transfer is closed all the same.
    pub(super) is_over: bool,
}

impl Unwritten {
    fn kept(failure: Failure) -> Unwritten {
        Unwritten { failure, is_over: false }
    }
}

fn nothing_written() -> Failure {
    Failure { exit: Exit::Failed, ..Failure::usage("nothing was written to standard output") }
}

fn stopped(signal: Signal, what: &str) -> Failure {
    let failure = Failure::usage(format!("stopped by {} {what}", signal.name)).hint("run the same command again");
    Failure { exit: Exit::Signal(signal.number), ..failure }
}

/// What a record is about, for a screen: `None` if it is about paths of the user's.
pub(super) fn described(home: &Home<RealDisk>, record: &TransferRecord) -> Option<String> {
    stream::key_of(home, record)?;
    Some(match record.role {
        Role::Sender => {
            let name = record.paths.first().and_then(|path| path.file_name()).unwrap_or_default();
            format!("standard input as {}", quoted(Path::new(name)))
        }
        Role::Receiver => "standard output".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use clap::Parser;

    use super::super::arguments::{Arguments, Command};
    use super::*;

    fn parsed(line: &[&[u8]]) -> SendArguments {
        let words = [&b"landfall"[..], b"send"].into_iter().chain(line.iter().copied());
        let parsed = Arguments::try_parse_from(words.map(OsStr::from_bytes)).unwrap();
        let Some(Command::Send(arguments)) = parsed.command else { panic!("not a send") };
        arguments
    }

    #[test]
    fn standard_input_has_a_name_of_one_component_and_is_sent_alone() {
        let name = |line: &[&[u8]]| input_name(&parsed(line));
        assert_eq!(name(&[b"./-"]).unwrap(), None);
        assert_eq!(name(&[b"a", b"b"]).unwrap(), None);
        let long = vec![b'x'; 255];
        for plain in [&b"db.sql"[..], b"-", b"a b\xff", b"..x", &long] {
            assert_eq!(name(&[b"-", b"--name", plain]).unwrap(), Some(OsStr::from_bytes(plain).to_owned()));
        }
        let longer = vec![b'x'; 256];
        for bad in [&b""[..], b".", b"..", b"a/b", b"/a", b"a/", b".landfall", b".LandFall", &longer] {
            let failure = name(&[b"-", b"--name", bad]).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage, "{}", failure.text());
            assert!(failure.text().contains("nothing can arrive under the name"), "{}", failure.text());
        }
        for bad in
            [&[&b"-"[..]][..], &[b"-", b"a", b"--name", b"x"], &[b"-", b"-", b"--name", b"x"], &[b"a", b"--name", b"x"]]
        {
            assert_eq!(name(bad).unwrap_err().exit, Exit::Usage, "{bad:?}");
        }
    }

    #[test]
    fn a_terminal_is_not_sent_and_nothing_is_chosen_from_a_stream() {
        let refused = |line: &[&[u8]], is_terminal| {
            refuse_unreadable(&parsed(line), is_terminal).err().map(|failure| (failure.exit, failure.text()))
        };
        let plain: &[&[u8]] = &[b"-", b"--name", b"x"];
        assert_eq!(refused(plain, false), None);
        assert_eq!(refused(&[b"-", b"--name", b"x", b"--reread-source"], false), None);
        let (exit, text) = refused(plain, true).unwrap();
        assert!(exit == Exit::Usage && text.contains("is a terminal") && text.contains("pg_dump db |"), "{text}");
        let (exit, text) = refused(&[b"-", b"--name", b"x", b"--exclude", b"y"], false).unwrap();
        assert!(exit == Exit::Usage && text.contains("nothing to choose from"), "{text}");
    }
}
