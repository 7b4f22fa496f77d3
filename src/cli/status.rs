//! `landfall status`: of each transfer what is durable, what is missing, and who waits for whom, from the state on
//! disk. It changes nothing, and may run beside a process that works on the same transfer.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::{Map, Value};

use super::arguments::StatusArguments;
use super::console::Console;
use super::failure::Failure;
use super::screen::short;
use super::text::date;
use super::{json, settings, shown, streams};
use crate::disk::{Disk, RealDir, RealDisk};
use crate::identity::{Role, TransferId};
use crate::path::STATE_DIR_NAME;
use crate::progress::figures::{bytes, count, counted};
use crate::state::home::Home;
use crate::state::survey::{Described, Held, described, held};
use crate::state::transfer::{Closed, End, Side, TransferRecord};

/// Names of the two logs, on either side.
const MANIFEST: &[u8] = b"manifest";
const JOURNAL: &[u8] = b"journal";

/// One transfer as it stands.
struct Standing {
    id: TransferId,
    role: Role,
    paths: Vec<PathBuf>,
    /// What it is about, if not paths of the user's.
    stream: Option<String>,
    state: State,
    peer: Option<String>,
    described: Option<Described>,
    /// Of a receiver.
    held: Option<Held>,
}

/// What goes on with a transfer.
enum State {
    /// A process is at work on it.
    Working { process: String },
    /// A process offers its ticket, until then.
    Offering { process: String, until: u64 },
    /// Nobody works on it, and nobody took its ticket, which is good until then.
    Untaken { until: u64 },
    /// Its ticket was not taken in time.
    Expired,
    /// Nobody works on it.
    Stopped,
    /// The other side of `--to` or `--from` starts it.
    Child,
    /// It is closed.
    Closed { closed: Closed, receipt: PathBuf },
    /// Its state lies in the directory, and its record elsewhere.
    Foreign,
}

/// Shows one transfer, those of a directory, or all.
pub(super) fn run(arguments: &StatusArguments, console: &Console) -> Result<(), Failure> {
    let home = Home::open(&settings::home()?).map_err(|error| Failure::from(&error))?;
    let listing = home.list().map_err(|error| Failure::from(&error))?;
    let mut standings = Vec::new();
    match &arguments.which {
        None => {
            for record in &listing.records {
                standings.push(of_record(record, &home)?);
            }
        }
        Some(which) => {
            for record in listing.records.iter().filter(|record| is_meant(record, which)) {
                standings.push(of_record(record, &home)?);
            }
            if standings.is_empty() {
                standings = foreign(which)?;
            }
        }
    }
    for (path, error) in &listing.damaged {
        console.error(&Failure::new(&format!("could not read the transfer in `{}`", path.display()), error).text());
    }
    if standings.is_empty() && !arguments.json {
        console.result("no transfers\n");
    }
    for standing in &standings {
        console.result(&match arguments.json {
            true => json::line(standing_object(standing), None),
            false => standing_text(standing),
        });
    }
    Ok(())
}

/// Whether an argument means this transfer: the beginning of its id, or one of its directories.
fn is_meant(record: &TransferRecord, which: &OsStr) -> bool {
    let is_id = which
        .to_str()
        .is_some_and(|text| !text.is_empty() && record.id.to_string().starts_with(&text.to_ascii_lowercase()));
    let path = Path::new(which).canonicalize().ok();
    is_id || path.is_some_and(|path| record.paths.contains(&path) || record.other.as_ref() == Some(&path))
}

fn of_record(record: &TransferRecord, home: &Home<RealDisk>) -> Result<Standing, Failure> {
    let holder = home.lock_holder(record.id, record.role).map_err(|error| Failure::from(&error))?;
    let dir = match record.role {
        Role::Sender => home.transfer_dir(record.id, Role::Sender).map(Some).map_err(|error| Failure::from(&error))?,
        Role::Receiver => record.paths.first().and_then(|target| state_dir(target, record.id)),
    };
    let (described, held) = surveyed(dir.as_ref(), record.id, record.role)?;
    Ok(Standing {
        id: record.id,
        role: record.role,
        paths: record.paths.clone(),
        stream: streams::described(home, record),
        state: state_of(record, holder, home),
        peer: record.peer.map(|peer| peer.fingerprint().to_string()),
        described,
        held,
    })
}

