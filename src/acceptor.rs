//! The listening socket: how it is opened, when to accept, and what each error of accept(2) means.
//!
//! It knows no session.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Instant;

use log::{debug, info, trace, warn};
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

use crate::config::{ACCEPT_BUDGET, ACCEPT_RETRY, Config, KEEPALIVE, NOTSENT_LOWAT};
use crate::error::StartError;

/// The listening socket, and when to accept from it.
#[derive(Debug)]
pub struct Acceptor {
    listener: TcpListener,
    state: State,
}

/// A client in the accept queue causes one event, when it arrives. If the loop leaves it there, it must remember that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The queue was empty, or the listener is re-armed: the next event says when to accept.
    Waiting,
    /// The event came in this iteration.
    Ready,
    /// The system has no room for one more connection. Accepting goes on when a session ends, or at this time.
    Paused(Instant),
}

impl Acceptor {
    /// Opens a listening socket on the configured host. If the name has several addresses, it takes the first one that
    /// this machine has.
    pub fn bind(config: &Config) -> Result<Self, StartError> {
        let resolve_error = |error| StartError::Resolve(config.host.clone(), error);
        let addresses = (config.host.as_str(), config.port).to_socket_addrs().map_err(resolve_error)?;
        let mut result = Err(resolve_error(io::ErrorKind::NotFound.into()));
        for address in addresses {
            result = listen(address, config);
            match &result {
                Err(error) if error.is_no_such_address() => debug!("{error}"),
                _ => break,
            }
        }
        Ok(Self { listener: TcpListener::from_std(result?.into()), state: State::Waiting })
    }

    /// The address that clients connect to.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Asks the kernel for an event when a client is in the queue.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut self.listener, token, Interest::READABLE)
    }

    /// Remembers the listener's event. It does not end a pause: the system has as little room as before.
    pub fn on_readable(&mut self) {
        trace!("listener: ready");
        if self.state == State::Waiting {
            self.state = State::Ready;
        }
    }

    /// How many clients to accept in an iteration with so many `events`, in which `ended` sessions have made room.
    ///
    /// As many as there were events, at most [`ACCEPT_BUDGET`]: new clients and open sessions share the loop equally.
    /// In a quiet iteration that is 1, and nearly always only one client waits. To accept until `WouldBlock` would cost
    /// one more `accept`, for which the kernel makes a socket and a file and discards them. That costs many times as
    /// much as [`Acceptor::rearm`].
    pub fn accept_quota(&self, now: Instant, events: usize, ended: usize) -> usize {
        match self.state {
            State::Waiting => 0,
            State::Ready => events.min(ACCEPT_BUDGET),
            State::Paused(until) if ended > 0 || until <= now => ACCEPT_BUDGET,
            State::Paused(_) => 0,
        }
    }

    /// When accepting is due without an event, if it is.
    pub fn next_due(&self) -> Option<Instant> {
        match self.state {
            State::Paused(until) => Some(until),
            State::Waiting | State::Ready => None,
        }
    }

    /// Accepts one client.
    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        self.listener.accept().map(|(stream, peer)| (stream, canonical(peer)))
    }

    /// Asks the kernel again for an event, because the last one is used up. If clients still wait, the event comes
    /// immediately: the kernel looks at the queue when it is asked.
    pub fn rearm(&mut self, registry: &Registry, token: Token, now: Instant) {
        trace!("listener: interest {:?}", Interest::READABLE);
        self.state = match registry.reregister(&mut self.listener, token, Interest::READABLE) {
            Ok(()) => State::Waiting,
            Err(error) => {
                warn!("The listening socket cannot be registered: {error}");
                State::Paused(now + ACCEPT_RETRY)
            }
        };
    }

    /// Leaves the clients in the queue for a while. Without this the loop would wait for an event that has already
    /// been. Returns whether this is a new pause.
    pub fn pause(&mut self, now: Instant) -> bool {
        let is_new = !matches!(self.state, State::Paused(_));
        self.state = State::Paused(now + ACCEPT_RETRY);
        is_new
    }
}

