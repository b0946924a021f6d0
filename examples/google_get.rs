//! The client: six calls from a name to a page.
//!
//! ```text
//! cargo run --example google_get
//! cargo run --example google_get -- localhost 8000
//! ```
//!
//! Arguments: the host, the port, and the time-out in seconds. Chapter 1 of NOTES.md explains it.
//!
//! What it does not do:
//! - Serve. The other side of the connection is `echo_once`, the next rung.
//! - Be a browser: it has no TLS and no redirects, and prints the reply as the server sends it.
//! - Limit the time of a name look-up. The system's resolver does that.

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use self::terminal::{complain, say};

mod terminal;

/// The most that the client reads (bytes). Without a limit, the server would decide how much memory the client uses.
const LIMIT: u64 = 16 * 1024 * 1024;

fn get(host: &str, port: u16, timeout: Duration) -> Result<(), Box<dyn Error>> {
    // 1. Find the server's addresses. One name can have several.
    let addresses = (host, port).to_socket_addrs();
    for address in addresses.map_err(|_| "Hostname could not be resolved. Exiting")? {
        // 2. Create a socket, for IPv4 or for IPv6. The tutorial knows only IPv4, so there this step comes first.
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        say("Socket Created");
        say(format_args!("Ip address of {host} is {}", address.ip()));

        // 3. Connect it. If that fails, the next address may work.
        if let Err(error) = socket.connect_timeout(&address.into(), timeout) {
            complain(format_args!("Socket connect failed to {address}: {error}"));
            continue;
        }
        say(format_args!("Socket Connected to {host} on ip {}", address.ip()));

        // 4. Send the request. `write_all` calls `send` until the kernel has taken all bytes.
        let mut stream = TcpStream::from(socket);
        let request = format!("GET / HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).map_err(|error| format!("Send failed: {error}"))?;
        say("Message send successfully");

        // 5. Receive the reply. `read_to_end` calls `recv` until it returns 0 bytes, the end of input.
        stream.set_read_timeout(Some(timeout))?;
        let mut reply = Vec::new();
        let result = (&stream).take(LIMIT).read_to_end(&mut reply);
        let mut page = io::stdout();
        page.write_all(&reply).and_then(|()| page.flush())?;
        result.map_err(|error| format!("Receive failed or timed out: {error}"))?;
        if reply.len() as u64 == LIMIT {
            return Err(format!("The reply is cut after {LIMIT} bytes").into());
        }

        // 6. Close the socket. In Rust, dropping its owner does that.
        drop(stream);
        return Ok(());
    }
    Err(format!("No address of {host} could be connected to. Exiting").into())
}

fn main() {
    let [host, port, seconds] = terminal::arguments(["HOST", "PORT", "SECONDS"]);
    let host = host.map_or("www.google.com".into(), |host| host.to_string_lossy().into_owned());
    if let Err(error) = get(&host, terminal::port(port, 80), terminal::seconds(seconds, 10)) {
        terminal::exit(1, error);
    }
}
