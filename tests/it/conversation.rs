//! What the server says, byte for byte, however the client's bytes come.

use okloop::config::INPUT_BUFFER;
use okloop::protocol::{BANNER, Framing, PREFIX};
use okloop::{Config, Server};

use crate::harness::{Client, Embedded, Process, chunks_of, crowd, loopback, numbered_lines, port_of};

const FRAMINGS: [Framing; 2] = [Framing::Chunks, Framing::Lines];

#[test]
fn the_banner_comes_before_a_word_and_byte_for_byte() {
    let server = Embedded::start(loopback());
    let mut client = Client::connect(server.port());
    client.expect(b"Welcome to the server. Type something and hit enter\n");
    client.half_close();
    assert_eq!(client.read_to_end(), b"", "the banner is all that a silent client is told");
}

#[test]
fn a_write_without_a_newline_is_answered() {
    let server = Embedded::start(loopback());
    let mut client = Client::greeted(server.port());
    client.send(b"no enter");
    client.expect(b"OK...no enter");
}

#[test]
fn what_comes_at_once_is_answered_in_chunks_of_at_most_1024_bytes() {
    let server = Embedded::start(loopback());
    for (length, chunks) in [
        (1, &[1][..]),
        (1023, &[1023]),
        (1024, &[1024]),
        (1025, &[1024, 1]),
        (2048, &[1024, 1024]),
        (3000, &[1024, 1024, 952]),
    ] {
        // One write that fits in one segment of loopback's: it arrives whole, and how it is cut is the server's doing.
        let message = numbered_lines(length);
        let mut client = Client::greeted(server.port());
        client.send(&message);
        client.half_close();
        assert_eq!(chunks_of(&message, &client.read_to_end()), chunks, "{length} bytes");
    }
}

#[test]
fn no_byte_is_special() {
    let every_byte: Vec<u8> = (0..=u8::MAX).collect();
    let telnet_ctrl_c = b"\xff\xf4\xff\xfd\x06";
    let server = Embedded::start(loopback());
    let mut client = Client::greeted(server.port());
    for message in [&every_byte, &telnet_ctrl_c[..], b"\0", b"\r\0", b"\n", b"\xc3(", b"\x1b[2J", b"\x04"] {
        client.ask(message);
    }
}

#[test]
fn no_byte_is_special_in_a_line() {
    let server = Embedded::start(lines());
    let mut client = Client::greeted(server.port());
    let every_other_byte: Vec<u8> = (0..=u8::MAX).filter(|&byte| byte != b'\n').collect();
    for message in [&every_other_byte, &b"\xff\xf4\xff\xfd\x06"[..], b"\0", b"\r", b"a\rb"] {
        client.ask(&[message, b"\n"].concat());
    }
}

#[test]
fn a_client_that_writes_byte_by_byte_is_answered_each_time() {
    let server = Embedded::start(loopback());
    let mut client = Client::greeted(server.port());
    for byte in b"Hello, world\r\n" {
        client.ask(&[*byte]);
    }
}

#[test]
fn bytes_that_come_one_by_one_without_a_pause_come_back_in_order() {
    let message = numbered_lines(5000);
    for framing in FRAMINGS {
        let server = Embedded::start(Config { framing, ..loopback() });
        let mut client = Client::greeted(server.port());
        for byte in &message {
            client.send(&[*byte]);
        }
        client.half_close();
        expect_answers(framing, &message, &client.read_to_end());
    }
}

#[test]
fn an_empty_session_is_greeted_and_ended() {
    let server = Embedded::start(loopback());
    for _ in 0..100 {
        let mut client = Client::connect(server.port());
        client.half_close();
        assert_eq!(client.read_to_end(), BANNER);
    }
}

#[test]
fn a_client_that_leaves_before_its_banner_is_nothing_to_the_next() {
    let server = Embedded::start(loopback());
    for _ in 0..100 {
        drop(Client::connect(server.port()));
    }
    Client::greeted(server.port()).ask(b"hello");
}

#[test]
fn what_came_before_the_accept_is_answered_together_with_its_end() {
    for framing in FRAMINGS {
        let server = Server::bind(Config { framing, ..loopback() }).expect("a port is free");
        let early = ["", "a", "two words", "line\n", "line\nand rest"].map(|message| {
            let mut client = Client::connect(port_of(&server));
            client.send(message.as_bytes());
            client.half_close();
            (message, client)
        });
        let _server = Embedded::run(server);
        for (message, mut client) in early {
            client.expect(BANNER);
            expect_answers(framing, message.as_bytes(), &client.read_to_end());
        }
    }
}

