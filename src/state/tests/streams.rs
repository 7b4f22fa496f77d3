//! Streams kept as files: whole under their names or not there, and gone when no open transfer is about them.

#![allow(clippy::unwrap_used)]

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::crash_disk::CrashDisk;
use super::{record, secret};
use crate::disk::RealDisk;
use crate::error::Error;
use crate::identity::{PeerKey, Role, TransferId};
use crate::options::{ChildCommand, Meeting};
use crate::state::home::Home;
use crate::state::stream::{Spool, Stream, StreamKey, key_of, sweep};
use crate::state::transfer::{Closed, End, Side, TransferRecord};
use crate::ticket::Ticket;

const CHUNK: usize = 1 << 20;

fn to(other: &str) -> Meeting {
    let child = ChildCommand { program: "x".into(), arguments: vec![], options: serde_json::Value::Null, remote: None };
    Meeting::Parent { child, other: other.into() }
}

fn key(name: &str, meeting: &Meeting) -> StreamKey {
    StreamKey::new(Role::Sender, OsStr::new(name), meeting)
}

#[test]
fn the_same_command_means_the_same_stream_and_any_other_another() {
    let (listen, elsewhere) = (
        Meeting::Listen { address: None, write_ticket: None, shows_code: false },
        Meeting::Listen {
            address: Some("127.0.0.1:7".parse().unwrap()),
            write_ticket: Some("t".into()),
            shows_code: true,
        },
    );
    let ticket = |first: u8| {
        let secret = crate::identity::Secret::from_bytes([first; 16]);
        Meeting::Dial(Ticket {
            role: Role::Receiver,
            key: PeerKey([1; 32]),
            secret,
            addresses: vec![],
            expiry_seconds: 1,
        })
    };
    assert_eq!(key("a", &to("/in")), key("a", &to("/in")));
    assert_eq!(key("a", &listen), key("a", &elsewhere));
    let all = [
        key("a", &to("/in")),
        key("a", &to("host:in")),
        key("b", &to("/in")),
        key("a", &listen),
        key("a", &ticket(1)),
        key("a", &ticket(2)),
        StreamKey::new(Role::Receiver, OsStr::new("a"), &to("/in")),
        StreamKey::new(Role::Receiver, OsStr::new(""), &to("/in")),
    ];
    for (index, one) in all.iter().enumerate() {
        assert!(!all[..index].contains(one), "{index}");
    }
}

/// What is left of a stream of which so many steps were done, after an earlier one was kept whole.
fn cut_short(steps: usize, content: &[u8]) -> (bool, Option<Vec<u8>>) {
    let dir = tempfile::tempdir().unwrap();
    let (disk, root) = (CrashDisk::new(steps), RealDisk::open_root(dir.path()).unwrap());
    std::fs::create_dir(dir.path().join("content")).unwrap();
    std::fs::write(dir.path().join("content/name"), "earlier").unwrap();
    let spool = || {
        let mut spool = Spool::begin(disk, root)?;
        content.chunks(1000).try_for_each(|piece| spool.write(piece))?;
        assert_eq!(spool.bytes(), content.len() as u64);
        spool.finish(OsStr::new("name"))
    };
    let is_done = spool().is_ok();
    (is_done, std::fs::read(dir.path().join("content/name")).ok())
}

#[test]
fn a_stream_that_is_cut_short_is_the_earlier_one_or_whole() {
    let content: Vec<u8> = (0..2 * CHUNK + 777).map(|at| at.to_le_bytes()[0] ^ at.to_le_bytes()[1]).collect();
    let (mut failed, mut steps) = (0, 0);
    loop {
        let (is_done, found) = cut_short(steps, &content);
        let found = found.unwrap();
        assert!(found == b"earlier" || found == content, "after {steps} steps: {} bytes", found.len());
        if is_done {
            assert!(found == content);
            break;
        }
        failed += 1;
        steps += 1;
    }
    assert!(failed >= 6, "create, writes, sync, rename and syncs of directories: {failed}");
}

#[test]
fn bytes_are_durable_before_they_have_a_name() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, root) = (CrashDisk::new(usize::MAX), RealDisk::open_root(dir.path()).unwrap());
    let mut spool = Spool::begin(disk.clone(), root).unwrap();
    spool.write(&[1; 3]).unwrap();
    spool.finish(OsStr::new("name")).unwrap();
    let done = disk.done();
    let at = |step: &str| done.iter().position(|name| *name == step).unwrap_or_else(|| panic!("no {step}: {done:?}"));
    assert!(at("write") < at("sync") && at("sync") < at("replace"), "{done:?}");
    assert_eq!(&done[done.len() - 2..], ["sync_dir", "sync_dir"], "{done:?}");
}

struct Ground {
    dir: tempfile::TempDir,
    home: Home<RealDisk>,
    key: StreamKey,
}

impl Ground {
    fn new() -> Ground {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(&dir.path().join("home")).unwrap();
        Ground { dir, home, key: key("name", &to("/in")) }
    }

    /// Reads a stream, and lets go of it.
    fn read(&self) {
        let stream = Stream::begin(&self.home, &self.key).unwrap();
        let mut spool = stream.spool().unwrap();
        spool.write(b"content").unwrap();
        spool.finish(OsStr::new("name")).unwrap();
        // As a process does that is killed.
        drop(stream);
    }

