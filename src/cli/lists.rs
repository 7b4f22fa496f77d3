//! The files of `--files-from` and `--expect`, or what stands on standard input in their place, as lists of the library.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::arguments::{BothArguments, SenderArguments};
use super::failure::Failure;
use super::invitation;
use super::lan;
use crate::limits::LIST_FILE_BYTES_MAX;
use crate::lists::{BadLine, DigestList, Given, PathList, Source};
use crate::state::given::{read_bytes, too_long};

/// What stands for standard input.
const INPUT: &str = "-";

/// Where the sources are, as seen from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// On this machine: relative paths begin in the working directory.
    Here,
    /// On another one.
    Elsewhere,
}

/// Standard input can be read for one thing.
pub(super) fn refuse_shared_input(sender: &SenderArguments, both: &BothArguments) -> Result<(), Failure> {
    let is_input = |file: &Option<PathBuf>| file.as_deref() == Some(Path::new(INPUT));
    let readers = [
        (is_input(&sender.files_from), "--files-from -"),
        (is_input(&sender.expect), "--expect -"),
        (both.ticket && !invitation::is_in_environment(), "--ticket"),
        (both.lan && !lan::is_in_environment(), "--lan"),
    ];
    let readers: Vec<&str> = readers.into_iter().filter(|(reads, _)| *reads).map(|(_, option)| option).collect();
    match readers.as_slice() {
        [first, .., last] => {
            let failure = Failure::usage(format!("`{first}` and `{last}` would both read standard input"));
            Err(failure
                .hint("put one of them into a file, a ticket with `--ticket-file FILE`, a code into `LANDFALL_CODE`"))
        }
        _ => Ok(()),
    }
}

/// The paths of `--files-from`.
pub(super) fn paths(file: &Path) -> Result<Given<PathList>, Failure> {
    let shown = shown(file);
    let list = PathList::parse(&read(file, "paths", &shown)?).map_err(|bad| unusable(&shown, &bad))?;
    match list.is_empty() {
        true => Err(Failure::usage(format!("{shown} lists no path: nothing would be sent"))),
        false => Ok(Given::new(list)),
    }
}

/// The digests of `--expect`, of files in these sources.
pub(super) fn digests(file: &Path, sources: &[PathBuf], place: Place) -> Result<Given<DigestList>, Failure> {
    let shown = shown(file);
    let here = || std::env::current_dir().map_err(|error| Failure::new("could not find the working directory", &error));
    let base = if place == Place::Here { here()?.into_os_string().into_encoded_bytes() } else { vec![] };
    let sources: Vec<Source> = sources.iter().map(|path| source(path.as_os_str().as_bytes())).collect();
    let text = read(file, "digests", &shown)?;
    let list = DigestList::parse(&text, &sources, &base).map_err(|bad| unusable(&shown, &bad))?;
    match list.is_empty() {
        true => Err(Failure::usage(format!("{shown} lists no digest: nothing would be sent"))),
        false => Ok(Given::new(list)),
    }
}

/// A source as it was typed: `x` and `x/` arrive as `x`, `x/.` as its contents.
fn source(typed: &[u8]) -> Source {
    let bare = typed.strip_suffix(b"/.").map_or(typed, |directory| if directory.is_empty() { b"/" } else { directory });
    let last = bare.split(|byte| *byte == b'/').rfind(|part| !part.is_empty());
    let name = last.filter(|last| bare.len() == typed.len() && *last != b".").map(<[u8]>::to_vec);
    Source { path: bare.to_vec(), name }
}

fn shown(file: &Path) -> String {
    if file == Path::new(INPUT) { "standard input".to_owned() } else { format!("`{}`", file.display()) }
}

fn read(file: &Path, what: &str, shown: &str) -> Result<Vec<u8>, Failure> {
    let read = match file.as_os_str() == OsStr::new(INPUT) {
        true => read_input(),
        false => read_bytes(file, LIST_FILE_BYTES_MAX),
    };
    read.map_err(|error| Failure::new(&format!("could not read the {what} in {shown}"), &error))
}

fn read_input() -> io::Result<Vec<u8>> {
    let (mut bytes, limit) = (vec![], LIST_FILE_BYTES_MAX as u64 + 1);
    io::stdin().lock().take(limit).read_to_end(&mut bytes)?;
    if bytes.len() > LIST_FILE_BYTES_MAX { Err(too_long(LIST_FILE_BYTES_MAX)) } else { Ok(bytes) }
}

fn unusable(shown: &str, bad: &BadLine) -> Failure {
    Failure::usage(format!("{shown}: {bad}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_has_the_name_under_which_it_arrives() {
        let parts = |typed: &str| {
            let Source { path, name } = source(typed.as_bytes());
            let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
            (text(path), name.map(text))
        };
        let named = |path: &str, name: &str| (path.to_owned(), Some(name.to_owned()));
        assert_eq!(parts("a/b"), named("a/b", "b"));
        assert_eq!(parts("a/b//"), named("a/b//", "b"));
        for (typed, path) in [("a/b/.", "a/b"), (".", "."), ("./.", "."), ("/.", "/")] {
            assert_eq!(parts(typed), (path.to_owned(), None), "{typed}");
        }
    }
}
