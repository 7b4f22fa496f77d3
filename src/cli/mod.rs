//! The face: from the words of the command line to options of the library, from its events to bars, lines, JSON and
//! an exit code. It decides what is shown and when, and nothing about the transfer itself.

mod arguments;
mod child;
mod choice;
mod consent;
mod console;
mod delete;
mod failure;
mod forget;
mod id;
mod invitation;
pub mod json;
mod lan;
mod limit;
mod lists;
mod pipes;
mod plan;
mod print;
mod qr;
mod remote;
mod resume;
mod run;
mod screen;
mod settings;
mod shown;
mod signals;
mod status;
mod streams;
mod text;
mod transfers;
mod values;
mod verify;
mod which;

use std::ffi::OsString;
use std::sync::Arc;

use clap::Parser;
use clap::error::ErrorKind;
use tracing_subscriber::EnvFilter;

use arguments::{Arguments, Command, ShownArguments};
use console::{Console, Verbosity};
use delete::Deletion;
use failure::Failure;
use run::Job;
use screen::Output;
use transfers::Labelled;

use crate::disk::{RealDisk, Rooted};
use crate::error::Exit;
use crate::meet::{Task, read_task};

/// What `landfall` alone says.
const OVERVIEW: &str = "\
Usage: landfall COMMAND

landfall moves files between two machines and proves that they arrived on the receiver's disk.

  landfall send PATH...               listen, and print a ticket for the other machine
  landfall recv [DIR] --ticket        the other machine: dial with that ticket
  landfall recv [DIR] --lan           the same on one network with a code of three words,
  landfall send PATH... --lan         typed here in place of a ticket
  landfall send PATH... --to HOST:DIR the same in one command, over ssh
  landfall send PATH... --to DIR      a verified copy on this machine
  dump | landfall send - --name NAME  what a pipe brings; `recv --stdout` writes into one
  landfall resume                     continue whatever was interrupted
  landfall status                     what is durable, what is missing
  landfall verify RECEIPT [DIR]       later: is everything still what was received?

Either side may listen. `landfall --help` shows all commands, `landfall send --help` all options.
";

/// Runs a command line to its end. Returns the exit code.
pub fn run(arguments: impl Iterator<Item = OsString>) -> u8 {
    run_on(&RealDisk::new(), arguments)
}

/// The same with transfers on another disk than the machine's own: how the harness reaches under the whole program.
pub fn run_on<D: Rooted>(disk: &D, arguments: impl Iterator<Item = OsString>) -> u8 {
    end_at_a_panic();
    let arguments: Vec<OsString> = arguments.collect();
    // Whoever asked for JSON gets it even where the command line is wrong, but not among what was received.
    let options = || arguments.iter().skip(1).take_while(|word| *word != "--");
    let wants_json = options().any(|word| word == "--json") && !options().any(|word| word == "--stdout");
    let outcome =
        invitation::refuse_in_arguments(&arguments).and_then(|()| parse(&arguments)).and_then(|parsed| match parsed {
            Some(Arguments { command: Some(command) }) => perform(disk, command),
            Some(Arguments { command: None }) => {
                Console::new(Verbosity::Quiet).error(OVERVIEW);
                Ok(Exit::Usage)
            }
            None => Ok(Exit::Done),
        });
    let exit = outcome.unwrap_or_else(|failure| {
        let console = Console::new(Verbosity::Quiet);
        if wants_json {
            console.result(&json::line(json::error(&failure), None));
        }
        console.error(&failure.text());
        failure.exit
    });
    exit.code()
}

/// A panic in any thread is a defect, and nothing may go on after it: the next process resumes from what is durable.
fn end_at_a_panic() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tell(panic);
        std::process::abort();
    }));
}

/// The command line, or `None` if clap has answered it (`--help`, `--version`).
fn parse(arguments: &[OsString]) -> Result<Option<Arguments>, Failure> {
    match Arguments::try_parse_from(arguments) {
        Ok(parsed) => Ok(Some(parsed)),
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            // Help that nobody reads is no failure.
            drop(error.print());
            Ok(None)
        }
        Err(error) => {
            let known = ["send", "recv", "resume", "status", "verify", "forget", "limit", "id", "completions", "man"];
            let command = arguments.get(1).and_then(|word| known.into_iter().find(|known| word == known));
            Err(Failure::of_arguments(&error, command))
        }
    }
}

