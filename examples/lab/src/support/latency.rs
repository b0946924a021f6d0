//! Latencies in constant memory, to three digits.

use std::time::Duration;

use hdrhistogram::Histogram;

/// The longest latency that is told from longer ones: as long as a measurement may take.
const LONGEST: Duration = Duration::from_secs(3600);

/// An empty histogram of nanoseconds.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(nanoseconds(LONGEST), 3).expect("three digits are allowed")
}

/// Adds one latency.
pub fn record(latencies: &mut Histogram<u64>, latency: Duration) {
    latencies.saturating_record(nanoseconds(latency));
}

fn nanoseconds(latency: Duration) -> u64 {
    u64::try_from(latency.min(LONGEST).as_nanos()).expect("an hour has less than 2^64 nanoseconds")
}
