//! The roots of a transfer: what the user named, as held directories, and the way from a path of the manifest back
//! to the file below them. What it does not do: walk, or decide whether a root may be sent.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::attributes::FileKind;
use crate::disk::{Access, Disk, Rooted};
use crate::error::Error;
use crate::event::Notice;
use crate::path::RelPath;
use crate::source::selection::Selector;

/// One thing that the user named.
#[derive(Clone)]
pub enum Root<D: Disk> {
    /// What the directory holds arrives at the top.
    Contents {
        /// The directory.
        dir: D::Dir,
        /// As it was typed, for messages.
        shown: PathBuf,
    },
    /// One file, directory or symlink arrives under its name.
    Named {
        /// The name it arrives under.
        name: Vec<u8>,
        /// The directory that holds it.
        parent: D::Dir,
        /// Its name there.
        leaf: Vec<u8>,
    },
}

/// All roots, in the order in which they are walked.
#[derive(Clone)]
pub struct Roots<D: Disk> {
    disk: D,
    roots: Vec<Root<D>>,
    named: HashMap<Vec<u8>, usize>,
}

impl<D: Disk> Roots<D> {
    /// Roots whose names differ.
    pub fn new(disk: D, roots: Vec<Root<D>>) -> Roots<D> {
        let named = |(index, root): (usize, &Root<D>)| match root {
            Root::Named { name, .. } => Some((name.clone(), index)),
            Root::Contents { .. } => None,
        };
        let named = roots.iter().enumerate().filter_map(named).collect();
        Roots { disk, roots, named }
    }

    /// The roots in order.
    pub fn all(&self) -> &[Root<D>] {
        &self.roots
    }

    /// The disk they lie on.
    pub fn disk(&self) -> &D {
        &self.disk
    }

