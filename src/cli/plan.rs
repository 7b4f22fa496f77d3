//! `--plan`: what would become of each entry, in words or JSON, and the sum of it. The looking and judging is
//! `crate::plan`'s.

use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use serde_json::{Map, Value};

use super::arguments::{RecvArguments, SendArguments, SenderArguments};
use super::child::{self, AskedToPlan};
use super::console::{Console, Shows};
use super::delete::{self, Deletion, Side};
use super::failure::Failure;
use super::screen::Output;
use super::text::notice_text;
use super::{json, settings, streams};
use crate::attributes::FileKind;
use crate::disk::Rooted;
use crate::error::{Error, Exit};
use crate::event::{Event, Notice};
use crate::identity::Role;
use crate::options::{ChildCommand, Meeting, RecvOptions, SendOptions};
use crate::outcome::Reason;
use crate::path::RelPath;
use crate::plan::{self, Action, Finding, Sources, Told};
use crate::progress::figures::{bytes, count, counted};
use crate::progress::width::{columns, join_fitting};
use crate::prune;
use crate::receipt::kind_word;

/// Between two redraws.
const DRAW_MS: u64 = 200;

/// Plans what `send` would do.
pub(super) fn send<D: Rooted>(
    disk: &D,
    arguments: SendArguments,
    console: &Console,
    output: Output,
) -> Result<Exit, Failure> {
    if arguments.to.is_none() {
        return Err(nobody_to_ask("--to DIR", "--to host:PATH"));
    }
    let (max_bytes, verbose) = (arguments.receiver.max_size, arguments.both.shown.verbose);
    let existing = arguments.receiver.existing.map(Into::into).unwrap_or_default();
    refuse_streams(streams::input_name(&arguments)?.is_some())?;
    refuse_expecting(&arguments.sender)?;
    let deletes = delete::asked_of_send(&arguments)?.is_some();
    let SendOptions { common, paths, selection, .. } = settings::send(arguments, console)?;
    let child = child_of(common.meeting.clone())?;
    let deletion = deletes.then(|| Deletion::planned(Side::Sender(paths.clone()), &child, &common)).transpose()?;
    let sources = Sources { paths, selection, existing };
    let mut shown = Shown::new(console, output, verbose > 0);
    let planned = plan::send(disk, &sources, &child, common.answer_patience, |told| shown.take(told));
    let exit = shown.conclude(planned, max_bytes)?;
    deletion.map_or(Ok(exit), |deletion| deletion.plan(disk, exit, console, output))
}

/// Plans what `recv` would do.
pub(super) fn recv<D: Rooted>(
    disk: &D,
    arguments: RecvArguments,
    console: &Arc<Console>,
    output: Output,
) -> Result<Exit, Failure> {
    if arguments.from.is_none() {
        return Err(nobody_to_ask("--from PATH", "--from host:PATH"));
    }
    refuse_streams(arguments.stdout)?;
    refuse_expecting(&arguments.sender)?;
    let (receiver, verbose) = (arguments.receiver, arguments.both.shown.verbose);
    let deletes = delete::asked_of_recv(&arguments)?.is_some();
    let RecvOptions { common, dir, max_bytes, selection, .. } = settings::recv(arguments, console)?;
    let mut child = child_of(common.meeting.clone())?;
    let deletion = deletes.then(|| Deletion::planned(Side::Receiver(dir.clone()), &child, &common)).transpose()?;
    child::walker_options(&mut child.options, &receiver);
    if let Some(options) = child.options.as_object_mut() {
        selection.put_lists(options);
    }
    let mut shown = Shown::new(console, output, verbose > 0);
    let planned = plan::receive(disk, &dir, &child, common.answer_patience, |told| shown.take(told));
    let exit = shown.conclude(planned, max_bytes)?;
    deletion.map_or(Ok(exit), |deletion| deletion.plan(disk, exit, console, output))
}

