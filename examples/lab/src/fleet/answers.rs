//! The answers to the active sessions, from one mark to the next.

use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::fleet::message::Lines;
use crate::support::latency;
use crate::support::words::many;

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
