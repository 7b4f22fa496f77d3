//! Rust text as the rules see it: comments and literals blanked, test code known, paths and functions found.
//! Not a parser: it understands brackets, literals, `use` trees and attributes, which is all the rules ask.

use std::ops::Range;

/// One file of the repository.
pub(crate) struct Source {
    /// Path from the root of the repository, with `/`.
    pub(crate) path: String,
    /// The text as it is.
    pub(crate) raw: String,
    /// The same length with comments, and the insides of string and character literals, turned into blanks.
    pub(crate) code: String,
    tests: Vec<Range<usize>>,
}

/// A path as written or imported, with `use` groups expanded: `std::fs::File`.
pub(crate) struct NamedPath {
    /// Where it starts.
    pub(crate) offset: usize,
    /// Its parts.
    pub(crate) parts: Vec<String>,
}

/// A function with a body.
pub(crate) struct Function {
    /// Its name.
    pub(crate) name: String,
    /// Where `fn` stands.
    pub(crate) offset: usize,
    /// Lines from `fn` to the closing brace.
    pub(crate) line_count: usize,
}

impl Source {
    /// Reads a text. `path` decides whether all of it is test code.
    pub(crate) fn new(path: &str, raw: &str) -> Source {
        let code = if path.ends_with(".rs") { blank_literals(raw) } else { raw.to_owned() };
        let is_test_name = ["/tests.rs", "_tests.rs", "/test_support.rs", "/test_disk.rs"];
        let is_all_test = path.starts_with("tests/")
            || path.contains("/tests/")
            || is_test_name.iter().any(|name| path.ends_with(name));
        let tests = match is_all_test || code.contains("#![cfg(test)]") {
            true => std::iter::once(0..raw.len()).collect(),
            false => test_ranges(&code),
        };
        Source { path: path.to_owned(), raw: raw.to_owned(), code, tests }
    }

    /// Whether it is Rust.
    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Whether the code at an offset is compiled for tests only.
    pub(crate) fn is_test(&self, offset: usize) -> bool {
        self.tests.iter().any(|range| range.contains(&offset))
    }

    /// Line number of an offset, from 1.
    pub(crate) fn line(&self, offset: usize) -> usize {
        1 + self.raw.as_bytes()[..offset].iter().filter(|byte| **byte == b'\n').count()
    }

    /// Offsets at which `word` stands in the code, not as part of a longer identifier.
    pub(crate) fn words(&self, word: &str) -> Vec<usize> {
        word_offsets(&self.code, word)
    }

    /// Every path of two or more parts in the code, and every imported one.
    pub(crate) fn paths(&self) -> Vec<NamedPath> {
        let tokens = tokens(&self.code);
        let mut found = Vec::new();
        let mut at = 0;
        while at < tokens.len() {
            if tokens[at].1 == "use" {
                at = use_tree(&tokens, at + 1, &mut Vec::new(), &mut found);
            } else if is_ident(tokens[at].1) && (at == 0 || tokens[at - 1].1 != "$") {
                let start = at;
                let mut parts = vec![tokens[at].1.to_owned()];
                while at + 2 < tokens.len() && tokens[at + 1].1 == "::" && is_ident(tokens[at + 2].1) {
                    parts.push(tokens[at + 2].1.to_owned());
                    at += 2;
                }
                if parts.len() > 1 {
                    found.push(NamedPath { offset: tokens[start].0, parts });
                }
                at += 1;
            } else {
                at += 1;
            }
        }
        found
    }

    /// Every function that has a body.
    pub(crate) fn functions(&self) -> Vec<Function> {
        let tokens = tokens(&self.code);
        let mut found = Vec::new();
        for at in 0..tokens.len().saturating_sub(1) {
            let (offset, word) = tokens[at];
            if word != "fn" || !is_ident(tokens[at + 1].1) {
                continue;
            }
            if let Some(end) = item_end(&self.code, offset).filter(|end| self.code.as_bytes()[*end - 1] == b'}') {
                let line_count = self.line(end - 1) - self.line(offset) + 1;
                found.push(Function { name: tokens[at + 1].1.to_owned(), offset, line_count });
            }
        }
        found
    }
}

/// Offsets at which `word` stands in `text` with no letter, digit or underscore on either side.
pub(crate) fn word_offsets(text: &str, word: &str) -> Vec<usize> {
    let is_part = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    let bytes = text.as_bytes();
    text.match_indices(word)
        .map(|(at, _)| at)
        .filter(|at| !is_part(at.checked_sub(1).and_then(|before| bytes.get(before))))
        .filter(|at| !is_part(bytes.get(at + word.len())))
        .collect()
}

/// Expands one `use` tree that starts at token `at`; returns the token after it.
fn use_tree(tokens: &[(usize, &str)], mut at: usize, prefix: &mut Vec<String>, found: &mut Vec<NamedPath>) -> usize {
    let depth = prefix.len();
    let mut offset = tokens.get(at).map_or(0, |token| token.0);
    while let Some(&(here, word)) = tokens.get(at) {
        match word {
            "{" => {
                at += 1;
                while tokens.get(at).is_some_and(|token| token.1 != "}") {
                    at = use_tree(tokens, at, prefix, found);
                    at += usize::from(tokens.get(at).is_some_and(|token| token.1 == ","));
                }
                prefix.truncate(depth);
                return at + 1;
            }
            "as" => at += 2,
            "::" => at += 1,
            "*" => {
                prefix.push("*".to_owned());
                at += 1;
            }
            _ if is_ident(word) => {
                offset = if prefix.len() == depth { here } else { offset };
                prefix.push(word.to_owned());
                at += 1;
            }
            _ => break,
        }
    }
    if !prefix.is_empty() {
        found.push(NamedPath { offset, parts: prefix.clone() });
    }
    prefix.truncate(depth);
    at
}

