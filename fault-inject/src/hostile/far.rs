//! A far end that is not what it says: a program in the place of ssh whose two pipes this process holds, so that it says
//! whatever a case wants and hears all that the binary says. Where a transfer comes first, that is done by the binary.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{FileType, Mode};

use crate::rig::process::peak_bytes;

/// What stands in the place of ssh. The background process gets the pipe itself: a shell would give it `/dev/null`.
const PROGRAM: &str = r#"#!/bin/sh
if rm "$0.first" 2>/dev/null; then shift; LANDFALL_HOME="$0.home" exec sh -c "$*"; fi
exec 3<&0
cat <&3 >"$0.heard" &
exec cat "$0.says"
"#;
/// What a program that plans or deletes says before anything else.
pub const READY: &[u8] = b"ready plan 1\n";

/// The program and its pipes.
pub struct Far {
    program: PathBuf,
}

impl Far {
    /// In this directory. With a transfer to be done first, that is the binary's.
    pub fn new(dir: &Path, is_transfer_first: bool) -> io::Result<Far> {
        let far = Far { program: dir.join("reach") };
        fs::write(&far.program, PROGRAM)?;
        fs::set_permissions(&far.program, fs::Permissions::from_mode(0o755))?;
        for pipe in ["heard", "says"] {
            rustix::fs::mknodat(rustix::fs::CWD, far.beside(pipe), FileType::Fifo, Mode::from_raw_mode(0o600), 0)?;
        }
        if is_transfer_first {
            fs::write(far.beside("first"), "")?;
        }
        Ok(far)
    }

    /// For `--ssh`.
    pub fn program(&self) -> &OsStr {
        self.program.as_os_str()
    }

    fn beside(&self, what: &str) -> PathBuf {
        let text = [self.program.as_os_str().as_bytes(), b".", what.as_bytes()].concat();
        PathBuf::from(OsStr::from_bytes(&text))
    }

    /// Waits until the program is started, and talks for it. `None` if that never was.
    pub fn talk(&self, id: Arc<AtomicU32>) -> io::Result<Talk> {
        // Both wait for the program.
        let heard = BufReader::new(File::open(self.beside("heard"))?);
        let says = OpenOptions::new().write(true).open(self.beside("says"))?;
        let target = self.program.with_file_name("target");
        Ok(Talk { heard, says: Some(says), id, target, told: vec![], attack: Attack::default() })
    }

    /// Lets go of whoever still waits for the program.
    pub fn release(&self) {
        for pipe in ["heard", "says"] {
            // Both ends of it at once, which waits for nobody (fifo(7)).
            drop(OpenOptions::new().read(true).write(true).open(self.beside(pipe)));
        }
    }
}

/// What became of what was to hurt.
#[derive(Clone, Copy, Debug, Default)]
pub struct Attack {
    /// It was made: something of it went out, or nothing where that is the attack.
    pub happened: bool,
    /// Bytes of it that went out.
    pub bytes: u64,
    /// The largest that the binary had been until then.
    pub base_bytes: u64,
}

/// A conversation with the binary.
pub struct Talk {
    heard: BufReader<File>,
    says: Option<File>,
    id: Arc<AtomicU32>,
    target: PathBuf,
    /// All that the binary said.
    pub told: Vec<String>,
    /// How the attack went.
    pub attack: Attack,
}

impl Talk {
    /// The next line of the binary, `None` at its end.
    pub fn hear(&mut self) -> Option<String> {
        let mut line = vec![];
        if self.heard.read_until(b'\n', &mut line).unwrap_or(0) == 0 {
            return None;
        }
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        self.told.push(line.clone());
        Some(line)
    }

    /// Hears what the program is for, and is ready.
    pub fn begin(&mut self) {
        self.hear();
        self.say(READY);
    }

    /// Says something harmless. `false` if nobody listens any more.
    pub fn say(&mut self, bytes: &[u8]) -> bool {
        self.says.as_mut().is_some_and(|says| says.write_all(bytes).is_ok())
    }

    /// What follows is the attack, even if nothing does.
    pub fn strike(&mut self) {
        self.attack.happened = true;
        self.attack.base_bytes = peak_bytes(self.id.load(Ordering::Relaxed)).unwrap_or_default();
    }

    /// Says what is to hurt, as much of it as is taken. `false` if not all was.
    pub fn attack(&mut self, bytes: &[u8]) -> bool {
        if !self.attack.happened {
            self.strike();
            self.attack.happened = false;
        }
        let Some(says) = &mut self.says else { return false };
        let mut left = bytes;
        while !left.is_empty() {
            // Some of it may have been read, and the rest not wanted any more.
            let Ok(count @ 1..) = says.write(left) else { return false };
            left = &left[count..];
            self.attack.bytes += count as u64;
            self.attack.happened = true;
        }
        true
    }

    /// As an attack, one line.
    pub fn attack_line(&mut self, line: &str) -> bool {
        self.attack(format!("{line}\n").as_bytes())
    }

    /// Ends what it says, and with it the program.
    pub fn hang_up(&mut self) {
        self.says = None;
    }

    /// Says nothing more, and hears the binary to its end.
    pub fn listen_to_the_end(&mut self) {
        while self.hear().is_some() {}
    }

    /// For the test of the judgement: something is removed behind the binary's back.
    pub fn remove_at_the_target(&self, name: &str) {
        drop(fs::remove_file(self.target.join(name)));
    }

    /// Answers each question like this until the binary ends. `None` ends it.
    pub fn answer_each(&mut self, mut answer: impl FnMut(&str) -> Option<String>) {
        while let Some(question) = self.hear() {
            match answer(&question) {
                Some(line) if self.attack_line(&line) => {}
                _ => return,
            }
        }
    }
}
