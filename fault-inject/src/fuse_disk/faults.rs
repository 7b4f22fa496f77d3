//! The faults of the lying disk as values: which kinds there are, when one strikes, and how it is written down. Owns
//! the grammar `KIND[:key=value,...]` of the command line and of the control socket; knows no file.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use rand::{Rng, RngCore};
use rand_chacha::ChaCha8Rng;

use crate::damage::Damage;
use crate::errno;
use crate::rng::Odds;

/// What goes wrong. The word of each is its name on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Other bytes than those that were written reach the disk; the page cache has the right ones.
    WriteCorrupt,
    /// A write succeeds and nothing is stored.
    WriteLost,
    /// The bytes land elsewhere in the same file; the old ones stay where the new ones belong.
    WriteMisdirect,
    /// Fewer bytes are taken than were offered, and the caller is told so.
    WriteShort,
    /// A write fails with an error number.
    WriteFail,
    /// No space left, after so many bytes.
    WriteFull,
    /// A read gives other bytes than those that are stored.
    ReadCorrupt,
    /// A read fails with an error number; writing to the place heals it.
    ReadFail,
    /// Stored bytes change by themselves, just after they were synced.
    Rot,
    /// A sync fails with an error number, the data that it was to store are gone, and the next sync succeeds.
    SyncFail,
    /// A sync says 0 and stores nothing.
    SyncLie,
    /// A sync takes long.
    SyncSlow,
    /// The sync of a directory fails with an error number; its names stay as undecided as they were.
    DirSyncFail,
    /// The sync of a directory says 0 and settles nothing.
    DirSyncLie,
    /// A rename fails with an error number and nothing changes.
    RenameFail,
    /// A rename takes long.
    RenameSlow,
    /// A name cannot be made: fails with an error number.
    CreateFail,
    /// From one change on, every change fails with EROFS.
    ReadOnly,
    /// At one change the power goes.
    PowerCut,
}

/// Every kind with its word.
const WORDS: [(Kind, &str); 19] = [
    (Kind::WriteCorrupt, "write-corrupt"),
    (Kind::WriteLost, "write-lost"),
    (Kind::WriteMisdirect, "write-misdirect"),
    (Kind::WriteShort, "write-short"),
    (Kind::WriteFail, "write-fail"),
    (Kind::WriteFull, "write-full"),
    (Kind::ReadCorrupt, "read-corrupt"),
    (Kind::ReadFail, "read-fail"),
    (Kind::Rot, "rot"),
    (Kind::SyncFail, "sync-fail"),
    (Kind::SyncLie, "sync-lie"),
    (Kind::SyncSlow, "sync-slow"),
    (Kind::DirSyncFail, "dir-sync-fail"),
    (Kind::DirSyncLie, "dir-sync-lie"),
    (Kind::RenameFail, "rename-fail"),
    (Kind::RenameSlow, "rename-slow"),
    (Kind::CreateFail, "create-fail"),
    (Kind::ReadOnly, "read-only"),
    (Kind::PowerCut, "power-cut"),
];

impl Kind {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Kind> {
        WORDS.iter().map(|(kind, _)| *kind)
    }

    /// Its name.
    pub fn word(self) -> &'static str {
        WORDS.iter().find(|(kind, _)| *kind == self).map_or("", |(_, word)| word)
    }
}

/// How much one corruption damages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// One bit.
    Bit,
    /// 512 bytes.
    Sector,
    /// 4 KiB.
    Page,
    /// 64 KiB, as far as one write or read reaches.
    Region,
    /// Drawn anew each time: bit, sector and region in the proportion 1:1:8 of field studies.
    Mixed,
}

/// The words of the sizes.
const SIZES: [(Size, &str); 5] =
    [(Size::Bit, "bit"), (Size::Sector, "512"), (Size::Page, "4KiB"), (Size::Region, "64KiB"), (Size::Mixed, "mixed")];

/// Bytes of [`Size::Region`].
const REGION_BYTES: usize = 64 << 10;

impl Size {
    /// Damages the unit around `at`, which must lie within the bytes. Gives its length.
    pub fn apply_at(self, bytes: &mut [u8], at: usize, stream: &mut ChaCha8Rng) -> usize {
        let (damage, unit) = match self {
            Size::Bit => (Damage::Bit, 1),
            Size::Sector => (Damage::Sector, 512),
            Size::Page => (Damage::Page, 4096),
            Size::Region => {
                let start = at - at % REGION_BYTES;
                let end = bytes.len().min(start + REGION_BYTES);
                let before = bytes[at];
                stream.fill_bytes(&mut bytes[start..end]);
                if bytes[at] == before {
                    bytes[at] = !before;
                }
                return end - start;
            }
            Size::Mixed => {
                let drawn = [Size::Bit, Size::Sector, Size::Region];
                return drawn[stream.random_range(0..10usize).min(2)].apply_at(bytes, at, stream);
            }
        };
        damage.apply_at(bytes, at, stream);
        unit.min(bytes.len())
    }
}

