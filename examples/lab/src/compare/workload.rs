//! What the clients do: how many of them are idle, send lines, stream, or come and go.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

/// How many connections are being made at a time: as many as the tutorial's `listen(10)` lets wait. With more, the
/// measurement would show how the kernel drops handshakes and repeats them a second later.
pub const IN_FLIGHT: usize = 10;
/// How often each active client beside a flood sends a line.
const BESIDE_FLOOD_INTERVAL: Duration = Duration::from_millis(10);
/// How many active clients are beside a flood.
const BESIDE_FLOOD: usize = 20;

/// A number of clients and what they do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// What it is called.
    pub kind: Kind,
    /// Sessions in which nothing happens.
    pub idle: usize,
    /// Sessions in which the client sends lines.
    pub active: usize,
    /// When the next line is sent.
    pub pace: Pace,
    /// Sessions that stream at full speed.
    pub floods: usize,
    /// Sessions that open for one line, and open again when they have ended.
    pub visitors: usize,
}

/// The workloads that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// One client types and the rest are idle: the C10K problem.
    Typing,
    /// All clients send the next line as soon as the last is answered.
    Crowd,
    /// Connect, banner, one line, answer, close.
    Churn,
    /// One session at full speed.
    Bulk,
    /// One session at full speed, and active clients beside it.
    Fairness,
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Typing => write!(f, "{} sessions", self.sessions()),
            kind => write!(f, "{}", kind.key()),
        }
    }
}

impl Kind {
    /// Its name in `results.json`.
    pub fn key(self) -> &'static str {
        match self {
            Self::Typing => "typing",
            Self::Crowd => "crowd",
            Self::Churn => "churn",
            Self::Bulk => "bulk",
            Self::Fairness => "fairness",
        }
    }
}

/// When an active client's next line is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// As soon as the last line is answered (closed loop).
    Closed,
    /// By the clock.
    Every(Duration),
}

/// What one client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Nothing.
    Idle,
    /// It sends lines.
    Active,
    /// It streams.
    Flood,
    /// It comes and goes.
    Visitor,
}

impl Workload {
    /// So many sessions, of which one sends a line after each answer.
    pub fn typing(sessions: usize) -> Self {
        Self { idle: sessions - 1, active: 1, ..Self::empty(Kind::Typing) }
    }

    /// So many sessions, all busy.
    pub fn crowd(sessions: usize) -> Self {
        Self { active: sessions, ..Self::empty(Kind::Crowd) }
    }

    /// Visitors that come and go, as many at a time as may connect at a time.
    pub fn churn() -> Self {
        Self { visitors: IN_FLIGHT, ..Self::empty(Kind::Churn) }
    }

    /// One session at full speed.
    pub fn bulk() -> Self {
        Self { floods: 1, ..Self::empty(Kind::Bulk) }
    }

    /// One session at full speed, and clients beside it that send lines by the clock.
    pub fn fairness() -> Self {
        let pace = Pace::Every(BESIDE_FLOOD_INTERVAL);
        Self { floods: 1, active: BESIDE_FLOOD, pace, ..Self::empty(Kind::Fairness) }
    }

    /// The same without the floods, and the floods, where there are other clients beside them.
    pub fn without_flood(&self) -> (Self, Option<Self>) {
        if self.floods == 0 || self.floods == self.sessions() {
            return (self.clone(), None);
        }
        let floods = Self { floods: self.floods, ..Self::empty(self.kind) };
        (Self { floods: 0, ..self.clone() }, Some(floods))
    }

    fn empty(kind: Kind) -> Self {
        Self { kind, idle: 0, active: 0, pace: Pace::Closed, floods: 0, visitors: 0 }
    }

    /// The sessions that are open all the time.
    pub fn residents(&self) -> usize {
        self.active + self.floods + self.idle
    }

    /// The most sessions that are open at a time.
    pub fn sessions(&self) -> usize {
        self.residents() + self.visitors
    }

    /// The places of the clients with this part: the active ones come first, the visitors last.
    pub fn places(&self, part: Part) -> Range<usize> {
        let floods = self.active;
        let idle = floods + self.floods;
        let visitors = idle + self.idle;
        match part {
            Part::Active => 0..floods,
            Part::Flood => floods..idle,
            Part::Idle => idle..visitors,
            Part::Visitor => visitors..visitors + self.visitors,
        }
    }

    /// The part of the client in the given place.
    pub fn part(&self, place: usize) -> Part {
        [Part::Active, Part::Flood, Part::Idle]
            .into_iter()
            .find(|&part| self.places(part).contains(&place))
            .unwrap_or(Part::Visitor)
    }
}
