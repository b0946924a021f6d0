//! A server with a protocol of its own: it answers in capital letters.
//!
//! ```text
//! cargo run --example upper
//! telnet localhost 8888
//! ```
//!
//! It shows the smallest session: one method, which takes what has arrived and appends the answer. The server does the
//! rest: sockets, limits, backpressure and time-outs. `line_server` shows a session that keeps state and ends politely.

use std::env;
use std::error::Error;

use okloop::{Buffer, Config, Server, Session, Step};

struct Upper;

impl Session for Upper {
    fn answer(&mut self, input: &mut [u8], output: &mut Buffer) -> Step {
        input.make_ascii_uppercase();
        output.push(input);
        Step::Consumed(input.len())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let port = env::args().nth(1).map_or(Ok(8888), |port| port.parse())?;
    let server = Server::bind(Config { port, ..Config::default() }, |_| Upper)?;
    println!("Socket now listening on {}", server.local_addr()?);
    server.run()?;
    Ok(())
}
