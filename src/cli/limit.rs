//! `landfall limit`: another limit for a transfer that a process on this machine works on. The process hears of it through
//! a file in the transfer's state; here it is left, and waited for until it is taken.

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use super::arguments::LimitArguments;
use super::console::Console;
use super::failure::Failure;
use super::screen::short;
use super::{settings, which};
use crate::disk::RealDisk;
use crate::error::{Error, Exit};
use crate::limits::{LIMIT_LOOK_MS, LIMIT_TAKEN_MS};
use crate::progress::figures::bytes;
use crate::state::home::Home;
use crate::state::transfer::TransferRecord;

/// Limits a transfer on the sides of it that run on this machine.
pub(super) fn run(arguments: &LimitArguments, console: &Console) -> Result<(), Failure> {
    let home = Home::open(&settings::home()?).map_err(|error| Failure::from(&error))?;
    let listing = home.list().map_err(|error| Failure::from(&error))?;
    let records = which::meant(&arguments.id, &listing.records)?;
    let mut running = vec![];
    for record in &records {
        running.extend(process(&home, record)?.map(|process| (*record, process)));
    }
    if running.is_empty() {
        return Err(not_running(&records));
    }
    let limit = arguments.rate.bytes_per_s();
    for (record, process) in &running {
        let left = home.leave_limit(record.id, record.role, *process, limit);
        left.map_err(|error| Failure::from(&error))?;
    }
    let deadline = Instant::now() + Duration::from_millis(LIMIT_TAKEN_MS);
    for (record, process) in running {
        wait(&home, record, process, deadline)?;
        console.result(&format!("{}, {}: {}\n", short(record.id), record.role, words(limit)));
    }
    Ok(())
}

/// The process that works on one side of a transfer.
fn process(home: &Home<RealDisk>, record: &TransferRecord) -> Result<Option<u32>, Failure> {
    let holder = home.lock_holder(record.id, record.role).map_err(|error| Failure::from(&error))?;
    let Some(holder) = holder else { return Ok(None) };
    let what = format!("transfer {}", record.id);
    // It has the lock, and has not come to say who it is.
    holder.parse().map(Some).map_err(|_| Failure::from(&Error::Locked { what, holder }))
}

/// Waits until the process has taken its limit.
fn wait(home: &Home<RealDisk>, record: &TransferRecord, process: u32, deadline: Instant) -> Result<(), Failure> {
    let is_left = || home.has_limit(record.id, record.role).map_err(|error| Failure::from(&error));
    while is_left()? {
        if self::process(home, record)? != Some(process) {
            home.drop_limit(record.id, record.role).map_err(|error| Failure::from(&error))?;
            return Err(not_running(&[record]));
        }
        if Instant::now() >= deadline {
            let text = format!("process {process} has not taken the limit yet; it will when it goes on");
            return Err(Failure { exit: Exit::Again, ..Failure::usage(text) });
        }
        std::thread::sleep(Duration::from_millis(LIMIT_LOOK_MS));
    }
    Ok(())
}

fn not_running(records: &[&TransferRecord]) -> Failure {
    let id = records.first().map(|record| short(record.id)).unwrap_or_default();
    let failure = Failure::usage(format!("no process on this machine works on transfer `{id}`"));
    match records.iter().any(|record| record.is_resumable()) {
        true => failure.hint(format!("`landfall resume {id} --limit RATE` goes on with a limit")),
        false => failure.hint("`landfall status` shows what is at work"),
    }
}

fn words(limit: Option<NonZeroU64>) -> String {
    match limit {
        Some(limit) => format!("limited to {} a second", bytes(limit.get())),
        None => "not limited any more".to_owned(),
    }
}
