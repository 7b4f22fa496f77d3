//! The line that every run begins with: without the machine, its file system, the version and the seed, a figure says
//! nothing.

use std::path::Path;

/// Cores, processor, memory, kernel, the file system of `work`, version and seed, in one line.
pub fn line(work: &Path, seed: u64) -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let system = rustix::system::uname();
    let memory_gib = field("/proc/meminfo", "MemTotal").map_or(0, |text| kib(&text) >> 20);
    let processor = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "processor not named".to_owned());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let file_system = file_system(&mounts, work).unwrap_or_else(|| "file system not known".to_owned());
    format!(
        "machine: {cores} cores ({processor}), {memory_gib} GiB, {} {}, {file_system} at {}; landfall {}; seed {seed:#x}",
        system.sysname().to_string_lossy(),
        system.release().to_string_lossy(),
        work.display(),
        env!("CARGO_PKG_VERSION"),
    )
}

/// The first value that a file of `/proc` gives for a name.
fn field(path: &str, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The number in `123 kB`.
fn kib(text: &str) -> u64 {
    text.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// The kind of file system whose mount point is the longest that `path` begins with.
fn file_system(mountinfo: &str, path: &Path) -> Option<String> {
    let mounts = mountinfo.lines().filter_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        Some((mount.split(' ').nth(4)?, kind.split(' ').next()?))
    });
    let over = mounts.filter(|(point, _)| path.starts_with(point));
    over.max_by_key(|(point, _)| point.len()).map(|(_, kind)| kind.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_system_is_that_of_the_longest_mount_point() {
        let mounts = "1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 0:5 / /tmp rw shared:2 - tmpfs none rw\n";
        assert_eq!(file_system(mounts, Path::new("/tmp/x")).as_deref(), Some("tmpfs"));
        assert_eq!(file_system(mounts, Path::new("/tmpx")).as_deref(), Some("ext4"));
        assert_eq!(kib("1048576 kB"), 1 << 20);
    }
}
