//! Rates of delivery and shares of amounts, in integers: the same input gives the same window everywhere.

use std::time::Duration;

/// Bytes per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rate(u64);

impl Rate {
    /// More than any path carries.
    pub(super) const MAX: Rate = Rate(u64::MAX);

    /// `bytes` in `time`; nothing can be said of no time.
    pub(super) fn over(bytes: u64, time: Duration) -> Option<Rate> {
        let per_second = (u128::from(bytes) * NANOS_PER_SECOND).checked_div(time.as_nanos())?;
        Some(Rate(u64::try_from(per_second).unwrap_or(u64::MAX)))
    }

    /// Bytes that pass in `time`.
    pub(super) fn bytes_in(self, time: Duration) -> u64 {
        u64::try_from(u128::from(self.0) * time.as_nanos() / NANOS_PER_SECOND).unwrap_or(u64::MAX)
    }

    /// That share of the rate.
    pub(super) fn percent(self, percent: u64) -> Rate {
        Rate(share(self.0, percent, PERCENT))
    }
}

const NANOS_PER_SECOND: u128 = 1_000_000_000;
/// The whole, in percent.
pub(super) const PERCENT: u64 = 100;
/// The whole, in the unit of loss.
pub(super) const MILLION: u64 = 1_000_000;

/// `amount` times `part`, divided by `whole`.
pub(super) fn share(amount: u64, part: u64, whole: u64) -> u64 {
    u64::try_from(u128::from(amount) * u128::from(part) / u128::from(whole.max(1))).unwrap_or(u64::MAX)
}

/// That share of a time.
pub(super) fn time_percent(time: Duration, percent: u32) -> Duration {
    time * percent / 100
}
