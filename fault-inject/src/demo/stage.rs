//! What the stories share: a stage with a file to send, ways to read it back, other programs, and landfall itself.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rand::RngCore;
use rustix::fs::{Advice, OFlags};

use crate::rig::facility::LoopImage;
use crate::rig::process::PATIENT;
use crate::rig::scratch::Scratch;
use crate::rig::transfer::{Done, Listens, Setup};

/// Why a story cannot be told.
pub(super) enum Stop {
    /// This machine or this user lacks something.
    Missing(String),
    /// Something went wrong that is no part of the story.
    Broken(String),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Stop {
        Stop::Broken(error.to_string())
    }
}

impl From<String> for Stop {
    fn from(why: String) -> Stop {
        Stop::Broken(why)
    }
}

/// Bytes of the file that most stories send.
pub(super) const FILE_BYTES: usize = 4 << 20;

/// A loop image with ext4 on it, or what is missing for one.
pub(super) fn loop_image(below: &Path, size_bytes: u64) -> Result<LoopImage, Stop> {
    if !crate::rig::facility::is_root() {
        return Err(Stop::Missing("root, to mount a loop image".to_owned()));
    }
    LoopImage::mounted("demo", below, size_bytes).ok_or_else(|| Stop::Missing("a loop device and ext4".to_owned()))
}

/// A directory `source` with one file of random bytes, and the bytes.
pub(super) fn source(scratch: &Scratch, seed: u64, len: usize) -> io::Result<(PathBuf, Vec<u8>)> {
    let dir = scratch.join("source");
    std::fs::create_dir(&dir)?;
    let mut bytes = vec![0; len];
    crate::rng::stream(seed, "demo").fill_bytes(&mut bytes);
    std::fs::write(dir.join("file"), &bytes)?;
    Ok((dir, bytes))
}

/// Writes, syncs and closes, with the name synced too.
pub(super) fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let file = File::create(path)?;
    file.write_all_at(bytes, 0)?;
    file.sync_all()?;
    File::open(path.parent().unwrap_or(path))?.sync_all()
}

/// Reads past the page cache (O_DIRECT).
pub(super) fn read_direct(path: &Path) -> io::Result<Vec<u8>> {
    const ALIGNMENT: usize = 4096;
    let file = OpenOptions::new().read(true).custom_flags(OFlags::DIRECT.bits().cast_signed()).open(path)?;
    let len = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
    let mut space = vec![0u8; len.next_multiple_of(ALIGNMENT) + ALIGNMENT];
    let start = space.as_ptr().align_offset(ALIGNMENT);
    let end = start + len.next_multiple_of(ALIGNMENT);
    let mut filled = 0;
    while filled < len {
        match file.read_at(&mut space[start + filled..end], filled as u64)? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(space[start..start + filled.min(len)].to_vec())
}

/// Asks the kernel to drop the clean pages of a file, and reads it.
pub(super) fn read_dropped(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    rustix::fs::fadvise(&file, 0, None, Advice::DontNeed)?;
    std::fs::read(path)
}

/// Runs another program; `None` if it is not installed.
pub(super) fn program(line: &[&str]) -> io::Result<Option<bool>> {
    let mut command = Command::new(line[0]);
    command.args(&line[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    match command.status() {
        Ok(status) => Ok(Some(status.success())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether `rsync --checksum` thinks that there is nothing to do; `None` if it is not installed.
pub(super) fn rsync_sees_no_difference(from: &Path, to: &Path) -> io::Result<Option<bool>> {
    let from = format!("{}/", from.display());
    let output =
        Command::new("rsync").args(["-a", "-i", "-n", "--checksum", &from]).arg(to).stdin(Stdio::null()).output();
    match output {
        Ok(output) if output.status.success() => Ok(Some(!String::from_utf8_lossy(&output.stdout).contains(">f"))),
        Ok(output) => Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A path as an argument.
pub(super) fn text(path: &Path) -> Result<&str, Stop> {
    path.to_str().ok_or_else(|| Stop::Broken(format!("{} is not text", path.display())))
}

/// A transfer of `source` into `target` by the shipped program, not started yet.
pub(super) fn transfer(scratch: &Scratch, name: &str, source: &Path, target: &Path, options: &[&str]) -> Setup {
    let mut setup = Setup::new(scratch, name, &[source], Listens::Receiver);
    setup.target = target.to_owned();
    setup.receiver_options = options.iter().map(|option| (*option).to_owned()).collect();
    setup.receiver_options.extend(["--patience", "5s"].map(str::to_owned));
    setup.sender_options = ["--patience", "5s"].map(str::to_owned).to_vec();
    setup
}

/// Runs it to its end.
pub(super) fn land(scratch: &Scratch, name: &str, source: &Path, target: &Path, options: &[&str]) -> Done {
    transfer(scratch, name, source, target, options).start().wait(PATIENT)
}

/// How often the receiver found wrong bytes.
pub(super) fn mismatches(done: &Done) -> usize {
    done.receiver.stdout_text().lines().filter(|line| line.contains("\"event\":\"mismatch\"")).count()
}
