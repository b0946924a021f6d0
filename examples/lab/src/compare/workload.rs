//! What the clients do: how many of them are idle, send lines, stream, or come and go.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use crate::support::load::chat::Talk;
use crate::support::load::client::Part;
use crate::support::{many, thousands};

/// How many connections are being made at a time: as many as the tutorial's `listen(10)` lets wait. With more, the
/// measurement would show how the kernel drops handshakes and repeats them a second later.
pub const IN_FLIGHT: usize = 10;
/// How often each active client sends a line by the clock, beside a flood and in a chat.
pub const INTERVAL: Duration = Duration::from_millis(10);
/// How many active clients are beside a flood.
pub const BESIDE_FLOOD: usize = 20;
/// How many clients of a chat type commands, each as often as a client beside a flood. All clients of the smallest chat
/// are speakers, clients that type, and others.
pub const BESIDE_CHAT: usize = 10;
/// The fewest clients of a chat, and the most.
pub const CHAT_CLIENTS: (usize, usize) = (100, 10_000);
/// The most where some of them never read.
const WITH_SLOW_READERS: usize = 1000;
/// One client of so many never reads.
const ONE_NEVER_READS: usize = 100;
/// A room of the four chats keeps more lines than these, and a socket holds fewer.
const LINES_FOR_SLOW_READERS: usize = 1024;

/// A number of clients and what they do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// What it is called.
    pub kind: Kind,
    /// How many clients have each role, in the order of their places. Visitors are last.
    parts: Vec<(Role, usize)>,
    /// What is said in each round of a chat.
    pub talk: Option<&'static Talk>,
    /// How many lines are said at least, however long that takes.
    pub least_lines: usize,
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
    /// Active clients, and one session at full speed beside them, which is a load of its own.
    Fairness,
    /// All clients send by the clock, at growing rates.
    Rates,
    /// Each line goes to all other clients.
    Chat,
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Typing => write!(f, "{} sessions", thousands(self.sessions() as f64)),
            Kind::Chat => {
                let clients = thousands(self.sessions() as f64);
                write!(f, "{}, {clients} clients", many(self.count(Role::Active), "speaker"))?;
                let never_read = self.count(Role::NeverReads);
                if never_read > 0 { write!(f, ", {never_read} of them never read") } else { Ok(()) }
            }
            kind => write!(f, "{}", kind.key()),
        }
    }
}

impl Kind {
    /// Its name in `results.json`.
    pub fn key(self) -> String {
        format!("{self:?}").to_lowercase()
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
    /// It reads the greeting of a chat, and nothing behind it.
    NeverReads,
    /// It opens a session for one line, and another one when that has ended.
    Visitor,
}

impl Workload {
    /// Clients of these roles.
    pub fn new(kind: Kind, parts: impl Into<Vec<(Role, usize)>>) -> Self {
        Self { kind, parts: parts.into(), talk: None, least_lines: 0 }
    }

    /// The workloads of a round: typing with each number of sessions, a crowd of `active` clients, chats, and the others.
    pub fn of_a_round(sessions: &[usize], active: usize, chat_clients: usize) -> Vec<Self> {
        let typing = |&sessions| Self::new(Kind::Typing, [(Role::Active, 1), (Role::Idle, sessions - 1)]);
        let others = [
            Self::new(Kind::Crowd, [(Role::Active, active)]),
            // As many visitors at a time as may connect at a time.
            Self::new(Kind::Churn, [(Role::Visitor, IN_FLIGHT)]),
            Self::new(Kind::Bulk, [(Role::Flood, 1)]),
            Self::new(Kind::Fairness, [(Role::Lines, BESIDE_FLOOD)]),
        ];
        sessions.iter().map(typing).chain(others).chain(Self::chats(chat_clients)).collect()
    }

    /// One speaker; several; and several while one of a hundred clients never reads.
    ///
    /// The last one says long lines, and so many of them that the sockets of such clients do not hold them.
    fn chats(clients: usize) -> [Self; 3] {
        const ONE: &Talk = &Talk { speakers: 1, lines: 1, length: 64 };
        const SEVERAL: &Talk = &Talk { speakers: 16, lines: 2, length: 64 };
        const LONG: &Talk = &Talk { length: 1000, ..*SEVERAL };
        let chat = |talk: &'static Talk, clients: usize, never_read: usize, least_lines| {
            let idle = clients - talk.speakers - BESIDE_CHAT - never_read;
            let (speakers, typing) = ((Role::Active, talk.speakers), (Role::Lines, BESIDE_CHAT));
            let parts = [speakers, typing, (Role::Idle, idle), (Role::NeverReads, never_read)];
            Self { talk: Some(talk), least_lines, ..Self::new(Kind::Chat, parts) }
        };
        let fewer = clients.min(WITH_SLOW_READERS);
        [
            chat(ONE, clients, 0, 0),
            chat(SEVERAL, clients, 0, 0),
            chat(LONG, fewer, fewer / ONE_NEVER_READS, LINES_FOR_SLOW_READERS),
        ]
    }

    /// How many clients have this role.
    pub fn count(&self, role: Role) -> usize {
        self.places(role).len()
    }

    /// The most sessions that are open at a time.
    pub fn sessions(&self) -> usize {
        self.parts.iter().map(|(_, count)| count).sum()
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

    /// What the load plays in the given place.
    pub fn part(&self, place: usize) -> Part {
        match (self.role(place), self.talk) {
            (Role::NeverReads, _) => Part::NeverReads,
            (_, Some(talk)) => Part::Chat(talk),
            (Role::Active | Role::Idle | Role::Lines, None) => Part::Lines,
            (Role::Flood, None) => Part::Flood,
            (Role::Visitor, None) => Part::Visit,
        }
    }

    /// The role of the client in the given place.
    pub fn role(&self, place: usize) -> Role {
        let holds = |(role, _): &&(Role, usize)| self.places(*role).contains(&place);
        self.parts.iter().find(holds).map_or(Role::Visitor, |(role, _)| *role)
    }
}
