//! The rules of the house that a machine can check, each shown to fire on a snippet that breaks it. The tables
//! live in `tests/tidy/`: floors in `imports.rs`, exceptions that may only shrink in `text.rs`.
#![allow(clippy::unwrap_used)]

#[path = "tidy/house.rs"]
mod house;
#[path = "tidy/imports.rs"]
mod imports;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/text.rs"]
mod text;

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use source::Source;

type Rule = fn(&Source) -> Vec<String>;

/// Every file of the repository that people write, as text. What is not UTF-8 is not text; what is neither Rust nor
/// tracked by git (a log of this very run, a note) belongs to nobody. Without git every file counts.
fn repository() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    collect(root, "", &mut sources);
    let listing = Command::new("git").arg("-C").arg(root).args(["ls-files", "-z"]).output();
    if let Some(listing) = listing.ok().filter(|listing| listing.status.success() && !listing.stdout.is_empty()) {
        let listing = String::from_utf8_lossy(&listing.stdout).into_owned();
        let tracked: HashSet<&str> = listing.split('\0').collect();
        sources.retain(|source| source.is_rust() || tracked.contains(source.path.as_str()));
    }
    assert!(sources.iter().any(|source| source.path == "src/lib.rs"), "the repository was not found");
    sources
}

fn collect(root: &Path, below: &str, sources: &mut Vec<Source>) {
    let mut entries: Vec<_> = fs::read_dir(root.join(below)).unwrap().map(Result::unwrap).collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name().into_string().unwrap();
        let path = if below.is_empty() { name.clone() } else { format!("{below}/{name}") };
        let kind = entry.file_type().unwrap();
        if ["target", ".git", ".landfall"].contains(&name.as_str()) {
            continue;
        }
        if kind.is_dir() {
            collect(root, &path, sources);
        } else if kind.is_file()
            && let Ok(raw) = fs::read_to_string(entry.path())
        {
            sources.push(Source::new(&path, &raw));
        }
    }
}

fn assert_none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

/// The rule fires on each bad snippet, not on any of the good ones, and nowhere in the repository.
fn hold(rule: Rule, bad: &[(&str, &str)], good: &[(&str, &str)]) {
    for (path, text) in bad {
        assert!(!rule(&Source::new(path, text)).is_empty(), "the rule is blind to {path}: {text}");
    }
    for (path, text) in good {
        assert_none(&rule(&Source::new(path, text)));
    }
    assert_none(&repository().iter().flat_map(rule).collect::<Vec<_>>());
}

#[test]
fn the_import_table_has_no_cycle_and_no_edge_up() {
    assert_none(&imports::table_faults());
}

#[test]
fn imports_follow_the_table_of_floors() {
    hold(
        imports::edges,
        &[
            ("src/geometry.rs", "use crate::wire::Frame;"),
            ("src/geometry.rs", "use crate::{limits::CHUNK_BYTES, disk::{Disk, DiskFile}};"),
            ("src/geometry.rs", "fn f() { crate::store::seal() }"),
            ("src/geometry.rs", "use super::disk::Disk;"),
            ("src/store/seal.rs", "use super::super::session::Receiver;"),
            ("src/store/seal.rs", "#[cfg(test)] mod tests { use crate::session::Receiver; }"),
            ("src/session/mod.rs", "use crate::disk::Disk;"),
            ("src/net/mod.rs", "pub use crate::recv as receive;"),
            ("src/helpers.rs", ""),
        ],
        &[
            ("src/geometry.rs", "use crate::limits::{CHUNK_BYTES, FILE_BYTES_MAX}; // use crate::wire"),
            ("src/geometry.rs", "const NAME: &str = \"crate::wire::Frame\"; pub(crate) fn f<'a>() -> char { '\"' }"),
            ("src/geometry.rs", "mod inner { use super::Geometry; } #[cfg(test)] mod tests { use super::*; }"),
            ("src/store/seal.rs", "use super::layout::Layout; use crate::store::Claim; use crate::disk::Disk;"),
            ("tests/transfer.rs", "use crate::anything::at_all;"),
        ],
    );
}

