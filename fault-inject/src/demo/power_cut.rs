//! M3: the power goes, on real ext4. The image is copied while it is mounted, as the platter is at that moment, and the
//! copy is mounted: its journal is replayed as after a reboot.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::stage::{self, FILE_BYTES, Stop};
use super::{Mark, Teller};
use crate::rig::facility::{self, LoopImage};
use crate::rig::oracle;
use crate::rig::scratch::Scratch;

/// A step of a careless or careful program.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Write,
    Sync,
    Rename,
    SyncDirectory,
    SyncAnother,
}

/// Programs, by what they do before they say "done".
const PROGRAMS: [(&str, &[Step]); 5] = [
    ("write, rename", &[Step::Write, Step::Rename]),
    ("write, rename, others fsync", &[Step::Write, Step::Rename, Step::SyncAnother]),
    ("write, rename, fsync(dir)", &[Step::Write, Step::Rename, Step::SyncDirectory]),
    ("write, fsync, rename", &[Step::Write, Step::Sync, Step::Rename]),
    ("write, fsync, rename, fsync(dir)", &[Step::Write, Step::Sync, Step::Rename, Step::SyncDirectory]),
];

pub(super) fn tell(seed: u64, teller: &mut Teller<'_>) -> Result<(), Stop> {
    let scratch = Scratch::new("powercut");
    let (source, bytes) = stage::source(&scratch, seed, FILE_BYTES)?;
    teller.step("after \"done\" the power goes at once; after the reboot:", "");
    for (number, (name, steps)) in PROGRAMS.iter().enumerate() {
        let stage_dir = scratch.dir(&format!("program-{number}"));
        let image = stage::loop_image(&stage_dir, 64 << 20)?;
        run(image.path(), &bytes, steps)?;
        let says = after_reboot(&image, &stage_dir, Path::new("final"), &bytes)?;
        let mark = if says == WHOLE { Mark::Right } else { Mark::Fooled };
        teller.line(name, &says, mark);
    }
    for (name, program) in [("rsync -a", vec!["rsync", "-a"]), ("cp -a", vec!["cp", "-a"]), ("scp", vec!["scp", "-q"])]
    {
        let stage_dir = scratch.dir(&format!("other-{}", program[0]));
        let image = stage::loop_image(&stage_dir, 64 << 20)?;
        let (from, to) = (source.join("file"), image.path().join("final"));
        let mut line = program.clone();
        line.extend([stage::text(&from)?, stage::text(&to)?]);
        if stage::program(&line)? != Some(true) {
            continue;
        }
        let says = after_reboot(&image, &stage_dir, Path::new("final"), &bytes)?;
        teller.line(&format!("{name}, exit 0"), &says, if says == WHOLE { Mark::Right } else { Mark::Fooled });
    }
    landfall(&scratch, &source, teller)
}

const WHOLE: &str = "complete";

fn run(dir: &Path, bytes: &[u8], steps: &[Step]) -> Result<(), Stop> {
    let (draft, last) = (dir.join("draft"), dir.join("final"));
    let file = File::create(&draft)?;
    for step in steps {
        match step {
            Step::Write => file.write_all_at(bytes, 0)?,
            Step::Sync => file.sync_all()?,
            Step::Rename => fs::rename(&draft, &last)?,
            Step::SyncDirectory => File::open(dir)?.sync_all()?,
            Step::SyncAnother => {
                let another = File::create(dir.join("another"))?;
                another.write_all_at(b"x", 0)?;
                another.sync_all()?;
            }
        }
    }
    Ok(())
}

/// What a file is after the reboot, in words.
fn after_reboot(image: &LoopImage, stage_dir: &Path, path: &Path, bytes: &[u8]) -> Result<String, Stop> {
    let copy = Copy::of(image, stage_dir)?;
    Ok(match fs::read(copy.path().join(path)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => "absent".to_owned(),
        Err(error) => error.to_string(),
        Ok(found) if found == bytes => WHOLE.to_owned(),
        Ok(found) if found.is_empty() => "there, with 0 bytes".to_owned(),
        Ok(found) => format!("there, {} bytes, and wrong", found.len()),
    })
}

/// A copy of a live image, mounted.
struct Copy {
    mount: std::path::PathBuf,
}

impl Copy {
    fn of(image: &LoopImage, stage_dir: &Path) -> Result<Copy, Stop> {
        let (copied, mount) = (stage_dir.join("copy.img"), stage_dir.join("copy"));
        fs::copy(image.image(), &copied)?;
        fs::create_dir(&mount)?;
        facility::run("mount", &["-o", "loop", stage::text(&copied)?, stage::text(&mount)?])?;
        Ok(Copy { mount })
    }

    fn path(&self) -> &Path {
        &self.mount
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        if let Some(Err(why)) = self.mount.to_str().map(|mount| facility::run("umount", &[mount])) {
            facility::say(&why);
        }
    }
}

fn landfall(scratch: &Scratch, source: &Path, teller: &mut Teller<'_>) -> Result<(), Stop> {
    let stage_dir = scratch.dir("landfall");
    let image = stage::loop_image(&stage_dir, 64 << 20)?;
    let target = image.path().join("target");
    let done = stage::land(scratch, "run", source, &target, &[]);
    if done.sender.code() != Some(0) {
        return Err(Stop::Broken(done.describe()));
    }
    let copy = Copy::of(&image, &stage_dir)?;
    let arrived = copy.path().join("target/source");
    let found = match arrived.exists() {
        true => oracle::differences(&oracle::snapshot(source), &oracle::snapshot(&arrived), &oracle::Rules::default()),
        false => vec!["absent".to_owned()],
    };
    let says = if found.is_empty() { WHOLE.to_owned() } else { found.join("; ") };
    teller.landfall("landfall send, exit 0", &says, found.is_empty());
    Ok(())
}
