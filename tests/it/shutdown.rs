//! Stopping: what each signal does, what the clients get, and the exit status.
//!
//! Where a test stops the server with SIGSTOP, everything that happens meanwhile is there when it goes on.

use std::io::{self, ErrorKind, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use memchr::memmem;
use nix::sys::signal::Signal::{SIGINT, SIGTERM};
use okloop::Reason;
use okloop::protocols::{BANNER, PREFIX};
use socket2::{Domain, Socket, Type};

use crate::harness::{Client, FULL, Finished, Process, binary, chunks_of, lossy, numbered_lines};
use crate::vitals::while_stopped;

/// A second signal within this time is the same stop.
const STOP_WINDOW: Duration = Duration::from_millis(200);

/// The drain time-out is longer than any test.
const PATIENT: [&str; 4] = ["--drain-timeout", "3600", "--log-level", "debug"];

#[test]
fn sigterm_and_sigint_end_a_silent_clients_input_and_wait_for_its_end() {
    for signal in [SIGTERM, SIGINT] {
        let server = Process::okloop(&PATIENT);
        let mut client = Client::greeted(server.port());
        server.signal(signal);
        assert_eq!(client.read_to_end(), b"");
        let address = client.address();
        drop(client);
        let finished = drained(server);
        assert!(lossy(&finished.stdout).contains(&format!("{address} closed: drained")));
        let stats = finished.stats();
        assert_eq!((stats.open, stats.peak, stats.accepted, stats.closed(Reason::Drained)), (0, 1, 1, 1));
    }
}

/// They send all the time. If the server closed with that input unread, the kernel would send a reset, and the answers on
/// their way would be lost.
#[test]
fn input_during_the_drain_destroys_no_answer() {
    const ARRIVED: usize = 40_000;
    let server = Process::okloop(&PATIENT);
    let mut clients: Vec<Client> = (0..5).map(|_| Client::greeted(server.port())).collect();
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
                let answered = check_answers(&sent, &client.read_to_end());
                assert!(answered >= ARRIVED, "{answered} bytes are answered");
                client.half_close();
            });
        }
    });
    assert_eq!(drained(server).stats().closed(Reason::Drained), 5);
}

#[test]
#[ignore = "takes some 2 s; .ci/run runs it"]
fn a_stop_that_arrives_twice_is_one_stop_and_all_pending_output_is_delivered() {
    pending_output_is_delivered(Process::okloop(&PATIENT), |server| {
        while_stopped(server, || [SIGTERM, SIGINT].map(|signal| server.signal(signal)));
    });
}

/// GNU `timeout` sends SIGTERM to its child, then to its process group. The child is in both.
#[test]
#[ignore = "takes some 2 s; .ci/run runs it"]
fn a_stop_by_gnu_timeout_delivers_all_pending_output() {
    let mut command = Command::new("timeout");
    command.args(["--preserve-status", "3600"]).arg(binary("okloop"));
    let timeout = Process::spawn(command.args(["--host", "127.0.0.1", "--port", "0"]).args(PATIENT));
    pending_output_is_delivered(timeout, |timeout| timeout.signal(SIGTERM));
}

fn pending_output_is_delivered(server: Process, stop: impl FnOnce(&Process)) {
    let mut client = Client::greeted(server.port());
    let sent = numbered_lines(8 << 20);
    let taken = client.send_until_full(&sent);
    assert!(taken > 1 << 20, "{taken} bytes are on their way");
    stop(&server);
    server.line_with("Stopping");
    let answers = client.read_to_end();
    check_answers(&sent, &answers);
    drop(client);
    let stats = drained(server).stats();
    assert_eq!(stats.bytes_out, (BANNER.len() + answers.len()) as u64);
    assert_eq!(stats.closed(Reason::DrainTimeout), 0);
}

#[test]
fn a_second_signal_after_the_stop_window_ends_the_server_immediately() {
    for (first, second) in [(SIGTERM, SIGTERM), (SIGINT, SIGINT), (SIGTERM, SIGINT)] {
        let server = Process::okloop(&PATIENT);
        let client = Client::greeted(server.port());
        server.signal(first);
        server.line_with("Stopping");
        thread::sleep(STOP_WINDOW + Duration::from_millis(300));
        server.signal(second);
        let finished = server.finish();
        assert_eq!((finished.status, &finished.stderr[..]), (Some(1), ""));
        assert!(lossy(&finished.stdout).contains(&format!("{} closed: forced", client.address())));
        assert_eq!(finished.stats().closed(Reason::Forced), 1);
    }
}

