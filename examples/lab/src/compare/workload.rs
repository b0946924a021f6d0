//! What the clients do: how many of them are idle, send lines, stream, or come and go.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use crate::support::load::client::Part;

/// How many connections are being made at a time: as many as the tutorial's `listen(10)` lets wait. With more, the
/// measurement would show how the kernel drops handshakes and repeats them a second later.
pub const IN_FLIGHT: usize = 10;
/// How often each active client beside a flood sends a line.
pub const BESIDE_FLOOD_INTERVAL: Duration = Duration::from_millis(10);
/// How many active clients are beside a flood.
pub const BESIDE_FLOOD: usize = 20;

/// A number of clients and what they do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// What it is called.
    pub kind: Kind,
    /// How many clients have each role, in the order of their places. Visitors are last.
    parts: Vec<(Role, usize)>,
}

/// The workloads that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    /// All clients send by the clock, at growing rates.
    Rates,
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
            Self::Rates => "rates",
        }
    }
}

/// What one client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It sends a line after each answer (closed loop).
    Active,
    /// It sends lines by the clock (open loop).
    Lines,
    /// It streams at full speed.
    Flood,
    /// Nothing.
    Idle,
    /// It opens a session for one line, and another one when that has ended.
    Visitor,
}

impl Role {
    /// How the load plays it.
    pub fn part(self) -> Part {
        match self {
            Self::Active | Self::Idle => Part::Talk,
            Self::Lines => Part::Lines,
            Self::Flood => Part::Flood,
            Self::Visitor => Part::Visit,
        }
    }
}

impl Workload {
    fn new(kind: Kind, parts: impl Into<Vec<(Role, usize)>>) -> Self {
        Self { kind, parts: parts.into() }
    }

    /// So many sessions, of which one sends a line after each answer.
    pub fn typing(sessions: usize) -> Self {
        Self::new(Kind::Typing, [(Role::Active, 1), (Role::Idle, sessions - 1)])
    }

    /// So many sessions, all busy.
    pub fn crowd(sessions: usize) -> Self {
        Self::new(Kind::Crowd, [(Role::Active, sessions)])
    }

    /// Visitors that come and go, as many at a time as may connect at a time.
    pub fn churn() -> Self {
        Self::new(Kind::Churn, [(Role::Visitor, IN_FLIGHT)])
    }

    /// One session at full speed.
    pub fn bulk() -> Self {
        Self::new(Kind::Bulk, [(Role::Flood, 1)])
    }

    /// One session at full speed, and clients beside it that send lines by the clock.
    pub fn fairness() -> Self {
        Self::new(Kind::Fairness, [(Role::Lines, BESIDE_FLOOD), (Role::Flood, 1)])
    }

    /// So many sessions that send lines by the clock.
    pub fn rates(sessions: usize) -> Self {
        Self::new(Kind::Rates, [(Role::Lines, sessions)])
    }

    /// The same without the floods, and the floods, where there are other clients beside them.
    pub fn without_flood(&self) -> (Self, Option<Self>) {
        let (floods, others): (Vec<_>, Vec<_>) =
            self.parts.iter().copied().partition(|(role, _)| *role == Role::Flood);
        if floods.is_empty() || others.is_empty() {
            return (self.clone(), None);
        }
        (Self::new(self.kind, others), Some(Self::new(self.kind, floods)))
    }

    /// How many clients have this role.
    pub fn count(&self, role: Role) -> usize {
        self.places(role).len()
    }

    /// The most sessions that are open at a time.
    pub fn sessions(&self) -> usize {
        self.parts.iter().map(|(_, count)| count).sum()
    }

    /// The sessions that are open all the time.
    pub fn residents(&self) -> usize {
        self.sessions() - self.count(Role::Visitor)
    }

    /// The places of the clients with this role.
    pub fn places(&self, role: Role) -> Range<usize> {
        let mut start = 0;
        for &(other, count) in &self.parts {
            if other == role {
                return start..start + count;
            }
            start += count;
        }
        0..0
    }

    /// The role of the client in the given place.
    pub fn role(&self, place: usize) -> Role {
        let holds = |(role, _): &&(Role, usize)| self.places(*role).contains(&place);
        self.parts.iter().find(holds).map_or(Role::Visitor, |(role, _)| *role)
    }
}
