//! The conversation, without any I/O: bytes in, answers out.
//!
//! Knows no socket, no clock and no log. The event loop ([`crate::server`]) and the thread-per-connection example run
//! this very code, so what they cost can be compared and what they say is the same.

use crate::buffer::Buffer;

/// What every session is greeted with, at once.
pub const BANNER: &[u8] = b"Welcome to the server. Type something and hit enter\n";

/// What stands before every answer.
pub const PREFIX: &[u8] = b"OK...";

/// What a client over the connection cap is told.
pub const FULL: &[u8] = b"The server is full. Please try again later\n";

/// The longest piece, in bytes, that one answer repeats with [`Framing::Chunks`]: the tutorial's `recv(1024)`.
pub const CHUNK: usize = 1024;

/// What counts as one thing to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Framing {
    /// Whatever has arrived, in pieces of at most [`CHUNK`] bytes, as a server calling `recv(1024)` in a loop sees it.
    /// TCP keeps no boundaries, so how a message is cut is up to the network.
    #[default]
    Chunks,
    /// Each line with its own ending, however it was split or joined on the way. A line that does not fit in the input
    /// buffer is answered in pieces, and what is left at the end of input is answered too.
    Lines,
}

/// One session's side of the conversation.
#[derive(Debug)]
pub struct Session {
    framing: Framing,
    /// Whether the input is complete: a last line without an ending is then answered as it is.
    ended: bool,
    /// How many unread bytes are known to hold no line ending. Without it, a line that comes byte by byte would be
    /// searched from its start each time: quadratic work for whoever asks for it.
    searched: usize,
}

impl Session {
    /// A session at its start.
    pub fn new(framing: Framing) -> Self {
        Self { framing, ended: false, searched: 0 }
    }

    /// Says that no more input will come after what `input` holds.
    pub fn end_of_input(&mut self) {
        self.ended = true;
    }

    /// Answers what `input` holds, as far as the answers fit in `output`, whole ones only. What is not answered stays
    /// in `input`: call again when there is room, or more input.
    pub fn answer(&mut self, input: &mut Buffer, output: &mut Buffer) {
        while let Some(length) = self.next_piece(input) {
            if output.free() < PREFIX.len() + length {
                return;
            }
            output.push(PREFIX);
            output.push(&input.unread()[..length]);
            input.consume(length);
            self.searched = 0;
        }
    }

    /// The length of the next piece to answer, if there is a whole one.
    fn next_piece(&mut self, input: &Buffer) -> Option<usize> {
        let unread = input.unread();
        if unread.is_empty() {
            return None;
        }
        match self.framing {
            Framing::Chunks => Some(unread.len().min(CHUNK)),
            Framing::Lines => {
                let line_end = unread[self.searched..].iter().position(|&byte| byte == b'\n');
                match line_end {
                    Some(at) => Some(self.searched + at + 1),
                    None if self.ended || input.is_full() => Some(unread.len()),
                    None => {
                        self.searched = unread.len();
                        None
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `writes` one after the other, with room for everything, then ends the input.
    fn conversation(framing: Framing, writes: &[&[u8]]) -> Vec<u8> {
        let mut session = Session::new(framing);
        let (mut input, mut output) = (Buffer::with_capacity(4096), Buffer::with_capacity(1 << 20));
        for bytes in writes {
            input.push(bytes);
            session.answer(&mut input, &mut output);
        }
        session.end_of_input();
        session.answer(&mut input, &mut output);
        assert!(input.is_empty(), "everything is answered in the end");
        output.unread().to_vec()
    }

    #[test]
    fn chunks_are_answered_as_they_come() {
        assert_eq!(conversation(Framing::Chunks, &[b"he", b"llo\n"]), b"OK...heOK...llo\n");
    }

    #[test]
    fn no_chunk_is_longer_than_the_tutorials_recv() {
        let answer = conversation(Framing::Chunks, &[&[b'x'; 3000]]);
        let pieces: Vec<usize> = answer.split(|&b| b == b'.').map(<[u8]>::len).filter(|&n| n > 2).collect();
        assert_eq!(answer.len(), 3000 + 3 * PREFIX.len());
        assert_eq!(
            pieces,
            [1024 + 2, 1024 + 2, 952],
            "each piece but the last runs into the next answer's OK"
        );
    }

    #[test]
    fn lines_are_answered_whole_however_they_were_cut() {
        assert_eq!(
            conversation(Framing::Lines, &[b"on", b"e\ntwo\r\nthr", b"ee\n", b"\n", b"rest"]),
            b"OK...one\nOK...two\r\nOK...three\nOK...\nOK...rest"
        );
    }

    #[test]
    fn a_line_longer_than_the_buffer_is_answered_in_pieces() {
        let mut session = Session::new(Framing::Lines);
        let (mut input, mut output) = (Buffer::with_capacity(4), Buffer::with_capacity(64));
        for bytes in [b"abcd", b"efg\n"] {
            input.push(bytes);
            session.answer(&mut input, &mut output);
        }
        assert_eq!(output.unread(), b"OK...abcdOK...efg\n");
    }

    #[test]
    fn an_answer_that_does_not_fit_waits_whole() {
        let mut session = Session::new(Framing::Lines);
        let (mut input, mut output) = (Buffer::with_capacity(16), Buffer::with_capacity(9));
        input.push(b"one\ntwo\n");
        session.answer(&mut input, &mut output);
        assert_eq!((output.unread(), input.unread()), (&b"OK...one\n"[..], &b"two\n"[..]));
        output.clear();
        session.answer(&mut input, &mut output);
        assert_eq!((output.unread(), input.unread()), (&b"OK...two\n"[..], &b""[..]));
    }

    #[test]
    fn no_byte_is_special_but_the_line_ending() {
        let telnet_interrupt = b"\xff\xf4\xff\xfd\x06\0\xc3(";
        for framing in [Framing::Chunks, Framing::Lines] {
            assert_eq!(conversation(framing, &[telnet_interrupt]), [PREFIX, telnet_interrupt].concat());
        }
    }
}
