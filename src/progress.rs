//! What is shown while a transfer runs, as text: snapshots go in, lines of a given width come out. It owns the
//! wording of phases, figures and stalls, and does not know a terminal: `cli/console` draws the lines.

pub mod figures;
mod lines;
mod view;
pub mod width;

pub use lines::{WIDTH_MIN, lines, plain_line};
pub use view::{Stall, View};