#[test]
fn a_line_is_answered_once_however_it_was_split_or_joined() {
    let server = Embedded::start(lines());
    let mut client = Client::greeted(server.port());
    client.send(b"on");
    client.send(b"e\ntwo\nthr");
    client.expect(b"OK...one\nOK...two\n");
    client.send(b"ee");
    client.send(b"\n\n");
    client.expect(b"OK...three\nOK...\n");
}

#[test]
fn a_line_keeps_its_own_ending() {
    let server = Embedded::start(lines());
    let mut client = Client::greeted(server.port());
    client.send(b"telnet\r\nunix\n\r\n\n\r\r\n");
    client.expect(b"OK...telnet\r\nOK...unix\nOK...\r\nOK...\nOK...\r\r\n");
}

#[test]
fn an_unfinished_line_is_answered_at_the_end_of_input() {
    let server = Embedded::start(lines());
    let mut client = Client::greeted(server.port());
    client.send(b"whole\nunfinished");
    client.expect(b"OK...whole\n");
    client.half_close();
    assert_eq!(client.read_to_end(), b"OK...unfinished");
}

#[test]
fn a_line_longer_than_the_input_buffer_is_answered_in_pieces() {
    let server = Embedded::start(lines());
    for length in [INPUT_BUFFER - 1, INPUT_BUFFER, INPUT_BUFFER + 1, 5 * INPUT_BUFFER / 2] {
        let line = [vec![b'x'; length], b"\n".to_vec()].concat();
        let pieces: Vec<u8> = line.chunks(INPUT_BUFFER).flat_map(|piece| [PREFIX, piece].concat()).collect();
        let mut client = Client::greeted(server.port());
        client.send(&line);
        client.expect(&pieces);
        client.ask(b"and the next as ever\n");
    }
}

#[test]
fn sixteen_mebibytes_and_a_half_close_come_back_whole_and_in_order() {
    let message = numbered_lines(16 << 20);
    for framing in FRAMINGS {
        let server = Embedded::start(Config { framing, ..loopback() });
        let answers = Client::greeted(server.port()).exchange(&message);
        expect_answers(framing, &message, &answers);
    }
}

/// The loop's trace tells when the client's socket is full. Until it is, each message is read before the next is sent,
/// or there would be more lines at once than the log's queue holds.
#[test]
fn answers_that_wait_for_room_in_the_socket_outlast_a_half_close() {
    let server = Process::start("okloop", &["--port", "0", "--log-level", "trace"]);
    let mut client = Client::greeted(server.port());
    let mut sent = Vec::new();
    let is_full = || String::from_utf8_lossy(&server.stdout()).contains("interest READABLE | WRITABLE");
    for length in 10_000.. {
        if is_full() {
            break;
        }
        let message = numbered_lines(length);
        client.send(&message);
        sent.extend(message);
        server.line_with(&format!("read {length} bytes"));
    }
    client.half_close();
    server.line_with("read 0 bytes");
    chunks_of(&sent, &client.read_to_end());
}

#[test]
fn a_thousand_sessions_at_once_are_each_given_their_own_answers() {
    const SESSIONS: usize = 1000;
    let server = Embedded::start(loopback());
    let mut clients = crowd(SESSIONS, server.port());
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
    assert_eq!((stats.peak, stats.accepted, stats.refused), (SESSIONS, SESSIONS as u64, 0));
}

fn lines() -> Config {
    Config { framing: Framing::Lines, ..loopback() }
}

/// Checks that `answers` are what `message`, to its end of input, is to be answered with.
fn expect_answers(framing: Framing, message: &[u8], answers: &[u8]) {
    match framing {
        Framing::Chunks if message.is_empty() => assert_eq!(answers, b""),
        Framing::Chunks => drop(chunks_of(message, answers)),
        Framing::Lines => {
            let lines = message.split_inclusive(|&byte| byte == b'\n');
            let expected: Vec<u8> = lines.flat_map(|line| [PREFIX, line].concat()).collect();
            // Too long to be printed.
            assert!(answers == expected, "every line comes back in its place, with one prefix");
        }
    }
}
