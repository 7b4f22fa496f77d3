//! What is done to names: confinement, exact modes and times, renames, links.

use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::{env, fs};

use rustix::fs::{CWD, FileType, Mode, XattrFlags};
use rustix::io::Errno;
use tempfile::tempdir;

use super::{EACCES, EISDIR, ELOOP, assert_errno, assert_kind, is_privileged, read, root, write};
use crate::attributes::{FileKind, Timestamp};
use crate::disk::real::link_and_unlink;
use crate::disk::{Access, Disk, DiskFile, Listed, RealDisk};

const EARLY: Timestamp = Timestamp { seconds: -86_400 * 365, nanos: 123_456_789 };

fn times() -> [Timestamp; 6] {
    let at = |seconds, nanos| Timestamp { seconds, nanos };
    [at(0, 0), at(-1, 999_999_999), at(-1, 1), at(-2_000_000_000, 500_000_001), EARLY, at(4_102_444_800, 7)]
}

fn mode_of(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_link_anywhere_in_a_path_is_refused() {
    let temp = tempdir().unwrap();
    fs::create_dir_all(temp.path().join("a/real/b")).unwrap();
    fs::write(temp.path().join("a/real/b/file"), "x").unwrap();
    symlink("real", temp.path().join("a/link")).unwrap();
    symlink(temp.path(), temp.path().join("absolute")).unwrap();
    symlink("a/real/b/file", temp.path().join("to_file")).unwrap();
    let dir = root(temp.path());
    RealDisk.open_dir(&dir, b"a/real/b").unwrap();
    for path in [&b"a/link/b"[..], b"a/link", b"absolute", b"absolute/a"] {
        assert_errno(RealDisk.open_dir(&dir, path), ELOOP);
    }
    assert_errno(RealDisk.open(&dir, b"to_file", Access::Read), ELOOP);
    assert_errno(RealDisk.open(&dir, b"to_file", Access::Write), ELOOP);
    assert_kind(RealDisk.create_exclusive(&dir, b"to_file"), ErrorKind::AlreadyExists);
    assert_errno(RealDisk.set_mode(&dir, b"to_file", 0o777), ELOOP);
    assert_eq!(RealDisk.stat(&dir, b"to_file").unwrap().kind, FileKind::Symlink);
    assert_ne!(mode_of(&temp.path().join("a/real/b/file")), 0o777);
    // The root alone was named by the user.
    assert_eq!(RealDisk.stat_dir(&root(&temp.path().join("absolute"))).unwrap(), RealDisk.stat_dir(&dir).unwrap());
}

#[test]
fn names_that_are_not_one_component_are_refused_everywhere() {
    let temp = tempdir().unwrap();
    fs::create_dir_all(temp.path().join("in/sub")).unwrap();
    fs::write(temp.path().join("outside"), "x").unwrap();
    let dir = root(&temp.path().join("in"));
    for name in [&b""[..], b".", b"..", b"../outside", b"sub/..", b"sub/x", b"/", b"a\0"] {
        assert_kind(RealDisk.make_dir(&dir, name, 0o700), ErrorKind::InvalidInput);
        assert_kind(RealDisk.stat(&dir, name), ErrorKind::InvalidInput);
        assert_kind(RealDisk.open(&dir, name, Access::Read), ErrorKind::InvalidInput);
        assert_kind(RealDisk.create_exclusive(&dir, name), ErrorKind::InvalidInput);
        assert_kind(RealDisk.rename_noreplace(&dir, b"sub", &dir, name), ErrorKind::InvalidInput);
        assert_kind(RealDisk.rename_noreplace(&dir, name, &dir, b"new"), ErrorKind::InvalidInput);
        assert_kind(RealDisk.replace(&dir, b"sub", &dir, name), ErrorKind::InvalidInput);
        assert_kind(RealDisk.replace(&dir, name, &dir, b"new"), ErrorKind::InvalidInput);
        assert_kind(RealDisk.make_symlink(b"x", &dir, name), ErrorKind::InvalidInput);
        assert_kind(RealDisk.read_link(&dir, name), ErrorKind::InvalidInput);
        assert_kind(RealDisk.remove(&dir, name), ErrorKind::InvalidInput);
        assert_kind(RealDisk.remove_dir(&dir, name), ErrorKind::InvalidInput);
        assert_kind(RealDisk.set_mode(&dir, name, 0o700), ErrorKind::InvalidInput);
        assert_kind(RealDisk.set_mtime(&dir, name, EARLY), ErrorKind::InvalidInput);
        assert!(!RealDisk.has_extended_attributes(&dir, name));
    }
    for path in [&b".."[..], b"sub/..", b"sub/../..", b"/etc", b"sub//x", b"sub/"] {
        assert_kind(RealDisk.open_dir(&dir, path), ErrorKind::InvalidInput);
    }
    let text = RealDisk.stat(&dir, b"../\x1b[31m").unwrap_err().to_string();
    assert_eq!(text, "`../\\u{1b}[31m` is not the name of one file or directory");
}

#[test]
fn what_is_not_a_regular_file_is_refused_without_waiting() {
    let temp = tempdir().unwrap();
    let fifo = temp.path().join("fifo");
    rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(temp.path().join("socket")).unwrap();
    fs::create_dir(temp.path().join("dir")).unwrap();
    let (dir, dev) = (root(temp.path()), root(Path::new("/dev")));
    for access in [Access::Read, Access::Write] {
        assert_kind(RealDisk.open(&dir, b"fifo", access), ErrorKind::InvalidInput);
        assert_kind(RealDisk.open(&dir, b"socket", access), ErrorKind::InvalidInput);
        assert_kind(RealDisk.open(&dev, b"null", access), ErrorKind::InvalidInput);
        assert_errno(RealDisk.open(&dir, b"dir", access), EISDIR);
        assert_kind(RealDisk.open(&dir, b"absent", access), ErrorKind::NotFound);
    }
    assert_eq!(RealDisk.stat(&dir, b"fifo").unwrap().kind, FileKind::Special);
    assert_kind(RealDisk.open_dir(&dir, b"fifo"), ErrorKind::NotADirectory);
    assert_kind(RealDisk::open_root(&fifo), ErrorKind::NotADirectory);
}

#[test]
fn a_path_longer_than_the_kernel_takes_opens() {
    let temp = tempdir().unwrap();
    let top = root(temp.path());
    let name = vec![b'n'; 250];
    let mut dir = top.clone();
    for _ in 0..40 {
        RealDisk.make_dir(&dir, &name, 0o755).unwrap();
        dir = RealDisk.open_dir(&dir, &name).unwrap();
    }
    write(&dir, b"deep", b"down");
    let path = vec![name.clone(); 40].join(&b'/');
    assert!(path.len() > 2 * 4096);
    let found = RealDisk.open_dir(&top, &path).unwrap();
    assert_eq!(read(&found, b"deep"), b"down");
    assert_eq!(RealDisk.stat_dir(&found).unwrap().inode, RealDisk.stat_dir(&dir).unwrap().inode);
    let beyond = [&path[..], b"/absent"].concat();
    assert_kind(RealDisk.open_dir(&top, &beyond), ErrorKind::NotFound);
    assert_kind(RealDisk.open_dir(&top, &[b'x'; 256]), ErrorKind::InvalidFilename);
    RealDisk.remove(&found, b"deep").unwrap();
}

#[test]
fn a_held_directory_outlives_its_name_and_the_empty_path_opens_it_again() {
    let temp = tempdir().unwrap();
    let top = root(temp.path());
    RealDisk.make_dir(&top, b"old", 0o700).unwrap();
    let held = RealDisk.open_dir(&top, b"old").unwrap();
    let again = RealDisk.open_dir(&held, b"").unwrap();
    fs::rename(temp.path().join("old"), temp.path().join("new")).unwrap();
    write(&held, b"file", b"1");
    assert_eq!(fs::read(temp.path().join("new/file")).unwrap(), b"1");
    assert_eq!(RealDisk.list(&again).unwrap(), [Listed { name: b"file".to_vec() }]);
    RealDisk.sync_dir(&held).unwrap();
    RealDisk.sync_file_system(&held).unwrap();
}

#[test]
fn all_names_are_listed_as_bytes() {
    let temp = tempdir().unwrap();
    let dir = root(temp.path());
    let odd: [&[u8]; 5] = [b"\xff\xfe", b"new\nline", b"-rf", b"...", &[b'x'; 255]];
    let mut names: Vec<Vec<u8>> = odd.iter().map(|name| name.to_vec()).collect();
    names.extend((0..3000).map(|index| format!("n{index}").into_bytes()));
    for name in &names {
        write(&dir, name, b"");
    }
    names.sort();
    for _ in 0..2 {
        let mut listed: Vec<_> = RealDisk.list(&dir).unwrap().into_iter().map(|listed| listed.name).collect();
        listed.sort();
        assert_eq!(listed, names);
    }
}

#[test]
fn modes_are_exact_under_any_umask() {
    // The umask belongs to the whole process, so another one runs the body below.
    for umask in ["077", "777"] {
        let script = format!("umask {umask} && exec \"$0\" --ignored --exact disk::tests::names::body_of_exact_modes");
        let temp = tempdir().unwrap();
        let mut child = Command::new("sh");
        child.args(["-c", &script]).arg(env::current_exe().unwrap()).env("LANDFALL_TEST_DIR", temp.path());
        let output = child.output().unwrap();
        let shown = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && shown.contains("1 passed"), "{shown}");
    }
}