/// The other side of a plan, over the pipes of this process.
pub(super) fn as_child<D: Rooted>(disk: &D, options: &Value) -> Result<Exit, Failure> {
    let (input, output) = (std::io::stdin(), std::io::stdout());
    let done = match child::parse_plan(options)? {
        AskedToPlan::Walk(sources) => plan::walk(disk, &sources, input, output),
        AskedToPlan::Answer(dir) => plan::answer(disk, &dir, input, output),
        AskedToPlan::Vouch(source) => prune::vouch(disk, source, input, output),
        AskedToPlan::Prune(dir) => prune::attend(disk, &dir, &settings::home()?, input, output),
    };
    done.map(|()| Exit::Done).map_err(|error| Failure::from(&error))
}

fn nobody_to_ask(here: &str, elsewhere: &str) -> Failure {
    Failure::usage(
        "`--plan` asks the other side what it has, and with a ticket it is there only once the ticket is taken",
    )
    .hint(format!("name the other side with `{here}` or `{elsewhere}`"))
}

/// A stream is read to be sent, and goes into no directory that could be looked at.
fn refuse_streams(is_stream: bool) -> Result<(), Failure> {
    match is_stream {
        false => Ok(()),
        true => Err(Failure::usage("`--plan` looks at files and directories: there is nothing to plan of a stream")
            .hint("leave out `--plan`")),
    }
}

/// What has other digests shows only when everything is read.
fn refuse_expecting(sender: &SenderArguments) -> Result<(), Failure> {
    match sender.expect {
        None => Ok(()),
        Some(_) => {
            Err(Failure::usage("`--plan` does not read what would be sent, so it cannot tell what `--expect` finds")
                .hint("plan without `--expect`"))
        }
    }
}

pub(super) fn child_of(meeting: Meeting) -> Result<ChildCommand, Failure> {
    match meeting {
        Meeting::Parent { child, .. } => Ok(child),
        _ => Err(Failure::usage("a plan is made by the side that starts the other one")),
    }
}

/// What was found in all.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    /// What a sender would offer.
    files: u64,
    bytes: u64,
    directories: u64,
    symlinks: u64,
    /// What would be sent of it, or made.
    send_files: u64,
    send_bytes: u64,
    make_directories: u64,
    make_symlinks: u64,
    /// Entries among these that would replace something.
    replace: u64,
    /// Entries among these that would get another name, since something else has theirs.
    rename: u64,
    present_files: u64,
    present_bytes: u64,
    kept: u64,
    left_out: u64,
    excluded: u64,
}

impl Totals {
    fn add(&mut self, finding: &Finding) {
        let is_offered = !matches!(finding.action, Action::LeaveOut { side: Role::Sender, .. });
        if is_offered {
            self.files += u64::from(finding.kind == FileKind::Regular);
            self.directories += u64::from(finding.kind == FileKind::Directory);
            self.symlinks += u64::from(finding.kind == FileKind::Symlink);
            self.bytes = self.bytes.saturating_add(finding.bytes);
        }
        match finding.action {
            Action::Send | Action::Replace | Action::Rename { .. } => {
                self.send_files += u64::from(finding.kind == FileKind::Regular);
                self.make_directories += u64::from(finding.kind == FileKind::Directory);
                self.make_symlinks += u64::from(finding.kind == FileKind::Symlink);
                self.send_bytes = self.send_bytes.saturating_add(finding.moved_bytes);
                self.replace += u64::from(finding.action == Action::Replace);
                self.rename += u64::from(matches!(finding.action, Action::Rename { .. }));
            }
            Action::Present => {
                self.present_files += u64::from(finding.kind == FileKind::Regular);
                self.present_bytes = self.present_bytes.saturating_add(finding.bytes);
            }
            Action::LeaveOut { reason, .. } if reason.counts_as_left_out() => self.left_out += 1,
            Action::LeaveOut { .. } => self.kept += 1,
        }
    }

    fn entries(&self) -> u64 {
        self.files + self.directories + self.symlinks
    }
}

/// The screen of a plan.
struct Shown<'a> {
    console: &'a Console,
    output: Output,
    names_all: bool,
    bar: Option<ProgressBar>,
    drawn: Instant,
    totals: Totals,
}

