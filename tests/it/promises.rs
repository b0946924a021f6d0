//! The promise of an end: finished, closed and drained mean that the client got every answer, however slowly it reads and
//! however long the way is.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal::SIGTERM;
use okloop::config::HIGH_WATER;
use okloop::protocols::{Framing, PREFIX};
use okloop::{Buffer, Config, Ending, Reason, Server, Session, Step};
use socket2::{Domain, Socket, Type};

use crate::harness::{Client, Embedded, Process, chunks_of, eventually, loopback, lossy, numbered_lines};

/// The server closes the window of this client's connection: it is at high water, and most of what the client has sent
/// waits in the client's own kernel.
fn held_back(port: u16, line: &[u8]) -> (Client, usize) {
    let mut client = with_window(port, 4096);
    let sent = client.send_until_full(&line.repeat(3000));
    (client, sent)
}

#[test]
#[ignore = "takes some 10 s; .ci/run runs it"]
fn a_stop_answers_what_a_client_had_sent_although_the_server_had_closed_its_window() {
    for framing in ["chunks", "lines"] {
        for is_half_closed in [false, true] {
            let server = Process::okloop(&["--framing", framing]);
            let line = [&[b'x'; 9999][..], b"\n"].concat();
            let (mut client, sent) = held_back(server.port(), &line);
            if is_half_closed {
                client.half_close();
            }
            server.signal(SIGTERM);
            thread::sleep(Duration::from_millis(200));
            let answers = client.read_to_end();
            let answers = &answers[BANNER_LENGTH..];
            if framing == "chunks" {
                let answered: usize = chunks_of(&line.repeat(3000)[..sent], answers).iter().sum();
                assert_eq!(answered, sent);
            } else {
                let whole = [PREFIX, &line].concat().repeat(sent / line.len());
                assert!(answers.starts_with(&whole), "{} bytes of {}", answers.len(), whole.len());
            }
            drop(client);
            let stats = server.finish().stats();
            let reason = if is_half_closed { Reason::Finished } else { Reason::Drained };
            assert_eq!(stats.closed(reason), 1, "{stats}");
        }
    }
}

const BANNER_LENGTH: usize = okloop::protocols::BANNER.len();

#[test]
#[ignore = "takes some 5 s; .ci/run runs it"]
fn a_stop_keeps_its_promise_on_a_path_with_a_round_trip_of_50_ms() {
    let server = Process::okloop(&["--framing", "lines"]);
    let relay = delaying_relay(server.port(), Duration::from_millis(50));
    let mut client = Client::from(TcpStream::connect(relay).expect("the relay listens"));
    let lines = numbered_lines(16 << 20);
    let mut sent = client.send_until_full(&lines);
    while !is_at_high_water(&server) {
        sent += client.send_until_full(&lines[sent..]);
    }
    server.signal(SIGTERM);
    let answers = client.read_to_end();
    let expected: Vec<u8> = lines[..sent]
        .split_inclusive(|&byte| byte == b'\n')
        .filter(|line| line.ends_with(b"\n"))
        .flat_map(|line| [PREFIX, line].concat())
        .collect();
    assert!(answers[BANNER_LENGTH..] == expected, "{} of {} bytes", answers.len(), expected.len());
    drop(client);
    assert_eq!(server.finish().stats().closed(Reason::Drained), 1);
}

/// Whether the server's only client does not read, and the server has stopped reading it.
fn is_at_high_water(server: &Process) -> bool {
    server.stats();
    let log = lossy(&server.stdout());
    let pending = log.lines().rev().find_map(|line| line.split_once(" bytes of output pending for "));
    let bytes = pending.and_then(|(before, _)| before.rsplit(' ').next()?.parse::<usize>().ok());
    bytes.is_some_and(|bytes| bytes >= HIGH_WATER)
}

#[test]
fn a_client_that_has_just_come_when_the_server_stops_is_answered() {
    let server = Process::okloop(&["--framing", "lines"]);
    let mut client = Client::greeted(server.port());
    server.signal(SIGTERM);
    server.line_with("Received SIGTERM");
    thread::sleep(Duration::from_millis(300));
    client.ask(b"hello\n");
    assert_eq!(client.read_to_end(), b"");
    drop(client);
    assert_eq!(server.finish().stats().closed(Reason::Drained), 1);
}

