//! The client: create a socket, find the server, connect, send a request, print the reply.
//!
//! ```text
//! cargo run --example google_get
//! cargo run --example google_get -- localhost 8000
//! ```
//!
//! Arguments: host, port, and how many seconds of silence are too many. The reply is printed as it came, head and body,
//! with the sizes between the chunks of a chunked one.
//!
//! It teaches the calls of a client, and where a reply ends. One `recv(4096)` returns what has arrived, some part of
//! the reply; and the server keeps the connection open when it has sent it all. So the end is in the bytes: [`Part`].
//!
//! What it does not do: serve. The other side of the connection is `echo_once`, the next rung. Nor is it a browser:
//! no TLS, no redirects, no compression; and to look a name up takes as long as the system's resolver lets it.

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::num::NonZeroU16;
use std::process::ExitCode;
use std::time::Duration;

use okloop::buffer::Buffer;
use socket2::{Domain, Socket, Type};

use self::part::Part;

#[path = "google_get/part.rs"]
mod part;

/// The tutorial's request. HTTP/1.1 asks for a Host header too, `Host: www.google.com`: one address can serve many
/// sites, and without the name the server sends its default site, a redirect, or `400 Bad Request`.
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\n\r\n";

/// The longest headers that we take, in bytes. A body has no limit: it is printed as it comes and never held.
const LIMIT: usize = 64 * 1024;

const USAGE: &str = "Usage: google_get [HOST] [PORT] [SECONDS]";

fn main() -> ExitCode {
    let mut page = Page { out: io::stdout().lock(), in_line: false };
    if env::args_os().any(|argument| argument == "--help" || argument == "-h") {
        let _ = page.print(format!("{USAGE}\n"));
        return ExitCode::SUCCESS;
    }
    let (host, port, patience) = match arguments() {
        Ok(arguments) => arguments,
        Err(reason) => {
            complain(format_args!("{reason}\n{USAGE}"));
            return ExitCode::from(2);
        }
    };
    match get(&host, port, patience, &mut page) {
        Ok(()) => ExitCode::SUCCESS,
        Err(step) => {
            // On a line of its own, even where a reply stopped in the middle of one.
            let line_end = if page.in_line { "\n" } else { "" };
            complain(format_args!("{line_end}{step}"));
            ExitCode::FAILURE
        }
    }
}

fn arguments() -> Result<(String, u16, Duration), String> {
    let texts: Result<Vec<String>, OsString> = env::args_os().skip(1).map(OsString::into_string).collect();
    let mut texts = texts.map_err(|text| format!("Not text: {}", text.display()))?.into_iter();
    let host = texts.next().unwrap_or_else(|| "www.google.com".into());
    if host.starts_with('-') {
        return Err(format!("There is no option {host}"));
    }
    let port = texts.next().map_or(Ok(80), |text| {
        text.parse().map_err(|_| format!("The port is a number from 0 to 65535, not {text}"))
    })?;
    let patience = texts.next().map_or(Ok(10), |text| {
        let seconds = text.parse().map(NonZeroU16::get);
        seconds.map_err(|_| format!("The time-out is a number of seconds from 1 to 65535, not {text}"))
    })?;
    if let Some(text) = texts.next() {
        return Err(format!("One argument too many: {text}"));
    }
    Ok((host, port, Duration::from_secs(patience.into())))
}

/// The tutorial's steps.
fn get(host: &str, port: u16, patience: Duration, page: &mut Page<impl Write>) -> Result<(), Box<dyn Error>> {
    let mut stream = connect(host, port, patience, page)?;
    stream.write_all(REQUEST).map_err(|error| format!("Send failed: {error}"))?;
    page.print("Message send successfully\n")?;

    stream.set_read_timeout(Some(patience)).map_err(|error| format!("No time-out can be set: {error}"))?;
    print_reply(&mut stream, page)
}

