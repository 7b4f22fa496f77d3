//! From the command line to the library's options: what is left unsaid, what contradicts itself, which paths are
//! remote. Nothing here touches the network or writes anything.

use std::env;
use std::ffi::OsStr;
use std::io::{self, IsTerminal};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use etcetera::BaseStrategy;

use super::arguments::{
    BothArguments, ReceiverArguments, RecvArguments, RemoteArguments, SendArguments, SenderArguments,
};
use super::child;
use super::choice;
use super::consent;
use super::console::Console;
use super::failure::Failure;
use super::invitation;
use super::lan;
use super::lists;
use super::remote::{self, Place};
use super::screen::can_ask;
use super::values::Patience;
use crate::attributes::Level;
use crate::identity::Role;
use crate::limits::PATIENCE_MS;
use crate::options::{CommonOptions, Consent, Continue, Existing, Meeting, RecvOptions, Selection, SendOptions};

/// Lowest level of read-back that counts if nobody says otherwise.
const LEVEL_DEFAULT: Level = Level::Evicted;

/// `$LANDFALL_HOME`, else the directory for state that the desktop's convention names.
pub(super) fn home() -> Result<PathBuf, Failure> {
    if let Some(home) = env::var_os("LANDFALL_HOME").filter(|home| !home.is_empty()) {
        return absolute(Path::new(&home));
    }
    let base = etcetera::base_strategy::Xdg::new().ok().and_then(|base| base.state_dir());
    base.map(|base| base.join("landfall")).ok_or_else(|| {
        Failure::usage("there is no place for landfall's state: this user has no home directory")
            .hint("say where with `LANDFALL_HOME=DIR`")
    })
}

/// What `send` is asked to do.
pub(super) fn send(arguments: SendArguments, console: &Console) -> Result<SendOptions, Failure> {
    let SendArguments { paths, name: _, to, sender, both, receiver } = arguments;
    lan::refuse_in_paths(&paths)?;
    refuse_nameless(&paths)?;
    lists::refuse_shared_input(&sender, &both)?;
    let selection = choice::choose(&sender, &paths, lists::Place::Here)?;
    let reads_twice = sender.reread_source;
    refuse_remote_options(&both.remote, to.as_deref())?;
    if let Some(dest) = &to {
        refuse_listening(&both, "--to")?;
        let meeting = match remote::place(dest, "DEST")? {
            Some(Place { host, path }) => {
                let child = remote::command(host, &both.remote, child::receiver_options(&path, &receiver))?;
                Meeting::Parent { child, other: dest.into() }
            }
            None => {
                let dest = local(dest, "DEST")?;
                refuse_inside(&paths, &dest)?;
                Meeting::Parent { child: child::command(&child::receiver_options(&dest, &receiver))?, other: dest }
            }
        };
        return Ok(SendOptions { common: common(&both, meeting)?, paths, selection, reads_twice });
    }
    if receiver != ReceiverArguments::default() {
        return Err(Failure::usage(format!("`{}` is an option of the receiver", first_of(&receiver)))
            .hint("give it to `landfall recv` on the other side, or copy with `--to DIR`"));
    }
    let meeting = match both.lan {
        true => {
            refuse_listening(&both, "--lan")?;
            lan::meeting(&both, &paths, &selection, console)?
        }
        false => meeting(&both, Role::Sender, console)?,
    };
    Ok(SendOptions { common: common(&both, meeting)?, paths, selection, reads_twice })
}

