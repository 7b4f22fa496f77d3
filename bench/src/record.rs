//! A recording of a transfer that is killed in the middle: what a user sees, on a real pseudo-terminal, drawn as an SVG that
//! plays by itself. Nothing in it is made up but the prompt, the word of a shell about a killed program, and `~` in the place
//! of the directory in which it ran.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fault_inject::rig::process;
use fault_inject::rig::tree::{Content, Tree};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use vt100::{Color, Parser};

use crate::cli::{Common, Failure, Say};

/// Wide enough for each line with the whole path of the directory, of which the picture shows `~`.
const COLUMNS: NonZeroU16 = NonZeroU16::MIN.saturating_add(139);
/// Letters of a line in the picture.
const SHOWN_COLUMNS: u16 = 106;
const ROWS: NonZeroU16 = NonZeroU16::MIN.saturating_add(21);
/// Between two looks at the screen.
const FRAME: Duration = Duration::from_millis(200);
/// Before what is typed is run, and after a program has ended.
const BREATH: Duration = Duration::from_millis(900);
/// The last picture stays for so long.
const REST: Duration = Duration::from_secs(4);
const LETTER_WIDTH: f64 = 8.43;
const LINE_HEIGHT: f64 = 19.0;
const EDGE: f64 = 16.0;
const BACKGROUND: &str = "#16181d";
const FOREGROUND: &str = "#d7dae0";
/// The sixteen colours of a terminal.
const COLOURS: [&str; 16] = [
    "#3b4048", "#e06c75", "#98c379", "#e5c07b", "#61afef", "#c678dd", "#56b6c2", "#d7dae0", "#6b727d", "#e88388",
    "#a8cc8c", "#dbab79", "#71bef2", "#d290e4", "#66c2cd", "#ffffff",
];

/// Records a transfer, a kill and the same command again: an SVG that plays (`--svg`).
#[derive(Debug, clap::Args)]
pub struct Record {
    #[command(flatten)]
    common: Common,
    /// MiB that are sent.
    #[arg(long, default_value_t = 300)]
    mib: u64,
    /// Rate of it, so that there is something to see.
    #[arg(long, default_value = "70MB")]
    limit: String,
}

/// Part of a line in one colour.
type Run = (String, Option<&'static str>, bool);

/// The screen at one moment.
struct Frame {
    at: Duration,
    rows: Vec<Vec<Run>>,
}

struct Film {
    screen: Arc<Mutex<Parser>>,
    /// What is shown as `~`.
    home: String,
    began: Instant,
    frames: Vec<Frame>,
}

impl Record {
    /// Options that all commands share.
    pub fn common(&self) -> &Common {
        &self.common
    }

    /// Plays it, and gives the picture.
    pub fn run(&self, work: &Path, say: Say<'_>) -> Result<String, Failure> {
        if self.common.svg.is_none() {
            return Err(Failure::Broken("a recording goes into a file: name one with --svg".to_owned()));
        }
        let mut tree = Tree::new(&work.join("photos"), self.common.seed);
        for number in 0..6 {
            tree.file(format!("2026/IMG_{number:04}.raw"), &Content::Random((self.mib << 20) / 6));
        }
        tree.finish();
        let mut film = Film::new(work);
        let send = format!("landfall send photos --to usb --receipt photos.receipt --limit {}", self.limit);
        film.prompt(&send);
        let killed =
            film.play(self.start(work, &["send", "photos", "--to", "usb", "--receipt", "photos.receipt"])?, true)?;
        if !killed {
            return Err(Failure::Broken("it ended before it could be killed".to_owned()));
        }
        film.feed("\r\nKilled\r\n");
        film.wait(BREATH);
        film.prompt(&send);
        film.play(self.start(work, &["send", "photos", "--to", "usb", "--receipt", "photos.receipt"])?, false)?;
        film.prompt("landfall verify photos.receipt usb");
        film.play(terminal(work, &["verify", "photos.receipt", "usb"])?, false)?;
        film.feed("$ ");
        film.look();
        let text = film.svg();
        say(&format!("{} frames, {} bytes", film.frames.len(), text.len()));
        Ok(text)
    }

    fn start(&self, work: &Path, words: &[&str]) -> Result<(Child, File), Failure> {
        terminal(work, &[words, &["--limit", &self.limit]].concat())
    }
}

/// landfall on a terminal of its own; what it shows is read from the file.
fn terminal(work: &Path, words: &[&str]) -> Result<(Child, File), Failure> {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).map_err(Failure::broken)?;
    grantpt(&master).and_then(|()| unlockpt(&master)).map_err(Failure::broken)?;
    let name = ptsname(&master, vec![]).map_err(Failure::broken)?;
    let slave = PathBuf::from(name.to_string_lossy().into_owned());
    let slave = File::options().read(true).write(true).open(slave).map_err(Failure::broken)?;
    let size = Winsize { ws_row: ROWS.get(), ws_col: COLUMNS.get(), ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&slave, size).map_err(Failure::broken)?;
    let end = || slave.try_clone().map(Stdio::from).map_err(Failure::broken);
    let mut command = Command::new(process::binary());
    command.args(words).current_dir(work).env("LANDFALL_HOME", work.join(".state")).env("TERM", "xterm-256color");
    command.stdin(end()?).stdout(end()?).stderr(end()?);
    let child = command.spawn().map_err(Failure::broken)?;
    Ok((child, File::from(master)))
}

