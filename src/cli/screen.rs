//! What one transfer shows: its events become bars, lines, JSON and the result. It decides when something is shown;
//! the words are in `text`, `json` and `progress`, the drawing is `console`'s.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use super::console::{Console, Lent, Shows};
use super::failure::Failure;
use super::json;
use super::qr::{self, Ink};
use super::text::{Kept, LEFT_OUT_NAMED_MAX, LeftOut, date, event_text, reading_text, summary_text};
use crate::event::{Event, Snapshot};
use crate::identity::{Role, TransferId};
use crate::progress::{View, lines, plain_line};
use crate::wire::Phase;

/// Between two plain lines while things move.
const LINE_SECONDS: u64 = 5;
/// Between two plain lines while nothing moves.
const STALLED_LINE_SECONDS: u64 = 30;
/// Between two looks at the clock while no event comes.
const TICK_MS: u64 = 500;

/// What stands on standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// Results for people.
    Text,
    /// What was received: results for people go to standard error.
    Aside,
    /// One JSON object a line.
    Json,
    /// Nothing: it belongs to somebody else.
    Nothing,
}

/// The screen of one transfer.
#[derive(Debug)]
pub(super) struct Screen {
    console: Arc<Console>,
    output: Output,
    /// Which of several transfers it is; `None` if there is one.
    label: Option<TransferId>,
    shows_qr: bool,
    /// Until the first link, ssh speaks and asks on the terminal.
    lent: Option<Lent>,
    view: View,
    bar: Option<ProgressBar>,
    is_drawn: bool,
    left_out: Vec<LeftOut>,
    renamed_count: usize,
    left_out_count: u64,
    last_line: Option<(Instant, Phase, bool)>,
    /// When a line about standard input was shown last.
    last_read: Option<Instant>,
}

impl Screen {
    /// For a transfer in this role.
    pub(super) fn new(
        console: Arc<Console>,
        output: Output,
        label: Option<TransferId>,
        role: Role,
        shows_qr: bool,
        lent: Option<Lent>,
    ) -> Screen {
        let bar = (console.shows() == Shows::Bars).then(|| console.bar());
        let view = View::new(role, Instant::now());
        Screen {
            console,
            output,
            label,
            shows_qr,
            lent,
            view,
            bar,
            is_drawn: false,
            left_out: vec![],
            renamed_count: 0,
            left_out_count: 0,
            last_line: None,
            last_read: None,
        }
    }

