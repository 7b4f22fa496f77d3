//! How values are written on the command line: times, sizes, rates, and the words of options that take one of several.

use std::num::NonZeroU64;
use std::time::Duration;

use bytesize::ByteSize;
use clap::ValueEnum;
use jiff::SignedDuration;

use crate::attributes::Level;
use crate::limits::LIMIT_BYTES_PER_S_MIN;
use crate::options::Existing;

/// How long a side waits without any link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// So long.
    Limited(Duration),
    /// For ever.
    Forever,
}

/// The RATE of `landfall limit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NewLimit {
    /// So many bytes a second.
    Rate(NonZeroU64),
    /// No limit.
    None,
}

impl NewLimit {
    /// Bytes a second, if there is a limit.
    pub(super) fn bytes_per_s(self) -> Option<NonZeroU64> {
        match self {
            NewLimit::Rate(rate) => Some(rate),
            NewLimit::None => None,
        }
    }
}

/// `--existing`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ExistingWord {
    /// Leave it untouched and name it; exit 5
    Refuse,
    /// Leave it untouched and count it
    Keep,
    /// Replace it, moving only the chunks that differ
    Replace,
    /// Leave it untouched, and put what arrives beside it as `name (1)`
    Rename,
}

impl From<ExistingWord> for Existing {
    fn from(word: ExistingWord) -> Existing {
        match word {
            ExistingWord::Refuse => Existing::Refuse,
            ExistingWord::Keep => Existing::Keep,
            ExistingWord::Replace => Existing::Replace,
            ExistingWord::Rename => Existing::Rename,
        }
    }
}

/// `--accept-level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum LevelWord {
    /// O_DIRECT on a file system that states its alignment for it
    Device,
    /// Each page was found absent from the cache just before it was read
    Evicted,
    /// The cache was asked to step aside, without proof that it did
    Requested,
    /// Possibly from the cache: proves nothing about the device
    Cache,
}

impl From<LevelWord> for Level {
    fn from(word: LevelWord) -> Level {
        match word {
            LevelWord::Device => Level::Device,
            LevelWord::Evicted => Level::Evicted,
            LevelWord::Requested => Level::Requested,
            LevelWord::Cache => Level::Cache,
        }
    }
}

/// A time, or for ever.
pub(super) fn parse_patience(text: &str) -> Result<Patience, String> {
    if text == "forever" {
        return Ok(Patience::Forever);
    }
    let span: Option<SignedDuration> = text.parse().ok();
    let length = span.and_then(|span| Duration::try_from(span).ok());
    length.map(Patience::Limited).ok_or_else(|| "a time is written as `90s`, `10m`, `2h` or `forever`".to_owned())
}

/// A size in bytes.
pub(super) fn parse_bytes(text: &str) -> Result<u64, String> {
    let size: Result<ByteSize, String> = text.parse();
    size.map(|size| size.as_u64()).map_err(|_| "a size is written as `1000000`, `500MB` or `2TiB`".to_owned())
}

/// A size a second.
pub(super) fn parse_rate(text: &str) -> Result<NonZeroU64, String> {
    let bytes = parse_bytes(text.strip_suffix("/s").unwrap_or(text)).ok().and_then(NonZeroU64::new);
    let rate = bytes.ok_or_else(|| "a rate is written as `2MB` or `500KiB/s`".to_owned())?;
    match rate.get() < LIMIT_BYTES_PER_S_MIN {
        true => Err(format!("the lowest limit is {LIMIT_BYTES_PER_S_MIN} bytes a second")),
        false => Ok(rate),
    }
}

/// A size a second, or none.
pub(super) fn parse_limit(text: &str) -> Result<NewLimit, String> {
    if text == "none" {
        return Ok(NewLimit::None);
    }
    parse_rate(text).map(NewLimit::Rate).map_err(|cause| format!("{cause}, and `none` lifts a limit"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_rate_is_a_size_a_second() {
        let rate = |text| parse_rate(text).map(NonZeroU64::get);
        assert_eq!((rate("2MB"), rate("500KiB/s"), rate("1000")), (Ok(2_000_000), Ok(512_000), Ok(1000)));
        for bad in ["0", "999", "-1", "fast", "/s", "2MB/h", "none"] {
            assert!(rate(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_limit("none"), Ok(NewLimit::None));
        assert_eq!(parse_limit("1kB").unwrap().bytes_per_s().map(NonZeroU64::get), Some(1000));
        assert!(parse_limit("None").is_err() && parse_limit("1").is_err());
    }

    #[test]
    fn times_and_sizes_are_read_with_their_units() {
        assert_eq!(parse_patience("90s"), Ok(Patience::Limited(Duration::from_secs(90))));
        assert_eq!(parse_patience("1h30m"), Ok(Patience::Limited(Duration::from_secs(5400))));
        assert_eq!(parse_patience("forever"), Ok(Patience::Forever));
        for bad in ["", "10", "-5s", "soon", "5 parsecs"] {
            assert!(parse_patience(bad).is_err(), "{bad}");
        }
        assert_eq!(
            (parse_bytes("12"), parse_bytes("1 KiB"), parse_bytes("2GB")),
            (Ok(12), Ok(1024), Ok(2_000_000_000))
        );
        for bad in ["", "-1", "x", "1 elephant"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
    }
}
