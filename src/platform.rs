//! What differs between the systems. The loop, the connection and the acceptor know none of it.
//!
//! mio runs on three kinds of kernels. Its rules for portable programs: read and write until `WouldBlock`, and expect
//! events without a reason (mio, `Poll`, "Portability"). Where a kernel promises more, the loop saves system calls:
//!
//! | | epoll | kqueue | IOCP |
//! |---|---|---|---|
//! | systems | Linux, Android | macOS, FreeBSD | Windows |
//! | [`Kernel::read_until`]: a short read means "empty" | yes | no | no |
//! | [`Kernel::short_write_means_full`] | yes | yes | no |
//! | [`Kernel::events_per_socket`] in one batch, at most | 1 | 2 | 1 |
//! | [`Kernel::may_be_full`]: a batch with room left holds everything | yes | yes | not certain |
//! | `reregister` re-arms | yes | yes | yes |
//! | `WouldBlock` re-arms | yes, with the next edge | yes, with the next edge | yes, mio registers again |

use std::io::{self, ErrorKind};

use mio::Interest;
use mio::net::TcpStream;
use socket2::{SockRef, Socket, TcpKeepalive};

use crate::config::{Config, EVENTS, KEEPALIVE};
use crate::readiness::Readable;

/// How the kernel, and mio above it, report readiness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernel {
    /// Linux, Android: epoll(7), edge-triggered.
    Epoll,
    /// macOS, FreeBSD: kqueue(2) with `EV_CLEAR`.
    Kqueue,
    /// Windows: mio asks the AFD driver to poll a socket, and the answer comes through an I/O completion port.
    Iocp,
}

impl Kernel {
    /// The kernel of the system that this program is built for.
    pub const HERE: Self = if cfg!(any(target_os = "linux", target_os = "android")) {
        Self::Epoll
    } else if cfg!(windows) {
        Self::Iocp
    } else {
        Self::Kqueue
    };

    /// How far a readable socket must be read before its next event can come.
    ///
    /// - epoll: a short read means "empty" (epoll(7), "Questions and answers"). The exceptions have events of their own.
    /// - kqueue: the same, but for urgent data. It also stops a read, and there is no event that warns of it
    ///   (mio, `sys/unix/selector/kqueue.rs`, `is_priority`).
    /// - IOCP: mio removes the interest when it delivers an event, and registers it again when a call returns
    ///   `WouldBlock` (mio, `sys/windows/selector.rs`, `feed_event`; `sys/windows/mod.rs`, `do_io`). A loop that stops
    ///   after a short read gets no event any more.
    pub const fn read_until(self) -> Readable {
        match self {
            Self::Epoll => Readable::UntilShort,
            Self::Kqueue | Self::Iocp => Readable::UntilBlocked,
        }
    }

    /// Whether a short write means that the socket is full and an event follows when it has room. On IOCP only
    /// `WouldBlock` brings the event, as for reading.
    pub const fn short_write_means_full(self) -> bool {
        match self {
            Self::Epoll | Self::Kqueue => true,
            Self::Iocp => false,
        }
    }

    /// The most events of one socket in one batch. kqueue has a filter for reading and one for writing, and each is
    /// an event (mio, `sys/unix/selector/kqueue.rs`, `register`).
    pub const fn events_per_socket(self) -> usize {
        match self {
            Self::Epoll | Self::Iocp => 1,
            Self::Kqueue => 2,
        }
    }

    /// Whether more may be ready than a batch with this many events holds. On IOCP the batch also has answers that mio
    /// drops, because the interest has changed since it asked (mio, `sys/windows/selector.rs`, `feed_events`). How many
    /// is not known.
    pub const fn may_be_full(self, events: usize) -> bool {
        match self {
            Self::Epoll | Self::Kqueue => events >= EVENTS,
            Self::Iocp => true,
        }
    }
}

/// The interest of a session that is read. PRIORITY says when a short read does not mean "empty"
/// ([`Readable::UntilBlocked`]). Only epoll has it.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub const READ: Interest = Interest::READABLE.add(Interest::PRIORITY);
/// The interest of a session that is read.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub const READ: Interest = Interest::READABLE;

/// Whether several processes can listen on one port, and the kernel spreads new sessions over them. macOS gives all to
/// one process, and Windows lets another program take the port.
pub const CAN_SHARE_PORT: bool = cfg!(any(target_os = "linux", target_os = "android", target_os = "freebsd"));