    /// A held directory and the way from it to the object of a path.
    fn locate(&self, path: &RelPath) -> io::Result<(D::Dir, Vec<u8>)> {
        let bytes = path.as_bytes();
        let first = bytes.split(|byte| *byte == b'/').next().unwrap_or(bytes);
        if let Some(Root::Named { parent, leaf, .. }) = self.named.get(first).map(|index| &self.roots[*index]) {
            return Ok((parent.clone(), [leaf, &bytes[first.len()..]].concat()));
        }
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for root in &self.roots {
            let Root::Contents { dir, .. } = root else { continue };
            match self.disk.stat(dir, first) {
                Ok(_) => return Ok((dir.clone(), bytes.to_vec())),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The held parent of the object of a path, and its name there.
    pub fn parent_of(&self, path: &RelPath) -> io::Result<(D::Dir, Vec<u8>)> {
        let (start, way) = self.locate(path)?;
        match way.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => Ok((self.disk.open_dir(&start, &way[..slash])?, way[slash + 1..].to_vec())),
            None => Ok((start, way)),
        }
    }

    /// The directory of a path; the empty path is not one.
    pub fn open_dir(&self, path: &RelPath) -> io::Result<D::Dir> {
        let (start, way) = self.locate(path)?;
        self.disk.open_dir(&start, &way)
    }

    /// The regular file of a path, open for reading.
    pub fn open_file(&self, path: &RelPath) -> io::Result<D::File> {
        let (parent, name) = self.parent_of(path)?;
        self.disk.open(&parent, &name, Access::Read)
    }
}

/// The roots that the user named, and what is to be said about them. The same source named twice is one root; two
/// sources that would arrive under one name are a usage error.
pub fn open_roots<D: Rooted>(disk: &D, paths: &[PathBuf]) -> Result<(Roots<D>, Vec<Notice>), Error> {
    let (mut roots, mut notices) = (vec![], vec![]);
    let mut seen: HashMap<Option<Vec<u8>>, Vec<(u64, u64)>> = HashMap::new();
    for path in paths {
        let (root, id) = open_root(disk, path)?;
        let name = match &root {
            Root::Contents { .. } => None,
            Root::Named { name, .. } => Some(name.clone()),
        };
        let same_name = seen.entry(name.clone()).or_default();
        if same_name.contains(&id) {
            notices.push(Notice::NamedTwice(path.as_os_str().as_bytes().to_vec()));
            continue;
        }
        if name.is_some() && !same_name.is_empty() {
            return Err(one_name(path.as_os_str().as_bytes()));
        }
        same_name.push(id);
        roots.push(root);
    }
    refuse_shared_names(disk, &roots)?;
    Ok((Roots::new(disk.clone(), roots), notices))
}

/// An error if everything that the user named is excluded by himself: nothing would be sent, and that would be success.
pub fn refuse_nothing<D: Disk>(roots: &Roots<D>, selector: &Selector) -> Result<(), Error> {
    let is_excluded = |root: &Root<D>| match root {
        Root::Contents { .. } => false,
        Root::Named { name, parent, leaf } => {
            let kind = roots.disk().stat(parent, leaf).map(|stat| stat.kind);
            let is_directory = kind.is_ok_and(|kind| kind == FileKind::Directory);
            RelPath::parse(name).is_ok_and(|path| selector.excludes(&path, is_directory, std::iter::empty()))
        }
    };
    let Some(Root::Named { name, .. }) = roots.all().first().filter(|_| roots.all().iter().all(is_excluded)) else {
        return Ok(());
    };
    let name = crate::path::Escaped(name);
    let among = format!("write `{name}/.` to choose among what is in it");
    Err(Error::Usage(format!("`{name}`, and whatever else is named, is excluded: {among}")))
}

/// An error unless the roots are one directory: the paths of a list lie below it.
pub fn refuse_all_but_a_directory<D: Disk>(roots: &Roots<D>) -> Result<(), Error> {
    let is_directory = match roots.all() {
        [Root::Contents { .. }] => true,
        [Root::Named { parent, leaf, .. }] => {
            roots.disk().stat(parent, leaf).is_ok_and(|stat| stat.kind == FileKind::Directory)
        }
        _ => false,
    };
    let text = "`--files-from` needs one PATH, the directory to which what it lists is relative";
    if is_directory { Ok(()) } else { Err(Error::Usage(text.to_owned())) }
}

/// Sources as they are remembered: absolute, and still saying whether a directory or its content was meant.
pub fn canonical(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Error> {
    let one = |path: &PathBuf| {
        let failed = |source: io::Error| Error::Local {
            what: "source",
            object: path.clone(),
            problem: "cannot be found",
            source: Some(source),
        };
        let typed = Typed::new(path);
        let mut out = match typed.last {
            b"." => path.canonicalize().map_err(failed)?.into_os_string(),
            last => typed.parent().canonicalize().map_err(failed)?.join(OsStr::from_bytes(last)).into_os_string(),
        };
        match typed.last {
            b"." => out.push("/."),
            _ if typed.has_slash => out.push("/"),
            _ => {}
        }
        Ok(PathBuf::from(out))
    };
    paths.iter().map(one).collect()
}

/// The name under which a source arrives, as it was typed; `None` if what is in it arrives at the top.
pub fn name_of(path: &Path) -> Option<Vec<u8>> {
    let last = Typed::new(path).last;
    (last != b".").then(|| last.to_vec())
}

/// A path as it was typed, in its parts: `Path` forgets a closing slash or dot, and here they mean something.
struct Typed<'a> {
    before: &'a [u8],
    last: &'a [u8],
    has_slash: bool,
}

impl Typed<'_> {
    fn new(path: &Path) -> Typed<'_> {
        let bytes = path.as_os_str().as_bytes();
        let slashes = bytes.iter().rev().take_while(|byte| **byte == b'/').count();
        let bare = &bytes[..bytes.len() - slashes];
        let at = bare.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        Typed { before: &bare[..at], last: &bare[at..], has_slash: slashes > 0 }
    }

    fn parent(&self) -> &Path {
        if self.before.is_empty() { Path::new(".") } else { Path::new(OsStr::from_bytes(self.before)) }
    }
}

fn one_name(name: &[u8]) -> Error {
    let name = crate::path::Escaped(name);
    Error::Usage(format!("two sources would arrive under one name: `{name}`"))
}

/// What arrives at the top from inside a directory may not have the name of something else that arrives there.
fn refuse_shared_names<D: Disk>(disk: &D, roots: &[Root<D>]) -> Result<(), Error> {
    if roots.len() < 2 {
        return Ok(());
    }
    let mut names = std::collections::HashSet::new();
    for root in roots {
        let listed = match root {
            Root::Named { name, .. } => vec![name.clone()],
            // A directory that cannot be listed is reported by the walk.
            Root::Contents { dir, .. } => {
                disk.list(dir).unwrap_or_default().into_iter().map(|listed| listed.name).collect()
            }
        };
        for name in listed {
            if names.contains(&name) {
                return Err(one_name(&name));
            }
            names.insert(name);
        }
    }
    Ok(())
}