/// Tries each address of the name in turn. A socket belongs to one family of addresses, IPv4 or IPv6, so here the name
/// is resolved before the socket is created; the tutorial, older, knows only IPv4.
fn connect(
    host: &str,
    port: u16,
    patience: Duration,
    page: &mut Page<impl Write>,
) -> Result<TcpStream, Box<dyn Error>> {
    let addresses = (host, port).to_socket_addrs();
    for address in addresses.map_err(|_| "Hostname could not be resolved. Exiting")? {
        let socket = create_socket(address)?;
        page.print("Socket Created\n")?;
        page.print(format!("Ip address of {host} is {}\n", address.ip()))?;
        match socket.connect_timeout(&address.into(), patience) {
            Ok(()) => {
                page.print(format!("Socket Connected to {host} on ip {}\n", address.ip()))?;
                return Ok(socket.into());
            }
            Err(error) => complain(format_args!("Socket connect failed to {address}: {error}")),
        }
    }
    Err(format!("No address of {host} could be connected to. Exiting").into())
}

fn create_socket(address: SocketAddr) -> Result<Socket, String> {
    Socket::new(Domain::for_address(address), Type::STREAM, None).map_err(|error| {
        let code = error.raw_os_error().unwrap_or_default();
        format!("Failed to create socket. Error code: {code} , Error message : {error}")
    })
}

/// Prints the reply as it comes, up to its end and not a byte further. It reads on until then, however the bytes were
/// cut on their way. Of a reply that goes wrong all that has come is printed: it says best what it is instead.
fn print_reply(stream: &mut impl Read, page: &mut Page<impl Write>) -> Result<(), Box<dyn Error>> {
    let mut buffer = Buffer::with_capacity(LIMIT)?;
    print_parts(stream, &mut buffer, page).inspect_err(|_| {
        // It fails where that was the trouble: when nothing can be printed.
        let _ = page.print(buffer.unread());
    })
}

