//! `landfall resume`: which transfers are meant, and all of them side by side, since each may wait for another peer.

use std::sync::Arc;

use super::arguments::ResumeArguments;
use super::consent;
use super::console::Console;
use super::failure::Failure;
use super::run::Job;
use super::screen::{Output, can_ask, short};
use super::settings::{home, patience};
use super::signals::Heeds;
use super::transfers::{self, Labelled};
use crate::attributes::Level;
use crate::error::Exit;
use crate::identity::Role;
use crate::options::{CommonOptions, Consent, Continue, Existing, Meeting, RecvOptions, SendOptions};
use crate::state::home::Home;
use crate::state::transfer::{Side, TransferRecord};

/// Continues one transfer, or all.
pub(super) fn run(arguments: &ResumeArguments, console: &Arc<Console>, output: Output) -> Result<Exit, Failure> {
    let home = Home::open(&home()?).map_err(|error| Failure::from(&error))?;
    let listing = home.list().map_err(|error| Failure::from(&error))?;
    let mut is_damaged = false;
    for (path, error) in &listing.damaged {
        is_damaged = true;
        console.error(&Failure::new(&format!("could not read the transfer in `{}`", path.display()), error).text());
    }
    let records = match &arguments.id {
        Some(id) => chosen(id, &listing.records)?,
        None => listing.records.iter().filter(|record| record.is_resumable()).collect(),
    };
    if records.is_empty() && !is_damaged {
        console.notice("nothing to resume: no transfer is unfinished");
    }
    let are_several = records.len() > 1;
    let jobs = records.into_iter().map(|record| Labelled {
        label: (are_several || output == Output::Json).then_some(record.id),
        job: job(record, &home, arguments, console),
    });
    let exit = transfers::run(jobs.collect(), console, output, Heeds::All)?;
    Ok(if is_damaged && exit == Exit::Done { Exit::Failed } else { exit })
}

/// The transfers whose id begins like this; on one machine there may be both sides of one.
fn chosen<'r>(id: &str, records: &'r [TransferRecord]) -> Result<Vec<&'r TransferRecord>, Failure> {
    let id = id.to_ascii_lowercase();
    let fits: Vec<&TransferRecord> =
        records.iter().filter(|record| record.id.to_string().starts_with(&id) && record.side != Side::Child).collect();
    let Some(first) = fits.first() else {
        let failure = Failure::usage(format!("there is no transfer `{id}`"));
        return Err(failure.hint("`landfall status` shows all transfers"));
    };
    if let Some(other) = fits.iter().find(|record| record.id != first.id) {
        let failure = Failure::usage(format!("several transfers begin with `{id}`"));
        return Err(failure.hint(format!("give more digits: `{}` or `{}`", first.id, other.id)));
    }
    let resumable: Vec<&TransferRecord> = fits.iter().copied().filter(|record| record.is_resumable()).collect();
    if resumable.is_empty() {
        return Err(Failure::usage(format!("transfer `{}` is finished", short(first.id)))
            .hint("run the first command again to start a new transfer; what is there already is not sent again"));
    }
    Ok(resumable)
}

fn job(
    record: &TransferRecord,
    home: &Home<crate::disk::RealDisk>,
    arguments: &ResumeArguments,
    console: &Arc<Console>,
) -> Job {
    let common = CommonOptions {
        home: home.path().to_owned(),
        meeting: Meeting::Resume(record.id),
        patience: match arguments.patience {
            Some(given) => patience(Some(given)),
            None => record.settings.patience,
        },
        receipt: record.settings.receipt.clone(),
        continuation: Continue::Open,
    };
    match record.role {
        Role::Sender => Job::Send(SendOptions { common, paths: record.paths.clone() }),
        Role::Receiver => {
            let receiver = record.settings.receiver;
            let asks = record.side == Side::Listener && !record.is_agreed && can_ask();
            Job::Receive(RecvOptions {
                common,
                dir: record.paths.first().cloned().unwrap_or_default(),
                existing: receiver.map_or(Existing::default(), |receiver| receiver.existing),
                max_bytes: receiver.and_then(|receiver| receiver.max_bytes),
                reserve_bytes: receiver.and_then(|receiver| receiver.reserve_bytes),
                accept_level: receiver.map_or(Level::Evicted, |receiver| receiver.accept_level),
                consent: if asks { consent::asking(Arc::clone(console)) } else { Consent::Given },
            })
        }
    }
}
