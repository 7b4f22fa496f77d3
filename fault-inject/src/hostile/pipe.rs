//! A dry run and a deletion over the pipes of a far end that lies: names that lead out, numbers that do not fit, lines
//! without an end, silence. Nothing outside the target is touched, nothing goes that was not listed before, nothing is
//! obeyed by a terminal, and whoever is silent is given up when patience ends.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::far::{Attack as Struck, Far, Talk};
use super::stage::{self, GROWTH_BYTES_MAX, Place, Seen};
use super::{Attack, Case};
use crate::rig::oracle::{self, Snapshot};
use crate::rig::process::{self, Finished, Landfall};

/// What the user gives the far end.
const PATIENCE: &str = "2s";
/// The binary has ended by then: a transfer may come before, and what is listed may be long.
const END_PATIENCE: Duration = Duration::from_secs(25);
/// What both sides of a deletion have.
const COMMON: [&str; 2] = ["came", "deep/came"];
/// What only the target of a deletion has.
const OLD: [&str; 3] = ["old", "older/deep", "zz"];

/// What the user does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Plans a sending to the far end.
    SendPlan,
    /// Plans a receiving from it.
    RecvPlan,
    /// Sends to it and deletes there: the transfer is honest.
    SendDelete,
    /// Receives from it and deletes here: the transfer is honest.
    RecvDelete,
    /// Receives from it and is asked about the deletion, where nobody is there to answer.
    RecvDeleteUnagreed,
    /// Sends to it: what never is ready is met by the transfer itself.
    Send,
}

impl Command {
    fn word(self) -> &'static str {
        match self {
            Command::SendPlan => "plan-to",
            Command::RecvPlan => "plan-from",
            Command::SendDelete => "delete-to",
            Command::RecvDelete => "delete-from",
            Command::RecvDeleteUnagreed => "delete-from-unagreed",
            Command::Send => "send-to",
        }
    }

    fn deletes(self) -> bool {
        matches!(self, Command::SendDelete | Command::RecvDelete | Command::RecvDeleteUnagreed)
    }
}

/// What a far end does.
#[derive(Clone, Debug)]
pub enum Speech {
    /// It is ready and says this, and then hears the binary to its end.
    Says(Vec<u8>),
    /// Anything.
    Does(fn(&mut Talk)),
}

/// A far end, and what the binary has to make of it.
#[derive(Clone, Debug)]
pub struct Pipe {
    /// What the binary does.
    pub command: Command,
    /// What the far end does.
    pub speech: Speech,
    /// Exit codes that are right.
    pub exits: &'static [i32],
    /// A part of what the binary has to say.
    pub says: &'static str,
}

/// All cases of this room.
pub fn cases() -> Vec<Case> {
    [super::speeches::plans(), super::speeches::deletions(), super::speeches::silences()].concat()
}

/// A case of this room.
pub(super) fn case(name: &str, class: u8, pipe: Pipe) -> Case {
    let name = format!("pipe-{}-{name}", pipe.command.word());
    Case { name, class, attack: Attack::Pipe(Box::new(pipe)) }
}

/// Runs one.
pub fn perform(pipe: &Pipe) -> Seen {
    let place = Place::new();
    let mut seen = Seen::default();
    if let Err(why) = play(pipe, &place, &mut seen) {
        seen.failed = Some(why);
    }
    seen.wrongs.extend(place.canary.changes().into_iter().map(|what| format!("outside the target: {what}")));
    seen
}

fn play(pipe: &Pipe, place: &Place, seen: &mut Seen) -> Result<(), String> {
    let odd = |error: std::io::Error| error.to_string();
    plant(pipe.command, place).map_err(odd)?;
    let far = Far::new(&place.beside("."), pipe.command.deletes()).map_err(odd)?;
    fs::create_dir(place.beside("reach.home")).map_err(odd)?;
    let [target, www] = [place.target.clone(), place.beside("www")].map(|dir| oracle::snapshot(&dir));
    let id = Arc::new(AtomicU32::new(0));
    let running = command(pipe.command, place, &far).start();
    id.store(running.id(), Ordering::Relaxed);
    let (finished, talked) = thread::scope(|scope| {
        let talking = scope.spawn(|| {
            let mut talk = far.talk(id).map_err(odd)?;
            match &pipe.speech {
                Speech::Says(bytes) => {
                    talk.begin();
                    talk.attack(bytes);
                }
                Speech::Does(does) => does(&mut talk),
            }
            talk.listen_to_the_end();
            Ok::<_, String>((talk.told, talk.attack))
        });
        let finished = stage::finish(running, END_PATIENCE, seen);
        // It may wait for the one pipe, and then for the other.
        while !talking.is_finished() {
            far.release();
            std::thread::sleep(Duration::from_millis(5));
        }
        (finished, talking.join().unwrap_or_else(|_| Err("the far end fell over".to_owned())))
    });
    let (told, attack) = talked?;
    seen.happened = attack.happened;
    seen.log.push(format!("the attack: {attack:?}"));
    let Some(finished) = finished else { return Ok(()) };
    judge_end(pipe, &finished, attack, seen);
    judge_trees(pipe.command, place, &finished, [&target, &www], &told, seen);
    Ok(())
}

/// Both sides of it, and at the receiver of a deletion something that its source does not have.
fn plant(command: Command, place: &Place) -> std::io::Result<()> {
    let www = place.beside("www");
    for name in COMMON {
        fs::create_dir_all(www.join(name).parent().unwrap_or(&www))?;
        fs::write(www.join(name), format!("what {name} holds"))?;
    }
    if command == Command::RecvPlan {
        fs::write(place.target.join("good"), "good")?;
    }
    if command.deletes() {
        for name in OLD {
            let path = place.target.join(name);
            fs::create_dir_all(path.parent().unwrap_or(&place.target))?;
            fs::write(path, "old")?;
        }
        std::os::unix::fs::symlink(place.canary.path(), place.target.join("out"))?;
    }
    Ok(())
}

