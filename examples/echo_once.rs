//! The first server: one client, one chunk, and the end.
//!
//! ```text
//! cargo run --example echo_once
//! telnet localhost 8888
//! ```
//!
//! Chapter 2 of NOTES.md explains it.
//!
//! What it does not do:
//! - Serve a second client. `one_at_a_time`, the next rung, repairs that.
//! - Keep the echo of a client that sends more than 1024 bytes: `close` can destroy a part of it. okloop, `src/`.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};

use okloop::StartError::{Bind, Create, Listen};
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_reuseaddr;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketType, acceptfrom, bind, getsockname, listen, recv, send,
    socket,
};

use self::terminal::say;

mod terminal;

fn main() {
    let [port] = terminal::arguments(["PORT"]);
    if let Err(error) = echo(terminal::port(port, 8888)) {
        terminal::exit(1, error);
    }
}

fn echo(port: u16) -> Result<(), Box<dyn Error>> {
    // A Windows program must say first that it uses sockets.
    #[cfg(windows)]
    rustix::net::wsa_startup()?;

    // An endpoint for TCP over IPv4. It is a file descriptor, a number.
    let listener =
        socket(AddressFamily::INET, SocketType::STREAM, None).map_err(|error| Create(error.into()))?;
    say("Socket created");

    // A second run can bind the port immediately. On Windows the option lets other programs take the port.
    set_socket_reuseaddr(&listener, cfg!(unix))?;
    // The address is the tutorial's `HOST = ''`: every IPv4 interface of this machine.
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    bind(&listener, &address).map_err(|error| Bind(address, error.into()))?;
    say("Socket bind complete");

    // From now on the kernel completes the handshakes of clients. It queues 10 of them until they are accepted.
    listen(&listener, 10).map_err(|error| Listen(address, error.into()))?;
    say(format_args!("Socket now listening on {}", SocketAddr::try_from(getsockname(&listener)?)?));

    // Waits for a client. `from` means that the call also returns the client's address.
    let (client, peer) = acceptfrom(&listener)?;
    if let Some(peer) = peer {
        say(format_args!("Connected with {}", SocketAddr::try_from(peer)?));
    }

    // Waits for bytes. A count of 0 is the end of input.
    let mut data = [0; 1024];
    let (count, _) = recv(&client, &mut data, RecvFlags::empty()).map_err(client_lost)?;

    // One `send` can take fewer bytes than it is given.
    let mut rest = &data[..count];
    while !rest.is_empty() {
        let sent = send(&client, rest, SendFlags::empty()).map_err(client_lost)?;
        rest = &rest[sent..];
    }

    // In Rust, dropping the owner of a descriptor closes it.
    drop(client);
    drop(listener);
    Ok(())
}

fn client_lost(error: Errno) -> String {
    format!("Client lost: {error}")
}