#[test]
#[ignore = "runs in a child process with a umask of its own"]
fn body_of_exact_modes() {
    let top = std::path::PathBuf::from(env::var_os("LANDFALL_TEST_DIR").unwrap());
    let dir = root(&top);
    for mode in [0o700, 0o755, 0o777, 0o555, 0o000, 0o1777, 0o7751] {
        let name = format!("dir{mode:o}");
        RealDisk.make_dir(&dir, name.as_bytes(), mode).unwrap();
        assert_eq!(mode_of(&top.join(&name)), mode & 0o777, "{mode:o}");
        assert_kind(RealDisk.make_dir(&dir, name.as_bytes(), mode), ErrorKind::AlreadyExists);
        RealDisk.set_mode(&dir, name.as_bytes(), 0o750).unwrap();
        assert_eq!(mode_of(&top.join(&name)), 0o750);
        RealDisk.set_dir_metadata(&RealDisk.open_dir(&dir, name.as_bytes()).unwrap(), mode, EARLY).unwrap();
        assert_eq!(mode_of(&top.join(&name)), mode & 0o777);
        assert_eq!(RealDisk.stat(&dir, name.as_bytes()).unwrap().mtime, EARLY);
        let name = format!("file{mode:o}");
        let file = RealDisk.create_exclusive(&dir, name.as_bytes()).unwrap();
        assert_eq!(mode_of(&top.join(&name)), 0o600);
        file.set_metadata(mode, EARLY).unwrap();
        assert_eq!(file.stat().unwrap().mode, mode & 0o777);
        RealDisk.set_mode(&dir, name.as_bytes(), 0o640).unwrap();
        assert_eq!(mode_of(&top.join(&name)), 0o640);
    }
}

