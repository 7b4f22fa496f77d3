//! Crash-state enumeration, after ALICE: a small transfer with the real store and the real machines on the simulated
//! disks is stopped at each operation of each disk; of each such moment the states that a power cut may leave are
//! taken, each subset of what no sync covered, torn at sectors, names without their bytes; from each *distinct* one
//! both sides start again and must converge, and recovery itself is cut again, up to three times.
//!
//! The oracle is the simulator's: no final name ever stands for bytes that were not verified, what was acknowledged
//! outlasts every cut, a receipt says only what is durable, and no chunk is sent again that a claim covers.

mod ext4;
mod fail;
mod power;
mod rows;

pub use ext4::ext4_report;
pub use fail::{FailOptions, Failures, fail_each};
pub use power::{Found, Options, enumerate};
pub use rows::{fail_report, report, row};
