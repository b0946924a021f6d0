//! Numbers as text, and text as numbers.

use std::ops::RangeInclusive;
use std::time::Duration;

use indicatif::{HumanCount, HumanFloatCount};

/// A number with separated thousands.
pub fn count(number: impl TryInto<u64>) -> HumanCount {
    HumanCount(number.try_into().unwrap_or(u64::MAX))
}

/// The same for a rounded number.
pub fn thousands(number: f64) -> String {
    HumanFloatCount(number.round()).to_string()
}

/// A number and its noun.
pub fn many(number: impl TryInto<u64>, noun: &str) -> String {
    let number = count(number);
    let ending = match number {
        HumanCount(1) => "",
        _ if noun.ends_with('s') => "es",
        _ => "s",
    };
    format!("{number} {noun}{ending}")
}

/// A time, in three digits.
pub fn time(duration: Duration) -> String {
    microseconds(in_microseconds(duration))
}

/// The same for a number of microseconds.
pub fn microseconds(number: f64) -> String {
    let (number, unit) = match number {
        ..999.5 => (number, "µs"),
        ..999_500.0 => (number / 1e3, "ms"),
        _ => (number / 1e6, "s"),
    };
    let decimals = [9.995, 99.95].iter().filter(|&&limit| number < limit).count();
    format!("{number:.decimals$} {unit}")
}

/// A time as a number of microseconds.
pub fn in_microseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// An amount of memory.
pub fn bytes(number: f64) -> String {
    match number.abs() {
        ..1024.0 => format!("{number:.0} B"),
        ..1_048_576.0 => format!("{:.1} KiB", number / 1024.0),
        ..1_073_741_824.0 => format!("{:.1} MiB", number / 1_048_576.0),
        _ => format!("{:.1} GiB", number / 1_073_741_824.0),
    }
}

/// A time on the command line, in seconds.
pub fn seconds(text: &str, allowed: RangeInclusive<f64>) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "a number of seconds is expected")?;
    if !allowed.contains(&seconds) {
        return Err(format!("from {} to {} seconds", allowed.start(), allowed.end()));
    }
    Ok(Duration::from_secs_f64(seconds))
}
