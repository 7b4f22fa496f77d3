//! The runs with real processes that this disk is for: each kind of fault, with the rows of the fault matrix that it
//! covers. Rates and positions are chosen so that one fault falls into one chunk, where counts are to be compared.

use super::faults::Kind;
use super::server::Cache;
use super::transfers::{self, Case, Sign, Source};
use crate::rig::transfer::Side;
use crate::verdict::Report;

/// The usual run: the receiver's DIR lies on the disk.
const RECEIVER: Case = Case {
    rows: &[],
    name: "",
    faults: &[],
    side: Side::Receiver,
    cache: Cache::Kept,
    source: Source::Large(24),
    sign: Sign::Mismatches,
    must_succeed: true,
    restart_with: None,
};

/// The source lies on the disk.
const SENDER: Case = Case { side: Side::Sender, cache: Cache::Never, source: Source::Large(48), ..RECEIVER };

/// All of them.
pub const CASES: &[Case] = &[
    Case {
        rows: &[1],
        name: "source-flips: the source reads wrong once after it was hashed",
        restart_with: Some(&["read-corrupt:every=5,times=4,size=bit"]),
        ..SENDER
    },
    Case {
        rows: &[2],
        name: "source-hashed-wrong: the source reads wrong while it is hashed",
        faults: &["read-corrupt:every=47,times=1,size=bit,path=large"],
        restart_with: Some(&[]),
        sign: Sign::Retreats,
        must_succeed: false,
        ..SENDER
    },
    Case {
        rows: &[4],
        name: "source-eio: one sector of the source cannot be read",
        faults: &["read-fail:nth=1,again=1000000,path=marked"],
        source: Source::Few,
        sign: Sign::Ends,
        must_succeed: false,
        ..SENDER
    },
    Case {
        rows: &[33],
        name: "misdirected: writes land elsewhere in the file",
        faults: &["write-misdirect:nth=3,every=9,times=3,path=staging"],
        ..RECEIVER
    },
    Case {
        rows: &[35],
        name: "write-eio: a write fails with EIO",
        faults: &["write-fail:nth=20,path=staging"],
        sign: Sign::Retreats,
        ..RECEIVER
    },
    Case {
        rows: &[36],
        name: "quota: EDQUOT at writes, ENOSPC for the journal and for a name, while space is free",
        faults: &[
            "write-fail:nth=5,every=3,times=2,path=staging,errno=EDQUOT",
            "write-fail:nth=6,times=1,path=journal,errno=ENOSPC",
            "create-fail:nth=4,times=1,path=staging,errno=ENOSPC",
        ],
        sign: Sign::Ends,
        source: Source::Few,
        must_succeed: false,
        ..RECEIVER
    },
    Case {
        rows: &[36],
        name: "full: no space after 9 MB, and the disk says so",
        faults: &["write-full:bytes=9000000,path=staging,times=40"],
        sign: Sign::Ends,
        must_succeed: false,
        ..RECEIVER
    },
    Case {
        rows: &[37],
        name: "short-write: fewer bytes are taken than offered",
        faults: &["write-short:every=7"],
        sign: Sign::Rewrites,
        ..RECEIVER
    },
    Case {
        rows: &[38],
        name: "lost-write: a write succeeds and does nothing",
        faults: &["write-lost:nth=3,every=2,path=staging,times=10"],
        ..RECEIVER
    },
    Case {
        rows: &[39],
        name: "corrupt-write: bit, sector and 64 KiB as 1:1:8",
        faults: &["write-corrupt:nth=3,every=2,path=staging,times=10"],
        ..RECEIVER
    },
    Case {
        rows: &[40],
        name: "bad-extent: the same place is corrupted 20 times more",
        faults: &["write-corrupt:nth=5,again=20,size=4KiB,path=staging"],
        ..RECEIVER
    },
    Case {
        rows: &[41],
        name: "sync-fails: fsync fails once, then succeeds",
        faults: &["sync-fail:nth=2,path=staging"],
        sign: Sign::Retreats,
        source: Source::Few,
        ..RECEIVER
    },
    Case {
        rows: &[42],
        name: "late-full: fsync tells of ENOSPC, the data are gone",
        faults: &["sync-fail:nth=2,path=staging,errno=ENOSPC"],
        sign: Sign::Retreats,
        source: Source::Few,
        must_succeed: false,
        ..RECEIVER
    },
    Case {
        rows: &[43],
        name: "sync-lies: fsync stores nothing, then the power goes",
        faults: &["sync-lie:path=staging", "power-cut:nth=1,path=target/source/large"],
        sign: Sign::Returns,
        must_succeed: false,
        ..RECEIVER
    },
    Case {
        rows: &[44],
        name: "slow: a sync takes longer than a silent peer is waited for",
        faults: &["sync-slow:nth=2,delay=23s,path=staging/", "rename-slow:nth=1,delay=3s,path=staging"],
        sign: Sign::Waits,
        source: Source::Few,
        ..RECEIVER
    },
    Case {
        rows: &[45],
        name: "rename: EIO, EXDEV, EEXIST, ENOENT and EACCES",
        faults: &[
            "rename-fail:nth=1,path=staging",
            "rename-fail:nth=2,path=staging,errno=EXDEV",
            "rename-fail:nth=3,path=staging,errno=EEXIST",
            "rename-fail:nth=4,path=staging,errno=ENOENT",
            "rename-fail:nth=5,path=staging,errno=EACCES",
        ],
        sign: Sign::Retreats,
        source: Source::Few,
        must_succeed: false,
        ..RECEIVER
    },
    Case {
        rows: &[46],
        name: "directory-sync: the sync of a directory fails",
        faults: &["dir-sync-fail:nth=1,path=target/source"],
        sign: Sign::Ends,
        source: Source::Few,
        must_succeed: false,
        ..RECEIVER
    },
    Case {
        rows: &[47],
        name: "read-only: the file system turns read-only half-way",
        faults: &["read-only:nth=30"],
        sign: Sign::Ends,
        must_succeed: false,
        ..RECEIVER
    },
    Case {
        rows: &[52],
        name: "rot: bytes change after the sync, before the check",
        faults: &["rot:nth=2,every=5,times=3,path=staging"],
        source: Source::Few,
        ..RECEIVER
    },
    Case {
        rows: &[55],
        name: "bad-read: a read-back is wrong once",
        faults: &["read-corrupt:nth=3,every=11,times=4,size=bit,path=staging"],
        ..RECEIVER
    },
    Case {
        rows: &[56],
        name: "read-eio: a read-back fails with EIO",
        faults: &["read-fail:nth=4,again=40,path=staging"],
        sign: Sign::Retreats,
        ..RECEIVER
    },
    Case {
        rows: &[65, 66],
        name: "power-cut: the power goes half-way",
        faults: &["power-cut:nth=150"],
        sign: Sign::Returns,
        source: Source::Medley,
        must_succeed: false,
        ..RECEIVER
    },
    Case {
        rows: &[],
        name: "everything: corrupt, lost, rotten and short, state files too",
        faults: &["write-corrupt:rate=0.01", "write-lost:rate=0.01", "rot:rate=0.05", "write-short:rate=0.05"],
        sign: Sign::Retreats,
        source: Source::Medley,
        must_succeed: false,
        ..RECEIVER
    },
];

