//! The harness that tries to break landfall; `README.md` shows it to its users. Nothing here is part of the shipped
//! program, and nothing of the program judges itself: [`rig::oracle`] compares bytes.
//!
//! How it reaches inside: [`faulty_disk`] over any disk, in a [`child`] that runs the whole command line; [`above`] and
//! [`proxy`], relays above and below the encryption; [`sim_disk`], a file system in memory that forgets what was not
//! synced, under [`simulator`], [`crash`] and [`explore`]; [`fuse_disk`], a mounted one that lies; [`syscalls`], under
//! `strace`; and [`rig`], real processes and signals. [`matrix`] asks all of them, and [`verdict`] has the words for what
//! comes out.

pub mod above;
pub mod apart;
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
pub mod several;
pub mod sim_disk;
pub mod simulator;
pub mod soak;
pub mod syscalls;
pub mod verdict;
