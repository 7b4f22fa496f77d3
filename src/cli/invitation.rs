//! Where a ticket comes from, and where it must not stand. A ticket is a secret: no message of this file repeats it.

use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead, IsTerminal};
use std::path::Path;

use super::console::Console;
use super::failure::Failure;
use super::shown;
use crate::identity::Role;
use crate::limits::TICKET_FILE_BYTES_MAX;
use crate::state::given::read_text;
use crate::ticket::{DecodeError, Ticket, looks_like_ticket};

/// Variable that holds a ticket.
const VARIABLE: &str = "LANDFALL_TICKET";

/// Refuses a command line that holds a ticket, before anything repeats it. A file of that name is meant as a file.
pub(super) fn refuse_in_arguments(arguments: &[OsString]) -> Result<(), Failure> {
    let holds_ticket = |argument: &OsStr| {
        let text = argument.to_string_lossy();
        let value = text.split_once('=').map_or(&*text, |(_, value)| value);
        let is_ticket = |text: &str| looks_like_ticket(text) || Ticket::decode(text).is_ok();
        (is_ticket(&text) || is_ticket(value)) && Path::new(argument).symlink_metadata().is_err()
    };
    match arguments.iter().skip(1).position(|argument| holds_ticket(argument)) {
        None => Ok(()),
        Some(index) => {
            Err(Failure::usage(format!("argument {} is a ticket, which never stands on the command line", index + 1))
                .cause("every user of this machine can read the arguments of every program")
                .hint(format!(
                    "give `--ticket` without a value, and the ticket when asked, in `{VARIABLE}` or on standard input"
                )))
        }
    }
}

/// Whether the ticket of `--ticket` needs no standard input.
pub(super) fn is_in_environment() -> bool {
    std::env::var_os(VARIABLE).is_some_and(|text| !text.is_empty())
}

/// The ticket of `--ticket`: from the environment, else asked for on a terminal, else a line of standard input.
pub(super) fn from_surroundings(console: &Console, role: Role) -> Result<Ticket, Failure> {
    if let Some(text) = std::env::var_os(VARIABLE).filter(|text| !text.is_empty()) {
        return decode(&text.to_string_lossy(), &format!("`{VARIABLE}`"), role);
    }
    let is_terminal = io::stdin().is_terminal();
    let text = if is_terminal { typed(console)? } else { first_line(io::stdin().lock(), "ticket")? };
    if text.trim().is_empty() {
        let failure = Failure::usage("there is no ticket on standard input");
        return Err(failure.hint(format!("pipe it in, or put it into `{VARIABLE}`, or use `--ticket-file FILE`")));
    }
    decode(&text, if is_terminal { "what was typed" } else { "standard input" }, role)
}

/// The ticket of `--ticket-file`.
pub(super) fn from_file(path: &Path, role: Role) -> Result<Ticket, Failure> {
    let text = read_text(path, TICKET_FILE_BYTES_MAX)
        .map_err(|error| Failure::new(&format!("could not read the ticket file `{}`", path.display()), &error))?;
    decode(&text, &format!("`{}`", path.display()), role)
}

/// A ticket may have been wrapped on its way: lines are taken until it is whole, or an empty one comes.
fn typed(console: &Console) -> Result<String, Failure> {
    let mut text = String::new();
    let mut question = "ticket: ";
    loop {
        let line = console.ask(question).unwrap_or_default();
        let is_end = line.trim().is_empty();
        text.push_str(&line);
        if is_end || text.len() > TICKET_FILE_BYTES_MAX || !is_cut_short(&text) {
            return Ok(text);
        }
        question = "";
    }
}

fn is_cut_short(text: &str) -> bool {
    matches!(Ticket::decode(text), Err(DecodeError::Damaged))
}

