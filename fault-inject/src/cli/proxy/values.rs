//! How values of the proxy's options are written: `2%`, `750ms`, `10mbit`, `5s/2s`, each for both ways or for one.

use std::time::Duration;

use crate::proxy::{BOTH, Direction, Outage, Rebind};
use crate::rng::Odds;

/// A value for both ways, or as `to-listener=VALUE` or `to-dialler=VALUE` for one.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Directed<T> {
    pub(super) ways: Vec<Direction>,
    pub(super) value: T,
}

/// Reads a value that may be for one way.
fn directed<T>(text: &str, value: fn(&str) -> Result<T, String>) -> Result<Directed<T>, String> {
    for way in BOTH {
        if let Some(rest) = text.strip_prefix(way.word()).and_then(|rest| rest.strip_prefix('=')) {
            return Ok(Directed { ways: vec![way], value: value(rest)? });
        }
    }
    Ok(Directed { ways: BOTH.to_vec(), value: value(text)? })
}

fn odds_of(text: &str) -> Result<Odds, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse::<f64>();
    let percent = number.ok().filter(|percent| (0.0..=100.0).contains(percent));
    let percent = percent.ok_or("a share is written as `2%` or `0.5%`")?;
    Ok((0..=1_000_000)
        .find(|odds| f64::from(*odds) >= percent * 10_000.0 - 0.5)
        .map_or(Odds::ALWAYS, Odds::per_million))
}

pub(super) fn time(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let scale = match &text[split..] {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        _ => return Err("a time is written as `20ms`, `5s` or `2m`".to_owned()),
    };
    let number: f64 = text[..split].parse().map_err(|_| "a time begins with a number".to_owned())?;
    Duration::try_from_secs_f64(number * scale).map_err(|error| error.to_string())
}

/// Bytes, as `1500`, `64k`, `8M`, `1G` (powers of 1024).
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let shift = match text.chars().last() {
        Some('k' | 'K') => 10,
        Some('M') => 20,
        Some('G') => 30,
        _ => 0,
    };
    let digits = if shift == 0 { text } else { &text[..text.len() - 1] };
    let number = digits.parse::<u64>().map_err(|_| "a size is written as `1500`, `64k` or `8M`".to_owned())?;
    number.checked_mul(1 << shift).ok_or("that is too large".to_owned())
}

/// Bytes a second, as `10mbit` or `8M`.
fn rate_of(text: &str) -> Result<u64, String> {
    for (unit, per_s) in [("kbit", 125), ("mbit", 125_000), ("gbit", 125_000_000)] {
        if let Some(digits) = text.strip_suffix(unit) {
            return digits.parse::<u64>().map(|number| number * per_s).map_err(|error| error.to_string());
        }
    }
    bytes(text)
}

fn list_of(text: &str) -> Result<Vec<(u64, u64)>, String> {
    let run = |run: &str| {
        let (first, last) = run.split_once('-').unwrap_or((run, run));
        Some((first.parse().ok()?, last.parse().ok()?))
    };
    text.split(',').map(run).collect::<Option<_>>().ok_or("a list is written as `2-7,9`".to_owned())
}

fn number_of<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("`{text}` is not a number"))
}

pub(super) fn odds(text: &str) -> Result<Directed<Odds>, String> {
    directed(text, odds_of)
}

pub(super) fn times(text: &str) -> Result<Directed<Duration>, String> {
    directed(text, time)
}

pub(super) fn rates(text: &str) -> Result<Directed<u64>, String> {
    directed(text, rate_of)
}

pub(super) fn sizes(text: &str) -> Result<Directed<usize>, String> {
    directed(text, number_of)
}

pub(super) fn counts(text: &str) -> Result<Directed<u32>, String> {
    directed(text, number_of)
}

pub(super) fn list(text: &str) -> Result<Directed<Vec<(u64, u64)>>, String> {
    directed(text, list_of)
}

/// `ON/OFF`, `ON/OFF/once` or `ON/forever`.
pub(super) fn blackout(text: &str) -> Result<Outage, String> {
    match text.split('/').collect::<Vec<_>>()[..] {
        [on, "forever"] => Ok(Outage::for_ever(time(on)?)),
        [on, off] => Ok(Outage::periodic(time(on)?, time(off)?)),
        [on, off, "once"] => Ok(Outage::once(time(on)?, time(off)?)),
        _ => Err("a blackout is written as `5s/2s`, `5s/60s/once` or `5s/forever`".to_owned()),
    }
}

pub(super) fn way(text: &str) -> Result<Direction, String> {
    BOTH.into_iter().find(|way| way.word() == text).ok_or("a way is `to-listener` or `to-dialler`".to_owned())
}

/// `FIRST` or `FIRST/EVERY`.
pub(super) fn rebind(text: &str) -> Result<Rebind, String> {
    let (first, every) = text.split_once('/').map_or((text, None), |(first, every)| (first, Some(every)));
    Ok(Rebind { first: time(first)?, every: every.map(time).transpose()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_the_help_writes_them() {
        let seconds = Duration::from_secs;
        assert_eq!(odds("2%").map(|it| (it.value.millionths(), it.ways.len())), Ok((20_000, 2)));
        assert_eq!(odds("to-dialler=0.5%").map(|it| it.ways), Ok(vec![Direction::ToDialler]));
        assert_eq!(odds("100").map(|it| it.value), Ok(Odds::ALWAYS));
        assert_eq!(time("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!([rate_of("10mbit"), rate_of("8M")], [Ok(1_250_000), Ok(8 << 20)]);
        assert_eq!(list_of("2-7,9"), Ok(vec![(2, 7), (9, 9)]));
        assert_eq!(blackout("5s/2s"), Ok(Outage::periodic(seconds(5), seconds(2))));
        assert_eq!(blackout("1s/60s/once"), Ok(Outage::once(seconds(1), seconds(60))));
        assert_eq!(blackout("0s/forever"), Ok(Outage::for_ever(seconds(0))));
        assert_eq!(rebind("1s/5s"), Ok(Rebind { first: seconds(1), every: Some(seconds(5)) }));
    }

    #[test]
    fn what_is_not_written_so_is_refused() {
        assert!(odds("2x").is_err() && odds("101%").is_err() && odds("sideways=2%").is_err());
        assert!(time("5").is_err() && time("s").is_err() && bytes("x").is_err() && list_of("2-").is_err());
        assert!(blackout("5s").is_err() && way("both").is_err() && rebind("1s/").is_err());
    }
}
