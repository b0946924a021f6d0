//! A server's answers, checked byte by byte.

use std::borrow::Cow;

use memchr::memmem;

use super::case::{Checked, MOST, fails, shown};
use crate::support::{Answer, Framing, Protocol};

/// Where an answer's number stands in a prefix.
const NUMBER: &[u8] = b"{n}";

impl Protocol {
    fn repeated<'a>(&self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        match self.answer {
            Answer::Same | Answer::Trimmed => Cow::Borrowed(bytes),
            Answer::Upper => Cow::Owned(bytes.to_ascii_uppercase()),
        }
    }

    /// The beginning of all that a client has sent: without the rest, if it gets no answer.
    pub fn requests<'a>(&self, payload: &'a [u8]) -> &'a [u8] {
        match self.framing {
            Framing::Chunks | Framing::Lines => payload,
            Framing::WholeLines => {
                let end = payload.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
                &payload[..end]
            }
        }
    }
}

/// The answers to a payload, checked byte by byte as they come.
///
/// TCP decides where one chunk ends and the next begins, and the payload may hold the prefix's bytes. A byte may
/// therefore continue a piece or begin the next prefix: the check follows every reading that is still possible.
#[derive(Debug, Clone)]
pub struct Answers<'a> {
    protocol: &'a Protocol,
    payload: &'a [u8],
    /// Where the number of an answer stands in its prefix, if it has one.
    number: Option<usize>,
    /// How many answers came before.
    before: usize,
    readings: Vec<Reading>,
    received: usize,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Reading {
    /// How many bytes of the payload are repeated.
    repeated: usize,
    /// How many of them are in the present piece.
    piece: usize,
    /// How many pieces have begun.
    pieces: usize,
    /// How many bytes of the present piece's prefix have come; nothing if it is complete.
    prefix: Option<usize>,
}

impl<'a> Answers<'a> {
    /// No byte has come yet, except for the answers before these.
    pub fn to(payload: &'a [u8], protocol: &'a Protocol, before: usize) -> Self {
        let prefix = (!protocol.prefix.is_empty()).then_some(0);
        let start = Reading { repeated: 0, piece: 0, pieces: 1, prefix };
        let number = memmem::find(&protocol.prefix, NUMBER);
        Self { protocol, payload, number, before, readings: vec![start], received: 0 }
    }

    /// The same answers, but to another payload.
    pub fn or_to(&self, payload: &'a [u8]) -> Self {
        Self::to(payload, self.protocol, self.before)
    }

    /// Takes the next bytes that came.
    pub fn take(&mut self, bytes: &[u8]) -> Checked {
        let mut next = Vec::new();
        let mut index = 0;
        while let Some(&byte) = bytes.get(index) {
            if let Some(certain) = self.take_certain(&bytes[index..]) {
                index += certain;
                continue;
            }
            next.clear();
            for reading in &self.readings {
                self.follow(*reading, byte, &mut next);
            }
            if next.is_empty() {
                let at = self.received + index;
                return Err(fails(
                    format!("at byte {at} of the answers: {}", self.expected()),
                    shown(&bytes[index..], MOST),
                ));
            }
            std::mem::swap(&mut self.readings, &mut next);
            index += 1;
        }
        self.received += bytes.len();
        Ok(())
    }

    /// Takes the bytes that have only one reading, and returns how many they are. Most bytes are such, and
    /// [`Self::follow`] takes much longer for each.
    fn take_certain(&mut self, bytes: &[u8]) -> Option<usize> {
        let [reading] = self.readings[..] else { return None };
        let (length, next);
        if let Some(came) = reading.prefix {
            let prefix = self.prefix(reading);
            length = common(bytes, &prefix[came..]);
            next = Reading { prefix: Some(came + length).filter(|&came| came < prefix.len()), ..reading };
        } else {
            let rest = &self.payload[reading.repeated..];
            let rest = &rest[..rest.len().min(self.certain(reading, rest, bytes))];
            length = common(bytes, &self.protocol.repeated(rest));
            next = Reading { repeated: reading.repeated + length, piece: reading.piece + length, ..reading };
        }
        self.readings[0] = next;
        (length > 0).then_some(length)
    }

