//! One client of a load: its session, and what it does in it. Knows no `Poll` and no other client.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::{Interest, Registry, Token};
use socket2::SockRef;

use super::session::{Heard, Session};
use super::sources::Sources;
use super::text::Text;
use crate::support::Failure;

/// How far apart the texts of two clients begin (bytes): a server that mixes up two sessions is seen. It is a whole number
/// of the text's lines.
const APART: u64 = 64;

/// A client of the server under load.
#[derive(Debug)]
pub struct Client {
    session: Session,
    role: Role,
    stage: Stage,
}

/// What one client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// It sends a line when it is told to, after the answer to the last one.
    Talk,
    /// It sends lines when it is told to, also before earlier ones are answered.
    Lines,
    /// It sends one line, reads the answer and leaves.
    Visit,
    /// It sends as much as the server takes.
    Flood,
}

#[derive(Debug)]
enum Role {
    Talk,
    Visit,
    Stream(Box<Stream>),
}

/// A client that need not wait for answers.
#[derive(Debug)]
struct Stream {
    text: Text,
    /// Bytes that are to be sent; none without end.
    unsent: Option<usize>,
    /// The lines without an answer, in order.
    waiting: VecDeque<Waiting>,
}

/// A line without an answer.
#[derive(Debug)]
struct Waiting {
    /// Where it ends in the text.
    end: u64,
    due: Instant,
    sent: Instant,
}

/// An answer, or a visit, that is complete.
#[derive(Debug, Clone, Copy)]
pub struct Answered {
    /// From when the line was due.
    pub latency: Duration,
    /// From when it was sent.
    pub answering: Duration,
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
    /// The socket is empty, or not connected yet.
    Nothing,
    /// Something has come, and is not complete.
    Part,
    /// The banner is complete.
    Greeted,
    /// Answers are complete.
    Answered,
    /// A flood has moved on: so many bytes of its text were answered. More may be possible without new readiness.
    Streamed(u64),
    /// The server has closed its end after the client's.
    Left,
    /// The server has closed its end first, after the banner.
    Ended,
}

impl Client {
    /// Starts to connect.
    pub fn connect(
        target: SocketAddr,
        sources: &Sources,
        part: Part,
        number: usize,
    ) -> Result<Self, Failure> {
        let stream = sources.connect(target).map_err(|error| match error.kind() {
            ErrorKind::ConnectionRefused => Failure::Refused(error.to_string()),
            _ => Failure::System(format!("connect: {error}")),
        })?;
        let text = Text::starting_at(number as u64 * APART);
        let role = match part {
            Part::Talk => Role::Talk,
            Part::Visit => Role::Visit,
            Part::Lines | Part::Flood => {
                let unsent = (part == Part::Lines).then_some(0);
                Role::Stream(Box::new(Stream { text, unsent, waiting: VecDeque::new() }))
            }
        };
        if part == Part::Lines {
            // A second line does not wait for the acknowledgement of the first.
            stream.set_nodelay(true).map_err(Failure::system("TCP_NODELAY"))?;
        }
        Ok(Self { session: Session::new(stream, number), role, stage: Stage::Open })
    }

