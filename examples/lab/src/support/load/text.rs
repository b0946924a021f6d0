//! A text without end, and the check of what comes back. Knows no socket and no clock.
//!
//! The text has no capital letter, so each `O` in the answers begins a prefix. Without the prefixes, the answers must be
//! the text itself. The server and the network may cut it into any pieces that are not longer than a chunk.

use std::sync::LazyLock;

use memchr::memchr;

use crate::support::{CHUNK, Failure, PREFIX};

/// The most that one write offers to the socket.
const WRITE: usize = 64 * 1024;
/// The text repeats after so many bytes. It is a prime and no buffer has this size: the check sees lost and doubled
/// bytes, because they shift the text.
const PERIOD: usize = 65_521;

/// One period of the text and one write more. Every write is then one slice of it.
static TEXT: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let letter = |at: usize| match at % PERIOD {
        at if at % 64 == 63 => b'\n',
        at => b"abcdefghijklmnopqrstuvwxyz"[(at + at / 64 + at / 4096) % 26],
    };
    (0..PERIOD + WRITE).map(letter).collect()
});

/// A client's place in the text, in both directions.
#[derive(Debug, Default)]
pub struct Text {
    /// Bytes of the text that were sent.
    sent: u64,
    /// Bytes of the text that came back.
    answered: u64,
    /// How many bytes of the present piece's prefix have come.
    prefix: usize,
    /// How many bytes of the piece itself.
    piece: usize,
}

impl Text {
    /// A text that begins so many bytes later.
    pub fn starting_at(position: u64) -> Self {
        Self { sent: position, answered: position, ..Self::default() }
    }

    /// How far the text was sent.
    pub fn position(&self) -> u64 {
        self.sent
    }

    /// How far the text was answered.
    pub fn answered(&self) -> u64 {
        self.answered
    }

    /// The length of the line that begins so many bytes after what was sent, with its ending.
    pub fn line_after(&self, unsent: usize) -> usize {
        let text = text_at(self.sent + unsent as u64, WRITE);
        memchr(b'\n', text).expect("a line of the text is shorter than a write") + 1
    }

    /// What to send next.
    pub fn next(&self) -> &'static [u8] {
        text_at(self.sent, WRITE)
    }

    /// Counts the bytes that were sent.
    pub fn sent(&mut self, count: usize) {
        self.sent += count as u64;
    }

    /// Checks the next bytes of the answers; returns how many of them were text.
    pub fn check(&mut self, mut bytes: &[u8]) -> Result<u64, Failure> {
        let before = self.answered;
        while let Some(&first) = bytes.first() {
            let taken = if self.prefix < PREFIX.len() {
                if first != PREFIX[self.prefix] {
                    return Err(wrong(&PREFIX[self.prefix..], bytes, self.answered));
                }
                (self.prefix, self.piece) = (self.prefix + 1, 0);
                1
            } else {
                self.check_piece(bytes)?
            };
            bytes = &bytes[taken..];
        }
        Ok(self.answered - before)
    }

    /// Whether everything that was sent has been answered, to the end of a piece.
    pub fn is_complete(&self) -> bool {
        self.answered == self.sent && [0, PREFIX.len()].contains(&self.prefix)
    }

    /// Checks the text up to the next prefix; returns its length.
    fn check_piece(&mut self, bytes: &[u8]) -> Result<usize, Failure> {
        let count = memchr(PREFIX[0], bytes).unwrap_or(bytes.len()).min(CHUNK + 1);
        self.piece += count;
        if self.piece > CHUNK {
            return Err(Failure::WrongAnswer(format!("a piece longer than {CHUNK} bytes")));
        }
        if self.piece == 0 {
            return Err(Failure::WrongAnswer("an answer to nothing".to_owned()));
        }
        let text = text_at(self.answered, count);
        if &bytes[..count] != text {
            return Err(wrong(text, bytes, self.answered));
        }
        self.answered += count as u64;
        if count < bytes.len() {
            self.prefix = 0;
        }
        Ok(count)
    }
}

fn text_at(position: u64, count: usize) -> &'static [u8] {
    let start = usize::try_from(position % PERIOD as u64).expect("a remainder of PERIOD is less than it");
    &TEXT[start..][..count]
}

/// How much of both is shown when an answer is wrong, and how much of that is before the first difference.
const SHOWN: usize = 20;
const SHOWN_BEFORE: usize = 6;

/// A wrong answer, told by the bytes around the first difference. `start` is the place of the first of these bytes in
/// the banner or the text.
pub fn wrong(expected: &[u8], received: &[u8], start: u64) -> Failure {
    let differs = expected.iter().zip(received).position(|(expected, received)| expected != received);
    let differs = differs.unwrap_or(expected.len().min(received.len()));
    let around = |bytes: &[u8]| {
        let bytes = &bytes[differs.saturating_sub(SHOWN_BEFORE)..];
        bytes[..bytes.len().min(SHOWN)].escape_ascii().to_string()
    };
    let place = start + differs as u64;
    Failure::WrongAnswer(format!(
        "\"{}\" instead of \"{}\", at byte {place}",
        around(received),
        around(expected)
    ))
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
            let mut flood = Text::default();
            flood.sent(pieces.iter().sum());
            let received: u64 = answers(&pieces).chunks(step).map(|bytes| flood.check(bytes).unwrap()).sum();
            assert_eq!(received, flood.sent);
            assert!(flood.is_complete());
        }
    }

    #[test]
    fn lost_and_doubled_bytes_are_seen() {
        let right = answers(&[1024, 1024, 1024]);
        for (from, to) in [(1029, 2058), (5, 6), (600, 664), (0, 1)] {
            let lost = [&right[..from], &right[to..]].concat();
            let doubled = [&right[..to], &right[from..]].concat();
            for wrong in [lost, doubled] {
                let mut flood = Text::default();
                flood.sent(3 * 1024);
                assert!(flood.check(&wrong).is_err() || !flood.is_complete(), "{from}..{to}");
            }
        }
    }

    #[test]
    fn a_wrong_answer_is_shown_where_it_is_wrong() {
        let right = text_at(0, 70);
        let mut received = right.to_vec();
        received[40] = b'X';
        assert_eq!(
            wrong(&right[10..], &received[10..], 10).to_string(),
            "wrong answer: \"ijklmnXpqrstuvwxyzab\" instead of \"ijklmnopqrstuvwxyzab\", at byte 40"
        );
        assert_eq!(
            wrong(b"OK", b"OKOK", 0).to_string(),
            "wrong answer: \"OKOK\" instead of \"OK\", at byte 2"
        );
    }

    #[test]
    fn a_piece_is_never_longer_than_the_protocol_allows_nor_empty() {
        assert!(Text::default().check(&answers(&[1025])).is_err());
        assert!(Text::default().check(b"OK...OK...a").is_err());
    }
}
