//! The lines that clients send, no two alike, and how a wrong answer is shown. Knows no socket and no clock.

use crate::support::{Failure, PREFIX};

/// About as much as a person types.
const TEMPLATE: &[u8; LENGTH] = b"session ##########, line ##########, ..........................\n";
/// How long a line is, its ending included.
pub const LENGTH: usize = 64;
/// How long its answer is.
pub const ANSWER: usize = PREFIX.len() + LENGTH;
const SESSION: usize = 8;
const NUMBER: usize = 25;
const DIGITS: usize = 10;

/// The answer to a session's line with this number. The line itself is all of it but the prefix.
pub fn answer(session: u32, number: u32) -> [u8; ANSWER] {
    let mut answer = [0; ANSWER];
    let (prefix, line) = answer.split_at_mut(PREFIX.len());
    prefix.copy_from_slice(PREFIX);
    line.copy_from_slice(TEMPLATE);
    write_digits(session, &mut line[SESSION..][..DIGITS]);
    write_digits(number, &mut line[NUMBER..][..DIGITS]);
    answer
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
}
