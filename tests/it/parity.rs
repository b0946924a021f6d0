//! The loop and the thread for each client are the same server to whoever talks to them.
//!
//! One difference is theirs by design: a line longer than the input buffer is answered in pieces, and the thread's
//! buffer is smaller. The lines here fit in both.

use okloop::protocol::{BANNER, CHUNK, Framing, PREFIX};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::harness::{Client, Process};

/// What a client says, and what it must hear before it says the next thing. Only so is it certain where one chunk ends.
type Script<'a> = &'a [(&'a [u8], &'a [u8])];

const CHUNKS: Script<'_> = &[
    (b"hello\r\n", b"OK...hello\r\n"),
    (b"no enter", b"OK...no enter"),
    (b"two\r\nlines\r\n", b"OK...two\r\nlines\r\n"),
    (b"\n", b"OK...\n"),
    (b"\xff\xf4\xff\xfd\x06", b"OK...\xff\xf4\xff\xfd\x06"),
    (b"\0\x80\xfe", b"OK...\0\x80\xfe"),
    (b"OK...", b"OK...OK..."),
];

const LINES: Script<'_> = &[
    (b"hello\r\n", b"OK...hello\r\n"),
    (b"two\r\nlines\n", b"OK...two\r\nOK...lines\n"),
    (b"\n\r\n\n", b"OK...\nOK...\r\nOK...\n"),
    (b"one and a ha", b""),
    (b"lf\nand", b"OK...one and a half\n"),
    (b" more\xff\0\n", b"OK...and more\xff\0\n"),
    (b"the rest", b""),
];

#[test]
fn a_scripted_conversation_is_the_same_with_both() {
    for (framing, script, at_the_end) in
        [(Framing::Chunks, CHUNKS, &b""[..]), (Framing::Lines, LINES, b"OK...the rest")]
    {
        for server in both(framing) {
            let mut client = Client::greeted(server.port());
            for (said, answer) in script {
                client.send(said);
                client.expect(answer);
            }
            client.half_close();
            assert_eq!(client.read_to_end(), at_the_end);
        }
    }
}

#[test]
fn three_thousand_bytes_at_once_are_cut_alike_by_both() {
    let said = [b'x'; 3000];
    let answer: Vec<u8> = said.chunks(CHUNK).flat_map(|chunk| [PREFIX, chunk].concat()).collect();
    for server in both(Framing::Chunks) {
        let mut client = Client::greeted(server.port());
        client.send(&said);
        client.half_close();
        assert_eq!(client.read_to_end(), answer);
    }
}

#[test]
fn any_chunks_are_answered_alike_by_both() {
    let servers = both(Framing::Chunks);
    let chunk = prop::collection::vec(any::<u8>(), 1..=CHUNK);
    for_any(&prop::collection::vec(chunk, 0..8), |chunks| {
        let [mut by_loop, mut by_thread] = servers.each_ref().map(|server| {
            let mut client = Client::greeted(server.port());
            for chunk in &chunks {
                client.ask(chunk);
            }
            client
        });
        assert_eq!(by_loop.exchange(b""), by_thread.exchange(b""));
    });
}

#[test]
fn any_lines_are_answered_alike_by_both() {
    let servers = both(Framing::Lines);
    let byte = prop_oneof![4 => any::<u8>(), 1 => Just(b'\n')];
    let write = prop::collection::vec(byte, 1..300);
    for_any(&prop::collection::vec(write, 0..8), |writes| {
        let [by_loop, by_thread] = servers.each_ref().map(|server| {
            let mut client = Client::connect(server.port());
            for bytes in &writes {
                client.send(bytes);
            }
            client.exchange(b"")
        });
        assert!(by_loop.starts_with(BANNER));
        assert_eq!(by_loop, by_thread);
    });
}

/// The loop and the thread for each client.
fn both(framing: Framing) -> [Process; 2] {
    let framing = format!("{framing:?}").to_lowercase();
    [
        Process::start("okloop", &["--port", "0", "--framing", &framing]),
        Process::start("thread_per_connection", &["0", &framing]),
    ]
}

/// Runs a test with some tens of values, and looks for the smallest one if it fails.
fn for_any<S: Strategy>(strategy: &S, test: impl Fn(S::Value)) {
    // A value that fails may take a deadline to do so; ten seconds of looking for a smaller one are enough.
    let config =
        Config { cases: 48, max_shrink_time: 10_000, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(strategy, |value| {
        test(value);
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}
