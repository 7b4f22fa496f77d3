//! What the world makes of what its two processes did and saw: frames go onto the link, ends are judged, and each
//! thing that is claimed is held against the oracle.

use landfall::store::Observed;
use landfall::task::receiver::{End as ReceiverEnd, SettleResult};
use landfall::task::sender::End as SenderEnd;
use landfall::wire::{Retry, StopReason};

use super::link::Flying;
use super::plan::Class;
use super::receiving::Said as ReceiverSaid;
use super::sending::Said as SenderSaid;
use super::sights::Sight;
use super::tree::target_tree;
use super::world::{Fate, Violation, World};
use crate::sim_disk::View;

impl World {
    /// The settler's next piece, with a look at the names before and after.
    pub(super) fn run_settler(&mut self) -> Result<(), Violation> {
        let disk = self.receiver_setting.disk.clone();
        let names = |disk| target_tree(disk, View::Cached).len();
        let before = names(&disk);
        if let Some(receiving) = &mut self.receiving {
            receiving.run_settler();
        }
        let after = names(&disk);
        if disk.stopped().is_some() && after > before {
            self.coverage.mark("crash between rename and claim");
        }
        if after != before {
            self.oracle.check_names(&disk, View::Device).map_err(Violation::Wrong)?;
        }
        Ok(())
    }

    /// Takes what the receiver saw.
    pub(super) fn take_sights(&mut self) -> Result<(), Violation> {
        let Some(receiving) = &mut self.receiving else { return Ok(()) };
        let line = receiving.line();
        for sight in std::mem::take(&mut receiving.sights) {
            self.note(|| format!("  {sight:?}"));
            match sight {
                Sight::Settled(files) => self.take_settled(&files),
                Sight::Closed => self.resent.closed(),
                Sight::Written(chunk) => self.resent.written(chunk).map_err(Violation::Wrong)?,
                Sight::Duplicate => self.coverage.mark("duplicate delivered"),
                Sight::Anew => self.resent.ended(),
                Sight::Rewound => {
                    self.oracle.excuses.log_cut = true;
                    self.coverage.mark("log rewound");
                }
                Sight::Adopted => self.coverage.mark("candidate adopted"),
                Sight::Renewed => {
                    self.coverage.mark("new inode");
                    self.check_renewed()?;
                }
                Sight::Observed(observed) => self.check_observed(&observed)?,
                Sight::Full => {
                    self.oracle.excuses.full += 1;
                    self.coverage.mark("full disk met");
                }
                Sight::Resumed => self.coverage.mark("claims of an earlier run stood"),
                // The sender on this link may be a later one than that which settled last: then the receipt is too early,
                // and speaks of what the source was.
                Sight::Issuing => {
                    let began = self.link_mut(line).map_or(0, |link| link.sender_began);
                    self.issuing_since = self.settled_since.max(began);
                }
                Sight::Issued => {
                    self.check_receipt()?;
                    self.coverage.mark("receipt issued");
                }
                Sight::JournalCut if std::mem::take(&mut self.is_cut) => self.coverage.mark("torn claim"),
                Sight::JournalCut => self.coverage.mark("journal cut"),
                Sight::LogCut => {
                    self.oracle.excuses.log_cut = true;
                    self.coverage.mark("manifest log cut");
                }
                Sight::Withdrawn(entry) => {
                    self.oracle.excuses.withdrawn.insert(entry.0);
                    self.coverage.mark("source changed");
                }
            }
        }
        Ok(())
    }

    /// A device, a file system or another program is blamed only where one of them is to blame.
    fn check_observed(&self, observed: &[Observed]) -> Result<(), Violation> {
        let disk = &self.receiver_setting.disk;
        match observed.iter().find(|observed| !self.oracle.may_differ(disk, observed.entry)) {
            Some(observed) => Err(self.stuck(&format!("a read-back differed and nothing has struck: {observed:?}"))),
            None => Ok(()),
        }
    }

    /// And an inode is left for a new one only then.
    fn check_renewed(&self) -> Result<(), Violation> {
        match self.oracle.may_be_renewed(&self.receiver_setting.disk) {
            true => Ok(()),
            false => Err(self.stuck("an inode was left for a new one and nothing has struck")),
        }
    }