/// Sets what the listening socket needs before it is bound.
///
/// With `SO_REUSEADDR` a new server may bind the port while connections of the last one are in `TIME_WAIT` (socket(7)).
/// On Windows that needs no option, and this one would let any other program take the port (Microsoft, "Using
/// `SO_REUSEADDR` and `SO_EXCLUSIVEADDRUSE`").
pub fn set_listener_options(socket: &Socket, config: &Config) -> io::Result<()> {
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    if config.reuse_port {
        set_share_port(socket)?;
    }
    // The sessions of Linux and Android inherit it. socket2 has the option for them only.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_tcp_notsent_lowat(crate::config::NOTSENT_LOWAT)?;
    if SESSIONS_INHERIT {
        set_conversation_options(&SockRef::from(socket), config.urgent_inline)?;
    }
    Ok(())
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn set_share_port(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_port(true)
}

/// `SO_REUSEPORT` of FreeBSD gives all sessions to the last process. This one spreads them (setsockopt(2)).
#[cfg(target_os = "freebsd")]
fn set_share_port(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_port_lb(true)
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
fn set_share_port(_: &Socket) -> io::Result<()> {
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
pub fn set_session_options(stream: &TcpStream, urgent_inline: bool) {
    if !SESSIONS_INHERIT {
        let _ = set_conversation_options(&SockRef::from(stream), urgent_inline);
    }
}

fn set_conversation_options(socket: &Socket, urgent_inline: bool) -> io::Result<()> {
    if urgent_inline {
        socket.set_out_of_band_inline(true)?;
    }
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

/// Whether an error of `accept` concerns one client only. The client has reset the connection while it waited: BSD says
/// ECONNABORTED, Windows WSAECONNRESET. macOS may return a socket without an address instead, which mio reports as
/// `InvalidInput` without a code (`bsd/kern/uipc_syscalls.c`, `accept_nocancel`; mio, `sys/unix/net.rs`,
/// `to_socket_addr`).
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub fn is_one_clients(error: &io::Error) -> bool {
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
pub fn is_no_such_address(error: &io::Error) -> bool {
    error.kind() == ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(NO_SUCH_FAMILY)
}

/// Whether the client did not answer the keepalive probes. Unix says ETIMEDOUT, which `io::ErrorKind` names; Windows
/// says `WSAENETRESET` (winsock2.h), which it does not name.
pub fn is_keepalive_failure(error: &io::Error) -> bool {
    cfg!(windows) && error.raw_os_error() == Some(10052)
}

#[cfg(feature = "cli")]
pub use process::{Signals, is_out_of_files, raise_file_limit, signals_to_watch, survive_file_size_limit};

/// What the command needs of its process: signals, and limits.
#[cfg(all(unix, feature = "cli"))]
mod process {
    use std::fs;
    use std::io;
    use std::sync::Arc;

    use log::{info, warn};
    use mio::{Interest, Registry, Token};
    use rlimit::Resource;
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGXFSZ};
    use signal_hook::low_level::signal_name;

    use crate::control::{Handle, Requests};

    /// SIGTERM and SIGUSR1, and of SIGINT and SIGHUP those that were not ignored when the process started. A shell
    /// ignores SIGINT for `okloop &` in a script, and `nohup` ignores SIGHUP, for the processes that they start.
    ///
    /// Call it before the first handler is set.
    pub fn signals_to_watch() -> Vec<i32> {
        // Linux tells. Elsewhere SIGHUP keeps its effect: it is ignored under `nohup`, and ends the process otherwise.
        let status = fs::read_to_string("/proc/self/status");
        let ignored = status.ok().and_then(|status| ignored_in(&status)).unwrap_or(bit(SIGHUP));
        let not_ignored = [SIGINT, SIGHUP].into_iter().filter(|&signal| ignored & bit(signal) == 0);
        [SIGTERM, SIGUSR1].into_iter().chain(not_ignored).collect()
    }

    /// The set of ignored signals in the text of `/proc/self/status` (`SigIgn`, proc(5)).
    fn ignored_in(status: &str) -> Option<u64> {
        let set = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
        u64::from_str_radix(set.trim(), 16).ok()
    }

    fn bit(signal: i32) -> u64 {
        1 << (signal - 1)
    }

    /// A signal is an event of the loop.
    pub struct Signals(signal_hook_mio::v1_0::Signals);

    impl Signals {
        /// Watches the signals, and wakes the loop with `token`.
        pub fn watch(registry: &Registry, token: Token, signals: &[i32], _: &Handle) -> io::Result<Self> {
            let mut signals = signal_hook_mio::v1_0::Signals::new(signals)?;
            registry.register(&mut signals, token, Interest::READABLE)?;
            Ok(Self(signals))
        }

        /// Adds what the signals since the last call ask for.
        pub fn add_to(&mut self, requests: &mut Requests) {
            for signal in self.0.pending() {
                info!("Received {}", signal_name(signal).unwrap_or("a signal"));
                match signal {
                    SIGUSR1 => requests.report = true,
                    _ => requests.stop = true,
                }
            }
        }
    }

    /// Lets a write fail when the log's file has reached its limit (`ulimit -f`, setrlimit(2)). Without a handler,
    /// SIGXFSZ ends the process.
    pub fn survive_file_size_limit() -> io::Result<()> {
        signal_hook::flag::register(SIGXFSZ, Arc::default()).map(drop)
    }

    /// Raises the limit of open files to the hard limit, which needs no privilege, and returns it.
    pub fn raise_file_limit() -> io::Result<usize> {
        let limit = rlimit::increase_nofile_limit(u64::MAX).or_else(|error| {
            warn!("The limit of open files stays as it is: {error}");
            Resource::NOFILE.get_soft()
        })?;
        Ok(usize::try_from(limit).unwrap_or(usize::MAX))
    }

    /// Whether the process has as many open files as its limit allows.
    pub fn is_out_of_files(error: &io::Error) -> bool {
        error.raw_os_error() == Some(libc::EMFILE)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn linux_tells_the_ignored_signals_as_a_set_of_bits() {
            let status = "SigBlk:\t0000000000000000\nSigIgn:\t0000000000001003\nSigCgt:\t0000000100000002\n";
            let ignored = ignored_in(status).expect("there is a set");
            assert_eq!(
                [SIGHUP, SIGINT, SIGTERM].map(|signal| ignored & bit(signal) != 0),
                [true, true, false]
            );
            assert_eq!(ignored_in("Name:\tokloop\n"), None);
        }
    }
}

/// Ctrl-C in the console. Windows has no signals: it calls a handler in a thread of its own (Microsoft,
/// "`SetConsoleCtrlHandler`"), and that thread uses a [`Handle`](crate::Handle).
#[cfg(all(windows, feature = "cli"))]
mod process {
    use std::io;

    use log::info;
    use mio::{Registry, Token};

    use crate::control::{Handle, Requests};

    /// None: [`Signals`] is about Ctrl-C.
    pub fn signals_to_watch() -> Vec<i32> {
        Vec::new()
    }

    /// Ctrl-C and Ctrl-Break stop the server. There is no signal for a report.
    pub struct Signals;

    impl Signals {
        /// Watches for Ctrl-C.
        pub fn watch(_: &Registry, _: Token, _: &[i32], handle: &Handle) -> io::Result<Self> {
            let handle = handle.clone();
            let stop = move || {
                info!("Received Ctrl-C");
                // If the loop cannot be woken, it sees the request with the next event.
                let _ = handle.stop();
            };
            ctrlc::set_handler(stop).map_err(io::Error::other)?;
            Ok(Self)
        }

        /// Nothing: the handler has used the [`Handle`].
        pub fn add_to(&mut self, _: &mut Requests) {}
    }

    /// Windows has no such limit.
    pub fn survive_file_size_limit() -> io::Result<()> {
        Ok(())
    }

    /// Windows has no limit of sockets either. This number is large enough for most servers, and the table of sessions
    /// that is reserved for it takes 2 MiB.
    pub fn raise_file_limit() -> io::Result<usize> {
        Ok(16 * 1024)
    }

    /// It is never out of them.
    pub fn is_out_of_files(_: &io::Error) -> bool {
        false
    }
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
        let listener = crate::listen::listen(&config).expect("a free port on loopback");
        let address = listener.local_addr().expect("a bound socket has an address").as_socket();
        let _client =
            std::net::TcpStream::connect(address.expect("an IP address")).expect("the backlog has room");
        listener.set_nonblocking(false).expect("a mode of the socket");
        let (accepted, _) = listener.accept().expect("a client waits");
        let socket = SockRef::from(&accepted);
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
