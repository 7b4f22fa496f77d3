//! `strace` below one side: what it is told, and what its own logs say afterwards. There is one log for each thread, and
//! `strace` counts calls in the same way: the N-th call is the N-th of one thread, and of every thread that gets so far.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::points::{Fault, Point};
use crate::rig::facility;

/// What `strace` itself counts among the calls about files, descriptors and sockets.
const TRACED: &str = "%file,%desc,%network";
/// Of these, what moves no byte and changes no name: starting the program, memory, and waiting.
pub(crate) const LEFT_OUT: [&str; 9] =
    ["execve", "mmap", "poll", "ppoll", "epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait", "eventfd2"];
/// How `strace` marks a call whose result it made up.
const INJECTED: &str = "(INJECTED)";
/// How a descriptor of the kernel's own, and its making, is shown. No device below it can fail, and nothing is lost in it.
const KERNELS_OWN: [&str; 2] = ["<anon_inode:", "socketpair("];

/// What this machine or this user lacks, if anything.
pub fn missing() -> Option<String> {
    let why = facility::run("strace", &["-qq", "-o", "/dev/null", "true"]).err()?;
    let is_there = std::process::Command::new("strace").arg("-V").output().is_ok_and(|output| output.status.success());
    Some(if is_there { format!("ptrace, for `strace` ({})", why.trim()) } else { "`strace`".to_owned() })
}

/// The logs of one traced process.
pub struct Trace {
    dir: PathBuf,
}

/// Calls of one thread, in their order: each one's line of the log.
type Thread = Vec<String>;

impl Trace {
    /// They will lie in a directory that is made now.
    pub fn new(dir: PathBuf) -> std::io::Result<Trace> {
        std::fs::create_dir(&dir)?;
        Ok(Trace { dir })
    }

    fn below(&self, options: &[String]) -> Vec<String> {
        let log = self.dir.join("thread").display().to_string();
        let fixed = ["strace", "-ff", "-qq", "-y", "-o", &log].map(str::to_owned);
        fixed.into_iter().chain(options.iter().cloned()).collect()
    }

    /// What a process runs below whose calls are only counted.
    pub fn counting(&self) -> Vec<String> {
        self.below(&["-e".to_owned(), format!("trace={TRACED}")])
    }

    /// What a process runs below that is hurt. `lie` is what a lying call reports.
    pub fn hurting(&self, point: &Point, source_file: &Path, lie: i64) -> Vec<String> {
        let what = match point.fault {
            Fault::Kill => "signal=SIGKILL".to_owned(),
            Fault::Eio => "error=EIO".to_owned(),
            Fault::Enospc => "error=ENOSPC".to_owned(),
            Fault::Lie => format!("retval={lie}"),
        };
        let (call, nth, later) = (&point.call, point.nth, if point.is_lasting { "+" } else { "" });
        let mut options = vec!["-e".to_owned(), format!("trace={call}")];
        options.extend(["-e".to_owned(), format!("inject={call}:{what}:when={nth}{later}")]);
        if point.on_source {
            options.extend(["-P".to_owned(), source_file.display().to_string()]);
        }
        self.below(&options)
    }

    /// What each thread's log says.
    pub(crate) fn threads(&self) -> Vec<Thread> {
        let logs = std::fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let lines = |text: String| text.lines().map(str::to_owned).collect();
        // Names in a log may be any bytes that a path may have.
        logs.filter_map(|log| std::fs::read(log.path()).ok())
            .map(|bytes| lines(String::from_utf8_lossy(&bytes).into_owned()))
            .collect()
    }

    /// The calls of each kind. `within` keeps those whose line speaks of this path.
    pub fn calls(&self, within: Option<&Path>) -> Calls {
        let shown = within.map(|path| format!("<{}>", path.display()));
        let mut kinds: BTreeMap<String, Kind> = BTreeMap::new();
        for thread in self.threads() {
            let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
            let is_meant = |line: &&String| shown.as_ref().is_none_or(|path| line.contains(path));
            for line in thread.iter().filter(is_meant) {
                let Some(name) = name_of(line).filter(|name| !LEFT_OUT.contains(name)) else { continue };
                let nth = counts.entry(name).or_default();
                let kind = kinds.entry(name.to_owned()).or_default();
                kind.calls += 1;
                if kind.results.len() == *nth {
                    kind.results.push(i64::MAX);
                }
                let result = line.rsplit(" = ").next().and_then(|result| result.trim().parse().ok()).unwrap_or(0);
                kind.results[*nth] = kind.results[*nth].min(result);
                *nth += 1;
            }
        }
        kinds
    }

    /// What really happened at a point.
    pub fn hits(&self, point: &Point) -> Hits {
        let mut hits = Hits::default();
        for thread in self.threads() {
            let own: Vec<&String> = thread.iter().filter(|line| name_of(line) == Some(point.call.as_str())).collect();
            let injected = own.iter().filter(|line| line.ends_with(INJECTED));
            hits.lines.extend(injected.map(|line| (*line).clone()));
            let is_killed = thread.last().is_some_and(|line| line.starts_with("+++ killed by SIGKILL"));
            let is_due = own.len() == point.nth as usize && own.last().is_some_and(|line| line.ends_with("= ?"));
            if point.fault == Fault::Kill && is_killed && is_due {
                hits.lines.push(own[own.len() - 1].clone());
            }
        }
        hits
    }
}

