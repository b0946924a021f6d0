//! Why a session ended: its name in the log, and its counter.

use std::fmt;
use std::io::{self, ErrorKind};

use log::Level;
use strum::{IntoStaticStr, VariantArray};

use crate::platform;

/// Why a session ended. Its name in the log and among the counters is the same word in `snake_case`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, VariantArray, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// The client ended it, and got every answer.
    Finished,
    /// The protocol ended it, and the client got every answer.
    Closed,
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
    /// The server stopped. The client got every answer and ended the connection.
    Drained,
    /// The server ended before the client did: the drain time-out was over, or the stop was immediate.
    DrainTimeout,
    /// The system had no memory for the session's buffers.
    OutOfMemory,
    /// The protocol made a mistake ([`Session`](crate::Session#a-session-that-goes-wrong) lists them).
    ProtocolError,
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
            _ if platform::is_keepalive_failure(error) => Self::PeerUnreachable,
            _ => Self::Failed,
        }
    }

    /// The level of its line in the log. What an operator may want to look into is above debug.
    pub(crate) fn level(self) -> Level {
        match self {
            Self::OutOfMemory | Self::ProtocolError | Self::Failed => Level::Warn,
            Self::WriteTimeout | Self::IdleTimeout | Self::DrainTimeout => Level::Info,
            _ => Level::Debug,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.into())
    }
}
