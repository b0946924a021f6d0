//! The protocol of the command: a banner, then `OK...` and the same bytes.

use std::time::Duration;

use memchr::memchr;

use crate::buffer::Buffer;
use crate::config::INPUT_BUFFER;
use crate::session::{EndOfInput, Session, Sizes, Step, Timer};

/// What the server sends first in every session.
pub const BANNER: &[u8] = b"Welcome to the server. Type something and hit enter\n";

/// What stands before every answer.
pub const PREFIX: &[u8] = b"OK...";

/// The longest piece (bytes) that one answer repeats with [`Framing::Chunks`]: the tutorial's `recv(1024)`.
pub const CHUNK: usize = 1024;

/// What counts as one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Framing {
    /// Each chunk of up to 1024 bytes, as it arrives. TCP keeps no boundaries, so the network decides where a message
    /// is cut.
    #[default]
    Chunks,
    /// Each line with its own ending, however the network cut it. A line longer than the input buffer is answered in
    /// pieces. At the client's end of input the rest is answered too. Half a line at the server's stop is not a line.
    Lines,
}

/// One session of the `OK...` protocol.
#[derive(Debug)]
pub struct OkSession {
    framing: Framing,
    line: Line,
    /// How many bytes at the front of the input hold no line ending. Without this, a line that arrives byte by byte
    /// would be searched from its start each time, which is quadratic work.
    searched: u16,
    /// How long a line may take from its first byte to its end (milliseconds). 0: as long as the client likes.
    line_timeout: u32,
}

/// The line that the client sends, with [`Framing::Lines`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// No part of it is here.
    None,
    /// A part of it is here. Its deadline must start.
    Begun,
    /// A part of it is here, and its deadline runs.
    InTime,
    /// It has come to its end. Its deadline must stop.
    Whole,
    /// The client has ended its input. A last line without an ending is answered as it is.
    Last,
}

impl OkSession {
    /// A session at its start.
    pub fn new(framing: Framing) -> Self {
        Self { framing, line: Line::None, searched: 0, line_timeout: 0 }
    }

    /// With [`Framing::Lines`], ends the session with [`Reason::Deadline`](crate::Reason::Deadline) if a line is not whole
    /// this long after its first byte.
    ///
    /// By default a line may take any time. At a terminal that sends each key, a user may stop in the middle of a line and
    /// go on tomorrow, as an idle session may. Half a line costs an input buffer, which an idle session does not have.
    #[must_use]
    pub fn with_line_timeout(self, timeout: Duration) -> Self {
        let line_timeout = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX).max(1);
        Self { line_timeout, ..self }
    }

    /// The length of the next request, if `input` holds a whole one.
    fn next_request(&mut self, input: &[u8]) -> Option<usize> {
        if input.is_empty() {
            return None;
        }
        if self.framing == Framing::Chunks {
            return Some(input.len().min(CHUNK));
        }
        let searched = usize::from(self.searched);
        match memchr(b'\n', &input[searched..]) {
            Some(offset) => Some(searched + offset + 1),
            None if self.line == Line::Last || input.len() == INPUT_BUFFER => Some(input.len()),
            None => {
                self.searched = u16::try_from(input.len()).expect("the input buffer is smaller");
                if self.line != Line::InTime {
                    self.line = Line::Begun;
                }
                None
            }
        }
    }
}

impl Session for OkSession {
    fn sizes(&mut self) -> Sizes {
        Sizes::new(INPUT_BUFFER, PREFIX.len() + INPUT_BUFFER)
    }

    fn greet(&mut self, output: &mut Buffer) {
        output.push(BANNER);
    }

    fn answer(&mut self, input: &mut [u8], output: &mut Buffer) -> Step {
        let Some(length) = self.next_request(input) else { return Step::NeedInput };
        output.push(PREFIX);
        output.push(&input[..length]);
        self.searched = 0;
        self.line = match self.line {
            Line::None | Line::Begun => Line::None,
            Line::InTime | Line::Whole => Line::Whole,
            Line::Last => Line::Last,
        };
        Step::Consumed(length)
    }

    fn end_of_input(&mut self, end: EndOfInput) {
        if end == EndOfInput::Client {
            self.line = Line::Last;
        }
    }

    fn timer(&mut self) -> Timer {
        if self.line_timeout == 0 {
            return Timer::Keep;
        }
        let (line, timer) = match self.line {
            Line::Begun => (Line::InTime, Timer::Start(Duration::from_millis(self.line_timeout.into()))),
            Line::Whole => (Line::None, Timer::Stop),
            Line::Last => (Line::Last, Timer::Stop),
            Line::None | Line::InTime => return Timer::Keep,
        };
        self.line = line;
        timer
    }
}

#[cfg(test)]
mod tests;
