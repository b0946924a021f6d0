//! How the examples with sessions that talk start.

#![allow(dead_code, reason = "each example uses a part")]

use std::io;

use okloop::protocols::{Either, Telnet};
use okloop::{Client, Config, Server, Session};

use super::terminal::{arguments, exit, port, say};

/// Serves on a port of every IPv4 interface until SIGTERM or Ctrl-C, then drains. With the option `--telnet` the clients
/// are telnet terminals.
pub fn run<S: Session>(new_session: impl FnMut(Client<'_>) -> S) {
    let [number, telnet] = arguments(["PORT", "--telnet"]);
    serve(Config { port: port(number, 8888), ..Config::default() }, telnet.is_some(), new_session);
}

/// The same with other arguments.
pub fn serve<S: Session>(config: Config, telnet: bool, mut new_session: impl FnMut(Client<'_>) -> S) {
    let result = bind(config).run(|client| match new_session(client) {
        session if telnet => Either::Left(Telnet::new(session)),
        session => Either::Right(session),
    });
    result.unwrap_or_else(|error| exit(1, error));
}

/// A server that drains at a signal. A failure ends the program: a server without its port has nothing to do.
pub fn bind(config: Config) -> Server {
    let mut server = Server::bind(config).unwrap_or_else(|error| exit(1, error));
    stop_at_signals(&mut server).unwrap_or_else(|error| exit(1, error));
    let address = server.local_addr().unwrap_or_else(|error| exit(1, error));
    say(format_args!("Socket now listening on {address}"));
    server
}

/// A signal is an event of the loop. Each client is an open file, so the limit of open files is raised too.
#[cfg(unix)]
fn stop_at_signals(server: &mut Server) -> io::Result<()> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    use signal_hook_mio::v1_0::Signals;

    rlimit::increase_nofile_limit(u64::MAX)?;
    let handle = server.handle();
    server.watch(Signals::new([SIGINT, SIGTERM])?, move |signals| {
        if signals.pending().next().is_some() {
            handle.stop();
        }
    })
}

#[cfg(windows)]
fn stop_at_signals(server: &mut Server) -> io::Result<()> {
    let handle = server.handle();
    ctrlc::set_handler(move || handle.stop()).map_err(io::Error::other)
}
