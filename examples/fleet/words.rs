//! Numbers, as sentences have them.

use indicatif::HumanCount;

/// A number that is easy to read.
pub fn count(number: usize) -> HumanCount {
    HumanCount(number as u64)
}

/// So many of something.
pub fn many(number: usize, noun: &str) -> String {
    let ending = match number {
        1 => "",
        _ if noun.ends_with('s') => "es",
        _ => "s",
    };
    format!("{} {noun}{ending}", count(number))
}
