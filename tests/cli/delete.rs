//! `--delete` between real processes: what goes and what stays, who is asked, and what an other side that lies can do.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::common::oracle::snapshot;
use crate::common::process::{Finished, Landfall, PATIENT, binary};
use crate::common::scratch::Scratch;
use crate::common::{facility, state};

const TO: [&str; 4] = ["send", "@/www/.", "--to", "@/to"];
const FROM: [&str; 4] = ["recv", "@/to", "--from", "@/www/."];

fn command(scratch: &Scratch, arguments: &[&str]) -> Landfall {
    let put = |text: &&str| text.replace('@', scratch.path().to_str().unwrap());
    Landfall::new("delete", &scratch.join("home")).args(arguments.iter().map(put))
}

fn landfall(scratch: &Scratch, line: &[&str], options: &[&str]) -> Finished {
    command(scratch, &[line, options].concat()).run()
}

fn write(scratch: &Scratch, names: &[&str]) {
    for name in names {
        let path = scratch.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        // What has one name has the same content on both sides.
        fs::write(path, name.split_once('/').map_or(*name, |(_, below)| below)).unwrap();
    }
}

/// A source, and a target that was its copy before some of it went.
fn ground(test: &str) -> Scratch {
    let scratch = Scratch::new(test);
    write(&scratch, &["www/index", "www/sub/page", "www/cache/x.tmp", "outside/precious"]);
    write(&scratch, &["to/old", "to/sub/gone", "to/dead/deep/er", "to/cache/x.tmp", "to/cache/y.tmp"]);
    write(&scratch, &["to/holds/.landfall/state", "to/holds/free"]);
    symlink(scratch.join("outside"), scratch.join("to/link")).unwrap();
    scratch
}

/// What `ground` has too much.
const GONE: [&str; 8] = ["cache/y.tmp", "dead", "dead/deep", "dead/deep/er", "holds/free", "link", "old", "sub/gone"];

fn paths(finished: &Finished, event: &str) -> Vec<String> {
    let events = finished.events().into_iter().filter(|found| found["event"] == event);
    events.map(|found| found["path"].as_str().unwrap().to_owned()).collect()
}

fn deletion(finished: &Finished) -> Value {
    let last = finished.events().pop().unwrap_or_default();
    assert_eq!(last["event"], "deletion", "{}", finished.describe());
    last
}

fn left(scratch: &Scratch) -> BTreeSet<&'static str> {
    GONE.into_iter().filter(|name| fs::symlink_metadata(scratch.join("to").join(name)).is_ok()).collect()
}

fn logs(scratch: &Scratch) -> Vec<PathBuf> {
    let all = state::receipts(&scratch.join("home")).into_iter();
    all.filter(|path| path.extension().is_some_and(|extension| extension == "deleted")).collect()
}

#[test]
fn from_both_sides_what_the_source_has_not_is_listed_noted_and_removed() {
    for line in [TO, FROM] {
        let scratch = ground(&format!("delete-{}", line[0]));
        let done = landfall(&scratch, &line, &["--delete", "--yes", "--exclude", "*.tmp", "--json"]);
        done.assert_code(0);
        assert_eq!(paths(&done, "to-delete"), GONE, "{}", done.describe());
        assert_eq!(left(&scratch), BTreeSet::new());
        for stays in ["to/index", "to/sub/page", "to/cache/x.tmp", "to/holds/.landfall/state", "outside/precious"] {
            assert!(scratch.join(stays).exists(), "{line:?}: {stays}");
        }
        let sum = deletion(&done);
        let numbers = ["files", "deleted_files", "directories", "deleted_directories", "symlinks", "not_deleted"];
        assert_eq!(numbers.map(|key| sum[key].as_u64().unwrap()), [5, 5, 2, 2, 1, 0], "{sum}");
        let log = fs::read_to_string(sum["log"].as_str().unwrap()).unwrap();
        let noted: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let of = |event: &str| -> Vec<String> {
            let of = noted.iter().filter(|noted| noted["event"] == event);
            of.map(|noted| noted["path"].as_str().unwrap().to_owned()).collect()
        };
        let last_first: Vec<&str> = GONE.into_iter().rev().collect();
        assert_eq!(
            (of("to-delete"), of("deleted")),
            (last_first.iter().map(ToString::to_string).collect(), of("to-delete"))
        );

        let again = landfall(&scratch, &line, &["--delete", "--yes", "--exclude", "*.tmp"]);
        again.assert_code(0);
        assert!(again.stdout_text().contains("nothing to delete below "), "{}", again.describe());
        assert_eq!(logs(&scratch).len(), 1);
    }
}

