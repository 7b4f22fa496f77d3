//! What the harness's commands and the black-box tests share: trees, an oracle, real processes, a relay, kills. Nothing
//! here uses the product's code: what is believed about a transfer is learnt from the file system, `/proc`, the wire
//! and the streams. Where the machine itself fails, it panics: the harness failed, not the product.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

pub mod facility;
pub mod held;
pub mod isolated;
pub mod kill;
pub mod oracle;
pub mod process;
pub mod relay;
pub mod scratch;
pub mod seed;
pub mod sshd;
pub mod state;
pub mod transfer;
pub mod tree;
pub mod trees;
