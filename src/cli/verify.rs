//! `landfall verify`: what the comparison of a directory with a receipt found, in words, JSON, or as lines for
//! `b3sum -c`. The comparing is `crate::verify`'s.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use data_encoding::HEXLOWER;
use serde_json::{Map, Value};

use super::arguments::VerifyArguments;
use super::console::{Console, Shows, Verbosity};
use super::failure::Failure;
use super::text::{date, level_words};
use super::{json, shown};
use crate::attributes::{FileKind, Level, Timestamp};
use crate::disk::{Access, Disk, RealDisk, RealFile};
use crate::error::Exit;
use crate::path::{Escaped, RelPath};
use crate::progress::figures::{bytes, count, counted};
use crate::progress::width::join_fitting;
use crate::receipt::Line;
use crate::verify::{Comparer, Difference, Receipt, ReceiptError};

/// Between two redraws.
const DRAW_MS: u64 = 200;

/// What was found in all.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    entries: u64,
    files: u64,
    bytes: u64,
    differing: u64,
    not_delivered: u64,
    level: Option<Level>,
}

/// Verifies, and says what differs.
pub(super) fn run(arguments: &VerifyArguments) -> Result<Exit, Failure> {
    let console = Console::new(if arguments.quiet { Verbosity::Quiet } else { Verbosity::Normal });
    let receipt = open(&arguments.receipt)?;
    if arguments.b3sum {
        return print_b3sum(&receipt, &console);
    }
    let failed = |error: io::Error| Failure::new(&format!("could not open `{}`", arguments.dir.display()), &error);
    let root = RealDisk::open_root(&arguments.dir).map_err(failed)?;
    let mut comparer = Comparer::new(RealDisk::new(), root);
    let bar = (console.shows() == Shows::Bars).then(|| console.bar());
    let mut totals = Totals::default();
    let mut drawn = Instant::now();
    for line in receipt.lines() {
        let line = line.map_err(|error| unbelieved(&arguments.receipt, &error))?;
        let Some(finding) = comparer.compare(&line) else {
            totals.not_delivered += 1;
            continue;
        };
        totals.entries += 1;
        totals.files += u64::from(line.kind == FileKind::Regular);
        totals.bytes += line.size;
        totals.differing += u64::from(!finding.differences.is_empty());
        totals.level = totals.level.into_iter().chain(finding.level).min();
        for difference in &finding.differences {
            console.result(&difference_line(
                arguments.json,
                line.renamed_to().as_ref().unwrap_or(&line.path),
                difference,
            ));
        }
        if let Some(bar) = bar.as_ref().filter(|_| drawn.elapsed() >= Duration::from_millis(DRAW_MS)) {
            console.draw(bar, &[progress_line(&totals, receipt.core().delivered_bytes, &line.path, console.columns())]);
            drawn = Instant::now();
        }
    }
    bar.iter().for_each(indicatif::ProgressBar::finish_and_clear);
    if arguments.json {
        console.result(&json::line(verified_object(&totals, &receipt), None));
    } else if !arguments.quiet {
        console.result(&verified_text(&totals, &receipt));
    }
    Ok(if totals.differing == 0 { Exit::Done } else { Exit::Failed })
}

/// Opens a receipt, and believes it or says why not.
pub(super) fn open(path: &Path) -> Result<Receipt<RealFile>, Failure> {
    let open = || {
        let path = path.canonicalize()?;
        let name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?;
        let dir = RealDisk::open_root(path.parent().unwrap_or(Path::new("/")))?;
        RealDisk::new().open(&dir, std::os::unix::ffi::OsStrExt::as_bytes(name), Access::Read)
    };
    let file =
        open().map_err(|error| Failure::new(&format!("could not open the receipt `{}`", path.display()), &error))?;
    Receipt::open(file).map_err(|error| unbelieved(path, &error))
}

/// A receipt proves nothing, for this reason.
pub(super) fn unbelieved(path: &Path, error: &ReceiptError) -> Failure {
    Failure::new(&format!("the receipt `{}` proves nothing", path.display()), error)
}

fn progress_line(totals: &Totals, bytes_total: u64, path: &RelPath, columns: usize) -> String {
    let read = format!("reading back {} of {}", bytes(totals.bytes), bytes(bytes_total));
    join_fitting(&[read, counted(totals.files, "file", "files"), path.to_string()], " · ", columns)
}

fn difference_line(is_json: bool, path: &RelPath, difference: &Difference) -> String {
    if !is_json {
        return format!("`{path}`: {}\n", difference_text(difference));
    }
    let mut object = json::object("difference");
    json::put_bytes(&mut object, "path", path.as_bytes());
    object.insert("what".into(), difference_word(difference).into());
    object.insert("message".into(), difference_text(difference).into());
    json::line(object, None)
}

