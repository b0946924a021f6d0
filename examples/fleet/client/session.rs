//! One client's session: a banner, then a line now and then, each answer checked byte by byte.
//!
//! Knows no `Poll` and no other session. It keeps no buffer: what it expects follows from its number, so a million of
//! them cost little more than their sockets.

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use okloop::{BANNER, PREFIX};

/// More than any answer is long, so that a byte too much is seen.
const SCRATCH: usize = 256;

/// A session from its connect on.
#[derive(Debug)]
pub struct Session {
    stream: TcpStream,
    number: usize,
    waiting: Waiting,
    /// How much of what it waits for has come.
    heard: usize,
    /// When the connect began, or the line that is waited for was due.
    due: Instant,
    lines: u32,
    /// The marks that had been set when the last line was sent.
    marks: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiting {
    Banner,
    Answer,
    Nothing,
}

/// What a read brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// Nothing: the socket is empty.
    Nothing,
    /// Not yet all that is expected.
    Part,
    /// The last byte of the banner, so long after the connect.
    Greeted(Duration),
    /// The last byte of the answer to the line that was due then.
    Answered(Instant),
    /// The end of input.
    Ended,
}

impl Session {
    /// A session whose connect has begun.
    pub fn new(stream: TcpStream, number: usize, now: Instant) -> Self {
        Self { stream, number, waiting: Waiting::Banner, heard: 0, due: now, lines: 0, marks: 0 }
    }

    /// Whether the banner has come.
    pub fn is_greeted(&self) -> bool {
        self.waiting != Waiting::Banner
    }

    /// Whether something has not come yet.
    pub fn waits(&self) -> bool {
        self.waiting != Waiting::Nothing
    }

    /// For how long a line has been without its answer.
    pub fn waits_for(&self) -> Option<Duration> {
        (self.waiting == Waiting::Answer).then(|| self.due.elapsed())
    }

    /// Sends the next line, unless an answer is waited for. The error says how the session was lost.
    pub fn ask(&mut self, due: Instant, marks: u32) -> Result<(), String> {
        if self.waits() {
            return Ok(());
        }
        self.lines += 1;
        (self.waiting, self.due, self.marks) = (Waiting::Answer, due, marks);
        // A line is short and nothing else is under way, so it fits in the socket whole.
        self.stream.write_all(self.line().as_bytes()).map_err(|error| self.lost(&error.to_string()))
    }

    /// One read. The error says how the session was lost.
    pub fn read(&mut self) -> Result<News, String> {
        let mut scratch = [0; SCRATCH];
        loop {
            return match self.stream.read(&mut scratch) {
                Ok(0) => Ok(News::Ended),
                Ok(count) => self.hear(&scratch[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(News::Nothing),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => Err(self.lost(&error.to_string())),
            };
        }
    }

    /// Judges the end of input: `None` is an end in order, else it is said how the session was lost. A server may end
    /// after a mark, when it has answered every line that was sent before.
    pub fn end(&self, marks: u32) -> Option<String> {
        match self.waiting {
            _ if marks == 0 => Some(self.lost("ended before anybody asked for it")),
            Waiting::Banner => Some(self.lost("ended before its banner")),
            Waiting::Answer if self.marks < marks => Some(self.lost("ended with an answer owed")),
            Waiting::Answer | Waiting::Nothing => None,
        }
    }

    fn hear(&mut self, bytes: &[u8]) -> Result<News, String> {
        let expected = match self.waiting {
            Waiting::Banner => BANNER.to_vec(),
            Waiting::Answer => [PREFIX, self.line().as_bytes()].concat(),
            Waiting::Nothing => Vec::new(),
        };
        let rest = &expected[self.heard..];
        if !rest.starts_with(bytes) {
            let [got, due] = [bytes, rest].map(|bytes| bytes.escape_ascii().to_string());
            return Err(self.lost(&format!("got {got:?} where {due:?} was due")));
        }
        self.heard += bytes.len();
        if self.heard < expected.len() {
            return Ok(News::Part);
        }
        self.heard = 0;
        let news = match self.waiting {
            Waiting::Banner => News::Greeted(self.due.elapsed()),
            Waiting::Answer | Waiting::Nothing => News::Answered(self.due),
        };
        self.waiting = Waiting::Nothing;
        Ok(news)
    }

    /// No other session sends this line, and this one sends it once.
    fn line(&self) -> String {
        format!("session {}, line {}\n", self.number, self.lines)
    }

    fn lost(&self, how: &str) -> String {
        format!("session {} {how}", self.number)
    }
}
