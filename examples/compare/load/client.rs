//! One client: its non-blocking connect, its greeting, and then what it came for. Knows no `Poll` and no other client.
//!
//! ```text
//!   Connecting ──WRITABLE──► Greeting ──banner──► Talking ──shutdown──► Leaving ──end of input──► Gone
//! ```

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use okloop::{BANNER, Config};
use socket2::SockRef;

use super::firehose::Firehose;
use super::line::{Line, wrong};
use super::sources::Sources;
use crate::failure::Failure;
use crate::workload::Part;

/// A client of the server under load.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    stage: Stage,
    role: Role,
    /// From when on the client has been kept waiting: its line, or the visit, was due then.
    due: Instant,
}

#[derive(Debug)]
enum Stage {
    Connecting,
    /// So many bytes of the banner have come.
    Greeting(usize),
    Talking,
    /// We have said that no more will come, and read on to the server's own end.
    Leaving,
    /// Both ends are closed. An event of the same batch may still speak of it.
    Gone,
}

/// What the client says, and how far the conversation has come.
#[derive(Debug)]
enum Role {
    Idle,
    /// Sends its line whenever it is told to.
    Typist(Line),
    /// Sends one line, takes the answer and leaves.
    Visitor(Line),
    /// Sends as much as the server takes.
    Firehose(Firehose),
}

/// What a client has to tell after its readiness was served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// Nothing that matters to anybody else.
    Nothing,
    /// The banner is complete.
    Greeted,
    /// The answer is complete, so long after it was due.
    Answered(Duration),
    /// So many bytes of a firehose's text were answered, or some were sent. There may be more to do without any new
    /// readiness.
    Streamed(u64),
    /// The server has closed its end after the client's; a visitor's visit took so long.
    Left(Duration),
}

impl Client {
    /// Starts to connect. When the socket becomes writable, or fails, readiness will tell. The number makes the client's
    /// lines differ from those of all others.
    pub fn connect(
        target: SocketAddr,
        sources: &mut Sources,
        part: Part,
        number: usize,
    ) -> Result<Self, Failure> {
        let due = Instant::now();
        let role = match part {
            Part::Idle => Role::Idle,
            Part::Typist => Role::Typist(Line::of(number)),
            Part::Visitor => Role::Visitor(Line::of(number)),
            Part::Firehose => Role::Firehose(Firehose::default()),
        };
        let stream = sources.connect(target).map_err(|error| match error.kind() {
            ErrorKind::ConnectionRefused => Failure::Refused(error.to_string()),
            _ => Failure::Load(error.to_string()),
        })?;
        Ok(Self { stream, stage: Stage::Connecting, role, due })
    }

    /// The socket, to be registered.
    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// From when on the client has been waiting for its present answer.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// A typist sends its line, which was due at `due`. Others say nothing.
    pub fn say(&mut self, due: Instant) -> Result<(), Failure> {
        if let Role::Typist(line) | Role::Visitor(line) = &self.role {
            self.due = due;
            let text = line.text();
            // Nothing is on its way from here, so a line finds room in any socket buffer.
            let count = self.stream.write(text).map_err(lost)?;
            if count < text.len() {
                return Err(Failure::Load("a line did not go out whole".to_owned()));
            }
        }
        Ok(())
    }

    /// Says that no more will come. The last answers are still read, and the server's own end.
    pub fn stop(&mut self) -> Result<(), Failure> {
        self.stage = Stage::Leaving;
        self.stream.shutdown(Shutdown::Write).map_err(lost)
    }

