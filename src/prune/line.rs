//! The lines between the two sides of a deletion, JSON. Whoever was started answers each line with one line; only a look at
//! the target is answered with several. A number ties an answer to what was asked:
//!
//! ```text
//! {"scan":{"below":["photos"]}}            {"seen":{"all":[{"entry":{"path":"photos/a","kind":"Regular",...}}]}}
//!                                          "scanned"
//! {"exist":{"number":1,"paths":["a/b"]}}   {"exist":{"number":1,"are_there":[false]}}
//! {"remove":{"number":2,"entries":[...]}}  {"removed":{"number":2,"fates":["removed"]}}
//! ```

use serde::{Deserialize, Serialize};

use super::{Entry, Fate, Seen, Stays};
use crate::attributes::{FileKind, Timestamp};
use crate::limits::DELETE_BATCH_ENTRIES;
use crate::path::RelPath;
use crate::plan::{Raw, encode};

/// What the side of the command asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// What is below these directories of the target? `None` is the target itself.
    Scan(Vec<Option<RelPath>>),
    /// Do the sources have these?
    Exist(u64, Vec<RelPath>),
    /// To remove these from the target, in this order.
    Remove(u64, Vec<Entry>),
}

/// What the other side says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answered {
    /// Some of what is there, in the order of the walk.
    Seen(Vec<Seen>),
    /// That was all.
    Scanned,
    /// Whether each is there.
    Exist(u64, Vec<bool>),
    /// What became of each.
    Removed(u64, Vec<Fate>),
}

