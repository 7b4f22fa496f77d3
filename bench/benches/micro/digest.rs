//! Hashing: three times for every byte of a transfer.

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use landfall::digest::{ChunkDigest, Folder, chunk_digest, is_zero, zero_digest};
use landfall::geometry::Geometry;
use landfall::limits::CHUNK_BYTES;

#[divan::bench(args = [4 << 10, 64 << 10, 1 << 20])]
fn chunk(bencher: Bencher<'_, '_>, bytes: u32) {
    let geometry = Geometry::new(u64::from(bytes), CHUNK_BYTES).expect("a small file");
    let index = geometry.chunk(0).expect("it has one chunk");
    let content = vec![7u8; bytes as usize];
    bencher.counter(BytesCount::new(bytes)).bench(|| chunk_digest(geometry, index, black_box(&content)));
}

#[divan::bench]
fn zero_chunk(bencher: Bencher<'_, '_>) {
    let geometry = Geometry::new(1 << 30, CHUNK_BYTES).expect("a small file");
    let index = geometry.chunk(9).expect("it has many chunks");
    bencher.counter(BytesCount::new(CHUNK_BYTES)).bench(|| zero_digest(black_box(geometry), index));
}

#[divan::bench]
fn look_for_zeros(bencher: Bencher<'_, '_>) {
    let content = vec![0u8; CHUNK_BYTES as usize];
    bencher.counter(BytesCount::new(CHUNK_BYTES)).bench(|| is_zero(black_box(&content)));
}

#[divan::bench(args = [16, 1024, 65_536])]
fn fold(count: u32) -> landfall::digest::FileDigest {
    let mut folder = Folder::default();
    for _ in 0..count {
        folder.push(black_box(ChunkDigest([5; 32])));
    }
    folder.finish()
}
