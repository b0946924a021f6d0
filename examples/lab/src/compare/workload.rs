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
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Workload {
    /// What it is called.
    pub kind: Kind,
    /// Sessions in which the client sends a line after each answer (closed loop).
    pub active: usize,
    /// Sessions in which the client sends lines by the clock (open loop).
    pub lines: usize,
    /// Sessions that stream at full speed.
    pub floods: usize,
    /// Sessions in which nothing happens.
    pub idle: usize,
    /// Sessions that open for one line, and open again when they have ended.
    pub visitors: usize,
}

/// The workloads that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// One client types and the rest are idle: the C10K problem.
    #[default]
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
    Active,
    Lines,
    Flood,
    Idle,
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
    /// So many sessions, of which one sends a line after each answer.
    pub fn typing(sessions: usize) -> Self {
        Self { kind: Kind::Typing, idle: sessions - 1, active: 1, ..Self::default() }
    }

    /// So many sessions, all busy.
    pub fn crowd(sessions: usize) -> Self {
        Self { kind: Kind::Crowd, active: sessions, ..Self::default() }
    }

    /// Visitors that come and go, as many at a time as may connect at a time.
    pub fn churn() -> Self {
        Self { kind: Kind::Churn, visitors: IN_FLIGHT, ..Self::default() }
    }

    /// One session at full speed.
    pub fn bulk() -> Self {
        Self { kind: Kind::Bulk, floods: 1, ..Self::default() }
    }

    /// One session at full speed, and clients beside it that send lines by the clock.
    pub fn fairness() -> Self {
        Self { kind: Kind::Fairness, floods: 1, lines: BESIDE_FLOOD, ..Self::default() }
    }

    /// So many sessions that send lines by the clock.
    pub fn rates(sessions: usize) -> Self {
        Self { kind: Kind::Rates, lines: sessions, ..Self::default() }
    }

    /// The same without the floods, and the floods, where there are other clients beside them.
    pub fn without_flood(&self) -> (Self, Option<Self>) {
        if self.floods == 0 || self.floods == self.sessions() {
            return (self.clone(), None);
        }
        let floods = Self { kind: self.kind, floods: self.floods, ..Self::default() };
        (Self { floods: 0, ..self.clone() }, Some(floods))
    }

    /// The sessions that are open all the time.
    pub fn residents(&self) -> usize {
        self.sessions() - self.visitors
    }

    /// The most sessions that are open at a time.
    pub fn sessions(&self) -> usize {
        self.parts().iter().map(|(_, count)| count).sum()
    }

    /// How many clients have each role, in the order of their places. The visitors are last.
    fn parts(&self) -> [(Role, usize); 5] {
        [
            (Role::Active, self.active),
            (Role::Lines, self.lines),
            (Role::Flood, self.floods),
            (Role::Idle, self.idle),
            (Role::Visitor, self.visitors),
        ]
    }

    /// The places of the clients with this role.
    pub fn places(&self, role: Role) -> Range<usize> {
        let before = self.parts().into_iter().take_while(|(other, _)| *other != role);
        let start: usize = before.map(|(_, count)| count).sum();
        let count = self.parts().into_iter().find(|(other, _)| *other == role).map_or(0, |(_, count)| count);
        start..start + count
    }

    /// The role of the client in the given place.
    pub fn role(&self, place: usize) -> Role {
        let mut end = 0;
        let holds = |(_, count): &(Role, usize)| {
            end += count;
            place < end
        };
        self.parts().into_iter().find(holds).map_or(Role::Visitor, |(role, _)| role)
    }
}
