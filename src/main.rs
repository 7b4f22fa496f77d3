//! Exit code, nothing else.
fn main() {}