#[test]
fn a_crate_is_named_only_by_its_owner() {
    hold(
        imports::owners,
        &[
            ("src/store/mod.rs", "use blake3::Hasher;"),
            ("src/store/mod.rs", "fn f() -> blake3::Hash { blake3::hash(b\"\") }"),
            ("src/source.rs", "use std::{fs::File, io};"),
            ("src/source.rs", "use std::fs;"),
            ("src/cli/mod.rs", "fn f() { std::fs::remove_file(\"x\"); }"),
            ("src/state/mod.rs", "use tokio::fs::File;"),
            ("src/send.rs", "use quinn::Connection;"),
            ("src/ticket.rs", "use rustls::sign::SigningKey;"),
            ("src/net/dial.rs", "use ring::rand::SystemRandom;"),
        ],
        &[
            ("src/digest.rs", "use blake3::Hasher;"),
            ("src/disk/real.rs", "use std::fs::File; use rustix::fs::openat2;"),
            ("src/state.rs", "use std::fs::File;"),
            ("src/net/identity.rs", "use ring::signature::Ed25519KeyPair; use quinn::Connection;"),
            (
                "src/store/mod.rs",
                "// blake3::hash is for digest.rs\n use std::io; #[cfg(test)] mod tests { use std::fs; }",
            ),
            ("fault-inject/src/lib.rs", "use std::fs::File;"),
        ],
    );
}

#[test]
fn words_formats_and_brains_are_pure() {
    hold(
        imports::purity,
        &[
            ("src/session/receiver.rs", "use tokio::sync::mpsc;"),
            ("src/session/receiver.rs", "use std::net::SocketAddr;"),
            ("src/session/mod.rs", "let now = std::time::SystemTime::now();"),
            ("src/wire.rs", "use std::time::{Duration, SystemTime};"),
            ("src/ticket.rs", "use std::net::UdpSocket;"),
            ("src/path.rs", "use std::env;"),
            ("src/session/sender.rs", "use rand::Rng;"),
        ],
        &[
            ("src/session/receiver.rs", "use std::time::{Duration, Instant};"),
            ("src/ticket.rs", "use std::net::SocketAddr;"),
            ("src/net/mod.rs", "use std::time::SystemTime; use std::net::UdpSocket;"),
        ],
    );
}

#[test]
fn every_rust_file_opens_with_what_it_owns() {
    hold(text::header, &[("src/a.rs", "use std::io;\n//! Late."), ("src/a.rs", "")], &[("src/a.rs", "//! Owns a.\n")]);
}

#[test]
fn files_are_short() {
    let (long, short) = ("\n".repeat(text::FILE_LINES_MAX + 1), "\n".repeat(text::FILE_LINES_MAX));
    hold(text::file_lines, &[("src/a.rs", &long)], &[("src/a.rs", &short), ("Cargo.lock", &long)]);
    let paths: Vec<String> = repository().into_iter().map(|source| source.path).collect();
    assert_eq!(text::stale(text::LONG_FILES, &paths), [""; 0]);
}

#[test]
fn functions_are_short() {
    let body = |count: usize| format!("fn a<'b>(c: [u8; 2]) -> char {{{}'}}' }}", "\n".repeat(count - 1));
    let (long, short) = (body(text::FUNCTION_LINES_MAX + 1), body(text::FUNCTION_LINES_MAX));
    let inner = format!("impl A {{ fn b(); {long} }}");
    let outside = format!("fn b() {{ '{{'; r#\"}}\"#; \"\\\"{{\"; }}{} fn c() {{}}", "\n".repeat(500));
    hold(
        text::function_lines,
        &[("src/a.rs", &long), ("tests/a.rs", &inner)],
        &[("src/a.rs", &short), ("src/a.rs", &outside), ("src/a.rs", "trait A { fn b(&self); const C: fn(u8); }")],
    );
    let names = repository().into_iter().filter(Source::is_rust);
    let names =
        names.flat_map(|source| source.functions().into_iter().map(move |f| format!("{}::{}", source.path, f.name)));
    assert_eq!(text::stale(text::LONG_FUNCTIONS, &names.collect::<Vec<_>>()), [""; 0]);
}

