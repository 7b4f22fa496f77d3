//! The brains: pure machines that decide. No runtime, no I/O, no clock, no randomness; ids, counts and verdicts only.

pub mod admission;
pub mod receiver;
pub mod sender;
