//! `disk`: mounts the lying disk for any program, or runs real transfers on it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::Common;
use crate::fuse_disk::control::{self, Control, Next};
use crate::fuse_disk::{Cache, Fault, FuseDisk, cases, mount, transfers};
use crate::several;
use crate::verdict::{How, Report};

/// Pause between two looks at the socket and at the mount.
const LOOK: Duration = Duration::from_millis(20);

/// Transfers of `--run` at the same time.
const WORKERS: usize = 3;

/// A file system that lies (FUSE), over the directory BACKING; or with --run, real transfers on it.
///
/// A fault is KIND[:key=value,...]. Kinds: write-corrupt, write-lost, write-misdirect, write-short, write-fail,
/// write-full, read-corrupt, read-fail, rot, sync-fail, sync-lie, sync-slow, dir-sync-fail, dir-sync-lie, rename-fail,
/// rename-slow, create-fail, read-only, power-cut. Keys: rate=0.01, nth=N, every=N, times=N, again=N (in the same
/// place), path=PART, size=bit|512|4KiB|64KiB|mixed, errno=EIO|ENOSPC|..., delay=2s, bytes=N. Ends on ^C, on `quit`, or
/// when it is unmounted.
#[derive(Debug, clap::Args)]
pub(super) struct Disk {
    /// Where to mount.
    #[arg(required_unless_present = "run")]
    mount: Option<PathBuf>,
    /// The platter: what a check of the truth has to read. Outside MOUNT.
    #[arg(required_unless_present = "run")]
    backing: Option<PathBuf>,
    /// A fault; as often as you like.
    #[arg(long, value_name = "FAULT")]
    fault: Vec<Fault>,
    /// A Unix socket to be made for commands: set FAULT, clear [KIND], cut, boot, sync, counts, quit.
    #[arg(long, value_name = "FILE")]
    control: Option<PathBuf>,
    /// Every read asks the disk: nothing is served from the page cache.
    #[arg(long)]
    no_cache: bool,
    /// Real transfers instead, for each case or those whose name begins so, or with this kind of fault.
    #[arg(long, value_name = "CASE", num_args = 0..=1, default_missing_value = "", conflicts_with_all = ["mount", "fault"])]
    run: Option<String>,
    #[command(flatten)]
    common: Common,
}

impl Disk {
    /// Mounts and serves, or runs transfers.
    pub(super) fn run(&self) -> ExitCode {
        let seed = self.common.seed();
        if let Some(word) = &self.run {
            return self.transfers(word, seed);
        }
        let faults = self.fault.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        self.common.begin(seed, &format!("faults={faults}"));
        if let Some(needs) = mount::missing() {
            let report = Report::skipped("disk", How::Fuse, &needs);
            self.common.show(&report);
            return self.common.end(&[report]);
        }
        match self.serve(seed) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("the disk cannot go on: {error}");
                ExitCode::from(4)
            }
        }
    }

    fn serve(&self, seed: u64) -> std::io::Result<()> {
        let (Some(at), Some(backing)) = (&self.mount, &self.backing) else { return Ok(()) };
        let is_asked_to_end = signals()?;
        let cache = if self.no_cache { Cache::Never } else { Cache::Kept };
        let mut disk = FuseDisk::mount(at, backing, seed, self.fault.clone(), cache)?;
        let control = self.control.as_deref().map(Control::listen).transpose()?;
        self.say("mounted", &at.display().to_string());
        let mut shown = String::new();
        while !is_asked_to_end.load(Ordering::Relaxed) && !disk.has_ended() {
            if let Some(control) = &control
                && control.serve(&mut disk)? == Next::Quit
            {
                break;
            }
            let counts = control::counts(&disk);
            if counts != shown {
                self.say("injected", &counts);
                shown = counts;
            }
            std::thread::sleep(LOOK);
        }
        let counts = control::counts(&disk);
        disk.unmount()?;
        self.say("unmounted", &counts);
        Ok(())
    }

    fn say(&self, event: &str, text: &str) {
        if self.common.json {
            println!("{}", serde_json::json!({ "event": event, "text": text }));
        } else {
            println!("{event} {text}");
        }
    }

    fn transfers(&self, word: &str, seed: u64) -> ExitCode {
        let asked = cases::named(word);
        self.common.begin(seed, &format!("cases={}", asked.len()));
        if asked.is_empty() {
            eprintln!("no case and no fault is called `{word}`");
            return ExitCode::from(4);
        }
        let mut reports = vec![];
        several::in_order(
            &asked,
            WORKERS,
            |case| transfers::run(case, seed),
            |report| {
                self.common.show(&report);
                if !self.common.json {
                    report.log.iter().for_each(|line| println!("    {line}"));
                }
                reports.push(report);
            },
        );
        self.common.end(&reports)
    }
}

/// Becomes true at ^C and at the polite signals to end.
fn signals() -> std::io::Result<Arc<AtomicBool>> {
    use tokio::signal::unix::{SignalKind, signal};
    let flag = Arc::new(AtomicBool::new(false));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        let (mut coming, flag) = (
            {
                let _inside = runtime.enter();
                signal(kind)?
            },
            Arc::clone(&flag),
        );
        runtime.spawn(async move {
            coming.recv().await;
            flag.store(true, Ordering::Relaxed);
        });
    }
    std::thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
    Ok(flag)
}
