//! A true copy: what the target has below a directory of the sources, and the sources do not, is listed and then removed.
//! The side of the target looks and removes, the side of the sources says what exists there; one of the two is a child
//! process of the other, and the side with the command decides. It owns what is listed and the order of removals; whether
//! somebody has agreed is not its business, and nothing is removed that was not listed.
//!
//! [`Ends`] is for the side with the command line, [`vouch`] and [`attend`] for the child of each.

mod ends;
mod line;
mod source;
mod target;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::attributes::{FileKind, Timestamp};
use crate::digest::{PathHash, path_hash};
use crate::disk::Rooted;
use crate::error::Error;
use crate::identity::Role;
use crate::limits::{DELETE_ENTRIES_MAX, DELETE_LINE_BYTES_MAX, DELETE_PATHS_BYTES_MAX};
use crate::outcome::Outcome;
use crate::path::RelPath;
use crate::plan::{Broken, READY, read_line};
use crate::receipt::Line;

use line::{Answered, Asked};
use source::Voucher;
use target::Pruner;

pub use ends::Ends;

/// Something below the target, as it was when it was listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its path below the target.
    pub path: RelPath,
    /// What it is.
    pub kind: FileKind,
    /// Bytes of a regular file, else 0.
    pub size: u64,
    /// Time of its last change.
    pub mtime: Timestamp,
    /// Its inode.
    pub inode: u64,
}

/// What a look at the target finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Something that may be removed if the sources do not have it.
    Entry(Entry),
    /// Something in this directory stays, and so does the directory. `None` is the target itself.
    Stays(Option<RelPath>, Stays),
}

/// Why something stays whatever the sources have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stays {
    /// It is landfall's own, or its name is none that a source can have.
    Own,
    /// The directory is a mount.
    Mount,
    /// What is there cannot be found out.
    Unlisted,
}

/// What became of an entry that was to be removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It is removed, durably.
    Removed,
    /// It was not there any more.
    Gone,
    /// It is not what was listed any more, and stays.
    Changed,
    /// The source has it again, and it stays.
    Back,
    /// Something is in the directory now, and it stays.
    NotEmpty,
    /// The system did not let it be removed: its words, which may come from another machine.
    Failed(String),
}

/// What a transfer has brought, or left out: none of it is removed, even if it has vanished at the source since.
#[derive(Debug, Default)]
pub struct Protected {
    known: HashSet<PathHash>,
    left_out: HashSet<PathHash>,
    directories: HashSet<PathHash>,
}

impl Protected {
    /// Adds a line of the transfer's receipt. Costs 16 bytes of memory and what a set needs besides.
    pub fn add(&mut self, line: &Line) {
        let hash = path_hash(&line.path);
        self.known.insert(hash);
        match line.outcome {
            Outcome::LeftOut(_) => {
                self.left_out.insert(hash);
            }
            _ if line.kind == FileKind::Directory => {
                self.directories.insert(hash);
            }
            // Under another name, it stays there.
            _ => self.known.extend(line.renamed_to().map(|place| path_hash(&place))),
        }
    }

    /// Whether the transfer has a directory of this name.
    fn has_directory(&self, path: &RelPath) -> bool {
        self.directories.contains(&path_hash(path))
    }

    fn keeps(&self, path: &RelPath) -> bool {
        let mut above = if self.left_out.is_empty() { None } else { path.parent() };
        while let Some(path) = above {
            if self.left_out.contains(&path_hash(&path)) {
                return true;
            }
            above = path.parent();
        }
        self.known.contains(&path_hash(path))
    }
}

/// What is to be removed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// In order: names sorted, a directory before what is in it. Removed from the end.
    pub entries: Vec<Entry>,
    /// Directories of which it could not be found out what is in them. `None` is the target itself.
    pub unlisted: Vec<Option<RelPath>>,
}

/// Judges one entry after another.
#[derive(Debug, Default)]
struct Lister {
    listing: Listing,
    /// Whether something below a listed directory stays.
    is_held: Vec<bool>,
    /// Numbers of the listed directories that the walk is in.
    within: Vec<usize>,
    last: Option<RelPath>,
    /// Bytes of the paths that are kept.
    path_bytes: usize,
}

