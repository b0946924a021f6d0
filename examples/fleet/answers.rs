//! How those who type were answered, between one mark and the next.

use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::message::Lines;
use crate::words::many;

/// What all client processes have reported together.
#[derive(Debug)]
pub struct Answers {
    /// The time from when a line was due to the last byte of its answer (nanoseconds).
    latencies: Histogram<u64>,
    /// Lines without an answer yet. It will be among the next figures, with all of its time; after the last ones the
    /// roll call waits for it.
    waiting: usize,
    /// For how long the oldest of them has waited.
    oldest: Duration,
}

impl Answers {
    /// No line at all.
    pub fn none() -> Self {
        Self { latencies: histogram(), waiting: 0, oldest: Duration::ZERO }
    }

    /// Adds what one client process reports.
    pub fn add(&mut self, lines: Lines) {
        for (latency, count) in lines.latencies {
            self.latencies.record_n(latency, count).expect("it comes from a histogram with the same bounds");
        }
        self.waiting += lines.waiting;
        self.oldest = self.oldest.max(lines.oldest);
    }
}

impl fmt::Display for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = |nanoseconds: u64| Duration::from_nanos(nanoseconds).as_secs_f64() * 1e3;
        let answers = usize::try_from(self.latencies.len()).unwrap_or(usize::MAX);
        write!(f, "{}", many(answers, "right answer"))?;
        if answers > 0 {
            write!(
                f,
                ", half within {:.2} ms, 99 % within {:.2} ms, all within {:.1} ms",
                milliseconds(self.latencies.value_at_quantile(0.5)),
                milliseconds(self.latencies.value_at_quantile(0.99)),
                milliseconds(self.latencies.max())
            )?;
        }
        if self.waiting > 0 {
            let oldest = self.oldest.as_secs_f64() * 1e3;
            write!(f, "; {} still waiting, the oldest for {oldest:.1} ms", many(self.waiting, "line"))?;
        }
        Ok(())
    }
}

/// From a nanosecond to an hour, which is the longest that people type, to three digits.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 3_600_000_000_000, 3)
        .expect("the bounds are in order and three digits are allowed")
}
