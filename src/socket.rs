//! The sockets: TCP and Unix, their options, and what differs between the systems.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use mio::event::Source;
use mio::net::{TcpListener, TcpStream};
#[cfg(unix)]
use mio::net::{UnixListener, UnixStream};
use mio::{Interest, Registry, Token};
use socket2::{SockRef, Socket as RawSocket, TcpKeepalive};

use crate::address::Address;
use crate::config::{Config, KEEPALIVE};

/// A client's socket.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

/// Does the same with the socket of either kind.
macro_rules! with_socket {
    ($socket:expr, $name:ident => $result:expr) => {
        match $socket {
            Socket::Tcp($name) => $result,
            #[cfg(unix)]
            Socket::Unix($name) => $result,
        }
    };
}

impl Read for Socket {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        with_socket!(self, socket => socket.read(bytes))
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        with_socket!(self, socket => socket.write(bytes))
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        with_socket!(self, socket => socket.write_vectored(parts))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Source for Socket {
    fn register(&mut self, registry: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        with_socket!(self, socket => socket.register(registry, token, interest))
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        with_socket!(self, socket => socket.reregister(registry, token, interest))
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        with_socket!(self, socket => socket.deregister(registry))
    }
}

impl Socket {
    /// Begins a connection. An event says when it is open, or has failed.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpStream::connect(address)?;
        let raw = SockRef::from(&socket);
        #[cfg(any(target_os = "linux", target_os = "android"))]
        raw.set_tcp_notsent_lowat(crate::config::NOTSENT_LOWAT)?;
        set_conversation_options(&raw)?;
        Ok(Self::Tcp(socket))
    }

    /// Whether a connection that was begun is open now. "Writable" alone does not say it: an event is a hint, and a
    /// connection that has failed is writable too (connect(2), EINPROGRESS; mio, `TcpStream::connect`).
    ///
    /// # Errors
    ///
    /// Why it has failed.
    pub fn is_connected(&self) -> io::Result<bool> {
        let socket = match self {
            Self::Tcp(socket) => socket,
            #[cfg(unix)]
            Self::Unix(_) => return Ok(true),
        };
        if let Some(error) = socket.take_error()? {
            return Err(error);
        }
        match socket.peer_addr() {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Ends our direction of the stream: the client reads what was written, then the end of input.
    pub fn shutdown_write(&self) -> io::Result<()> {
        with_socket!(self, socket => socket.shutdown(Shutdown::Write))
    }

    /// The address of the server's end.
    pub fn local_addr(&self) -> io::Result<Address> {
        match self {
            Self::Tcp(socket) => socket.local_addr().map(Address::from),
            #[cfg(unix)]
            Self::Unix(_) => Ok(Address::Unix),
        }
    }

    /// Whether the client's kernel has everything, after the shutdown. `None`: this system cannot tell.
    ///
    /// Linux tells by the state of the connection: our end is acknowledged only behind the last byte (RFC 9293, 3.6;
    /// `TCP_INFO`, tcp(7)). An event comes when it is (`net/ipv4/tcp_input.c`, `tcp_rcv_state_process`,
    /// `sk_state_change`). What is written to a Unix socket is in the client's queue immediately.
    ///
    /// # Errors
    ///
    /// The connection was reset, or timed out.
    #[cfg_attr(
        not(any(target_os = "linux", target_os = "android")),
        expect(clippy::unnecessary_wraps, reason = "Linux can fail")
    )]
    pub fn is_delivered(&self) -> io::Result<Option<bool>> {
        match self {
            #[cfg(any(target_os = "linux", target_os = "android"))]
            Self::Tcp(socket) => linux::is_delivered(socket).map(Some),
            #[cfg(not(any(target_os = "linux", target_os = "android")))]
            Self::Tcp(_) => Ok(None),
            #[cfg(unix)]
            Self::Unix(_) => Ok(Some(true)),
        }
    }

