//! A ticket as a QR code of text, for a phone's camera or another machine's. It draws; whether and where it is shown is
//! `screen`'s.

use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};

/// Black modules on white ones, whatever the terminal's own colours are: what a camera expects.
const COLOURS: &str = "\x1b[38;5;16;48;5;231m";
const PLAIN: &str = "\x1b[0m";

/// How a code is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ink {
    /// With colours of its own.
    Coloured,
    /// Without: light modules are drawn, on a background that is taken to be dark.
    Plain,
}

/// The lines of the code of a text, each as many characters wide: half a row of modules each, with a margin of four modules.
/// Letters are put into capitals, which take half the room, and which a ticket may be written in. `None` if the text is too
/// long for any code.
pub(super) fn lines(text: &str, ink: Ink) -> Option<Vec<String>> {
    let code = QrCode::with_error_correction_level(text.to_ascii_uppercase(), EcLevel::L).ok()?;
    let mut drawing = code.render::<Dense1x2>();
    // By itself it draws what is dark.
    if ink == Ink::Plain {
        drawing.dark_color(Dense1x2::Light).light_color(Dense1x2::Dark);
    }
    let drawn = drawing.build();
    let line = |line: &str| match ink {
        Ink::Coloured => format!("{COLOURS}{line}{PLAIN}"),
        Ink::Plain => line.to_owned(),
    };
    Some(drawn.lines().map(line).collect())
}

/// Columns that such lines take.
pub(super) fn columns(lines: &[String]) -> usize {
    let first = lines.first().map_or("", String::as_str);
    first.trim_start_matches(COLOURS).trim_end_matches(PLAIN).chars().count()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// What a reader of somebody else's makes of the drawing.
    fn read(lines: &[String]) -> String {
        let rows: Vec<Vec<char>> = lines
            .iter()
            .map(|line| line.trim_start_matches(COLOURS).trim_end_matches(PLAIN).chars().collect())
            .collect();
        let is_drawn = |x: usize, y: usize| match rows[y / 2][x] {
            '█' => true,
            '▀' => y.is_multiple_of(2),
            '▄' => !y.is_multiple_of(2),
            ' ' => false,
            other => panic!("{other:?} is no half block"),
        };
        // A reader wants more than one pixel for each module, and dark on light. The margin is light.
        let is_dark = |x: usize, y: usize| is_drawn(x, y) != is_drawn(0, 0);
        let (width, height) = (rows[0].len() * 4, rows.len() * 2 * 4);
        let mut image = rqrr::PreparedImage::prepare_from_bitmap(width, height, |x, y| is_dark(x / 4, y / 4));
        let grids = image.detect_grids();
        assert_eq!(grids.len(), 1);
        grids[0].decode().unwrap().1
    }

    #[test]
    fn somebody_elses_reader_finds_the_ticket_in_both_inks() {
        let ticket = "landfallaeaqaaicamcakbqhbaequcymbuha6earcijrifiwc4mbsgq3dqor4h5augrkhjffu2t2rknkvowk3lvp\
            aaaaaadljhjaaaqeyaaaeb3obidcaainxaaaaaaaaaaaaaaaaaaac3qkpxu3jsi";
        for ink in [Ink::Coloured, Ink::Plain] {
            let lines = lines(ticket, ink).unwrap();
            assert_eq!(read(&lines), ticket.to_uppercase());
            assert_eq!(columns(&lines), lines.len() * 2 - 1, "it is square");
            let margin = lines[0].trim_start_matches(COLOURS).chars().next();
            assert_eq!(margin, Some(if ink == Ink::Coloured { ' ' } else { '█' }), "the margin is light");
            assert!(columns(&lines) <= 60, "{} columns", columns(&lines));
            assert_eq!(lines.iter().all(|line| line.contains('\x1b')), ink == Ink::Coloured);
        }
        assert_eq!(lines(&"x".repeat(5000), Ink::Plain), None);
    }
}
