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
use std::net::TcpStream;

mod listening;

fn main() {
    let [port] = listening::arguments(["PORT"]);
    let listener = listening::listen(listening::port(port, 8888));
    let echoed = listener.accept().and_then(|(client, address)| {
        listening::say(format_args!("Connected with {address}"));
        echo(client)
    });
    if let Err(error) = echoed {
        listening::exit(1, format_args!("Client lost: {error}"));
    }
}

fn echo(mut client: TcpStream) -> io::Result<()> {
    let mut data = [0; 1024];
    let count = client.read(&mut data)?;
    // Not `write`: that may send less than it is given. `write_all` calls it until everything is on its way.
    client.write_all(&data[..count])

    // The client's socket closes here, as its owner goes out of scope, and the listener after it. Closing one that
    // still holds unread input resets the connection: of a client that sends more than 1024 bytes, even the echo may
    // be lost.
}
