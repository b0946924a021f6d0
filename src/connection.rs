//! One session's state machine, over any [`Stream`].
//!
//! ```text
//!   New ── greeted ─► Open ── end of input ────► HalfClosed ── no pending output ───────────────► Closed
//!                      │ │                            ▲                                             ▲
//!                      │ └─ drain() ─► Draining ──────┘                                             │
//!                      │                  │ what had arrived is answered                            │
//!                      │ Step::Close      ▼                                                         │
//!                      └──────────────► Finishing ── no pending output ─► Lingering ── end of input ┘
//! ```
//!
//! An error or [`Connection::close`] leads from every state to Closed. A refused client starts in Finishing.
//!
//! A connection knows no `Poll`, no slab, no clock and no other session. The server calls [`Connection::turn`] when the
//! socket may be ready, and asks [`Connection::interest`] what to wait for next.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};

use log::Level;
use mio::Interest;
use mio::net::TcpStream;
use strum::IntoStaticStr;

use crate::buffer::{BoxedBuffers, Buffers, Pool};
use crate::config::{DRAIN_BUDGET, HIGH_WATER, READ_BUDGET, READS, WRITE_BUDGET};
use crate::deadlines::Timeout;
use crate::platform::{self, Kernel};
use crate::readiness::{Readable, Readiness};
use crate::reason::Reason;
use crate::session::{Session, Step};
use crate::trace::{Event, step};

/// What a connection needs from its socket. The tests use a scripted one.
pub trait Stream: Read + Write {
    /// Ends our direction of the stream: the client reads what was written, then the end of input.
    fn shutdown_write(&mut self) -> io::Result<()>;

    /// The kernel whose rules hold for it.
    fn kernel(&self) -> Kernel {
        Kernel::HERE
    }
}

impl Stream for TcpStream {
    fn shutdown_write(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

/// One session: its socket, its protocol, its buffers, and its state.
#[derive(Debug)]
pub struct Connection<T, S> {
    stream: T,
    peer: SocketAddr,
    /// `None` if nothing is answered any more: the client is refused, or the protocol has ended the session.
    session: Option<S>,
    state: State,
    /// Taken from the pool while bytes are in flight: read and not answered, or answered and not written. An idle
    /// session has none.
    buffers: Option<BoxedBuffers>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr)]
enum State {
    /// The protocol has not greeted yet.
    New,
    /// The session reads and answers.
    Open,
    /// The server stops. The session reads and answers what has arrived, at most this many bytes, then finishes.
    Draining {
        budget: usize,
    },
    /// The client has ended its direction. It may still read, so the server sends all pending output first.
    HalfClosed,
    /// The server ends the session. It sends the pending output, and reads nothing.
    Finishing(Reason),
    /// The server has ended its direction. It reads and discards what the client still sends. A close with unread input
    /// would make the kernel send a reset, which can destroy our last bytes on their way (RFC 1122, 4.2.2.13; RFC 2525,
    /// 2.17).
    Lingering(Reason),
    Closed(Reason),
}

/// What one turn of a session did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Turn {
    /// Bytes read.
    pub read: usize,
    /// Bytes written.
    pub written: usize,
    /// The socket may still be ready, but its edge is used up: the session must be re-armed.
    pub stopped_early: bool,
}

impl Turn {
    /// Whether the turn brought what `timeout` waits for.
    pub fn restarts(self, timeout: Timeout) -> bool {
        match timeout {
            Timeout::Idle => self.read + self.written > 0,
            Timeout::Write => self.written > 0,
            Timeout::Linger => false,
        }
    }
}

impl<T: Stream, S: Session> Connection<T, S> {
    /// A session at its start.
    pub fn open(stream: T, peer: SocketAddr, session: S) -> Self {
        let session = Some(session);
        Self { stream, peer, session, state: State::New, buffers: None }
    }

    /// A session that only sends `message`, as much of it as an output buffer holds.
    pub fn refuse(stream: T, peer: SocketAddr, message: &[u8], pool: &mut Pool) -> Self {
        let mut buffers = pool.take().ok();
        if let Some(output) = buffers.as_mut().map(|buffers| &mut buffers[0].output) {
            output.push(&message[..message.len().min(output.free())]);
        }
        let state = State::Finishing(Reason::Refused);
        Self { stream, peer, session: None, state, buffers }
    }

    /// The client's address.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The socket, for its registration.
    pub fn stream_mut(&mut self) -> &mut T {
        &mut self.stream
    }

