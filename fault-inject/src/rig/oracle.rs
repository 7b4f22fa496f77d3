//! Says whether two trees are the same, and whether something outside changed. Shares no code with the product: plain
//! `blake3::hash` over whole contents, plain stats, and descriptors held on the way down.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, SeekFrom, Stat};
use rustix::io::Errno;

use super::{facility, held};

/// Files beyond this are fingerprinted by their non-zero blocks instead of a hash over every hole.
const WHOLE_HASH_BYTES_MAX: u64 = 1 << 30;
/// Unit of that fingerprint.
const BLOCK_BYTES: u64 = 1 << 16;

/// What the oracle knows of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Regular, directory, symlink or another.
    pub kind: FileType,
    /// Bytes of a regular file, else 0.
    pub size_bytes: u64,
    /// Plain BLAKE3 of a regular file (or the fingerprint of a huge sparse one); `Err` if it could not be read.
    pub digest: Result<Option<[u8; 32]>, Errno>,
    /// Permission bits; 0 for symlinks.
    pub mode: u32,
    /// Seconds and nanoseconds; 0 for symlinks, whose time is not carried.
    pub mtime: (i64, i64),
    /// Where a symlink points.
    pub target: Option<Vec<u8>>,
    /// Bytes allocated on disk: reported, not compared.
    pub allocated_bytes: u64,
    /// Inode, to see whether an object was replaced.
    pub inode: u64,
}

/// A tree as it was at one moment, by relative path; the root itself is the empty path.
pub type Snapshot = BTreeMap<Vec<u8>, Node>;

/// Looks at everything below a directory. `.landfall` directories at the top are left out by [`differences`], not here.
pub fn snapshot(root: &Path) -> Snapshot {
    snapshot_without(root, &[])
}

/// Like [`snapshot`], but names at the top that are in `skip` are not looked at.
pub fn snapshot_without(root: &Path, skip: &[&[u8]]) -> Snapshot {
    let dir = held::open_dir(root);
    let mut found = Snapshot::new();
    found.insert(Vec::new(), node(&dir, b"."));
    let mut waiting: Vec<(OwnedFd, Vec<u8>, Vec<Vec<u8>>)> = Vec::new();
    let top = held::names(&dir).into_iter().filter(|name| !skip.contains(&name.as_slice())).collect();
    waiting.push((dir, Vec::new(), top));
    while let Some((dir, path, mut names)) = waiting.pop() {
        let Some(name) = names.pop() else { continue };
        let child_path = held::join(&path, &name);
        let child = node(&dir, &name);
        let opened = if child.kind == FileType::Directory { held::open_child_dir(&dir, &name).ok() } else { None };
        waiting.push((dir, path, names));
        if let Some(opened) = opened {
            let below = held::names(&opened);
            waiting.push((opened, child_path.clone(), below));
        }
        found.insert(child_path, child);
    }
    found
}

fn node(dir: &OwnedFd, name: &[u8]) -> Node {
    let stat = held::stat(dir, name).unwrap_or_else(|error| panic!("stat {}: {error}", facility::shown(name)));
    let kind = held::kind(&stat);
    let is_link = kind == FileType::Symlink;
    let target =
        is_link.then(|| rustix::fs::readlinkat(dir, OsStr::from_bytes(name), Vec::new()).unwrap().into_bytes());
    let is_file = kind == FileType::RegularFile;
    Node {
        kind,
        size_bytes: if is_file { stat.st_size as u64 } else { 0 },
        digest: if is_file { digest(dir, name, &stat).map(Some) } else { Ok(None) },
        mode: if is_link { 0 } else { stat.st_mode & 0o7777 },
        mtime: if is_link { (0, 0) } else { (stat.st_mtime, stat.st_mtime_nsec as i64) },
        target,
        allocated_bytes: stat.st_blocks as u64 * 512,
        inode: stat.st_ino,
    }
}

fn digest(dir: &OwnedFd, name: &[u8], stat: &Stat) -> Result<[u8; 32], Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(dir, OsStr::from_bytes(name), flags, Mode::empty())?);
    let size_bytes = stat.st_size as u64;
    if size_bytes > WHOLE_HASH_BYTES_MAX {
        return Ok(fingerprint(&file, size_bytes));
    }
    let mut bytes = vec![0u8; size_bytes as usize];
    file.read_exact_at(&mut bytes, 0).unwrap_or_else(|error| panic!("read {}: {error}", facility::shown(name)));
    Ok(*blake3::hash(&bytes).as_bytes())
}

/// Hash over (offset, bytes) of every block that is not all zero: the same for the same contents, however they are
/// allocated.
fn fingerprint(file: &File, size_bytes: u64) -> [u8; 32] {
    let mut described = Vec::new();
    let mut block = vec![0u8; BLOCK_BYTES as usize];
    let mut at = 0;
    while at < size_bytes {
        let data = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(offset) => offset,
            Err(Errno::NXIO) => break,
            Err(error) => panic!("seek to data: {error}"),
        };
        let hole = rustix::fs::seek(file, SeekFrom::Hole(data)).expect("every file ends in a hole");
        at = data - data % BLOCK_BYTES;
        while at < hole {
            let len = BLOCK_BYTES.min(size_bytes - at) as usize;
            file.read_exact_at(&mut block[..len], at).unwrap();
            if block[..len].iter().any(|byte| *byte != 0) {
                described.extend_from_slice(&at.to_le_bytes());
                described.extend_from_slice(blake3::hash(&block[..len]).as_bytes());
            }
            at += BLOCK_BYTES;
        }
    }
    *blake3::hash(&described).as_bytes()
}

