//! What a receiving process shows of itself to the oracle and the counters.

use landfall::geometry::EntryIndex;
use landfall::store::Observed;
use landfall::task::receiver::{Disposition, Input, SettleResult, SettledFile, WriteError};

use super::resent::WrittenChunk;

/// What the oracle and the counters are told.
#[derive(Clone, Debug)]
pub(super) enum Sight {
    /// A read-back met wrong bytes.
    Observed(Vec<Observed>),
    /// A batch was settled.
    Settled(Vec<SettledFile>),
    /// The open batch was closed.
    Closed,
    /// A chunk was written.
    Written(WrittenChunk),
    /// The second of two equal chunks was taken in.
    Duplicate,
    /// The log was cut to an earlier position.
    Rewound,
    /// Store and brain begin anew in the same process; an open batch is forgotten.
    Anew,
    /// Chunks of a candidate were adopted.
    Adopted,
    /// An inode was left for a new one.
    Renewed,
    /// Something met a full disk.
    Full,
    /// Claims of an earlier run stood.
    Resumed,
    /// The receipt is asked for.
    Issuing,
    /// The receipt is persisted.
    Issued,
    /// The journal was cut when it was opened.
    JournalCut,
    /// The manifest log was cut when it was opened.
    LogCut,
    /// An entry was withdrawn.
    Withdrawn(EntryIndex),
}

impl Sight {
    /// What the driver's input shows.
    pub(super) fn of(input: &Input) -> Option<Sight> {
        let sight = match input {
            Input::Adopted(items) if items.iter().any(|item| item.missing.len() < item.run.count as usize) => {
                Sight::Adopted
            }
            Input::Renewed(_, Ok(_)) => Sight::Renewed,
            Input::WriteFailed(_, WriteError::Full) | Input::FinishFailed(_, WriteError::Full) => Sight::Full,
            Input::BatchSettled(files) if files.iter().any(|file| file.result == SettleResult::Full) => Sight::Full,
            Input::ClaimsExamined(found) if found.iter().any(|(_, found)| *found == Disposition::Sealed) => {
                Sight::Resumed
            }
            Input::Examined(_, found) if found.iter().any(|found| matches!(found, Disposition::Staged(_))) => {
                Sight::Resumed
            }
            _ => return None,
        };
        Some(sight)
    }
}
