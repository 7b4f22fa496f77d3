//! The harness under test: the oracle sees each kind of difference, the builder makes what it says, the relay relays
//! and harms, and kills are counted and classified as they should be. No process of the product is started here.
#![allow(clippy::unwrap_used)]

use fault_inject::rig as common;

use std::fs;
use std::net::UdpSocket;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::kill::{Pair, Struck, Tally, Trigger, Victim};
use common::oracle::{self, Canary, Root, Rules};
use common::process::{self, Io};
use common::relay::{Direction, Relay};
use common::scratch::Scratch;
use common::state::{KILLABLE, Places, Step};
use common::transfer::{Setup, Side};
use common::tree::{Content, Tree};
use common::{facility, held, trees};

/// A copy by somebody else's tool, which keeps modes, times, links and holes.
fn copy(source: &Path, target: &Path) {
    facility::run("cp", &["-a", "--sparse=auto", source.to_str().unwrap(), target.to_str().unwrap()]).unwrap();
}

fn found(source: &Path, target: &Path) -> Vec<String> {
    oracle::differences(&oracle::snapshot(source), &oracle::snapshot(target), &Rules::default())
}

#[test]
fn every_tree_equals_its_copy() {
    let scratch = Scratch::new("copies");
    let outside = scratch.dir("outside");
    let built = [
        trees::sizes(&scratch.join("sizes"), 1),
        trees::sparse(&scratch.join("sparse"), 2),
        trees::directories(&scratch.join("directories"), 3),
        trees::symlinks(&scratch.join("symlinks"), 4, &outside),
        trees::modes(&scratch.join("modes"), 5),
        trees::times(&scratch.join("times"), 6),
        trees::names(&scratch.join("names"), 7),
        trees::many(&scratch.join("many"), 8, 2000),
        trees::hard_links(&scratch.join("hard-links"), 9),
        trees::attributes(&scratch.join("attributes"), 10).0,
        trees::medley(&scratch.join("medley"), 11),
    ];
    for source in built {
        let target = scratch.join("copy").with_extension(source.file_name().unwrap());
        copy(&source, &target);
        let differences = found(&source, &target);
        assert!(differences.is_empty(), "{}: {}", source.display(), oracle::in_lines(&differences));
    }
}

#[test]
fn trees_are_what_they_say() {
    let scratch = Scratch::new("contents");
    let sizes = oracle::snapshot(&trees::sizes(&scratch.join("sizes"), 1));
    for size_bytes in [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, (3 << 20) + 1, 65_535] {
        assert!(sizes.values().any(|node| node.digest.unwrap().is_some() && node.size_bytes == size_bytes));
    }
    let sparse = trees::sparse(&scratch.join("sparse"), 2);
    let huge = sparse.join("huge-hole").metadata().unwrap();
    assert!(huge.len() == 64 << 30 && huge.blocks() * 512 < 1 << 20, "a hole is a hole");
    let times = oracle::snapshot(&trees::times(&scratch.join("times"), 6));
    assert_eq!(times[&b"files/3"[..]].mtime, (-1, 999_999_999));
    assert_eq!(times[&b"dirs/5"[..]].mtime, (-2_000_000_000, 1));
    let modes = oracle::snapshot(&trees::modes(&scratch.join("modes"), 5));
    assert_eq!(modes[&b"dirs/555"[..]].mode, 0o555);
    assert_eq!(modes[&b"files/444"[..]].mode, 0o444);
    let names = oracle::snapshot(&trees::names(&scratch.join("names"), 7));
    assert!(names.keys().any(|name| std::str::from_utf8(name).is_err()) && names.contains_key(&b"new\nline"[..]));
    let (specials, made) = trees::specials(&scratch.join("specials"), 8);
    assert!(made.contains(&"fifo".to_owned()) && made.contains(&"socket".to_owned()));
    assert_eq!(made.len() == 5, facility::is_root());
    assert!(!specials.join("fifo").metadata().unwrap().is_file());
}

#[test]
fn trees_are_the_same_for_the_same_seed() {
    let scratch = Scratch::new("seeds");
    trees::medley(&scratch.join("a"), 3);
    trees::medley(&scratch.join("b"), 3);
    trees::medley(&scratch.join("c"), 4);
    let (a, b, c) = (scratch.join("a"), scratch.join("b"), scratch.join("c"));
    let without_times =
        |differences: Vec<String>| differences.into_iter().filter(|text| !text.contains("mtime")).count();
    assert_eq!(without_times(found(&a, &b)), 0);
    assert_ne!(without_times(found(&a, &c)), 0);
}

