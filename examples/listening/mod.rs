//! How every server of the ladder starts: socket, bind, listen, one call after the other as in the tutorial, and the
//! tutorial's line after each. Before that its arguments, and at the end how it prints a line.
//!
//! `std::net::TcpListener::bind` is these three calls in one. They are apart here because each can fail in its own
//! way, and because a learner should have seen them once.

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::{env, process};

use okloop::StartError::{self, Bind, Create, Listen};
use socket2::{Domain, Socket, Type};

/// How many clients the kernel keeps waiting until we accept them. The tutorial has 10; whoever comes when the queue is
/// full tries again only after a second. The kernel lowers this to its own limit, `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// The command's arguments, in the order in which `usage` names them. One too many ends the program, and so does a
/// question for help.
pub fn arguments<const N: usize>(usage: [&str; N]) -> [Option<OsString>; N] {
    let usage = format!("Usage: {} [{}]", env!("CARGO_CRATE_NAME"), usage.join("] ["));
    let mut given = env::args_os().skip(1);
    let arguments = [(); N].map(|()| given.next());
    if arguments.iter().flatten().any(|argument| argument == "--help" || argument == "-h") {
        say(usage);
        process::exit(0);
    }
    if given.next().is_some() {
        exit(2, usage);
    }
    arguments
}

/// The port in an argument, or `default`. 0 lets the system choose.
pub fn port(argument: Option<OsString>, default: u16) -> u16 {
    let Some(text) = argument else { return default };
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
    say("Socket created");

    // Without it a restarted server could not have its port back for a minute, while the kernel remembers the
    // sessions of the one before (TIME_WAIT). std sets it too.
    socket.set_reuse_address(true).unwrap_or_else(|error| fail(Create(error)));
    socket.bind(&address.into()).unwrap_or_else(|error| fail(Bind(address, error)));
    say("Socket bind complete");

    socket.listen(BACKLOG).unwrap_or_else(|error| fail(Listen(address, error)));
    let listener = TcpListener::from(socket);
    let bound = listener.local_addr().unwrap_or_else(|error| fail(Listen(address, error)));
    say(format_args!("Socket now listening on {bound}"));
    listener
}

/// In the words in which okloop says it too.
fn fail(error: StartError) -> ! {
    exit(1, error)
}

/// Ends the program with one line that says why.
pub fn exit(status: i32, reason: impl Display) -> ! {
    complain(reason);
    process::exit(status)
}

/// Prints a line. Not println!, which panics when stdout is a pipe that nobody reads any more, or a full disk.
pub fn say(line: impl Display) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// The same for stderr.
pub fn complain(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}
