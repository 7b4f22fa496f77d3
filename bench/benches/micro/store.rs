//! What the store asks of the disk, on a real one: a chunk written, made durable and read back past the cache, and a
//! small file from its creation to its name.

use divan::Bencher;
use divan::counter::BytesCount;
use fault_inject::rig::scratch::Scratch;
use landfall::disk::{AlignedBuffer, Disk, DiskFile, RealDisk, Rooted};
use landfall::limits::CHUNK_BYTES;

#[divan::bench(sample_count = 20, sample_size = 1)]
fn write_sync_and_read_back_a_chunk(bencher: Bencher<'_, '_>) {
    let scratch = Scratch::new("micro");
    let disk = RealDisk::new();
    let root = disk.open_root(scratch.path()).expect("the scratch directory is there");
    let file = disk.create_exclusive(&root, b"file").expect("the directory is empty");
    let (content, mut buffer) = (vec![7u8; CHUNK_BYTES as usize], AlignedBuffer::default());
    bencher.counter(BytesCount::new(CHUNK_BYTES)).bench_local(|| {
        file.write_all_at(&content, 0).expect("the disk has room");
        file.sync().expect("the disk works");
        file.read_uncached_at(&mut buffer, 0, CHUNK_BYTES as usize).expect("it was written")
    });
}

#[divan::bench(sample_count = 100, sample_size = 1)]
fn create_write_and_rename_a_small_file(bencher: Bencher<'_, '_>) {
    let scratch = Scratch::new("micro");
    let disk = RealDisk::new();
    let root = disk.open_root(scratch.path()).expect("the scratch directory is there");
    let mut number = 0u32;
    bencher.bench_local(|| {
        number += 1;
        let (staged, sealed) = (format!("staged-{number}"), format!("sealed-{number}"));
        let file = disk.create_exclusive(&root, staged.as_bytes()).expect("the name is new");
        file.write_all_at(&[7; 4096], 0).expect("the disk has room");
        disk.rename_noreplace(&root, staged.as_bytes(), &root, sealed.as_bytes()).expect("the name is new");
    });
}
