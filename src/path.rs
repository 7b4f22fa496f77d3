//! Names that are safe to use and safe to show. [`RelPath::parse`] is the only way from a peer's or a disk's
//! bytes to a path below the target; [`Escaped`] is the only way from any foreign bytes to a screen.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::limits::{COMPONENT_BYTES_MAX, PATH_BYTES_MAX, PATH_COMPONENTS_MAX};

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
    fn what_is_shown_holds_no_control_bidi_or_zero_width_character() {
        let shown = Escaped("a\u{1b}[31m\u{9b}\r\n\u{202e}\u{200b}\u{feff}\u{7f}é".as_bytes()).to_string();
        assert_eq!(shown, "a\\u{1b}[31m\\u{9b}\\r\\n\\u{202e}\\u{200b}\\u{feff}\\u{7f}é");
        assert_eq!(Escaped(b"a\xff\\").to_string(), "a\\xff\\\\");
    }
}
