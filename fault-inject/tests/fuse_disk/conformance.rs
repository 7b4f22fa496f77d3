//! Without faults the mount is like the file system below it: the same operations give the same results.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use fault_inject::fuse_disk::Cache;
use fault_inject::rig::oracle;
use fault_inject::rig::tree::mtime_only;
use fault_inject::rig::trees;
use rustix::fs::{AtFlags, CWD, FallocateFlags, RenameFlags};

use super::{bytes, rig, sync_dir};

/// What an operation came to, in words that two file systems must agree on.
fn word<T>(result: std::io::Result<T>) -> String {
    match result {
        Ok(_) => "ok".to_owned(),
        Err(error) => format!("{:?}", error.raw_os_error()),
    }
}

/// Many operations, good and refused ones, in one directory; their results and what they saw.
fn exercise(root: &Path) -> Vec<String> {
    let mut said = vec![];
    names(root, &mut said);
    contents(root, &mut said);
    attributes(root, &mut said);
    said
}

fn names(root: &Path, said: &mut Vec<String>) {
    let at = |name: &str| root.join(name);
    let exclusive = |name: &str| OpenOptions::new().write(true).create_new(true).open(at(name));
    let rename = |from: &str, to: &str, flags| {
        rustix::fs::renameat_with(CWD, at(from), CWD, at(to), flags).map_err(std::io::Error::from)
    };
    said.push(word(exclusive("one")));
    said.push(word(exclusive("one")));
    said.push(word(fs::create_dir(at("dir"))));
    said.push(word(fs::create_dir(at("dir"))));
    said.push(word(fs::create_dir(at("no/such"))));
    said.push(word(fs::write(at("dir/below"), "below")));
    said.push(word(fs::remove_dir(at("dir"))));
    said.push(word(fs::remove_file(at("dir"))));
    said.push(word(fs::remove_dir(at("one"))));
    said.push(word(fs::remove_file(at("nothing"))));
    said.push(word(fs::hard_link(at("one"), at("two"))));
    said.push(word(fs::hard_link(at("one"), at("two"))));
    said.push(fs::metadata(at("one")).unwrap().nlink().to_string());
    said.push((fs::metadata(at("one")).unwrap().ino() == fs::metadata(at("two")).unwrap().ino()).to_string());
    said.push(word(fs::write(at("three"), "three")));
    said.push(word(rename("three", "one", RenameFlags::NOREPLACE)));
    said.push(word(rename("three", "four", RenameFlags::NOREPLACE)));
    said.push(word(rename("four", "one", RenameFlags::empty())));
    said.push(word(rename("one", "dir", RenameFlags::empty())));
    said.push(word(rename("dir", "one", RenameFlags::empty())));
    said.push(word(rename("one", "two", RenameFlags::EXCHANGE)));
    said.push(fs::read_to_string(at("two")).unwrap());
    said.push(fs::metadata(at("one")).unwrap().nlink().to_string());
    said.push(word(std::os::unix::fs::symlink("dir/below", at("link"))));
    said.push(format!("{:?}", fs::read_link(at("link"))));
    said.push(fs::read_to_string(at("link")).unwrap());
    said.push(word(File::create(at("link-to-nowhere/x"))));
    said.push(word(fs::write(at(&"n".repeat(256)), "too long")));
    let gone = OpenOptions::new().read(true).write(true).create_new(true).open(at("gone")).unwrap();
    gone.write_all_at(b"still here", 0).unwrap();
    fs::remove_file(at("gone")).unwrap();
    let mut text = [0; 10];
    said.push(word(gone.read_exact_at(&mut text, 0)) + std::str::from_utf8(&text).unwrap());
    said.push(gone.metadata().unwrap().nlink().to_string());
    said.push(word(sync_dir(&at("dir"))));
    let mut listed: Vec<_> = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    listed.sort();
    said.push(format!("{listed:?}"));
}

fn contents(root: &Path, said: &mut Vec<String>) {
    let path = root.join("contents");
    let mut file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
    let hash = |file: &File, said: &mut Vec<String>| {
        let mut all = vec![];
        let mut reader = file;
        reader.seek(SeekFrom::Start(0)).unwrap();
        reader.read_to_end(&mut all).unwrap();
        said.push(format!("{} {}", all.len(), blake3::hash(&all)));
    };
    for (offset, len, is_synced) in
        [(0, 10, true), (5000, 3, false), (4090, 12, false), (1 << 20, 70_000, true), (100, 300_000, false)]
    {
        file.write_all_at(&bytes(len, offset), offset).unwrap();
        if is_synced {
            file.sync_data().unwrap();
        }
        hash(&file, said);
    }
    for size in [200_000, 900_001, 77, 0, 8192] {
        file.set_len(size).unwrap();
        hash(&file, said);
    }
    file.write_all_at(&bytes(100_000, 1), 0).unwrap();
    said.push(is_still_after_a_sync(&file));
    file.sync_all().unwrap();
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    said.push(word(rustix::fs::fallocate(&file, punch, 5000, 20_000).map_err(Into::into)));
    hash(&file, said);
    said.push(word(rustix::fs::fallocate(&file, FallocateFlags::KEEP_SIZE, 0, 500_000).map_err(Into::into)));
    hash(&file, said);
    said.push(word(rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, 150_000).map_err(Into::into)));
    hash(&file, said);
    let mut appender = OpenOptions::new().append(true).open(&path).unwrap();
    appender.write_all(b"appended").unwrap();
    hash(&file, said);
    file.write_all(b"at the end").unwrap();
    hash(&file, said);
    drop(OpenOptions::new().write(true).truncate(true).open(&path).unwrap());
    hash(&file, said);
    let direct =
        OpenOptions::new().read(true).custom_flags(rustix::fs::OFlags::DIRECT.bits().cast_signed()).open(&path);
    said.push(word(direct));
}

