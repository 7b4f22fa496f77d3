//! What the simulated disk stores per object, layer by layer. Only the data and its own bookkeeping: what a system
//! call does with it stands in `names` and `content`, what a power cut does in `crash`.

use std::collections::{BTreeMap, BTreeSet};

use landfall::attributes::{FileKind, Timestamp};

use super::page::Page;
use crate::damage::PAGE_BYTES;

/// Pages of one layer by index; an absent page is a hole.
pub(super) type Pages = BTreeMap<u64, Page>;

/// The part of an inode that is written apart from content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) mode: u32,
    pub(super) mtime: Timestamp,
    pub(super) ctime: Timestamp,
}

/// One object.
#[derive(Clone, Debug)]
pub(super) struct Inode {
    pub(super) body: Body,
    /// As every call sees it.
    pub(super) meta: Meta,
    /// As a power cut cannot take it away.
    pub(super) durable_meta: Meta,
    /// Names now.
    pub(super) links: u32,
    /// Handles now.
    pub(super) open: u32,
    /// Names that a power cut may bring back: durable ones, and those in changes that are not durable yet.
    pub(super) kept: u32,
    pub(super) has_extended_attributes: bool,
}

/// What kind of object, with its content.
#[derive(Clone, Debug)]
pub(super) enum Body {
    File(Content),
    Directory(Directory),
    Symlink(Vec<u8>),
    Special,
}

/// The content of a regular file. From top to bottom: cache, device (what the drive was given, its own volatile
/// cache included), durable. A page that is nowhere above is what the layer below says.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    pub(super) size: u64,
    pub(super) cache: Pages,
    /// Cached pages that the device was not given.
    pub(super) dirty: BTreeSet<u64>,
    pub(super) device: Pages,
    /// Pages whose device version may still vanish.
    pub(super) unflushed: BTreeSet<u64>,
    pub(super) durable: Pages,
    pub(super) durable_size: u64,
    /// Pages that hold space, with content or without.
    pub(super) allocated: BTreeSet<u64>,
    /// Places that damage whatever is written to them.
    pub(super) bad: BTreeSet<u64>,
    /// Write-back errors so far: each open file hears of a new one once.
    pub(super) write_back_errors: u64,
}

/// The names of a directory.
#[derive(Clone, Debug, Default)]
pub(super) struct Directory {
    /// As every call sees them.
    pub(super) live: BTreeMap<Vec<u8>, u64>,
    /// As a power cut cannot take them away.
    pub(super) durable: BTreeMap<Vec<u8>, u64>,
    /// Changes since the last sync, oldest first; a power cut keeps any subset.
    pub(super) pending: Vec<Change>,
}

/// One change of one name.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) name: Vec<u8>,
    /// The inode it names from then on; `None`: the name is gone.
    pub(super) to: Option<u64>,
    pub(super) rename: Option<RenameHalf>,
}

/// The rename that a change is one half of.
#[derive(Clone, Copy, Debug)]
pub(super) struct RenameHalf {
    /// Number of the rename.
    pub(super) id: u64,
    /// For a directory, whose rename is never torn apart: the directory that holds the other half.
    pub(super) inseparable_from: Option<u64>,
}

impl Inode {
    pub(super) fn new(body: Body, meta: Meta) -> Inode {
        Inode { body, meta, durable_meta: meta, links: 0, open: 0, kept: 0, has_extended_attributes: false }
    }

    pub(super) fn kind(&self) -> FileKind {
        match self.body {
            Body::File(_) => FileKind::Regular,
            Body::Directory(_) => FileKind::Directory,
            Body::Symlink(_) => FileKind::Symlink,
            Body::Special => FileKind::Special,
        }
    }

    pub(super) fn size(&self) -> u64 {
        match &self.body {
            Body::File(content) => content.size,
            Body::Symlink(target) => target.len() as u64,
            Body::Directory(_) | Body::Special => 0,
        }
    }
}

impl Content {
    /// The page as buffered reads see it; `None` is a hole.
    pub(super) fn seen(&self, index: u64) -> Option<&Page> {
        self.cache.get(&index).or_else(|| self.device.get(&index))
    }

    /// The page as buffered reads see it, made if it is a hole, to be changed in the cache.
    pub(super) fn cached_mut(&mut self, index: u64) -> &mut Page {
        let device = &self.device;
        self.cache.entry(index).or_insert_with(|| device.get(&index).cloned().unwrap_or_else(Page::zero))
    }

    /// The page as the device has it now.
    pub(super) fn on_device(&self, index: u64) -> Page {
        self.device.get(&index).cloned().unwrap_or_else(Page::zero)
    }

    /// Gives the device a page.
    pub(super) fn put_on_device(&mut self, index: u64, page: Page) {
        self.device.insert(index, page);
        self.unflushed.insert(index);
        self.allocated.insert(index);
    }

    /// Makes a page a hole: a change of the mapping, which cache and device see at once and a power cut may undo.
    pub(super) fn drop_page(&mut self, index: u64) {
        self.cache.remove(&index);
        self.dirty.remove(&index);
        self.allocated.remove(&index);
        self.device.remove(&index);
        if self.durable.contains_key(&index) {
            self.unflushed.insert(index);
        } else {
            self.unflushed.remove(&index);
        }
    }

    /// Whether the page is data for whoever asks for holes.
    pub(super) fn is_data(&self, index: u64) -> bool {
        self.cache.contains_key(&index) || self.device.contains_key(&index)
    }

    /// What the drive confirmed becomes durable, with the length.
    pub(super) fn flush(&mut self) {
        while let Some(index) = self.unflushed.pop_first() {
            match self.device.get(&index) {
                Some(page) => self.durable.insert(index, page.clone()),
                None => self.durable.remove(&index),
            };
        }
        self.durable_size = self.size;
    }

    /// Forgets what lies at or beyond a length in one layer, the rest of its last page included.
    pub(super) fn clip(pages: &mut Pages, size: u64) {
        pages.retain(|&index, _| page_start(index) < size);
        let within = offset_in_page(size);
        if within > 0
            && let Some(page) = pages.get_mut(&page_index(size))
        {
            page.zero_from(within);
        }
    }
}

/// Index of the page that holds an offset.
pub(super) fn page_index(offset: u64) -> u64 {
    offset / PAGE_BYTES as u64
}

/// First offset of a page.
pub(super) fn page_start(index: u64) -> u64 {
    index * PAGE_BYTES as u64
}

/// Distance of an offset from the start of its page.
pub(super) fn offset_in_page(offset: u64) -> usize {
    usize::try_from(offset % PAGE_BYTES as u64).expect("a remainder of the page size fits")
}

/// Index after the last page that a range touches.
pub(super) fn page_end(offset: u64, len: u64) -> u64 {
    offset.saturating_add(len).div_ceil(PAGE_BYTES as u64)
}
