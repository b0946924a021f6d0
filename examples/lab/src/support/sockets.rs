//! The kernel's table of TCP sockets. It is asked instead of a server, because a connection would be a client that the
//! server may count.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;

const TABLES: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];
/// `TCP_ESTABLISHED` in the kernel's `include/net/tcp_states.h`.
const ESTABLISHED: u8 = 0x01;
/// `TCP_LISTEN`, in the same file.
const LISTEN: u8 = 0x0a;
/// "another timer (e.g. delayed ack or keepalive) is pending" in the kernel's `proc_net_tcp.rst`.
const KEEPALIVE: u8 = 2;

/// Whether a socket listens on this port.
pub fn is_listening(port: u16) -> bool {
    listening_sockets().any(|socket| socket.local == port)
}

/// How many clients are in the accept queue of a server on this machine.
pub fn waiting_clients(server: SocketAddr) -> usize {
    listening_sockets().filter(|socket| socket.local == server.port()).map(|socket| socket.input).sum()
}

fn listening_sockets() -> impl Iterator<Item = Socket> {
    TABLES.into_iter().flat_map(|table| {
        // Listening sockets come first in the table (proc_pid_net(5)); thousands of others may follow.
        let sockets = File::open(table).map(BufReader::new).into_iter().flat_map(|file| file.lines().skip(1));
        let sockets = sockets.map_while(Result::ok);
        sockets.map_while(|line| Socket::parse(&line).filter(|socket| socket.state == LISTEN))
    })
}

/// Whether the kernel has a timer of its own for the server's end of a connection: keepalive, for an idle one. Nothing if
/// the server has closed that end.
pub fn has_timer(server: SocketAddr, client: SocketAddr) -> Option<bool> {
    TABLES.iter().find_map(|table| {
        let text = fs::read_to_string(table).ok()?;
        let ours = |socket: &Socket| {
            let is_open = socket.state == ESTABLISHED;
            is_open && socket.local == server.port() && socket.remote == client.port()
        };
        let ours = text.lines().skip(1).filter_map(Socket::parse).find(ours);
        ours.map(|socket| socket.timer == KEEPALIVE)
    })
}

/// A line of the table.
struct Socket {
    local: u16,
    remote: u16,
    state: u8,
    /// Bytes that have come; for a listening socket, clients in its queue.
    input: usize,
    timer: u8,
}

impl Socket {
    /// `sl local_address rem_address st tx_queue:rx_queue tr:tm->when …`, all in hexadecimal digits.
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let mut port = || u16::from_str_radix(fields.next()?.rsplit(':').next()?, 16).ok();
        let (local, remote) = (port()?, port()?);
        let state = u8::from_str_radix(fields.next()?, 16).ok()?;
        let input = usize::from_str_radix(fields.next()?.split_once(':')?.1, 16).ok()?;
        let timer = u8::from_str_radix(fields.next()?.split(':').next()?, 16).ok()?;
        Some(Self { local, remote, state, input, timer })
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use socket2::SockRef;

    use super::*;

    #[test]
    fn the_kernels_table_tells_what_listens_and_what_has_a_timer() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        assert!(is_listening(address.port()));
        let client = TcpStream::connect(address).expect("it listens");
        let client_address = client.local_addr().expect("it is connected");
        assert_eq!(waiting_clients(address), 1);
        let (server, _) = listener.accept().expect("a client has connected");
        assert_eq!(has_timer(address, client_address), Some(false));
        assert_eq!(waiting_clients(address), 0);
        SockRef::from(&server).set_keepalive(true).expect("it is a TCP socket");
        assert_eq!(has_timer(address, client_address), Some(true));
        drop(listener);
        assert!(!is_listening(address.port()), "a connection is no listener");
    }
}
