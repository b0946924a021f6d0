//! One client of a load: its session, and what it does in it. Knows no `Poll` and no other client.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use socket2::{SockRef, Socket};

use super::chat::{Chat, Talk};
use super::sources::Sources;
use super::text::{Text, wrong};
use crate::support::{BANNER, FULL_MESSAGE, Failure};

/// How far apart the texts of two clients begin (bytes): a server that mixes up two sessions is seen. It is the length of a
/// line of the text, and 65,521 clients begin at different places.
const APART: u64 = 64;

/// A client of the server under load. It has little of its own before it says something: a fleet has a million of them.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    number: usize,
    part: Part,
    stage: Stage,
    /// How many bytes of the banner have come.
    banner: u8,
    /// When the connect began, or when the last line was due.
    due: Instant,
    said: Option<Box<Said>>,
    chat: Option<Box<Chat>>,
}

/// What one client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// It sends lines when it is told to, also before earlier ones are answered.
    Lines,
    /// It sends one line, reads the answer and leaves.
    Visit,
    /// It sends as much as the server takes.
    Flood,
    /// It is a client of a chat, and reads each line.
    Chat(&'static Talk),
    /// It reads the greeting of a chat, and nothing behind it.
    NeverReads,
}

/// What a client has said.
#[derive(Debug)]
struct Said {
    text: Text,
    /// Bytes of lines that are to be sent.
    unsent: usize,
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
    /// The banner has not come.
    New,
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
        if part == Part::Lines {
            // A second line does not wait for the acknowledgement of the first.
            stream.set_nodelay(true).map_err(Failure::system("TCP_NODELAY"))?;
        }
        let said = (part == Part::Flood).then(|| Box::new(Said::new(number)));
        let chat = if let Part::Chat(talk) = part { Some(Box::new(Chat::new(number, talk))) } else { None };
        Ok(Self { stream, number, part, stage: Stage::New, banner: 0, due: Instant::now(), said, chat })
    }

    /// Registers the socket. Only a flood waits to be writable: what a full socket leaves of other clients' lines is sent
    /// when answers make room.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let all = Interest::READABLE | Interest::WRITABLE;
        let interest = if self.part == Part::Flood { all } else { Interest::READABLE };
        registry.register(&mut self.stream, token, interest)
    }

    /// When the connect began, or when the last line was due.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// Whether the banner has come.
    pub fn is_greeted(&self) -> bool {
        self.stage != Stage::New
    }

    /// Sends the next line, which was due at `due`, or as much of it as fits in the socket.
    pub fn say(&mut self, due: Instant) -> Result<(), Failure> {
        self.due = due;
        if let Some(chat) = &mut self.chat {
            // Little else is on its way from here, so it fits in the socket buffer whole.
            return self.stream.write_all(&chat.say(due)).map_err(|error| Failure::Lost(error.to_string()));
        }
        let said = self.said.get_or_insert_with(|| Box::new(Said::new(self.number)));
        said.unsent += said.text.line_after(said.unsent);
        let end = said.text.position() + said.unsent as u64;
        said.waiting.push_back(Waiting { end, due, sent: Instant::now() });
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
        let lines = self.said.as_ref().map_or(0, |said| said.waiting.len());
        self.chat.as_ref().map_or(lines, |chat| chat.unanswered())
    }

    /// When the oldest of them was due.
    pub fn oldest(&self) -> Option<Instant> {
        self.said.as_ref()?.waiting.front().map(|line| line.due)
    }

    /// One turn: as much as can be sent, and one read. It empties the socket, but an end of input may stand behind the
    /// bytes. A flood could go on, but then no other client would be served.
    pub fn turn(&mut self, scratch: &mut [u8], answered: &mut Vec<Answered>) -> Result<News, Failure> {
        let reads_no_more = self.part == Part::NeverReads && self.is_greeted();
        if self.stage == Stage::Closed || reads_no_more {
            return Ok(News::Nothing);
        }
        let has_sent = self.stage == Stage::Open && self.send()?;
        let Some(count) = moved(self.stream.read(scratch), self.is_greeted())? else {
            return Ok(if has_sent && self.part == Part::Flood { News::Streamed(0) } else { News::Nothing });
        };
        if count == 0 {
            return self.on_end(answered);
        }
        let news = match (&mut self.chat, self.stage) {
            (Some(chat), _) => chat.hear(&scratch[..count], answered)?,
            (None, Stage::New) if self.part == Part::NeverReads => News::Greeted,
            (None, Stage::New) => self.hear_banner(&scratch[..count])?,
            _ => self.hear(&scratch[..count], answered)?,
        };
        if news == News::Greeted {
            self.stage = Stage::Open;
        }
        match (self.part, news) {
            (Part::Visit, News::Greeted) => self.say(self.due).map(|()| News::Part),
            (Part::Visit, News::Answered) => {
                // What counts is the whole visit.
                answered.clear();
                self.leave().map(|()| News::Part)
            }
            // Only a short read has emptied the socket.
            (Part::Lines, News::Part | News::Answered) if count == scratch.len() => Ok(News::Streamed(0)),
            _ => Ok(news),
        }
    }

    /// One write of a flood, or all lines that are to be sent; says whether something was sent.
    fn send(&mut self) -> Result<bool, Failure> {
        let is_flood = self.part == Part::Flood;
        let Some(said) = &mut self.said else { return Ok(false) };
        let mut has_sent = false;
        while is_flood || said.unsent > 0 {
            let next = said.text.next();
            let next = if is_flood { next } else { &next[..said.unsent.min(next.len())] };
            let Some(count) = moved(self.stream.write(next), true)? else { break };
            said.text.sent(count);
            has_sent = true;
            if is_flood {
                break;
            }
            said.unsent -= count;
        }
        Ok(has_sent)
    }

    fn hear_banner(&mut self, bytes: &[u8]) -> Result<News, Failure> {
        if bytes == FULL_MESSAGE.as_bytes() {
            return Err(Failure::Refused(FULL_MESSAGE.trim().to_owned()));
        }
        let rest = &BANNER[usize::from(self.banner)..];
        if !rest.starts_with(bytes) {
            return Err(wrong(rest, bytes, self.banner.into()));
        }
        self.banner += u8::try_from(bytes.len()).expect("the banner is not that long");
        Ok(if bytes == rest { News::Greeted } else { News::Part })
    }

    /// Takes the next bytes of the answers.
    fn hear(&mut self, bytes: &[u8], answered: &mut Vec<Answered>) -> Result<News, Failure> {
        let Some(said) = &mut self.said else { return Err(wrong(b"", bytes, 0)) };
        let streamed = said.text.check(bytes)?;
        if self.part == Part::Flood {
            return Ok(News::Streamed(streamed));
        }
        let (now, mut news) = (Instant::now(), News::Part);
        while let Some(line) = said.waiting.front()
            && line.end <= said.text.answered()
        {
            answered.push(Answered { latency: now - line.due, answering: now - line.sent });
            said.waiting.pop_front();
            news = News::Answered;
        }
        Ok(news)
    }

    /// The server's end is right if the client has ended its direction before and has every answer.
    fn on_end(&mut self, answered: &mut Vec<Answered>) -> Result<News, Failure> {
        match self.stage {
            Stage::New => return Err(Failure::Refused("closed before the banner".to_owned())),
            Stage::Open => return Ok(News::Ended),
            Stage::Leaving | Stage::Closed => {}
        }
        if self.said.as_ref().is_some_and(|said| !said.text.is_complete()) {
            return Err(Failure::WrongAnswer("closed before everything was answered".to_owned()));
        }
        if self.part == Part::Visit {
            let latency = self.due.elapsed();
            answered.push(Answered { latency, answering: latency });
        }
        self.stage = Stage::Closed;
        Ok(News::Left)
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

impl Said {
    fn new(number: usize) -> Self {
        let text = Text::starting_at(number as u64 * APART);
        Self { text, unsent: 0, waiting: VecDeque::new() }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;
    use crate::support::PREFIX;

    /// A client without a server that reads or writes.
    fn client() -> (Client, TcpListener) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let sources = Sources::new(Ipv4Addr::new(127, 0, 0, 2), 1, 20_000..=21_000);
        (Client::connect(listener.local_addr().unwrap(), &sources, Part::Lines, 7).unwrap(), listener)
    }

    #[test]
    fn a_refusal_is_told_from_a_wrong_banner_and_a_banner_may_come_in_pieces() {
        let (mut client, _listener) = client();
        assert!(matches!(client.hear_banner(FULL_MESSAGE.as_bytes()), Err(Failure::Refused(_))));
        assert!(matches!(client.hear_banner(b"Hello"), Err(Failure::WrongAnswer(_))));
        assert_eq!(client.hear_banner(&BANNER[..3]), Ok(News::Part));
        assert_eq!(client.hear_banner(&BANNER[3..]), Ok(News::Greeted));
    }

    #[test]
    fn an_answer_to_nothing_and_an_old_answer_are_wrong() {
        let (mut client, _listener) = client();
        let mut answered = Vec::new();
        assert!(client.hear(b"O", &mut answered).is_err(), "nothing is due");
        let due = Instant::now();
        client.say(due).unwrap();
        let line = Text::starting_at(7 * APART).next()[..64].to_vec();
        let answer = [PREFIX, &line].concat();
        assert_eq!((client.unanswered(), client.oldest()), (1, Some(due)));
        assert_eq!(client.hear(&answer[..9], &mut answered), Ok(News::Part));
        assert_eq!(client.hear(&answer[9..], &mut answered), Ok(News::Answered));
        assert_eq!((client.unanswered(), answered.len()), (0, 1));
        client.say(due).unwrap();
        assert!(client.hear(&answer, &mut answered).is_err(), "the second answer repeats the first");
    }
}