fn print_parts(
    stream: &mut impl Read,
    buffer: &mut Buffer,
    page: &mut Page<impl Write>,
) -> Result<(), Box<dyn Error>> {
    let mut part = Part::Head;
    loop {
        while let Some((count, next)) = part.advance(buffer.unread())? {
            page.print(&buffer.unread()[..count])?;
            buffer.consume(count);
            part = next;
        }
        if part == Part::Complete {
            return Ok(());
        }
        if buffer.is_full() {
            return Err(
                format!("The headers, or a line between chunks, are longer than {LIMIT} bytes").into()
            );
        }
        let mut chunk = [0; 4096];
        let room = buffer.free().min(chunk.len());
        match stream.read(&mut chunk[..room]) {
            Ok(0) if part == Part::UntilClose => return Ok(()),
            Ok(0) => return Err("The server closed the connection before the end of its reply".into()),
            Ok(count) => buffer.push(&chunk[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // What a socket with a time-out says depends on the system.
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Err("Receive timed out: the reply is not complete, but nothing more comes".into());
            }
            Err(error) => return Err(format!("Receive failed: {error}").into()),
        }
    }
}

/// What is printed. Not with println!, which panics when `| head` has seen enough.
struct Page<W> {
    out: W,
    /// Whether the last line has not come to its end.
    in_line: bool,
}

impl<W: Write> Page<W> {
    fn print(&mut self, text: impl AsRef<[u8]>) -> Result<(), String> {
        let bytes = text.as_ref();
        let printed = self.out.write_all(bytes).and_then(|()| self.out.flush());
        printed.map_err(|error| format!("Standard output failed: {error}"))?;
        self.in_line = bytes.last().map_or(self.in_line, |&last| last != b'\n');
        Ok(())
    }
}

/// Not eprintln!, which panics where nobody can be told.
fn complain(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is printed of `bytes` when they come in two reads, cut at `cut`, and the server then stays silent.
    fn printed(bytes: &[u8], cut: usize) -> Result<Vec<u8>, String> {
        let mut stream = (&bytes[..cut]).chain(&bytes[cut..]).chain(Silence);
        let mut page = Page { out: Vec::new(), in_line: false };
        print_reply(&mut stream, &mut page).map(|()| page.out).map_err(|error| error.to_string())
    }

    struct Silence;

    impl Read for Silence {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(ErrorKind::WouldBlock.into())
        }
    }

    fn closed(bytes: &[u8]) -> Result<(), String> {
        print_reply(&mut &bytes[..], &mut nowhere()).map_err(|error| error.to_string())
    }

    fn nowhere() -> Page<io::Sink> {
        Page { out: io::sink(), in_line: false }
    }

    const COMPLETE: &[&str] = &[
        "HTTP/1.1 302 Found\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: one line\r\n and another\r\nContent-Length:\r\n\t2\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nhi",
        "HTTP/1.1 204 No Content\r\nContent-Length: 9\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, Chunked\r\nContent-Length: 1\r\n\r\n\
         A;why=not\r\n0123456789\r\n1\r\n\r\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nTrailer: x\r\nOther: y\r\n\r\n",
    ];

    #[test]
    fn a_reply_ends_where_it_ends_wherever_the_reads_were_cut() {
        for reply in COMPLETE {
            let with_more = [reply.as_bytes(), b"HTTP/1.1 the next one"].concat();
            for cut in 0..=reply.len() {
                let printed = printed(&with_more, cut);
                assert_eq!(printed.as_deref(), Ok(reply.as_bytes()), "{reply:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn a_reply_that_stops_short_is_an_error_wherever_it_stops() {
        for reply in COMPLETE {
            for length in 0..reply.len() {
                let part = &reply.as_bytes()[..length];
                assert!(
                    closed(part).unwrap_err().contains("closed"),
                    "{reply:?} closed after {length} bytes"
                );
                assert!(printed(part, 0).unwrap_err().contains("timed out"), "{reply:?} stopped at {length}");
            }
        }
    }

    #[test]
    fn without_a_length_the_end_of_input_is_the_end() {
        for head in ["HTTP/1.0 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n"] {
            assert_eq!(closed(format!("{head}hello").as_bytes()), Ok(()));
            assert!(printed(head.as_bytes(), 0).is_err(), "silence is not the end");
        }
    }

    #[test]
    fn what_is_malformed_is_said() {
        for (reply, what) in [
            ("SSH-2.0-OpenSSH_9.2\r\n", "invalid HTTP version"),
            ("HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n", "invalid length"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", "two lengths"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n", "no size"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", "longer than its size"),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n11112222333344445\r\n",
                "invalid chunk size",
            ),
        ] {
            let error = printed(reply.as_bytes(), 0).unwrap_err();
            assert!(error.contains("malformed") && error.contains(what), "{reply:?}: {error}");
        }
    }

    #[test]
    fn all_that_has_come_of_a_reply_that_goes_wrong_is_printed() {
        for wrong in COMPLETE.iter().map(|reply| &reply[..reply.len() - 1]).chain(["SSH-2.0-OpenSSH_9.2\r\n"])
        {
            let mut page = Page { out: Vec::new(), in_line: false };
            print_reply(&mut wrong.as_bytes(), &mut page).unwrap_err();
            assert_eq!(page.out, wrong.as_bytes());
            assert_eq!(page.in_line, !wrong.ends_with('\n'), "{wrong:?}");
        }
    }

    #[test]
    fn many_headers_are_taken_and_too_many_are_not_called_malformed() {
        let reply = |count| format!("HTTP/1.1 204 No Content\r\n{}\r\n", "X: y\r\n".repeat(count));
        assert_eq!(closed(reply(512).as_bytes()), Ok(()));
        assert_eq!(closed(reply(513).as_bytes()).unwrap_err(), "The reply has more than 512 headers");
    }

    #[test]
    fn a_head_without_end_is_given_up_and_a_body_without_end_is_not() {
        let head = io::repeat(b'x').take(1 << 30);
        let error = print_reply(&mut (&b"HTTP/1.1 200 OK\r\nX: "[..]).chain(head), &mut nowhere());
        assert!(error.unwrap_err().to_string().contains("longer than 65536 bytes"));

        let body = io::repeat(b'x').take(1 << 26);
        print_reply(&mut (&b"HTTP/1.1 200 OK\r\n\r\n"[..]).chain(body), &mut nowhere()).unwrap();
    }
}
