//! How wants are answered, from the buffer, from the source, and when the source has changed.

use std::os::unix::fs::FileExt;

use super::*;
use crate::event::Found as Check;
use crate::source::ahead::Content;
use crate::source::serve::{Answer, Served};

fn serve(server: &mut Server<RealDisk>, entry: u32, chunk: u32) -> Served {
    server.serve(Place { entry, chunk }).unwrap()
}

#[test]
fn chunks_come_from_the_buffer_and_then_from_the_source() {
    let bench = Bench::new();
    let bytes = [sample(CHUNK), vec![0; CHUNK], sample(9)].concat();
    bench.write("d/f", &bytes);
    let mut run = bench.settle();
    let mut server = bench.server(run.producer());
    for _ in 0..2 {
        for (chunk, expected) in bytes.chunks(CHUNK).enumerate() {
            let served = serve(&mut server, 1, u32::try_from(chunk).unwrap());
            match served.answer {
                Answer::Content(Content::Bytes(bytes)) => assert_eq!(bytes, expected),
                Answer::Content(Content::Zero) => assert_eq!(chunk, 1),
                other => panic!("{other:?}"),
            }
            assert!(served.event.is_none() && served.renew.is_none());
        }
    }
    for (entry, chunk) in [(1, 3), (2, 0), (0, 0), (u32::MAX, u32::MAX)] {
        assert_eq!(serve(&mut server, entry, chunk).answer, Answer::Outside, "{entry} {chunk}");
    }
}

#[test]
fn a_digest_that_is_not_in_the_log_yet_cannot_be_wanted() {
    let bench = Bench::new();
    bench.write("f", sample(40 * CHUNK));
    let mut producer = bench.producer();
    (0..20).for_each(|_| drop(producer.step().unwrap()));
    let mut server = bench.server(&producer);
    assert!(matches!(serve(&mut server, 0, 15).answer, Answer::Content(_)));
    assert_eq!(serve(&mut server, 0, 16).answer, Answer::Outside);
}

#[test]
fn a_source_that_changed_is_gone_and_a_new_version_is_made() {
    let bench = Bench::new();
    bench.write("f", sample(3 * CHUNK));
    bench.write("g", sample(3 * CHUNK));
    let mut run = bench.settle();
    consider_all(run.producer());
    let file = fs::File::options().write(true).open(bench.at("f")).unwrap();
    file.write_all_at(b"new", CHUNK as u64).unwrap();
    fs::remove_file(bench.at("g")).unwrap();
    let mut server = bench.server(run.producer());
    assert!(matches!(serve(&mut server, 0, 0).answer, Answer::Content(_)));
    let served = serve(&mut server, 0, 1);
    assert_eq!(served.answer, Answer::Gone(Reason::Changed));
    assert_eq!(served.renew, Some((EntryIndex(0), Reason::Changed)));
    assert!(matches!(served.event, Some(Event::Mismatch { offset: 4096, found: Check::Source, .. })));
    let vanished = serve(&mut server, 1, 0);
    assert_eq!(
        (vanished.answer, vanished.renew),
        (Answer::Gone(Reason::Vanished), Some((EntryIndex(1), Reason::Vanished)))
    );
    for (entry, reason) in
        [(EntryIndex(0), Reason::Changed), (EntryIndex(0), Reason::Changed), (EntryIndex(1), Reason::Vanished)]
    {
        run.producer().request(entry, reason);
    }
    let before = records(run.producer()).len();
    let again = settle(run.producer());
    let lines = outline(&records(run.producer()));
    let expected = [
        "withdraw 0 changed",
        "begin f 12288",
        "chunks 2 3",
        "end 2",
        "withdraw 1 vanished",
        "left out g vanished",
        "complete",
    ];
    assert_eq!(lines[before..], expected);
    assert_eq!(again.left_out(), [("g".to_owned(), Reason::Vanished)]);
    assert_eq!(serve(&mut server, 0, 0).answer, Answer::Gone(Reason::Changed));
    assert!(matches!(serve(&mut server, 2, 1).answer, Answer::Content(_)));
    // Once more is once too often.
    run.producer().request(EntryIndex(2), Reason::Changed);
    let left_out = settle(run.producer()).left_out();
    assert_eq!(left_out, [("f".to_owned(), Reason::Changed)]);
}

#[test]
fn a_file_that_differs_under_unchanged_stamps_is_unsteady() {
    let bench = Bench::new();
    bench.write("f", sample(2 * CHUNK));
    let mut run = bench.settle();
    consider_all(run.producer());
    let stat = |path: &str| {
        let dir = RealDisk::open_root(&bench.at("")).unwrap();
        RealDisk::new().stat(&dir, path.as_bytes()).unwrap()
    };
    fs::File::options().write(true).open(bench.at("f")).unwrap().write_all_at(b"x", 0).unwrap();
    // The stamps of the changed file, as if nothing had shown that it changed.
    let dir = RealDisk::open_root(&bench.state()).unwrap();
    let path = crate::digest::path_hash(&crate::path::RelPath::parse(b"f").unwrap());
    let slot = crate::source::stamps::Slot { entry: EntryIndex(0), path, stamps: stat("f").stamps() };
    StampFile::open(&RealDisk::new(), &dir, b"stamps", TRANSFER).unwrap().put(&[slot]).unwrap();
    let mut server = bench.server(run.producer());
    let served = serve(&mut server, 0, 0);
    let renew = Some((EntryIndex(0), Reason::SourceUnsteady));
    assert_eq!((served.answer, served.renew), (Answer::Gone(Reason::SourceUnsteady), renew));
    assert!(matches!(serve(&mut server, 0, 1).answer, Answer::Content(_)));
    // It is read once more as a whole, and left out when that does not help.
    run.producer().request(EntryIndex(0), Reason::SourceUnsteady);
    assert!(settle(run.producer()).left_out().is_empty());
    run.producer().request(EntryIndex(1), Reason::SourceUnsteady);
    assert_eq!(settle(run.producer()).left_out(), [("f".to_owned(), Reason::SourceUnsteady)]);
}

#[test]
fn a_log_that_was_changed_on_disk_is_not_sent_and_the_source_is_not_blamed_for_it() {
    let bench = Bench::new();
    bench.write("f", sample(2 * CHUNK));
    let mut run = bench.settle();
    consider_all(run.producer());
    let log = fs::File::options().write(true).read(true).open(bench.state().join("manifest")).unwrap();
    let bytes = fs::read(bench.state().join("manifest")).unwrap();
    // By a log of its own: what the producer's has read once it does not read again.
    let header = run.producer().log().with(ManifestLog::header);
    let dir = RealDisk::open_root(&bench.state()).unwrap();
    let (other, _) = ManifestLog::open(&RealDisk::new(), &dir, b"manifest", header, |_, _| ()).unwrap();
    let digest = other.file(EntryIndex(0)).unwrap().2.get(0).unwrap();
    let at = bytes.windows(32).position(|window| window == digest.0).unwrap();
    log.write_all_at(&[digest.0[0] ^ 1], at as u64).unwrap();
    let mut server = bench.server(run.producer());
    let error = server.serve(Place { entry: 0, chunk: 0 }).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    let (_, mut cursor) = run.producer().log().find_rung(&[]).unwrap();
    let error = run.producer().log().page(&mut cursor).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    // A run that begins again cuts the log there, and makes the rest anew.
    let position = run.position;
    drop(run);
    assert_eq!(bench.settle().position, position);
}
