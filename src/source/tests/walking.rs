//! What the walk finds, in which order, and what it passes over.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;

use super::*;
use crate::limits::HELD_DIRECTORIES_MAX;
use crate::path::RelPath;

fn walked(sources: &[PathBuf]) -> Vec<String> {
    chosen(sources, &Selection::default())
}

pub(super) fn chosen(sources: &[PathBuf], selection: &Selection) -> Vec<String> {
    let exclusions = exclusions(selection, vec![]);
    let mut walk = Walk::new(open_roots(&RealDisk::new(), sources).unwrap().0, exclusions);
    let mut seen = vec![];
    while let Some(walked) = walk.step() {
        seen.push(match walked {
            Walked::Directory(found) => format!("{}/", found.path),
            Walked::File(found, _) => found.path.to_string(),
            Walked::Symlink(found, target) => format!("{} -> {}", found.path, String::from_utf8(target).unwrap()),
            Walked::LeftOut(path, _, reason) => format!("{path}: {}", reason.word()),
            Walked::TooLong(path) => format!("{path}/...: too long"),
            Walked::Skipped(path) => format!("skipped {}", String::from_utf8(path).unwrap()),
            Walked::Excluded => "excluded".to_owned(),
            Walked::Mounted(path) => format!("mounted {path}"),
            Walked::BadPattern(file, bad) => format!("{}: {bad}", String::from_utf8(file).unwrap()),
            Walked::RootFailed(path, error) => format!("{}: {error}", path.display()),
        });
    }
    seen
}

#[test]
fn everything_is_met_in_one_order() {
    let bench = Bench::new();
    for path in ["b", "a/z", "a/y/x", "a.b", "a/B"] {
        bench.write(path, path);
    }
    fs::create_dir(bench.at("c")).unwrap();
    symlink("/nowhere", bench.at("d")).unwrap();
    symlink("a", bench.at("e")).unwrap();
    let _socket = UnixListener::bind(bench.at("s")).unwrap();
    let expected = ["a/", "a/B", "a/y/", "a/y/x", "a/z", "a.b", "b", "c/", "d -> /nowhere", "e -> a", "s: special"];
    assert_eq!(walked(&bench.sources()), expected);
    assert_eq!(walked(&[bench.at("a/y"), bench.at("b"), bench.at("e")]), ["y/", "y/x", "b", "e -> a"]);
}

#[test]
fn state_directories_and_targets_of_this_transfer_are_passed_over() {
    let bench = Bench::new();
    bench.write("a/.landfall/x", "1");
    bench.write("a/f", "1");
    bench.write("b/.LandFall", "1");
    bench.write(&format!("target/.landfall/{TRANSFER}/journal"), "1");
    bench.write("target/f", "1");
    bench.write(&format!("other/.landfall/{}/journal", TransferId([2; 16])), "1");
    let expected = [
        "a/",
        "skipped a/.landfall",
        "a/f",
        "b/",
        "skipped b/.LandFall",
        "other/",
        "skipped other/.landfall",
        "skipped target",
    ];
    assert_eq!(walked(&bench.sources()), expected);
    let mut run = bench.settle();
    assert_eq!(run.counts().files, 1);
    let skipped = run.events.iter().filter(|event| matches!(event, Event::Notice(Notice::StateSkipped(_))));
    assert_eq!(skipped.count(), 4);
}

#[test]
fn the_held_state_directory_is_not_sent() {
    let bench = Bench::new();
    bench.write("f", "1");
    let mut producer = bench.producer_of(&[bench.home.path().join(".")], Purpose::Produce);
    let run = settle(&mut producer);
    assert_eq!(
        outline(&records(&producer)),
        ["directory source", "begin source/f 1", "chunks 1 1", "end 1", "complete"]
    );
    assert!(matches!(&run.events[..], [Event::Notice(Notice::StateSkipped(path))] if path == b"state"));
}

