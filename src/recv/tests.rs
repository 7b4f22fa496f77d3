//! The receiver's brain and store together, over a real directory, fed by a sender of a few lines: whole transfers,
//! kills after every step, damage, and what stands in the target already. No link, no thread of the driver.
#![allow(clippy::unwrap_used)]

mod damage;
mod existing;
mod receipts;
mod renaming;
mod resume;
mod rig;
mod sender;
mod versions;
mod whole;
