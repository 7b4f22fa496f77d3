//! `send -` and `recv --stdout` between real processes: what goes in at one end of a pipe comes out at the other, or nothing
//! does and the exit code says so; also after a kill at any place, with a disk that is full, and with bytes that were changed
//! behind our back.
#![allow(clippy::unwrap_used)]

use fault_inject::rig as common;

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::facility::LoopImage;
use common::process::{Finished, Landfall, PATIENT, Running};
use common::scratch::Scratch;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::Signal;

const MIB: usize = 1 << 20;

/// Bytes of no pattern, of which no two MiB are the same.
fn bytes(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut out = Vec::with_capacity(length + 8);
    while out.len() < length {
        out.extend_from_slice(&next());
    }
    out.truncate(length);
    out
}

struct Ground {
    scratch: Scratch,
}

impl Ground {
    fn new(test: &str) -> Ground {
        Ground { scratch: Scratch::new(test) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    fn home(&self) -> PathBuf {
        self.path("home")
    }

    /// A command; `@` at the start of an argument stands for the scratch directory.
    fn command(&self, home: &str, words: &[&str]) -> Landfall {
        let scratch = format!("{}/", self.scratch.path().to_str().unwrap());
        let words = words
            .iter()
            .map(|word| word.strip_prefix('@').map_or((*word).to_owned(), |rest| format!("{scratch}{rest}")));
        Landfall::new(home, &self.path(home)).args(words)
    }

    fn run(&self, words: &[&str]) -> Finished {
        self.command("home", words).run()
    }

    fn send(&self, input: &[u8], more: &[&str]) -> Finished {
        self.command("home", &[&["send", "-", "--name", "db.sql", "--to", "@in"], more].concat()).input(input).run()
    }

    /// A pipe with a name, that the test holds open at both ends.
    fn pipe(&self, name: &str) -> (PathBuf, File) {
        let path = self.path(name);
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let held = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        (path, held)
    }

    /// Nothing of a stream lies in a home.
    fn assert_no_stream(&self, home: &str) {
        let left = files(&self.path(home).join("streams"));
        assert!(left.is_empty(), "{left:?}");
    }

    fn statuses(&self, home: &str) -> Vec<serde_json::Value> {
        self.command(home, &["status", "--json"]).run().events()
    }
}

/// All paths below a directory.
fn files(dir: &Path) -> Vec<PathBuf> {
    let listed: Vec<PathBuf> =
        std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    let below: Vec<PathBuf> =
        listed.iter().filter(|path| path.is_dir() && !path.is_symlink()).flat_map(|path| files(path)).collect();
    listed.into_iter().chain(below).collect()
}

/// The one file whose name this is, below a directory.
fn find(dir: &Path, name: &str) -> Option<PathBuf> {
    files(dir).into_iter().find(|path| path.file_name().is_some_and(|found| found == name))
}

/// The command with its standard input, or output, at a path.
fn at(command: Landfall, direction: &str, path: &Path) -> Landfall {
    command.below(&["sh", "-c", &format!("exec \"$0\" \"$@\" {direction} '{}'", path.display())])
}

fn assert_done(finished: &Finished) {
    finished.assert_code(0);
}

#[test]
fn what_goes_in_comes_out_and_nothing_stays() {
    let ground = Ground::new("streams-whole");
    for (number, length) in [0, 1, MIB - 1, MIB, MIB + 1, 5 * MIB + 3].into_iter().enumerate() {
        let input = bytes(length, number as u64 + 1);
        let sent = ground.send(&input, &["--existing", "replace"]);
        assert_done(&sent);
        assert!(sent.stderr_text().contains("standard input is read to its end"), "{}", sent.describe());
        let arrived = ground.path("in/db.sql");
        assert!(std::fs::read(&arrived).unwrap() == input, "{length}");
        assert_eq!(arrived.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let received = ground.run(&["recv", "--stdout", "--from", "@in/db.sql"]);
        assert_done(&received);
        assert!(received.stdout == input, "{length}: {} bytes came out", received.stdout.len());
        let told = received.stderr_text();
        assert!(told.contains("1 file (") && told.contains("written to standard output"), "{}", received.describe());
        assert!(!told.contains("check later"), "it is not kept: {}", received.describe());
        ground.assert_no_stream("home");
    }
    assert_eq!(files(&ground.path("in")), [ground.path("in/db.sql")]);
}

#[test]
fn a_ticket_leads_a_stream_either_way() {
    let ground = Ground::new("streams-tickets");
    let input = bytes(3 * MIB + 7, 1);
    let listens = ["--listen", "127.0.0.1:0", "--yes", "--write-ticket"];
    // A receiver that listens for a stream.
    let receiver = ground.command("far", &[&["recv", "@in"], &listens[..], &["@t1"]].concat()).start();
    let receiver = receiver.wait_for_ticket(&ground.path("t1"));
    let send = ["send", "-", "--name", "x", "--ticket-file", "@t1"];
    assert_done(&ground.command("home", &send).input(&input[..]).run());
    assert_done(&receiver.wait(PATIENT));
    assert!(std::fs::read(ground.path("in/x")).unwrap() == input);
    // The ticket is used up: another stream is not what it was taken for.
    let again = ground.command("home", &send).input(&input[1..]).run();
    again.assert_code(1);
    assert!(again.stderr_text().contains("this ticket is finished"), "{}", again.describe());
    // A stream that listens, for one that dials.
    let sender =
        ground.command("home", &[&["send", "-", "--name", "x"], &listens[..2], &["--write-ticket", "@t2"]].concat());
    let sender = sender.input(&input[..]).start().wait_for_ticket(&ground.path("t2"));
    let received = ground.command("far", &["recv", "--stdout", "--ticket-file", "@t2"]).run();
    assert_done(&received);
    assert!(received.stdout == input);
    assert_done(&sender.wait(PATIENT));
    let again = ground.command("far", &["recv", "--stdout", "--ticket-file", "@t2"]).run();
    again.assert_code(1);
    assert!(again.stdout.is_empty() && again.stderr_text().contains("by an earlier run"), "{}", again.describe());
    // A receiver for standard output says its ticket on standard error.
    let mut receiver = ground.command("far", &["recv", "--stdout", "--listen", "127.0.0.1:0"]).start();
    let ticket = |running: &Running| {
        running.stderr().lines().find(|line| line.starts_with("landfall") && line.len() > 60).map(str::to_owned)
    };
    assert!(receiver.wait_until("a ticket", PATIENT, |running| ticket(running).is_some()));
    let sent = ground.command("home", &["send", "-", "--name", "x", "--ticket"]).input(&input[..]);
    let sent = sent.env("LANDFALL_TICKET", ticket(&receiver).unwrap()).run();
    assert_done(&sent);
    let received = receiver.wait(PATIENT);
    assert_done(&received);
    assert!(received.stdout == input, "{}", received.stderr_text());
    for home in ["home", "far"] {
        ground.assert_no_stream(home);
    }
}

#[test]
fn standard_input_that_was_not_read_to_its_end_is_never_sent() {
    let ground = Ground::new("streams-cut");
    let (path, mut held) = ground.pipe("pipe");
    let words = ["send", "-", "--name", "db.sql", "--to", "@in", "--json"];
    for (signal, code) in [(Signal::KILL, None), (Signal::INT, Some(130)), (Signal::TERM, Some(143))] {
        let mut sender = at(ground.command("home", &words), "<", &path).start();
        held.write_all(&bytes(2 * MIB, 1)).unwrap();
        let is_read = |running: &Running| running.stdout().contains("\"event\":\"reading\"");
        assert!(sender.wait_until("a word about what was read", PATIENT, is_read));
        let has_come =
            || find(&ground.home(), "unfinished").is_some_and(|found| found.metadata().unwrap().len() >= MIB as u64);
        assert!(sender.wait_until("a part of it on disk", PATIENT, |_| has_come()));
        assert!(sender.signal(signal));
        let ended = sender.wait(PATIENT);
        assert_eq!(ended.code(), code, "{}", ended.describe());
        assert!(!ground.path("in").exists() && ground.statuses("home").is_empty());
        if signal == Signal::KILL {
            assert!(ended.was_killed() && has_come());
        } else {
            ground.assert_no_stream("home");
            assert!(
                ended.stderr_text().contains("before the end of standard input; nothing was sent"),
                "{}",
                ended.describe()
            );
        }
        let resumed = ground.run(&["resume"]);
        assert!(resumed.stderr_text().contains("nothing to resume"), "{}", resumed.describe());
    }
    let input = bytes(MIB, 2);
    assert_done(&ground.send(&input, &[]));
    assert!(std::fs::read(ground.path("in/db.sql")).unwrap() == input);
    ground.assert_no_stream("home");
}

/// A transfer of a stream that was killed on its way, a part of it being safe.
fn killed_on_its_way(ground: &Ground, input: &[u8]) {
    let words = ["send", "-", "--name", "db.sql", "--to", "@in", "--limit", "20MB"];
    let mut sender = ground.command("home", &words).input(input).start();
    let has_begun = || {
        files(&ground.path("in")).iter().any(|path| {
            let is_staged = path.parent().is_some_and(|parent| parent.ends_with("staging"));
            is_staged && path.metadata().is_ok_and(|found| found.len() > 0)
        })
    };
    assert!(sender.wait_until("a staging file", PATIENT, |_| has_begun()), "{}", sender.describe("ended"));
    std::thread::sleep(Duration::from_millis(300));
    assert!(sender.kill().was_killed());
    assert!(!ground.path("in/db.sql").exists());
    let statuses = ground.statuses("home");
    let of_sender: Vec<_> = statuses.iter().filter(|status| status["role"] == "sender").collect();
    assert!(
        of_sender.len() == 1 && of_sender[0]["is_stream"] == true && of_sender[0]["state"] == "stopped",
        "{statuses:?}"
    );
}

#[test]
fn a_stream_that_was_read_is_resumed_without_it() {
    let ground = Ground::new("streams-resume");
    let input = bytes(48 * MIB, 1);
    killed_on_its_way(&ground, &input);
    // Nor does another one count that did not come to its end meanwhile.
    let (path, mut held) = ground.pipe("pipe");
    let mut other = at(ground.command("home", &["send", "-", "--name", "db.sql", "--to", "@in"]), "<", &path).start();
    held.write_all(&bytes(2 * MIB, 2)).unwrap();
    assert!(other.wait_until("a part of it", PATIENT, |_| find(&ground.home(), "unfinished").is_some()));
    assert!(other.kill().was_killed());
    let resumed = ground.run(&["resume"]);
    assert_done(&resumed);
    assert!(std::fs::read(ground.path("in/db.sql")).unwrap() == input, "{}", resumed.describe());
    ground.assert_no_stream("home");
}

#[test]
fn the_same_command_goes_on_with_what_comes_in_then() {
    let ground = Ground::new("streams-again");
    let first = bytes(48 * MIB, 1);
    killed_on_its_way(&ground, &first);
    let id = ground.statuses("home")[0]["id"].clone();
    let mut second = first.clone();
    second.truncate(40 * MIB);
    second[33 * MIB] ^= 1;
    let done = ground.send(&second, &[]);
    assert_done(&done);
    assert!(done.stderr_text().contains(id.as_str().unwrap()), "the same transfer: {}", done.describe());
    assert!(std::fs::read(ground.path("in/db.sql")).unwrap() == second);
    ground.assert_no_stream("home");
}

#[test]
fn one_command_at_a_time_reads_a_stream() {
    let ground = Ground::new("streams-two");
    let (path, mut held) = ground.pipe("pipe");
    let words = ["send", "-", "--name", "db.sql", "--to", "@in"];
    let mut first = at(ground.command("home", &words), "<", &path).start();
    held.write_all(b"first").unwrap();
    assert!(first.wait_until("a stream", PATIENT, |_| find(&ground.home(), "unfinished").is_some()));
    let second = ground.send(b"second", &[]);
    second.assert_code(3);
    let told = second.stderr_text();
    assert!(told.contains(&format!("another landfall (process {})", first.id())), "{}", second.describe());
    // Another name is another stream.
    assert_done(&ground.command("home", &["send", "-", "--name", "other", "--to", "@in2"]).input("other").run());
    drop(held);
    assert_done(&first.wait(PATIENT));
    assert_eq!(std::fs::read(ground.path("in/db.sql")).unwrap(), b"first");
}

#[test]
fn a_disk_that_is_full_before_the_end_of_standard_input_is_named() {
    let test = "a_disk_that_is_full_before_the_end_of_standard_input_is_named";
    let ground = Ground::new("streams-full");
    let Some(image) = LoopImage::mounted(test, ground.scratch.path(), 64 << 20) else { return };
    let send = |input: &[u8]| {
        let command = Landfall::new("full", &image.path().join("home")).args(["send", "-", "--name", "x", "--to"]);
        command.arg(ground.path("in")).input(input).run()
    };
    let full = send(&bytes(80 * MIB, 1));
    full.assert_code(3);
    let told = full.stderr_text();
    assert!(told.contains("could not keep standard input in") && told.contains("no space left on device"), "{told}");
    assert!(told.contains("LANDFALL_HOME=DIR"), "{told}");
    assert!(!ground.path("in").exists() && files(&image.path().join("home/streams")).is_empty());
    assert_done(&send(b"less"));
    assert_eq!(std::fs::read(ground.path("in/x")).unwrap(), b"less");
}

/// A receiver that has received all and is stuck in the middle of writing it out.
fn stuck_in_output(ground: &Ground, input: &[u8]) -> (Running, File) {
    std::fs::write(ground.path("file"), input).unwrap();
    let (path, mut held) = ground.pipe("out");
    let mut receiver = at(ground.command("home", &["recv", "--stdout", "--from", "@file"]), ">", &path).start();
    let mut first = [0];
    held.read_exact(&mut first).unwrap();
    assert_eq!(first[0], input[0]);
    assert!(!receiver.has_ended());
    (receiver, held)
}

#[test]
fn a_receiver_that_was_killed_while_it_wrote_writes_all_again_and_receives_nothing_again() {
    let ground = Ground::new("streams-out");
    let input = bytes(4 * MIB + 9, 1);
    let (receiver, _held) = stuck_in_output(&ground, &input);
    assert!(receiver.kill().was_killed());
    assert!(find(&ground.home(), "file").is_some(), "it is kept");
    // It is not in the way of others, and not written among their words.
    let all = ground.run(&["resume"]);
    assert!(
        all.stdout.is_empty() && all.stderr_text().contains("goes on alone: `landfall resume"),
        "{}",
        all.describe()
    );
    let again = ground.run(&["recv", "--stdout", "--from", "@file"]);
    assert_done(&again);
    assert!(again.stdout == input);
    assert!(again.stderr_text().contains("moved       0 B over the link"), "{}", again.describe());
    ground.assert_no_stream("home");
}

#[test]
fn resume_writes_one_stream_out() {
    let ground = Ground::new("streams-resume-out");
    let input = bytes(4 * MIB, 1);
    let (mut receiver, _held) = stuck_in_output(&ground, &input);
    assert!(receiver.signal(Signal::INT));
    let stopped = receiver.wait(PATIENT);
    stopped.assert_code(130);
    assert!(stopped.stderr_text().contains("what has come is kept"), "{}", stopped.describe());
    let id = ground.statuses("home").iter().find(|status| status["state"] == "stopped").unwrap()["id"].clone();
    let refused = ground.run(&["resume", id.as_str().unwrap(), "--json"]);
    refused.assert_code(2);
    let resumed = ground.run(&["resume", id.as_str().unwrap()]);
    assert_done(&resumed);
    assert!(resumed.stdout == input, "{}", resumed.stderr_text());
    ground.assert_no_stream("home");
}

#[test]
fn what_changed_after_the_receipt_is_not_given_out_as_received() {
    let ground = Ground::new("streams-changed");
    let input = bytes(6 * MIB, 1);
    let (receiver, mut held) = stuck_in_output(&ground, &input);
    let file = OpenOptions::new().write(true).open(find(&ground.home(), "file").unwrap()).unwrap();
    file.write_all_at(&[!input[5 * MIB + 7]], (5 * MIB + 7) as u64).unwrap();
    file.sync_all().unwrap();
    let reader = std::thread::spawn(move || {
        let mut out = vec![0; 5 * MIB - 1];
        held.read_exact(&mut out).unwrap();
        (out, held)
    });
    let ended = receiver.wait(PATIENT);
    ended.assert_code(1);
    assert!(ended.stderr_text().contains("its bytes are others now"), "{}", ended.describe());
    let (out, _held) = reader.join().unwrap();
    assert!(out == input[1..5 * MIB]);
    assert!(ended.stderr_text().contains("5.0 MiB of 6.0 MiB"), "no more than that went out: {}", ended.describe());
}

#[test]
fn a_reader_that_goes_away_is_exit_1_and_costs_nothing() {
    let ground = Ground::new("streams-closed");
    let input = bytes(4 * MIB, 1);
    std::fs::write(ground.path("file"), &input).unwrap();
    let command = ground.command("home", &["recv", "--stdout", "--from", "@file"]);
    let script = "{ \"$0\" \"$@\"; echo $? >&2; } | head -c 5";
    let left = command.clone().below(&["sh", "-c", script]).run();
    assert_eq!(left.stdout, input[..5]);
    let told = left.stderr_text();
    assert!(told.contains("standard output took only") && told.trim_end().ends_with('1'), "{}", left.describe());
    assert!(told.contains("broken pipe") && told.contains("landfall forget"), "{}", left.describe());
    let again = command.run();
    assert_done(&again);
    assert!(again.stdout == input);
    ground.assert_no_stream("home");
}

/// The null device stands where a stream was closed, and would take and give all that one likes.
#[test]
fn a_stream_that_is_closed_from_the_start_is_refused() {
    let ground = Ground::new("streams-shut");
    std::fs::write(ground.path("file"), "content").unwrap();
    let (recv, send) = (["recv", "--stdout", "--from", "@file"], ["send", "-", "--name", "x", "--to", "@in"]);
    for (words, direction, which) in [(&recv[..], ">&-", "output"), (&send, "<&-", "input")] {
        let shell = format!("exec \"$0\" \"$@\" {direction}");
        let refused = ground.command("home", words).below(&["sh", "-c", &shell]).run();
        refused.assert_code(2);
        assert!(refused.stderr_text().contains(&format!("standard {which} is closed")), "{}", refused.describe());
    }
    assert!(!ground.path("in").exists());
    // Whoever opens that device means it.
    let null = Path::new("/dev/null");
    assert_done(&at(ground.command("home", &recv), ">", null).run());
    assert_done(&at(ground.command("home", &send), "<", null).run());
    assert!(std::fs::read(ground.path("in/x")).unwrap().is_empty());
}

#[test]
fn what_is_not_one_file_is_not_written_and_can_be_dropped() {
    let ground = Ground::new("streams-tree");
    std::fs::create_dir_all(ground.path("tree/below")).unwrap();
    std::fs::write(ground.path("tree/below/file"), "content").unwrap();
    std::fs::set_permissions(ground.path("tree/below"), PermissionsExt::from_mode(0o555)).unwrap();
    let received = ground.run(&["recv", "--stdout", "--from", "@tree"]);
    received.assert_code(1);
    let told = received.stderr_text();
    assert!(received.stdout.is_empty() && told.contains("1 file, 2 directories came"), "{}", received.describe());
    let kept = find(&ground.home(), "file").unwrap();
    assert!(told.contains(kept.ancestors().nth(3).unwrap().to_str().unwrap()), "{}", received.describe());
    let id = ground.statuses("home")[0]["id"].as_str().unwrap().to_owned();
    assert!(told.contains(&format!("landfall forget {}", &id[..8])), "{}", received.describe());
    assert_done(&ground.run(&["forget", &id]));
    ground.assert_no_stream("home");
    // A link is no file either.
    std::os::unix::fs::symlink("file", ground.path("link")).unwrap();
    let received = ground.run(&["recv", "--stdout", "--from", "@link"]);
    received.assert_code(1);
    assert!(received.stdout.is_empty() && received.stderr_text().contains("1 symlink came"), "{}", received.describe());
    std::fs::set_permissions(ground.path("tree/below"), PermissionsExt::from_mode(0o755)).unwrap();
}

#[test]
fn a_file_may_have_the_name_of_standard_input() {
    let ground = Ground::new("streams-dash");
    std::fs::create_dir(ground.path("work")).unwrap();
    std::fs::write(ground.path("work/-"), "a file").unwrap();
    let sent =
        ground.command("home", &["send", "./-", "--to", "@in"]).directory(&ground.path("work")).input("a pipe").run();
    assert_done(&sent);
    assert_eq!(std::fs::read(ground.path("in/-")).unwrap(), b"a file");
}

#[test]
fn a_stream_that_is_left_out_is_not_kept() {
    let ground = Ground::new("streams-left-out");
    assert_done(&ground.send(b"one", &[]));
    let other = ground.send(b"two", &[]);
    other.assert_code(5);
    assert_eq!(std::fs::read(ground.path("in/db.sql")).unwrap(), b"one");
    ground.assert_no_stream("home");
    assert_done(&ground.send(b"two", &["--existing", "replace"]));
    assert_eq!(std::fs::read(ground.path("in/db.sql")).unwrap(), b"two");
}
