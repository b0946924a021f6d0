//! What the server says, byte for byte, however the client's bytes arrive.

use okloop::Reason;
use okloop::config::INPUT_BUFFER;
use okloop::protocols::{BANNER, Framing, PREFIX};

use crate::harness::{Client, Embedded, bind, chunks_of, crowd, loopback, numbered_lines, port_of};

const FRAMINGS: [Framing; 2] = [Framing::Chunks, Framing::Lines];

#[test]
fn a_silent_client_reads_the_banner_and_nothing_else() {
    let server = Embedded::start(loopback(), Framing::Chunks);
    for _ in 0..100 {
        let mut client = Client::connect(server.port());
        client.half_close();
        assert_eq!(client.read_to_end(), b"Welcome to the server. Type something and hit enter\n");
    }
}

#[test]
fn a_client_that_leaves_before_its_banner_does_not_disturb_the_next() {
    let server = Embedded::start(loopback(), Framing::Chunks);
    for _ in 0..100 {
        drop(Client::connect(server.port()));
    }
    Client::greeted(server.port()).ask(b"hello");
}

#[test]
fn a_long_write_is_answered_in_chunks_of_at_most_1024_bytes() {
    let server = Embedded::start(loopback(), Framing::Chunks);
    for (length, chunks) in [
        (1, &[1][..]),
        (1023, &[1023]),
        (1024, &[1024]),
        (1025, &[1024, 1]),
        (2048, &[1024, 1024]),
        (3000, &[1024, 1024, 952]),
    ] {
        // One write of one segment: it arrives whole, and only the server cuts it.
        let message = numbered_lines(length);
        let mut client = Client::greeted(server.port());
        client.send(&message);
        client.half_close();
        assert_eq!(chunks_of(&message, &client.read_to_end()), chunks, "{length} bytes");
    }
}

#[test]
fn no_byte_is_special_except_the_line_ending_in_lines() {
    let every_byte: Vec<u8> = (0..=u8::MAX).collect();
    let telnet_ctrl_c = b"\xff\xf4\xff\xfd\x06";
    for framing in FRAMINGS {
        let server = Embedded::start(loopback(), framing);
        let mut client = Client::greeted(server.port());
        for message in
            [&every_byte, &telnet_ctrl_c[..], b"\0", b"\r\0", b"a\rb", b"\xc3(", b"\x1b[2J", b"\x04"]
        {
            match framing {
                Framing::Chunks => client.ask(message),
                Framing::Lines => {
                    let line: Vec<u8> = message.iter().copied().filter(|&byte| byte != b'\n').collect();
                    client.ask(&[&line, &b"\n"[..]].concat());
                }
            }
        }
    }
}

#[test]
fn input_and_its_end_that_arrive_before_the_accept_are_answered() {
    for framing in FRAMINGS {
        let server = bind(loopback());
        let early = ["", "a", "two words", "line\n", "line\nand rest"].map(|message| {
            let mut client = Client::connect(port_of(&server));
            client.send(message.as_bytes());
            client.half_close();
            (message, client)
        });
        let _server = Embedded::run_ok(server, framing);
        for (message, mut client) in early {
            client.expect(BANNER);
            expect_answers(framing, message.as_bytes(), &client.read_to_end());
        }
    }
}

#[test]
fn a_line_is_answered_once_with_its_own_ending_however_it_was_split_or_joined() {
    let server = Embedded::start(loopback(), Framing::Lines);
    let mut client = Client::greeted(server.port());
    client.send(b"on");
    client.send(b"e\r\ntwo\nthr");
    client.expect(b"OK...one\r\nOK...two\n");
    client.send(b"ee");
    client.send(b"\n\n\r\n\r\r\n");
    client.expect(b"OK...three\nOK...\nOK...\r\nOK...\r\r\n");
    client.send(b"unfinished");
    client.half_close();
    assert_eq!(client.read_to_end(), b"OK...unfinished");
}

#[test]
fn a_line_longer_than_the_input_buffer_is_answered_in_pieces() {
    let server = Embedded::start(loopback(), Framing::Lines);
    for length in [INPUT_BUFFER - 1, INPUT_BUFFER, INPUT_BUFFER + 1, 5 * INPUT_BUFFER / 2] {
        let line = [vec![b'x'; length], b"\n".to_vec()].concat();
        let pieces: Vec<u8> = line.chunks(INPUT_BUFFER).flat_map(|piece| [PREFIX, piece].concat()).collect();
        let mut client = Client::greeted(server.port());
        client.send(&line);
        client.expect(&pieces);
        client.ask(b"the next line\n");
    }
}

#[test]
fn each_of_a_thousand_sessions_gets_its_own_answers() {
    const SESSIONS: u64 = 1000;
    let server = Embedded::start(loopback(), Framing::Chunks);
    let mut clients = crowd(1000, server.port());
    for turn in 0..3 {
        let message = |number| format!("client {number}, turn {turn}");
        for (number, client) in clients.iter_mut().enumerate() {
            client.send(message(number).as_bytes());
        }
        for (number, client) in clients.iter_mut().enumerate() {
            client.expect(&[PREFIX, message(number).as_bytes()].concat());
        }
    }
    drop(clients);
    let (_, stats) = server.stop();
    assert_eq!((stats.peak, stats.accepted, stats.closed(Reason::Refused)), (SESSIONS, SESSIONS, 0));
}

/// Checks that `answers` answer the whole of `message`.
fn expect_answers(framing: Framing, message: &[u8], answers: &[u8]) {
    match framing {
        Framing::Chunks if message.is_empty() => assert_eq!(answers, b""),
        Framing::Chunks => drop(chunks_of(message, answers)),
        Framing::Lines => {
            let lines = message.split_inclusive(|&byte| byte == b'\n');
            let expected: Vec<u8> = lines.flat_map(|line| [PREFIX, line].concat()).collect();
            // Too long to print.
            assert!(answers == expected, "each line comes back in its place, with one prefix");
        }
    }
}
