//! A directory of its own for each test, on a file system that has a device below it, removed at the end whatever
//! modes and depths the test made.

use std::path::{Path, PathBuf};

use super::{facility, held, process};

/// A scratch directory. `LANDFALL_TEST_KEEP=1` keeps it when the test fails.
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// In `LANDFALL_TEST_DIR`, else in the first of the usual places that is not tmpfs and may be written.
    pub fn new(test: &str) -> Scratch {
        let chosen = std::env::var_os("LANDFALL_TEST_DIR").map(PathBuf::from);
        let beside = process::built("").parent().map_or_else(PathBuf::new, PathBuf::from);
        let usual = [std::env::temp_dir(), PathBuf::from("/var/tmp"), beside];
        let is_good =
            |dir: &PathBuf| !facility::is_tmpfs(dir) && rustix::fs::access(dir, rustix::fs::Access::WRITE_OK).is_ok();
        let below = chosen.or_else(|| usual.into_iter().find(is_good));
        let below = below.expect("no writable directory outside tmpfs: set LANDFALL_TEST_DIR to one");
        let made = tempfile::Builder::new().prefix(&format!("landfall-{test}-")).tempdir_in(&below).unwrap();
        Scratch { path: made.keep() }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path in it; nothing is made.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A new directory in it.
    pub fn dir(&self, name: &str) -> PathBuf {
        let path = self.path.join(name);
        std::fs::create_dir(&path).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::thread::panicking() && std::env::var_os("LANDFALL_TEST_KEEP").is_some() {
            facility::say(&format!("kept for a look: {}", self.path.display()));
            return;
        }
        held::remove_all_below(&held::open_dir(&self.path));
        let _ = std::fs::remove_dir(&self.path);
    }
}
