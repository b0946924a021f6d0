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
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::num::NonZeroU16;
use std::process::ExitCode;
use std::time::Duration;

use okloop::buffer::Buffer;
use socket2::{Domain, Socket, Type};

/// The tutorial's request. HTTP/1.1 asks for a Host header too, `Host: www.google.com`: one address can serve many
/// sites, and without the name the server sends its default site, a redirect, or `400 Bad Request`.
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\n\r\n";

/// The longest headers that we take. A body has no limit: it is printed as it comes and never held.
const LIMIT: usize = 64 * 1024;

fn main() -> ExitCode {
    let (host, port, patience) = match arguments() {
        Ok(arguments) => arguments,
        Err(reason) => {
            eprintln!("{reason}\nUsage: google_get [HOST] [PORT] [SECONDS]");
            return ExitCode::from(2);
        }
    };
    match get(&host, port, patience, &mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(step) => {
            eprintln!("{step}");
            ExitCode::FAILURE
        }
    }
}

fn arguments() -> Result<(String, u16, Duration), String> {
    let texts: Result<Vec<String>, OsString> = env::args_os().skip(1).map(OsString::into_string).collect();
    let mut texts = texts.map_err(|text| format!("Not text: {}", text.display()))?.into_iter();
    let host = texts.next().unwrap_or_else(|| "www.google.com".into());
    let port = texts.next().map_or(Ok(80), |text| {
        text.parse().map_err(|_| format!("The port is a number from 0 to 65535, not {text}"))
    })?;
    let patience = texts.next().map_or(Ok(10), |text| {
        let seconds = text.parse().map(NonZeroU16::get);
        seconds.map_err(|_| format!("The time-out is a number of seconds from 1 to 65535, not {text}"))
    })?;
    Ok((host, port, Duration::from_secs(patience.into())))
}

/// The tutorial's steps. What it says goes to `out`, not through println!, which panics when `| head` has seen enough.
fn get(host: &str, port: u16, patience: Duration, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let mut stream = connect(host, port, patience, out)?;
    stream.write_all(REQUEST).map_err(|error| format!("Send failed: {error}"))?;
    writeln!(out, "Message send successfully")?;

    stream.set_read_timeout(Some(patience))?;
    print_reply(&mut stream, out)
}

