//! A server's own counters, as it logs them on SIGUSR1 and at its end.

use std::time::Duration;

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
        let count = |name| number(line, name)?.parse().ok();
        Some(Self {
            open: count(" open ")?,
            accepted: count(" accepted ")?,
            drained: count(" drained ")?,
            uptime: Duration::try_from_secs_f64(number(line, " uptime ")?.parse().ok()?).ok()?,
        })
    }
}

/// The number that follows `name`.
fn number<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(name)?;
    rest.split([' ', ',']).next()
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
