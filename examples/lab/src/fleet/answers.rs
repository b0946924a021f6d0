//! The answers to the active sessions, from one mark to the next.

use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::fleet::message::Lines;
use crate::support::{latency, many, time};

/// What all client processes have reported together.
#[derive(Debug)]
pub struct Answers {
    /// The time from when a line was due to the last byte of its answer (nanoseconds).
    latencies: Histogram<u64>,
    /// Lines without an answer yet. The next figures will have it, with all of its time. The roll call waits for it.
    waiting: usize,
    /// How long the oldest of them has waited.
    oldest: Duration,
}

impl Answers {
    /// No lines.
    pub fn none() -> Self {
        Self { latencies: latency::histogram(), waiting: 0, oldest: Duration::ZERO }
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
        let answers = self.latencies.len();
        write!(f, "{}", many(answers, "right answer"))?;
        if answers > 0 {
            let [half, most, all] = [0.5, 0.99, 1.0]
                .map(|part| time(Duration::from_nanos(self.latencies.value_at_quantile(part))));
            write!(f, ", half within {half}, 99 % within {most}, all within {all}")?;
        }
        if self.waiting > 0 {
            let (lines, oldest) = (many(self.waiting, "line"), time(self.oldest));
            write!(f, "; {lines} still waiting, the oldest for {oldest}")?;
        }
        Ok(())
    }
}
