//! What the loop and a connection give each other: a socket, what all connections share, and what a turn has done.

use std::io::{self, Read, Write};
use std::time::Duration;

use mio::Interest;

use crate::buffer::{Buffer, Pool};
use crate::config::Budgets;
use crate::readiness::Kernel;
use crate::reason::Timeout;
use crate::session::{Sizes, Timer};
use crate::socket::Socket;

/// What a connection needs from its socket. The tests use a scripted one.
pub(crate) trait Stream: Read + Write {
    /// Whether the connection is open now. The error says why it has failed.
    fn is_connected(&self) -> io::Result<bool> {
        Ok(true)
    }

    /// Ends our direction of the stream: the client reads what was written, then the end of input.
    fn shutdown_write(&mut self) -> io::Result<()>;

    /// Whether the client's kernel has everything, after the shutdown. `None`: the system cannot tell.
    fn is_delivered(&self) -> io::Result<Option<bool>>;

    /// Lets the connection fail with `TimedOut` if the client's kernel takes nothing for this long.
    fn limit_delivery(&self, timeout: Duration);

    /// The kernel whose rules hold for it.
    fn kernel(&self) -> Kernel {
        Kernel::HERE
    }
}

impl Stream for Socket {
    fn is_connected(&self) -> io::Result<bool> {
        Self::is_connected(self)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        Self::shutdown_write(self)
    }

    fn is_delivered(&self) -> io::Result<Option<bool>> {
        Self::is_delivered(self)
    }

    fn limit_delivery(&self, timeout: Duration) {
        Self::limit_delivery(self, timeout);
    }
}

/// What all connections of a server share.
#[derive(Debug)]
pub(crate) struct Means {
    pub input: Pool,
    pub output: Pool,
    pub budgets: Budgets,
    /// [`Config::write_timeout`](crate::Config::write_timeout).
    pub write_timeout: Option<Duration>,
}

impl Means {
    /// Makes the buffers of the next connections large enough.
    pub fn make_room_for(&mut self, sizes: Sizes) {
        self.input.grow(sizes.request);
        self.output.grow(self.budgets.high_water.saturating_add(sizes.answer));
    }
}

/// What one turn of a connection did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "facts of a turn, each on its own")]
pub(crate) struct Turn {
    /// Bytes read.
    pub read: usize,
    /// Bytes written.
    pub written: usize,
    /// The socket may still be ready, but its edge is used up: the connection must be re-armed.
    pub stopped_early: bool,
    /// The answer budget is used up, and unanswered input has no edge: the connection must be woken again.
    pub goes_on: bool,
    /// What the session wants with its own deadline.
    pub timer: Timer,
    pub(super) answers: usize,
    /// The answers to all that the client has sent have left.
    pub(super) has_paid: bool,
    /// Reading was stopped before this turn, and goes on now.
    pub(super) has_resumed: bool,
}

/// A time-out that runs after a turn, and whether it starts again if it is running already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Clock {
    pub timeout: Timeout,
    pub restarts: bool,
}

/// The buffers of one turn, and what the turn may use and has done.
pub(super) struct Exchange<'a> {
    pub input: &'a mut Buffer,
    pub output: &'a mut Buffer,
    /// Something has happened since the session was asked for answers.
    pub has_news: bool,
    /// The session goes on when a write has made room.
    pub wants_room: bool,
    pub turn: Turn,
    pub means: &'a Means,
}

/// What the loop notes of a connection. It stands in the connection because there it costs no memory.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Notes {
    /// What the kernel reports. `None` before the first turn.
    pub interest: Option<Interest>,
    /// Whether the server has opened it itself.
    pub is_outgoing: bool,
    /// When it opened or last read something, in a unit of the loop's.
    pub last_heard: u8,
}
