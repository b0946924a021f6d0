//! Why a server could not start, in the tutorial's words.

use std::fmt;
use std::io;
use std::net::SocketAddr;
#[cfg(unix)]
use std::path::PathBuf;

/// Why a server could not start. Its text holds the system's error, so it has no [`source`](std::error::Error::source).
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// The host has no address.
    Resolve(String, io::Error),
    /// The socket could not be created or set up.
    Create(io::Error),
    /// The address could not be bound.
    Bind(SocketAddr, io::Error),
    /// The Unix socket could not be bound at this path.
    #[cfg(unix)]
    BindUnix(PathBuf, io::Error),
    /// The bound socket could not listen.
    Listen(SocketAddr, io::Error),
    /// epoll, or its first registrations, failed.
    Setup(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolve(host, error) => write!(f, "Hostname could not be resolved ({host}: {error})"),
            Self::Create(error) => write!(f, "Failed to create socket. {}", Code(error)),
            Self::Bind(address, error) => write!(f, "Bind failed. {} ({address})", Code(error)),
            #[cfg(unix)]
            Self::BindUnix(path, error) => write!(f, "Bind failed. {} ({})", Code(error), path.display()),
            Self::Listen(address, error) => write!(f, "Listen failed. {} ({address})", Code(error)),
            Self::Setup(error) => write!(f, "Failed to set up the server. {}", Code(error)),
        }
    }
}

impl std::error::Error for StartError {}

/// An error as the tutorial prints it: number first, then the message. The standard library puts the number last. Not
/// every error has a number.
struct Code<'a>(&'a io::Error);

impl fmt::Display for Code<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        let message = text.split(" (os error").next().unwrap_or(&text);
        match self.0.raw_os_error() {
            Some(code) => write!(f, "Error Code: {code} Message: {message}"),
            None => f.write_str(message),
        }
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
    fn an_error_without_a_number_is_told_without_a_number() {
        let error = StartError::Setup(io::ErrorKind::OutOfMemory.into());
        assert_eq!(error.to_string(), "Failed to set up the server. out of memory");
    }
}