    fn file(&self) -> PathBuf {
        self.key.content_dir(self.home.path()).join("name")
    }

    fn streams(&self) -> PathBuf {
        self.dir.path().join("home/streams")
    }

    fn is_empty(&self) -> bool {
        std::fs::read_dir(self.streams()).unwrap().next().is_none()
    }

    fn record(&self) -> TransferRecord {
        let (role, side, secret) = (Role::Sender, Side::Listener, Some(secret()));
        TransferRecord { role, side, secret, paths: vec![self.file()], expiry_seconds: u64::MAX, ..record() }
    }
}

#[test]
fn a_stream_stays_as_long_as_an_open_transfer_is_about_it() {
    let ground = Ground::new();
    ground.read();
    let mut record = ground.record();
    ground.home.save(&record).unwrap();
    assert_eq!(key_of(&ground.home, &record), Some(ground.key.clone()));
    sweep(&ground.home).unwrap();
    Stream::begin(&ground.home, &ground.key).unwrap().release();
    assert_eq!(std::fs::read(ground.file()).unwrap(), b"content");
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&ground.file()), mode(ground.file().parent().unwrap())), (0o600, 0o700));
    assert_eq!(mode(&ground.streams()), 0o700);
    ground.home.close(&mut record, Closed { seconds: 1, end: End::Finished }).unwrap();
    sweep(&ground.home).unwrap();
    assert!(ground.is_empty());
}

#[test]
fn what_no_open_transfer_is_about_goes() {
    let ground = Ground::new();
    ground.read();
    // Nobody can take its ticket any more.
    ground.home.save(&TransferRecord { expiry_seconds: 1, ..ground.record() }).unwrap();
    let held = Stream::hold(&ground.home, &ground.key).unwrap();
    sweep(&ground.home).unwrap();
    assert!(ground.file().exists(), "somebody works on it");
    drop(held);
    sweep(&ground.home).unwrap();
    assert!(ground.is_empty());
    // A command that begins finds nothing of an earlier one, and one that did not come to the end leaves nothing.
    ground.read();
    let stream = Stream::begin(&ground.home, &ground.key).unwrap();
    assert!(!ground.file().exists());
    stream.spool().unwrap().write(&vec![1; CHUNK]).unwrap();
    stream.release();
    assert!(ground.is_empty());
}

#[test]
fn a_record_that_cannot_be_read_may_be_about_any_stream() {
    let ground = Ground::new();
    ground.read();
    ground.home.save(&ground.record()).unwrap();
    let path = ground.dir.path().join(format!("home/transfers/{}/sender/transfer", ground.record().id));
    std::fs::write(path, "nonsense").unwrap();
    sweep(&ground.home).unwrap();
    assert!(ground.file().exists());
}

/// A record speaks of the place where the home was when it was written.
#[test]
fn a_home_that_has_moved_keeps_its_streams() {
    let ground = Ground::new();
    ground.read();
    ground.home.save(&ground.record()).unwrap();
    let moved = ground.dir.path().join("moved");
    std::fs::rename(ground.home.path(), &moved).unwrap();
    let home = Home::open(&moved).unwrap();
    sweep(&home).unwrap();
    assert!(ground.key.content_dir(&moved).join("name").exists());
    assert_eq!(key_of(&home, &ground.record()), None, "it cannot be found from there");
}

#[test]
fn paths_of_the_users_are_no_streams() {
    let ground = Ground::new();
    for path in ["/a", "/", "/streams/x/content/name", "/streams/0123456789abcdef0123456789abcdef/content/name"] {
        assert_eq!(
            key_of(&ground.home, &TransferRecord { paths: vec![path.into()], ..ground.record() }),
            None,
            "{path}"
        );
    }
}

#[test]
fn one_process_at_a_time_works_on_a_stream() {
    let ground = Ground::new();
    let _held = Stream::begin(&ground.home, &ground.key).unwrap();
    assert!(matches!(Stream::hold(&ground.home, &ground.key), Err(Error::Locked { .. })));
    Stream::begin(&ground.home, &key("other", &to("/in"))).unwrap();
}

#[test]
fn whatever_came_for_standard_output_can_be_removed() {
    let ground = Ground::new();
    let record = TransferRecord {
        role: Role::Receiver,
        paths: vec![ground.key.content_dir(ground.home.path())],
        id: TransferId([9; 16]),
        ..ground.record()
    };
    ground.home.save(&record).unwrap();
    let stream = Stream::begin(&ground.home, &ground.key).unwrap();
    let mut deep = stream.content_dir();
    for _ in 0..60 {
        deep = deep.join("d");
        std::fs::create_dir(&deep).unwrap();
        std::fs::write(deep.join("f"), "").unwrap();
        std::os::unix::fs::symlink("/absent", deep.join("l")).unwrap();
    }
    for dir in deep.ancestors().take(60) {
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o000)).unwrap();
    }
    ground.home.remove(record.id, record.role).unwrap();
    stream.release();
    assert!(ground.is_empty());
}
