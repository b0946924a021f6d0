//! A server that does not end: client after client, one answer each.
//!
//! ```text
//! cargo run --example one_at_a_time
//! telnet localhost 5000
//! ```
//!
//! Chapter 3 of NOTES.md explains it. `listening::listen` makes the calls of `echo_once` up to `listen`. The other calls
//! are those of Rust's standard library: `read` is `recv`, and `write_all` calls `send` until the kernel has taken all
//! bytes.
//!
//! What it does not do, and `thread_per_connection`, the next rung, does:
//! - Serve two clients at the same time.
//! - Hold a conversation: a client gets one answer.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use okloop::protocols::PREFIX;

mod listening;
mod terminal;

fn main() {
    let [port] = terminal::arguments(["PORT"]);
    let listener = listening::listen(terminal::port(port, 5000));
    loop {
        match listener.accept() {
            Ok((client, address)) => {
                terminal::say(format_args!("Connected with {address}"));
                if let Err(error) = serve(client) {
                    terminal::complain(format_args!("Client lost: {error}"));
                }
            }
            // This client has left the queue. The next one need not wait.
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
            Err(error) => {
                terminal::complain(format_args!("No client: {error}"));
                // No descriptor is left, for example. Without a pause, `accept` would fail again and again.
                thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

/// Answers the first chunk, then closes the socket.
fn serve(mut client: TcpStream) -> io::Result<()> {
    let mut data = [0; 1024];
    let count = client.read(&mut data)?;
    if count == 0 {
        return Ok(());
    }
    // One write for both parts, so TCP can send the answer as one segment (packet).
    client.write_all(&[PREFIX, &data[..count]].concat())
}
