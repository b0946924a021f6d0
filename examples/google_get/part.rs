//! Where a reply ends: what `google_get` has to know of HTTP. Knows no socket; it is given bytes and counts them.

use std::fmt::Display;

/// The most headers that are taken.
const HEADERS: usize = 512;

/// The most interim replies that are taken before the reply itself. A server sends one or two of them.
const INTERIM_REPLIES: usize = 16;

/// Which part of a reply comes next; by RFC 9112, section 6, the one thing to know to find its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The status line and the headers.
    Head {
        /// How many interim replies came before it.
        interim: usize,
    },
    /// The rest of a body of known length.
    Body {
        /// Bytes.
        left: u64,
    },
    /// A body that ends with the connection.
    UntilClose,
    /// The line before a chunk that says how long it is. The chunk of length 0 is the last.
    ChunkSize,
    /// The rest of a chunk's bytes.
    Chunk {
        /// Bytes.
        left: u64,
    },
    /// The line ending after a chunk.
    ChunkEnd,
    /// The header lines that may follow the last chunk, and the empty line.
    Trailer,
    /// Nothing: the reply has come to its end.
    Complete,
}

impl Part {
    /// How every reply begins.
    pub const FIRST: Self = Self::Head { interim: 0 };

    /// What `bytes` starts with: how many bytes of this part, and the part after them. `None` if it takes more bytes to
    /// tell, all those from before included.
    pub fn advance(self, bytes: &[u8]) -> Result<Option<(usize, Part)>, String> {
        if bytes.is_empty() {
            return Ok(None);
        }
        match self {
            Part::Head { interim } => after_head(bytes, interim),
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
                let mut headers = [httparse::EMPTY_HEADER; HEADERS];
                let parsed = httparse::parse_headers(bytes, &mut headers).map_err(unparsable)?;
                Ok(if_complete(parsed).map(|(count, _)| (count, Part::Complete)))
            }
            Part::Complete => Ok(None),
        }
    }

    fn body(left: u64) -> Self {
        if left == 0 { Part::Complete } else { Part::Body { left } }
    }
}

fn after_head(bytes: &[u8], interim: usize) -> Result<Option<(usize, Part)>, String> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut head = httparse::Response::new(&mut headers);
    let mut parser = httparse::ParserConfig::default();
    // A header that goes on in the next line: servers must not send it any more, clients still have to take it.
    parser.allow_obsolete_multiline_headers_in_responses(true);
    let parsed = parser.parse_response(&mut head, bytes).map_err(unparsable)?;
    let Some(count) = if_complete(parsed) else { return Ok(None) };

    let body = match head.code {
        // An interim reply: the one to our request is still to come.
        Some(100..=199) if interim < INTERIM_REPLIES => Part::Head { interim: interim + 1 },
        Some(100..=199) => {
            return Err(format!("The server sent more than {INTERIM_REPLIES} interim replies"));
        }
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

fn unparsable(error: httparse::Error) -> String {
    match error {
        httparse::Error::TooManyHeaders => format!("The reply has more than {HEADERS} headers"),
        error => malformed(error),
    }
}

fn malformed(what: impl Display) -> String {
    format!("The reply is malformed: {what}")
}
