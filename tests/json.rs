//! The document of the JSON events against what the library makes of every event, and what the commands print: each
//! line has the documented fields and no others, and each documented field is seen.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use landfall::attributes::Level;
use landfall::cli::json;
use landfall::error::{Error, Exit};
use landfall::event::{Event, Found, Notice, Snapshot, Start, Summary, WaitsFor};
use landfall::identity::{PeerKey, Role, TransferId};
use landfall::outcome::{Counts, NotPreserved, Reason, Reused};
use landfall::path::RelPath;
use landfall::wire::Phase;
use serde_json::{Map, Value};

/// One row of a table.
#[derive(Debug)]
struct Field {
    kind: String,
    when: String,
}

type Fields = BTreeMap<String, Field>;

/// The tables and the examples of the document, by event.
fn document() -> (BTreeMap<String, Fields>, Vec<String>) {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/json.md")).unwrap();
    let (mut events, mut examples) = (BTreeMap::new(), Vec::new());
    let mut current = String::new();
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            current = title.trim_matches('`').to_owned();
        } else if let Some(row) = line.strip_prefix("| `") {
            let cells: Vec<&str> = row.split(" | ").collect();
            let field = Field { kind: cells[1].to_owned(), when: cells[2].to_owned() };
            let fields: &mut Fields = events.entry(current.clone()).or_default();
            assert!(fields.insert(cells[0].trim_end_matches('`').to_owned(), field).is_none(), "{line}");
        } else if line.starts_with('{') {
            assert!(line.contains(&format!("\"event\":\"{current}\"")), "an example in another section: {line}");
            examples.push(line.to_owned());
        }
    }
    (events, examples)
}

fn is_of_kind(value: &Value, kind: &str) -> bool {
    match kind {
        "string" => value.is_string(),
        "number" => value.is_u64(),
        "boolean" => value.is_boolean(),
        "array of strings" => value.as_array().is_some_and(|items| items.iter().all(Value::is_string)),
        "object of numbers" => value.as_object().is_some_and(|fields| fields.values().all(Value::is_u64)),
        other => panic!("no such type: {other}"),
    }
}

/// Compares lines with the document, and keeps which fields were seen.
struct Check {
    events: BTreeMap<String, Fields>,
    seen: BTreeSet<(String, String)>,
}

impl Check {
    fn new() -> Check {
        Check { events: document().0, seen: BTreeSet::new() }
    }

    fn line(&mut self, line: &str) -> Map<String, Value> {
        assert!(line.is_ascii(), "{line}");
        let Value::Object(object) = serde_json::from_str(line).unwrap() else { panic!("not an object: {line}") };
        assert_eq!(object["schema"], 1, "{line}");
        let event = object["event"].as_str().unwrap().to_owned();
        let fields = self.events.get(&event).unwrap_or_else(|| panic!("`{event}` is not documented"));
        let mut found = BTreeSet::new();
        for (key, value) in object.iter().filter(|(key, _)| *key != "schema" && *key != "event") {
            let name = key.strip_suffix("_b64").unwrap_or(key);
            let field = fields.get(name).unwrap_or_else(|| panic!("`{event}.{key}` is not documented: {line}"));
            assert!(is_of_kind(value, &field.kind), "`{event}.{key}` is no {}: {value}", field.kind);
            assert!(found.insert(name), "`{event}.{name}` stands there twice: {line}");
        }
        for (name, field) in fields {
            assert!(field.when != "always" || found.contains(name.as_str()), "`{event}.{name}` is missing: {line}");
        }
        self.seen.extend(found.into_iter().map(|name| (event.clone(), name.to_owned())));
        object
    }

    fn object(&mut self, object: Map<String, Value>) -> Map<String, Value> {
        self.line(&json::line(object, None))
    }

    /// Every documented field of these events was seen.
    fn assert_all_seen(&self, events: &[&str]) {
        for event in events {
            for name in self.events[*event].keys() {
                assert!(self.seen.contains(&((*event).to_owned(), name.clone())), "`{event}.{name}` was never seen");
            }
        }
    }
}

fn path(bytes: &[u8]) -> RelPath {
    RelPath::parse(bytes).unwrap()
}

fn summary() -> Summary {
    Summary {
        transfer: TransferId([1; 16]),
        role: Role::Sender,
        peer: PeerKey([2; 32]),
        peer_host: "h\u{f6}st".into(),
        counts: Counts { not_preserved: NotPreserved { owners: 1, ..NotPreserved::default() }, ..Counts::default() },
        delivered_files: 1,
        delivered_bytes: 2,
        wire_bytes: 3,
        reused: Reused { unchanged_files: 1, changed_files: 2, moved_files: 3, bytes: 4 },
        resent_chunks: 5,
        left_out: 0,
        kept: 6,
        attributes_not_applied: 7,
        renamed: 8,
        level: Level::Evicted,
        is_durable: true,
        elapsed: Duration::from_millis(1500),
        receipt: PathBuf::from("/r"),
        finished: 1_800_000_000,
    }
}

