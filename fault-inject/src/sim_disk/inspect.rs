//! The oracle's side door: what the disk holds, layer by layer, and hands that change it as another program, rot or
//! a person would. Passes no gate: nothing here is counted, fails by a dial or needs a permission.

use std::collections::BTreeMap;
use std::io;

use landfall::attributes::{FileKind, Timestamp};

use super::inode::{Body, Content, Inode, Meta, Pages, offset_in_page, page_index, page_start};
use super::names::{Place, Target};
use super::page::{Block, Page};
use super::state::{ROOT, State};
use super::{SimDisk, lock};
use crate::damage::{Damage, PAGE_BYTES};
use crate::errno::{EEXIST, EINVAL, ENOENT, error};

/// Which layer is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// What a program reads through the cache.
    Cached,
    /// What a program reads past the cache, were nothing written back first.
    Device,
    /// What is sure to be there after a power cut now: only what was synced.
    Durable,
    /// What the program reads through the cache if no fault had ever struck.
    Truth,
}

/// One object as a view shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// What it is.
    pub kind: FileKind,
    /// Its mode bits.
    pub mode: u32,
    /// Its modification time.
    pub mtime: Timestamp,
    /// Its inode number.
    pub inode: u64,
    /// Content of a file, target of a symlink, else empty.
    pub bytes: Vec<u8>,
}

/// A page that the device holds otherwise than the program meant it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DamagedPage {
    /// Path of the file.
    pub path: Vec<u8>,
    /// First offset of the page.
    pub offset: u64,
}

fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() { name.to_vec() } else { [parent, b"/", name].concat() }
}

fn fill<'a>(bytes: &mut [u8], pages: impl Iterator<Item = (u64, &'a Block)>) {
    for (index, block) in pages {
        let Ok(start) = usize::try_from(page_start(index)) else { continue };
        if let Some(room) = bytes.get_mut(start..) {
            let count = room.len().min(PAGE_BYTES);
            room[..count].copy_from_slice(&block[..count]);
        }
    }
}

fn file_bytes(content: &Content, view: View) -> Vec<u8> {
    let size = if view == View::Durable { content.durable_size } else { content.size };
    let mut bytes = vec![0; usize::try_from(size).expect("simulated files fit in memory")];
    let plain = |pages: &'_ Pages, bytes: &mut [u8]| {
        fill(bytes, pages.iter().map(|(&index, page)| (index, page.bytes())));
    };
    let true_bytes = |pages: &'_ Pages, bytes: &mut [u8]| {
        fill(bytes, pages.iter().map(|(&index, page)| (index, page.truth())));
    };
    match view {
        View::Cached => {
            plain(&content.device, &mut bytes);
            plain(&content.cache, &mut bytes);
        }
        View::Device => plain(&content.device, &mut bytes),
        View::Durable => plain(&content.durable, &mut bytes),
        View::Truth => {
            true_bytes(&content.device, &mut bytes);
            true_bytes(&content.cache, &mut bytes);
        }
    }
    bytes
}

fn seen(number: u64, object: &Inode, view: View) -> Seen {
    let meta: &Meta = if view == View::Durable { &object.durable_meta } else { &object.meta };
    let bytes = match &object.body {
        Body::File(content) => file_bytes(content, view),
        Body::Symlink(target) => target.clone(),
        Body::Directory(_) | Body::Special => Vec::new(),
    };
    Seen { kind: object.kind(), mode: meta.mode, mtime: meta.mtime, inode: number, bytes }
}

impl State {
    fn paths(&self, view: View) -> BTreeMap<Vec<u8>, u64> {
        let mut found = BTreeMap::new();
        let mut unvisited = vec![(Vec::new(), ROOT)];
        while let Some((path, at)) = unvisited.pop() {
            let Body::Directory(directory) = &self.inode(at).body else { continue };
            let names = if view == View::Durable { &directory.durable } else { &directory.live };
            for (name, &child) in names {
                let path = join(&path, name);
                found.insert(path.clone(), child);
                unvisited.push((path, child));
            }
        }
        found
    }

    /// The place of a path whose parent exists.
    fn place<'a>(&self, path: &'a [u8]) -> io::Result<Place<'a>> {
        let cut = path.iter().rposition(|&byte| byte == b'/');
        let (parent, name) = cut.map_or((&b""[..], path), |at| (&path[..at], &path[at + 1..]));
        if name.is_empty() { Err(error(EINVAL)) } else { Ok(Place { dir: self.find(parent)?, name }) }
    }

    fn make_parents(&mut self, path: &[u8]) -> io::Result<()> {
        for (at, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            if self.find(&path[..at]).is_err() {
                let place = self.place(&path[..at])?;
                self.make_dir(place, 0o755)?;
                self.settle_name(place);
            }
        }
        Ok(())
    }
}

impl SimDisk {
    /// All objects below the root by path, as a view shows them.
    pub fn tree(&self, view: View) -> BTreeMap<Vec<u8>, Seen> {
        let state = lock(&self.state);
        let paths = state.paths(view);
        paths.into_iter().map(|(path, number)| (path, seen(number, state.inode(number), view))).collect()
    }

