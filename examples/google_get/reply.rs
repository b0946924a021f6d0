//! Where a reply ends, and how it is printed up to there. The walkthrough in `google_get.rs` can be read without it.

use std::error::Error;
use std::io::{ErrorKind, Read, Write};

use self::part::Part;

mod part;

/// The longest headers that are taken (bytes). A body has no limit: it is printed as it comes and not kept.
const LIMIT: usize = 64 * 1024;

/// Prints the reply as it comes, up to its end and not a byte further. How the bytes were cut on their way does not
/// matter. Of a reply that goes wrong, everything that came is printed: it says best what it is instead.
pub fn print_reply(stream: &mut impl Read, page: &mut Page<impl Write>) -> Result<(), Box<dyn Error>> {
    let mut received = Vec::new();
    print_parts(stream, &mut received, page).inspect_err(|_| {
        // If the output has failed, this fails too, and there is nothing left to do.
        let _ = page.print(received);
    })
}

fn print_parts(
    stream: &mut impl Read,
    received: &mut Vec<u8>,
    page: &mut Page<impl Write>,
) -> Result<(), Box<dyn Error>> {
    let mut part = Part::FIRST;
    // The tutorial's recv(4096).
    let mut chunk = [0; 4096];
    loop {
        while let Some((count, next)) = part.advance(received)? {
            page.print(&received[..count])?;
            received.drain(..count);
            part = next;
        }
        if part == Part::Complete {
            return Ok(());
        }
        if received.len() >= LIMIT {
            return Err(
                format!("The headers, or a line between chunks, are longer than {LIMIT} bytes").into()
            );
        }
        match stream.read(&mut chunk) {
            Ok(0) if part == Part::UntilClose => return Ok(()),
            Ok(0) => return Err("The server closed the connection before the end of its reply".into()),
            Ok(count) => received.extend(&chunk[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // The kind of error that a time-out gives depends on the system.
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Err("Receive timed out: the reply is not complete, but nothing more comes".into());
            }
            Err(error) => return Err(format!("Receive failed: {error}").into()),
        }
    }
}

/// What the client prints. `println!` would panic when `| head` has seen enough.
pub struct Page<W> {
    out: W,
    /// Whether the last line has not come to its end.
    in_line: bool,
}

impl<W: Write> Page<W> {
    /// An empty page.
    pub fn new(out: W) -> Self {
        Self { out, in_line: false }
    }

    /// Prints some text, a whole number of lines or not.
    pub fn print(&mut self, text: impl AsRef<[u8]>) -> Result<(), String> {
        let bytes = text.as_ref();
        let printed = self.out.write_all(bytes).and_then(|()| self.out.flush());
        printed.map_err(|error| format!("Standard output failed: {error}"))?;
        self.in_line = bytes.last().map_or(self.in_line, |&last| last != b'\n');
        Ok(())
    }

    /// Whether the last line has not come to its end.
    pub fn is_in_line(&self) -> bool {
        self.in_line
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    /// What is printed of `bytes` when they come in two reads, cut at `cut`, and the server then stays silent.
    fn printed(bytes: &[u8], cut: usize) -> Result<Vec<u8>, String> {
        let mut stream = (&bytes[..cut]).chain(&bytes[cut..]).chain(Silence);
        let mut page = Page::new(Vec::new());
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
        Page::new(io::sink())
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
            let mut page = Page::new(Vec::new());
            print_reply(&mut wrong.as_bytes(), &mut page).unwrap_err();
            assert_eq!(page.out, wrong.as_bytes());
            assert_eq!(page.is_in_line(), !wrong.ends_with('\n'), "{wrong:?}");
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

    #[test]
    fn interim_replies_without_end_are_given_up() {
        let interim = b"HTTP/1.1 100 Continue\r\n\r\n";
        let some = [interim.repeat(16), b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()].concat();
        assert_eq!(closed(&some), Ok(()));
        // More than enough, and not without end: a client that does not give up finds the end of input.
        let error = closed(&interim.repeat(1000)).unwrap_err();
        assert_eq!(error, "The server sent more than 16 interim replies");
    }
}
