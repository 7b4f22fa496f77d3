//! What the black-box tests share: trees, an oracle, real processes, a relay, kills. Nothing here uses the product's
//! code: what a test believes about a transfer it learns from the file system, `/proc`, the wire and the streams.
#![allow(dead_code, unreachable_pub, unused_imports)] // each test binary uses its own part of this
#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::cast_possible_truncation)]

pub mod facility;
pub mod held;
pub mod kill;
pub mod oracle;
pub mod process;
pub mod relay;
pub mod scratch;
pub mod seed;
pub mod state;
pub mod transfer;
pub mod tree;
pub mod trees;
