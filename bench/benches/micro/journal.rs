//! Claims of the journal: one for each run of chunks, two for each file.

use divan::{Bencher, black_box};
use landfall::digest::{ChunkDigest, FileDigest, PathHash};
use landfall::identity::TransferId;
use landfall::journal::{Claim, frame, next_claim, run_tag};

fn sealing() -> Claim {
    Claim::Sealing { path: PathHash([3; 16]), digest: FileDigest([4; 32]) }
}

#[divan::bench]
fn write(bencher: Bencher<'_, '_>) {
    let claim = sealing();
    bencher.bench(|| frame(TransferId([9; 16]), 12, black_box(&claim)));
}

#[divan::bench]
fn read(bencher: Bencher<'_, '_>) {
    let framed = frame(TransferId([9; 16]), 12, &sealing());
    bencher.bench(|| next_claim(TransferId([9; 16]), 12, black_box(&framed)));
}

#[divan::bench(args = [1, 64])]
fn tag(bencher: Bencher<'_, '_>, digests: usize) {
    let digests = vec![ChunkDigest([5; 32]); digests];
    bencher.bench(|| run_tag(black_box(&digests)));
}
