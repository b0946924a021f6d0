//! Many clients at the same time: a thread for each.
//!
//! ```text
//! cargo run --example thread_per_connection
//! telnet localhost 8888
//! ```
//!
//! With `lines` after the port, each line gets one answer, instead of each chunk. Chapter 4 of NOTES.md explains it.
//!
//! What it does not do, and the rung that repairs it:
//! - Cost little: each silent client has two stacks and an entry in the scheduler. `poll_all`, the next rung.
//! - End a connection: a client that vanished without a word keeps its thread for ever. `loop_deadlines`.
//! - Survive Ctrl-S: if it stops the server's terminal, new clients wait. okloop, `src/`.
//! - Stop in order (drain): when the server ends, answers can be lost. okloop, `src/`.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use okloop::protocols::{BANNER, CHUNK, Framing, PREFIX};

mod listening;
mod terminal;

/// A longer line is answered in pieces of this length (bytes), as okloop does it.
const LONGEST_LINE: u64 = 16 * CHUNK as u64;

fn main() {
    let [port, framing] = terminal::arguments(["PORT", "chunks|lines"]);
    let (port, framing) = (terminal::port(port, 8888), framing_of(framing));
    let listener = listening::listen(port);
    loop {
        match accept(&listener, framing) {
            Ok(()) => {}
            // This client has left the queue. The next one need not wait.
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
            Err(error) => {
                terminal::complain(format_args!("No session: {error}"));
                // No descriptor, memory or thread is left until another client leaves. Without a pause, `accept` would
                // fail again and again.
                thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

fn framing_of(argument: Option<OsString>) -> Framing {
    let Some(text) = argument else { return Framing::default() };
    match text.to_str() {
        Some("chunks") => Framing::Chunks,
        Some("lines") => Framing::Lines,
        _ => terminal::exit(2, format_args!("The framing is chunks or lines, not {}", text.display())),
    }
}

/// Waits for one client and starts its thread. If the thread cannot start, the closure is dropped, which closes the
/// client, and the server goes on. `thread::spawn` would panic instead. (If memory runs out inside the new thread, the
/// process aborts, as every Rust program does.)
fn accept(listener: &TcpListener, framing: Framing) -> io::Result<()> {
    let (client, address) = listener.accept()?;
    terminal::say(format_args!("Connected with {address}"));
    thread::Builder::new().spawn(move || report(address, converse(&client, framing)))?;
    Ok(())
}

/// One conversation, from the banner to the client's end of input. `write_all` blocks until the kernel has taken the whole
/// answer. So a client that does not read blocks its own thread and no other.
fn converse(mut client: &TcpStream, framing: Framing) -> io::Result<()> {
    // An answer leaves immediately, even while the client has not acknowledged the one before.
    client.set_nodelay(true)?;
    client.write_all(BANNER)?;

    let mut input = BufReader::with_capacity(CHUNK, client);
    let mut answer = Vec::new();
    loop {
        answer.clear();
        answer.extend(PREFIX);
        match framing {
            Framing::Chunks => {
                let chunk = input.fill_buf()?;
                let count = chunk.len();
                answer.extend(chunk);
                input.consume(count);
            }
            Framing::Lines => {
                input.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut answer)?;
            }
        }
        if answer.len() == PREFIX.len() {
            return Ok(());
        }
        client.write_all(&answer)?;
    }
}

fn report(address: SocketAddr, result: io::Result<()>) {
    if let Err(error) = result {
        terminal::complain(format_args!("Session with {address} ended: {error}"));
    }
}