/// Error numbers that can be asked for by name.
const ERRNOS: [(&str, i32); 9] = [
    ("EIO", errno::EIO),
    ("ENOSPC", errno::ENOSPC),
    ("EDQUOT", errno::EDQUOT),
    ("EROFS", errno::EROFS),
    ("EXDEV", errno::EXDEV),
    ("EEXIST", errno::EEXIST),
    ("ENOENT", errno::ENOENT),
    ("EACCES", errno::EACCES),
    ("EINVAL", errno::EINVAL),
];

/// One fault and when it strikes. Without `rate`, `nth` and `every` it strikes at each operation of its kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// What.
    pub kind: Kind,
    /// Odds at each operation.
    pub rate: Option<Odds>,
    /// From the N-th operation on, counted from 1.
    pub nth: Option<u64>,
    /// At every N-th operation.
    pub every: Option<u64>,
    /// So many times at most; without it once after `nth` alone (but for `read-only`), else without end.
    pub times: Option<u64>,
    /// So many times more in the same place of the same inode.
    pub again: u64,
    /// Only where the path below the mount contains this.
    pub path: Option<String>,
    /// Extent of damage.
    pub size: Size,
    /// Error number of the failing kinds.
    pub errno: i32,
    /// Delay of the slow kinds.
    pub delay: Duration,
    /// Bytes that are taken before the disk is full.
    pub bytes: u64,
}

impl Fault {
    /// Of that kind, at each operation, with the usual error number.
    pub fn new(kind: Kind) -> Fault {
        Fault {
            kind,
            rate: None,
            nth: None,
            every: None,
            times: None,
            again: 0,
            path: None,
            size: Size::Mixed,
            errno: if kind == Kind::WriteFull { errno::ENOSPC } else { errno::EIO },
            delay: Duration::from_secs(1),
            bytes: 0,
        }
    }

    /// How often it may strike by the calendar of its operations (`again` comes on top of it).
    pub fn times_max(&self) -> u64 {
        let lasts = matches!(self.kind, Kind::ReadOnly | Kind::WriteFull);
        let once = self.nth.is_some() && self.rate.is_none() && self.every.is_none() && !lasts;
        self.times.unwrap_or(if once { 1 } else { u64::MAX })
    }

    /// Whether an operation of its kind on that path is one that it counts.
    pub fn concerns(&self, path: &str) -> bool {
        self.path.as_ref().is_none_or(|part| path.contains(part.as_str()))
    }

    /// Whether it strikes at its `seen`-th operation, counted from 1, after `struck` strikes.
    pub fn is_due(&self, seen: u64, struck: u64, stream: &mut ChaCha8Rng) -> bool {
        let is_begun = self.nth.is_none_or(|nth| seen >= nth);
        let since = seen - self.nth.unwrap_or(1).min(seen);
        let is_turn = match (self.every, self.nth) {
            (Some(every), Some(_)) => since.is_multiple_of(every),
            (Some(every), None) => seen.is_multiple_of(every),
            (None, _) => true,
        };
        // The draw comes last and only where it counts, so that a filter never shifts it.
        is_begun && is_turn && struck < self.times_max() && self.rate.is_none_or(|odds| odds.draw(stream))
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Fault, String> {
        let (word, rest) = text.split_once(':').unwrap_or((text, ""));
        let found = WORDS.iter().find(|(_, known)| *known == word);
        let known = || WORDS.iter().map(|(_, word)| *word).collect::<Vec<_>>().join(", ");
        let mut fault =
            Fault::new(found.ok_or_else(|| format!("there is no fault `{word}`; there are {}", known()))?.0);
        for part in rest.split(',').filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').ok_or_else(|| format!("`{part}` is not key=value"))?;
            fault.set(key, value).map_err(|why| format!("{word}: {key}={value}: {why}"))?;
        }
        Ok(fault)
    }
}

impl Fault {
    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let number = |value: &str| value.parse::<u64>().map_err(|error| error.to_string());
        let positive =
            |value: &str| number(value).and_then(|n| if n == 0 { Err("counts from 1".into()) } else { Ok(n) });
        match key {
            "rate" => self.rate = Some(odds(value)?),
            "nth" => self.nth = Some(positive(value)?),
            "every" => self.every = Some(positive(value)?),
            "times" => self.times = Some(number(value)?),
            "again" => self.again = number(value)?,
            "path" => self.path = Some(value.to_owned()),
            "bytes" => self.bytes = number(value)?,
            "delay" => {
                let seconds = value.trim_end_matches('s').parse::<f64>().map_err(|error| error.to_string())?;
                self.delay = Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?;
            }
            "size" => {
                let found = SIZES.iter().find(|(_, word)| *word == value);
                self.size = found.ok_or("sizes are bit, 512, 4KiB, 64KiB and mixed")?.0;
            }
            "errno" => {
                let found = ERRNOS.iter().find(|(word, _)| *word == value);
                self.errno = found.ok_or_else(|| format!("names are {}", ERRNOS.map(|(word, _)| word).join(", ")))?.1;
            }
            _ => return Err("keys are rate, nth, every, times, again, path, size, errno, delay, bytes".to_owned()),
        }
        Ok(())
    }
}

