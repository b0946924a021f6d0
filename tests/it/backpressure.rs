//! Clients who send much and read little: what they cost, and that every byte is answered when they read after all.

use std::thread;

use okloop::Config;
use okloop::config::{INPUT_BUFFER, OUTPUT_BUFFER, SPARE_BUFFERS};
use okloop::protocol::{Framing, PREFIX};

use crate::harness::{Client, Embedded, Process, crowd, eventually, loopback};
use crate::vitals::{Report, Vitals, while_stopped};

/// What a session holds at the most: both buffers, and the page that each begins and ends in.
const BOUND: u64 = (INPUT_BUFFER + OUTPUT_BUFFER + 8192) as u64;
/// What the server keeps for the next.
const KEPT: u64 = SPARE_BUFFERS as u64 * BOUND;
/// What else may grow: tables, the log.
const SLACK: u64 = 1 << 20;

/// Measured: 95 KB each, the two buffers. Each of them has some 4 MB on the way, in the kernel's buffers.
#[test]
fn clients_who_never_read_cost_a_bounded_amount_and_stop_nobody() {
    const CLIENTS: u64 = 40;
    let server = Process::okloop(&[]);
    let port = server.port();
    let mut typist = Client::greeted(port);
    let vitals = Vitals::of(&server);
    let before = vitals.resident_memory();

    let much = vec![b'x'; 64 << 20];
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| Client::greeted(port)).collect();
    thread::scope(|scope| {
        for client in &mut clients {
            scope.spawn(|| client.send_until_full(&much));
        }
    });
    typist.ask(b"still there?");
    let grown = vitals.resident_memory().saturating_sub(before);
    assert!(grown < CLIENTS * BOUND + SLACK, "{grown} bytes more");

    drop(clients);
    eventually("what they have cost is free again", || vitals.resident_memory() < before + KEPT + SLACK);
    typist.ask(b"still there?");
}

#[test]
fn half_a_line_costs_a_page_and_not_a_whole_buffer() {
    const CLIENTS: u64 = 500;
    const PAGE: u64 = 4096;
    let server = Process::okloop(&["--framing", "lines"]);
    let mut clients = crowd(500, server.port());
    let vitals = Vitals::of(&server);
    let before = vitals.resident_memory();
    for client in &mut clients {
        client.send(b"hal");
    }
    eventually("all of it is read", || Report::of(&server).count("bytes in") == CLIENTS * 3);
    let grown = vitals.resident_memory().saturating_sub(before);
    assert!(grown < CLIENTS * 2 * PAGE + SLACK, "{grown} bytes more");
    for client in &mut clients {
        client.send(b"f\n");
        client.expect(b"OK...half\n");
    }
    eventually("the pages are free again", || vitals.resident_memory() < before + KEPT + SLACK);
}

#[test]
fn a_client_who_never_reads_is_closed_at_the_write_timeout() {
    let server = Process::okloop(&["--write-timeout", "1"]);
    let port = server.port();
    let (mut idle, mut typist, mut lazy) =
        (Client::greeted(port), Client::greeted(port), Client::greeted(port));
    lazy.send_until_full(&vec![b'x'; 64 << 20]);
    server.line_with(&format!("{} closed: write time-out", lazy.address()));
    for client in [&mut idle, &mut typist] {
        client.ask(b"nothing is owed to me");
    }
    let report = Report::of(&server);
    assert_eq!((report.count("open"), report.count("write time-out")), (2, 1));
}

/// More than one turn may read, all there in one event, and then silence: no event comes for the rest. Whoever stops
/// early must come back by himself.
#[test]
fn what_is_more_than_one_turns_share_is_answered_though_nothing_follows() {
    let server = Process::okloop(&["--framing", "lines"]);
    for kibibytes in [64, 65, 100, 200] {
        let mut client = Client::greeted(server.port());
        let lines = lines(kibibytes);
        while_stopped(&server, || client.send(&lines));
        client.expect(&answers(&lines));
    }
}

/// The server has stopped reading from a client who does not read, at its high water mark, when he begins to read, in
/// small sips: every byte that the kernel has taken is answered.
#[test]
fn reading_resumes_when_a_silent_client_takes_what_it_is_owed() {
    let server = Embedded::start(Config { framing: Framing::Lines, ..loopback() });
    let lines = lines(64 << 10);
    let mut client = Client::greeted(server.port());
    let taken = client.send_until_full(&lines);
    let whole_lines = &lines[..taken - taken % 1024];
    for sip in answers(whole_lines).chunks(4096) {
        client.expect(sip);
    }
}

/// So many numbered lines of 1,024 bytes.
fn lines(count: usize) -> Vec<u8> {
    (0..count).map(|number| format!("{number:>1023}\n").into_bytes()).collect::<Vec<_>>().concat()
}

/// What a server that frames by lines answers to `lines`.
fn answers(lines: &[u8]) -> Vec<u8> {
    lines
        .split_inclusive(|&byte| byte == b'\n')
        .map(|line| [PREFIX, line].concat())
        .collect::<Vec<_>>()
        .concat()
}
