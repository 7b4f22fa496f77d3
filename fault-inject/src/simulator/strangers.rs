//! Another program at work in the target while the receiver runs: it writes into staged files, cuts and grows them,
//! takes their place, removes them, and puts files of its own where files of the source are to go. What it did to
//! staging must be noticed before anything is sealed; what it put under a name is not ours.

use landfall::attributes::FileKind;
use landfall::wire::Phase;
use rand::{Rng, RngCore};

use super::faults::files_below;
use super::oracle::durable_receipt;
use super::plan::Class;
use super::receiving::TARGET;
use super::tree::{source_tree, target_tree};
use super::world::World;
use crate::sim_disk::View;

impl World {
    /// It does one thing, if there is anything to do it to. Not once the receiver finishes: what is done after the last
    /// look is nobody's to notice.
    pub(super) fn meddle(&mut self) {
        let is_late =
            |phase| !matches!(phase, Phase::Connecting | Phase::Scanning | Phase::Transferring | Phase::Adopting);
        let is_finishing = self.receiving.as_ref().is_some_and(|receiving| is_late(receiving.phase()));
        if is_finishing || durable_receipt(&self.receiver_setting.home, "receiver").is_some() {
            return;
        }
        // A write of another program that the device loses is seen in the page cache alone: no read of the device tells.
        match self.strangers.random_range(0..3) {
            0 => self.plant(),
            _ if self.plan.has(Class::WriteBack) => (),
            _ => self.meddle_with_staging(),
        }
    }

    fn meddle_with_staging(&mut self) {
        let disk = self.receiver_setting.disk.clone();
        let below = [TARGET.as_bytes(), b"/.landfall/"].concat();
        let mut staged = files_below(&disk, &below);
        staged.retain(|path| path.windows(9).any(|at| at == b"/staging/"));
        let (choice, which) = (self.strangers.random_range(0..8), self.strangers.next_u32() as usize);
        let Some(path) = staged.get(which % staged.len().max(1)) else { return };
        let size = disk.look(path, View::Cached).map_or(0, |seen| seen.bytes.len() as u64);
        let at = self.strangers.random_range(0..=size);
        let bytes = self.strangers.next_u64().to_le_bytes();
        let done = match choice {
            0..5 => disk.edit(path, at.min(size.saturating_sub(8)), &bytes),
            5 => disk.truncate(path, at),
            6 => disk.delete(path),
            _ => disk.delete(path).and_then(|()| disk.write_file(path, &bytes)),
        };
        if done.is_ok() {
            self.oracle.excuses.meddled += 1;
            self.coverage.mark("staging meddled with");
            self.note(|| format!("meddling {choice} with {} at {at} of {size}", String::from_utf8_lossy(path)));
        }
    }

    /// Puts a file where the source has one and the target has nothing, in a directory that is there.
    fn plant(&mut self) {
        let disk = self.receiver_setting.disk.clone();
        let source = source_tree(&self.sender_setting.source, self.sender_setting.naming);
        let target = target_tree(&disk, View::Cached);
        let has_parent = |path: &[u8]| match path.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => target.get(&path[..slash]).is_some_and(|seen| seen.kind == FileKind::Directory),
            None => true,
        };
        let is_free = |path: &[u8]| !target.contains_key(path) && !self.oracle.before.contains_key(path);
        let free = |(path, seen): &(Vec<u8>, crate::sim_disk::Seen)| {
            seen.kind == FileKind::Regular && is_free(path) && has_parent(path)
        };
        let free: Vec<Vec<u8>> = source.into_iter().filter(free).map(|(path, _)| path).collect();
        let which = self.strangers.next_u32() as usize;
        let Some(path) = free.get(which % free.len().max(1)) else { return };
        let bytes = [b"planted ", &self.strangers.next_u64().to_le_bytes()[..]].concat();
        let at = [TARGET.as_bytes(), b"/", path].concat();
        if disk.write_file(&at, &bytes).is_err() {
            return;
        }
        if let Some(seen) = disk.look(&at, View::Cached) {
            self.oracle.before.insert(path.clone(), seen);
            self.oracle.planted.insert(path.clone(), bytes);
            self.oracle.excuses.meddled += 1;
            self.coverage.mark("file put in the way");
            self.note(|| format!("put {} in the way", String::from_utf8_lossy(path)));
        }
    }
}
