//! System calls that fail, because strace makes them fail; and a server that makes no system call.
//!
//! strace counts the calls of one name. Some of them return an error, and the kernel does nothing. `when` says which:
//! `1..9+2` is every second one from the first to the ninth, `1+3` every third one.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal::SIGTERM;
use okloop::Reason;
use okloop::protocols::BANNER;

use crate::harness::{Client, DEADLINE, Process, binary, chunks_of, eventually, numbered_lines};
use crate::vitals::Vitals;

#[test]
#[ignore = "needs strace; .ci/run installs and runs it"]
fn an_accept_error_of_one_client_does_not_delay_the_next() {
    // EAGAIN here is false: a client waits. The listener is re-armed after it.
    for error in ["ECONNABORTED", "EINTR", "EPROTO", "EAGAIN"] {
        let traced = Traced::with_fault(&format!("accept4:error={error}:when=1..19+2"));
        for _ in 0..20 {
            Client::greeted(traced.port()).ask(b"hello");
        }
        traced.expect_faults(10);
        let stats = traced.server.stats();
        assert_eq!((stats.accepted, stats.accept_pauses), (20, 0), "{error}");
    }
}

#[test]
#[ignore = "needs strace; .ci/run installs and runs it"]
fn an_accept_error_of_one_client_does_not_pause_a_rung() {
    let errors = ["ECONNABORTED", "EHOSTUNREACH", "EINTR", "ENETDOWN", "ENETUNREACH", "EPERM"];
    for (name, errors) in
        [("thread_per_connection", &errors[..1]), ("loop_fair", &errors), ("loop_deadlines", &errors)]
    {
        for error in errors {
            let traced = Traced::rung_with_fault(name, &format!("accept4:error={error}:when=1..19+2"));
            for _ in 0..20 {
                Client::greeted(traced.port()).ask(b"hello");
            }
            traced.expect_faults(10);
            traced.server.signal(SIGTERM);
            assert_eq!(traced.server.finish().stderr, "", "{name} and {error}");
        }
    }
}

#[test]
#[ignore = "needs strace; .ci/run installs and runs it"]
fn a_rung_pauses_while_the_system_has_no_room() {
    for name in ["thread_per_connection", "poll_all", "loop_fair", "loop_deadlines"] {
        for error in ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"] {
            let traced = Traced::rung_with_fault(name, &format!("accept4:error={error}:when=3"));
            let mut inside = Client::greeted(traced.port());
            let waiting = [(); 2].map(|()| Client::connect(traced.port()));
            traced.server.complaint_with("No session: ");
            inside.ask(b"still there?");
            // loop_fair waits for the end of a session.
            drop(inside);
            for mut client in waiting {
                client.expect(BANNER);
                client.ask(b"at last");
            }
            traced.expect_faults(1);
        }
    }
}

#[test]
#[ignore = "needs strace; .ci/run installs and runs it"]
fn accepting_pauses_while_the_system_has_no_room() {
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
fn interrupted_calls_lose_nothing() {
    for fault in ["epoll_wait:error=EINTR", "recvfrom:error=EINTR", "sendto:error=EINTR"] {
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
        ("recvfrom:error=ECONNRESET:when=3..7+2", Reason::Reset),
        ("recvfrom:error=ENOMEM:when=3..7+2", Reason::Failed),
        ("sendto:error=EPIPE:when=3..7+2", Reason::Reset),
        ("sendto:error=ECONNRESET:when=3..7+2", Reason::Reset),
        // The first calls are made at the start.
        ("epoll_ctl:error=ENOMEM:when=6..10+2", Reason::Failed),
        ("epoll_ctl:error=ENOSPC:when=6..10+2", Reason::Failed),
    ] {
        let traced = Traced::with_fault(fault);
        let mut witness = Client::greeted(traced.port());
        let lost = (0..20).filter(|_| converse(traced.port()).is_err()).count();
        // A session that fails after its answer is no lost client.
        assert!(lost <= 3, "{lost} clients lost to {fault}");
        witness.ask(b"still there?");
        drop(witness);
        traced.expect_faults(3);
        eventually("all sessions have ended", || traced.server.stats().open == 0);
        let stats = traced.server.stats();
        assert_eq!((stats.accepted, stats.closed(reason)), (21, 3), "{fault}");
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
    let traced = Traced::okloop("idle", &[]);
    let _clients = answered(500, traced.port());
    let calls = || fs::metadata(&traced.trace).expect("strace writes it").len();
    eventually("the server waits", || unchanged(Duration::from_millis(200), calls));
    assert!(unchanged(Duration::from_secs(2), calls), "{}", traced.read().lines().last().unwrap_or_default());
}

/// The same as Linux counts it, without strace.
#[test]
fn an_idle_server_is_never_woken() {
    let server = Process::okloop(&[]);
    let _clients = answered(500, server.port());
    let sleeps = || Vitals::of(&server).sleeps();
    eventually("the server waits", || unchanged(Duration::from_millis(200), sleeps));
    assert!(unchanged(Duration::from_secs(1), sleeps));
}

/// Clients that were greeted, and had one answer.
fn answered(count: usize, port: u16) -> Vec<Client> {
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

/// A short conversation. It may fail.
fn converse(port: u16) -> io::Result<()> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(*DEADLINE))?;
    stream.read_exact(&mut [0; BANNER.len()])?;
    stream.write_all(b"hello")?;
    stream.read_exact(&mut [0; 10])
}

/// What strace is told to make some calls fail.
fn expressions(fault: &str) -> [String; 2] {
    let call = fault.split(':').next().unwrap_or_default();
    [format!("trace={call}"), format!("inject={fault}")]
}

/// A server under strace.
struct Traced {
    server: Process,
    trace: PathBuf,
}

impl Traced {
    /// okloop, some of whose calls fail: `call:error=NAME:when=WHICH`.
    fn with_fault(fault: &str) -> Self {
        Self::okloop(fault, &expressions(fault))
    }

    /// A rung of the ladder, some of whose calls fail.
    fn rung_with_fault(name: &str, fault: &str) -> Self {
        Self::start(&format!("{name}-{fault}"), &expressions(fault), &[name, "0"])
    }

    fn okloop(name: &str, expressions: &[String]) -> Self {
        Self::start(name, expressions, &["okloop", "--host", "127.0.0.1", "--port", "0"])
    }

    fn start(name: &str, expressions: &[String], server: &[&str]) -> Self {
        let trace = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.strace"));
        let mut command = Command::new("strace");
        // With -D the server is our child, and strace is the server's.
        command.args(["-D", "-f", "-qq", "-o"]).arg(&trace);
        command.args(expressions.iter().flat_map(|expression| ["-e", expression]));
        command.arg(binary(server[0])).args(&server[1..]).env_remove("RUST_LOG");
        Self { server: Process::spawn(&mut command), trace }
    }

    fn port(&self) -> u16 {
        self.server.port()
    }

    fn expect_faults(&self, least: usize) {
        eventually("the faults are injected", || self.read().matches("(INJECTED)").count() >= least);
    }

    fn read(&self) -> String {
        fs::read_to_string(&self.trace).expect("strace writes it")
    }
}