    /// Limits how long the kernel waits for a client that takes none of what was written (`TCP_USER_TIMEOUT`, tcp(7)).
    /// Then the connection ends with `TimedOut`. Set only at the end, because it overrides the keepalive.
    #[cfg_attr(
        not(any(target_os = "linux", target_os = "android")),
        expect(clippy::unused_self, reason = "Linux has the option")
    )]
    pub fn limit_delivery(&self, timeout: Duration) {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if let Self::Tcp(socket) = self {
            // It fails only if the connection has ended already.
            let _ = SockRef::from(socket).set_tcp_user_timeout(Some(timeout));
        }
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        let _ = timeout;
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod linux {
    use std::io;

    use mio::net::TcpStream;
    use nix::sys::socket::getsockopt;
    use nix::{getsockopt_impl, sockopt_impl};

    sockopt_impl!(TcpInfo, GetOnly, libc::IPPROTO_TCP, libc::TCP_INFO, libc::tcp_info);

    /// States of a connection (`include/net/tcp_states.h`): our end is acknowledged.
    const FIN_WAIT_2: u8 = 5;
    const TIME_WAIT: u8 = 6;
    /// Both ends are acknowledged, or the connection has failed.
    const CLOSE: u8 = 7;

    pub fn is_delivered(socket: &TcpStream) -> io::Result<bool> {
        let info = getsockopt(socket, TcpInfo)?;
        match info.tcpi_state {
            FIN_WAIT_2 | TIME_WAIT => Ok(true),
            CLOSE => socket.take_error()?.map_or(Ok(true), Err),
            _ => Ok(false),
        }
    }
}

/// A listening socket.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(UnixListener),
}

impl Listener {
    /// Accepts one client.
    pub fn accept(&self) -> io::Result<(Socket, Address)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept()?;
                set_session_options(&stream);
                Ok((Socket::Tcp(stream), peer.into()))
            }
            #[cfg(unix)]
            Self::Unix(listener) => {
                listener.accept().map(|(stream, _)| (Socket::Unix(stream), Address::Unix))
            }
        }
    }

    /// The address that clients connect to.
    pub fn local_addr(&self) -> io::Result<Address> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Address::Ip),
            #[cfg(unix)]
            Self::Unix(_) => Ok(Address::Unix),
        }
    }
}

impl Source for Listener {
    fn register(&mut self, registry: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        match self {
            Self::Tcp(listener) => listener.register(registry, token, interest),
            #[cfg(unix)]
            Self::Unix(listener) => listener.register(registry, token, interest),
        }
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        match self {
            Self::Tcp(listener) => listener.reregister(registry, token, interest),
            #[cfg(unix)]
            Self::Unix(listener) => listener.reregister(registry, token, interest),
        }
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        match self {
            Self::Tcp(listener) => listener.deregister(registry),
            #[cfg(unix)]
            Self::Unix(listener) => listener.deregister(registry),
        }
    }
}

/// Sets what the listening socket needs before it is bound.
///
/// With `SO_REUSEADDR` a new server may bind the port while connections of the last one are in `TIME_WAIT` (socket(7)).
/// On Windows that needs no option, and this one would let any other program take the port (Microsoft, "Using
/// `SO_REUSEADDR` and `SO_EXCLUSIVEADDRUSE`").
pub(crate) fn set_listener_options(socket: &RawSocket, config: &Config) -> io::Result<()> {
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    if config.reuse_port {
        set_share_port(socket)?;
    }
    set_inherited_options(socket)
}

