//! Why a server could not start, in the tutorial's words.

use std::fmt;
use std::io;
use std::net::SocketAddr;

/// Why a server could not start.
#[derive(Debug)]
pub enum StartError {
    /// The host has no address.
    Resolve(String, io::Error),
    /// The socket could not be created or set up.
    Create(io::Error),
    /// The address could not be bound.
    Bind(SocketAddr, io::Error),
    /// The bound socket could not listen.
    Listen(SocketAddr, io::Error),
    /// epoll or one of its first registrations failed, or the limits could not be read.
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
    /// Whether it is the address that this machine does not have, or a family of addresses that it does not speak:
    /// another address of the same name may do. A port that is taken is no such error.
    pub fn is_no_such_address(&self) -> bool {
        let (Self::Create(error) | Self::Bind(_, error)) = self else { return false };
        matches!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT))
    }
}

/// An error as the tutorial prints it: number and message apart, where the standard library has the number behind.
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
    fn another_address_of_a_name_is_tried_only_where_this_one_is_not_ours() {
        let address = SocketAddr::from(([192, 0, 2, 1], 8888));
        let bind = |code| StartError::Bind(address, io::Error::from_raw_os_error(code));
        assert!(bind(libc::EADDRNOTAVAIL).is_no_such_address());
        assert!(!bind(libc::EADDRINUSE).is_no_such_address());
    }
}
