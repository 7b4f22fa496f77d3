//! The receipt: what the receiver signs when everything is verified, durable and under its name.
//!
//! The signed core is the postcard encoding of [`Core`] in its field order; the signature is Ed25519 over
//! `landfall receipt v1\0` followed by the core. The outcome digest in it is the BLAKE3 of one canonical line for
//! each path, sorted by path hash (first 16 bytes of the BLAKE3 of the path), withdrawn versions left out:
//!
//! ```text
//! 1 kind (0 file, 1 directory, 2 symlink, 3 other) · 1 outcome · 1 reason (0 unless left out) · 2 mode
//! 8 mtime seconds · 4 mtime nanoseconds · 8 size · 32 file digest · 4 length · path · 4 length · link target
//! 4 length · path under which it stands (only of outcomes 3 and 4)
//! ```
//!
//! (integers big-endian; what a kind does not have is zero). Outcomes: 0 delivered, 1 delivered without its attributes,
//! 2 left out, 3 delivered under another name, 4 as 3 without its attributes. It does not depend on how the log was written.
//!
//! The receipt file is NDJSON: the first line holds core and signature, in base64, and a readable copy of the core;
//! then one line per path. What this module does not do: keys (`net/identity.rs`), files (`state/`).

use std::borrow::Cow;
use std::num::NonZeroU16;

use data_encoding::{BASE64, HEXLOWER};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::attributes::{FileKind, Level, Timestamp};
use crate::digest::{FileDigest, OutcomeDigest};
use crate::identity::{PeerKey, TransferId};
use crate::outcome::{Counts, Outcome, Reason};
use crate::path::RelPath;

/// Version of core and file.
pub const VERSION: u16 = 1;
/// What a signature is made over, before the core.
const SIGNING_CONTEXT: &[u8] = b"landfall receipt v1\0";

/// The signed part. Part of formats: fields are appended only with a new version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Core {
    /// [`VERSION`].
    pub version: u16,
    /// The transfer.
    pub transfer: TransferId,
    /// Digest of all outcomes.
    pub outcome: OutcomeDigest,
    /// What the manifest holds, by the sender's own count.
    pub counts: Counts,
    /// Files verified, durable and under their names.
    pub delivered_files: u64,
    /// Their bytes.
    pub delivered_bytes: u64,
    /// Entries left out, on either side (kept ones not counted).
    pub left_out: u64,
    /// Entries of which the target's own version was kept.
    pub kept: u64,
    /// Bytes read back at each level, lowest level first.
    pub bytes_by_level: [u64; 4],
    /// The target's file system keeps its contents over a power cut.
    pub is_durable: bool,
    /// When the transfer began at the receiver.
    pub started: Timestamp,
    /// When the receipt was made.
    pub finished: Timestamp,
    /// The sender's key.
    pub sender: PeerKey,
    /// The receiver's key, which signs.
    pub receiver: PeerKey,
    /// Host names, as each side gave its own.
    pub sender_host: String,
    /// As above.
    pub receiver_host: String,
    /// Versions, as each side gave its own.
    pub sender_version: String,
    /// As above.
    pub receiver_version: String,
}

impl Core {
    /// The bytes that are signed and sent.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("encoding into memory cannot fail")
    }

    /// Parses a core of a known version.
    pub fn decode(bytes: &[u8]) -> Result<Core, DecodeError> {
        let (core, rest) = postcard::take_from_bytes::<Core>(bytes).map_err(|_| DecodeError::Malformed)?;
        if core.version != VERSION {
            return Err(DecodeError::OtherVersion(core.version));
        }
        if rest.is_empty() { Ok(core) } else { Err(DecodeError::Malformed) }
    }

    /// The lowest level at which any byte was read back; `Device` if there was no byte.
    pub fn level(&self) -> Level {
        let lowest = Level::ALL.into_iter().zip(self.bytes_by_level).find(|(_, bytes)| *bytes > 0);
        lowest.map_or(Level::Device, |(level, _)| level)
    }
}

/// What the signature is made over.
pub fn signing_bytes(core: &[u8]) -> Vec<u8> {
    [SIGNING_CONTEXT, core].concat()
}

/// Why a receipt cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not a receipt, or a damaged one.
    #[error("this is not a receipt, or it is damaged")]
    Malformed,
    /// Made by a newer program.
    #[error("this receipt has version {0}, which this program does not know")]
    OtherVersion(u16),
    /// A line of the file cannot be read.
    #[error("line {0} of the receipt cannot be read")]
    BadLine(u64),
}

