//! The words of results and notices for people: what arrived, how well it is proved, what is missing, and how to
//! check it later. One screen at most. What it does not do: print.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{Timestamp, ZonedDateTime};

use super::{screen, shown};
use crate::attributes::Level;
use crate::event::{Event, Found, Notice, Summary};
use crate::identity::Role;
use crate::outcome::{NotPreserved, Reason, Reused};
use crate::path::{Escaped, RelPath};
use crate::progress::figures::{bytes, count, counted, rate, time};

/// Entries left out, and entries under another name, that are named on the screen; the receipt names all.
pub(super) const LEFT_OUT_NAMED_MAX: usize = 20;

/// An entry that was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LeftOut {
    pub(super) path: RelPath,
    pub(super) reason: Reason,
}

/// A date of this place's time zone.
pub(super) fn date(seconds: i64) -> String {
    let instant = Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX);
    ZonedDateTime::new(instant, TimeZone::system()).strftime("%Y-%m-%d %H:%M %Z").to_string()
}

/// A notice in words.
pub(super) fn notice_text(notice: &Notice) -> String {
    match notice {
        Notice::NamedTwice(path) => format!("`{}` is named twice and sent once", Escaped(path)),
        Notice::StateSkipped(path) => format!("`{}` is landfall's own state and is not sent", Escaped(path)),
        Notice::MountSkipped(path) => {
            format!("`{path}` is another file system: what is in it stays where it is")
        }
        Notice::BadPattern { file, why } => format!("`{}`: {}", Escaped(file), shown::sentence(why)),
        Notice::Excluded { objects: 1 } => "1 file or directory is excluded and stays where it is".to_owned(),
        Notice::Excluded { objects } => {
            format!("{} files and directories are excluded and stay where they are", count(*objects))
        }
        Notice::StateRebuilt { what, instead } => format!("{what} was damaged or missing: {instead}; nothing is lost"),
        Notice::NotDurable => "the target's file system does not survive a power cut".to_owned(),
        Notice::SenderMayNotKnow => "the sender may not know yet; `landfall resume` answers it".to_owned(),
        Notice::DiskFull { missing_bytes } => {
            format!("the receiver's disk is full: {} more are needed; waiting for space", bytes(*missing_bytes))
        }
        Notice::DiskFreed => "there is space again".to_owned(),
        Notice::Retried { path, reason } => format!("`{path}` is read once more: {reason}"),
        Notice::FoundAt { id, addresses } => {
            let all = addresses.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(", ");
            let address = if addresses.len() == 1 { &all } else { "ADDR:PORT" };
            let id = screen::short(*id);
            format!(
                "waiting at {all}; if the other side calls elsewhere: `landfall resume {id} --peer {address}` there"
            )
        }
        Notice::NoUdp { host, addresses } => {
            let tried = addresses.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(", ");
            format!(
                "nothing comes back from `{}` by UDP (tried {tried}): open that port there, or run the same command again \
                 with `--relay-over-ssh`",
                shown::sentence(host)
            )
        }
        Notice::Limited { bytes_per_s: Some(rate) } => {
            format!("limited to {} a second from now on", bytes(rate.get()))
        }
        Notice::Limited { bytes_per_s: None } => "not limited from now on".to_owned(),
        Notice::WrongCode { .. }
        | Notice::TicketGiven { .. }
        | Notice::NobodyFound { .. }
        | Notice::FoundUnreachable { .. } => code_text(notice).unwrap_or_default(),
        Notice::Refused { address, why } => format!("refused a connection from {address}: {}", shown::sentence(why)),
    }
}

/// A notice about a code in words.
fn code_text(notice: &Notice) -> Option<String> {
    Some(match notice {
        Notice::WrongCode { address, is_last: false } => {
            format!("somebody at {address} typed a wrong code; that one is void, and here is another")
        }
        Notice::WrongCode { address, is_last: true } => {
            let times = crate::limits::LAN_ATTEMPTS_MAX;
            format!(
                "somebody at {address} typed a wrong code, the {times}th: somebody on this network may be guessing; no code is \
                 shown any more"
            )
        }
        Notice::TicketGiven { address } => {
            format!("the right code came from {address}; waiting for its connection by UDP")
        }
        Notice::NobodyFound { others } => {
            let others = match others {
                0 => "nobody else waits here either".to_owned(),
                number => format!("{} with other codes", counted(*number, "machine waits", "machines wait")),
            };
            format!(
                "still looking for the machine that shows this code ({others}): is it on this network, does \
                 `landfall recv --lan` run there, is UDP port 5353 open on both? If not, use a ticket"
            )
        }
        Notice::FoundUnreachable { address } => {
            format!(
                "the machine that shows this code cannot be reached at {address}: is that TCP port open there? If not, use a \
                 ticket"
            )
        }
        _ => return None,
    })
}

