//! What a power cut leaves. Everything synced stays; everything else is kept or lost piece by piece: each change of
//! a name, each page (whole or torn at sectors), each length, each mode and time, all independent of each other.
//! That is harsher than any one file system and allowed by the text of POSIX.
//!
//! The odds of each class are drawn anew at each power cut, extremes included, so that "all names, no data" and
//! "no names, all data" are common and not one in a billion.

use std::collections::{BTreeMap, BTreeSet};

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::counts::CrashCounts;
use super::inode::{Body, Content, Directory, Inode, Pages};
use super::page::Page;
use super::state::{ROOT, State};
use crate::rng::Odds;

/// The odds of one power cut.
struct Mood {
    keeps_name: Odds,
    keeps_page: Odds,
    keeps_size: Odds,
    keeps_metadata: Odds,
    tears: Odds,
}

impl Mood {
    fn drawn(stream: &mut ChaCha8Rng) -> Mood {
        let mut keeps = || Odds::per_million([0, 200_000, 500_000, 800_000, 1_000_000][stream.random_range(0..5)]);
        let (keeps_name, keeps_page, keeps_size, keeps_metadata) = (keeps(), keeps(), keeps(), keeps());
        let tears = Odds::per_million([0, 0, 100_000, 500_000][stream.random_range(0..4)]);
        Mood { keeps_name, keeps_page, keeps_size, keeps_metadata, tears }
    }
}

/// What one power cut has decided so far about names.
#[derive(Default)]
struct Names {
    /// Per rename: halves kept, halves seen.
    renames: BTreeMap<u64, (u32, u32)>,
    /// Renames of directories, which happen or do not.
    inseparable: BTreeMap<u64, bool>,
    /// Inodes that a kept change names.
    newly_named: BTreeSet<u64>,
}

impl State {
    /// Cuts the power and leaves the state that the next boot finds. All handles die.
    pub(super) fn crash(&mut self, stream: &mut ChaCha8Rng) -> CrashCounts {
        let mut counts = CrashCounts { crashes: 1, ..CrashCounts::default() };
        let before = self.reachable();
        // The handles die first: what only they kept alive is gone, what a lost removal may bring back is not.
        self.end_generation();
        if self.dials.is_volatile {
            self.inodes.clear();
            self.make_root();
        } else {
            self.draw_outcome(stream, &mut counts);
        }
        self.recount();
        counts.objects_lost = before.iter().filter(|number| !self.inodes.contains_key(number)).count() as u64;
        self.counts.crash += counts;
        counts
    }

    fn draw_outcome(&mut self, stream: &mut ChaCha8Rng, counts: &mut CrashCounts) {
        let mood = Mood::drawn(stream);
        let mut names = Names::default();
        for object in self.inodes.values_mut() {
            if let Body::Directory(directory) = &mut object.body {
                draw_names(directory, &mood, &mut names, stream, counts);
            }
            draw_metadata(object, &mood, stream, counts);
        }
        counts.renames_half_kept =
            names.renames.values().filter(|(kept, seen)| *kept == 1 && *seen == 2).count() as u64;
        let reachable = self.reachable();
        for (number, object) in &mut self.inodes {
            let Body::File(content) = &mut object.body else { continue };
            let is_newly_named = names.newly_named.contains(number) && reachable.contains(number);
            draw_content(content, is_newly_named, &mood, stream, counts);
        }
        self.cut_second_ways();
    }

    /// Leaves one way to each directory, as a file system check does. A second one can come from two renames of one
    /// directory of which only the later was kept.
    fn cut_second_ways(&mut self) {
        let mut seen = BTreeSet::from([ROOT]);
        let mut unvisited = vec![ROOT];
        let mut second = Vec::new();
        while let Some(at) = unvisited.pop() {
            let Some(Inode { body: Body::Directory(directory), .. }) = self.inodes.get(&at) else { continue };
            for (name, &child) in &directory.live {
                if !matches!(self.inodes.get(&child), Some(Inode { body: Body::Directory(_), .. })) {
                    continue;
                }
                if seen.insert(child) {
                    unvisited.push(child);
                } else {
                    second.push((at, name.clone()));
                }
            }
        }
        for (at, name) in second {
            let directory = self.directory_mut(at);
            directory.live.remove(&name);
            directory.durable.remove(&name);
        }
    }

    /// Everything that names lead to.
    fn reachable(&self) -> BTreeSet<u64> {
        let mut seen = BTreeSet::from([ROOT]);
        let mut unvisited = vec![ROOT];
        while let Some(at) = unvisited.pop() {
            if let Some(Inode { body: Body::Directory(directory), .. }) = self.inodes.get(&at) {
                unvisited.extend(directory.live.values().copied().filter(|&child| seen.insert(child)));
            }
        }
        seen
    }

    /// Drops what nothing names and sets all counts from the names that are left.
    fn recount(&mut self) {
        let reachable = self.reachable();
        self.inodes.retain(|number, _| reachable.contains(number));
        let mut links: BTreeMap<u64, u32> = BTreeMap::from([(ROOT, 1)]);
        for object in self.inodes.values() {
            if let Body::Directory(directory) = &object.body {
                for &child in directory.live.values() {
                    *links.entry(child).or_default() += 1;
                }
            }
        }
        for (number, object) in &mut self.inodes {
            object.links = links.get(number).copied().unwrap_or(0);
            object.kept = object.links;
            object.open = 0;
        }
        self.recount_free_inodes();
    }
}

