//! Two machines on one network without a ticket that is copied by hand. The receiver shows a code of three words and
//! announces the first of them; the sender, which was given the code, finds that announcement, both prove to each other that
//! they know the code, and the ordinary ticket comes back, sealed. What follows is a transfer with a ticket like any other:
//! nothing of this module is on its path.
//!
//! ```text
//!  sender (dialler)                                   receiver (listener)
//!  code typed                                         code shown, nameplate announced (mDNS)
//!  FIRST   version, key, nameplate, SPAKE2 A  ──────►
//!                                             ◄────── SECOND  version, key, SPAKE2 B
//!  CONFIRM keyed hash of all of the above     ──────► right: go on; wrong: the code is burnt
//!                                             ◄────── GRANT   keyed hash, sealed ticket
//! ```
//!
//! Frames go over TCP, each with its length in two bytes, big-endian, before it. One exchange is one guess for either side:
//! `exchange` says why. What this module does not do: decide who may take a transfer (the ticket does), or print.

mod announce;
mod code;
mod door;
mod exchange;
mod find;
mod frames;

pub use announce::AnnounceError;
pub use code::{Code, CodeError, looks_like_code};
pub use door::{Door, Visit};
pub use find::{FindError, Finding, Search};