#[test]
fn bits_of_a_directory_beyond_the_permissions_stay() {
    let temp = tempdir().unwrap();
    let dir = root(temp.path());
    fs::create_dir(temp.path().join("shared")).unwrap();
    fs::set_permissions(temp.path().join("shared"), fs::Permissions::from_mode(0o3770)).unwrap();
    RealDisk.set_mode(&dir, b"shared", 0o4755).unwrap();
    assert_eq!(mode_of(&temp.path().join("shared")), 0o3755);
    RealDisk.set_dir_metadata(&RealDisk.open_dir(&dir, b"shared").unwrap(), 0o700, EARLY).unwrap();
    assert_eq!(mode_of(&temp.path().join("shared")), 0o3700);
}

#[test]
fn times_round_trip_to_the_nanosecond_also_before_1970() {
    let temp = tempdir().unwrap();
    let dir = root(temp.path());
    write(&dir, b"file", b"x");
    RealDisk.make_dir(&dir, b"dir", 0o755).unwrap();
    RealDisk.make_symlink(b"file", &dir, b"link").unwrap();
    for time in times() {
        for name in [&b"link"[..], b"file", b"dir"] {
            RealDisk.set_mtime(&dir, name, time).unwrap();
            assert_eq!(RealDisk.stat(&dir, name).unwrap().mtime, time);
        }
        let metadata = fs::metadata(temp.path().join("file")).unwrap();
        assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (time.seconds, time.nanos.into()));
        let held = RealDisk.open_dir(&dir, b"dir").unwrap();
        RealDisk.set_mtime(&dir, b"dir", Timestamp { seconds: 5, nanos: 5 }).unwrap();
        RealDisk.set_dir_metadata(&held, 0o755, time).unwrap();
        assert_eq!(RealDisk.stat_dir(&held).unwrap().mtime, time);
    }
    // To the kernel these two mean "now" and "leave it".
    for nanos in [1_000_000_000, (1 << 30) - 1, (1 << 30) - 2] {
        assert_kind(RealDisk.set_mtime(&dir, b"file", Timestamp { seconds: 1, nanos }), ErrorKind::InvalidInput);
    }
    assert_eq!(RealDisk.stat(&dir, b"file").unwrap().mtime, times()[5]);
}

