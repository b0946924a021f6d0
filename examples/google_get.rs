//! The client: six steps from a name to a page.
//!
//! ```text
//! cargo run --example google_get
//! cargo run --example google_get -- localhost 8000
//! ```
//!
//! Arguments: the host, the port, and the time-out, the longest silence of the server in seconds. The program prints
//! the reply as it arrives, head and body. In a chunked reply, the sizes of the chunks are between them.
//!
//! It teaches the calls of a client. One question remains: where does a reply end? The module `reply` has the answer.
//!
//! What it does not do:
//! - Serve. The other side of the connection is `echo_once`, the next rung.
//! - Be a browser: it has no TLS, no redirects, no compression.
//! - Limit the time of a name look-up. The system's resolver does that.

use std::error::Error;
use std::ffi::OsString;
use std::io::{self, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use self::reply::{Page, print_reply};

#[path = "google_get/reply.rs"]
mod reply;
mod terminal;

/// The tutorial's request. HTTP/1.1 asks for a Host header too, `Host: www.google.com`: one address can serve many
/// sites, and without the name the server sends its default site, a redirect, or `400 Bad Request`.
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\n\r\n";

/// The tutorial's steps. Each prints its line, or fails with its error.
fn get(host: &str, port: u16, timeout: Duration, page: &mut Page<impl Write>) -> Result<(), Box<dyn Error>> {
    // 1. Find the server's addresses. One name can have several.
    let addresses = (host, port).to_socket_addrs();
    for address in addresses.map_err(|_| "Hostname could not be resolved. Exiting")? {
        // 2. Create a socket. It belongs to one family of addresses, IPv4 or IPv6. The tutorial knows only IPv4, so
        //    there this step comes first.
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).map_err(|error| {
            let code = error.raw_os_error().unwrap_or_default();
            format!("Failed to create socket. Error code: {code} , Error message : {error}")
        })?;
        page.print("Socket Created\n")?;
        page.print(format!("Ip address of {host} is {}\n", address.ip()))?;

        // 3. Connect it. If that fails, the next address may work.
        if let Err(error) = socket.connect_timeout(&address.into(), timeout) {
            terminal::complain(format_args!("Socket connect failed to {address}: {error}"));
            continue;
        }
        page.print(format!("Socket Connected to {host} on ip {}\n", address.ip()))?;

        // 4. Send the request. `write_all` calls `send` until all bytes are on their way.
        let mut stream = TcpStream::from(socket);
        stream.write_all(REQUEST).map_err(|error| format!("Send failed: {error}"))?;
        page.print("Message send successfully\n")?;

        // 5. Receive the reply. One `recv` returns the part that has arrived. `print_reply` calls it until the reply
        //    ends, and prints each part.
        stream.set_read_timeout(Some(timeout)).map_err(|error| format!("No time-out can be set: {error}"))?;
        print_reply(&mut stream, page)?;

        // 6. Close the socket. In Rust that is what happens when its owner is dropped.
        drop(stream);
        return Ok(());
    }
    Err(format!("No address of {host} could be connected to. Exiting").into())
}

fn main() {
    let [host, port, seconds] = terminal::arguments(["HOST", "PORT", "SECONDS"]);
    let host = host.map_or(Ok("www.google.com".to_owned()), OsString::into_string);
    let host = host.unwrap_or_else(|host| terminal::exit(2, format_args!("Not text: {}", host.display())));
    let (port, timeout) = (terminal::port(port, 80), terminal::seconds(seconds, 10));

    let mut page = Page::new(io::stdout().lock());
    if let Err(error) = get(&host, port, timeout, &mut page) {
        // On a line of its own, even where a reply stopped in the middle of one.
        let line_end = if page.is_in_line() { "\n" } else { "" };
        terminal::exit(1, format_args!("{line_end}{error}"));
    }
}
