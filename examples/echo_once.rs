//! The first server: one client, one chunk, and the end.
//!
//! ```text
//! cargo run --example echo_once
//! telnet localhost 8888
//! ```
//!
//! It teaches what a server does beyond a client: `accept` waits until somebody connects and returns a second socket,
//! for this client alone; the first goes on listening. `read` then waits until the client sends something, and returns
//! whatever has arrived, which need not be all that was sent: TCP carries a stream of bytes, not messages.
//!
//! What it does not do: serve anybody else. The next rung, `one_at_a_time`, puts the same calls in a loop.

use std::io::{self, Read, Write};

mod listening;

fn main() -> io::Result<()> {
    let listener = listening::listen(listening::port_argument(8888));

    let (mut client, address) = listener.accept()?;
    println!("Connected with {address}");

    let mut data = [0; 1024];
    let count = client.read(&mut data)?;
    // Not `write`: that may send less than it is given. `write_all` calls it until everything is on its way.
    client.write_all(&data[..count])

    // Both sockets close here, as their owners go out of scope. Closing one that still holds unread input resets the
    // connection: of a client that sends more than 1024 bytes, even the echo may be lost.
}
