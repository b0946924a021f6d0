//! A server's own counters, as it logs them on SIGUSR1 and at its end.

use std::time::Duration;

use okloop::{Reason, Stats};

/// The counters that tell whether a session was lost, and how old they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Sessions open now.
    pub open: usize,
    /// Sessions accepted since the start.
    pub accepted: usize,
    /// Sessions that ended in order after the server was told to stop.
    pub drained: usize,
    /// How long the server had run when it logged them.
    pub uptime: Duration,
}

impl Counters {
    /// Reads them from a log line; `None` if the line is about something else.
    pub fn parse(line: &str) -> Option<Self> {
        let (_, counters) = line.rsplit_once("] ")?;
        let stats: Stats = counters.parse().ok()?;
        let count = |value| usize::try_from(value).ok();
        Some(Self {
            open: count(stats.open)?,
            accepted: count(stats.accepted)?,
            drained: count(stats.closed(Reason::Drained))?,
            uptime: stats.uptime,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_report_is_read() {
        let mut stats = okloop::Stats::default();
        (stats.open, stats.accepted, stats.uptime) = (12, 345, Duration::from_millis(1500));
        let line = format!("2026-01-01T00:00:00.000Z INFO  [okloop::server] {stats}");
        let expected = Counters { open: 12, accepted: 345, drained: 0, uptime: Duration::from_millis(1500) };
        assert_eq!(Counters::parse(&line), Some(expected));
        assert_eq!(Counters::parse("INFO  [okloop::server] Connected with 127.0.0.1:60730"), None);
    }
}
