//! `landfall resume`: which transfers are meant, and all of them side by side, since each may wait for another peer.

use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;

use super::arguments::ResumeArguments;
use super::consent;
use super::console::Console;
use super::failure::Failure;
use super::run::Job;
use super::screen::{Output, can_ask, short};
use super::settings::{home, patience};
use super::streams::{self, Piped};
use super::transfers::{self, Labelled};
use super::which;
use crate::disk::Rooted;
use crate::error::Exit;
use crate::identity::Role;
use crate::options::{Consent, Meeting, RecvOptions, Resumption, SendOptions};
use crate::state::home::Home;
use crate::state::transfer::{Side, TransferRecord};

/// Continues one transfer, or all.
pub(super) fn run<D: Rooted>(
    disk: &D,
    arguments: &ResumeArguments,
    console: &Arc<Console>,
    output: Output,
) -> Result<Exit, Failure> {
    let home = Home::open(&home()?).map_err(|error| Failure::from(&error))?;
    let listing = home.list().map_err(|error| Failure::from(&error))?;
    let mut is_damaged = false;
    for (path, error) in &listing.damaged {
        is_damaged = true;
        console.error(&Failure::new(&format!("could not read the transfer in `{}`", path.display()), error).text());
    }
    let records = match &arguments.id {
        Some(id) => fitting(arguments, chosen(id, &listing.records)?)?,
        None => listing.records.iter().filter(|record| record.is_resumable()).collect(),
    };
    if records.is_empty() && !is_damaged {
        console.notice("nothing to resume: no transfer is unfinished");
    }
    let mut piped: Vec<_> = records.into_iter().map(|record| (record, streams::resumed(&home, record))).collect();
    let output = match piped.iter().find(|(_, piped)| is_output(piped)) {
        Some((record, _)) if arguments.id.is_some() => output_of(record, output)?,
        _ => output,
    };
    if arguments.id.is_none() {
        piped.retain(|(record, piped)| is_writable(record, is_output(piped), console));
    }
    let are_several = piped.len() > 1;
    let mut jobs = Vec::new();
    for (record, piped) in piped {
        let label = (are_several || output == Output::Json).then_some(record.id);
        match job(record, home.path(), arguments, console) {
            Some(job) => {
                let starts_ssh = record.child.as_ref().is_some_and(|child| child.remote.is_some());
                jobs.push(Labelled { label, piped, starts_ssh, ..Labelled::of(job) });
            }
            None => {
                is_damaged = true;
                console.error(&format!("error: the record of transfer `{}` holds no target\n", short(record.id)));
            }
        }
    }
    let exit = transfers::run(disk, jobs, console, output)?;
    Ok(if is_damaged && exit == Exit::Done { Exit::Failed } else { exit })
}

fn is_output(piped: &Option<Piped>) -> bool {
    piped.as_ref().is_some_and(Piped::is_output)
}

/// What stands on standard output when that is where a transfer writes.
fn output_of(record: &TransferRecord, output: Output) -> Result<Output, Failure> {
    let id = short(record.id);
    let written = format!("landfall resume {id} > FILE");
    match output {
        Output::Json => Err(Failure::usage(format!("transfer `{id}` writes to standard output what it receives"))
            .hint(format!("leave out `--json`: `{written}`"))),
        _ if std::io::stdout().is_terminal() => {
            Err(Failure::usage(format!("transfer `{id}` writes to standard output, and that is a terminal"))
                .hint(written))
        }
        _ => Ok(Output::Aside),
    }
}

/// Of all transfers, those that may share standard output.
fn is_writable(record: &TransferRecord, is_output: bool, console: &Console) -> bool {
    if is_output {
        let id = short(record.id);
        console.notice(&format!("{id} writes to standard output and goes on alone: `landfall resume {id} > FILE`"));
    }
    !is_output
}

/// What there is to do for the transfer of an id. A child is continued by its parent.
fn chosen<'r>(id: &str, records: &'r [TransferRecord]) -> Result<Vec<&'r TransferRecord>, Failure> {
    let fits = which::meant(id, records)?;
    let resumable: Vec<&TransferRecord> = fits.iter().copied().filter(|record| record.is_resumable()).collect();
    if !resumable.is_empty() {
        return Ok(resumable);
    }
    let id = short(fits[0].id);
    Err(match fits.iter().all(|record| record.side == Side::Child) {
        true => Failure::usage(format!("transfer `{id}` is continued by the side that started it"))
            .hint("run `landfall resume` there, or the same command again"),
        false => Failure::usage(format!("transfer `{id}` is finished"))
            .hint("run the first command again to start a new transfer; what is there already is not sent again"),
    })
}

/// Of both sides on one machine, the one that an option is about.
fn fitting<'r>(
    arguments: &ResumeArguments,
    mut records: Vec<&'r TransferRecord>,
) -> Result<Vec<&'r TransferRecord>, Failure> {
    let (side, text) = match how(arguments) {
        Resumption::AsItWas => return Ok(records),
        Resumption::PeerAt(_) => (Side::Dialler, "dials the address of a ticket: `--peer` has no use here"),
        Resumption::NewTicket => (Side::Listener, "gave a ticket: `--new-ticket` has no use here"),
    };
    let id = short(records[0].id);
    records.retain(|record| record.side == side);
    match records.is_empty() {
        true => Err(Failure::usage(format!("no side of transfer `{id}` on this machine {text}"))),
        false => Ok(records),
    }
}

fn how(arguments: &ResumeArguments) -> Resumption {
    match (arguments.peer, arguments.new_ticket) {
        (Some(address), _) => Resumption::PeerAt(address),
        (None, true) => Resumption::NewTicket,
        (None, false) => Resumption::AsItWas,
    }
}

fn job(record: &TransferRecord, home: &Path, arguments: &ResumeArguments, console: &Arc<Console>) -> Option<Job> {
    let asks = record.side == Side::Listener && can_ask();
    let consent = if asks { consent::asking(Arc::clone(console)) } else { Consent::Given };
    let mut job = match record.role {
        Role::Sender => Job::Send(record.send_options(home.to_owned())),
        Role::Receiver => Job::Receive(record.recv_options(home.to_owned(), consent)?),
    };
    let (Job::Send(SendOptions { common, .. }) | Job::Receive(RecvOptions { common, .. })) = &mut job;
    common.limit_bytes_per_s = arguments.limit;
    common.meeting = Meeting::Resume(record.id, how(arguments));
    if let Some(given) = arguments.patience {
        common.patience = patience(Some(given));
    }
    Some(job)
}
