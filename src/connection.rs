//! One connection's state machine, over any [`Stream`]. Its picture is in `connection/state.rs`.
//!
//! A connection knows no `Poll`, no slab, no clock and no other connection. The loop calls [`Connection::turn`] when the
//! socket may be ready, and asks [`Connection::interest`] what to wait for next.

mod state;
mod turn;

use std::io::{self, ErrorKind};
use std::mem;

use log::Level;
use mio::Interest;

use self::state::{OutputEnd, Pause, State};
use self::turn::Exchange;
pub(crate) use self::turn::{Clock, Means, Notes, Stream, Turn};
use crate::address::Address;
use crate::buffer::{BoxedBuffer, Buffer};
use crate::panics;
use crate::readiness::{READ, Readable, Readiness};
use crate::reason::{Reason, Timeout};
use crate::session::{AtDeadline, EndOfInput, Session, Sizes, Step, Timer};
use crate::trace::{Cause, Event, step};

/// One connection: its socket, its protocol's session, its buffers, and its state.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone, Hash))]
pub(crate) struct Connection<T, S> {
    stream: T,
    /// The client. Behind a proxy it is the proxy, until the session knows its client.
    peer: Address,
    /// `None` for a refused client.
    session: Option<S>,
    /// [`Sizes::request`], [`Sizes::answer`] and [`Sizes::independent`].
    largest_request: u32,
    largest_answer: u32,
    is_independent: bool,
    state: State,
    /// Read and not answered. Taken from the pool while there are such bytes: an idle connection has no buffer.
    input: Option<BoxedBuffer>,
    /// Answered and not written: the pending output. Taken from the pool in the same way.
    output: Option<BoxedBuffer>,
    pause: Pause,
    /// The client has sent something, and its answers have not left yet.
    owes_answers: bool,
    /// How far the session's own end of output has come ([`Step::EndOutput`]).
    output_end: OutputEnd,
    /// Whether it reads, as far as its state and its buffers say: backpressure.
    reads: bool,
    /// What the loop notes of it. The connection does not look at it.
    pub notes: Notes,
}

impl<T: Stream, S: Session> Connection<T, S> {
    /// A connection at its start.
    pub fn open(stream: T, peer: Address, mut session: S, means: &mut Means) -> Self {
        let asked = panics::catch(peer, || (session.sizes(), session.is_proxied()));
        let state = if asked.is_some() { State::New } else { State::Closed(Reason::ProtocolError) };
        let (sizes, is_proxied) = asked.unwrap_or_default();
        means.make_room_for(sizes);
        let output_end = if is_proxied { OutputEnd::NotBegun } else { OutputEnd::Open };
        Self { output_end, ..Self::new(stream, peer, Some(session), sizes, state) }
    }

    /// An outgoing connection that was begun.
    pub fn connect(stream: T, peer: Address, session: S, means: &mut Means) -> Self {
        let mut connection = Self::open(stream, peer, session, means);
        if connection.state == State::New {
            connection.state = State::Connecting;
        }
        connection
    }

    /// A connection that only sends `message`, as much of it as an output buffer holds.
    pub fn refuse(stream: T, peer: Address, message: &[u8], means: &mut Means) -> Self {
        let state = State::Finishing(Reason::Refused);
        let mut output = means.output.take().ok();
        if let Some([output]) = output.as_deref_mut() {
            output.push(&message[..message.len().min(output.free())]);
        }
        Self { output, ..Self::new(stream, peer, None, Sizes::default(), state) }
    }

    fn new(stream: T, peer: Address, session: Option<S>, sizes: Sizes, state: State) -> Self {
        Self {
            stream,
            peer,
            output_end: OutputEnd::Open,
            session,
            largest_request: sizes.request.try_into().unwrap_or(u32::MAX),
            largest_answer: sizes.answer.try_into().unwrap_or(u32::MAX),
            is_independent: sizes.independent,
            state,
            input: None,
            output: None,
            pause: Pause::No,
            owes_answers: false,
            reads: false,
            notes: Notes::default(),
        }
    }