fn difference_word(difference: &Difference) -> &'static str {
    match difference {
        Difference::Missing => "missing",
        Difference::Kind { .. } => "kind",
        Difference::Size { .. } => "size",
        Difference::Content => "content",
        Difference::Target { .. } => "target",
        Difference::Mode { .. } => "mode",
        Difference::Mtime { .. } => "mtime",
        Difference::Unreadable(_) => "unreadable",
    }
}

fn difference_text(difference: &Difference) -> String {
    match difference {
        Difference::Missing => "it is missing".to_owned(),
        Difference::Kind { expected, found } => format!("it is {} now, not {}", kind(*found), kind(*expected)),
        Difference::Size { expected, found } => {
            format!("it has {} bytes now, not {}", count(*found), count(*expected))
        }
        Difference::Content => "its bytes are others now".to_owned(),
        Difference::Target { found } => format!("it leads to `{}` now", Escaped(found)),
        Difference::Mode { expected, found } => format!("its mode is {found:04o} now, not {expected:04o}"),
        Difference::Mtime { expected, found } => {
            format!("it was changed at {}, not at {}", instant(*found), instant(*expected))
        }
        Difference::Unreadable(error) => {
            format!("it cannot be read: {}", shown::lower_first(&shown::sentence(&error.to_string())))
        }
    }
}

fn kind(kind: FileKind) -> &'static str {
    match kind {
        FileKind::Regular => "a file",
        FileKind::Directory => "a directory",
        FileKind::Symlink => "a symlink",
        FileKind::Special => "neither file, directory nor symlink",
    }
}

fn instant(time: Timestamp) -> String {
    let nanos = i32::try_from(time.nanos).unwrap_or_default();
    match jiff::Timestamp::new(time.seconds, nanos) {
        Ok(instant) => instant.to_string(),
        Err(_) => format!("{} s", time.seconds),
    }
}

fn verified_text(totals: &Totals, receipt: &Receipt<RealFile>) -> String {
    let core = receipt.core();
    let entries = counted(totals.entries, "entry", "entries");
    let verdict = match totals.differing {
        0 => format!("{entries} ({}): all as received on {}", bytes(totals.bytes), date(core.finished.seconds)),
        differing => format!("{} of {entries} not as received on {}", count(differing), date(core.finished.seconds)),
    };
    let level = totals.level.map(|level| format!("  verified    {}\n", level_words(level))).unwrap_or_default();
    let absent = match totals.not_delivered {
        0 => String::new(),
        number => {
            format!("  not looked  at {} that the receipt calls not delivered\n", counted(number, "entry", "entries"))
        }
    };
    format!(
        "{verdict}\n{level}{absent}  receiver    {} (calls itself `{}`), who signed\n  sender      {} (calls itself `{}`)\n",
        core.receiver.fingerprint(),
        Escaped(core.receiver_host.as_bytes()),
        core.sender.fingerprint(),
        Escaped(core.sender_host.as_bytes()),
    )
}

fn verified_object(totals: &Totals, receipt: &Receipt<RealFile>) -> Map<String, Value> {
    let core = receipt.core();
    let mut object = json::object("verified");
    let exit = if totals.differing == 0 { Exit::Done } else { Exit::Failed };
    object.insert("exit".into(), exit.code().into());
    object.insert("id".into(), core.transfer.to_string().into());
    object.insert("entries".into(), totals.entries.into());
    object.insert("files".into(), totals.files.into());
    object.insert("bytes".into(), totals.bytes.into());
    object.insert("differing".into(), totals.differing.into());
    object.insert("not_delivered".into(), totals.not_delivered.into());
    object.extend(totals.level.map(|level| ("level".to_owned(), level.word().into())));
    object.insert("finished".into(), json::time(core.finished.seconds).into());
    object.insert("sender".into(), core.sender.fingerprint().to_string().into());
    object.insert("receiver".into(), core.receiver.fingerprint().to_string().into());
    object
}

fn print_b3sum(receipt: &Receipt<RealFile>, console: &Console) -> Result<Exit, Failure> {
    let mut unexpressed = 0_u64;
    for line in receipt.lines() {
        let line = line.map_err(|error| Failure::new("could not read the receipt again", &error))?;
        match b3sum_line(&line) {
            B3sum::Nothing => {}
            B3sum::Line(text) => console.result(&text),
            B3sum::Unexpressed => {
                unexpressed += 1;
                console.error(&format!("`{}`: `b3sum -c` cannot express this name\n", line.path));
            }
        }
    }
    if unexpressed == 0 {
        return Ok(Exit::Done);
    }
    let names = counted(unexpressed, "name", "names");
    let failure =
        Failure { exit: Exit::Failed, ..Failure::usage(format!("{names} could not be printed for `b3sum -c`")) };
    Err(failure.hint("`landfall verify RECEIPT DIR` compares them too"))
}

