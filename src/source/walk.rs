//! The walk: what is in the source tree, in one order that does not depend on the disk. Roots in the order given,
//! names of a directory sorted by bytes, a directory before what is in it. It holds directories by handle, keeps its
//! own stack, and needs memory for the names of the directories it is inside of only. It opens no file but the ignore files
//! that count and follows no symlink. What it does not do: judge whether something is known or has changed.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::attributes::FileKind;
use crate::disk::{Disk, Listed, Stat};
use crate::identity::TransferId;
use crate::limits::{HELD_DIRECTORIES_MAX, LINK_TARGET_BYTES_MAX};
use crate::lists::PathList;
use crate::outcome::Reason;
use crate::path::{RelPath, STATE_DIR_NAME};
use crate::source::reason_of;
use crate::source::roots::{Root, Roots};
use crate::source::selection::{BadPattern, Ignored, Selector};

/// What the walk found.
#[derive(Debug)]
pub enum Walked<D: Disk> {
    /// A directory that could be listed; what is in it follows.
    Directory(Found),
    /// A regular file, not opened.
    File(Found, Parent<D>),
    /// A symbolic link and its text.
    Symlink(Found, Vec<u8>),
    /// Something that does not travel.
    LeftOut(RelPath, FileKind, Reason),
    /// Names below this directory cannot be expressed.
    TooLong(RelPath),
    /// A directory with landfall's own state was passed over; its path as far as it is known.
    Skipped(Vec<u8>),
    /// Something that the user has excluded, with what is below it.
    Excluded,
    /// A directory that was told of just before, on another file system: what is in it stays here.
    Mounted(RelPath),
    /// A line of an ignore file that cannot be understood: the file's path, and why.
    BadPattern(Vec<u8>, BadPattern),
    /// A root whose content was to arrive at the top cannot be listed: as it was typed, and why.
    RootFailed(PathBuf, io::Error),
}

impl<D: Disk> Walked<D> {
    /// The same some time later: a file with what is under its name by now, which may be something else. Where that
    /// cannot be told, opening it meets the same error.
    pub fn looked_at_again(self, disk: &D) -> Walked<D> {
        match self {
            Walked::File(found, parent) => {
                let stat = disk.stat(&parent.dir, &parent.name).unwrap_or(found.stat);
                Walked::File(Found { stat, ..found }, parent)
            }
            other => other,
        }
    }
}

/// An object that travels.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its path below the target.
    pub path: RelPath,
    /// Its stat, not following it.
    pub stat: Stat,
    /// Whether it carries ACLs or extended attributes.
    pub extended: Extended,
}

/// Whether an object carries what a copy does not preserve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extended {
    /// It has ACLs or extended attributes.
    Present,
    /// It has none, or nobody can tell.
    None,
}

/// Where a file is.
pub struct Parent<D: Disk> {
    /// The directory that holds it.
    pub dir: D::Dir,
    /// Its name there.
    pub name: Vec<u8>,
}

impl<D: Disk> std::fmt::Debug for Parent<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parent").field("name", &crate::path::Escaped(&self.name)).finish_non_exhaustive()
    }
}

/// What the walk passes over, besides every directory that is named like a receiver's state.
#[derive(Clone, Debug)]
pub struct Exclusions {
    /// What the user has said.
    pub selector: Selector,
    /// What goes below the one directory that is sent, if not everything.
    pub listed: Option<Arc<PathList>>,
    /// A directory that receives this very transfer; `None` before there is one.
    pub transfer: Option<TransferId>,
    /// This side's own state, by (device, inode).
    pub held: Vec<(u64, u64)>,
}

/// Names of one directory, packed: a directory may have a million of them.
#[derive(Debug, Default)]
struct Names {
    bytes: Vec<u8>,
    ends: Vec<u32>,
    next: usize,
}

impl Names {
    fn new(mut listed: Vec<Listed>) -> Names {
        listed.sort_unstable();
        listed.dedup();
        let mut names = Names::default();
        for Listed { name } in listed {
            names.bytes.extend_from_slice(&name);
            names.ends.push(u32::try_from(names.bytes.len()).expect("a listing of 4 GiB of names is beyond any disk"));
        }
        names
    }

    fn next(&mut self) -> Option<Vec<u8>> {
        let end = *self.ends.get(self.next)? as usize;
        let start = if self.next == 0 { 0 } else { self.ends[self.next - 1] as usize };
        self.next += 1;
        Some(self.bytes[start..end].to_vec())
    }
}

struct Frame<D: Disk> {
    names: Names,
    /// Given up when the walk is far below, and opened again when it comes back.
    dir: Option<D::Dir>,
    /// By which it is recognised then.
    id: (u64, u64),
    /// None for a root whose content arrives at the top.
    path: Option<RelPath>,
    is_too_long_told: bool,
    ignored: Option<Ignored>,
    /// Whether all that is in it goes, not only what is listed.
    is_whole: bool,
}

/// A walk under way.
pub struct Walk<D: Disk> {
    roots: Roots<D>,
    exclusions: Exclusions,
    next_root: usize,
    stack: Vec<Frame<D>>,
    /// What is told before the walk goes on.
    untold: VecDeque<Walked<D>>,
}

