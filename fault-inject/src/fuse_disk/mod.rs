//! A disk that lies, as a file system of its own (FUSE) over a directory BACKING, for any program: what is written goes
//! through the kernel's page cache as on a real disk, what was not synced is gone after a power cut, and every fault of
//! [`faults`] strikes when it is told to. BACKING is its platter: what a check of the truth has to read.
//!
//! Chance decides at a power cut, from the seed: unsynced names survive as a prefix of their order (all, some, none),
//! unsynced pages each for itself, sizes apart from bytes. Attributes of directories are durable at once.

pub mod cases;
pub mod control;
pub mod faults;
pub mod injector;
pub mod mount;
mod names;
mod node;
mod server;
pub mod state;
pub mod transfers;

pub use cases::row;
pub use faults::{Fault, Kind, Size};
pub use mount::FuseDisk;
pub use server::Cache;
