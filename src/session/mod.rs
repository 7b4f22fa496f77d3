//! The brains: pure machines that decide what is asked, answered and ended. No clock, no randomness, no I/O, no
//! names and no bytes: ids, counts and verdicts go in, tasks come out.

pub mod sender;