impl<D: Disk> Walk<D> {
    /// A walk that has not begun.
    pub fn new(roots: Roots<D>, exclusions: Exclusions) -> Walk<D> {
        Walk { roots, exclusions, next_root: 0, stack: vec![], untold: VecDeque::new() }
    }

    /// The next object, or none when all were seen.
    pub fn step(&mut self) -> Option<Walked<D>> {
        loop {
            if let Some(walked) = self.untold.pop_front() {
                return Some(walked);
            }
            let Some(frame) = self.stack.last_mut() else {
                let root = self.roots.all().get(self.next_root)?.clone();
                self.next_root += 1;
                match self.enter_root(root) {
                    Some(walked) => return Some(walked),
                    None => continue,
                }
            };
            let Some(name) = frame.names.next() else {
                self.stack.pop();
                continue;
            };
            if let Some(walked) = self.visit_below(&name) {
                return Some(walked);
            }
        }
    }

    fn enter_root(&mut self, root: Root<D>) -> Option<Walked<D>> {
        match root {
            Root::Named { name, parent, leaf } => {
                let path = RelPath::parse(&name).ok()?;
                Some(self.visit(path, parent, leaf))
            }
            Root::Contents { dir, shown } => match self.enter(dir, None, self.is_whole(b"")) {
                Ok(Entered::Pushed) => None,
                Ok(Entered::Skipped) => Some(Walked::Skipped(shown.into_os_string().into_encoded_bytes())),
                Err(error) => Some(Walked::RootFailed(shown, error)),
            },
        }
    }

    /// Looks at one name of the directory on top of the stack. Nothing to tell if it was told before.
    fn visit_below(&mut self, name: &[u8]) -> Option<Walked<D>> {
        let frame = self.stack.last_mut()?;
        if name.eq_ignore_ascii_case(STATE_DIR_NAME.as_bytes()) {
            let above = frame.path.as_ref().map_or(vec![], |path| [path.as_bytes(), b"/"].concat());
            return Some(Walked::Skipped([&above, name].concat()));
        }
        let path = match &frame.path {
            Some(above) => above.join(name),
            None => RelPath::parse(name),
        };
        let Ok(path) = path else {
            let is_told = std::mem::replace(&mut frame.is_too_long_told, true);
            return frame.path.clone().filter(|_| !is_told).map(Walked::TooLong);
        };
        let dir = match self.top_dir() {
            Ok(dir) => dir,
            Err(error) => return Some(Walked::LeftOut(path, FileKind::Special, reason_of(&error))),
        };
        Some(self.visit(path, dir, name.to_vec()))
    }

    /// The handle of the directory on top of the stack, opened again if it was given up.
    fn top_dir(&mut self) -> io::Result<D::Dir> {
        let frame = self.stack.last_mut().expect("called inside a directory only");
        if let Some(dir) = &frame.dir {
            return Ok(dir.clone());
        }
        let path = frame.path.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let dir = self.roots.open_dir(path)?;
        let stat = self.roots.disk().stat_dir(&dir)?;
        if (stat.device, stat.inode) != frame.id {
            return Err(io::ErrorKind::NotFound.into());
        }
        frame.dir = Some(dir.clone());
        Ok(dir)
    }

    fn visit(&mut self, path: RelPath, dir: D::Dir, name: Vec<u8>) -> Walked<D> {
        let disk = self.roots.disk().clone();
        let is_whole = self.is_whole(self.below_root(&path));
        let stat = match disk.stat(&dir, &name) {
            Ok(stat) if is_whole || stat.kind == FileKind::Directory => stat,
            Ok(_) => return self.missing(&path),
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.is_listed(&path) => {
                return self.missing(&path);
            }
            Err(error) => return Walked::LeftOut(path, FileKind::Special, reason_of(&error)),
        };
        let ignored = self.stack.iter().filter_map(|frame| frame.ignored.as_ref());
        if self.exclusions.selector.excludes(&path, stat.kind == FileKind::Directory, ignored) {
            return Walked::Excluded;
        }
        let extended = || match disk.has_extended_attributes(&dir, &name) {
            true => Extended::Present,
            false => Extended::None,
        };
        if stat.kind != FileKind::Directory {
            self.tell_missing(&path);
        }
        match stat.kind {
            FileKind::Special => Walked::LeftOut(path, FileKind::Special, Reason::Special),
            FileKind::Regular => {
                let extended = extended();
                Walked::File(Found { path, stat, extended }, Parent { dir, name })
            }
            FileKind::Symlink => match disk.read_link(&dir, &name) {
                Ok(target) if target.is_empty() || target.len() > LINK_TARGET_BYTES_MAX || target.contains(&0) => {
                    Walked::LeftOut(path, FileKind::Symlink, Reason::PathTooLong)
                }
                Ok(target) => Walked::Symlink(Found { path, stat, extended: Extended::None }, target),
                Err(error) => Walked::LeftOut(path, FileKind::Symlink, reason_of(&error)),
            },
            FileKind::Directory if self.is_mounted(&stat) => {
                self.untold.push_back(Walked::Mounted(path.clone()));
                self.tell_missing(&path);
                Walked::Directory(Found { path, stat, extended: extended() })
            }
            FileKind::Directory => {
                let extended = extended();
                let entered = disk.open_dir(&dir, &name).and_then(|dir| self.enter(dir, Some(&path), is_whole));
                match entered {
                    Ok(Entered::Pushed) => Walked::Directory(Found { path, stat, extended }),
                    Ok(Entered::Skipped) => {
                        self.tell_missing(&path);
                        Walked::Skipped(path.as_bytes().to_vec())
                    }
                    Err(error) => Walked::LeftOut(path, FileKind::Directory, reason_of(&error)),
                }
            }
        }
    }