#[derive(Serialize, Deserialize)]
struct EntryLine {
    path: Raw,
    kind: FileKind,
    size: u64,
    mtime: Timestamp,
    inode: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SeenLine {
    Entry(EntryLine),
    Stays { path: Option<Raw>, why: Stays },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum AskedLine {
    Scan { below: Vec<Option<Raw>> },
    Exist { number: u64, paths: Vec<Raw> },
    Remove { number: u64, entries: Vec<EntryLine> },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum AnsweredLine {
    Seen { all: Vec<SeenLine> },
    Scanned,
    Exist { number: u64, are_there: Vec<bool> },
    Removed { number: u64, fates: Vec<Fate> },
}

fn raw(path: &RelPath) -> Raw {
    Raw::of(path.as_bytes())
}

impl EntryLine {
    fn of(entry: &Entry) -> EntryLine {
        let Entry { path, kind, size, mtime, inode } = entry;
        EntryLine { path: raw(path), kind: *kind, size: *size, mtime: *mtime, inode: *inode }
    }

    fn entry(self) -> Option<Entry> {
        let EntryLine { path, kind, size, mtime, inode } = self;
        Some(Entry { path: path.path()?, kind, size, mtime, inode })
    }
}

/// `Some(None)` is the target itself.
fn optional(path: Option<Raw>) -> Option<Option<RelPath>> {
    path.map_or(Some(None), |path| path.path().map(Some))
}

impl Asked {
    /// The line with its end.
    pub(super) fn line(&self) -> Vec<u8> {
        encode(&match self {
            Asked::Scan(below) => AskedLine::Scan { below: below.iter().map(|path| path.as_ref().map(raw)).collect() },
            Asked::Exist(number, paths) => AskedLine::Exist { number: *number, paths: paths.iter().map(raw).collect() },
            Asked::Remove(number, entries) => {
                AskedLine::Remove { number: *number, entries: entries.iter().map(EntryLine::of).collect() }
            }
        })
    }

    /// What a line asks, if it asks.
    pub(super) fn parse(line: &[u8]) -> Option<Asked> {
        Some(match serde_json::from_slice(line).ok()? {
            AskedLine::Scan { below } => Asked::Scan(below.into_iter().map(optional).collect::<Option<_>>()?),
            AskedLine::Exist { number, paths } => {
                Asked::Exist(number, few(paths)?.into_iter().map(Raw::path).collect::<Option<_>>()?)
            }
            AskedLine::Remove { number, entries } => {
                Asked::Remove(number, few(entries)?.into_iter().map(EntryLine::entry).collect::<Option<_>>()?)
            }
        })
    }
}

impl Answered {
    /// The line with its end.
    pub(super) fn line(&self) -> Vec<u8> {
        let seen = |seen: &Seen| match seen {
            Seen::Entry(entry) => SeenLine::Entry(EntryLine::of(entry)),
            Seen::Stays(path, why) => SeenLine::Stays { path: path.as_ref().map(raw), why: *why },
        };
        encode(&match self {
            Answered::Seen(all) => AnsweredLine::Seen { all: all.iter().map(seen).collect() },
            Answered::Scanned => AnsweredLine::Scanned,
            Answered::Exist(number, are_there) => AnsweredLine::Exist { number: *number, are_there: are_there.clone() },
            Answered::Removed(number, fates) => AnsweredLine::Removed { number: *number, fates: fates.clone() },
        })
    }

    /// What a line answers, if it answers.
    pub(super) fn parse(line: &[u8]) -> Option<Answered> {
        let seen = |line| match line {
            SeenLine::Entry(entry) => entry.entry().map(Seen::Entry),
            SeenLine::Stays { path, why } => Some(Seen::Stays(optional(path)?, why)),
        };
        Some(match serde_json::from_slice(line).ok()? {
            AnsweredLine::Seen { all } => Answered::Seen(few(all)?.into_iter().map(seen).collect::<Option<_>>()?),
            AnsweredLine::Scanned => Answered::Scanned,
            AnsweredLine::Exist { number, are_there } => Answered::Exist(number, few(are_there)?),
            AnsweredLine::Removed { number, fates } => Answered::Removed(number, few(fates)?),
        })
    }
}

/// No more than one line is to hold.
fn few<T>(all: Vec<T>) -> Option<Vec<T>> {
    (all.len() <= DELETE_BATCH_ENTRIES).then_some(all)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn path(bytes: &[u8]) -> RelPath {
        RelPath::parse(bytes).unwrap()
    }

    #[test]
    fn what_is_said_survives_its_line() {
        let mtime = Timestamp { seconds: -7, nanos: 999_999_999 };
        let entry = Entry { path: path(b"a/\xff\n"), kind: FileKind::Symlink, size: u64::MAX, mtime, inode: 1 << 63 };
        let asked = [
            Asked::Scan(vec![None, Some(path(b"a\xfe"))]),
            Asked::Exist(7, vec![path(b"\"\\"), path(b"b")]),
            Asked::Remove(u64::MAX, vec![entry.clone()]),
        ];
        for asked in asked {
            assert_eq!(Asked::parse(&asked.line()), Some(asked));
        }
        let fates =
            vec![Fate::Removed, Fate::Gone, Fate::Changed, Fate::Back, Fate::NotEmpty, Fate::Failed("x\n".into())];
        let answered = [
            Answered::Seen(vec![Seen::Entry(entry), Seen::Stays(None, Stays::Mount)]),
            Answered::Seen(vec![Seen::Stays(Some(path(b"z")), Stays::Unlisted)]),
            Answered::Scanned,
            Answered::Exist(0, vec![true, false]),
            Answered::Removed(3, fates),
        ];
        for answered in answered {
            let line = answered.line();
            assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
            assert_eq!(Answered::parse(&line), Some(answered));
        }
    }

    #[test]
    fn what_leads_out_of_the_target_or_is_too_much_is_not_said() {
        let remove = |path: &str| {
            let entry = r#""kind":"Regular","size":1,"mtime":{"seconds":1,"nanos":1},"inode":1"#;
            Asked::parse(format!(r#"{{"remove":{{"number":1,"entries":[{{"path":"{path}",{entry}}}]}}}}"#).as_bytes())
        };
        assert!(remove("a/b").is_some());
        for bad in ["", "/etc", "..", "a/../b", "a/.landfall/x", ".LANDFALL", "a\\u0000"] {
            assert_eq!(remove(bad), None, "{bad}");
        }
        let answers = |count| Answered::parse(&Answered::Exist(1, vec![true; count]).line());
        assert!(answers(DELETE_BATCH_ENTRIES).is_some());
        assert_eq!(answers(DELETE_BATCH_ENTRIES + 1), None);
        assert_eq!((Asked::parse(b"{}"), Answered::parse(b"ready")), (None, None));
    }
}
