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
    /// behind it (tcp(7)).
    UntilBlocked,
    /// Until the end of input or an error, which waits behind the last byte and causes no event of its own.
    UntilEnd,
}

impl Readable {
    /// Whether an event that said this has promised more than `read` bytes and then `WouldBlock`. If so, it is used up
    /// all the same, and no other will come for what it told of.
    ///
    /// After data, `WouldBlock` is the plain truth, and so it is after urgent data, which can be announced before the
    /// bytes in front of it have arrived.
    pub fn promised_more_than(self, read: usize) -> bool {
        match self {
            Self::No | Self::UntilBlocked => false,
            Self::UntilShort => read == 0,
            Self::UntilEnd => true,
        }
    }
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
