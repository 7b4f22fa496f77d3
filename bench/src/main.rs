//! The bench's executable; its face is in `cli.rs`.

use std::process::ExitCode;

fn main() -> ExitCode {
    bench::cli::main()
}
