//! Events as lines of JSON. `docs/json.md` is the description, `tests/json.rs` compares the two. Every line is
//! ASCII: what is beyond is escaped, so that no line can rewrite a terminal.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use data_encoding::BASE64;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};
use serde_json::{Map, Value, json};

use super::failure::Failure;
use super::text::notice_text;
use crate::error::{Error, Exit};
use crate::event::{Event, Found, Notice, Snapshot, Start, Summary, WaitsFor};
use crate::identity::TransferId;
use crate::outcome::Reason;
use crate::wire::Phase;

/// Version of the schema, in every line.
pub const SCHEMA: u32 = 1;

/// One line, with its newline. Under `resume` several transfers share a stream, and `transfer` tells them apart.
pub fn line(mut object: Map<String, Value>, transfer: Option<TransferId>) -> String {
    if let Some(id) = transfer {
        object.insert("transfer".into(), id.to_string().into());
    }
    let mut bytes = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut bytes, Ascii(CompactFormatter));
    Value::Object(object).serialize(&mut serializer).expect("a value with text keys can be serialized");
    bytes.push(b'\n');
    String::from_utf8(bytes).expect("all that is written is ASCII")
}

/// An object of a kind, to be filled.
pub(super) fn object(event: &str) -> Map<String, Value> {
    let mut object = Map::new();
    object.insert("schema".into(), SCHEMA.into());
    object.insert("event".into(), event.into());
    object
}

fn filled(event: &str, fields: Value) -> Map<String, Value> {
    let mut object = object(event);
    if let Value::Object(fields) = fields {
        object.extend(fields);
    }
    object
}

/// `key`, or `key_b64` where the bytes are not UTF-8.
pub(super) fn put_bytes(object: &mut Map<String, Value>, key: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => object.insert(key.into(), text.into()),
        Err(_) => object.insert(format!("{key}_b64"), BASE64.encode(bytes).into()),
    };
}

/// As [`put_bytes`], for a path of this machine.
pub(super) fn put_path(object: &mut Map<String, Value>, key: &str, path: &Path) {
    put_bytes(object, key, path.as_os_str().as_bytes());
}

/// Seconds since 1970 as RFC 3339.
pub(super) fn time(seconds: i64) -> String {
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX).to_string()
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The object of an event.
pub fn event(event: &Event) -> Map<String, Value> {
    match event {
        Event::Ticket { text, expires, written_to } => {
            let expires = time(i64::try_from(*expires).unwrap_or(i64::MAX));
            let mut object = filled("ticket", json!({ "expires": expires }));
            match written_to {
                Some(path) => put_path(&mut object, "file", path),
                None => drop(object.insert("ticket".into(), text.as_str().into())),
            }
            object
        }
        Event::Code { code, expires } => {
            let expires = time(i64::try_from(*expires).unwrap_or(i64::MAX));
            filled("code", json!({ "code": code, "expires": expires }))
        }
        Event::Reading { bytes, elapsed, is_total } => {
            filled("reading", json!({ "bytes": bytes, "elapsed_ms": ms(*elapsed), "is_total": is_total }))
        }
        Event::Transfer { id, role, start } => {
            let start = match start {
                Start::New => "new",
                Start::Resumed => "resumed",
            };
            filled("transfer", json!({ "id": id.to_string(), "role": role.word(), "start": start }))
        }
        Event::Connected { peer, host, address } => {
            let peer = peer.fingerprint().to_string();
            filled("connected", json!({ "peer": peer, "host": host, "address": address.to_string() }))
        }
        Event::LinkLost { cause } => filled("link-lost", json!({ "cause": cause })),
        Event::Progress(snapshot) => progress(snapshot),
        Event::Notice(notice) => notice_object(notice),
        Event::LeftOut { path, reason, side } => {
            let fields = json!({ "reason": reason.word(), "message": reason.to_string(), "side": side.word() });
            let mut object = filled("left-out", fields);
            put_bytes(&mut object, "path", path.as_bytes());
            object
        }
        Event::Renamed { path, renamed_to } => {
            let mut object = object("renamed");
            put_bytes(&mut object, "path", path.as_bytes());
            put_bytes(&mut object, "renamed_to", renamed_to.as_bytes());
            object
        }
        Event::Mismatch { path, offset, found } => {
            let found = match found {
                Found::Arrival => "arrival",
                Found::ReadBack => "read-back",
                Found::BadRead => "bad-read",
                Found::Source => "source",
            };
            let mut object = filled("mismatch", json!({ "offset": offset, "found": found }));
            put_bytes(&mut object, "path", path.as_bytes());
            object
        }
        Event::Summary(summary) => summary_object(summary),
    }
}