    /// Why the session ended, once it has.
    pub fn closed(&self) -> Option<Reason> {
        match self.state {
            State::Closed(reason) => Some(reason),
            _ => None,
        }
    }

    /// What to wait for: a pure function of the state, and the only place that decides it. `None` for a closed session.
    ///
    /// An idle socket is always writable, so WRITABLE would bring an event without a use. It is in the interest only
    /// while output is pending.
    pub fn interest(&self) -> Option<Interest> {
        if self.closed().is_some() {
            return None;
        }
        // A draining session must learn that no more input has arrived, and no event says that. Its socket is or becomes
        // writable, so WRITABLE brings its next turn.
        let writes = self.has_pending_output() || self.is_draining();
        let buffers = self.buffers.as_ref().map(|buffers| &buffers[0]);
        Some(match (self.reads(buffers), writes) {
            (true, false) => platform::READ,
            (true, true) => platform::READ.add(Interest::WRITABLE),
            // A session that neither reads nor writes does not exist: `advance_state` has moved it on.
            (false, _) => Interest::WRITABLE,
        })
    }

    /// The time-out that applies now.
    pub fn timeout(&self) -> Timeout {
        match self.state {
            State::Finishing(Reason::Refused) | State::Lingering(Reason::Closed | Reason::Refused) => {
                Timeout::Linger
            }
            _ if self.has_pending_output() => Timeout::Write,
            _ => Timeout::Idle,
        }
    }

    /// Ends the session politely, because the server stops. The session answers what has arrived, then finishes.
    pub fn drain(&mut self) {
        if self.state == State::Open {
            self.enter(State::Draining { budget: DRAIN_BUDGET });
        }
    }

    /// Ends the session immediately. Pending output is lost.
    pub fn close(&mut self, reason: Reason) {
        self.enter(State::Closed(reason));
        self.buffers = None;
    }

    /// One turn: reads and answers at most [`READ_BUDGET`], and writes as much as the socket takes. If the protocol
    /// panics, only this session ends: its code never runs again.
    pub fn turn(&mut self, ready: Readiness, pool: &mut Pool) -> Turn {
        let mut turn = Turn::default();
        let Some(mut buffers) = self.buffers.take().or_else(|| pool.take().ok()) else {
            self.enter(State::Closed(Reason::OutOfMemory));
            return turn;
        };
        let advance = AssertUnwindSafe(|| self.advance(ready, &mut buffers[0], &mut turn));
        if let Err(reason) = catch_unwind(advance).unwrap_or(Err(Reason::ProtocolError)) {
            self.enter(State::Closed(reason));
        }
        if self.closed().is_some() {
            buffers[0].input.clear();
            buffers[0].output.clear();
        }
        self.buffers = pool.put_back(buffers);
        turn
    }

    /// Writes, reads and answers, writes again. The first write may make room for the answers to what is read.
    fn advance(&mut self, ready: Readiness, buffers: &mut Buffers, turn: &mut Turn) -> Result<(), Reason> {
        if self.state == State::New {
            self.enter(State::Open);
            if let Some(session) = &mut self.session {
                session.greet(&mut buffers.output);
            }
        }
        // Output that was pending before this turn filled the socket. Write again only if the event says writable.
        let may_write = ready.writable || buffers.output.is_empty();
        let has_room = may_write && self.flush(buffers, turn)?;
        let until = if self.is_draining() { Readable::UntilBlocked } else { ready.readable };
        if until != Readable::No && self.reads(Some(buffers)) {
            self.read(until, buffers, turn)?;
            if has_room {
                self.flush(buffers, turn)?;
            }
        }
        self.advance_state(buffers, turn)
    }

    /// Answers and writes until no output is pending, the socket is full, or [`WRITE_BUDGET`] is used up. Returns
    /// whether the socket may have room for more.
    fn flush(&mut self, buffers: &mut Buffers, turn: &mut Turn) -> Result<bool, Reason> {
        loop {
            self.answer(buffers);
            if buffers.output.is_empty() {
                return Ok(true);
            }
            if turn.written >= WRITE_BUDGET {
                turn.stopped_early = true;
                return Ok(false);
            }
            let result = buffers.output.write_to(&mut self.stream);
            let written = self.outcome("write", result)?;
            step!(Event::call(self.peer, "write", written, buffers));
            turn.written += written.unwrap_or(0);
            let is_short = !buffers.output.is_empty();
            if written.is_none() || is_short && self.stream.kernel().short_write_means_full() {
                return Ok(false);
            }
        }
    }

