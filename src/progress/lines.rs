//! Lines for a screen of a given width, and the one line for a pipe. Nothing here is wider than it was told, and
//! what must go first goes first: the bar, then figures, then the middle of a name.

use super::figures;
use super::view::View;
use super::width::{columns, join_fitting, shorten};
use crate::event::Snapshot;
use crate::identity::Role;
use crate::wire::Phase;

/// Narrower screens get lines for this width.
pub const WIDTH_MIN: usize = 10;
/// Columns of the bar, without its brackets.
const BAR_COLUMNS: usize = 24;
/// From this width on figures come with their words.
const WORDS_COLUMNS_MIN: usize = 40;
const SEPARATOR: &str = " · ";

/// Two or three lines: what is being done to what; how far it is; who waits for whom, if nothing moves.
pub fn lines(view: &View, width: usize) -> Vec<String> {
    let width = width.max(WIDTH_MIN);
    let mut lines = vec![activity(view, width)];
    let figures = figures_line(view, width);
    lines.extend((!figures.is_empty()).then_some(figures));
    if let Some(stall) = view.stall() {
        let time = figures::time(stall.since);
        let parts = match width >= WORDS_COLUMNS_MIN {
            true => [stall.words.to_owned(), format!("for {time}")],
            false => [format!("waits: {}", stall.word), time],
        };
        lines.push(join_fitting(&parts, " ", width));
    }
    lines
}

/// Everything in one line of any length, for a log.
pub fn plain_line(view: &View) -> String {
    let now = view.snapshot();
    let mut parts = vec![phase_words(view).to_owned()];
    parts.extend(view.percent().map(|percent| format!("{percent} %")));
    parts.extend(amounts(now));
    parts.extend(rate(view));
    parts.extend(view.to_go().map(|time| format!("{} to go", figures::time(time))));
    parts.extend(now.object.as_ref().map(|object| format!("at `{object}`")));
    parts.extend(view.stall().map(|stall| format!("{} for {}", stall.words, figures::time(stall.since))));
    parts.join(", ")
}

fn activity(view: &View, width: usize) -> String {
    let words = if width >= WORDS_COLUMNS_MIN { phase_words(view) } else { phase_word(view.snapshot().phase) };
    let words = shorten(words, width);
    let Some(object) = &view.snapshot().object else { return words };
    let room = width.saturating_sub(columns(&words) + 1);
    // Fewer columns than this show nothing of a name.
    if room < 6 {
        return words;
    }
    format!("{words} {}", shorten(&object.to_string(), room))
}

fn figures_line(view: &View, width: usize) -> String {
    let now = view.snapshot();
    if width < WORDS_COLUMNS_MIN {
        let mut parts: Vec<String> = view.percent().map(|percent| format!("{percent} %")).into_iter().collect();
        parts.extend((now.known_bytes > 0).then(|| figures::bytes(now.verified_bytes)));
        parts.extend(rate(view));
        return join_fitting(&parts, " ", width);
    }
    let percent = view.percent().map(|percent| format!("{percent:>3} %")).unwrap_or_default();
    let mut parts = vec![join_fitting(&[percent, amounts(now).unwrap_or_default()], "  ", width)];
    parts.extend(rate(view));
    parts.extend(view.to_go().map(|time| format!("{} to go", figures::time(time))));
    // Figures say more than a bar, and a bar more than the number of files.
    let line = join_fitting(&parts, SEPARATOR, width);
    let barred = view.percent().map(|percent| format!("{} {line}", bar(percent)));
    let line = barred.filter(|barred| columns(barred) <= width).unwrap_or(line);
    join_fitting(&[line, files(now).unwrap_or_default()], SEPARATOR, width)
}

fn bar(percent: u8) -> String {
    let filled = usize::from(percent) * BAR_COLUMNS / 100;
    format!("[{}{}]", "#".repeat(filled), "-".repeat(BAR_COLUMNS - filled))
}

/// `1.2 GiB of 2.3 GiB verified`; `at least` while more may come.
fn amounts(now: &Snapshot) -> Option<String> {
    if now.known_files == 0 && !now.is_total {
        return None;
    }
    let bound = if now.is_total { "" } else { "at least " };
    Some(format!("{} of {bound}{} verified", figures::bytes(now.verified_bytes), figures::bytes(now.known_bytes)))
}

fn files(now: &Snapshot) -> Option<String> {
    let bound = if now.is_total { "" } else { "at least " };
    let known = figures::counted(now.known_files, "file", "files");
    (now.known_files > 0).then(|| format!("{} of {bound}{known}", figures::count(now.sealed_files)))
}

fn rate(view: &View) -> Option<String> {
    view.bytes_per_second().map(|rate| format!("{}/s", figures::bytes(rate)))
}

fn phase_words(view: &View) -> &'static str {
    match (view.snapshot().phase, view.role()) {
        (Phase::Connecting, Role::Sender) => "connecting to the receiver",
        (Phase::Connecting, Role::Receiver) => "connecting to the sender",
        (Phase::Consent, Role::Sender) => "the receiver's user is asked",
        (Phase::Consent, Role::Receiver) => "asking you",
        (Phase::Scanning, Role::Sender) => "reading the source",
        (Phase::Scanning, Role::Receiver) => "the sender reads its source",
        (Phase::Transferring, Role::Sender) => "sending",
        (Phase::Transferring, Role::Receiver) => "receiving",
        (Phase::Adopting, Role::Sender) => "the receiver reads what it already has",
        (Phase::Adopting, Role::Receiver) => "reading what is already here",
        (Phase::Verifying, Role::Sender) => "the receiver reads back from its device",
        (Phase::Verifying, Role::Receiver) => "reading back from the device",
        (Phase::Finishing, _) => "setting links and directories",
        (Phase::Receipt, _) => "exchanging the receipt",
        (Phase::DiskFull, Role::Sender) => "the receiver's disk is full",
        (Phase::DiskFull, Role::Receiver) => "the disk is full",
        (Phase::Done, _) => "done",
    }
}

