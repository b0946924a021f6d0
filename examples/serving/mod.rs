//! How the examples with sessions that talk start.

use okloop::protocols::{Either, Telnet};
use okloop::{Client, Config, Server, Session};

use super::terminal::{arguments, exit, port, say};

/// Serves on a port of every IPv4 interface until SIGTERM or Ctrl-C, then drains. With the option `--telnet` the clients
/// are telnet terminals.
#[allow(dead_code, reason = "the chat with Redis has arguments of its own")]
pub fn run<S: Session>(mut new_session: impl FnMut(Client<'_>) -> S) {
    let [number, telnet] = arguments(["PORT", "--telnet"]);
    let server = bind(Config { port: port(number, 8888), ..Config::default() });
    let result = server.run(|client| match new_session(client) {
        session if telnet.is_some() => Either::Left(Telnet::new(session)),
        session => Either::Right(session),
    });
    result.unwrap_or_else(|error| exit(1, error));
}

/// A server that drains at a signal. A failure ends the program: a server without its port has nothing to do.
pub fn bind(config: Config) -> Server {
    let server = Server::bind(config).unwrap_or_else(|error| exit(1, error));
    let handle = server.handle();
    // It starts a thread that waits for the signals.
    ctrlc::set_handler(move || handle.stop()).unwrap_or_else(|error| exit(1, error));
    let address = server.local_addr().unwrap_or_else(|error| exit(1, error));
    say(format_args!("Socket now listening on {address}"));
    server
}
