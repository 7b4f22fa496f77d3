//! A new limit on the rate, on its way to the process that works on a transfer: a small file in the transfer's directory.
//! It names the process that it is for, and whoever takes the transfer's lock removes what lies there: a limit never reaches
//! a later run. What a limit does is `net/limiter`'s.
//!
//! ```text
//! landfall limit 1 0123456789abcdef     as in every small state file
//! 4711 300000                           the process, and its bytes per second, or `none`
//! ```

use std::io;
use std::num::NonZeroU64;

use crate::disk::Disk;
use crate::error::Error;
use crate::identity::{Role, TransferId};
use crate::limits::LIMIT_FILE_BYTES_MAX;
use crate::state::files::{Damage, Kind, create_anew, disclose, enclose, read_small};
use crate::state::home::Home;

const KIND: Kind = Kind { name: "landfall limit", version: 1 };
const NAME: &[u8] = b"limit";
/// Under this name it is read: nothing that is left meanwhile is lost.
const TAKEN: &[u8] = b".limit.taken";
const NONE: &str = "none";

/// Where a process hears of new limits for the transfer whose lock it holds.
#[derive(Debug)]
pub struct LimitInbox<D: Disk> {
    disk: D,
    dir: D::Dir,
}

impl<D: Disk> LimitInbox<D> {
    /// The limit that was left for this process since the last call, in bytes per second; `Some(None)` is that there is
    /// to be none. What cannot be read changes nothing.
    pub fn take(&self) -> Option<Option<NonZeroU64>> {
        self.taken().unwrap_or_else(|error| {
            tracing::warn!(%error, "a new limit could not be read");
            None
        })
    }

    fn taken(&self) -> io::Result<Option<Option<NonZeroU64>>> {
        match self.disk.stat(&self.dir, NAME) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => drop(other?),
        }
        self.disk.replace(&self.dir, NAME, &self.dir, TAKEN)?;
        let bytes = read_small(&self.disk, &self.dir, TAKEN, LIMIT_FILE_BYTES_MAX)?;
        self.disk.remove(&self.dir, TAKEN)?;
        let Some(bytes) = bytes else { return Ok(None) };
        let (process, limit) = decode(&bytes)?;
        Ok((process == std::process::id()).then_some(limit))
    }
}

impl<D: Disk> Home<D> {
    /// Where this process, which holds the lock, hears of new limits.
    pub fn limit_inbox(&self, id: TransferId, role: Role) -> Result<LimitInbox<D>, Error> {
        Ok(LimitInbox { disk: self.disk.clone(), dir: self.transfer_dir(id, role)? })
    }

    /// Leaves a limit in bytes per second for the process that holds the lock, in the place of one that it has not taken.
    pub fn leave_limit(
        &self,
        id: TransferId,
        role: Role,
        process: u32,
        limit: Option<NonZeroU64>,
    ) -> Result<(), Error> {
        let beside = format!(".limit.{}", std::process::id());
        let leave = || {
            let dir = self.find_transfer_dir(id, role)?.ok_or(io::ErrorKind::NotFound)?;
            // It means nothing after a power cut: no sync.
            let file = create_anew(&self.disk, &dir, beside.as_bytes())?;
            crate::disk::DiskFile::write_all_at(&file, &encode(process, limit), 0)?;
            drop(file);
            self.disk.replace(&dir, beside.as_bytes(), &dir, NAME)
        };
        leave().map_err(|source| self.limit_error(id, role, source))
    }

    /// Whether a limit lies there that was not taken.
    pub fn has_limit(&self, id: TransferId, role: Role) -> Result<bool, Error> {
        let look = || match self.find_transfer_dir(id, role)? {
            None => Ok(false),
            Some(dir) => match self.disk.stat(&dir, NAME) {
                Ok(_) => Ok(true),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
                Err(error) => Err(error),
            },
        };
        look().map_err(|source| self.limit_error(id, role, source))
    }

