//! Time-outs: they fire in time with many sessions open, end no client that made progress, and stall no other.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use okloop::config::EVENTS;
use okloop::protocols::{BANNER, Framing, PREFIX};
use okloop::{Config, Reason};
use socket2::{Domain, Socket, Type};

use crate::alone;
use crate::harness::{
    Client, Clock, DEADLINE, Embedded, Process, allow_open_files, answers_until, bind, chunks_of, crowd,
    eventually, loopback, numbered_lines,
};
use crate::vitals::{Vitals, while_stopped};

/// How late a time-out may fire. The machine may be busy.
const LATE: Duration = Duration::from_secs(2);

#[test]
#[ignore = "takes some 4 s; .ci/run runs it"]
fn idle_time_outs_fire_in_time_with_two_thousand_sessions_open() {
    idle_time_outs_fire_in_time(2_000, Duration::from_secs(2));
}

#[test]
#[ignore = "needs 10,000 open files and some 15 s; .ci/run runs it"]
fn idle_time_outs_fire_in_time_with_ten_thousand_sessions_open() {
    idle_time_outs_fire_in_time(10_000, Duration::from_secs(10));
}

/// Clients connect one after the other and stay silent. Each is ended in time. One client sends, and is not ended.
fn idle_time_outs_fire_in_time(sessions: u64, timeout: Duration) {
    let _alone = alone();
    let server = Process::okloop(&["--idle-timeout", &timeout.as_secs().to_string()]);
    let port = server.port();
    let mut active = Client::greeted(port);
    allow_open_files();

    let (connected, arrivals) = channel::<(Instant, Client)>();
    let (over, is_over) = channel::<()>();
    thread::scope(|scope| {
        let active = &mut active;
        // The end of the last silent client drops `over`.
        scope.spawn(move || {
            while is_over.recv_timeout(timeout / 4) == Err(RecvTimeoutError::Timeout) {
                active.ask(b"I am not idle");
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
    let stats = server.stats();
    assert_eq!((stats.peak, stats.closed(Reason::IdleTimeout)), (sessions + 1, sessions));

    let start = Instant::now();
    active.ask(b"now I am idle");
    assert_eq!(active.read_to_end(), b"");
    assert_due(start, timeout);
}

#[test]
fn write_time_outs_fire_in_time_with_two_thousand_sessions_open() {
    const TIMEOUT: Duration = Duration::from_secs(1);
    let _alone = alone();
    let server = Process::okloop(&["--write-timeout", "1"]);
    let port = server.port();
    let mut others = crowd(2_000, port);
    let flood = vec![b'x'; 32 << 20];
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut slow = Client::greeted(port);
                slow.send_until_full(&flood);
                let start = Instant::now();
                server.line_with(&format!("{} closed: write_timeout", slow.address()));
                assert!(start.elapsed() < TIMEOUT + LATE, "{:?} after the last progress", start.elapsed());
            });
        }
    });
    for client in &mut others {
        client.ask(b"no output is pending for me");
    }
    assert_eq!(server.stats().closed(Reason::WriteTimeout), 8);
}

/// If they were all closed in one iteration, the client would get one answer or two meanwhile.
#[test]
#[ignore = "takes some 5 s; .ci/run runs it"]
fn four_thousand_time_outs_that_are_due_together_do_not_stall_a_client() {
    const SESSIONS: usize = 4_000;
    let _alone = alone();
    let server = Process::okloop(&["--idle-timeout", "3"]);
    let mut silent = crowd(SESSIONS, server.port());
    let mut active = Client::greeted(server.port());
    eventually("the loop waits", || Vitals::of(&server).is_asleep());
    while_stopped(&server, || {
        thread::sleep(Duration::from_secs(4));
        active.send(b"I am not idle");
    });
    active.expect(b"OK...I am not idle");
    let last = silent.last_mut().expect("there is a crowd");
    let answers = answers_until(&mut active, || assert_eq!(last.read_to_end(), b""));
    assert!(answers >= 8, "{answers} answers");
}