    /// How many of the next bytes can only continue the present piece.
    fn certain(&self, reading: Reading, rest: &[u8], bytes: &[u8]) -> usize {
        if !self.limits(reading).0 {
            return 0;
        }
        let end = match self.protocol.framing {
            _ if self.protocol.prefix.is_empty() => bytes.len(),
            // From the first byte of a prefix on, the next piece may have begun.
            Framing::Chunks => {
                let begins = self.prefix(Reading { pieces: reading.pieces + 1, ..reading })[0];
                let end = memchr::memchr(begins, bytes).unwrap_or(bytes.len());
                end.min(self.protocol.chunk - reading.piece)
            }
            Framing::Lines | Framing::WholeLines => {
                memchr::memchr(b'\n', rest).map_or(rest.len(), |newline| newline + 1)
            }
        };
        // White space may be trimmed.
        let blank = |rest: &[u8]| rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
        let end = if self.protocol.answer == Answer::Trimmed { end.min(blank(rest)) } else { end };
        end.min(bytes.len())
    }

    /// All readings in which `byte` can follow.
    fn follow(&self, reading: Reading, byte: u8, next: &mut Vec<Reading>) {
        let mut add = |reading| {
            if !next.contains(&reading) {
                next.push(reading);
            }
        };
        if let Some(came) = reading.prefix {
            let prefix = self.prefix(reading);
            if prefix[came] == byte {
                let came = Some(came + 1).filter(|&came| came < prefix.len());
                add(Reading { prefix: came, ..reading });
            }
            return;
        }
        let (may_go_on, may_end) = self.limits(reading);
        let at = self.trimmed(reading.repeated);
        let is_next = self.payload.get(at..=at).is_some_and(|next| *self.protocol.repeated(next) == [byte]);
        if may_go_on && is_next {
            add(Reading { repeated: at + 1, piece: reading.piece + 1, ..reading });
        }
        if may_end && reading.repeated < self.payload.len() {
            let begun = Reading { piece: 0, pieces: reading.pieces + 1, prefix: Some(0), ..reading };
            self.follow(begun, byte, next);
        }
    }

    /// What stands before the present piece of this reading.
    fn prefix(&self, reading: Reading) -> Cow<'a, [u8]> {
        let prefix = &self.protocol.prefix;
        let Some(place) = self.number else { return Cow::Borrowed(prefix) };
        let number = (self.before + reading.pieces).to_string();
        Cow::Owned([&prefix[..place], number.as_bytes(), &prefix[place + NUMBER.len()..]].concat())
    }

    /// Where the answer goes on: behind the white space at the end of the line with [`Answer::Trimmed`], otherwise here.
    fn trimmed(&self, at: usize) -> usize {
        if self.protocol.answer != Answer::Trimmed {
            return at;
        }
        let is_blank = |byte: &&u8| byte.is_ascii_whitespace() && **byte != b'\n';
        let end = at + self.payload[at..].iter().take_while(is_blank).count();
        if self.payload.get(end) == Some(&b'\n') { end } else { at }
    }

    /// Whether the piece may go on, and whether it may end here.
    fn limits(&self, reading: Reading) -> (bool, bool) {
        if self.protocol.prefix.is_empty() {
            return (true, false);
        }
        match self.protocol.framing {
            Framing::Chunks => (reading.piece < self.protocol.chunk, reading.piece > 0),
            Framing::Lines | Framing::WholeLines => {
                let ended = reading.piece > 0 && self.payload[reading.repeated - 1] == b'\n';
                (!ended, ended)
            }
        }
    }

    /// Whether the whole payload is answered.
    pub fn are_complete(&self) -> bool {
        self.answered() == self.payload.len()
    }

    /// How many bytes of the payload are answered.
    pub fn answered(&self) -> usize {
        self.readings.iter().map(|reading| reading.repeated).max().unwrap_or(0)
    }

    /// What has not come yet, in words.
    pub fn awaited(&self) -> String {
        if self.are_complete() {
            return "the end of the connection after the last answer".to_owned();
        }
        format!("after {} bytes of the answers: {}", self.answered(), self.expected())
    }

    /// What may come next, in words.
    fn expected(&self) -> String {
        let Some(&reading) = self.readings.first() else { return "nothing".to_owned() };
        let rest = &self.payload[self.trimmed(reading.repeated)..];
        let rest = self.protocol.repeated(&rest[..rest.len().min(40)]);
        let begun = Reading { pieces: reading.pieces + 1, ..reading };
        let prefix = match reading.prefix {
            Some(came) => self.prefix(reading)[came..].to_vec(),
            None if rest.is_empty() || self.limits(reading).0 => Vec::new(),
            None => self.prefix(begun).into_owned(),
        };
        shown(&[&prefix, &*rest].concat(), MOST)
    }
}

