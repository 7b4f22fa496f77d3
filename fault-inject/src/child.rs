//! The harness child: the product's whole command line on a [`FaultyDisk`] in a process of its own, with real files and
//! real QUIC. Each fault is a line of a log before it has an effect on anything else, so that it counts even if it
//! kills.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use landfall::disk::RealDisk;

use crate::faulty_disk::FaultyDisk;
use crate::plan::{Injected, Plan, Rule};

/// What the child does.
#[derive(Clone, Debug)]
pub struct Child {
    /// Faults of its disk.
    pub rules: Vec<Rule>,
    /// Where their randomness comes from.
    pub seed: u64,
    /// Where each of them is written down.
    pub log: PathBuf,
}

impl Child {
    /// Runs a command line of landfall, its name first. Gives its exit code.
    pub fn run(&self, arguments: impl Iterator<Item = OsString>) -> io::Result<u8> {
        let log = Mutex::new(File::options().create(true).append(true).open(&self.log)?);
        let witness = move |injected: &Injected| {
            let line = format!("{}\n", line(injected));
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            log.write_all(line.as_bytes()).expect("what is not written down was not injected");
        };
        let plan = Plan::new(self.seed, self.rules.clone()).with_witness(witness).with_kill_switch(die);
        let disk = FaultyDisk::new(RealDisk::new(), Arc::new(plan));
        Ok(landfall::cli::run_on(&disk, arguments))
    }

    /// The words that start this child, before the command line of landfall.
    pub fn command(&self) -> io::Result<Vec<String>> {
        let own = std::env::current_exe()?;
        let own = if own.parent().is_some_and(|dir| dir.ends_with("deps")) {
            crate::rig::process::built("fault-inject")
        } else {
            own
        };
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let mut words = vec![text(&own), "child".to_owned(), "--seed".to_owned(), format!("{:#x}", self.seed)];
        words.extend(["--log".to_owned(), text(&self.log)]);
        for rule in &self.rules {
            words.extend(["--rule".to_owned(), rule.to_string()]);
        }
        words.push("--".to_owned());
        Ok(words)
    }

    /// The faults of all runs with this log so far: rule, operation, path and effect, a line each.
    pub fn injected(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

fn line(injected: &Injected) -> String {
    let Injected { rule, effect, operation, path } = injected;
    format!("rule {rule}: {} of `{}`: {effect}", operation.word(), path.escape_ascii())
}

/// Ends this process as a power cut would: at once, with nothing run any more.
fn die() {
    let own = rustix::process::getpid();
    if rustix::process::kill_process(own, rustix::process::Signal::KILL).is_err() {
        std::process::abort();
    }
    loop {
        std::thread::park();
    }
}