/// The object of an error with which a driver ends.
pub fn error_event(error: &Error) -> Map<String, Value> {
    self::error(&Failure::from(error))
}

/// The object of a run that ended without a summary.
pub(super) fn error(failure: &Failure) -> Map<String, Value> {
    let mut object =
        filled("error", json!({ "message": failure.message, "causes": failure.causes, "exit": failure.exit.code() }));
    if let Some(hint) = &failure.hint {
        object.insert("hint".into(), hint.as_str().into());
    }
    object
}

/// Exit code of a run that ended with a summary.
pub(super) fn exit_of(summary: &Summary) -> Exit {
    if summary.left_out > 0 { Exit::LeftOut } else { Exit::Done }
}

fn progress(now: &Snapshot) -> Map<String, Value> {
    let mut object = filled(
        "progress",
        json!({
            "phase": phase_word(now.phase),
            "known_bytes": now.known_bytes,
            "known_files": now.known_files,
            "is_total": now.is_total,
            "hashed_bytes": now.hashed_bytes,
            "held_bytes": now.held_bytes,
            "verified_bytes": now.verified_bytes,
            "sealed_files": now.sealed_files,
            "wire_bytes": now.wire_bytes,
        }),
    );
    if let Some(path) = &now.object {
        put_bytes(&mut object, "path", path.as_bytes());
    }
    if let Some((since, waits_for)) = now.stalled
        && let Some(word) = waits_for_word(waits_for)
    {
        object.insert("stalled_ms".into(), ms(since).into());
        object.insert("waits_for".into(), word.into());
    }
    object
}

fn notice_object(notice: &Notice) -> Map<String, Value> {
    let (kind, path): (_, Option<&[u8]>) = match notice {
        Notice::NamedTwice(path) => ("named-twice", Some(path)),
        Notice::StateSkipped(path) => ("state-skipped", Some(path)),
        Notice::MountSkipped(path) => ("mount-skipped", Some(path.as_bytes())),
        Notice::BadPattern { file, .. } => ("bad-pattern", Some(file)),
        Notice::Excluded { .. } => ("excluded", None),
        Notice::StateRebuilt { .. } => ("state-rebuilt", None),
        Notice::NotDurable => ("not-durable", None),
        Notice::SenderMayNotKnow => ("sender-may-not-know", None),
        Notice::DiskFull { .. } => ("disk-full", None),
        Notice::DiskFreed => ("disk-freed", None),
        Notice::Retried { path, .. } => ("retried", Some(path.as_bytes())),
        Notice::FoundAt { .. } => ("found-at", None),
        Notice::NoUdp { .. } => ("no-udp", None),
        Notice::Limited { .. } => ("limited", None),
        Notice::WrongCode { .. } => ("wrong-code", None),
        Notice::TicketGiven { .. } => ("ticket-given", None),
        Notice::NobodyFound { .. } => ("nobody-found", None),
        Notice::FoundUnreachable { .. } => ("found-unreachable", None),
        Notice::Refused { .. } => ("refused", None),
    };
    let mut object = filled("notice", json!({ "kind": kind, "message": notice_text(notice) }));
    if let Some(path) = path {
        put_bytes(&mut object, "path", path);
    }
    match notice {
        Notice::DiskFull { missing_bytes } => drop(object.insert("missing_bytes".into(), (*missing_bytes).into())),
        Notice::Excluded { objects } => drop(object.insert("objects".into(), (*objects).into())),
        Notice::Retried { reason, .. } => drop(object.insert("reason".into(), reason.word().into())),
        Notice::FoundAt { addresses, .. } => {
            let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            drop(object.insert("addresses".into(), addresses.into()));
        }
        Notice::Limited { bytes_per_s: Some(rate) } => drop(object.insert("bytes_per_s".into(), rate.get().into())),
        Notice::NobodyFound { others } => drop(object.insert("others".into(), (*others).into())),
        Notice::WrongCode { address, .. }
        | Notice::TicketGiven { address }
        | Notice::FoundUnreachable { address }
        | Notice::Refused { address, .. } => drop(object.insert("address".into(), address.to_string().into())),
        _ => {}
    }
    object
}

