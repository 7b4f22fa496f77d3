//! What a terminal shows that ssh shares: until there is a link nothing is drawn over its questions, and then the bar is.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::common::process::{Landfall, PATIENT, Running, binary};
use crate::common::scratch::Scratch;
use crate::common::tree::{Content, Tree};

/// What the program in the place of ssh asks.
const QUESTION: &str = "Password for far:";
/// The bar is drawn ten times in it.
const WHILE: Duration = Duration::from_millis(1500);

/// A terminal of 80 columns, and all that was written to it.
struct Terminal {
    path: PathBuf,
    written: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    fn new() -> Terminal {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        tcsetwinsize(&master, Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let path = PathBuf::from(ptsname(&master, vec![]).unwrap().into_string().unwrap());
        let written = Arc::new(Mutex::new(vec![]));
        let (mut master, all) = (fs::File::from(master), Arc::clone(&written));
        // It ends when nobody has the other side open any more.
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = master.read(&mut buffer) {
                all.lock().unwrap().extend(&buffer[..count]);
            }
        });
        Terminal { path, written }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.written.lock().unwrap()).into_owned()
    }
}

/// In the place of ssh: asks on the terminal, waits for its answer, and then is the other machine.
fn asking(scratch: &Scratch) -> PathBuf {
    let path = scratch.join("asking");
    let (asked, answer) = (scratch.join("asked"), scratch.join("answer"));
    let (asked, answer) = (asked.display(), answer.display());
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *-G*) exit 0;; esac\necho '{QUESTION}' >&2; echo $$ > '{asked}'\n\
         for try in $(seq 2000); do [ -e '{answer}' ] && break; sleep 0.05; done\nshift; exec sh -c \"$*\"\n"
    );
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Starts a command whose errors and progress go to a terminal.
fn start(command: Landfall, terminal: &Terminal) -> Running {
    let onto = format!("exec \"$0\" \"$@\" 2>'{}'", terminal.path.display());
    command.env("TERM", "xterm-256color").env("NO_COLOR", "1").below(&["sh", "-c", &onto]).start()
}

/// Nothing is drawn while the question stands; once it is answered, the bar is.
fn asks_and_then_draws(command: Landfall, scratch: &Scratch, until: impl Fn() -> bool) -> Running {
    for name in ["asked", "answer"] {
        let _ = fs::remove_file(scratch.join(name));
    }
    let terminal = Terminal::new();
    let mut running = start(command, &terminal);
    assert!(running.wait_until("the question", PATIENT, |_| scratch.join("asked").exists()));
    std::thread::sleep(WHILE);
    let text = terminal.text();
    assert!(text.ends_with(&format!("{QUESTION}\r\n")) && !text.contains('\u{1b}'), "{text:?}");
    fs::write(scratch.join("answer"), "").unwrap();
    let is_drawn = |_: &Running| terminal.text().contains('\u{1b}') && until();
    assert!(running.wait_until("the bar", PATIENT, is_drawn), "{:?}", terminal.text());
    running
}

/// Whether a process still does anything: one that nobody has asked for its end does not.
fn is_alive(id: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn staged(target: &Path) -> bool {
    let Ok(transfers) = fs::read_dir(target.join(".landfall")) else { return false };
    let staging = transfers.flatten().map(|transfer| transfer.path().join("staging"));
    staging.filter_map(|staging| fs::read_dir(staging).ok()).any(|mut names| names.next().is_some())
}

#[test]
fn nothing_is_drawn_over_a_question_of_ssh_neither_at_first_nor_when_resumed() {
    let scratch = Scratch::new("terminal");
    let mut tree = Tree::new(&scratch.join("source"), 1);
    tree.file("file", &Content::Random(12 << 20));
    let (source, target) = (tree.finish(), scratch.join("target"));
    let home = scratch.join("home");
    let to = format!("far:{}", target.display());
    let send = Landfall::new("terminal", &home).arg("send").arg(&source).args(["--to", &to, "--yes", "--limit", "3MB"]);
    let send = send.args(["--relay-over-ssh", "--remote-landfall"]).arg(binary()).arg("--ssh").arg(asking(&scratch));
    asks_and_then_draws(send, &scratch, || staged(&target)).kill();
    // The other side listens for some moments more, and a link to it needs no ssh.
    let other = fs::read_to_string(scratch.join("asked")).unwrap();
    let until = Instant::now() + PATIENT;
    while is_alive(other.trim()) {
        assert!(Instant::now() < until, "what was started as the other side does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
    let resume = Landfall::new("terminal", &home).args(["resume", "--limit", "3MB"]);
    asks_and_then_draws(resume, &scratch, || true).wait(PATIENT).assert_code(0);
    assert_eq!(fs::read(target.join("source/file")).unwrap(), fs::read(source.join("file")).unwrap());
}