/// The line of an event that is neither progress nor a result.
pub(super) fn event_text(event: &Event, role: Role) -> Option<String> {
    Some(match event {
        Event::Ticket { .. } | Event::Code { .. } | Event::Reading { .. } | Event::Progress(_) | Event::Summary(_) => {
            return None;
        }
        Event::Transfer { id, start, .. } => match start {
            crate::event::Start::New => return None,
            crate::event::Start::Resumed => format!("continuing transfer {id}"),
        },
        Event::Connected { peer, host, address } => {
            let host = Escaped(host.as_bytes());
            format!("connected to the {} at {address}: {} (calls itself `{host}`)", role.other(), peer.fingerprint())
        }
        Event::LinkLost { cause } => format!("the link is lost ({}); trying again", shown::sentence(cause)),
        Event::Notice(notice) => notice_text(notice),
        Event::LeftOut { path, reason, .. } => format!("left out `{path}`: {reason}"),
        Event::Renamed { path, renamed_to } => {
            format!("`{path}` is now `{renamed_to}`: the target has something else under its name")
        }
        Event::Mismatch { path, offset, found } => {
            let found = match found {
                Found::Arrival => "wrong bytes arrived",
                Found::ReadBack => "the device returned wrong bytes",
                Found::BadRead => "the device returned wrong bytes once, right ones on the next read",
                Found::Source => "the source returns other bytes than before",
            };
            format!("{found} in `{path}` at offset {}", count(*offset))
        }
    })
}

/// How far standard input is read.
pub(super) fn reading_text(read_bytes: u64, elapsed: Duration, is_total: bool) -> String {
    if is_total {
        return format!("standard input is read to its end: {}, in {}", bytes(read_bytes), time(elapsed));
    }
    let rate = rate(read_bytes, elapsed).map(|rate| format!(" · {rate}")).unwrap_or_default();
    format!("reading standard input · {}{rate}", bytes(read_bytes))
}

/// Where what has come is when the run is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// In the target: it can be checked again.
    InTarget,
    /// It is given on, and not kept.
    Nowhere,
}

/// The result of a run, on one screen.
pub(super) fn summary_text(summary: &Summary, left_out: &[LeftOut], kept: Kept) -> String {
    let mut lines = vec![headline(summary)];
    lines.push(format!("  verified    {}", verified_words(summary)));
    if let Some(text) = not_preserved_words(&summary.counts.not_preserved) {
        lines.push(format!("  not kept    {text}"));
    }
    if summary.attributes_not_applied > 0 {
        let entries = counted(summary.attributes_not_applied, "entry", "entries");
        lines.push(format!("  attributes  mode or times of {entries} could not be set"));
    }
    if summary.kept > 0 {
        let entries = counted(summary.kept, "entry", "entries");
        lines.push(format!("  kept        the target's own version of {entries}"));
    }
    if summary.renamed > 0 {
        lines.push(format!("  renamed     {} under another name", counted(summary.renamed, "entry", "entries")));
    }
    lines.extend(left_out_lines(summary.left_out, left_out));
    lines.extend(reused_words(&summary.reused).map(|text| format!("  reused      {text}")));
    lines.push(format!("  moved       {}", moved_words(summary)));
    lines.push(format!("  {:<11} {}", summary.role.other().word(), peer_words(summary)));
    let receipt = shown::path(&summary.receipt);
    lines.push(format!("  receipt     {receipt} ({})", date(summary.finished)));
    if kept == Kept::InTarget {
        lines.push(format!("  check later landfall verify {} DIR", quoted(&summary.receipt)));
    }
    lines.join("\n") + "\n"
}

