//! Sessions that panic, and a standard error that nobody reads.

use std::collections::HashSet;
use std::env;
use std::io::{self, ErrorKind, Read, Write};
use std::mem;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use log::{LevelFilter, Log, Metadata, Record};
use okloop::config::MOST_CONNECTING;
use okloop::{
    AtDeadline, Buffer, Config, EndOfInput, Ending, Origin, Reason, Session, Sizes, Step, Timer, log_panics,
};
use socket2::{Domain, Socket, Type};

use crate::harness::{Client, Embedded, Process, bind, eventually, loopback};

/// The child process of the first test has this variable.
const CHILD: &str = "OKLOOP_SESSIONS_THAT_PANIC";

/// A backtrace has some 2 KB here, and a pipe holds 64 KiB.
#[test]
fn sessions_that_panic_stop_no_other_although_nobody_reads_standard_error() {
    let mut command = Command::new(env::current_exe().expect("this test runs"));
    let command = command
        .args(["--exact", "panics::the_server_of_the_first_test", "--ignored", "--nocapture"])
        .env(CHILD, "1")
        .env("RUST_BACKTRACE", "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("this test runs");
    let unread = child.stderr.take();
    let server = Process::from(child);
    let mut other = Client::connect(server.port());
    for number in 0..2_000 {
        let mut client = Client::connect(server.port());
        client.send(b"panic");
        wait_for_end(&client);
        let request = format!("after {number}").into_bytes();
        other.send(&request);
        other.expect(&request);
    }
    let line = server.line_with("its session panicked");
    assert!(line.contains("tests/it/panics.rs:") && line.ends_with(": the test's own mistake"), "{line}");
    drop(unread);
}

/// A program with sessions that panic.
#[test]
#[ignore = "the child process of another test"]
fn the_server_of_the_first_test() {
    if env::var_os(CHILD).is_none() {
        return;
    }
    log::set_logger(&StandardOutput).expect("the process has no other");
    log::set_max_level(LevelFilter::Error);
    log_panics();
    let server = bind(loopback());
    println!("\nSocket now listening on {}", server.local_addr().expect("it is bound"));
    let _ = server.run(|_| Fragile { method: "answer" });
}

struct StandardOutput;

impl Log for StandardOutput {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        println!("{}", record.args());
    }

    fn flush(&self) {}
}

#[test]
fn a_panic_in_any_method_ends_its_session_alone() {
    log_panics();
    for method in METHODS {
        let (mut is_first, numbers) = (true, Arc::new(Mutex::new(HashSet::new())));
        let seen = Arc::clone(&numbers);
        let server = Embedded::run(bind(loopback()), move |client| {
            seen.lock().expect("no holder of the lock panics").insert(client.waker.number());
            if mem::take(&mut is_first) {
                return Fragile { method: "none" };
            }
            if method == "ending" {
                client.waker.end();
            }
            Fragile::new(method)
        });
        let mut other = Client::connect(server.port());
        let mut ask = || {
            other.send(b"hello");
            other.expect(b"hello");
        };
        ask();
        for _ in 0..3 {
            let client = Client::connect(server.port());
            // These fail if the session has ended already.
            let _ = client.stream().write_all(b"panic");
            if !["ending", "deadline"].contains(&method) {
                let _ = client.stream().shutdown(Shutdown::Write);
            }
            wait_for_end(&client);
            ask();
        }
        eventually("all are removed", || server.stats().open == 1);
        ask();
        drop(other);
        let (ending, stats) = server.stop();
        // These have ended in order before they panic, and this one never happens.
        let expected = if ["closed", "drop", "connect_failed"].contains(&method) { 0 } else { 3 };
        let panics = stats.closed(Reason::ProtocolError);
        assert_eq!((ending, panics), (Ending::Drained, expected), "{method}: {stats}");
        // Otherwise a wake of a session that has ended would reach the next one.
        let different = numbers.lock().expect("no holder of the lock panics").len();
        assert_eq!(different, 4, "{method}: each session has a number of its own");
    }
}

