//! okloop and `thread_per_connection` answer alike.

use okloop::protocols::{BANNER, CHUNK, Framing, PREFIX};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::harness::{Client, Process};

/// What a client sends, and the answer that it reads before it sends more: this decides where a chunk ends.
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
fn both_servers_have_the_same_scripted_conversation() {
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
fn both_servers_cut_three_thousand_bytes_alike() {
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
fn both_servers_answer_any_chunks_alike() {
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
fn both_servers_answer_any_lines_alike() {
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

/// okloop, and a thread for each client.
fn both(framing: Framing) -> [Process; 2] {
    let framing = format!("{framing:?}").to_lowercase();
    [
        Process::start("okloop", &["--port", "0", "--framing", &framing]),
        Process::start("thread_per_connection", &["0", &framing]),
    ]
}

/// Runs a test with 48 values. If one fails, it looks for the smallest.
fn for_any<S: Strategy>(strategy: &S, test: impl Fn(S::Value)) {
    // A value may fail by a time-out, so the search for a smaller one has a limit (milliseconds).
    let config =
        Config { cases: 48, max_shrink_time: 10_000, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(strategy, |value| {
        test(value);
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}
