//! Foreign text made safe for a screen: what the system, a path or a peer said, in a sentence of ours.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::path::Escaped;

/// A finished sentence: controls, bidirectional and zero-width characters are escaped, backslashes stay, since some
/// of its names have gone through [`Escaped`] already.
pub(super) fn sentence(text: &str) -> String {
    let parts: Vec<String> = text.split('\\').map(|part| Escaped(part.as_bytes()).to_string()).collect();
    parts.join("\\")
}

/// A path of this machine.
pub(super) fn path(path: &Path) -> Escaped<'_> {
    os(path.as_os_str())
}

/// An argument.
pub(super) fn os(text: &OsStr) -> Escaped<'_> {
    Escaped(text.as_bytes())
}

/// As our sentences begin: in lower case, unless the first word is a name or an abbreviation.
pub(super) fn lower_first(text: &str) -> String {
    let mut letters = text.chars();
    match (letters.next(), letters.next()) {
        (Some(first), Some(second)) if first.is_uppercase() && (second.is_lowercase() || second == ' ') => {
            first.to_lowercase().chain(text.chars().skip(1)).collect()
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_keeps_its_backslashes_and_loses_its_controls() {
        assert_eq!(sentence("`a\\n` \u{1b}[2J\u{202e}\n"), "`a\\n` \\u{1b}[2J\\u{202e}\\n");
    }

    #[test]
    fn words_of_the_system_begin_in_lower_case() {
        let shown = ["No such file", "I/O error", "ENOSPC", "no", "", "A"].map(lower_first);
        assert_eq!(shown, ["no such file", "I/O error", "ENOSPC", "no", "", "A"]);
    }
}