#[test]
fn exceptions_only_shrink() {
    let exceptions = [("a", 90), ("gone", 80)];
    assert_eq!(text::ratchet(&exceptions, "a", 90, 70), None);
    assert_eq!(text::ratchet(&exceptions, "a", 91, 70), Some(90), "it grew");
    assert_eq!(text::ratchet(&exceptions, "a", 85, 70), Some(90), "it shrank: so must the figure");
    assert_eq!(text::ratchet(&exceptions, "a", 70, 70), Some(90), "it is no exception any more");
    assert_eq!(text::ratchet(&exceptions, "b", 71, 70), Some(70));
    assert_eq!(text::stale(&exceptions, &["a".to_owned()]), ["gone"]);
}

#[test]
fn nothing_unwraps_outside_tests() {
    hold(
        text::unwraps,
        &[
            ("src/a.rs", "fn f() { x.unwrap(); }"),
            ("src/a.rs", "fn f() { x.expect(\"oops\"); }"),
            ("src/a.rs", "fn f() { x.expect(&format!(\"one two three\")); }"),
            ("fault-inject/src/a.rs", "fn f() { x.expect_err(\"this is a reason\"); }"),
            ("src/a.rs", "#[cfg(test)] mod tests { fn f() { x.unwrap() } } fn g() { x.unwrap() }"),
            ("src/a.rs", "#[cfg(not(test))] fn g() { x.unwrap() }"),
        ],
        &[
            ("src/a.rs", "fn f() { x.expect(\n    \"bounded by the chunk size\",\n); x.unwrap_or(1); }"),
            ("src/a.rs", "#[cfg(all(test, unix))]\n#[allow(dead_code)]\nmod tests { fn f() { x.unwrap() } }"),
            ("src/a.rs", "/// x.unwrap()\nfn f() { \".unwrap()\"; }"),
            ("tests/a.rs", "fn f() { x.unwrap(); }"),
            ("fault-inject/tests/a.rs", "fn f() { x.unwrap(); }"),
            ("fault-inject/src/rig/a.rs", "fn f() { x.unwrap(); }"),
        ],
    );
}

#[test]
fn nothing_is_left_unfinished() {
    hold(
        text::unfinished,
        &[
            ("src/a.rs", concat!("// TO", "DO: later")),
            ("tests/a.rs", concat!("/* FIX", "ME */")),
            ("Cargo.toml", concat!("# X", "XX")),
            ("src/a.rs", "fn f() { todo!() }"),
            ("src/a.rs", "fn f() { unimplemented!(\"later\") }"),
            ("tests/a.rs", "fn f() { dbg!(1); }"),
        ],
        &[("src/a.rs", "/// todo!\nfn f() { mktemp(\"XXXXXX\"); let todo = 1; }"), ("README.md", "todo!()")],
    );
}

#[test]
fn only_the_face_prints_and_only_main_exits() {
    hold(
        text::prints,
        &[
            ("src/store/mod.rs", "fn f() { println!(); }"),
            ("fault-inject/src/sim.rs", "fn f() { eprint!(\"x\"); }"),
            ("bench/src/peers.rs", "fn f() { println!(); }"),
        ],
        &[
            ("src/cli/mod.rs", "fn f() { println!(); }"),
            ("src/main.rs", "fn f() { eprintln!(); }"),
            ("tests/a.rs", "fn f() { println!(); }"),
            ("src/a.rs", "#[test] fn f() { println!(); } fn print() { writeln!(out) } // println!"),
        ],
    );
    hold(
        text::exits,
        &[
            ("src/cli/mod.rs", "fn f() { std::process::exit(1) }"),
            ("src/recv.rs", "use std::process::{Command, exit};"),
            ("src/recv.rs", "use std::process; fn f() { process::exit(1) }"),
        ],
        &[("src/main.rs", "fn f() { std::process::exit(1) }"), ("src/cli/mod.rs", "use std::process::ExitCode;")],
    );
}

