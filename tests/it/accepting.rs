//! Accepting under pressure: no open files left, no place left, clients that are gone before their turn, a crowd.

use std::collections::VecDeque;
use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use okloop::config::REFUSAL_TIMEOUT;
use okloop::protocol::{BANNER, FULL};

use crate::harness::{Client, Process, allow_open_files, binary, eventually};
use crate::vitals::{Report, Vitals, while_stopped};

#[test]
fn without_open_files_left_nothing_spins_and_nobody_is_stranded() {
    let server = with_open_files(64, &["--max-connections", "1000"]);
    let mut clients = VecDeque::from(connect(200, server.port()));
    server.line_with("Accepting pauses");

    let vitals = Vitals::of(&server);
    let before = vitals.processor_time();
    thread::sleep(Duration::from_secs(1));
    let busy = vitals.processor_time().saturating_sub(before);
    assert!(
        busy < Duration::from_millis(50),
        "busy for {busy:?} of a second in which there is nothing to do"
    );

    let inside = usize::try_from(Report::of(&server).count("open")).expect("a few dozen");
    let waiting = clients.split_off(inside);
    let start = Instant::now();
    for mut client in waiting {
        drop(clients.pop_front());
        client.expect(BANNER);
        client.ask(b"at last");
        clients.push_back(client);
    }
    let took = start.elapsed();
    assert!(took < Duration::from_secs(30), "{took:?}: a place that is free waits for no timer");
    let report = Report::of(&server);
    assert_eq!((report.count("accepted"), report.count("refused")), (200, 0));
}

#[test]
fn over_the_cap_everybody_is_told_and_nobody_is_reset() {
    let server = with_open_files(64, &[]);
    let start = Instant::now();
    // All of them stay to the end. Those over the cap are more than the server keeps while they take their leave.
    let mut clients = connect(200, server.port());
    let limits = server.line_with("Limits: ");
    let room =
        limits.split(' ').rev().nth(1).and_then(|room| room.parse().ok()).expect("a number of connections");
    let (inside, outside) = clients.split_at_mut(room);
    for client in inside {
        client.expect(BANNER);
        client.ask(b"inside");
    }
    for client in outside {
        assert_eq!(client.read_to_end(), FULL);
    }
    let took = start.elapsed();
    assert!(took < 2 * REFUSAL_TIMEOUT, "{took:?}: refusing waits for nobody to leave");

    let report = Report::of(&server);
    assert_eq!((report.count("accepted"), report.count("refused")), (200, 200 - report.count("open")));
    assert_eq!(report.count("open"), room as u64);
    assert_eq!(report.count("accept pauses"), 0, "the open files in reserve are enough to refuse a crowd");

    drop(clients);
    eventually("the places are free again", || Report::of(&server).count("open") == 0);
    Client::greeted(server.port()).ask(b"welcome after all");
}

#[test]
fn a_client_that_resets_before_it_is_accepted_takes_nobody_with_it() {
    let server = Process::okloop(&[]);
    let port = server.port();
    let mut inside = Client::greeted(port);
    let mut between: Vec<Client> = while_stopped(&server, || {
        let knock = |_| {
            Client::connect(port).reset();
            Client::connect(port)
        };
        (0..20).map(knock).collect()
    });
    for client in &mut between {
        client.expect(BANNER);
        client.ask(b"well");
    }
    inside.ask(b"still there?");
    let report = Report::of(&server);
    assert_eq!((report.count("open"), report.count("reset"), report.count("failed")), (21, 20, 0));
}

#[test]
fn clients_that_reset_before_a_place_was_free_are_cleared_away_at_once() {
    let server = with_open_files(64, &["--max-connections", "1000", "--log-level", "debug"]);
    let mut clients = connect(80, server.port());
    server.line_with("Accepting pauses");
    let inside = usize::try_from(Report::of(&server).count("open")).expect("a few dozen");

    let last = clients.last().expect("there are 80").address();
    clients.drain(inside..).for_each(Client::reset);
    while_stopped(&server, || clients.truncate(inside - 30));
    // In one go, room is made for all who waited, and they are found gone. No event comes for them any more.
    server.line_with(&format!("{last} closed: reset"));
}

/// With 64 accepts a turn she has her answer some sixty times while the crowd is let in (measured), with fewer a turn
/// more often; if all 4,096 were accepted in one turn, it would be once or twice.
#[test]
fn while_a_crowd_is_let_in_a_typist_gets_her_answers() {
    allow_open_files();
    let server = Process::okloop(&[]);
    let port = server.port();
    let mut typist = Client::greeted(port);
    let mut crowd = while_stopped(&server, || connect(longest_backlog().min(4096), port));
    let mut last = crowd.pop().expect("there is a crowd");

    let let_in = AtomicBool::new(false);
    let answers = thread::scope(|scope| {
        let typing = scope.spawn(|| {
            let mut answers = 0;
            while !let_in.load(Ordering::Relaxed) {
                typist.ask(b"hello");
                answers += 1;
            }
            answers
        });
        last.expect(BANNER);
        let_in.store(true, Ordering::Relaxed);
        typing.join().expect("she was answered each time")
    });
    assert!(answers >= 8, "{answers} answers");
    for client in &mut crowd {
        client.expect(BANNER);
        client.ask(b"in");
    }
}

/// How many may wait to be accepted, whatever a server asks for.
fn longest_backlog() -> usize {
    let text = fs::read_to_string("/proc/sys/net/core/somaxconn").expect("Linux tells");
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
