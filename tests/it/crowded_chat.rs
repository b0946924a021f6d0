//! The example `chat` with ten thousand sessions.

use std::fs;

use okloop::config::HIGH_WATER;

use crate::alone;
use crate::harness::{Client, Process, allow_open_files};

const GREETING: &[u8] = b"* Say something, or /nick NAME, /who, /quit\n";

/// The clients that never read.
const SILENT: usize = 100;
const CLIENTS: usize = 9_900;
/// Lines of some 1 KB: more than the buffers of a client that never reads hold.
const LINES: usize = 150;

#[test]
#[ignore = "takes some 8 s; .ci/run runs it"]
fn ten_thousand_sessions_chat_and_a_hundred_that_never_read_cost_a_limited_amount() {
    let _alone = alone();
    allow_open_files();
    let server = Process::start("chat", &["0"]);
    let port = server.port();
    let start = memory(&server);
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| Client::connect(port)).collect();
    for client in &mut clients {
        client.expect(GREETING);
    }
    let idle = memory(&server);
    let each = (idle - start) / CLIENTS;
    assert!(each < 1024, "{each} bytes for an idle session and its place in the room");

    let mut silent: Vec<Client> = (0..SILENT).map(|_| Client::with_small_window(port)).collect();
    for client in &mut silent {
        client.expect(GREETING);
    }
    let (ann, others) = clients.split_first_mut().expect("there are clients");
    let line = |number: usize| format!("{number:05}{}\n", "x".repeat(900));
    for first in (0..LINES).step_by(10) {
        let lines: Vec<String> = (first..first + 10).map(line).collect();
        ann.send(lines.concat().as_bytes());
        let said = lines.iter().map(|line| format!("guest-1: {line}")).collect::<Vec<_>>().concat();
        for client in &mut *others {
            client.expect(said.as_bytes());
        }
    }
    // Each that never reads has the buffer of its pending output. The lines stand in the room once.
    let grown = memory(&server) - idle;
    let most = SILENT * (2 * HIGH_WATER) + LINES * 1024 + (2 << 20);
    assert!(grown < most, "{grown} bytes for {SILENT} clients that never read");

    // All of them are up to date in the end, as none has missed a line of so few.
    for client in &mut silent {
        (0..LINES).for_each(|number| client.expect(format!("guest-1: {}", line(number)).as_bytes()));
    }
}

/// What the process uses (bytes).
fn memory(server: &Process) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", server.id())).expect("the server runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux tells");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") * 1024
}
