//! Lists as users write them, and as they are kept.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

fn paths(text: &[u8]) -> Vec<String> {
    let list = PathList::parse(text).unwrap();
    let all = list.0.beginning(b"").map(|path| String::from_utf8(path.to_vec()).unwrap());
    all.collect()
}

fn why<T: std::fmt::Debug>(parsed: Result<T, BadLine>) -> (usize, Wrong) {
    let bad = parsed.unwrap_err();
    (bad.number, bad.why)
}

#[test]
fn a_path_stands_on_each_line_and_nothing_is_a_comment() {
    assert_eq!(paths(b"b/c\n\n./a//d/./\n#x\n;y\nb/c\n a \n"), [" a ", "#x", ";y", "a/d", "b/c"]);
    assert_eq!(paths(b"last without an end"), ["last without an end"]);
    assert_eq!(paths(b"a\nb\0c\0"), ["a\nb", "c"], "with a NUL a newline is a letter");
    assert_eq!(paths(b".\n./\n"), [""]);
    assert!(PathList::parse(b"\n\n").unwrap().is_empty());
}

#[test]
fn what_leads_elsewhere_is_refused_by_its_line() {
    assert_eq!(why(PathList::parse(b"a\n\n/etc/passwd\n")), (3, Wrong::Absolute));
    assert_eq!(why(PathList::parse(b"a/../b\n")), (1, Wrong::Upwards));
    assert_eq!(why(PathList::parse(b"a\0..\0")), (2, Wrong::Upwards));
    assert_eq!(why(PathList::parse(b"a/.landfall/x")), (1, Wrong::Path(Refused::StateDir)));
    assert_eq!(why(PathList::parse(&[b'x'; 256])), (1, Wrong::Path(Refused::TooLong)));
    // A source's name still fits before it.
    let deep = "a/".repeat(PATH_COMPONENTS_MAX - 1);
    assert!(PathList::parse(deep.as_bytes()).is_ok());
    assert_eq!(why(PathList::parse(format!("{deep}a").as_bytes())), (1, Wrong::Path(Refused::TooLong)));
    let bad = PathList::parse(b"\x1b[2J/..").unwrap_err().to_string();
    assert_eq!(bad, "line 1, `\\u{1b}[2J/..`, cannot be used: `..` may lead out of the source");
}