/// Sessions drain in the order of their tokens. The active client is the last one.
#[test]
fn the_drain_of_four_thousand_sessions_does_not_stall_a_client() {
    const SESSIONS: usize = 4_000;
    let _alone = alone();
    let server = Process::okloop(&["--drain-timeout", "3600"]);
    let silent = crowd(SESSIONS, server.port());
    let active = Client::greeted(server.port());
    server.signal(Signal::SIGTERM);
    let mut answers = 0;
    let mut answer = [0; 10];
    while active.stream().write_all(b"hello").is_ok() && active.stream().read_exact(&mut answer).is_ok() {
        assert_eq!(&answer, b"OK...hello");
        answers += 1;
    }
    assert!(answers >= 8, "{answers} answers");
    drop((silent, active));
    assert_eq!(server.finish().status, Some(0));
}

/// The server gets 3 % of a processor, and three clients are ready for each event that a batch holds. So each client waits
/// for its turn longer than the time-out.
#[test]
#[ignore = "takes some 12 s; .ci/run runs it"]
fn active_clients_are_not_ended_as_idle_while_every_batch_is_full() {
    const PAUSE: Duration = Duration::from_millis(200);
    let _alone = alone();
    let server = Process::okloop(&["--framing", "lines", "--idle-timeout", "1"]);
    let mut clients = crowd(3 * EVENTS, server.port());
    let lines = [b'\n'; 100];
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                while_stopped(&server, || thread::sleep(Duration::from_millis(97)));
                thread::sleep(Duration::from_millis(3));
            }
        });
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(6) {
            let round = Instant::now();
            for client in &mut clients {
                // It fails if the session has ended. The check comes below.
                let _ = client.stream().write_all(&lines);
            }
            thread::sleep(PAUSE.saturating_sub(round.elapsed()));
        }
        is_over.store(true, Ordering::Relaxed);
    });
    for client in &clients {
        let _ = client.stream().write_all(b"end\n");
    }
    let ended = clients.iter().filter(|client| !reads_up_to(client, b"OK...end\n")).count();
    assert_eq!(ended, 0, "sessions were ended as idle");
}

