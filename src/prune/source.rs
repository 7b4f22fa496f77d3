//! The side of the sources: whether a path exists there now. What cannot be told counts as there.

use std::io;
use std::path::PathBuf;

use crate::attributes::FileKind;
use crate::disk::{Disk, Rooted};
use crate::error::Error;
use crate::path::RelPath;
use crate::source::roots::{Root, Roots, canonical, open_roots};

/// A directory of a source, or why there is none.
enum Above<D: Disk> {
    Held(D::Dir),
    Absent,
    Unknown,
}

/// Vouches for what the sources have. Keeps the directory of the last path, so that the next question costs less.
pub(super) struct Voucher<D: Disk> {
    roots: Roots<D>,
    above: Option<(Vec<u8>, Vec<Above<D>>)>,
}

impl<D: Rooted> Voucher<D> {
    /// Over the sources that the user named.
    pub(super) fn open(disk: &D, paths: &[PathBuf]) -> Result<Voucher<D>, Error> {
        let (roots, _) = open_roots(disk, &canonical(paths)?)?;
        Ok(Voucher { roots, above: None })
    }
}

impl<D: Disk> Voucher<D> {
    /// The directories of the target that the sources which are directories arrive as. `None` is the target itself.
    pub(super) fn directories(&self) -> Vec<Option<RelPath>> {
        let is_directory = |parent: &D::Dir, leaf: &[u8]| {
            self.roots.disk().stat(parent, leaf).is_ok_and(|stat| stat.kind == FileKind::Directory)
        };
        let directory = |root: &Root<D>| match root {
            Root::Contents { .. } => Some(None),
            Root::Named { name, parent, leaf } if is_directory(parent, leaf) => RelPath::parse(name).ok().map(Some),
            Root::Named { .. } => None,
        };
        self.roots.all().iter().filter_map(directory).collect()
    }

    /// Keeps nothing of what was seen before.
    pub(super) fn look_anew(&mut self) {
        self.above = None;
    }

    /// Whether the sources have something under this path. Links are not followed.
    pub(super) fn is_there(&mut self, path: &RelPath) -> bool {
        let bytes = path.as_bytes();
        let first = bytes.split(|byte| *byte == b'/').next().unwrap_or(bytes);
        let named = self.roots.all().iter().find_map(|root| match root {
            Root::Named { name, parent, leaf } if name == first => Some((parent.clone(), leaf.clone())),
            _ => None,
        });
        let (starts, way) = match named {
            Some((parent, leaf)) => (vec![parent], [&leaf, &bytes[first.len()..]].concat()),
            None => {
                let contents = self.roots.all().iter().filter_map(|root| match root {
                    Root::Contents { dir, .. } => Some(dir.clone()),
                    Root::Named { .. } => None,
                });
                (contents.collect(), bytes.to_vec())
            }
        };
        let slash = way.iter().rposition(|byte| *byte == b'/');
        let (parent, name) = slash.map_or((&b""[..], &way[..]), |slash| (&way[..slash], &way[slash + 1..]));
        // Named and unnamed roots may lead the same way from different places.
        let key = [first, b"\0", parent].concat();
        if self.above.as_ref().is_none_or(|(last, _)| *last != key) {
            let all = starts.iter().map(|start| self.open_below(start, parent)).collect();
            self.above = Some((key, all));
        }
        let above = self.above.as_ref().map_or(&[][..], |(_, above)| above);
        above.is_empty() || above.iter().any(|above| self.is_in(above, name))
    }

    fn open_below(&self, start: &D::Dir, parent: &[u8]) -> Above<D> {
        match self.roots.disk().open_dir(start, parent) {
            Ok(dir) => Above::Held(dir),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Above::Absent,
            // Also where a file or a link stands in the way: the target's directory was left as it is then.
            Err(_) => Above::Unknown,
        }
    }

    fn is_in(&self, above: &Above<D>, name: &[u8]) -> bool {
        match above {
            Above::Held(dir) => match self.roots.disk().stat(dir, name) {
                Ok(_) => true,
                Err(error) => error.kind() != io::ErrorKind::NotFound,
            },
            Above::Absent => false,
            Above::Unknown => true,
        }
    }
}