/// One path of the outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its path in the manifest. [`Line::place`] is where it stands.
    pub path: RelPath,
    /// What it is.
    pub kind: FileKind,
    /// Length in bytes; 0 unless a file.
    pub size: u64,
    /// Digest of its content; only of a file that was read whole.
    pub digest: Option<FileDigest>,
    /// Permission bits; 0 for a symlink.
    pub mode: u16,
    /// Time of the last change at the source.
    pub mtime: Timestamp,
    /// Text of a symlink.
    pub target: Vec<u8>,
    /// What became of it.
    pub outcome: Outcome,
}

impl Line {
    /// The canonical bytes that are hashed into the outcome digest.
    pub fn canonical(&self) -> Vec<u8> {
        let kind = match self.kind {
            FileKind::Regular => 0,
            FileKind::Directory => 1,
            FileKind::Symlink => 2,
            FileKind::Special => 3,
        };
        let (outcome, reason) = match self.outcome {
            Outcome::Delivered => (0, 0),
            Outcome::AttributesNotApplied => (1, 0),
            Outcome::LeftOut(reason) => (2, reason_number(reason)),
            Outcome::Renamed(_) => (3, 0),
            Outcome::RenamedAttributesNotApplied(_) => (4, 0),
        };
        let renamed_to = self.renamed_to();
        let path = self.path.as_bytes();
        let mut out = vec![kind, outcome, reason];
        out.extend_from_slice(&self.mode.to_be_bytes());
        out.extend_from_slice(&self.mtime.seconds.to_be_bytes());
        out.extend_from_slice(&self.mtime.nanos.to_be_bytes());
        out.extend_from_slice(&self.size.to_be_bytes());
        out.extend_from_slice(&self.digest.map_or([0; 32], |digest| digest.0));
        for text in [path, &self.target].into_iter().chain(renamed_to.as_ref().map(RelPath::as_bytes)) {
            out.extend_from_slice(&u32::try_from(text.len()).expect("bounded by limits").to_be_bytes());
            out.extend_from_slice(text);
        }
        out
    }

    /// Under which path it stands, or would stand. `None` if no path can be that: then the line is a lie.
    pub fn place(&self) -> Option<RelPath> {
        self.path.under(self.outcome.number())
    }

    /// Under which other path than its own it stands, if it does.
    pub fn renamed_to(&self) -> Option<RelPath> {
        self.path.numbered(self.outcome.number()?)
    }

    /// Whether it can be true: only a file or a symlink gets another name, and only one that is a path.
    pub fn is_possible(&self) -> bool {
        let may_be_renamed = matches!(self.kind, FileKind::Regular | FileKind::Symlink);
        self.outcome.number().is_none() || (may_be_renamed && self.renamed_to().is_some())
    }

    /// The line of the receipt file, without its newline.
    pub fn to_json(&self) -> String {
        let (path, path_b64) = text_or_base64(self.path.as_bytes());
        let is_symlink = self.kind == FileKind::Symlink;
        let renamed_to = self.renamed_to();
        let (renamed_to, renamed_to_b64) = renamed_to.as_ref().map_or((None, None), |to| text_or_base64(to.as_bytes()));
        let (target, target_b64) = if is_symlink { text_or_base64(&self.target) } else { (None, None) };
        let line = StoredLine {
            digest: self.digest.map(|digest| HEXLOWER.encode(&digest.0).into()),
            kind: kind_word(self.kind).into(),
            mode: (!is_symlink).then(|| format!("{:04o}", self.mode).into()),
            mtime: (self.mtime.seconds, self.mtime.nanos),
            outcome: self.outcome.word().into(),
            path,
            path_b64,
            renamed_to,
            renamed_to_b64,
            size: (self.kind == FileKind::Regular).then_some(self.size),
            target,
            target_b64,
        };
        serde_json::to_string(&line).expect("all keys are texts, and encoding into memory works")
    }

    /// Parses a line of the receipt file.
    pub fn from_json(text: &str) -> Option<Line> {
        let line: StoredLine<'_> = serde_json::from_str(text).ok()?;
        let kind = [FileKind::Regular, FileKind::Directory, FileKind::Symlink, FileKind::Special]
            .into_iter()
            .find(|kind| line.kind == kind_word(*kind))?;
        let digest = match line.digest {
            Some(digest) => Some(FileDigest(HEXLOWER.decode(digest.as_bytes()).ok()?.try_into().ok()?)),
            None => None,
        };
        let target = match kind {
            FileKind::Symlink => bytes_of(line.target, line.target_b64)?,
            _ => vec![],
        };
        let path = RelPath::parse(&bytes_of(line.path, line.path_b64)?).ok()?;
        let number = match bytes_of(line.renamed_to, line.renamed_to_b64) {
            Some(to) => Some(path.names().skip(1).find(|(_, name)| name.as_bytes() == to)?.0?),
            None => None,
        };
        Some(Line {
            outcome: outcome_of_word(&line.outcome, number)?,
            path,
            kind,
            size: line.size.unwrap_or(0),
            digest,
            mode: line.mode.map_or(Some(0), |mode| u16::from_str_radix(&mode, 8).ok())?,
            mtime: Timestamp { seconds: line.mtime.0, nanos: line.mtime.1 },
            target,
        })
    }
}