#[test]
fn a_panic_of_an_outgoing_session_ends_it_alone() {
    log_panics();
    // A connection that is refused, and one that cannot even be begun: the server is full.
    let nobody = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a descriptor is left");
    nobody.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a port is free");
    let address = nobody.local_addr().expect("it is bound").as_socket().expect("it is an IP address");
    for (method, max_connections) in METHODS.into_iter().flat_map(|method| [(method, 10), (method, 1)]) {
        let server = bind(Config { max_connections, ..loopback() });
        let handle = server.handle();
        let server = Embedded::run(server, move |client| match client.origin {
            Origin::Outgoing(_) => Fragile::new(method),
            _ => Fragile { method: "none" },
        });
        let mut other = Client::connect(server.port());
        let mut ask = || {
            other.send(b"hello");
            other.expect(b"hello");
        };
        ask();
        for tag in 0..3 {
            handle.connect(address, tag).expect("few are asked for");
        }
        eventually("all have ended", || {
            let stats = server.stats();
            stats.closed(Reason::ConnectFailed) + stats.closed(Reason::ProtocolError) == 3
        });
        ask();
        drop(other);
        assert_eq!(server.stop().0, Ending::Drained, "{method}");
    }
}

/// More connections than may be under way at one time, each of a session that ends before it connects.
#[test]
fn outgoing_sessions_that_panic_take_no_room_from_the_next_ones() {
    log_panics();
    let target = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    target.set_nonblocking(true).expect("a socket has this mode");
    let address = target.local_addr().expect("it is bound");
    for method in ["new", "sizes"] {
        let server = bind(loopback());
        let handle = server.handle();
        let server = Embedded::run(server, move |_| Fragile::new(method));
        let all = MOST_CONNECTING as u64 + 10;
        for tag in 0..all {
            eventually("few are asked for", || handle.connect(address, tag).is_ok());
            // The accept queue of the target has no room for all.
            eventually("the server connects", || target.accept().is_ok());
        }
        eventually("all have ended", || server.stats().closed(Reason::ProtocolError) == all);
    }
}

/// Reads up to the end of the connection, which may be a reset: the session's end left input unread.
fn wait_for_end(client: &Client) {
    let result = client.stream().read_to_end(&mut Vec::new());
    let is_end = result.as_ref().map_or_else(|error| error.kind() == ErrorKind::ConnectionReset, |_| true);
    assert!(is_end, "{result:?}");
}

/// What may panic.
const METHODS: [&str; 12] = [
    "new",
    "sizes",
    "is_proxied",
    "connect_failed",
    "greet",
    "answer",
    "end_of_input",
    "ending",
    "timer",
    "deadline",
    "closed",
    "drop",
];

/// A session that repeats what it gets, and panics in one of its methods.
struct Fragile {
    method: &'static str,
}

impl Fragile {
    fn new(method: &'static str) -> Self {
        assert!(method != "new", "the test's own mistake");
        Self { method }
    }

    fn enter(&self, method: &str) {
        assert!(self.method != method, "the test's own mistake");
    }
}

impl Session for Fragile {
    fn sizes(&mut self) -> Sizes {
        self.enter("sizes");
        Sizes::default()
    }

    fn is_proxied(&mut self) -> bool {
        self.enter("is_proxied");
        false
    }

    fn connect_failed(&mut self, _: &io::Error) {
        self.enter("connect_failed");
    }

    fn greet(&mut self, _: &mut Buffer) {
        self.enter("greet");
    }

    fn answer(&mut self, input: &mut [u8], output: &mut Buffer) -> Step {
        if input.starts_with(b"panic") {
            self.enter("answer");
        }
        output.push(input);
        Step::Consumed(input.len())
    }

    fn end_of_input(&mut self, _: EndOfInput) {
        self.enter("end_of_input");
    }

    fn ending(&mut self, _: Reason, _: &mut Buffer) {
        self.enter("ending");
    }

    fn closed(&mut self, _: Reason) {
        self.enter("closed");
    }

    fn timer(&mut self) -> Timer {
        self.enter("timer");
        if self.method == "deadline" { Timer::Start(Duration::from_millis(1)) } else { Timer::Keep }
    }

    fn deadline(&mut self) -> AtDeadline {
        self.enter("deadline");
        AtDeadline::GoOn
    }
}

impl Drop for Fragile {
    fn drop(&mut self) {
        self.enter("drop");
    }
}
