//! What goes where the user lists it.

use std::os::unix::fs::{PermissionsExt, symlink};

use super::walking::chosen;
use super::*;
use crate::lists::{Given, PathList};

fn listing(text: &str) -> Selection {
    let listed = Some(Given::new(PathList::parse(text.as_bytes()).unwrap()));
    Selection { listed, ..Selection::default() }
}

fn bench() -> Bench {
    let bench = Bench::new();
    for path in ["a/b/one", "a/b/two", "a/three", "a-b/four", "c/d/e/five", "c/d/six", "seven"] {
        bench.write(path, path);
    }
    fs::create_dir(bench.at("c/empty")).unwrap();
    bench
}

#[test]
fn what_is_listed_goes_in_its_place_with_what_is_above_and_below() {
    let bench = bench();
    let listed = listing("c/d\na/b/two\nseven\nc/empty\n");
    let expected = ["a/", "a/b/", "a/b/two", "c/", "c/d/", "c/d/e/", "c/d/e/five", "c/d/six", "c/empty/", "seven"];
    assert_eq!(chosen(&bench.sources(), &listed), expected);
    // Below a directory with its name, that name is not in the list.
    let named = [bench.home.path().join("source")];
    assert_eq!(chosen(&named, &listing("a/three")), ["source/", "source/a/", "source/a/three"]);
    assert_eq!(chosen(&named, &listing("a/b/one\na/b\n")).len(), 5, "what is in a listed directory is met once");
    let all = chosen(&bench.sources(), &Selection::default());
    assert_eq!(chosen(&bench.sources(), &listing(".\n")), all);
    assert_eq!(chosen(&named, &listing("./\nseven\n")).len(), all.len() + 1);
}

/// A directory that receives this very transfer is passed over, and what is listed in it does not go.
#[test]
fn what_is_listed_in_what_is_passed_over_is_named() {
    let bench = bench();
    fs::create_dir_all(bench.at(&format!("c/d/.landfall/{TRANSFER}"))).unwrap();
    let went = chosen(&bench.sources(), &listing("c/d/six\nseven\n"));
    assert!(went.contains(&"c/d/six: missing".to_owned()) && went.contains(&"seven".to_owned()), "{went:?}");
}

#[test]
fn what_is_listed_and_not_there_is_named() {
    let bench = bench();
    symlink("a", bench.at("link")).unwrap();
    let listed = listing("a/b/absent\nabsent/x/y\nabsent/z\na\nlink/three\nseven/x\nseven\n");
    let expected = [
        "a/",
        "a/b/",
        "a/b/absent: missing",
        "a/b/one",
        "a/b/two",
        "a/three",
        "absent/x/y: missing",
        "absent/z: missing",
        "link/three: missing",
        "seven",
        "seven/x: missing",
    ];
    assert_eq!(chosen(&bench.sources(), &listed), expected);
    // A link that is listed goes as the link that it is.
    assert_eq!(chosen(&bench.sources(), &listing("link")), ["link -> a"]);
    let named = [bench.home.path().join("source")];
    assert_eq!(chosen(&named, &listing("x/y")), ["source/", "source/x/y: missing"]);
}

#[test]
fn only_what_leads_to_what_is_listed_is_looked_at() {
    let bench = bench();
    // Nobody may list it, but whoever knows a name gets there.
    fs::set_permissions(bench.at("c/d"), fs::Permissions::from_mode(0o311)).unwrap();
    let seen = chosen(&bench.sources(), &listing("c/d/six"));
    fs::set_permissions(bench.at("c/d"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(seen, ["c/", "c/d/", "c/d/six"]);
}

#[test]
fn patterns_are_still_heard() {
    let bench = bench();
    let selection = Selection { patterns: vec!["two".into(), "/a-b".into()], ..listing("a/b\na-b/four\n") };
    assert_eq!(chosen(&bench.sources(), &selection), ["a/", "a/b/", "a/b/one", "excluded", "excluded"]);
    bench.write(&format!("c/.landfall/{TRANSFER}/journal"), "1");
    assert_eq!(
        chosen(&bench.sources(), &listing("c/d/six")),
        ["skipped c", "c/d/six: missing"],
        "a target of this transfer"
    );
}

#[test]
fn a_deep_list_is_walked_as_a_deep_tree_is() {
    let bench = Bench::new();
    let deep: String = (0..200).map(|number| format!("d{number}/")).collect();
    bench.write(&format!("{deep}file"), "1");
    bench.write("d0/last", "1");
    let seen = chosen(&bench.sources(), &listing(&format!("{deep}file\nd0/last\n{deep}absent\n")));
    assert_eq!(seen.len(), 203);
    assert_eq!(seen[201..], [format!("{deep}file"), "d0/last".to_owned()]);
    assert!(seen[200].ends_with("absent: missing"));
}