#[test]
fn only_below_directories_that_are_sent() {
    let scratch = ground("delete-named");
    write(&scratch, &["to/www/old", "to/index/old", "single"]);
    let done = landfall(&scratch, &["send", "@/www", "@/single", "--to", "@/to"], &["--delete", "--yes", "--json"]);
    done.assert_code(0);
    assert_eq!(paths(&done, "to-delete"), ["www/old"]);
    assert_eq!(left(&scratch).len(), GONE.len());
    fs::remove_file(scratch.join("to/single")).unwrap();
    fs::create_dir(scratch.join("to/single")).unwrap();
    write(&scratch, &["to/single/below", "to/www/kept/below", "www/kept"]);
    let kept = landfall(&scratch, &["send", "@/www", "@/single", "--to", "@/to"], &["--delete", "--yes", "--json"]);
    kept.assert_code(5);
    assert_eq!(paths(&kept, "to-delete"), Vec::<String>::new(), "below what was left out\n{}", kept.describe());
    assert!(scratch.join("to/www/kept/below").exists() && scratch.join("to/single/below").exists());
}

#[test]
fn nothing_goes_unasked_and_a_plan_removes_nothing() {
    let scratch = ground("delete-unasked");
    let before = snapshot(scratch.path());
    for line in [TO, FROM] {
        let planned = landfall(&scratch, &line, &["--delete", "--plan", "--yes", "--json"]);
        planned.assert_code(0);
        assert_eq!((paths(&planned, "to-delete").len(), &deletion(&planned)["files"]), (GONE.len(), &5.into()));
        let told = landfall(&scratch, &line, &["--delete", "-n"]).stdout_text();
        assert!(
            told.contains("would delete `old` (3 B)\n")
                && told.contains("would delete 5 files, 2 directories, 1 symlink, "),
            "{told}"
        );
        assert_eq!(snapshot(scratch.path()), before);
    }
    let unasked = landfall(&scratch, &TO, &["--delete"]);
    unasked.assert_code(5);
    assert!(unasked.stderr_text().contains("nobody can be asked here\nhint: run the same command again with `--yes`"));
    assert!(unasked.stdout_text().contains("would delete the directory `dead`\n"), "{}", unasked.describe());
    assert_eq!((left(&scratch).len(), logs(&scratch).len()), (GONE.len(), 0));
    assert!(scratch.join("to/index").exists(), "it was transferred all the same");
}

/// A place of the same file system that is bound into the target: only the kernel's number of the mount tells.
#[test]
fn a_mount_in_the_target_is_neither_entered_nor_removed() {
    let scratch = ground("delete-mount");
    let at = scratch.dir("to/dead/mount");
    let bind = Command::new("mount").arg("--bind").arg(scratch.join("outside")).arg(&at).stderr(Stdio::null()).status();
    if !bind.is_ok_and(|status| status.success()) {
        facility::skipped("delete-mount", "root, to bind a directory");
        return;
    }
    let done = landfall(&scratch, &TO, &["--delete", "--yes", "--json"]);
    let is_unmounted = Command::new("umount").arg(&at).status().is_ok_and(|status| status.success());
    assert!(is_unmounted, "{} stays mounted", at.display());
    done.assert_code(0);
    let expected: Vec<&str> = GONE.into_iter().filter(|name| *name != "dead").collect();
    assert_eq!(paths(&done, "to-delete"), expected);
    assert!(scratch.join("outside/precious").exists() && at.exists());
}