/// A probability between 0 and 1, or as `1/1000`.
fn odds(text: &str) -> Result<Odds, String> {
    let parse = |text: &str| text.parse::<f64>().map_err(|error| error.to_string());
    let rate = match text.split_once('/') {
        Some((part, whole)) => parse(part)? / parse(whole)?,
        None => parse(text)?,
    };
    if !(0.0..=1.0).contains(&rate) {
        return Err("a rate lies between 0 and 1".to_owned());
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and a million")]
    Ok(Odds::per_million((rate * 1e6).round() as u32))
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = vec![];
        let mut number = |key: &str, value: Option<u64>| parts.extend(value.map(|value| format!("{key}={value}")));
        number("nth", self.nth);
        number("every", self.every);
        number("times", self.times);
        number("again", Some(self.again).filter(|again| *again > 0));
        number("bytes", Some(self.bytes).filter(|bytes| *bytes > 0));
        parts.extend(self.rate.map(|odds| format!("rate={}/1000000", odds.millionths())));
        parts.extend(self.path.as_ref().map(|path| format!("path={path}")));
        let plain = Fault::new(self.kind);
        if self.size != plain.size {
            parts.extend(SIZES.iter().find(|(size, _)| *size == self.size).map(|(_, word)| format!("size={word}")));
        }
        if self.errno != plain.errno {
            parts.extend(ERRNOS.iter().find(|(_, n)| *n == self.errno).map(|(word, _)| format!("errno={word}")));
        }
        if self.delay != plain.delay {
            parts.push(format!("delay={}s", self.delay.as_secs_f64()));
        }
        let colon = if parts.is_empty() { "" } else { ":" };
        write!(f, "{}{colon}{}", self.kind.word(), parts.join(","))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::rng::stream;

    #[test]
    fn what_is_written_down_is_read_back() {
        let texts = [
            "write-corrupt:rate=0.25,size=64KiB,path=staging",
            "sync-fail:nth=3,errno=ENOSPC",
            "read-fail:nth=2,again=7",
            "sync-slow:delay=2.5s",
            "write-full:bytes=1000000",
            "power-cut:every=5,times=1",
        ];
        for text in texts {
            let fault: Fault = text.parse().unwrap();
            assert_eq!(fault.to_string().parse::<Fault>().unwrap(), fault, "{text}");
        }
        for kind in Kind::all() {
            assert_eq!(kind.word().parse::<Fault>().unwrap(), Fault::new(kind));
        }
        for bad in ["", "write", "rot:nth=0", "rot:rate=2", "rot:size=3", "rot:x=1", "rot:nth", "sync-fail:errno=E"] {
            assert!(bad.parse::<Fault>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_fault_strikes_when_it_says() {
        let strikes = |text: &str| {
            let (fault, mut chance) = (text.parse::<Fault>().unwrap(), stream(1, "strike"));
            let mut struck = vec![];
            for seen in 1..=12 {
                if fault.is_due(seen, struck.len() as u64, &mut chance) {
                    struck.push(seen);
                }
            }
            struck
        };
        assert_eq!(strikes("rot"), (1..=12).collect::<Vec<_>>());
        assert_eq!(strikes("rot:nth=4"), [4]);
        assert_eq!(strikes("rot:nth=4,times=3"), [4, 5, 6]);
        assert_eq!(strikes("rot:every=5"), [5, 10]);
        assert_eq!(strikes("rot:nth=2,every=5"), [2, 7, 12]);
        assert_eq!(strikes("read-only:nth=10"), [10, 11, 12]);
        assert_eq!(strikes("rot:rate=0"), [0u64; 0]);
        let some = strikes("rot:rate=0.5");
        assert!((1..12).contains(&some.len()), "{some:?}");
    }

    #[test]
    fn damage_of_a_region_stays_in_its_region() {
        let mut bytes = vec![0u8; 200 << 10];
        Size::Region.apply_at(&mut bytes, 70 << 10, &mut stream(1, "region"));
        let first = bytes.iter().position(|byte| *byte != 0).unwrap();
        let last = bytes.iter().rposition(|byte| *byte != 0).unwrap();
        assert!(first >= 64 << 10 && last < 128 << 10 && last - first > 60 << 10, "{first} to {last}");
    }
}
