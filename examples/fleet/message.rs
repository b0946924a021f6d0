//! What the parent and the client processes tell each other: one JSON value a line.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// From the parent to a client process. The end of the orders is the order to end.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Order {
    /// Opens the sessions.
    Open(Share),
    /// Lets the typists type, until the roll is called.
    Type,
    /// Reports the lines since the last mark. From the first mark on, servers may end sessions: those end in
    /// order, if every line sent before the last mark was answered.
    Mark,
    /// Ends the typing, and has every open session send one line more.
    CallRoll,
}

/// One client process's share of the sessions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Where the servers listen.
    pub target: SocketAddr,
    /// The address to connect from; the ports are ours to choose, because no other client process uses it.
    pub source: Ipv4Addr,
    /// The number of the first session. Each has its number in what it sends, so that no answer fits another session.
    pub first: usize,
    /// How many sessions.
    pub sessions: usize,
    /// In how many of them somebody types.
    pub typists: u32,
    /// How many sessions may wait for the banner, or for the answer to a roll call, at a time.
    pub in_flight: usize,
}

/// From a client process to the parent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Report {
    /// It runs, and waits for orders.
    Ready,
    /// How it stands.
    Tally(Tally),
    /// How the lines since the last mark were answered.
    Marked(Lines),
}

/// The typists' lines at a mark: those that were answered since the last one, and those that wait for their answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Lines {
    /// The latencies of the answers, as nanoseconds and how often.
    pub latencies: Vec<(u64, u64)>,
    /// How many lines wait.
    pub waiting: usize,
    /// For how long the oldest of them has waited.
    pub oldest: Duration,
}

/// What has become of the sessions so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Sessions that got their whole banner.
    pub greeted: usize,
    /// Sessions that could not be opened, were reset, got a wrong byte, or ended before anybody told a server to.
    pub lost: usize,
    /// Sessions that a stopping server ended in order: the end of input, and nothing owed.
    pub ended: usize,
    /// Those of them that had a line on its way when the end came. Nobody is to blame: a server cannot answer what
    /// reaches it after its last word.
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