/// A line as it stands in the file. Its fields are in alphabetical order there.
#[derive(Serialize, Deserialize)]
struct StoredLine<'a> {
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    digest: Option<Cow<'a, str>>,
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    mode: Option<Cow<'a, str>>,
    /// Seconds and nanoseconds.
    mtime: (i64, u32),
    #[serde(borrow)]
    outcome: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    path: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    path_b64: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    renamed_to: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    renamed_to_b64: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    target: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    target_b64: Option<Cow<'a, str>>,
}

/// Bytes as text where they are UTF-8, else in base64.
fn text_or_base64(bytes: &[u8]) -> (Option<Cow<'_, str>>, Option<Cow<'_, str>>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text.into()), None),
        Err(_) => (None, Some(BASE64.encode(bytes).into())),
    }
}

fn bytes_of(text: Option<Cow<'_, str>>, base64: Option<Cow<'_, str>>) -> Option<Vec<u8>> {
    match text {
        Some(text) => Some(text.into_owned().into_bytes()),
        None => BASE64.decode(base64?.as_bytes()).ok(),
    }
}

/// First line of the receipt file, without its newline.
pub fn head_to_json(core: &Core, signature: &[u8; 64]) -> String {
    let levels: serde_json::Map<String, Value> = Level::ALL
        .into_iter()
        .zip(core.bytes_by_level)
        .filter(|(_, bytes)| *bytes > 0)
        .map(|(level, bytes)| (level.word().to_owned(), bytes.into()))
        .collect();
    json!({
        "kind": "receipt",
        "version": VERSION,
        "transfer": core.transfer.to_string(),
        "outcome_digest": HEXLOWER.encode(&core.outcome.0),
        "files": core.delivered_files,
        "bytes": core.delivered_bytes,
        "left_out": core.left_out,
        "kept": core.kept,
        "level": core.level().word(),
        "bytes_by_level": levels,
        "durable": core.is_durable,
        "started": core.started.seconds,
        "finished": core.finished.seconds,
        "sender": core.sender.fingerprint().to_string(),
        "receiver": core.receiver.fingerprint().to_string(),
        "sender_host": core.sender_host,
        "receiver_host": core.receiver_host,
        "core": BASE64.encode(&core.encode()),
        "signature": BASE64.encode(signature),
    })
    .to_string()
}

/// Core bytes and signature of a receipt file's first line. The readable copy is not looked at.
pub fn head_from_json(text: &str) -> Result<(Vec<u8>, [u8; 64]), DecodeError> {
    let parse = || {
        let head: Value = serde_json::from_str(text).ok()?;
        let core = BASE64.decode(head["core"].as_str()?.as_bytes()).ok()?;
        let signature = BASE64.decode(head["signature"].as_str()?.as_bytes()).ok()?.try_into().ok()?;
        (head["kind"] == "receipt").then_some((core, signature))
    };
    parse().ok_or(DecodeError::Malformed)
}

/// The stable word for a kind, in JSON and receipts.
pub fn kind_word(kind: FileKind) -> &'static str {
    match kind {
        FileKind::Regular => "file",
        FileKind::Directory => "directory",
        FileKind::Symlink => "symlink",
        FileKind::Special => "special",
    }
}

fn reason_number(reason: Reason) -> u8 {
    // Postcard's number of a variant without fields: its place in the declaration.
    postcard::to_stdvec(&reason).expect("encoding into memory cannot fail")[0] + 1
}