    /// A path as the list has it: below the one root.
    fn below_root<'p>(&self, path: &'p RelPath) -> &'p [u8] {
        let bytes = path.as_bytes();
        match self.roots.all() {
            [Root::Named { name, .. }] => bytes.get(name.len() + 1..).unwrap_or_default(),
            _ => bytes,
        }
    }

    /// Whether all goes that a path of the list means, seen from the directory on top of the stack.
    fn is_whole(&self, path: &[u8]) -> bool {
        let is_above = self.stack.last().is_some_and(|frame| frame.is_whole);
        self.exclusions.listed.as_ref().is_none_or(|list| is_above || list.contains(path))
    }

    /// Whether the list names a path, or something below it.
    fn is_listed(&self, path: &RelPath) -> bool {
        let path = self.below_root(path);
        self.exclusions.listed.as_ref().is_some_and(|list| list.contains(path) || !list.below(path).is_empty())
    }

    /// What is listed at a path and below, and cannot be there.
    fn missing(&mut self, path: &RelPath) -> Walked<D> {
        if self.exclusions.listed.as_ref().is_some_and(|list| list.contains(self.below_root(path))) {
            self.untold.push_back(Walked::LeftOut(path.clone(), FileKind::Special, Reason::Missing));
        }
        self.tell_missing(path);
        self.untold.pop_front().expect("it is called for what is listed, or has something listed below")
    }

    /// Tells of what is listed below something that is no directory.
    fn tell_missing(&mut self, path: &RelPath) {
        let Some(list) = self.exclusions.listed.clone() else { return };
        let below = self.below_root(path);
        for listed in list.below(below) {
            let rest = if below.is_empty() { listed } else { &listed[below.len() + 1..] };
            let missing = path.join(rest).expect("a list leaves room for the name of its root");
            self.untold.push_back(Walked::LeftOut(missing, FileKind::Special, Reason::Missing));
        }
    }

    /// Whether a directory is on another file system than its root, and that matters.
    fn is_mounted(&self, stat: &Stat) -> bool {
        let is_elsewhere = self.stack.first().is_some_and(|root| root.id.0 != stat.device);
        self.exclusions.selector.stays_on_one_file_system() && is_elsewhere
    }

    /// Lists a directory and puts it on the stack, unless it is to be passed over.
    fn enter(&mut self, dir: D::Dir, path: Option<&RelPath>, is_whole: bool) -> io::Result<Entered> {
        let disk = self.roots.disk();
        let stat = disk.stat_dir(&dir)?;
        let id = (stat.device, stat.inode);
        if self.exclusions.held.contains(&id) {
            return Ok(Entered::Skipped);
        }
        let mut listed = if is_whole { disk.list(&dir)? } else { vec![] };
        if let Some(list) = &self.exclusions.listed {
            let names = list.names_in(path.map_or(b"", |path| self.below_root(path)));
            listed.extend(names.into_iter().map(|name| Listed { name }));
        }
        let has_state = !is_whole || listed.iter().any(|listed| listed.name == STATE_DIR_NAME.as_bytes());
        let receives = |id: TransferId| disk.open_dir(&dir, format!("{STATE_DIR_NAME}/{id}").as_bytes()).is_ok();
        if has_state && self.exclusions.transfer.is_some_and(receives) {
            return Ok(Entered::Skipped);
        }
        let mut ignored = self.exclusions.selector.read_ignored(disk, &dir, path)?;
        let above = path.map_or(vec![], |path| [path.as_bytes(), b"/"].concat());
        let file = |name: &str| [&above, name.as_bytes()].concat();
        let bad = ignored.as_mut().map(|ignored| std::mem::take(&mut ignored.bad));
        self.untold.extend(bad.into_iter().flatten().map(|(name, bad)| Walked::BadPattern(file(name), bad)));
        // The handle of a root whose content arrives at the top cannot be had again by a path.
        if let Some(above) = self.stack.len().checked_sub(HELD_DIRECTORIES_MAX) {
            let frame = &mut self.stack[above];
            frame.dir = frame.dir.take().filter(|_| frame.path.is_none());
        }
        let names = Names::new(listed);
        self.stack.push(Frame {
            names,
            dir: Some(dir),
            id,
            path: path.cloned(),
            is_too_long_told: false,
            ignored,
            is_whole,
        });
        Ok(Entered::Pushed)
    }
}

enum Entered {
    Pushed,
    Skipped,
}
