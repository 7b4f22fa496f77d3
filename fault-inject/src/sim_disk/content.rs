//! What the calls on an open file do: reads and writes through the cache, write-back to the device with everything
//! that goes wrong there, reads past the cache, and the sync of a file.

use std::io;

use landfall::attributes::Level;
use landfall::disk::Extent;

use super::dials::SimFault;
use super::inode::{Content, offset_in_page, page_end, page_index, page_start};
use super::page::Page;
use super::state::State;
use crate::damage::{Damage, PAGE_BYTES};
use crate::errno::{EFBIG, EINVAL, EIO, ENOSPC, error};
use crate::operation::Operation;

/// Largest length of a file.
const FILE_BYTES_MAX: u64 = 1 << 52;

/// What becomes of one page on its way to the device.
enum Fate {
    Lands,
    IsLost,
    IsDamaged,
    Strays,
}

/// The parts of a range that lie in one page each: index, offset within the page, range within the buffer.
fn parts(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let at = offset + done as u64;
        let within = offset_in_page(at);
        let count = (PAGE_BYTES - within).min(len - done);
        done += count;
        Some((page_index(at), within, done - count..done))
    })
}

fn end_of(offset: u64, len: u64) -> io::Result<u64> {
    offset.checked_add(len).filter(|&end| end <= FILE_BYTES_MAX).ok_or_else(|| error(EFBIG))
}

impl State {
    /// Writes into the cache.
    pub(super) fn write(&mut self, inode: u64, bytes: &[u8], offset: u64) -> io::Result<()> {
        end_of(offset, bytes.len() as u64)?;
        if self.strikes(SimFault::WriteFails) {
            let part = self.dice.below("part written", bytes.len() + 1);
            self.write_pages(inode, &bytes[..part], offset)?;
            return Err(error(EIO));
        }
        self.write_pages(inode, bytes, offset)
    }

    /// Writes up to where the disk is full.
    pub(super) fn write_pages(&mut self, inode: u64, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut free_pages = self.free_pages();
        let mut written = 0;
        let content = self.content_mut(inode)?;
        for (index, within, range) in parts(offset, bytes.len()) {
            if let Some(free_pages) = &mut free_pages
                && !content.allocated.contains(&index)
            {
                if *free_pages == 0 {
                    break;
                }
                *free_pages -= 1;
            }
            content.cached_mut(index).write(within, &bytes[range.clone()]);
            content.dirty.insert(index);
            content.allocated.insert(index);
            written = range.end;
        }
        if written > 0 {
            content.size = content.size.max(offset + written as u64);
            self.touch(inode);
        }
        self.counts.bytes_written += written as u64;
        if written == bytes.len() {
            return Ok(());
        }
        self.counts.full += 1;
        Err(error(ENOSPC))
    }

    /// The stamps of a change of content.
    pub(super) fn touch(&mut self, inode: u64) {
        let now = self.tick();
        let meta = &mut self.inode_mut(inode).meta;
        meta.mtime = now;
        meta.ctime = now;
    }

    /// Reads through the cache and fills it.
    pub(super) fn read(&mut self, inode: u64, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.fails_by(SimFault::ReadFails)?;
        let len = self.readable(inode, buffer.len(), offset)?;
        if self.dials.odds(SimFault::Rot).millionths() > 0 {
            self.rot_by_chance(inode, offset, len, Layer::BelowMisses)?;
        }
        let content = self.content_mut(inode)?;
        for (index, within, range) in parts(offset, len) {
            let count = range.len();
            match content.seen(index) {
                Some(page) => buffer[range].copy_from_slice(&page.bytes()[within..within + count]),
                None => buffer[range].fill(0),
            }
            if let Some(page) = content.device.get(&index) {
                content.cache.entry(index).or_insert_with(|| page.clone());
            }
        }
        self.counts.bytes_read_cached += len as u64;
        Ok(len)
    }

    fn readable(&self, inode: u64, len: usize, offset: u64) -> io::Result<usize> {
        let left = self.content(inode)?.size.saturating_sub(offset);
        Ok(usize::try_from(left).map_or(len, |left| left.min(len)))
    }

