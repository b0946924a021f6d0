//! What a server says: its banner, and its answer to each piece of the input. [`Answers`] checks every byte of it.

use serde::Serialize;

use super::case::{Stop, fails, shown};

/// The conversation that a server promises.
#[derive(Debug, Clone, Serialize)]
pub struct Protocol {
    /// What every client is greeted with; may be empty.
    #[serde(serialize_with = "as_text")]
    pub banner: Vec<u8>,
    /// What stands before each answer; may be empty.
    #[serde(serialize_with = "as_text")]
    pub prefix: Vec<u8>,
    /// What is answered in one piece.
    pub framing: Framing,
    /// How an answer repeats the client's bytes.
    pub answer: Answer,
    /// The longest piece of input that one answer repeats with [`Framing::Chunks`] (bytes).
    pub chunk: usize,
}

/// What is answered in one piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Framing {
    /// Each chunk of bytes as it comes
    Chunks,
    /// Each line, however it was split on the way
    Lines,
}

/// How an answer repeats the client's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// As they are
    Same,
    /// With ASCII letters in upper case
    Upper,
}

fn as_text<S: serde::Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&String::from_utf8_lossy(bytes))
}

impl Protocol {
    fn repeated(&self, byte: u8) -> u8 {
        match self.answer {
            Answer::Same => byte,
            Answer::Upper => byte.to_ascii_uppercase(),
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
    readings: Vec<Reading>,
    received: usize,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Reading {
    /// How many bytes of the payload are repeated.
    repeated: usize,
    /// How many of them are in the present piece.
    piece: usize,
    /// How many bytes of the present piece's prefix have come.
    prefix: usize,
}

impl<'a> Answers<'a> {
    /// No byte has come yet.
    pub fn to(payload: &'a [u8], protocol: &'a Protocol) -> Self {
        let start = Reading { repeated: 0, piece: 0, prefix: 0 };
        Self { protocol, payload, readings: vec![start], received: 0 }
    }

    /// Takes the next bytes that came.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        let mut next = Vec::new();
        for (index, &byte) in bytes.iter().enumerate() {
            next.clear();
            for reading in &self.readings {
                self.follow(*reading, byte, &mut next);
            }
            if next.is_empty() {
                let at = self.received + index;
                return Err(fails(
                    format!("at byte {at} of the answers: {}", self.expected()),
                    shown(&bytes[index..]),
                ));
            }
            std::mem::swap(&mut self.readings, &mut next);
        }
        self.received += bytes.len();
        Ok(())
    }

    /// All readings in which `byte` can follow.
    fn follow(&self, reading: Reading, byte: u8, next: &mut Vec<Reading>) {
        let prefix = &self.protocol.prefix;
        let mut add = |reading| {
            if !next.contains(&reading) {
                next.push(reading);
            }
        };
        if reading.prefix < prefix.len() {
            if prefix[reading.prefix] == byte {
                add(Reading { prefix: reading.prefix + 1, ..reading });
            }
            return;
        }
        let (may_go_on, may_end) = self.limits(reading);
        let expected = self.payload.get(reading.repeated).map(|&byte| self.protocol.repeated(byte));
        if may_go_on && expected == Some(byte) {
            add(Reading { repeated: reading.repeated + 1, piece: reading.piece + 1, ..reading });
        }
        if may_end && prefix.first() == Some(&byte) && reading.repeated < self.payload.len() {
            add(Reading { piece: 0, prefix: 1, ..reading });
        }
    }

    /// Whether the piece may go on, and whether it may end here.
    fn limits(&self, reading: Reading) -> (bool, bool) {
        if self.protocol.prefix.is_empty() {
            return (true, false);
        }
        match self.protocol.framing {
            Framing::Chunks => (reading.piece < self.protocol.chunk, reading.piece > 0),
            Framing::Lines => {
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
        let whole = |reading: &&Reading| reading.prefix == self.protocol.prefix.len();
        self.readings.iter().filter(whole).map(|reading| reading.repeated).max().unwrap_or(0)
    }

    /// What may come next, in words.
    pub fn expected(&self) -> String {
        let Some(reading) = self.readings.first() else { return "nothing".to_owned() };
        let rest: Vec<u8> = self.payload[reading.repeated..]
            .iter()
            .take(40)
            .map(|&byte| self.protocol.repeated(byte))
            .collect();
        if reading.prefix < self.protocol.prefix.len() {
            return shown(&[&self.protocol.prefix[reading.prefix..], &rest[..]].concat());
        }
        match (self.limits(reading.to_owned()), rest.is_empty()) {
            (_, true) => "nothing more".to_owned(),
            ((true, _), _) => shown(&rest),
            ((false, _), _) => {
                format!("the next answer, {}", shown(&[&self.protocol.prefix[..], &rest].concat()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn protocol(prefix: &str, framing: Framing) -> Protocol {
        Protocol { banner: Vec::new(), prefix: prefix.into(), framing, answer: Answer::Same, chunk: 4 }
    }

    fn answered(protocol: &Protocol, payload: &str, answers: &str) -> Option<usize> {
        let mut check = Answers::to(payload.as_bytes(), protocol);
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
