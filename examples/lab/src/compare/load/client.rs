//! One client of a load: its session, and what it does in it. Knows no `Poll` and no other client.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::{Interest, Registry, Token};

use super::flood::Flood;
use crate::compare::workload::Part;
use crate::support::client::{News as Heard, Session, Sources};
use crate::support::failure::Failure;

/// A client of the server under load.
#[derive(Debug)]
pub struct Client {
    session: Session,
    role: Role,
    stage: Stage,
}

#[derive(Debug)]
enum Role {
    /// Sends nothing.
    Idle,
    /// Sends a line whenever the load says so.
    Active,
    /// Sends one line, reads the answer and leaves.
    Visitor,
    /// Sends as much as the server takes.
    Flood(Flood),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    /// The client has closed its sending direction, and reads on to the server's end.
    Leaving,
    /// Both directions are closed. An event of the same batch may still be for this client.
    Closed,
}

/// What the load must know after a client's turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// Nothing that the load counts.
    Nothing,
    /// The banner is complete.
    Greeted,
    /// The answer is complete, so long after it was due.
    Answered(Duration),
    /// A flood has moved on: so many bytes of its text were answered. More may be possible without new readiness.
    Streamed(u64),
    /// The server has closed its end after the client's; a visit took so long.
    Left(Duration),
}

impl Client {
    /// Starts to connect. Readiness tells when the banner comes, or that the connect failed.
    pub fn connect(
        target: SocketAddr,
        sources: &mut Sources,
        part: Part,
        number: usize,
    ) -> Result<Self, Failure> {
        let stream = sources.connect(target).map_err(|error| match error.kind() {
            ErrorKind::ConnectionRefused => Failure::Refused(error.to_string()),
            _ => Failure::System(format!("connect: {error}")),
        })?;
        let role = match part {
            Part::Idle => Role::Idle,
            Part::Active => Role::Active,
            Part::Visitor => Role::Visitor,
            Part::Flood => Role::Flood(Flood::default()),
        };
        Ok(Self { session: Session::new(stream, number), role, stage: Stage::Open })
    }

    /// Registers the socket. Only a flood can fill it, so only a flood waits to be writable.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let interest = match self.role {
            Role::Flood(_) => Interest::READABLE | Interest::WRITABLE,
            _ => Interest::READABLE,
        };
        registry.register(self.session.stream(), token, interest)
    }

    /// When the client's present answer, or its visit, became due.
    pub fn due(&self) -> Instant {
        self.session.due()
    }

    /// Sends the next line, which was due at `due`.
    pub fn say(&mut self, due: Instant) -> Result<(), Failure> {
        self.session.say(due)
    }

    /// Ends the sending direction. The last answers, and the server's end, are still read.
    pub fn leave(&mut self) -> Result<(), Failure> {
        self.stage = Stage::Leaving;
        self.session.half_close()
    }

    /// See [`Session::reset_at_close`].
    pub fn reset_at_close(&self) {
        self.session.reset_at_close();
    }

    /// One turn. `closing`: readiness says that an end of input, or an error, is to be read.
    pub fn on_ready(&mut self, closing: bool, scratch: &mut [u8]) -> Result<News, Failure> {
        if self.stage == Stage::Closed {
            return Ok(News::Nothing);
        }
        if matches!(self.role, Role::Flood(_)) && self.session.is_greeted() {
            return self.stream(scratch);
        }
        let mut news = News::Nothing;
        loop {
            match self.session.read()? {
                Heard::Nothing => return Ok(news),
                Heard::Part => {}
                Heard::Greeted => {
                    news = News::Greeted;
                    if let Role::Visitor = self.role {
                        self.session.say(self.session.due())?;
                    }
                }
                Heard::Answered if matches!(self.role, Role::Visitor) => self.leave()?,
                Heard::Answered => news = News::Answered(self.session.due().elapsed()),
                Heard::Ended => return self.on_end(),
            }
            if !closing {
                return Ok(news);
            }
        }
    }

    /// One write, while the client's direction is open, and one read. A flood could go on, but then no other client
    /// would be served.
    fn stream(&mut self, scratch: &mut [u8]) -> Result<News, Failure> {
        let Role::Flood(flood) = &mut self.role else { return Ok(News::Nothing) };
        let mut news = News::Nothing;
        if self.stage == Stage::Open
            && let Some(count) = unless_blocked(self.session.stream().write(flood.text()))?
        {
            flood.sent(count);
            news = News::Streamed(0);
        }
        match unless_blocked(self.session.stream().read(scratch))? {
            None => Ok(news),
            Some(0) => self.on_end(),
            Some(count) => Ok(News::Streamed(flood.check(&scratch[..count])?)),
        }
    }

    /// The server's end is right if the client has ended its direction before and has every answer.
    fn on_end(&mut self) -> Result<News, Failure> {
        match (self.stage, &self.role) {
            (Stage::Open, _) if !self.session.is_greeted() => {
                Err(Failure::Refused("closed before the banner".to_owned()))
            }
            (Stage::Open, _) => Err(Failure::Lost("closed by the server".to_owned())),
            (Stage::Leaving, Role::Flood(flood)) if !flood.is_complete() => {
                Err(Failure::WrongAnswer("closed before everything was answered".to_owned()))
            }
            (Stage::Leaving | Stage::Closed, _) => {
                self.stage = Stage::Closed;
                Ok(News::Left(self.session.due().elapsed()))
            }
        }
    }
}

/// The bytes that a read or a write of a greeted session moved; `None` if it has to wait.
fn unless_blocked(result: io::Result<usize>) -> Result<Option<usize>, Failure> {
    match result {
        Ok(count) => Ok(Some(count)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(None),
        Err(error) => Err(Failure::Lost(error.to_string())),
    }
}