/// Where a receiver keeps what it works on, if that is there.
fn state_dir(target: &Path, id: TransferId) -> Option<RealDir> {
    let root = RealDisk::open_root(target).ok()?;
    RealDisk::new().open_dir(&root, format!("{STATE_DIR_NAME}/{id}").as_bytes()).ok()
}

fn surveyed(dir: Option<&RealDir>, id: TransferId, role: Role) -> Result<(Option<Described>, Option<Held>), Failure> {
    let Some(dir) = dir else { return Ok((None, None)) };
    let disk = RealDisk::new();
    let failed = |error: io::Error| Failure::new(&format!("could not read the logs of transfer `{id}`"), &error);
    let known = described(&disk, dir, MANIFEST, id).map_err(failed)?;
    let held = match (role, &known) {
        (Role::Receiver, Some(known)) => Some(held(&disk, dir, JOURNAL, id, known).map_err(failed)?),
        _ => None,
    };
    Ok((known, held))
}

fn state_of(record: &TransferRecord, holder: Option<String>, home: &Home<RealDisk>) -> State {
    if let Some(closed) = record.closed {
        return State::Closed { closed, receipt: home.receipt_path(record.id, record.role) };
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |now| now.as_secs());
    let is_untaken = record.side == Side::Listener && record.peer.is_none();
    match holder {
        Some(process) if is_untaken => State::Offering { process, until: record.expiry_seconds },
        Some(process) => State::Working { process },
        None if record.side == Side::Child => State::Child,
        None if record.is_expired(now) => State::Expired,
        None if is_untaken => State::Untaken { until: record.expiry_seconds },
        None => State::Stopped,
    }
}

/// What lies in a directory of which this installation has no record.
fn foreign(which: &OsStr) -> Result<Vec<Standing>, Failure> {
    let name = shown::os(which);
    let unknown = || {
        Failure::usage(format!("there is no transfer and no directory `{name}`"))
            .hint("`landfall status` shows all transfers")
    };
    let target = Path::new(which);
    if !target.is_dir() {
        return Err(unknown());
    }
    let disk = RealDisk::new();
    let ids = || {
        let root = RealDisk::open_root(target)?;
        match disk.open_dir(&root, STATE_DIR_NAME.as_bytes()) {
            Ok(dir) => disk.list(&dir),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(vec![]),
            Err(error) => Err(error),
        }
    };
    let listed = ids().map_err(|error| Failure::new(&format!("could not read the state in `{name}`"), &error))?;
    let ids = listed.iter().filter_map(|listed| std::str::from_utf8(&listed.name).ok()?.parse().ok());
    let mut standings = Vec::new();
    for id in ids {
        let (described, held) = surveyed(state_dir(target, id).as_ref(), id, Role::Receiver)?;
        let (paths, role) = (vec![target.to_owned()], Role::Receiver);
        let (stream, state, peer) = (None, State::Foreign, None);
        standings.push(Standing { id, role, paths, stream, state, peer, described, held });
    }
    if standings.is_empty() {
        return Err(Failure::usage(format!("there is no transfer into or out of `{name}`"))
            .hint("`landfall status` shows all transfers"));
    }
    Ok(standings)
}

fn standing_text(standing: &Standing) -> String {
    let first = standing.paths.first().map(|path| shown::path(path).to_string()).unwrap_or_default();
    let more = match standing.paths.len() {
        0 | 1 => String::new(),
        number => format!(" and {} more", number - 1),
    };
    let what = match (standing.role, &standing.stream) {
        (Role::Sender, Some(stream)) => format!("sending {stream}"),
        (Role::Receiver, Some(stream)) => format!("receiving for {stream}"),
        (Role::Sender, None) => format!("sending {first}{more}"),
        (Role::Receiver, None) => format!("receiving into {first}{more}"),
    };
    let mut lines = vec![
        format!("{}  {what}", standing.id),
        format!("  state    {}", state_text(&standing.state, standing.role, standing.id)),
    ];
    lines.extend(standing.peer.as_ref().map(|peer| format!("  {:<8} {peer}", standing.role.other().word())));
    if let Some(known) = standing.described.as_ref().filter(|_| !matches!(standing.state, State::Closed { .. })) {
        let bound = if known.is_total { "" } else { "at least " };
        let whole = format!("{bound}{}, {}", counted(known.files, "file", "files"), bytes(known.bytes));
        match &standing.held {
            Some(held) => lines.extend(held_lines(held, known, &whole)),
            None => lines.push(format!("  source   {whole}; the receiver knows what has arrived")),
        }
    }
    lines.join("\n") + "\n"
}

