//! How often in a row a store may begin anew: state that was changed on disk by something else costs work only, but a disk
//! that never keeps what is written to it would cost it for ever.

use std::io;

use crate::limits::STATE_MENDS_ROUNDS_MAX;

/// Begins from which nothing has come so far.
#[derive(Debug, Default)]
pub(super) struct Mends {
    in_a_row: u32,
    kept: u32,
}

impl Mends {
    /// Takes note of a begin after which so many entries of the log are good. An error if it is one too many.
    pub(super) fn note(&mut self, entries: u32) -> io::Result<()> {
        self.in_a_row = if entries > self.kept { 1 } else { self.in_a_row + 1 };
        self.kept = entries;
        match self.in_a_row > STATE_MENDS_ROUNDS_MAX {
            true => {
                Err(io::Error::new(io::ErrorKind::InvalidData, "what is written to it is not there when it is read"))
            }
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_begins_that_lead_nowhere_count() {
        let mut mends = Mends::default();
        for entries in [5, 5, 5, 6, 6, 6, 9, 2, 2] {
            assert!(mends.note(entries).is_ok(), "{entries}");
        }
        assert!(mends.note(2).is_err());
        assert!(mends.note(3).is_ok());
    }
}
