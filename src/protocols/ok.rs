//! The protocol of the command: a banner, then `OK...` and the same bytes.

use memchr::memchr;

use crate::buffer::Buffer;
use crate::config::INPUT_BUFFER;
use crate::session::{EndOfInput, Session, Sizes, Step};

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
    /// Whether the client has ended its input. A last line without an ending is then answered as it is.
    ended: bool,
    /// How many bytes at the front of the input hold no line ending. Without this, a line that arrives byte by byte
    /// would be searched from its start each time, which is quadratic work.
    searched: u32,
}

impl OkSession {
    /// A session at its start.
    pub fn new(framing: Framing) -> Self {
        Self { framing, ended: false, searched: 0 }
    }

    /// The length of the next request, if `input` holds a whole one.
    fn next_request(&mut self, input: &[u8]) -> Option<usize> {
        if input.is_empty() {
            return None;
        }
        if self.framing == Framing::Chunks {
            return Some(input.len().min(CHUNK));
        }
        let searched = self.searched as usize;
        match memchr(b'\n', &input[searched..]) {
            Some(offset) => Some(searched + offset + 1),
            None if self.ended || input.len() == INPUT_BUFFER => Some(input.len()),
            None => {
                self.searched = u32::try_from(input.len()).expect("the input buffer is far smaller");
                None
            }
        }
    }
}

impl Session for OkSession {
    fn sizes(&self) -> Sizes {
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
        Step::Consumed(length)
    }

    fn end_of_input(&mut self, end: EndOfInput) {
        self.ended = end == EndOfInput::Client;
    }
}

#[cfg(test)]
mod tests;