/// The first line of standard input, which holds what was asked for.
pub(super) fn first_line(input: impl BufRead, what: &str) -> Result<String, Failure> {
    let mut line = Vec::new();
    let limit = u64::try_from(TICKET_FILE_BYTES_MAX).unwrap_or(u64::MAX);
    let read = input.take(limit).read_until(b'\n', &mut line);
    read.map_err(|error| Failure::new(&format!("could not read the {what} from standard input"), &error))?;
    Ok(String::from_utf8_lossy(&line).into_owned())
}

fn decode(text: &str, origin: &str, role: Role) -> Result<Ticket, Failure> {
    let ticket = Ticket::decode(text).map_err(|error| {
        let origin = shown::sentence(origin);
        Failure::usage(format!("{origin} is not a ticket that can be used")).cause(&reason(&error))
    })?;
    if ticket.role == role {
        let (command, other) = match role {
            Role::Sender => ("landfall send", "landfall recv DIR --ticket"),
            Role::Receiver => ("landfall recv", "landfall send PATH... --ticket"),
        };
        return Err(Failure::usage(format!("the ticket was made by `{command}`, and this is `{command}` too"))
            .hint(format!("`{other}` takes it")));
    }
    Ok(ticket)
}

/// Why, without any letter of the text.
fn reason(error: &DecodeError) -> String {
    match error {
        DecodeError::Character(_) => "it holds a character that no ticket has: copy it again".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::identity::{PeerKey, Secret};

    fn ticket(role: Role) -> String {
        let addresses = vec!["192.0.2.7:28170".parse().unwrap()];
        let secret = Secret::from_bytes([7; 16]);
        Ticket { role, key: PeerKey([1; 32]), secret, addresses, expiry_seconds: 1 }.encode()
    }

    fn refused(arguments: &[&str]) -> Option<String> {
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        refuse_in_arguments(&arguments).err().map(|failure| failure.text())
    }

    #[test]
    fn a_ticket_on_the_command_line_is_refused_and_not_repeated() {
        let ticket = ticket(Role::Receiver);
        let spoilt = &ticket[..ticket.len() - 3];
        for arguments in [
            vec!["landfall", "send", "a", "--ticket", &ticket],
            vec!["landfall", "send", &ticket.to_uppercase()],
            vec!["landfall", spoilt],
            vec!["landfall", "recv", &format!("--ticket={ticket}")],
        ] {
            let text = refused(&arguments).unwrap();
            assert!(text.starts_with("error: argument ") && !text.to_lowercase().contains(&ticket[8..40]), "{text}");
        }
        assert_eq!(refused(&["landfall", "send", "landfall", "landfall-2026.tar", "--ticket"]), None);
    }

    #[test]
    fn a_file_with_the_name_of_a_ticket_is_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(ticket(Role::Sender));
        assert_eq!(refused(&["landfall", "send", path.to_str().unwrap()]), None);
    }

    #[test]
    fn a_file_is_read_and_its_role_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t");
        std::fs::write(&path, format!("{}\n", ticket(Role::Receiver))).unwrap();
        assert_eq!(from_file(&path, Role::Sender).unwrap().role, Role::Receiver);
        let failure = from_file(&path, Role::Receiver).unwrap_err();
        assert_eq!(
            failure.text(),
            "error: the ticket was made by `landfall recv`, and this is `landfall recv` too\n\
             hint: `landfall send PATH... --ticket` takes it\n"
        );
        std::fs::write(&path, "secret words").unwrap();
        let text = from_file(&path, Role::Sender).unwrap_err().text();
        assert!(text.contains("a ticket begins with `landfall`") && !text.contains("secret words"), "{text}");
        let missing = from_file(&dir.path().join("none"), Role::Sender).unwrap_err();
        assert_eq!(missing.exit, crate::error::Exit::Failed);
        assert_eq!(missing.causes, ["no such file or directory (os error 2)"]);
    }

    #[test]
    fn only_the_first_line_of_standard_input_counts() {
        assert_eq!(first_line(&b"one\ntwo\n"[..], "ticket").unwrap(), "one\n");
        assert_eq!(first_line(&b""[..], "ticket").unwrap(), "");
    }
}