#[test]
fn no_place_of_one_machine_is_named() {
    hold(
        text::places,
        &[
            ("src/a.rs", concat!("const A: &str = \"/wo", "rk/main\";")),
            (".ci/run", concat!("cd /tmp/", "lf")),
            ("README.md", concat!("see /ro", "ot/x")),
            ("deny.toml", concat!("allow = [\"https://index.crates", ".io\"]")),
            ("Cargo.lock", concat!("source = \"sparse+https://index.crates", ".io/\"")),
        ],
        &[
            ("src/a.rs", concat!("\"a/wo", "rk/b\"; \"../ro", "ot/x\"")),
            ("Cargo.lock", concat!("source = \"registry+https://github.com/rust-lang/crates", ".io-index\"")),
        ],
    );
}

#[test]
fn every_limit_has_a_doc_and_a_unit() {
    assert_eq!(house::limit_faults("/// Bytes of a chunk.\npub const CHUNK_BYTES: u32 = 1;"), [""; 0]);
    assert_eq!(house::limit_faults("\npub const CHUNK_BYTES: u32 = 1;").len(), 1);
    assert_eq!(house::limit_faults("/// How many.\npub const CHUNK_SIZE: u32 = 1;").len(), 1);
    assert_none(&house::limit_faults(&read("src/limits.rs")));
}

#[test]
fn every_dependency_has_one_line_that_says_why() {
    let crates = house::dependencies(
        "[package]\nname = \"x\"\n[dependencies]\na = \"1\"\nb.workspace = true\nc = { path = \"..\" }\n[profile.dev]\nd = 1\n[dev-dependencies]\ne = \"1\"\n[dependencies.g]\nversion = \"1\"",
    );
    assert_eq!(crates, ["a", "b", "e", "g"]);
    assert_eq!(house::dependency_faults(&crates, "- `a`: bytes\n- `b`: time\n- `e`: tests\n- `g`: more"), [""; 0]);
    assert_eq!(house::dependency_faults(&crates, "- `a`: bytes\n- `a`: again\n- `b`: \n- `f`: gone").len(), 5);
    let mut crates = house::dependencies(&read("Cargo.toml"));
    crates.extend(house::dependencies(&read("fault-inject/Cargo.toml")));
    crates.extend(house::dependencies(&read("bench/Cargo.toml")));
    crates.sort();
    crates.dedup();
    assert!(crates.len() > 10, "the dependencies were not found");
    assert_none(&house::dependency_faults(&crates, &read("CONTRIBUTING.md")));
}

#[test]
fn every_format_has_golden_bytes() {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let all = names(&["journal-1.bin", "manifest-1.bin", "receipt-1.bin", "ticket-1.txt", "wire-1.bin"]);
    assert_eq!(house::golden_faults(&all), [""; 0]);
    assert_eq!(house::golden_faults(&all[1..]).len(), 1);
    if let Ok(entries) = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")) {
        let present: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        assert_none(&house::golden_faults(&present));
    }
}

#[test]
fn the_readme_has_two_commands_and_every_limit_and_exit_code() {
    let good =
        "```sh\ncargo run -- send\n```\n```text\nx\n```\n```sh\ncargo test --workspace\n```\n| L1 | x |\n| 0 | y |";
    assert_eq!(house::readme_faults(good, &["| L1 ", "| 0 "]), [""; 0]);
    assert_eq!(house::readme_faults(good, &["| L2 "]).len(), 1);
    assert_eq!(house::readme_faults("```sh\ncargo run\n```", &[]).len(), 1, "one command");
    assert_eq!(house::readme_faults("```sh\na\nb\n```\n```sh\ncargo test --workspace\n```", &[]).len(), 1, "three");
    assert_eq!(house::readme_faults("```sh\na\n```\n```sh\ncargo test\n```", &[]).len(), 1, "not all tests");
    let limits = (1..=16).map(|number| format!("| L{number} "));
    let exits = ["0", "1", "2", "3", "4", "5", "130, 143, 129"].map(|code| format!("| {code} "));
    let rows: Vec<String> = limits.chain(exits).collect();
    let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
    assert_none(&house::readme_faults(&read("README.md"), &rows));
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}
