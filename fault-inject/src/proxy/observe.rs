//! What two processes of the shipped program show to somebody outside: exit codes, events, the log's figures, memory,
//! and what lies in the target.

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::rig::oracle::{self, Rules};
use crate::rig::process::Finished;
use crate::rig::transfer::Live;

/// Pause between two looks.
const LOOK_PAUSE: Duration = Duration::from_millis(5);
/// What a process that has ended is given to be taken down.
const GONE_PATIENCE: Duration = Duration::from_secs(20);
/// The log's line about a link that is over.
const LINK_IS_OVER: &str = "the link is over";

/// What was seen of both sides.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// Exit codes of the sender and the receiver.
    pub(super) codes: [Option<i32>; 2],
    /// Links that were lost, on the side that says more of them.
    pub(super) lost_links: u64,
    /// The sender says that it continues.
    pub(super) has_resumed: bool,
    /// Packets that QUIC declared lost, on both sides.
    pub(super) lost_packets: u64,
    /// Longest round trip that a log has.
    pub(super) round_trip: Duration,
    /// Bytes of chunks that the receiver took from the link.
    pub(super) moved_bytes: u64,
    /// Bytes of the files, by the receiver's summary.
    pub(super) content_bytes: u64,
    /// Chunks that were asked for again because a check found them wrong.
    pub(super) resent_chunks: u64,
    /// The larger peak memory of the two.
    pub(super) peak_bytes: u64,
}

impl Seen {
    /// Every byte moved once, nothing was found wrong, no link was lost.
    pub(super) fn is_undisturbed(&self) -> bool {
        self.moved_bytes == self.content_bytes && self.resent_chunks == 0 && self.lost_links == 0
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = |code: Option<i32>| code.map_or("signal".to_owned(), |code| code.to_string());
        let codes = self.codes.map(code).join(" ");
        let (moved, content) = (self.moved_bytes, self.content_bytes);
        write!(f, "exit {codes}, links lost {}, packets lost {}", self.lost_links, self.lost_packets)?;
        write!(f, ", moved {moved} of {content}, peak {} MiB", self.peak_bytes >> 20)
    }
}

/// Waits for both. `Err`: one did not end; both are gone.
pub(super) fn wait(mut live: Live, patience: Duration) -> Result<(Finished, Finished), String> {
    let deadline = Instant::now() + patience;
    while !(live.sender.has_ended() && live.receiver.has_ended()) {
        if Instant::now() > deadline {
            let shown = [&live.sender, &live.receiver].map(|side| side.describe("did not end"));
            return Err(format!("not within {patience:?}\n{}", shown.join("\n")));
        }
        std::thread::sleep(LOOK_PAUSE);
    }
    Ok((live.sender.wait(GONE_PATIENCE), live.receiver.wait(GONE_PATIENCE)))
}

/// Reads what both have said.
pub(super) fn look(sender: &Finished, receiver: &Finished) -> Seen {
    let summary = receiver.summary().unwrap_or_default();
    let number = |name: &str| summary[name].as_u64().unwrap_or_default();
    let logs = [sender.stderr_text(), receiver.stderr_text()];
    let over: Vec<&str> = logs.iter().flat_map(|log| log.lines()).filter(|line| line.contains(LINK_IS_OVER)).collect();
    Seen {
        codes: [sender.code(), receiver.code()],
        lost_links: events(sender, "link-lost").max(events(receiver, "link-lost")),
        has_resumed: sender.stdout_text().contains("\"start\":\"resumed\""),
        lost_packets: over.iter().filter_map(|line| field(line, "lost_packets")?.parse::<u64>().ok()).sum(),
        round_trip: over.iter().filter_map(|line| time(field(line, "round_trip")?)).max().unwrap_or_default(),
        moved_bytes: number("wire_bytes"),
        content_bytes: number("bytes"),
        resent_chunks: number("resent_chunks"),
        peak_bytes: sender.peak_bytes.max(receiver.peak_bytes),
    }
}

fn events(finished: &Finished, name: &str) -> u64 {
    let is_one =
        |line: &&str| serde_json::from_str::<serde_json::Value>(line).is_ok_and(|event| event["event"] == name);
    finished.stdout_text().lines().filter(is_one).count() as u64
}

/// The value of `name=value` in a line of the log.
fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

/// A time as `Duration` shows itself.
fn time(text: &str) -> Option<Duration> {
    let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
    let (number, unit) = text.split_at(split);
    let scale = match unit {
        "s" => 1.0,
        "ms" => 1e-3,
        "µs" => 1e-6,
        "ns" => 1e-9,
        _ => return None,
    };
    number.parse::<f64>().ok().map(|number| Duration::from_secs_f64(number * scale))
}

/// What is wrong in the target: names that hold something else than the source, and, if everything is said to have
/// arrived, names that are missing and working state that is left.
pub(super) fn differences(source: &Path, target: &Path, is_whole: bool) -> Vec<String> {
    let name = source.file_name().unwrap_or_default();
    let arrived = target.join(name);
    if !arrived.is_dir() {
        return if is_whole { vec!["nothing arrived".to_owned()] } else { vec![] };
    }
    let (wanted, got) = (oracle::snapshot(source), oracle::snapshot(&arrived));
    if is_whole {
        let mut found = oracle::differences(&wanted, &got, &Rules::default());
        found.extend(target.join(".landfall").exists().then(|| "working state is left".to_owned()));
        return found;
    }
    // Directories are finished last; files that have their name have to be right already.
    let is_wrong = |(path, node): &(&Vec<u8>, &oracle::Node)| {
        node.size_bytes > 0 && wanted.get(*path).is_none_or(|real| real.digest != node.digest)
    };
    got.iter().filter(is_wrong).map(|(path, _)| format!("{}: other bytes", path.escape_ascii())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_read_as_it_is_written() {
        let line = "2026 DEBUG landfall::net::link: the link is over round_trip=1.5004s mtu_bytes=1200 lost_packets=17";
        assert_eq!(field(line, "lost_packets"), Some("17"));
        assert_eq!(field(line, "round_trip").and_then(time), Some(Duration::from_micros(1_500_400)));
        assert_eq!(time("2.5ms"), Some(Duration::from_micros(2500)));
        assert_eq!((time("3x"), field(line, "packets")), (None, None));
    }
}
