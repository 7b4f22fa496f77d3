//! What the world does to the two sides: ends of processes and machines, lost links, edits of the source, damage to
//! state while nobody runs; and how each process starts again. Whatever strikes is counted.

use landfall::attributes::FileKind;
use landfall::disk::Disk;
use landfall::state::files::write_atomic;
use rand::Rng;

use super::oracle::durable_receipt;
use super::plan::Class;
use super::receiving::{Receiving, TARGET};
use super::sending::Sending;
use super::tree::{edit_source, source_tree};
use super::world::{Fate, Stage, Violation, World};
use crate::sim_disk::{SimDisk, Stop, StopAt, View};

/// Which side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Sender,
    Receiver,
}

/// Operations within which a process ends that is to end in the middle of something.
const STOP_WITHIN: u64 = 40;

impl World {
    /// Lets the plan strike, before a step of the safety phase.
    pub(super) fn strike(&mut self) -> Result<(), Violation> {
        let ends = [
            (Class::KillSender, Side::Sender, Stop::Kill),
            (Class::CutSender, Side::Sender, Stop::PowerCut),
            (Class::KillReceiver, Side::Receiver, Stop::Kill),
            (Class::CutReceiver, Side::Receiver, Stop::PowerCut),
        ];
        for (class, side, how) in ends {
            if self.plan.odds_of(class, self.plan.odds.end).draw(&mut self.faults) {
                self.end_soon(side, how)?;
            }
        }
        if self.plan.odds_of(Class::LoseLink, self.plan.odds.lose_link).draw(&mut self.faults) {
            self.lose_link();
        }
        if self.plan.odds_of(Class::EditSource, self.plan.odds.edit).draw(&mut self.faults) {
            self.edit();
        }
        if self.plan.odds_of(Class::Strangers, self.plan.odds.meddle).draw(&mut self.strangers) {
            self.meddle();
        }
        Ok(())
    }

    /// Ends a side now, or in the middle of one of its next operations.
    fn end_soon(&mut self, side: Side, how: Stop) -> Result<(), Violation> {
        let is_now = self.faults.random_range(0..3) == 0;
        let is_home = self.faults.random_range(0..6) == 0;
        let disk = match side {
            Side::Sender => &self.sender_setting.disk,
            Side::Receiver if is_home => &self.receiver_setting.home,
            Side::Receiver => &self.receiver_setting.disk,
        };
        if !is_now {
            let operation = disk.operations() + self.faults.random_range(1..=STOP_WITHIN);
            disk.set_stop_at(Some(StopAt { operation, how }));
            return Ok(());
        }
        disk.stop(how);
        match side {
            Side::Sender => self.bury_sender(how),
            Side::Receiver => self.bury_receiver(how)?,
        }
        Ok(())
    }

    fn lose_link(&mut self) {
        if self.links.iter().any(|link| !link.is_lost) {
            self.note(|| "the link is lost".into());
            self.coverage.mark("link lost");
            self.links.iter_mut().for_each(|link| link.is_lost = true);
            self.tidy_links();
        }
    }

    fn edit(&mut self) {
        let step = self.step;
        // What cannot be edited just now is left as it is.
        let is_touched = edit_source(&self.sender_setting.source, step, &mut self.faults).is_ok();
        self.oracle.excuses.touches += u64::from(is_touched);
        let tree = source_tree(&self.sender_setting.source, self.sender_setting.naming);
        let changed = self.oracle.history.observe(step, &tree);
        if !changed.is_empty() {
            self.oracle.excuses.edits += 1;
            self.coverage.mark("source edited");
            self.note(|| {
                format!("edited {:?}", changed.iter().map(|path| String::from_utf8_lossy(path)).collect::<Vec<_>>())
            });
        }
    }

    /// The sender's process is no more.
    fn bury_sender(&mut self, how: Stop) {
        self.coverage.mark(if how == Stop::Kill { "sender killed" } else { "sender's power cut" });
        if let Some(sending) = self.sending.take() {
            self.coverage.sender_ended(sending.phase(self.now()));
        }
        self.note(|| format!("the sender ends: {how:?}"));
        self.sender_setting.disk.reboot();
        self.sender_setting.source.stop(Stop::Kill);
        self.sender_setting.source.reboot();
        self.lose_all_links();
    }

