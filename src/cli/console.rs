//! The terminal, or whatever stands in its place: two streams, bars, and a question. A stream that is closed never
//! stops anything, so no error of writing is looked at. It does not know what the lines mean.

use std::io::{self, BufRead, IsTerminal, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Redraws in a second, at most.
const DRAWS_PER_SECOND: u8 = 10;
/// Columns of a screen that does not say how many it has.
const COLUMNS_DEFAULT: usize = 80;

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shows {
    /// Bars that are drawn over.
    Bars,
    /// A line now and then.
    Lines,
    /// Nothing, and no notices either.
    Nothing,
}

/// What the user asked to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verbosity {
    /// Results and errors.
    Quiet,
    /// And progress and notices.
    Normal,
    /// And a log, which bars would tear apart.
    Logging,
}

/// The two streams and the bars.
#[derive(Debug)]
pub(super) struct Console {
    shows: Shows,
    bars: MultiProgress,
    /// Lines that came while a question stood on the screen; `None` while none does.
    held: Mutex<Option<Vec<String>>>,
    /// How many others may ask something on the terminal.
    others: AtomicUsize,
}

/// As long as this lives, another program may ask something on the terminal: no bar is drawn.
#[derive(Debug)]
pub(super) struct Lent(Arc<Console>);

impl Lent {
    /// Of this console.
    pub(super) fn of(console: &Arc<Console>) -> Lent {
        console.others.fetch_add(1, Ordering::Relaxed);
        Lent(Arc::clone(console))
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.0.others.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Console {
    /// For this process.
    pub(super) fn new(verbosity: Verbosity) -> Console {
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let shows = match verbosity {
            Verbosity::Quiet => Shows::Nothing,
            Verbosity::Normal if io::stderr().is_terminal() && !is_dumb => Shows::Bars,
            Verbosity::Normal | Verbosity::Logging => Shows::Lines,
        };
        let bars = MultiProgress::with_draw_target(match shows {
            Shows::Bars => ProgressDrawTarget::stderr_with_hz(DRAWS_PER_SECOND),
            Shows::Lines | Shows::Nothing => ProgressDrawTarget::hidden(),
        });
        Console { shows, bars, held: Mutex::new(None), others: AtomicUsize::new(0) }
    }

    /// Whether another program may ask something on the terminal.
    pub(super) fn is_lent(&self) -> bool {
        self.others.load(Ordering::Relaxed) > 0
    }

    /// How progress is shown.
    pub(super) fn shows(&self) -> Shows {
        self.shows
    }

    /// Columns that a line may take without wrapping, whatever the terminal does with its last one.
    pub(super) fn columns(&self) -> usize {
        let size = rustix::termios::tcgetwinsize(io::stderr());
        let columns = size.map_or(0, |size| usize::from(size.ws_col));
        if columns == 0 { COLUMNS_DEFAULT } else { columns }.saturating_sub(1)
    }

    /// A place for the lines of one transfer.
    pub(super) fn bar(&self) -> ProgressBar {
        let style = ProgressStyle::with_template("{msg}").expect("a template without options is well-formed");
        self.bars.add(ProgressBar::no_length().with_style(style))
    }

    /// Draws the lines of one transfer, unless a question stands on the screen.
    pub(super) fn draw(&self, bar: &ProgressBar, lines: &[String]) {
        if self.held().is_none() {
            bar.set_message(lines.join("\n"));
        }
    }

    /// A result.
    pub(super) fn result(&self, text: &str) {
        self.bars.suspend(|| write(io::stdout().lock(), text));
    }

    /// Something to know, as one line; not shown under `-q`.
    pub(super) fn notice(&self, line: &str) {
        if self.shows == Shows::Nothing {
            return;
        }
        match &mut *self.held() {
            Some(held) => held.push(line.to_owned()),
            None => self.bars.suspend(|| write(io::stderr().lock(), &format!("{line}\n"))),
        }
    }

    /// An error, with its newline; always shown.
    pub(super) fn error(&self, text: &str) {
        self.bars.suspend(|| write(io::stderr().lock(), text));
    }

    /// Shows a question and waits for a line of standard input. `None` at its end. Nothing else is drawn meanwhile,
    /// and nobody has to wait: notices are shown afterwards.
    pub(super) fn ask(&self, question: &str) -> Option<String> {
        *self.held() = Some(Vec::new());
        // An error while clearing is one of writing: a screen that is gone has nothing to be cleared.
        drop(self.bars.clear());
        write(io::stderr().lock(), question);
        let mut answer = String::new();
        let read = io::stdin().lock().read_line(&mut answer);
        let held = self.held().take().unwrap_or_default();
        held.iter().for_each(|line| self.notice(line));
        read.is_ok_and(|length| length > 0).then_some(answer)
    }

    fn held(&self) -> MutexGuard<'_, Option<Vec<String>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write(mut stream: impl Write, text: &str) {
    // A closed or full stream is not a reason to stop moving data.
    drop(stream.write_all(text.as_bytes()).and_then(|()| stream.flush()));
}