/// What was on its way when the server stopped is answered, although the session was silent in the server's eyes.
#[test]
#[ignore = "takes some 2 s; .ci/run runs it"]
fn a_line_that_follows_another_after_the_stop_is_answered() {
    let server = Process::okloop(&["--framing", "lines"]);
    let mut client = Client::greeted(server.port());
    client.ask(b"first\n");
    server.signal(SIGTERM);
    server.line_with("Received SIGTERM");
    thread::sleep(Duration::from_millis(300));
    client.ask(b"second\n");
    assert_eq!(client.read_to_end(), b"");
    drop(client);
    assert_eq!(server.finish().stats().closed(Reason::Drained), 1);
}

#[test]
fn half_a_request_at_a_stop_is_not_a_request() {
    let server = Process::okloop(&["--framing", "lines", "--drain-timeout", "5"]);
    let mut client = Client::greeted(server.port());
    client.ask(b"whole\n");
    client.send(b"delete /home/user/old");
    eventually("the half line is read", || server.stats().bytes_in == 27);
    server.signal(SIGTERM);
    assert_eq!(client.read_to_end(), b"");
    drop(client);
    assert_eq!(server.finish().stats().closed(Reason::Drained), 1);
}

/// Numbers its lines, and closes after `quit`.
#[derive(Default)]
struct Numbering(u32);

impl Session for Numbering {
    fn answer(&mut self, input: &mut [u8], output: &mut Buffer) -> Step {
        let Some(end) = input.iter().position(|&byte| byte == b'\n') else { return Step::NeedInput };
        if input.starts_with(b"quit") {
            output.push(b"Goodbye\n");
            return Step::Close;
        }
        self.0 += 1;
        write!(output, "{}: ", self.0);
        output.push(&input[..=end]);
        Step::Consumed(end + 1)
    }
}

#[test]
fn a_slow_client_that_goes_on_sending_gets_everything_after_a_close() {
    const LINES: usize = 400;
    let config = Config { linger_timeout: Duration::from_millis(100), ..loopback() };
    let server = Embedded::run(Server::bind(config).expect("a port is free"), |_| Numbering::default());
    let mut client = with_window(server.port(), 2048);
    let mut sender = client.split();
    let mut received = Vec::new();
    thread::scope(|scope| {
        scope.spawn(move || {
            sender.send(&[&b"y".repeat(899)[..], b"\n"].concat().repeat(LINES));
            sender.send(b"quit\n");
            // It fails when the session is over.
            while sender.stream().write_all(b"still typing\n").is_ok() {
                thread::sleep(Duration::from_millis(5));
            }
        });
        let mut chunk = [0; 4000];
        loop {
            match client.stream().read(&mut chunk) {
                Ok(0) => break,
                Ok(count) => received.extend(&chunk[..count]),
                Err(error) => panic!("{error} after {} bytes", received.len()),
            }
            thread::sleep(Duration::from_millis(5));
        }
        client.half_close();
    });
    let lines = received.split_inclusive(|&byte| byte == b'\n').count();
    assert_eq!((lines, received.ends_with(b"Goodbye\n")), (LINES + 1, true));
    let (ending, stats) = server.stop();
    assert_eq!(ending, Ending::Drained);
    assert_eq!(stats.closed(Reason::Closed) + stats.closed(Reason::LingerTimeout), 1, "{stats}");
}

#[test]
fn a_client_that_does_not_end_after_a_close_has_a_reason_of_its_own() {
    let config = Config { linger_timeout: Duration::from_millis(50), ..loopback() };
    let server = Embedded::run(Server::bind(config).expect("a port is free"), |_| Numbering::default());
    let mut client = Client::connect(server.port());
    client.send(b"quit\n");
    assert_eq!(client.read_to_end(), b"Goodbye\n");
    let (_, stats) = server.stop();
    assert_eq!(stats.closed(Reason::LingerTimeout), 1, "{stats}");
}