/// The kinds of calls of one side, by name.
pub type Calls = BTreeMap<String, Kind>;

/// Calls of one kind.
#[derive(Clone, Debug, Default)]
pub struct Kind {
    /// All of them.
    pub calls: u64,
    /// The result of each thread's N-th; the smallest of all threads that got so far.
    pub results: Vec<i64>,
}

/// Calls that were hit, as the log shows them.
#[derive(Clone, Debug, Default)]
pub struct Hits {
    /// Their lines.
    pub lines: Vec<String>,
}

impl Hits {
    /// Whether nothing was hit but descriptors of the kernel's own, by what they never do. A kill is one everywhere.
    pub fn is_void(&self, fault: Fault) -> bool {
        fault != Fault::Kill && self.lines.iter().all(|line| KERNELS_OWN.iter().any(|own| line.contains(own)))
    }

    /// Whether the file for the user's own eyes was hit: nobody reads it back but the other side, who refuses it.
    pub fn is_on_ticket(&self) -> bool {
        self.on("ticket.new>") > 0
    }

    /// Whether a call was told of more bytes than it had given: no kernel says that.
    pub fn is_impossible(&self) -> bool {
        self.lines.iter().any(|line| {
            let asked = line.rsplit_once(" = ").and_then(|(call, result)| {
                let numbers: Vec<i64> =
                    call.trim_end().trim_end_matches(')').rsplit(", ").map_while(|word| word.parse().ok()).collect();
                let told: i64 = result.split(' ').next()?.parse().ok()?;
                Some(name_of(line) == Some("pwrite64") && numbers.get(1).is_some_and(|len| told > *len))
            });
            asked == Some(true)
        })
    }

    /// How many of them were on a path that holds this.
    pub fn on(&self, part: &str) -> u64 {
        self.lines.iter().filter(|line| line.contains(part)).count() as u64
    }
}

/// The name of the call on a line; none on lines about signals and ends.
pub(crate) fn name_of(line: &str) -> Option<&str> {
    let (name, _) = line.split_once('(')?;
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    is_name.then_some(name)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn trace(threads: &[&str]) -> (tempfile::TempDir, Trace) {
        let dir = tempfile::tempdir().unwrap();
        let trace = Trace::new(dir.path().join("trace")).unwrap();
        for (number, text) in threads.iter().enumerate() {
            std::fs::write(dir.path().join(format!("trace/thread.{number}")), text).unwrap();
        }
        (dir, trace)
    }

    fn point(fault: Fault, call: &str, nth: u32) -> Point {
        let (call, side) = (call.to_owned(), crate::rig::transfer::Side::Receiver);
        Point { side, call, fault, nth, on_source: false, is_lasting: false }
    }

    #[test]
    fn calls_are_counted_by_thread_and_by_path() {
        let first = "pwrite64(4</a>, \"x\"..., 9, 0) = 9\npwrite64(4</b>, \"x\"..., 8, 0) = 8\nmmap(0) = 0\n";
        let (_dir, trace) = trace(&[first, "pwrite64(4</b>, \"y\"..., 7, 0) = 7\n+++ exited with 0 +++\n"]);
        let calls = trace.calls(None);
        assert_eq!(calls.keys().collect::<Vec<_>>(), ["pwrite64"]);
        assert_eq!((calls["pwrite64"].calls, calls["pwrite64"].results.as_slice()), (3, [7, 8].as_slice()));
        assert_eq!(trace.calls(Some(Path::new("/b")))["pwrite64"].results, [7]);
    }

    #[test]
    fn only_what_the_log_shows_was_injected() {
        let killed = "fsync(3</a>) = 0\nfsync(3</a>) = ?\n+++ killed by SIGKILL +++\n";
        let (_dir, trace) = trace(&[killed, "fsync(5</b>) = ?\n+++ killed by SIGKILL +++\n"]);
        assert_eq!(trace.hits(&point(Fault::Kill, "fsync", 2)).lines, ["fsync(3</a>) = ?"]);
        assert!(trace.hits(&point(Fault::Kill, "fsync", 3)).lines.is_empty());
        assert!(trace.hits(&point(Fault::Eio, "fsync", 2)).lines.is_empty());
    }

    #[test]
    fn what_no_kernel_does_is_known() {
        let hits = |line: &str| Hits { lines: vec![line.to_owned()] };
        assert!(
            hits("write(11<anon_inode:[eventfd]>, \"\\1\", 8) = -1 EIO (Input/output error) (INJECTED)")
                .is_void(Fault::Eio)
        );
        assert!(!hits("write(11<anon_inode:[eventfd]>, \"\\1\", 8) = ?").is_void(Fault::Kill));
        assert!(hits("pwrite64(4</a>, \"(, 1\"..., 96, 4096) = 100 (INJECTED)").is_impossible());
        assert!(!hits("pwrite64(4</a>, \"x\"..., 1048576, 0) = 1048576 (INJECTED)").is_impossible());
    }
}
