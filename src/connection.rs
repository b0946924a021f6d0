//! One connection's state machine, over any [`Stream`].
//!
//! ```text
//!   New ── greeted ─► Open ── the client's end ──────────────────► InputEnded ── all answered ─┐
//!                     │  │                                          ▲       ▲                  │
//!                     │  └─ stop ─► Draining ── the client's end ───┘       │                  │
//!                     │                └── nothing more is on its way ──────┘                  │
//!                     │                                                                        ▼
//!                     └─ Step::Close, a time-out, Waker::end ────────────────────────────► Finishing
//!                                                                                              │
//!                           Closed ◄── the client has everything, and has ended ── Lingering ◄─┘ no pending output
//! ```
//!
//! An error, or the server's end, leads from every state to Closed. A refused client starts in Finishing. The protocol is
//! called in Open, Draining and InputEnded.
//!
//! A connection knows no `Poll`, no slab, no clock and no other connection. The loop calls [`Connection::turn`] when the
//! socket may be ready, and asks [`Connection::interest`] what to wait for next.

use std::io::{self, ErrorKind, Read, Write};
use std::time::Duration;

use log::Level;
use mio::Interest;

use crate::address::Address;
use crate::buffer::{BoxedBuffer, Buffer, Pool};
use crate::config::Budgets;
use crate::panics;
use crate::readiness::{Kernel, READ, Readable, Readiness};
use crate::reason::{Reason, Timeout};
use crate::session::{AtDeadline, EndOfInput, Session, Sizes, Step, Timer};
use crate::socket::Socket;
use crate::trace::{self, Cause, Event, step};

/// What a connection needs from its socket. The tests use a scripted one.
pub(crate) trait Stream: Read + Write {
    /// Ends our direction of the stream: the client reads what was written, then the end of input.
    fn shutdown_write(&mut self) -> io::Result<()>;

    /// Whether the client's kernel has everything, after the shutdown. `None`: the system cannot tell.
    fn is_delivered(&self) -> io::Result<Option<bool>>;

    /// Lets the connection fail with `TimedOut` if the client's kernel takes nothing for this long.
    fn limit_delivery(&self, timeout: Duration);

    /// The kernel whose rules hold for it.
    fn kernel(&self) -> Kernel {
        Kernel::HERE
    }
}

impl Stream for Socket {
    fn shutdown_write(&mut self) -> io::Result<()> {
        Self::shutdown_write(self)
    }

    fn is_delivered(&self) -> io::Result<Option<bool>> {
        Self::is_delivered(self)
    }

    fn limit_delivery(&self, timeout: Duration) {
        Self::limit_delivery(self, timeout);
    }
}

/// What all connections of a server share.
#[derive(Debug)]
pub(crate) struct Means {
    pub input: Pool,
    pub output: Pool,
    pub budgets: Budgets,
    /// [`Config::write_timeout`](crate::Config::write_timeout).
    pub write_timeout: Option<Duration>,
}

impl Means {
    /// Makes the buffers of the next connections large enough.
    fn make_room_for(&mut self, sizes: Sizes) {
        self.input.grow(sizes.request as usize);
        self.output.grow(self.budgets.high_water.saturating_add(sizes.answer as usize));
    }
}

