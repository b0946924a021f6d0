//! One client's session: the banner, then lines, each answer checked byte by byte.
//!
//! Knows no `Poll` and no other session. It has no buffer: the expected bytes follow from its two numbers, so a million
//! sessions cost little more than their sockets.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::Instant;

use mio::net::TcpStream;

use super::line::{ANSWER, answer, wrong};
use crate::support::{BANNER, FULL_MESSAGE, Failure, PREFIX};

/// More than any answer is long, so that one read sees a byte too many.
const SCRATCH: usize = 256;

/// A session, from its connect on.
#[derive(Debug)]
pub struct Session {
    stream: TcpStream,
    /// No other session of the load has it.
    number: u32,
    /// How many lines were sent.
    lines: u32,
    expected: Expected,
    /// How many of the expected bytes have come.
    received: u8,
    /// When the connect began, or when the line was due.
    due: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Banner,
    Answer,
    Nothing,
}

/// What one read brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// The socket is empty, or not connected yet.
    Nothing,
    /// Not all of the expected bytes yet.
    Part,
    /// The last byte of the banner.
    Greeted,
    /// The last byte of the answer.
    Answered,
    /// The server's end of input.
    Ended,
}

impl Session {
    /// A session whose connect has begun.
    pub fn new(stream: TcpStream, number: usize) -> Self {
        let number = u32::try_from(number).expect("no load has 2^32 sessions");
        Self { stream, number, lines: 0, expected: Expected::Banner, received: 0, due: Instant::now() }
    }

    /// The socket.
    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// When the present answer became due.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// Whether the banner has come.
    pub fn is_greeted(&self) -> bool {
        self.expected != Expected::Banner
    }

    /// Whether a line has no answer yet.
    pub fn awaits_answer(&self) -> bool {
        self.expected == Expected::Answer
    }

    /// Sends the next line, which was due at `due`.
    pub fn say(&mut self, due: Instant) -> Result<(), Failure> {
        self.lines = self.lines.wrapping_add(1);
        (self.expected, self.due) = (Expected::Answer, due);
        // Nothing else is on its way from here, so a line fits in the socket buffer whole.
        let line = &answer(self.number, self.lines)[PREFIX.len()..];
        self.stream.write_all(line).map_err(|error| self.failure(&error))
    }

    /// Ends the sending direction. The last answers can still come.
    pub fn half_close(&self) -> Result<(), Failure> {
        self.stream.shutdown(Shutdown::Write).map_err(|error| self.failure(&error))
    }

    /// One read. It empties the socket, but an end of input may stand behind the bytes: when readiness says so, read on
    /// to [`Heard::Ended`].
    pub fn read(&mut self) -> Result<Heard, Failure> {
        let mut scratch = [0; SCRATCH];
        loop {
            return match self.stream.read(&mut scratch) {
                Ok(0) => Ok(Heard::Ended),
                Ok(count) => self.check(&scratch[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Heard::Nothing),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => Err(self.failure(&error)),
            };
        }
    }

    /// What an error of the socket means at this point of the session.
    fn failure(&self, error: &io::Error) -> Failure {
        match self.expected {
            Expected::Banner => Failure::Refused(error.to_string()),
            Expected::Answer | Expected::Nothing => Failure::Lost(error.to_string()),
        }
    }

    fn check(&mut self, bytes: &[u8]) -> Result<Heard, Failure> {
        let answer: [u8; ANSWER];
        let expected = match self.expected {
            Expected::Banner if bytes == FULL_MESSAGE.as_bytes() => {
                return Err(Failure::Refused(FULL_MESSAGE.trim().to_owned()));
            }
            Expected::Banner => BANNER,
            Expected::Answer => {
                answer = self::answer(self.number, self.lines);
                &answer
            }
            Expected::Nothing => b"",
        };
        let received = usize::from(self.received);
        let rest = &expected[received..];
        if bytes.len() > rest.len() || bytes != &rest[..bytes.len()] {
            return Err(wrong(rest, bytes, received as u64));
        }
        if bytes.len() < rest.len() {
            self.received = u8::try_from(received + bytes.len()).expect("no expected text is that long");
            return Ok(Heard::Part);
        }
        let news = if self.is_greeted() { Heard::Answered } else { Heard::Greeted };
        (self.expected, self.received) = (Expected::Nothing, 0);
        Ok(news)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// A session that has sent its first line, the listener that keeps it open, and the answer to the line.
    fn asked() -> (Session, TcpListener, [u8; ANSWER]) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut session = Session::new(TcpStream::from_std(stream), 7);
        assert_eq!(session.check(BANNER), Ok(Heard::Greeted));
        session.say(Instant::now()).unwrap();
        (session, listener, answer(7, 1))
    }

    #[test]
    fn an_answer_may_come_in_pieces() {
        let (mut session, _listener, answer) = asked();
        assert_eq!(session.check(&answer[..3]), Ok(Heard::Part));
        assert_eq!(session.check(&answer[3..]), Ok(Heard::Answered));
    }

    #[test]
    fn a_changed_byte_a_byte_too_many_and_an_old_answer_are_wrong() {
        let (mut session, _listener, answer) = asked();
        let mut changed = answer;
        changed[40] ^= 1;
        assert!(session.check(&changed).is_err());
        assert!(session.check(&[&answer[..], b"O"].concat()).is_err());
        session.check(&answer).unwrap();
        assert!(session.check(b"O").is_err(), "nothing is due");
        session.say(Instant::now()).unwrap();
        assert!(session.check(&answer).is_err(), "the second answer repeats the first");
    }

    #[test]
    fn a_refusal_is_told_from_a_wrong_banner() {
        let (session, ..) = asked();
        let mut session = Session { expected: Expected::Banner, ..session };
        assert!(matches!(session.check(FULL_MESSAGE.as_bytes()), Err(Failure::Refused(_))));
        assert!(matches!(session.check(b"Hello"), Err(Failure::WrongAnswer(_))));
    }
}