    /// Makes the coming close a reset, which leaves no `TIME_WAIT` behind. For after the measurement only: a server
    /// that is measured sees clients leave as clients do.
    pub fn leave_at_once(&self) {
        // A socket that is closed by the server already needs no such care.
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    /// Serves the socket's readiness. `closing`: the event says that the server's end, or an error, is to be read.
    pub fn on_ready(&mut self, closing: bool, scratch: &mut [u8]) -> Result<News, Failure> {
        if let Stage::Connecting = self.stage
            && self.is_connected()?
        {
            self.stage = Stage::Greeting(0);
        }
        if let Stage::Connecting | Stage::Gone = self.stage {
            return Ok(News::Nothing);
        }
        if let (Stage::Talking | Stage::Leaving, Role::Firehose(_)) = (&self.stage, &self.role) {
            return self.stream_on(scratch);
        }
        let mut news = News::Nothing;
        loop {
            match self.stream.read(scratch) {
                Ok(0) => return self.on_end(),
                Ok(count) => {
                    news = self.hear(&scratch[..count])?;
                    // A short read has emptied the socket, which saves one read an answer. But the edge of a close that
                    // came together with the data is used up by this event, so then read on to the 0.
                    if count < scratch.len() && !closing {
                        return Ok(news);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(news),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.on_error(error)),
            }
        }
    }

    /// The second half of a non-blocking connect. That the socket is ready says only that the attempt is over, and even
    /// that may be false alarm: `take_error` tells how it failed, `peer_addr` whether it is connected.
    fn is_connected(&mut self) -> Result<bool, Failure> {
        if let Some(error) = self.stream.take_error().map_err(|error| Failure::Load(error.to_string()))? {
            return Err(Failure::Refused(error.to_string()));
        }
        match self.stream.peer_addr() {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(Failure::Refused(error.to_string())),
        }
    }

    fn hear(&mut self, bytes: &[u8]) -> Result<News, Failure> {
        match (&mut self.stage, &mut self.role) {
            (Stage::Greeting(heard), _) => {
                let rest = &BANNER[*heard..];
                let full = Config::default().full_message;
                if bytes == full.as_bytes() {
                    return Err(Failure::Refused(full.trim_ascii().to_owned()));
                }
                if bytes.len() > rest.len() || bytes != &rest[..bytes.len()] {
                    return Err(wrong(rest, bytes, *heard as u64));
                }
                *heard += bytes.len();
                if *heard < BANNER.len() {
                    return Ok(News::Nothing);
                }
                self.stage = Stage::Talking;
                if let Role::Visitor(_) = self.role {
                    self.say(self.due)?;
                }
                Ok(News::Greeted)
            }
            (Stage::Talking, Role::Typist(line)) => {
                let complete = line.hear(bytes)?;
                Ok(if complete { News::Answered(self.due.elapsed()) } else { News::Nothing })
            }
            (Stage::Talking, Role::Visitor(line)) => {
                if line.hear(bytes)? {
                    self.stop()?;
                }
                Ok(News::Nothing)
            }
            _ => Err(wrong(b"", bytes, 0)),
        }
    }

    /// One turn of a firehose: one write, one read. It could go on, but then nobody else would be served.
    fn stream_on(&mut self, scratch: &mut [u8]) -> Result<News, Failure> {
        let Role::Firehose(firehose) = &mut self.role else { return Ok(News::Nothing) };
        let mut news = News::Nothing;
        if matches!(self.stage, Stage::Talking) {
            match self.stream.write(firehose.text()) {
                Ok(count) => {
                    firehose.sent(count);
                    news = News::Streamed(0);
                }
                Err(error) if is_for_later(&error) => {}
                Err(error) => return Err(lost(error)),
            }
        }
        match self.stream.read(scratch) {
            Ok(0) => self.on_end(),
            Ok(count) => Ok(News::Streamed(firehose.hear(&scratch[..count])?)),
            Err(error) if is_for_later(&error) => Ok(news),
            Err(error) => Err(lost(error)),
        }
    }

    /// The server has closed its end: right if the client did so before and has had every answer, else not.
    fn on_end(&mut self) -> Result<News, Failure> {
        match (&self.stage, &self.role) {
            (Stage::Connecting | Stage::Greeting(_), _) => {
                Err(Failure::Refused("closed before the banner".to_owned()))
            }
            (Stage::Leaving, Role::Firehose(firehose)) if !firehose.is_complete() => {
                Err(Failure::WrongAnswer("closed before everything was answered".to_owned()))
            }
            (Stage::Leaving | Stage::Gone, _) => {
                self.stage = Stage::Gone;
                Ok(News::Left(self.due.elapsed()))
            }
            (Stage::Talking, _) => Err(Failure::Lost("closed by the server".to_owned())),
        }
    }

    fn on_error(&self, error: io::Error) -> Failure {
        match self.stage {
            Stage::Connecting | Stage::Greeting(_) => Failure::Refused(error.to_string()),
            _ => lost(error),
        }
    }
}

fn is_for_later(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "it is the last use of the error, and map_err passes it so"
)]
fn lost(error: io::Error) -> Failure {
    Failure::Lost(error.to_string())
}