/// One connection: its socket, its protocol's session, its buffers, and its state.
#[derive(Debug)]
pub(crate) struct Connection<T, S> {
    stream: T,
    peer: Address,
    /// `None` for a refused client.
    session: Option<S>,
    sizes: Sizes,
    state: State,
    /// Read and not answered. Taken from the pool while there are such bytes: an idle connection has no buffer.
    input: Option<BoxedBuffer>,
    /// Answered and not written: the pending output. Taken from the pool in the same way.
    output: Option<BoxedBuffer>,
    /// The protocol waits for an answer that is made elsewhere ([`Step::Wait`]).
    waits: bool,
    /// The client has sent something, and its answers have not left yet.
    owes_answers: bool,
    /// While draining: the client had just sent something, so more may be on its way.
    has_just_read: bool,
    /// While draining: the client was held back, and what it could not send starts its way only when we read.
    was_held_back: bool,
    /// The end of the client's input was read.
    has_input_ended: bool,
    /// The client's kernel has everything, or ours cannot tell.
    is_delivered: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The protocol has not greeted yet.
    New,
    /// The session reads and answers.
    Open,
    /// The server stops. The session reads and answers what the client had sent, at most this many bytes more.
    Draining {
        budget: u32,
    },
    /// No more input follows: the client has ended its direction (`Finished`), or the drain has (`Drained`). The session
    /// answers what it has.
    InputEnded(Reason),
    /// The protocol has said everything. The pending output is sent, and nothing is read.
    Finishing(Reason),
    /// The server has ended its direction. It reads and discards what the client still sends. A close with unread input
    /// would make the kernel send a reset, which can destroy our last bytes on their way (RFC 1122, 4.2.2.13; RFC 2525,
    /// 2.17). The connection is over when the client's kernel has everything and the client has ended its direction.
    Lingering(Reason),
    Closed(Reason),
}

/// What one turn of a connection did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Turn {
    /// Bytes read.
    pub read: usize,
    /// Bytes written.
    pub written: usize,
    /// The socket may still be ready, but its edge is used up: the connection must be re-armed.
    pub stopped_early: bool,
    /// The answer budget is used up, and unanswered input has no edge: the connection must be woken again.
    pub goes_on: bool,
    /// What the session wants with its own deadline.
    pub timer: Timer,
    answers: usize,
    /// The answers to all that the client has sent have left.
    has_paid: bool,
    /// Reading was stopped before this turn, and goes on now.
    has_resumed: bool,
}

/// A time-out that runs after a turn, and whether it starts again if it is running already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Clock {
    pub timeout: Timeout,
    pub restarts: bool,
}

/// The buffers of one turn.
struct Buffers {
    input: BoxedBuffer,
    output: BoxedBuffer,
}

impl Buffers {
    fn input(&mut self) -> &mut Buffer {
        &mut self.input[0]
    }

    fn output(&mut self) -> &mut Buffer {
        &mut self.output[0]
    }
}

impl<T: Stream, S: Session> Connection<T, S> {
    /// A connection at its start.
    pub fn open(stream: T, peer: Address, session: S, means: &mut Means) -> Self {
        let (sizes, state) = match panics::catch(|| session.sizes()) {
            Ok(sizes) => (sizes, State::New),
            Err(report) => {
                step!(Level::Error, Event::Panicked { peer, report });
                (Sizes::default(), State::Closed(Reason::ProtocolError))
            }
        };
        means.make_room_for(sizes);
        Self::new(stream, peer, Some(session), sizes, state)
    }

    /// A connection that only sends `message`, as much of it as an output buffer holds.
    pub fn refuse(stream: T, peer: Address, message: &[u8], means: &mut Means) -> Self {
        let mut connection =
            Self::new(stream, peer, None, Sizes::default(), State::Finishing(Reason::Refused));
        connection.output = means.output.take().ok();
        if let Some(output) = connection.output.as_mut().map(|output| &mut output[0]) {
            output.push(&message[..message.len().min(output.free())]);
        }
        connection
    }

    fn new(stream: T, peer: Address, session: Option<S>, sizes: Sizes, state: State) -> Self {
        Self {
            stream,
            peer,
            session,
            sizes,
            state,
            input: None,
            output: None,
            waits: false,
            owes_answers: false,
            has_just_read: false,
            was_held_back: false,
            has_input_ended: false,
            is_delivered: false,
        }
    }

    /// The client's address.
    pub fn peer(&self) -> Address {
        self.peer
    }

    /// The socket, for its registration.
    pub fn stream_mut(&mut self) -> &mut T {
        &mut self.stream
    }

    /// The protocol's session. `None` for a refused client.
    pub fn session_mut(&mut self) -> Option<&mut S> {
        self.session.as_mut()
    }

    /// Why the connection ended, once it has.
    pub fn closed(&self) -> Option<Reason> {
        match self.state {
            State::Closed(reason) => Some(reason),
            _ => None,
        }
    }

