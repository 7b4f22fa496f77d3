//! Records of the log: two for a small file, one more for each sixteen chunks of a large one.

use divan::{Bencher, black_box};
use landfall::digest::{ChainValue, ChunkDigest};
use landfall::geometry::EntryIndex;
use landfall::manifest::{Record, frame, parse_frame};
use landfall::path::RelPath;

fn begin() -> Record {
    let path = RelPath::parse(b"photos/2019/summer/0001.raw").expect("a plain path");
    Record::Begin { path, size: 734_003_200 }
}

fn chunks() -> Record {
    Record::Chunks { entry: EntryIndex(7), digests: vec![ChunkDigest([5; 32]); 16] }
}

#[divan::bench(args = [("begin", begin()), ("chunks", chunks())].map(Named))]
fn encode_and_chain(bencher: Bencher<'_, '_>, record: &Named) {
    let chain = ChainValue::of_header(b"header");
    bencher.bench(|| frame(&black_box(&record.0.1).encode(), chain));
}

#[divan::bench(args = [("begin", begin()), ("chunks", chunks())].map(Named))]
fn parse_and_decode(bencher: Bencher<'_, '_>, record: &Named) {
    let chain = ChainValue::of_header(b"header");
    let encoded = record.0.1.encode();
    let (framed, _) = frame(&encoded, chain);
    bencher.bench(|| {
        black_box(parse_frame(black_box(&framed), chain));
        Record::decode(black_box(&encoded))
    });
}

/// A record with the name under which it is shown.
struct Named((&'static str, Record));

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.0)
    }
}
