//! The link matrix: what a local user can plant, in every place where the binary looks, under every operation that
//! meets it. A cell is one planted object under one operation. In all of them nothing outside changes, nothing of
//! the outside is sent, nobody waits for a pipe, and what was planted is refused by name or taken out of the way.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use landfall::digest::path_hash;
use landfall::identity::Role;
use landfall::path::RelPath;
use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::act::{Act, Play};
use super::keys::Key;
use super::line::{self, Line};
use super::names::opening;
use super::stage::{self, Place, Script, Seen};
use super::words::Manifest;
use super::{Attack, Case};
use crate::rig::oracle::{self, Snapshot};
use crate::rig::process::{Finished, Landfall, Running};

/// What is planted.
pub const OBJECTS: [&str; 11] = [
    "link-to-file",
    "link-to-directory",
    "link-absolute",
    "link-dangling",
    "link-to-itself",
    "link-up",
    "pipe",
    "socket",
    "hard-link",
    "file",
    "directory",
];

/// What the binary does at a planted name or below it: the prefix of the name in the target.
const OPERATIONS: [&str; 7] =
    ["file-over", "directory-over", "link-over", "file-below", "directory-below", "link-below", "file-deep-below"];

/// Where something is planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    /// Under final names, all objects and operations at once; with this policy.
    Final(&'static str),
    /// A piece of the working state: a path in DIR, in which `ID` is the transfer and `HASH` a file's staging name.
    State(&'static str, &'static str),
    /// A piece of the state in the home: a path in it.
    Home(&'static str, &'static str),
    /// In a sender's source directory, all objects at once.
    Source,
    /// The sender's source itself.
    SourceItself(&'static str),
    /// A receiver's DIR itself.
    Dir(&'static str),
}

const STATE_PLACES: [&str; 8] = [
    ".landfall",
    ".landfall/lock",
    ".landfall/ID",
    ".landfall/ID/manifest",
    ".landfall/ID/journal",
    ".landfall/ID/staging",
    ".landfall/ID/staging/HASH",
    ".landfall/ID/staging/HASH.left",
];

const HOME_PLACES: [&str; 5] =
    ["identity", "transfers/ID/receiver/lock", "receipts", "receipts/ID.receiver.receipt", "transfers/ID/receiver"];

/// All cases of this room.
pub fn cases() -> Vec<Case> {
    let mut all = vec![];
    let mut add = |name: String, at: Where| all.push(Case { name, class: class(at), attack: Attack::Planted(at) });
    for policy in ["refuse", "keep", "replace"] {
        add(format!("planted-under-final-names-{policy}"), Where::Final(policy));
    }
    for object in OBJECTS {
        for place in STATE_PLACES {
            let name =
                format!("planted-{object}-as-{}", place.trim_start_matches('.').replace('/', "-").to_lowercase());
            add(name, Where::State(place, object));
        }
        for place in HOME_PLACES {
            add(
                format!("planted-{object}-in-home-as-{}", place.replace('/', "-").to_lowercase()),
                Where::Home(place, object),
            );
        }
        // What a link far up leads to is the user's word too, and too much to send.
        if object != "link-up" {
            add(format!("planted-{object}-as-source"), Where::SourceItself(object));
        }
        add(format!("planted-{object}-as-dir"), Where::Dir(object));
    }
    add("planted-in-source".to_owned(), Where::Source);
    all
}

/// Stale state is a class of its own, and so is an identity that cannot be used.
fn class(at: Where) -> u8 {
    match at {
        Where::Home("identity", _) => 27,
        Where::State(_, "file") => 25,
        Where::Source | Where::SourceItself(_) => 6,
        _ => 24,
    }
}

/// Plants an object; `canary` is the way from there to the canary. `false` if something stands there that it cannot
/// take the place of.
fn plant(object: &str, at: &Path, canary: &Path) -> bool {
    let _ = std::fs::remove_file(at);
    let _ = std::fs::remove_dir_all(at);
    let done = match object {
        "link-to-file" | "link-absolute" => symlink(canary.join("song"), at).is_ok(),
        "link-to-directory" => symlink(canary, at).is_ok(),
        "link-dangling" => symlink(canary.join("new"), at).is_ok(),
        "link-to-itself" => at.file_name().is_some_and(|name| symlink(name, at).is_ok()),
        "link-up" => symlink("../../..", at).is_ok(),
        "pipe" => mknodat(CWD, at, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).is_ok(),
        // A socket's path is short: it is made beside and moved.
        "socket" => bind_socket(at),
        "hard-link" => std::fs::hard_link(canary.join("song"), at).is_ok(),
        "file" => std::fs::write(at, "planted").is_ok(),
        _ => std::fs::create_dir(at).is_ok() && std::fs::write(at.join("planted"), "planted").is_ok(),
    };
    done && at.symlink_metadata().is_ok()
}

fn bind_socket(at: &Path) -> bool {
    let Some(parent) = at.parent().and_then(|parent| std::fs::File::open(parent).ok()) else { return false };
    let by_descriptor = format!("/proc/self/fd/{}/s", std::os::fd::AsRawFd::as_raw_fd(&parent));
    let is_bound = UnixListener::bind(&by_descriptor).is_ok();
    is_bound && std::fs::rename(&by_descriptor, at).is_ok()
}

/// Plants, runs, and looks.
pub fn perform(at: Where, key: &Key) -> Seen {
    match at {
        Where::Final(policy) => under_final_names(policy, key),
        Where::State(place, object) => in_state(place, object, key, Root::Target),
        Where::Home(place, object) => in_state(place, object, key, Root::Home),
        Where::Source => in_source(key),
        Where::SourceItself(object) => source_itself(object, key),
        Where::Dir(object) => dir_itself(object, key),
    }
}

fn receiver_script() -> Script {
    Script::against_receiver(vec![]).option("--json")
}

/// Serves a manifest to a running receiver; what the receiver makes of it shows in how it ends.
fn serve(place: &Place, running: &mut Running, manifest: &Manifest, key: &Key, seen: &mut Seen) -> Result<(), String> {
    let ticket = place.ticket(running)?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let line = async { Line::dial(key, line::address_of(&ticket)?).await };
        let line = line.await.map_err(|end| format!("{end:?}"))?;
        let mut play = Play::new(line, key, Role::Sender, &ticket.secret);
        let acts = vec![Act::Offer(manifest.clone()), Act::Serve(manifest.clone())];
        let (done, end) = play.perform(&[opening(), acts].concat()).await;
        seen.log.push(format!("served: {done} acts, {end:?}"));
        seen.wrongs.append(&mut play.wrongs);
        let _ = play.line.end(Duration::from_secs(20)).await;
        play.line.leave(0, &[]).await;
        Ok(())
    })
}

