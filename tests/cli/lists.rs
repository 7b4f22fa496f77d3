//! `--files-from` and `--expect`: what goes, what is named, and what a later run knows of them.

use std::collections::BTreeSet;
use std::path::Path;

use super::choice::paths;
use crate::common::process::{Finished, Landfall, PATIENT};
use crate::common::scratch::Scratch;
use crate::common::transfer::{Listens, Setup, Side};
use crate::common::tree::{Content, Tree};

fn put(scratch: &Scratch, words: &[&str]) -> Vec<String> {
    words.iter().map(|word| word.replace('@', scratch.path().to_str().unwrap())).collect()
}

fn landfall(scratch: &Scratch, words: &[&str], input: &str) -> Finished {
    let command = Landfall::new("lists", &scratch.join("home")).args(put(scratch, words));
    command.directory(scratch.path()).input(input).run()
}

fn set(paths: &[&str]) -> BTreeSet<String> {
    paths.iter().map(|path| (*path).to_owned()).collect()
}

/// The line of `b3sum` for a file, by the hash of its bytes alone.
fn sum(scratch: &Scratch, path: &str) -> String {
    let bytes = std::fs::read(scratch.join(path)).unwrap();
    format!("{}  {path}\n", blake3::hash(&bytes).to_hex())
}

fn photos(scratch: &Scratch) {
    let mut tree = Tree::new(&scratch.join("photos"), 4);
    for path in ["raw/one", "raw/two", "raw/deep/three", "notes", "b\nad"] {
        tree.file(path, &Content::Random(3000));
    }
    tree.file("large", &Content::Random(5 << 20));
    tree.finish();
}

#[test]
fn only_what_is_listed_arrives_in_its_place() {
    let scratch = Scratch::new("files-from");
    photos(&scratch);
    std::fs::write(scratch.join("list"), "./raw/deep\nnotes\n\n").unwrap();
    std::fs::write(scratch.join("nul"), "b\nad\0raw/one\0").unwrap();
    let deep = set(&["notes", "raw", "raw/deep", "raw/deep/three"]);
    let odd = set(&["b\nad", "raw", "raw/one"]);
    let cases: [(&[&str], &str, &str, &BTreeSet<String>); 5] = [
        (&["send", "@/photos", "--to", "@/1", "--files-from", "@/list"], "", "1/photos", &deep),
        (&["send", "@/photos/.", "--to", "@/2", "--files-from", "@/nul"], "", "2", &odd),
        (&["send", "photos", "--to", "@/3", "--files-from", "-"], "raw/one\0b\nad", "3/photos", &odd),
        (&["recv", "@/4", "--from", "@/photos", "--files-from", "@/list"], "", "4/photos", &deep),
        (&["recv", "@/5", "--from", "photos/.", "--files-from", "-"], "notes\nraw/deep/", "5", &deep),
    ];
    for (words, input, target, expected) in cases {
        let done = landfall(&scratch, words, input);
        done.assert_code(0);
        assert_eq!(&paths(&scratch.join(target)), expected, "{}", done.describe());
    }
}

#[test]
fn what_is_listed_and_not_there_makes_exit_5() {
    let scratch = Scratch::new("files-from-missing");
    photos(&scratch);
    let words = ["send", "@/photos", "--to", "@/in", "--files-from", "-"];
    let done = landfall(&scratch, &words, "notes\nraw/none\nnone/x\nnotes/x\n");
    done.assert_code(5);
    for path in ["raw/none", "none/x", "notes/x"] {
        let text = format!("`photos/{path}`: it is listed, and not among what is sent");
        assert!(done.stdout_text().contains(&text), "{text}\n{}", done.describe());
    }
    assert_eq!(paths(&scratch.join("in/photos")), set(&["notes", "raw"]));
}

#[test]
fn a_hundred_thousand_paths_can_be_listed_for_either_way() {
    let scratch = Scratch::new("files-from-many");
    photos(&scratch);
    let directory = "d".repeat(40);
    let mut list: String = (0..100_000).map(|number| format!("raw/{directory}/{number}\n")).collect();
    list += "notes\n";
    std::fs::write(scratch.join("list"), list).unwrap();
    for words in [["send", "@/photos", "--to", "@/to"], ["recv", "@/from", "--from", "@/photos"]] {
        let done = landfall(&scratch, &[&words[..], &["--files-from", "@/list", "-q"]].concat(), "");
        done.assert_code(5);
        assert!(done.stdout_text().contains("left out    100,000 entries"), "{}", done.describe());
    }
    assert_eq!(paths(&scratch.join("from/photos")), set(&["notes", "raw"]));
}

