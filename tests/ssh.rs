//! `--to host:PATH` and `--from host:PATH` against a real sshd on loopback: straight, through a jump host, with UDP blocked,
//! with either end and ssh itself killed, and with everything that can stand in the way at the far end.
#![allow(clippy::unwrap_used)]

use fault_inject::rig as common;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::process::{Finished, Landfall, PATIENT, Running};
use common::scratch::Scratch;
use common::sshd::{Installed, Sshd};
use common::tree::{Content, Tree};
use common::{facility, oracle, state, trees};
use rustix::process::{Pid, Signal, kill_process};

/// Within this the first obstacle is named.
const SOON: Duration = Duration::from_secs(5);
/// What the machine may add to that while it is busy.
const SLACK: Duration = Duration::from_secs(5);

struct Ground {
    scratch: Scratch,
    sshd: Sshd,
    source: PathBuf,
}

impl Ground {
    fn new(test: &str) -> Option<Ground> {
        let scratch = Scratch::new(test);
        let sshd = Sshd::start(test, &scratch.dir("ssh"))?;
        let source = trees::medley(&scratch.join("source"), 1);
        Some(Ground { scratch, sshd, source })
    }

    fn home(&self) -> PathBuf {
        let home = self.scratch.join("home");
        std::fs::create_dir_all(&home).unwrap();
        home
    }

    fn target(&self) -> PathBuf {
        self.scratch.join("target")
    }

    fn send(&self, host: &str, target: &Path, far: &Path) -> Landfall {
        let command = Landfall::new("sender", &self.home()).arg("send").arg(&self.source);
        let command = command.arg("--to").arg(format!("{host}:{}", target.display()));
        command.arg("--ssh").arg(self.sshd.ssh()).arg("--remote-landfall").arg(far).args(["--json", "--yes"])
    }

    fn assert_arrived(&self, target: &Path) {
        let arrived = target.join(self.source.file_name().unwrap());
        oracle::assert_matches(&oracle::snapshot(&self.source), &arrived, &oracle::Rules::default());
        state::assert_no_work_left(target);
    }
}

fn plain(sshd: &Sshd) -> Installed {
    sshd.installation("landfall", "exec \"$@\"")
}

/// A tree that takes a while at 8 MB a second.
fn slow(ground: &mut Ground) {
    let mut tree = Tree::new(&ground.scratch.join("slow"), 1);
    for part in 0..4 {
        tree.file(format!("part-{part}"), &Content::Random(8 << 20));
    }
    ground.source = tree.finish();
}

fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal).unwrap();
}

/// Processes that a thread of this one has started.
fn children_of(parent: u32) -> Vec<u32> {
    let mut found = vec![];
    for thread in state::entries(Path::new(&format!("/proc/{parent}/task"))) {
        let children = std::fs::read_to_string(thread.join("children")).unwrap_or_default();
        found.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
    }
    // One that only asks for the address is not meant.
    let asks = |pid: &u32| {
        std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|words| words.windows(4).any(|word| word == b"\0-G\0"))
    };
    found.retain(|pid| !asks(pid));
    found
}

fn assert_soon(finished: &Finished, started: Instant) {
    assert!(started.elapsed() < SOON + SLACK, "it took {:?}\n{}", started.elapsed(), finished.describe());
}

