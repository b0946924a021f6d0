//! How the listening socket is opened: `socket`, its options, `bind`, `listen`, with the tutorial's line after each.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use log::{debug, info};
use socket2::{Domain, Protocol, Socket, Type};

use crate::config::Config;
use crate::error::StartError;
use crate::platform;

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

fn listen_on(address: SocketAddr, config: &Config) -> Result<Socket, StartError> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))
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
    platform::set_listener_options(socket, config)?;
    if address.is_ipv6() {
        // `::` serves IPv4 too, whatever the system's default is.
        socket.set_only_v6(false)?;
    }
    // The sessions of macOS and Windows inherit it (accept(2); Microsoft, "accept"). Elsewhere mio asks accept4(2) for it.
    socket.set_nonblocking(true)
}
