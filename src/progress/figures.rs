//! Numbers as people read them: counts in groups of three, bytes with a unit, times, rates. Not what they mean.

use std::time::Duration;

use bytesize::ByteSize;

/// `1,204`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 file`, `1,204 files`.
pub fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// `1.2 GiB`.
pub fn bytes(number: u64) -> String {
    ByteSize(number).display().iec().to_string()
}

/// `112.0 MiB/s`. Too short a time has no rate.
pub fn rate(number: u64, time: Duration) -> Option<String> {
    let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let per_second = u128::from(number) * 1000 / u128::from(ms.max(1));
    (ms > 0).then(|| format!("{}/s", bytes(u64::try_from(per_second).unwrap_or(u64::MAX))))
}

/// `0.4 s`, `9 s`, `1:23 min`, `2:03:04 h`, `5 days`.
pub fn time(time: Duration) -> String {
    let seconds = time.as_secs();
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    match seconds {
        0..10 => format!("{}.{} s", seconds, time.subsec_millis() / 100),
        10..60 => format!("{seconds} s"),
        60..3600 => format!("{minutes}:{:02} min", seconds % 60),
        3600..172_800 => format!("{hours}:{:02}:{:02} h", minutes % 60, seconds % 60),
        _ => format!("{} days", hours / 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_grouped_by_three() {
        let shown = [0, 999, 1000, 12_345, 1_234_567].map(count);
        assert_eq!(shown, ["0", "999", "1,000", "12,345", "1,234,567"]);
        assert_eq!(counted(1, "file", "files"), "1 file");
        assert_eq!(counted(0, "file", "files"), "0 files");
    }

    #[test]
    fn times_have_the_unit_that_fits() {
        let shown = [400, 9_940, 10_000, 83_000, 7_384_000, 432_000_000].map(|ms| time(Duration::from_millis(ms)));
        assert_eq!(shown, ["0.4 s", "9.9 s", "10 s", "1:23 min", "2:03:04 h", "5 days"]);
    }

    #[test]
    fn a_rate_needs_a_time() {
        assert_eq!(rate(1 << 20, Duration::from_millis(500)), Some("2.0 MiB/s".to_owned()));
        assert_eq!(rate(u64::MAX, Duration::from_millis(1)), Some("16.0 EiB/s".to_owned()));
        assert_eq!(rate(1, Duration::ZERO), None);
    }
}