    /// The receipt that the receiver holds is durable and true.
    pub(super) fn check_receipt(&mut self) -> Result<(), Violation> {
        let (disk, home) = (&self.receiver_setting.disk, &self.receiver_setting.home);
        self.oracle.check_receipt(disk, home, self.issuing_since).map_err(Violation::Wrong)?;
        if self.oracle.has_renamed {
            self.coverage.mark("entry under another name");
        }
        Ok(())
    }

    fn take_settled(&mut self, files: &[landfall::task::receiver::SettledFile]) {
        self.resent.settled(files);
        for file in files {
            match &file.result {
                SettleResult::Durable { bad, .. } if !bad.is_empty() => {
                    self.bad_entries.insert(file.entry.0);
                    self.coverage.mark("read-back mismatch");
                }
                SettleResult::Sealed { .. } if self.bad_entries.remove(&file.entry.0) => {
                    self.coverage.mark("read-back mismatch repaired");
                }
                SettleResult::LeftOut(_) => self.coverage.mark("entry left out"),
                _ => (),
            }
        }
    }

    /// Takes what the receiver did.
    pub(super) fn take_from_receiver(&mut self) -> Result<(), Violation> {
        let Some(receiving) = &mut self.receiving else { return Ok(()) };
        let line = receiving.line();
        for said in std::mem::take(&mut receiving.said) {
            match said {
                ReceiverSaid::Frame(frame) => {
                    self.trace_bytes(&frame);
                    if let Some(link) = self.link_mut(line).filter(|link| !link.is_lost) {
                        link.to_sender.push_back(frame);
                    }
                }
                ReceiverSaid::Drop => {
                    self.links.iter_mut().for_each(|link| link.is_lost = true);
                }
                ReceiverSaid::End(end) => return self.receiver_ended(end),
                ReceiverSaid::Failed(why) => {
                    self.end_receiver_by_itself(&why);
                    return Ok(());
                }
                ReceiverSaid::Misbehaved(what) => {
                    return Err(self.stuck(&format!("the receiver says that the sender misbehaved: {what}")));
                }
            }
        }
        Ok(())
    }

    fn receiver_ended(&mut self, end: ReceiverEnd) -> Result<(), Violation> {
        self.note(|| format!("the receiver ends: {end:?}"));
        match end {
            ReceiverEnd::Acknowledged => self.close_receiver(Fate::Closed),
            ReceiverEnd::Unconfirmed => self.close_receiver(Fate::Unconfirmed),
            ReceiverEnd::Stopped(reason) => match reason {
                StopReason::DiskFull | StopReason::SyncFailed | StopReason::StateFailed => {
                    self.end_receiver_by_itself(&format!("{reason:?}"));
                }
                _ => return Err(self.stuck(&format!("the receiver stops: {reason:?}"))),
            },
            ReceiverEnd::PeerStopped(reason) => match reason {
                StopReason::StateFailed | StopReason::RootGone => self.end_receiver_by_itself("the sender stopped"),
                StopReason::Finished if self.may_be_finished() => self.close_receiver(Fate::Unconfirmed),
                _ => return Err(self.stuck(&format!("the sender stopped the receiver: {reason:?}"))),
            },
        }
        Ok(())
    }

    /// A receipt is held and the source was edited: then the sender may say that this transfer is finished.
    fn may_be_finished(&self) -> bool {
        self.oracle.receipt.is_some() && (self.oracle.excuses.edits > 0 || self.plan.has(Class::SourceErrors))
    }

    /// Takes what the sender did.
    pub(super) fn take_from_sender(&mut self) -> Result<(), Violation> {
        let Some(sending) = &mut self.sending else { return Ok(()) };
        let line = sending.line();
        for said in std::mem::take(&mut sending.said) {
            match said {
                SenderSaid::Frame(frame) => {
                    self.trace_bytes(&frame);
                    if let Some(link) = self.link_mut(line).filter(|link| !link.is_lost) {
                        link.to_receiver.push_back(frame);
                    }
                }
                SenderSaid::Chunk(chunk) => self.send_chunk(line, chunk),
                SenderSaid::End(end) => return self.sender_ended(end),
                SenderSaid::Failed(why) => {
                    self.end_sender_by_itself(&why);
                    return Ok(());
                }
                SenderSaid::Misbehaved(what) => {
                    return Err(self.stuck(&format!("the sender says that the receiver misbehaved: {what}")));
                }
            }
        }
        Ok(())
    }

