//! `syscalls`: the shipped program killed, refused and lied to at its system calls.

use std::process::ExitCode;

use clap::ValueEnum;

use super::Common;
use crate::rig::transfer::Side;
use crate::syscalls::{Fault, Filter, Options, run};

/// The shipped program under `strace -e inject`: SIGKILL, EIO, ENOSPC, or a success that did nothing, at the N-th system
/// call of each kind that concerns files or sockets, on both sides; then the same commands again without `strace` until
/// both are done. `strace` counts by thread: the N-th call is the N-th of any one thread. Errors on descriptors of the
/// kernel's own and lies that no kernel tells do not count.
#[derive(Debug, clap::Args)]
pub(super) struct Syscalls {
    #[command(flatten)]
    common: Common,
    /// Trials, evenly over all kinds of calls, faults and numbers.
    #[arg(long, default_value_t = 200)]
    runs: usize,
    /// Every number of every kind with every fault on both sides.
    #[arg(long, conflicts_with = "runs")]
    long: bool,
    /// Only this side.
    #[arg(long, value_enum)]
    side: Option<Struck>,
    /// Only this kind of call, by its name in `strace`; may be given several times.
    #[arg(long, value_name = "NAME")]
    call: Vec<String>,
    /// Only this fault.
    #[arg(long, value_enum)]
    fault: Option<Fault>,
    /// Only the N-th call of a thread.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65535))]
    nth: Option<u32>,
    /// Only calls on the large file of the source.
    #[arg(long)]
    source: bool,
    /// All later calls of that thread as well.
    #[arg(long)]
    lasting: bool,
}

/// A side by its command.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Struck {
    Send,
    Recv,
}

impl Syscalls {
    /// Strikes and shows what came of it.
    pub(super) fn run(self) -> ExitCode {
        let seed = self.common.seed();
        let runs = (!self.long).then_some(self.runs);
        let words = runs.map_or("long".to_owned(), |runs| format!("runs={runs}"));
        self.common.begin(seed, &words);
        let side = self.side.map(|side| if matches!(side, Struck::Send) { Side::Sender } else { Side::Receiver });
        let filter = Filter {
            side,
            calls: self.call.clone(),
            fault: self.fault,
            nth: self.nth,
            on_source: self.source,
            is_lasting: self.lasting,
        };
        let is_text = !self.common.json;
        let tell = |line: &str| if is_text { println!("  {line}") } else { eprintln!("{line}") };
        let report = run("the N-th system call of each kind", &Options { seed, filter, runs }, &tell);
        self.common.show(&report);
        if is_text {
            let is_new = |line: &&String| !line.contains(" calls of ");
            report.log.iter().filter(is_new).for_each(|line| println!("    {line}"));
        }
        self.common.end(&[report])
    }
}
