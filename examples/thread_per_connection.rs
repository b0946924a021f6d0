//! Many clients at once: a thread for each.
//!
//! ```text
//! cargo run --example thread_per_connection
//! telnet localhost 8888
//! ```
//!
//! The port may be followed by `lines`: one answer a line instead of one a chunk.
//!
//! It teaches that blocking calls are no trouble when each client has a thread to block: `converse` below reads as
//! simply as a server for one client. The conversation itself is [`Session`], the same code that the event loop runs.
//!
//! What it does not do: cost little. A thread that waits for a silent client still is a stack, a kernel stack and an
//! entry in the scheduler. The stack is the default of `std`, 2 MiB (`RUST_MIN_STACK` sets another; the tutorial's
//! Python takes the system's, mostly 8 MiB): address space rather than memory, as only the pages touched are real, but
//! each stack takes up several of the process's memory mappings, and those are counted (`vm.max_map_count`). Open
//! files are counted too (`ulimit -n`). The last rungs, `tiny_event_loop` and okloop itself, wait for all in one call.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use okloop::{BANNER, Buffer, CHUNK, Framing, INPUT_BUFFER, OkSession, Session, Step};

mod listening;

fn main() {
    let [port, framing] = listening::arguments(["PORT", "chunks|lines"]);
    let (port, framing) = (listening::port(port, 8888), framing_of(framing));
    let listener = listening::listen(port);
    loop {
        if let Err(error) = accept(&listener, framing) {
            listening::complain(format_args!("No session: {error}"));
            // A lack of descriptors, of memory or of threads: only the end of another session helps, and meanwhile
            // accept would fail as fast as it is called.
            thread::sleep(Duration::from_millis(100));
        }
    }
}

fn framing_of(argument: Option<OsString>) -> Framing {
    let Some(text) = argument else { return Framing::default() };
    match text.to_str() {
        Some("chunks") => Framing::Chunks,
        Some("lines") => Framing::Lines,
        _ => listening::exit(2, format_args!("The framing is chunks or lines, not {}", text.display())),
    }
}

/// Waits for one client and starts its thread. Where the thread cannot be started, the client is closed with the
/// closure that held it, and everybody else is served as before: `thread::spawn` would panic instead. (Memory that runs
/// out a moment later, inside the new thread, still aborts the process, as it does every Rust program.)
fn accept(listener: &TcpListener, framing: Framing) -> io::Result<()> {
    let (client, address) = listener.accept()?;
    listening::say(format_args!("Connected with {address}"));
    thread::Builder::new().spawn(move || report(address, converse(client, framing)))?;
    Ok(())
}

/// One session from the banner to the client's end of input. What is owed by then has been written: `write_all` blocks
/// until the kernel has taken it, so a client that does not read waits in its own thread and nowhere else.
fn converse(mut client: TcpStream, framing: Framing) -> io::Result<()> {
    // An answer leaves at once, even while the client has not acknowledged the one before.
    client.set_nodelay(true)?;
    client.write_all(BANNER)?;

    let mut session = OkSession::new(framing);
    let mut input = Vec::new();
    let mut chunk = [0; CHUNK];
    let mut output = Buffer::with_capacity(OkSession::LARGEST_ANSWER)?;
    loop {
        let room = CHUNK.min(INPUT_BUFFER - input.len());
        let count = client.read(&mut chunk[..room])?;
        input.extend(&chunk[..count]);
        if count == 0 {
            session.end_of_input();
        }
        while let Step::Consumed(count) = session.answer(&mut input, &mut output) {
            input.drain(..count);
            client.write_all(output.unread())?;
            output.clear();
        }
        if count == 0 {
            return Ok(());
        }
    }
}

fn report(address: SocketAddr, session: io::Result<()>) {
    if let Err(error) = session {
        listening::complain(format_args!("Session with {address} ended: {error}"));
    }
}
