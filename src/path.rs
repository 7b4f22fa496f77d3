//! Names that are safe to use and safe to show. [`RelPath::parse`] is the only way from a peer's or a disk's
//! bytes to a path below the target; [`Escaped`] is the only way from any foreign bytes to a screen.

use std::fmt;
use std::num::NonZeroU16;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::limits::{COMPONENT_BYTES_MAX, PATH_BYTES_MAX, PATH_COMPONENTS_MAX, RENAME_ATTEMPTS_MAX};

/// Name of the directory that holds a receiver's working state; no entry may have such a component.
pub const STATE_DIR_NAME: &str = ".landfall";

/// A relative path of plain components: not empty, no `.`, `..`, NUL, doubled or trailing slash, and no
/// component that is [`STATE_DIR_NAME`] in any ASCII case. Any other bytes are legal.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelPath(Vec<u8>);

/// Why bytes are not a [`RelPath`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No bytes at all.
    #[error("the path is empty")]
    Empty,
    /// More than the limit.
    #[error("the path is too long")]
    TooLong,
    /// A NUL byte.
    #[error("the path holds a NUL byte")]
    Nul,
    /// An empty, `.` or `..` component.
    #[error("the path has an empty, `.` or `..` component")]
    Component,
    /// A component that is our own state directory.
    #[error("the path has a component `.landfall`, which is landfall's own")]
    StateDir,
}

impl RelPath {
    /// Parses foreign bytes.
    pub fn parse(bytes: &[u8]) -> Result<RelPath, Refused> {
        if bytes.is_empty() {
            return Err(Refused::Empty);
        }
        if bytes.len() > PATH_BYTES_MAX {
            return Err(Refused::TooLong);
        }
        for (index, component) in bytes.split(|byte| *byte == b'/').enumerate() {
            if index >= PATH_COMPONENTS_MAX || component.len() > COMPONENT_BYTES_MAX {
                return Err(Refused::TooLong);
            }
            if component.contains(&0) {
                return Err(Refused::Nul);
            }
            if matches!(component, b"" | b"." | b"..") {
                return Err(Refused::Component);
            }
            if component.eq_ignore_ascii_case(STATE_DIR_NAME.as_bytes()) {
                return Err(Refused::StateDir);
            }
        }
        Ok(RelPath(bytes.to_vec()))
    }

    /// This path with one more component.
    pub fn join(&self, name: &[u8]) -> Result<RelPath, Refused> {
        let mut bytes = Vec::with_capacity(self.0.len() + 1 + name.len());
        bytes.extend_from_slice(&self.0);
        bytes.push(b'/');
        bytes.extend_from_slice(name);
        RelPath::parse(&bytes)
    }

    /// This path with a number in its last component: `stem (2).ext` for `stem.ext`. The extension is what follows the
    /// last dot, unless that dot is the first byte. A name that would be too long loses the end of its stem, where it
    /// is text between two characters. `None` if the path has no room for it.
    pub fn numbered(&self, number: NonZeroU16) -> Option<RelPath> {
        /// Bytes of a stem that an extension may not take the room of: one character.
        const STEM_BYTES_MIN: usize = 4;
        let name = self.name();
        let dot = name.iter().rposition(|byte| *byte == b'.').filter(|dot| *dot > 0).unwrap_or(name.len());
        let number = format!(" ({number})").into_bytes();
        let is_short = name.len() - dot + number.len() + STEM_BYTES_MIN <= COMPONENT_BYTES_MAX;
        let (stem, extension) = name.split_at(if is_short { dot } else { name.len() });
        let room = COMPONENT_BYTES_MAX - number.len() - extension.len();
        let length = match std::str::from_utf8(stem) {
            Ok(text) => text.floor_char_boundary(room),
            Err(_) => stem.len().min(room),
        };
        let above = &self.0[..self.0.len() - name.len()];
        RelPath::parse(&[above, &stem[..length], &number, extension].concat()).ok()
    }