    /// Shows events until there are no more.
    pub(super) fn run(&mut self, events: Receiver<Event>) {
        loop {
            match events.recv_timeout(Duration::from_millis(TICK_MS)) {
                Ok(event) => self.take(Instant::now(), event),
                Err(RecvTimeoutError::Timeout) => self.show_progress(Instant::now()),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.clear();
    }

    fn take(&mut self, now: Instant, event: Event) {
        if self.output == Output::Json {
            self.console.result(&json::line(json::event(&event), self.label));
        }
        if let Event::LeftOut { path, reason, .. } = &event {
            self.left_out_count += 1;
            if self.left_out.len() >= LEFT_OUT_NAMED_MAX {
                if self.left_out_count == LEFT_OUT_NAMED_MAX as u64 + 1 {
                    self.notice("more entries are left out; the receipt names all of them");
                }
                return;
            }
            self.left_out.push(LeftOut { path: path.clone(), reason: *reason });
        }
        if let Event::Renamed { .. } = &event {
            self.renamed_count += 1;
            if self.renamed_count > LEFT_OUT_NAMED_MAX {
                if self.renamed_count == LEFT_OUT_NAMED_MAX + 1 {
                    self.notice("more entries have another name; the receipt names all of them");
                }
                return;
            }
        }
        if let Some(line) = event_text(&event, self.view.role()) {
            self.notice(&line);
        }
        match event {
            Event::Progress(snapshot) => self.take_progress(now, snapshot),
            Event::Reading { bytes, elapsed, is_total } => {
                self.show_reading(now, &reading_text(bytes, elapsed, is_total), is_total);
            }
            Event::Ticket { text, expires, written_to } => {
                match written_to {
                    Some(path) => self.notice(&format!("the ticket is in {}", super::text::quoted(&path))),
                    None => self.show_ticket(&text, expires),
                }
                if self.shows_qr {
                    self.show_qr(&text);
                }
            }
            Event::Code { code, expires } => self.show_code(&code, expires),
            Event::Summary(summary) => {
                self.clear();
                match self.output {
                    Output::Text => self.console.result(&summary_text(&summary, &self.left_out, Kept::InTarget)),
                    Output::Aside => self.console.error(&summary_text(&summary, &self.left_out, Kept::Nowhere)),
                    Output::Json | Output::Nothing => {}
                }
            }
            _ => {}
        }
    }

    fn show_ticket(&mut self, ticket: &str, expires: u64) {
        if !matches!(self.output, Output::Text | Output::Aside) {
            return;
        }
        let command = match self.view.role() {
            Role::Sender => "landfall recv --ticket",
            Role::Receiver => "landfall send PATH... --ticket",
        };
        let until = date(i64::try_from(expires).unwrap_or(i64::MAX));
        self.notice(&format!(
            "on the other machine: `{command}`, and give it this ticket when it asks. Whoever has the ticket may take \
             the transfer, once, until {until}:"
        ));
        match self.output {
            Output::Aside => self.console.error(&format!("{ticket}\n")),
            _ => self.console.result(&format!("{ticket}\n")),
        }
    }

    /// The code on a line of its own; what is typed on the other machine above it.
    fn show_code(&mut self, code: &str, expires: u64) {
        if !matches!(self.output, Output::Text | Output::Aside) {
            return;
        }
        let until = date(i64::try_from(expires).unwrap_or(i64::MAX));
        self.notice("on the other machine, on the same network:");
        self.notice("  landfall send PATH... --lan");
        self.notice(&format!("and this code, good once, until {until}:"));
        match self.output {
            Output::Aside => self.console.error(&format!("{code}\n")),
            _ => self.console.result(&format!("{code}\n")),
        }
    }

    fn show_reading(&mut self, now: Instant, line: &str, is_total: bool) {
        let pause = Duration::from_secs(LINE_SECONDS);
        match (&self.bar, self.console.shows()) {
            (Some(bar), _) => {
                self.console.draw(bar, &[line.to_owned()]);
                // What follows may be a question of ssh.
                self.is_drawn = is_total;
            }
            (None, Shows::Lines)
                if is_total || self.last_read.is_none_or(|last| now.saturating_duration_since(last) >= pause) =>
            {
                self.notice(line);
                self.last_read = Some(now);
            }
            _ => {}
        }
    }

    /// Asked for by name, so that `-q` does not take it away.
    fn show_qr(&self, ticket: &str) {
        let is_coloured =
            std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty());
        let lines = qr::lines(ticket, if is_coloured { Ink::Coloured } else { Ink::Plain }).unwrap_or_default();
        let (needed, there) = (qr::columns(&lines), self.console.columns());
        if lines.is_empty() || std::io::stderr().is_terminal() && needed > there {
            let text = format!("the ticket's QR code takes {needed} columns and this terminal has {there}");
            return self.console.error(&format!("{text}: make it wider, and type the same command again\n"));
        }
        self.console.error(&(lines.join("\n") + "\n"));
    }

    fn notice(&self, line: &str) {
        match self.label {
            Some(label) => self.console.notice(&format!("{}: {line}", short(label))),
            None => self.console.notice(line),
        }
    }

    fn take_progress(&mut self, now: Instant, snapshot: Snapshot) {
        self.lent.take_if(|_| snapshot.phase != Phase::Connecting);
        self.view.update(now, snapshot);
        self.show_progress(now);
    }

    fn show_progress(&mut self, now: Instant) {
        let is_lent = self.console.is_lent();
        if is_lent {
            self.hide();
        }
        match (&self.bar, self.console.shows()) {
            (_, Shows::Nothing) => {}
            (Some(bar), _) if !is_lent => {
                let mut lines = lines(&self.view, self.console.columns());
                if let Some(label) = self.label {
                    lines.insert(0, short(label));
                }
                self.console.draw(bar, &lines);
                self.is_drawn = true;
            }
            // Lines stand below a question, and erase nothing.
            _ if self.is_line_due(now) => {
                self.notice(&plain_line(&self.view));
                let phase = self.view.snapshot().phase;
                self.last_line = Some((now, phase, self.view.stall().is_some()));
            }
            _ => {}
        }
    }

    /// A line is due when the phase or the stall changes, and now and then.
    fn is_line_due(&self, now: Instant) -> bool {
        let is_stalled = self.view.stall().is_some();
        match self.last_line {
            None => self.view.snapshot().phase != Phase::Connecting || is_stalled,
            Some((at, phase, was_stalled)) => {
                let pause = if is_stalled { STALLED_LINE_SECONDS } else { LINE_SECONDS };
                let has_changed = phase != self.view.snapshot().phase || is_stalled && !was_stalled;
                has_changed || now.saturating_duration_since(at) >= Duration::from_secs(pause)
            }
        }
    }

    /// Draws nothing until there is a link: drawing goes over what stands there by now, a question of ssh, or why the
    /// other side could not begin.
    fn hide(&mut self) {
        if std::mem::take(&mut self.is_drawn) {
            self.clear();
            self.bar = Some(self.console.bar());
        }
    }

    fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    /// Shows why there is no result.
    pub(super) fn fail(&mut self, failure: &Failure) {
        self.clear();
        if self.output == Output::Json {
            self.console.result(&json::line(json::error(failure), self.label));
        }
        let label = self.label.map(|label| format!("{}: ", short(label))).unwrap_or_default();
        self.console.error(&(label + &failure.text()));
    }
}

/// Enough of an id to tell transfers apart, and to type.
pub(super) fn short(id: TransferId) -> String {
    id.to_string()[..8].to_owned()
}

/// Whether somebody can be asked: both ways to a terminal.
pub(super) fn can_ask() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}
