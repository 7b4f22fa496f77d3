//! Rows of the fault matrix that a script plays: what other programs, administrators and bad luck do to files while a
//! transfer runs or rests, and what a relay with both keys can say.

mod clock;
mod limits;
mod machine;
mod memory;
mod rest;
mod source;

use crate::verdict::{How, Report, Verdict};

/// Runs a row, if there is a script for it.
pub fn row(number: u8, seed: u64) -> Option<Report> {
    let (title, how, played) = match number {
        2 => ("the first read of the source is wrong", How::Child, limits::first_read(seed)),
        3 => ("the source disk always reads the same wrong bytes", How::Child, limits::every_read(seed)),
        5 => ("a file is truncated under way", How::Script, source::truncated(seed)),
        6 => ("a file grows and is rewritten in place", How::Script, source::rewritten(seed)),
        7 => ("a path becomes a symlink and a FIFO", How::Script, source::replaced(seed)),
        8 => ("a file vanishes", How::Script, source::vanished(seed)),
        9 => ("a bit flips before it is hashed", How::Child, limits::first_read(seed.rotate_left(7))),
        11 => ("manifest pages flip in the sender's memory", How::Child, memory::manifest_flipped(seed)),
        12 => ("a digest is always computed wrongly", How::Child, memory::digest_wrong(seed)),
        14 => ("the sender may open few files", How::Script, machine::few_descriptors(seed)),
        30 => ("expected hashes flip in the receiver's memory", How::Child, memory::expectation_flipped(seed)),
        32 => ("the journal forgets what lies in staging", How::Script, rest::claims_forgotten(seed)),
        34 => ("a chunk comes with another length", How::Child, memory::length_changed(seed)),
        42 => ("a thin disk runs full below the file system", How::LoopImage, machine::thin_disk(seed)),
        48 => ("another program edits, cuts and removes what lies in staging", How::Script, rest::meddled(seed)),
        50 => ("no mode and no time can be set", How::Child, machine::attributes_refused(seed)),
        53 => ("a delivered file rots; verify is asked", How::Script, rest::rotten_later(seed)),
        52 | 54 => ("the platter changes under a cached page", How::LoopImage, machine::platter(seed)),
        57 => ("the receipt's digest is wrong and signed", How::Child, memory::receipt_wrong(seed)),
        58 => ("the receiver's receipt is damaged before it is sent", How::Script, rest::receipt_damaged(seed)),
        70 => ("staging and journal roll back to an older snapshot", How::Script, rest::rolled_back(seed)),
        71 => ("the wall clock jumps by a year to and fro", How::Script, clock::jumps(seed)),
        72 => ("a receiver comes back with other process ids", How::Script, machine::other_pids(seed)),
        _ => return None,
    };
    let reproduce = format!("cargo run --release -p fault-inject -- matrix --row {number} --seed {seed:#x}");
    let report = played.unwrap_or_else(|why| Report { verdict: Verdict::Failed(why), ..Report::skipped("", how, "") });
    Some(Report { fault: title.to_owned(), how, reproduce, ..report })
}