    /// What to wait for: a pure function of the state, and the only place that decides it. `None` for a closed connection.
    ///
    /// An idle socket is always writable, so WRITABLE would cause an event without a use. It is in the interest only
    /// while output is pending, here or in the kernel.
    pub fn interest(&self, budgets: &Budgets) -> Option<Interest> {
        if self.closed().is_some() {
            return None;
        }
        let is_settling = matches!(self.state, State::Lingering(_)) && !self.is_delivered;
        let writes = is_settling || self.pending() > 0;
        Some(match (self.reads(budgets), writes) {
            (true, false) => READ,
            (true, true) => READ.add(Interest::WRITABLE),
            (false, true) => Interest::WRITABLE,
            (false, false) => self.stream.kernel().no_interest(),
        })
    }

    /// The time-out on what the client sends, after this turn.
    pub fn input_clock(&self, turn: Turn, budgets: &Budgets) -> Option<Clock> {
        let (timeout, restarts) = match self.state {
            State::Open if !self.owes_answers => (Timeout::Idle, turn.read > 0 || turn.has_paid),
            State::Draining { .. } if self.reads(budgets) && self.expects_input() => {
                (Timeout::Quiet, self.was_held_back && (turn.read > 0 || turn.has_resumed))
            }
            _ => return None,
        };
        Some(Clock { timeout, restarts })
    }

    /// The time-out on what the client reads, after this turn.
    ///
    /// There is none while the client's kernel lacks something at the end: our kernel counts then, because it alone sees
    /// what the client takes ([`Stream::limit_delivery`]). A drain has a time-out of its own.
    pub fn output_clock(&self, turn: Turn) -> Option<Clock> {
        let (timeout, restarts) = match self.state {
            State::Finishing(Reason::Refused) | State::Lingering(Reason::Refused) => (Timeout::Linger, false),
            _ if self.pending() > 0 => (Timeout::Write, turn.written > 0),
            State::Lingering(reason) if self.is_delivered && reason != Reason::Drained => {
                (Timeout::Linger, false)
            }
            _ => return None,
        };
        Some(Clock { timeout, restarts })
    }

    /// Ends the connection immediately. Pending output is lost.
    pub fn close(&mut self, reason: Reason) {
        self.enter(State::Closed(reason));
        (self.input, self.output) = (None, None);
    }

    /// Tells the session that its closed connection is removed, and drops it.
    pub fn drop_session(&mut self) {
        let (Some(reason), Some(mut session)) = (self.closed(), self.session.take()) else { return };
        let told = match reason {
            Reason::ProtocolError => Ok(()),
            _ => panics::catch(|| session.closed(reason)),
        };
        let dropped = panics::catch(|| drop(session));
        for report in [told, dropped].into_iter().filter_map(Result::err) {
            step!(Level::Error, Event::Panicked { peer: self.peer, report });
        }
    }

    /// One turn: reads and answers at most the read budget, and writes as much as the socket takes. If the protocol
    /// panics, only this connection ends: the session's code never runs again.
    pub fn turn(&mut self, cause: Cause, means: &mut Means) -> Turn {
        let mut turn = Turn::default();
        let input = self.input.take().or_else(|| means.input.take().ok());
        let output = self.output.take().or_else(|| means.output.take().ok());
        let (Some(input), Some(output)) = (input, output) else {
            self.close(Reason::OutOfMemory);
            return turn;
        };
        let mut buffers = Buffers { input, output };
        let result = panics::catch(|| self.advance(cause, &mut buffers, &mut turn, means));
        let result = result.unwrap_or_else(|report| {
            step!(Level::Error, Event::Panicked { peer: self.peer, report });
            Err(Reason::ProtocolError)
        });
        if let Err(reason) = result {
            self.enter(State::Closed(reason));
        }
        if self.closed().is_some() {
            buffers.input().clear();
            buffers.output().clear();
        }
        self.input = means.input.put_back(buffers.input);
        self.output = means.output.put_back(buffers.output);
        turn
    }

