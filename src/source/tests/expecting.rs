//! Which files go where the user has given digests.

use std::os::unix::fs::symlink;
use std::sync::Arc;

use super::*;
use crate::lists::DigestList;

/// What `b3sum` prints for these bytes: this hasher is the plain one, over one stream.
fn line(path: &str, bytes: &[u8]) -> String {
    let mut plain = crate::digest::OutcomeHasher::default();
    plain.line(bytes);
    let hex: String = plain.finish().0.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{hex}  {path}\n")
}

fn list(lines: &[String]) -> Arc<DigestList> {
    Arc::new(DigestList::parse(lines.concat().as_bytes(), &[], b"").unwrap())
}

fn settled(bench: &Bench, expected: &Arc<DigestList>, purpose: Purpose) -> (Run, Vec<String>) {
    let mut producer = bench.producer_with(&bench.sources(), purpose, Some(Arc::clone(expected)));
    let run = settle(&mut producer);
    let lines = outline(&records(&producer));
    (Run { producer: Some(producer), ..run }, lines)
}

fn bench() -> Bench {
    let bench = Bench::new();
    for (path, len) in [("d/long", 20 * CHUNK), ("d/short", 100), ("empty", 0), ("twin", 3 * CHUNK)] {
        bench.write(path, sample(len));
    }
    bench
}

fn right() -> Vec<String> {
    vec![
        line("d/long", &sample(20 * CHUNK)),
        line("d/short", &sample(100)),
        line("empty", b""),
        line("twin", &sample(3 * CHUNK)),
    ]
}

#[test]
fn files_with_their_digests_go_and_are_read_once() {
    let bench = bench();
    let (mut run, lines) = settled(&bench, &list(&right()), Purpose::Produce);
    assert_eq!((run.left_out(), run.counts().files), (vec![], 4));
    assert_eq!(lines.iter().filter(|line| line.starts_with("begin")).count(), 4);
    assert_eq!(run.producer().figures().hashed_bytes, 23 * CHUNK as u64 + 100);
    let (again, _) = settled(&bench, &list(&right()), Purpose::Compare);
    assert!(!again.producer.unwrap().differs());
}

#[test]
fn a_file_with_another_digest_is_left_out_and_not_read_as_another_version() {
    for (path, len) in [("d/long", 20 * CHUNK), ("d/short", 100), ("empty", 0), ("twin", 3 * CHUNK)] {
        let bench = bench();
        let mut lines = right();
        lines.retain(|line| !line.ends_with(&format!("  {path}\n")));
        lines.push(line(path, &sample(len + 1)));
        let (mut run, outline) = settled(&bench, &list(&lines), Purpose::Produce);
        assert_eq!(run.left_out(), [(path.to_owned(), Reason::Unexpected)]);
        assert_eq!((run.counts().files, run.counts().left_out, run.retried().len()), (3, 1, 0));
        let begun = outline.iter().filter(|line| line.starts_with(&format!("begin {path}"))).count();
        let is_long = len > CHUNK;
        assert_eq!(begun, usize::from(is_long), "what was begun of {path} is withdrawn\n{outline:?}");
        assert_eq!(outline.iter().filter(|line| line.ends_with(" unexpected")).count(), 1 + begun);
        assert!(!outline.contains(&format!("end {path}")));
    }
}

#[test]
fn what_has_no_digest_stays_and_what_has_one_and_is_not_there_is_named() {
    let bench = bench();
    bench.write("a-stranger", "1");
    symlink("twin", bench.at("link")).unwrap();
    symlink("twin", bench.at("other-link")).unwrap();
    let mut lines = right();
    lines.extend([line("absent/x", b"1"), line("link", &sample(3 * CHUNK)), line("zz", b"")]);
    let (mut run, outline) = settled(&bench, &list(&lines), Purpose::Produce);
    let expected = [("a-stranger", Reason::Unlisted), ("link", Reason::Unexpected), ("absent/x", Reason::Missing)]
        .into_iter()
        .chain([("zz", Reason::Missing)]);
    assert_eq!(run.left_out(), expected.map(|(path, reason)| (path.to_owned(), reason)).collect::<Vec<_>>());
    assert_eq!((run.counts().files, run.counts().symlinks, run.counts().left_out), (4, 1, 4));
    // The same source is the same log.
    let (again, same) = settled(&bench, &list(&lines), Purpose::Compare);
    assert!(!again.producer.unwrap().differs());
    assert_eq!(same, outline);
    // Once it is there, it goes.
    bench.write("zz", "");
    let (mut later, _) = settled(&bench, &list(&lines), Purpose::Produce);
    assert_eq!((later.counts().files, later.counts().left_out), (5, 3));
}

#[test]
fn a_digest_for_a_directory_lets_nothing_below_it_go() {
    let bench = bench();
    let (mut run, outline) = settled(&bench, &list(&[line("d", b""), line("empty", b"")]), Purpose::Produce);
    let reasons: Vec<Reason> = run.left_out().into_iter().map(|(_, reason)| reason).collect();
    assert_eq!(reasons, [Reason::Unexpected, Reason::Unlisted, Reason::Unlisted, Reason::Unlisted]);
    assert_eq!(run.counts().files, 1, "{outline:?}");
}

/// Nor does a directory or a link: what is left out would have to be made for them.
#[test]
fn a_digest_for_a_directory_keeps_directories_and_links_below_it_back() {
    let bench = bench();
    fs::create_dir_all(bench.at("d/sub/deep")).unwrap();
    symlink("/etc", bench.at("d/sub/link")).unwrap();
    let (run, outline) = settled(&bench, &list(&[line("d", b""), line("empty", b"")]), Purpose::Produce);
    assert!(!outline.iter().any(|line| line.contains("d/sub") && !line.contains("left")), "{outline:?}");
    let parents = run.left_out().into_iter().filter(|(_, reason)| *reason == Reason::ParentLeftOut);
    let paths: Vec<String> = parents.map(|(path, _)| path).collect();
    assert_eq!(paths, ["d/sub", "d/sub/deep", "d/sub/link"]);
}

#[test]
fn a_directory_that_became_a_file_without_a_digest_stays() {
    let bench = bench();
    drop(settled(&bench, &list(&right()), Purpose::Produce));
    fs::remove_dir_all(bench.at("d")).unwrap();
    bench.write("d", "1");
    let (mut run, _) = settled(&bench, &list(&right()), Purpose::Produce);
    assert!(run.left_out().contains(&("d".to_owned(), Reason::Unlisted)), "{:?}", run.left_out());
    assert_eq!(run.counts().files, 2);
}

#[test]
fn what_an_earlier_run_was_in_the_middle_of_is_held_to_its_digest_too() {
    let bench = Bench::new();
    bench.write("f", sample(40 * CHUNK));
    let wrong = list(&[line("f", &sample(40 * CHUNK + 1))]);
    let mut producer = bench.producer_with(&bench.sources(), Purpose::Produce, Some(Arc::clone(&wrong)));
    for _ in 0..20 {
        producer.step().unwrap();
    }
    drop(producer);
    let (mut run, outline) = settled(&bench, &wrong, Purpose::Produce);
    assert_eq!(run.left_out(), [("f".to_owned(), Reason::Unexpected)], "{outline:?}");
    assert_eq!(run.counts().files, 0);
    assert!(!outline.iter().any(|line| line.starts_with("end")), "{outline:?}");
}
