//! What an event says of a socket, in the terms of a session's turn.

use mio::event::Event;

/// What an event says that a socket may be ready for. A hint: only what `read` and `write` return is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Readiness {
    /// Whether a read may give something, and how far to go.
    pub readable: Readable,
    /// Whether a write may take something.
    pub writable: bool,
}

/// How far to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readable {
    /// Not at all.
    No,
    /// Until a read gives less than was asked for. On a stream socket that means that no more is there (epoll(7)), and
    /// saves the system call that would only say so.
    UntilShort,
    /// Until `WouldBlock`, because a short read does not mean that here: a read stops at urgent data though more is
    /// behind it (tcp(7)). Even the first read may say so: urgent data is announced before it can be reached.
    UntilBlocked,
    /// Until the end of input or an error, which waits behind the last byte and causes no event of its own.
    UntilEnd,
}

impl Readiness {
    /// What a session that has just begun may do: write.
    pub const WRITABLE: Self = Self { readable: Readable::No, writable: true };
    /// What to ask of a session that must find out what has arrived.
    pub const READABLE: Self = Self { readable: Readable::UntilBlocked, writable: false };
}

impl From<&Event> for Readiness {
    /// An error makes the socket ready for everything: the next read or write returns it.
    fn from(event: &Event) -> Self {
        let readable = if event.is_read_closed() || event.is_error() {
            Readable::UntilEnd
        } else if event.is_priority() {
            Readable::UntilBlocked
        } else if event.is_readable() {
            Readable::UntilShort
        } else {
            Readable::No
        };
        Self { readable, writable: event.is_writable() || event.is_write_closed() || event.is_error() }
    }
}
