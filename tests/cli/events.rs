//! Every event that is printed has its section in `docs/json.md`, and every field its line there.

use std::collections::{BTreeMap, BTreeSet};

use crate::common::process::Finished;
use crate::common::scratch::Scratch;
use crate::common::transfer::{Listens, Setup};
use crate::common::tree::{Content, Tree};

/// Fields of one event: type and condition.
type Fields = BTreeMap<String, (String, String)>;

/// The tables of the document, by event.
fn documented() -> BTreeMap<String, Fields> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/json.md");
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut events: BTreeMap<String, Fields> = BTreeMap::new();
    let mut current = None;
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            current = title.strip_prefix('`').and_then(|title| title.strip_suffix('`')).map(str::to_owned);
            if let Some(name) = &current {
                events.insert(name.clone(), Fields::new());
            }
        } else if let (Some(name), true) = (&current, line.starts_with("| `")) {
            let cells: Vec<&str> = line.split(" | ").map(|cell| cell.trim_matches(['|', ' '])).collect();
            let field = cells[0].trim_matches('`').to_owned();
            let known = events.get_mut(name).expect("made at its heading");
            known.insert(field, (cells[1].to_owned(), cells[2].to_owned()));
        }
    }
    events
}

fn has_type(value: &serde_json::Value, wanted: &str) -> bool {
    match wanted {
        "string" => value.is_string(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array of strings" => value.as_array().is_some_and(|items| items.iter().all(serde_json::Value::is_string)),
        "object of numbers" => value.as_object().is_some_and(|map| map.values().all(serde_json::Value::is_number)),
        _ => false,
    }
}

/// What a run printed that the document does not say, and the reverse.
fn faults(documented: &BTreeMap<String, Fields>, finished: &Finished, seen: &mut BTreeSet<String>) -> Vec<String> {
    let mut faults = Vec::new();
    let events = finished.events();
    for event in &events {
        let name = event["event"].as_str().unwrap_or("?").to_owned();
        let Some(fields) = documented.get(&name) else {
            faults.push(format!("event `{name}` is not documented: {event}"));
            continue;
        };
        if event["schema"].as_i64() != Some(1) {
            faults.push(format!("no schema 1 in {event}"));
        }
        for (field, value) in event.as_object().unwrap() {
            let plain = field.strip_suffix("_b64").unwrap_or(field);
            match fields.get(plain) {
                _ if field == "schema" || field == "event" => {}
                None => faults.push(format!("`{name}`: field `{field}` is not documented")),
                Some((kind, _)) if !has_type(value, kind) => {
                    faults.push(format!("`{name}.{field}` is no {kind}: {value}"))
                }
                Some(_) => {}
            }
        }
        let is_there = |field: &str| event.get(field).is_some() || event.get(format!("{field}_b64")).is_some();
        let missing = fields.iter().filter(|(field, (_, when))| when == "always" && !is_there(field));
        faults.extend(missing.map(|(field, _)| format!("`{name}`: field `{field}` is missing in {event}")));
        seen.insert(name);
    }
    let is_last = |event: &serde_json::Value| event["event"] == "summary" || event["event"] == "error";
    if !events.last().is_some_and(is_last) || events.iter().filter(|event| is_last(event)).count() != 1 {
        faults.push(format!("the last event, and only it, is `summary` or `error`: {}", finished.describe()));
    }
    if !finished.stdout.is_ascii() {
        faults.push("stdout has characters beyond ASCII".to_owned());
    }
    faults
}

#[test]
fn events_are_those_of_the_document() {
    let documented = documented();
    let scratch = Scratch::new("events");
    let mut tree = Tree::new(&scratch.join("source"), 1);
    tree.file("large", &Content::Random(40 << 20));
    tree.small("n\u{e4}me");
    tree.small(b"not-utf-8-\xff");
    tree.special("fifo", rustix::fs::FileType::Fifo).unwrap();
    tree.special(b"fifo-\xff", rustix::fs::FileType::Fifo).unwrap();
    let source = tree.finish();
    let mut seen = BTreeSet::new();
    let mut all = Vec::new();
    for listens in [Listens::Receiver, Listens::Sender] {
        let mut setup = Setup::new(&scratch, &format!("{listens:?}"), &[&source], listens);
        let twice = setup.sources[0].clone();
        setup.sources.push(twice);
        setup.through_relay(1).rate(16 << 20);
        let done = setup.run();
        done.assert_codes(5, 5);
        for finished in [&done.sender, &done.receiver] {
            all.extend(faults(&documented, finished, &mut seen));
        }
        let left_out: Vec<_> = done.sender.events().into_iter().filter(|event| event["event"] == "left-out").collect();
        assert!(left_out.iter().any(|event| event["path"] == "source/fifo"), "{left_out:?}");
        assert!(left_out.iter().any(|event| event["path_b64"].is_string()), "{left_out:?}");
    }
    let absent = crate::Landfall::new("absent", &scratch.join("home")).arg("send").arg(scratch.join("absent"));
    all.extend(faults(&documented, &absent.args(["--to", "/nowhere", "--json"]).run(), &mut seen));
    all.sort();
    all.dedup();
    assert!(all.is_empty(), "{} faults:\n{}", all.len(), all.join("\n"));
    for event in ["ticket", "transfer", "connected", "progress", "notice", "left-out", "summary", "error"] {
        assert!(seen.contains(event), "`{event}` was not seen: {seen:?}");
    }
}
