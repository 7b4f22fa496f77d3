//! A disk that loses writes, by FUSE: cp and rsync do not see it, nor does a comparison; landfall sends the bytes again.

use std::path::Path;

use super::Teller;
use super::stage::{self, FILE_BYTES, Stop};
use crate::fuse_disk::{Cache, FuseDisk, Kind, mount};
use crate::rig::oracle;
use crate::rig::scratch::Scratch;

/// From the third write of a file on, one in nine is lost.
const FAULT: &str = "write-lost:nth=3,every=9,times=3";

/// The same for landfall, which writes the bytes of files there; its own state files are another story.
const FAULT_OF_DATA: &str = "write-lost:nth=2,times=3,path=staging";

fn disk(scratch: &Scratch, name: &str, seed: u64, fault: &str) -> Result<FuseDisk, Stop> {
    let (at, backing) = (scratch.dir(&format!("{name}-mount")), scratch.dir(&format!("{name}-platter")));
    Ok(FuseDisk::mount(&at, &backing, seed, vec![fault.parse::<crate::fuse_disk::Fault>()?], Cache::Kept)?)
}

pub(super) fn tell(seed: u64, teller: &mut Teller<'_>) -> Result<(), Stop> {
    if let Some(needs) = mount::missing() {
        return Err(Stop::Missing(needs));
    }
    let scratch = Scratch::new("lost");
    let (source, bytes) = stage::source(&scratch, seed, FILE_BYTES)?;
    teller.step("a disk that loses writes and says ok", FAULT);
    let mut nobody = true;
    for (name, program) in [("rsync -a", vec!["rsync", "-a"]), ("cp -a", vec!["cp", "-a"]), ("scp", vec!["scp", "-q"])]
    {
        let disk = disk(&scratch, program[0], seed, FAULT)?;
        let (from, to) = (source.join("file"), disk.path().join("file"));
        let mut line = program.clone();
        line.extend([stage::text(&from)?, stage::text(&to)?]);
        let Some(says_well) = stage::program(&line)? else { continue };
        nobody = false;
        let lost = disk.count(Kind::WriteLost);
        let says_equal = stage::program(&["cmp", stage::text(&from)?, stage::text(&to)?])?;
        disk.with(|state| state.settle())?;
        let is_there = std::fs::read(disk.backing().join("file"))? == bytes;
        teller.check(&format!("{name}: {lost} writes lost; its exit code"), says_well, is_there);
        if let Some(says_equal) = says_equal {
            teller.check("    cmp with the source", says_equal, is_there);
        }
        disk.unmount()?;
    }
    if nobody {
        teller.step("neither rsync nor cp nor scp", "is installed here");
    }
    landfall(&scratch, &source, seed, teller)
}

fn landfall(scratch: &Scratch, source: &Path, seed: u64, teller: &mut Teller<'_>) -> Result<(), Stop> {
    let disk = disk(scratch, "landfall", seed, FAULT_OF_DATA)?;
    let target = disk.path().join("target");
    // The page cache of a FUSE mount cannot be proved empty, only be emptied: hence the word about the level.
    let done = stage::land(scratch, "run", source, &target, &["--accept-level", "requested"]);
    let (lost, found) = (disk.count(Kind::WriteLost), stage::mismatches(&done));
    disk.cut()?;
    let arrived = disk.backing().join("target/source");
    let differs = match arrived.exists() {
        true => oracle::differences(&oracle::snapshot(source), &oracle::snapshot(&arrived), &oracle::Rules::default()),
        false => vec!["nothing arrived".to_owned()],
    };
    let is_right = done.sender.code() == Some(0) && differs.is_empty() && lost > 0;
    let says = format!("{found} found and sent again");
    teller.landfall(&format!("landfall send: {lost} writes lost"), &says, is_right && found > 0);
    let says = if is_right { "equal, after a power cut as well".to_owned() } else { differs.join("; ") };
    teller.landfall("    what is on the platter", &says, is_right);
    Ok(disk.unmount()?)
}
