//! The shipped program on the lying disk, and the disk under command while it runs.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

use fault_inject::fuse_disk::control::{Control, Next};
use fault_inject::fuse_disk::{Cache, Kind, cases, mount, transfers};
use fault_inject::rig::facility;
use fault_inject::verdict::Verdict;

use super::rig;

#[test]
fn a_transfer_onto_a_disk_that_corrupts_writes_is_repaired() {
    let test = "a_transfer_onto_a_disk_that_corrupts_writes_is_repaired";
    if let Some(needs) = mount::missing() {
        facility::skipped(test, &needs);
        return;
    }
    let report = transfers::run(cases::named("corrupt-write")[0], 11);
    assert_eq!(report.verdict, Verdict::Good, "{report:#?}");
    assert!(report.injected >= 5, "{report:#?}");
    assert_eq!((report.detected, report.repaired), (report.injected, report.injected), "{report:#?}");
}

#[test]
fn a_disk_obeys_commands_while_it_runs() {
    let Some(mut rig) = rig("a_disk_obeys_commands_while_it_runs", &[], Cache::Kept) else { return };
    let socket = rig._scratch.join("control");
    let control = Control::listen(&socket).unwrap();
    let file = rig.mount.join("file");
    let caller = std::thread::spawn(move || {
        let mut stream = UnixStream::connect(&socket).unwrap();
        let mut replies = BufReader::new(stream.try_clone().unwrap());
        let mut say = |line: &str| {
            writeln!(stream, "{line}").unwrap();
            let mut reply = String::new();
            replies.read_line(&mut reply).unwrap();
            reply.trim_end().to_owned()
        };
        let set = say("set create-fail:nth=1,errno=EACCES");
        let denied = fs::write(&file, "x").unwrap_err().raw_os_error();
        let made = fs::write(&file, "x").is_ok();
        let rest = ["counts", "clear nothing", "clear", "sync", "what", "cut", "counts", "boot", "quit"].map(&mut say);
        (set, denied, made, rest)
    });
    while control.serve(&mut rig.disk).unwrap() == Next::Serve {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let (set, denied, made, rest) = caller.join().unwrap();
    assert_eq!((set.as_str(), denied, made), ("ok create-fail:nth=1,errno=EACCES", Some(13), true));
    assert_eq!((rest[0].as_str(), rest[1].as_str()), ("ok create-fail=1", "error there is no fault `nothing`"));
    assert_eq!((rest[2].as_str(), rest[3].as_str()), ("ok", "ok"));
    assert!(rest[4].starts_with("error commands are"), "{rest:?}");
    assert_eq!(rest[5], "ok 0 names, 0 pages lost", "all was synced");
    assert_eq!(&rest[6..], ["ok create-fail=1", "ok mounted again", "ok"]);
    assert_eq!(rig.disk.count(Kind::CreateFail), 1);
    assert_eq!(fs::read_to_string(rig.mount.join("file")).unwrap(), "x");
}