    /// Whether the session waits for a balancer's header, and has said nothing yet.
    pub fn is_proxied(&self) -> bool {
        self.output_end == OutputEnd::NotBegun
    }

    /// The client's address.
    pub fn peer(&self) -> Address {
        self.peer
    }

    /// How much output is answered and not written (bytes).
    pub fn pending_output(&self) -> usize {
        self.output.as_ref().map_or(0, |output| output[0].len())
    }

    /// The socket, for its registration.
    pub fn stream_mut(&mut self) -> &mut T {
        &mut self.stream
    }

    /// The protocol's session. `None` for a refused client.
    pub fn session_mut(&mut self) -> Option<&mut S> {
        self.session.as_mut()
    }

    /// Whether it is an outgoing connection that is not open yet.
    pub fn is_connecting(&self) -> bool {
        self.state == State::Connecting
    }

    /// Why the connection ended, once it has.
    pub fn closed(&self) -> Option<Reason> {
        match self.state {
            State::Closed(reason) => Some(reason),
            _ => None,
        }
    }

    #[cfg(test)]
    pub fn state(&self) -> crate::trace::State {
        self.state.into()
    }

    /// What to wait for: a pure function of the state, and the only place that decides it. `None` for a closed connection.
    ///
    /// An idle socket is always writable, so WRITABLE would cause an event without a use. It is in the interest only
    /// while output is pending, here or in the kernel.
    pub fn interest(&self) -> Option<Interest> {
        let writes = match self.state {
            State::Closed(_) => return None,
            State::Connecting | State::Lingering { is_delivered: false, .. } => true,
            _ => self.has_pending_output(),
        };
        Some(match (self.reads, writes) {
            (true, false) => READ,
            (true, true) => READ.add(Interest::WRITABLE),
            (false, true) => Interest::WRITABLE,
            (false, false) => self.stream.kernel().no_interest(),
        })
    }

