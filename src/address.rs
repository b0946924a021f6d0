//! Where a client, or a listener, is.

use std::fmt;
use std::net::SocketAddr;

/// The address of a client or of the server's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// An IP address and a port.
    Ip(SocketAddr),
    /// A Unix socket. Its clients have no name (unix(7)).
    Unix,
}

impl Address {
    /// The IP address and the port, if it has them.
    pub fn ip(self) -> Option<SocketAddr> {
        match self {
            Self::Ip(address) => Some(address),
            Self::Unix => None,
        }
    }
}

impl From<SocketAddr> for Address {
    /// A dual-stack socket reports an IPv4 client as `::ffff:127.0.0.1`. Here it is 127.0.0.1.
    fn from(address: SocketAddr) -> Self {
        Self::Ip(match address {
            SocketAddr::V6(v6) => {
                v6.ip().to_ipv4_mapped().map_or(address, |ip| SocketAddr::from((ip, v6.port())))
            }
            SocketAddr::V4(_) => address,
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix => f.write_str("unix socket"),
        }
    }
}