#[test]
fn paths_beyond_path_max_are_built_compared_and_removed() {
    let scratch = Scratch::new("deep");
    let a = trees::deep(&scratch.join("a"), 1);
    let b = trees::deep(&scratch.join("b"), 1);
    let (one, other) = (oracle::snapshot(&a), oracle::snapshot(&b));
    let longest = one.keys().map(Vec::len).max().unwrap();
    assert!(longest > 2 * 4096, "{longest}");
    let is_content = |text: &&String| !text.contains("mtime");
    assert_eq!(oracle::differences(&one, &other, &Rules::default()).iter().filter(is_content).count(), 0);
    let deepest =
        one.iter().filter(|(_, node)| node.size_bytes > 0).map(|(path, _)| path).max_by_key(|path| path.len());
    let (parent, name) = held::open_parent(&held::open_dir(&b), deepest.unwrap()).unwrap();
    rustix::fs::unlinkat(&parent, std::ffi::OsStr::from_bytes(name), rustix::fs::AtFlags::empty()).unwrap();
    let differences = oracle::differences(&one, &oracle::snapshot(&b), &Rules::default());
    assert!(differences.iter().any(|text| text.ends_with("missing")), "{differences:?}");
    let path = scratch.path().to_owned();
    drop(scratch);
    assert!(!path.exists(), "the scratch directory is removed");
}

/// One way in which a copy can be wrong, and a word that the oracle must say about it.
type Harm = (&'static str, &'static str, fn(&Path));

#[test]
fn the_oracle_sees_each_kind_of_difference() {
    let harms: [Harm; 14] = [
        ("missing", "missing", |copy| fs::remove_file(copy.join("small/1")).unwrap()),
        ("missing directory", "missing", |copy| fs::remove_dir(copy.join("empty/nested")).unwrap()),
        ("extra", "never sent", |copy| fs::write(copy.join("more"), "x").unwrap()),
        ("extra directory", "never sent", |copy| fs::create_dir(copy.join("empty/more")).unwrap()),
        ("flipped", "bytes", |copy| flip(&copy.join("large"), 5 << 20)),
        ("flipped at the end", "bytes", |copy| flip(&copy.join("odd-chunks"), (3 << 20) + 16)),
        ("in a hole", "bytes", |copy| flip(&copy.join("sparse"), 2 << 20)),
        ("shorter", "size", |copy| set_len(&copy.join("one-chunk"), (1 << 20) - 1)),
        ("longer", "size", |copy| set_len(&copy.join("one-chunk"), (1 << 20) + 1)),
        ("mode", "mode", |copy| fs::set_permissions(copy.join("large"), fs::Permissions::from_mode(0o640)).unwrap()),
        ("directory mode", "mode", |copy| {
            fs::set_permissions(copy.join("small"), fs::Permissions::from_mode(0o700)).unwrap()
        }),
        ("a nanosecond", "mtime", |copy| later(&copy.join("large"))),
        ("a nanosecond of a directory", "mtime", |copy| later(&copy.join("small"))),
        ("link", "link target", |copy| {
            fs::remove_file(copy.join("link")).unwrap();
            std::os::unix::fs::symlink("small/2", copy.join("link")).unwrap();
        }),
    ];
    let scratch = Scratch::new("oracle");
    let source = trees::medley(&scratch.join("source"), 1);
    for (number, (name, word, harm)) in harms.into_iter().enumerate() {
        let target = scratch.join(&format!("copy-{number}"));
        copy(&source, &target);
        assert_eq!(found(&source, &target), Vec::<String>::new(), "{name}: before");
        harm(&target);
        let differences = found(&source, &target);
        assert!(differences.iter().any(|text| text.contains(word)), "{name}: {differences:?}");
    }
}

#[test]
fn the_oracle_sees_a_link_that_was_followed() {
    let scratch = Scratch::new("followed");
    let mut tree = Tree::new(&scratch.join("source"), 1);
    tree.small("file");
    tree.symlink("link", "file");
    let source = tree.finish();
    facility::run("cp", &["-rL", source.to_str().unwrap(), scratch.join("copy").to_str().unwrap()]).unwrap();
    let differences = found(&source, &scratch.join("copy"));
    assert!(differences.iter().any(|text| text.starts_with("link: kind")), "{differences:?}");
}