    /// Removes a limit that was not taken.
    pub fn drop_limit(&self, id: TransferId, role: Role) -> Result<(), Error> {
        let remove = || match self.find_transfer_dir(id, role)? {
            None => Ok(()),
            Some(dir) => match self.disk.remove(&dir, NAME) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            },
        };
        remove().map_err(|source| self.limit_error(id, role, source))
    }

    fn limit_error(&self, id: TransferId, role: Role, source: io::Error) -> Error {
        Error::State { path: self.transfer_path(id, role).join("limit"), source }
    }
}

fn encode(process: u32, limit: Option<NonZeroU64>) -> Vec<u8> {
    let limit = limit.map_or(NONE.to_owned(), |limit| limit.to_string());
    enclose(KIND, format!("{process} {limit}\n").as_bytes())
}

fn decode(bytes: &[u8]) -> Result<(u32, Option<NonZeroU64>), Damage> {
    let body = std::str::from_utf8(disclose(KIND, bytes)?).map_err(|_| Damage::Damaged)?;
    let (process, limit) = body.trim_end().split_once(' ').ok_or(Damage::Damaged)?;
    let limit = match limit {
        NONE => None,
        limit => Some(limit.parse().map_err(|_| Damage::Damaged)?),
    };
    Ok((process.parse().map_err(|_| Damage::Damaged)?, limit))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const ID: TransferId = TransferId([7; 16]);

    #[test]
    fn a_limit_reaches_the_process_that_it_is_for_and_once() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path()).unwrap();
        let _held = home.lock(ID, Role::Sender).unwrap();
        let inbox = home.limit_inbox(ID, Role::Sender).unwrap();
        assert_eq!(inbox.take(), None);
        let (me, rate) = (std::process::id(), NonZeroU64::new(5000));
        for limit in [rate, None] {
            home.leave_limit(ID, Role::Sender, me, NonZeroU64::new(1)).unwrap();
            home.leave_limit(ID, Role::Sender, me, limit).unwrap();
            assert!(home.has_limit(ID, Role::Sender).unwrap());
            assert_eq!(inbox.take(), Some(limit), "the last word counts");
            assert!(!home.has_limit(ID, Role::Sender).unwrap());
            assert_eq!(inbox.take(), None);
        }
        home.leave_limit(ID, Role::Sender, me + 1, rate).unwrap();
        assert_eq!(inbox.take(), None, "it was for another process");
        let names = std::fs::read_dir(dir.path().join(format!("transfers/{ID}/sender"))).unwrap();
        assert_eq!(names.count(), 1, "nothing is left but the lock");
    }

    #[test]
    fn what_was_said_to_a_process_that_is_gone_is_not_for_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path()).unwrap();
        let held = home.lock(ID, Role::Receiver).unwrap();
        home.leave_limit(ID, Role::Receiver, std::process::id(), NonZeroU64::new(5000)).unwrap();
        drop(held);
        // The same number again, as in a container.
        let _held = home.lock(ID, Role::Receiver).unwrap();
        assert!(!home.has_limit(ID, Role::Receiver).unwrap());
        assert_eq!(home.limit_inbox(ID, Role::Receiver).unwrap().take(), None);
    }

    #[test]
    fn what_cannot_be_read_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path()).unwrap();
        let inbox = home.limit_inbox(ID, Role::Sender).unwrap();
        let me = std::process::id();
        for body in
            [String::new(), format!("{me}\n"), format!("{me} 0\n"), "x 5000\n".to_owned(), format!("{me} fast\n")]
        {
            let path = dir.path().join(format!("transfers/{ID}/sender/limit"));
            std::fs::write(&path, enclose(KIND, body.as_bytes())).unwrap();
            assert_eq!(inbox.take(), None, "{body:?}");
            assert!(!path.exists());
        }
        assert_eq!(decode(&encode(7, None)), Ok((7, None)));
        assert_eq!(
            encode(4711, NonZeroU64::new(300_000)).split(|byte| *byte == b'\n').nth(1),
            Some(&b"4711 300000"[..])
        );
    }
}