    /// Reads past the cache, as far as the dials say that this can be had.
    pub(super) fn read_uncached(&mut self, inode: u64, buffer: &mut [u8], offset: u64) -> io::Result<(usize, Level)> {
        let level = self.dials.level;
        if level < Level::Evicted {
            return Ok((self.read(inode, buffer, offset)?, level));
        }
        self.fails_by(SimFault::ReadFails)?;
        let len = self.readable(inode, buffer.len(), offset)?;
        self.write_back(inode, offset, len as u64);
        if self.dials.odds(SimFault::Rot).millionths() > 0 {
            self.rot_by_chance(inode, offset, len, Layer::Device)?;
        }
        if level == Level::Evicted {
            self.evict(inode, offset, len as u64);
        }
        let content = self.content_mut(inode)?;
        for (index, within, range) in parts(offset, len) {
            let count = range.len();
            match content.device.get(&index) {
                Some(page) => buffer[range].copy_from_slice(&page.bytes()[within..within + count]),
                None => buffer[range].fill(0),
            }
        }
        if len > 0 && self.strikes(SimFault::BadRead) {
            let stream = self.dice.stream("bad read");
            Damage::drawn(stream).apply(&mut buffer[..len], stream);
        }
        self.counts.bytes_read_uncached += len as u64;
        Ok((len, level))
    }

    /// Gives the device the dirty pages of a range, not as part of a sync.
    pub(super) fn write_back(&mut self, inode: u64, offset: u64, len: u64) {
        let Ok(content) = self.content(inode) else { return };
        let pages: Vec<u64> = content.dirty.range(page_index(offset)..page_end(offset, len)).copied().collect();
        for index in pages {
            if self.strikes(SimFault::WriteBackFails) {
                self.lose_page(inode, index);
                self.note_write_back_error(inode);
            } else {
                self.write_back_page(inode, index);
            }
        }
    }

    fn write_back_page(&mut self, inode: u64, index: u64) {
        let fate = self.fate(inode, index);
        let Ok(content) = self.content_mut(inode) else { return };
        content.dirty.remove(&index);
        let Some(page) = content.cache.get(&index).cloned() else { return };
        match fate {
            Fate::Lands => content.put_on_device(index, page),
            Fate::IsLost => self.leave_behind(inode, index, &page),
            Fate::IsDamaged => {
                let mut page = page;
                let stream = self.dice.stream("write-back damage");
                page.damage(|block| Damage::drawn(stream).apply(block, stream));
                if let Ok(content) = self.content_mut(inode) {
                    content.put_on_device(index, page);
                }
            }
            Fate::Strays => self.stray(inode, index, &page),
        }
    }

    fn fate(&mut self, inode: u64, index: u64) -> Fate {
        if self.strikes(SimFault::BadPlace)
            && let Ok(content) = self.content_mut(inode)
        {
            content.bad.insert(index);
        }
        if self.content(inode).is_ok_and(|content| content.bad.contains(&index)) {
            return Fate::IsDamaged;
        }
        if self.strikes(SimFault::LostWriteBack) {
            Fate::IsLost
        } else if self.strikes(SimFault::CorruptWriteBack) {
            Fate::IsDamaged
        } else if self.strikes(SimFault::MisdirectedWriteBack) {
            Fate::Strays
        } else {
            Fate::Lands
        }
    }

    /// The device keeps what it had and should have something else.
    fn leave_behind(&mut self, inode: u64, index: u64, intended: &Page) {
        let Ok(content) = self.content_mut(inode) else { return };
        let page = content.on_device(index).left_behind_by(intended);
        content.put_on_device(index, page);
    }

    fn stray(&mut self, inode: u64, index: u64, page: &Page) {
        self.leave_behind(inode, index, page);
        let Ok(content) = self.content(inode) else { return };
        let unsynced = content.dirty.union(&content.unflushed).copied();
        let others: Vec<u64> = unsynced.filter(|&other| other != index && content.allocated.contains(&other)).collect();
        if others.is_empty() {
            // With no place to stray to, the write is only lost.
            return;
        }
        let victim = others[self.dice.below("stray", others.len())];
        let Ok(content) = self.content_mut(inode) else { return };
        let hit = content.on_device(victim).hit_by(page);
        content.put_on_device(victim, hit);
    }