#[test]
fn clients_in_the_accept_queue_are_accepted_and_answered_first() {
    let server = Process::okloop(&PATIENT);
    let port = server.port();
    let clients: Vec<Client> = while_stopped(&server, || {
        let connect = |_| {
            let mut client = Client::connect(port);
            client.send(b"is it too late?");
            client
        };
        let clients = (0..200).map(connect).collect();
        server.signal(SIGTERM);
        clients
    });
    for mut client in clients {
        assert_eq!(client.read_to_end(), [BANNER, PREFIX, b"is it too late?"].concat());
    }
    assert_eq!(drained(server).stats().accepted, 200);
}

#[test]
fn the_port_is_free_for_the_next_server_while_the_last_one_drains() {
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

/// The side that ends a connection first keeps its pair of addresses for a minute (`TIME_WAIT`): here the server's.
#[test]
fn a_restart_can_bind_while_connections_of_the_last_run_are_in_time_wait() {
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
fn slow_readers_and_floods_are_ended_at_the_drain_time_out() {
    let server = Process::okloop(&["--drain-timeout", "0.5"]);
    let [_silent, mut slow, flood] = [(); 3].map(|()| Client::greeted(server.port()));
    slow.send_until_full(&numbered_lines(8 << 20));
    thread::scope(|scope| {
        scope.spawn(|| while flood.stream().write_all(&[b'x'; 1000]).is_ok() {});
        // It ends in order or with a reset.
        scope.spawn(|| io::copy(&mut flood.stream(), &mut io::sink()));
        let start = Instant::now();
        server.signal(SIGTERM);
        let finished = drained(server);
        let took = start.elapsed();
        assert!((Duration::from_millis(500)..Duration::from_secs(10)).contains(&took), "{took:?}");
        assert!(finished.stats().closed(Reason::DrainTimeout) >= 2, "the silent client and the slow reader");
    });
}

#[test]
fn refused_clients_delay_the_end_by_their_time_out_at_most() {
    let limits = ["--max-connections", "1", "--linger-timeout", "0.3"];
    let server = Process::okloop(&[&PATIENT[..], &limits].concat());
    let inside = Client::greeted(server.port());
    let mut refused: Vec<Client> = (0..5).map(|_| Client::connect(server.port())).collect();
    for client in &mut refused {
        client.expect(FULL);
    }
    server.signal(SIGTERM);
    drop(inside);
    let start = Instant::now();
    drained(server);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    for mut client in refused {
        assert_eq!(client.read_to_end(), b"");
    }
}

#[test]
fn sigusr1_logs_the_counters_during_a_drain_too_and_ends_nothing() {
    let server = Process::okloop(&PATIENT);
    let mut client = Client::greeted(server.port());
    assert_eq!(server.stats().open, 1);
    client.ask(b"still there?");
    server.signal(SIGTERM);
    server.line_with("Stopping");
    assert_eq!(server.stats().bytes_in, 12);
    assert_eq!(client.read_to_end(), b"");
    drop(client);
    drained(server);
}

/// Starts the next server at the port of the last one.
fn at_port(port: u16) -> Process {
    Process::start("okloop", &["--host", "127.0.0.1", "--port", &port.to_string()])
}

/// Waits for a server that was stopped. It must drain, without a message on stderr.
fn drained(server: Process) -> Finished {
    let finished = server.finish();
    assert_eq!((finished.status, &finished.stderr[..]), (Some(0), ""));
    finished
}

/// Checks that these are the answers to the first bytes of `sent`, [`numbered_lines`]. Returns how many bytes.
fn check_answers(sent: &[u8], answers: &[u8]) -> usize {
    let answered = answers.len() - PREFIX.len() * memmem::find_iter(answers, PREFIX).count();
    chunks_of(&sent[..answered], answers);
    answered
}

/// Whether the kernel refuses this port to a socket without `SO_REUSEADDR`.
fn is_in_time_wait(port: u16) -> bool {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a descriptor is left");
    let result = socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into());
    result.is_err_and(|error| error.kind() == ErrorKind::AddrInUse)
}