#[test]
fn one_command_moves_a_tree_there_and_another_one_back() {
    let Some(ground) = Ground::new("ssh-both-ways") else { return };
    let far = plain(&ground.sshd);
    for host in ["web1", "far"] {
        let target = ground.scratch.join(host);
        let done = ground.send(host, &target, &far.program).run();
        done.assert_code(0);
        ground.assert_arrived(&target);
        let back = ground.scratch.join(&format!("back-from-{host}"));
        let source = format!("{host}:{}", target.join(ground.source.file_name().unwrap()).display());
        let fetched = Landfall::new("receiver", &ground.home()).arg("recv").arg(&back).arg("--from").arg(source);
        let fetched = fetched.arg("--ssh").arg(ground.sshd.ssh()).arg("--remote-landfall").arg(&far.program);
        fetched.args(["--json", "--yes"]).run().assert_code(0);
        ground.assert_arrived(&back);
    }
    // The contents of a directory, from where the login's shell says good morning.
    let chatty = ground.sshd.installation("chatty", "echo good morning; exec \"$@\"");
    let back = ground.scratch.join("contents");
    let source = format!("web1:{}/.", ground.source.display());
    let fetched = Landfall::new("receiver", &ground.home()).arg("recv").arg(&back).arg("--from").arg(source);
    let fetched = fetched.arg("--ssh").arg(ground.sshd.ssh()).arg("--remote-landfall").arg(&chatty.program);
    fetched.args(["--json", "--yes"]).run().assert_code(0);
    let rules = oracle::Rules { root: oracle::Root::Ignored, ..oracle::Rules::default() };
    oracle::assert_matches(&oracle::snapshot(&ground.source), &back, &rules);
    assert_eq!(state::receipts(&far.home).len(), 4, "a receipt of each transfer lies at the far end");
    assert_eq!(state::receipts(&ground.home()).len(), 5, "and here");
    assert_eq!(far.alive(), Vec::<u32>::new(), "nobody is left there");
}

#[test]
fn whoever_is_killed_the_same_command_goes_on_and_nobody_is_left_at_the_far_end() {
    let Some(mut ground) = Ground::new("ssh-kills") else { return };
    slow(&mut ground);
    let far = plain(&ground.sshd);
    let target = ground.target();
    let command = ground.send("web1", &target, &far.program).args(["--limit", "4MB"]);
    let is_staged = || {
        state::entries(&target.join(".landfall")).iter().any(|work| !state::entries(&work.join("staging")).is_empty())
    };
    // The sender itself: ssh goes with it, and the far end with ssh.
    let mut running = command.start();
    assert!(running.wait_until("staged bytes", PATIENT, |_| is_staged()), "{}", running.describe("ended"));
    assert!(running.kill().was_killed());
    let died = Instant::now();
    while !far.alive().is_empty() {
        assert!(died.elapsed() < Duration::from_secs(10), "an orphan is left: {:?}", far.alive());
        std::thread::sleep(Duration::from_millis(20));
    }
    // ssh, and then the far end: both are started again by themselves.
    let mut running = command.start();
    let own = running.id();
    let links = |count: usize| move |running: &Running| running.stdout().matches("\"connected\"").count() >= count;
    assert!(running.wait_until("a link", PATIENT, links(1)), "{}", running.describe("ended"));
    let ssh = children_of(own);
    assert_eq!(ssh.len(), 1, "ssh is its only child");
    signal(ssh[0], Signal::KILL);
    assert!(running.wait_until("a second link", PATIENT, links(2)), "{}", running.describe("ended"));
    signal(*far.pids().last().unwrap(), Signal::KILL);
    let done = running.wait(PATIENT);
    done.assert_code(0);
    assert!(far.pids().len() >= 4, "it was started four times: {:?}", far.pids());
    ground.assert_arrived(&target);
    assert_eq!(far.alive(), Vec::<u32>::new());
}

#[test]
fn what_stands_in_the_way_at_the_far_end_is_named_within_seconds() {
    let Some(ground) = Ground::new("ssh-refusals") else { return };
    let far = plain(&ground.sshd);
    let target = ground.target();
    let check = |host: &str, target: &Path, program: &Path, code: i32, words: &[&str]| {
        let started = Instant::now();
        let done = ground.send(host, target, program).run();
        assert_soon(&done, started);
        done.assert_code(code);
        for word in words {
            assert!(done.stderr_text().contains(word), "`{word}` is not said\n{}", done.describe());
        }
    };
    check("web1", &target, Path::new("/nowhere/landfall"), 1, &["no landfall on `web1`", "--remote-landfall PATH"]);
    check("gone", &target, &far.program, 3, &["`gone` could not be reached", "ssh HOST true"]);
    let file = ground.scratch.join("file");
    std::fs::write(&file, "in the way").unwrap();
    check("web1", &file.join("below"), &far.program, 1, &["on `web1` ended with exit code 1", "file"]);
    let old = ground.sshd.installation("old", "echo 'ready {}'; sleep 5");
    check("web1", &target, &old.program, 1, &["did not say that it is ready"]);
    assert!(!target.exists());
}