#[test]
fn paths_deeper_than_the_kernel_takes_and_than_descriptors_are_held_are_walked() {
    let bench = Bench::new();
    let (disk, name, depth) = (RealDisk::new(), [b'n'; 60], 4 * HELD_DIRECTORIES_MAX);
    let mut dir = RealDisk::open_root(&bench.at("")).unwrap();
    for _ in 0..depth {
        disk.make_dir(&dir, &name, 0o755).unwrap();
        disk.create_exclusive(&dir, b"after").unwrap();
        dir = disk.open_dir(&dir, &name).unwrap();
        disk.create_exclusive(&dir, b"z").unwrap();
    }
    let mut run = bench.settle();
    let counts = run.counts();
    assert_eq!((counts.directories, counts.files, counts.left_out), (depth as u64, 2 * depth as u64, 0));
    let longest = records(run.producer()).iter().filter_map(|record| Some(record.path()?.as_bytes().len())).max();
    assert!(longest > Some(2 * 4096), "{longest:?}");
}

#[test]
fn names_too_deep_to_be_expressed_are_left_out_once_under_the_deepest_that_can_be() {
    let bench = Bench::new();
    let disk = RealDisk::new();
    let mut dir = RealDisk::open_root(&bench.at("")).unwrap();
    for _ in 0..crate::limits::PATH_COMPONENTS_MAX {
        disk.make_dir(&dir, b"d", 0o755).unwrap();
        dir = disk.open_dir(&dir, b"d").unwrap();
    }
    disk.create_exclusive(&dir, b"one").unwrap();
    disk.make_dir(&dir, b"two", 0o755).unwrap();
    let run = bench.settle();
    let left_out = run.left_out();
    assert_eq!(left_out.len(), 1);
    assert_eq!(left_out[0].1, Reason::PathTooLong);
    assert_eq!(RelPath::parse(left_out[0].0.as_bytes()).unwrap().components().count(), 4096);
    assert_eq!(bench.settle().position, run.position);
}

#[test]
fn any_name_is_met() {
    let bench = Bench::new();
    for name in [&b"\xff\xfe"[..], b"new\nline", b" ", b"-rf", &[b'x'; 255]] {
        fs::write(bench.at("").join(std::ffi::OsStr::from_bytes(name)), "1").unwrap();
    }
    assert_eq!(bench.settle().counts().files, 5);
}

#[test]
fn what_may_not_be_read_is_left_out_and_the_rest_goes_on() {
    let bench = Bench::new();
    for path in ["closed/f", "listed/f", "z"] {
        bench.write(path, "1");
    }
    bench.write("secret", "1");
    let modes = [("closed", 0o000), ("listed", 0o400), ("secret", 0o000)];
    let set = |modes: &[(&str, u32)]| {
        for (path, mode) in modes {
            fs::set_permissions(bench.at(path), fs::Permissions::from_mode(*mode)).unwrap();
        }
    };
    set(&modes);
    // Root is denied nothing, and sees everything instead.
    let is_denied = fs::read(bench.at("secret")).is_err();
    let mut run = bench.settle();
    set(&modes.map(|(path, _)| (path, 0o755)));
    if is_denied {
        let expected = ["closed", "listed/f", "secret"].map(|path| (path.to_owned(), Reason::Unreadable));
        assert_eq!(run.left_out(), expected);
        assert_eq!(run.counts().files, 1);
        // Next time it can be read: what was left out is withdrawn and sent.
        let mut run = bench.settle();
        assert_eq!((run.counts().files, run.counts().left_out, run.left_out().len()), (4, 0, 0));
    } else {
        assert_eq!((run.counts().files, run.left_out().len()), (4, 0));
    }
}

#[test]
fn a_hundred_thousand_names_in_one_directory_are_walked_in_order() {
    let bench = Bench::new();
    let dir = RealDisk::open_root(&bench.at("")).unwrap();
    for number in 0..100_000_u32 {
        RealDisk::new().create_exclusive(&dir, format!("{:x}", number.wrapping_mul(2_654_435_761)).as_bytes()).unwrap();
    }
    let seen = walked(&bench.sources());
    assert_eq!(seen.len(), 100_000);
    assert!(seen.is_sorted());
}

fn patterns(patterns: &[&str]) -> Selection {
    Selection { patterns: patterns.iter().map(|pattern| (*pattern).to_owned()).collect(), ..Selection::default() }
}

