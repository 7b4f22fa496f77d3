//! The harness's executable; its face is in `cli/`.

use std::process::ExitCode;

fn main() -> ExitCode {
    // A harness that cannot do its work must not look like a product that fails: 4, and never the code of a panic.
    let show = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        show(info);
        #[allow(clippy::exit, reason = "a panic of any thread ends the run as a failure of the harness")]
        std::process::exit(4);
    }));
    fault_inject::cli::main()
}