/// What `recv` is asked to do.
pub(super) fn recv(arguments: RecvArguments, console: &Arc<Console>) -> Result<RecvOptions, Failure> {
    let RecvArguments { dir, stdout: _, from, sender, both, receiver } = arguments;
    if from.is_none() && sender != SenderArguments::default() {
        return Err(choice::not_here());
    }
    lists::refuse_shared_input(&sender, &both)?;
    let selection = choose_there(&sender, from.as_deref())?;
    let asked = |source: &Path| child::sender_options(source, &selection, sender.reread_source);
    refuse_remote_options(&both.remote, from.as_deref())?;
    let meeting = match &from {
        Some(source) => match refuse_listening(&both, "--from").and_then(|()| remote::place(source, "SRC"))? {
            Some(Place { host, path }) => {
                refuse_nameless(std::slice::from_ref(&path))?;
                let child = remote::command(host, &both.remote, asked(&path))?;
                Meeting::Parent { child, other: source.into() }
            }
            None => {
                local(source, "SRC")?;
                let source = from_here(Path::new(source))?;
                refuse_nameless(std::slice::from_ref(&source))?;
                refuse_inside(std::slice::from_ref(&source), &dir)?;
                Meeting::Parent { child: child::command(&asked(&source))?, other: source }
            }
        },
        None => meeting(&both, Role::Receiver, console)?,
    };
    let asks = matches!(meeting, Meeting::Listen { .. }) && !both.yes && can_ask();
    let consent = if asks { consent::asking(Arc::clone(console)) } else { Consent::Given };
    Ok(RecvOptions { selection, ..with_receiver(common(&both, meeting)?, dir, &receiver, consent) })
}

/// What goes of SRC.
fn choose_there(sender: &SenderArguments, from: Option<&OsStr>) -> Result<Selection, Failure> {
    let Some(source) = from else { return Ok(Selection::default()) };
    match remote::place(source, "SRC")? {
        Some(place) => choice::choose(sender, &[place.path], lists::Place::Elsewhere),
        None => choice::choose(sender, &[source.into()], lists::Place::Here),
    }
}

/// Options of a receiver with what was left unsaid.
pub(super) fn with_receiver(
    common: CommonOptions,
    dir: PathBuf,
    receiver: &ReceiverArguments,
    consent: Consent,
) -> RecvOptions {
    RecvOptions {
        common,
        dir,
        existing: receiver.existing.map(Existing::from).unwrap_or_default(),
        max_bytes: receiver.max_size,
        reserve_bytes: receiver.reserve,
        accept_level: receiver.accept_level.map_or(LEVEL_DEFAULT, Level::from),
        consent,
        selection: Selection::default(),
    }
}

fn common(both: &BothArguments, meeting: Meeting) -> Result<CommonOptions, Failure> {
    Ok(CommonOptions {
        home: home()?,
        meeting,
        patience: patience(both.patience),
        answer_patience: both.patience.and_then(|given| patience(Some(given))),
        limit_bytes_per_s: both.limit,
        receipt: both.receipt.as_deref().map(absolute).transpose()?,
        continuation: if both.new { Continue::New } else { Continue::Open },
    })
}

/// Somebody who watches decides for himself how long to wait.
pub(super) fn patience(given: Option<Patience>) -> Option<Duration> {
    match given {
        Some(Patience::Limited(time)) => Some(time),
        Some(Patience::Forever) => None,
        None if io::stderr().is_terminal() => None,
        None => Some(Duration::from_millis(PATIENCE_MS)),
    }
}

fn meeting(both: &BothArguments, role: Role, console: &Console) -> Result<Meeting, Failure> {
    if both.ticket || both.ticket_file.is_some() {
        refuse_listening(both, if both.ticket { "--ticket" } else { "--ticket-file" })?;
    }
    Ok(match &both.ticket_file {
        Some(path) => Meeting::Dial(invitation::from_file(path, role)?),
        None if both.ticket => Meeting::Dial(invitation::from_surroundings(console, role)?),
        None => {
            let write_ticket = both.write_ticket.as_deref().map(absolute).transpose()?;
            Meeting::Listen { address: both.listen, write_ticket, shows_code: both.lan }
        }
    })
}

/// Who dials cannot listen, and has no ticket to give.
fn refuse_listening(both: &BothArguments, dials: &str) -> Result<(), Failure> {
    let given =
        [(both.listen.is_some(), "--listen"), (both.write_ticket.is_some(), "--write-ticket"), (both.qr, "--qr")];
    let listens = given.into_iter().find(|(is_given, _)| *is_given);
    listens.map_or(Ok(()), |(_, listens)| {
        let hint = match dials {
            "--to" | "--from" => format!("`{dials}` starts the other side itself: there is no ticket"),
            "--lan" => "the side with `landfall recv --lan` listens, and this one finds it".to_owned(),
            _ => "one side listens and prints a ticket, the other one uses it".to_owned(),
        };
        Err(Failure::usage(format!("`{listens}` cannot be given together with `{dials}`")).hint(hint))
    })
}