#[test]
fn a_list_needs_one_directory() {
    let scratch = Scratch::new("files-from-root");
    photos(&scratch);
    std::os::unix::fs::symlink("photos", scratch.join("link")).unwrap();
    for sources in [&["@/photos", "@/home"][..], &["@/photos/notes"], &["@/link"]] {
        let words = [&["send"], sources, &["--to", "@/in", "--files-from", "-"]].concat();
        std::fs::create_dir_all(scratch.join("home")).unwrap();
        let done = landfall(&scratch, &words, "notes\n");
        done.assert_code(2);
        assert!(done.stderr_text().contains("`--files-from` needs one PATH"), "{}", done.describe());
    }
    let through = ["send", "@/link/", "--to", "@/in", "--files-from", "-"];
    landfall(&scratch, &through, "notes\n").assert_code(0);
    assert_eq!(paths(&scratch.join("in/link")), set(&["notes"]));
}

#[test]
fn standard_input_is_read_for_one_thing() {
    let scratch = Scratch::new("lists-input");
    photos(&scratch);
    for (words, both) in [
        (&["send", "@/photos", "--files-from", "-", "--ticket"][..], "`--files-from -` and `--ticket`"),
        (&["send", "@/photos", "--files-from", "-", "--expect", "-"], "`--files-from -` and `--expect -`"),
        (&["recv", "@/in", "--from", "@/photos", "--expect", "-", "--files-from", "-"], "`--files-from -` and"),
    ] {
        let done = landfall(&scratch, words, "notes\n");
        done.assert_code(2);
        let text = format!("{both} would both read standard input");
        assert!(
            done.stderr_text().contains(both) && done.stderr_text().contains("hint: "),
            "{text}\n{}",
            done.describe()
        );
    }
    // A ticket in the environment leaves the input to the list: here it is the ticket that is refused.
    let words = put(&scratch, &["send", "@/photos", "--files-from", "-", "--ticket"]);
    let command = Landfall::new("lists", &scratch.join("home")).args(words).input("notes\n");
    let done = command.env("LANDFALL_TICKET", "nonsense").run();
    assert!(done.code() == Some(2) && done.stderr_text().contains("`LANDFALL_TICKET`"), "{}", done.describe());
}

/// The list is in a file that is gone when the transfer goes on.
#[test]
fn a_later_run_knows_its_lists_and_another_list_is_another_transfer() {
    let scratch = Scratch::new("lists-again");
    photos(&scratch);
    let sums = ["photos/large", "photos/notes"].map(|path| sum(&scratch, path)).concat();
    for side in [Side::Sender, Side::Receiver] {
        // Of --to the sender is here, of --from the receiver, which starts it.
        let line = match side {
            Side::Sender => ["send", "@/photos", "--to", "@/in"],
            Side::Receiver => ["recv", "@/in", "--from", "@/photos"],
        };
        std::fs::write(scratch.join("list"), "large\nnotes\nraw/one\n").unwrap();
        std::fs::write(scratch.join("sums"), &sums).unwrap();
        let lists = ["--files-from", "@/list", "--expect", "@/sums"];
        let begin = put(&scratch, &[&line[..], &lists, &["--limit", "200kB", "--json"]].concat());
        let command = Landfall::new("first", &scratch.join("home")).args(&begin).directory(scratch.path());
        let mut first = command.start();
        assert!(first.wait_until("a link", PATIENT, |first| first.stdout().contains("\"connected\"")));
        assert!(first.kill().was_killed());
        let id = first_id(&scratch);
        std::fs::rename(scratch.join("list"), scratch.join("kept")).unwrap();
        std::fs::write(scratch.join("list"), "notes\n").unwrap();
        let other = landfall(&scratch, &[&line[..], &lists].concat(), "");
        match side {
            // It is begun beside the other one, and finds its directory taken.
            Side::Sender => assert_ne!(other.code(), Some(0), "{}", other.describe()),
            Side::Receiver => other.assert_code(2),
        }
        std::fs::remove_file(scratch.join("list")).unwrap();
        std::fs::remove_file(scratch.join("sums")).unwrap();
        let done = landfall(&scratch, &["resume", &id], "");
        done.assert_code(5);
        // Named by this run, or by the one before it.
        assert!(done.stdout_text().contains("  left out    1 entry\n"), "{}", done.describe());
        assert_eq!(paths(&scratch.join("in/photos")), set(&["large", "notes", "raw"]));
        std::fs::remove_dir_all(scratch.join("in")).unwrap();
        std::fs::remove_dir_all(scratch.join("home")).unwrap();
    }
}

fn first_id(scratch: &Scratch) -> String {
    let status = landfall(scratch, &["status", "--json"], "");
    status.events()[0]["id"].as_str().unwrap().to_owned()
}

