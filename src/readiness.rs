//! What an event says about a socket, and what the kernels promise about events.
//!
//! mio runs on three kinds of kernels. Its rules for portable programs: read and write until `WouldBlock`, and expect
//! events without a reason (mio, `Poll`, "Portability"). Where a kernel promises more, the loop saves system calls:
//!
//! | | epoll | kqueue | IOCP |
//! |---|---|---|---|
//! | systems | Linux, Android | macOS, FreeBSD | Windows |
//! | [`Kernel::read_until`]: a short read means "empty" | yes | no | no |
//! | [`Kernel::short_write_means_full`] | yes | yes | no |
//! | [`Kernel::events_per_socket`] in one batch, at most | 1 | 2 | 1 |
//! | [`Kernel::may_be_full`]: a batch with room left holds everything | yes | yes | not certain |
//! | [`Kernel::no_interest`]: an interest without events | yes | no | no |
//! | `reregister` re-arms | yes | yes | yes |
//! | `WouldBlock` re-arms | yes, with the next edge | yes, with the next edge | yes, mio registers again |

use mio::Interest;
use mio::event::Event;

use crate::config::EVENTS;

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
    pub(crate) const WRITABLE: Self = Self { readable: Readable::No, writable: true };
    /// For a session that must find out what has arrived.
    pub(crate) const READABLE: Self = Self { readable: Readable::UntilBlocked, writable: false };
    /// For a turn that no event of the socket has caused.
    pub(crate) const NONE: Self = Self { readable: Readable::No, writable: false };
}

impl From<&Event> for Readiness {
    fn from(event: &Event) -> Self {
        Kernel::HERE.readiness(Flags {
            readable: event.is_readable(),
            writable: event.is_writable(),
            read_closed: event.is_read_closed(),
            write_closed: event.is_write_closed(),
            error: event.is_error(),
            priority: event.is_priority(),
        })
    }
}

/// What mio says of an event.
#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "mio has a method for each")]
pub(crate) struct Flags {
    pub readable: bool,
    pub writable: bool,
    pub read_closed: bool,
    pub write_closed: bool,
    pub error: bool,
    pub priority: bool,
}

/// How the kernel, and mio above it, report readiness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(dead_code, reason = "a system has one of them; the tests use all")]
pub(crate) enum Kernel {
    /// Linux, Android: epoll(7), edge-triggered.
    Epoll,
    /// macOS, FreeBSD: kqueue(2) with `EV_CLEAR`.
    Kqueue,
    /// Windows: mio asks the AFD driver to poll a socket, and the answer comes through an I/O completion port.
    Iocp,
}

impl Kernel {
    /// The kernel of the system that this program is built for.
    pub const HERE: Self = if cfg!(any(target_os = "linux", target_os = "android")) {
        Self::Epoll
    } else if cfg!(windows) {
        Self::Iocp
    } else {
        Self::Kqueue
    };

    /// How far a readable socket must be read before its next event can come.
    ///
    /// - epoll: a short read means "empty" (epoll(7), "Questions and answers"). The exceptions have events of their own.
    /// - kqueue: the same, but for urgent data. It also stops a read, and there is no event that warns of it
    ///   (mio, `sys/unix/selector/kqueue.rs`, `is_priority`).
    /// - IOCP: mio removes the interest when it delivers an event, and registers it again when a call returns
    ///   `WouldBlock` (mio, `sys/windows/selector.rs`, `feed_event`; `sys/windows/mod.rs`, `do_io`). A loop that stops
    ///   after a short read gets no event any more.
    pub const fn read_until(self) -> Readable {
        match self {
            Self::Epoll => Readable::UntilShort,
            Self::Kqueue | Self::Iocp => Readable::UntilBlocked,
        }
    }

    /// What an event says. An error makes the socket ready for everything: the next read or write returns it.
    pub const fn readiness(self, event: Flags) -> Readiness {
        let readable = if event.read_closed || event.error || event.priority {
            Readable::UntilBlocked
        } else if event.readable {
            self.read_until()
        } else {
            Readable::No
        };
        Readiness { readable, writable: event.writable || event.write_closed || event.error }
    }

    /// Whether a short write means that the socket is full and an event follows when it has room. On IOCP only
    /// `WouldBlock` brings the event, as for reading.
    pub const fn short_write_means_full(self) -> bool {
        match self {
            Self::Epoll | Self::Kqueue => true,
            Self::Iocp => false,
        }
    }

    /// The most events of one socket in one batch. kqueue has a filter for reading and one for writing, and each is
    /// an event (mio, `sys/unix/selector/kqueue.rs`, `register`).
    pub const fn events_per_socket(self) -> usize {
        match self {
            Self::Epoll | Self::Iocp => 1,
            Self::Kqueue => 2,
        }
    }

    /// Whether more may be ready than a batch with this many events holds. On IOCP the batch also has answers that mio
    /// drops, because the interest has changed since it asked (mio, `sys/windows/selector.rs`, `feed_events`). How many
    /// is not known.
    pub const fn may_be_full(self, events: usize) -> bool {
        match self {
            Self::Epoll | Self::Kqueue => events >= EVENTS,
            Self::Iocp => true,
        }
    }

    /// The interest of a session that is neither read nor written to. mio has none without a direction. On epoll,
    /// PRIORITY alone reports errors, and urgent data, which is rare. Elsewhere WRITABLE causes one event without a use.
    pub const fn no_interest(self) -> Interest {
        match self {
            #[cfg(any(target_os = "linux", target_os = "android"))]
            Self::Epoll => Interest::PRIORITY,
            _ => Interest::WRITABLE,
        }
    }
}

/// The interest of a session that is read. PRIORITY says when a short read does not mean "empty"
/// ([`Readable::UntilBlocked`]). Only epoll has it.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) const READ: Interest = Interest::READABLE.add(Interest::PRIORITY);
/// The interest of a session that is read.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) const READ: Interest = Interest::READABLE;