    /// The names that an entry may get, in the order in which they are tried: its own, then those with a number.
    pub fn names(&self) -> impl Iterator<Item = (Option<NonZeroU16>, RelPath)> + use<'_> {
        let numbered = (1..=RENAME_ATTEMPTS_MAX).filter_map(NonZeroU16::new);
        let numbered = numbered.map_while(|number| Some((Some(number), self.numbered(number)?)));
        std::iter::once((None, self.clone())).chain(numbered)
    }

    /// The path under which an entry stands that got this number, if it got one.
    pub fn under(&self, number: Option<NonZeroU16>) -> Option<RelPath> {
        match number {
            Some(number) => self.numbered(number),
            None => Some(self.clone()),
        }
    }

    /// The bytes, components separated by `/`.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Last component.
    pub fn name(&self) -> &[u8] {
        self.0.rsplit(|byte| *byte == b'/').next().expect("a path is not empty")
    }

    /// All but the last component, if there are several.
    pub fn parent(&self) -> Option<RelPath> {
        let slash = self.0.iter().rposition(|byte| *byte == b'/')?;
        Some(RelPath(self.0[..slash].to_vec()))
    }

    /// The components in order.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'/')
    }
}

impl Serialize for RelPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for RelPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RelPath, D::Error> {
        let bytes = <&[u8]>::deserialize(deserializer)?;
        RelPath::parse(bytes).map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Escaped(&self.0).fmt(f)
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{self}`")
    }
}

/// Foreign bytes for a screen: control characters (C0, C1, DEL), bidirectional and zero-width characters,
/// separators, backslash and bytes that are not UTF-8 are shown as escapes; everything else as it is.
#[derive(Clone, Copy)]
pub struct Escaped<'a>(pub &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in self.0.utf8_chunks() {
            for character in part.valid().chars() {
                match character {
                    '\\' => f.write_str("\\\\")?,
                    '\n' => f.write_str("\\n")?,
                    '\r' => f.write_str("\\r")?,
                    '\t' => f.write_str("\\t")?,
                    _ if is_unsafe_to_show(character) => write!(f, "\\u{{{:x}}}", u32::from(character))?,
                    _ => write!(f, "{character}")?,
                }
            }
            for byte in part.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Controls, format characters (bidirectional overrides, zero-width, tags), line and paragraph separators,
/// odd spaces and fillers that look like nothing (Unicode 16, categories Cc, Cf, Zl, Zp and the Hangul fillers).
fn is_unsafe_to_show(character: char) -> bool {
    character.is_control()
        || matches!(u32::from(character),
            0xad | 0x34f | 0x600..=0x605 | 0x61c | 0x6dd | 0x70f | 0x890..=0x891 | 0x8e2 | 0x115f..=0x1160
            | 0x17b4..=0x17b5 | 0x180b..=0x180f | 0x2000..=0x200f | 0x2028..=0x202f | 0x205f..=0x206f | 0x3164
            | 0xfe00..=0xfe0f | 0xfeff | 0xffa0 | 0xfff0..=0xfffb | 0x110bd | 0x110cd | 0x13430..=0x1343f
            | 0x1bca0..=0x1bca3 | 0x1d173..=0x1d17a | 0xe0000..=0xe0fff)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn hostile_names_are_refused() {
        let cases: [(&[u8], Refused); 17] = [
            (b"", Refused::Empty),
            (b"/", Refused::Component),
            (b"/etc", Refused::Component),
            (b"..", Refused::Component),
            (b"../x", Refused::Component),
            (b"a/../../x", Refused::Component),
            (b"a/..", Refused::Component),
            (b".", Refused::Component),
            (b"a/./b", Refused::Component),
            (b"a//b", Refused::Component),
            (b"a/", Refused::Component),
            (b"a\0b", Refused::Nul),
            (b"a/b\0", Refused::Nul),
            (b".landfall", Refused::StateDir),
            (b".LandFall/x", Refused::StateDir),
            (b"a/.LANDFALL", Refused::StateDir),
            (&[b'a'; 256], Refused::TooLong),
        ];
        for (bytes, why) in cases {
            assert_eq!(RelPath::parse(bytes), Err(why), "{}", Escaped(bytes));
        }
        assert_eq!(RelPath::parse(&vec![b'a'; PATH_BYTES_MAX + 1]), Err(Refused::TooLong));
        assert_eq!(RelPath::parse("a/".repeat(PATH_COMPONENTS_MAX).as_bytes()), Err(Refused::TooLong));
    }

    #[test]
    fn any_other_unix_name_is_legal() {
        for bytes in
            [&b"a"[..], b"...", b"a b", b"\xff\xfe", b"new\nline", b"a\\b", b"-rf", b"CON", b".landfall2", &[b'x'; 255]]
        {
            assert_eq!(RelPath::parse(bytes).unwrap().as_bytes(), bytes);
        }
        let path = RelPath::parse(b"a/b/c").unwrap();
        assert_eq!((path.name(), path.parent().unwrap().as_bytes()), (&b"c"[..], &b"a/b"[..]));
        assert_eq!(RelPath::parse(b"a").unwrap().parent(), None);
        assert!(path.join(b"..").is_err());
    }

    #[test]
    fn a_number_goes_between_stem_and_extension() {
        let numbered = |bytes: &[u8], number| {
            RelPath::parse(bytes).unwrap().numbered(NonZeroU16::new(number).unwrap()).unwrap().as_bytes().to_vec()
        };
        let cases: [(&[u8], &[u8]); 8] = [
            (b"photo.jpg", b"photo (1).jpg"),
            (b"d.e/archive.tar.gz", b"d.e/archive.tar (1).gz"),
            (b"d.e/archive", b"d.e/archive (1)"),
            (b".bashrc", b".bashrc (1)"),
            (b".a.b", b".a (1).b"),
            (b"a.", b"a (1)."),
            (b"a (1).txt", b"a (1) (1).txt"),
            (b"\xff.\xfe", b"\xff (1).\xfe"),
        ];
        for (from, to) in cases {
            assert_eq!(numbered(from, 1), to, "{}", Escaped(from));
        }
        assert_eq!(numbered(b"a.txt", 999), b"a (999).txt");
    }

    #[test]
    fn a_name_without_room_for_a_number_loses_the_end_of_its_stem() {
        let numbered = |bytes: &[u8]| RelPath::parse(bytes).unwrap().numbered(NonZeroU16::new(10).unwrap());
        let long = |stem: &[u8], extension: &[u8]| numbered(&[stem, extension].concat()).unwrap().as_bytes().to_vec();
        assert_eq!(long(&[b'a'; 251], b".txt"), [&[b'a'; 246][..], b" (10).txt"].concat());
        assert_eq!(long(&[0xff; 251], b".txt"), [&[0xff; 246][..], b" (10).txt"].concat());
        let text = "ä".repeat(126);
        assert_eq!(long(text.as_bytes(), b".jp"), [&text.as_bytes()[..246], b" (10).jp"].concat());
        // An extension that leaves no stem is none.
        let dots = [&b"a."[..], &[b'b'; 253]].concat();
        assert_eq!(long(&dots, b""), [&dots[..250], b" (10)"].concat());
        let deep = [&[&[b'a'; 254][..], b"/"].concat().repeat(257)[..], b"b"].concat();
        assert_eq!(deep.len(), PATH_BYTES_MAX);
        assert_eq!(numbered(&deep), None);
    }

    #[test]
    fn what_is_shown_holds_no_control_bidi_or_zero_width_character() {
        let shown = Escaped("a\u{1b}[31m\u{9b}\r\n\u{202e}\u{200b}\u{feff}\u{7f}é".as_bytes()).to_string();
        assert_eq!(shown, "a\\u{1b}[31m\\u{9b}\\r\\n\\u{202e}\\u{200b}\\u{feff}\\u{7f}é");
        assert_eq!(Escaped(b"a\xff\\").to_string(), "a\\xff\\\\");
    }
}
