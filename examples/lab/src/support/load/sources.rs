//! The addresses and ports that a load connects from, chosen by hand.
//!
//! A TCP connection is identified by its two addresses and two ports. The kernel gives out the ports of
//! `net.ipv4.ip_local_port_range`, about 28,000 for each source address, and searches longer and longer as they run
//! out. A port whose connection the client closed first stays in use for a minute more (`TIME_WAIT`). On Linux all of
//! 127.0.0.0/8 is this machine, so a load on loopback can take as many addresses as it needs, and the ports in turn.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use mio::net::TcpStream;
use socket2::{Domain, Socket, Type};

/// Addresses and ports, and which of them is the next. A clone goes on where the other one is.
#[derive(Debug, Clone)]
pub struct Sources {
    first_host: Ipv4Addr,
    hosts: u32,
    ports: RangeInclusive<u16>,
    next: Arc<AtomicU32>,
}

impl Sources {
    /// All these ports of each of these addresses.
    pub fn new(first_host: Ipv4Addr, hosts: u32, ports: RangeInclusive<u16>) -> Self {
        Self { first_host, hosts, ports, next: Arc::default() }
    }

    /// Starts a connection to `target`, without waiting for it: readiness tells its result. A pair of addresses and
    /// ports that is in use is passed over. `prepare` gets the socket first.
    pub fn connect(
        &self,
        target: SocketAddr,
        prepare: fn(&Socket) -> io::Result<()>,
    ) -> io::Result<TcpStream> {
        if !matches!(target.ip(), IpAddr::V4(ip) if ip.is_loopback()) {
            return TcpStream::connect(target);
        }
        let mut result = Err(ErrorKind::AddrInUse.into());
        for _ in self.ports.clone() {
            result = connect_from(self.next(), target, prepare);
            let Err(error) = &result else { break };
            // Another socket has the port, or a connection to the same server has it.
            if !matches!(error.kind(), ErrorKind::AddrInUse | ErrorKind::AddrNotAvailable) {
                break;
            }
        }
        result
    }

    fn next(&self) -> SocketAddr {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        let host = Ipv4Addr::from_bits(self.first_host.to_bits() + next % self.hosts);
        let ports = u32::from(self.ports.end() - self.ports.start()) + 1;
        let offset = u16::try_from(next / self.hosts % ports).expect("there are at most 2^16 ports");
        (host, self.ports.start() + offset).into()
    }
}

fn connect_from(
    source: SocketAddr,
    target: SocketAddr,
    prepare: fn(&Socket) -> io::Result<()>,
) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM.nonblocking(), None)?;
    // A port is then free again although an earlier connection to another server holds it in TIME_WAIT.
    socket.set_reuse_address(true)?;
    prepare(&socket)?;
    socket.bind(&source.into())?;
    match socket.connect(&target.into()) {
        Err(error) if error.raw_os_error() != Some(nix::libc::EINPROGRESS) => Err(error),
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}
