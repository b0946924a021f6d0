//! A server that does not end: client after client, one answer each.
//!
//! ```text
//! cargo run --example one_at_a_time
//! telnet localhost 5000
//! ```
//!
//! It teaches the loop around `accept`, and one rule: one client must not end the server. (The tutorial's own server
//! breaks this rule. It does `if not data: break`, so it ends when a client leaves without a word.)
//!
//! From here on an answer is `OK...` (the constant `PREFIX`) and the bytes that the client sent. `listening::listen`
//! makes the calls of `echo_once` up to `listen`. The other calls are those of Rust's standard library: `read` is
//! `recv`, and `write_all` calls `send` until the kernel has taken all bytes.
//!
//! What it does not do: serve two clients at the same time. Open a second telnet before you type in the first. The
//! second one connects, because the kernel completes the handshake and queues the client. But it gets no answer before
//! the first one has typed. One silent client stops all others. The next rung, `thread_per_connection`, gives each
//! client a thread.

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

/// Answers the first chunk, then closes the socket. `echo_once` says what this does to a client that has sent more than
/// 1024 bytes.
fn serve(mut client: TcpStream) -> io::Result<()> {
    let mut data = [0; 1024];
    let count = client.read(&mut data)?;
    if count == 0 {
        return Ok(());
    }
    // One write for both parts, so TCP can send the answer as one segment (packet).
    client.write_all(&[PREFIX, &data[..count]].concat())
}