/// What is compared.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules<'a> {
    /// Paths that must not be at the target, although they are in the source (left out and named by the product).
    pub left_out: &'a [&'a [u8]],
    /// The root directory's own mode and time count too: it was a root of the transfer.
    pub root: Root,
}

/// Whether the two roots are part of the comparison.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Root {
    /// The roots' own attributes count.
    #[default]
    Compared,
    /// Only what is below them.
    Ignored,
}

/// Every difference between what was sent and what arrived, in words. Specials of the source are expected to be absent.
pub fn differences(source: &Snapshot, target: &Snapshot, rules: &Rules<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let is_left_out = |path: &[u8]| {
        rules.left_out.iter().any(|out| path.strip_prefix(*out).is_some_and(|rest| rest.is_empty() || rest[0] == b'/'))
    };
    for (path, wanted) in source {
        let shown = facility::shown(path);
        let carried = matches!(wanted.kind, FileType::RegularFile | FileType::Directory | FileType::Symlink);
        match (target.get(path), carried && !is_left_out(path)) {
            (None, true) => found.push(format!("{shown}: missing")),
            (Some(_), false) => found.push(format!("{shown}: is there and should have been left out")),
            (None, false) => {}
            (Some(_), true) if path.is_empty() && rules.root == Root::Ignored => {}
            (Some(got), true) => found.extend(node_differences(wanted, got).map(|what| format!("{shown}: {what}"))),
        }
    }
    let extra = target.keys().filter(|path| !source.contains_key(*path));
    found.extend(extra.map(|path| format!("{}: is there and was never sent", facility::shown(path))));
    found
}

fn node_differences<'a>(wanted: &'a Node, got: &'a Node) -> impl Iterator<Item = String> + 'a {
    let mut found = Vec::new();
    let mut compare = |what: &str, is_same: bool, wanted: String, got: String| {
        if !is_same {
            found.push(format!("{what} {got}, should be {wanted}"));
        }
    };
    let text = |value: &dyn std::fmt::Debug| format!("{value:?}");
    compare("kind", wanted.kind == got.kind, text(&wanted.kind), text(&got.kind));
    if wanted.kind == got.kind {
        let sizes = (wanted.size_bytes, got.size_bytes);
        compare("size", sizes.0 == sizes.1, text(&sizes.0), text(&sizes.1));
        if sizes.0 == sizes.1 {
            compare("bytes", wanted.digest == got.digest, hex(wanted), hex(got));
        }
        let (mode, got_mode) = (wanted.mode & 0o777, got.mode & 0o777);
        compare("mode", mode == got_mode, format!("{mode:03o}"), format!("{got_mode:03o}"));
        compare("mtime", wanted.mtime == got.mtime, text(&wanted.mtime), text(&got.mtime));
        compare("link target", wanted.target == got.target, text(&wanted.target), text(&got.target));
    }
    found.into_iter()
}

fn hex(node: &Node) -> String {
    match &node.digest {
        Ok(Some(digest)) => blake3::Hash::from_bytes(*digest).to_hex().to_string(),
        other => format!("{other:?}"),
    }
}

/// Fails, with every difference, unless the trees are the same.
pub fn assert_same(source: &Path, target: &Path, rules: &Rules<'_>) {
    assert_matches(&snapshot(source), target, rules);
}

/// Like [`assert_same`], against a source that was looked at before.
pub fn assert_matches(source: &Snapshot, target: &Path, rules: &Rules<'_>) {
    let found = differences(source, &snapshot(target), rules);
    assert!(found.is_empty(), "{} differs:\n  {}", target.display(), in_lines(&found));
}

/// At most forty of them, one to a line.
pub fn in_lines(found: &[String]) -> String {
    let more = if found.len() > 40 { format!("\n  and {} more", found.len() - 40) } else { String::new() };
    found.iter().take(40).cloned().collect::<Vec<_>>().join("\n  ") + &more
}

/// Data outside every target, watched: a transfer that changes any of it, or touches its times, is caught.
pub struct Canary {
    root: PathBuf,
    before: Snapshot,
}

impl Canary {
    /// Makes a directory with files, a link and a directory in it.
    pub fn new(root: &Path) -> Canary {
        std::fs::create_dir(root).unwrap();
        std::fs::write(root.join("song"), "unchanged").unwrap();
        std::fs::create_dir(root.join("cage")).unwrap();
        std::fs::write(root.join("cage/seed"), "unchanged too").unwrap();
        std::os::unix::fs::symlink("song", root.join("link")).unwrap();
        Canary { root: root.to_owned(), before: snapshot(root) }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Everything that changed: contents, modes, times, inodes, names.
    pub fn changes(&self) -> Vec<String> {
        let after = snapshot(&self.root);
        let mut found = differences(&self.before, &after, &Rules::default());
        let is_moved = |path: &Vec<u8>, node: &Node| after.get(path).is_some_and(|now| now.inode != node.inode);
        let moved = self.before.iter().filter(|(path, node)| is_moved(path, node));
        found.extend(moved.map(|(path, _)| format!("{}: replaced", facility::shown(path))));
        found
    }

    /// Fails if anything changed.
    pub fn assert_unchanged(&self) {
        let found = self.changes();
        assert!(found.is_empty(), "outside the target something changed:\n  {}", in_lines(&found));
    }
}
