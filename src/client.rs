//! What a new session is told about its client.

use std::io;

use crate::address::Address;
use crate::socket::Socket;
use crate::wakes::Waker;

/// A new client, for which a session is made.
#[derive(Debug)]
#[non_exhaustive]
pub struct Client<'a> {
    /// Where the client is.
    pub peer: Address,
    /// Which listener it came to: 0 is the first one that the server opened.
    pub listener: usize,
    /// Wakes the session. A session that answers only its own client needs none.
    pub waker: Waker,
    socket: &'a Socket,
}

impl<'a> Client<'a> {
    pub(crate) fn new(peer: Address, listener: usize, waker: Waker, socket: &'a Socket) -> Self {
        Self { peer, listener, waker, socket }
    }

    /// The address of the server's end. It tells the interface, if the listener serves all of them.
    ///
    /// # Errors
    ///
    /// Some systems do not tell it after the client has reset the connection.
    pub fn local_addr(&self) -> io::Result<Address> {
        self.socket.local_addr()
    }
}