/// What holds for every run: it ends, nothing outside changed, nothing bad was printed.
fn look(place: &Place, running: Running, seen: &mut Seen) -> Option<Finished> {
    let finished = stage::finish(running, Duration::from_secs(20), seen)?;
    stage::judge_streams(&finished, seen);
    let code = finished.code().unwrap_or(-1);
    if !(0..=5).contains(&code) || code == 2 {
        seen.complaints.push(format!("exit code {code}\n{}", finished.describe()));
    }
    look_outside(place, seen);
    Some(finished)
}

fn look_outside(place: &Place, seen: &mut Seen) {
    seen.wrongs.extend(place.canary.changes().into_iter().map(|what| format!("outside: {what}")));
}

fn cell(operation: &str, object: &str) -> String {
    format!("{operation}.{object}")
}

fn under_final_names(policy: &str, key: &Key) -> Seen {
    let place = Place::new();
    let mut seen = Seen { cells: 0, ..Seen::default() };
    let mut manifest = Manifest::default().file(b"good", b"good");
    let mut planted = BTreeMap::new();
    for operation in OPERATIONS {
        for object in OBJECTS {
            let name = cell(operation, object);
            if !plant(object, &place.target.join(&name), place.canary.path()) {
                seen.failed = Some(format!("{name} could not be planted"));
                return seen;
            }
            let below = |leaf: &str| format!("{name}/{leaf}").into_bytes();
            let (path, next) = match operation {
                "file-over" => (name.clone().into_bytes(), manifest.file(name.as_bytes(), b"sent")),
                "directory-over" => (name.clone().into_bytes(), manifest.directory(name.as_bytes())),
                "link-over" => (name.clone().into_bytes(), manifest.symlink(name.as_bytes(), b"good")),
                "file-below" => (below("song"), manifest.file(&below("song"), b"sent")),
                "directory-below" => (below("cage"), manifest.directory(&below("cage"))),
                "link-below" => (below("link"), manifest.symlink(&below("link"), b"good")),
                _ => (below("cage/seed"), manifest.file(&below("cage/seed"), b"sent")),
            };
            manifest = next;
            planted.insert(path, name);
            seen.cells += 1;
        }
    }
    let before = oracle::snapshot(&place.target);
    let script = receiver_script().option("--existing").option(policy);
    let mut running = place.command(&script, None).start();
    seen.happened = true;
    if let Err(why) = serve(&place, &mut running, &manifest.complete(), key, &mut seen) {
        seen.failed = Some(why);
        return seen;
    }
    let Some(finished) = look(&place, running, &mut seen) else { return seen };
    seen.noticed = matches!(finished.code(), Some(0 | 5));
    if !seen.noticed {
        seen.complaints.push(format!("one planted object has spoilt the rest\n{}", finished.describe()));
    }
    let after = oracle::snapshot_without(&place.target, &[b".landfall"]);
    judge_cells(policy, &planted, &before, &after, &finished, &mut seen);
    // What else was sent arrived beside all of them.
    let good = *blake3::hash(b"good").as_bytes();
    match after.get(&b"good"[..]).map(|node| &node.digest) {
        Some(Ok(Some(digest))) if *digest == good => seen.survived = seen.cells,
        other => seen.complaints.push(format!("the file beside them is {other:?}")),
    }
    seen
}

