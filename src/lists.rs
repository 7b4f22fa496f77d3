//! Lists that the user gives: the paths that go, and the digests that files have. What stands in such a file, and the bytes
//! as which a list is kept and handed on; in both a list is sorted by its paths. What a list leads to is `source/`'s.
//!
//! ```text
//! paths      each path, and NUL after it; the empty path is the source itself
//! digests    of each file its digest (32 bytes), its path, and NUL
//! ```

mod b3sum;

use std::sync::Arc;

use thiserror::Error;

use crate::digest::{FileDigest, ListDigest};
use crate::limits::{COMPONENT_BYTES_MAX, LIST_BYTES_MAX, LIST_LINES_MAX, PATH_BYTES_MAX, PATH_COMPONENTS_MAX};
use crate::path::{Escaped, Refused, RelPath};

pub use b3sum::Source;

/// A list that belongs to a transfer. It is the same list where the digest is.
#[derive(Clone, Debug)]
pub struct Given<L> {
    /// Of its encoding.
    pub digest: ListDigest,
    /// What stands in it, where that was read already.
    pub list: Option<Arc<L>>,
}

impl<L> PartialEq for Given<L> {
    fn eq(&self, other: &Given<L>) -> bool {
        self.digest == other.digest
    }
}

impl<L> Eq for Given<L> {}

impl<L> Given<L> {
    /// One that is kept somewhere else.
    pub fn kept(digest: ListDigest) -> Given<L> {
        Given { digest, list: None }
    }
}

impl<L: List> Given<L> {
    /// A list that was just read.
    pub fn new(list: L) -> Given<L> {
        Given { digest: ListDigest::of(&list.encode()), list: Some(Arc::new(list)) }
    }
}

/// What can be kept and handed on.
pub trait List: Sized {
    /// Its bytes.
    fn encode(&self) -> Vec<u8>;
    /// Parses them; `None` if they are no list.
    fn decode(bytes: &[u8]) -> Option<Self>;
}

/// A line of a user's file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {number}, `{}`, cannot be used: {why}", Escaped(text))]
pub struct BadLine {
    /// Which, from 1.
    pub number: usize,
    /// What stands there.
    pub text: Vec<u8>,
    /// What is wrong with it.
    pub why: Wrong,
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Wrong {
    /// It begins with a slash.
    #[error("an absolute path is not below the source")]
    Absolute,
    /// It has a `..`.
    #[error("`..` may lead out of the source")]
    Upwards,
    /// It is no path that can be sent.
    #[error(transparent)]
    Path(#[from] Refused),
    /// It does not hold a digest and a path.
    #[error("a line is `DIGEST  PATH`, with a digest of 64 digits, as b3sum prints it")]
    NoDigest,
    /// It is about a file outside of what is sent.
    #[error("it is in none of the sources")]
    Elsewhere,
    /// Another line gives its path another digest.
    #[error("another line gives it another digest")]
    Twice,
    /// Another line gives a digest to a directory that it is in.
    #[error("another line says that a directory above it is a file")]
    BelowFile,
    /// There are more lines than a list can have, or they are longer.
    #[error("the list is longer than {LIST_LINES_MAX} lines or {LIST_BYTES_MAX} bytes")]
    TooLong,
}

/// Paths in the order of their bytes, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Paths {
    /// Each with a NUL after it.
    bytes: Vec<u8>,
    /// Where the NULs are.
    ends: Vec<u32>,
}

impl Paths {
    /// The next path, which comes after those that are there. `None` if it does not, or there is no room.
    fn push(&mut self, path: &[u8]) -> Option<()> {
        let is_next = self.ends.is_empty() || self.get(self.ends.len() - 1) < path;
        let end = self.bytes.len() + path.len();
        if !is_next || end >= LIST_BYTES_MAX || self.ends.len() == LIST_LINES_MAX {
            return None;
        }
        self.bytes.extend_from_slice(path);
        self.bytes.push(0);
        self.ends.push(u32::try_from(end).ok()?);
        Some(())
    }

    fn get(&self, index: usize) -> &[u8] {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before] as usize + 1);
        &self.bytes[start..self.ends[index] as usize]
    }

    /// How many of the paths, from the first on, fulfil what only the first of them do.
    fn partition(&self, is_first: impl Fn(&[u8]) -> bool) -> usize {
        let (mut low, mut high) = (0, self.ends.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if is_first(self.get(middle)) { low = middle + 1 } else { high = middle }
        }
        low
    }

    fn find(&self, path: &[u8]) -> Option<usize> {
        let at = self.partition(|other| other < path);
        (at < self.ends.len() && self.get(at) == path).then_some(at)
    }

    /// The paths that begin like this.
    fn beginning(&self, start: &[u8]) -> impl Iterator<Item = &[u8]> {
        let first = self.partition(|other| other < start);
        let end = self.partition(|other| other < start || other.starts_with(start));
        (first..end).map(|index| self.get(index))
    }
}

/// The paths that go, below the one directory that is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathList(Paths);