#[test]
fn a_new_ticket_keeps_the_lists() {
    let scratch = Scratch::new("lists-ticket");
    photos(&scratch);
    std::fs::write(scratch.join("list"), "notes\n").unwrap();
    let source = scratch.join("photos");
    let mut setup = Setup::new(&scratch, "run", &[&source], Listens::Sender);
    setup.sender_options = put(&scratch, &["--files-from", "@/list"]);
    assert!(setup.listener().wait_for_ticket(&setup.ticket()).kill().was_killed());
    std::fs::remove_file(scratch.join("list")).unwrap();
    std::fs::remove_file(setup.ticket()).unwrap();
    let id = Landfall::new("status", &setup.sender_home).args(["status", "--json"]).run().events()[0]["id"].clone();
    let again = ["resume", id.as_str().unwrap(), "--new-ticket"];
    let sender = Landfall::new("sender", &setup.sender_home).args(again).start().wait_for_ticket(&setup.ticket());
    setup.command(Side::Receiver).run().assert_code(0);
    sender.wait(PATIENT).assert_code(0);
    assert_eq!(paths(&setup.target.join("photos")), set(&["notes"]));
}

fn expecting(scratch: &Scratch, words: &[&str], sums: &str) -> Finished {
    std::fs::write(scratch.join("sums"), sums).unwrap();
    landfall(scratch, &[words, &["--expect", "sums"]].concat(), "")
}

#[test]
fn files_with_their_digests_go_whatever_the_source_was_called() {
    let scratch = Scratch::new("expect");
    photos(&scratch);
    std::fs::remove_file(scratch.join("photos/b\nad")).unwrap();
    std::fs::write(scratch.join("photos/back\\slash"), "x").unwrap();
    let plain = ["large", "notes", "raw/one", "raw/two", "raw/deep/three"].map(|path| format!("photos/{path}"));
    let mut sums = plain.iter().map(|path| sum(&scratch, path)).collect::<String>();
    sums += &format!("\\{}  photos/back\\\\slash\n", blake3::hash(b"x").to_hex());
    let absolute = sums.replace("photos/", &format!("{}/photos/", scratch.path().display()));
    let inside = sums.replace("photos/", "./");
    for (number, (words, sums)) in [
        (["send", "photos", "--to"], &sums),
        (["send", "@/photos/", "--to"], &sums),
        (["send", "photos/.", "--to"], &sums),
        (["send", "@/photos/.", "--to"], &absolute),
        (["send", "photos/.", "--to"], &inside),
        (["recv", "--from", "photos"], &sums),
    ]
    .into_iter()
    .enumerate()
    {
        let target = format!("@/in-{number}");
        let done = expecting(&scratch, &[&words[..], &[&target]].concat(), sums);
        done.assert_code(0);
        let arrived = paths(&scratch.join(&format!("in-{number}"))).len();
        assert!(arrived == 8 || arrived == 9, "six files, their directories: {arrived}\n{}", done.describe());
    }
}

#[test]
fn what_differs_or_is_on_one_side_only_is_named_and_makes_exit_5() {
    let scratch = Scratch::new("expect-differs");
    photos(&scratch);
    let whole = ["notes", "raw/one", "large"].map(|path| sum(&scratch, &format!("photos/{path}"))).concat();
    let other = blake3::hash(b"other").to_hex();
    let sums = whole + &format!("{other}  photos/raw/two\n{other}  photos/absent\n");
    std::fs::write(scratch.join("photos/large"), vec![7; 3 << 20]).unwrap();
    for words in [["send", "photos", "--to", "@/to"], ["recv", "@/from", "--from", "photos"]] {
        let done = expecting(&scratch, &words, &sums);
        done.assert_code(5);
        let differs = "it does not have the digest that was given for it";
        for (path, why) in [
            ("raw/two", differs),
            ("large", differs),
            ("raw/deep/three", "no digest was given for it"),
            ("b\\nad", "no digest was given for it"),
            ("absent", "it is listed, and not among what is sent"),
        ] {
            let text = format!("`photos/{path}`: {why}");
            assert!(done.stdout_text().contains(&text), "{text}\n{}", done.describe());
        }
        let arrived = scratch.join(if words[0] == "send" { "to/photos" } else { "from/photos" });
        assert_eq!(paths(&arrived), set(&["notes", "raw", "raw/deep", "raw/one"]), "{}", done.describe());
    }
}

/// What a receipt gives to `b3sum -c` is what a later transfer can expect.
#[test]
fn the_lines_of_a_receipt_are_expected_as_they_are() {
    let scratch = Scratch::new("expect-receipt");
    photos(&scratch);
    landfall(&scratch, &["send", "@/photos", "--to", "@/first", "--receipt", "@/receipt"], "").assert_code(0);
    let lines = landfall(&scratch, &["verify", "@/receipt", "--b3sum"], "");
    lines.assert_code(0);
    let again = expecting(&scratch, &["send", "@/first/photos", "--to", "@/second"], &lines.stdout_text());
    again.assert_code(0);
    std::fs::write(Path::new(&scratch.join("first/photos/notes")), "rotten").unwrap();
    let rotten = expecting(&scratch, &["send", "@/first/photos", "--to", "@/third"], &lines.stdout_text());
    rotten.assert_code(5);
    assert!(!scratch.join("third/photos/notes").exists() && scratch.join("third/photos/large").exists());
}
