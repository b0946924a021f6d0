//! What the terminal shows: the tutorial's lines, and more of the loop with each level.

use std::net::TcpListener;
use std::process::Command;

use nix::sys::signal::Signal;
use okloop::Reason;
use okloop::protocols::{BANNER, PREFIX};

use crate::harness::{Client, Finished, Process, binary};

#[test]
fn level_info_tells_the_tutorials_lines_word_for_word() {
    let server = start(&[]);
    let client = Client::greeted(server.port());
    let connected = format!("Connected with {}", client.address());
    let last = server.line_with(&connected);
    assert!(last.ends_with(&connected), "{last}");

    let log = String::from_utf8(server.stdout()).expect("the log is text");
    let lines: Vec<(&str, &str)> = log.lines().map(level_and_text).collect();
    assert!(lines[0].1.starts_with("Limits: "), "{}", lines[0].1);
    let listening = format!("Socket now listening on 127.0.0.1:{}", server.port());
    let tutorial = ["Socket created", "Socket bind complete", &listening, &connected];
    assert_eq!(lines[1..], tutorial.map(|text| ("INFO", text)));
}

#[test]
fn level_debug_tells_why_each_session_ended() {
    let server = start(&["--log-level", "debug", "--max-connections", "1"]);
    let mut client = Client::greeted(server.port());
    let mut refused = Client::connect(server.port());
    let refused_address = refused.address();
    refused.half_close();
    refused.read_to_end();
    server.line_with(&format!("{refused_address} closed: refused"));

    let address = client.address();
    client.half_close();
    client.read_to_end();
    server.line_with(&format!("{address} closed: finished"));

    let client = Client::greeted(server.port());
    let address = client.address();
    client.reset();
    server.line_with(&format!("{address} closed: reset"));
}

#[test]
fn level_trace_tells_each_turn_of_the_loop() {
    let server = start(&["--log-level", "trace"]);
    let mut client = Client::greeted(server.port());
    let address = client.address();
    client.ask(b"hello");
    server.line_with("poll: 1 ready, ");
    server.line_with("listener: ready");
    server.line_with("listener: interest READABLE");
    server.line_with(&format!("{address}: write {} bytes", BANNER.len()));
    server.line_with(&format!("token 0, {address}: interest READABLE | PRIORITY"));
    server.line_with(&format!("token 0, {address}: Readiness {{ readable: UntilShort"));
    server.line_with(&format!("{address}: read 5 bytes"));
    server.line_with(&format!("{address}: write 10 bytes"));

    // A drain reads until nothing is there.
    server.signal(Signal::SIGTERM);
    server.line_with(&format!("{address}: read would block"));
}

#[test]
fn the_environment_gives_a_level_and_the_option_goes_before_it() {
    let log = log_of_a_session(Some("debug"), &[]);
    assert!(has(&log, "DEBUG"));
    for variable in [None, Some("")] {
        let log = log_of_a_session(variable, &[]);
        assert!(has(&log, "Connected with") && !has(&log, "DEBUG"));
    }
    let log = log_of_a_session(Some("trace"), &["--log-level", "info"]);
    assert!(has(&log, "Connected with") && !has(&log, "DEBUG"));
}

#[test]
fn level_off_leaves_only_the_complaint_of_a_failed_start() {
    let busy = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
    let port = busy.local_addr().expect("a bound socket has an address").port().to_string();
    let finished =
        Process::start("okloop", &["--host", "127.0.0.1", "--port", &port, "--log-level", "off"]).finish();
    assert_eq!((finished.status, &finished.stdout[..]), (Some(1), &b""[..]));
    assert_eq!(finished.stderr.lines().count(), 1, "{}", finished.stderr);
}

#[test]
fn sigusr1_and_the_exit_tell_the_counters() {
    let server = start(&[]);
    let mut client = Client::greeted(server.port());
    client.ask(b"hello");
    let counters = server.stats();
    assert_eq!((counters.open, counters.peak, counters.accepted), (1, 1, 1));
    assert_eq!((counters.bytes_in, counters.bytes_out), (5, (BANNER.len() + PREFIX.len() + 5) as u64));

    client.ask(b"still there?");
    client.half_close();
    client.read_to_end();
    let counters = stop(server).stats();
    assert_eq!((counters.open, counters.peak, counters.closed(Reason::Finished)), (0, 1, 1));
}

fn start(arguments: &[&str]) -> Process {
    Process::start("okloop", &[&["--host", "127.0.0.1", "--port", "0"], arguments].concat())
}

fn stop(server: Process) -> Finished {
    server.signal(Signal::SIGTERM);
    let finished = server.finish();
    assert_eq!((finished.status, &finished.stderr[..]), (Some(0), ""));
    finished
}

/// All that a server logs in whose environment `RUST_LOG` is `variable`, while one client comes and goes.
fn log_of_a_session(variable: Option<&str>, arguments: &[&str]) -> Vec<u8> {
    let mut command = Command::new(binary("okloop"));
    command.args(["--host", "127.0.0.1", "--port", "0"]).args(arguments).env_remove("RUST_LOG");
    if let Some(level) = variable {
        command.env("RUST_LOG", level);
    }
    let server = Process::spawn(&mut command);
    let mut client = Client::greeted(server.port());
    client.half_close();
    client.read_to_end();
    stop(server).stdout
}

/// A line's level and its text, without the time and the module.
fn level_and_text(line: &str) -> (&str, &str) {
    let (head, text) = line.split_once("] ").unwrap_or_else(|| panic!("no log line: {line:?}"));
    (head.split_whitespace().nth(1).unwrap_or_default(), text)
}

fn has(log: &[u8], text: &str) -> bool {
    String::from_utf8_lossy(log).contains(text)
}