/// Whether the client reads this at the end of all its answers, before the end of its input.
fn reads_up_to(client: &Client, end: &[u8]) -> bool {
    let mut received = Vec::new();
    let mut chunk = [0; 4096];
    while !received.ends_with(end) {
        match client.stream().read(&mut chunk) {
            Ok(count) if count > 0 => received.extend(&chunk[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("no answer within {:?}", *DEADLINE),
            _ => return false,
        }
    }
    true
}

/// The kernel's buffers would hide from the server that the client reads. Its window is small, so the kernel takes a part
/// of the output at a time, and output is always pending.
#[test]
#[ignore = "takes some 6 s; .ci/run runs it"]
fn a_slow_reader_is_not_ended_by_the_write_time_out() {
    const TIMEOUT: Duration = Duration::from_secs(2);
    const STEP: usize = 4_000;
    const PAUSE: Duration = Duration::from_millis(100);
    let _alone = alone();
    let server = Embedded::start(Config { write_timeout: Some(TIMEOUT), ..loopback() }, Framing::Lines);
    let mut client = with_small_window(server.port());
    client.expect(BANNER);
    // Each byte is a line, so the answers are six times as long as the input.
    let lines = vec![b'\n'; 8 << 20];
    let answers = [PREFIX, b"\n"].concat().repeat(lines.len());
    let sender = client.split();
    thread::scope(|scope| {
        // It sends more than the reader reads, until the reader stops.
        scope.spawn(move || sender.stream().write_all(&lines));
        let end = Instant::now() + TIMEOUT * 3;
        for answer in answers.chunks(STEP).take_while(|_| Instant::now() < end) {
            client.expect(answer);
            // The reader's pace.
            thread::sleep(PAUSE);
        }
        client.half_close();
    });
}

#[test]
#[ignore = "takes some 4 s; .ci/run runs it"]
fn a_silent_client_with_pending_output_is_not_ended_by_the_idle_time_out() {
    let _alone = alone();
    let flood = numbered_lines(32 << 20);
    let server = Process::okloop(&["--idle-timeout", "1", "--write-timeout", "0"]);
    let mut client = Client::greeted(server.port());
    let sent = client.send_until_full(&flood);
    client.half_close();
    // Longer than the idle time-out.
    thread::sleep(Duration::from_millis(1500));
    chunks_of(&flood[..sent], &client.read_to_end());
}

/// One batch does not hold them all.
#[test]
#[ignore = "takes some 5 s; .ci/run runs it"]
fn clients_that_sent_while_the_server_was_stopped_are_not_ended_as_idle() {
    const TIMEOUT: Duration = Duration::from_secs(4);
    let _alone = alone();
    let server = Process::okloop(&["--idle-timeout", "4"]);
    let mut clients = crowd(3 * EVENTS, server.port());
    eventually("the loop waits", || Vitals::of(&server).is_asleep());
    while_stopped(&server, || {
        for client in &mut clients {
            client.send(b"hello");
        }
        thread::sleep(TIMEOUT);
    });
    for client in &mut clients {
        client.expect(b"OK...hello");
    }
}

#[test]
#[ignore = "takes some 4 s; .ci/run runs it"]
fn a_client_that_read_while_the_server_was_stopped_is_not_ended_by_the_write_time_out() {
    const TIMEOUT: Duration = Duration::from_secs(1);
    let _alone = alone();
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
fn a_client_that_ended_while_a_draining_server_was_stopped_is_drained() {
    let _alone = alone();
    // The server reads a client that has just come for one second more, and waits then for its end.
    let server = Process::okloop(&["--drain-timeout", "1.8"]);
    let mut client = Client::greeted(server.port());
    server.signal(Signal::SIGTERM);
    assert_eq!(client.read_to_end(), b"");
    // The stop then interrupts `poll`.
    eventually("the loop waits", || Vitals::of(&server).is_asleep());
    while_stopped(&server, || {
        client.half_close();
        thread::sleep(Duration::from_secs(1));
    });
    assert_eq!(server.finish().stats().closed(Reason::Drained), 1);
}

#[test]
fn an_idle_session_lives_for_ever_by_default() {
    let _alone = alone();
    let (default, with_time_out) = (Process::okloop(&[]), Process::okloop(&["--idle-timeout", "1"]));
    let mut kept = Client::greeted(default.port());
    let mut ended = Client::greeted(with_time_out.port());
    assert_eq!(ended.read_to_end(), b"");
    kept.ask(b"still there?");
}

/// The loop is busy four fifths of the time, so most deadlines are late by some milliseconds. If each one counted from the
/// turn before, all these would add up.
#[test]
fn a_line_each_fifty_milliseconds_does_not_drift() {
    const PERIOD: Duration = Duration::from_millis(50);
    const LINES: u32 = 24;
    let _alone = alone();
    let busy = || thread::sleep(Duration::from_millis(8));
    let server = Embedded::run_by(bind(loopback()), move |server| {
        server.run_with_tick(|_| Clock::new(PERIOD), Duration::from_millis(10), busy)
    });
    let mut client = Client::connect(server.port());
    let start = Instant::now();
    let late: Vec<Duration> = (1..=LINES)
        .map(|number| {
            client.expect(b"tick\n");
            start.elapsed().saturating_sub(PERIOD * number)
        })
        .collect();
    let (first, last) = late.split_at(late.len() / 2);
    let drift = last.iter().min().expect("twelve").saturating_sub(*first.iter().min().expect("twelve"));
    assert!(drift < Duration::from_millis(20), "the lines are later and later: {late:?}");
}

/// A time-out that started at `start` or a moment later is due now, and not much too late.
fn assert_due(start: Instant, timeout: Duration) {
    // The server's clock may stand a moment before `start`: the loop reads it once an iteration.
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
