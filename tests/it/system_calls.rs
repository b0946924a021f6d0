//! System calls that fail as they seldom do, because strace makes them, and no system call at all.
//!
//! strace counts the calls of a kind and lets some of them return an error without being carried out. `when` says which:
//! `1..9+2` is every second one from the first to the ninth, `1+3` every third to the end.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

use okloop::protocol::BANNER;

use crate::harness::{Client, DEADLINE, Process, binary, chunks_of, eventually, numbered_lines};
use crate::vitals::{Report, Vitals};

#[test]
#[ignore = "needs strace; .ci/run installs and runs it"]
fn accept_errors_of_one_client_keep_no_other_waiting() {
    // The last one the kernel would never return where it has just announced a client.
    for error in ["ECONNABORTED", "EINTR", "EPROTO", "EAGAIN"] {
        let traced = Traced::with_fault(&format!("accept4:error={error}:when=1..19+2"));
        for _ in 0..20 {
            Client::greeted(traced.port()).ask(b"hello");
        }
        traced.expect_faults(10);
        let report = Report::of(&traced.server);
        assert_eq!((report.count("accepted"), report.count("accept pauses")), (20, 0), "{error}");
    }
}

#[test]
#[ignore = "needs strace; .ci/run installs and runs it"]
fn accept_errors_of_the_system_are_waited_out() {
    for error in ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"] {
        let traced = Traced::with_fault(&format!("accept4:error={error}:when=2"));
        let mut inside = Client::greeted(traced.port());
        let waiting = Client::connect(traced.port());
        traced.server.line_with("Accepting pauses at 1 sessions");
        inside.ask(b"still there?");
        for mut client in [waiting, Client::connect(traced.port())] {
            client.expect(BANNER);
            client.ask(b"at last");
        }
        traced.expect_faults(1);
    }
}

#[test]
#[ignore = "needs strace; .ci/run installs and runs it"]
fn interruptions_and_calls_that_would_block_lose_nothing() {
    for fault in [
        "epoll_wait:error=EINTR",
        "recvfrom:error=EINTR",
        "recvfrom:error=EAGAIN",
        "sendto:error=EINTR",
        "sendto:error=EAGAIN",
    ] {
        let fault = format!("{fault}:when=1+3");
        let traced = Traced::with_fault(&fault);
        let payload = numbered_lines(500_000);
        thread::scope(|scope| {
            for _ in 0..5 {
                scope.spawn(|| {
                    let mut client = Client::greeted(traced.port());
                    for _ in 0..20 {
                        client.ask(b"hello");
                    }
                    chunks_of(&payload, &client.exchange(&payload));
                });
            }
        });
        traced.expect_faults(10);
    }
}

#[test]
#[ignore = "needs strace; .ci/run installs and runs it"]
fn an_error_of_one_sessions_socket_ends_that_session_and_no_other() {
    for (fault, reason) in [
        ("recvfrom:error=ECONNRESET:when=3..7+2", "reset"),
        ("recvfrom:error=ENOMEM:when=3..7+2", "failed"),
        ("sendto:error=EPIPE:when=3..7+2", "reset"),
        ("sendto:error=ECONNRESET:when=3..7+2", "reset"),
        // The first of them are made at the start.
        ("epoll_ctl:error=ENOMEM:when=6..10+2", "failed"),
        ("epoll_ctl:error=ENOSPC:when=6..10+2", "failed"),
    ] {
        let traced = Traced::with_fault(fault);
        let mut witness = Client::greeted(traced.port());
        let lost = (0..20).filter(|_| converse(traced.port()).is_err()).count();
        // What fails in a session that has had its answer is lost to nobody.
        assert!(lost <= 3, "{lost} clients lost to {fault}");
        witness.ask(b"still there?");
        drop(witness);
        traced.expect_faults(3);
        eventually("all are gone", || Report::of(&traced.server).count("open") == 0);
        let report = Report::of(&traced.server);
        assert_eq!((report.count(reason), report.closed()), (3, 21), "{fault}");
    }
}

#[test]
#[ignore = "needs strace; .ci/run installs and runs it"]
fn a_log_whose_thread_cannot_start_at_first_starts_it_with_a_later_line() {
    let traced = Traced::with_fault("clone3:error=EAGAIN:when=1");
    let complaint = traced.server.complaint_with("thread cannot start");
    assert!(complaint.contains("Resource temporarily unavailable"), "{complaint}");
    traced.expect_faults(1);
    traced.server.line_with("Limits: ");
    Client::greeted(traced.port()).ask(b"hello");
}

/// No tick, no timer, no look around: with nothing to do there is nothing done.
#[test]
#[ignore = "needs strace; .ci/run installs and runs it"]
fn an_idle_server_makes_no_system_call() {
    let traced = Traced::start("idle", &[]);
    let _clients = talkative(500, traced.port());
    let calls = || fs::metadata(&traced.trace).expect("strace writes it").len();
    eventually("the server rests", || unchanged(Duration::from_millis(200), calls));
    assert!(unchanged(Duration::from_secs(2), calls), "{}", traced.read().lines().last().unwrap_or_default());
}

/// The same by what Linux counts, for who has no strace.
#[test]
fn an_idle_server_is_never_woken() {
    let server = Process::okloop(&[]);
    let _clients = talkative(500, server.port());
    let sleeps = || Vitals::of(&server).sleeps();
    eventually("the server rests", || unchanged(Duration::from_millis(200), sleeps));
    assert!(unchanged(Duration::from_secs(1), sleeps));
}

fn talkative(count: usize, port: u16) -> Vec<Client> {
    let talk = |_| {
        let mut client = Client::greeted(port);
        client.ask(b"hello");
        client
    };
    (0..count).map(talk).collect()
}

fn unchanged(time: Duration, count: impl Fn() -> u64) -> bool {
    let before = count();
    thread::sleep(time);
    count() == before
}

/// A short conversation, which may fail.
fn converse(port: u16) -> io::Result<()> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.read_exact(&mut [0; BANNER.len()])?;
    stream.write_all(b"hello")?;
    stream.read_exact(&mut [0; 10])
}

/// A server whose system calls strace sees.
struct Traced {
    server: Process,
    trace: PathBuf,
}

impl Traced {
    /// Lets some calls fail: "call:error=NAME:when=WHICH".
    fn with_fault(fault: &str) -> Self {
        let call = fault.split(':').next().unwrap_or_default();
        Self::start(fault, &[&format!("trace={call}"), &format!("inject={fault}")])
    }

    fn start(name: &str, expressions: &[&str]) -> Self {
        let trace = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.strace"));
        let mut command = Command::new("strace");
        // With -D it is the server that is our child, and strace its own.
        command.args(["-D", "-f", "-qq", "-o"]).arg(&trace);
        command.args(expressions.iter().flat_map(|expression| ["-e", expression]));
        command.arg(binary("okloop")).args(["--host", "127.0.0.1", "--port", "0"]).env_remove("RUST_LOG");
        Self { server: Process::spawn(&mut command), trace }
    }

    fn port(&self) -> u16 {
        self.server.port()
    }

    fn expect_faults(&self, least: usize) {
        eventually("so many faults are injected", || self.read().matches("(INJECTED)").count() >= least);
    }

    fn read(&self) -> String {
        fs::read_to_string(&self.trace).expect("strace writes it")
    }
}
