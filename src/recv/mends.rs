//! How often a store may begin anew with an empty log: state that was changed on disk by something else costs work only, but a
//! disk that keeps nothing of what is written to it would cost it for ever.

use std::io;

use crate::limits::EMPTY_LOG_ROUNDS_MAX;

/// Begins from which nothing has come so far.
#[derive(Debug, Default)]
pub(super) struct Mends {
    empty: u32,
    most: u64,
}

impl Mends {
    /// Takes note of a begin at which the log had so many good records. An error if it had none once too often, and never
    /// more than before meanwhile.
    pub(super) fn note(&mut self, records: u64) -> io::Result<()> {
        match records {
            0 => self.empty += 1,
            _ if records > self.most => (self.empty, self.most) = (0, records),
            _ => {}
        }
        match self.empty > EMPTY_LOG_ROUNDS_MAX {
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
    fn only_empty_begins_count_until_there_is_more_than_ever() {
        let mut mends = Mends::default();
        for _ in 0..100 {
            assert!(mends.note(7).is_ok(), "what is left of it is gone on with");
        }
        for _ in 0..EMPTY_LOG_ROUNDS_MAX {
            assert!(mends.note(0).is_ok());
        }
        assert!(mends.note(8).is_ok());
        // It comes and goes, and never gets on.
        let begins = (0..100).find(|_| mends.note(0).is_err() || mends.note(8).is_err());
        assert_eq!(begins, Some(EMPTY_LOG_ROUNDS_MAX));
    }
}
