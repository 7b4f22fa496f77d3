//! Bytes altered below the page cache: a read through the cache still sees the right ones, as is shown here by such a
//! read passing, so only a read of the device can find them.

use std::fs;
use std::time::Duration;

use crate::common::facility::{self, LoopImage};
use crate::common::process::PATIENT;
use crate::common::scratch::Scratch;
use crate::common::state;
use crate::common::transfer::{self, Listens, Setup};
use crate::common::tree::{Content, Tree};
use crate::common::trees::CHUNK_BYTES;

/// A sector that is found again on the platter.
fn needle() -> Vec<u8> {
    let mut sector = b"landfall tests look for this sector below the page cache ".repeat(9);
    sector.truncate(512);
    sector
}

#[test]
fn bytes_altered_below_the_page_cache_are_found_and_replaced() {
    let test = "bytes_altered_below_the_page_cache_are_found_and_replaced";
    let scratch = Scratch::new("platter");
    let Some(image) = LoopImage::mounted(test, scratch.path(), 256 << 20) else { return };
    let mut tree = Tree::new(&scratch.join("source"), 1);
    let mut bytes = vec![7u8; usize::try_from(2 * CHUNK_BYTES).unwrap()];
    bytes[8192..8704].copy_from_slice(&needle());
    tree.file("a-large", &Content::Random(20 * CHUNK_BYTES));
    let source = tree.finish();
    let file = fs::OpenOptions::new().write(true).open(source.join("a-large")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 4 * CHUNK_BYTES).unwrap();

    let mut setup = Setup::new(&scratch, "run", &[&source], Listens::Receiver);
    setup.target = image.path().join("target");
    let relay = setup.through_relay(1);
    relay.rate(20 << 20);
    relay.silence_after(14 << 20);
    let places = setup.places(1);
    let mut live = setup.start();
    assert!(live.sender.wait_until("silence", PATIENT, |_| setup.relay().is_silent()));
    std::thread::sleep(Duration::from_millis(2500));
    live.kill_both();

    let staged = state::entries(&places.work().unwrap().join("staging"));
    assert_eq!(staged.len(), 1, "{staged:?}");
    let sector_at = usize::try_from(4 * CHUNK_BYTES + 8192).unwrap();
    let read = || fs::read(&staged[0]).unwrap()[sector_at..sector_at + 512].to_vec();
    assert!(read() == needle(), "the sector is staged, and in the cache from now on");
    assert_eq!(image.flip_on_platter(&needle()), 1, "the sector is on the platter, once");
    assert!(read() == needle(), "a read through the cache passes: it does not see the platter");

    setup.relay().speak();
    setup.relay().rate(0);
    let done = setup.restart().wait(PATIENT);
    done.assert_success();
    fs::write("/proc/sys/vm/drop_caches", "3").unwrap();
    transfer::assert_arrived(&source, &setup.target);
    let repaired = done.receiver.events().into_iter().any(|event| event["event"] == "mismatch");
    if !repaired {
        facility::say("the damage was found while claims were replayed, not as a mismatch of the read-back");
    }
}
