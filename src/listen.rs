//! How the listening socket is opened: `socket`, its options, `bind`, `listen`, with the tutorial's line after each.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use log::{debug, info};
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

use crate::config::{Config, KEEPALIVE, NOTSENT_LOWAT};
use crate::error::StartError;

/// Opens a listening socket on the configured host. If the name has several addresses, it takes the first one that
/// this machine has.
pub fn listen(config: &Config) -> Result<Socket, StartError> {
    let resolve_error = |error| StartError::Resolve(config.host.clone(), error);
    let addresses = (config.host.as_str(), config.port).to_socket_addrs().map_err(resolve_error)?;
    let mut result = Err(resolve_error(io::ErrorKind::NotFound.into()));
    for address in addresses {
        result = listen_on(address, config);
        match &result {
            Err(error) if error.is_no_such_address() => debug!("{error}"),
            _ => break,
        }
    }
    result
}

/// On Linux an accepted socket inherits the options. They are set here, once, and an accept costs no more system calls.
/// It does not inherit non-blocking mode: mio asks accept4(2) for that.
fn listen_on(address: SocketAddr, config: &Config) -> Result<Socket, StartError> {
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
    // Urgent data stays in its place in the stream. Otherwise Linux takes the last urgent byte out (tcp(7)), and of a
    // telnet client's IAC DM only half a command is left. RFC 6093, section 7.
    socket.set_out_of_band_inline(true)?;
    // Answers are written whole. Nagle's algorithm would only delay them.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_notsent_lowat(NOTSENT_LOWAT)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::SockRef;
    use std::net::TcpStream;

    #[test]
    fn accepted_sockets_inherit_the_options() {
        let config = Config { host: "127.0.0.1".to_owned(), port: 0, ..Config::default() };
        let listener = listen(&config).expect("a free port on loopback");
        let address = listener.local_addr().expect("a bound socket has an address").as_socket();
        let _client = TcpStream::connect(address.expect("an IP address")).expect("the backlog has room");
        listener.set_nonblocking(false).expect("a mode of the socket");
        let (accepted, _) = listener.accept().expect("a client waits");
        let socket = SockRef::from(&accepted);
        assert!(socket.tcp_nodelay().expect("a TCP option"));
        assert_eq!(socket.tcp_notsent_lowat().expect("a TCP option"), NOTSENT_LOWAT);
        assert!(socket.out_of_band_inline().expect("a socket option"));
        assert!(socket.keepalive().expect("a socket option"));
        assert_eq!(socket.tcp_keepalive_time().expect("a TCP option"), KEEPALIVE);
    }
}
