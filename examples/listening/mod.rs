//! How every server of the ladder starts: socket, bind, listen, one call after the other as in the tutorial, and the
//! tutorial's line after each.
//!
//! `std::net::TcpListener::bind` is these three calls in one. They are apart here because each can fail in its own
//! way, and because a learner should have seen them once.

use std::fmt::Display;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::{env, io, process};

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
    let fail = |step: &str, error: &io::Error| -> ! {
        let code = error.raw_os_error().unwrap_or_default();
        let text = error.to_string();
        // The system's text alone: std adds the code in brackets, and the code has its own place in the line.
        let message = text.split(" (os error").next().unwrap_or_default();
        exit(1, format_args!("{step} failed. Error Code: {code} Message: {message} ({address})"))
    };

    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap_or_else(|error| fail("Socket", &error));
    println!("Socket created");

    // Without it a restarted server could not have its port back for a minute, while the kernel remembers the
    // sessions of the one before (TIME_WAIT). std sets it too.
    socket.set_reuse_address(true).unwrap_or_else(|error| fail("Socket option", &error));
    socket.bind(&address.into()).unwrap_or_else(|error| fail("Bind", &error));
    println!("Socket bind complete");

    socket.listen(BACKLOG).unwrap_or_else(|error| fail("Listen", &error));
    let listener = TcpListener::from(socket);
    let bound = listener.local_addr().unwrap_or_else(|error| fail("Listen", &error));
    println!("Socket now listening on {bound}");
    listener
}

/// Ends the program with one line that says why.
pub fn exit(status: i32, reason: impl Display) -> ! {
    eprintln!("{reason}");
    process::exit(status)
}
