//! Micro-benchmarks of the parts that every byte, record or claim goes through, a file for each part:
//! `cargo bench -p bench`, or `cargo bench -p bench -- digest`.

mod digest;
mod journal;
mod manifest;
mod store;
mod wire;

fn main() {
    divan::main();
}