impl Shown<'_> {
    fn new(console: &Console, output: Output, names_all: bool) -> Shown<'_> {
        let bar = (console.shows() == Shows::Bars).then(|| console.bar());
        Shown { console, output, names_all, bar, drawn: Instant::now(), totals: Totals::default() }
    }

    fn take(&mut self, told: Told) {
        match told {
            Told::Notice(notice) => {
                if let Notice::Excluded { objects } = notice {
                    self.totals.excluded = objects;
                }
                self.console.notice(&notice_text(&notice));
                if self.output == Output::Json {
                    self.console.result(&json::line(json::event(&Event::Notice(notice)), None));
                }
            }
            Told::Found(finding) => {
                self.totals.add(&finding);
                if self.output == Output::Json {
                    self.console.result(&json::line(entry_object(&finding), None));
                } else if self.names_all || is_remarkable(&finding) {
                    self.console.result(&(entry_text(&finding) + "\n"));
                }
                self.draw(&finding.path);
            }
        }
    }

    fn draw(&mut self, path: &RelPath) {
        let Some(bar) = self.bar.as_ref().filter(|_| self.drawn.elapsed() >= Duration::from_millis(DRAW_MS)) else {
            return;
        };
        let looked = format!("looked at {}", counted(self.totals.entries(), "entry", "entries"));
        let line = join_fitting(&[looked, bytes(self.totals.bytes), path.to_string()], " · ", self.console.columns());
        self.console.draw(bar, &[line]);
        self.drawn = Instant::now();
    }

    /// The sum, if there is one, and the exit code.
    fn conclude(self, planned: Result<(), Error>, max_bytes: Option<u64>) -> Result<Exit, Failure> {
        self.bar.iter().for_each(ProgressBar::finish_and_clear);
        planned.map_err(|error| failure(&error))?;
        let totals = self.totals;
        let is_too_large = max_bytes.is_some_and(|max| totals.bytes > max);
        let exit = match totals.left_out {
            _ if is_too_large => Exit::Failed,
            0 => Exit::Done,
            _ => Exit::LeftOut,
        };
        match self.output {
            Output::Json => self.console.result(&json::line(plan_object(&totals, exit), None)),
            Output::Text | Output::Aside | Output::Nothing => {
                self.console.result(&plan_text(&totals, self.console.columns()))
            }
        }
        if is_too_large { Err(failure(&Error::TooLarge)) } else { Ok(exit) }
    }
}

fn failure(error: &Error) -> Failure {
    let failure = Failure::from(error);
    match error {
        // There is nothing yet that could be resumed.
        Error::NoLink { .. } => failure.hint("run the same command again"),
        _ => failure,
    }
}

/// Whether an entry is named although not everything is.
fn is_remarkable(finding: &Finding) -> bool {
    matches!(finding.action, Action::Replace | Action::Rename { .. } | Action::LeaveOut { .. })
}

fn entry_text(finding: &Finding) -> String {
    let Finding { path, kind, bytes: size, moved_bytes, action } = finding;
    match (action, kind) {
        (Action::Send, FileKind::Regular) => format!("would send `{path}` ({})", bytes(*size)),
        (Action::Send, FileKind::Symlink) => format!("would make the symlink `{path}`"),
        (Action::Send, _) => format!("would make the directory `{path}`"),
        (Action::Present, _) => format!("is there already: `{path}`"),
        (Action::Replace, FileKind::Regular) => {
            format!("would replace `{path}`: {} of {} would be sent", bytes(*moved_bytes), bytes(*size))
        }
        (Action::Replace, _) => format!("would replace `{path}` by a symlink"),
        (Action::Rename { number }, kind) => {
            let to = path.numbered(*number).unwrap_or_else(|| path.clone());
            match kind {
                FileKind::Regular => {
                    let (moved, all) = (bytes(*moved_bytes), bytes(*size));
                    format!("would put `{path}` beside what has its name, as `{to}`: {moved} of {all} would be sent")
                }
                _ => format!("would make the symlink `{path}` beside what has its name, as `{to}`"),
            }
        }
        (Action::LeaveOut { reason: Reason::Kept, .. }, _) => format!("would keep the target's own `{path}`"),
        (Action::LeaveOut { reason, .. }, _) => format!("would leave out `{path}`: {reason}"),
    }
}

