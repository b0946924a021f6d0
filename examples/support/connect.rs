//! A non-blocking connect from an address and port chosen by hand.
//!
//! A connection is told apart by its two addresses and two ports. Left to itself, the system gives out the ports of
//! `net.ipv4.ip_local_port_range`, some 28,000 for each source address, and searches longer and longer as they run out.
//! On Linux all of 127.0.0.0/8 is this machine, so a load on loopback can take ports in turn from as many addresses as
//! it needs, and nothing has to be searched.

use std::io;
use std::net::SocketAddr;

use mio::net::TcpStream;
use socket2::{Domain, Socket, Type};

/// Starts a connection, without waiting for it: readiness tells how it went.
pub fn connect_from(source: SocketAddr, target: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM.nonblocking(), None)?;
    // Lets a port be used again that an earlier connection to another server holds in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.bind(&source.into())?;
    match socket.connect(&target.into()) {
        Err(error) if error.raw_os_error() != Some(nix::libc::EINPROGRESS) => Err(error),
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}