fn summary_object(summary: &Summary) -> Map<String, Value> {
    let counts = &summary.counts;
    let not_preserved = json!({
        "owners": counts.not_preserved.owners,
        "extended_attributes": counts.not_preserved.extended_attributes,
        "hard_links": counts.not_preserved.hard_links,
        "special_bits": counts.not_preserved.special_bits,
    });
    let mut object = filled(
        "summary",
        json!({
            "exit": exit_of(summary).code(),
            "id": summary.transfer.to_string(),
            "role": summary.role.word(),
            "peer": summary.peer.fingerprint().to_string(),
            "host": summary.peer_host,
            "files": counts.files,
            "directories": counts.directories,
            "symlinks": counts.symlinks,
            "bytes": counts.bytes,
            "delivered_files": summary.delivered_files,
            "delivered_bytes": summary.delivered_bytes,
            "wire_bytes": summary.wire_bytes,
            "adopted_bytes": summary.reused.bytes,
            "unchanged_files": summary.reused.unchanged_files,
            "changed_files": summary.reused.changed_files,
            "moved_files": summary.reused.moved_files,
            "resent_chunks": summary.resent_chunks,
            "not_preserved": not_preserved,
            "left_out": summary.left_out,
            "kept": summary.kept,
            "attributes_not_applied": summary.attributes_not_applied,
            "renamed": summary.renamed,
            "level": summary.level.word(),
            "is_durable": summary.is_durable,
            "elapsed_ms": ms(summary.elapsed),
            "finished": time(summary.finished),
        }),
    );
    put_path(&mut object, "receipt", &summary.receipt);
    object
}

fn phase_word(phase: Phase) -> &'static str {
    match phase {
        Phase::Connecting => "connecting",
        Phase::Consent => "consent",
        Phase::Scanning => "scanning",
        Phase::Transferring => "transferring",
        Phase::Adopting => "adopting",
        Phase::Verifying => "verifying",
        Phase::Finishing => "finishing",
        Phase::Receipt => "receipt",
        Phase::DiskFull => "disk-full",
        Phase::Done => "done",
    }
}

fn waits_for_word(waits_for: WaitsFor) -> Option<&'static str> {
    Some(match waits_for {
        WaitsFor::Nothing => return None,
        WaitsFor::Peer => "peer",
        WaitsFor::Link => "link",
        WaitsFor::SenderDisk => "sender-disk",
        WaitsFor::ReceiverDisk => "receiver-disk",
        WaitsFor::Network => "network",
        WaitsFor::Consent => "consent",
        WaitsFor::Space => "space",
        WaitsFor::Acknowledgement => "acknowledgement",
    })
}

/// Every reason's stable word, for the document's test.
pub fn reason_words() -> Vec<&'static str> {
    (0..=u8::MAX).map_while(|number| postcard::from_bytes::<Reason>(&[number]).ok()).map(Reason::word).collect()
}

/// Writes everything beyond ASCII, and DEL, as `\u` escapes.
struct Ascii(CompactFormatter);

impl Formatter for Ascii {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut units = [0; 2];
        for letter in fragment.chars() {
            if letter.is_ascii() && letter != '\u{7f}' {
                self.0.write_string_fragment(writer, letter.encode_utf8(&mut [0; 4]))?;
                continue;
            }
            for unit in letter.encode_utf16(&mut units) {
                write!(writer, "\\u{unit:04x}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_line_is_ascii_and_says_the_same() {
        let text = "a\"\\\n\u{7f}é\u{202e}👍";
        let mut object = object("x");
        object.insert("text".into(), text.into());
        let line = line(object, None);
        assert!(
            line.is_ascii() && line.ends_with("}\n") && !line[..line.len() - 1].contains(char::is_control),
            "{line}"
        );
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["text"], text);
    }

    #[test]
    fn names_that_are_not_text_travel_as_bytes() {
        let mut object = Map::new();
        put_bytes(&mut object, "path", b"a\xff");
        put_bytes(&mut object, "file", b"a");
        assert_eq!(Value::Object(object), json!({ "path_b64": "Yf8=", "file": "a" }));
    }

    #[test]
    fn under_resume_lines_say_which_transfer() {
        let line = line(object("x"), Some(TransferId([1; 16])));
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["transfer"], TransferId([1; 16]).to_string());
    }
}
