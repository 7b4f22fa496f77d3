//! `--lan` at the sender: where the code comes from, and where it must not stand; whether one is needed; what is said while
//! the other machine is looked for. A code is a secret until it is used: no message of this file repeats it.

use std::error::Error as _;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use super::arguments::BothArguments;
use super::console::Console;
use super::failure::Failure;
use super::text::notice_text;
use super::{invitation, json, settings, shown};
use crate::disk::RealDisk;
use crate::error::Exit;
use crate::event::{Event, Notice};
use crate::identity::Role;
use crate::lan::{Code, FindError, Finding, Search, looks_like_code};
use crate::meet::has_ticket;
use crate::options::{Meeting, Selection};
use crate::source::roots;
use crate::state::home::Home;
use crate::ticket::Ticket;

/// Variable that holds a code.
const VARIABLE: &str = "LANDFALL_CODE";
const WORDS_PER_CODE: usize = 3;

/// Refuses sources that are a code, as one word or as three. A file of that name is meant as a file.
pub(super) fn refuse_in_paths(paths: &[PathBuf]) -> Result<(), Failure> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let is_file = |path: &PathBuf| path.symlink_metadata().is_ok();
    let is_code = |paths: &[PathBuf]| {
        let words: Vec<String> = paths.iter().map(|path| text(path)).collect();
        !paths.iter().any(is_file) && looks_like_code(&words.join(" "))
    };
    match paths.chunks(1).chain(paths.windows(WORDS_PER_CODE)).any(is_code) {
        false => Ok(()),
        true => {
            Err(Failure::usage("a PATH reads as a code and names no file, and a code never stands on the command line")
                .cause("every user of this machine can read the arguments of every program")
                .hint(format!(
                    "give `--lan` without a value, and the code when asked, in `{VARIABLE}` or on standard input"
                )))
        }
    }
}

/// Whether the code needs no standard input.
pub(super) fn is_in_environment() -> bool {
    std::env::var_os(VARIABLE).is_some_and(|text| !text.is_empty())
}

/// How a sender meets the machine that shows a code. An open transfer of the same sources goes on, and needs none.
pub(super) fn meeting(
    both: &BothArguments,
    paths: &[PathBuf],
    selection: &Selection,
    console: &Console,
) -> Result<Meeting, Failure> {
    let failed = |error| Failure::from(&error);
    let paths = roots::canonical(paths).map_err(failed)?;
    // What is wrong with a source is said before anybody is asked.
    roots::open_roots(&RealDisk::new(), &paths).map_err(failed)?;
    let home = Home::open(&settings::home()?).map_err(failed)?;
    if !both.new && !paths.is_empty() && has_ticket(&home, &paths, selection).map_err(failed)? {
        console.notice("an open transfer of this goes on without a code; `--new` begins another one");
        return Ok(Meeting::Continue);
    }
    let key = home.identity().map_err(failed)?.public_key();
    let search = Search { code: code(console)?, key, patience: settings::patience(both.patience) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new("could not start the network", &error))?;
    let tell = |finding| {
        let notice = match finding {
            Finding::Nobody(others) => Notice::NobodyFound { others: others as u64 },
            Finding::Unreachable(address) => Notice::FoundUnreachable { address },
        };
        console.notice(&notice_text(&notice));
        if both.shown.json {
            console.result(&json::line(json::event(&Event::Notice(notice)), None));
        }
    };
    let ticket = runtime.block_on(Box::pin(search.run(tell))).map_err(|error| refusal(&error))?;
    usable(ticket)
}

/// The other side of a sender is a receiver.
fn usable(ticket: Ticket) -> Result<Meeting, Failure> {
    match ticket.role {
        Role::Receiver => Ok(Meeting::Dial(ticket)),
        Role::Sender => Err(Failure::usage("the ticket that came was made by `landfall send`, and this is one too")),
    }
}

/// The code: from the environment, else asked for on a terminal until it is one, else a line of standard input.
fn code(console: &Console) -> Result<Code, Failure> {
    if let Some(text) = std::env::var_os(VARIABLE).filter(|text| !text.is_empty()) {
        return parse(&text.to_string_lossy(), &format!("`{VARIABLE}`"));
    }
    if !io::stdin().is_terminal() {
        let line = invitation::first_line(io::stdin().lock(), "code")?;
        return if line.trim().is_empty() { Err(no_code()) } else { parse(&line, "standard input") };
    }
    loop {
        let line = console.ask("code: ").filter(|line| !line.trim().is_empty()).ok_or_else(no_code)?;
        match Code::parse(&line) {
            Ok(code) => return Ok(code),
            Err(error) => console.error(&format!("{error}\n")),
        }
    }
}

fn no_code() -> Failure {
    Failure::usage("there is no code on standard input").hint(format!(
        "type the three words that `landfall recv --lan` shows, pipe them in, or put them into `{VARIABLE}`"
    ))
}

fn parse(text: &str, origin: &str) -> Result<Code, Failure> {
    Code::parse(text).map_err(|error| Failure::usage(format!("{origin} is not a code")).cause(&error.to_string()))
}

fn refusal(error: &FindError) -> Failure {
    let (exit, hint) = match error {
        FindError::Browse(_) => (Exit::Failed, "use a ticket: `landfall recv` without `--lan` on the other machine"),
        FindError::Nobody(_) => {
            (Exit::Again, "run `landfall recv --lan` on the other machine, on the same network, or use a ticket")
        }
        FindError::Several(_) => (Exit::Refused, "start `landfall recv --lan` there again for another code"),
        FindError::WrongCode(_) => (
            Exit::Refused,
            "type the code that stands there now; if it is still the same one, somebody else answered: use a ticket",
        ),
        FindError::BrokenOff(_) => {
            (Exit::Again, "run the same command again; the code is still good if it still stands there")
        }
        FindError::Ticket(..) | FindError::OtherKey(_) => {
            (Exit::Failed, "use a ticket: `landfall recv` without `--lan`")
        }
        FindError::Version(..) => (Exit::Refused, "update the older of the two, or use a ticket"),
    };
    let failure = Failure::usage(error.to_string()).hint(hint);
    let causes = error.source().map(|cause| shown::lower_first(&shown::sentence(&cause.to_string())));
    Failure { exit, causes: causes.into_iter().collect(), ..failure }
}