fn headline(summary: &Summary) -> String {
    let counts = &summary.counts;
    let mut what = vec![counted(summary.delivered_files, "file", "files")];
    if counts.directories > 0 {
        what.push(counted(counts.directories, "directory", "directories"));
    }
    if counts.symlinks > 0 {
        what.push(counted(counts.symlinks, "symlink", "symlinks"));
    }
    let verb = if summary.left_out == 0 { "arrived" } else { "arrived, but not everything did" };
    format!("{} ({}) {verb}", what.join(", "), bytes(summary.delivered_bytes))
}

fn verified_words(summary: &Summary) -> String {
    let level = level_words(summary.level);
    let durable = if summary.is_durable {
        "synced to stable storage"
    } else {
        "NOT durable: the target's file system does not survive a power cut"
    };
    format!("{level}; {durable}")
}

/// What a level means.
pub(super) fn level_words(level: Level) -> &'static str {
    match level {
        Level::Device => "read back from the device, past the cache (level device)",
        Level::Evicted => "read back after the cache was seen to be empty (level evicted)",
        Level::Requested => "read back, but the cache may have answered (level requested)",
        Level::Cache => "read back from the cache, which proves nothing about the device (level cache)",
    }
}

fn not_preserved_words(lost: &NotPreserved) -> Option<String> {
    let all = [
        (lost.owners, "owner"),
        (lost.extended_attributes, "ACLs or extended attributes"),
        (lost.hard_links, "hard links"),
        (lost.special_bits, "setuid, setgid or sticky bit"),
    ];
    let parts = all.iter().filter(|(number, _)| *number > 0);
    let parts: Vec<String> =
        parts.map(|(number, what)| format!("{what} of {}", counted(*number, "entry", "entries"))).collect();
    (!lost.is_empty()).then(|| parts.join("; "))
}

fn left_out_lines(total: u64, named: &[LeftOut]) -> Vec<String> {
    if total == 0 {
        return Vec::new();
    }
    let mut lines = vec![format!("  left out    {}", counted(total, "entry", "entries"))];
    let shown = &named[..named.len().min(LEFT_OUT_NAMED_MAX)];
    lines.extend(shown.iter().map(|entry| format!("    `{}`: {}", entry.path, entry.reason)));
    let more = total.saturating_sub(shown.len() as u64);
    if more > 0 {
        lines.push(format!("    and {} more, each named in the receipt", count(more)));
    }
    lines
}