fn first_of(receiver: &ReceiverArguments) -> &'static str {
    let given = [
        (receiver.existing.is_some(), "--existing"),
        (receiver.max_size.is_some(), "--max-size"),
        (receiver.reserve.is_some(), "--reserve"),
        (receiver.accept_level.is_some(), "--accept-level"),
    ];
    given.into_iter().find(|(is_given, _)| *is_given).map_or("", |(_, name)| name)
}

/// What starts the other side elsewhere has a use only where it is elsewhere.
fn refuse_remote_options(asked: &RemoteArguments, place: Option<&OsStr>) -> Result<(), Failure> {
    let given = [
        (asked.ssh.is_some(), "--ssh"),
        (asked.remote_landfall.is_some(), "--remote-landfall"),
        (asked.relay_over_ssh, "--relay-over-ssh"),
    ];
    let given = given.into_iter().find(|(is_given, _)| *is_given);
    let is_elsewhere = place.is_some_and(|place| remote::place(place, "").is_ok_and(|place| place.is_some()));
    match given {
        Some((_, option)) if !is_elsewhere => {
            Err(Failure::usage(format!("`{option}` has a use only where the other side is on another machine"))
                .hint("name it with `--to host:PATH` or `--from host:PATH`"))
        }
        _ => Ok(()),
    }
}

/// A path on this machine, absolute, since the other side may be started again from elsewhere.
fn local(place: &OsStr, what: &str) -> Result<PathBuf, Failure> {
    if place.is_empty() {
        return Err(Failure::usage(format!("{what} is empty")));
    }
    absolute(Path::new(place))
}

/// The same as it is typed: `x/.` means the contents of `x`.
pub(super) fn from_here(path: &Path) -> Result<PathBuf, Failure> {
    let here = env::current_dir().map_err(|error| Failure::new("could not find the working directory", &error))?;
    Ok(here.join(path))
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| Failure::new(&format!("could not find `{}`", path.display()), &error))
}

/// The root of all has no name to arrive under; its contents have.
fn refuse_nameless(sources: &[PathBuf]) -> Result<(), Failure> {
    let is_root = |path: &&PathBuf| {
        let means_contents = path.as_os_str().as_bytes().ends_with(b"/.");
        !means_contents && path.components().eq([Component::RootDir])
    };
    sources.iter().find(is_root).map_or(Ok(()), |source| {
        Err(Failure::usage(format!("`{}` has no name under which it could arrive", source.display()))
            .hint("`/.` sends its contents"))
    })
}

/// A target inside a source would receive itself.
fn refuse_inside(sources: &[PathBuf], target: &Path) -> Result<(), Failure> {
    let Some(target) = resolved(target) else { return Ok(()) };
    for source in sources {
        if source.canonicalize().is_ok_and(|source| source.is_dir() && target.starts_with(&source)) {
            return Err(Failure::usage(format!("the target lies inside the source `{}`", source.display()))
                .hint("choose a target outside of what is sent"));
        }
    }
    Ok(())
}