/// `script` gives the command a terminal of its own.
#[test]
fn a_terminal_is_asked_and_only_a_yes_is_one() {
    if !Command::new("script").arg("--version").stdout(Stdio::null()).status().is_ok_and(|status| status.success()) {
        facility::skipped("delete-asked", "`script`, which gives a terminal");
        return;
    }
    let scratch = ground("delete-asked");
    let (program, at) = (binary(), scratch.path().display());
    let line = format!("{} send {at}/www/. --to {at}/to --delete; echo exit $?", program.display());
    for (answer, code, count) in [("\n", 5, GONE.len()), ("n\n", 5, GONE.len()), ("y\n", 0, 0)] {
        let mut asked = Command::new("script");
        asked.args(["-qec", &line, "/dev/null"]).env("LANDFALL_HOME", scratch.join("home"));
        let mut asked = asked.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(asked.stdin.as_mut().unwrap(), answer.as_bytes()).unwrap();
        let text = String::from_utf8_lossy(&asked.wait_with_output().unwrap().stdout).into_owned();
        assert!(text.contains("delete them? [y/N]") && text.contains(&format!("exit {code}")), "{answer:?}\n{text}");
        assert_eq!(left(&scratch).len(), count, "{answer:?}\n{text}");
    }
}

/// While the question stands, the source gets one of the files back: it stays, whatever is answered.
#[test]
fn what_the_source_has_again_by_the_answer_stays() {
    if !Command::new("script").arg("--version").stdout(Stdio::null()).status().is_ok_and(|status| status.success()) {
        facility::skipped("delete-back", "`script`, which gives a terminal");
        return;
    }
    let scratch = ground("delete-back");
    let (program, at) = (binary(), scratch.path().display());
    let line = format!("{} send {at}/www/. --to {at}/to --delete; echo exit $?", program.display());
    let mut asked = Command::new("script");
    asked.args(["-qec", &line, "/dev/null"]).env("LANDFALL_HOME", scratch.join("home"));
    let mut asked = asked.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut text, mut byte) = (vec![], [0]);
    let out = asked.stdout.as_mut().unwrap();
    while !text.ends_with(b"delete them? [y/N]") && std::io::Read::read(out, &mut byte).unwrap() > 0 {
        text.push(byte[0]);
    }
    write(&scratch, &["www/dead/deep/er"]);
    std::io::Write::write_all(asked.stdin.as_mut().unwrap(), b"y\n").unwrap();
    let rest = String::from_utf8_lossy(&asked.wait_with_output().unwrap().stdout).into_owned();
    assert!(rest.contains("the source has it again") && rest.contains("exit 5"), "{rest}");
    assert_eq!(left(&scratch), BTreeSet::from(["dead", "dead/deep", "dead/deep/er"]), "{rest}");
}

/// What lies in the target would be compared with the sources, and the source has no copy of itself.
#[test]
fn a_source_in_the_target_is_refused() {
    let scratch = ground("delete-inside");
    for line in [["send", "@/to/sub/.", "--to", "@/to"], ["recv", "@/to", "--from", "@/to/sub"]] {
        for more in [["--delete", "--yes"], ["--delete", "--plan"]] {
            let refused = landfall(&scratch, &line, &more);
            refused.assert_code(2);
            assert!(refused.stderr_text().contains("lies inside the target"), "{}", refused.describe());
        }
    }
    let receipt =
        landfall(&scratch, &TO, &["--delete", "--yes", "--receipt", &format!("{}", scratch.join("to/r").display())]);
    receipt.assert_code(2);
    assert_eq!(left(&scratch).len(), GONE.len());
}

#[test]
fn a_transfer_that_fails_deletes_nothing() {
    let scratch = ground("delete-failed");
    let failed = landfall(&scratch, &TO, &["--delete", "--yes", "--max-size", "1"]);
    assert!(failed.code().is_some_and(|code| code != 0 && code != 5), "{}", failed.describe());
    assert!(failed.stderr_text().contains("nothing was deleted"), "{}", failed.describe());
    assert_eq!(left(&scratch).len(), GONE.len());
}