impl Film {
    fn new(home: &Path) -> Film {
        let screen = Arc::new(Mutex::new(Parser::new(ROWS, COLUMNS, 0)));
        Film { screen, home: home.to_string_lossy().into_owned(), began: Instant::now(), frames: vec![] }
    }

    fn feed(&self, text: &str) {
        self.screen.lock().unwrap_or_else(PoisonError::into_inner).process(text.as_bytes());
    }

    fn prompt(&mut self, command: &str) {
        self.feed("\x1b[1m$ ");
        self.feed(command);
        self.feed("\x1b[0m");
        self.wait(BREATH);
        self.feed("\r\n");
    }

    fn wait(&mut self, time: Duration) {
        self.look();
        std::thread::sleep(time);
    }

    /// Watches a program until it ends, or kills it when it is half done. Whether it was killed.
    fn play(&mut self, started: (Child, File), is_victim: bool) -> Result<bool, Failure> {
        let (mut child, mut shown) = started;
        let screen = Arc::clone(&self.screen);
        let reader = std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // The terminal is gone when nobody holds its other end.
            while let Ok(count @ 1..) = shown.read(&mut bytes) {
                screen.lock().unwrap_or_else(PoisonError::into_inner).process(&bytes[..count]);
            }
        });
        let mut killed = false;
        while child.try_wait().map_err(Failure::broken)?.is_none() {
            std::thread::sleep(FRAME);
            self.look();
            if is_victim && self.is_half_done() {
                child.kill().map_err(Failure::broken)?;
                killed = true;
            }
        }
        reader.join().map_err(|_| Failure::Broken("the terminal's reader has panicked".to_owned()))?;
        self.wait(BREATH);
        Ok(killed)
    }

    fn is_half_done(&self) -> bool {
        let text = self.screen.lock().unwrap_or_else(PoisonError::into_inner).screen().contents();
        let before = text.split('%').rev().skip(1).map(|part| part.trim_end());
        let percent =
            before.filter_map(|part| part.rsplit(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok());
        percent.into_iter().any(|percent: u32| (45..95).contains(&percent))
    }

    /// Takes a picture, unless it is the last one again.
    fn look(&mut self) {
        let rows = rows(&self.home, self.screen.lock().unwrap_or_else(PoisonError::into_inner).screen());
        if self.frames.last().is_none_or(|last| last.rows != rows) {
            self.frames.push(Frame { at: self.began.elapsed(), rows });
        }
    }

    fn svg(&self) -> String {
        let total = self.frames.last().map_or(REST, |last| last.at + REST).as_secs_f64();
        let (width, height) =
            (EDGE * 2.0 + LETTER_WIDTH * f64::from(SHOWN_COLUMNS), EDGE * 2.0 + LINE_HEIGHT * f64::from(ROWS.get()));
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"ui-monospace, \
             'DejaVu Sans Mono', Menlo, Consolas, monospace\" font-size=\"14\">\n\
             <title>landfall sends, is killed, and goes on</title>\n\
             <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"{BACKGROUND}\"/>\n<style>\n\
             .f {{ visibility: hidden; animation: {total:.2}s step-end infinite }}\n"
        );
        for (index, frame) in self.frames.iter().enumerate() {
            let percent = |at: f64| at / total * 100.0;
            let from = percent(frame.at.as_secs_f64());
            let until = self.frames.get(index + 1).map_or(100.0, |next| percent(next.at.as_secs_f64()));
            let _ = writeln!(
                out,
                "@keyframes k{index} {{ 0% {{ visibility: hidden }} {from:.3}% {{ visibility: visible }} \
                 {until:.3}% {{ visibility: hidden }} }}"
            );
        }
        // Who wants no motion sees how it ends.
        let last = self.frames.len().saturating_sub(1);
        let _ = writeln!(
            out,
            "@media (prefers-reduced-motion: reduce) {{ .f {{ animation: none !important }} #f{last} {{ visibility: \
             visible }} }}\n</style>"
        );
        for (index, frame) in self.frames.iter().enumerate() {
            let _ = writeln!(out, "<g class=\"f\" id=\"f{index}\" style=\"animation-name: k{index}\">");
            for (row, runs) in frame.rows.iter().enumerate().filter(|(_, runs)| !runs.is_empty()) {
                let y = EDGE + LINE_HEIGHT * (row as f64 + 0.75);
                let _ = write!(out, "<text x=\"{EDGE}\" y=\"{y:.1}\" xml:space=\"preserve\">");
                for (text, colour, is_bold) in runs {
                    let weight = if *is_bold { " font-weight=\"bold\"" } else { "" };
                    let fill = colour.unwrap_or(FOREGROUND);
                    let _ = write!(out, "<tspan fill=\"{fill}\"{weight}>{}</tspan>", escaped(text));
                }
                out.push_str("</text>\n");
            }
            out.push_str("</g>\n");
        }
        out.push_str("</svg>\n");
        out
    }
}