    /// Writes, reads and answers, writes again. The first write may make room for the answers to what is read.
    fn advance(
        &mut self,
        cause: Cause,
        buffers: &mut Buffers,
        turn: &mut Turn,
        means: &Means,
    ) -> Result<(), Reason> {
        let budgets = &means.budgets;
        // Output that was pending before this turn filled the socket. Write again only if the event says writable.
        let is_full = !buffers.output().is_empty();
        let could_read = self.can_read(buffers, budgets);
        if self.state == State::New {
            self.enter(State::Open);
            if let Some(session) = &mut self.session {
                session.greet(buffers.output());
            }
        }
        let ready = self.begin(cause, buffers, budgets)?;
        let has_room = if ready.writable || !is_full {
            self.flush(buffers, turn, budgets)?
        } else {
            self.answer(buffers, turn, budgets)?;
            false
        };
        let until = if self.is_draining() { Readable::UntilBlocked } else { ready.readable };
        if until != Readable::No && self.can_read(buffers, budgets) {
            self.read(until, buffers, turn, budgets)?;
            if has_room {
                self.flush(buffers, turn, budgets)?;
            }
        }
        self.advance_state(buffers, turn, means)?;
        let can_read = self.can_read(buffers, budgets);
        turn.has_resumed = can_read && !could_read;
        if self.is_draining() {
            self.was_held_back |= !can_read;
            // It must learn that nothing more has arrived, and no event says that.
            turn.goes_on |= can_read && !self.expects_input();
        }
        let is_answered = self.is_answered();
        turn.timer = match &mut self.session {
            Some(session) if is_answered => session.timer(),
            _ => Timer::Stop,
        };
        Ok(())
    }

    /// Does what the turn was given for. Returns what the socket may be ready for.
    fn begin(&mut self, cause: Cause, buffers: &mut Buffers, budgets: &Budgets) -> Result<Readiness, Reason> {
        match cause {
            Cause::Ready(ready) => return Ok(ready),
            Cause::Woken => self.waits = false,
            Cause::End => self.finish(Reason::Ended, buffers),
            Cause::Stop(has_just_read) if self.state == State::Open => {
                self.was_held_back = !self.can_read(buffers, budgets);
                self.has_just_read = has_just_read;
                self.enter(State::Draining { budget: budgets.drain });
                return Ok(Readiness::READABLE);
            }
            Cause::Stop(_) => {}
            Cause::Timeout(Timeout::Idle) => self.finish(Reason::IdleTimeout, buffers),
            Cause::Timeout(Timeout::Quiet) => self.stop_input(),
            Cause::Timeout(Timeout::Own) => match self.session.as_mut().map(Session::deadline) {
                Some(AtDeadline::GoOn) => self.waits = false,
                _ => self.finish(Reason::Deadline, buffers),
            },
            Cause::Timeout(Timeout::Write) => return Err(Reason::WriteTimeout),
            Cause::Timeout(Timeout::Linger) => {
                return Err(match self.state {
                    State::Lingering(Reason::Closed) => Reason::LingerTimeout,
                    State::Finishing(reason) | State::Lingering(reason) => reason,
                    _ => Reason::Failed,
                });
            }
        }
        Ok(Readiness::NONE)
    }

    /// Answers and writes until no output is pending, the socket is full, or the write budget is used up. Returns
    /// whether the socket may have room for more.
    fn flush(&mut self, buffers: &mut Buffers, turn: &mut Turn, budgets: &Budgets) -> Result<bool, Reason> {
        loop {
            self.answer(buffers, turn, budgets)?;
            if buffers.output().is_empty() {
                return Ok(true);
            }
            if turn.written >= budgets.write {
                turn.stopped_early = true;
                return Ok(false);
            }
            let result = buffers.output().write_to(&mut self.stream);
            let written = self.outcome("write", result)?;
            self.trace_call("write", written, buffers);
            turn.written += written.unwrap_or(0);
            let is_short = !buffers.output().is_empty();
            if written.is_none() || is_short && self.stream.kernel().short_write_means_full() {
                return Ok(false);
            }
        }
    }

