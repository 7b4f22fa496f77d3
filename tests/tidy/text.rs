//! Rules about what may stand in a file: sizes, headers, words that mean unfinished work, output, exits, places.

use crate::source::{Source, word_offsets};

/// Lines of one file.
pub(crate) const FILE_LINES_MAX: usize = 500;
/// Lines of one function, from `fn` to its closing brace.
pub(crate) const FUNCTION_LINES_MAX: usize = 70;

/// Files that are longer than allowed, with their present length: a figure may only shrink.
pub(crate) const LONG_FILES: &[(&str, usize)] = &[];
/// Functions that are longer than allowed, as `path::name`, with their present length: a figure may only shrink.
pub(crate) const LONG_FUNCTIONS: &[(&str, usize)] = &[];

/// Marks of unfinished work, written in two halves so that this file does not contain them.
const UNFINISHED_WORDS: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX")];
/// Directories of one machine.
const MACHINE_PATHS: &[&str] = &[concat!("/wo", "rk/"), concat!("/tmp/", "lf"), concat!("/ro", "ot/")];
/// Hosts from which packages come: which one is used is the business of whoever builds.
const REGISTRY_HOSTS: &[&str] = &[
    concat!("crates", ".io"),
    concat!("py", "pi.org"),
    concat!("np", "mjs"),
    concat!("deb.", "debian.org"),
    concat!("archive.", "ubuntu.com"),
    concat!("gh", "cr.io"),
];

/// Every Rust file says what it owns in its first line.
pub(crate) fn header(source: &Source) -> Vec<String> {
    let is_missing = source.is_rust() && !source.raw.starts_with("//! ");
    is_missing.then(|| format!("{}:1: the first line is not `//! …`", source.path)).into_iter().collect()
}

/// Files that are too long.
pub(crate) fn file_lines(source: &Source) -> Vec<String> {
    let count = if source.is_rust() { source.raw.lines().count() } else { 0 };
    let excess = ratchet(LONG_FILES, &source.path, count, FILE_LINES_MAX);
    excess.map(|max| format!("{}: {count} lines, allowed are {max}", source.path)).into_iter().collect()
}

/// Functions that are too long.
pub(crate) fn function_lines(source: &Source) -> Vec<String> {
    let functions = if source.is_rust() { source.functions() } else { Vec::new() };
    let mut found = Vec::new();
    for function in functions {
        let (count, name) = (function.line_count, format!("{}::{}", source.path, function.name));
        if let Some(max) = ratchet(LONG_FUNCTIONS, &name, count, FUNCTION_LINES_MAX) {
            let line = source.line(function.offset);
            found.push(format!("{}:{line}: `{}` has {count} lines, allowed are {max}", source.path, function.name));
        }
    }
    found
}

/// What is allowed, if `count` is not: more than the general bound, or anything but the figure of the exception.
pub(crate) fn ratchet(exceptions: &[(&str, usize)], name: &str, count: usize, general: usize) -> Option<usize> {
    match exceptions.iter().find(|exception| exception.0 == name) {
        Some((_, present)) => (count != *present || count <= general).then_some(*present),
        None => (count > general).then_some(general),
    }
}

/// Exceptions of a ratchet whose object is gone.
pub(crate) fn stale<'a>(exceptions: &[(&'a str, usize)], present: &[String]) -> Vec<&'a str> {
    exceptions.iter().map(|exception| exception.0).filter(|name| !present.iter().any(|there| there == name)).collect()
}

/// Panicking shortcuts outside tests. `expect` is allowed where its text says why it cannot fail. The rig of the harness
/// is what tests stand on.
pub(crate) fn unwraps(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    if source.path.starts_with("fault-inject/src/rig/") {
        return found;
    }
    for (call, is_reasoned) in
        [(".unwrap(", false), (".unwrap_err(", false), (".expect_err(", false), (".expect(", true)]
    {
        for (at, _) in source.code.match_indices(call).filter(|(at, _)| source.is_rust() && !source.is_test(*at)) {
            if !(is_reasoned && gives_reason(&source.raw[at + call.len()..])) {
                found.push(format!("{}:{}: `{}…)` outside tests", source.path, source.line(at), &call[1..]));
            }
        }
    }
    found
}

/// Whether an argument is a literal of at least three words.
fn gives_reason(argument: &str) -> bool {
    let literal = argument.trim_start().strip_prefix('"').and_then(|rest| rest.split('"').next());
    literal.is_some_and(|text| text.split_whitespace().count() >= 3)
}

/// Unfinished work.
pub(crate) fn unfinished(source: &Source) -> Vec<String> {
    let is_read = source.is_rust() || source.path.ends_with(".toml") || source.path == ".ci/run";
    let in_text = UNFINISHED_WORDS.iter().filter(|_| is_read).flat_map(|word| word_offsets(&source.raw, word));
    let macros = ["todo", "unimplemented", "dbg"].into_iter().filter(|_| source.is_rust());
    let in_code = macros.flat_map(|name| source.words(name).into_iter().filter(move |at| is_macro(source, *at, name)));
    in_text.chain(in_code).map(|at| format!("{}:{}: unfinished work", source.path, source.line(at))).collect()
}

fn is_macro(source: &Source, at: usize, name: &str) -> bool {
    source.code[at + name.len()..].trim_start().starts_with('!')
}

/// Printing outside the face. The library emits events; what a screen shows is decided in one place.
pub(crate) fn prints(source: &Source) -> Vec<String> {
    let is_face = [
        "src/cli",
        "src/main.rs",
        "fault-inject/src/main.rs",
        "fault-inject/src/cli",
        "fault-inject/src/bin",
        "bench/src/main.rs",
        "bench/src/cli",
    ];
    if !source.is_rust() || is_face.iter().any(|face| source.path.starts_with(face)) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for name in ["println", "eprintln", "print", "eprint"] {
        for at in source.words(name).into_iter().filter(|at| is_macro(source, *at, name) && !source.is_test(*at)) {
            found.push(format!("{}:{}: `{name}!` outside the face", source.path, source.line(at)));
        }
    }
    found
}

/// Exits outside `main`.
pub(crate) fn exits(source: &Source) -> Vec<String> {
    if !source.is_rust() || source.path.ends_with("src/main.rs") {
        return Vec::new();
    }
    let paths = source.paths();
    let found = paths.iter().filter(|path| path.parts.ends_with(&["process".to_owned(), "exit".to_owned()]));
    found.map(|path| format!("{}:{}: only main exits", source.path, source.line(path.offset))).collect()
}

/// Places that exist on one machine only, and hosts of package registries.
pub(crate) fn places(source: &Source) -> Vec<String> {
    // A path that begins in the middle of another one is not absolute.
    let goes_on =
        |at: usize| source.raw[..at].ends_with(|before: char| before.is_alphanumeric() || "._-})".contains(before));
    let mut found = Vec::new();
    for place in MACHINE_PATHS {
        for (at, _) in source.raw.match_indices(place).filter(|(at, _)| !goes_on(*at)) {
            found.push(format!("{}:{}: `{place}` exists on one machine only", source.path, source.line(at)));
        }
    }
    for host in REGISTRY_HOSTS {
        for (at, _) in source.raw.match_indices(host) {
            // Cargo's own name for its default registry stands on every line of the lock file.
            if !source.raw[at..].starts_with(concat!("crates", ".io-index\"")) || source.path != "Cargo.lock" {
                found.push(format!("{}:{}: names the registry host `{host}`", source.path, source.line(at)));
            }
        }
    }
    found
}