impl PathList {
    /// Reads what a user has written: a path a line, or NUL after each where there is any. Empty lines say nothing.
    pub fn parse(text: &[u8]) -> Result<PathList, BadLine> {
        let mark = if text.contains(&0) { 0 } else { b'\n' };
        let mut paths = vec![];
        for (index, line) in text.split(|byte| *byte == mark).enumerate().filter(|(_, line)| !line.is_empty()) {
            let bad = |why| BadLine { number: index + 1, text: line.to_vec(), why };
            if paths.len() == LIST_LINES_MAX {
                return Err(bad(Wrong::TooLong));
            }
            paths.push((tidy(line).map_err(bad)?, index + 1));
        }
        paths.sort_unstable();
        paths.dedup_by(|later, earlier| later.0 == earlier.0);
        let mut list = Paths::default();
        for (text, number) in paths {
            list.push(&text).ok_or(BadLine { number, text, why: Wrong::TooLong })?;
        }
        Ok(PathList(list))
    }

    /// Whether there is no path in it.
    pub fn is_empty(&self) -> bool {
        self.0.ends.is_empty()
    }

    /// Whether exactly this path is in it; the empty one is the source itself.
    pub fn contains(&self, path: &[u8]) -> bool {
        self.0.find(path).is_some()
    }

    /// The paths in it that lie below this one.
    pub fn below(&self, path: &[u8]) -> Vec<&[u8]> {
        let start = if path.is_empty() { vec![] } else { [path, b"/"].concat() };
        self.0.beginning(&start).filter(|path| !path.is_empty()).collect()
    }

    /// The names in a directory under which, or below which, there is something in it; sorted, each once.
    pub fn names_in(&self, directory: &[u8]) -> Vec<Vec<u8>> {
        let start_bytes = if directory.is_empty() { 0 } else { directory.len() + 1 };
        let name = |path: &[u8]| path[start_bytes..].split(|byte| *byte == b'/').next().unwrap_or_default().to_vec();
        let mut names: Vec<Vec<u8>> = vec![];
        for path in self.below(directory) {
            let name = name(path);
            if names.last() != Some(&name) {
                names.push(name);
            }
        }
        // `a-b` stands between `a` and `a/b`.
        names.sort_unstable();
        names.dedup();
        names
    }
}

impl List for PathList {
    fn encode(&self) -> Vec<u8> {
        self.0.bytes.clone()
    }

    fn decode(bytes: &[u8]) -> Option<PathList> {
        let mut list = Paths::default();
        let text = bytes.strip_suffix(b"\0")?;
        for path in text.split(|byte| *byte == 0) {
            (tidy(path).ok()? == path).then_some(())?;
            list.push(path)?;
        }
        Some(PathList(list))
    }
}

/// What each file is to hash to, by the path under which it arrives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DigestList {
    paths: Paths,
    digests: Vec<FileDigest>,
}

impl DigestList {
    /// How many files are in it.
    pub fn len(&self) -> usize {
        self.digests.len()
    }

    /// Whether no file is in it.
    pub fn is_empty(&self) -> bool {
        self.digests.is_empty()
    }

    /// The number of a path.
    pub fn find(&self, path: &RelPath) -> Option<usize> {
        self.paths.find(path.as_bytes())
    }

    /// The digest of a number.
    pub fn digest(&self, index: usize) -> FileDigest {
        self.digests[index]
    }

    /// The path of a number.
    pub fn path(&self, index: usize) -> RelPath {
        RelPath::parse(self.paths.get(index)).expect("a list holds nothing else")
    }

    fn push(&mut self, path: &[u8], digest: FileDigest) -> Option<()> {
        let digests_bytes = (self.digests.len() + 1) * size_of::<FileDigest>();
        if self.paths.bytes.len() + path.len() + digests_bytes >= LIST_BYTES_MAX {
            return None;
        }
        self.paths.push(path)?;
        self.digests.push(digest);
        Some(())
    }

    fn new() -> DigestList {
        DigestList { paths: Paths::default(), digests: vec![] }
    }
}

impl List for DigestList {
    fn encode(&self) -> Vec<u8> {
        let one = |(index, digest): (usize, &FileDigest)| [&digest.0, self.paths.get(index), b"\0"].concat();
        self.digests.iter().enumerate().flat_map(one).collect()
    }

    fn decode(mut bytes: &[u8]) -> Option<DigestList> {
        let mut list = DigestList::new();
        while let Some((digest, rest)) = bytes.split_first_chunk::<32>() {
            let end = rest.iter().position(|byte| *byte == 0)?;
            let path = &rest[..end];
            (!path.is_empty() && tidy(path).ok()? == path).then_some(())?;
            list.push(path, FileDigest(*digest))?;
            bytes = &rest[end + 1..];
        }
        bytes.is_empty().then_some(list)
    }
}

/// A path as the walk knows it: without `.`, doubled and closing slashes. With the name of its source before it, it is
/// still a path.
fn tidy(path: &[u8]) -> Result<Vec<u8>, Wrong> {
    if path.starts_with(b"/") {
        return Err(Wrong::Absolute);
    }
    let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b".")).collect();
    if parts.contains(&&b".."[..]) {
        return Err(Wrong::Upwards);
    }
    let plain = parts.join(&b'/');
    if plain.len() + COMPONENT_BYTES_MAX + 1 > PATH_BYTES_MAX || parts.len() + 1 > PATH_COMPONENTS_MAX {
        return Err(Wrong::Path(Refused::TooLong));
    }
    if !plain.is_empty() {
        RelPath::parse(&plain)?;
    }
    Ok(plain)
}

#[cfg(test)]
mod tests;
