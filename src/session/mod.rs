//! The brains: pure machines and decisions. No clock, no randomness, no I/O, no names and no bytes: ids, counts and
//! verdicts go in, tasks come out.

pub mod admission;
pub mod sender;