fn held_lines(held: &Held, known: &Described, whole: &str) -> [String; 2] {
    let sealed = format!("{} ({})", count(held.sealed_files), bytes(held.sealed_bytes));
    [
        format!("  durable  {sealed} of {whole} verified; {} more in staging", bytes(held.staged_bytes)),
        format!("  missing  {}{}", if known.is_total { "" } else { "at least " }, bytes(missing(known, held))),
    ]
}

fn missing(known: &Described, held: &Held) -> u64 {
    known.bytes.saturating_sub(held.sealed_bytes).saturating_sub(held.staged_bytes)
}

fn state_text(state: &State, role: Role, id: TransferId) -> String {
    let until = |seconds: u64| date(i64::try_from(seconds).unwrap_or(i64::MAX));
    let peer = role.other();
    match state {
        State::Working { process } => format!("process {process} is at work"),
        State::Offering { process, until: seconds } => {
            format!("process {process} waits for a {peer} to take the ticket, until {}", until(*seconds))
        }
        State::Untaken { until: seconds } => {
            format!("stopped; no {peer} has taken the ticket, which is good until {}", until(*seconds))
        }
        State::Expired => format!("no {peer} took the ticket in time"),
        State::Stopped => format!("stopped; the {peer} waits for `landfall resume {}`", short(id)),
        State::Child => format!("stopped; the {peer}, which started this side, starts it again"),
        State::Closed { closed, receipt } => {
            let receipt = shown::path(receipt);
            let end = until(closed.seconds);
            match closed.end {
                End::Finished => format!("finished on {end}; receipt in {receipt}"),
                End::Unconfirmed => format!(
                    "finished on {end}; the sender may not know, and `landfall resume {}` tells it; receipt in {receipt}",
                    short(id)
                ),
                End::Abandoned => format!("given up on {end}"),
            }
        }
        State::Foreign => "this installation has no record of it: another one, or another user, works on it".to_owned(),
    }
}

fn standing_object(standing: &Standing) -> Map<String, Value> {
    let mut object = json::object("status");
    object.insert("id".into(), standing.id.to_string().into());
    object.insert("role".into(), standing.role.word().into());
    object.insert("state".into(), state_word(&standing.state).into());
    if let Some(path) = standing.paths.first() {
        json::put_path(&mut object, "path", path);
    }
    object.insert("path_count".into(), standing.paths.len().into());
    object.insert("is_stream".into(), standing.stream.is_some().into());
    match &standing.state {
        State::Working { process } | State::Offering { process, .. } => {
            drop(object.insert("process".into(), process.as_str().into()));
        }
        State::Closed { receipt, closed } if closed.end != End::Abandoned => {
            json::put_path(&mut object, "receipt", receipt);
        }
        _ => {}
    }
    object.extend(standing.peer.as_ref().map(|peer| ("peer".to_owned(), peer.as_str().into())));
    if let Some(known) = &standing.described {
        object.insert("known_files".into(), known.files.into());
        object.insert("known_bytes".into(), known.bytes.into());
        object.insert("is_total".into(), known.is_total.into());
    }
    if let Some(held) = &standing.held {
        object.insert("sealed_files".into(), held.sealed_files.into());
        object.insert("sealed_bytes".into(), held.sealed_bytes.into());
        object.insert("staged_bytes".into(), held.staged_bytes.into());
    }
    object
}

fn state_word(state: &State) -> &'static str {
    match state {
        State::Working { .. } => "working",
        State::Offering { .. } => "offering",
        State::Untaken { .. } => "untaken",
        State::Expired => "expired",
        State::Stopped | State::Child => "stopped",
        State::Foreign => "foreign",
        State::Closed { closed, .. } => match closed.end {
            End::Finished => "finished",
            End::Unconfirmed => "unconfirmed",
            End::Abandoned => "abandoned",
        },
    }
}
