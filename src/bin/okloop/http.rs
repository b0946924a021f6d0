//! A third protocol on the loop: HTTP/1.1 (RFC 9112), as far as a scraper or a probe needs it. It answers GET and HEAD,
//! one request after the other on a connection, and takes no bodies.

use std::{mem, time::Duration};

use httparse::{EMPTY_HEADER, Header, Request, Status};
use okloop::{Buffer, Reason, Session, Sizes, Step, Timer};

/// The longest request and the longest answer (bytes).
const SIZES: Sizes = Sizes::new(8 * 1024, 32 * 1024);
/// The most header fields of a request.
const FIELDS: usize = 64;

/// How long a client may take for the rest of a request that it has begun.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// What a client above the limit is told.
pub const FULL: &str = "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

/// A status, such as `200 OK`, and a text.
pub type Page = (&'static str, String);

/// One client's connection. `page` makes the page of a path.
pub struct Http<F> {
    page: F,
    /// A part of a request is there, and its time runs.
    has_begun: bool,
    timer: Timer,
}

impl<F: Fn(&str) -> Page> Http<F> {
    pub fn new(page: F) -> Self {
        Self { page, has_begun: false, timer: Timer::Keep }
    }

    /// Answers one request. Returns whether the client may send another one.
    fn answer_request(&self, request: &Request<'_, '_>, output: &mut Buffer) -> bool {
        let field = |name: &str| request.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
        let is_close = |field: &Header<'_>| field.value.eq_ignore_ascii_case(b"close");
        let has_body = field("Content-Length").is_some() || field("Transfer-Encoding").is_some();
        let goes_on = request.version == Some(1) && !field("Connection").is_some_and(is_close) && !has_body;
        let page = match request.method {
            Some("GET" | "HEAD") => {
                let target = request.path.unwrap_or_default();
                (self.page)(target.split('?').next().unwrap_or_default())
            }
            _ => ("405 Method Not Allowed\r\nAllow: GET, HEAD", String::new()),
        };
        write_page(&page, goes_on, request.method != Some("HEAD"), output);
        goes_on
    }
}

fn write_page((status, text): &Page, goes_on: bool, has_text: bool, output: &mut Buffer) {
    let connection = if goes_on { "keep-alive" } else { "close" };
    // The version is that of Prometheus' text format.
    write!(output, "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n");
    write!(output, "Connection: {connection}\r\n");
    write!(output, "Content-Length: {}\r\n\r\n{}", text.len(), if has_text { text } else { "" });
}

impl<F: Fn(&str) -> Page> Session for Http<F> {
    fn sizes(&mut self) -> Sizes {
        SIZES
    }

    fn answer(&mut self, input: &mut [u8], output: &mut Buffer) -> Step {
        let mut fields = [EMPTY_HEADER; FIELDS];
        let mut request = Request::new(&mut fields);
        match request.parse(input) {
            Ok(Status::Partial) => {
                if !input.is_empty() && !mem::replace(&mut self.has_begun, true) {
                    self.timer = Timer::Start(REQUEST_TIMEOUT);
                }
                Step::NeedInput
            }
            Ok(Status::Complete(length)) => {
                (self.has_begun, self.timer) = (false, Timer::Stop);
                if self.answer_request(&request, output) { Step::Consumed(length) } else { Step::Close }
            }
            Err(_) => {
                write_page(&("400 Bad Request", String::new()), false, true, output);
                Step::Close
            }
        }
    }

    fn ending(&mut self, reason: Reason, output: &mut Buffer) {
        let status = match reason {
            Reason::RequestTooLarge => "431 Request Header Fields Too Large",
            Reason::Deadline => "408 Request Timeout",
            _ => return,
        };
        write_page(&(status, String::new()), false, true, output);
    }

    fn timer(&mut self) -> Timer {
        mem::take(&mut self.timer)
    }
}
