//! A power cut takes what was not synced and nothing that was; what it leaves of the rest is chance, and every legal
//! outcome comes up.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use fault_inject::fuse_disk::{Cache, Kind};

use super::{bytes, rig, seeded, sync_dir};

/// What became of one file after a cut, in a word.
fn fate(path: &std::path::Path, wanted: &[u8]) -> &'static str {
    match fs::read(path) {
        Err(_) => "absent",
        Ok(found) if found == wanted => "whole",
        Ok(found) if found.is_empty() => "empty",
        Ok(found) if found.iter().all(|byte| *byte == 0) => "zeros",
        Ok(found) if found.len() == wanted.len() => "mixed",
        Ok(_) => "short",
    }
}

#[test]
fn what_was_synced_survives_every_cut_and_the_rest_by_chance() {
    let test = "what_was_synced_survives_every_cut_and_the_rest_by_chance";
    let (synced, unsynced) = (bytes(50_000, 1), bytes(50_000, 2));
    let mut fates = BTreeSet::new();
    let mut only_names = BTreeSet::new();
    for round in 0..40 {
        let Some(rig) = seeded(test, &[], Cache::Kept, round) else { return };
        let dir = rig.mount.join("dir");
        fs::create_dir(&dir).unwrap();
        let safe = File::create(dir.join("safe")).unwrap();
        safe.write_all_at(&synced, 0).unwrap();
        safe.sync_all().unwrap();
        sync_dir(&dir).unwrap();
        sync_dir(&rig.mount).unwrap();
        for number in 0..=round % 4 {
            fs::write(dir.join(format!("loose-{number}")), &unsynced).unwrap();
        }
        let renamed = File::create(dir.join("new")).unwrap();
        renamed.write_all_at(&unsynced, 0).unwrap();
        fs::rename(dir.join("new"), dir.join("final")).unwrap();
        sync_dir(&dir).unwrap();
        fs::write(dir.join("late"), &unsynced).unwrap();
        rig.disk.cut().unwrap();
        assert_eq!(fs::read(rig.mount.join("dir/safe")).unwrap_err().raw_os_error(), Some(5), "the disk is gone");
        let below = rig.backing.join("dir");
        assert_eq!(fate(&below.join("safe"), &synced), "whole", "what was synced");
        only_names.insert(fate(&below.join("final"), &unsynced));
        fates.insert(fate(&below.join("late"), &unsynced));
    }
    assert!(!only_names.contains("absent"), "its name was synced: {only_names:?}");
    assert!(only_names.contains("empty") && only_names.contains("zeros"), "names without data: {only_names:?}");
    assert!(fates.contains("absent") && fates.len() >= 3, "{fates:?}");
}

#[test]
fn a_cut_takes_renames_and_removals_back() {
    let test = "a_cut_takes_renames_and_removals_back";
    let mut seen = BTreeSet::new();
    for round in 0..24 {
        let Some(rig) = seeded(test, &[], Cache::Kept, round) else { return };
        let (a, b) = (rig.mount.join("a"), rig.mount.join("b"));
        for (path, text) in [(&a, "a"), (&b, "b")] {
            fs::write(path, text).unwrap();
            File::open(path).unwrap().sync_all().unwrap();
        }
        fs::create_dir(rig.mount.join("gone")).unwrap();
        sync_dir(&rig.mount).unwrap();
        for number in 0..round % 4 {
            fs::write(rig.mount.join(format!("{number}")), "").unwrap();
        }
        fs::rename(&a, &b).unwrap();
        fs::remove_dir(rig.mount.join("gone")).unwrap();
        rig.disk.cut().unwrap();
        let read = |name: &str| fs::read_to_string(rig.backing.join(name)).unwrap_or_default();
        let outcome = (read("a"), read("b"), rig.backing.join("gone").exists());
        let legal = [("a", "b", true), ("", "a", true), ("", "a", false)];
        assert!(legal.iter().any(|(a, b, gone)| (*a, *b, *gone) == (&outcome.0, &outcome.1, outcome.2)), "{outcome:?}");
        seen.insert(outcome);
    }
    assert!(seen.len() == 3, "{seen:?}");
}

#[test]
fn after_a_cut_the_disk_boots_with_what_survived() {
    let test = "after_a_cut_the_disk_boots_with_what_survived";
    let Some(mut rig) = rig(test, &["power-cut:nth=3"], Cache::Kept) else { return };
    let path = rig.mount.join("file");
    let file = File::create(&path).unwrap(); // the first change; writing is the second, the sync is the third
    file.write_all_at(b"never synced", 0).unwrap();
    assert_eq!(file.sync_all().unwrap_err().raw_os_error(), Some(5));
    assert_eq!(rig.disk.count(Kind::PowerCut), 1);
    let survived = fs::read(rig.backing.join("file")).ok();
    rig.disk.boot().unwrap();
    assert_eq!(fs::read(&path).ok(), survived, "through the mount as on the platter");
    assert!(file.sync_all().is_err(), "a descriptor of before the cut stays dead");
    fs::write(rig.mount.join("again"), "works").unwrap();
    rig.disk.unmount().unwrap();
    assert_eq!(fs::read_to_string(rig.backing.join("again")).unwrap(), "works");
}
