//! The line that a typist sends, no two alike, and the check of its answer. Knows no socket and no clock.

use okloop::PREFIX;

use crate::failure::Failure;

/// How long a line is, its ending included: about what a person types.
const LENGTH: usize = 64;
const ANSWER: usize = PREFIX.len() + LENGTH;
/// The digits that number the line, at its start.
const DIGITS: usize = 10;

/// One typist's present line and how much of its answer has come.
#[derive(Debug)]
pub struct Line {
    /// The answer as it has to be: what is sent is all of it but the prefix.
    answer: [u8; ANSWER],
    heard: usize,
}

impl Line {
    /// The first line of the typist with this number.
    pub fn of(typist: usize) -> Self {
        let mut answer = [b'.'; ANSWER];
        answer[..PREFIX.len()].copy_from_slice(PREFIX);
        answer[PREFIX.len()..][..DIGITS].fill(b'0');
        let name = format!(" by typist {typist} ");
        answer[PREFIX.len() + DIGITS..][..name.len()].copy_from_slice(name.as_bytes());
        answer[ANSWER - 1] = b'\n';
        Self { answer, heard: 0 }
    }

    /// What the typist sends.
    pub fn text(&self) -> &[u8] {
        &self.answer[PREFIX.len()..]
    }

    /// Takes the next bytes of the answer; says whether it is complete, and `text` is then the next line.
    pub fn hear(&mut self, bytes: &[u8]) -> Result<bool, Failure> {
        let rest = &self.answer[self.heard..];
        if bytes.len() > rest.len() || bytes != &rest[..bytes.len()] {
            return Err(wrong(rest, bytes, self.heard as u64));
        }
        self.heard += bytes.len();
        if self.heard < ANSWER {
            return Ok(false);
        }
        self.heard = 0;
        self.count_up();
        Ok(true)
    }

    /// Adds one to the number in place: the load must not spend its time on writing text.
    fn count_up(&mut self) {
        for digit in self.answer[PREFIX.len()..][..DIGITS].iter_mut().rev() {
            if *digit < b'9' {
                *digit += 1;
                return;
            }
            *digit = b'0';
        }
    }
}

/// How much of both is shown when an answer is wrong, and how much of that is before the first difference.
const SHOWN: usize = 20;
const SHOWN_BEFORE: usize = 6;

/// A wrong answer, told by what is around the first wrong byte. `start` is the place of the first of these bytes in all
/// that the server said: of the banner, the answer or the stream.
pub fn wrong(expected: &[u8], heard: &[u8], start: u64) -> Failure {
    let differs = expected.iter().zip(heard).position(|(expected, heard)| expected != heard);
    let differs = differs.unwrap_or(expected.len().min(heard.len()));
    let around = |bytes: &[u8]| {
        let bytes = &bytes[differs.saturating_sub(SHOWN_BEFORE)..];
        bytes[..bytes.len().min(SHOWN)].escape_ascii().to_string()
    };
    let place = start + differs as u64;
    Failure::WrongAnswer(format!(
        "\"{}\" where \"{}\" was due, at byte {place}",
        around(heard),
        around(expected)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_as_long_as_it_says_and_ends_once() {
        let line = Line::of(usize::MAX);
        assert_eq!(line.text().len(), LENGTH);
        assert_eq!(line.text().iter().position(|&byte| byte == b'\n'), Some(LENGTH - 1));
    }

    #[test]
    fn an_answer_may_come_in_pieces_and_then_the_next_line_is_due() {
        let mut line = Line::of(7);
        let answer = line.answer;
        assert!(!line.hear(&answer[..3]).unwrap());
        assert!(line.hear(&answer[3..]).unwrap());
        assert!(line.text().starts_with(b"0000000001 by typist 7 ."));
    }

    #[test]
    fn a_wrong_answer_is_shown_where_it_is_wrong() {
        let mut line = Line::of(7);
        let mut heard = line.answer;
        line.hear(&heard[..10]).unwrap();
        heard[40] = b'X';
        let failure = line.hear(&heard[10..]).unwrap_err().to_string();
        assert_eq!(
            failure,
            "wrong answer: \"......X.............\" where \"....................\" was due, at byte 40"
        );
        assert_eq!(
            wrong(b"OK", b"OKOK", 0).to_string(),
            "wrong answer: \"OKOK\" where \"OK\" was due, at byte 2"
        );
    }

    #[test]
    fn a_changed_byte_a_byte_too_much_and_an_old_answer_are_wrong() {
        let answer = Line::of(7).answer;
        let mut changed = answer;
        changed[40] ^= 1;
        assert!(Line::of(7).hear(&changed).is_err());
        assert!(Line::of(7).hear(&[&answer[..], b"O"].concat()).is_err());
        let mut line = Line::of(7);
        line.hear(&answer).unwrap();
        assert!(line.hear(&answer).is_err(), "the second answer repeats the first");
    }
}
