//! The orders and reports between the parent and the client processes: one JSON value a line.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::support::{latency, many, time};

/// From the parent to a client process. The end of the orders is the order to end.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Order {
    /// Opens the sessions.
    Open,
    /// Lets the active sessions send lines, until the roll call.
    Send,
    /// Reports the lines since the last mark. From the first mark on, servers may end sessions. A session ends in order
    /// if every line sent before the last mark was answered.
    Mark,
    /// Stops the active sessions, and has every open session send one more line.
    CallRoll,
}

/// One client process's share of the sessions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Where the servers listen.
    pub target: SocketAddr,
    /// The address to connect from. No other client process uses it, so all its ports are free.
    pub source: Ipv4Addr,
    /// The number of the first session. A number is a place in the text, so that no answer fits a neighbour.
    pub first: usize,
    /// How many sessions.
    pub sessions: usize,
    /// How many of them are active.
    pub active: usize,
    /// How many sessions may wait for the banner, or for the answer to a roll call, at a time.
    pub in_flight: usize,
}

/// A share on the command line of a client process.
pub fn share(text: &str) -> Result<Share, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

/// From a client process to the parent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Report {
    /// What has become of its sessions.
    Tally(Tally),
    /// How the lines since the last mark were answered.
    Marked(Lines),
}

/// The active sessions' lines at a mark: those answered since the last mark, and those without an answer.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Lines {
    /// The time from when a line was due to the last byte of its answer (nanoseconds), and how often.
    pub latencies: Vec<(u64, u64)>,
    /// Lines without an answer yet. The next mark will have it, with all of its time. The roll call waits for it.
    pub waiting: usize,
    /// For how long the oldest of them has waited.
    pub oldest: Duration,
}

impl Lines {
    /// The lines of two together.
    pub fn and(mut self, other: Self) -> Self {
        self.latencies.extend(other.latencies);
        Self { waiting: self.waiting + other.waiting, oldest: self.oldest.max(other.oldest), ..self }
    }
}

impl fmt::Display for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut latencies = latency::histogram();
        for &(latency, count) in &self.latencies {
            latencies.record_n(latency, count).expect("it comes from a histogram with the same bounds");
        }
        write!(f, "{}", many(latencies.len(), "right answer"))?;
        if !latencies.is_empty() {
            let [half, most, all] =
                [0.5, 0.99, 1.0].map(|part| time(Duration::from_nanos(latencies.value_at_quantile(part))));
            write!(f, ", half within {half}, 99 % within {most}, all within {all}")?;
        }
        if self.waiting > 0 {
            let (lines, oldest) = (many(self.waiting, "line"), time(self.oldest));
            write!(f, "; {lines} still waiting, the oldest for {oldest}")?;
        }
        Ok(())
    }
}

/// What has become of the sessions so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Sessions that got their whole banner.
    pub greeted: usize,
    /// Sessions that could not be opened, were reset, got a wrong byte, or ended before a server was told to stop.
    pub lost: usize,
    /// Sessions that a stopping server ended in order: with every answer, then the end of input.
    pub ended: usize,
    /// Those of them that had a line on its way when the end came. A server cannot answer a line that comes after its
    /// end of output.
    pub crossed: usize,
    /// Sessions that have answered the roll call.
    pub called: usize,
    /// The longest time from a connect to its banner.
    pub slowest: Duration,
    /// How the first session was lost.
    pub first_loss: Option<String>,
}

impl Tally {
    /// The tallies of two together.
    pub fn and(self, other: &Self) -> Self {
        Self {
            greeted: self.greeted + other.greeted,
            lost: self.lost + other.lost,
            ended: self.ended + other.ended,
            crossed: self.crossed + other.crossed,
            called: self.called + other.called,
            slowest: self.slowest.max(other.slowest),
            first_loss: self.first_loss.or_else(|| other.first_loss.clone()),
        }
    }
}
