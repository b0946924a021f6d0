//! The text that a firehose sends without end, and the check of what comes back. Knows no socket and no clock.
//!
//! The text holds no capital letter, so each `O` in the answers begins a prefix: with the prefixes taken out, the
//! answers must be the text itself. How it was cut into pieces is the server's and the network's affair, as long as no
//! piece is longer than the protocol allows.

use std::sync::LazyLock;

use memchr::memchr;
use okloop::{CHUNK, PREFIX};

use crate::failure::Failure;
use crate::load::line::wrong;

/// The most that is offered to the socket at once.
const WRITE: usize = 64 * 1024;
/// After so many bytes the text repeats. It is a prime, and no buffer has a size that divides into it: bytes lost or
/// doubled anywhere shift the text and are seen.
const PERIOD: usize = 65_521;

/// One period of the text and one write more, so that every write is one slice of it.
static TEXT: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let letter = |at: usize| match at % PERIOD {
        at if at % 64 == 63 => b'\n',
        at => b"abcdefghijklmnopqrstuvwxyz"[(at + at / 64 + at / 4096) % 26],
    };
    (0..PERIOD + WRITE).map(letter).collect()
});

/// One firehose's place in the text, on the way out and on the way back.
#[derive(Debug, Default)]
pub struct Firehose {
    /// Bytes of the text that went out.
    sent: u64,
    /// Bytes of the text that came back.
    answered: u64,
    /// All bytes that came.
    heard: u64,
    expected: Expected,
}

/// What the next byte of the answers belongs to.
#[derive(Debug, Clone, Copy)]
enum Expected {
    /// A prefix of which so many bytes have come.
    Prefix(usize),
    /// A piece of the text of which so many bytes have come.
    Piece(usize),
}

impl Default for Expected {
    fn default() -> Self {
        Self::Prefix(0)
    }
}

impl Firehose {
    /// What to send next.
    pub fn text(&self) -> &'static [u8] {
        text_at(self.sent, WRITE)
    }

    /// Says that so many bytes of it went out.
    pub fn sent(&mut self, count: usize) {
        self.sent += count as u64;
    }

    /// Takes the next bytes of the answers; returns how many of them were text.
    pub fn hear(&mut self, mut bytes: &[u8]) -> Result<u64, Failure> {
        let before = self.answered;
        while let Some(&first) = bytes.first() {
            let taken = match self.expected {
                Expected::Prefix(heard) => {
                    if first != PREFIX[heard] {
                        return Err(wrong(&PREFIX[heard..], bytes, self.heard));
                    }
                    let whole = heard + 1 == PREFIX.len();
                    self.expected = if whole { Expected::Piece(0) } else { Expected::Prefix(heard + 1) };
                    1
                }
                Expected::Piece(length) => self.hear_piece(length, bytes)?,
            };
            bytes = &bytes[taken..];
            self.heard += taken as u64;
        }
        Ok(self.answered - before)
    }

    /// Whether everything that was sent has been answered, to the end of a piece.
    pub fn is_complete(&self) -> bool {
        self.answered == self.sent && !matches!(self.expected, Expected::Prefix(1..))
    }

    /// Takes text as far as it goes; returns its length.
    fn hear_piece(&mut self, length: usize, bytes: &[u8]) -> Result<usize, Failure> {
        let count = memchr(PREFIX[0], bytes).unwrap_or(bytes.len()).min(CHUNK + 1);
        if length + count > CHUNK {
            return Err(Failure::WrongAnswer(format!("a piece longer than {CHUNK} bytes")));
        }
        if length + count == 0 {
            return Err(Failure::WrongAnswer("an answer to nothing".to_owned()));
        }
        let text = text_at(self.answered, count);
        if &bytes[..count] != text {
            return Err(wrong(text, bytes, self.heard));
        }
        self.answered += count as u64;
        let ends = count < bytes.len();
        self.expected = if ends { Expected::Prefix(0) } else { Expected::Piece(length + count) };
        Ok(count)
    }
}

fn text_at(position: u64, count: usize) -> &'static [u8] {
    let start = usize::try_from(position % PERIOD as u64).expect("a remainder of PERIOD is less than it");
    &TEXT[start..][..count]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answers of a right server to the first `pieces` of the text.
    fn answers(pieces: &[usize]) -> Vec<u8> {
        let mut at = 0;
        let mut answers = Vec::new();
        for &length in pieces {
            answers.extend_from_slice(PREFIX);
            answers.extend_from_slice(text_at(at, length));
            at += length as u64;
        }
        answers
    }

    #[test]
    fn answers_are_right_however_they_are_cut_and_joined() {
        let pieces = [1024, 1, 1024, 63, 500];
        for step in [1, 2, 5, 6, 700, 1029, 4096] {
            let mut firehose = Firehose::default();
            firehose.sent(pieces.iter().sum());
            let heard: u64 = answers(&pieces).chunks(step).map(|bytes| firehose.hear(bytes).unwrap()).sum();
            assert_eq!(heard, firehose.sent);
            assert!(firehose.is_complete());
        }
    }

    #[test]
    fn lost_and_doubled_bytes_are_seen() {
        let right = answers(&[1024, 1024, 1024]);
        for (from, to) in [(1029, 2058), (5, 6), (600, 664), (0, 1)] {
            let lost = [&right[..from], &right[to..]].concat();
            let doubled = [&right[..to], &right[from..]].concat();
            for wrong in [lost, doubled] {
                let mut firehose = Firehose::default();
                firehose.sent(3 * 1024);
                assert!(firehose.hear(&wrong).is_err() || !firehose.is_complete(), "{from}..{to}");
            }
        }
    }

    #[test]
    fn a_piece_is_never_longer_than_the_protocol_allows_nor_empty() {
        assert!(Firehose::default().hear(&answers(&[1025])).is_err());
        assert!(Firehose::default().hear(b"OK...OK...a").is_err());
    }
}
