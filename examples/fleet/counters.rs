//! A server's own counters, as it logs them on SIGUSR1 and at its end.

/// Those of the counters that tell whether a session was lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Sessions open now.
    pub open: usize,
    /// Sessions accepted since the start.
    pub accepted: usize,
    /// Sessions that ended in order after the server was told to stop.
    pub drained: usize,
}

impl Counters {
    /// Reads them from a log line; `None` if it is about something else.
    pub fn parse(line: &str) -> Option<Self> {
        Some(Self {
            open: count(line, " open ")?,
            accepted: count(line, " accepted ")?,
            drained: count(line, " drained ")?,
        })
    }
}

/// The number that follows `name`.
fn count(line: &str, name: &str) -> Option<usize> {
    let (_, rest) = line.split_once(name)?;
    rest.split(|character: char| !character.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_own_words_are_understood() {
        let mut stats = okloop::Stats::default();
        (stats.open, stats.accepted) = (12, 345);
        let line = format!("2026-01-01T00:00:00.000Z INFO  [okloop::server] {stats}");
        assert_eq!(Counters::parse(&line), Some(Counters { open: 12, accepted: 345, drained: 0 }));
        assert_eq!(Counters::parse("INFO  [okloop::server] Connected with 127.0.0.1:60730"), None);
    }
}
