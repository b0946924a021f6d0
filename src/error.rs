//! Why a server could not start, in the tutorial's words.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use crate::platform;

/// Why a server could not start.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// The host has no address.
    Resolve(String, io::Error),
    /// The socket could not be created or set up.
    Create(io::Error),
    /// The address could not be bound.
    Bind(SocketAddr, io::Error),
    /// The bound socket could not listen.
    Listen(SocketAddr, io::Error),
    /// epoll, its first registrations, or the memory for the table of sessions failed.
    Setup(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolve(host, error) => {
                write!(f, "Hostname could not be resolved. Exiting ({host}: {error})")
            }
            Self::Create(error) => write!(f, "Failed to create socket. {}", Code(error)),
            Self::Bind(address, error) => write!(f, "Bind failed. {} ({address})", Code(error)),
            Self::Listen(address, error) => write!(f, "Listen failed. {} ({address})", Code(error)),
            Self::Setup(error) => write!(f, "Failed to set up the server. {}", Code(error)),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Resolve(_, error)
            | Self::Create(error)
            | Self::Bind(_, error)
            | Self::Listen(_, error)
            | Self::Setup(error) => Some(error),
        }
    }
}

impl StartError {
    /// Whether this machine does not have the address, or not its family (IPv6). Another address of the same name may
    /// work. A port that is in use is a different error.
    pub(crate) fn is_no_such_address(&self) -> bool {
        let (Self::Create(error) | Self::Bind(_, error)) = self else { return false };
        platform::is_no_such_address(error)
    }
}

/// An error as the tutorial prints it: number first, then the message. The standard library puts the number last.
struct Code<'a>(&'a io::Error);

impl fmt::Display for Code<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        let message = text.split(" (os error").next().unwrap_or(&text);
        write!(f, "Error Code: {} Message: {message}", self.0.raw_os_error().unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tutorial's number and message are those of Linux.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_failed_bind_reads_as_in_the_tutorial() {
        let address = SocketAddr::from(([0, 0, 0, 0], 8888));
        let error = StartError::Bind(address, io::Error::from_raw_os_error(libc::EADDRINUSE));
        assert_eq!(
            error.to_string(),
            "Bind failed. Error Code: 98 Message: Address already in use (0.0.0.0:8888)"
        );
    }

    #[test]
    fn only_an_address_that_this_machine_does_not_have_lets_the_next_one_be_tried() {
        let address = SocketAddr::from(([192, 0, 2, 1], 8888));
        let bind = |kind: io::ErrorKind| StartError::Bind(address, kind.into());
        assert!(bind(io::ErrorKind::AddrNotAvailable).is_no_such_address());
        assert!(!bind(io::ErrorKind::AddrInUse).is_no_such_address());
    }
}