    /// The time-out on what the client sends, after this turn.
    pub fn input_clock(&self, turn: Turn) -> Option<Clock> {
        let (timeout, restarts) = match self.state {
            State::Open if !self.owes_answers => (Timeout::Idle, turn.read > 0 || turn.has_paid),
            State::Draining { was_held_back, .. } if self.state.expects_input() && self.reads => {
                (Timeout::Quiet, was_held_back && (turn.read > 0 || turn.has_resumed))
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
            State::Connecting => (Timeout::Connect, false),
            State::Finishing(Reason::Refused) | State::Lingering { reason: Reason::Refused, .. } => {
                (Timeout::Linger, false)
            }
            _ if self.has_pending_output() => (Timeout::Write, turn.written > 0),
            State::Lingering { reason, is_delivered: true, .. } if reason != Reason::Drained => {
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
        if reason != Reason::ProtocolError {
            panics::catch(self.peer, || session.closed(reason));
        }
        panics::catch(self.peer, || drop(session));
    }

    /// One turn: reads and answers at most the read budget, and writes as much as the socket takes. If the protocol
    /// panics, only this connection ends: the session's code never runs again.
    pub fn turn(&mut self, cause: Cause, means: &mut Means) -> Turn {
        let input = self.input.take().or_else(|| means.input.take().ok());
        let output = self.output.take().or_else(|| means.output.take().ok());
        let (Some(mut input), Some(mut output)) = (input, output) else {
            self.close(Reason::OutOfMemory);
            return Turn::default();
        };
        let has_news = !matches!(cause, Cause::Ready(_)) || !output[0].is_empty();
        let mut exchange = Exchange {
            input: &mut input[0],
            output: &mut output[0],
            has_news,
            wants_room: false,
            turn: Turn::default(),
            means,
        };
        let result = panics::catch(self.peer, || self.advance(cause, &mut exchange));
        if let Err(reason) = result.unwrap_or(Err(Reason::ProtocolError)) {
            self.enter(State::Closed(reason));
        }
        let turn = exchange.turn;
        if self.closed().is_some() {
            input[0].clear();
            output[0].clear();
        }
        self.input = means.input.put_back(input);
        self.output = means.output.put_back(output);
        turn
    }

    /// Writes, reads and answers, writes again. The first write may make room for the answers to what is read.
    fn advance(&mut self, cause: Cause, exchange: &mut Exchange<'_>) -> Result<(), Reason> {
        // Output that was pending before this turn filled the socket. Write again only if the event says writable.
        let was_full = !exchange.output.is_empty();
        let did_read = self.reads;
        if self.is_connecting() && !self.finish_connecting(cause)? {
            return Ok(());
        }
        if self.state == State::New {
            self.enter(State::Open);
            if let Some(session) = &mut self.session {
                session.greet(exchange.output);
            }
            self.check_answer(exchange.output.len());
            exchange.has_news = true;
        }
        exchange.turn.goes_on = self.pause == Pause::Budget && cause != Cause::Woken;
        let ready = self.begin(cause, exchange)?;
        let has_room = if !exchange.has_news {
            true
        } else if ready.writable || !was_full {
            self.flush(exchange)?
        } else {
            self.answer(exchange)?;
            false
        };
        let until = if self.state.is_draining() { Readable::UntilBlocked } else { ready.readable };
        if until != Readable::No && self.can_read(exchange) {
            self.read(until, exchange)?;
            if cause == Cause::Timeout(Timeout::Idle) && exchange.turn.read == 0 && self.can_read(exchange) {
                self.finish(Reason::IdleTimeout, exchange);
            }
            if has_room {
                self.flush(exchange)?;
            }
        }
        if exchange.output.is_empty() {
            if ready.writable && !was_full && self.state.is_answered() && !self.can_read(exchange) {
                // No output was pending, so the event may be an error, which no read and no write will return.
                self.stream.is_connected().map_err(|error| self.failed("read", &error))?;
            }
            self.advance_state(exchange)?;
        }
        self.reads = self.can_read(exchange);
        let (turn, expects_input, is_answered) =
            (&mut exchange.turn, self.state.expects_input(), self.state.is_answered());
        turn.has_resumed = self.reads && !did_read;
        if let State::Draining { was_held_back, .. } = &mut self.state {
            *was_held_back |= !self.reads;
            // It must learn that nothing more has arrived, and no event says that.
            turn.goes_on |= self.reads && !expects_input;
        }
        if turn.goes_on {
            self.pause = Pause::Budget;
        }
        turn.timer = match &mut self.session {
            Some(session) if is_answered => session.timer(),
            _ => Timer::Stop,
        };
        Ok(())
    }

    /// Looks whether an outgoing connection is open now. "Writable" alone does not say it.
    fn finish_connecting(&mut self, cause: Cause) -> Result<bool, Reason> {
        let result = match cause {
            Cause::End => return Err(Reason::Ended),
            Cause::Stop(_) => return Err(Reason::Drained),
            Cause::Timeout(Timeout::Connect) => Err(ErrorKind::TimedOut.into()),
            _ => self.stream.is_connected(),
        };
        if let Err(error) = &result {
            self.failed("connect", error);
            if let Some(session) = &mut self.session {
                session.connect_failed(error);
            }
        }
        let is_open = result.map_err(|_| Reason::ConnectFailed)?;
        if is_open {
            self.enter(State::New);
        }
        Ok(is_open)
    }

    /// Does what the turn was given for. Returns what the socket may be ready for.
    fn begin(&mut self, cause: Cause, exchange: &mut Exchange<'_>) -> Result<Readiness, Reason> {
        match cause {
            Cause::Ready(ready) => return Ok(ready),
            Cause::Woken => self.pause = Pause::No,
            Cause::End => self.finish(Reason::Ended, exchange),
            Cause::Stop(was_just_heard) if self.state == State::Open => {
                let (budget, was_held_back) = (exchange.means.budgets.drain, !self.reads);
                self.enter(State::Draining { budget, was_just_heard, was_held_back });
                return Ok(Readiness::READABLE);
            }
            // A client that has to wait for the server is not idle. What it has sent may be there already.
            Cause::Timeout(Timeout::Idle) if self.reads => return Ok(Readiness::READABLE),
            Cause::Stop(_) | Cause::Timeout(Timeout::Idle | Timeout::Connect) => {}
            Cause::Timeout(Timeout::Quiet) => self.stop_input(exchange),
            Cause::Timeout(Timeout::Own) => match self.session.as_mut().map(Session::deadline) {
                Some(AtDeadline::GoOn) => self.end_wait(),
                _ => self.finish(Reason::Deadline, exchange),
            },
            Cause::Timeout(Timeout::Write) => return Err(Reason::WriteTimeout),
            Cause::Timeout(Timeout::Linger) => {
                return Err(match self.state {
                    State::Lingering { reason: Reason::Closed, .. } => Reason::LingerTimeout,
                    State::Finishing(reason) | State::Lingering { reason, .. } => reason,
                    _ => Reason::Failed,
                });
            }
        }
        Ok(Readiness::NONE)
    }

    /// Answers and writes until no output is pending, the socket is full, or the write budget is used up. Returns
    /// whether the socket may have room for more.
    fn flush(&mut self, exchange: &mut Exchange<'_>) -> Result<bool, Reason> {
        loop {
            self.answer(exchange)?;
            if exchange.output.is_empty() {
                return Ok(true);
            }
            if exchange.turn.written >= exchange.means.budgets.write {
                exchange.turn.stopped_early = true;
                return Ok(false);
            }
            let result = exchange.output.write_to(&mut self.stream);
            let written = self.outcome("write", result, exchange)?;
            exchange.turn.written += written.unwrap_or(0);
            exchange.has_news = true;
            // There is room again, and an independent session asks for it itself.
            if self.is_independent {
                self.end_wait();
            }
            let is_short = !exchange.output.is_empty();
            if written.is_none() || is_short && self.stream.kernel().short_write_means_full() {
                return Ok(false);
            }
            if !is_short && !exchange.wants_room {
                return Ok(true);
            }
        }
    }

    /// Reads and answers until the socket is empty, the input ends, or a budget of the turn is used up.
    fn read(&mut self, until: Readable, exchange: &mut Exchange<'_>) -> Result<(), Reason> {
        for _ in 0..exchange.means.budgets.reads {
            let budget = exchange.means.budgets.read;
            if !self.can_read(exchange) || exchange.turn.read >= budget || exchange.turn.goes_on {
                break;
            }
            let most = self.input_room(exchange.input).min(budget);
            let result = exchange.input.read_from(&mut self.stream, most);
            match self.outcome("read", result, exchange)? {
                Some(0) => {
                    match &mut self.state {
                        State::Lingering { has_input_ended, .. } => *has_input_ended = true,
                        _ => self.end_input(EndOfInput::Client, Reason::Finished, exchange),
                    }
                    return self.answer(exchange);
                }
                Some(count) => {
                    exchange.turn.read += count;
                    exchange.has_news = true;
                    self.owes_answers = true;
                    self.answer(exchange)?;
                    if self.state.uses_up_drain_budget(count) {
                        self.stop_input(exchange);
                        return self.answer(exchange);
                    } else if until == Readable::UntilShort && count < most {
                        return Ok(());
                    }
                }
                None if self.state.is_draining() && !self.state.expects_input() => {
                    self.stop_input(exchange);
                    return self.answer(exchange);
                }
                None => return Ok(()),
            }
        }
        exchange.turn.stopped_early = true;
        Ok(())
    }

    /// Lets the session answer its input, request by request, until the pending output reaches high water.
    fn answer(&mut self, exchange: &mut Exchange<'_>) -> Result<(), Reason> {
        if matches!(self.state, State::Lingering { .. }) {
            exchange.input.clear();
        }
        if !mem::take(&mut exchange.has_news) {
            return Ok(());
        }
        let before = exchange.output.len();
        self.say_last_word(exchange);
        exchange.wants_room = self.is_independent || self.last_word().is_some();
        while self.state.is_answered() && self.pause != Pause::Wait && !exchange.turn.goes_on {
            let (pending, budgets) = (exchange.output.len(), &exchange.means.budgets);
            let Some(session) = &mut self.session else { break };
            if pending >= budgets.high_water && !self.is_independent {
                exchange.wants_room = true;
                break;
            }
            if exchange.turn.answers >= budgets.answers {
                exchange.turn.goes_on = true;
                break;
            }
            exchange.turn.answers += 1;
            let (input, output) = (&mut *exchange.input, &mut *exchange.output);
            let step = session.answer(input.unread_mut(), output);
            let appended = output.len().saturating_sub(pending);
            self.check_answer(appended);
            assert!(
                self.output_end == OutputEnd::Open || appended == 0,
                "an answer after Step::EndOutput, or before Step::Introduce"
            );
            match step {
                Step::Consumed(count) if count > 0 => input.consume(count),
                Step::More if appended > 0 => {}
                Step::NeedInput | Step::Consumed(_) => {
                    match self.state {
                        State::InputEnded(reason) => self.finish(reason, exchange),
                        _ if self.input_room(input) == 0 => self.finish(Reason::RequestTooLarge, exchange),
                        _ => {}
                    }
                    break;
                }
                Step::Wait => {
                    self.pause = Pause::Wait;
                    step!(Event::Waiting { peer: self.peer });
                }
                Step::EndOutput if self.output_end == OutputEnd::Open => self.output_end = OutputEnd::Wanted,
                Step::Introduce(client) if self.output_end == OutputEnd::NotBegun => {
                    self.output_end = OutputEnd::Open;
                    step!(Level::Info, Event::Introduced { peer: self.peer, client });
                    self.peer = client.unwrap_or(self.peer);
                }
                Step::More => panic!("Step::More, and nothing is appended"),
                Step::EndOutput | Step::Introduce(_) => panic!("Step::{step:?} is not allowed here"),
                Step::Abort => return Err(Reason::InvalidInput),
                Step::Close => {
                    input.clear();
                    self.enter(State::Finishing(Reason::Closed));
                }
            }
        }
        let (input, output) = (exchange.input.len(), exchange.output.len());
        if output > before {
            step!(Event::Answered { peer: self.peer, input, output });
        }
        Ok(())
    }

    /// Moves on from a state whose work is done: no output is pending.
    fn advance_state(&mut self, exchange: &mut Exchange<'_>) -> Result<(), Reason> {
        let Exchange { turn, means, .. } = exchange;
        if self.owes_answers && self.pause != Pause::Wait && !turn.goes_on {
            self.owes_answers = false;
            turn.has_paid = true;
        }
        let is_finishing = matches!(self.state, State::Finishing(_));
        if is_finishing && self.output_end != OutputEnd::Done || self.output_end == OutputEnd::Wanted {
            self.stream.shutdown_write().map_err(|error| self.failed("shutdown", &error))?;
            self.output_end = OutputEnd::Done;
        }
        if let State::Finishing(reason) = self.state {
            let has_input_ended = reason == Reason::Finished;
            self.enter(State::Lingering { reason, has_input_ended, is_delivered: false });
            // Input may wait whose edge is used up: a session that finishes does not read.
            turn.stopped_early |= !has_input_ended;
        }
        let State::Lingering { reason, has_input_ended, mut is_delivered } = self.state else {
            return Ok(());
        };
        if !is_delivered {
            let delivered = self.stream.is_delivered().map_err(|error| self.failed("shutdown", &error))?;
            is_delivered = delivered.unwrap_or(true);
            if let (false, Some(timeout)) = (is_delivered, means.write_timeout) {
                self.stream.limit_delivery(timeout);
            }
            self.state = State::Lingering { reason, has_input_ended, is_delivered };
        }
        if is_delivered && has_input_ended {
            self.enter(State::Closed(reason));
        }
        Ok(())
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        step!(Event::State { peer: self.peer, state: state.into() });
    }

    /// No more input follows for the protocol. `reason` is why the session ends when it has answered.
    fn end_input(&mut self, end: EndOfInput, reason: Reason, exchange: &mut Exchange<'_>) {
        self.enter(State::InputEnded(reason));
        exchange.has_news = true;
        if let Some(session) = &mut self.session {
            session.end_of_input(end);
        }
    }

    /// The drain has read what it reads.
    fn stop_input(&mut self, exchange: &mut Exchange<'_>) {
        if self.state.is_draining() {
            self.end_input(EndOfInput::Stop, Reason::Drained, exchange);
        }
    }

    /// The protocol is called no more, but for its last word if the server ends the session.
    fn finish(&mut self, reason: Reason, exchange: &mut Exchange<'_>) {
        if !self.state.is_answered() {
            return;
        }
        exchange.input.clear();
        self.end_wait();
        self.enter(State::Finishing(reason));
        self.say_last_word(exchange);
    }

    /// Why the session still has a last word, if it has one.
    fn last_word(&self) -> Option<Reason> {
        match self.state {
            State::Finishing(Reason::Finished | Reason::Closed | Reason::Refused) => None,
            State::Finishing(reason) if self.output_end == OutputEnd::Open => Some(reason),
            _ => None,
        }
    }

    /// Lets the session say its last word, as soon as there is room for its largest answer.
    fn say_last_word(&mut self, exchange: &mut Exchange<'_>) {
        let (Some(reason), Some(session)) = (self.last_word(), &mut self.session) else { return };
        let pending = exchange.output.len();
        if exchange.output.free() >= self.largest_answer as usize {
            self.output_end = OutputEnd::Wanted;
            session.ending(reason, exchange.output);
            self.check_answer(exchange.output.len().saturating_sub(pending));
        }
    }

    /// A session that says more than it has stated would fail only when its client reads slowly. It shall fail always.
    #[inline]
    fn check_answer(&self, bytes: usize) {
        let most = self.largest_answer as usize;
        assert!(
            bytes <= most || self.is_independent,
            "an answer of {bytes} bytes, and Sizes::answer is {most}"
        );
    }

    fn end_wait(&mut self) {
        if self.pause == Pause::Wait {
            self.pause = Pause::No;
        }
    }

    fn has_pending_output(&self) -> bool {
        self.pending_output() > 0
    }

    /// Backpressure: a session does not read while pending output is above high water, while its request fills the input
    /// buffer, or while it waits for an answer.
    fn can_read(&self, exchange: &Exchange<'_>) -> bool {
        match self.state {
            State::Open | State::Draining { .. } => {
                let has_room =
                    exchange.output.len() < exchange.means.budgets.high_water || self.is_independent;
                has_room && self.input_room(exchange.input) > 0 && self.pause != Pause::Wait
            }
            State::Lingering { has_input_ended, .. } => !has_input_ended,
            _ => false,
        }
    }

    /// How much more input the session takes (bytes).
    fn input_room(&self, input: &Buffer) -> usize {
        (self.largest_request as usize).saturating_sub(input.len()).min(input.free())
    }

    /// How many bytes a call moved, or `None` if it would have blocked.
    #[inline]
    fn outcome(
        &self,
        call: &'static str,
        result: io::Result<usize>,
        exchange: &Exchange<'_>,
    ) -> Result<Option<usize>, Reason> {
        let bytes = match result {
            Ok(count) => Some(count),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => return Err(self.failed(call, &error)),
        };
        let (input, output) = (exchange.input.len(), exchange.output.len());
        step!(Event::Call { peer: self.peer, call, bytes, input, output });
        Ok(bytes)
    }

    fn failed(&self, call: &'static str, error: &io::Error) -> Reason {
        step!(Level::Debug, Event::CallFailed { peer: self.peer, call, error: error.to_string() });
        match (self.state, error.kind()) {
            // The kernel has counted: the client took nothing for this long.
            (State::Lingering { is_delivered: false, .. }, ErrorKind::TimedOut) => Reason::WriteTimeout,
            _ => Reason::of(error),
        }
    }
}
