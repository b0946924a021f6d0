//! The listening socket: how it is opened, and what each error of accept(2) means.
//!
//! Knows nothing of sessions: it hands out sockets, and says when to stop asking.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use log::info;
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

use crate::config::{Config, KEEPALIVE};

/// The listening socket.
#[derive(Debug)]
pub struct Acceptor {
    listener: TcpListener,
}

/// What one accept brought.
#[derive(Debug)]
pub enum Accepted {
    /// A client.
    Client(TcpStream, SocketAddr),
    /// Nobody is waiting: the next one causes a new event.
    Nobody,
    /// A client that is gone already, or a failure of the network below it: the next may be well.
    Lost(io::Error),
    /// The system has no room for one more. Those waiting cause no new event.
    NoRoom(io::Error),
}

impl Acceptor {
    /// Opens a listening socket on the first address of the configured host that can be bound.
    pub fn bind(config: &Config) -> Result<Self, StartError> {
        let resolved = (config.host.as_str(), config.port).to_socket_addrs();
        let addresses: Vec<SocketAddr> =
            resolved.map_err(|error| StartError::Resolve(config.host.clone(), error))?.collect();
        let mut result = Err(StartError::Resolve(config.host.clone(), io::ErrorKind::NotFound.into()));
        for address in addresses {
            result = listen(address, config);
            if result.is_ok() {
                break;
            }
        }
        Ok(Self { listener: TcpListener::from_std(result?.into()) })
    }

    /// The address that clients connect to.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Asks to be told when clients wait.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut self.listener, token, Interest::READABLE)
    }

    /// Asks anew, because accepting stopped before nobody was left: the event came once and is used up.
    pub fn rearm(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.reregister(&mut self.listener, token, Interest::READABLE)
    }

    /// Accepts one client.
    pub fn accept(&self) -> Accepted {
        match self.listener.accept() {
            Ok((stream, peer)) => Accepted::Client(stream, canonical(peer)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Accepted::Nobody,
            Err(error) if is_lost(&error) => Accepted::Lost(error),
            Err(error) => Accepted::NoRoom(error),
        }
    }
}

/// Whether an error of accept(2) concerns one client only. Its page: "Linux `accept()` passes already-pending network
/// errors on the new socket as an error code from `accept()`. […] the application should detect the network errors
/// defined for the protocol after `accept()` and treat them like EAGAIN by retrying." EPERM is a firewall's doing.
///
/// All others, EMFILE, ENFILE, ENOBUFS and ENOMEM above all, hold for the next client as well. `io::ErrorKind` has no
/// names for most of them.
fn is_lost(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECONNABORTED
                | libc::EINTR
                | libc::EPERM
                | libc::EPROTO
                | libc::ENOPROTOOPT
                | libc::EOPNOTSUPP
                | libc::ENETDOWN
                | libc::ENETUNREACH
                | libc::ENONET
                | libc::EHOSTDOWN
                | libc::EHOSTUNREACH
        )
    )
}

/// Opens a listening socket on one address.
///
/// What an accepted socket inherits on Linux is set here, once: not blocking is not among it (mio's accept4 asks for
/// that), `TCP_NODELAY` and keepalive are. So an accept costs no further system call for options.
fn listen(address: SocketAddr, config: &Config) -> Result<Socket, StartError> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))
        .map_err(StartError::Create)?;
    info!("Socket created");
    set_options(&socket, address, config).map_err(StartError::Create)?;
    socket.bind(&address.into()).map_err(|error| StartError::Bind(address, error))?;
    info!("Socket bind complete");
    let backlog = i32::try_from(config.backlog).unwrap_or(i32::MAX);
    socket.listen(backlog).map_err(|error| StartError::Listen(address, error))?;
    Ok(socket)
}

fn set_options(socket: &Socket, address: SocketAddr, config: &Config) -> io::Result<()> {
    // A restart may bind while connections of the process before it are in TIME_WAIT (socket(7)).
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(config.reuse_port)?;
    if address.is_ipv6() {
        // `::` serves IPv4 as well, whatever the system's default is.
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    // An answer is written whole, once. Waiting for more to send with it (Nagle) would only delay it.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))
}

/// A dual-stack socket sees IPv4 clients as `::ffff:127.0.0.1`; they know themselves as 127.0.0.1.
fn canonical(peer: SocketAddr) -> SocketAddr {
    SocketAddr::new(peer.ip().to_canonical(), peer.port())
}

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
    use socket2::SockRef;

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
    fn only_errors_of_one_client_are_passed_over() {
        for code in [libc::ECONNABORTED, libc::EINTR, libc::EPROTO, libc::EHOSTUNREACH, libc::EPERM] {
            assert!(is_lost(&io::Error::from_raw_os_error(code)), "errno {code} is one client's");
        }
        for code in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM, libc::EBADF, libc::EINVAL] {
            assert!(!is_lost(&io::Error::from_raw_os_error(code)), "errno {code} holds for the next as well");
        }
    }

    #[test]
    fn accepted_sockets_inherit_the_options() {
        let config = Config { host: "127.0.0.1".to_owned(), port: 0, ..Config::default() };
        let acceptor = Acceptor::bind(&config).expect("a free port on loopback");
        let address = acceptor.local_addr().expect("a bound socket has an address");
        let _client = std::net::TcpStream::connect(address).expect("the backlog has room");
        let Accepted::Client(stream, _) = acceptor.accept() else { panic!("a client waits") };
        let socket = SockRef::from(&stream);
        assert!(socket.tcp_nodelay().expect("a TCP option"));
        assert!(socket.keepalive().expect("a socket option"));
        assert_eq!(socket.tcp_keepalive_time().expect("a TCP option"), KEEPALIVE);
    }
}
