//! What a client says and hears: the banner, then lines, no two alike, each answer checked byte by byte. Knows no socket and
//! no clock.
//!
//! It has no buffer: the expected bytes follow from its two numbers, so a million sessions cost little more than their
//! sockets.

use super::client::News;
use crate::support::{BANNER, FULL_MESSAGE, Failure, PREFIX};

/// About as much as a person types.
const TEMPLATE: &[u8; LENGTH] = b"session ##########, line ##########, ..........................\n";
/// How long a line is, its ending included.
pub const LENGTH: usize = 64;
/// How long its answer is.
const ANSWER: usize = PREFIX.len() + LENGTH;
const SESSION: usize = 8;
const NUMBER: usize = 25;
const DIGITS: usize = 10;

/// One session's conversation.
#[derive(Debug)]
pub struct Dialogue {
    /// No other session of the load has it.
    number: u32,
    /// How many lines were said.
    lines: u32,
    expected: Expected,
    /// How many of the expected bytes have come.
    received: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Banner,
    Answer,
    Nothing,
}

impl Dialogue {
    /// The conversation of the session with this number, from the banner on.
    pub fn new(number: usize) -> Self {
        let number = u32::try_from(number).expect("no load has 2^32 sessions");
        Self { number, lines: 0, expected: Expected::Banner, received: 0 }
    }

    /// Whether the banner has come.
    pub fn is_greeted(&self) -> bool {
        self.expected != Expected::Banner
    }

    /// Whether a line has no answer yet.
    pub fn awaits_answer(&self) -> bool {
        self.expected == Expected::Answer
    }

    /// The next line.
    pub fn say(&mut self) -> [u8; LENGTH] {
        self.lines = self.lines.wrapping_add(1);
        self.expected = Expected::Answer;
        line(self.number, self.lines)
    }

    /// Takes the next bytes that came.
    pub fn hear(&mut self, bytes: &[u8]) -> Result<News, Failure> {
        let answer: [u8; ANSWER];
        let expected = match self.expected {
            Expected::Banner if bytes == FULL_MESSAGE.as_bytes() => {
                return Err(Failure::Refused(FULL_MESSAGE.trim().to_owned()));
            }
            Expected::Banner => BANNER,
            Expected::Answer => {
                answer = self::answer(self.number, self.lines);
                &answer
            }
            Expected::Nothing => b"",
        };
        let received = usize::from(self.received);
        let rest = &expected[received..];
        if bytes.len() > rest.len() || bytes != &rest[..bytes.len()] {
            return Err(wrong(rest, bytes, received as u64));
        }
        if bytes.len() < rest.len() {
            self.received = u8::try_from(received + bytes.len()).expect("no expected text is that long");
            return Ok(News::Part);
        }
        let news = if self.is_greeted() { News::Answered } else { News::Greeted };
        (self.expected, self.received) = (Expected::Nothing, 0);
        Ok(news)
    }
}

/// The answer to a session's line with this number.
fn answer(session: u32, number: u32) -> [u8; ANSWER] {
    let mut answer = [0; ANSWER];
    let (prefix, said) = answer.split_at_mut(PREFIX.len());
    prefix.copy_from_slice(PREFIX);
    said.copy_from_slice(&line(session, number));
    answer
}

/// A session's line with this number.
pub fn line(session: u32, number: u32) -> [u8; LENGTH] {
    let mut line = *TEMPLATE;
    write_digits(session, &mut line[SESSION..][..DIGITS]);
    write_digits(number, &mut line[NUMBER..][..DIGITS]);
    line
}

/// The session and the number in a line; none if there are other characters in their places.
pub fn numbers(line: &[u8; LENGTH]) -> Option<(u32, u32)> {
    let number = |place: usize| {
        line[place..][..DIGITS].iter().try_fold(0_u32, |number, digit| {
            let digit = char::from(*digit).to_digit(10)?;
            number.checked_mul(10)?.checked_add(digit)
        })
    };
    Some((number(SESSION)?, number(NUMBER)?))
}

/// Faster than `format!`: a load must not spend its time on writing text.
fn write_digits(mut number: u32, place: &mut [u8]) {
    for digit in place.iter_mut().rev() {
        *digit = b"0123456789"[number as usize % 10];
        number /= 10;
    }
}

/// How much of both is shown when an answer is wrong, and how much of that is before the first difference.
const SHOWN: usize = 20;
const SHOWN_BEFORE: usize = 6;

/// A wrong answer, told by the bytes around the first difference. `start` is the place of the first of these bytes in
/// the banner, the answer or the stream.
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

    #[test]
    fn a_line_names_its_session_and_its_number_and_ends_once() {
        let answer = answer(7, u32::MAX);
        assert!(answer.starts_with(b"OK...session 0000000007, line 4294967295, ..."));
        assert_eq!(numbers(&line(7, u32::MAX)), Some((7, u32::MAX)));
        assert_eq!(answer.iter().position(|&byte| byte == b'\n'), Some(ANSWER - 1));
    }

    #[test]
    fn a_wrong_answer_is_shown_where_it_is_wrong() {
        let right = answer(7, 0);
        let mut received = right;
        received[40] = b'X';
        assert_eq!(
            wrong(&right[10..], &received[10..], 10).to_string(),
            "wrong answer: \"000000X ............\" instead of \"000000, ............\", at byte 40"
        );
        assert_eq!(
            wrong(b"OK", b"OKOK", 0).to_string(),
            "wrong answer: \"OKOK\" instead of \"OK\", at byte 2"
        );
    }

    /// A dialogue with its first line, and the answer to the line.
    fn asked() -> (Dialogue, [u8; ANSWER]) {
        let mut dialogue = Dialogue::new(7);
        assert_eq!(dialogue.hear(BANNER), Ok(News::Greeted));
        assert!(answer(7, 1).ends_with(&dialogue.say()));
        (dialogue, answer(7, 1))
    }

    #[test]
    fn an_answer_may_come_in_pieces() {
        let (mut dialogue, answer) = asked();
        assert_eq!(dialogue.hear(&answer[..3]), Ok(News::Part));
        assert_eq!(dialogue.hear(&answer[3..]), Ok(News::Answered));
    }

    #[test]
    fn a_changed_byte_a_byte_too_many_and_an_old_answer_are_wrong() {
        let (mut dialogue, answer) = asked();
        let mut changed = answer;
        changed[40] ^= 1;
        assert!(dialogue.hear(&changed).is_err());
        assert!(dialogue.hear(&[&answer[..], b"O"].concat()).is_err());
        dialogue.hear(&answer).unwrap();
        assert!(dialogue.hear(b"O").is_err(), "nothing is due");
        dialogue.say();
        assert!(dialogue.hear(&answer).is_err(), "the second answer repeats the first");
    }

    #[test]
    fn a_refusal_is_told_from_a_wrong_banner() {
        let mut dialogue = Dialogue::new(7);
        assert!(matches!(dialogue.hear(FULL_MESSAGE.as_bytes()), Err(Failure::Refused(_))));
        assert!(matches!(dialogue.hear(b"Hello"), Err(Failure::WrongAnswer(_))));
    }
}
