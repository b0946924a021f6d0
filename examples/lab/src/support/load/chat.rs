//! What a client of a chat says and hears. Knows no socket.
//!
//! The clients with the lowest numbers are speakers. In each round every speaker says its lines, and each of them must
//! reach all other clients, as `NAME: LINE`. A line names its speaker and its own number, so a lost, a doubled and a
//! displaced line are seen. A line with a slash is a command: its answer, a line with a star, is for its sender alone.

use std::collections::VecDeque;
use std::iter;
use std::time::Instant;

use memchr::memchr_iter;

use super::client::{Answered, News};
use crate::support::Failure;

/// A command that no chat knows: the answer says which ones there are.
const COMMAND: &[u8] = b"/commands\n";
/// What stands behind the two numbers of a line, before its ending.
const DOTS: [u8; 1024] = [b'.'; 1024];
/// How long a number in a line is.
const DIGITS: usize = 10;

/// What is said in each round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Talk {
    /// How many clients speak.
    pub speakers: usize,
    /// How many lines each of them sends together.
    pub lines: usize,
    /// How long a line is, its ending included (bytes).
    pub length: usize,
}

/// One client of a chat.
#[derive(Debug)]
pub struct Chat {
    number: usize,
    talk: &'static Talk,
    is_greeted: bool,
    /// How many lines it has said.
    said: u32,
    /// How many lines of each speaker have come.
    heard: Vec<u32>,
    /// The beginning of a line whose end has not come yet.
    beginning: Vec<u8>,
    /// When each command without an answer was due, and when it was sent.
    commands: VecDeque<(Instant, Instant)>,
}

impl Chat {
    /// The client with this number.
    pub fn new(number: usize, talk: &'static Talk) -> Self {
        let (heard, commands) = (vec![0; talk.speakers], VecDeque::new());
        Self { number, talk, is_greeted: false, said: 0, heard, beginning: Vec::new(), commands }
    }

    /// How many commands have no answer yet.
    pub fn unanswered(&self) -> usize {
        self.commands.len()
    }

    /// A speaker's lines of a round, or a command of another client, which was due at `due`.
    pub fn say(&mut self, due: Instant) -> Vec<u8> {
        if self.number >= self.talk.speakers {
            self.commands.push_back((due, Instant::now()));
            return COMMAND.to_vec();
        }
        let next = iter::repeat_with(|| {
            self.said += 1;
            line(self.number, self.said, self.talk.length)
        });
        next.take(self.talk.lines).flatten().collect()
    }

    /// Takes the next bytes that came.
    pub fn hear(&mut self, bytes: &[u8], answered: &mut Vec<Answered>) -> Result<News, Failure> {
        let (was_greeted, mut lines, mut start) = (self.is_greeted, 0, 0);
        let now = Instant::now();
        for end in memchr_iter(b'\n', bytes) {
            let rest = &bytes[start..=end];
            start = end + 1;
            if self.beginning.is_empty() {
                lines += u64::from(self.hear_line(rest, now, answered)?);
            } else {
                let mut whole = std::mem::take(&mut self.beginning);
                whole.extend_from_slice(rest);
                lines += u64::from(self.hear_line(&whole, now, answered)?);
            }
        }
        self.beginning.extend_from_slice(&bytes[start..]);
        Ok(match (was_greeted, self.is_greeted) {
            (false, true) => News::Greeted,
            _ if lines > 0 => News::Heard { lines, has_all: self.has_all() },
            _ if !answered.is_empty() => News::Answered,
            _ => News::Part,
        })
    }

    /// Whether all lines of the round have come.
    fn has_all(&self) -> bool {
        let of_others = (0..self.talk.speakers).filter(|&speaker| speaker != self.number);
        let mut heard = of_others.map(|speaker| self.heard[speaker]);
        let Some(first) = heard.next() else { return true };
        (first as usize).is_multiple_of(self.talk.lines) && heard.all(|count| count == first)
    }

    /// Takes a whole line. Returns whether it is a speaker's.
    fn hear_line(
        &mut self,
        line: &[u8],
        now: Instant,
        answered: &mut Vec<Answered>,
    ) -> Result<bool, Failure> {
        if line.starts_with(b"* ") {
            if !self.is_greeted {
                self.is_greeted = true;
            } else if let Some((due, sent)) = self.commands.pop_front() {
                answered.push(Answered { latency: now - due, answering: now - sent });
            } else {
                return Err(wrong("a notice to a client that reads", line));
            }
            return Ok(false);
        }
        let space = line.windows(2).position(|pair| pair == b": ").filter(|&end| end > 0);
        let said = space.map(|end| &line[end + 2..]).unwrap_or_default();
        let Some((speaker, number)) = self.origin(said) else { return Err(wrong("no speaker's line", line)) };
        let what = match (speaker == self.number, number.checked_sub(self.heard[speaker])) {
            (true, _) => "its own line",
            (_, Some(1)) => {
                self.heard[speaker] = number;
                return Ok(true);
            }
            (_, Some(2..)) => "a line before an earlier one",
            _ => "a line twice",
        };
        Err(wrong(what, line))
    }

