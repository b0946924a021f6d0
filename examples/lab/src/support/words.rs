//! Numbers in sentences.

use std::time::Duration;

use indicatif::HumanCount;

/// A number with separated thousands.
pub fn count(number: usize) -> HumanCount {
    HumanCount(number as u64)
}

/// A number and its noun.
pub fn many(number: usize, noun: &str) -> String {
    let ending = match number {
        1 => "",
        _ if noun.ends_with('s') => "es",
        _ => "s",
    };
    format!("{} {noun}{ending}", count(number))
}

/// A time on the command line: a number of seconds from `least` to an hour.
pub fn seconds(text: &str, least: f64) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "a number of seconds is expected")?;
    if !(least..=3600.0).contains(&seconds) {
        return Err(format!("from {least} to 3600 seconds"));
    }
    Ok(Duration::from_secs_f64(seconds))
}
