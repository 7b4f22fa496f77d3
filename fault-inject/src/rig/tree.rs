//! Builds source trees, one object at a time, through descriptors that are held, so that depth has no limit. What
//! trees there are to test with stands in `trees.rs`.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;

use super::held;

/// What a file holds.
pub enum Content {
    /// That many random bytes.
    Random(u64),
    /// That many zeros, written.
    Zeros(u64),
    /// Exactly these.
    Bytes(Vec<u8>),
    /// A hole of `size_bytes` with random data at each (offset, length).
    Sparse {
        /// Length of the file.
        size_bytes: u64,
        /// Offset and length of each part that holds data.
        data: Vec<(u64, u64)>,
    },
}

/// A tree under construction. Directory modes and times are set by [`Tree::finish`], deepest first, because
/// building below would change or forbid them.
pub struct Tree {
    root: PathBuf,
    held: OwnedFd,
    rng: ChaCha8Rng,
    directory_modes: HashMap<Vec<u8>, u32>,
    directory_times: HashMap<Vec<u8>, (i64, u32)>,
    last_parent: Option<(Vec<u8>, OwnedFd)>,
}

impl Tree {
    /// In a directory that is made now.
    pub fn new(root: &Path, seed: u64) -> Tree {
        std::fs::create_dir(root).unwrap();
        Tree::within(root, seed)
    }

    /// In a directory that exists.
    pub fn within(root: &Path, seed: u64) -> Tree {
        let rng = ChaCha8Rng::seed_from_u64(seed);
        let (directory_modes, directory_times) = (HashMap::new(), HashMap::new());
        let held = held::open_dir(root);
        Tree { root: root.to_owned(), held, rng, directory_modes, directory_times, last_parent: None }
    }