/// What stands on the screen, without what is blank at the ends of lines.
fn rows(home: &str, screen: &vt100::Screen) -> Vec<Vec<Run>> {
    let (height, width) = screen.size();
    let (height, width) = (height.get(), width.get());
    let row = |row: u16| {
        let mut runs: Vec<Run> = vec![];
        for column in 0..width {
            let Some(cell) = screen.cell(row, column).filter(|cell| !cell.is_wide_continuation()) else { continue };
            let text = if cell.has_contents() { cell.contents() } else { " " };
            let look = (colour(cell.fgcolor()), cell.bold());
            match runs.last_mut() {
                Some((last, colour, is_bold)) if (*colour, *is_bold) == look => last.push_str(text),
                _ => runs.push((text.to_owned(), look.0, look.1)),
            }
        }
        runs.iter_mut().for_each(|(text, ..)| *text = text.replace(home, "~"));
        while let Some((text, ..)) = runs.last_mut() {
            text.truncate(text.trim_end().len());
            if !text.is_empty() {
                break;
            }
            runs.pop();
        }
        runs
    };
    (0..height).map(row).collect()
}

fn colour(colour: Color) -> Option<&'static str> {
    match colour {
        Color::Idx(index) => COLOURS.get(usize::from(index)).copied(),
        Color::Default | Color::Rgb(..) => None,
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_film_shows_each_picture_once_and_ends_with_the_last() {
        let mut film = Film::new(Path::new("/no/where"));
        film.feed("\x1b[32mone\x1b[0m <&>  ");
        film.look();
        film.look();
        film.feed("\r\ntwo");
        film.look();
        assert_eq!(film.frames.len(), 2);
        assert_eq!(
            film.frames[0].rows[0],
            [("one".to_owned(), Some(COLOURS[2]), false), (" <&>".to_owned(), None, false)]
        );
        let svg = film.svg();
        assert!(
            svg.contains("&lt;&amp;&gt;") && svg.contains("@keyframes k1") && svg.contains("#f1 { visibility"),
            "{svg}"
        );
    }
}
