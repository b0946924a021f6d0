//! The listening socket: how it is opened, and what each error of accept(2) means.
//!
//! Knows nothing of sessions: it hands out sockets, and says when to ask for more.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Instant;

use log::{debug, info, trace, warn};
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

use crate::config::{ACCEPT_BUDGET, ACCEPT_RETRY, Config, KEEPALIVE, UNSENT};
use crate::error::StartError;

/// The listening socket, and when to accept from it next.
#[derive(Debug)]
pub struct Acceptor {
    listener: TcpListener,
    next: Next,
    /// Clients lost in a row.
    lost: usize,
}

/// When to accept next. Clients who wait in the queue cause one event, when they come; whoever leaves them there must
/// remember it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// When the listener's event says that somebody knocks.
    OnEvent,
    /// In this round: it has said so.
    Now,
    /// The system had no room for one more: as soon as a session ends, or at this time.
    Paused(Instant),
}

/// What one accept brought.
#[derive(Debug)]
pub enum Accepted {
    /// A client.
    Client(TcpStream, SocketAddr),
    /// A client that is gone already, or a failure of the network below it: the next may be well.
    Lost(io::Error),
    /// No client for now.
    Nobody,
    /// No client from now on: the system has no room for one more.
    Paused(io::Error),
    /// The same, as before.
    StillPaused(io::Error),
}

impl Acceptor {
    /// Opens a listening socket on the configured host: of a name with several addresses, the first that this machine
    /// has.
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
        Ok(Self { listener: TcpListener::from_std(result?.into()), next: Next::OnEvent, lost: 0 })
    }

    /// The address that clients connect to.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Asks to be told when clients wait.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut self.listener, token, Interest::READABLE)
    }

    /// Hears that somebody knocks. A pause is not cut short by it: the system has as little room as before.
    pub fn knocked(&mut self) {
        if self.next == Next::OnEvent {
            self.next = Next::Now;
        }
    }

    /// How many clients to accept in the round that began at `now`, with so many `events`, and in which `ended` sessions
    /// have made room.
    ///
    /// As many as there were events, [`ACCEPT_BUDGET`] at most, so that newcomers fare as those inside. In a quiet round
    /// that is one, and nearly always only one knocks. Accepting on until `WouldBlock` would have the kernel make a
    /// socket and a file for nobody each time, at many times the price of [`Acceptor::rearm`].
    pub fn share(&self, now: Instant, events: usize, ended: usize) -> usize {
        match self.next {
            Next::Now => events.min(ACCEPT_BUDGET),
            Next::Paused(until) if ended > 0 || until <= now => ACCEPT_BUDGET,
            Next::OnEvent | Next::Paused(_) => 0,
        }
    }

    /// When accepting is due without an event. `None`, nearly always: only an event brings somebody.
    pub fn next_due(&self) -> Option<Instant> {
        match self.next {
            Next::OnEvent | Next::Now => None,
            Next::Paused(until) => Some(until),
        }
    }

    /// Accepts one client.
    pub fn accept(&mut self, now: Instant) -> Accepted {
        match self.listener.accept() {
            Ok((stream, peer)) => {
                self.lost = 0;
                Accepted::Client(stream, canonical(peer))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.lost = 0;
                Accepted::Nobody
            }
            // With nothing but failures, going on at once would go round and round.
            Err(error) if is_lost(&error) && self.lost < ACCEPT_BUDGET => {
                self.lost += 1;
                Accepted::Lost(error)
            }
            Err(error) => self.pause(now, error),
        }
    }

    /// Ends the accepting of this round: if somebody still waits, the kernel is to say so anew, because the event that told
    /// of them is used up. That it looks for itself makes up for a `WouldBlock` that was not true as well.
    pub fn rearm(&mut self, registry: &Registry, token: Token, now: Instant) {
        trace!("listener: interest {:?}", Interest::READABLE);
        self.next = match registry.reregister(&mut self.listener, token, Interest::READABLE) {
            Ok(()) => Next::OnEvent,
            Err(error) => {
                warn!("The listening socket cannot be waited for: {error}");
                Next::Paused(now + ACCEPT_RETRY)
            }
        };
    }

    /// Leaves those who wait in the queue for a while. Without this nobody would come back for them.
    fn pause(&mut self, now: Instant, error: io::Error) -> Accepted {
        let paused_before = matches!(self.next, Next::Paused(_));
        self.next = Next::Paused(now + ACCEPT_RETRY);
        self.lost = 0;
        if paused_before { Accepted::StillPaused(error) } else { Accepted::Paused(error) }
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
/// What an accepted socket inherits on Linux is set here, once: non-blocking mode is not among it (mio's accept4 asks
/// for that), `TCP_NODELAY`, the limit of unsent bytes and keepalive are. So an accept costs no further system call for
/// options.
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
        socket.set_only_v6(false)?;
    }
    // An answer is written whole, once. Waiting for more to send with it (Nagle) would only delay it.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_notsent_lowat(UNSENT)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))
}

/// A dual-stack socket sees IPv4 clients as `::ffff:127.0.0.1`; they know themselves as 127.0.0.1.
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
        let (mut acceptor, _client) = with_one_waiting();
        let Accepted::Client(stream, _) = acceptor.accept(Instant::now()) else { panic!("a client waits") };
        let socket = SockRef::from(&stream);
        assert!(socket.tcp_nodelay().expect("a TCP option"));
        assert_eq!(socket.tcp_notsent_lowat().expect("a TCP option"), UNSENT);
        assert!(socket.keepalive().expect("a socket option"));
        assert_eq!(socket.tcp_keepalive_time().expect("a TCP option"), KEEPALIVE);
    }

    #[test]
    fn a_pause_ends_with_a_round_that_finds_room_for_all_it_may_accept() {
        let (mut acceptor, _client) = with_one_waiting();
        let (poll, now) = (mio::Poll::new().expect("epoll"), Instant::now());
        acceptor.register(poll.registry(), Token(0)).expect("a listening socket can be waited for");
        acceptor.pause(now, io::ErrorKind::OutOfMemory.into());
        assert_eq!(acceptor.share(now, 1, 0), 0);
        assert_eq!(acceptor.share(now, 1, 1), ACCEPT_BUDGET);
        assert!(matches!(acceptor.accept(now), Accepted::Client(..)));
        acceptor.rearm(poll.registry(), Token(0), now);
        assert_eq!(acceptor.next_due(), None);
    }

    #[test]
    fn those_who_knock_get_as_many_turns_as_those_inside() {
        let (mut acceptor, _client) = with_one_waiting();
        assert_eq!(acceptor.share(Instant::now(), 5, 5), 0, "nobody has knocked");
        acceptor.knocked();
        let shares = [1, 5, 1000].map(|events| acceptor.share(Instant::now(), events, 0));
        assert_eq!(shares, [1, 5, ACCEPT_BUDGET]);
    }

    /// An acceptor, and a client that waits to be accepted.
    fn with_one_waiting() -> (Acceptor, std::net::TcpStream) {
        let config = Config { host: "127.0.0.1".to_owned(), port: 0, ..Config::default() };
        let acceptor = Acceptor::bind(&config).expect("a free port on loopback");
        let address = acceptor.local_addr().expect("a bound socket has an address");
        (acceptor, std::net::TcpStream::connect(address).expect("the backlog has room"))
    }
}