    /// The cache keeps the page as clean, the device never gets it.
    fn lose_page(&mut self, inode: u64, index: u64) {
        let Ok(content) = self.content_mut(inode) else { return };
        content.dirty.remove(&index);
        if let Some(page) = content.cache.get(&index) {
            let left = content.on_device(index).left_behind_by(page);
            content.device.insert(index, left);
        }
    }

    fn note_write_back_error(&mut self, inode: u64) {
        self.write_back_errors += 1;
        if let Ok(content) = self.content_mut(inode) {
            content.write_back_errors += 1;
        }
    }

    pub(super) fn has_dirty_pages(&self, inode: u64) -> bool {
        self.content(inode).is_ok_and(|content| !content.dirty.is_empty())
    }

    /// What a failed sync leaves: at least one dirty page lost, the rest given to the device, nothing of it durable,
    /// and everything marked clean, so that no later sync has anything to do.
    pub(super) fn lose_dirty_pages(&mut self, inode: u64) {
        self.note_write_back_error(inode);
        let Ok(content) = self.content(inode) else { return };
        let dirty: Vec<u64> = content.dirty.iter().copied().collect();
        for (nth, index) in dirty.into_iter().enumerate() {
            if nth == 0 || self.dice.below("lost by a failed sync", 4) > 0 {
                self.lose_page(inode, index);
            } else {
                self.write_back_page(inode, index);
            }
        }
        if let Ok(content) = self.content_mut(inode) {
            content.unflushed.clear();
        }
    }

    /// A sync through one handle. `seen_errors` is what that handle has heard of already.
    pub(super) fn sync(&mut self, inode: u64, name: &[u8], kind: Operation, seen_errors: &mut u64) -> io::Result<()> {
        if self.skips(kind, name) {
            return Ok(());
        }
        if self.strikes(SimFault::SyncFails) {
            self.lose_dirty_pages(inode);
            *seen_errors = self.content(inode)?.write_back_errors;
            let late = self.dice.below("errno of a failed sync", 2) == 0;
            return Err(error(if late { ENOSPC } else { EIO }));
        }
        self.write_back_for_sync(inode);
        let errors = self.content(inode)?.write_back_errors;
        if !self.strikes(SimFault::SyncLies) {
            self.content_mut(inode)?.flush();
            if kind == Operation::Sync {
                let object = self.inode_mut(inode);
                object.durable_meta = object.meta;
            }
        }
        if *seen_errors == errors {
            return Ok(());
        }
        *seen_errors = errors;
        Err(error(EIO))
    }

    fn write_back_for_sync(&mut self, inode: u64) {
        while let Some(index) = self.content(inode).ok().and_then(|content| content.dirty.first().copied()) {
            self.write_back_page(inode, index);
        }
    }

    /// Makes data and metadata of a file durable.
    pub(super) fn settle_file(&mut self, inode: u64) {
        self.write_back_for_sync(inode);
        if let Ok(content) = self.content_mut(inode) {
            content.flush();
        }
        let object = self.inode_mut(inode);
        object.durable_meta = object.meta;
    }

    pub(super) fn set_len(&mut self, inode: u64, len: u64) -> io::Result<()> {
        end_of(len, 0)?;
        let content = self.content_mut(inode)?;
        if len < content.size {
            let first_gone = page_end(0, len);
            let gone: Vec<u64> = content.allocated.range(first_gone..).copied().collect();
            for index in gone {
                content.drop_page(index);
            }
            let within = offset_in_page(len);
            if within > 0 && content.is_data(page_index(len)) {
                content.cached_mut(page_index(len)).zero_from(within);
                content.dirty.insert(page_index(len));
            }
        }
        content.size = len;
        self.touch(inode);
        Ok(())
    }