fn perform<D: Rooted>(disk: &D, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Send(arguments) if arguments.both.plan => {
            let (console, output) = prepare(arguments.both.shown);
            plan::send(disk, arguments, &console, output)
        }
        Command::Recv(arguments) if arguments.both.plan => {
            let (console, output) = prepare(arguments.both.shown);
            plan::recv(disk, arguments, &console, output)
        }
        Command::Send(arguments) => {
            let (console, output) = prepare(arguments.both.shown);
            let consent = delete::asked_of_send(&arguments)?;
            let mut labelled = streams::send(arguments, &console)?;
            labelled.deletion = consent.map(|consent| Deletion::after(&labelled.job, consent)).transpose()?;
            transfers::run(disk, vec![labelled], &console, output)
        }
        Command::Recv(arguments) => {
            let (console, output) = prepare(arguments.both.shown);
            let output = if arguments.stdout { Output::Aside } else { output };
            let consent = delete::asked_of_recv(&arguments)?;
            let mut labelled = streams::recv(arguments, &console)?;
            labelled.deletion = consent.map(|consent| Deletion::after(&labelled.job, consent)).transpose()?;
            transfers::run(disk, vec![labelled], &console, output)
        }
        Command::Resume(arguments) => {
            let (console, output) = prepare(arguments.shown);
            resume::run(disk, &arguments, &console, output)
        }
        Command::Status(arguments) => status::run(&arguments, &Console::new(Verbosity::Quiet)).map(|()| Exit::Done),
        Command::Verify(arguments) => verify::run(&arguments),
        Command::Id(arguments) => id::run(&arguments, &Console::new(Verbosity::Quiet)).map(|()| Exit::Done),
        Command::Forget(arguments) => forget::run(&arguments, &Console::new(Verbosity::Quiet)).map(|()| Exit::Done),
        Command::Limit(arguments) => limit::run(&arguments, &Console::new(Verbosity::Quiet)).map(|()| Exit::Done),
        Command::Completions { shell } => {
            print::completions(shell, &Console::new(Verbosity::Quiet));
            Ok(Exit::Done)
        }
        Command::Man => print::manual(&Console::new(Verbosity::Quiet)).map(|()| Exit::Done),
        Command::Child => as_child(disk),
    }
}

/// The console that was asked for, the log if one was, and what stands on standard output.
fn prepare(shown: ShownArguments) -> (Arc<Console>, Output) {
    let verbosity = match (shown.verbose, shown.quiet) {
        (0, false) => Verbosity::Normal,
        (0, true) => Verbosity::Quiet,
        (level, _) => {
            start_log(if level == 1 { "landfall=debug" } else { "landfall=trace" });
            Verbosity::Logging
        }
    };
    (Arc::new(Console::new(verbosity)), if shown.json { Output::Json } else { Output::Text })
}

fn start_log(filter: &str) {
    let log = tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false);
    // A log that is there already serves as well.
    drop(log.with_env_filter(EnvFilter::new(filter)).try_init());
}

/// The other side of `--to` and `--from`: its options stand on standard input, and standard output is its parent's.
fn as_child<D: Rooted>(disk: &D) -> Result<Exit, Failure> {
    // Its lock is given back before the rest of the pipe is read.
    let told = read_task(&mut std::io::stdin().lock());
    let task = match told.map_err(|error| Failure::from(&error))? {
        Task::Transfer(task) => task,
        Task::Plan(options) => return plan::as_child(disk, &options),
    };
    let job = match child::parse(task)? {
        child::Asked::Send(options) => Job::Send(options),
        child::Asked::Receive(options) => Job::Receive(options),
    };
    let console = Arc::new(Console::new(Verbosity::Quiet));
    transfers::run(disk, vec![Labelled::of(job)], &console, Output::Nothing)
}
