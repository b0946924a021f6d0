//! A server that does not end: client after client, one answer each.
//!
//! ```text
//! cargo run --example one_at_a_time
//! telnet localhost 5000
//! ```
//!
//! It teaches the loop around `accept`, and what a server must not do: end because of one client. (The tutorial's own
//! `if not data: break` does: a client that connects and leaves without a word is the last one.)
//!
//! What it does not do: serve two clients at once. Open a second telnet before you type in the first: it connects,
//! because the kernel completes the handshake and queues it, but nothing answers until the first has typed. One silent
//! client stops everybody. The next rung, `thread_per_connection`, gives each client somebody of its own to wait for it.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use okloop::PREFIX;

mod listening;

fn main() {
    let [port] = listening::arguments(["PORT"]);
    let listener = listening::listen(listening::port(port, 5000));
    loop {
        let served = listener.accept().and_then(|(client, address)| {
            listening::say(format_args!("Connected with {address}"));
            serve(client)
        });
        if let Err(error) = served {
            listening::complain(format_args!("Client lost: {error}"));
            // Almost always the client's doing. When it is ours, a lack of descriptors say, the pause keeps the loop
            // from spinning until that is over.
            thread::sleep(Duration::from_millis(100));
        }
    }
}

/// One answer to whatever comes first. The socket closes on return; see `echo_once` for what that does to a client
/// that has sent more than 1024 bytes.
fn serve(mut client: TcpStream) -> io::Result<()> {
    let mut data = [0; 1024];
    let count = client.read(&mut data)?;
    if count == 0 {
        return Ok(());
    }
    // In one write, so that the answer is one segment on the wire and not a prefix that waits for its data.
    client.write_all(&[PREFIX, &data[..count]].concat())
}