    fn send_chunk(&mut self, line: Option<super::link::LinkId>, mut chunk: Flying) {
        self.trace_bytes(&chunk.header);
        let is_safety = self.stage == super::world::Stage::Safety;
        let odds = |class, odds| if is_safety { self.plan.odds_of(class, odds) } else { crate::rng::Odds::NEVER };
        let duplicate = odds(Class::Duplicate, self.plan.odds.duplicate);
        let damage = odds(Class::DamageChunk, self.plan.odds.damage_chunk);
        if let Some(body) = chunk.body.as_ref().filter(|_| damage.draw(&mut self.faults)) {
            let mut bytes = body.to_vec();
            crate::damage::Damage::drawn(&mut self.faults).apply(&mut bytes, &mut self.faults);
            chunk.body = Some(bytes.into());
            self.oracle.excuses.damaged_chunks += 1;
            self.coverage.mark("chunk damaged on its way");
        }
        let is_twice = duplicate.draw(&mut self.faults);
        let Some(link) = self.link_mut(line).filter(|link| !link.is_lost) else { return };
        link.data.push_back(chunk.clone());
        if is_twice {
            chunk.is_duplicate = true;
            link.data.push_back(chunk);
        }
    }

    fn sender_ended(&mut self, end: SenderEnd) -> Result<(), Violation> {
        self.note(|| format!("the sender ends: {end:?}"));
        match end {
            SenderEnd::Acknowledged => return self.acknowledged(),
            SenderEnd::Stopped(StopReason::Finished) if self.may_be_finished() => {
                self.coverage.mark("finished before the source changed");
                self.close_sender(Fate::Refused);
            }
            SenderEnd::Stopped(StopReason::StateFailed | StopReason::RootGone) => {
                self.end_sender_by_itself("its state or root failed");
            }
            SenderEnd::PeerStopped(stop) if stop.retry == Retry::Later => {
                self.end_sender_by_itself("the receiver stopped")
            }
            _ => return Err(self.stuck(&format!("the sender ends: {end:?}"))),
        }
        Ok(())
    }

    fn acknowledged(&mut self) -> Result<(), Violation> {
        let (receiver, sender) = (&self.receiver_setting, &self.sender_setting.disk);
        self.oracle.check_acknowledged(&receiver.disk, &receiver.home, sender).map_err(Violation::Wrong)?;
        self.coverage.mark("receipt acknowledged");
        self.close_sender(Fate::Closed);
        Ok(())
    }

    /// A sender that holds its receipt and had not closed its record has nothing more to do.
    pub(super) fn answer_from_receipt(&mut self) -> Result<(), Violation> {
        self.coverage.mark("sender ended between its receipt and its record");
        self.acknowledged()
    }

    fn close_sender(&mut self, fate: Fate) {
        self.sending = None;
        if World::close_record(&self.sender_setting.disk) {
            self.sender_fate = fate;
        }
        // The links stay until the receiver has read what was said last.
        self.links.iter_mut().for_each(|link| link.is_lost = true);
        self.tidy_links();
    }

    /// Both sides have ended: what was promised must outlast any power cut.
    pub(super) fn conclude(&mut self) -> Result<(), Violation> {
        let disk = &self.receiver_setting.disk;
        self.oracle.check_promise(disk, View::Durable).map_err(Violation::Wrong)?;
        let fork = disk.fork();
        fork.stop(crate::sim_disk::Stop::PowerCut);
        fork.reboot_with(self.plan.seed);
        self.oracle.check_promise(&fork, View::Cached).map_err(Violation::Wrong)?;
        self.oracle.check_names(&fork, View::Cached).map_err(Violation::Wrong)?;
        let counts = disk.counts();
        let has_faults =
            counts.failed_at > 0 || crate::sim_disk::SimFault::ALL.into_iter().any(|fault| counts.struck(fault) > 0);
        let is_left = !has_faults && disk.look(b"target/.landfall", View::Cached).is_some();
        match is_left && self.receiver_fate == Fate::Closed && self.sender_fate == Fate::Closed {
            true => {
                let left: Vec<String> = disk
                    .tree(View::Cached)
                    .keys()
                    .map(|path| String::from_utf8_lossy(path).into_owned())
                    .filter(|path| path.starts_with("target/.landfall"))
                    .collect();
                Err(Violation::Stuck(format!("`.landfall` is left in the target: {left:?}")))
            }
            false => Ok(()),
        }
    }
}