    /// One object as a view shows it; `None` if that view has no such path.
    pub fn look(&self, path: &[u8], view: View) -> Option<Seen> {
        let state = lock(&self.state);
        let number = match view {
            View::Durable => *state.paths(view).get(path)?,
            View::Cached | View::Device | View::Truth => state.find(path).ok()?,
        };
        Some(seen(number, state.inode(number), view))
    }

    /// All pages of reachable files that faults or hands damaged and nothing has rewritten.
    pub fn damaged_pages(&self) -> Vec<DamagedPage> {
        let state = lock(&self.state);
        let mut damaged = Vec::new();
        for (path, number) in state.paths(View::Device) {
            let Ok(content) = state.content(number) else { continue };
            for (&index, _) in content.device.iter().filter(|(_, page)| page.is_damaged()) {
                damaged.push(DamagedPage { path: path.clone(), offset: page_start(index) });
            }
        }
        damaged
    }

    /// A digest over everything that is stored, in every layer, open handles aside: equal runs have equal digests.
    pub fn state_digest(&self) -> [u8; 32] {
        let state = lock(&self.state);
        let mut hasher = blake3::Hasher::new();
        for (number, object) in &state.inodes {
            let header = (number, object.meta, object.durable_meta, object.links, object.kept);
            hasher.update(format!("{header:?}").as_bytes());
            match &object.body {
                Body::File(content) => digest_content(content, &mut hasher),
                other => {
                    hasher.update(format!("{other:?}").as_bytes());
                }
            }
        }
        *hasher.finalize().as_bytes()
    }

    /// Makes everything durable, as `sync` at a shell does, without faults.
    pub fn settle(&self) {
        let mut state = lock(&self.state);
        let dials = std::mem::take(&mut state.dials);
        let numbers: Vec<u64> = state.inodes.keys().copied().collect();
        for number in numbers {
            match state.inodes.get(&number).map(Inode::kind) {
                Some(FileKind::Regular) => state.settle_file(number),
                Some(FileKind::Directory) => state.settle_dir(number),
                Some(FileKind::Symlink | FileKind::Special) | None => {}
            }
        }
        state.dials = dials;
    }

    /// Writes a whole file and makes it and its name durable, with those directories above it that had to be made:
    /// for setting the scene. An existing file keeps its inode and gets new stamps.
    pub fn write_file(&self, path: &[u8], bytes: &[u8]) -> io::Result<()> {
        let mut state = lock(&self.state);
        let dials = std::mem::take(&mut state.dials);
        let result = (|| {
            state.make_parents(path)?;
            let place = state.place(path)?;
            let inode = match state.find(path) {
                Ok(_) => state.find_file(path)?,
                Err(_) => state.make_file(place)?,
            };
            state.set_len(inode, 0)?;
            state.write(inode, bytes, 0)?;
            state.settle_file(inode);
            state.settle_name(place);
            Ok(())
        })();
        state.dials = dials;
        result
    }