#[test]
fn a_directory_shows_what_of_it_is_listed() {
    let list = PathList::parse(b"a/b/c\na/b\na-b\na\na/z/y\nq/r\n").unwrap();
    let names = |directory: &[u8]| {
        list.names_in(directory).into_iter().map(|name| String::from_utf8(name).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(names(b""), ["a", "a-b", "q"]);
    assert_eq!(
        (names(b"a"), names(b"a/b"), names(b"q/r"), names(b"x")),
        (vec!["b".to_owned(), "z".to_owned()], vec!["c".to_owned()], vec![], vec![])
    );
    assert_eq!(list.below(b"a"), [&b"a/b"[..], b"a/b/c", b"a/z/y"]);
    assert!(list.contains(b"a/b") && !list.contains(b"a/z") && !list.contains(b""));
}

#[test]
fn a_hundred_thousand_paths_are_a_list() {
    let text: String = (0..100_000).rev().map(|number| format!("directory-{}/file-{number}\n", number % 300)).collect();
    let list = PathList::parse(text.as_bytes()).unwrap();
    assert_eq!(list.names_in(b"").len(), 300);
    assert!(list.contains(b"directory-299/file-299") && !list.contains(b"directory-0/file-1"));
    assert_eq!(PathList::decode(&list.encode()), Some(list));
    let long = "x".repeat(200);
    let text: String = (0..90_000).map(|number| format!("{long}{number}\n")).collect();
    assert_eq!(why(PathList::parse(text.as_bytes())).1, Wrong::TooLong);
}

fn hex(byte: u8) -> String {
    format!("{byte:02x}").repeat(32)
}

fn source(path: &str, name: Option<&str>) -> Source {
    Source { path: path.into(), name: name.map(Into::into) }
}

/// The paths of these lines and the first bytes of their digests.
fn digests(lines: &[&str], sources: &[Source], base: &str) -> Vec<(String, u8)> {
    let text: String = (1..).zip(lines).map(|(byte, line)| format!("{}  {line}\n", hex(byte))).collect();
    let list = DigestList::parse(text.as_bytes(), sources, base.as_bytes()).unwrap();
    assert_eq!(DigestList::decode(&list.encode()).as_ref(), Some(&list));
    (0..list.len()).map(|index| (list.path(index).to_string(), list.digest(index).0[31])).collect()
}

#[test]
fn a_line_is_about_the_file_that_b3sum_was_given_here() {
    let pairs = |all: &[(&str, u8)]| all.iter().map(|(path, byte)| ((*path).to_owned(), *byte)).collect::<Vec<_>>();
    let photos = [source("photos", Some("photos"))];
    assert_eq!(digests(&["photos/a", "./photos//b"], &photos, "/home"), pairs(&[("photos/a", 1), ("photos/b", 2)]));
    // Typed otherwise than b3sum was.
    assert_eq!(digests(&["/home/photos/a"], &photos, "/home"), pairs(&[("photos/a", 1)]));
    let deep = [source("/home/x/photos", Some("photos"))];
    assert_eq!(digests(&["x/photos/a"], &deep, "/home"), pairs(&[("photos/a", 1)]));
    let above = [source("../x/photos", Some("photos"))];
    assert_eq!(digests(&["../x/photos/a"], &above, "/home"), pairs(&[("photos/a", 1)]));
    // The contents alone, and one file.
    let inside = [source("photos", None), source("d/notes", Some("notes"))];
    assert_eq!(digests(&["photos/a", "d/notes"], &inside, "/home"), pairs(&[("a", 1), ("notes", 2)]));
    // As it arrives.
    assert_eq!(digests(&["photos/a"], &deep, "/elsewhere"), pairs(&[("photos/a", 1)]));
    // On another machine nobody knows where a path begins.
    assert_eq!(digests(&["photos/a"], &photos, ""), pairs(&[("photos/a", 1)]));
    assert_eq!(digests(&["/data/photos/a"], &[source("/data/photos", Some("photos"))], ""), pairs(&[("photos/a", 1)]));
    let twice = [source("a/b", Some("b")), source("a", Some("a"))];
    assert_eq!(digests(&["a/b/f"], &twice, "/"), pairs(&[("a/b/f", 1), ("b/f", 1)]));
}

#[test]
fn a_name_that_b3sum_escapes_is_that_name() {
    let line = format!("\\{}  d/a\\\\b\\nc\\rd\n", hex(9));
    let list = DigestList::parse(line.as_bytes(), &[], b"").unwrap();
    assert_eq!(list.path(0).as_bytes(), b"d/a\\b\nc\rd");
    let plain = format!("{}  d/a\\\\b\n", hex(9));
    assert_eq!(DigestList::parse(plain.as_bytes(), &[], b"").unwrap().path(0).as_bytes(), b"d/a\\\\b");
}

#[test]
fn what_is_no_line_of_b3sum_is_refused_by_its_line() {
    let refused = |text: String| why(DigestList::parse(text.as_bytes(), &[source("s", Some("s"))], b"/home"));
    let good = format!("{}  a\n", hex(1));
    for bad in [
        "words".to_owned(),
        hex(1),
        format!("{} a", hex(1)),
        format!("{}  ", hex(1)),
        format!("{}  a", &hex(1)[..62]),
        format!("{}  a", hex(0xab).to_uppercase()),
        format!("\\{}  a\\x", hex(1)),
        format!("\\{}  a\\", hex(1)),
        format!("BLAKE3 (a) = {}", hex(1)),
    ] {
        assert_eq!(refused(format!("{good}\n{bad}\n")), (3, Wrong::NoDigest), "{bad}");
    }
    for elsewhere in ["/etc/passwd", "../x", "."] {
        assert_eq!(refused(format!("{}  {elsewhere}", hex(1))), (1, Wrong::Elsewhere), "{elsewhere}");
    }
    assert_eq!(refused(format!("{}  s/../x", hex(1))).1, Wrong::Upwards);
    assert_eq!(refused(format!("{good}{}  ./a", hex(2))), (2, Wrong::Twice));
    assert_eq!(refused(format!("{}  a/b-c\n{}  a/b\n{good}", hex(1), hex(1))), (2, Wrong::BelowFile));
    let again = DigestList::parse(format!("{good}{good}").as_bytes(), &[], b"").unwrap();
    assert_eq!(again.len(), 1);
}

#[test]
fn what_was_not_encoded_is_not_decoded() {
    for bad in [&b""[..], b"a", b"b\0a\0", b"a\0a\0", b"./a\0", b"../a\0", b"/a\0", b"a/\0", b".landfall\0"] {
        assert_eq!(PathList::decode(bad), None, "{bad:?}");
    }
    let one = |path: &[u8]| [&[7; 32], path].concat();
    assert!(DigestList::decode(&one(b"a\0")).is_some());
    for bad in [one(b"a"), one(b"\0"), one(b"../a\0"), [one(b"b\0"), one(b"a\0")].concat(), vec![7; 31]] {
        assert_eq!(DigestList::decode(&bad), None, "{bad:?}");
    }
}

proptest! {
    #[test]
    fn no_text_is_too_odd(text in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(list) = PathList::parse(&text) && !list.is_empty() {
            prop_assert_eq!(PathList::decode(&list.encode()), Some(list));
        }
        drop(DigestList::parse(&text, &[source("a", None)], b"/"));
        if let Some(list) = DigestList::decode(&text) {
            prop_assert_eq!(list.encode(), text);
        }
    }
}