#[test]
fn a_pattern_is_matched_against_the_path_under_which_something_arrives() {
    let bench = Bench::new();
    for path in ["a/build/x", "a/keep.tmp", "a/x.tmp", "b/build", "b/sub/a/x", "x.tmp"] {
        bench.write(path, path);
    }
    let all = patterns(&["*.tmp", "build/", "!keep.tmp"]);
    let below = ["b/", "b/build", "b/sub/", "b/sub/a/", "b/sub/a/x"];
    assert_eq!(
        chosen(&bench.sources(), &all),
        [&["a/", "excluded", "a/keep.tmp", "excluded"][..], &below, &["excluded"]].concat()
    );
    // The top is where it arrives: with its name, or without.
    let anchored = patterns(&["/a"]);
    assert_eq!(chosen(&bench.sources(), &anchored), [&["excluded"][..], &below, &["x.tmp"]].concat());
    let named = [bench.at("b"), bench.at("x.tmp")];
    assert_eq!(chosen(&named, &patterns(&["/b/sub", "x.*"])), ["b/", "b/build", "excluded", "excluded"]);
    assert_eq!(chosen(&named, &patterns(&["b", "!b/build"])), ["excluded", "x.tmp"], "nothing below goes");
}

#[test]
fn ignore_files_count_where_they_lie_and_the_nearest_has_the_last_word() {
    let bench = Bench::new();
    for path in ["a/x.o", "a/b/x.o", "a/b/y", "a/c/y", "a/c/x.o", "x.o", "z"] {
        bench.write(path, path);
    }
    bench.write("a/.gitignore", "*.o\r\n/b/y\n");
    bench.write("a/c/.gitignore", "!x.o\n");
    bench.write("a/c/.ignore", "y\n[b-a]\n");
    bench.write("a/c/{x}", "1");
    bench.write("a/.ignore", "\u{feff}{x}\n");
    symlink("a/.gitignore", bench.at(".gitignore")).unwrap();
    let counts = Selection { ignore_files: true, ..patterns(&["/z"]) };
    let expected = [
        ".gitignore -> a/.gitignore",
        "a/",
        "a/.gitignore",
        "a/.ignore",
        "a/b/",
        "excluded",
        "excluded",
        "a/c/",
        "a/c/.ignore: the pattern `[b-a]` cannot be understood: invalid range; 'b' > 'a'",
        "a/c/.gitignore",
        "a/c/.ignore",
        "a/c/x.o",
        "excluded",
        "excluded",
        "excluded",
        "x.o",
        "excluded",
    ];
    assert_eq!(chosen(&bench.sources(), &counts), expected);
    assert!(!walked(&bench.sources()).contains(&"excluded".to_owned()), "they count only if asked for");
}

#[test]
fn an_ignore_file_that_cannot_be_read_lets_nothing_out() {
    let bench = Bench::new();
    bench.write("a/secret", "1");
    fs::File::create(bench.at("a/.gitignore"))
        .unwrap()
        .set_len(crate::limits::IGNORE_FILE_BYTES_MAX as u64 + 1)
        .unwrap();
    let counts = Selection { ignore_files: true, ..Selection::default() };
    assert_eq!(chosen(&bench.sources(), &counts), ["a: source-error"]);
}

#[test]
#[allow(clippy::print_stderr, reason = "a test that cannot test here says so")]
fn another_file_system_is_a_name_only() {
    let shm = std::path::Path::new("/dev/shm");
    let (below, above) = (shm.metadata(), std::path::Path::new("/dev").metadata());
    let differ = below.is_ok_and(|below| {
        above.is_ok_and(|above| {
            std::os::unix::fs::MetadataExt::dev(&below) != std::os::unix::fs::MetadataExt::dev(&above)
        })
    });
    if !differ {
        eprintln!("skipped: needs a file system of its own at /dev/shm");
        return;
    }
    let stays = Selection { one_file_system: true, ..patterns(&["/dev/*", "!/dev/shm"]) };
    let _inside = tempfile::NamedTempFile::new_in(shm).unwrap();
    let seen = chosen(&["/dev".into()], &stays);
    let seen: Vec<&str> = seen.iter().map(String::as_str).filter(|walked| *walked != "excluded").collect();
    assert_eq!(seen, ["dev/", "dev/shm/", "mounted dev/shm"]);
}