fn outcome_of_word(word: &str, number: Option<NonZeroU16>) -> Option<Outcome> {
    let arrived = [false, true].map(|is_attributes_failed| Outcome::arrived(number, is_attributes_failed));
    if let Some(arrived) = arrived.into_iter().find(|arrived| arrived.word() == word) {
        return Some(arrived);
    }
    if number.is_some() {
        return None;
    }
    (0..=u8::MAX)
        .map_while(|number| postcard::from_bytes::<Reason>(&[number]).ok())
        .find(|reason| reason.word() == word)
        .map(Outcome::LeftOut)
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A core for tests.
    pub(crate) fn sample() -> Core {
        Core {
            version: VERSION,
            transfer: TransferId([1; 16]),
            outcome: OutcomeDigest([2; 32]),
            counts: Counts::default(),
            delivered_files: 1,
            delivered_bytes: 2,
            left_out: 0,
            kept: 0,
            bytes_by_level: [0, 0, 3, 4],
            is_durable: true,
            started: Timestamp::default(),
            finished: Timestamp::default(),
            sender: PeerKey([3; 32]),
            receiver: PeerKey([4; 32]),
            sender_host: "a".into(),
            receiver_host: "b".into(),
            sender_version: "0.1.0".into(),
            receiver_version: "0.1.0".into(),
        }
    }

    fn line(path: &[u8], kind: FileKind, outcome: Outcome) -> Line {
        let is_file = kind == FileKind::Regular;
        Line {
            path: RelPath::parse(path).unwrap(),
            kind,
            size: if is_file { 5 } else { 0 },
            digest: is_file.then_some(FileDigest([0xab; 32])),
            mode: if kind == FileKind::Symlink { 0 } else { 0o644 },
            mtime: Timestamp { seconds: -2, nanos: 3 },
            target: if kind == FileKind::Symlink { b"\xfft".to_vec() } else { vec![] },
            outcome,
        }
    }

    #[test]
    fn a_canonical_line_has_the_documented_bytes() {
        let bytes = line(b"a", FileKind::Regular, Outcome::LeftOut(Reason::Unreadable)).canonical();
        let expected = [
            &[0, 2, 1, 1, 0xa4][..],
            &(-2_i64).to_be_bytes(),
            &[0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 5],
            &[0xab; 32],
            &[0, 0, 0, 1, b'a', 0, 0, 0, 0],
        ];
        assert_eq!(bytes, expected.concat());
    }

    #[test]
    fn a_canonical_line_covers_the_name_that_an_entry_got() {
        let bytes = line(b"d/a.b", FileKind::Regular, Outcome::Renamed(NonZeroU16::new(2).unwrap())).canonical();
        let plain = line(b"d/a.b", FileKind::Regular, Outcome::Delivered).canonical();
        assert_eq!((plain[1], bytes[1]), (0, 3));
        assert_eq!(bytes[2..plain.len()], plain[2..]);
        assert_eq!(bytes[plain.len()..], [&[0, 0, 0, 9][..], b"d/a (2).b"].concat());
    }

    #[test]
    fn a_line_whose_other_name_is_not_one_that_the_rule_gives_is_not_read() {
        let renamed = line(b"a.b", FileKind::Regular, Outcome::Renamed(NonZeroU16::MIN)).to_json();
        assert!(renamed.contains(r#""renamed_to":"a (1).b""#), "{renamed}");
        assert_eq!(Line::from_json(&renamed.replace("a (1).b", "a (0).b")), None);
        assert_eq!(Line::from_json(&renamed.replace("a (1).b", "../x")), None);
        assert_eq!(Line::from_json(&renamed.replace("\"renamed\"", "\"delivered\"")), None);
        let directory = line(b"a", FileKind::Directory, Outcome::Renamed(NonZeroU16::MIN));
        assert!(!directory.is_possible());
    }

    #[test]
    fn every_line_is_read_as_it_is_written() {
        let kinds = [FileKind::Regular, FileKind::Directory, FileKind::Symlink, FileKind::Special];
        let reasons = (0..=u8::MAX).map_while(|number| postcard::from_bytes::<Reason>(&[number]).ok());
        let outcomes = [Outcome::Delivered, Outcome::AttributesNotApplied].into_iter();
        for outcome in outcomes.chain(reasons.map(Outcome::LeftOut)) {
            for (kind, path) in kinds.into_iter().zip([&b"a"[..], b"\xff\n\"", "ü/\u{202e}".as_bytes(), b"x"]) {
                let line = line(path, kind, outcome);
                assert_eq!(Line::from_json(&line.to_json()), Some(line));
            }
        }
        let number = NonZeroU16::new(12).unwrap();
        for outcome in [Outcome::Renamed(number), Outcome::RenamedAttributesNotApplied(number)] {
            for (kind, path) in [(FileKind::Regular, &b"d/a.b"[..]), (FileKind::Symlink, b"\xff.\xfe")] {
                let line = line(path, kind, outcome);
                assert_eq!(Line::from_json(&line.to_json()), Some(line));
            }
        }
        assert_eq!(Line::from_json("{}"), None);
        assert_eq!(Line::from_json("x"), None);
    }

    #[test]
    fn a_core_is_read_as_it_is_written_and_its_level_is_the_lowest() {
        let mut core = sample();
        assert_eq!(Core::decode(&core.encode()), Ok(core.clone()));
        assert_eq!(core.level(), Level::Evicted);
        let head = head_to_json(&core, &[7; 64]);
        assert_eq!(head_from_json(&head), Ok((core.encode(), [7; 64])));
        core.version = 2;
        assert_eq!(Core::decode(&core.encode()), Err(DecodeError::OtherVersion(2)));
        assert_eq!(head_from_json("{}"), Err(DecodeError::Malformed));
    }
}