/// Whether an error of accept(2) concerns one client only. Its page: "Linux `accept()` passes already-pending network
/// errors on the new socket as an error code from `accept()`. […] the application should detect the network errors
/// defined for the protocol after `accept()` and treat them like EAGAIN by retrying." EPERM comes from a firewall.
///
/// All others hold for the next client as well: EMFILE, ENFILE, ENOBUFS and ENOMEM above all. `io::ErrorKind` has no
/// names for most of them.
pub fn is_one_clients(error: &io::Error) -> bool {
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
/// On Linux an accepted socket inherits `TCP_NODELAY`, the limit of unsent bytes and keepalive. They are set here, once,
/// and an accept costs no more system calls. It does not inherit non-blocking mode: mio asks accept4(2) for that.
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
    // A new server may bind the port while connections of the last one are in TIME_WAIT (socket(7)).
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(config.reuse_port)?;
    if address.is_ipv6() {
        // `::` serves IPv4 too, whatever the system's default is.
        socket.set_only_v6(false)?;
    }
    // Answers are written whole. Nagle's algorithm would only delay them.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_notsent_lowat(NOTSENT_LOWAT)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))
}

/// A dual-stack socket reports an IPv4 client as `::ffff:127.0.0.1`. The log says 127.0.0.1.
fn canonical(peer: SocketAddr) -> SocketAddr {
    match peer {
        SocketAddr::V6(v6) => v6.ip().to_ipv4_mapped().map_or(peer, |ip| SocketAddr::from((ip, v6.port()))),
        SocketAddr::V4(_) => peer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::SockRef;

    #[test]
    fn only_errors_of_one_client_let_accepting_go_on() {
        for code in [libc::ECONNABORTED, libc::EINTR, libc::EPROTO, libc::EHOSTUNREACH, libc::EPERM] {
            assert!(is_one_clients(&io::Error::from_raw_os_error(code)), "errno {code} is one client's");
        }
        for code in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM, libc::EBADF, libc::EINVAL] {
            assert!(!is_one_clients(&io::Error::from_raw_os_error(code)), "errno {code} holds for the next");
        }
    }

    #[test]
    fn accepted_sockets_inherit_the_options() {
        let (acceptor, _client) = with_one_waiting();
        let (stream, _) = acceptor.accept().expect("a client waits");
        let socket = SockRef::from(&stream);
        assert!(socket.tcp_nodelay().expect("a TCP option"));
        assert_eq!(socket.tcp_notsent_lowat().expect("a TCP option"), NOTSENT_LOWAT);
        assert!(socket.keepalive().expect("a socket option"));
        assert_eq!(socket.tcp_keepalive_time().expect("a TCP option"), KEEPALIVE);
    }

    #[test]
    fn a_pause_ends_when_a_session_ends_or_its_time_is_over() {
        let (mut acceptor, _client) = with_one_waiting();
        let (poll, now) = (mio::Poll::new().expect("epoll"), Instant::now());
        acceptor.register(poll.registry(), Token(0)).expect("a listening socket can be registered");
        assert!(acceptor.pause(now));
        assert!(!acceptor.pause(now), "the pause goes on");
        acceptor.on_readable();
        assert_eq!(acceptor.accept_quota(now, 1, 0), 0);
        assert_eq!(acceptor.accept_quota(now, 1, 1), ACCEPT_BUDGET);
        assert_eq!(acceptor.accept_quota(now + ACCEPT_RETRY, 1, 0), ACCEPT_BUDGET);
        acceptor.rearm(poll.registry(), Token(0), now);
        assert_eq!((acceptor.next_due(), acceptor.accept_quota(now, 1, 1)), (None, 0));
    }

    #[test]
    fn new_clients_and_open_sessions_share_the_loop_equally() {
        let (mut acceptor, _client) = with_one_waiting();
        assert_eq!(acceptor.accept_quota(Instant::now(), 5, 5), 0, "there was no event");
        acceptor.on_readable();
        let quotas = [1, 5, 1000].map(|events| acceptor.accept_quota(Instant::now(), events, 0));
        assert_eq!(quotas, [1, 5, ACCEPT_BUDGET]);
    }

    /// An acceptor, and a client in its queue.
    fn with_one_waiting() -> (Acceptor, std::net::TcpStream) {
        let config = Config { host: "127.0.0.1".to_owned(), port: 0, ..Config::default() };
        let acceptor = Acceptor::bind(&config).expect("a free port on loopback");
        let address = acceptor.local_addr().expect("a bound socket has an address");
        (acceptor, std::net::TcpStream::connect(address).expect("the backlog has room"))
    }
}