fn command(command: Command, place: &Place, far: &Far) -> Landfall {
    let binary = Landfall::new("near", &place.home);
    let there = |path: &std::path::Path| [b"far:", std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str())].concat();
    let there = |path: &std::path::Path| {
        std::ffi::OsString::from(std::str::from_utf8(&there(path)).expect("scratch paths are ASCII"))
    };
    let www = place.beside("www/.");
    let binary = match command {
        Command::SendPlan => binary.arg("send").arg(&www).arg("--to").arg(there(&place.target)).arg("--plan"),
        Command::RecvPlan => {
            binary.arg("recv").arg(&place.target).arg("--from").arg(there(&www)).args(["--plan", "-v"])
        }
        Command::Send => binary.arg("send").arg(&www).arg("--to").arg(there(&place.target)).arg("--yes"),
        Command::SendDelete => {
            binary.arg("send").arg(&www).arg("--to").arg(there(&place.target)).args(["--delete", "--yes"])
        }
        Command::RecvDelete => {
            binary.arg("recv").arg(&place.target).arg("--from").arg(there(&www)).args(["--delete", "--yes"])
        }
        Command::RecvDeleteUnagreed => {
            binary.arg("recv").arg(&place.target).arg("--from").arg(there(&www)).arg("--delete")
        }
    };
    let binary = binary.arg("--ssh").arg(far.program()).arg("--remote-landfall").arg(process::binary());
    // Nothing of it leaves the pipes. What is listed is read back from the lines of JSON.
    let lines: &[&str] = if command.deletes() { &["--json"] } else { &[] };
    binary.args(["--relay-over-ssh", "--patience", PATIENCE]).args(lines)
}

fn judge_end(pipe: &Pipe, finished: &Finished, attack: Struck, seen: &mut Seen) {
    let is_right = finished.code().is_some_and(|code| pipe.exits.contains(&code));
    let is_said = finished.text().contains(pipe.says);
    if finished.code() == Some(0) && !is_right {
        seen.wrongs.push(format!("it said that all is well\n{}", finished.describe()));
    } else if !is_right || !is_said {
        let expected = format!("not {:?} with `{}`", pipe.exits, pipe.says);
        seen.complaints.push(format!("{expected}\n{}", finished.describe()));
    }
    seen.noticed = is_right && is_said;
    stage::judge_streams(finished, seen);
    let growth = finished.peak_bytes.saturating_sub(attack.base_bytes);
    if attack.base_bytes > 0 && growth > GROWTH_BYTES_MAX {
        seen.wrongs.push(format!("its memory grew by {} MiB", growth >> 20));
    }
    // What the binary says of itself is not believed: the kernel tells how much it has read.
    let most = finished.io.read_bytes;
    seen.log.push(format!("it read {most} bytes in {:?}", finished.elapsed));
}

/// What was listed to the user, by path.
fn listed(finished: &Finished) -> BTreeSet<Vec<u8>> {
    let text = finished.stdout_text();
    let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let paths = events.filter(|event| event["event"] == "to-delete");
    paths.filter_map(|event| Some(event["path"].as_str()?.as_bytes().to_vec())).collect()
}

fn judge_trees(
    command: Command,
    place: &Place,
    finished: &Finished,
    [target, www]: [&Snapshot; 2],
    told: &[String],
    seen: &mut Seen,
) {
    let (now, source) =
        (oracle::snapshot_without(&place.target, &[b".landfall"]), oracle::snapshot(&place.beside("www")));
    if source != *www {
        seen.wrongs.push("the source is another one now".to_owned());
    }
    let listed = listed(finished);
    for (path, node) in target.iter().filter(|(path, _)| !path.is_empty()) {
        match now.get(path) {
            Some(found) if found.inode == node.inode && found.digest == node.digest => {}
            Some(_) => seen.wrongs.push(format!("{} is another one now", path.escape_ascii())),
            // The far end's own target is in nobody's hands but its own.
            None if command == Command::RecvDelete && listed.contains(path) => {}
            None => seen.wrongs.push(format!("{} is gone, and was not listed", path.escape_ascii())),
        }
    }
    let may_come = |path: &[u8]| command.deletes() && www.contains_key(path);
    for path in now.keys().filter(|path| !target.contains_key(*path) && !may_come(path)) {
        seen.wrongs.push(format!("{} was made", path.escape_ascii()));
    }
    if command.deletes() {
        if COMMON.iter().all(|name| now.contains_key(name.as_bytes())) {
            seen.survived = 1;
        } else {
            seen.wrongs.push("what the transfer has brought is gone".to_owned());
        }
    } else if now.len() == target.len() {
        seen.survived = 1;
    }
    judge_removals(told, &listed, www, seen);
}

/// What the binary has told the far end to remove was listed before, and is not at the source.
fn judge_removals(told: &[String], listed: &BTreeSet<Vec<u8>>, www: &Snapshot, seen: &mut Seen) {
    for line in told.iter().filter(|line| line.starts_with("{\"remove\"")) {
        let asked: Value = serde_json::from_str(line).unwrap_or_default();
        for entry in asked["remove"]["entries"].as_array().into_iter().flatten() {
            let path = entry["path"].as_str().unwrap_or_default().as_bytes().to_vec();
            if !listed.contains(&path) || www.contains_key(&path) {
                seen.wrongs.push(format!("it was told to remove {}", path.escape_ascii()));
            }
        }
    }
}
