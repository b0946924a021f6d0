//! How the servers of the ladder start: socket, bind and listen, as in `echo_once`, and the tutorial's line after each.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use okloop::StartError::{self, Bind, Create, Listen};
use socket2::{Domain, Socket, Type};

use crate::terminal::{exit, say};

/// How many clients the kernel queues until the server accepts them. The tutorial has 10; a client that finds the queue
/// full tries again only after a second. The kernel lowers this to its own limit, `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// A listening socket on every IPv4 interface, the tutorial's `HOST = ''`. A failure ends the program: a server
/// without its port has nothing to do.
pub fn listen(port: u16) -> TcpListener {
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    open(address).unwrap_or_else(|error| exit(1, error))
}

fn open(address: SocketAddr) -> Result<TcpListener, StartError> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).map_err(Create)?;
    say("Socket created");

    // As in `echo_once`: a restarted server can bind its port immediately.
    socket.set_reuse_address(cfg!(unix)).map_err(Create)?;
    socket.bind(&address.into()).map_err(|error| Bind(address, error))?;
    say("Socket bind complete");

    socket.listen(BACKLOG).map_err(|error| Listen(address, error))?;
    let listener = TcpListener::from(socket);
    let bound = listener.local_addr().map_err(|error| Listen(address, error))?;
    say(format_args!("Socket now listening on {bound}"));
    Ok(listener)
}