#[test]
fn renaming_without_replacing_keeps_what_is_there() {
    let temp = tempdir().unwrap();
    let dir = root(temp.path());
    RealDisk.make_dir(&dir, b"to", 0o700).unwrap();
    let to = RealDisk.open_dir(&dir, b"to").unwrap();
    for (index, name) in [&b"a"[..], b"b"].into_iter().enumerate() {
        write(&dir, name, b"new");
        write(&to, name, b"old");
        let rename = [rename_in_one_step, link_and_unlink][index];
        assert_kind(rename(&dir, name, &to, name), ErrorKind::AlreadyExists);
        assert_eq!((read(&dir, name), read(&to, name)), (b"new".to_vec(), b"old".to_vec()));
        assert_kind(rename(&dir, b"absent", &to, b"c"), ErrorKind::NotFound);
        let inode = RealDisk.stat(&dir, name).unwrap().inode;
        rename(&dir, name, &to, &[name, b"2"].concat()).unwrap();
        let stat = RealDisk.stat(&to, &[name, b"2"].concat()).unwrap();
        assert_eq!((stat.inode, stat.links), (inode, 1));
        assert_kind(RealDisk.stat(&dir, name), ErrorKind::NotFound);
    }
    // A dangling link is something that is there.
    RealDisk.make_symlink(b"nowhere", &to, b"dangling").unwrap();
    write(&dir, b"c", b"new");
    assert_kind(rename_in_one_step(&dir, b"c", &to, b"dangling"), ErrorKind::AlreadyExists);
    assert_kind(link_and_unlink(&dir, b"c", &to, b"dangling"), ErrorKind::AlreadyExists);
    RealDisk.replace(&dir, b"c", &to, b"dangling").unwrap();
    RealDisk.replace(&to, b"dangling", &to, b"a").unwrap();
    assert_eq!(read(&to, b"a"), b"new");
    // A directory into itself is the kernel's EINVAL, not a reason to link.
    assert_kind(rename_in_one_step(&dir, b"to", &to, b"itself"), ErrorKind::InvalidInput);
}

fn rename_in_one_step(
    from: &crate::disk::RealDir,
    name: &[u8],
    to: &crate::disk::RealDir,
    new: &[u8],
) -> std::io::Result<()> {
    RealDisk.rename_noreplace(from, name, to, new)
}

#[test]
fn links_keep_any_target_text_and_removal_asks_for_the_kind() {
    let temp = tempdir().unwrap();
    let dir = root(temp.path());
    let long = vec![b'l'; 1000];
    for (index, target) in [&b"../../etc/passwd"[..], b"/", b"\xff\n", &long].into_iter().enumerate() {
        let name = format!("link{index}").into_bytes();
        RealDisk.make_symlink(target, &dir, &name).unwrap();
        assert_eq!(RealDisk.read_link(&dir, &name).unwrap(), target);
        assert_kind(RealDisk.make_symlink(target, &dir, &name), ErrorKind::AlreadyExists);
        RealDisk.remove(&dir, &name).unwrap();
    }
    RealDisk.make_dir(&dir, b"dir", 0o700).unwrap();
    write(&dir, b"file", b"");
    assert_errno(RealDisk.remove(&dir, b"dir"), EISDIR);
    assert_kind(RealDisk.remove_dir(&dir, b"file"), ErrorKind::NotADirectory);
    assert_kind(RealDisk.read_link(&dir, b"file"), ErrorKind::InvalidInput);
    write(&RealDisk.open_dir(&dir, b"dir").unwrap(), b"x", b"");
    assert_kind(RealDisk.remove_dir(&dir, b"dir"), ErrorKind::DirectoryNotEmpty);
    RealDisk.remove(&RealDisk.open_dir(&dir, b"dir").unwrap(), b"x").unwrap();
    RealDisk.remove_dir(&dir, b"dir").unwrap();
    RealDisk.remove(&dir, b"file").unwrap();
    assert!(RealDisk.list(&dir).unwrap().is_empty());
}

