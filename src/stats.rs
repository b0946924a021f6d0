//! The counters: what the operator sees on SIGUSR1 and at the end.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use strum::VariantArray;

use crate::reason::Reason;

/// What has happened since the server's start, and what is open now.
///
/// As text it is one line of `name=value` pairs, for people and programs. `line.parse::<Stats>()` reads it back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Sessions that are open now, without the clients that are being refused.
    pub open: u64,
    /// The most sessions that were open at one time.
    pub peak: u64,
    /// Connections accepted, the refused ones included.
    pub accepted: u64,
    /// Times that accepting paused because the system had no room for one more connection.
    pub accept_pauses: u64,
    /// Bytes read from clients.
    pub bytes_in: u64,
    /// Bytes written to clients. The kernel has taken them, and may not deliver the last ones if a session is cut off.
    pub bytes_out: u64,
    /// Time since the server was bound, in whole milliseconds.
    pub uptime: Duration,
    /// Connections ended, by [`Reason`].
    pub(crate) closed: [u64; Reason::VARIANTS.len()],
}

impl Stats {
    /// How many connections ended for this reason.
    pub fn closed(&self, reason: Reason) -> u64 {
        self.closed[reason as usize]
    }
}

/// The counters while the server runs. Only the loop writes, so a plain load and store are enough, and any thread may
/// read.
#[derive(Debug)]
pub(crate) struct Counters {
    pub open: AtomicU64,
    pub peak: AtomicU64,
    pub accepted: AtomicU64,
    pub accept_pauses: AtomicU64,
    pub bytes_in: AtomicU64,
    pub bytes_out: AtomicU64,
    closed: [AtomicU64; Reason::VARIANTS.len()],
    started: Instant,
}

impl Default for Counters {
    fn default() -> Self {
        let zero = AtomicU64::default;
        Self {
            open: zero(),
            peak: zero(),
            accepted: zero(),
            accept_pauses: zero(),
            bytes_in: zero(),
            bytes_out: zero(),
            closed: [const { AtomicU64::new(0) }; Reason::VARIANTS.len()],
            started: Instant::now(),
        }
    }
}

impl Counters {
    /// Adds to a counter, from the loop's thread.
    pub fn add(counter: &AtomicU64, count: usize) {
        counter.store(counter.load(Relaxed) + count as u64, Relaxed);
    }

    /// Notes how many sessions are open now.
    pub fn set_open(&self, open: usize) {
        let open = open as u64;
        self.open.store(open, Relaxed);
        if open > self.peak.load(Relaxed) {
            self.peak.store(open, Relaxed);
        }
    }

    /// Counts the end of a connection.
    pub fn count_closed(&self, reason: Reason) {
        Self::add(&self.closed[reason as usize], 1);
    }

    /// All counters as they are now.
    pub fn read(&self) -> Stats {
        let value = |counter: &AtomicU64| counter.load(Relaxed);
        Stats {
            open: value(&self.open),
            peak: value(&self.peak),
            accepted: value(&self.accepted),
            accept_pauses: value(&self.accept_pauses),
            bytes_in: value(&self.bytes_in),
            bytes_out: value(&self.bytes_out),
            uptime: self.started.elapsed(),
            closed: self.closed.each_ref().map(value),
        }
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "open={} peak={} accepted={}", self.open, self.peak, self.accepted)?;
        for reason in Reason::VARIANTS {
            write!(f, " {reason}={}", self.closed(*reason))?;
        }
        write!(f, " accept_pauses={} bytes_in={}", self.accept_pauses, self.bytes_in)?;
        write!(f, " bytes_out={} uptime_ms={}", self.bytes_out, self.uptime.as_millis())
    }
}

/// Why a line is not one of counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseStatsError(String);

impl fmt::Display for ParseStatsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a counter: {:?}", self.0)
    }
}

impl std::error::Error for ParseStatsError {}

impl FromStr for Stats {
    type Err = ParseStatsError;

    /// Reads the line that [`Stats`] prints. A counter that is missing is 0. An unknown one is an error, and so is an
    /// empty line.
    fn from_str(line: &str) -> Result<Self, Self::Err> {
        if line.trim().is_empty() {
            return Err(ParseStatsError(line.to_owned()));
        }
        let mut stats = Self::default();
        for pair in line.split_whitespace() {
            let error = || ParseStatsError(pair.to_owned());
            let (name, value) = pair.split_once('=').ok_or_else(error)?;
            let value = value.parse().map_err(|_| error())?;
            match name {
                "open" => stats.open = value,
                "peak" => stats.peak = value,
                "accepted" => stats.accepted = value,
                "accept_pauses" => stats.accept_pauses = value,
                "bytes_in" => stats.bytes_in = value,
                "bytes_out" => stats.bytes_out = value,
                "uptime_ms" => stats.uptime = Duration::from_millis(value),
                _ => {
                    let is_named = |reason: &&Reason| <&str>::from(**reason) == name;
                    let reason = Reason::VARIANTS.iter().find(is_named).ok_or_else(error)?;
                    stats.closed[*reason as usize] = value;
                }
            }
        }
        Ok(stats)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered() -> Stats {
        let counters = Counters::default();
        counters.set_open(2);
        counters.set_open(1);
        Counters::add(&counters.accepted, 3);
        Counters::add(&counters.accept_pauses, 4);
        Counters::add(&counters.bytes_in, 5);
        Counters::add(&counters.bytes_out, 6);
        for (index, reason) in Reason::VARIANTS.iter().enumerate() {
            (0..10 + index).for_each(|_| counters.count_closed(*reason));
        }
        Stats { uptime: Duration::from_millis(8100), ..counters.read() }
    }

    #[test]
    fn the_line_names_every_counter() {
        assert_eq!(
            numbered().to_string(),
            "open=1 peak=2 accepted=3 finished=10 closed=11 ended=12 refused=13 reset=14 peer_unreachable=15 \
             idle_timeout=16 write_timeout=17 linger_timeout=18 deadline=19 drained=20 drain_timeout=21 forced=22 \
             request_too_large=23 invalid_input=24 out_of_memory=25 protocol_error=26 connect_failed=27 failed=28 \
             accept_pauses=4 bytes_in=5 bytes_out=6 uptime_ms=8100"
        );
    }

    #[test]
    fn the_line_can_be_read_back() {
        assert_eq!(numbered().to_string().parse(), Ok(numbered()));
    }

    #[test]
    fn a_line_of_something_else_is_an_error_that_says_where() {
        for line in ["", "open", "open=x", "opened=1"] {
            let error = line.parse::<Stats>().expect_err("no such counter");
            assert_eq!(error.to_string(), format!("not a counter: {line:?}"));
        }
    }
}
