//! What clients send, and how the test checks the answers.

use std::io::Write;

use memchr::memmem;
use okloop::protocols::{CHUNK, PREFIX};

/// Checks that `answers` are `payload` in chunks of 1 to 1024 bytes with a prefix before each. Returns the lengths of the
/// chunks. The network decides where it cuts the payload, so the prefixes show it, and the payload may not contain one.
pub fn chunks_of(payload: &[u8], answers: &[u8]) -> Vec<usize> {
    let mut starts: Vec<usize> = memmem::find_iter(answers, PREFIX).collect();
    starts.push(answers.len());
    assert_eq!(starts[0], 0, "a prefix comes first");

    let chunks: Vec<&[u8]> =
        starts.windows(2).map(|pair| &answers[pair[0] + PREFIX.len()..pair[1]]).collect();
    let lengths: Vec<usize> = chunks.iter().map(|chunk| chunk.len()).collect();
    assert!(lengths.iter().all(|length| (1..=CHUNK).contains(length)), "chunks of {lengths:?} bytes");
    assert!(chunks.concat() == payload, "every byte comes back in its place");
    lengths
}

/// Numbered lines, `length` bytes together: no two places look the same, and none looks like a prefix.
pub fn numbered_lines(length: usize) -> Vec<u8> {
    let mut lines = Vec::with_capacity(length + 20);
    let mut number = 0;
    while lines.len() < length {
        writeln!(lines, "{number}").expect("a vector grows");
        number += 1;
    }
    lines.truncate(length);
    lines
}
