//! One session's state machine, over any [`Stream`].
//!
//! ```text
//!             the peer's end of input
//!   Open ────────────────────────────► HalfClosed ── nothing owed any more ───────────► Closed
//!    │                                     ▲
//!    │ drain()                             │ the peer's end of input
//!    ▼                                     │
//!   Draining ──────────────────────────────┘
//!    │ what had arrived is answered                              the peer's end of input
//!    ▼                                                                     │
//!   Finishing ── nothing owed any more: shut down writing ──► Lingering ───┴──────────► Closed
//! ```
//!
//! From every state an error or [`Connection::close`] leads to Closed. Knows no `Poll`, no slab, no clock and no other
//! session: the server calls [`Connection::turn`] when the socket may be ready and asks [`Connection::interest`] what
//! to wait for next.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};

use log::{debug, trace};
use mio::Interest;
use mio::net::TcpStream;

use crate::buffer::{Buffers, Pool};
use crate::config::{DRAIN_BUDGET, HIGH_WATER, LOW_WATER, READ_BUDGET};
use crate::protocol::{BANNER, FULL, Framing, Session};
use crate::readiness::{Readable, Readiness};
use crate::reason::Reason;

/// What a session needs of its socket. The tests put a scripted one in its place.
pub trait Stream: Read + Write {
    /// Ends our direction of the stream: the peer reads what was written, then the end of input.
    fn shutdown_write(&mut self) -> io::Result<()>;
}

impl Stream for TcpStream {
    fn shutdown_write(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

/// One session: a socket, what is in flight over it, and where in its life it is.
#[derive(Debug)]
pub struct Connection<S> {
    stream: S,
    peer: SocketAddr,
    session: Session,
    state: State,
    flow: Flow,
    /// Borrowed from the pool while something is in flight. An idle session has none.
    buffers: Option<Box<Buffers>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Reads and answers.
    Open,
    /// Reads and answers what has arrived, this many bytes at most; when nothing more is there, finishes.
    Draining {
        left: u32,
    },
    /// The peer has ended its direction. It may well still read: every answer owed goes out first.
    HalfClosed,
    /// The ending is ours: what is owed goes out, nothing is read.
    Finishing(Reason),
    /// Our end of input is out. Closing now, with input unread, would make the kernel send a reset that can destroy
    /// our last bytes on their way (RFC 1122, 4.2.2.13; RFC 2525, 2.17), so what still comes is read and thrown away.
    Lingering(Reason),
    Closed(Reason),
}

/// Whether the output leaves room to read, from one turn to the next. Between the two water marks it stays what it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Reading,
    Held,
}

/// What one turn of a session did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Turn {
    /// Bytes read.
    pub read: usize,
    /// Bytes written.
    pub written: usize,
    /// The socket may be ready still, and its edge is used up: it must be asked for anew.
    pub stopped_early: bool,
}

impl<S: Stream> Connection<S> {
    /// A session that begins with the banner.
    pub fn greet(stream: S, peer: SocketAddr, framing: Framing, pool: &mut Pool) -> Self {
        Self::new(stream, peer, framing, State::Open, BANNER, pool)
    }

    /// A session that only says that the server is full.
    pub fn refuse(stream: S, peer: SocketAddr, pool: &mut Pool) -> Self {
        Self::new(stream, peer, Framing::Chunks, State::Finishing(Reason::Refused), FULL, pool)
    }

    fn new(
        stream: S,
        peer: SocketAddr,
        framing: Framing,
        state: State,
        greeting: &[u8],
        pool: &mut Pool,
    ) -> Self {
        let mut buffers = pool.lend();
        buffers.output.push(greeting);
        let session = Session::new(framing);
        Self { stream, peer, session, state, flow: Flow::Reading, buffers: Some(buffers) }
    }

    /// The other end's address.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The socket, to register it.
    pub fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Whether answers wait to be written.
    pub fn owes(&self) -> bool {
        self.buffers.as_ref().is_some_and(|buffers| !buffers.output.is_empty())
    }

    /// Why the session ended, once it has.
    pub fn closed(&self) -> Option<Reason> {
        match self.state {
            State::Closed(reason) => Some(reason),
            _ => None,
        }
    }

    /// What to wait for: a pure function of the state, and the only place that decides it. `None` is a closed session.
    ///
    /// WRITABLE is asked for only while bytes are owed: an idle socket is writable, so each registration would bring an
    /// event that says nothing. PRIORITY tells when a short read is no sign of an empty socket ([`Readable::UntilBlocked`]).
    pub fn interest(&self) -> Option<Interest> {
        const READ: Interest = Interest::READABLE.add(Interest::PRIORITY);
        if self.closed().is_some() {
            return None;
        }
        // A draining session must find out that nothing more has arrived, and no event says so. But its socket is
        // writable, or will be, so this brings its next turn.
        let writes = self.owes() || self.is_draining();
        Some(match (self.reads(), writes) {
            (true, false) => READ,
            (true, true) => READ.add(Interest::WRITABLE),
            // A session that neither reads nor owes has been moved on by `conclude`.
            (false, _) => Interest::WRITABLE,
        })
    }

    /// Ends the session politely, because the server stops: what has arrived is answered, then it finishes.
    pub fn drain(&mut self) {
        if self.state == State::Open {
            self.state = State::Draining { left: DRAIN_BUDGET };
        }
    }

    /// Ends the session at once.
    pub fn close(&mut self, reason: Reason) {
        self.state = State::Closed(reason);
        self.buffers = None;
    }