/// Where a path leads, as far as it exists.
pub(super) fn resolved(path: &Path) -> Option<PathBuf> {
    let path = std::path::absolute(path).ok()?;
    path.ancestors().find_map(|there| {
        let rest = path.strip_prefix(there).ok()?;
        there.canonicalize().ok().map(|there| there.join(rest))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use clap::Parser;

    use super::super::arguments::{Arguments, Command};
    use super::super::console::Verbosity;
    use super::*;

    fn options(line: &[&str]) -> Result<SendOptions, Failure> {
        let parsed = Arguments::try_parse_from(["landfall", "send"].iter().chain(line)).unwrap();
        let Some(Command::Send(arguments)) = parsed.command else { panic!("not a send") };
        send(arguments, &Console::new(Verbosity::Quiet))
    }

    fn refused(line: &[&str]) -> String {
        let failure = options(line).unwrap_err();
        assert_eq!(failure.exit, crate::error::Exit::Usage);
        failure.text()
    }

    #[test]
    fn a_copy_on_this_machine_starts_a_receiver_with_its_options() {
        let options = options(&["a", "--to", "b", "--existing", "keep", "--reserve", "1KB"]).unwrap();
        assert_eq!(options.common.answer_patience, None, "only what was asked for");
        let Meeting::Parent { child, other } = options.common.meeting else { panic!("not a parent") };
        assert_eq!(other, std::path::absolute("b").unwrap());
        assert_eq!(child.arguments, ["child"]);
        let expected = serde_json::json!({
            "role": "receiver", "path": other.to_str().unwrap(), "existing": "keep", "reserve": 1000,
        });
        assert_eq!(child.options, expected);
    }

    #[test]
    fn a_listener_keeps_what_was_asked_for() {
        let options = options(&["a", "--listen", "127.0.0.1:7", "--write-ticket", "t", "--patience", "5s"]).unwrap();
        assert_eq!(options.common.patience, Some(Duration::from_secs(5)));
        assert_eq!(options.common.answer_patience, options.common.patience);
        let Meeting::Listen { address, write_ticket, .. } = options.common.meeting else { panic!("not a listener") };
        assert_eq!(address, Some("127.0.0.1:7".parse().unwrap()));
        assert_eq!(write_ticket, Some(std::path::absolute("t").unwrap()));
    }

    #[test]
    fn what_belongs_to_the_other_side_is_said_to() {
        assert_eq!(
            refused(&["a", "--max-size", "5"]),
            "error: `--max-size` is an option of the receiver\n\
             hint: give it to `landfall recv` on the other side, or copy with `--to DIR`\n"
        );
        assert_eq!(
            refused(&["a", "--ticket-file", "t", "--listen", "127.0.0.1:7"]),
            "error: `--listen` cannot be given together with `--ticket-file`\n\
             hint: one side listens and prints a ticket, the other one uses it\n"
        );
    }

    #[test]
    fn another_machine_is_not_a_directory() {
        let parent = |line: &[&str]| match options(line).unwrap().common.meeting {
            Meeting::Parent { child, other } => (child, other),
            other => panic!("{other:?}"),
        };
        let (child, other) = parent(&["a", "--to", "me@host:in", "--existing", "keep"]);
        assert_eq!((other.to_str(), child.remote.unwrap().host.as_str()), (Some("me@host:in"), "me@host"));
        let expected = serde_json::json!({ "role": "receiver", "path": "in", "existing": "keep", "reach": "network" });
        assert_eq!(child.options, expected);
        assert!(parent(&["a", "--to", "./host:in"]).0.remote.is_none());
        assert!(parent(&["a", "--to", "in/host:x"]).0.remote.is_none());
        assert!(refused(&["a", "--to", "in", "--ssh", "rsh"]).contains("`--ssh` has a use only where"));
        assert!(refused(&["a", "--relay-over-ssh"]).contains("`--relay-over-ssh` has a use only where"));
        assert!(refused(&["a", "--to", ":in"]).contains("names no machine"));
        assert!(refused(&["a", "--to", ""]).contains("DEST is empty"));
    }

    #[test]
    fn a_source_that_is_everything_needs_a_dot() {
        assert!(refused(&["/", "--to", "/absent"]).contains("`/.` sends its contents"));
        assert!(refused(&["//", "--to", "/absent"]).contains("`/.` sends its contents"));
        assert!(refused(&["/.", "--to", "/absent"]).contains("lies inside the source"));
    }

    #[test]
    fn a_target_inside_a_source_is_refused_however_it_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("source");
        std::fs::create_dir(&source).unwrap();
        std::os::unix::fs::symlink(&source, dir.path().join("link")).unwrap();
        for target in ["source", "source/new/deep", "link", "link/new", "absent/../source"] {
            let target = dir.path().join(target);
            let found = refuse_inside(std::slice::from_ref(&source), &target);
            assert_eq!(found.is_err(), !target.starts_with(dir.path().join("absent")), "{target:?}");
        }
        for target in ["sourced", "other/source"] {
            assert!(refuse_inside(std::slice::from_ref(&source), &dir.path().join(target)).is_ok(), "{target}");
        }
    }
}
