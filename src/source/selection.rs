//! What of the sources goes: the user's patterns, the ignore files that lie in the tree, and whether the walk stays on
//! one file system. It owns which name is matched against which pattern; what a pattern means is gitignore(5)'s, by the
//! crate `ignore`. A pattern never makes anything go that the walk would not have met.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use thiserror::Error;

use crate::attributes::FileKind;
use crate::disk::{Access, Disk, DiskFile};
use crate::limits::IGNORE_FILE_BYTES_MAX;
use crate::options::Selection;
use crate::path::RelPath;
use crate::state::log::read_exact_at;

/// Ignore files of a directory, the later with the last word.
const IGNORE_FILES: [&str; 2] = [".gitignore", ".ignore"];

/// A pattern that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the pattern `{}` cannot be understood: {why}", crate::path::Escaped(pattern.as_bytes()))]
pub struct BadPattern {
    /// As it was written.
    pub pattern: String,
    /// What is wrong with it.
    pub why: String,
}

/// A [`Selection`], ready to be asked.
#[derive(Clone, Debug)]
pub struct Selector {
    patterns: Gitignore,
    ignore_files: bool,
    one_file_system: bool,
}

/// The ignore files of one directory.
#[derive(Debug)]
pub struct Ignored {
    patterns: Gitignore,
    /// Length of the directory's path and the slash behind it, as they arrive.
    above_bytes: usize,
    /// Lines that cannot be understood, each with the name of its file.
    pub bad: Vec<(&'static str, BadPattern)>,
}

impl Selector {
    /// Nothing stays.
    pub fn everything() -> Selector {
        Selector { patterns: Gitignore::empty(), ignore_files: false, one_file_system: false }
    }

    /// Of what the user has said. An error names the first pattern that cannot be understood.
    pub fn new(selection: &Selection) -> Result<Selector, BadPattern> {
        let mut builder = builder();
        for pattern in &selection.patterns {
            add(&mut builder, pattern)?;
        }
        let patterns = build(&builder)?;
        Ok(Selector { patterns, ignore_files: selection.ignore_files, one_file_system: selection.one_file_system })
    }

    /// Whether what goes may change although nobody has said so.
    pub fn reads_ignore_files(&self) -> bool {
        self.ignore_files
    }

    /// Whether directories on another file system than their root are passed over, but for their names.
    pub fn stays_on_one_file_system(&self) -> bool {
        self.one_file_system
    }

    /// Whether an object does not go. `ignored` are the ignore files of the directories above it, the nearest last.
    pub fn excludes<'a>(
        &self,
        path: &RelPath,
        is_directory: bool,
        ignored: impl DoubleEndedIterator<Item = &'a Ignored>,
    ) -> bool {
        let said = matched(&self.patterns, path.as_bytes(), is_directory);
        let by_file =
            |ignored: &Ignored| matched(&ignored.patterns, &path.as_bytes()[ignored.above_bytes..], is_directory);
        said.or_else(|| ignored.rev().find_map(by_file)).unwrap_or(false)
    }

    /// The ignore files of a directory, if they count and say something. An error is that one of them could not be read.
    pub fn read_ignored<D: Disk>(&self, disk: &D, dir: &D::Dir, path: Option<&RelPath>) -> io::Result<Option<Ignored>> {
        if !self.ignore_files {
            return Ok(None);
        }
        let (mut builder, mut bad) = (builder(), vec![]);
        for name in IGNORE_FILES {
            let Some(text) = read_text(disk, dir, name.as_bytes())? else { continue };
            for line in lines(&text) {
                bad.extend(add(&mut builder, &line).err().map(|error| (name, error)));
            }
        }
        let patterns = match build(&builder) {
            Ok(patterns) => patterns,
            Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        };
        let above_bytes = path.map_or(0, |path| path.as_bytes().len() + 1);
        let says_something = !patterns.is_empty() || !bad.is_empty();
        Ok(says_something.then_some(Ignored { patterns, above_bytes, bad }))
    }
}

/// Paths are matched as they are, below no root.
fn builder() -> GitignoreBuilder {
    GitignoreBuilder::new(".")
}

fn add(builder: &mut GitignoreBuilder, pattern: &str) -> Result<(), BadPattern> {
    let bad = |error: ignore::Error| BadPattern { pattern: pattern.to_owned(), why: cause(&error) };
    builder.add_line(None, pattern).map(drop).map_err(bad)
}

/// All patterns together; too many of them are one error.
fn build(builder: &GitignoreBuilder) -> Result<Gitignore, BadPattern> {
    builder.build().map_err(|error| BadPattern { pattern: "all of them".to_owned(), why: cause(&error) })
}

fn cause(error: &ignore::Error) -> String {
    match error {
        ignore::Error::Glob { err, .. } => err.clone(),
        other => other.to_string(),
    }
}

/// Whether a pattern excludes or includes; `None` if there is none for it.
fn matched(patterns: &Gitignore, path: &[u8], is_directory: bool) -> Option<bool> {
    match patterns.matched(Path::new(OsStr::from_bytes(path)), is_directory) {
        Match::Ignore(_) => Some(true),
        Match::Whitelist(_) => Some(false),
        Match::None => None,
    }
}

/// The lines of a file of patterns. There a brace is a brace, as git has it; on the command line braces hold alternatives.
pub fn lines(text: &str) -> impl Iterator<Item = String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')).map(|line| {
        let mut plain = String::with_capacity(line.len());
        let (mut is_escaped, mut rest) = (false, line);
        while let Some(letter) = rest.chars().next() {
            let class = if letter == '[' && !is_escaped { class_bytes(rest) } else { None };
            if matches!(letter, '{' | '}') && !is_escaped {
                plain.push('\\');
            }
            is_escaped = letter == '\\' && !is_escaped;
            let (part, after) = rest.split_at(class.unwrap_or(letter.len_utf8()));
            plain.push_str(part);
            rest = after;
        }
        plain
    })
}

/// Length of a class of letters, from its `[` to its `]`; nothing is escaped in one. `None` if it is never closed.
fn class_bytes(text: &str) -> Option<usize> {
    let open = if text[1..].starts_with(['!', '^']) { 2 } else { 1 };
    // A bracket that comes first is a member.
    let first = open + usize::from(text[open..].starts_with(']'));
    text[first..].find(']').map(|at| first + at + 1)
}

/// The text of an ignore file; as git does it, one that is a symlink is none. One that is no UTF-8 is not understood.
fn read_text<D: Disk>(disk: &D, dir: &D::Dir, name: &[u8]) -> io::Result<Option<String>> {
    match disk.stat(dir, name) {
        Ok(stat) if stat.kind == FileKind::Regular => {}
        Ok(_) => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    }
    let file = disk.open(dir, name, Access::Read)?;
    let bytes = usize::try_from(file.stat()?.size).unwrap_or(usize::MAX);
    if bytes > IGNORE_FILE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "an ignore file is too long to be one"));
    }
    let mut text = vec![0; bytes];
    read_exact_at(&file, &mut text, 0)?;
    let text = String::from_utf8(text).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok(Some(text))
}
