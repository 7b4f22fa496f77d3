//! The lines of a plan, JSON. The side with the sources asks, and says what it has found where that is to be shown by the
//! other one; the side of the target answers each question with one line, in order. Whoever was started says first that it
//! is ready:
//!
//! ```text
//! ready plan 1
//! {"look":{"path":"a/b","kind":"Regular","size":7}}                      {"file":{"is_same_size":true,"is_elsewhere":false}}
//! {"compare":{"path":"a/b","size":7,"first":0,"digests":"BASE64"}}       {"equal":{"bytes":7}}
//! {"found":{"path":{"b64":"/w=="},"kind":"Regular","bytes":7,"moved_bytes":0,"action":"present"}}
//! {"done":{"excluded":0}}
//! ```
//!
//! Both may be of another machine and lie: a path is parsed before it is used, a number is compared with what was asked.

use std::io::{self, BufRead, Read};
use std::num::NonZeroU16;

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};

use super::{Action, Finding};
use crate::attributes::FileKind;
use crate::digest::ChunkDigest;
use crate::identity::Role;
use crate::limits::PLAN_CHUNKS_MAX;
use crate::outcome::Reason;
use crate::path::RelPath;

/// What begins the first line of whoever was started.
pub(super) const READY_WORD: &str = "ready ";
/// That line.
pub(crate) const READY: &[u8] = b"ready plan 1\n";

/// What the side with the sources says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// A question: what stands under a name?
    Look(Look),
    /// A question: how much of a file has these digests?
    Compare(Compare),
    /// What would become of an entry.
    Found(Finding),
    /// Nothing follows.
    Done {
        /// Files and directories that the user has excluded.
        excluded: u64,
    },
}

/// A question about a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Look {
    /// The name.
    pub(super) path: RelPath,
    /// What is to go there.
    pub(super) kind: FileKind,
    /// Length of a regular file.
    pub(super) size: u64,
    /// Text of a symbolic link.
    pub(super) target: Vec<u8>,
}

/// A question about some chunks of a regular file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Compare {
    /// The file.
    pub(super) path: RelPath,
    /// Length at the source, by which chunks are cut.
    pub(super) size: u64,
    /// The first chunk.
    pub(super) first: u32,
    /// Digests of the source from there on.
    pub(super) digests: Vec<ChunkDigest>,
}

/// What the side of the target answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    /// Nothing has the name.
    Nothing {
        /// Its directory is another file system than the target's.
        is_elsewhere: bool,
    },
    /// The directory is there, or a link with this text.
    There,
    /// A regular file has the name of one.
    File {
        /// Of the length that was asked for.
        is_same_size: bool,
        /// As in `Nothing`.
        is_elsewhere: bool,
    },
    /// Something else has the name, no directory.
    Other {
        /// As in `Nothing`.
        is_elsewhere: bool,
    },
    /// A directory has the name of something else.
    Directory,
    /// Nothing can be done there, whatever has the name.
    Refused {
        /// Why.
        reason: Reason,
    },
    /// Chunks were compared.
    Equal {
        /// Bytes of those that are equal; `None` if the file cannot be read.
        bytes: Option<u64>,
    },
}

/// Bytes as text where they are UTF-8, else in base64.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Raw {
    /// UTF-8.
    Text(String),
    /// Anything else.
    Base64 {
        /// The bytes.
        b64: String,
    },
}

impl Raw {
    /// Of these bytes.
    pub(crate) fn of(bytes: &[u8]) -> Raw {
        match std::str::from_utf8(bytes) {
            Ok(text) => Raw::Text(text.to_owned()),
            Err(_) => Raw::Base64 { b64: BASE64.encode(bytes) },
        }
    }

    /// The bytes, if it holds any.
    pub(crate) fn bytes(self) -> Option<Vec<u8>> {
        match self {
            Raw::Text(text) => Some(text.into_bytes()),
            Raw::Base64 { b64 } => BASE64.decode(b64.as_bytes()).ok(),
        }
    }