/// Opens one root, and says by which (device, inode) it is known.
fn open_root<D: Rooted>(disk: &D, path: &Path) -> Result<(Root<D>, (u64, u64)), Error> {
    let refuse = |problem, source| Error::Local { what: "source", object: path.to_path_buf(), problem, source };
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => refuse("is not there", None),
        _ => refuse("cannot be opened", Some(error)),
    };
    let typed = Typed::new(path);
    let root = match typed.last {
        b"." => {
            let dir = disk.open_root(path).map_err(unreadable)?;
            let stat = disk.stat_dir(&dir).map_err(unreadable)?;
            let shown = path.to_path_buf();
            return Ok((Root::Contents { dir, shown }, (stat.device, stat.inode)));
        }
        b"" | b".." => {
            let text = format!("`{0}` has no name; write `{0}/.` to send what is in it", path.display());
            return Err(Error::Usage(text.replace("//.", "/.")));
        }
        last if typed.has_slash => {
            // As everywhere in Unix, the slash asks for the directory, also behind a symlink.
            let real = path.canonicalize().map_err(unreadable)?;
            let parent = real.parent().unwrap_or(Path::new("/"));
            let leaf = real.file_name().unwrap_or(OsStr::new("/")).as_bytes().to_vec();
            let parent = disk.open_root(parent).map_err(unreadable)?;
            Root::Named { name: last.to_vec(), parent, leaf }
        }
        last => {
            let parent = disk.open_root(typed.parent()).map_err(unreadable)?;
            Root::Named { name: last.to_vec(), parent, leaf: last.to_vec() }
        }
    };
    let Root::Named { name, parent, leaf } = &root else { unreachable!("contents were returned above") };
    RelPath::parse(name).map_err(|_| refuse("has a name that cannot be sent", None))?;
    let stat = disk.stat(parent, leaf).map_err(unreadable)?;
    if typed.has_slash && stat.kind != FileKind::Directory {
        return Err(refuse("is not a directory", None));
    }
    Ok((root, (stat.device, stat.inode)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::disk::RealDisk;

    fn names(roots: &Roots<RealDisk>) -> Vec<Option<String>> {
        let name = |root: &Root<RealDisk>| match root {
            Root::Contents { .. } => None,
            Root::Named { name, .. } => Some(String::from_utf8(name.clone()).unwrap()),
        };
        roots.all().iter().map(name).collect()
    }

    #[test]
    fn names_come_from_what_was_typed() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("x")).unwrap();
        fs::write(home.path().join("x/f"), "1").unwrap();
        symlink("x", home.path().join("l")).unwrap();
        let at = |text: &str| home.path().join(text);
        let open =
            |texts: &[&str]| open_roots(&RealDisk::new(), &texts.iter().map(|text| at(text)).collect::<Vec<_>>());
        assert_eq!(names(&open(&["x", "l"]).unwrap().0), [Some("x".into()), Some("l".into())]);
        assert_eq!(names(&open(&["x//", "x/.", "x/./"]).unwrap().0), [Some("x".into()), None]);
        let (roots, _) = open(&["l/"]).unwrap();
        assert_eq!(names(&roots), [Some("l".into())]);
        assert!(roots.open_file(&RelPath::parse(b"l/f").unwrap()).is_ok());
        let (roots, notices) = open(&["x", "./x", "x/"]).unwrap();
        assert_eq!((names(&roots).len(), notices.len()), (1, 2));
        for (texts, shown) in [
            (&[".."][..], "has no name"),
            (&["nothing"], "is not there"),
            (&["x/f/"], "cannot be opened"),
            (&[".", "x"], "two sources would arrive under one name: `x`"),
            (&["x/f", "x/."], "two sources would arrive under one name: `f`"),
        ] {
            let error = open(texts).err().unwrap();
            assert!(error.to_string().contains(shown), "{texts:?}: {error}");
        }
        assert!(open_roots(&RealDisk::new(), &[PathBuf::from("/")]).err().unwrap().to_string().contains("write `/.`"));
    }

    #[test]
    fn a_path_leads_back_to_its_file_through_named_and_unnamed_roots() {
        let home = tempfile::tempdir().unwrap();
        for dir in ["a", "b", "c"] {
            fs::create_dir(home.path().join(dir)).unwrap();
            fs::write(home.path().join(dir).join(format!("{dir}.txt")), dir).unwrap();
        }
        let paths: Vec<PathBuf> = ["a", "b/.", "c/."].iter().map(|text| home.path().join(text)).collect();
        let (roots, _) = open_roots(&RealDisk::new(), &paths).unwrap();
        for path in ["a/a.txt", "b.txt", "c.txt"] {
            assert!(roots.open_file(&RelPath::parse(path.as_bytes()).unwrap()).is_ok(), "{path}");
        }
        assert_eq!(roots.open_file(&RelPath::parse(b"d.txt").unwrap()).err().unwrap().kind(), io::ErrorKind::NotFound);
    }
}
