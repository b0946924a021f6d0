//! When lines are due, and in which session. Knows no socket and no clock.
//!
//! In a Poisson process the gaps between them are independent and exponentially distributed, as with many
//! people who do not know of each other. A fixed gap would keep the lines apart, and hide the queues that form when
//! several lines come at nearly the same time.

use std::iter;
use std::time::Duration;

/// Where the random numbers start. The same rate always gives the same lines, for each server and in each run.
const SEED: u64 = 8888;

/// A line that is to be sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Line {
    /// When it is due, counted from the start.
    pub due: Duration,
    /// Which session sends it.
    pub session: usize,
}

/// The lines of a Poisson process: `rate` lines a second on average, over all sessions together, for this time.
pub fn poisson(rate: f64, sessions: usize, time: Duration) -> impl Iterator<Item = Line> {
    let mut random = fastrand::Rng::with_seed(SEED);
    let mut next = 0.0;
    let lines = iter::from_fn(move || {
        // An exponentially distributed gap, with the mean 1/rate. f64() is less than 1, so the logarithm is finite.
        next += -(1.0 - random.f64()).ln() / rate;
        Some(Line { due: Duration::from_secs_f64(next), session: random.usize(..sessions) })
    });
    lines.take_while(move |line| line.due < time)
}

/// A line of each session each `interval`, for this time. The first lines are spread over the interval: real clients do
/// not send in step.
pub fn regular(interval: Duration, sessions: usize, time: Duration) -> impl Iterator<Item = Line> {
    let gap = interval / u32::try_from(sessions.max(1)).unwrap_or(u32::MAX);
    let lines =
        (0..sessions).cycle().zip(0_u32..).map(move |(session, nth)| Line { due: gap * nth, session });
    lines.take_while(move |line| line.due < time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_rate_is_the_rate_that_was_asked_for() {
        for rate in [1_000.0, 50_000.0, 400_000.0] {
            let lines = poisson(rate, 1000, Duration::from_secs(1)).count() as f64;
            // The count of a Poisson process deviates by its square root: five times that never happens.
            assert!((lines - rate).abs() < 5.0 * rate.sqrt(), "{lines} instead of {rate}");
        }
    }

    #[test]
    fn the_gaps_are_exponential_and_all_sessions_send() {
        let lines: Vec<_> = poisson(100_000.0, 10, Duration::from_secs(1)).collect();
        let gaps =
            lines.windows(2).map(|pair| (pair[1].due.as_secs_f64() - pair[0].due.as_secs_f64()) * 100_000.0);
        // Of exponential gaps, 1/e are longer than the mean. Of equal gaps, none or all are.
        let longer = gaps.filter(|gap| *gap > 1.0).count() as f64 / lines.len() as f64;
        assert!((longer - (-1.0_f64).exp()).abs() < 0.01, "{longer}");
        for session in 0..10 {
            let share = lines.iter().filter(|line| line.session == session).count();
            assert!((9_500..10_500).contains(&share), "session {session}: {share}");
        }
    }

    #[test]
    fn the_same_rate_gives_the_same_lines() {
        let lines = || poisson(5_000.0, 100, Duration::from_millis(100));
        assert!(lines().eq(lines()));
    }
}