#[test]
fn what_is_left_out_must_be_absent() {
    let scratch = Scratch::new("left-out");
    let source = trees::medley(&scratch.join("source"), 1);
    copy(&source, &scratch.join("copy"));
    let (wanted, got) = (oracle::snapshot(&source), oracle::snapshot(&scratch.join("copy")));
    let rules = Rules { left_out: &[b"large"], root: Root::Compared };
    assert_eq!(oracle::differences(&wanted, &got, &rules).len(), 1);
    fs::remove_file(scratch.join("copy/large")).unwrap();
    let got = oracle::snapshot(&scratch.join("copy"));
    let rules = Rules { left_out: &[b"large"], root: Root::Ignored };
    assert_eq!(oracle::differences(&wanted, &got, &rules), Vec::<String>::new());
}

#[test]
fn huge_sparse_files_are_compared_by_their_data() {
    let scratch = Scratch::new("huge");
    let data = vec![(0, 4096), (50 << 30, 1 << 20)];
    let mut tree = Tree::new(&scratch.join("a"), 1);
    tree.file("f", &Content::Sparse { size_bytes: 100 << 30, data });
    let source = tree.finish();
    copy(&source, &scratch.join("b"));
    assert_eq!(found(&source, &scratch.join("b")), Vec::<String>::new());
    let file = fs::OpenOptions::new().write(true).open(scratch.join("b/f")).unwrap();
    let mtime = source.join("f").metadata().unwrap().modified().unwrap();
    file.write_all_at(&[0; 4096], 7 << 30).unwrap();
    file.set_modified(mtime).unwrap();
    assert_eq!(found(&source, &scratch.join("b")), Vec::<String>::new(), "written zeros are zeros");
    file.write_all_at(&[1], 90 << 30).unwrap();
    file.set_modified(mtime).unwrap();
    assert!(found(&source, &scratch.join("b")).iter().any(|text| text.contains("bytes")));
}

#[test]
fn the_canary_sings() {
    let scratch = Scratch::new("canary");
    let harms: [fn(&Path); 4] = [
        |cage| fs::write(cage.join("song"), "changed!!").unwrap(),
        |cage| fs::write(cage.join("cage/more"), "").unwrap(),
        |cage| later(&cage.join("song")),
        |cage| {
            let (old, new) = (cage.join("song"), cage.join("new"));
            let modified = old.metadata().unwrap().modified().unwrap();
            fs::write(&new, "unchanged").unwrap();
            fs::File::options().write(true).open(&new).unwrap().set_modified(modified).unwrap();
            fs::rename(new, old).unwrap();
        },
    ];
    for (number, harm) in harms.into_iter().enumerate() {
        let canary = Canary::new(&scratch.join(&format!("canary-{number}")));
        canary.assert_unchanged();
        harm(canary.path());
        let noticed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| canary.assert_unchanged()));
        assert!(noticed.is_err(), "harm {number}");
    }
}

fn flip(path: &Path, at: u64) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let modified = file.metadata().unwrap().modified().unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
    file.set_modified(modified).unwrap();
}

fn set_len(path: &Path, size_bytes: u64) {
    fs::OpenOptions::new().write(true).open(path).unwrap().set_len(size_bytes).unwrap();
}

fn later(path: &Path) {
    let modified = path.metadata().unwrap().modified().unwrap();
    fs::File::open(path).unwrap().set_modified(modified + Duration::from_nanos(1)).unwrap();
}

/// What answers behind the relay: it sends every datagram back.
fn echo() -> (std::net::SocketAddr, std::thread::JoinHandle<()>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    let address = socket.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        let mut buffer = [0; 2000];
        while let Ok((len, from)) = socket.recv_from(&mut buffer) {
            if buffer[..len] == *b"end" {
                return;
            }
            socket.send_to(&buffer[..len], from).unwrap();
        }
    });
    (address, thread)
}

fn ping(client: &UdpSocket, relay: &Relay, text: &[u8]) -> Option<Vec<u8>> {
    client.send_to(text, relay.address()).unwrap();
    let mut buffer = [0; 2000];
    client.recv_from(&mut buffer).ok().map(|(len, _)| buffer[..len].to_vec())
}

