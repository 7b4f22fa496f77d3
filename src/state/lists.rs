//! The lists of a transfer, which are too long for its record: each in a file of its own beside it, known by the digest
//! that stands in the record. They are durable before the record is that speaks of them.

use std::io;
use std::sync::Arc;

use crate::digest::ListDigest;
use crate::disk::Disk;
use crate::error::Error;
use crate::limits::LIST_BYTES_MAX;
use crate::lists::{Given, List};
use crate::options::Selection;
use crate::state::files::{Kind, disclose, enclose, read_small, write_atomic};
use crate::state::home::Home;
use crate::state::transfer::TransferRecord;

/// A list and the first line of its file.
const FILE_BYTES_MAX: usize = LIST_BYTES_MAX + 256;
const LISTED: (&str, Kind) = ("listed", Kind { name: "landfall listed", version: 1 });
const EXPECTED: (&str, Kind) = ("expected", Kind { name: "landfall expected", version: 1 });

impl<D: Disk> Home<D> {
    /// Keeps the lists of a record, as far as they are at hand in it or in `selection`. Only the holder of the lock may.
    pub fn keep_lists(&self, record: &TransferRecord, selection: &Selection) -> Result<(), Error> {
        let own = &record.selection;
        self.keep(record, LISTED, own.listed.as_ref(), selection.listed.as_ref())?;
        self.keep(record, EXPECTED, own.expected.as_ref(), selection.expected.as_ref())
    }

    /// What of the sources goes, with its lists.
    pub fn selection(&self, record: &TransferRecord) -> Result<Selection, Error> {
        let selection = record.selection.clone();
        let listed = self.loaded(record, LISTED, selection.listed)?;
        let expected = self.loaded(record, EXPECTED, selection.expected)?;
        Ok(Selection { listed, expected, ..selection })
    }

    fn keep<L: List>(
        &self,
        record: &TransferRecord,
        (name, kind): (&str, Kind),
        own: Option<&Given<L>>,
        other: Option<&Given<L>>,
    ) -> Result<(), Error> {
        let Some(own) = own else { return Ok(()) };
        let same = other.filter(|other| *other == own).and_then(|other| other.list.clone());
        let Some(list) = own.list.clone().or(same) else { return Ok(()) };
        if matches!(self.read_list::<L>(record, (name, kind), own.digest), Ok(Some(_))) {
            return Ok(());
        }
        let dir = self.transfer_dir(record.id, record.role)?;
        let written = write_atomic(&self.disk, &dir, name.as_bytes(), &enclose(kind, &list.encode()));
        written.map_err(|source| self.list_error(record, name, source))
    }

    fn loaded<L: List>(
        &self,
        record: &TransferRecord,
        (name, kind): (&str, Kind),
        given: Option<Given<L>>,
    ) -> Result<Option<Given<L>>, Error> {
        let given = match given {
            Some(given) if given.list.is_none() => given,
            at_hand => return Ok(at_hand),
        };
        let read = self.read_list(record, (name, kind), given.digest);
        let lost =
            || io::Error::new(io::ErrorKind::NotFound, "it is not there: give the list again with the first command");
        let list =
            read.and_then(|list| list.ok_or_else(lost)).map_err(|source| self.list_error(record, name, source))?;
        Ok(Some(Given { list: Some(Arc::new(list)), ..given }))
    }

    /// The list with that digest; `None` if there is no file, or another list in it.
    fn read_list<L: List>(
        &self,
        record: &TransferRecord,
        (name, kind): (&str, Kind),
        digest: ListDigest,
    ) -> io::Result<Option<L>> {
        let Some(dir) = self.find_transfer_dir(record.id, record.role)? else { return Ok(None) };
        let Some(bytes) = read_small(&self.disk, &dir, name.as_bytes(), FILE_BYTES_MAX)? else { return Ok(None) };
        let body = disclose(kind, &bytes)?;
        Ok(L::decode(body).filter(|_| ListDigest::of(body) == digest))
    }

    fn list_error(&self, record: &TransferRecord, name: &str, source: io::Error) -> Error {
        Error::State { path: self.transfer_path(record.id, record.role).join(name), source }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::path::PathBuf;

    use super::*;
    use crate::lists::{DigestList, PathList};
    use crate::state::tests::record;

    fn path(home: &Home<crate::disk::RealDisk>, record: &TransferRecord, name: &str) -> PathBuf {
        home.path().join(format!("transfers/{}/{}/{name}", record.id, record.role))
    }

    #[test]
    fn lists_lie_beside_the_record_that_knows_their_digests() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path()).unwrap();
        let digests = [&[b'a'; 64][..], b"  x/y\n"].concat();
        let given = Selection {
            listed: Some(Given::new(PathList::parse(b"b\na/\xff").unwrap())),
            expected: Some(Given::new(DigestList::parse(&digests, &[], b"").unwrap())),
            ..Selection::default()
        };
        let mut record = TransferRecord { selection: given.clone(), ..record() };
        home.keep_lists(&record, &Selection::default()).unwrap();
        home.save(&record).unwrap();
        record = home.load(record.id, record.role).unwrap().unwrap();
        assert!(record.selection == given && record.selection.listed.as_ref().unwrap().list.is_none());
        let whole = home.selection(&record).unwrap();
        assert_eq!(whole.listed.unwrap().list, given.listed.as_ref().unwrap().list);
        assert_eq!(whole.expected.unwrap().list, given.expected.as_ref().unwrap().list);

        // A list that is lost or another one is an error that names it, until the first command is given again.
        let listed = path(&home, &record, "listed");
        let kept = std::fs::read(&listed).unwrap();
        let other = enclose(LISTED.1, &PathList::parse(b"c").unwrap().encode());
        for bytes in [None, Some(&b"nonsense"[..]), Some(&kept[..kept.len() - 1]), Some(&other)] {
            match bytes {
                Some(bytes) => std::fs::write(&listed, bytes).unwrap(),
                None => std::fs::remove_file(&listed).unwrap(),
            }
            let error = home.selection(&record).unwrap_err();
            assert!(matches!(&error, Error::State { path, .. } if *path == listed), "{error}");
            home.keep_lists(&record, &Selection::default()).unwrap();
            assert!(home.selection(&record).is_err(), "nothing is at hand");
            home.keep_lists(&record, &given).unwrap();
            assert!(home.selection(&record).is_ok());
        }
        // What is not the record's is not kept as its list.
        let stranger = Selection { listed: Some(Given::new(PathList::parse(b"c").unwrap())), ..given };
        std::fs::remove_file(&listed).unwrap();
        home.keep_lists(&record, &stranger).unwrap();
        assert!(!listed.exists());
    }
}
