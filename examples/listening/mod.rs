//! How every server of the ladder starts: socket, bind, listen, one call after the other as in the tutorial, and the
//! tutorial's line after each.
//!
//! `std::net::TcpListener::bind` is these three calls in one. They are apart here because each can fail in its own
//! way, and because a learner should have seen them once.

use std::fmt::Display;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::{env, process};

use okloop::StartError::{self, Bind, Create, Listen};
use socket2::{Domain, Socket, Type};

/// How many clients the kernel keeps waiting until we accept them. The tutorial has 10; whoever comes when the queue is
/// full tries again only after a second. The kernel lowers this to its own limit, `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// The port in the first argument, or `default`. 0 lets the system choose.
pub fn port_argument(default: u16) -> u16 {
    let Some(text) = env::args_os().nth(1) else { return default };
    let port = text.to_str().and_then(|text| text.parse().ok());
    port.unwrap_or_else(|| {
        exit(2, format_args!("The port is a number from 0 to 65535, not {}", text.display()))
    })
}

/// A listening socket on every IPv4 interface, the tutorial's `HOST = ''`. A failure ends the program: a server
/// without its port has nothing to do.
pub fn listen(port: u16) -> TcpListener {
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap_or_else(|error| fail(Create(error)));
    println!("Socket created");

    // Without it a restarted server could not have its port back for a minute, while the kernel remembers the
    // sessions of the one before (TIME_WAIT). std sets it too.
    socket.set_reuse_address(true).unwrap_or_else(|error| fail(Create(error)));
    socket.bind(&address.into()).unwrap_or_else(|error| fail(Bind(address, error)));
    println!("Socket bind complete");

    socket.listen(BACKLOG).unwrap_or_else(|error| fail(Listen(address, error)));
    let listener = TcpListener::from(socket);
    let bound = listener.local_addr().unwrap_or_else(|error| fail(Listen(address, error)));
    println!("Socket now listening on {bound}");
    listener
}

/// In the words in which okloop says it too.
fn fail(error: StartError) -> ! {
    exit(1, error)
}

/// Ends the program with one line that says why.
pub fn exit(status: i32, reason: impl Display) -> ! {
    eprintln!("{reason}");
    process::exit(status)
}
