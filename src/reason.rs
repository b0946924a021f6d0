//! Why a session ended: the word in the log and the counter it goes to.

use std::fmt;
use std::io::{self, ErrorKind};

use log::Level;

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The client ended it and was given every answer.
    Finished,
    /// The client was over the connection cap.
    Refused,
    /// The client reset it.
    Reset,
    /// The client did not answer the kernel's keepalive or retransmissions.
    Vanished,
    /// The client was silent for longer than the idle time-out.
    IdleTimeout,
    /// The client left its answers untaken for longer than the write time-out.
    WriteTimeout,
    /// The server stopped, and the client was given every answer and ended.
    Drained,
    /// The server stopped, and the client had not ended by the drain time-out.
    Cut,
    /// The system refused an operation on the socket.
    Failed,
}

impl Reason {
    /// Every reason, in the order of its value as an index.
    pub const ALL: [Reason; 9] = [
        Reason::Finished,
        Reason::Refused,
        Reason::Reset,
        Reason::Vanished,
        Reason::IdleTimeout,
        Reason::WriteTimeout,
        Reason::Drained,
        Reason::Cut,
        Reason::Failed,
    ];

    /// What an error of `read`, `write` or `shutdown` says of its connection (tcp(7), send(2)). `shutdown` says that there
    /// is none when a reset came since the last read.
    pub fn of(error: &io::Error) -> Self {
        match error.kind() {
            ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::NotConnected => Self::Reset,
            ErrorKind::TimedOut | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
                Self::Vanished
            }
            _ => Self::Failed,
        }
    }

    /// How severe it is: a detail, unless somebody may wonder about it.
    pub fn level(self) -> Level {
        match self {
            Self::Failed => Level::Warn,
            Self::WriteTimeout | Self::IdleTimeout | Self::Cut => Level::Info,
            _ => Level::Debug,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Finished => "finished",
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::Vanished => "vanished",
            Self::IdleTimeout => "idle time-out",
            Self::WriteTimeout => "write time-out",
            Self::Drained => "drained",
            Self::Cut => "cut",
            Self::Failed => "failed",
        })
    }
}
