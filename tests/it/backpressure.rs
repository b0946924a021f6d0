//! Clients that send much and read little: what they cost, and that every byte is answered when they read.

use std::thread;

use okloop::config::{HIGH_WATER, INPUT_BUFFER, SPARE_BUFFERS};
use okloop::protocols::PREFIX;

use crate::harness::{Client, Process, chunks_of, crowd, eventually, numbered_lines};
use crate::vitals::{Vitals, while_stopped};

/// The most memory of a session (bytes): both buffers, and the pages where each begins and ends.
const BOUND: u64 = (INPUT_BUFFER + HIGH_WATER + PREFIX.len() + INPUT_BUFFER + 8192) as u64;
/// The spare buffers (bytes).
const KEPT: u64 = SPARE_BUFFERS as u64 * BOUND;
/// What else may grow: tables, the log (bytes).
const SLACK: u64 = 1 << 20;

#[test]
fn slow_readers_cost_a_bounded_amount_and_delay_no_other() {
    const CLIENTS: u64 = 40;
    let server = Process::okloop(&[]);
    let port = server.port();
    let mut witness = Client::greeted(port);
    let vitals = Vitals::of(&server);
    let before = vitals.resident_memory();

    let flood = vec![b'x'; 64 << 20];
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| Client::greeted(port)).collect();
    thread::scope(|scope| {
        for client in &mut clients {
            scope.spawn(|| client.send_until_full(&flood));
        }
    });
    witness.ask(b"still there?");
    let grown = vitals.resident_memory().saturating_sub(before);
    assert!(grown < CLIENTS * BOUND + SLACK, "{grown} bytes more");

    drop(clients);
    eventually("their memory is free again", || vitals.resident_memory() < before + KEPT + SLACK);
    witness.ask(b"still there?");
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
    eventually("everything is read", || server.stats().bytes_in == CLIENTS * 3);
    let grown = vitals.resident_memory().saturating_sub(before);
    assert!(grown < CLIENTS * 2 * PAGE + SLACK, "{grown} bytes more");
    for client in &mut clients {
        client.send(b"f\n");
        client.expect(b"OK...half\n");
    }
    eventually("the pages are free again", || vitals.resident_memory() < before + KEPT + SLACK);
}

/// All input is there with one event, and no other event follows.
#[test]
fn input_beyond_the_read_budget_is_answered_although_no_event_follows() {
    let server = Process::okloop(&["--framing", "lines"]);
    for kibibytes in [64, 65, 100, 200] {
        let mut client = Client::greeted(server.port());
        let lines = lines(kibibytes);
        while_stopped(&server, || client.send(&lines));
        client.expect(&answers(&lines));
    }
}

/// The trace says when the client's socket is full. Until then the server reads each message before the client sends the
/// next one: more lines than the log's queue holds would be dropped.
#[test]
fn pending_output_is_delivered_after_a_half_close() {
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

/// `count` numbered lines of 1024 bytes.
fn lines(count: usize) -> Vec<u8> {
    (0..count).flat_map(|number| format!("{number:>1023}\n").into_bytes()).collect()
}

/// The answers to `lines`.
fn answers(lines: &[u8]) -> Vec<u8> {
    lines.split_inclusive(|&byte| byte == b'\n').flat_map(|line| [PREFIX, line].concat()).collect()
}