#[test]
fn a_session_keeps_its_place_until_the_clients_kernel_has_everything() {
    let server = Process::okloop(&["--max-connections", "2", "--write-timeout", "1"]);
    let ended: Vec<Client> = (0..2)
        .map(|_| {
            let mut client = with_window(server.port(), 2048);
            client.send(&vec![b'q'; 60_000]);
            client.half_close();
            client
        })
        .collect();
    eventually("the server has taken everything", || server.stats().bytes_in == 120_000);
    let stats = server.stats();
    assert_eq!((stats.open, stats.closed(Reason::Finished)), (2, 0), "{stats}");
    // They never read: the write time-out ends them, and they are not counted as finished.
    eventually("both are over", || server.stats().open == 0);
    assert_eq!(server.stats().closed(Reason::WriteTimeout), 2);
    drop(ended);
}

#[test]
fn the_idle_time_out_destroys_no_answer() {
    let config = Config { idle_timeout: Some(Duration::from_millis(300)), ..loopback() };
    let server = Embedded::start(config, Framing::Chunks);
    let mut client = with_window(server.port(), 4096);
    client.expect(okloop::protocols::BANNER);
    client.send(&vec![b'k'; 30_000]);
    let (mut received, mut chunk, start) = (0, [0; 1000], Instant::now());
    loop {
        match client.stream().read(&mut chunk).expect("the server ends the session in order") {
            0 => break,
            count => received += count,
        }
        thread::sleep(Duration::from_millis(20));
        if start.elapsed() > Duration::from_millis(400) {
            // If the server had closed by then, this would cause a reset, which destroys what is on its way.
            let _ = client.stream().write(b"x");
        }
    }
    assert!(start.elapsed() > Duration::from_millis(400), "it read for longer than the time-out");
    assert!(received >= 30_000 + PREFIX.len(), "{received} bytes");
    client.half_close();
    let (_, stats) = server.stop();
    assert_eq!(stats.closed(Reason::IdleTimeout), 1, "{stats}");
}

#[test]
#[ignore = "takes some 2 s; .ci/run runs it"]
fn clients_that_wait_because_descriptors_are_lacking_are_served_in_a_drain() {
    const CLIENTS: usize = 60;
    let script = "ulimit -n 40; exec \"$0\" --host 127.0.0.1 --port 0 --max-connections 1000";
    let server = Process::spawn(
        std::process::Command::new("sh").args(["-c", script]).arg(crate::harness::binary("okloop")),
    );
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| Client::connect(server.port())).collect();
    for client in &mut clients {
        client.send(b"hello");
    }
    server.line_with("Accepting pauses");
    server.signal(SIGTERM);
    for mut client in clients {
        assert!(client.read_to_end().ends_with(b"OK...hello"));
    }
    let stats = server.finish().stats();
    assert_eq!(stats.closed(Reason::Drained), CLIENTS as u64, "{stats}");
}

fn with_window(port: u16, bytes: usize) -> Client {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a descriptor is left");
    socket.set_recv_buffer_size(bytes).expect("any size will do");
    socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into()).expect("the server listens");
    Client::from(TcpStream::from(socket))
}

/// A path on which each byte of the client takes `delay`. It holds 8 pieces of 16 KiB in each direction.
fn delaying_relay(port: u16, delay: Duration) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let address = listener.local_addr().expect("a bound socket has an address");
    thread::spawn(move || {
        let (client, _) = listener.accept().expect("the test connects");
        let server = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the server listens");
        let clone = |stream: &TcpStream| stream.try_clone().expect("a descriptor is left");
        // To the server the path is slower than the server, which often finds nothing more.
        delay_direction(clone(&client), clone(&server), delay, Duration::from_millis(3));
        delay_direction(server, client, Duration::ZERO, Duration::ZERO);
    });
    address
}

/// Each piece takes `delay`, and the next one follows after `pause`.
fn delay_direction(mut from: TcpStream, mut to: TcpStream, delay: Duration, pause: Duration) {
    let (sender, receiver) = sync_channel::<(Instant, Vec<u8>)>(8);
    thread::spawn(move || {
        let mut piece = vec![0; 16 * 1024];
        while let Ok(count) = from.read(&mut piece) {
            if sender.send((Instant::now() + delay, piece[..count].to_vec())).is_err() || count == 0 {
                break;
            }
        }
    });
    thread::spawn(move || {
        for (due, piece) in receiver {
            thread::sleep(due.saturating_duration_since(Instant::now()).max(pause));
            let result = if piece.is_empty() { to.shutdown(Shutdown::Write) } else { to.write_all(&piece) };
            if result.is_err_and(|error| error.kind() != ErrorKind::NotConnected) {
                break;
            }
        }
    });
}