    /// The receiver's process is no more. What it leaves must hold.
    fn bury_receiver(&mut self, how: Stop) -> Result<(), Violation> {
        self.coverage.mark(if how == Stop::Kill { "receiver killed" } else { "receiver's power cut" });
        if let Some(receiving) = self.receiving.take() {
            self.coverage.receiver_ended(receiving.phase());
        }
        self.note(|| format!("the receiver ends: {how:?}"));
        // Both disks, whichever of them it was that stopped: one that goes on is taken for cut at the reboot.
        for disk in [&self.receiver_setting.disk, &self.receiver_setting.home] {
            disk.stop(how);
        }
        self.receiver_setting.home.reboot();
        let counts = self.receiver_setting.disk.reboot();
        self.is_cut = counts.crashes > 0;
        self.oracle.excuses.receiver_state += counts.crashes;
        self.resent.ended();
        if counts.renames_half_kept > 0 {
            self.resent.lost_names();
        }
        self.lose_all_links();
        let disk = &self.receiver_setting.disk;
        if how == Stop::PowerCut {
            self.oracle.forget_what_was_lost(disk);
        }
        self.oracle.check_names(disk, View::Cached).map_err(Violation::Wrong)?;
        self.oracle.check_promise(disk, View::Cached).map_err(Violation::Wrong)
    }

    fn lose_all_links(&mut self) {
        self.links.iter_mut().for_each(|link| link.is_lost = true);
        self.tidy_links();
    }

    /// Looks whether a disk has stopped under its process, and takes what processes did.
    pub(super) fn look(&mut self) -> Result<(), Violation> {
        let setting = &self.receiver_setting;
        if let Some(how) = setting.disk.stopped().or(setting.home.stopped()) {
            setting.disk.stop(how);
            self.bury_receiver(how)?;
        }
        if let Some(how) = self.sender_setting.disk.stopped() {
            self.bury_sender(how);
        }
        self.take_sights()?;
        self.take_from_receiver()?;
        self.take_from_sender()
    }

    /// The faults end.
    pub(super) fn calm(&mut self) {
        self.note(|| "the faults end".into());
        let receiver = [&self.receiver_setting.disk, &self.receiver_setting.home];
        for disk in receiver.into_iter().chain([&self.sender_setting.disk, &self.sender_setting.source]) {
            let mut dials = disk.dials().quiet();
            dials.capacity_bytes = None;
            disk.set_dials(dials);
            disk.set_stop_at(None);
        }
    }

    /// Starts the receiver, with what may have happened to its state meanwhile.
    pub(super) fn start_receiver(&mut self) -> Result<(), Violation> {
        if self.stage == Stage::Safety {
            self.damage_receiver();
        }
        match Receiving::start(self.receiver_setting.clone(), self.now()) {
            Ok(receiving) => {
                let is_new = receiving.has_receipt() && self.oracle.receipt.is_none();
                self.receiving = Some(receiving);
                if is_new {
                    // The process that made it ended before it could say so.
                    return self.check_receipt();
                }
            }
            Err(error) => self.last_error = format!("the receiver's start: {error}"),
        }
        Ok(())
    }

    /// Starts the sender, with what may have happened to its state meanwhile.
    pub(super) fn start_sender(&mut self) -> Result<(), Violation> {
        if self.stage == Stage::Safety {
            self.damage_sender();
        }
        self.sender_began = self.step;
        if durable_receipt(&self.sender_setting.disk, "sender").is_some() {
            return self.answer_from_receipt();
        }
        match Sending::start(self.sender_setting.clone(), self.now()) {
            Ok(sending) => self.sending = Some(sending),
            Err(error) => self.last_error = format!("the sender's start: {error}"),
        }
        Ok(())
    }

