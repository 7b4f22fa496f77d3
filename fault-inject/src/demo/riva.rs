//! M1: a bit flips below the page cache. Every read-back through the cache says that all is well.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::Teller;
use super::stage::{self, FILE_BYTES, Stop};
use crate::rig::facility::LoopImage;
use crate::rig::process::Landfall;
use crate::rig::scratch::Scratch;
use crate::rig::state;

/// Where the flipped bit is, in bytes.
const AT: usize = 1 << 20;

pub(super) fn tell(seed: u64, teller: &mut Teller<'_>) -> Result<(), Stop> {
    let scratch = Scratch::new("riva");
    let image = stage::loop_image(scratch.path(), 64 << 20)?;
    let (source, bytes) = stage::source(&scratch, seed, FILE_BYTES)?;
    let path = image.path().join("file");
    stage::write_durably(&path, &bytes)?;
    teller.step("write 4 MiB on ext4, fsync file and directory", "ok");
    flip(&image, &bytes, teller)?;
    read_back(&path, &bytes, teller)?;
    others(&image, &source, &bytes, teller)?;
    landfall(&scratch, &image, &source, &bytes, teller)
}

fn flip(image: &LoopImage, bytes: &[u8], teller: &mut Teller<'_>) -> Result<(), Stop> {
    match image.flip_on_platter(&bytes[AT..AT + 512]) {
        0 => Err(Stop::Broken("the sector was not found on the platter".to_owned())),
        count => {
            teller.step("flip one bit on the platter (the image)", &format!("in {count} sector"));
            Ok(())
        }
    }
}

fn read_back(path: &Path, bytes: &[u8], teller: &mut Teller<'_>) -> Result<(), Stop> {
    let file = fs::OpenOptions::new().read(true).write(true).open(path)?;
    let mut held = vec![0; bytes.len()];
    file.read_exact_at(&mut held, 0)?;
    teller.check("read it back", held == bytes, false);
    teller.check("close, open and read again", fs::read(path)? == bytes, false);
    file.sync_all()?;
    teller.check("fsync once more and read", fs::read(path)? == bytes, false);
    teller.check("read past the cache (O_DIRECT)", stage::read_direct(path)? == bytes, false);
    teller.check("plain read after that", fs::read(path)? == bytes, false);
    teller.check("drop the pages (fadvise) and read", stage::read_dropped(path)? == bytes, false);
    Ok(())
}

fn others(image: &LoopImage, source: &Path, bytes: &[u8], teller: &mut Teller<'_>) -> Result<(), Stop> {
    let to = image.path().join("copied");
    let from = format!("{}/", source.display());
    if stage::program(&["rsync", "-a", "--fsync", &from, stage::text(&to)?])? != Some(true) {
        teller.step("rsync", "not installed here, or without --fsync");
        return Ok(());
    }
    File::open(&to)?.sync_all()?;
    flip(image, bytes, teller)?;
    if let Some(says_well) = stage::rsync_sees_no_difference(source, &to)? {
        teller.check("rsync --checksum, a second pass", says_well, false);
    }
    let (ours, theirs) = (source.join("file"), to.join("file"));
    if let Some(says_well) = stage::program(&["cmp", stage::text(&ours)?, stage::text(&theirs)?])? {
        teller.check("cmp", says_well, false);
    }
    fs::remove_dir_all(&to)?;
    Ok(())
}

fn landfall(
    scratch: &Scratch,
    image: &LoopImage,
    source: &Path,
    bytes: &[u8],
    teller: &mut Teller<'_>,
) -> Result<(), Stop> {
    // Sectors of the earlier copies are no part of this.
    fs::remove_file(image.path().join("file"))?;
    let target = image.path().join("target");
    let setup = stage::transfer(scratch, "run", source, &target, &[]);
    let done = setup.run();
    let level = done.receiver.summary().and_then(|summary| summary["level"].as_str().map(str::to_owned));
    let is_done = done.sender.code() == Some(0);
    teller.landfall("landfall send", &format!("exit 0, read back from the {}", level.unwrap_or_default()), is_done);
    flip(image, bytes, teller)?;
    let receipts = state::receipts(&setup.receiver_home);
    let receipt = receipts.first().ok_or_else(|| Stop::Broken("landfall left no receipt".to_owned()))?;
    let command = Landfall::new("verify", &setup.receiver_home).arg("verify").arg(receipt).arg(&target);
    let verified = command.run();
    let has_found = verified.code() == Some(1) && verified.text().contains("file");
    teller.landfall("landfall verify", if has_found { "damage found" } else { "\"all is well\"" }, has_found);
    let is_repaired = {
        let options = ["--existing", "replace"];
        let again = stage::land(scratch, "again", source, &target, &options);
        again.sender.code() == Some(0) && stage::read_direct(&target.join("source/file"))? == bytes
    };
    teller.landfall(
        "landfall send, once more",
        if is_repaired { "repaired on the platter" } else { "not repaired" },
        is_repaired,
    );
    Ok(())
}
