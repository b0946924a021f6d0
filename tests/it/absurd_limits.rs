//! What a container does to a server: it may open a billion files, has little memory, and is killed soon after its
//! SIGTERM.

use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal::SIGTERM;
use okloop::Reason;
use okloop::config::QUIET;

use crate::harness::{Client, Process, binary, crowd};
use crate::vitals::Vitals;

/// As many open files as Docker and Kubernetes often allow.
const BILLION: &str = "1073741816";

#[test]
fn a_billion_sessions_may_be_allowed_and_cost_nothing() {
    const CLIENTS: usize = 20;
    let start = Instant::now();
    let server = Process::okloop(&["--max-connections", BILLION]);
    let port = server.port();
    let started_in = start.elapsed();
    let clients = crowd(CLIENTS, port);
    let vitals = Vitals::of(&server);
    let (resident, most) = (vitals.resident_memory(), vitals.most_address_space());
    let stop = Instant::now();
    server.signal(SIGTERM);
    for mut client in clients {
        client.read_to_end();
    }
    let finished = server.finish();
    let stopped_in = stop.elapsed();

    assert_eq!((finished.status, finished.stats().closed(Reason::Drained)), (Some(0), CLIENTS as u64));
    assert!(resident < 16 << 20 && most < 1 << 30, "{resident} bytes are used, {most} reserved");
    // To look at a billion places takes seconds.
    let second = Duration::from_secs(1);
    let stops = QUIET + second;
    assert!(started_in < second && stopped_in < stops, "{started_in:?} to start, {stopped_in:?} to stop");
}

#[test]
fn a_server_with_little_memory_starts_serves_and_stops() {
    let script = "ulimit -v 60000; exec \"$0\" \"$@\"";
    let arguments = ["--host", "127.0.0.1", "--port", "0", "--max-connections", BILLION];
    let server = Process::spawn(
        Command::new("sh").args(["-c", script]).arg(binary("okloop")).args(arguments).env_remove("RUST_LOG"),
    );
    for client in &mut crowd(20, server.port()) {
        client.ask(b"hello");
    }
    server.stop();
}

/// `docker stop` waits for ten seconds, then kills.
#[test]
#[ignore = "takes some 8 s; .ci/run runs it"]
fn a_client_that_stays_does_not_outlast_the_patience_of_docker() {
    let server = Process::okloop(&[]);
    let stays = Client::greeted(server.port());
    let stop = Instant::now();
    let finished = server.stop();
    assert_eq!(finished.stats().closed(Reason::DrainTimeout), 1, "the counters are logged");
    assert!(stop.elapsed() < Duration::from_secs(10), "{:?}", stop.elapsed());
    drop(stays);
}
