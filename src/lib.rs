//! landfall moves files from one machine's disk to another's and proves it. ARCHITECTURE.md is the map; the floors:
//!
//! ```text
//!  6  main.rs                                         exit code, nothing else
//!  5  cli/  progress  verify                          the face
//!  4  send  recv  plan  verify                        drivers: where brains meet hands
//!  3  disk/  source/  store/  net/  lan/  pool  state/ hands: all I/O
//!  2  session/                                        brains: pure machines
//!  1  wire manifest journal ticket receipt lists/     formats: bytes <-> types
//!    error event task/ options                       words that speak of formats
//!  0  limits geometry digest path attributes          words
//!    identity outcome
//! ```
//!
//! Imports point down; `tests/tidy.rs` holds the table.

pub mod attributes;
pub mod buffers;
pub mod cli;
pub mod digest;
pub mod disk;
pub mod error;
pub mod event;
pub mod geometry;
pub mod identity;
pub mod journal;
pub mod lan;
pub mod limits;
pub mod lists;
pub mod manifest;
pub mod meet;
pub mod net;
pub mod options;
pub mod outcome;
pub mod path;
pub mod plan;
pub mod pool;
pub mod progress;
pub mod prune;
pub mod receipt;
pub mod recv;
pub mod send;
pub mod session;
pub mod source;
pub mod state;
pub mod store;
pub mod task;
pub mod ticket;
pub mod verify;
pub mod wire;
