//! Commands to a disk while it runs, one line each over a Unix socket outside the mount, each answered by one line that
//! begins with `ok` or `error`. Owns that socket; who sends a line is its owner's business, as the file's mode says.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use super::faults::{Fault, Kind};
use super::mount::FuseDisk;

/// Commands and what they do, for help texts.
pub const COMMANDS: &str = "set FAULT | clear [KIND] | cut | boot | sync | counts | quit";

/// A socket that waits for commands.
#[derive(Debug)]
pub struct Control {
    listener: UnixListener,
    path: PathBuf,
}

/// Whether the disk goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Yes.
    Serve,
    /// It is to be unmounted.
    Quit,
}

impl Control {
    /// At a path that nobody uses.
    pub fn listen(path: &Path) -> io::Result<Control> {
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        Ok(Control { listener, path: path.to_owned() })
    }

    /// Answers whoever has called meanwhile; does not wait for callers.
    pub fn serve(&self, disk: &mut FuseDisk) -> io::Result<Next> {
        match self.listener.accept() {
            Ok((caller, _)) => answer(caller, disk),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Next::Serve),
            Err(error) => Err(error),
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            crate::rig::facility::say(&format!("remove {}: {error}", self.path.display()));
        }
    }
}

/// A caller who hangs or vanishes is left alone.
fn answer(caller: UnixStream, disk: &mut FuseDisk) -> io::Result<Next> {
    caller.set_nonblocking(false)?;
    caller.set_read_timeout(Some(std::time::Duration::from_secs(2)))?;
    let mut writer = caller.try_clone()?;
    for line in BufReader::new(caller).lines() {
        let Ok(line) = line else { break };
        let (reply, next) = obey(line.trim(), disk);
        if writeln!(writer, "{reply}").is_err() || next == Next::Quit {
            return Ok(next);
        }
    }
    Ok(Next::Serve)
}

/// Does what one line says.
pub fn obey(line: &str, disk: &mut FuseDisk) -> (String, Next) {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    let done = match word {
        "set" => rest.trim().parse().map(|fault: Fault| {
            let shown = fault.to_string();
            disk.set(fault);
            shown
        }),
        "clear" => clear(rest.trim(), disk),
        "cut" => disk.cut().map(|loss| format!("{} names, {} pages lost", loss.names, loss.pages)).map_err(text),
        "boot" => disk.boot().map(|()| "mounted again".to_owned()).map_err(text),
        "sync" => disk.with(|state| state.settle()).map(|()| String::new()).map_err(text),
        "counts" => Ok(counts(disk)),
        "quit" => return ("ok".to_owned(), Next::Quit),
        _ => Err(format!("commands are: {COMMANDS}")),
    };
    let reply = match done {
        Ok(said) => format!("ok {said}").trim_end().to_owned(),
        Err(why) => format!("error {why}"),
    };
    (reply, Next::Serve)
}

#[allow(clippy::needless_pass_by_value, reason = "fits where a result is mapped")]
fn text(error: io::Error) -> String {
    error.to_string()
}

fn clear(word: &str, disk: &FuseDisk) -> Result<String, String> {
    if word.is_empty() {
        disk.clear(None);
        return Ok(String::new());
    }
    let kind = Kind::all().find(|kind| kind.word() == word).ok_or_else(|| format!("there is no fault `{word}`"))?;
    disk.clear(Some(kind));
    Ok(String::new())
}

/// What was injected, by kind.
pub fn counts(disk: &FuseDisk) -> String {
    let counts = disk.with(|state| state.injector.counts().clone());
    counts.iter().map(|(kind, count)| format!("{}={count}", kind.word())).collect::<Vec<_>>().join(" ")
}