fn entry_object(finding: &Finding) -> Map<String, Value> {
    let Finding { path, kind, bytes, moved_bytes, action } = finding;
    let mut object = json::object("plan-entry");
    json::put_bytes(&mut object, "path", path.as_bytes());
    object.insert("kind".into(), kind_word(*kind).into());
    object.insert("action".into(), action_word(*action).into());
    if *kind == FileKind::Regular && !matches!(action, Action::LeaveOut { side: Role::Sender, .. }) {
        object.insert("bytes".into(), (*bytes).into());
        object.insert("send_bytes".into(), (*moved_bytes).into());
    }
    if let Action::Rename { number } = action
        && let Some(to) = path.numbered(*number)
    {
        json::put_bytes(&mut object, "renamed_to", to.as_bytes());
    }
    if let Action::LeaveOut { reason, side } = action {
        object.insert("reason".into(), reason.word().into());
        object.insert("message".into(), reason.to_string().into());
        object.insert("side".into(), side.word().into());
    }
    object
}

fn action_word(action: Action) -> &'static str {
    match action {
        Action::Send => "send",
        Action::Present => "present",
        Action::Replace => "replace",
        Action::Rename { .. } => "rename",
        Action::LeaveOut { reason: Reason::Kept, .. } => "keep",
        Action::LeaveOut { .. } => "leave-out",
    }
}

fn plan_object(totals: &Totals, exit: Exit) -> Map<String, Value> {
    let mut object = json::object("plan");
    let fields = [
        ("exit", u64::from(exit.code())),
        ("files", totals.files),
        ("bytes", totals.bytes),
        ("directories", totals.directories),
        ("symlinks", totals.symlinks),
        ("send_files", totals.send_files),
        ("send_bytes", totals.send_bytes),
        ("make_directories", totals.make_directories),
        ("make_symlinks", totals.make_symlinks),
        ("replace", totals.replace),
        ("rename", totals.rename),
        ("present_files", totals.present_files),
        ("present_bytes", totals.present_bytes),
        ("kept", totals.kept),
        ("left_out", totals.left_out),
        ("excluded", totals.excluded),
    ];
    object.extend(fields.map(|(key, number)| (key.to_owned(), number.into())));
    object
}

/// The sum in words, in lines of so many columns.
fn plan_text(totals: &Totals, width: usize) -> String {
    let files = |number| counted(number, "file", "files");
    let sent = match totals.send_files {
        0 => "would send no file".to_owned(),
        number => format!("would send {}, {} of {}", files(number), bytes(totals.send_bytes), bytes(totals.bytes)),
    };
    let mut made = vec![];
    if totals.make_directories > 0 {
        made.push(counted(totals.make_directories, "directory", "directories"));
    }
    if totals.make_symlinks > 0 {
        made.push(counted(totals.make_symlinks, "symlink", "symlinks"));
    }
    let mut parts = vec![sent];
    parts.extend((!made.is_empty()).then(|| format!("would make {}", made.join(" and "))));
    parts.extend((totals.replace > 0).then(|| format!("{} of that would replace something", count(totals.replace))));
    parts.extend((totals.rename > 0).then(|| format!("{} of that would get another name", count(totals.rename))));
    let is_or_are = if totals.present_files == 1 { "is" } else { "are" };
    let present = || format!("{} {is_or_are} there already", files(totals.present_files));
    parts.extend((totals.present_files > 0).then(present));
    parts.extend((totals.kept > 0).then(|| format!("{} would be kept as the target has them", count(totals.kept))));
    parts.extend((totals.left_out > 0).then(|| format!("{} would be left out", count(totals.left_out))));
    let mut text = wrapped(&parts, "; ", width);
    text.push_str("\nnothing was written; nothing is proved before it is sent\n");
    text
}

