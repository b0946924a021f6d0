//! A server that does not end: client after client, one answer each.
//!
//! ```text
//! cargo run --example one_at_a_time
//! telnet localhost 5000
//! ```
//!
//! It teaches the loop around `accept`, and one rule: one client must not end the server. (The tutorial's own server
//! breaks it with `if not data: break`: a client that connects and leaves without a word is the last one.)
//!
//! From here on `listening::listen` makes the calls of `echo_once` up to `listen`, and the calls are those of Rust's
//! standard library: `read` is `recv`, and `write_all` calls `send` until all bytes are on their way.
//!
//! What it does not do: serve two clients at the same time. Open a second telnet before you type in the first. It
//! connects, because the kernel completes the handshake and queues the client, but the server answers only when the first
//! has typed. One silent client stops all others. The next rung, `thread_per_connection`, gives each client a thread.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use okloop::PREFIX;

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
                // The system lacks something, descriptors for example, and `accept` would fail as fast as it is called.
                thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

/// Answers the first chunk. The socket closes on return; `echo_once` says what that does to a client that has sent more
/// than 1024 bytes.
fn serve(mut client: TcpStream) -> io::Result<()> {
    let mut data = [0; 1024];
    let count = client.read(&mut data)?;
    if count == 0 {
        return Ok(());
    }
    // One write, so that the answer is one segment on the wire and not a prefix that waits for its data.
    client.write_all(&[PREFIX, &data[..count]].concat())
}
