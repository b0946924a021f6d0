//! How a listening socket is opened: `socket`, its options, `bind`, `listen`, with the tutorial's line after each.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};

use log::{debug, info};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::config::Config;
use crate::error::StartError;
use crate::socket::{self, Listener};

/// How often a free port is looked for that all addresses of a name have.
const TRIES: usize = 16;

/// Opens a listening socket on each address of `host` that this machine has.
///
/// # Errors
///
/// If an address cannot be used for another reason, or if this machine has none of them.
pub(crate) fn listen(host: &str, port: u16, config: &Config) -> Result<Vec<Listener>, StartError> {
    let resolve_error = |error| StartError::Resolve(host.to_owned(), error);
    let mut addresses = Vec::new();
    for address in (host, port).to_socket_addrs().map_err(resolve_error)? {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    let mut result = Err(resolve_error(io::ErrorKind::NotFound.into()));
    for _ in 0..TRIES {
        result = listen_on_all(&addresses, config).unwrap_or(result);
        match &result {
            // The system chose a port that is in use at another address of the name.
            Err(StartError::Bind(address, error))
                if port == 0 && address.port() != 0 && error.kind() == io::ErrorKind::AddrInUse => {}
            _ => break,
        }
    }
    result
}

/// `None` if there is no address.
fn listen_on_all(addresses: &[SocketAddr], config: &Config) -> Option<Result<Vec<Listener>, StartError>> {
    let (mut listeners, mut unusable) = (Vec::new(), None);
    let mut chosen_port = None;
    for &(mut address) in addresses {
        // With port 0, all have the port that the first one got.
        address.set_port(chosen_port.unwrap_or(address.port()));
        match listen_on(address, config) {
            Ok(listener) => {
                chosen_port = listener.local_addr().ok().map(|address| address.port());
                listeners.push(Listener::Tcp(mio::net::TcpListener::from_std(listener)));
            }
            Err(error) if is_no_such_address(&error) => {
                debug!("{error}");
                unusable = Some(error);
            }
            Err(error) => return Some(Err(error)),
        }
    }
    if listeners.is_empty() { unusable.map(Err) } else { Some(Ok(listeners)) }
}

fn listen_on(address: SocketAddr, config: &Config) -> Result<TcpListener, StartError> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))
        .map_err(StartError::Create)?;
    info!("Socket created");
    set_options(&socket, address, config).map_err(StartError::Create)?;
    socket.bind(&address.into()).map_err(|error| StartError::Bind(address, error))?;
    info!("Socket bind complete");
    socket.listen(backlog(config)).map_err(|error| StartError::Listen(address, error))?;
    Ok(socket.into())
}

fn set_options(socket: &Socket, address: SocketAddr, config: &Config) -> io::Result<()> {
    socket::set_listener_options(socket, config)?;
    if address.is_ipv6() {
        // `::` serves IPv4 too, whatever the system's default is.
        socket.set_only_v6(false)?;
    }
    // The sessions of macOS and Windows inherit it (accept(2); Microsoft, "accept"). Elsewhere mio asks accept4(2) for it.
    socket.set_nonblocking(true)
}

fn backlog(config: &Config) -> i32 {
    i32::try_from(config.backlog).unwrap_or(i32::MAX)
}

/// Whether this machine does not have the address, or not its family (IPv6). Another address of the same name may work.
/// A port that is in use is a different error.
fn is_no_such_address(error: &StartError) -> bool {
    let (StartError::Create(error) | StartError::Bind(_, error)) = error else { return false };
    socket::is_no_such_address(error)
}

/// Opens a Unix socket at `path`.
#[cfg(unix)]
pub(crate) fn listen_unix(path: &std::path::Path, config: &Config) -> Result<Listener, StartError> {
    let bind_error = |error| StartError::BindUnix(path.to_owned(), error);
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(StartError::Create)?;
    info!("Socket created");
    let address = socket2::SockAddr::unix(path).map_err(bind_error)?;
    socket.set_nonblocking(true).map_err(StartError::Create)?;
    socket.bind(&address).map_err(bind_error)?;
    info!("Socket bind complete");
    socket.listen(backlog(config)).map_err(bind_error)?;
    Ok(Listener::Unix(mio::net::UnixListener::from_std(socket.into())))
}

/// Takes over a listening socket that exists already.
pub(crate) fn adopt(listener: TcpListener) -> io::Result<Listener> {
    socket::set_inherited_options(&SockRef::from(&listener))?;
    listener.set_nonblocking(true)?;
    Ok(Listener::Tcp(mio::net::TcpListener::from_std(listener)))
}

/// Takes over a Unix socket that listens already.
#[cfg(unix)]
pub(crate) fn adopt_unix(listener: std::os::unix::net::UnixListener) -> io::Result<Listener> {
    listener.set_nonblocking(true)?;
    Ok(Listener::Unix(mio::net::UnixListener::from_std(listener)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_address_that_this_machine_does_not_have_lets_the_next_one_be_tried() {
        let address = SocketAddr::from(([192, 0, 2, 1], 8888));
        let bind = |kind: io::ErrorKind| is_no_such_address(&StartError::Bind(address, kind.into()));
        assert!(bind(io::ErrorKind::AddrNotAvailable));
        assert!(!bind(io::ErrorKind::AddrInUse));
    }

    #[test]
    fn a_name_is_served_on_each_of_its_addresses_at_one_port() {
        let config = Config::default();
        let addresses =
            ["127.0.0.1:0", "127.0.0.2:0", "192.0.2.1:0"].map(|text| text.parse().expect("valid"));
        let listeners = listen_on_all(&addresses, &config).expect("there are addresses").expect("free ports");
        let at = |index: usize| listeners[index].local_addr().unwrap().ip().unwrap();
        assert_eq!((listeners.len(), at(0).port()), (2, at(1).port()));
        assert_ne!(at(0).ip(), at(1).ip());
    }
}