    pub(super) fn punch(&mut self, inode: u64, offset: u64, len: u64) -> io::Result<()> {
        let end = end_of(offset, len)?;
        if len == 0 {
            return Ok(());
        }
        let content = self.content_mut(inode)?;
        let end = end.min(content.size);
        let within: Vec<u64> =
            content.allocated.range(page_index(offset)..page_end(0, end).max(page_index(offset))).copied().collect();
        for index in within {
            let from = offset.max(page_start(index));
            let to = end.min(page_start(index + 1));
            if from == page_start(index) && (to == page_start(index + 1) || to == content.size) {
                content.drop_page(index);
            } else if from < to && content.is_data(index) {
                let start = offset_in_page(from);
                let count = usize::try_from(to - from).expect("a part of one page fits");
                content.cached_mut(index).write(start, &[0; PAGE_BYTES][..count]);
                content.dirty.insert(index);
            }
        }
        self.touch(inode);
        Ok(())
    }

    pub(super) fn reserve(&mut self, inode: u64, offset: u64, len: u64) -> io::Result<()> {
        let end = end_of(offset, len)?;
        let free_pages = self.free_pages();
        let content = self.content_mut(inode)?;
        let pages = if len == 0 { 0..0 } else { page_index(offset)..page_end(0, end) };
        let wanted = (pages.end - pages.start) - content.allocated.range(pages.clone()).count() as u64;
        if free_pages.is_some_and(|free| free < wanted) {
            self.counts.full += 1;
            return Err(error(ENOSPC));
        }
        if free_pages.is_some() {
            // Without a bound nobody can tell, and a reservation of a terabyte costs nothing.
            content.allocated.extend(pages);
        }
        Ok(())
    }

    pub(super) fn extent_at(&self, inode: u64, offset: u64) -> io::Result<Extent> {
        let content = self.content(inode)?;
        if offset >= content.size {
            return Err(error(EINVAL));
        }
        let last = page_end(0, content.size);
        let first = page_index(offset);
        let is_data = content.is_data(first);
        let next = (first..last).find(|&index| content.is_data(index) != is_data).unwrap_or(last);
        let until = page_start(next).min(content.size);
        Ok(if is_data { Extent::DataUntil(until) } else { Extent::HoleUntil(until) })
    }

    /// Drops the clean pages of a range from the cache; dirty ones only start their way to the device.
    pub(super) fn evict(&mut self, inode: u64, offset: u64, len: u64) {
        let Ok(content) = self.content_mut(inode) else { return };
        let (first, last) = (page_index(offset), page_end(offset, len));
        let Content { cache, dirty, .. } = content;
        cache.retain(|index, _| !(first..last).contains(index) || dirty.contains(index));
        self.write_back(inode, offset, len);
    }

    fn rot_by_chance(&mut self, inode: u64, offset: u64, len: usize, layer: Layer) -> io::Result<()> {
        for (index, _, _) in parts(offset, len) {
            let content = self.content(inode)?;
            let is_hit =
                content.device.contains_key(&index) && (layer == Layer::Device || !content.cache.contains_key(&index));
            if is_hit && self.strikes(SimFault::Rot) {
                let at = self.dice.below("rot place", PAGE_BYTES);
                let damage = Damage::drawn(self.dice.stream("rot size"));
                self.rot(inode, page_start(index) + at as u64, damage)?;
            }
        }
        Ok(())
    }

    /// Damages what the device holds at an offset; what is cached stays as it is.
    pub(super) fn rot(&mut self, inode: u64, offset: u64, damage: Damage) -> io::Result<()> {
        let index = page_index(offset);
        let mut page = self.content(inode)?.on_device(index);
        let stream = self.dice.stream("rot damage");
        page.damage(|block| damage.apply_at(block, offset_in_page(offset), stream));
        let content = self.content_mut(inode)?;
        content.allocated.insert(index);
        if !content.unflushed.contains(&index) {
            content.durable.insert(index, page.clone());
        }
        content.device.insert(index, page);
        Ok(())
    }
}

/// Where chance looks for pages that may rot.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Layer {
    /// Each page that the device holds.
    Device,
    /// Only those that the cache does not hold.
    BelowMisses,
}