    /// Where it stands.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A number below `bound`, from the tree's own randomness.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.rng.next_u64() % bound
    }

    /// A file; missing parents are made.
    pub fn file(&mut self, path: impl AsRef<[u8]>, content: &Content) {
        let path = path.as_ref();
        let (parent, name) = self.parent_of(path);
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rustix::fs::openat(&parent, OsStr::from_bytes(&name), flags, Mode::from_raw_mode(0o644));
        let file = File::from(made.unwrap_or_else(|error| panic!("create {}: {error}", path.escape_ascii())));
        match content {
            Content::Bytes(bytes) => file.write_all_at(bytes, 0).unwrap(),
            Content::Random(size_bytes) => self.fill(&file, 0, *size_bytes),
            Content::Zeros(size_bytes) => {
                let zeros = vec![0u8; (*size_bytes).min(1 << 20) as usize];
                let mut at = 0;
                while at < *size_bytes {
                    let part = (*size_bytes - at).min(zeros.len() as u64);
                    file.write_all_at(&zeros[..part as usize], at).unwrap();
                    at += part;
                }
            }
            Content::Sparse { size_bytes, data } => {
                file.set_len(*size_bytes).unwrap();
                for (offset, len) in data {
                    self.fill(&file, *offset, *len);
                }
            }
        }
    }

    /// A small file of random bytes.
    pub fn small(&mut self, path: impl AsRef<[u8]>) {
        let size_bytes = 1 + self.below(3000);
        self.file(path, &Content::Random(size_bytes));
    }

    /// A directory; it and missing parents are made, an existing one is left.
    pub fn dir(&mut self, path: impl AsRef<[u8]>) {
        self.ensure_dir(path.as_ref());
    }

    /// A symlink to whatever; nothing need be there.
    pub fn symlink(&mut self, path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) {
        let (parent, name) = self.parent_of(path.as_ref());
        rustix::fs::symlinkat(OsStr::from_bytes(target.as_ref()), &parent, OsStr::from_bytes(&name)).unwrap();
    }

    /// Another name for a file of the tree.
    pub fn hard_link(&mut self, path: impl AsRef<[u8]>, existing: impl AsRef<[u8]>) {
        let (from, from_name) = self.parent_of(existing.as_ref());
        let (to, to_name) = self.parent_of(path.as_ref());
        let (old, new) = (OsStr::from_bytes(&from_name), OsStr::from_bytes(&to_name));
        rustix::fs::linkat(&from, old, &to, new, AtFlags::empty()).unwrap();
    }

    /// A FIFO, a socket or a device. Refused where the user may not (devices): then nothing is made.
    pub fn special(&mut self, path: impl AsRef<[u8]>, kind: FileType) -> Result<(), Errno> {
        let (parent, name) = self.parent_of(path.as_ref());
        let null = rustix::fs::makedev(1, 3);
        rustix::fs::mknodat(&parent, OsStr::from_bytes(&name), kind, Mode::from_raw_mode(0o600), null)
    }

    /// Mode bits; of a directory they are set at the end.
    pub fn mode(&mut self, path: impl AsRef<[u8]>, mode: u32) {
        let path = path.as_ref();
        if self.is_dir(path) {
            self.directory_modes.insert(path.to_vec(), mode);
            return;
        }
        let (parent, name) = self.parent_of(path);
        rustix::fs::chmodat(&parent, OsStr::from_bytes(&name), Mode::from_raw_mode(mode), AtFlags::empty()).unwrap();
    }

    /// Modification time in seconds and nanoseconds since 1970; of a directory it is set at the end.
    pub fn mtime(&mut self, path: impl AsRef<[u8]>, seconds: i64, nanos: u32) {
        let path = path.as_ref();
        if self.is_dir(path) {
            self.directory_times.insert(path.to_vec(), (seconds, nanos));
            return;
        }
        let (parent, name) = self.parent_of(path);
        let times = mtime_only(seconds, nanos);
        rustix::fs::utimensat(&parent, OsStr::from_bytes(&name), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }

    /// An extended attribute; refused where the file system has none.
    pub fn xattr(&mut self, path: impl AsRef<[u8]>, name: &str, value: &[u8]) -> Result<(), Errno> {
        let (parent, leaf) = self.parent_of(path.as_ref());
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&parent, OsStr::from_bytes(&leaf), flags, Mode::empty()).unwrap();
        rustix::fs::fsetxattr(file.as_fd(), name, value, rustix::fs::XattrFlags::empty())
    }

    /// Sets the times and modes of directories, deepest first. Returns the root.
    pub fn finish(mut self) -> PathBuf {
        self.last_parent = None;
        let mut paths: Vec<_> = self.directory_modes.keys().chain(self.directory_times.keys()).cloned().collect();
        paths.sort_by_key(|path| std::cmp::Reverse(path.iter().filter(|byte| **byte == b'/').count()));
        paths.dedup();
        for path in paths {
            let dir = held::open_below(&self.held, &path).unwrap();
            if let Some((seconds, nanos)) = self.directory_times.get(&path) {
                rustix::fs::futimens(&dir, &mtime_only(*seconds, *nanos)).unwrap();
            }
            if let Some(mode) = self.directory_modes.get(&path) {
                rustix::fs::fchmod(&dir, Mode::from_raw_mode(*mode)).unwrap();
            }
        }
        self.root
    }

    fn is_dir(&mut self, path: &[u8]) -> bool {
        let (parent, name) = self.parent_of(path);
        name.is_empty() || held::stat(&parent, &name).is_ok_and(|stat| held::kind(&stat) == FileType::Directory)
    }

    fn parent_of(&mut self, path: &[u8]) -> (OwnedFd, Vec<u8>) {
        let (parent, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&path[..0], path),
        };
        (self.ensure_dir(parent), name.to_vec())
    }

    fn ensure_dir(&mut self, path: &[u8]) -> OwnedFd {
        if let Some((known, held)) = &self.last_parent
            && known == path
        {
            return held.try_clone().unwrap();
        }
        let mut at = self.held.try_clone().unwrap();
        for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            at = match held::open_child_dir(&at, name) {
                Err(Errno::NOENT) => {
                    rustix::fs::mkdirat(&at, OsStr::from_bytes(name), Mode::from_raw_mode(0o755)).unwrap();
                    held::open_child_dir(&at, name).unwrap()
                }
                other => other.unwrap_or_else(|error| panic!("open {}: {error}", name.escape_ascii())),
            };
        }
        self.last_parent = Some((path.to_vec(), at.try_clone().unwrap()));
        at
    }

    fn fill(&mut self, file: &File, offset: u64, len: u64) {
        let mut buffer = vec![0u8; len.min(1 << 20) as usize];
        let mut at = 0;
        while at < len {
            let part = (len - at).min(buffer.len() as u64) as usize;
            self.rng.fill_bytes(&mut buffer[..part]);
            file.write_all_at(&buffer[..part], offset + at).unwrap();
            at += part as u64;
        }
    }
}

/// Times that change the modification time and nothing else.
pub fn mtime_only(seconds: i64, nanos: u32) -> Timestamps {
    let last_access = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    Timestamps { last_access, last_modification: Timespec { tv_sec: seconds, tv_nsec: i64::from(nanos) } }
}
