//! A process that runs the whole command line of landfall over another disk: how `overhead` takes a guarantee away
//! without an option in the product.

use std::ffi::OsString;
use std::io;

use clap::ValueEnum;
use landfall::disk::RealDisk;

use crate::lax_disk::{LaxDisk, Laxity};

/// Which guarantees are left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Variant {
    /// Neither synced nor read from the device.
    Hashed,
    /// Synced, and read back from memory.
    Synced,
    /// All of them: the product's own disk, in the same kind of process.
    Full,
}

impl Variant {
    fn laxity(self) -> Laxity {
        Laxity { skips_sync: self == Variant::Hashed, reads_memory: self != Variant::Full }
    }

    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// Runs a command line of landfall with fewer guarantees.
#[derive(Debug, clap::Args)]
pub struct Child {
    /// Which are left.
    #[arg(long)]
    variant: Variant,
    /// The command line, the program's name first.
    #[arg(last = true)]
    arguments: Vec<OsString>,
}

impl Child {
    /// Gives landfall's exit code.
    pub fn run(self) -> u8 {
        landfall::cli::run_on(&LaxDisk::new(RealDisk::new(), self.variant.laxity()), self.arguments.into_iter())
    }
}

/// The words that start such a process, before the command line of landfall.
pub fn words(variant: Variant) -> io::Result<Vec<String>> {
    let own = std::env::current_exe()?.to_string_lossy().into_owned();
    Ok(vec![own, "child".to_owned(), "--variant".to_owned(), variant.name(), "--".to_owned()])
}