/// Killed at any moment while it removes; the same command goes on, and the logs tell of every entry that went.
#[test]
fn whoever_is_killed_the_same_command_goes_on() {
    let scratch = ground("delete-killed");
    let many: Vec<String> = (0..6000).map(|number| format!("to/many/{number:04}")).collect();
    write(&scratch, &many.iter().map(String::as_str).collect::<Vec<_>>());
    let count = || fs::read_dir(scratch.join("to/many")).map_or(0, Iterator::count);
    let line = [&TO[..], &["--delete", "--yes"]].concat();
    let mut running = command(&scratch, &line).start();
    assert!(running.wait_until("a removal", PATIENT, |_| count() < 6000), "{}", running.describe("ended"));
    assert!(running.kill().was_killed());
    let rest = count();
    assert!(rest > 0, "it was killed too late to see anything");
    landfall(&scratch, &line, &[]).assert_code(0);
    assert!(!scratch.join("to/many").exists() && left(&scratch).is_empty());
    let logs = logs(&scratch);
    assert_eq!(logs.len(), 2);
    let noted: BTreeSet<String> = logs
        .iter()
        .flat_map(|log| {
            let text = fs::read_to_string(log).unwrap();
            text.lines().filter(|line| line.contains("\"to-delete\"")).map(str::to_owned).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(noted.iter().filter(|line| line.contains("\"many/")).count(), 6000);
}

/// A program in the place of ssh.
fn reach(scratch: &Scratch, script: &str) -> PathBuf {
    let path = scratch.join("reach");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn another_machine_is_asked_through_ssh_and_one_that_lies_removes_nothing() {
    let far_to = ["send", "@/www/.", "--to", "far:@/to"];
    let far_from = ["recv", "@/to", "--from", "far:@/www/."];
    let honest = "shift; exec sh -c \"$*\"";
    for line in [far_to, far_from] {
        let scratch = ground(&format!("delete-far-{}", line[0]));
        let run = |script: &str| {
            let command = command(&scratch, &[&line[..], &["--delete", "--yes"]].concat());
            command
                .arg("--ssh")
                .arg(reach(&scratch, script))
                .arg("--remote-landfall")
                .arg(binary())
                .arg("--relay-over-ssh")
                .run()
        };
        // The first child transfers, and the second one lies. ssh is asked with `-G` where the machine is, too.
        let lies = |answer: &str| {
            format!(
                "case \"$*\" in *-G*) exit 0;; esac\nif [ -e {0} ]; then rm {0}; {answer}; else : > {0}; {honest}; fi",
                scratch.join("second").display()
            )
        };
        let says = |text: &str| format!("read line; echo ready plan 1; read line; echo '{text}'; sleep 60");
        let outside = r#"{"seen":{"all":[{"entry":{"path":"../outside","kind":"Regular","size":1,"mtime":{"seconds":1,"nanos":1},"inode":1}}]}}"#;
        for (answer, code) in [
            (says("hello"), 1),
            // As many answers as there are entries, to a question that was not asked yet.
            (says(&format!(r#"{{"exist":{{"number":2,"are_there":{:?}}}}}"#, [false; GONE.len() + 6])), 1),
            (says(r#"{"exist":{"number":1,"are_there":[false]}}"#), 1),
            (says(r#"{"removed":{"number":1,"fates":["removed"]}}"#), 1),
            (says(outside), 1),
            ("read line; echo ready plan 1; exit 9".to_owned(), 3),
        ] {
            let failed = run(&lies(&answer));
            assert_eq!(failed.code(), Some(code), "{answer}\n{}", failed.describe());
            assert_eq!(left(&scratch).len(), GONE.len(), "{answer}\n{}", failed.describe());
            assert!(!scratch.join("second").exists(), "the second one was asked");
        }
        let done = run(honest);
        done.assert_code(0);
        assert_eq!(left(&scratch), BTreeSet::new());
    }
}