    /// Registers the socket. Only a client that need not wait for answers can fill it, and waits to be writable.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let interest = match self.role {
            Role::Stream(_) => Interest::READABLE | Interest::WRITABLE,
            Role::Talk | Role::Visit => Interest::READABLE,
        };
        registry.register(self.session.stream(), token, interest)
    }

    /// Its session.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Sends the next line, which was due at `due`, or as much of it as fits in the socket. Readiness tells when there is
    /// room for the rest.
    pub fn say(&mut self, due: Instant) -> Result<(), Failure> {
        let Role::Stream(stream) = &mut self.role else { return self.session.say(due) };
        if let Some(unsent) = &mut stream.unsent {
            *unsent += stream.text.line_after(*unsent);
            let end = stream.text.position() + *unsent as u64;
            stream.waiting.push_back(Waiting { end, due, sent: Instant::now() });
        }
        self.send().map(|_| ())
    }

    /// Ends the sending direction. The last answers, and the server's end, are still read.
    pub fn leave(&mut self) -> Result<(), Failure> {
        self.stage = Stage::Leaving;
        self.session.half_close()
    }

    /// Makes the coming close a reset, which leaves no `TIME_WAIT`. For the time after a measurement only: a measured
    /// server sees clients leave as clients do.
    pub fn reset_at_close(&mut self) {
        // It fails only where the server has closed already, and then no reset is needed.
        let _ = SockRef::from(&*self.session.stream()).set_linger(Some(Duration::ZERO));
    }

    /// How many lines have no answer yet.
    pub fn unanswered(&self) -> usize {
        match &self.role {
            Role::Stream(stream) => stream.waiting.len(),
            Role::Talk | Role::Visit => usize::from(self.session.awaits_answer()),
        }
    }

    /// When the oldest of them was due.
    pub fn oldest(&self) -> Option<Instant> {
        match &self.role {
            Role::Stream(stream) => stream.waiting.front().map(|line| line.due),
            Role::Talk | Role::Visit => self.session.awaits_answer().then(|| self.session.due()),
        }
    }

    /// One turn: as much as can be sent, and one read.
    pub fn turn(&mut self, scratch: &mut [u8], answered: &mut Vec<Answered>) -> Result<News, Failure> {
        if self.stage == Stage::Closed {
            return Ok(News::Nothing);
        }
        if matches!(self.role, Role::Stream(_)) && self.session.is_greeted() {
            return self.stream(scratch, answered);
        }
        let of_session = |session: &Session| {
            let latency = session.due().elapsed();
            Answered { latency, answering: latency }
        };
        match self.session.read()? {
            Heard::Nothing => Ok(News::Nothing),
            Heard::Part => Ok(News::Part),
            Heard::Greeted if matches!(self.role, Role::Visit) => {
                self.session.say(self.session.due())?;
                Ok(News::Part)
            }
            Heard::Greeted => Ok(News::Greeted),
            Heard::Answered if matches!(self.role, Role::Visit) => {
                self.leave()?;
                Ok(News::Part)
            }
            Heard::Answered => {
                answered.push(of_session(&self.session));
                Ok(News::Answered)
            }
            Heard::Ended => {
                let news = self.on_end()?;
                if news == News::Left {
                    answered.push(of_session(&self.session));
                }
                Ok(news)
            }
        }
    }

    /// A flood reads once. It could go on, but then no other client would be served.
    fn stream(&mut self, scratch: &mut [u8], answered: &mut Vec<Answered>) -> Result<News, Failure> {
        let has_sent = self.stage == Stage::Open && self.send()?;
        let Role::Stream(stream) = &mut self.role else { return Ok(News::Nothing) };
        let is_flood = stream.unsent.is_none();
        let mut news = if is_flood && has_sent { News::Streamed(0) } else { News::Nothing };
        while let Some(count) = unless_blocked(self.session.stream().read(scratch))? {
            if count == 0 {
                return self.on_end();
            }
            let streamed = stream.text.check(&scratch[..count])?;
            if is_flood {
                return Ok(News::Streamed(streamed));
            }
            let now = Instant::now();
            news = News::Part;
            while let Some(line) = stream.waiting.front()
                && line.end <= stream.text.answered()
            {
                answered.push(Answered { latency: now - line.due, answering: now - line.sent });
                stream.waiting.pop_front();
                news = News::Answered;
            }
            // A short read has emptied the socket.
            if count < scratch.len() {
                break;
            }
        }
        Ok(news)
    }

    /// One write of a flood, or all lines that are to be sent; says whether something was sent.
    fn send(&mut self) -> Result<bool, Failure> {
        let Role::Stream(stream) = &mut self.role else { return Ok(false) };
        let Stream { text, unsent, .. } = &mut **stream;
        let mut has_sent = false;
        while *unsent != Some(0) {
            let next = text.next();
            let next = &next[..unsent.unwrap_or(next.len()).min(next.len())];
            let Some(count) = unless_blocked(self.session.stream().write(next))? else { break };
            text.sent(count);
            has_sent = true;
            match unsent {
                Some(unsent) => *unsent -= count,
                None => break,
            }
        }
        Ok(has_sent)
    }

    /// The server's end is right if the client has ended its direction before and has every answer.
    fn on_end(&mut self) -> Result<News, Failure> {
        match (self.stage, &self.role) {
            (Stage::Open, _) if !self.session.is_greeted() => {
                Err(Failure::Refused("closed before the banner".to_owned()))
            }
            (Stage::Open, _) => Ok(News::Ended),
            (Stage::Leaving, Role::Stream(stream)) if !stream.text.is_complete() => {
                Err(Failure::WrongAnswer("closed before everything was answered".to_owned()))
            }
            (Stage::Leaving | Stage::Closed, _) => {
                self.stage = Stage::Closed;
                Ok(News::Left)
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
