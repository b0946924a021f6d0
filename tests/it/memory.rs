//! A server with a memory limit, and more half lines than it has memory for.

use std::io::{Read, Write};
use std::process::Command;

use nix::sys::signal::Signal;
use okloop::Reason;

use crate::alone;
use crate::harness::{Client, Process, binary, crowd, eventually};

/// The server's address space (KiB, `ulimit -v`). A session with half a line has an input buffer of 16 KiB, so there is
/// memory for some 1,900 of them.
const LIMIT: u32 = 40 * 1024;

#[test]
fn without_memory_some_sessions_end_and_the_server_serves_the_others() {
    const CLIENTS: u64 = 3_000;
    let _alone = alone();
    let script = format!("ulimit -v {LIMIT}; exec \"$0\" \"$@\"");
    let arguments = ["--host", "127.0.0.1", "--port", "0", "--framing", "lines"];
    let mut command = Command::new("sh");
    command.args(["-c", &script]).arg(binary("okloop")).args(arguments).env_remove("RUST_LOG");
    // A second arena of the allocator would reserve 64 MiB of the address space (mallopt(3), M_ARENA_MAX).
    let server = Process::spawn(command.env("MALLOC_ARENA_MAX", "1"));
    let mut clients = crowd(3_000, server.port());
    for client in &clients {
        // It may fail: the session has ended.
        let _ = client.stream().write_all(b"half a line");
    }
    eventually("every session has its buffer, or has ended", || {
        let stats = server.stats();
        // A session takes its buffers before it reads.
        let lost = stats.closed(Reason::OutOfMemory);
        lost > 0 && stats.bytes_in == (CLIENTS - lost) * 11
    });

    let answered = clients.iter_mut().filter(|client| is_answered(client)).count() as u64;
    let lost = server.stats().closed(Reason::OutOfMemory);
    assert!(answered > 1_000, "{answered} answered");
    assert_eq!(answered + lost, CLIENTS, "{lost} sessions ended");
    drop(clients);

    eventually("all sessions have ended", || server.stats().open == 0);
    for client in &mut crowd(1_000, server.port()) {
        client.ask(b"a whole line\n");
    }
    server.signal(Signal::SIGTERM);
    let finished = server.finish();
    assert_eq!((finished.status, &finished.stderr[..]), (Some(0), ""));
}

/// Whether the client gets the answer to its line when it completes the line.
fn is_answered(client: &Client) -> bool {
    let mut answer = [0; 17];
    let result = client.stream().write_all(b"\n").and_then(|()| client.stream().read_exact(&mut answer));
    result.is_ok_and(|()| &answer == b"OK...half a line\n")
}