/// The run that covers a row of the fault matrix on this disk, if there is one.
pub fn row(number: u8, seed: u64) -> Option<Report> {
    let mut runs = CASES.iter().filter(|case| case.rows.contains(&number)).map(|case| transfers::run(case, seed));
    let first = runs.next()?;
    Some(runs.fold(first, Report::with))
}

/// The runs with one kind of fault in them, or with a name that begins like that; all of them without a word.
pub fn named(word: &str) -> Vec<&'static Case> {
    let is_asked = |case: &&Case| {
        word.is_empty() || case.name.starts_with(word) || Kind::all().any(|kind| kind.word() == word && case.has(kind))
    };
    CASES.iter().filter(is_asked).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuse_disk::Fault;

    #[test]
    fn every_fault_of_every_case_can_be_read_and_every_kind_that_a_transfer_meets_occurs() {
        for case in CASES {
            for text in case.faults.iter().chain(case.restart_with.unwrap_or_default()) {
                assert!(text.parse::<Fault>().is_ok(), "{}: {text}", case.name);
            }
            let same = CASES.iter().filter(|other| other.name == case.name).count();
            assert_eq!(same, 1, "{} is the name of one case", case.name);
            assert!(named(&case.word()).iter().any(|found| found.name == case.name), "{} is found", case.name);
        }
        let unused: Vec<_> = Kind::all().filter(|kind| named(kind.word()).is_empty()).collect();
        assert_eq!(unused, [Kind::DirSyncLie], "a kind that only people set");
    }
}
