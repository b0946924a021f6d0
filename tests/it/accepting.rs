//! Accepting under pressure: no open files left, clients that reset in the accept queue, a crowd.

use std::collections::VecDeque;
use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use okloop::protocols::BANNER;
use okloop::{Config, Reason};

use crate::alone;
use crate::harness::{Client, FULL, Process, allow_open_files, answers_until, binary, eventually};
use crate::vitals::{Vitals, while_stopped};

#[test]
fn without_open_files_the_loop_waits_and_every_queued_client_gets_the_next_free_place() {
    let _alone = alone();
    let server = with_open_files(64, &["--max-connections", "1000"]);
    let mut clients = VecDeque::from(connect(200, server.port()));
    server.line_with("Accepting pauses");

    let vitals = Vitals::of(&server);
    let before = vitals.processor_time();
    thread::sleep(Duration::from_secs(1));
    let busy = vitals.processor_time().saturating_sub(before);
    assert!(busy < Duration::from_millis(50), "busy for {busy:?} of a second without work");

    let inside = usize::try_from(server.stats().open).expect("a few dozen");
    let waiting = clients.split_off(inside);
    let start = Instant::now();
    for mut client in waiting {
        drop(clients.pop_front());
        client.expect(BANNER);
        client.ask(b"at last");
        clients.push_back(client);
    }
    let took = start.elapsed();
    assert!(took < Duration::from_secs(30), "{took:?}: a free place does not wait for a time-out");
    let stats = server.stats();
    assert_eq!((stats.accepted, stats.closed(Reason::Refused)), (200, 0));
}

#[test]
fn every_client_above_the_limit_gets_the_message_and_no_reset() {
    let _alone = alone();
    let server = with_open_files(64, &["--max-connections", "32"]);
    let start = Instant::now();
    // All of them stay. More are refused than may be refused at the same time.
    let mut clients = connect(200, server.port());
    let (inside, outside) = clients.split_at_mut(32);
    for client in inside {
        client.expect(BANNER);
        client.ask(b"inside");
    }
    for client in outside {
        assert_eq!(client.read_to_end(), FULL);
    }
    let took = start.elapsed();
    assert!(took < 2 * Config::default().linger_timeout, "{took:?}: a refusal waits for no other client");

    drop(clients);
    eventually("all sessions have ended", || server.stats().open == 0);
    Client::greeted(server.port()).ask(b"hello");
    let stats = server.stats();
    assert_eq!((stats.accepted, stats.closed(Reason::Refused)), (201, 168));
    assert_eq!(stats.accept_pauses, 0, "refusals do not use up the open files");
}

#[test]
fn a_client_that_resets_in_the_accept_queue_does_not_disturb_the_next() {
    let _alone = alone();
    let server = Process::okloop(&[]);
    let port = server.port();
    let mut inside = Client::greeted(port);
    let mut between: Vec<Client> = while_stopped(&server, || {
        let connect = |_| {
            Client::connect(port).reset();
            Client::connect(port)
        };
        (0..20).map(connect).collect()
    });
    for client in &mut between {
        client.expect(BANNER);
        client.ask(b"hello");
    }
    inside.ask(b"still there?");
    let stats = server.stats();
    assert_eq!((stats.open, stats.closed(Reason::Reset), stats.closed(Reason::Failed)), (21, 20, 0));
}

#[test]
fn clients_that_reset_while_accepting_pauses_are_removed_when_there_is_room() {
    let _alone = alone();
    let server = with_open_files(64, &["--max-connections", "1000", "--log-level", "debug"]);
    let mut clients = connect(80, server.port());
    server.line_with("Accepting pauses");
    let inside = usize::try_from(server.stats().open).expect("a few dozen");

    let last = clients.last().expect("there are 80").address();
    clients.drain(inside..).for_each(Client::reset);
    // There is room for all that waited, and no event comes for them.
    while_stopped(&server, || clients.truncate(inside - 30));
    server.line_with(&format!("{last} closed: reset"));
}

/// Measured: some sixty answers with 64 accepts an iteration. If one iteration accepted all, it would be one or two.
#[test]
fn a_client_gets_answers_while_a_crowd_is_accepted() {
    let _alone = alone();
    allow_open_files();
    let server = Process::okloop(&[]);
    let port = server.port();
    let mut active = Client::greeted(port);
    let mut crowd = while_stopped(&server, || connect(longest_backlog().min(4096), port));
    let mut last = crowd.pop().expect("there is a crowd");

    let answers = answers_until(&mut active, || last.expect(BANNER));
    assert!(answers >= 8, "{answers} answers");
    for client in &mut crowd {
        client.expect(BANNER);
        client.ask(b"hello");
    }
}

/// The longest accept queue that the system allows.
fn longest_backlog() -> usize {
    let text = fs::read_to_string("/proc/sys/net/core/somaxconn").expect("Linux has this file");
    text.trim().parse().expect("it is a number")
}

/// Starts the server with a limit of open files that it cannot raise.
fn with_open_files(limit: u32, arguments: &[&str]) -> Process {
    let script = format!("ulimit -n {limit}; exec \"$0\" --host 127.0.0.1 --port 0 \"$@\"");
    let shell = ["-c", &script];
    Process::spawn(
        Command::new("sh").args(shell).arg(binary("okloop")).args(arguments).env_remove("RUST_LOG"),
    )
}

fn connect(count: usize, port: u16) -> Vec<Client> {
    (0..count).map(|_| Client::connect(port)).collect()
}
