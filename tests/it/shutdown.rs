//! Leaving: what a signal gives to whom, in which time, and with which exit status.
//!
//! Where a test holds the server still, what the clients do and the signal are there at once when it goes on.

use std::io::{self, ErrorKind, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal::{SIGINT, SIGTERM, SIGUSR1};
use okloop::config::REFUSAL_TIMEOUT;
use okloop::protocol::{BANNER, FULL, PREFIX};
use socket2::{Domain, Socket, Type};

use crate::harness::{Client, Finished, Process, chunks_of, numbered_lines};
use crate::vitals::{Report, while_stopped};

/// A drain that lasts as long as it must: a test would fail before it ends by itself.
const PATIENT: [&str; 4] = ["--drain-timeout", "3600", "--log-level", "debug"];

#[test]
fn a_silent_client_reads_its_end_of_input_and_the_server_waits_for_its_own() {
    let server = Process::okloop(&PATIENT);
    let mut client = Client::greeted(server.port());
    server.signal(SIGTERM);
    assert_eq!(client.read_to_end(), b"");
    let address = client.address();
    drop(client);
    let finished = drained(server);
    assert!(has(&finished, &format!("{address} closed: drained")), "in order, whatever it cost");
    assert!(has(&finished, "open 0, peak 1, accepted 1, refused 0,"), "the counters are logged");
}

#[test]
fn sigint_ends_the_server_as_sigterm_does() {
    let server = Process::okloop(&PATIENT);
    let mut client = Client::greeted(server.port());
    server.signal(SIGINT);
    assert_eq!(client.read_to_end(), b"");
    drop(client);
    drained(server);
}

/// They go on sending all the time. A server that closed with that unread would have the kernel reset them, and what
/// they had not read yet would be lost.
#[test]
fn clients_that_go_on_sending_get_every_answer_to_what_had_arrived_and_then_an_orderly_end() {
    const ARRIVED: usize = 40_000;
    let server = Process::okloop(&PATIENT);
    let mut clients: Vec<Client> = (0..10).map(|_| Client::greeted(server.port())).collect();
    let sent = numbered_lines(ARRIVED + (1 << 20));
    let (before, after) = sent.split_at(ARRIVED);
    while_stopped(&server, || {
        for client in &mut clients {
            client.send(before);
        }
        server.signal(SIGTERM);
    });
    thread::scope(|scope| {
        for client in &mut clients {
            let sender = client.split();
            // Fails when this client has read its end, and ends its own direction.
            scope.spawn(move || sender.stream().write_all(after));
            scope.spawn(|| {
                let answers = client.read_to_end();
                let answered = payload_in(&answers);
                assert!(answered >= ARRIVED, "{answered} bytes are answered");
                chunks_of(&sent[..answered], &answers);
                client.half_close();
            });
        }
    });
    let finished = drained(server);
    assert!(has(&finished, "drained 10, cut 0,"));
}

#[test]
fn a_client_that_has_read_nothing_for_long_is_still_given_all_it_is_owed() {
    let server = Process::okloop(&PATIENT);
    let mut client = Client::greeted(server.port());
    let sent = numbered_lines(8 << 20);
    let taken = client.send_until_full(&sent);
    let read = Report::of(&server).count("bytes in");
    server.signal(SIGTERM);
    server.line_with("Stopping");

    let answers = client.read_to_end();
    let answered = payload_in(&answers);
    chunks_of(&sent[..answered], &answers);
    assert!(answered <= taken && answered as u64 >= read, "{read} were read, {answered} of {taken} answered");
    drop(client);
    drained(server);
}

#[test]
fn clients_in_the_queue_are_let_in_and_answered_first() {
    let server = Process::okloop(&PATIENT);
    let port = server.port();
    let clients: Vec<Client> = while_stopped(&server, || {
        let knock = |_| {
            let mut client = Client::connect(port);
            client.send(b"is it too late?");
            client
        };
        let clients = (0..200).map(knock).collect();
        server.signal(SIGTERM);
        clients
    });
    for mut client in clients {
        assert_eq!(client.read_to_end(), [BANNER, PREFIX, b"is it too late?"].concat());
    }
    assert!(has(&drained(server), "accepted 200,"));
}

#[test]
fn the_port_is_free_at_once_for_the_next_server_while_the_last_one_drains() {
    let old = Process::okloop(&PATIENT);
    let port = old.port();
    let client = Client::greeted(port);
    old.signal(SIGTERM);
    old.line_with("Stopping");

    let new = at_port(port);
    assert_eq!(new.port(), port);
    Client::greeted(port).ask(b"hello");
    drop(client);
    drained(old);
    Client::greeted(port).ask(b"still there?");
}

/// The side that ends a connection first keeps its address pair for a minute (`TIME_WAIT`): here the server's.
#[test]
fn a_restart_binds_at_once_though_connections_of_the_last_run_are_in_time_wait() {
    let server = Process::okloop(&PATIENT);
    let port = server.port();
    let mut client = Client::greeted(port);
    server.signal(SIGTERM);
    assert_eq!(client.read_to_end(), b"");
    drop(client);
    drained(server);
    assert!(is_in_time_wait(port), "the server has ended the connection first");

    let again = at_port(port);
    assert_eq!(again.port(), port);
    Client::greeted(port).ask(b"hello");
}

#[test]
fn clients_that_do_not_read_are_cut_off_at_the_deadline_of_the_drain() {
    let server = Process::okloop(&["--drain-timeout", "1"]);
    let mut clients = [Client::greeted(server.port()), Client::greeted(server.port())];
    clients[0].send_until_full(&numbered_lines(8 << 20));
    let start = Instant::now();
    server.signal(SIGTERM);
    let finished = drained(server);
    let took = start.elapsed();
    assert!((Duration::from_secs(1)..Duration::from_secs(10)).contains(&took), "{took:?}");
    for client in &clients {
        assert!(
            has(&finished, &format!("{} closed: cut", client.address())),
            "who does not end is cut as well"
        );
    }
    assert!(has(&finished, "cut 2,"));
}

#[test]
fn a_firehose_does_not_keep_the_server_from_ending_in_time() {
    let server = Process::okloop(&["--drain-timeout", "1"]);
    let firehose = Client::greeted(server.port());
    thread::scope(|scope| {
        scope.spawn(|| while firehose.stream().write_all(&[b'x'; 1000]).is_ok() {});
        // Whether it is cut off in order or with a reset is not the point here.
        scope.spawn(|| io::copy(&mut firehose.stream(), &mut io::sink()));
        server.line_with("Connected with");
        let start = Instant::now();
        server.signal(SIGTERM);
        drained(server);
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    });
}

#[test]
fn refused_clients_do_not_hold_up_the_end() {
    let server = Process::okloop(&[&PATIENT[..], &["--max-connections", "1"]].concat());
    let inside = Client::greeted(server.port());
    let mut refused: Vec<Client> = (0..5).map(|_| Client::connect(server.port())).collect();
    for client in &mut refused {
        client.expect(FULL);
    }
    server.signal(SIGTERM);
    drop(inside);
    let start = Instant::now();
    drained(server);
    assert!(start.elapsed() < REFUSAL_TIMEOUT + Duration::from_secs(10), "{:?}", start.elapsed());
    for mut client in refused {
        assert_eq!(client.read_to_end(), b"");
    }
}

#[test]
fn a_second_signal_ends_the_server_at_once() {
    for (first, second) in [(SIGTERM, SIGTERM), (SIGINT, SIGINT), (SIGTERM, SIGINT)] {
        let server = Process::okloop(&PATIENT);
        let client = Client::greeted(server.port());
        server.signal(first);
        server.line_with("Stopping");
        server.signal(second);
        let finished = server.finish();
        assert_eq!((finished.status, &finished.stderr[..]), (Some(1), ""));
        assert!(has(&finished, &format!("{} closed: cut", client.address())));
        assert!(has(&finished, "drained 0, cut 1,"), "the counters are logged");
    }
}

#[test]
fn sigusr1_tells_the_counters_during_a_drain_too_and_ends_nothing() {
    let server = Process::okloop(&PATIENT);
    let mut client = Client::greeted(server.port());
    for _ in 0..3 {
        server.signal(SIGUSR1);
    }
    client.ask(b"still there?");
    server.signal(SIGTERM);
    server.line_with("Stopping");
    server.signal(SIGUSR1);
    server.line_with("bytes in 12, bytes out");
    assert_eq!(client.read_to_end(), b"");
    drop(client);
    drained(server);
}

/// Starts the next server at the port of the last one.
fn at_port(port: u16) -> Process {
    Process::start("okloop", &["--host", "127.0.0.1", "--port", &port.to_string()])
}

/// Waits for a server that has had its signal; it must end as it should, and without a complaint.
fn drained(server: Process) -> Finished {
    let finished = server.finish();
    assert_eq!((finished.status, &finished.stderr[..]), (Some(0), ""));
    assert!(has(&finished, "uptime"), "the counters are logged");
    finished
}

fn has(finished: &Finished, text: &str) -> bool {
    String::from_utf8_lossy(&finished.stdout).contains(text)
}

/// How many bytes of [`numbered_lines`] are in these answers.
fn payload_in(answers: &[u8]) -> usize {
    answers.iter().filter(|byte| !PREFIX.contains(byte)).count()
}

/// Whether the kernel keeps this port from whoever does not say that connections in `TIME_WAIT` do not matter.
fn is_in_time_wait(port: u16) -> bool {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a descriptor is left");
    let result = socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into());
    result.is_err_and(|error| error.kind() == ErrorKind::AddrInUse)
}