/// A sync is no change: neither time moves.
fn is_still_after_a_sync(file: &File) -> String {
    let before = file.metadata().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(20));
    file.sync_all().unwrap();
    let after = file.metadata().unwrap();
    let times = |found: &fs::Metadata| (found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec());
    (times(&before) == times(&after)).to_string()
}

fn attributes(root: &Path, said: &mut Vec<String>) {
    let path = root.join("attributes");
    fs::write(&path, "x").unwrap();
    for mode in [0o600, 0o444, 0o755, 0o000, 0o640] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        said.push(format!("{:o}", fs::metadata(&path).unwrap().mode()));
    }
    for (seconds, nanos) in [(0, 0), (-1, 999_999_999), (-2_000_000_000, 1), (1_234_567_890, 987_654_321)] {
        rustix::fs::utimensat(CWD, &path, &mtime_only(seconds, nanos), AtFlags::SYMLINK_NOFOLLOW).unwrap();
        let found = fs::metadata(&path).unwrap();
        said.push(format!("{} {}", found.mtime(), found.mtime_nsec()));
        File::open(&path).unwrap().sync_all().unwrap();
        let found = fs::metadata(&path).unwrap();
        said.push(format!("{} {} after a sync", found.mtime(), found.mtime_nsec()));
    }
    std::os::unix::fs::symlink("somewhere", root.join("dated")).unwrap();
    rustix::fs::utimensat(CWD, root.join("dated"), &mtime_only(5, 6), AtFlags::SYMLINK_NOFOLLOW).unwrap();
    let found = fs::symlink_metadata(root.join("dated")).unwrap();
    said.push(format!("{} {}", found.mtime(), found.mtime_nsec()));
}

#[test]
fn operations_give_what_the_file_system_below_gives() {
    for cache in [Cache::Kept, Cache::Never] {
        let Some(rig) = rig("operations_give_what_the_file_system_below_gives", &[], cache) else { return };
        let plain = rig._scratch.dir("plain");
        let (expected, found) = (exercise(&plain), exercise(&rig.mount));
        assert_eq!(found, expected);
        rig.disk.unmount().unwrap();
        let found = oracle::differences(&names_of(&plain), &names_of(&rig.backing), &oracle::Rules::default());
        assert!(found.is_empty(), "{found:?}");
    }
}

/// A snapshot without times of what the test did not date itself.
fn names_of(root: &Path) -> oracle::Snapshot {
    let mut found = oracle::snapshot(root);
    for (path, node) in &mut found {
        if path != b"attributes" {
            node.mtime = (0, 0);
        }
    }
    found
}

#[test]
fn whole_trees_come_through_unchanged_by_cp_and_rsync() {
    let Some(rig) = rig("whole_trees_come_through_unchanged_by_cp_and_rsync", &[], Cache::Kept) else { return };
    let trees = rig._scratch.dir("trees");
    trees::medley(&trees.join("medley"), 3);
    trees::times(&trees.join("times"), 3);
    trees::names(&trees.join("names"), 3);
    trees::modes(&trees.join("modes"), 3);
    // rsync takes times within one second as equal unless told otherwise.
    for (program, options) in [("cp", "-a"), ("rsync", "-a --modify-window=-1")] {
        let into = rig.mount.join(program);
        let Ok(done) = Command::new(program).args(options.split(' ')).arg(&trees).arg(&into).output() else {
            fault_inject::rig::facility::skipped("a copy onto the lying disk", program);
            continue;
        };
        assert!(done.status.success(), "{program}: {}", String::from_utf8_lossy(&done.stderr));
    }
    let source = oracle::snapshot(&trees);
    let check = |at: &Path, when: &str| {
        let found = oracle::differences(&source, &oracle::snapshot(at), &oracle::Rules::default());
        assert!(found.is_empty(), "{when}: {}", oracle::in_lines(&found));
    };
    let copies = ["cp", "rsync/trees"];
    for copy in copies.iter().filter(|copy| rig.mount.join(copy).exists()) {
        check(&rig.mount.join(copy), "through the mount");
    }
    rig.disk.unmount().unwrap();
    let listed: Vec<_> = fs::read_dir(&rig.backing).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(listed.iter().all(|name| name != OsStr::new(".fault-inject-attic")), "{listed:?}");
    for copy in copies.iter().filter(|copy| rig.backing.join(copy).exists()) {
        check(&rig.backing.join(copy), "on the platter");
    }
}
