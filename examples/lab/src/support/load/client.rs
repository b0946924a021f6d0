//! One client of a load: its session, and what it does in it. Knows no `Poll` and no other client.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use socket2::{SockRef, Socket};

use super::chat::{Chat, Talk};
use super::dialogue::Dialogue;
use super::sources::Sources;
use super::text::Text;
use crate::support::Failure;

/// How far apart the texts of two clients begin (bytes): a server that mixes up two sessions is seen. It is a whole number
/// of the text's lines.
const APART: u64 = 64;
/// A client of the server under load.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    dialogue: Dialogue,
    role: Role,
    stage: Stage,
    /// When the connect began, or when the last line was due.
    due: Instant,
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
    /// It is a client of a chat, and reads each line.
    Chat(Talk),
    /// It reads the greeting of a chat, and nothing behind it.
    NeverReads,
}

#[derive(Debug)]
enum Role {
    Talk,
    Visit,
    Stream(Box<Stream>),
    Chat(Box<Chat>),
    /// Whether it has its greeting.
    NeverReads(bool),
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
    /// A client of a chat has so many lines more, and whether these are all of the round.
    Heard { lines: u64, has_all: bool },
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
        let prepare = if part == Part::NeverReads { take_little } else { |_: &Socket| Ok(()) };
        let stream = sources.connect(target, prepare).map_err(|error| match error.kind() {
            ErrorKind::ConnectionRefused => Failure::Refused(error.to_string()),
            _ => Failure::System(format!("connect: {error}")),
        })?;
        let text = Text::starting_at(number as u64 * APART);
        let role = match part {
            Part::Talk => Role::Talk,
            Part::Visit => Role::Visit,
            Part::Chat(talk) => Role::Chat(Box::new(Chat::new(number, talk))),
            Part::NeverReads => Role::NeverReads(false),
            Part::Lines | Part::Flood => {
                let unsent = (part == Part::Lines).then_some(0);
                Role::Stream(Box::new(Stream { text, unsent, waiting: VecDeque::new() }))
            }
        };
        if part == Part::Lines {
            // A second line does not wait for the acknowledgement of the first.
            stream.set_nodelay(true).map_err(Failure::system("TCP_NODELAY"))?;
        }
        let (dialogue, stage) = (Dialogue::new(number), Stage::Open);
        Ok(Self { stream, dialogue, role, stage, due: Instant::now() })
    }

    /// Registers the socket. Only a client that need not wait for answers can fill it, and waits to be writable.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let interest = match self.role {
            Role::Stream(_) => Interest::READABLE | Interest::WRITABLE,
            Role::Talk | Role::Visit | Role::Chat(_) | Role::NeverReads(_) => Interest::READABLE,
        };
        registry.register(&mut self.stream, token, interest)
    }

    /// When the connect began, or when the last line was due.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// Whether the banner has come.
    pub fn is_greeted(&self) -> bool {
        match &self.role {
            Role::Chat(chat) => chat.is_greeted(),
            Role::NeverReads(is_greeted) => *is_greeted,
            Role::Talk | Role::Visit | Role::Stream(_) => self.dialogue.is_greeted(),
        }
    }

    /// Sends the next line, which was due at `due`, or as much of it as fits in the socket. Readiness tells when there is
    /// room for the rest.
    pub fn say(&mut self, due: Instant) -> Result<(), Failure> {
        self.due = due;
        let is_greeted = self.is_greeted();
        let stream = match &mut self.role {
            Role::Stream(stream) => stream,
            role => {
                // Little else is on its way from here, so it fits in the socket buffer whole.
                let said = match role {
                    Role::Chat(chat) => self.stream.write_all(&chat.say(due)),
                    _ => self.stream.write_all(&self.dialogue.say()),
                };
                return said.map_err(|error| failure(&error, is_greeted));
            }
        };
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
        self.stream.shutdown(Shutdown::Write).map_err(|error| failure(&error, self.is_greeted()))
    }

    /// Makes the coming close a reset, which leaves no `TIME_WAIT`. For the time after a measurement only: a measured
    /// server sees clients leave as clients do.
    pub fn reset_at_close(&mut self) {
        // It fails only where the server has closed already, and then no reset is needed.
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    /// How many lines have no answer yet.
    pub fn unanswered(&self) -> usize {
        match &self.role {
            Role::Stream(stream) => stream.waiting.len(),
            Role::Chat(chat) => chat.unanswered(),
            Role::NeverReads(_) => 0,
            Role::Talk | Role::Visit => usize::from(self.dialogue.awaits_answer()),
        }
    }

    /// When the oldest of them was due.
    pub fn oldest(&self) -> Option<Instant> {
        match &self.role {
            Role::Stream(stream) => stream.waiting.front().map(|line| line.due),
            _ => (self.unanswered() > 0).then_some(self.due),
        }
    }

    /// One turn: as much as can be sent, and one read. It empties the socket, but an end of input may stand behind the
    /// bytes. A flood could go on, but then no other client would be served.
    pub fn turn(&mut self, scratch: &mut [u8], answered: &mut Vec<Answered>) -> Result<News, Failure> {
        if self.stage == Stage::Closed || matches!(self.role, Role::NeverReads(true)) {
            return Ok(News::Nothing);
        }
        let (is_stream, is_greeted) = (matches!(self.role, Role::Stream(_)), self.is_greeted());
        let has_sent = is_stream && is_greeted && self.stage == Stage::Open && self.send()?;
        let Some(count) = moved(self.stream.read(scratch), is_greeted)? else {
            let is_flood = matches!(&self.role, Role::Stream(stream) if stream.unsent.is_none());
            return Ok(if has_sent && is_flood { News::Streamed(0) } else { News::Nothing });
        };
        let news = match (&mut self.role, count) {
            (_, 0) => self.on_end()?,
            (Role::Stream(stream), _) if is_greeted => {
                let news = stream.hear(&scratch[..count], answered)?;
                // Only a short read has emptied the socket.
                let is_full = count == scratch.len() && !matches!(news, News::Streamed(_));
                if is_full { News::Streamed(0) } else { news }
            }
            (Role::Chat(chat), _) => chat.hear(&scratch[..count], answered)?,
            (Role::NeverReads(is_greeted), _) => {
                *is_greeted = true;
                News::Greeted
            }
            _ => self.dialogue.hear(&scratch[..count])?,
        };
        match (&self.role, news) {
            (Role::Visit, News::Greeted) => self.say(self.due).map(|()| News::Part),
            (Role::Visit, News::Answered) => self.leave().map(|()| News::Part),
            (Role::Talk, News::Answered) | (Role::Visit, News::Left) => {
                let latency = self.due.elapsed();
                answered.push(Answered { latency, answering: latency });
                Ok(news)
            }
            _ => Ok(news),
        }
    }

    /// One write of a flood, or all lines that are to be sent; says whether something was sent.
    fn send(&mut self) -> Result<bool, Failure> {
        let is_greeted = self.is_greeted();
        let Role::Stream(stream) = &mut self.role else { return Ok(false) };
        let mut has_sent = false;
        while stream.unsent != Some(0) {
            let next = stream.text.next();
            let next = &next[..stream.unsent.unwrap_or(next.len()).min(next.len())];
            let Some(count) = moved(self.stream.write(next), is_greeted)? else { break };
            stream.text.sent(count);
            has_sent = true;
            match &mut stream.unsent {
                Some(unsent) => *unsent -= count,
                None => break,
            }
        }
        Ok(has_sent)
    }

    /// The server's end is right if the client has ended its direction before and has every answer.
    fn on_end(&mut self) -> Result<News, Failure> {
        match (self.stage, &self.role) {
            (Stage::Open, _) if !self.is_greeted() => {
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

/// Lets the kernel hold some 100 KB for a client that never reads. On loopback it would hold several MB, because the
/// segments are long, and the window grows.
fn take_little(socket: &Socket) -> io::Result<()> {
    /// What every host takes (RFC 1122).
    const SEGMENT: u32 = 536;
    const RECEIVED: usize = 4096;
    socket.set_tcp_mss(SEGMENT)?;
    socket.set_recv_buffer_size(RECEIVED)
}

/// The bytes that a read or a write moved; `None` if it has to wait.
fn moved(result: io::Result<usize>, is_greeted: bool) -> Result<Option<usize>, Failure> {
    match result {
        Ok(count) => Ok(Some(count)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(None),
        Err(error) => Err(failure(&error, is_greeted)),
    }
}

/// What an error of the socket means at this point of the session.
fn failure(error: &io::Error, is_greeted: bool) -> Failure {
    let how = error.to_string();
    if is_greeted { Failure::Lost(how) } else { Failure::Refused(how) }
}

impl Stream {
    /// Takes the next bytes that came.
    fn hear(&mut self, bytes: &[u8], answered: &mut Vec<Answered>) -> Result<News, Failure> {
        let streamed = self.text.check(bytes)?;
        if self.unsent.is_none() {
            return Ok(News::Streamed(streamed));
        }
        let (now, mut news) = (Instant::now(), News::Part);
        while let Some(line) = self.waiting.front()
            && line.end <= self.text.answered()
        {
            answered.push(Answered { latency: now - line.due, answering: now - line.sent });
            self.waiting.pop_front();
            news = News::Answered;
        }
        Ok(news)
    }
}