fn notices() -> Vec<Notice> {
    vec![
        Notice::NamedTwice(b"a\xff".to_vec()),
        Notice::StateSkipped(b"a".to_vec()),
        Notice::MountSkipped(path(b"a")),
        Notice::BadPattern { file: b"a/.ignore".to_vec(), why: "unclosed".into() },
        Notice::Excluded { objects: 2 },
        Notice::StateRebuilt { what: "journal", instead: "it is read back" },
        Notice::NotDurable,
        Notice::SenderMayNotKnow,
        Notice::DiskFull { missing_bytes: 7 },
        Notice::DiskFreed,
        Notice::Retried { path: path(b"a"), reason: Reason::Changed },
        Notice::FoundAt { id: TransferId([1; 16]), addresses: vec!["192.0.2.1:5".parse().unwrap()] },
        Notice::Limited { bytes_per_s: NonZeroU64::new(300_000) },
        Notice::Limited { bytes_per_s: None },
        Notice::WrongCode { address: "192.0.2.1:5".parse().unwrap(), is_last: false },
        Notice::WrongCode { address: "192.0.2.1:5".parse().unwrap(), is_last: true },
        Notice::TicketGiven { address: "192.0.2.1:5".parse().unwrap() },
        Notice::NobodyFound { others: 2 },
        Notice::FoundUnreachable { address: "192.0.2.1:5".parse().unwrap() },
        Notice::Refused { address: "192.0.2.1:5".parse().unwrap(), why: "wrong proof".into() },
    ]
}

const PHASES: [Phase; 10] = [
    Phase::Connecting,
    Phase::Consent,
    Phase::Scanning,
    Phase::Transferring,
    Phase::Adopting,
    Phase::Verifying,
    Phase::Finishing,
    Phase::Receipt,
    Phase::DiskFull,
    Phase::Done,
];

const WAITS: [WaitsFor; 9] = [
    WaitsFor::Nothing,
    WaitsFor::Peer,
    WaitsFor::Link,
    WaitsFor::SenderDisk,
    WaitsFor::ReceiverDisk,
    WaitsFor::Network,
    WaitsFor::Consent,
    WaitsFor::Space,
    WaitsFor::Acknowledgement,
];

/// Every kind of event, in every shape that changes its fields or its words.
fn every_event() -> Vec<Event> {
    let (peer, host, address) = (PeerKey([2; 32]), "h".to_owned(), "[::1]:9".parse().unwrap());
    let ticket = |written_to| Event::Ticket { text: "landfallx".into(), expires: 1_800_000_000, written_to };
    let mut events = vec![
        ticket(None),
        ticket(Some(PathBuf::from("t"))),
        Event::Code { code: "action-zoo-legend".into(), expires: 1_800_000_000 },
        Event::Reading { bytes: 7, elapsed: Duration::from_millis(3), is_total: true },
        Event::Transfer { id: TransferId([1; 16]), role: Role::Sender, start: Start::New },
        Event::Transfer { id: TransferId([1; 16]), role: Role::Receiver, start: Start::Resumed },
        Event::Connected { peer, host, address },
        Event::LinkLost { cause: "silence".into() },
        Event::Summary(Box::new(summary())),
    ];
    for (index, phase) in PHASES.into_iter().enumerate() {
        let stalled = WAITS.get(index).map(|waits_for| (Duration::from_secs(3), *waits_for));
        let object = (index > 0).then(|| path(b"a/\xff"));
        events.push(Event::Progress(Snapshot { phase, object, stalled, ..Snapshot::default() }));
    }
    events.extend(notices().into_iter().map(Event::Notice));
    for found in [Found::Arrival, Found::ReadBack, Found::BadRead, Found::Source] {
        events.push(Event::Mismatch { path: path(b"a"), offset: 1 << 40, found });
    }
    for side in [Role::Sender, Role::Receiver] {
        events.push(Event::Renamed { path: path(b"a"), renamed_to: path(b"a (1)") });
        events.push(Event::LeftOut { path: path("b\u{e4}d\n".as_bytes()), reason: Reason::Changed, side });
    }
    events
}

#[test]
fn every_event_has_the_documented_fields() {
    let mut check = Check::new();
    for event in every_event() {
        check.object(json::event(&event));
    }
    let events = [
        "ticket",
        "code",
        "reading",
        "transfer",
        "connected",
        "link-lost",
        "progress",
        "notice",
        "left-out",
        "renamed",
        "mismatch",
        "summary",
    ];
    check.assert_all_seen(&events);
}

#[test]
fn every_word_is_documented() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/json.md")).unwrap();
    let mut words: Vec<String> = json::reason_words().into_iter().map(str::to_owned).collect();
    for event in every_event() {
        let object = json::event(&event);
        let keys = ["event", "role", "start", "phase", "waits_for", "kind", "side", "found", "level", "reason"];
        words.extend(keys.iter().filter_map(|key| object.get(*key)?.as_str().map(str::to_owned)));
    }
    for word in words {
        assert!(text.contains(&format!("`{word}`")), "`{word}` is not documented");
    }
}