fn phase_word(phase: Phase) -> &'static str {
    match phase {
        Phase::Connecting => "connect",
        Phase::Consent => "consent",
        Phase::Scanning => "scan",
        Phase::Transferring => "transfer",
        Phase::Adopting => "adopt",
        Phase::Verifying => "verify",
        Phase::Finishing => "finish",
        Phase::Receipt => "receipt",
        Phase::DiskFull => "disk full",
        Phase::Done => "done",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;
    use crate::event::WaitsFor;
    use crate::path::RelPath;

    const ALL_PHASES: [Phase; 10] = [
        Phase::Connecting,
        Phase::Consent,
        Phase::Scanning,
        Phase::Transferring,
        Phase::Adopting,
        Phase::Verifying,
        Phase::Finishing,
        Phase::Receipt,
        Phase::DiskFull,
        Phase::Done,
    ];

    fn view(role: Role, path: &[u8], stalled: Option<(Duration, WaitsFor)>) -> View {
        let start = Instant::now();
        let mut view = View::new(role, start);
        for second in 1..=2 {
            let snapshot = Snapshot {
                phase: Phase::Transferring,
                object: Some(RelPath::parse(path).unwrap()),
                known_bytes: 2_469_606_195,
                known_files: 2000,
                is_total: true,
                verified_bytes: 600_000_000 * second,
                sealed_files: 1204,
                stalled,
                ..Snapshot::default()
            };
            view.update(start + Duration::from_secs(second), snapshot);
        }
        view
    }

    #[test]
    fn each_width_shows_what_fits() {
        let view = view(Role::Sender, b"photos/2019/a.raw", Some((Duration::from_secs(5), WaitsFor::ReceiverDisk)));
        let shown = |width| lines(&view, width).join("\n");
        assert_eq!(shown(20), "transfer photo…a.raw\n48 % 1.1 GiB\nwaits: its disk");
        assert_eq!(
            shown(60),
            "sending photos/2019/a.raw\n\
             \x2048 %  1.1 GiB of 2.3 GiB verified · 572.2 MiB/s\n\
             waiting for the receiver's disk for 5.0 s"
        );
        assert_eq!(
            shown(100),
            "sending photos/2019/a.raw\n\
             [###########-------------]  48 %  1.1 GiB of 2.3 GiB verified · 572.2 MiB/s · 3.0 s to go\n\
             waiting for the receiver's disk for 5.0 s"
        );
        assert_eq!(
            shown(200),
            "sending photos/2019/a.raw\n\
             [###########-------------]  48 %  1.1 GiB of 2.3 GiB verified · 572.2 MiB/s · 3.0 s to go · 1,204 of 2,000 files\n\
             waiting for the receiver's disk for 5.0 s"
        );
    }

    #[test]
    fn a_log_gets_one_line() {
        let view = view(Role::Receiver, b"a\nb", None);
        let line = "receiving, 48 %, 1.1 GiB of 2.3 GiB verified, 572.2 MiB/s, 3.0 s to go, at `a\\nb`";
        assert_eq!(plain_line(&view), line);
    }

    #[test]
    fn while_more_may_come_figures_are_lower_bounds() {
        let mut view = View::new(Role::Sender, Instant::now());
        let snapshot = Snapshot { phase: Phase::Scanning, known_files: 3, known_bytes: 10, ..Snapshot::default() };
        view.update(Instant::now(), snapshot);
        assert_eq!(lines(&view, 100)[1], "0 B of at least 10 B verified · 0 of at least 3 files");
        assert_eq!(lines(&View::new(Role::Sender, Instant::now()), 100), ["connecting to the receiver"]);
    }

    #[test]
    fn every_phase_has_words_on_both_sides_at_every_width() {
        for phase in ALL_PHASES {
            for role in [Role::Sender, Role::Receiver] {
                let mut view = View::new(role, Instant::now());
                view.update(Instant::now(), Snapshot { phase, ..Snapshot::default() });
                for width in 0..=200 {
                    let lines = lines(&view, width);
                    assert!(lines.iter().all(|line| !line.is_empty() && columns(line) <= width.max(WIDTH_MIN)));
                }
                assert!(!plain_line(&view).is_empty());
            }
        }
    }

    proptest! {
        #[test]
        fn no_line_is_wider_than_the_screen(
            name in proptest::collection::vec(any::<u8>(), 1..200), width in 0_usize..220,
            known_bytes: u64, verified_bytes: u64, known_files: u64, sealed_files: u64, is_total: bool,
            seconds in 0_u64..1_000_000, phase in 0_usize..10, step_ms in 0_u64..100_000,
        ) {
            let object = RelPath::parse(&name).ok();
            let start = Instant::now();
            let mut view = View::new(Role::Sender, start);
            let stalled = Some((Duration::from_secs(seconds), WaitsFor::Acknowledgement));
            let snapshot = Snapshot {
                phase: ALL_PHASES[phase], object, known_bytes, known_files, is_total, verified_bytes, sealed_files,
                stalled, ..Snapshot::default()
            };
            view.update(start, Snapshot { verified_bytes: verified_bytes / 2, ..snapshot.clone() });
            view.update(start + Duration::from_millis(step_ms), snapshot);
            for line in lines(&view, width) {
                prop_assert!(columns(&line) <= width.max(WIDTH_MIN), "{line:?} at {width}");
                prop_assert!(!line.contains(char::is_control), "{line:?}");
            }
            plain_line(&view);
        }
    }
}