impl Lister {
    /// Takes what was seen, and for each entry whether it stays. Out of order, or elsewhere than below what was asked for,
    /// it has no meaning.
    fn take(&mut self, seen: Seen, below: &[Option<RelPath>], stays: bool) -> Result<(), Refused> {
        let is_asked = |path: &RelPath, may_be: bool| {
            below.iter().any(|start| match start {
                None => true,
                Some(start) => is_below(path, start) || (may_be && path == start),
            })
        };
        match seen {
            Seen::Entry(entry) => {
                let is_next = self.last.as_ref().is_none_or(|last| last.components().lt(entry.path.components()));
                if !is_next || !is_asked(&entry.path, false) {
                    return Err(Refused::Misbehaved);
                }
                self.last = Some(entry.path.clone());
                self.leave(Some(&entry.path));
                if stays {
                    self.hold();
                    return Ok(());
                }
                self.make_room(self.listing.entries.len(), Some(&entry.path))?;
                if entry.kind == FileKind::Directory {
                    self.within.push(self.listing.entries.len());
                }
                self.listing.entries.push(entry);
                self.is_held.push(false);
            }
            Seen::Stays(path, why) => {
                if path.as_ref().is_some_and(|path| !is_asked(path, true)) {
                    return Err(Refused::Misbehaved);
                }
                self.leave(path.as_ref());
                self.hold();
                if why == Stays::Unlisted {
                    self.make_room(self.listing.unlisted.len(), path.as_ref())?;
                    self.listing.unlisted.push(path);
                }
            }
        }
        Ok(())
    }

    /// Counts one more of so many that are kept.
    fn make_room(&mut self, kept: usize, path: Option<&RelPath>) -> Result<(), Refused> {
        self.path_bytes += path.map_or(0, |path| path.as_bytes().len());
        let is_room = kept < DELETE_ENTRIES_MAX && self.path_bytes <= DELETE_PATHS_BYTES_MAX;
        if is_room { Ok(()) } else { Err(Refused::TooMany) }
    }

    /// Leaves the directories that a path is not in, and is not itself.
    fn leave(&mut self, path: Option<&RelPath>) {
        let Some(path) = path else { return self.within.clear() };
        while let Some(number) = self.within.last() {
            let above = &self.listing.entries[*number].path;
            if is_below(path, above) || path == above {
                return;
            }
            self.within.pop();
        }
    }

    fn hold(&mut self) {
        for number in &self.within {
            self.is_held[*number] = true;
        }
    }

    /// All of it, without directories in which something stays.
    fn finish(self) -> Listing {
        let Lister { mut listing, is_held, .. } = self;
        let mut held = is_held.into_iter();
        listing.entries.retain(|_| !held.next().unwrap_or(true));
        listing
    }
}

/// Why there is no list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    /// The other side said something that has no meaning.
    Misbehaved,
    /// There is more than this side keeps.
    TooMany,
}

fn is_below(path: &RelPath, above: &RelPath) -> bool {
    path.as_bytes().strip_prefix(above.as_bytes()).is_some_and(|rest| rest.starts_with(b"/"))
}

/// As the child of a receiver's command: says which paths the source has, for as long as it is asked.
pub fn vouch<D: Rooted>(disk: &D, source: PathBuf, input: impl Read, output: impl Write) -> Result<(), Error> {
    let mut voucher = Voucher::open(disk, &[source])?;
    serve(input, output, Role::Receiver, |asked, say| match asked {
        Asked::Exist(number, paths) => {
            voucher.look_anew();
            say(&Answered::Exist(number, paths.iter().map(|path| voucher.is_there(path)).collect()))
        }
        Asked::Scan(_) | Asked::Remove(..) => Err(Broken::Misbehaved),
    })
}

/// As the child of a sender's command: says what is in the target, and removes what it is told to.
pub fn attend<D: Rooted>(disk: &D, dir: &Path, home: &Path, input: impl Read, output: impl Write) -> Result<(), Error> {
    let pruner = Pruner::open(disk, dir, home)?;
    serve(input, output, Role::Sender, |asked, say| match asked {
        Asked::Scan(below) => {
            pruner.scan(&below, |seen| say(&Answered::Seen(seen)))?;
            say(&Answered::Scanned)
        }
        Asked::Remove(number, entries) => say(&Answered::Removed(number, pruner.remove(&entries))),
        Asked::Exist(..) => Err(Broken::Misbehaved),
    })
}

/// Answers each line that comes in, until the pipe is closed.
fn serve(
    input: impl Read,
    mut output: impl Write,
    parent: Role,
    mut answer: impl FnMut(Asked, &mut dyn FnMut(&Answered) -> Result<(), Broken>) -> Result<(), Broken>,
) -> Result<(), Error> {
    let mut input = BufReader::new(input);
    let mut line = vec![];
    let mut say = |bytes: &[u8]| output.write_all(bytes).and_then(|()| output.flush()).map_err(|_| Broken::Gone);
    let mut serve = || {
        say(READY)?;
        while read_line(&mut input, &mut line, DELETE_LINE_BYTES_MAX).map_err(|_| Broken::Gone)? {
            let asked = Asked::parse(&line).ok_or(Broken::Misbehaved)?;
            answer(asked, &mut |answered| say(&answered.line()))?;
        }
        Ok(())
    };
    match serve() {
        // Its parent has ended, and nobody is left to be told.
        Ok(()) | Err(Broken::Gone | Broken::Silent(_)) => Ok(()),
        Err(Broken::Misbehaved) => Err(Broken::Misbehaved.error(parent)),
    }
}