#[test]
fn a_directory_that_may_not_be_read_is_still_a_way_to_what_is_in_it() {
    let temp = tempdir().unwrap();
    let dir = root(temp.path());
    RealDisk.make_dir(&dir, b"drop", 0o300).unwrap();
    let drop_box = RealDisk.open_dir(&dir, b"drop").unwrap();
    write(&drop_box, b"file", b"x");
    assert_eq!(read(&drop_box, b"file"), b"x");
    assert_eq!(RealDisk.stat_dir(&drop_box).unwrap().mode, 0o300);
    if !is_privileged() {
        assert_errno(RealDisk.list(&drop_box), EACCES);
        assert_errno(RealDisk.sync_dir(&drop_box), EACCES);
        assert_errno(RealDisk.sync_file_system(&drop_box), EACCES);
    }
    RealDisk.set_dir_metadata(&drop_box, 0o500, EARLY).unwrap();
    let stat = RealDisk.stat(&dir, b"drop").unwrap();
    assert_eq!((stat.mode, stat.mtime), (0o500, EARLY));
    // The descriptor is the old one, but the mode now lets it be read.
    assert_eq!(RealDisk.list(&drop_box).unwrap().len(), 1);
    RealDisk.sync_dir(&drop_box).unwrap();
    RealDisk.set_mode(&dir, b"drop", 0o700).unwrap();
}

#[test]
fn free_space_and_volatility_are_the_file_systems_own() {
    let temp = tempdir().unwrap();
    let space = RealDisk.space(&root(temp.path())).unwrap();
    let oracle = rustix::fs::statvfs(temp.path()).unwrap();
    assert_eq!(space.bytes_total, oracle.f_blocks * oracle.f_frsize);
    assert!(space.bytes_free <= space.bytes_total);
    assert_eq!(space.inodes_free.is_some(), oracle.f_files > 0);
    if let Ok(memory) = RealDisk::open_root(Path::new("/dev/shm")) {
        let space = RealDisk.space(&memory).unwrap();
        assert!(space.is_volatile && !space.is_syncfs_good);
    }
    let proc = RealDisk.space(&root(Path::new("/proc"))).unwrap();
    assert_eq!((proc.inodes_free, proc.is_volatile, proc.is_syncfs_good), (None, false, false));
}

#[test]
fn attributes_that_somebody_set_are_noticed_on_the_name_itself() {
    let temp = tempdir().unwrap();
    let dir = root(temp.path());
    for name in [&b"file"[..], b"acl", b"many", b"bare"] {
        write(&dir, name, b"");
    }
    RealDisk.make_symlink(b"file", &dir, b"link").unwrap();
    let path = |name: &str| temp.path().join(name);
    if rustix::fs::setxattr(path("file"), "user.note", b"1", XattrFlags::CREATE).is_err() {
        assert!(!RealDisk.has_extended_attributes(&dir, b"file"));
        return;
    }
    for index in 0..20 {
        let name = format!("user.{index}{}", "n".repeat(100));
        // On the smallest blocks not all of them fit.
        if let Err(errno) = rustix::fs::setxattr(path("many"), name, b"1", XattrFlags::CREATE) {
            assert!(errno == Errno::NOSPC && index > 0, "{errno}");
        }
    }
    assert!(RealDisk.has_extended_attributes(&dir, b"file"));
    assert!(RealDisk.has_extended_attributes(&dir, b"many"), "more names than fit the first buffer");
    assert!(!RealDisk.has_extended_attributes(&dir, b"bare"));
    assert!(!RealDisk.has_extended_attributes(&dir, b"link"), "links are not followed");
    assert!(!RealDisk.has_extended_attributes(&dir, b"absent"));
    // Version 2; owner rw-, user 1 r--, group r--, mask r--, others ---.
    let entries: [(u16, u16, u32); 5] = [(1, 6, !0), (2, 4, 1), (4, 4, !0), (16, 4, !0), (32, 0, !0)];
    let mut acl = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        acl.extend([&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat());
    }
    rustix::fs::setxattr(path("acl"), "system.posix_acl_access", &acl, XattrFlags::empty()).unwrap();
    assert!(RealDisk.has_extended_attributes(&dir, b"acl"));
}