/// How many bytes are the same at the beginning of both.
fn common(came: &[u8], expected: &[u8]) -> usize {
    let most = came.len().min(expected.len());
    // One comparison of all of them, which is fast in a build without optimization too.
    if came[..most] == expected[..most] {
        return most;
    }
    came.iter().zip(expected).take_while(|(came, expected)| came == expected).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn protocol(prefix: &str, framing: Framing) -> Protocol {
        Protocol {
            banner: Vec::new(),
            prefix: prefix.into(),
            framing,
            answer: Answer::Same,
            chunk: 4,
            end: None,
        }
    }

    fn answered(protocol: &Protocol, payload: &str, answers: &str) -> Option<usize> {
        let mut check = Answers::to(payload.as_bytes(), protocol, 0);
        check.take(answers.as_bytes()).ok().map(|()| check.answered())
    }

    #[test]
    fn chunks_may_end_anywhere_within_their_limit() {
        let protocol = protocol("OK...", Framing::Chunks);
        assert_eq!(answered(&protocol, "abcdef", "OK...abcdOK...ef"), Some(6));
        assert_eq!(answered(&protocol, "abcdef", "OK...aOK...bcOK...def"), Some(6));
        assert_eq!(answered(&protocol, "abcdef", "OK...abcOK.."), Some(3));
        assert_eq!(answered(&protocol, "abcdef", "OK...abcdef"), None, "a chunk of more than 4 bytes");
        assert_eq!(answered(&protocol, "abcdef", "OK...abcdOK...OK...ef"), None, "an empty chunk");
        assert_eq!(answered(&protocol, "abcd", "OK...abcdO"), None, "an answer to nothing");
        assert_eq!(answered(&protocol, "abcd", "abcd"), None, "no prefix");
        assert_eq!(answered(&protocol, "abcd", "OK...abXd"), None, "another byte");
    }

    #[test]
    fn a_payload_that_looks_like_a_prefix_is_understood() {
        let protocol = protocol("ab", Framing::Chunks);
        assert_eq!(answered(&protocol, "abab", "ababab"), Some(4));
        assert_eq!(answered(&protocol, "abab", "abababab"), Some(4), "as two chunks");
    }

    #[test]
    fn lines_end_at_their_endings_only() {
        let protocol = protocol("OK...", Framing::Lines);
        assert_eq!(answered(&protocol, "one\n\nlong line", "OK...one\nOK...\nOK...long line"), Some(14));
        assert_eq!(answered(&protocol, "one\ntwo\n", "OK...one\ntwo\n"), None, "two lines in one answer");
        assert_eq!(answered(&protocol, "one\n", "OK...oOK...ne\n"), None, "a line in two answers");
    }

    #[test]
    fn lines_may_be_numbered_and_trimmed() {
        let protocol = Protocol { answer: Answer::Trimmed, ..protocol("{n}: ", Framing::WholeLines) };
        assert_eq!(answered(&protocol, "a b \r\n\t\nc\n", "1: a b\n2: \n3: c\n"), Some(10));
        assert_eq!(answered(&protocol, "a \n", "1: a \n"), None, "not trimmed");
        assert_eq!(answered(&protocol, "a\nb\n", "1: a\n1: b\n"), None, "not counted");
        let mut later = Answers::to(b"k\n", &protocol, 9);
        assert!(later.take(b"10: k\n").is_ok_and(|()| later.are_complete()));
    }

    #[test]
    fn an_answer_without_a_prefix_is_the_payload() {
        for framing in [Framing::Chunks, Framing::Lines] {
            let mut protocol = protocol("", framing);
            assert_eq!(answered(&protocol, "one\ntwo", "one\ntwo"), Some(7));
            assert_eq!(answered(&protocol, "one\ntwo", "one\ntoo"), None);
            protocol.answer = Answer::Upper;
            assert_eq!(answered(&protocol, "One\ntwo", "ONE\nTWO"), Some(7));
        }
    }
}
