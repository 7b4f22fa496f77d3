//! M2: ext4 on a thin disk that runs full. The first fsync fails, a later one succeeds, and the data are gone.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::stage::{self, Stop};
use super::{Mark, Teller};
use crate::rig::facility::{self, LoopImage};
use crate::rig::oracle;
use crate::rig::scratch::Scratch;

/// What is written; more than the thin disk has.
const FILE_BYTES: usize = 20 << 20;
/// What the thin disk has.
const THIN: &str = "size=14m";

/// A small tmpfs that holds a sparse image: a thin-provisioned disk.
struct Thin {
    image: Option<LoopImage>,
    below: PathBuf,
}

impl Thin {
    fn new(scratch: &Scratch, name: &str) -> Result<Thin, Stop> {
        if !facility::is_root() {
            return Err(Stop::Missing("root, to mount a loop image".to_owned()));
        }
        let below = scratch.dir(name);
        facility::run("mount", &["-t", "tmpfs", "-o", THIN, "tmpfs", stage::text(&below)?]).map_err(Stop::Missing)?;
        let mut thin = Thin { image: None, below };
        thin.image = Some(stage::loop_image(&thin.below, 64 << 20)?);
        Ok(thin)
    }

    fn path(&self) -> &Path {
        self.image.as_ref().map_or(&self.below, |image| image.path())
    }
}

impl Drop for Thin {
    fn drop(&mut self) {
        self.image = None;
        if let Some(Err(why)) = self.below.to_str().map(|below| facility::run("umount", &[below])) {
            facility::say(&why);
        }
    }
}

pub(super) fn tell(seed: u64, teller: &mut Teller<'_>) -> Result<(), Stop> {
    let scratch = Scratch::new("fsyncgate");
    let (source, bytes) = stage::source(&scratch, seed, FILE_BYTES)?;
    naive(&scratch, &bytes, teller)?;
    others(&scratch, &source, &bytes, teller)?;
    let thin = Thin::new(&scratch, "third")?;
    let target = thin.path().join("target");
    let done = stage::land(&scratch, "run", &source, &target, &["--reserve", "0"]);
    let is_refused = done.sender.code() != Some(0) && done.receiver.code() != Some(0);
    let says = format!("exit {:?}: not acknowledged", done.sender.code().unwrap_or(-1));
    teller.landfall("landfall send", if is_refused { &says } else { "\"all is well\"" }, is_refused);
    let is_published = target.join("source/file").exists();
    teller.landfall("its final name", if is_published { "is there" } else { "does not exist" }, !is_published);
    drop(thin);
    let roomy = scratch.join("roomy");
    let done = stage::land(&scratch, "roomy-run", &source, &roomy, &[]);
    let found = oracle::differences(
        &oracle::snapshot(&source),
        &oracle::snapshot(&roomy.join("source")),
        &oracle::Rules::default(),
    );
    let is_right = done.sender.code() == Some(0) && found.is_empty();
    teller.landfall("landfall send, to a disk with room", if is_right { "exit 0, equal" } else { "failed" }, is_right);
    Ok(())
}

/// A program that tries fsync until it works, and then reads back.
fn naive(scratch: &Scratch, bytes: &[u8], teller: &mut Teller<'_>) -> Result<(), Stop> {
    let thin = Thin::new(scratch, "first")?;
    teller.step("ext4 of 64 MB on a thin disk of 14 MB", "mounted");
    let path = thin.path().join("file");
    let file = File::create(&path)?;
    file.write_all_at(bytes, 0)?;
    teller.step("write 20 MiB", "ok");
    let mut has_worked = false;
    for attempt in 1..=5 {
        let synced = file.sync_all();
        has_worked = synced.is_ok();
        let says = synced.map_or_else(|error| error.to_string(), |()| "ok: \"it is on the disk\"".to_owned());
        teller.line(&format!("fsync, attempt {attempt}"), &says, if has_worked { Mark::Fooled } else { Mark::Step });
        if has_worked {
            break;
        }
    }
    if !has_worked {
        teller.step("this kernel never says that it works", "no lie to show");
    }
    let mut held = vec![0; bytes.len()];
    let is_read = File::open(&path).and_then(|file| file.read_exact_at(&mut held, 0)).is_ok();
    teller.check("read it back", is_read && held == bytes, false);
    let is_there = stage::read_dropped(&path).is_ok_and(|found| found == bytes);
    teller.check("drop the pages and read", is_there, false);
    Ok(())
}

fn others(scratch: &Scratch, source: &Path, bytes: &[u8], teller: &mut Teller<'_>) -> Result<(), Stop> {
    for (name, program) in [("rsync -a", vec!["rsync", "-a"]), ("cp -a", vec!["cp", "-a"]), ("scp", vec!["scp", "-q"])]
    {
        let thin = Thin::new(scratch, &format!("other-{}", program[0]))?;
        let from = source.join("file");
        let to = thin.path().join("file");
        let mut line = program.clone();
        line.extend([stage::text(&from)?, stage::text(&to)?]);
        let Some(says_well) = stage::program(&line)? else { continue };
        let synced = facility::run("sync", &["-f", stage::text(thin.path())?]);
        let is_there = synced.is_ok() && fs::exists(&to)? && stage::read_dropped(&to).is_ok_and(|found| found == bytes);
        teller.check(&format!("{name}: its exit code"), says_well, is_there);
    }
    Ok(())
}
