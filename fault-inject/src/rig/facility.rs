//! What this machine and this user can do. A test that needs more says so on stderr and stops; it never passes
//! in silence. Owns no judgement about the product.

use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// `statfs` magic of tmpfs: its bytes are never on a device.
const TMPFS_MAGIC: i64 = 0x0102_1994;

/// Is nothing ever denied to this process?
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Says on stderr that a test (or a part of one) did not run, past the capture of the test runner.
pub fn skipped(test: &str, needs: &str) {
    say(&format!("skipped: {test}: needs {needs}"));
}

/// A line on stderr, past the capture of the test runner: a figure that a reader of the run wants to see.
pub fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// `true` where the caller promises an unprivileged user: then a test in which nothing was denied is a failure.
pub fn must_meet_eacces() -> bool {
    std::env::var_os("LANDFALL_TEST_EXPECT_EACCES").is_some_and(|value| value == "1")
}

/// Is reading this path refused with EACCES? Where [`must_meet_eacces`] holds it has to be.
pub fn is_denied(path: &Path) -> bool {
    let result = std::fs::File::open(path);
    let is_denied =
        matches!(&result, Err(error) if error.raw_os_error() == Some(rustix::io::Errno::ACCESS.raw_os_error()));
    assert!(is_denied || !must_meet_eacces(), "{} was to be denied, but: {result:?}", path.display());
    is_denied
}

/// Fails where a denial is promised and this directory without write permission may be written all the same.
pub fn assert_locked(dir: &Path) {
    if !must_meet_eacces() {
        return; // an attempt that succeeds would change the times that the oracle compares
    }
    let attempt = std::fs::write(dir.join("attempt"), "");
    let is_denied = attempt.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
    assert!(is_denied, "writing in {} was to be denied, but: {attempt:?}", dir.display());
}

/// The file system of this path keeps nothing on a device.
pub fn is_tmpfs(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|found| found.f_type == TMPFS_MAGIC)
}

/// A directory on tmpfs where this user may write, if the machine has one.
pub fn tmpfs_dir() -> Option<PathBuf> {
    let candidate = PathBuf::from("/dev/shm");
    (is_tmpfs(&candidate) && rustix::fs::access(&candidate, rustix::fs::Access::WRITE_OK).is_ok()).then_some(candidate)
}

/// Runs a program of the machine; its output on success, a description on failure.
pub fn run(program: &str, arguments: &[&str]) -> Result<Vec<u8>, String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let why = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(format!("{program} {arguments:?}: {}: {why}", output.status))
}

/// An ext4 file system in a file, mounted through a loop device: its platter can be altered below the page cache.
pub struct LoopImage {
    image: PathBuf,
    mount: PathBuf,
}

impl LoopImage {
    /// `None`, with a word on stderr, where the machine or the user cannot do it.
    pub fn mounted(test: &str, below: &Path, size_bytes: u64) -> Option<LoopImage> {
        if !is_root() {
            skipped(test, "root, to mount a loop image");
            return None;
        }
        let image = below.join("platter.img");
        let mount = below.join("mounted");
        std::fs::create_dir(&mount).unwrap();
        std::fs::File::create(&image).unwrap().set_len(size_bytes).unwrap();
        let image_text = image.to_str().expect("scratch paths are ASCII");
        let mount_text = mount.to_str().expect("scratch paths are ASCII");
        let made = run("mkfs.ext4", &["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", image_text])
            .and_then(|_| run("mount", &["-o", "loop", image_text, mount_text]));
        if let Err(why) = made {
            skipped(test, &format!("a loop device and ext4 ({why})"));
            return None;
        }
        Some(LoopImage { image, mount })
    }

    /// Mounts an image that is there already, its journal replayed as after a power cut.
    pub fn of(image: PathBuf, mount: PathBuf) -> Result<LoopImage, String> {
        let text = |path: &Path| path.to_str().map(str::to_owned).ok_or("scratch paths are ASCII");
        run("mount", &["-o", "loop", &text(&image)?, &text(&mount)?])?;
        Ok(LoopImage { image, mount })
    }

    /// The file that holds it.
    pub fn image(&self) -> &Path {
        &self.image
    }

    /// Writes that its device has completed so far; `None` where the system does not tell.
    pub fn writes(&self) -> Option<u64> {
        let device = run("losetup", &["-n", "-O", "NAME", "-j", self.image.to_str()?]).ok()?;
        let device = String::from_utf8(device).ok()?;
        let stat = Path::new("/sys/block").join(Path::new(device.trim()).file_name()?).join("stat");
        std::fs::read_to_string(stat).ok()?.split_whitespace().nth(4)?.parse().ok()
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mount
    }

    /// Fills it up but for so many bytes. Gives the file that takes the room.
    pub fn fill_but(&self, free_bytes: u64) -> PathBuf {
        use std::io::Write;
        let path = self.mount.join("ballast");
        let mut file = std::fs::File::create(&path).unwrap();
        while file.write_all(&[1; 64 << 10]).is_ok() {}
        file.sync_all().unwrap();
        file.set_len(file.metadata().unwrap().len() - free_bytes).unwrap();
        file.sync_all().unwrap();
        path
    }

    /// Flips one bit of the first occurrence of `needle` on the platter, below this mount's page cache. Returns the
    /// number of occurrences that were flipped: 0 means that the bytes have not reached the device yet.
    pub fn flip_on_platter(&self, needle: &[u8]) -> usize {
        use std::os::unix::fs::FileExt;
        let file = std::fs::OpenOptions::new().read(true).write(true).open(&self.image).unwrap();
        let size_bytes = file.metadata().unwrap().len();
        let mut block = vec![0u8; 1 << 20];
        let mut flipped = 0;
        let mut at = 0;
        while at < size_bytes {
            let got = file.read_at(&mut block, at).unwrap();
            if got == 0 {
                break;
            }
            for start in (0..got.saturating_sub(needle.len() - 1)).step_by(512) {
                if &block[start..start + needle.len()] == needle {
                    file.write_all_at(&[block[start] ^ 1], at + start as u64).unwrap();
                    flipped += 1;
                }
            }
            at += got as u64;
        }
        file.sync_all().unwrap();
        flipped
    }
}

impl Drop for LoopImage {
    fn drop(&mut self) {
        let text = self.mount.to_str().expect("scratch paths are ASCII");
        let first = run("umount", &[text]);
        if first.is_err() {
            let _ = run("umount", &["-l", text]);
        }
    }
}

/// Shows a name from the file system in a message: only printable ASCII stays as it is.
pub fn shown(name: &[u8]) -> String {
    name.escape_ascii().to_string()
}

/// Like [`shown`] for a path.
pub fn shown_path(path: &Path) -> String {
    shown(path.as_os_str().as_bytes())
}

/// Whether this process ignores a signal, and with it every process that it starts: `nohup` does that.
pub fn is_ignored(signal: rustix::process::Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    u64::from_str_radix(mask.trim(), 16).unwrap() >> (signal.as_raw() - 1) & 1 == 1
}

/// Whether a program was built after the last change of the product's sources.
pub fn is_newer_than_sources(program: &Path) -> bool {
    let changed = |path: &Path| path.metadata().and_then(|found| found.modified()).ok();
    let Some(built) = changed(program) else { return false };
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let mut open = vec![root.join("src"), root.join("Cargo.toml"), root.join("Cargo.lock")];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        } else if changed(&path).is_none_or(|changed| changed > built) {
            return false;
        }
    }
    true
}
