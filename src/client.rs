//! What a new session is told about its client.

use std::io;

use crate::address::Address;
use crate::socket::Socket;
use crate::wakes::Waker;

/// How a connection begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// It was accepted from the listener with this number: 0 is the first one that the server opened.
    Accepted(usize),
    /// The server opens it itself. This is the tag that [`Handle::connect`](crate::Handle::connect) was given.
    Outgoing(u64),
}

/// A new client, for which a session is made.
#[derive(Debug)]
#[non_exhaustive]
pub struct Client<'a> {
    /// Where the client is. Behind a proxy it is the proxy's address ([`Session::is_proxied`](crate::Session::is_proxied)).
    /// For an outgoing connection, the address that it goes to.
    pub peer: Address,
    /// How the connection begins.
    pub origin: Origin,
    /// Wakes the session. A session that answers only its own client needs none.
    pub waker: Waker,
    socket: Option<&'a Socket>,
}

impl<'a> Client<'a> {
    pub(crate) fn new(peer: Address, origin: Origin, waker: Waker, socket: Option<&'a Socket>) -> Self {
        Self { peer, origin, waker, socket }
    }

    /// The address of the server's end. It tells the interface, if the listener serves all of them.
    ///
    /// # Errors
    ///
    /// Some systems do not tell it after the client has reset the connection. An outgoing connection that could not be
    /// begun has none.
    pub fn local_addr(&self) -> io::Result<Address> {
        self.socket.ok_or(io::ErrorKind::NotConnected)?.local_addr()
    }
}
