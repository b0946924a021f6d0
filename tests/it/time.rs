//! Time-outs: they fire when they are due, however many sessions are open, and end nobody who makes progress.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use okloop::Config;
use okloop::config::EVENTS;
use okloop::protocol::{BANNER, Framing, PREFIX};
use socket2::{Domain, Socket, Type};

use crate::harness::{
    Client, Embedded, Process, allow_open_files, chunks_of, crowd, eventually, loopback, numbered_lines,
};
use crate::vitals::{Report, Vitals, while_stopped};

/// How late a time-out may fire: a second, and one more because the machine may be busy with other tests.
const LATE: Duration = Duration::from_secs(2);

#[test]
fn idle_timeouts_fire_in_time_with_two_thousand_sessions_open() {
    idle_timeouts_fire_in_time(2_000, Duration::from_secs(2));
}

#[test]
#[ignore = "needs 10,000 open files and some 15 s; .ci/run runs it"]
fn idle_timeouts_fire_in_time_with_ten_thousand_sessions_open() {
    idle_timeouts_fire_in_time(10_000, Duration::from_secs(10));
}

/// One client after the other is left to fall silent, and seen to be ended in time; one goes on typing, and is not.
fn idle_timeouts_fire_in_time(sessions: u64, timeout: Duration) {
    let server = Process::okloop(&["--idle-timeout", &timeout.as_secs().to_string()]);
    let port = server.port();
    let mut typist = Client::greeted(port);
    allow_open_files();

    let (connected, arrivals) = channel::<(Instant, Client)>();
    let (over, is_over) = channel::<()>();
    thread::scope(|scope| {
        let typist = &mut typist;
        // Over with `over`, which the last client's end drops.
        scope.spawn(move || {
            while is_over.recv_timeout(timeout / 4) == Err(RecvTimeoutError::Timeout) {
                typist.ask(b"I am not idle");
            }
        });
        scope.spawn(move || {
            for (start, mut client) in arrivals {
                assert_eq!(client.read_to_end(), b"");
                assert_due(start, timeout);
            }
            drop(over);
        });
        for _ in 0..sessions {
            let start = Instant::now();
            connected.send((start, Client::greeted(port))).expect("the receiver lives as long");
        }
        drop(connected);
    });
    let report = Report::of(&server);
    assert_eq!((report.count("peak"), report.count("idle time-out")), (sessions + 1, sessions));

    let start = Instant::now();
    typist.ask(b"I fall silent now");
    assert_eq!(typist.read_to_end(), b"");
    assert_due(start, timeout);
}

#[test]
fn write_timeouts_fire_in_time_with_two_thousand_sessions_open() {
    const TIMEOUT: Duration = Duration::from_secs(2);
    let server = Process::okloop(&["--write-timeout", "2"]);
    let port = server.port();
    let mut others = crowd(2_000, port);
    let flood = vec![b'x'; 32 << 20];
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut lazy = Client::greeted(port);
                lazy.send_until_full(&flood);
                let start = Instant::now();
                server.line_with(&format!("{} closed: write time-out", lazy.address()));
                assert!(start.elapsed() < TIMEOUT + LATE, "{:?} after the last progress", start.elapsed());
            });
        }
    });
    for client in &mut others {
        client.ask(b"nothing is owed to me");
    }
    assert_eq!(Report::of(&server).count("write time-out"), 8);
}

/// The kernel's own buffers would hide from the server that such a client reads at all. This one's window is small, so
/// that the kernel takes a part of what is owed at a time, and something is owed all the while.
#[test]
fn a_client_that_reads_slowly_is_not_ended_by_the_write_timeout() {
    const TIMEOUT: Duration = Duration::from_secs(2);
    const STEP: usize = 4_000;
    const PAUSE: Duration = Duration::from_millis(100);
    let server =
        Embedded::start(Config { write_timeout: Some(TIMEOUT), framing: Framing::Lines, ..loopback() });
    let mut client = with_small_window(server.port());
    client.expect(BANNER);
    // The shortest lines: six times as much is owed as was read, and more is always there to be answered.
    let lines = vec![b'\n'; 8 << 20];
    let answers = [PREFIX, b"\n"].concat().repeat(lines.len());
    let sender = client.split();
    thread::scope(|scope| {
        // There is always more to send than the reader takes, until it has had enough.
        scope.spawn(move || sender.stream().write_all(&lines));
        let end = Instant::now() + TIMEOUT * 3;
        for answer in answers.chunks(STEP).take_while(|_| Instant::now() < end) {
            client.expect(answer);
            // The reader's pace, not a wait for anything.
            thread::sleep(PAUSE);
        }
        client.half_close();
    });
}

