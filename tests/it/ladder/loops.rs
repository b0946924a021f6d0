//! What the loops promise beyond a conversation, each from the rung on that teaches it.

use std::io::{ErrorKind, Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal::SIGTERM;
use okloop::config::EVENTS;
use okloop::protocols::BANNER;

use super::with_few_descriptors;
use crate::harness::{Client, Process, chunks_of, crowd, eventually, numbered_lines};
use crate::vitals::{Vitals, while_stopped};

/// After this time without a byte, the loop has done what it can.
const SETTLED: Duration = Duration::from_millis(300);

/// How long a silent client of `loop_deadlines` may stay in these tests.
const TIMEOUT: Duration = Duration::from_secs(1);

/// The loops that keep pending output without a limit.
const UNLIMITED: [&str; 2] = ["poll_all", "tiny_event_loop"];

/// The loops with a high water mark.
const LIMITED: [&str; 3] = ["loop_backpressure", "loop_fair", "loop_deadlines"];

#[test]
fn a_silent_client_costs_a_loop_no_processor_time() {
    at_the_same_time(UNLIMITED.into_iter().chain(LIMITED), |name| {
        let server = Process::start(name, &["0"]);
        let port = server.port();
        let mut client = Client::greeted(port);
        let mut slow = slow_reader(name, port);
        comes_to_rest(name, &server);
        client.ask(b"still there?");
        // A socket at the end of its input stays readable.
        slow.half_close();
        client.ask(b"and now?");
        comes_to_rest(name, &server);
    });
}

#[test]
fn clients_that_never_read_cost_a_bounded_amount_of_memory() {
    at_the_same_time(LIMITED, |name| {
        let grown = growth_with_slow_readers(name);
        assert!(grown < 2 << 20, "{name} holds {grown} bytes more");
    });
}

#[test]
fn a_loop_without_a_high_water_mark_keeps_every_answer_in_memory() {
    at_the_same_time(UNLIMITED, |name| {
        let grown = growth_with_slow_readers(name);
        assert!(grown > 16 << 20, "{name} holds only {grown} bytes more");
    });
}

/// How much the server's memory grows with four clients that send up to 16 MiB and read nothing.
fn growth_with_slow_readers(name: &str) -> u64 {
    let server = Process::start(name, &["0"]);
    let port = server.port();
    let before = Vitals::of(&server).resident_memory();
    let _slow: Vec<Client> = thread::scope(|scope| {
        let slow: Vec<_> = (0..4).map(|_| scope.spawn(|| slow_reader(name, port))).collect();
        slow.into_iter().map(|client| client.join().expect("a client does not panic")).collect()
    });
    Vitals::of(&server).resident_memory().saturating_sub(before)
}

#[test]
#[ignore = "takes some 3 s; .ci/run runs it"]
fn answers_that_are_pending_at_a_half_close_are_delivered() {
    with_output_pending(|mut client, message| {
        client.half_close();
        thread::sleep(SETTLED);
        chunks_of(message, &client.read_to_end());
    });
}

#[test]
#[ignore = "takes some 3 s; .ci/run runs it"]
fn pending_answers_are_delivered_without_more_input() {
    with_output_pending(|mut client, message| {
        thread::sleep(SETTLED);
        chunks_of(message, &client.receive_for(SETTLED));
    });
}

/// Gives `test` clients, each with a message that it has sent. Its answers are a little more than the kernel holds while
/// the client does not read, for each loop that reads on with output pending. The steps are smaller than `HIGH_WATER`, so
/// one of the messages is read whole while some of its answers are pending.
fn with_output_pending(test: impl Fn(Client, &[u8]) + Sync) {
    at_the_same_time(LIMITED, |name| {
        let server = Process::start(name, &["0"]);
        let mut slow = slow_reader(name, server.port());
        let held = while_stopped(&server, || slow.receive_for(SETTLED)).len() / 1029 * 1024;
        thread::scope(|scope| {
            for step in 0..6_usize {
                let (mut client, test) = (Client::greeted(server.port()), &test);
                scope.spawn(move || {
                    let message = numbered_lines(held + step * (32 << 10) - (64 << 10));
                    client.send(&message);
                    test(client, &message);
                });
            }
        });
    });
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
fn while_descriptors_are_lacking_a_server_that_tries_again_does_not_spin() {
    at_the_same_time(["thread_per_connection", "poll_all", "loop_fair", "loop_deadlines"], |name| {
        let start = Instant::now();
        let server = with_few_descriptors(name);
        let port = server.port();
        let _clients: Vec<Client> = (0..20).map(|_| Client::connect(port)).collect();
        server.complaint_with("No session: Too many open files");
        // Each of these makes the listener ready once more.
        let _more: Vec<Client> = (0..20).map(|_| Client::connect(port)).collect();
        let busy = busy_time_in(Duration::from_millis(500), &server);
        assert!(busy < Duration::from_millis(50), "{name} was busy for {busy:?}");

        server.signal(SIGTERM);
        let complaints = server.finish().stderr.lines().count();
        // The servers pause for at least 100 ms. On a busy machine one that spins is seen by its complaints alone.
        let most = 1 + start.elapsed().as_millis() / 100;
        assert!(complaints as u128 <= most, "{name} has complained {complaints} times, not {most}");
    });
}

/// `loop_fair` waits for the end of a session, which does not come here. Only Linux sets the limits of another process.
#[cfg(target_os = "linux")]
#[test]
fn loop_deadlines_tries_to_accept_again_though_no_session_ends() {
    let server = with_few_descriptors("loop_deadlines");
    let port = server.port();
    let mut clients: Vec<Client> = (0..16).map(|_| Client::connect(port)).collect();
    server.complaint_with("No session: Too many open files");
    let pid = i32::try_from(server.id()).expect("a process id fits");
    rlimit::prlimit(pid, rlimit::Resource::NOFILE, Some((64, 64)), None).expect("the child is ours to limit");
    // All of them stay, so no session ends.
    for client in &mut clients {
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
    while start.elapsed() < TIMEOUT * 3 / 2 {
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
    let client = Client::greeted(server.port());
    let block = vec![b'x'; 1 << 16];
    let error = loop {
        if let Err(error) = client.stream().write_all(&block) {
            break error;
        }
    };
    // The server has closed the socket. A write that waits in vain ends with `WouldBlock`.
    assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
}

/// More clients than one batch has room for: when the first batch is through, the others' events are in the kernel.
#[test]
#[ignore = "takes some 5 s; .ci/run runs it"]
fn loop_deadlines_ends_no_client_that_spoke_while_the_server_was_stopped() {
    let server = Process::start("loop_deadlines", &["0", "3"]);
    let mut clients = crowd(EVENTS + EVENTS / 2, server.port());
    while_stopped(&server, || {
        for client in &mut clients {
            client.send(b"hello");
        }
        thread::sleep(4 * TIMEOUT);
    });
    for client in &mut clients {
        client.expect(b"OK...hello");
    }
}

/// A client that reads nothing, and has sent 16 MiB, or less if the server stops reading before that.
fn slow_reader(name: &str, port: u16) -> Client {
    let mut client = Client::greeted(port);
    let message = vec![b'x'; 16 << 20];
    if UNLIMITED.contains(&name) {
        client.send(&message);
    } else {
        client.send_until_full(&message);
    }
    client
}

/// Tests each of these servers in a thread of its own: most of the time the tests wait.
fn at_the_same_time(names: impl IntoIterator<Item = &'static str>, test: impl Fn(&'static str) + Sync) {
    let test = &test;
    thread::scope(|scope| names.into_iter().for_each(|name| _ = scope.spawn(move || test(name))));
}

/// Waits until the server wants hardly any processor time. A server that spins never does so.
fn comes_to_rest(name: &str, server: &Process) {
    let vitals = Vitals::of(server);
    let wanted = || spent_in(Duration::from_millis(200), || vitals.wanted_processor_time());
    let rests = || wanted() < Duration::from_millis(20);
    eventually(&format!("{name} comes to rest"), rests);
}

/// How long the process runs on a processor in this time.
fn busy_time_in(time: Duration, server: &Process) -> Duration {
    let vitals = Vitals::of(server);
    spent_in(time, || vitals.processor_time())
}

/// How far a clock of the process goes on in this time.
fn spent_in(time: Duration, clock: impl Fn() -> Duration) -> Duration {
    let before = clock();
    thread::sleep(time);
    clock().saturating_sub(before)
}
