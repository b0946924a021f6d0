//! The PROXY protocol, as a layer around any session: the session of a client that comes through a balancer.
//!
//! ```text
//!   client ──────────► balancer ──────────► Proxy                     the inner session
//!   192.0.2.1:5000     127.0.0.1:41234        │ PROXY TCP4 192.0.2.1 … │
//!                                             │ hello                  ▼ hello
//! ```
//!
//! A balancer connects to the server itself, so every client would seem to come from the balancer. With the PROXY
//! protocol (`HAProxy`, "The PROXY protocol", versions 1 and 2) the balancer sends a header first, which names its client.
//! The inner session is made when the header is complete.
//!
//! Nothing is guessed. A connection that does not start with a valid header gets no byte, and ends with
//! [`InvalidInput`](crate::Reason::InvalidInput). So does one whose header is longer than [`PROXY_HEADER`], or takes
//! longer than [`PROXY_HEADER_TIMEOUT`].
//!
//! Any client can send such a header. The port must be open to the balancer only.
//!
//! It is the outermost layer, because it must say nothing before the header. TLS, for example, stands inside.

use std::mem;

use proxy_header::{Error, ParseConfig, Protocol, ProxyHeader};

use crate::address::Address;
use crate::buffer::Buffer;
use crate::config::{PROXY_HEADER, PROXY_HEADER_TIMEOUT};
use crate::session::{AtDeadline, EndOfInput, Session, Sizes, Step, Timer};

/// A session behind a balancer.
///
/// ```
/// use okloop::protocols::{Framing, OkSession, Proxy};
/// use okloop::{Address, Session};
///
/// let new_session = |client: Option<Address>| {
///     // `None`: a balancer's own health check, or a client that the balancer does not name.
///     println!("a client at {client:?}");
///     OkSession::new(Framing::Lines)
/// };
/// let sizes = OkSession::new(Framing::Lines).sizes();
/// Proxy::new(sizes, new_session);
/// ```
#[derive(Debug)]
pub struct Proxy<S, F> {
    state: State<S, F>,
    /// No more input follows, and the inner session does not know it yet.
    end: Option<EndOfInput>,
}

#[derive(Debug)]
enum State<S, F> {
    /// The header is not complete yet.
    Header {
        new_session: F,
        /// The inner session's [`Sizes`].
        request: u32,
        answer: u32,
        independent: bool,
        deadline: Deadline,
    },
    Inner {
        session: S,
        /// The length of the header, while it is still in front of the input (bytes).
        header: u16,
        /// The header's deadline is still running.
        has_deadline: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deadline {
    New,
    Running,
    Over,
}

/// What the input starts with.
enum Header {
    Incomplete,
    Invalid,
    /// Its length, and the client that it names.
    Complete(usize, Option<Address>),
}

impl Header {
    fn read(input: &[u8]) -> Self {
        let config = ParseConfig { include_tlvs: false, ..ParseConfig::default() };
        match ProxyHeader::parse(input, config) {
            Ok((header, length)) => match header.proxied_address() {
                Some(address) if address.protocol == Protocol::Stream => {
                    Self::Complete(length, Some(Address::from(address.source)))
                }
                // A datagram does not come in a stream.
                Some(_) => Self::Invalid,
                None => Self::Complete(length, None),
            },
            Err(Error::BufferTooShort) if input.len() < PROXY_HEADER => Self::Incomplete,
            Err(_) => Self::Invalid,
        }
    }
}

impl<S: Session, F: FnMut(Option<Address>) -> S> Proxy<S, F> {
    /// A layer that makes its session with `new_session`, from the client's address, if the balancer tells it.
    ///
    /// The loop asks for a session's sizes before there is a header, so `sizes` are those of the sessions that will be
    /// made. A header must fit too: the longest request is at least [`PROXY_HEADER`].
    pub fn new(sizes: Sizes, new_session: F) -> Self {
        let to_u32 = |size: usize| size.try_into().unwrap_or(u32::MAX);
        let state = State::Header {
            new_session,
            request: to_u32(sizes.request.max(PROXY_HEADER)),
            answer: to_u32(sizes.answer),
            independent: sizes.independent,
            deadline: Deadline::New,
        };
        Self { state, end: None }
    }
}

impl<S: Session, F: FnMut(Option<Address>) -> S> Session for Proxy<S, F> {
    fn inner(&mut self) -> Option<&mut dyn Session> {
        match &mut self.state {
            State::Header { .. } => None,
            State::Inner { session, .. } => Some(session),
        }
    }

    fn sizes(&mut self) -> Sizes {
        match &mut self.state {
            State::Header { request, answer, independent, .. } => {
                Sizes { independent: *independent, ..Sizes::new(*request as usize, *answer as usize) }
            }
            State::Inner { session, .. } => session.sizes(),
        }
    }

    fn is_proxied(&mut self) -> bool {
        true
    }

    fn answer(&mut self, input: &mut [u8], output: &mut Buffer) -> Step {
        match &mut self.state {
            State::Header { new_session, deadline, .. } => match Header::read(input) {
                Header::Complete(length, client) => {
                    let session = new_session(client);
                    let header = u16::try_from(length).expect("a header is shorter");
                    let has_deadline = *deadline != Deadline::New;
                    self.state = State::Inner { session, header, has_deadline };
                    Step::Introduce(client)
                }
                Header::Incomplete if *deadline != Deadline::Over && self.end != Some(EndOfInput::Client) => {
                    Step::NeedInput
                }
                Header::Incomplete | Header::Invalid => Step::Abort,
            },
            State::Inner { session, header, .. } => {
                if *header > 0 {
                    session.greet(output);
                    return Step::Consumed(mem::take(header).into());
                }
                if let Some(end) = self.end.take() {
                    session.end_of_input(end);
                }
                session.answer(input, output)
            }
        }
    }

    fn end_of_input(&mut self, end: EndOfInput) {
        self.end = Some(end);
    }

    fn timer(&mut self) -> Timer {
        match &mut self.state {
            State::Header { deadline, .. } if *deadline == Deadline::New => {
                *deadline = Deadline::Running;
                Timer::Start(PROXY_HEADER_TIMEOUT)
            }
            State::Header { .. } => Timer::Keep,
            State::Inner { session, has_deadline, .. } => match (session.timer(), mem::take(has_deadline)) {
                (Timer::Keep, true) => Timer::Stop,
                (timer, _) => timer,
            },
        }
    }

    fn deadline(&mut self) -> AtDeadline {
        match &mut self.state {
            State::Header { deadline, .. } => {
                *deadline = Deadline::Over;
                AtDeadline::GoOn
            }
            State::Inner { session, .. } => session.deadline(),
        }
    }
}

#[cfg(test)]
mod tests;