/// Parts in a row, those that do not fit on further lines.
fn wrapped(parts: &[String], between: &str, width: usize) -> String {
    let (mut text, mut used) = (String::new(), 0);
    for (index, part) in parts.iter().enumerate() {
        let taken = columns(part) + columns(between.trim_end());
        if index > 0 && used + columns(between) + taken > width {
            text.push_str(between.trim_end());
            text.push_str("\n  ");
            used = 2;
        } else if index > 0 {
            text.push_str(between);
            used += columns(between);
        }
        text.push_str(part);
        used += columns(part);
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn finding(path: &[u8], kind: FileKind, action: Action) -> Finding {
        let bytes = if kind == FileKind::Regular { 3 << 20 } else { 0 };
        let moved_bytes = if action == Action::Replace { bytes / 3 } else { bytes };
        Finding { path: RelPath::parse(path).unwrap(), kind, bytes, moved_bytes, action }
    }

    fn left_out(reason: Reason) -> Action {
        Action::LeaveOut { reason, side: Role::Receiver }
    }

    #[test]
    fn each_entry_has_its_words() {
        let all = [
            (FileKind::Regular, Action::Send, "would send `a\\u{1b}` (3.0 MiB)"),
            (FileKind::Directory, Action::Send, "would make the directory `a\\u{1b}`"),
            (FileKind::Symlink, Action::Send, "would make the symlink `a\\u{1b}`"),
            (FileKind::Symlink, Action::Present, "is there already: `a\\u{1b}`"),
            (FileKind::Regular, Action::Replace, "would replace `a\\u{1b}`: 1.0 MiB of 3.0 MiB would be sent"),
            (FileKind::Symlink, Action::Replace, "would replace `a\\u{1b}` by a symlink"),
            (FileKind::Regular, left_out(Reason::Kept), "would keep the target's own `a\\u{1b}`"),
            (
                FileKind::Regular,
                left_out(Reason::ExistsDifferent),
                "would leave out `a\\u{1b}`: the target has something else under this name",
            ),
        ];
        for (kind, action, words) in all {
            let finding = finding(b"a\x1b", kind, action);
            assert_eq!(entry_text(&finding), words);
            let is_quiet = matches!(action, Action::Send | Action::Present);
            assert_eq!(is_remarkable(&finding), !is_quiet, "{words}");
        }
    }

    #[test]
    fn the_sum_says_what_would_be_done_and_fits_on_a_narrow_screen() {
        let mut totals = Totals::default();
        assert_eq!(
            plan_text(&totals, 79),
            "would send no file\nnothing was written; nothing is proved before it is sent\n"
        );
        let kinds = [FileKind::Regular, FileKind::Directory, FileKind::Symlink];
        for action in [Action::Send, Action::Present] {
            kinds.into_iter().for_each(|kind| totals.add(&finding(b"a", kind, action)));
        }
        totals.add(&finding(b"a", FileKind::Regular, Action::Replace));
        totals.add(&finding(b"a", FileKind::Regular, left_out(Reason::Kept)));
        (0..1200).for_each(|_| totals.add(&finding(b"a", FileKind::Regular, left_out(Reason::ParentLeftOut))));
        let unreadable = Action::LeaveOut { reason: Reason::Unreadable, side: Role::Sender };
        totals.add(&finding(b"a", FileKind::Regular, unreadable));
        assert_eq!((totals.files, totals.send_files, totals.present_files), (1204, 2, 1));
        assert_eq!((totals.kept, totals.left_out, totals.send_bytes), (1, 1201, 4 << 20));
        let narrow = plan_text(&totals, 60);
        assert_eq!(
            narrow,
            "would send 2 files, 4.0 MiB of 3.5 GiB;\n  would make 1 directory and 1 symlink;\n\
             \x20 1 of that would replace something;\n  1 file is there already;\n\
             \x20 1 would be kept as the target has them;\n  1,201 would be left out\n\
             nothing was written; nothing is proved before it is sent\n"
        );
        assert!(narrow.lines().all(|line| columns(line) <= 60), "{narrow}");
        assert_eq!(plan_text(&totals, 500).lines().count(), 2);
    }
}