fn draw_names(
    directory: &mut Directory,
    mood: &Mood,
    names: &mut Names,
    stream: &mut ChaCha8Rng,
    counts: &mut CrashCounts,
) {
    for change in std::mem::take(&mut directory.pending) {
        let is_kept = match change.rename {
            Some(half) if half.inseparable_from.is_some() => {
                *names.inseparable.entry(half.id).or_insert_with(|| mood.keeps_name.draw(stream))
            }
            _ => mood.keeps_name.draw(stream),
        };
        if let Some(half) = change.rename {
            let (kept, seen) = names.renames.entry(half.id).or_default();
            *kept += u32::from(is_kept);
            *seen += 1;
        }
        match (is_kept, change.to) {
            (true, Some(inode)) => {
                names.newly_named.insert(inode);
                directory.durable.insert(change.name, inode);
            }
            (true, None) => {
                directory.durable.remove(&change.name);
            }
            (false, Some(_)) => counts.new_names_lost += 1,
            (false, None) => counts.removed_names_back += u64::from(directory.durable.contains_key(&change.name)),
        }
    }
    directory.live = directory.durable.clone();
}

fn draw_metadata(object: &mut Inode, mood: &Mood, stream: &mut ChaCha8Rng, counts: &mut CrashCounts) {
    if object.meta != object.durable_meta {
        let mut lost = 0;
        if object.meta.mode != object.durable_meta.mode && !mood.keeps_metadata.draw(stream) {
            object.meta.mode = object.durable_meta.mode;
            lost = 1;
        }
        if !mood.keeps_metadata.draw(stream) {
            object.meta.mtime = object.durable_meta.mtime;
            object.meta.ctime = object.durable_meta.ctime;
            lost = 1;
        }
        counts.metadata_lost += lost;
    }
    object.durable_meta = object.meta;
}

fn draw_content(
    content: &mut Content,
    is_newly_named: bool,
    mood: &Mood,
    stream: &mut ChaCha8Rng,
    counts: &mut CrashCounts,
) {
    let had_data = content.size > 0;
    let grew = content.size > content.durable_size;
    let size = draw_size(content, mood, stream, counts);
    let lost_before = counts.unsynced_data_lost;
    let at_risk: Vec<u64> = content.dirty.union(&content.unflushed).copied().collect();
    let mut pages = std::mem::take(&mut content.durable);
    for index in at_risk {
        draw_page(content, index, &mut pages, mood, stream, counts);
    }
    Content::clip(&mut pages, size);
    counts.size_without_data += u64::from(grew && size == content.size && counts.unsynced_data_lost > lost_before);
    let is_empty = size == 0 || pages.values().all(Page::is_zero);
    counts.name_without_data += u64::from(is_newly_named && had_data && is_empty);
    *content = Content {
        size,
        durable_size: size,
        allocated: pages.keys().copied().collect(),
        device: pages.clone(),
        durable: pages,
        bad: std::mem::take(&mut content.bad),
        ..Content::default()
    };
}

fn draw_size(content: &Content, mood: &Mood, stream: &mut ChaCha8Rng, counts: &mut CrashCounts) -> u64 {
    let (old, new) = (content.durable_size, content.size);
    if old == new {
        return new;
    }
    if mood.keeps_size.draw(stream) {
        counts.unsynced_data_kept += 1;
        return new;
    }
    counts.unsynced_data_lost += 1;
    // A file that grew by several writes may have stopped growing anywhere.
    if old < new && stream.random_range(0..4) == 0 { stream.random_range(old..new) } else { old }
}

/// Puts one page that was not synced into `pages`, which hold the durable ones: new, old or torn.
fn draw_page(
    content: &Content,
    index: u64,
    pages: &mut Pages,
    mood: &Mood,
    stream: &mut ChaCha8Rng,
    counts: &mut CrashCounts,
) {
    let old = pages.get(&index).cloned();
    let given = content.device.get(&index).cloned();
    let is_dirty = content.dirty.contains(&index);
    let newest = if is_dirty { content.cache.get(&index).cloned() } else { given.clone() };
    let is_torn = mood.tears.draw(stream);
    let mut outcome = if mood.keeps_page.draw(stream) {
        newest.clone()
    } else if is_dirty && content.unflushed.contains(&index) && stream.random_range(0..2) == 0 {
        given
    } else {
        old.clone()
    };
    if !are_same(&old, &newest) {
        if is_torn {
            let (before, after) = (old.clone().unwrap_or_else(Page::zero), newest.clone().unwrap_or_else(Page::zero));
            outcome = Some(before.torn_with(&after, || stream.random_range(0..2) == 0));
            counts.torn_pages += u64::from(!are_same(&outcome, &old) && !are_same(&outcome, &newest));
        }
        let is_kept = are_same(&outcome, &newest);
        counts.unsynced_data_kept += u64::from(is_kept);
        counts.unsynced_data_lost += u64::from(!is_kept);
    }
    match outcome {
        Some(page) => pages.insert(index, page),
        None => pages.remove(&index),
    };
}

/// Whether two pages read the same; a hole reads as zeros.
fn are_same(a: &Option<Page>, b: &Option<Page>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a.equals(b),
        (None, None) => true,
        (Some(page), None) | (None, Some(page)) => page.is_zero(),
    }
}
