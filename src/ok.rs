//! The protocol of the command: a banner, then `OK...` and the same bytes.

use crate::buffer::Buffer;
use crate::config::INPUT_BUFFER;
use crate::session::{Session, Step};

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
    /// pieces. At the end of input the rest is answered too.
    Lines,
}

/// One session of the `OK...` protocol.
#[derive(Debug)]
pub struct OkSession {
    framing: Framing,
    /// Whether the input is complete. A last line without an ending is then answered as it is.
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
        match input[searched..].iter().position(|&byte| byte == b'\n') {
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
    const LARGEST_ANSWER: usize = PREFIX.len() + INPUT_BUFFER;

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

    fn end_of_input(&mut self) {
        self.ended = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives the session `writes` one after the other, with room for everything, then ends the input.
    fn conversation(framing: Framing, writes: &[&[u8]]) -> Vec<u8> {
        let mut session = OkSession::new(framing);
        let mut output = Buffer::with_capacity(1 << 20).expect("a megabyte of memory");
        let mut input = Vec::new();
        for bytes in writes {
            input.extend_from_slice(bytes);
            answer_all(&mut session, &mut input, &mut output);
        }
        session.end_of_input();
        answer_all(&mut session, &mut input, &mut output);
        assert!(input.is_empty(), "everything is answered in the end");
        output.unread().to_vec()
    }

    fn answer_all(session: &mut OkSession, input: &mut Vec<u8>, output: &mut Buffer) {
        while let Step::Consumed(count) = session.answer(input, output) {
            input.drain(..count);
        }
    }

    #[test]
    fn chunks_are_answered_as_they_arrive() {
        assert_eq!(conversation(Framing::Chunks, &[b"he", b"llo\n"]), b"OK...heOK...llo\n");
    }

    #[test]
    fn no_chunk_is_longer_than_the_tutorials_recv() {
        let answer = conversation(Framing::Chunks, &[&[b'x'; 3000]]);
        let mut expected = Vec::new();
        for length in [1024, 1024, 952] {
            expected.extend([PREFIX, &vec![b'x'; length]].concat());
        }
        assert_eq!(answer, expected);
    }

    #[test]
    fn lines_are_answered_whole_however_the_network_cut_them() {
        assert_eq!(
            conversation(Framing::Lines, &[b"on", b"e\ntwo\r\nthr", b"ee\n", b"\n", b"rest"]),
            b"OK...one\nOK...two\r\nOK...three\nOK...\nOK...rest"
        );
    }

    #[test]
    fn a_line_longer_than_the_input_buffer_is_answered_in_pieces() {
        let (full, rest) = (vec![b'a'; INPUT_BUFFER], b"bc\n");
        assert_eq!(conversation(Framing::Lines, &[&full, rest]), [PREFIX, &full, PREFIX, rest].concat());
    }

    #[test]
    fn only_the_line_ending_is_a_special_byte() {
        let telnet_interrupt = b"\xff\xf4\xff\xfd\x06\0\xc3(";
        for framing in [Framing::Chunks, Framing::Lines] {
            assert_eq!(conversation(framing, &[telnet_interrupt]), [PREFIX, telnet_interrupt].concat());
        }
    }
}
