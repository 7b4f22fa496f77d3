//! What the user expects of the sources: a digest for each file. A file without one does not go, nor does anything else
//! under the path of one, and what has a digest and is nowhere met is named.

use std::sync::Arc;

use fixedbitset::FixedBitSet;

use crate::attributes::FileKind;
use crate::digest::FileDigest;
use crate::disk::Disk;
use crate::lists::DigestList;
use crate::outcome::Reason;
use crate::path::RelPath;
use crate::source::walk::Walked;

/// The digests, and which of their paths were met.
pub(super) struct Expecting {
    list: Arc<DigestList>,
    met: FixedBitSet,
    next: usize,
}

impl Expecting {
    /// Nothing was met yet.
    pub(super) fn new(list: Arc<DigestList>) -> Expecting {
        let met = FixedBitSet::with_capacity(list.len());
        Expecting { list, met, next: 0 }
    }

    /// The digest that a file is to have.
    pub(super) fn digest(&self, path: &RelPath) -> Option<FileDigest> {
        self.list.find(path).map(|index| self.list.digest(index))
    }

    /// What the walk met, as far as it may go.
    pub(super) fn judge<D: Disk>(&mut self, walked: Walked<D>) -> Walked<D> {
        let (path, kind) = match &walked {
            Walked::Directory(found) => (&found.path, FileKind::Directory),
            Walked::File(found, _) => (&found.path, FileKind::Regular),
            Walked::Symlink(found, _) => (&found.path, FileKind::Symlink),
            Walked::LeftOut(path, kind, _) => (path, *kind),
            _ => return walked,
        };
        let index = self.list.find(path);
        self.met.extend(index);
        let reason = match (&walked, index) {
            (Walked::File(..), None) => Reason::Unlisted,
            (Walked::Directory(_) | Walked::Symlink(..), Some(_)) => Reason::Unexpected,
            (Walked::Directory(_) | Walked::Symlink(..), None) if self.is_below_one(path) => Reason::ParentLeftOut,
            _ => return walked,
        };
        Walked::LeftOut(path.clone(), kind, reason)
    }

    /// Whether a path lies below one that is to be a file: that is left out, and nothing may arrive in its place.
    fn is_below_one(&self, path: &RelPath) -> bool {
        let mut above = path.parent();
        while let Some(parent) = above {
            if self.list.find(&parent).is_some() {
                return true;
            }
            above = parent.parent();
        }
        false
    }

    /// The next file that was not met, when the walk is over.
    pub(super) fn next_missing<D: Disk>(&mut self) -> Option<Walked<D>> {
        while self.next < self.list.len() {
            self.next += 1;
            if !self.met.contains(self.next - 1) {
                let path = self.list.path(self.next - 1);
                return Some(Walked::LeftOut(path, FileKind::Special, Reason::Missing));
            }
        }
        None
    }
}