    /// Reads and answers until the socket is empty, the input ends, or a budget of the turn is used up.
    fn read(
        &mut self,
        until: Readable,
        buffers: &mut Buffers,
        turn: &mut Turn,
        budgets: &Budgets,
    ) -> Result<(), Reason> {
        for _ in 0..budgets.reads {
            if !self.can_read(buffers, budgets) || turn.read >= budgets.read || turn.goes_on {
                break;
            }
            let most = self.input_room(buffers.input()).min(budgets.read);
            let result = buffers.input().read_from(&mut self.stream, most);
            let count = self.outcome("read", result)?;
            self.trace_call("read", count, buffers);
            match count {
                Some(0) => {
                    self.has_input_ended = true;
                    if !matches!(self.state, State::Lingering(_)) {
                        self.end_input(EndOfInput::Client, Reason::Finished);
                    }
                    return self.answer(buffers, turn, budgets);
                }
                Some(count) => {
                    turn.read += count;
                    self.owes_answers = true;
                    let is_last = until == Readable::UntilShort && count < most;
                    self.answer(buffers, turn, budgets)?;
                    if self.uses_up_drain_budget(count) {
                        self.stop_input();
                        return self.answer(buffers, turn, budgets);
                    } else if is_last {
                        return Ok(());
                    }
                }
                None => {
                    if self.is_draining() && !self.expects_input() {
                        self.stop_input();
                        return self.answer(buffers, turn, budgets);
                    }
                    return Ok(());
                }
            }
        }
        turn.stopped_early = true;
        Ok(())
    }

    /// Lets the session answer its input, request by request, until the pending output reaches high water.
    fn answer(&mut self, buffers: &mut Buffers, turn: &mut Turn, budgets: &Budgets) -> Result<(), Reason> {
        if matches!(self.state, State::Lingering(_)) {
            buffers.input().clear();
        }
        let before = buffers.output().len();
        while self.is_answered() && !self.waits {
            let (input, output) = (&mut buffers.input[0], &mut buffers.output[0]);
            if output.len() >= budgets.high_water && !self.sizes.independent {
                break;
            }
            if turn.answers >= budgets.answers {
                turn.goes_on = true;
                break;
            }
            turn.answers += 1;
            let Some(session) = &mut self.session else { break };
            let pending = output.len();
            match session.answer(input.unread_mut(), output) {
                Step::Consumed(count) if count > 0 => input.consume(count),
                Step::More if output.len() > pending => {}
                Step::More => return Err(Reason::ProtocolError),
                Step::NeedInput | Step::Consumed(_) => {
                    match self.state {
                        State::InputEnded(reason) => self.finish(reason, buffers),
                        _ if self.input_room(input) == 0 => self.finish(Reason::RequestTooLarge, buffers),
                        _ => {}
                    }
                    break;
                }
                Step::Wait => {
                    self.waits = true;
                    step!(Event::Waiting { peer: self.peer });
                }
                Step::Close => {
                    input.clear();
                    self.enter(State::Finishing(Reason::Closed));
                }
            }
        }
        let (input, output) = (buffers.input().len(), buffers.output().len());
        if output > before {
            step!(Event::Answered { peer: self.peer, input, output });
        }
        Ok(())
    }

    /// Moves on from a state whose work is done.
    fn advance_state(&mut self, buffers: &mut Buffers, turn: &mut Turn, means: &Means) -> Result<(), Reason> {
        if !buffers.output().is_empty() {
            return Ok(());
        }
        if self.owes_answers && !self.waits && !turn.goes_on {
            self.owes_answers = false;
            turn.has_paid = true;
        }
        if let State::Finishing(reason) = self.state {
            self.stream.shutdown_write().map_err(|error| self.failed("shutdown", &error))?;
            self.enter(State::Lingering(reason));
            // Input may wait whose edge is used up: a session that finishes does not read.
            turn.stopped_early |= !self.has_input_ended;
        }
        let State::Lingering(reason) = self.state else { return Ok(()) };
        if !self.is_delivered {
            let delivered = self.stream.is_delivered().map_err(|error| self.failed("shutdown", &error))?;
            self.is_delivered = delivered.unwrap_or(true);
            if let (false, Some(timeout)) = (self.is_delivered, means.write_timeout) {
                self.stream.limit_delivery(timeout);
            }
        }
        if self.is_delivered && self.has_input_ended {
            self.enter(State::Closed(reason));
        }
        Ok(())
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        step!(Event::State { peer: self.peer, state: state.into() });
    }

