//! The lying disk tells the truth where it is not told to lie, does exactly what each fault says, and loses at a power
//! cut what was not synced and nothing else. What is on the platter is read in BACKING, never through the mount.
#![allow(clippy::unwrap_used)]

#[path = "fuse_disk/conformance.rs"]
mod conformance;
#[path = "fuse_disk/faults.rs"]
mod faults;
#[path = "fuse_disk/power.rs"]
mod power;
#[path = "fuse_disk/transfers.rs"]
mod transfers;

use std::fs::File;
use std::path::PathBuf;

use fault_inject::fuse_disk::{Cache, FuseDisk, mount};
use fault_inject::rig::facility;
use fault_inject::rig::scratch::Scratch;

/// A mounted disk of a test, and its platter.
struct Rig {
    disk: FuseDisk,
    mount: PathBuf,
    backing: PathBuf,
    _scratch: Scratch,
}

/// Mounts a disk with these faults; `None`, with a word on stderr, where FUSE lacks.
fn rig(test: &str, faults: &[&str], cache: Cache) -> Option<Rig> {
    seeded(test, faults, cache, 7)
}

/// The same with a seed of the test's choice.
fn seeded(test: &str, faults: &[&str], cache: Cache, seed: u64) -> Option<Rig> {
    if let Some(needs) = mount::missing() {
        facility::skipped(test, &needs);
        return None;
    }
    let scratch = Scratch::new("fuse");
    let (mount, backing) = (scratch.dir("mount"), scratch.dir("backing"));
    let faults = faults.iter().map(|text| text.parse().unwrap()).collect();
    let disk = FuseDisk::mount(&mount, &backing, seed, faults, cache).unwrap();
    Some(Rig { disk, mount, backing, _scratch: scratch })
}

fn bytes(len: usize, seed: u64) -> Vec<u8> {
    use rand::RngCore;
    let mut bytes = vec![0; len];
    fault_inject::rng::stream(seed, "test").fill_bytes(&mut bytes);
    bytes
}

fn sync_dir(path: &std::path::Path) -> std::io::Result<()> {
    File::open(path)?.sync_all()
}