#[test]
fn where_udp_is_blocked_it_is_said_and_ssh_carries_the_datagrams() {
    let Some(mut ground) = Ground::new("ssh-no-udp") else { return };
    slow(&mut ground);
    // A network of its own, in which the machine reaches itself and nothing else.
    if let Err(why) = facility::run("unshare", &["-rn", "ip", "link", "set", "lo", "up"]) {
        return facility::skipped("where_udp_is_blocked", &format!("a network namespace ({why})"));
    }
    let far = ground.sshd.installation("apart", "exec unshare -rn sh -c 'ip link set lo up; exec \"$@\"' sh \"$@\"");
    let target = ground.target();
    let command = ground.send("web1", &target, &far.program);
    let started = Instant::now();
    let mut running = command.clone().args(["--patience", "60s"]).start();
    let is_said = running.wait_until("the notice", PATIENT, |running| running.stdout().contains("\"no-udp\""));
    assert!(is_said, "{}", running.describe("ended"));
    assert!(started.elapsed() < SOON + SLACK, "said after {:?}", started.elapsed());
    let told = running.kill();
    assert!(told.text().contains("--relay-over-ssh") && told.text().contains("web1"), "{}", told.describe());
    let done = command.arg("--relay-over-ssh").run();
    done.assert_code(0);
    ground.assert_arrived(&target);
    assert_eq!(done.events().iter().filter(|event| event["event"] == "transfer").count(), 1);
    let transfer = done.events().into_iter().find(|event| event["event"] == "transfer").unwrap();
    assert_eq!(transfer["start"], "resumed", "it is the transfer that could not begin");
}

#[test]
fn a_plan_and_streams_go_the_same_way() {
    let Some(ground) = Ground::new("ssh-plan-and-streams") else { return };
    let far = plain(&ground.sshd);
    let target = ground.target();
    let last = |done: &Finished| done.events().into_iter().last().unwrap();
    let planned = ground.send("web1", &target, &far.program).arg("--plan").run();
    planned.assert_code(0);
    assert!(!target.exists(), "a plan writes nothing");
    assert_eq!(state::receipts(&far.home), Vec::<PathBuf>::new(), "nor does it at the far end");
    let new = last(&planned)["send_files"].as_u64().unwrap();
    assert!(new > 0, "{}", planned.describe());
    ground.send("web1", &target, &far.program).run().assert_code(0);
    let planned = ground.send("web1", &target, &far.program).arg("-n").run();
    assert_eq!(last(&planned)["send_files"], 0, "{}", planned.describe());
    assert_eq!(last(&planned)["present_files"], new, "{}", planned.describe());

    let dump: Vec<u8> = (0..3_000_001_u32).map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()[2]).collect();
    let through = |words: &[&str]| {
        let command = Landfall::new("stream", &ground.home()).args(words).arg("--ssh").arg(ground.sshd.ssh());
        command.arg("--remote-landfall").arg(&far.program).args(["--yes", "-q"])
    };
    let place = format!("web1:{}", target.display());
    through(&["send", "-", "--name", "dump.sql", "--to", &place]).input(dump.clone()).run().assert_code(0);
    assert_eq!(std::fs::read(target.join("dump.sql")).unwrap(), dump);
    let back = through(&["recv", "--stdout", "--from", &format!("{place}/dump.sql")]).run();
    back.assert_code(0);
    assert!(back.stdout == dump, "{} bytes came back\n{}", back.stdout.len(), back.stderr_text());
    assert_eq!(far.alive(), Vec::<u32>::new(), "nobody is left there");
}
