//! A transfer whose receipt is held and whose summary is still to be shown: it is open until that was done, so that a
//! crash in between shows it again.

use std::time::SystemTime;

use crate::disk::RealDisk;
use crate::error::{Error, Exit};
use crate::event::Summary;
use crate::state::home::Home;
use crate::state::transfer::{Closed, End, TransferRecord};

/// What a driver returns: to be closed once the summary was shown.
#[must_use = "a transfer that is not closed is continued by the next run"]
#[derive(Debug)]
pub struct Concluded {
    /// The exit code: everything is there, or some entries were left out.
    pub exit: Exit,
    /// What the face was told last.
    pub summary: Box<Summary>,
    record: Option<(Home<RealDisk>, TransferRecord, End)>,
}

impl Concluded {
    /// A run that ends here, with what closes its record.
    pub fn new(exit: Exit, summary: Box<Summary>, home: Home<RealDisk>, record: TransferRecord, end: End) -> Concluded {
        Concluded { exit, summary, record: Some((home, record, end)) }
    }

    /// A transfer that was closed before: its receipt has answered.
    pub fn before(exit: Exit, summary: Box<Summary>) -> Concluded {
        Concluded { exit, summary, record: None }
    }

    /// Whether an earlier run has closed the transfer.
    pub fn was_closed(&self) -> bool {
        self.record.as_ref().is_none_or(|(_, record, _)| !record.is_open())
    }

    /// Closes the transfer, durably.
    pub fn close(self) -> Result<Exit, Error> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let seconds = now.map_or(0, |since| since.as_secs());
        if let Some((home, mut record, end)) = self.record {
            home.close(&mut record, Closed { seconds, end })?;
        }
        Ok(self.exit)
    }
}