/// Tries each address of the name in turn. A socket belongs to one family of addresses, IPv4 or IPv6, so here the name
/// is resolved before the socket is created; the tutorial, older, knows only IPv4.
fn connect(
    host: &str,
    port: u16,
    patience: Duration,
    out: &mut impl Write,
) -> Result<TcpStream, Box<dyn Error>> {
    let addresses = (host, port).to_socket_addrs();
    for address in addresses.map_err(|_| "Hostname could not be resolved. Exiting")? {
        let socket = create_socket(address)?;
        writeln!(out, "Socket Created")?;
        writeln!(out, "Ip address of {host} is {}", address.ip())?;
        match socket.connect_timeout(&address.into(), patience) {
            Ok(()) => {
                writeln!(out, "Socket Connected to {host} on ip {}", address.ip())?;
                return Ok(socket.into());
            }
            Err(error) => eprintln!("Socket connect failed to {address}: {error}"),
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
/// cut on their way.
fn print_reply(stream: &mut impl Read, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let mut part = Part::Head;
    let mut buffer = Buffer::with_capacity(LIMIT);
    loop {
        while let Some((count, next)) = part.advance(buffer.unread())? {
            out.write_all(&buffer.unread()[..count])?;
            buffer.consume(count);
            part = next;
        }
        out.flush()?;
        if part == Part::Complete {
            return Ok(());
        }
        if buffer.is_full() {
            return Err(format!("The reply's headers are longer than {LIMIT} bytes").into());
        }
        match buffer.read_from(stream) {
            Ok(0) if part == Part::UntilClose => return Ok(()),
            Ok(0) => return Err("The server closed the connection before the end of its reply".into()),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // What a socket with a time-out says depends on the system.
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Err("Receive timed out: the reply is not complete, but nothing more comes".into());
            }
            Err(error) => return Err(format!("Receive failed: {error}").into()),
        }
    }
}

/// Which part of a reply comes next; by RFC 9112, section 6, the one thing to know to find its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Head,
    /// The rest of a body of known length.
    Body {
        left: u64,
    },
    /// A body that ends with the connection.
    UntilClose,
    /// The line before a chunk that says how long it is. The chunk of length 0 is the last.
    ChunkSize,
    Chunk {
        left: u64,
    },
    /// The line ending after a chunk.
    ChunkEnd,
    /// The header lines that may follow the last chunk, and the empty line.
    Trailer,
    Complete,
}

impl Part {
    /// What `bytes` starts with: how many bytes of this part, and the part after them. `None` if it takes more bytes to
    /// tell, all those from before included.
    fn advance(self, bytes: &[u8]) -> Result<Option<(usize, Part)>, String> {
        if bytes.is_empty() {
            return Ok(None);
        }
        match self {
            Part::Head => after_head(bytes),
            Part::Body { left } => {
                let (count, left) = take(left, bytes);
                Ok(Some((count, Part::body(left))))
            }
            Part::UntilClose => Ok(Some((bytes.len(), self))),
            Part::ChunkSize => after_chunk_size(bytes),
            Part::Chunk { left } => {
                let (count, left) = take(left, bytes);
                Ok(Some((count, if left == 0 { Part::ChunkEnd } else { Part::Chunk { left } })))
            }
            Part::ChunkEnd => match bytes {
                [b'\r'] => Ok(None),
                [b'\r', b'\n', ..] => Ok(Some((2, Part::ChunkSize))),
                _ => Err(malformed("a chunk is longer than its size")),
            },
            Part::Trailer => {
                let mut headers = [httparse::EMPTY_HEADER; 128];
                let parsed = httparse::parse_headers(bytes, &mut headers).map_err(malformed)?;
                Ok(if_complete(parsed).map(|(count, _)| (count, Part::Complete)))
            }
            Part::Complete => Ok(None),
        }
    }

    fn body(left: u64) -> Self {
        if left == 0 { Part::Complete } else { Part::Body { left } }
    }
}

fn after_head(bytes: &[u8]) -> Result<Option<(usize, Part)>, String> {
    let mut headers = [httparse::EMPTY_HEADER; 128];
    let mut head = httparse::Response::new(&mut headers);
    let parsed = head.parse(bytes).map_err(malformed)?;
    let Some(count) = if_complete(parsed) else { return Ok(None) };

    let body = match head.code {
        // An interim reply: the one to our request is still to come.
        Some(100..=199) => Part::Head,
        Some(204 | 304) => Part::Complete,
        _ => body_by_headers(head.headers)?,
    };
    Ok(Some((count, body)))
}

/// A transfer coding goes before a length. A chunked body ends by itself; any other coding ends with the connection.
fn body_by_headers(headers: &[httparse::Header<'_>]) -> Result<Part, String> {
    let items = |name: &'static str| {
        let lines = headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
        lines.flat_map(|header| header.value.split(|&byte| byte == b',')).map(<[u8]>::trim_ascii)
    };
    if let Some(coding) = items("Transfer-Encoding").next_back() {
        let chunked = coding.eq_ignore_ascii_case(b"chunked");
        return Ok(if chunked { Part::ChunkSize } else { Part::UntilClose });
    }
    let Some(length) = items("Content-Length").next() else { return Ok(Part::UntilClose) };
    if items("Content-Length").any(|other| other != length) {
        return Err(malformed("it has two lengths"));
    }
    // The digits are checked here, as `parse` would take a plus sign too.
    let digits = str::from_utf8(length).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let length = digits.and_then(|text| text.parse().ok()).ok_or_else(|| malformed("invalid length"))?;
    Ok(Part::body(length))
}

fn after_chunk_size(bytes: &[u8]) -> Result<Option<(usize, Part)>, String> {
    // httparse takes a line without any digit for a size of 0, the end.
    if !bytes[0].is_ascii_hexdigit() {
        return Err(malformed("a chunk has no size"));
    }
    let parsed = httparse::parse_chunk_size(bytes).map_err(malformed)?;
    let after = |size| if size == 0 { Part::Trailer } else { Part::Chunk { left: size } };
    Ok(if_complete(parsed).map(|(count, size)| (count, after(size))))
}

/// How many of `left` bytes `bytes` holds, and how many are left then.
fn take(left: u64, bytes: &[u8]) -> (usize, u64) {
    let count = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
    (count, left - count as u64)
}

fn if_complete<T>(parsed: httparse::Status<T>) -> Option<T> {
    match parsed {
        httparse::Status::Complete(value) => Some(value),
        httparse::Status::Partial => None,
    }
}

fn malformed(what: impl std::fmt::Display) -> String {
    format!("The reply is malformed: {what}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is printed of `bytes` when they come in two reads, cut at `cut`, and the server then stays silent.
    fn printed(bytes: &[u8], cut: usize) -> Result<Vec<u8>, String> {
        let mut stream = (&bytes[..cut]).chain(&bytes[cut..]).chain(Silence);
        let mut out = Vec::new();
        print_reply(&mut stream, &mut out).map(|()| out).map_err(|error| error.to_string())
    }

    struct Silence;

    impl Read for Silence {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(ErrorKind::WouldBlock.into())
        }
    }

    fn closed(bytes: &[u8]) -> Result<(), String> {
        print_reply(&mut &bytes[..], &mut io::sink()).map_err(|error| error.to_string())
    }

    const COMPLETE: &[&str] = &[
        "HTTP/1.1 302 Found\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
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
    fn a_head_without_end_is_given_up_and_a_body_without_end_is_not() {
        let head = io::repeat(b'x').take(1 << 30);
        let error = print_reply(&mut (&b"HTTP/1.1 200 OK\r\nX: "[..]).chain(head), &mut io::sink());
        assert!(error.unwrap_err().to_string().contains("longer than 65536 bytes"));

        let body = io::repeat(b'x').take(1 << 26);
        print_reply(&mut (&b"HTTP/1.1 200 OK\r\n\r\n"[..]).chain(body), &mut io::sink()).unwrap();
    }
}
