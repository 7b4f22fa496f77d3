//! Control messages and chunk headers.

use divan::{Bencher, black_box};
use landfall::geometry::EntryIndex;
use landfall::limits::CHUNK_BYTES;
use landfall::wire::{Body, ChunkHeader, Message, Place, Want, WantRun};

fn want(runs: u32) -> Message {
    let runs = (0..runs).map(|entry| WantRun { entry: EntryIndex(entry), first: 0, count: 1 });
    Message::Want(Want { considered_through: Place { entry: 7, chunk: 9 }, runs: runs.collect() })
}

#[divan::bench(args = [1, 256])]
fn encode_want(bencher: Bencher<'_, '_>, runs: u32) {
    let message = want(runs);
    bencher.bench(|| black_box(&message).encode());
}

#[divan::bench(args = [1, 256])]
fn decode_want(bencher: Bencher<'_, '_>, runs: u32) {
    let bytes = want(runs).encode();
    bencher.bench(|| Message::decode(black_box(&bytes)));
}

#[divan::bench]
fn chunk_header(bencher: Bencher<'_, '_>) {
    let header = ChunkHeader { entry: EntryIndex(7), chunk: 9, body: Body::Bytes(CHUNK_BYTES) };
    bencher.bench(|| ChunkHeader::decode(&black_box(header).encode(), CHUNK_BYTES));
}