fn is_ident(word: &str) -> bool {
    word.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
}

/// Identifiers, numbers, `::` and single symbols, with their offsets.
fn tokens(code: &str) -> Vec<(usize, &str)> {
    let bytes = code.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        at += 1;
        if bytes[start].is_ascii_alphanumeric() || bytes[start] == b'_' {
            at += bytes[at..].iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
        } else if bytes[start..].starts_with(b"::") {
            at += 1;
        } else if !bytes[start].is_ascii() || bytes[start].is_ascii_whitespace() {
            continue;
        }
        found.push((start, &code[start..at]));
    }
    found
}

/// End of the item that starts at `from`: after its body's closing brace, or after the `;` that comes first.
fn item_end(code: &str, from: usize) -> Option<usize> {
    let mut depth = 0_i32;
    for (at, byte) in code.bytes().enumerate().skip(from) {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth -= 1,
            b';' if depth == 0 => return Some(at + 1),
            b'{' if depth == 0 => return closing_brace(code, at),
            _ => {}
        }
    }
    None
}

fn closing_brace(code: &str, open: usize) -> Option<usize> {
    let mut depth = 0_i32;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        depth += i32::from(byte == b'{') - i32::from(byte == b'}');
        if depth == 0 {
            return Some(at + 1);
        }
    }
    None
}

/// Items under `#[test]`, `#[cfg(test)]` or `#[cfg(all(test, …))]`.
fn test_ranges(code: &str) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    for (start, _) in code.match_indices("#[") {
        let Some(mut end) = attribute_end(code, start) else { continue };
        let attribute = &code[start..end];
        let is_cfg_test = attribute.starts_with("#[cfg(")
            && !word_offsets(attribute, "test").is_empty()
            && !attribute.contains("not(test");
        if attribute != "#[test]" && !is_cfg_test {
            continue;
        }
        loop {
            end += code[end..].len() - code[end..].trim_start().len();
            match code[end..].starts_with("#[").then(|| attribute_end(code, end)).flatten() {
                Some(next) => end = next,
                None => break,
            }
        }
        ranges.push(start..item_end(code, end).unwrap_or(code.len()));
    }
    ranges
}

fn attribute_end(code: &str, start: usize) -> Option<usize> {
    let mut depth = 0_i32;
    for (at, byte) in code.bytes().enumerate().skip(start) {
        depth += i32::from(byte == b'[') - i32::from(byte == b']');
        if byte == b']' && depth == 0 {
            return Some(at + 1);
        }
    }
    None
}

/// Blanks comments and the insides of literals; quotes and line ends stay.
fn blank_literals(raw: &str) -> String {
    let bytes = raw.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => line_end(bytes, at),
            b'/' if bytes[at..].starts_with(b"/*") => comment_end(bytes, at),
            b'"' => string_end(bytes, at),
            b'\'' => character_end(raw, at),
            b'r' if is_word_start(bytes, at) => raw_string_end(bytes, at),
            _ => at + 1,
        };
        let is_comment = bytes[at] == b'/' && end > at + 1;
        let (from, to) = if is_comment { (at, end) } else { (at + 1, end.saturating_sub(1)) };
        for byte in out.iter_mut().take(to).skip(from).filter(|byte| **byte != b'\n') {
            *byte = b' ';
        }
        at = end;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// `r`, or the `r` of `br` and `cr`, that is not the end of a longer word.
fn is_word_start(bytes: &[u8], at: usize) -> bool {
    let is_part = |at: usize| bytes[at].is_ascii_alphanumeric() || bytes[at] == b'_';
    match at {
        0 => true,
        1 => !is_part(0) || matches!(bytes[0], b'b' | b'c'),
        _ => !is_part(at - 1) || (matches!(bytes[at - 1], b'b' | b'c') && !is_part(at - 2)),
    }
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |len| at + len)
}

fn comment_end(bytes: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0_u32);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    bytes.len()
}

fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// End of a character literal, or the next byte if the quote starts a lifetime or a label.
fn character_end(raw: &str, start: usize) -> usize {
    let rest = &raw[start + 1..];
    if rest.starts_with('\\') {
        return rest[2..].find('\'').map_or(raw.len(), |len| start + 1 + 2 + len + 1);
    }
    let len = rest.chars().next().map_or(0, char::len_utf8);
    if rest[len..].starts_with('\'') { start + 1 + len + 1 } else { start + 1 }
}

/// End of `r"…"` or `r#"…"#`, or the next byte if it is an ordinary word.
fn raw_string_end(bytes: &[u8], start: usize) -> usize {
    let hashes = bytes[start + 1..].iter().take_while(|byte| **byte == b'#').count();
    let open = start + 1 + hashes;
    if bytes.get(open) != Some(&b'"') {
        return start + 1;
    }
    let close: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
    let len = bytes[open + 1..].windows(close.len()).position(|window| window == close);
    len.map_or(bytes.len(), |len| open + 1 + len + close.len())
}
