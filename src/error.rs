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
    /// epoll or one of its first registrations failed.
    Poll(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolve(host, _) => write!(f, "Hostname could not be resolved ({host}). Exiting"),
            Self::Create(error) => write!(f, "Failed to create socket. {}", Code(error)),
            Self::Bind(address, error) => write!(f, "Bind failed. {} ({address})", Code(error)),
            Self::Listen(address, error) => write!(f, "Listen failed. {} ({address})", Code(error)),
            Self::Poll(error) => write!(f, "Failed to set up polling. {}", Code(error)),
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
            | Self::Poll(error) => Some(error),
        }
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
}
