//! Lines as `b3sum` prints them, and which of the files that are sent they speak of.

use data_encoding::HEXLOWER;

use super::{BadLine, DigestList, Wrong, tidy};
use crate::digest::FileDigest;

/// Digits of a digest, and the blanks behind them.
const DIGITS: usize = 64;
const BLANKS: &[u8] = b"  ";

/// A source as it was typed, to which a line may belong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its path, with the working directory before it where that is known.
    pub path: Vec<u8>,
    /// The name under which it arrives; `None` if what is in it arrives at the top.
    pub name: Option<Vec<u8>>,
}

impl DigestList {
    /// Reads what a user has, of files in these sources. A line's path is that of a file as it is found from `base`, the
    /// working directory, or else that under which the file arrives. Where a file is sent more than once, a line is about
    /// each.
    pub fn parse(text: &[u8], sources: &[Source], base: &[u8]) -> Result<DigestList, BadLine> {
        let mut all = vec![];
        for (index, line) in text.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty()) {
            let bad = |why| BadLine { number: index + 1, text: line.to_vec(), why };
            let (digest, path) = parts(line).ok_or_else(|| bad(Wrong::NoDigest))?;
            for arrival in arrivals(&path, sources, base).map_err(bad)? {
                all.push((arrival, digest, index + 1));
            }
        }
        all.sort_unstable_by(|a, b| (&a.0, a.2).cmp(&(&b.0, b.2)));
        let mut list = DigestList::new();
        for (path, digest, number) in all {
            let known = list.paths.find(&path).map(|index| list.digest(index));
            let why = match known {
                Some(known) if known == digest => continue,
                Some(_) => Wrong::Twice,
                None if is_below_another(&list, &path) => Wrong::BelowFile,
                None if list.push(&path, digest).is_some() => continue,
                None => Wrong::TooLong,
            };
            return Err(BadLine { number, text: path, why });
        }
        Ok(list)
    }
}

/// What is above a path comes before it.
fn is_below_another(list: &DigestList, path: &[u8]) -> bool {
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    slashes.into_iter().any(|(slash, _)| list.paths.find(&path[..slash]).is_some())
}

/// The digest and the path of a line.
fn parts(line: &[u8]) -> Option<(FileDigest, Vec<u8>)> {
    let (line, is_escaped) = line.strip_prefix(b"\\").map_or((line, false), |line| (line, true));
    let (digits, rest) = line.split_at_checked(DIGITS)?;
    let digest = HEXLOWER.decode(digits).ok()?.try_into().ok()?;
    let path = rest.strip_prefix(BLANKS).filter(|path| !path.is_empty())?;
    Some((FileDigest(digest), if is_escaped { unescaped(path)? } else { path.to_vec() }))
}

fn unescaped(path: &[u8]) -> Option<Vec<u8>> {
    let (mut plain, mut bytes) = (vec![], path.iter());
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'\\' => match bytes.next()? {
                b'n' => b'\n',
                b'r' => b'\r',
                b'\\' => b'\\',
                _ => return None,
            },
            other => *other,
        });
    }
    Some(plain)
}

/// The paths under which the file of a line arrives.
fn arrivals(path: &[u8], sources: &[Source], base: &[u8]) -> Result<Vec<Vec<u8>>, Wrong> {
    let found = components(path, base);
    let mut all = vec![];
    for source in sources {
        let Some(rest) = found.strip_prefix(components(&source.path, base).as_slice()) else { continue };
        let parts: Vec<&[u8]> = source.name.as_deref().into_iter().chain(rest.iter().copied()).collect();
        let arrival = parts.join(&b'/');
        if !arrival.is_empty() {
            all.push(tidy(&arrival)?);
        }
    }
    if !all.is_empty() {
        return Ok(all);
    }
    match tidy(path) {
        Ok(arrival) if !arrival.is_empty() => Ok(vec![arrival]),
        Ok(_) | Err(Wrong::Absolute | Wrong::Upwards) => Err(Wrong::Elsewhere),
        Err(other) => Err(other),
    }
}

/// The components of a path, those of `base` first if it does not begin at the root itself.
fn components<'a>(path: &'a [u8], base: &'a [u8]) -> Vec<&'a [u8]> {
    let base = if path.starts_with(b"/") { b"/" } else { base };
    // What begins at the root is told apart from what begins nobody knows where.
    let root = base.starts_with(b"/").then_some(&b"/"[..]);
    let parts = [base, path].into_iter().flat_map(|path| path.split(|byte| *byte == b'/'));
    root.into_iter().chain(parts.filter(|part| !matches!(*part, b"" | b"."))).collect()
}