    /// Reads and answers until the socket is empty, the input ends, or the turn's read budget is used up.
    fn read(&mut self, until: Readable, buffers: &mut Buffers, turn: &mut Turn) -> Result<(), Reason> {
        for _ in 0..READS {
            if !self.reads(Some(buffers)) || turn.read >= READ_BUDGET {
                break;
            }
            let result = buffers.input.read_from(&mut self.stream);
            let count = self.outcome("read", result)?;
            step!(Event::call(self.peer, "read", count, buffers));
            match count {
                Some(0) => {
                    self.end_input(match self.state {
                        State::Lingering(reason) => State::Closed(reason),
                        _ => State::HalfClosed,
                    });
                    self.answer(buffers);
                    return Ok(());
                }
                Some(count) => {
                    turn.read += count;
                    let is_last = until == Readable::UntilShort && !buffers.input.is_full();
                    self.answer(buffers);
                    if self.uses_up_drain_budget(count) {
                        self.end_input(State::Finishing(Reason::Drained));
                    } else if is_last {
                        return Ok(());
                    }
                }
                None => {
                    if self.is_draining() {
                        self.end_input(State::Finishing(Reason::Drained));
                    }
                    return Ok(());
                }
            }
        }
        turn.stopped_early = true;
        Ok(())
    }

    /// Lets the session answer its input, request by request, until the pending output reaches high water.
    fn answer(&mut self, buffers: &mut Buffers) {
        let Buffers { input, output } = buffers;
        if matches!(self.state, State::Lingering(_)) {
            input.clear();
        }
        let before = output.len();
        while let Some(session) = self.session.as_mut().filter(|_| output.len() < HIGH_WATER) {
            let pending = output.len();
            match session.answer(input.unread_mut(), output) {
                Step::NeedInput => break,
                Step::Consumed(0) if output.len() == pending => break,
                Step::Consumed(count) => input.consume(count),
                Step::Close => {
                    self.session = None;
                    self.enter(State::Finishing(Reason::Closed));
                    input.clear();
                }
            }
        }
        if output.len() > before {
            step!(Event::Answered { peer: self.peer, input: input.len(), output: output.len() });
        }
    }

    /// Moves on from a state whose work is done.
    fn advance_state(&mut self, Buffers { input, output }: &Buffers, turn: &mut Turn) -> Result<(), Reason> {
        match self.state {
            _ if !output.is_empty() => {}
            State::HalfClosed => self.enter(State::Closed(Reason::Finished)),
            State::Finishing(reason) => {
                self.stream.shutdown_write().map_err(|error| self.failed("shutdown", &error))?;
                self.enter(State::Lingering(reason));
                self.session = None;
                // Input may wait whose edge is used up: a session that finishes does not read.
                turn.stopped_early = true;
            }
            // The protocol needs more input, and neither a read nor a write can make room for it.
            _ if input.is_full() => return Err(Reason::ProtocolError),
            _ => {}
        }
        Ok(())
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        step!(Event::State { peer: self.peer, state: state.into() });
    }

    /// No more input follows for the protocol.
    fn end_input(&mut self, next: State) {
        self.enter(next);
        if let Some(session) = &mut self.session {
            session.end_of_input();
        }
    }

    /// Counts `count` bytes that were read. Returns whether a draining session has read its last ones.
    fn uses_up_drain_budget(&mut self, count: usize) -> bool {
        let State::Draining { budget } = &mut self.state else { return false };
        *budget = budget.saturating_sub(count);
        *budget == 0
    }

    fn has_pending_output(&self) -> bool {
        self.buffers.as_ref().is_some_and(|buffers| !buffers[0].output.is_empty())
    }

    fn is_draining(&self) -> bool {
        matches!(self.state, State::Draining { .. })
    }

    /// Whether the session reads. Backpressure: it does not while pending output is above high water, or while the
    /// input buffer is full.
    fn reads(&self, buffers: Option<&Buffers>) -> bool {
        let has_room = buffers.is_none_or(|b| b.output.len() < HIGH_WATER && !b.input.is_full());
        has_room && matches!(self.state, State::Open | State::Draining { .. } | State::Lingering(_))
    }

    /// How many bytes a call moved, or `None` if it would have blocked.
    fn outcome(&self, call: &'static str, result: io::Result<usize>) -> Result<Option<usize>, Reason> {
        match result {
            Ok(count) => Ok(Some(count)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(self.failed(call, &error)),
        }
    }

    fn failed(&self, call: &'static str, error: &io::Error) -> Reason {
        step!(Level::Debug, Event::CallFailed { peer: self.peer, call, error: error.to_string() });
        Reason::of(error)
    }
}
