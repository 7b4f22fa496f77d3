//! The trees that are moved: the same bytes for the same seed, and incompressible but for the toolchain.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use fault_inject::rig::facility;
use fault_inject::rig::tree::{Content, Tree};

/// Files of `mid`, and the size of each.
const MID_FILES: u64 = 16;
const MID_BYTES: u64 = 64 << 20;
/// Size of a file of `small`, and how many of them share a directory.
const SMALL_BYTES: u64 = 4096;
const SMALL_IN_DIRECTORY: u64 = 100;

/// What is moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Load {
    /// One file of 2 GiB.
    Big,
    /// 16 files of 64 MiB.
    Mid,
    /// 20,000 files of 4 KiB, a hundred to a directory.
    Small,
    /// The installed Rust toolchain: many sizes, links.
    Tree,
}

/// Sizes that an option may change.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Sizes {
    /// Size of the file of `big`.
    #[arg(long, default_value_t = 2048)]
    pub big_mib: u64,
    /// Files of `small`.
    #[arg(long, default_value_t = 20_000)]
    pub small_files: u64,
}

impl Load {
    /// As it stands on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Load::Big => "big",
            Load::Mid => "mid",
            Load::Small => "small",
            Load::Tree => "tree",
        }
    }

    /// Making the files is most of the work.
    pub fn has_many_files(self) -> bool {
        matches!(self, Load::Small | Load::Tree)
    }

    /// Makes it below a directory. An error names what is missing.
    pub fn make(self, below: &Path, sizes: Sizes, seed: u64) -> Result<PathBuf, String> {
        let root = below.join(self.name());
        if self == Load::Tree {
            let sysroot = facility::run("rustc", &["--print", "sysroot"])?;
            let sysroot = String::from_utf8_lossy(&sysroot).trim().to_owned();
            facility::run("cp", &["-a", &sysroot, &root.to_string_lossy()])?;
            return Ok(root);
        }
        let mut tree = Tree::new(&root, seed);
        match self {
            Load::Big => tree.file("big", &Content::Random(sizes.big_mib << 20)),
            Load::Mid => {
                for number in 0..MID_FILES {
                    tree.file(format!("{number:02}"), &Content::Random(MID_BYTES));
                }
            }
            Load::Small => {
                for number in 0..sizes.small_files {
                    let (directory, name) = (number / SMALL_IN_DIRECTORY, number % SMALL_IN_DIRECTORY);
                    tree.file(format!("{directory:03}/{name:02}"), &Content::Random(SMALL_BYTES));
                }
            }
            Load::Tree => unreachable!("copied above"),
        }
        Ok(tree.finish())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::oracle;

    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        let scratch = tempfile::tempdir().unwrap();
        let sizes = Sizes { big_mib: 2, small_files: 250 };
        let made = |name: &str, load: Load, seed| {
            let below = scratch.path().join(name);
            std::fs::create_dir(&below).unwrap();
            load.make(&below, sizes, seed).unwrap()
        };
        let first = oracle::look(&made("first", Load::Small, 7));
        assert_eq!(oracle::totals(&first), (250, 250 * SMALL_BYTES));
        assert_eq!(oracle::wrong(&first, &made("again", Load::Small, 7)), [""; 0]);
        assert_eq!(oracle::wrong(&first, &made("other", Load::Small, 8)).len(), 250);
        assert_eq!(oracle::totals(&oracle::look(&made("big", Load::Big, 7))), (1, 2 << 20));
    }
}
