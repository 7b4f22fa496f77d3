//! Fault injection for landfall: other implementations of its seams, all driven by one seed.
//!
//! [`sim_disk::SimDisk`] is a file system in memory that forgets what was not synced; [`faulty_disk::FaultyDisk`]
//! injects planned faults over any [`landfall::disk::Disk`], the real one included; [`rig`] runs real processes. Nothing here is part of the
//! shipped program, and nothing here judges the program: verdicts belong to the harness above.

pub mod above;
pub mod child;
pub mod cli;
pub mod corrupt;
pub mod crash;
pub mod damage;
pub mod demo;
pub mod errno;
pub mod explore;
pub mod faulty_disk;
pub mod fuse_disk;
pub mod hostile;
pub mod kills;
pub mod matrix;
pub mod mutants;
pub mod operation;
mod overlay;
pub mod plan;
pub mod play;
pub mod proxy;
pub mod rig;
pub mod rng;
pub mod scripted;
pub mod sim_disk;
pub mod simulator;
pub mod verdict;
