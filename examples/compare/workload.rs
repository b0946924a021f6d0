//! What the clients do: how many of them do nothing, type, pour, or come and go.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

/// How many connections are being made at one time: as many as the tutorial's `listen(10)` lets wait. With more it would
/// be measured how the kernel drops handshakes and tries them again a second later.
pub const KNOCKING: usize = 10;
/// How often each typist beside a firehose types.
const TYPING: Duration = Duration::from_millis(10);
/// How many type beside a firehose.
const TYPISTS: usize = 20;

/// A crowd of clients and what they do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// What it is called.
    pub kind: Kind,
    /// Sessions in which nobody types.
    pub idle: usize,
    /// Sessions in which somebody types.
    pub typists: usize,
    /// When the next line is typed.
    pub pace: Pace,
    /// Sessions that stream at full speed.
    pub firehoses: usize,
    /// Sessions that are opened for one line, and opened again when they have ended.
    pub visitors: usize,
}

/// The workloads that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Some type and the rest idle: the C10K problem.
    PingPong,
    /// Connect, banner, one line, answer, close.
    Churn,
    /// One session at full speed.
    Bulk,
    /// One session at full speed, and beside it people who type.
    Fairness,
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::PingPong => write!(f, "{} sessions", self.sessions()),
            kind => write!(f, "{}", kind.key()),
        }
    }
}

impl Kind {
    /// Its name in `results.json`.
    pub fn key(self) -> &'static str {
        match self {
            Self::PingPong => "ping-pong",
            Self::Churn => "churn",
            Self::Bulk => "bulk",
            Self::Fairness => "fairness",
        }
    }
}

/// When a typist's next line is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// As soon as the last one is answered.
    AtOnce,
    /// By the clock.
    Every(Duration),
}

/// What the client in one place does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Nothing.
    Idle,
    /// It types.
    Typist,
    /// It streams.
    Firehose,
    /// It comes and goes.
    Visitor,
}

impl Workload {
    /// So many sessions, of which `active` type (all, if there are fewer).
    pub fn ping_pong(sessions: usize, active: usize) -> Self {
        let typists = active.min(sessions);
        Self { idle: sessions - typists, typists, ..Self::nobody(Kind::PingPong) }
    }

    /// One session in which somebody types by the clock, so slowly that the server has nothing to do in between.
    pub fn slow_typist(interval: Duration) -> Self {
        Self { pace: Pace::Every(interval), ..Self::ping_pong(1, 1) }
    }

    /// Visitors that come and go, as many at a time as may knock.
    pub fn churn() -> Self {
        Self { visitors: KNOCKING, ..Self::nobody(Kind::Churn) }
    }

    /// One session at full speed.
    pub fn bulk() -> Self {
        Self { firehoses: 1, ..Self::nobody(Kind::Bulk) }
    }

    /// One session at full speed, and beside it people who type by the clock.
    pub fn fairness() -> Self {
        Self { firehoses: 1, typists: TYPISTS, pace: Pace::Every(TYPING), ..Self::nobody(Kind::Fairness) }
    }

    fn nobody(kind: Kind) -> Self {
        Self { kind, idle: 0, typists: 0, pace: Pace::AtOnce, firehoses: 0, visitors: 0 }
    }

    /// The sessions that are open all the time.
    pub fn residents(&self) -> usize {
        self.typists + self.firehoses + self.idle
    }

    /// The most sessions that are open at a time.
    pub fn sessions(&self) -> usize {
        self.residents() + self.visitors
    }

    /// The places of the clients that do this: the typists' come first, the visitors' last.
    pub fn places(&self, part: Part) -> Range<usize> {
        let firehoses = self.typists;
        let idle = firehoses + self.firehoses;
        let visitors = idle + self.idle;
        match part {
            Part::Typist => 0..firehoses,
            Part::Firehose => firehoses..idle,
            Part::Idle => idle..visitors,
            Part::Visitor => visitors..visitors + self.visitors,
        }
    }

    /// What the client in the given place does.
    pub fn part(&self, place: usize) -> Part {
        [Part::Typist, Part::Firehose, Part::Idle]
            .into_iter()
            .find(|&part| self.places(part).contains(&place))
            .unwrap_or(Part::Visitor)
    }
}
