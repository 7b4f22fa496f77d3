//! How soon a killed transfer moves new bytes again: killed at half, started again, and timed from the start of the
//! processes to the first chunk that was not there before.

use std::path::Path;
use std::time::{Duration, Instant};

use fault_inject::rig::kill::Victim;
use fault_inject::rig::process::Running;
use fault_inject::rig::tree::{Content, Tree};
use rustix::process::Signal;

use crate::cli::{Common, Failure, Say};
use crate::measure::spread;
use crate::oracle;
use crate::pair::{self, Pair};
use crate::plot::{Chart, Shape};
use crate::program::Ended;
use crate::table::{Table, figure, figure_or_dash};

/// Pause between two looks at what the receiver has written.
const LOOK_PAUSE: Duration = Duration::from_millis(1);
/// A receiver that writes nothing for so long has nothing left to write.
const DRAIN_PAUSE: Duration = Duration::from_millis(500);
const MIB: u64 = 1 << 20;

/// Times the restart of a transfer that was killed at half.
#[derive(Debug, clap::Args)]
pub struct Resume {
    #[command(flatten)]
    common: Common,
    /// Size of the source: sparse, with data in one MiB of each `--stride`.
    #[arg(long, default_value_t = 8)]
    gib: u64,
    /// MiB of the source for each MiB of data.
    #[arg(long, default_value_t = 8)]
    stride: u64,
    /// Runs for each victim.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Seconds after which a run has failed.
    #[arg(long, default_value_t = 600)]
    timeout: u64,
}

/// What one restart took.
#[derive(Clone, Copy, Debug, Default)]
struct Restart {
    /// Seconds to the first new chunk.
    first_seconds: f64,
    /// Seconds to the end.
    end_seconds: f64,
    /// Bytes that were held at the kill.
    held_bytes: f64,
}

const VICTIMS: [(Victim, &str); 3] =
    [(Victim::Receiver, "receiver"), (Victim::Sender, "sender"), (Victim::Both, "both")];

impl Resume {
    /// Options that all commands share.
    pub fn common(&self) -> &Common {
        &self.common
    }

    /// Kills each victim in turn.
    pub fn run(&self, work: &Path, say: Say<'_>) -> Result<Chart, Failure> {
        let mut tree = Tree::new(&work.join("source"), self.common.seed);
        let size_bytes = self.gib << 30;
        let stride = self.stride.max(1);
        let data: Vec<(u64, u64)> = (0..size_bytes / MIB / stride).map(|piece| (piece * stride * MIB, MIB)).collect();
        let data_bytes = data.len() as u64 * MIB;
        tree.file("sparse", &Content::Sparse { size_bytes, data });
        let source = tree.finish();
        say(&format!(
            "\n## killed at half: one file of {} GiB with {} MiB of data, {} runs\n",
            self.gib,
            data_bytes / MIB,
            self.runs
        ));
        let mut table =
            Table::new(&["killed", "first new chunk s", "min-max", "to the end s", "written at the kill MiB"]);
        let mut values = Vec::new();
        for (victim, name) in VICTIMS {
            let mut restarts = Vec::new();
            for _ in 0..self.runs {
                restarts.extend(self.once(victim, &source, data_bytes, work)?);
            }
            let of = |figure: fn(&Restart) -> f64| spread(restarts.iter().map(figure));
            let first = of(|restart| restart.first_seconds);
            table.row([
                name.to_owned(),
                figure_or_dash(first.map(|first| first.median)),
                first.map_or_else(String::new, |first| format!("{}-{}", figure(first.least), figure(first.greatest))),
                figure_or_dash(of(|restart| restart.end_seconds).map(|end| end.median)),
                figure_or_dash(of(|restart| restart.held_bytes / MIB as f64).map(|held| held.median)),
            ]);
            values.push(first.map(|first| first.median));
        }
        say(&table.markdown());
        Ok(Chart {
            title: "From the restart to the first new chunk".to_owned(),
            unit: "s".to_owned(),
            shape: Shape::Bars,
            groups: VICTIMS.iter().map(|(_, name)| (*name).to_owned()).collect(),
            series: vec![("landfall".to_owned(), values)],
        })
    }

    /// `None` if the transfer was over before half of it could be seen.
    fn once(&self, victim: Victim, source: &Path, data_bytes: u64, work: &Path) -> Result<Option<Restart>, Failure> {
        let scratch = tempfile::Builder::new().prefix("run-").tempdir_in(work).map_err(Failure::broken)?;
        let pair = Pair::new(&scratch.path().join("state"), source, &scratch.path().join("target"));
        let (mut sender, mut receiver) = pair.start().map_err(Failure::Broken)?;
        if !self.await_written(data_bytes / 2, &mut receiver)? {
            return Ok(None);
        }
        let sender_dies = victim != Victim::Receiver;
        let receiver_dies = victim != Victim::Sender;
        if sender_dies {
            sender.signal(Signal::KILL);
        }
        // A receiver that lives still writes what it holds in memory: that is not new.
        let held_bytes = if receiver_dies { written_bytes(&receiver) } else { drained_bytes(&receiver) };
        if receiver_dies {
            receiver.signal(Signal::KILL);
        }
        let started = Instant::now();
        if receiver_dies {
            receiver = pair.receiver().start();
        }
        if sender_dies {
            sender = pair.sender().start();
        }
        let before = if receiver_dies { 0 } else { held_bytes };
        if !self.await_written(before + MIB, &mut receiver)? {
            return Ok(None);
        }
        let first_seconds = started.elapsed().as_secs_f64();
        match pair::wait((sender, receiver), Duration::from_secs(self.timeout)).map_err(Failure::Broken)? {
            Ended::Cut => return Err(Failure::Broken("the restarted transfer did not end".to_owned())),
            Ended::Well => {}
        }
        let end_seconds = started.elapsed().as_secs_f64();
        match oracle::wrong(&oracle::look(source), &pair.target).first() {
            None => Ok(Some(Restart { first_seconds, end_seconds, held_bytes: held_bytes as f64 })),
            Some(path) => Err(Failure::Wrong(format!("`{path}` differs after the restart"))),
        }
    }

    /// Waits until a receiver has written so many bytes; `false` if it ends before.
    fn await_written(&self, bytes: u64, receiver: &mut Running) -> Result<bool, Failure> {
        let deadline = Instant::now() + Duration::from_secs(self.timeout);
        while written_bytes(receiver) < bytes {
            if receiver.has_ended() {
                return Ok(false);
            }
            if Instant::now() > deadline {
                return Err(Failure::Broken(format!("no progress: {}", receiver.stderr().trim())));
            }
            std::thread::sleep(LOOK_PAUSE);
        }
        Ok(true)
    }
}

/// What a process has written to files: almost nothing but chunks, in a receiver.
fn written_bytes(receiver: &Running) -> u64 {
    receiver.io().map_or(0, |io| io.written_bytes)
}

/// The same when it has stopped growing.
fn drained_bytes(receiver: &Running) -> u64 {
    let mut last = written_bytes(receiver);
    loop {
        std::thread::sleep(DRAIN_PAUSE);
        let now = written_bytes(receiver);
        if now < last + MIB {
            return now;
        }
        last = now;
    }
}