#[test]
fn a_client_that_is_owed_output_is_waited_for_to_read_and_not_to_speak() {
    let flood = numbered_lines(32 << 20);
    let server = Process::okloop(&["--idle-timeout", "1", "--write-timeout", "0"]);
    let mut client = Client::greeted(server.port());
    let sent = client.send_until_full(&flood);
    client.half_close();
    // Longer than an idle client is kept.
    thread::sleep(Duration::from_millis(1500));
    chunks_of(&flood[..sent], &client.read_to_end());
}

/// More of them than one batch of events holds.
#[test]
fn clients_who_spoke_while_the_server_was_held_still_are_not_ended_as_idle() {
    const TIMEOUT: Duration = Duration::from_secs(4);
    let server = Process::okloop(&["--idle-timeout", "4"]);
    let mut typists = crowd(3 * EVENTS, server.port());
    eventually("the loop waits", || Vitals::of(&server).is_asleep());
    while_stopped(&server, || {
        for client in &mut typists {
            client.send(b"hello");
        }
        thread::sleep(TIMEOUT);
    });
    for client in &mut typists {
        client.expect(b"OK...hello");
    }
}

#[test]
fn a_client_who_read_while_the_server_was_held_still_is_not_ended_by_the_write_timeout() {
    const TIMEOUT: Duration = Duration::from_secs(1);
    let server = Process::okloop(&["--write-timeout", "1"]);
    let mut client = Client::greeted(server.port());
    let flood = numbered_lines(32 << 20);
    let sent = client.send_until_full(&flood);
    client.half_close();
    let mut answers = while_stopped(&server, || client.receive_for(TIMEOUT));
    answers.extend(client.read_to_end());
    chunks_of(&flood[..sent], &answers);
}

#[test]
fn a_client_who_ended_while_a_draining_server_was_held_still_is_not_cut_off() {
    const TIMEOUT: Duration = Duration::from_secs(2);
    let server = Process::okloop(&["--drain-timeout", "2"]);
    let mut client = Client::greeted(server.port());
    server.signal(Signal::SIGTERM);
    assert_eq!(client.read_to_end(), b"");
    // Then the stop interrupts `poll`.
    eventually("the loop waits", || Vitals::of(&server).is_asleep());
    while_stopped(&server, || {
        client.half_close();
        thread::sleep(TIMEOUT);
    });
    let finished = server.finish();
    assert!(String::from_utf8_lossy(&finished.stdout).contains("drained 1, cut 0,"));
}

#[test]
fn a_silent_client_is_kept_for_ever_unless_told_otherwise() {
    let (patient, impatient) = (Process::okloop(&[]), Process::okloop(&["--idle-timeout", "1"]));
    let mut kept = Client::greeted(patient.port());
    let mut ended = Client::greeted(impatient.port());
    assert_eq!(ended.read_to_end(), b"");
    kept.ask(b"still there?");
}

/// A time-out that began at `start` or a little later is due now, and has not been for long.
fn assert_due(start: Instant, timeout: Duration) {
    // The server reads the clock once a round: its `start` may be of a moment before.
    const EARLY: Duration = Duration::from_millis(500);
    let (due, elapsed) = (timeout.saturating_sub(EARLY)..timeout + LATE, start.elapsed());
    assert!(due.contains(&elapsed), "{elapsed:?} instead of {timeout:?}");
}

fn with_small_window(port: u16) -> Client {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a descriptor is left");
    socket.set_recv_buffer_size(4096).expect("any size will do");
    socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into()).expect("the server listens");
    Client::from(TcpStream::from(socket))
}