    /// Makes a directory and those that are missing above it, durable.
    pub fn make_directory(&self, path: &[u8]) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.make_parents(path)?;
        let place = state.place(path)?;
        state.make_dir(place, 0o755)?;
        state.settle_name(place);
        Ok(())
    }

    /// Makes a symlink, durable.
    pub fn make_link(&self, path: &[u8], target: &[u8]) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.make_parents(path)?;
        let place = state.place(path)?;
        state.make_symlink(target, place)?;
        state.settle_name(place);
        Ok(())
    }

    /// Makes a FIFO, durable.
    pub fn make_fifo(&self, path: &[u8]) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.make_parents(path)?;
        let place = state.place(path)?;
        state.make_special(place)?;
        state.settle_name(place);
        Ok(())
    }

    /// Another program writes into a file, growing it if need be: stamps change, nothing is synced.
    pub fn edit(&self, path: &[u8], offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.as_another_program(|state| {
            let inode = state.find_file(path)?;
            state.write(inode, bytes, offset)
        })
    }

    /// Another program sets the length of a file: stamps change, nothing is synced.
    pub fn truncate(&self, path: &[u8], len: u64) -> io::Result<()> {
        self.as_another_program(|state| {
            let inode = state.find_file(path)?;
            state.set_len(inode, len)
        })
    }

    /// Another program removes a name (a directory with all that is in it); nothing is synced.
    pub fn delete(&self, path: &[u8]) -> io::Result<()> {
        self.as_another_program(|state| {
            let below = join(path, b"");
            let mut paths: Vec<Vec<u8>> =
                state.paths(View::Cached).into_keys().filter(|other| other.starts_with(&below)).collect();
            paths.sort_by_key(|other| std::cmp::Reverse(other.len()));
            paths.push(path.to_vec());
            for path in paths {
                let place = state.place(&path)?;
                state.find(&path)?;
                state.set_entry(place, None, None);
            }
            Ok(())
        })
    }

    /// Another program renames; an existing target is an error; nothing is synced.
    pub fn rename(&self, from: &[u8], to: &[u8]) -> io::Result<()> {
        self.as_another_program(|state| {
            let (from, to) = (state.place(from)?, state.place(to)?);
            state.rename(from, to, Target::Keep)
        })
    }

    /// Another program exchanges two names; nothing is synced.
    pub fn swap(&self, a: &[u8], b: &[u8]) -> io::Result<()> {
        self.as_another_program(|state| {
            let (first, second) = (state.find(a)?, state.find(b)?);
            let (at_a, at_b) = (state.place(a)?, state.place(b)?);
            if first == second {
                return Err(error(EEXIST));
            }
            // Both are held meanwhile, so that the moment without a name does not end them.
            state.hold(first);
            state.hold(second);
            state.set_entry(at_a, Some(second), None);
            state.set_entry(at_b, Some(first), None);
            let generation = state.generation;
            state.unhold(first, generation);
            state.unhold(second, generation);
            Ok(())
        })
    }

    /// Another program adds a hard link; nothing is synced.
    pub fn hard_link(&self, existing: &[u8], new: &[u8]) -> io::Result<()> {
        self.as_another_program(|state| {
            let inode = state.find_file(existing)?;
            let place = state.place(new)?;
            if state.find(new).is_ok() {
                return Err(error(EEXIST));
            }
            state.set_entry(place, Some(inode), None);
            Ok(())
        })
    }

    /// Another program sets the mode of an object, links not followed; nothing is synced.
    pub fn change_mode(&self, path: &[u8], mode: u32) -> io::Result<()> {
        self.as_another_program(|state| {
            let inode = state.find(path)?;
            state.set_metadata(inode, Some(mode), None)
        })
    }

    /// Gives an object something that a copy would not preserve.
    pub fn add_extended_attributes(&self, path: &[u8]) -> io::Result<()> {
        let mut state = lock(&self.state);
        let inode = state.find(path)?;
        state.inode_mut(inode).has_extended_attributes = true;
        Ok(())
    }

    /// Flips one bit (0 to 7) of the byte at an offset below the length, in every layer and without a trace in the
    /// stamps: rot that everybody sees.
    pub fn flip_bit(&self, path: &[u8], offset: u64, bit: u8) -> io::Result<()> {
        let mut state = lock(&self.state);
        let inode = state.find_file(path)?;
        let content = state.content_mut(inode)?;
        if offset >= content.size || bit > 7 {
            return Err(error(EINVAL));
        }
        let index = page_index(offset);
        let flip = |block: &mut Block| block[offset_in_page(offset)] ^= 1 << bit;
        if !content.is_data(index) {
            content.device.insert(index, Page::zero());
            content.allocated.insert(index);
        }
        for layer in [&mut content.cache, &mut content.device, &mut content.durable] {
            if let Some(page) = layer.get_mut(&index) {
                page.damage(flip);
            }
        }
        Ok(())
    }

    /// Damages what the device holds at an offset, below the cache: reads through the cache go on to see the old
    /// bytes while they are cached, stamps do not change.
    pub fn rot(&self, path: &[u8], offset: u64, damage: Damage) -> io::Result<()> {
        let mut state = lock(&self.state);
        let inode = state.find_file(path)?;
        if offset >= state.content(inode)?.size {
            return Err(error(EINVAL));
        }
        state.rot(inode, offset, damage)
    }

    /// Drops the clean pages of a file from the cache, as memory pressure or `DONTNEED` do. Dirty ones start their
    /// way to the device and stay.
    pub fn evict(&self, path: &[u8]) -> io::Result<()> {
        let mut state = lock(&self.state);
        let inode = state.find_file(path)?;
        let size = state.content(inode)?.size;
        state.evict(inode, 0, size);
        Ok(())
    }

    /// Bytes of a file that the cache holds and the device was not given; an error if there is no such file.
    pub fn dirty_bytes(&self, path: &[u8]) -> io::Result<u64> {
        let state = lock(&self.state);
        let inode = state.find(path).map_err(|_| error(ENOENT))?;
        Ok(state.content(inode)?.dirty.len() as u64 * PAGE_BYTES as u64)
    }

    /// Runs a change that chance leaves alone.
    fn as_another_program<T>(&self, change: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = lock(&self.state);
        let dials = std::mem::take(&mut state.dials);
        let result = change(&mut state);
        state.dials = dials;
        result
    }
}

fn digest_content(content: &Content, hasher: &mut blake3::Hasher) {
    let Content { size, dirty, unflushed, durable_size, allocated, bad, write_back_errors, .. } = content;
    let header = (size, dirty, unflushed, durable_size, allocated, bad, write_back_errors);
    hasher.update(format!("{header:?}").as_bytes());
    for pages in [&content.cache, &content.device, &content.durable] {
        hasher.update(&(pages.len() as u64).to_le_bytes());
        for (index, page) in pages {
            hasher.update(&index.to_le_bytes());
            hasher.update(page.bytes());
            hasher.update(page.truth());
        }
    }
}
