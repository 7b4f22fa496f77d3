//! `landfall status`: not there yet.

use super::arguments::StatusArguments;
use super::console::Console;
use super::failure::Failure;

pub(super) fn run(_arguments: &StatusArguments, _console: &Console) -> Result<(), Failure> {
    Ok(())
}
