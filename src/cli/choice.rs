//! What of the sources goes, from the options that say so to one list of patterns.

use std::path::{Path, PathBuf};

use super::arguments::SenderArguments;
use super::failure::Failure;
use super::lists::{self, Place};
use crate::limits::{IGNORE_FILE_BYTES_MAX, PATTERNS_BYTES_MAX, PATTERNS_MAX};
use crate::options::Selection;
use crate::source::selection::{self, Selector};
use crate::state::given::read_text;

/// The selection that the options say: lines of files, then what is excluded, then what is included after all. Every
/// pattern is understood. Then the lists, of paths in these sources.
pub(super) fn choose(chosen: &SenderArguments, sources: &[PathBuf], place: Place) -> Result<Selection, Failure> {
    let mut patterns = vec![];
    for file in &chosen.exclude_from {
        patterns.extend(lines_of(file)?);
    }
    for glob in &chosen.exclude {
        patterns.push(literal("--exclude", glob)?);
    }
    for glob in &chosen.include {
        patterns.push(format!("!{}", literal("--include", glob)?));
    }
    let bytes: usize = patterns.iter().map(String::len).sum();
    if patterns.len() > PATTERNS_MAX || bytes > PATTERNS_BYTES_MAX {
        let text =
            format!("there are more patterns than {PATTERNS_MAX}, or they are longer than {PATTERNS_BYTES_MAX} bytes");
        return Err(Failure::usage(text).hint("exclude a directory instead of what is in it"));
    }
    let selection = Selection {
        patterns,
        ignore_files: chosen.ignore_files,
        one_file_system: chosen.one_file_system,
        listed: chosen.files_from.as_deref().map(lists::paths).transpose()?,
        expected: chosen.expect.as_deref().map(|file| lists::digests(file, sources, place)).transpose()?,
    };
    let understood = Selector::new(&selection).map(drop);
    understood.map_err(|bad| Failure::usage(bad.to_string()).hint("a pattern is written as in a .gitignore"))?;
    Ok(selection)
}

/// A receiver that does not start its sender has no say in what goes.
pub(super) fn not_here() -> Failure {
    Failure::usage("what goes, and how it is read, is said at the sender")
        .hint("give these options to `landfall send`, or receive with `--from SRC`")
}

/// A pattern from the command line has no comments and no negation: another option says that.
fn literal(option: &str, glob: &str) -> Result<String, Failure> {
    if glob.trim().is_empty() || glob.contains(['\n', '\r']) {
        return Err(Failure::usage(format!("`{option}` needs a pattern of one line")));
    }
    Ok(if glob.starts_with(['!', '#']) { format!("\\{glob}") } else { glob.to_owned() })
}

fn lines_of(file: &Path) -> Result<Vec<String>, Failure> {
    let text = read_text(file, IGNORE_FILE_BYTES_MAX)
        .map_err(|error| Failure::new(&format!("could not read the patterns in `{}`", file.display()), &error))?;
    Ok(selection::lines(&text).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_is_included_has_the_last_word_wherever_it_stands() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("patterns");
        std::fs::write(&file, "\u{feff}# a comment\n\n*.o\n!keep.o\n{x}\\{\n[{-}]y{\n[{\n").unwrap();
        let chosen = SenderArguments {
            include: vec!["a.tmp".into(), "#1".into()],
            exclude: vec!["*.tmp".into(), "!odd".into()],
            exclude_from: vec![file],
            ..SenderArguments::default()
        };
        let patterns = choose(&chosen, &[], Place::Here).unwrap().patterns;
        assert_eq!(
            patterns,
            ["*.o", "!keep.o", "\\{x\\}\\{", "[{-}]y\\{", "[\\{", "*.tmp", "\\!odd", "!a.tmp", "!\\#1"]
        );
    }

    #[test]
    fn what_cannot_be_understood_is_refused() {
        let refused = |glob: &str| {
            let chosen = SenderArguments { exclude: vec![glob.into()], ..SenderArguments::default() };
            choose(&chosen, &[], Place::Here).unwrap_err().text()
        };
        assert!(refused("a{b").contains("the pattern `a{b` cannot be understood"), "{}", refused("a{b"));
        assert!(refused(" ").contains("needs a pattern"));
        assert!(refused(&"x".repeat(PATTERNS_BYTES_MAX + 1)).contains("there are more patterns"));
        let absent = SenderArguments { exclude_from: vec!["/absent".into()], ..SenderArguments::default() };
        assert!(
            choose(&absent, &[], Place::Here).unwrap_err().text().contains("could not read the patterns in `/absent`")
        );
    }
}