#[test]
fn the_relay_counts_and_harms() {
    let (upstream, thread) = echo();
    let relay = Relay::new("127.0.0.1:0".parse().unwrap(), upstream, 1).unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let other = UdpSocket::bind("127.0.0.1:0").unwrap();
    other.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert_eq!(ping(&client, &relay, b"hello").as_deref(), Some(&b"hello"[..]));
    assert_eq!(ping(&other, &relay, b"other client").as_deref(), Some(&b"other client"[..]));
    // The relay counts a datagram once it has passed it on: one may be here before it is counted.
    let counted = || (relay.bytes(Direction::ToListener), relay.bytes(Direction::ToDialler));
    let start = std::time::Instant::now();
    while counted() != (17, 17) && start.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(counted(), (17, 17));
    relay.silence();
    assert_eq!(ping(&client, &relay, b"anyone?"), None);
    relay.speak();
    assert!(ping(&client, &relay, b"again").is_some());
    relay.silence_after(1);
    assert_eq!(ping(&client, &relay, b"last"), None);
    assert!(relay.is_silent());
    relay.speak();
    relay.drop_permille(1000);
    assert_eq!(ping(&client, &relay, b"lost"), None);
    relay.drop_permille(0);
    relay.corrupt_permille(1000);
    let two_flips = ping(&client, &relay, &[0; 100]).unwrap();
    assert!((1..=2).contains(&two_flips.iter().map(|byte| byte.count_ones()).sum::<u32>()) || two_flips == [0; 100]);
    relay.corrupt_permille(0);
    relay.duplicate_permille(1000);
    assert!(ping(&client, &relay, b"twice").is_some());
    let mut buffer = [0; 100];
    assert!(client.recv_from(&mut buffer).is_ok(), "there is a second one");
    relay.duplicate_permille(0);
    while client.recv_from(&mut buffer).is_ok() {}
    relay.delay(Duration::from_millis(50));
    let start = std::time::Instant::now();
    assert!(ping(&client, &relay, b"slow").is_some());
    assert!(start.elapsed() >= Duration::from_millis(100), "{:?}", start.elapsed());
    assert!(relay.harmed() >= 4);
    client.send_to(b"end", relay.address()).unwrap();
    thread.join().unwrap();
}

#[test]
fn the_relay_throttles() {
    let (upstream, _thread) = echo();
    let relay = Relay::new("127.0.0.1:0".parse().unwrap(), upstream, 1).unwrap();
    relay.rate(200_000);
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let start = std::time::Instant::now();
    for _ in 0..100 {
        ping(&client, &relay, &[7; 1000]).unwrap();
    }
    let seconds = start.elapsed().as_secs_f64();
    assert!((0.8..4.0).contains(&seconds), "200 kB both ways at 200 kB/s took {seconds} s");
}

/// A state directory as a transfer of two files would leave it at each step.
fn fake(places: &Places, step: Step) {
    let write = |path: PathBuf, len: usize| {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        if !path.exists() {
            fs::write(&path, vec![1u8; len]).unwrap(); // grows in one step, so it is one change
        }
    };
    let work = places.target.join(".landfall/0123");
    let transfer = places.sender_home.join("transfers/0123");
    let steps: [(Step, &dyn Fn()); 9] = [
        (Step::Ticketed, &|| write(places.receiver_home.join("transfers/0123/ticket"), 100)),
        (Step::Hashing, &|| write(transfer.join("sender/manifest"), 100)),
        (Step::Manifest, &|| write(work.join("manifest"), 100)),
        (Step::Staged, &|| write(work.join("staging/abc"), 5000)),
        (Step::Claimed, &|| write(work.join("journal"), 300)),
        (Step::Sealing, &|| write(places.target.join("a"), 10)),
        (Step::Sealed, &|| write(places.target.join("b"), 10)),
        (Step::Receipt, &|| write(places.receiver_home.join("receipts/0123.receiver"), 10)),
        (Step::Acknowledged, &|| write(places.sender_home.join("receipts/0123.sender"), 10)),
    ];
    for (at, make) in steps {
        if at <= step {
            make();
        }
    }
    if step == Step::Cleaned {
        fs::remove_dir_all(places.target.join(".landfall")).unwrap();
    }
}

fn fake_places(scratch: &Scratch, name: &str) -> Places {
    let base = scratch.dir(name);
    let (sender_home, receiver_home, target) = (base.join("s"), base.join("r"), base.join("t"));
    Places { sender_home, receiver_home, target, file_count: 2, there_before: 0 }
}

#[test]
fn steps_are_read_from_the_disk() {
    let scratch = Scratch::new("steps");
    let all = [Step::Nothing].into_iter().chain(KILLABLE).chain([Step::Cleaned]);
    for step in all {
        let places = fake_places(&scratch, &step.to_string());
        fake(&places, step);
        let look = places.look();
        assert_eq!(places.step(&look), step, "{look:?}");
    }
}