/// Each cell: its path is named as left out, or stands there as it was sent. What was planted is as it was, unless
/// the policy lets it be replaced.
fn judge_cells(
    policy: &str,
    planted: &BTreeMap<Vec<u8>, String>,
    before: &Snapshot,
    after: &Snapshot,
    finished: &Finished,
    seen: &mut Seen,
) {
    let left_out: Vec<Vec<u8>> = finished
        .events()
        .iter()
        .filter(|event| event["event"] == "left-out")
        .filter_map(|event| event["path"].as_str().map(|path| path.as_bytes().to_vec()))
        .collect();
    for (path, name) in planted {
        let (old, new) = (before.get(name.as_bytes()), after.get(name.as_bytes()));
        let is_as_it_was = old.zip(new).is_some_and(|(old, new)| {
            old.kind == new.kind && old.inode == new.inode && old.digest == new.digest && old.target == new.target
        });
        let arrived =
            after.get(path).filter(|_| before.get(path).map(|old| old.inode) != after.get(path).map(|new| new.inode));
        let is_plain_directory = old.is_some_and(|old| old.kind == FileType::Directory);
        seen.noticed_cells +=
            u64::from(left_out.contains(path) || arrived.is_some() || policy == "keep" || is_plain_directory);
        if policy != "replace" && !is_as_it_was {
            seen.wrongs.push(format!("{name} was touched under `{policy}`: {old:?} is {new:?}"));
        }
        if policy == "refuse" && !left_out.contains(path) && arrived.is_none() && !is_plain_directory {
            seen.complaints.push(format!("{} is neither named nor there", path.escape_ascii()));
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Root {
    Target,
    Home,
}

/// A first run makes the state and is killed, something is planted in it, and a second run meets it.
fn in_state(where_: &str, object: &str, key: &Key, root: Root) -> Seen {
    let place = Place::new();
    let mut seen = Seen::default();
    let script = receiver_script();
    let mut first = place.command(&script, None).start();
    let ticket = match place.ticket(&mut first) {
        Ok(ticket) => ticket,
        Err(why) => {
            seen.failed = Some(why);
            return seen;
        }
    };
    first.kill();
    let _ = std::fs::remove_file(place.beside("ticket"));
    let hash = path_hash(&RelPath::parse(b"wanted").expect("a plain path"));
    let hash: String = hash.0.iter().map(|byte| format!("{byte:02x}")).collect();
    let path = where_.replace("ID", &ticket.transfer_id().to_string()).replace("HASH", &hash);
    let base = if root == Root::Target { &place.target } else { &place.home };
    let at = base.join(path);
    let made = at.parent().is_some_and(|parent| std::fs::create_dir_all(parent).is_ok());
    seen.happened = made && plant(object, &at, place.canary.path());
    let mut second = place.command(&script, None).start();
    let has_ticket = || place.beside("ticket").exists();
    while !has_ticket() && !second.has_ended() && second.age() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(2));
    }
    if has_ticket() {
        let manifest = Manifest::default().file(b"wanted", b"sent").complete();
        if let Err(why) = serve(&place, &mut second, &manifest, key, &mut seen) {
            seen.log.push(why);
        }
    }
    let Some(finished) = look(&place, second, &mut seen) else { return seen };
    let wanted = place.target.join("wanted");
    let is_there = std::fs::read(&wanted).is_ok_and(|found| found == b"sent");
    let is_plain = wanted.symlink_metadata().is_ok_and(|found| found.is_file());
    // Refused with a reason, or cured: the file is there, a plain one of its own.
    seen.noticed = match finished.code() {
        Some(0) => is_there && is_plain,
        Some(_) => !finished.stderr.is_empty() || finished.stdout_text().contains("\"error\""),
        None => false,
    };
    if !seen.noticed {
        seen.complaints.push(format!("neither refused nor cured\n{}", finished.describe()));
    }
    seen.survived = u64::from(finished.code() == Some(0) && is_there);
    if wanted.symlink_metadata().is_ok() && !(is_there && is_plain) {
        seen.wrongs.push("what stands under the final name is not what was sent".to_owned());
    }
    seen
}

/// Everything that can be planted in a source: what is no file, directory or link is left out; links travel as links.
fn in_source(key: &Key) -> Seen {
    let place = Place::new();
    let mut seen = Seen { cells: 0, ..Seen::default() };
    let source = place.beside("tree");
    let made = std::fs::create_dir(&source).is_ok();
    for object in OBJECTS {
        if !made || !plant(object, &source.join(object), place.canary.path()) {
            seen.failed = Some(format!("{object} could not be planted"));
            return seen;
        }
        seen.cells += 1;
    }
    seen.happened = true;
    let received = place.beside("received");
    let (sender, receiver) = transfer(&place, &source, &received, key);
    let Some(sender) = look(&place, sender, &mut seen) else { return seen };
    let Some(receiver) = look(&place, receiver, &mut seen) else { return seen };
    for finished in [&sender, &receiver] {
        if finished.code() != Some(5) {
            seen.complaints.push(format!("exit code, not 5\n{}", finished.describe()));
        }
    }
    let arrived = oracle::snapshot_without(&received, &[b".landfall"]);
    let (sent, mut found) = (oracle::snapshot(&source), Snapshot::new());
    for (path, node) in arrived {
        if let Some(rest) = path.strip_prefix(&b"tree"[..]) {
            found.insert(rest.strip_prefix(b"/").unwrap_or(rest).to_vec(), node);
        }
    }
    let differences = oracle::differences(&sent, &found, &oracle::Rules::default());
    seen.wrongs.extend(differences);
    seen.noticed = sender.stdout_text().matches("\"left-out\"").count() == 2;
    seen.noticed_cells = if seen.noticed { seen.cells } else { 0 };
    // A pipe and a socket are left out, and all the rest arrived as it is.
    seen.survived = if seen.wrongs.is_empty() { seen.noticed_cells } else { 0 };
    seen
}

/// The shipped binary on both sides: the sender listens.
fn transfer(place: &Place, source: &Path, received: &Path, _key: &Key) -> (Running, Running) {
    let ticket = place.beside("tree-ticket");
    let sender = Landfall::new("sender", &place.home).arg("send").arg(source).args(["--listen", "127.0.0.1:0"]);
    let mut sender = sender.arg("--write-ticket").arg(&ticket).args(["--yes", "--json", "--patience", "5s"]).start();
    while !ticket.exists() && !sender.has_ended() {
        std::thread::sleep(Duration::from_millis(2));
    }
    let receiver = Landfall::new("receiver", &place.beside("other-home")).arg("recv").arg(received);
    let receiver = receiver.arg("--ticket-file").arg(&ticket).args(["--yes", "--json", "--patience", "5s"]).start();
    (sender, receiver)
}

/// What is named on the command line travels as what it is, like everything below it: a link as a link, wherever it
/// leads, with nothing of that sent; a pipe or a socket is not opened, and is left out by name.
fn source_itself(object: &str, key: &Key) -> Seen {
    let place = Place::new();
    let mut seen = Seen::default();
    let (given, received) = (place.beside("given"), place.beside("received"));
    let source = given.join("planted");
    seen.happened = std::fs::create_dir(&given).is_ok() && plant(object, &source, place.canary.path());
    let (sender, receiver) = transfer(&place, &source, &received, key);
    let Some(sender) = look(&place, sender, &mut seen) else { return seen };
    let Some(receiver) = look(&place, receiver, &mut seen) else { return seen };
    let is_special = matches!(object, "pipe" | "socket");
    let code = if is_special { 5 } else { 0 };
    for finished in [&sender, &receiver] {
        if finished.code() != Some(code) || finished.stdout_text().contains("\"left-out\"") != is_special {
            seen.complaints.push(format!("not {code}, or not named\n{}", finished.describe()));
        }
    }
    let (sent, arrived) = (oracle::snapshot(&given), oracle::snapshot_without(&received, &[b".landfall"]));
    let rules = oracle::Rules { root: oracle::Root::Ignored, ..oracle::Rules::default() };
    seen.wrongs.extend(oracle::differences(&sent, &arrived, &rules));
    seen.noticed = seen.wrongs.is_empty() && seen.complaints.is_empty();
    seen.survived = u64::from(seen.noticed && !is_special);
    seen
}

/// DIR itself is what the user names: a link to a directory is followed, anything else is refused.
fn dir_itself(object: &str, key: &Key) -> Seen {
    let mut place = Place::new();
    let mut seen = Seen::default();
    let dir = place.beside("planted");
    // A link to a directory is the user's word; the canary is no such directory here.
    let elsewhere = place.beside("elsewhere");
    let is_followed = matches!(object, "link-to-directory" | "link-up");
    let made = std::fs::create_dir(&elsewhere).is_ok();
    seen.happened = match is_followed {
        true => made && symlink(&elsewhere, &dir).is_ok(),
        false => plant(object, &dir, place.canary.path()),
    };
    place.target.clone_from(&dir);
    let mut running = place.command(&receiver_script(), None).start();
    while !place.beside("ticket").exists() && !running.has_ended() && running.age() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(2));
    }
    if place.beside("ticket").exists() {
        let manifest = Manifest::default().file(b"wanted", b"sent").complete();
        if let Err(why) = serve(&place, &mut running, &manifest, key, &mut seen) {
            seen.log.push(why);
        }
    }
    let Some(finished) = look(&place, running, &mut seen) else { return seen };
    let is_directory = is_followed || object == "directory";
    seen.noticed = (finished.code() == Some(0)) == is_directory;
    if !seen.noticed {
        seen.complaints.push(format!("exit code {:?}\n{}", finished.code(), finished.describe()));
    }
    seen.survived = u64::from(finished.code() == Some(0));
    seen
}
