//! What the loops promise beyond a conversation, each from the rung on that teaches it.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::thread;
use std::time::{Duration, Instant};

use okloop::BANNER;
use rlimit::Resource;

use super::with_few_descriptors;
use crate::harness::{Client, Process, chunks_of, eventually, numbered_lines};
use crate::vitals::{Vitals, while_stopped};

/// How long a silent client of `loop_deadlines` may stay in these tests.
const TIMEOUT: Duration = Duration::from_secs(1);

#[test]
fn a_silent_client_costs_a_loop_no_processor_time() {
    for name in ["poll_all", "tiny_event_loop", "loop_backpressure", "loop_fair", "loop_deadlines"] {
        let server = Process::start(name, &["0"]);
        let port = server.port();
        let mut client = Client::greeted(port);
        let _slow = slow_reader(port);
        let busy = busy_time_in_half_a_second(&server);
        assert!(busy < Duration::from_millis(50), "{name} was busy for {busy:?}");
        client.ask(b"still there?");
    }
}

#[test]
fn clients_that_never_read_cost_a_bounded_amount_of_memory() {
    for name in ["poll_all", "tiny_event_loop", "loop_backpressure", "loop_fair", "loop_deadlines"] {
        let server = Process::start(name, &["0"]);
        let port = server.port();
        let before = Vitals::of(&server).resident_memory();
        let slow: Vec<Client> = (0..4).map(|_| slow_reader(port)).collect();
        let grown = Vitals::of(&server).resident_memory().saturating_sub(before);
        assert!(grown < 2 << 20, "{name} holds {grown} bytes more for {} clients", slow.len());
    }
}

#[test]
fn from_loop_backpressure_on_answers_are_gathered_in_large_writes() {
    for name in ["loop_backpressure", "loop_fair", "loop_deadlines"] {
        let server = Process::start(name, &["0"]);
        let mut client = Client::greeted(server.port());
        let message = numbered_lines(40 * 1024);
        // All 40 chunks are there when the turn begins, and the first segment is the first write.
        while_stopped(&server, || client.send(&message));
        let mut answers = vec![0; 1 << 20];
        let count = client.stream().read(&mut answers).expect("answers come");
        let chunk_and_prefix = 1029;
        assert!(count > 2 * chunk_and_prefix, "{name}: the first read returned {count} bytes");
        answers.truncate(count);
        client.half_close();
        answers.extend(client.read_to_end());
        chunks_of(&message, &answers);
    }
}

/// Measured beside two floods: 1 to 5 ms. A loop that serves a flood for as long as it flows takes 100 ms and more.
#[test]
fn fair_loops_answer_others_promptly_beside_floods() {
    for name in ["poll_all", "loop_fair", "loop_deadlines"] {
        let server = Process::start(name, &["0"]);
        let port = server.port();
        let mut client = Client::greeted(port);
        let floods = [Flood::start(port), Flood::start(port)];
        let mut times: Vec<Duration> = (0..100)
            .map(|_| {
                let start = Instant::now();
                client.ask(b"a few words");
                start.elapsed()
            })
            .collect();
        times.sort();
        assert!(times[90] < Duration::from_millis(50), "{name}: {:?} at the 90th percentile", times[90]);
        drop(floods);
    }
}

#[test]
fn a_crowd_beyond_the_accept_quota_is_let_in_without_another_event() {
    for name in ["loop_fair", "loop_deadlines"] {
        let server = Process::start(name, &["0"]);
        let port = server.port();
        let crowd: Vec<Client> = while_stopped(&server, || (0..200).map(|_| Client::connect(port)).collect());
        for mut client in crowd {
            client.expect(BANNER);
            client.ask(b"hello");
        }
    }
}

#[test]
fn more_than_one_read_budget_is_answered_without_another_event() {
    for name in ["loop_fair", "loop_deadlines"] {
        let server = Process::start(name, &["0"]);
        let mut client = Client::greeted(server.port());
        let message = numbered_lines(300 * 1024);
        while_stopped(&server, || client.send(&message));
        let mut answers = Vec::new();
        while answers.len() < message.len() + 5 * message.len().div_ceil(1024) {
            let mut some = vec![0; 1 << 16];
            let count = client.stream().read(&mut some).expect("answers come");
            answers.extend(&some[..count]);
        }
        chunks_of(&message, &answers);
    }
}

