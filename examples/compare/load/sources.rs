//! Where the load's connections come from: loopback addresses and ports chosen by hand.
//!
//! A connection is told apart by its two addresses and two ports. From one address the system has about 28,000 ports to
//! give, it looks for a free one longer and longer as they run out, and each connection that the client closes first
//! keeps its port for a minute more (`TIME_WAIT`). On Linux all of 127.0.0.0/8 is this machine, so there are ports
//! enough for any load if one takes them in turn from several addresses.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;

use mio::net::TcpStream;

use crate::connect::connect_from;

/// The last number of the addresses 127.0.0.x. The first is left to the servers.
const HOSTS: RangeInclusive<u8> = 2..=17;
/// The ports taken from each: below are those of well-known servers, above those that the system gives away itself, to
/// the servers here for one. A server that does not set `SO_REUSEADDR` must not find its port in `TIME_WAIT`.
const PORTS: RangeInclusive<u16> = 10_000..=29_999;
/// So many taken ports in a row mean that something else is wrong.
const TRIES: usize = 1000;

/// The next address and port to connect from.
#[derive(Debug)]
pub struct Sources {
    host: u8,
    port: u16,
}

impl Sources {
    /// All of them still to be used.
    pub fn new() -> Self {
        Self { host: *HOSTS.start(), port: *PORTS.start() }
    }

    /// Starts a connection to `target`, without waiting for it.
    pub fn connect(&mut self, target: SocketAddr) -> io::Result<TcpStream> {
        let by_hand = cfg!(target_os = "linux") && matches!(target.ip(), IpAddr::V4(ip) if ip.is_loopback());
        if !by_hand {
            return TcpStream::connect(target);
        }
        let mut result = Err(io::ErrorKind::AddrInUse.into());
        for _ in 0..TRIES {
            result = connect_from(self.next(), target);
            let Err(error) = &result else { break };
            if !matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable) {
                break;
            }
        }
        result
    }

    fn next(&mut self) -> SocketAddr {
        let source = SocketAddr::from((Ipv4Addr::new(127, 0, 0, self.host), self.port));
        self.host = if self.host == *HOSTS.end() { *HOSTS.start() } else { self.host + 1 };
        if self.host == *HOSTS.start() {
            self.port = if self.port == *PORTS.end() { *PORTS.start() } else { self.port + 1 };
        }
        source
    }
}