    /// One fair turn: reads and answers until [`READ_BUDGET`] is reached, and writes as much as the socket takes.
    pub fn turn(&mut self, ready: Readiness, pool: &mut Pool) -> Turn {
        let mut turn = Turn::default();
        let mut buffers = self.buffers.take().unwrap_or_else(|| pool.lend());
        if let Err(error) = self.advance(ready, &mut buffers, &mut turn) {
            debug!("{}: {error}", self.peer);
            self.state = State::Closed(Reason::of(&error));
        }
        if self.closed().is_some() {
            buffers.input.clear();
            buffers.output.clear();
        }
        self.buffers = pool.reclaim(buffers);
        turn
    }

    fn advance(&mut self, ready: Readiness, buffers: &mut Buffers, turn: &mut Turn) -> io::Result<()> {
        // What was owed before did not fit in the socket, and still does not unless the event says so.
        let may_have_room = ready.writable || buffers.output.is_empty();
        // Room first, then bytes: what goes out now may end the hold on reading.
        let has_room = may_have_room && self.flush(buffers, turn)?;
        self.regulate(buffers.output.len());
        let until = if self.is_draining() { Readable::UntilBlocked } else { ready.readable };
        if until != Readable::No && self.reads() {
            self.fill(until, buffers, turn)?;
            // A socket that the first flush has filled would only say `WouldBlock` to a second.
            if has_room {
                self.flush(buffers, turn)?;
            }
        }
        self.conclude(buffers)
    }

    /// Takes `count` bytes from a draining session's share. Returns whether it is used up.
    fn spend(&mut self, count: usize) -> bool {
        match &mut self.state {
            State::Draining { left } => {
                *left = left.saturating_sub(u32::try_from(count).unwrap_or(u32::MAX));
                *left == 0
            }
            _ => false,
        }
    }

    /// Whether this state wants input.
    fn reads(&self) -> bool {
        match self.state {
            State::Open | State::Draining { .. } => self.flow == Flow::Reading,
            State::Lingering(_) => true,
            State::HalfClosed | State::Finishing(_) | State::Closed(_) => false,
        }
    }

    /// Reads until the socket is empty, the peer has ended, or this session has had its share.
    fn fill(&mut self, until: Readable, buffers: &mut Buffers, turn: &mut Turn) -> io::Result<()> {
        while turn.read < READ_BUDGET && buffers.output.len() < HIGH_WATER {
            debug_assert!(
                !buffers.input.is_full(),
                "below high water there is room to answer, so there is room to read"
            );
            let result = buffers.input.read_from(&mut self.stream);
            trace!("{}: read {}", self.peer, Outcome(&result));
            match result {
                Ok(0) => {
                    self.input_ended();
                    return Ok(());
                }
                Ok(count) => {
                    turn.read += count;
                    let was_last = until == Readable::UntilShort && !buffers.input.is_full();
                    self.consume(buffers);
                    if self.spend(count) || was_last {
                        self.input_paused();
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    // Nearly always a short read or the end of input comes first. So this may contradict the event,
                    // which is used up all the same: let the kernel look again.
                    turn.stopped_early |= until != Readable::UntilBlocked;
                    self.input_paused();
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => break,
                Err(error) => return Err(error),
            }
        }
        turn.stopped_early = true;
        Ok(())
    }

    /// Writes all that can be answered. Returns whether the socket may have room for more.
    fn flush(&mut self, buffers: &mut Buffers, turn: &mut Turn) -> io::Result<bool> {
        loop {
            self.session.answer(&mut buffers.input, &mut buffers.output);
            if buffers.output.is_empty() {
                return Ok(true);
            }
            let result = buffers.output.write_to(&mut self.stream);
            trace!("{}: wrote {}", self.peer, Outcome(&result));
            match result {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => turn.written += count,
                // A short write comes first, so `WouldBlock` all but contradicts the event here too.
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                    turn.stopped_early = true;
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
            // A short write says that the socket is full, as a short read says that it is empty (epoll(7)).
            if !buffers.output.is_empty() {
                return Ok(false);
            }
        }
    }

    /// Answers what was read, or throws it away where the answering is over.
    fn consume(&mut self, buffers: &mut Buffers) {
        match self.state {
            State::Lingering(_) => buffers.input.clear(),
            _ => self.session.answer(&mut buffers.input, &mut buffers.output),
        }
    }

    fn is_draining(&self) -> bool {
        matches!(self.state, State::Draining { .. })
    }

    /// Nothing more is there for now, or none of it counts any more.
    fn input_paused(&mut self) {
        if self.is_draining() {
            self.session.end_of_input();
            self.state = State::Finishing(Reason::Drained);
        }
    }

    /// The peer has ended its direction.
    fn input_ended(&mut self) {
        self.session.end_of_input();
        self.state = match self.state {
            State::Lingering(reason) => State::Closed(reason),
            _ => State::HalfClosed,
        };
    }

    /// Holds back the input of a client that does not take its answers.
    fn regulate(&mut self, owed: usize) {
        if owed >= HIGH_WATER {
            self.flow = Flow::Held;
        } else if owed < LOW_WATER {
            self.flow = Flow::Reading;
        }
    }

    /// Draws the conclusions of what was read and written.
    fn conclude(&mut self, buffers: &Buffers) -> io::Result<()> {
        self.regulate(buffers.output.len());
        match self.state {
            State::HalfClosed if buffers.output.is_empty() => self.state = State::Closed(Reason::Finished),
            State::Finishing(reason) if buffers.output.is_empty() => {
                self.stream.shutdown_write()?;
                self.state = State::Lingering(reason);
            }
            _ => {}
        }
        Ok(())
    }
}

/// How a system call went, for the trace.
struct Outcome<'a>(&'a io::Result<usize>);

impl fmt::Display for Outcome<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Ok(count) => write!(f, "{count} bytes"),
            Err(error) => write!(f, "nothing: {:?}", error.kind()),
        }
    }
}
