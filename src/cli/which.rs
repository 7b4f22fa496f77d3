//! Which transfer an id on the command line means.

use super::failure::Failure;
use crate::state::transfer::TransferRecord;

/// The records of the transfer whose id begins like this; on one machine there may be both sides of one.
pub(super) fn meant<'r>(id: &str, records: &'r [TransferRecord]) -> Result<Vec<&'r TransferRecord>, Failure> {
    let id = id.to_ascii_lowercase();
    let fits: Vec<&TransferRecord> =
        records.iter().filter(|record| !id.is_empty() && record.id.to_string().starts_with(&id)).collect();
    let Some(first) = fits.first() else {
        let failure = Failure::usage(format!("there is no transfer `{id}`"));
        return Err(failure.hint("`landfall status` shows all transfers"));
    };
    if let Some(other) = fits.iter().find(|record| record.id != first.id) {
        let failure = Failure::usage(format!("several transfers begin with `{id}`"));
        return Err(failure.hint(format!("give more digits: `{}` or `{}`", first.id, other.id)));
    }
    Ok(fits)
}