#[test]
fn kills_are_counted_only_when_they_kill() {
    let scratch = Scratch::new("kills");
    let places = fake_places(&scratch, "places");
    let setup = Setup::new(&scratch, "setup", &[], common::transfer::Listens::Receiver);
    let sleeper = || process::Landfall::new("sleeper", &setup.sender_home).program("sleep").arg("30").start();
    let quick = || process::Landfall::new("quick", &setup.sender_home).program("true").start();
    let mut tally = Tally::default();

    let mut pair = Pair { sender: Some(sleeper()), receiver: Some(quick()), ended: vec![], killed: vec![] };
    pair.receiver.as_mut().unwrap().wait_until("the end", Duration::from_secs(5), |_| false);
    let late = pair.strike(&places, Trigger::AfterTime(Duration::ZERO), Victim::Receiver).unwrap();
    assert!(matches!(late, Struck::TooLate) && !tally.count(&late));
    assert!(pair.ending(Side::Receiver).is_some() && pair.sender.is_some());

    let target = places.clone();
    let worker = std::thread::spawn(move || {
        for step in KILLABLE.into_iter().take_while(|step| *step <= Step::Sealing) {
            fake(&target, step);
            std::thread::sleep(Duration::from_millis(30));
        }
    });
    let struck = pair.strike(&places, Trigger::AtStep(Step::Claimed), Victim::Both).unwrap();
    assert!(matches!(struck, Struck::Killed(Step::Claimed)), "{struck:?}");
    assert!(tally.count(&struck) && pair.sender.is_none());
    worker.join().unwrap();

    let mut pair = Pair { sender: Some(sleeper()), receiver: Some(sleeper()), ended: vec![], killed: vec![] };
    let target = places.clone();
    let worker = std::thread::spawn(move || {
        for step in [Step::Sealed, Step::Receipt, Step::Acknowledged] {
            std::thread::sleep(Duration::from_millis(40));
            fake(&target, step);
        }
    });
    let struck = pair.strike(&places, Trigger::AfterChanges(2), Victim::Sender).unwrap();
    assert!(matches!(struck, Struck::Killed(Step::Receipt)), "{struck:?}");
    assert!(tally.count(&struck) && pair.receiver.is_some());
    worker.join().unwrap();
    assert_eq!((tally.kills(), tally.below(1, &[Step::Claimed, Step::Staged])), (2, vec![Step::Staged]));
}

#[test]
fn processes_are_watched_from_outside() {
    let scratch = Scratch::new("process");
    let shell = |script: &str| process::Landfall::new("shell", scratch.path()).program("sh").args(["-c", script]);
    let done = shell("echo out; echo err >&2; read line; echo got $line $LANDFALL_HOME; exit 7").input("in\n").run();
    done.assert_code(7);
    assert_eq!(done.stdout_text(), format!("out\ngot in {}\n", scratch.path().display()));
    assert_eq!(done.stderr_text(), "err\n");
    let memory = shell("x=$(head -c 30000000 /dev/zero | tr '\\0' x); sleep 0.3; echo ${#x}").run();
    assert!(memory.peak_bytes > 30_000_000, "{}", memory.peak_bytes);
    assert!(memory.io.read_bytes > 30_000_000, "{:?}", memory.io);
    assert_ne!(memory.io, Io::default());
    let json = shell("echo '{\"event\":1}'; echo '{}'").run();
    assert_eq!(json.events().len(), 2);
    let hung =
        std::panic::catch_unwind(|| shell("echo before hanging; sleep 60").start().wait(Duration::from_millis(300)));
    let text = *hung.unwrap_err().downcast::<String>().unwrap();
    assert!(text.contains("did not end") && text.contains("before hanging"), "{text}");
}

#[test]
fn a_loop_image_is_altered_below_the_cache() {
    let scratch = Scratch::new("loop");
    let Some(image) = facility::LoopImage::mounted("loop", scratch.path(), 64 << 20) else { return };
    let path = image.path().join("file");
    let mut needle = vec![0u8; 512];
    needle[..16].copy_from_slice(b"landfall-platter");
    fs::write(&path, &needle).unwrap();
    fs::File::open(&path).unwrap().sync_all().unwrap();
    assert_eq!(image.flip_on_platter(&needle), 1);
    assert_eq!(fs::read(&path).unwrap(), needle, "the cache still holds the old bytes");
    let file = fs::File::open(&path).unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    assert_ne!(fs::read(&path).unwrap(), needle, "the platter does not");
}