#[test]
fn every_error_has_the_documented_fields() {
    let mut check = Check::new();
    let errors = [
        Error::State { path: PathBuf::from("s"), source: std::io::ErrorKind::NotFound.into() },
        Error::Declined,
        Error::NoLink { peer: Role::Sender, seconds: 1, cause: "silence".into() },
        Error::Interrupted { name: "SIGINT", number: 2 },
    ];
    for error in &errors {
        let object = check.object(json::error_event(error));
        assert_eq!(object["exit"], error.exit().code());
    }
    check.assert_all_seen(&["error"]);
}

#[test]
fn a_summary_with_entries_left_out_says_exit_5() {
    let left_out = Summary { left_out: 1, ..summary() };
    assert_eq!(json::event(&Event::Summary(Box::new(summary())))["exit"], Exit::Done.code());
    assert_eq!(json::event(&Event::Summary(Box::new(left_out)))["exit"], Exit::LeftOut.code());
}

#[test]
fn the_examples_are_as_documented() {
    let (events, examples) = document();
    let mut check = Check::new();
    let shown: BTreeSet<String> =
        examples.iter().map(|line| check.line(line)["event"].as_str().unwrap().to_owned()).collect();
    assert_eq!(shown, events.keys().cloned().collect(), "one example for each event");
}

fn landfall(home: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_landfall"));
    command.args(arguments).env("LANDFALL_HOME", home).env_remove("LANDFALL_TICKET").output().unwrap()
}

/// The lines of a command that has to end with that code.
fn lines(check: &mut Check, home: &Path, arguments: &[&str], code: i32) -> Vec<Map<String, Value>> {
    let output = landfall(home, arguments);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(code), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text.lines().map(|line| check.line(line)).collect()
}

#[test]
fn what_the_commands_print_is_as_documented() {
    let mut check = Check::new();
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let home = dir.path().join("home");
    assert_eq!(lines(&mut check, &home, &["id", "--json"], 0).len(), 1);
    assert!(lines(&mut check, &home, &["status", "--json"], 0).is_empty());

    std::fs::create_dir(at("source")).unwrap();
    std::fs::write(at("source/file"), "bytes").unwrap();
    // Whatever file system the tests run on is good enough for what is printed.
    let copy = ["send", &at("source"), "--to", &at("target"), "--json", "--accept-level", "cache"];
    let events = lines(&mut check, &home, &copy, 0);
    let summary = events.last().unwrap();
    assert_eq!((&summary["event"], &summary["exit"]), (&"summary".into(), &0.into()));
    let receipt = summary["receipt"].as_str().unwrap();

    let standings = lines(&mut check, &home, &["status", "--json"], 0);
    assert!(standings.iter().any(|standing| standing["state"] == "finished" && standing["role"] == "sender"));

    let same = lines(&mut check, &home, &["verify", receipt, &at("target"), "--json"], 0);
    assert_eq!((same.len(), &same[0]["differing"]), (1, &0.into()));
    std::fs::write(at("target/source/file"), "other bytes").unwrap();
    std::fs::write(at("source/more"), "more").unwrap();
    let plan = ["send", &at("source"), "--to", &at("target"), "--plan", "--json"];
    let planned = lines(&mut check, &home, &plan, 5);
    let actions: Vec<&Value> = planned.iter().filter_map(|line| line.get("action")).collect();
    assert_eq!(actions, ["present", "leave-out", "send"]);
    assert_eq!((&planned[3]["event"], &planned[3]["left_out"]), (&"plan".into(), &1.into()));

    let renaming = [&plan[..], &["--existing", "rename"]].concat();
    let planned = lines(&mut check, &home, &renaming, 0);
    let actions: Vec<&Value> = planned.iter().filter_map(|line| line.get("action")).collect();
    assert_eq!(actions, ["present", "rename", "send"]);

    std::fs::write(at("target/source/old"), "old").unwrap();
    let mirror = [&copy[..], &["--existing", "replace", "--delete", "--yes"]].concat();
    let deleted = lines(&mut check, &home, &mirror, 0);
    let events: Vec<&Value> = deleted.iter().rev().take(3).map(|line| &line["event"]).collect();
    assert_eq!(events, ["deletion", "to-delete", "summary"]);
    std::fs::write(at("target/source/file"), "other bytes").unwrap();

    let differing = lines(&mut check, &home, &["verify", receipt, &at("target"), "--json"], 1);
    let words: Vec<&Value> = differing.iter().filter_map(|line| line.get("what")).collect();
    assert!(words.contains(&&"size".into()), "{words:?}");
    assert_eq!(differing.last().unwrap()["event"], "verified");
    let refused = lines(&mut check, &home, &["verify", &at("source/file"), "--json"], 1);
    assert_eq!(refused[0]["event"], "error");
    check.assert_all_seen(&["id", "difference", "verified", "plan-entry", "plan", "to-delete", "deletion"]);
}