    /// No more input follows for the protocol. `reason` is why the session ends when it has answered.
    fn end_input(&mut self, end: EndOfInput, reason: Reason) {
        self.enter(State::InputEnded(reason));
        if let Some(session) = &mut self.session {
            session.end_of_input(end);
        }
    }

    /// The drain has read what it reads.
    fn stop_input(&mut self) {
        if self.is_draining() {
            self.end_input(EndOfInput::Stop, Reason::Drained);
        }
    }

    /// The protocol is called no more, but for a last word if the server ends the session.
    fn finish(&mut self, reason: Reason, buffers: &mut Buffers) {
        if !self.is_answered() {
            return;
        }
        let has_room = buffers.output().free() >= self.sizes.answer as usize;
        if let (Some(session), true) = (&mut self.session, has_room && reason != Reason::Finished) {
            session.ending(reason, buffers.output());
        }
        buffers.input().clear();
        self.waits = false;
        self.enter(State::Finishing(reason));
    }

    /// Counts `count` bytes that were read. Returns whether a draining session has read its last ones.
    fn uses_up_drain_budget(&mut self, count: usize) -> bool {
        let State::Draining { budget } = &mut self.state else { return false };
        *budget = budget.saturating_sub(u32::try_from(count).unwrap_or(u32::MAX));
        *budget == 0
    }

    /// How much output is pending (bytes).
    fn pending(&self) -> usize {
        self.output.as_ref().map_or(0, |output| output[0].len())
    }

    fn is_draining(&self) -> bool {
        matches!(self.state, State::Draining { .. })
    }

    /// While draining: whether more may be on its way. The session is then read for a quiet time.
    fn expects_input(&self) -> bool {
        self.has_just_read || self.was_held_back
    }

    /// Whether the protocol is called in this state.
    fn is_answered(&self) -> bool {
        matches!(self.state, State::Open | State::Draining { .. } | State::InputEnded(_))
    }

    /// Whether the connection reads, with its buffers as they are between two turns.
    fn reads(&self, budgets: &Budgets) -> bool {
        let unread = self.input.as_ref().map_or(0, |input| input[0].len());
        self.reads_with(unread, self.pending(), budgets)
    }

    /// Whether it reads, in a turn.
    fn can_read(&self, buffers: &mut Buffers, budgets: &Budgets) -> bool {
        self.reads_with(buffers.input().len(), buffers.output().len(), budgets)
    }

    /// Backpressure: a session does not read while pending output is above high water, while its request fills the input
    /// buffer, or while it waits for an answer.
    fn reads_with(&self, unread: usize, pending: usize, budgets: &Budgets) -> bool {
        match self.state {
            State::Open | State::Draining { .. } => {
                let has_room = pending < budgets.high_water || self.sizes.independent;
                has_room && unread < self.sizes.request as usize && !self.waits
            }
            State::Lingering(_) => !self.has_input_ended,
            _ => false,
        }
    }

    /// How much more input the session takes (bytes).
    fn input_room(&self, input: &Buffer) -> usize {
        (self.sizes.request as usize).saturating_sub(input.len()).min(input.free())
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
        match (self.state, error.kind()) {
            // The kernel has counted: the client took nothing for this long.
            (State::Lingering(_), ErrorKind::TimedOut) if !self.is_delivered => Reason::WriteTimeout,
            _ => Reason::of(error),
        }
    }

    fn trace_call(&self, call: &'static str, bytes: Option<usize>, buffers: &mut Buffers) {
        let (input, output) = (buffers.input().len(), buffers.output().len());
        step!(Event::Call { peer: self.peer, call, bytes, input, output });
    }
}

impl From<State> for trace::State {
    fn from(state: State) -> Self {
        match state {
            State::New => Self::New,
            State::Open => Self::Open,
            State::Draining { .. } => Self::Draining,
            State::InputEnded(_) => Self::InputEnded,
            State::Finishing(_) => Self::Finishing,
            State::Lingering(_) => Self::Lingering,
            State::Closed(_) => Self::Closed,
        }
    }
}