    /// Whose line this is, and its number, if every byte of it is right.
    fn origin(&self, said: &[u8]) -> Option<(usize, u32)> {
        let (speaker, rest) = said.split_at_checked(DIGITS)?;
        let (number, dots) = rest.strip_prefix(b" ")?.split_at_checked(DIGITS)?;
        let (speaker, number) = (parsed(speaker)? as usize, parsed(number)?);
        let is_right = speaker < self.talk.speakers
            && said.len() == self.talk.length
            && dots.strip_suffix(b"\n")? == &DOTS[..dots.len() - 1];
        is_right.then_some((speaker, number))
    }
}

/// A line of this length.
fn line(speaker: usize, number: u32, length: usize) -> Vec<u8> {
    let dots = length - 2 * DIGITS - 2;
    format!("{speaker:0DIGITS$} {number:0DIGITS$}{:.<dots$}\n", "").into_bytes()
}

fn parsed(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0_u32, |number, digit| {
        number.checked_mul(10)?.checked_add(char::from(*digit).to_digit(10)?)
    })
}

fn wrong(what: &str, line: &[u8]) -> Failure {
    const MOST: usize = 80;
    Failure::WrongAnswer(format!("{what}: \"{}\"", line[..line.len().min(MOST)].escape_ascii()))
}

#[cfg(test)]
mod tests {
    use super::*;

    static TALK: Talk = Talk { speakers: 2, lines: 2, length: 100 };

    /// What a chat sends when this speaker has said this line.
    fn sent(speaker: usize, number: u32) -> Vec<u8> {
        [b"guest-9: ", &line(speaker, number, TALK.length)[..]].concat()
    }

    /// A greeted client that has heard these lines.
    fn after(number: usize, lines: &[(usize, u32)]) -> Result<(Chat, News), Failure> {
        let mut chat = Chat::new(number, &TALK);
        assert_eq!(chat.hear(b"* Hello\n", &mut Vec::new()), Ok(News::Greeted));
        let bytes: Vec<u8> = lines.iter().flat_map(|&(speaker, number)| sent(speaker, number)).collect();
        let news = chat.hear(&bytes, &mut Vec::new())?;
        Ok((chat, news))
    }

    #[test]
    fn a_client_has_a_round_when_it_has_all_lines_of_the_others() {
        for (number, lines, has_all) in [
            (5, &[(0, 1), (1, 1), (0, 2)][..], false),
            (5, &[(0, 1), (1, 1), (0, 2), (1, 2)], true),
            (0, &[(1, 1), (1, 2)], true),
        ] {
            let (_, news) = after(number, lines).unwrap();
            assert_eq!(news, News::Heard { lines: lines.len() as u64, has_all }, "{number} {lines:?}");
        }
    }

    #[test]
    fn lost_doubled_displaced_and_own_lines_are_wrong() {
        for (number, lines, reason) in [
            (5, &[(0, 1), (0, 3)][..], "a line before an earlier one"),
            (5, &[(0, 2), (0, 1)], "a line before an earlier one"),
            (5, &[(0, 1), (1, 1), (0, 1)], "a line twice"),
            (1, &[(1, 1)], "its own line"),
            (5, &[(2, 1)], "no speaker's line"),
        ] {
            let failure = after(number, lines).unwrap_err().to_string();
            assert!(failure.starts_with(&format!("wrong answer: {reason}: ")), "{failure}");
        }
    }

    #[test]
    fn every_byte_of_a_line_is_checked_and_a_line_may_come_in_pieces() {
        let right = sent(0, 1);
        for at in [12, 40, 80, right.len() - 2] {
            let mut wrong = right.clone();
            wrong[at] ^= 1;
            let (mut chat, _) = after(5, &[(1, 1)]).unwrap();
            assert!(chat.hear(&wrong, &mut Vec::new()).is_err(), "byte {at}");
            let (mut chat, _) = after(5, &[(1, 1)]).unwrap();
            assert_eq!(chat.hear(&right[..at], &mut Vec::new()), Ok(News::Part));
            assert_eq!(
                chat.hear(&right[at..], &mut Vec::new()),
                Ok(News::Heard { lines: 1, has_all: false })
            );
        }
    }

    #[test]
    fn a_notice_answers_a_command_and_is_wrong_without_one() {
        let (mut chat, _) = after(5, &[(1, 1)]).unwrap();
        assert_eq!(chat.say(Instant::now()), COMMAND);
        let mut answered = Vec::new();
        assert_eq!(chat.hear(b"* None\n", &mut answered), Ok(News::Answered));
        assert_eq!((answered.len(), chat.unanswered()), (1, 0));
        assert!(chat.hear(b"* 7 lines missed\n", &mut Vec::new()).is_err());
    }
}