/// Sets what sessions inherit from their listening socket.
pub(crate) fn set_inherited_options(listener: &RawSocket) -> io::Result<()> {
    // The sessions of Linux and Android inherit it. socket2 has the option for them only.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    listener.set_tcp_notsent_lowat(crate::config::NOTSENT_LOWAT)?;
    if SESSIONS_INHERIT {
        set_conversation_options(listener)?;
    }
    Ok(())
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn set_share_port(socket: &RawSocket) -> io::Result<()> {
    socket.set_reuse_port(true)
}

/// `SO_REUSEPORT` of FreeBSD gives all sessions to the last process. This one spreads them (setsockopt(2)).
#[cfg(target_os = "freebsd")]
fn set_share_port(socket: &RawSocket) -> io::Result<()> {
    socket.set_reuse_port_lb(true)
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
fn set_share_port(_: &RawSocket) -> io::Result<()> {
    Err(ErrorKind::Unsupported.into())
}

/// Whether a session has all options of its listener, and an accept costs no more system calls.
///
/// - Linux copies them with the socket.
/// - FreeBSD copies those of the socket (`sys/kern/uipc_socket.c`, `sonewconn`), and those of TCP one by one
///   (`sys/netinet/tcp_syncache.c`, `syncache_socket`).
/// - macOS leaves out the time before the first keepalive probe (`bsd/netinet/tcp_input.c`, `t_keepidle`).
/// - Windows promises "the same properties" and names no option (Microsoft, "accept"). `ReactOS` copies none but the
///   non-blocking mode (`dll/win32/msafd/misc/dllmain.c`, `WSPAccept`).
const SESSIONS_INHERIT: bool = cfg!(any(target_os = "linux", target_os = "android", target_os = "freebsd"));

/// Sets what a session does not inherit from its listener. No error matters here: if the client has reset the
/// connection, macOS refuses every option, and the session's first read returns the error.
fn set_session_options(stream: &TcpStream) {
    if !SESSIONS_INHERIT {
        let _ = set_conversation_options(&SockRef::from(stream));
    }
}

fn set_conversation_options(socket: &RawSocket) -> io::Result<()> {
    // Urgent data stays in its place in the stream (RFC 6093, section 7). Otherwise the kernel takes the last urgent byte
    // out of it (tcp(7)). Telnet's Synch sends half a command as urgent.
    socket.set_out_of_band_inline(true)?;
    // Answers are written whole. Nagle's algorithm would only delay them.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))
}

/// Whether an error of accept(2) concerns one client only. Its page: "Linux `accept()` passes already-pending network
/// errors on the new socket as an error code from `accept()`. […] the application should detect the network errors
/// defined for the protocol after `accept()` and treat them like EAGAIN by retrying." EPERM comes from a firewall.
///
/// All others hold for the next client as well: EMFILE, ENFILE, ENOBUFS and ENOMEM above all. `io::ErrorKind` has no
/// names for most of them.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn is_one_clients(error: &io::Error) -> bool {
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

/// Whether an error of `accept` concerns one client only. The client has reset the connection while it waited: BSD says
/// ECONNABORTED, Windows WSAECONNRESET. macOS may return a socket without an address instead, which mio reports as
/// `InvalidInput` without a code (`bsd/kern/uipc_syscalls.c`, `accept_nocancel`; mio, `sys/unix/net.rs`,
/// `to_socket_addr`).
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn is_one_clients(error: &io::Error) -> bool {
    match error.kind() {
        ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted => true,
        ErrorKind::InvalidInput => error.raw_os_error().is_none(),
        _ => false,
    }
}

#[cfg(unix)]
const NO_SUCH_FAMILY: i32 = libc::EAFNOSUPPORT;
/// `WSAEAFNOSUPPORT` (winsock2.h). Winsock's codes are not errno values.
#[cfg(windows)]
const NO_SUCH_FAMILY: i32 = 10047;

/// Whether this machine does not have the address, or not its family (IPv6). `io::ErrorKind` has no name for the
/// second.
pub(crate) fn is_no_such_address(error: &io::Error) -> bool {
    error.kind() == ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(NO_SUCH_FAMILY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn only_errors_of_one_client_let_accepting_go_on() {
        for code in [libc::ECONNABORTED, libc::EINTR, libc::EPROTO, libc::EHOSTUNREACH, libc::EPERM] {
            assert!(is_one_clients(&io::Error::from_raw_os_error(code)), "errno {code} is one client's");
        }
        for code in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM, libc::EBADF, libc::EINVAL] {
            assert!(!is_one_clients(&io::Error::from_raw_os_error(code)), "errno {code} holds for the next");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn accepted_sockets_inherit_the_options() {
        use crate::config::{Config, NOTSENT_LOWAT};

        let config = Config { host: "127.0.0.1".to_owned(), port: 0, ..Config::default() };
        let listener = RawSocket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        set_listener_options(&listener, &config).expect("options of the socket");
        listener.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
        listener.listen(1).expect("a bound socket");
        let address = listener.local_addr().expect("a bound socket has an address").as_socket();
        let _client =
            std::net::TcpStream::connect(address.expect("an IP address")).expect("the backlog has room");
        let (accepted, _) = listener.accept().expect("a client waits");
        let socket = SockRef::from(&accepted);
        assert!(socket.out_of_band_inline().expect("a socket option"));
        assert!(socket.tcp_nodelay().expect("a TCP option"));
        assert_eq!(socket.tcp_notsent_lowat().expect("a TCP option"), NOTSENT_LOWAT);
        assert!(socket.keepalive().expect("a socket option"));
        assert_eq!(socket.tcp_keepalive_time().expect("a TCP option"), KEEPALIVE);
    }

    #[test]
    fn a_family_that_the_machine_lacks_is_no_such_address() {
        assert!(is_no_such_address(&io::Error::from_raw_os_error(NO_SUCH_FAMILY)));
        assert!(is_no_such_address(&ErrorKind::AddrNotAvailable.into()));
        assert!(!is_no_such_address(&ErrorKind::AddrInUse.into()));
    }
}