    fn damage_receiver(&mut self) {
        let disk = self.receiver_setting.disk.clone();
        let below = [TARGET.as_bytes(), b"/.landfall/"].concat();
        let files = files_below(&disk, &below);
        let (staged, state): (Vec<_>, Vec<_>) =
            files.into_iter().partition(|path| path.windows(9).any(|at| at == b"/staging/"));
        let kinds = [
            (Class::DamageReceiverState, state, "journal or log damaged"),
            (Class::DamageStaging, staged, "staging damaged"),
        ];
        for (class, files, mark) in kinds {
            if !files.is_empty() && self.plan.odds_of(class, self.plan.odds.damage_state).draw(&mut self.faults) {
                let has_marred = self.damage_one(&disk, &files);
                if class == Class::DamageStaging {
                    let excuses = &mut self.oracle.excuses;
                    *(if has_marred { &mut excuses.marred } else { &mut excuses.swapped }) += 1;
                }
                self.oracle.excuses.receiver_state += 1;
                self.coverage.mark(mark);
            }
        }
    }

    fn damage_sender(&mut self) {
        let disk = self.sender_setting.disk.clone();
        let files: Vec<Vec<u8>> = files_below(&disk, b"home/transfers/");
        let odds = self.plan.odds_of(Class::DamageSenderState, self.plan.odds.damage_state);
        if !files.is_empty() && odds.draw(&mut self.faults) {
            self.damage_one(&disk, &files);
            self.coverage.mark("sender's state damaged");
        }
    }

    /// Flips, cuts, deletes or swaps. Whether a file of that number may now have other bytes: a new one may get the
    /// number of one that was deleted.
    fn damage_one(&mut self, disk: &SimDisk, files: &[Vec<u8>]) -> bool {
        let path = &files[self.faults.random_range(0..files.len())];
        let other = &files[self.faults.random_range(0..files.len())];
        let size = disk.look(path, View::Cached).map_or(0, |seen| seen.bytes.len() as u64);
        let kind = self.faults.random_range(0..4);
        let bit = self.faults.random_range(0..8);
        let at = if size == 0 { 0 } else { self.faults.random_range(0..size) };
        self.note(|| format!("damage {kind} to {} at {at} of {size}", String::from_utf8_lossy(path)));
        // What is empty cannot be flipped, and nothing can be swapped with itself: then nothing happens.
        drop(match kind {
            0 => disk.flip_bit(path, at, bit),
            1 => disk.truncate(path, at),
            2 => disk.delete(path),
            _ => disk.swap(path, other),
        });
        // A swap of which a power cut kept one half would leave one file under two names.
        disk.settle();
        kind < 3
    }

    /// Closes a side's record, as the last thing a process does. Says whether that was durable.
    pub(super) fn close_record(disk: &SimDisk) -> bool {
        let home = disk.open_dir(&disk.root(), b"home");
        home.and_then(|home| write_atomic(disk, &home, b"closed", b"closed")).is_ok()
    }

    /// A process gives up by itself; it can be run again.
    pub(super) fn end_receiver_by_itself(&mut self, why: &str) {
        self.last_error = format!("receiver: {why}");
        self.note(|| format!("the receiver gives up: {why}"));
        if let Some(mut receiving) = self.receiving.take() {
            receiving.run_dry();
        }
        self.resent.ended();
        self.lose_all_links();
    }

    /// The same of the sender.
    pub(super) fn end_sender_by_itself(&mut self, why: &str) {
        self.last_error = format!("sender: {why}");
        self.note(|| format!("the sender gives up: {why}"));
        self.sending = None;
        self.lose_all_links();
    }

    /// Whether the receiver may be taken for finished: it closed its record.
    pub(super) fn close_receiver(&mut self, fate: Fate) {
        if let Some(mut receiving) = self.receiving.take() {
            receiving.run_dry();
        }
        if World::close_record(&self.receiver_setting.home) {
            self.receiver_fate = fate;
        }
        self.lose_all_links();
    }
}

/// Files below a directory that have no second name elsewhere, such as a power cut leaves of half a rename.
pub(super) fn files_below(disk: &SimDisk, below: &[u8]) -> Vec<Vec<u8>> {
    let tree = disk.tree(View::Cached);
    let is_alone = |inode: u64| tree.values().filter(|seen| seen.inode == inode).count() == 1;
    let files = tree.iter().filter(|(path, seen)| seen.kind == FileKind::Regular && path.starts_with(below));
    files.filter(|(_, seen)| is_alone(seen.inode)).map(|(path, _)| path.clone()).collect()
}