fn reused_words(reused: &Reused) -> Option<String> {
    let parts = [
        (reused.unchanged_files, "unchanged"),
        (reused.changed_files, "changed in part"),
        (reused.moved_files, "found under another name"),
    ];
    let parts = parts.iter().filter(|(files, _)| *files > 0);
    let parts: Vec<String> = parts.map(|(files, how)| format!("{} {how}", counted(*files, "file", "files"))).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn moved_words(summary: &Summary) -> String {
    let mut text = format!("{} over the link", bytes(summary.wire_bytes));
    let reused = summary.reused.bytes;
    if reused > 0 {
        let place = if summary.role == Role::Sender { "there" } else { "here" };
        write!(text, ", {} were already {place}", bytes(reused)).expect("writing into memory cannot fail");
    }
    if summary.resent_chunks > 0 {
        let chunks = counted(summary.resent_chunks, "chunk", "chunks");
        write!(text, ", {chunks} sent again").expect("writing into memory cannot fail");
    }
    write!(text, ", in {}", time(summary.elapsed)).expect("writing into memory cannot fail");
    if let Some(rate) = rate(summary.wire_bytes, summary.elapsed).filter(|_| summary.wire_bytes > 0) {
        write!(text, " ({rate})").expect("writing into memory cannot fail");
    }
    text
}

fn peer_words(summary: &Summary) -> String {
    format!("{} (calls itself `{}`)", summary.peer.fingerprint(), Escaped(summary.peer_host.as_bytes()))
}

/// A path that a shell takes as it stands.
pub(super) fn quoted(path: &Path) -> String {
    let bytes = path.as_os_str().as_bytes();
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+,:@%".contains(byte);
    match std::str::from_utf8(bytes) {
        Ok(text) if !bytes.is_empty() && bytes.iter().all(is_plain) => text.to_owned(),
        Ok(text) if Escaped(bytes).to_string() == text => format!("'{}'", text.replace('\'', "'\\''")),
        _ => {
            let escaped: String = bytes.iter().flat_map(|byte| ansi_c(*byte)).collect();
            format!("$'{escaped}'")
        }
    }
}

/// One byte inside `$'…'`.
fn ansi_c(byte: u8) -> Vec<char> {
    if byte.is_ascii_graphic() && byte != b'\'' && byte != b'\\' || byte == b' ' {
        vec![char::from(byte)]
    } else {
        format!("\\x{byte:02x}").chars().collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::ffi::OsStr;
    use std::path::PathBuf;
    use std::time::Duration;

    use super::*;
    use crate::identity::{PeerKey, TransferId};
    use crate::outcome::Counts;

    fn summary() -> Summary {
        let not_preserved = NotPreserved { owners: 0, extended_attributes: 2, hard_links: 1, special_bits: 0 };
        Summary {
            transfer: TransferId([1; 16]),
            role: Role::Sender,
            peer: PeerKey([0xA5; 32]),
            peer_host: "n\u{1b}as".into(),
            counts: Counts { files: 3, directories: 1, not_preserved, ..Counts::default() },
            delivered_files: 3,
            delivered_bytes: 5 << 20,
            wire_bytes: 4 << 20,
            reused: Reused { unchanged_files: 1_912, changed_files: 1, moved_files: 0, bytes: 1 << 20 },
            resent_chunks: 1,
            left_out: 0,
            kept: 0,
            attributes_not_applied: 0,
            renamed: 0,
            level: Level::Device,
            is_durable: true,
            elapsed: Duration::from_secs(2),
            receipt: PathBuf::from("/r/x.receipt"),
            finished: 0,
        }
    }

    /// The text without the date, which depends on the place.
    fn shown(summary: &Summary, left_out: &[LeftOut]) -> String {
        summary_text(summary, left_out, Kept::InTarget).replace(&date(0), "DATE")
    }

    #[test]
    fn a_summary_says_what_arrived_and_how_it_can_be_checked() {
        assert_eq!(
            shown(&summary(), &[]),
            "3 files, 1 directory (5.0 MiB) arrived\n\
             \x20 verified    read back from the device, past the cache (level device); synced to stable storage\n\
             \x20 not kept    ACLs or extended attributes of 2 entries; hard links of 1 entry\n\
             \x20 reused      1,912 files unchanged, 1 file changed in part\n\
             \x20 moved       4.0 MiB over the link, 1.0 MiB were already there, 1 chunk sent again, in 2.0 s (2.0 MiB/s)\n\
             \x20 receiver    uws2-ljnf-uws2-ljnf-uws2-ljnf-uws2-ljnf (calls itself `n\\u{1b}as`)\n\
             \x20 receipt     /r/x.receipt (DATE)\n\
             \x20 check later landfall verify /r/x.receipt DIR\n"
        );
    }

    #[test]
    fn what_is_missing_is_named_up_to_one_screen() {
        let entry = |number: u32| {
            let path = RelPath::parse(format!("f{number}\n").as_bytes()).unwrap();
            LeftOut { path, reason: Reason::Vanished }
        };
        let named: Vec<LeftOut> = (0..25).map(entry).collect();
        let summary =
            Summary { left_out: 1_300, kept: 2, renamed: 3, is_durable: false, level: Level::Cache, ..summary() };
        let text = shown(&summary, &named);
        assert!(text.starts_with("3 files, 1 directory (5.0 MiB) arrived, but not everything did\n"), "{text}");
        assert!(text.contains("NOT durable"), "{text}");
        assert!(text.contains("  kept        the target's own version of 2 entries\n"), "{text}");
        assert!(text.contains("  renamed     3 entries under another name\n"), "{text}");
        assert!(text.contains("`f19\\n`: it was gone when the sender came to read it\n"), "{text}");
        assert!(!text.contains("f20"), "{text}");
        assert!(text.contains("    and 1,280 more, each named in the receipt\n"), "{text}");
        assert!(text.lines().count() <= 40, "{text}");
    }

    #[test]
    fn a_path_can_be_pasted_into_a_shell() {
        let quoted = |path: &[u8]| quoted(Path::new(OsStr::from_bytes(path)));
        assert_eq!(quoted(b"/a/b-1.receipt"), "/a/b-1.receipt");
        assert_eq!(quoted("/a b/ü's".as_bytes()), "'/a b/ü'\\''s'");
        assert_eq!(quoted(b"/a\n'\xff\\b"), "$'/a\\x0a\\x27\\xff\\x5cb'");
    }
}