/// What `b3sum -c` gets for a line.
#[derive(Debug, PartialEq, Eq)]
enum B3sum {
    /// It is not a file that was delivered.
    Nothing,
    /// This line.
    Line(String),
    /// It has no way to say this name.
    Unexpressed,
}

/// A line as `b3sum` prints it: a name with a backslash or a line break is escaped, and says so by a backslash in
/// front. A name with U+FFFD is never accepted, since that is what b3sum shows for bytes that are not text.
fn b3sum_line(line: &Line) -> B3sum {
    let is_file = line.outcome.has_arrived() && line.kind == FileKind::Regular;
    let (Some(digest), Some(place)) = (line.digest.filter(|_| is_file), line.place()) else {
        return B3sum::Nothing;
    };
    let name = match std::str::from_utf8(place.as_bytes()) {
        Ok(name) if !name.contains('\u{fffd}') => name,
        _ => return B3sum::Unexpressed,
    };
    // A lone `-` would be standard input.
    let name = if name == "-" { "./-" } else { name };
    let escaped = name.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r");
    let mark = if escaped == name { "" } else { "\\" };
    B3sum::Line(format!("{mark}{}  {escaped}\n", HEXLOWER.encode(&digest.0)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::digest::FileDigest;
    use crate::outcome::{Outcome, Reason};

    const HEX: &str = "abababababababababababababababababababababababababababababababab";

    fn line(path: &[u8]) -> Line {
        Line {
            path: RelPath::parse(path).unwrap(),
            kind: FileKind::Regular,
            size: 1,
            digest: Some(FileDigest([0xab; 32])),
            mode: 0o644,
            mtime: Timestamp::default(),
            target: vec![],
            outcome: Outcome::Delivered,
        }
    }

    #[test]
    fn names_are_written_as_b3sum_writes_them() {
        let shown = |path: &[u8]| match b3sum_line(&line(path)) {
            B3sum::Line(text) => text,
            other => panic!("{other:?}"),
        };
        assert_eq!(shown(b"a/b c"), format!("{HEX}  a/b c\n"));
        assert_eq!(shown(b"a\\b"), format!("\\{HEX}  a\\\\b\n"));
        assert_eq!(shown(b"a\nb\r"), format!("\\{HEX}  a\\nb\\r\n"));
        assert_eq!(shown(b"-"), format!("{HEX}  ./-\n"));
    }

    #[test]
    fn what_b3sum_cannot_check_is_not_printed() {
        assert_eq!(b3sum_line(&line(b"a\xff")), B3sum::Unexpressed);
        assert_eq!(b3sum_line(&line("a\u{fffd}".as_bytes())), B3sum::Unexpressed);
        let left_out = Line { outcome: Outcome::LeftOut(Reason::Changed), ..line(b"a") };
        assert_eq!(b3sum_line(&left_out), B3sum::Nothing);
        let directory = Line { kind: FileKind::Directory, digest: None, ..line(b"a") };
        assert_eq!(b3sum_line(&directory), B3sum::Nothing);
        let bare = Line { outcome: Outcome::AttributesNotApplied, ..line(b"a") };
        assert!(matches!(b3sum_line(&bare), B3sum::Line(_)));
        let renamed = Line { outcome: Outcome::Renamed(std::num::NonZeroU16::MIN), ..line(b"d/a.b") };
        assert_eq!(b3sum_line(&renamed), B3sum::Line(format!("{HEX}  d/a (1).b\n")));
    }

    #[test]
    fn each_difference_has_its_words() {
        let (expected, found) = (Timestamp { seconds: -1, nanos: 5 }, Timestamp { seconds: 0, nanos: 0 });
        let all = [
            (Difference::Missing, "it is missing"),
            (
                Difference::Kind { expected: FileKind::Regular, found: FileKind::Symlink },
                "it is a symlink now, not a file",
            ),
            (Difference::Size { expected: 1000, found: 1 }, "it has 1 bytes now, not 1,000"),
            (Difference::Content, "its bytes are others now"),
            (Difference::Target { found: b"a\x1b".to_vec() }, "it leads to `a\\u{1b}` now"),
            (Difference::Mode { expected: 0o644, found: 0o600 }, "its mode is 0600 now, not 0644"),
            (
                Difference::Mtime { expected, found },
                "it was changed at 1970-01-01T00:00:00Z, not at 1969-12-31T23:59:59.000000005Z",
            ),
            (
                Difference::Unreadable(io::Error::from_raw_os_error(13)),
                "it cannot be read: permission denied (os error 13)",
            ),
        ];
        for (difference, words) in &all {
            assert_eq!(difference_text(difference), *words);
        }
    }
}
