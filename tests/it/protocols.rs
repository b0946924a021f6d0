//! Protocols that a user of the library writes: the examples `upper` and `line_server`, sessions that misbehave, and
//! layers.

use std::io::{ErrorKind, Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use okloop::protocols::{BANNER, Telnet};
use okloop::{Buffer, Config, Reason, Session, Step};

use crate::harness::{Client, DEADLINE, Embedded, Process, TELNET_BANNER, bind, loopback, session_of};

const GREETING: &[u8] = b"Type lines, then quit\n";

#[test]
fn the_upper_server_answers_in_capital_letters_until_the_client_has_ended_its_direction() {
    let server = Process::start("upper", &["0"]);
    let mut client = Client::connect(server.port());
    client.send(b"hello\xff\0\r\n");
    client.expect(b"HELLO\xff\0\r\n");
    client.send(b"and more");
    client.half_close();
    assert_eq!(client.read_to_end(), b"AND MORE");
}

#[test]
fn the_line_server_holds_a_conversation_and_ends_it_at_quit() {
    let server = line_server();
    let mut client = connect(&server);
    client.send(b"hello\r\nwor");
    client.expect(b"1: hello\n");
    client.send(b"ld\n\n");
    client.expect(b"2: world\n3: \n");
    client.send(b"quit\r\nignored\n");
    assert_eq!(client.read_to_end(), b"Goodbye\n");
}

#[test]
fn the_line_server_answers_whole_lines_after_a_half_close() {
    let server = line_server();
    let mut client = connect(&server);
    client.send(b"one\nhalf a li");
    client.half_close();
    assert_eq!(client.read_to_end(), b"1: one\n");
}

#[test]
fn the_line_server_ends_a_line_that_is_too_long_with_an_error() {
    let server = line_server();
    let mut client = connect(&server);
    client.send(&[&[b'x'; 1023][..], b"\n", &[b'x'; 1024], b"\n"].concat());
    assert_eq!(client.read_to_end(), [b"1: ", &[b'x'; 1023][..], b"\nThe line is too long\n"].concat());
}

#[test]
fn ten_thousand_lines_in_one_go_are_answered_in_order() {
    let server = line_server();
    let (lines, answers) = numbered(10_000);
    assert_eq!(connect(&server).exchange(&lines), answers);
}

#[test]
fn quit_behind_much_pending_output_loses_nothing() {
    let server = line_server();
    let mut client = connect(&server);
    let (lines, answers) = numbered(100_000);
    let mut sender = client.split();
    thread::scope(|scope| {
        // The server must read and discard what follows, or the kernel would reset the connection.
        scope.spawn(move || sender.send(&[&lines, &b"quit\n"[..], &vec![b'x'; 200_000]].concat()));
        thread::sleep(Duration::from_millis(300));
        assert!(
            client.read_to_end() == [&answers, &b"Goodbye\n"[..]].concat(),
            "all answers, then the goodbye"
        );
    });
}

#[test]
fn a_client_that_does_not_end_after_quit_is_closed_by_the_linger_time_out() {
    const LINGER: Duration = Duration::from_millis(500);
    let config = Config { linger_timeout: LINGER, ..loopback() };
    let server = Embedded::run(bind(config), |_| {
        session_of(|input, output| {
            output.push(input);
            if input.is_empty() { Step::NeedInput } else { Step::Close }
        })
    });
    let mut client = Client::connect(server.port());
    client.send(b"quit\n");
    assert_eq!(client.read_to_end(), b"quit\n");
    let ended = Instant::now();
    while client.stream().write_all(b"x").is_ok() {
        assert!(ended.elapsed() < *DEADLINE, "the session goes on");
        thread::sleep(Duration::from_millis(20));
    }
    // The server counts from its own end of output, which is a moment before the client has read it.
    let lingered = ended.elapsed();
    assert!(lingered > LINGER.mul_f64(0.8), "{lingered:?}");
}

#[test]
fn a_client_that_never_reads_is_not_read_and_others_are_served() {
    let server = Process::start("upper", &["0"]);
    let mut silent = Client::connect(server.port());
    let sent = silent.send_until_full(&vec![b'x'; 256 << 20]);
    let mut other = Client::connect(server.port());
    other.send(b"still there?");
    other.expect(b"STILL THERE?");
    silent.half_close();
    assert!(silent.read_to_end() == vec![b'X'; sent], "every byte is answered");
}

#[test]
fn a_session_that_goes_wrong_ends_alone() {
    /// Does a wrong thing for each letter.
    struct Wrong;
    impl Session for Wrong {
        fn answer(&mut self, input: &mut [u8], output: &mut Buffer) -> Step {
            match input {
                [] | [b'f', ..] => Step::NeedInput,
                [b'p', ..] => panic!("the session's own mistake"),
                [b'c', ..] => Step::Consumed(input.len() + 1),
                [b'm', ..] => Step::More,
                [b'l', ..] => {
                    output.push(&vec![b'l'; 1 << 20]);
                    Step::Consumed(1)
                }
                _ => {
                    output.push(input);
                    Step::Consumed(input.len())
                }
            }
        }
    }
    let server = embedded(|| Wrong);
    let mut right = Client::connect(server.port());
    for wrong in
        [&b"panic"[..], b"consume too much", b"more of nothing", b"large answer", &vec![b'f'; 20_000]]
    {
        let mut client = Client::connect(server.port());
        client.send(wrong);
        assert!(is_ended(&client), "{:?} goes on", char::from(wrong[0]));
        right.send(b"still there?");
        right.expect(b"still there?");
    }
    drop(right);
    let (_, stats) = server.stop();
    assert_eq!(stats.closed(Reason::ProtocolError), 4, "{stats}");
    assert_eq!(stats.closed(Reason::RequestTooLarge), 1, "{stats}");
}

#[test]
fn the_telnet_layer_fits_around_any_session() {
    struct Upper;
    impl Session for Upper {
        fn answer(&mut self, input: &mut [u8], output: &mut Buffer) -> Step {
            input.make_ascii_uppercase();
            output.push(input);
            Step::Consumed(input.len())
        }
    }
    let server = embedded(|| Telnet::new(Upper));
    let mut client = Client::connect(server.port());
    client.send(b"he\xff\xfd\x01llo\xff\xff");
    client.expect(b"HE\xff\xfc\x01LLO\xff\xff");
}

#[test]
fn telnet_commands_in_a_flood_of_lines_are_taken_out_and_answered_in_their_places() {
    let server = Process::okloop(&["--telnet", "--framing", "lines"]);
    let (mut lines, mut answers) = (Vec::new(), Vec::new());
    for number in 0..100_000 {
        lines.extend(format!("li\u{0}ne {number}\n").bytes().flat_map(|byte| match byte {
            0 => b"\xff\xfb\x1f".to_vec(),
            _ => vec![byte],
        }));
        answers.extend(b"\xff\xfe\x1f");
        answers.extend(format!("OK...line {number}\r\n").bytes());
    }
    let mut client = Client::connect(server.port());
    client.expect(TELNET_BANNER);
    assert!(client.exchange(&lines) == answers, "each line behind the reply to its command");
}

#[test]
fn ctrl_c_gets_its_timing_mark_only_with_the_telnet_option() {
    let interrupt = b"\xff\xf4\xff\xfd\x06";
    for (arguments, banner, answer) in [
        (&["--telnet"][..], TELNET_BANNER, &b"\xff\xfb\x06"[..]),
        (&[], BANNER, b"OK...\xff\xf4\xff\xfd\x06"),
    ] {
        let server = Process::okloop(arguments);
        let mut client = Client::connect(server.port());
        client.expect(banner);
        client.send(interrupt);
        client.half_close();
        assert_eq!(client.read_to_end(), answer, "{arguments:?}");
    }
}

fn line_server() -> Process {
    Process::start("line_server", &["0"])
}

fn connect(server: &Process) -> Client {
    let mut client = Client::connect(server.port());
    client.expect(GREETING);
    client
}

fn embedded<S: Session + Send + 'static>(new_session: impl Fn() -> S + Send + 'static) -> Embedded {
    Embedded::run(bind(loopback()), move |_| new_session())
}

/// Waits until the server has closed the connection, in order or with a reset.
fn is_ended(client: &Client) -> bool {
    let result = client.stream().read(&mut [0]);
    result.map_or_else(|error| error.kind() == ErrorKind::ConnectionReset, |count| count == 0)
}

/// `count` lines, and what the line server answers.
fn numbered(count: usize) -> (Vec<u8>, Vec<u8>) {
    let line = |number| format!("line of {number}\n");
    let lines = (1..=count).flat_map(|number| line(number).into_bytes()).collect();
    let answers = (1..=count).flat_map(|number| format!("{number}: {}", line(number)).into_bytes()).collect();
    (lines, answers)
}
