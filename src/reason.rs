//! Why a session ended, and which time-outs it can have.

use std::fmt;
use std::io::{self, ErrorKind};

use log::Level;
use strum::{IntoStaticStr, VariantArray};

/// Why a session ended. Its name in the log and among the counters is the same word in `snake_case`.
///
/// After `Finished`, `Closed` and `Drained` the client has every answer. Where the kernel can tell (Linux), that is
/// certain: the client's kernel has acknowledged all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, VariantArray, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// The client ended it, and got every answer.
    Finished,
    /// The protocol ended it ([`Step::Close`](crate::Step::Close)), and the client got every answer.
    Closed,
    /// A [`Waker`](crate::Waker) ended it.
    Ended,
    /// The client was above the connection limit, and was told that the server is full.
    Refused,
    /// The client reset it.
    Reset,
    /// The client answered neither the kernel's keepalive probes nor its retransmissions.
    PeerUnreachable,
    /// The client was silent for longer than the idle time-out.
    IdleTimeout,
    /// The client read none of its answers for longer than the write time-out.
    WriteTimeout,
    /// The protocol had ended it, and the client did not end its direction within the linger time-out.
    LingerTimeout,
    /// The session's own deadline was over ([`Session::deadline`](crate::Session::deadline)).
    Deadline,
    /// The server stopped. The client got every answer and ended the connection.
    Drained,
    /// The server stopped, and the drain time-out was over before the client had got every answer or had ended.
    DrainTimeout,
    /// The server was stopped immediately.
    Forced,
    /// The request is longer than the protocol's largest ([`Sizes`](crate::Sizes)).
    RequestTooLarge,
    /// What the client sent is not of this protocol ([`Step::Abort`](crate::Step::Abort)). It got nothing more.
    InvalidInput,
    /// The system had no memory for the session's buffers.
    OutOfMemory,
    /// The protocol made a mistake ([`Session`](crate::Session#a-session-that-goes-wrong) lists them).
    ProtocolError,
    /// An outgoing connection could not be opened.
    ConnectFailed,
    /// The system refused an operation on the socket.
    Failed,
}

impl Reason {
    /// What an error of `read`, `write` or `shutdown` says about its connection (tcp(7), send(2)). After a reset,
    /// `shutdown` returns ENOTCONN.
    pub(crate) fn of(error: &io::Error) -> Self {
        match error.kind() {
            ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::NotConnected => Self::Reset,
            ErrorKind::TimedOut | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
                Self::PeerUnreachable
            }
            // The client did not answer the keepalive probes: `WSAENETRESET` (winsock2.h), where Unix says ETIMEDOUT.
            _ if cfg!(windows) && error.raw_os_error() == Some(10052) => Self::PeerUnreachable,
            _ => Self::Failed,
        }
    }

    /// The level of its line in the log. What an operator may want to look into is above debug.
    pub(crate) fn level(self) -> Level {
        match self {
            Self::OutOfMemory | Self::ProtocolError | Self::Failed => Level::Warn,
            Self::WriteTimeout | Self::IdleTimeout | Self::DrainTimeout | Self::LingerTimeout => Level::Info,
            _ => Level::Debug,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.into())
    }
}

/// The time-outs of a session. They run side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Timeout {
    /// The client must send something.
    Idle,
    /// Output is pending: the client must read.
    Write,
    /// The session's own deadline.
    Own,
    /// The server has ended its direction: the client must end its own.
    Linger,
    /// An outgoing connection must open.
    Connect,
    /// The server stops: input may still be on its way.
    Quiet,
}
