//! Tests of the receiver's brain: each transition by hand, then random runs in a world of dice.
#![allow(clippy::unwrap_used)]

mod batches;
mod bounds;
mod hands;
mod random;
mod transitions;
mod world;
