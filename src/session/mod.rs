//! Brains: pure decisions and machines, without clock, randomness, files or sockets.

pub mod admission;
