//! Files that stand in the target under other names: where a source was renamed or copied since it was received, what is
//! looked for lies there already. They are candidates like any other, found by their length below the entry's own top
//! name, and read only where the policy is to replace what differs. Not here: comparing, which is `adopt.rs`.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::adopt::Candidate;
use super::intake::{FileEntry, Intake};
use crate::attributes::FileKind;
use crate::disk::{Access, Disk, DiskFile};
use crate::limits::{ELSEWHERE_BYTES_MIN, ELSEWHERE_ENTRIES_MAX, ELSEWHERE_FILES_MAX, ELSEWHERE_TRIED_FILES};
use crate::options::Existing;
use crate::path::RelPath;

/// What the target held when it was walked. A hint: whatever stands there by now is read and compared.
#[derive(Debug, Default)]
pub(crate) struct Elsewhere {
    /// Top names that were walked.
    walked: HashSet<Vec<u8>>,
    by_size: HashMap<u64, SameSize>,
    names: usize,
    files: usize,
}

/// Files of one length.
#[derive(Debug, Default)]
struct SameSize {
    paths: Vec<RelPath>,
    /// Of each last name one of them.
    by_name: HashMap<Vec<u8>, usize>,
    /// Which is given next, so that each has its turn.
    next: usize,
}

impl SameSize {
    fn push(&mut self, path: RelPath) {
        self.by_name.insert(path.name().to_vec(), self.paths.len());
        self.paths.push(path);
    }

    fn find(&mut self, is_fit: impl Fn(&RelPath) -> bool, name: &[u8]) -> Option<RelPath> {
        let named = self.by_name.get(name).map(|index| &self.paths[*index]).filter(|path| is_fit(path));
        if let Some(path) = named {
            return Some(path.clone());
        }
        for _ in 0..self.paths.len().min(ELSEWHERE_TRIED_FILES) {
            let path = &self.paths[self.next % self.paths.len()];
            self.next += 1;
            if is_fit(path) {
                return Some(path.clone());
            }
        }
        None
    }
}

impl Elsewhere {
    /// A file of that length below the top name of `path`: rather one with the same last name, else each in its turn.
    fn find<D: Disk>(&mut self, disk: &D, root: &D::Dir, path: &RelPath, bytes: u64) -> Option<RelPath> {
        let top = path.components().next()?;
        if self.walked.insert(top.to_vec()) {
            self.walk(disk, root, top);
        }
        let is_fit = |other: &RelPath| other != path && other.components().next() == Some(top);
        self.by_size.get_mut(&bytes)?.find(is_fit, path.name())
    }

    /// Takes note of every large file below a top name, as far as the bounds go. What cannot be looked at is passed over.
    fn walk<D: Disk>(&mut self, disk: &D, root: &D::Dir, top: &[u8]) {
        let mut open: Vec<RelPath> = RelPath::parse(top).into_iter().collect();
        while let Some(path) = open.pop() {
            let Ok(dir) = disk.open_dir(root, path.as_bytes()) else { continue };
            for listed in disk.list(&dir).unwrap_or_default() {
                if self.names >= ELSEWHERE_ENTRIES_MAX || self.files >= ELSEWHERE_FILES_MAX {
                    return;
                }
                self.names += 1;
                let (Ok(below), Ok(stat)) = (path.join(&listed.name), disk.stat(&dir, &listed.name)) else { continue };
                match stat.kind {
                    FileKind::Directory => open.push(below),
                    FileKind::Regular if stat.size >= ELSEWHERE_BYTES_MIN => {
                        self.files += 1;
                        self.by_size.entry(stat.size).or_default().push(below);
                    }
                    FileKind::Regular | FileKind::Symlink | FileKind::Special => (),
                }
            }
        }
    }
}

impl<D: Disk> Intake<D> {
    /// A file under another name that may hold an entry's bytes.
    pub(super) fn find_elsewhere(&mut self, file: &FileEntry<D>) -> Option<Candidate<D>> {
        let bytes = file.geometry.file_bytes();
        if self.shared.policy.existing != Existing::Replace || bytes < ELSEWHERE_BYTES_MIN {
            return None;
        }
        let (disk, root) = (&self.shared.disk, &self.shared.layout.root);
        let found = self.elsewhere.find(disk, root, &file.path, bytes)?;
        let dir = match found.parent() {
            Some(parent) => disk.open_dir(root, parent.as_bytes()).ok()?,
            None => root.clone(),
        };
        let target = disk.open(&dir, found.name(), Access::Read).ok()?;
        let is_as_long = target.stat().is_ok_and(|stat| stat.size == bytes);
        is_as_long.then(|| Candidate::elsewhere(Arc::new(target)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    use super::*;
    use crate::disk::RealDisk;

    #[test]
    fn a_file_is_found_by_its_length_below_the_same_top_name() {
        let temp = tempfile::tempdir().unwrap();
        let long = usize::try_from(ELSEWHERE_BYTES_MIN).unwrap();
        fs::create_dir_all(temp.path().join("a/deep/.landfall")).unwrap();
        fs::create_dir_all(temp.path().join("b")).unwrap();
        for (name, length) in [
            ("a/one", long),
            ("a/deep/two", long),
            ("a/deep/.landfall/three", long),
            ("a/short", long - 1),
            ("b/other", long + 1),
        ] {
            fs::write(temp.path().join(name), vec![1; length]).unwrap();
        }
        std::os::unix::fs::symlink("one", temp.path().join("a/link")).unwrap();
        let (disk, root) = (RealDisk::new(), RealDisk::open_root(temp.path()).unwrap());
        let mut elsewhere = Elsewhere::default();
        let mut find = |path: &str, bytes: usize| {
            let found = elsewhere.find(&disk, &root, &RelPath::parse(path.as_bytes()).unwrap(), bytes as u64);
            found.map(|path| String::from_utf8(path.as_bytes().to_vec()).unwrap())
        };
        assert_eq!(find("a/new/two", long).as_deref(), Some("a/deep/two"), "the same last name");
        assert_eq!(find("a/new/three", long).as_deref(), Some("a/one"), "each in its turn");
        assert_eq!(find("a/one", long).as_deref(), Some("a/deep/two"), "never the path itself");
        assert_eq!(find("a/new", long - 1), None, "short files are not worth it");
        assert_eq!(find("a/new", long + 1), None, "not below another top name");
        assert_eq!(find("b/new", long + 1).as_deref(), Some("b/other"));
        assert_eq!(find("c/new", long), None);
    }
}
