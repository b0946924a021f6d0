//! What an event says about a socket, in the terms of a session's turn.

use mio::event::Event;

use crate::platform::Kernel;

/// What an event says that a socket may be ready for. It is a hint: the loop believes only what `read` and `write`
/// return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Readiness {
    /// Whether a read may return something, and how far to read.
    pub readable: Readable,
    /// Whether the socket may take a write.
    pub writable: bool,
}

/// How far to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readable {
    /// Do not read.
    No,
    /// Until a read returns less than was asked for. The socket is then empty (epoll(7), "Questions and answers"), and
    /// the loop saves the system call that would only return `WouldBlock`.
    UntilShort,
    /// Until `WouldBlock`, the end of input or an error, because a short read does not mean "empty" here. The end of
    /// input and an error wait behind the last byte and cause no event of their own. Urgent data stops a read although
    /// more bytes follow (tcp(7)).
    UntilBlocked,
}

impl Readiness {
    /// For a new session: there is output to write.
    pub const WRITABLE: Self = Self { readable: Readable::No, writable: true };
    /// For a session that must find out what has arrived.
    pub const READABLE: Self = Self { readable: Readable::UntilBlocked, writable: false };
}

impl From<&Event> for Readiness {
    /// An error makes the socket ready for everything: the next read or write returns it.
    fn from(event: &Event) -> Self {
        let readable = if event.is_read_closed() || event.is_error() || event.is_priority() {
            Readable::UntilBlocked
        } else if event.is_readable() {
            Kernel::HERE.read_until()
        } else {
            Readable::No
        };
        Self { readable, writable: event.is_writable() || event.is_write_closed() || event.is_error() }
    }
}
