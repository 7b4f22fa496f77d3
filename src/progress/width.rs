//! How many columns a text takes, and how to make it take fewer. The count is never too low, so that nothing that was
//! made to fit wraps; for rare letters it may be too high, which only shortens a name. It does not escape:
//! what comes in has gone through [`crate::path::Escaped`].

/// What stands where something was cut out.
const CUT: char = '…';

/// Columns of a text on a terminal, at most.
pub fn columns(text: &str) -> usize {
    text.chars().map(columns_of).sum()
}

/// Two columns for everything that may be wide. Combining marks count one, although they usually take none.
fn columns_of(letter: char) -> usize {
    let is_narrow = matches!(u32::from(letter), 0..=0x10ff | 0x1e00..=0x1fff | 0x2010..=0x205e | 0x2190..=0x21ff
        | 0x2500..=0x259f);
    if is_narrow { 1 } else { 2 }
}

/// The text, or its beginning and end around a `…`, in at most `width` columns. The end gets the larger half: of a
/// path it holds the name.
pub fn shorten(text: &str, width: usize) -> String {
    if columns(text) <= width {
        return text.to_owned();
    }
    if width == 0 {
        return String::new();
    }
    let room = width - 1;
    let tail = last_columns(text, room - room / 2);
    let head = first_columns(text, room - columns(tail));
    format!("{head}{CUT}{tail}")
}

fn first_columns(text: &str, width: usize) -> &str {
    let mut used = 0;
    let end = text.char_indices().find(|(_, letter)| {
        used += columns_of(*letter);
        used > width
    });
    &text[..end.map_or(text.len(), |(at, _)| at)]
}

fn last_columns(text: &str, width: usize) -> &str {
    let mut used = 0;
    let cut = text.char_indices().rev().find(|(_, letter)| {
        used += columns_of(*letter);
        used > width
    });
    &text[cut.map_or(0, |(at, letter)| at + letter.len_utf8())..]
}

/// As many of the parts, in their order, as fit beside each other; the first is shortened if even it does not fit.
pub fn join_fitting(parts: &[String], separator: &str, width: usize) -> String {
    let mut line = String::new();
    for part in parts.iter().filter(|part| !part.is_empty()) {
        if line.is_empty() {
            line = shorten(part, width);
        } else if columns(&line) + columns(separator) + columns(part) <= width {
            line.push_str(separator);
            line.push_str(part);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn wide_letters_take_two_columns() {
        assert_eq!(columns("abc é …"), 7);
        assert_eq!(columns("写真"), 4);
        assert_eq!(columns("👍"), 2);
    }

    #[test]
    fn a_long_name_keeps_its_beginning_and_its_end() {
        assert_eq!(shorten("photos/2019/summer/IMG_0001.raw", 16), "photos/…0001.raw");
        assert_eq!(shorten("short", 5), "short");
        assert_eq!(shorten("写真写真", 5), "写…真");
        assert_eq!((shorten("abc", 1).as_str(), shorten("abc", 0).as_str()), ("…", ""));
    }

    #[test]
    fn parts_that_do_not_fit_are_left_out() {
        let parts = ["one", "", "far too long for this", "two"].map(str::to_owned);
        assert_eq!(join_fitting(&parts, " · ", 12), "one · two");
        assert_eq!(join_fitting(&parts, " · ", 2), "…e");
        assert_eq!(join_fitting(&[], " · ", 2), "");
    }

    proptest! {
        #[test]
        fn whatever_is_shortened_fits(text in "\\PC*", width in 0_usize..60) {
            prop_assert!(columns(&shorten(&text, width)) <= width);
            prop_assert!(columns(&join_fitting(&[text.clone(), text], " · ", width)) <= width);
        }
    }
}