    /// The path, if it is one.
    pub(crate) fn path(self) -> Option<RelPath> {
        RelPath::parse(&self.bytes()?).ok()
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SaidLine {
    Look {
        path: Raw,
        kind: FileKind,
        size: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        target: Option<Raw>,
    },
    Compare {
        path: Raw,
        size: u64,
        first: u32,
        digests: String,
    },
    Found {
        path: Raw,
        kind: FileKind,
        bytes: u64,
        moved_bytes: u64,
        action: ActionWord,
    },
    Done {
        excluded: u64,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ActionWord {
    Send,
    Present,
    Replace,
    Rename { number: NonZeroU16 },
    LeaveOut { reason: Reason, side: Role },
}

impl Said {
    /// The line with its end.
    pub(super) fn line(&self) -> Vec<u8> {
        encode(&match self {
            Said::Look(Look { path, kind, size, target }) => {
                let target = (*kind == FileKind::Symlink).then(|| Raw::of(target));
                SaidLine::Look { path: Raw::of(path.as_bytes()), kind: *kind, size: *size, target }
            }
            Said::Compare(Compare { path, size, first, digests }) => {
                let bytes: Vec<u8> = digests.iter().flat_map(|digest| digest.0).collect();
                let digests = BASE64.encode(&bytes);
                SaidLine::Compare { path: Raw::of(path.as_bytes()), size: *size, first: *first, digests }
            }
            Said::Found(Finding { path, kind, bytes, moved_bytes, action }) => {
                let action = match *action {
                    Action::Send => ActionWord::Send,
                    Action::Present => ActionWord::Present,
                    Action::Replace => ActionWord::Replace,
                    Action::Rename { number } => ActionWord::Rename { number },
                    Action::LeaveOut { reason, side } => ActionWord::LeaveOut { reason, side },
                };
                let (bytes, moved_bytes) = (*bytes, *moved_bytes);
                SaidLine::Found { path: Raw::of(path.as_bytes()), kind: *kind, bytes, moved_bytes, action }
            }
            Said::Done { excluded } => SaidLine::Done { excluded: *excluded },
        })
    }

    /// What a line says, if it is one.
    pub(super) fn parse(line: &[u8]) -> Option<Said> {
        Some(match serde_json::from_slice(line).ok()? {
            SaidLine::Look { path, kind, size, target } => {
                let target = target.map_or(Some(vec![]), Raw::bytes)?;
                Said::Look(Look { path: path.path()?, kind, size, target })
            }
            SaidLine::Compare { path, size, first, digests } => {
                let bytes = BASE64.decode(digests.as_bytes()).ok()?;
                let (digests, rest) = bytes.as_chunks::<32>();
                if !rest.is_empty() || digests.len() > PLAN_CHUNKS_MAX as usize {
                    return None;
                }
                let digests = digests.iter().copied().map(ChunkDigest).collect();
                Said::Compare(Compare { path: path.path()?, size, first, digests })
            }
            SaidLine::Found { path, kind, bytes, moved_bytes, action } => {
                let action = match action {
                    ActionWord::Send => Action::Send,
                    ActionWord::Present => Action::Present,
                    ActionWord::Replace => Action::Replace,
                    ActionWord::Rename { number } => Action::Rename { number },
                    ActionWord::LeaveOut { reason, side } => Action::LeaveOut { reason, side },
                };
                Said::Found(Finding { path: path.path()?, kind, bytes, moved_bytes, action })
            }
            SaidLine::Done { excluded } => Said::Done { excluded },
        })
    }
}

impl Answer {
    /// The line with its end.
    pub(super) fn line(&self) -> Vec<u8> {
        encode(self)
    }

    /// What a line answers, if it is an answer.
    pub(super) fn parse(line: &[u8]) -> Option<Answer> {
        serde_json::from_slice(line).ok()
    }
}

/// A value as a line.
pub(crate) fn encode(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(value).expect("all keys are texts, and encoding into memory works");
    bytes.push(b'\n');
    bytes
}

/// Reads the next line without its end. `false` at the end of the input; a line that is cut off is an error, and one that is
/// longer than `bytes_max` is `InvalidData`.
pub(crate) fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>, bytes_max: usize) -> io::Result<bool> {
    line.clear();
    input.by_ref().take(bytes_max as u64).read_until(b'\n', line)?;
    match line.pop() {
        Some(b'\n') => Ok(true),
        Some(_) if line.len() + 1 == bytes_max => Err(io::ErrorKind::InvalidData.into()),
        Some(_) => Err(io::ErrorKind::UnexpectedEof.into()),
        None => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::limits::PLAN_LINE_BYTES_MAX;

    fn path(bytes: &[u8]) -> RelPath {
        RelPath::parse(bytes).unwrap()
    }

    #[test]
    fn what_is_said_survives_its_line() {
        let left_out = Action::LeaveOut { reason: Reason::Kept, side: Role::Receiver };
        let found = |action| {
            Said::Found(Finding { path: path(b"x"), kind: FileKind::Regular, bytes: 9, moved_bytes: 1, action })
        };
        let look = |kind, target: &[u8]| {
            Said::Look(Look { path: path(b"a/\xff\n"), kind, size: u64::MAX, target: target.to_vec() })
        };
        let digests = vec![ChunkDigest([7; 32]), ChunkDigest([255; 32])];
        let all = [
            look(FileKind::Regular, b""),
            look(FileKind::Symlink, b"to \xfe"),
            Said::Compare(Compare { path: path(b"\"\\"), size: 5, first: 3, digests }),
            Said::Compare(Compare { path: path(b"empty"), size: 0, first: 0, digests: vec![] }),
            found(Action::Send),
            found(Action::Present),
            found(Action::Replace),
            found(left_out),
            Said::Done { excluded: 4 },
        ];
        for said in all {
            let line = said.line();
            let text = line.strip_suffix(b"\n").unwrap();
            assert!(!text.contains(&b'\n'), "{}", text.escape_ascii());
            assert_eq!(Said::parse(text), Some(said), "{}", text.escape_ascii());
        }
        let refused = Answer::Refused { reason: Reason::ParentLeftOut };
        for answer in [Answer::There, Answer::Directory, refused, Answer::Equal { bytes: None }] {
            assert_eq!(Answer::parse(&answer.line()), Some(answer));
        }
    }

    #[test]
    fn what_leads_out_of_the_target_or_is_too_much_is_not_said() {
        let look = |path: &str| format!(r#"{{"look":{{"path":"{path}","kind":"Regular","size":1}}}}"#);
        assert!(Said::parse(look("a/b").as_bytes()).is_some());
        for bad in ["", "/etc", "..", "a/../b", ".landfall/x", "a\\u0000"] {
            assert_eq!(Said::parse(look(bad).as_bytes()), None, "{bad}");
        }
        let compare = |bytes: usize| {
            let digests = BASE64.encode(&vec![0; bytes]);
            format!(r#"{{"compare":{{"path":"a","size":1,"first":0,"digests":"{digests}"}}}}"#)
        };
        assert!(Said::parse(compare(32 * PLAN_CHUNKS_MAX as usize).as_bytes()).is_some());
        for bad in [31, 33, 32 * PLAN_CHUNKS_MAX as usize + 32] {
            assert_eq!(Said::parse(compare(bad).as_bytes()), None, "{bad}");
        }
        for bad in ["", "{}", "ready plan 1", "{\"done\":{}}", "[]"] {
            assert_eq!((Said::parse(bad.as_bytes()), Answer::parse(bad.as_bytes())), (None, None), "{bad}");
        }
    }

    #[test]
    fn lines_are_bounded_and_whole() {
        let mut line = vec![];
        let mut input = &b"one\n\ntwo"[..];
        assert!(read_line(&mut input, &mut line, PLAN_LINE_BYTES_MAX).unwrap() && line == b"one");
        assert!(read_line(&mut input, &mut line, PLAN_LINE_BYTES_MAX).unwrap() && line.is_empty());
        let cut_off = read_line(&mut input, &mut line, PLAN_LINE_BYTES_MAX).unwrap_err();
        assert_eq!(cut_off.kind(), io::ErrorKind::UnexpectedEof);
        assert!(!read_line(&mut &b""[..], &mut line, PLAN_LINE_BYTES_MAX).unwrap());
        let mut long = vec![b'x'; PLAN_LINE_BYTES_MAX];
        long.push(b'\n');
        let too_long = read_line(&mut &long[..], &mut line, PLAN_LINE_BYTES_MAX).unwrap_err();
        assert_eq!(too_long.kind(), io::ErrorKind::InvalidData);
        assert!(read_line(&mut &long[1..], &mut line, PLAN_LINE_BYTES_MAX).unwrap());
    }
}
