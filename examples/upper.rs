//! A server with a protocol of its own: it answers in capital letters.
//!
//! ```text
//! cargo run --example upper
//! telnet localhost 8888
//! ```
//!
//! It shows the smallest session: one method, which takes what has arrived and appends the answer. The server does the
//! rest: sockets, limits, backpressure and time-outs. A session that keeps state and ends politely is in `line_server`.

use std::error::Error;

use okloop::{Buffer, Config, Server, Session, Step};

mod terminal;

struct Upper;

impl Session for Upper {
    fn answer(&mut self, input: &mut [u8], output: &mut Buffer) -> Step {
        input.make_ascii_uppercase();
        output.push(input);
        Step::Consumed(input.len())
    }
}

fn main() {
    let [port] = terminal::arguments(["PORT"]);
    if let Err(error) = serve(terminal::port(port, 8888)) {
        terminal::exit(1, error);
    }
}

fn serve(port: u16) -> Result<(), Box<dyn Error>> {
    let server = Server::bind(Config { port, ..Config::default() })?;
    terminal::say(format_args!("Socket now listening on {}", server.local_addr()?));
    server.run(|_| Upper)?;
    Ok(())
}