#[test]
fn while_descriptors_are_lacking_a_fair_loop_does_not_spin() {
    for name in ["loop_fair", "loop_deadlines"] {
        let server = with_few_descriptors(name);
        let port = server.port();
        let _clients: Vec<Client> = (0..20).map(|_| Client::connect(port)).collect();
        server.complaint_with("No session: Too many open files");
        let busy = busy_time_in_half_a_second(&server);
        assert!(busy < Duration::from_millis(50), "{name} was busy for {busy:?}");
    }
}

/// `loop_fair` waits for the end of a session, which does not come here.
#[test]
fn loop_deadlines_tries_to_accept_again_though_no_session_ends() {
    let server = with_few_descriptors("loop_deadlines");
    let port = server.port();
    let clients: Vec<Client> = (0..16).map(|_| Client::connect(port)).collect();
    server.complaint_with("No session: Too many open files");
    let pid = i32::try_from(server.id()).expect("a process id fits");
    rlimit::prlimit(pid, Resource::NOFILE, Some((64, 64)), None).expect("the child is ours to limit");
    for mut client in clients {
        client.expect(BANNER);
        client.ask(b"at last");
    }
}

#[test]
fn loop_deadlines_ends_silent_clients_and_keeps_the_others() {
    let server = Process::start("loop_deadlines", &["0", "1"]);
    let port = server.port();
    let mut talking = Client::greeted(port);
    let start = Instant::now();
    let mut silent: Vec<Client> = (0..10).map(|_| Client::greeted(port)).collect();
    while start.elapsed() < 2 * TIMEOUT {
        talking.ask(b"I am here");
        thread::sleep(TIMEOUT / 5);
    }
    for client in &mut silent {
        assert_eq!(client.read_to_end(), b"");
    }
    talking.ask(b"still here");
    let mut later = Client::greeted(port);
    later.ask(b"a freed key serves the next client");
}

#[test]
fn loop_deadlines_ends_a_client_that_takes_no_answers() {
    let server = Process::start("loop_deadlines", &["0", "1"]);
    let port = server.port();
    let before = Vitals::of(&server).open_files();
    let client = Client::greeted(port);
    let input = client.split();
    // Writes until the server resets the connection.
    let sender = thread::spawn(move || while input.stream().write_all(&[b'x'; 1 << 16]).is_ok() {});
    eventually("its socket is closed", || Vitals::of(&server).open_files() == before);
    sender.join().expect("a failed write ends the thread");
}

#[test]
fn loop_deadlines_ends_no_client_that_spoke_while_the_server_was_stopped() {
    let server = Process::start("loop_deadlines", &["0", "1"]);
    let port = server.port();
    let mut clients: Vec<Client> = (0..20).map(|_| Client::greeted(port)).collect();
    while_stopped(&server, || {
        for client in &mut clients {
            client.send(b"hello");
        }
        thread::sleep(TIMEOUT + TIMEOUT / 2);
    });
    for client in &mut clients {
        client.expect(b"OK...hello");
    }
}

/// A client that has sent until the server takes no more, because nothing reads the answers.
fn slow_reader(port: u16) -> Client {
    let mut client = Client::greeted(port);
    client.send_until_full(&vec![b'x'; 64 << 20]);
    client
}

/// How long the process runs on a processor in half a second in which it has nothing to do.
fn busy_time_in_half_a_second(server: &Process) -> Duration {
    let vitals = Vitals::of(server);
    let before = vitals.processor_time();
    thread::sleep(Duration::from_millis(500));
    vitals.processor_time().saturating_sub(before)
}

/// A client that sends as fast as it can and reads the answers as fast, until it is dropped.
struct Flood(Client);

impl Flood {
    fn start(port: u16) -> Self {
        let client = Client::greeted(port);
        let (input, output) = (client.split(), client.split());
        let block = vec![b'x'; 1 << 16];
        thread::spawn(move || while input.stream().write_all(&block).is_ok() {});
        let mut answers = vec![0; 1 << 16];
        thread::spawn(move || while output.stream().read(&mut answers).is_ok_and(|count| count > 0) {});
        Self(client)
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        // Both threads end by it. If it fails, the connection is gone and they have ended.
        let _ = self.0.stream().shutdown(Shutdown::Both);
    }
}
