//! The table of all sessions: their turns, their registrations, their time-outs, and their ends.
//!
//! This is the only file that knows the slab.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use log::{Level, info, warn};
use mio::event::Source;
use mio::{Registry, Token};
use slab::Slab;

use crate::address::Address;
use crate::buffer::Pool;
use crate::client::{Client, Origin};
use crate::config::{
    Budgets, Config, DRAIN_SCAN, END_BUDGET, EVENTS, HIGH_WATER, INPUT_BUFFER, MOST_CONNECTING, QUIET,
    REPORTED, SPARE_BUFFERS,
};
use crate::connection::{Clock, Connection, Means, Stream, Turn};
use crate::deadlines::Deadlines;
use crate::panics;
use crate::readiness::Readiness;
use crate::reason::{Reason, Timeout};
use crate::session::{Session, Timer};
use crate::socket::Socket;
use crate::stats::Counters;
use crate::trace::{Cause, Event, step};
use crate::wakes::{MOST_KEYS, Waker, Wakes};

/// The moment of an iteration, and the registry that all sockets are registered with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now<'a> {
    pub time: Instant,
    pub registry: &'a Registry,
}

/// All sessions of a server, by their keys, which are also their tokens. The tests have sockets of their own.
pub(crate) struct Sessions<S, T = Socket> {
    table: Slab<Connection<T, S>>,
    /// Sessions that have ended in this iteration. They keep their keys until the batch is over. If a key were reused
    /// during the batch, the new session would get the old session's events.
    ended: Vec<usize>,
    /// Clients that are told that the server is full, the oldest first. They are in the table too.
    refused: VecDeque<usize>,
    deadlines: Deadlines,
    pub wakes: Wakes,
    means: Means,
    /// How many outgoing connections are in the table, and how many of them are not open yet.
    outgoing: usize,
    connecting: usize,
    started: Instant,
    config: Config,
}

impl<S: Session, T: Stream + Source> Sessions<S, T> {
    /// An empty table. It grows with the sessions.
    pub fn new(config: Config, wakes: Wakes, started: Instant) -> Self {
        let means = Means {
            input: Pool::new(INPUT_BUFFER, SPARE_BUFFERS),
            output: Pool::new(HIGH_WATER, SPARE_BUFFERS),
            budgets: Budgets::DEFAULT,
            write_timeout: config.write_timeout,
        };
        Self {
            table: Slab::new(),
            ended: Vec::with_capacity(2 * EVENTS),
            refused: VecDeque::new(),
            deadlines: Deadlines::new(started),
            wakes,
            means,
            outgoing: 0,
            connecting: 0,
            started,
            config,
        }
    }

    /// How many sockets are registered.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// How many sessions are open, without the clients that are being refused.
    pub fn open(&self) -> usize {
        self.table.len() - self.refused.len()
    }

    /// Whether only outgoing connections are left.
    pub fn has_only_outgoing(&self) -> bool {
        self.table.len() == self.outgoing
    }

    /// Whether one more outgoing connection may be begun.
    pub fn may_connect(&self) -> bool {
        self.connecting < MOST_CONNECTING
    }

    /// When the first time-out is due; `None` if none is running.
    pub fn next_due(&mut self) -> Option<Instant> {
        self.deadlines.next_due()
    }

    /// Adds a session, or refuses the client. The first turn writes the greeting, which nearly always fits in the empty
    /// socket. So WRITABLE is not needed, and the session costs `accept4`, `sendto` and `epoll_ctl`. Returns its key.
    ///
    /// # Errors
    ///
    /// If there is no memory for one more.
    pub fn admit(
        &mut self,
        (socket, peer): (T, Address),
        new_session: impl FnOnce(Waker, &T) -> S,
        now: Now<'_>,
    ) -> io::Result<usize> {
        Counters::add(&self.wakes.counters().accepted, 1);
        self.reserve_place()?;
        let (key, open) = (self.table.vacant_key(), self.open());
        let is_full = open >= self.config.max_connections;
        let connection = if is_full {
            step!(Level::Debug, Event::Refused { key, peer, open });
            Connection::refuse(socket, peer, &self.config.full_message, &mut self.means)
        } else {
            let waker = self.wakes.waker(key)?;
            let Some(session) = self.make(key, peer, || new_session(waker, &socket)) else { return Ok(key) };
            let connection = Connection::open(socket, peer, session, &mut self.means);
            if connection.is_proxied() {
                step!(Level::Debug, Event::Proxied { key, peer });
            } else {
                step!(Level::Info, Event::Opened { key, peer });
            }
            connection
        };
        self.insert(connection, now);
        if is_full {
            self.refused.push_back(key);
        }
        self.wakes.counters().set_open(self.open());
        self.turn(key, Cause::Ready(Readiness::WRITABLE), now);
        let has_no_memory = self.table[key].closed() == Some(Reason::OutOfMemory);
        if self.refused.len() > self.config.max_refusals
            && let Some(&oldest) = self.refused.front()
        {
            self.close(oldest, Reason::Refused);
        }
        if has_no_memory { Err(ErrorKind::OutOfMemory.into()) } else { Ok(key) }
    }

    /// Adds a session whose outgoing connection was begun.
    fn begin(&mut self, key: usize, (socket, peer): (T, Address), session: S, now: Now<'_>) {
        step!(Level::Debug, Event::ConnectStarted { key, peer });
        let mut connection = Connection::connect(socket, peer, session, &mut self.means);
        connection.notes.is_outgoing = true;
        self.outgoing += 1;
        self.connecting += usize::from(connection.is_connecting());
        self.insert(connection, now);
        self.wakes.counters().set_open(self.open());
        self.turn(key, Cause::Ready(Readiness::NONE), now);
    }

    /// Makes a session. `None` if this panics: the client is gone then.
    fn make(&self, key: usize, peer: Address, new_session: impl FnOnce() -> S) -> Option<S> {
        let session = panics::catch(peer, new_session);
        if session.is_none() {
            self.wakes.retire(key);
            self.wakes.counters().count_closed(Reason::ProtocolError);
        }
        session
    }

    fn insert(&mut self, mut connection: Connection<T, S>, now: Now<'_>) {
        connection.notes.last_heard = ticks(now.time - self.started);
        let is_closed = connection.closed().is_some();
        let key = self.table.insert(connection);
        if is_closed {
            self.ended.push(key);
        }
    }

    /// Makes room in the table for one more session. The table doubles, and `Slab` cannot report that memory is out, so
    /// a vector that is as large as the new table tries it first.
    fn reserve_place(&mut self) -> io::Result<()> {
        self.refused.try_reserve(1)?;
        let length = self.table.len();
        if length < self.table.capacity() {
            return Ok(());
        }
        if length >= MOST_KEYS {
            return Err(ErrorKind::OutOfMemory.into());
        }
        let more = length.max(64);
        Vec::<Option<Connection<T, S>>>::new().try_reserve_exact(length + more)?;
        self.table.reserve_exact(more);
        Ok(())
    }

    /// Gives a session its turn. Events are hints: the key may belong to a session that has ended, or to none.
    pub fn turn(&mut self, key: usize, cause: Cause, now: Now<'_>) {
        self.turn_counting_from(key, cause, now, now.time);
    }

    /// A turn in which the session's own deadline, if it starts, counts from `start`.
    fn turn_counting_from(&mut self, key: usize, cause: Cause, now: Now<'_>, start: Instant) {
        let Some(connection) = self.table.get_mut(key).filter(|open| open.closed().is_none()) else {
            return;
        };
        step!(Event::Turn { key, peer: connection.peer(), cause });
        let was_connecting = connection.is_connecting();
        let turn = connection.turn(cause, &mut self.means);
        self.connecting -= usize::from(was_connecting && !connection.is_connecting());
        if turn.read > 0 || was_connecting {
            connection.notes.last_heard = ticks(now.time - self.started);
        }
        let counters = self.wakes.counters();
        Counters::add(&counters.bytes_in, turn.read);
        Counters::add(&counters.bytes_out, turn.written);
        if turn.goes_on {
            self.wakes.wake(key);
        }
        self.update_registration(key, turn, now, start);
    }

    /// Brings what the kernel reports, and the session's time-outs, in line with the session's state after a turn.
    fn update_registration(&mut self, key: usize, turn: Turn, now: Now<'_>, start: Instant) {
        let connection = &mut self.table[key];
        let interest = connection.notes.interest;
        let Some(wanted) = connection.interest() else {
            self.ended.push(key);
            return;
        };
        if interest != Some(wanted) || turn.stopped_early {
            step!(Event::interest(key, connection.peer(), interest, wanted));
            let stream = connection.stream_mut();
            let result = match interest {
                None => stream.register(now.registry, Token(key), wanted),
                // This also re-arms a session that stopped early: the kernel looks at the socket again, and reports it
                // if it is ready.
                Some(_) => stream.reregister(now.registry, Token(key), wanted),
            };
            if let Err(error) = result {
                warn!("{} cannot be registered: {error}", connection.peer());
                self.close(key, Reason::Failed);
                return;
            }
            connection.notes.interest = Some(wanted);
        }
        let input = connection.input_clock(turn);
        let output = connection.output_clock(turn);
        self.run_clock(key, input, [Timeout::Idle, Timeout::Quiet], now.time);
        self.run_clock(key, output, [Timeout::Write, Timeout::Linger, Timeout::Connect], now.time);
        match turn.timer {
            Timer::Keep => {}
            Timer::Stop => self.deadlines.stop(key, Timeout::Own),
            // A deadline that was missed by more than its length is not made up for.
            Timer::Start(length) if start.checked_add(length).is_some_and(|due| due <= now.time) => {
                self.start_timeout(key, Timeout::Own, length, now.time);
            }
            Timer::Start(length) => self.start_timeout(key, Timeout::Own, length, start),
        }
    }

    /// Lets one of some time-outs run, or none of them.
    fn run_clock<const N: usize>(
        &mut self,
        key: usize,
        clock: Option<Clock>,
        kinds: [Timeout; N],
        now: Instant,
    ) {
        let length = clock.and_then(|clock| match clock.timeout {
            Timeout::Idle => self.config.idle_timeout,
            Timeout::Write => self.config.write_timeout,
            Timeout::Linger => Some(self.config.linger_timeout),
            Timeout::Connect => Some(self.config.connect_timeout),
            Timeout::Quiet => Some(QUIET),
            Timeout::Own => None,
        });
        match clock.zip(length) {
            Some((Clock { timeout, restarts }, length)) => {
                if restarts || !self.deadlines.is_running(key, timeout) {
                    self.start_timeout(key, timeout, length, now);
                }
            }
            None => kinds.into_iter().for_each(|kind| self.deadlines.stop(key, kind)),
        }
    }

    fn start_timeout(&mut self, key: usize, timeout: Timeout, length: Duration, start: Instant) {
        // A time beyond the end of the clock is never.
        let Some(due) = start.checked_add(length) else {
            self.deadlines.stop(key, timeout);
            return;
        };
        step!(Event::TimeoutStarted { key, timeout, length });
        if self.deadlines.start(key, timeout, due).is_err() {
            self.close(key, Reason::OutOfMemory);
        }
    }

    /// Gives woken sessions their turns, at most [`WAKE_BUDGET`](crate::config::WAKE_BUDGET) of them, and each of them once.
    pub fn turn_woken(&mut self, now: Now<'_>) {
        self.wakes.begin_pass();
        for _ in 0..self.means.budgets.woken {
            let Some((key, is_ended)) = self.wakes.next_woken() else { return };
            self.turn(key, if is_ended { Cause::End } else { Cause::Woken }, now);
        }
    }

    /// Gives a turn to sessions whose time-out was over at `late`, at most [`END_BUDGET`] of them.
    pub fn turn_late(&mut self, late: Instant, now: Now<'_>) {
        for _ in 0..END_BUDGET {
            let Some((key, timeout, since)) = self.deadlines.first_late(late) else { return };
            // A wake that waits for its turn came before the deadline was over, as far as the loop knows. In that turn the
            // session may stop the deadline.
            if self.wakes.take(key) {
                self.turn(key, Cause::Woken, now);
            }
            if self.deadlines.due(key, timeout) != Some(since) {
                continue;
            }
            self.deadlines.stop(key, timeout);
            step!(Event::TimeoutFired { key, timeout });
            let start = if timeout == Timeout::Own { since } else { now.time };
            self.turn_counting_from(key, Cause::Timeout(timeout), now, start);
        }
    }

    /// Logs the sessions whose pending output has made no progress for longest. The write time-out knows them.
    pub fn report_waiting(&self, now: Instant) {
        let Some(length) = self.config.write_timeout else { return };
        for (key, due) in self.deadlines.first(Timeout::Write, REPORTED) {
            let (connection, left) = (&self.table[key], due.saturating_duration_since(now));
            let (peer, bytes) = (connection.peer(), connection.pending_output());
            info!("{peer}: {bytes} bytes of output pending for {:.1?}", length.saturating_sub(left));
        }
    }

    /// Lets sessions with keys from `next_key` on drain, at most [`END_BUDGET`] of them, the accepted or the outgoing ones.
    /// Returns the key to go on with, or `None` if there are no more.
    pub fn turn_to_drain(&mut self, next_key: usize, outgoing: bool, now: Now<'_>) -> Option<usize> {
        let mut budget = END_BUDGET;
        let end = next_key.saturating_add(DRAIN_SCAN).min(self.table.capacity());
        for key in next_key..end {
            if let Some(connection) = self.table.get(key).filter(|one| one.notes.is_outgoing == outgoing) {
                let silent = ticks(now.time - self.started).wrapping_sub(connection.notes.last_heard);
                self.turn(key, Cause::Stop(silent <= ticks(QUIET)), now);
                budget -= 1;
                if budget == 0 {
                    return Some(key + 1);
                }
            }
        }
        (end < self.table.capacity()).then_some(end)
    }

    /// Ends a session immediately.
    fn close(&mut self, key: usize, reason: Reason) {
        if let Some(connection) = self.table.get_mut(key)
            && connection.closed().is_none()
        {
            self.connecting -= usize::from(connection.is_connecting());
            connection.close(reason);
            self.ended.push(key);
        }
    }

    /// Ends all sessions immediately.
    pub fn close_all(&mut self, reason: Reason) {
        for key in 0..self.table.capacity() {
            self.close(key, reason);
            self.remove_closed();
        }
    }

    /// Removes the sessions that have ended: the only place where a socket is closed. Closing it also removes it from
    /// epoll (epoll(7), "Questions and answers"), so nothing must be deregistered. Returns how many there were.
    pub fn remove_closed(&mut self) -> usize {
        let count = self.ended.len();
        while let Some(key) = self.ended.pop() {
            let mut connection = self.table.remove(key);
            self.outgoing -= usize::from(connection.notes.is_outgoing);
            self.deadlines.stop_all(key);
            self.wakes.retire(key);
            connection.drop_session();
            let mut reason = connection.closed().expect("only closed sessions are removed");
            if let Some(index) = self.refused.iter().position(|&refused| refused == key) {
                self.refused.remove(index);
                // However it ended.
                reason = Reason::Refused;
            }
            // First: a reader of the counters that sees this end sees the place free.
            self.wakes.counters().set_open(self.open());
            self.wakes.counters().count_closed(reason);
            step!(reason.level(), Event::Closed { key, peer: connection.peer(), reason });
        }
        count
    }
}

impl<S: Session> Sessions<S> {
    /// Begins an outgoing connection. If it cannot be begun, its session is told.
    ///
    /// # Errors
    ///
    /// If there is no memory for one more.
    pub fn connect(
        &mut self,
        (address, tag): (SocketAddr, u64),
        new_session: impl FnOnce(Client<'_>) -> S,
        now: Now<'_>,
    ) -> io::Result<()> {
        self.reserve_place()?;
        let (key, peer, origin) = (self.table.vacant_key(), Address::Ip(address), Origin::Outgoing(tag));
        let waker = self.wakes.waker(key)?;
        let is_full = self.open() >= self.config.max_connections;
        let result = if is_full { Err(ErrorKind::QuotaExceeded.into()) } else { Socket::connect(address) };
        let new_session = || new_session(Client::new(peer, origin, waker, result.as_ref().ok()));
        let Some(mut session) = self.make(key, peer, new_session) else { return Ok(()) };
        match result {
            Ok(socket) => self.begin(key, (socket, peer), session, now),
            Err(error) => {
                step!(Level::Debug, Event::CallFailed { peer, call: "connect", error: error.to_string() });
                panics::catch(peer, || {
                    session.connect_failed(&error);
                    session.closed(Reason::ConnectFailed);
                });
                panics::catch(peer, || drop(session));
                self.wakes.retire(key);
                self.wakes.counters().count_closed(Reason::ConnectFailed);
            }
        }
        Ok(())
    }
}

/// A time in quarters of a second, for comparisons of times that are near: it starts again after a minute. A session that
/// was silent for just that long drains a second longer than it must.
#[expect(clippy::cast_possible_truncation, reason = "the higher part is of no use")]
fn ticks(time: Duration) -> u8 {
    (4 * time.as_secs() + u64::from(time.subsec_millis() / 250)) as u8
}

#[cfg(test)]
mod scripted;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocols::{Either, Framing, OkSession, Proxy, Telnet};

    #[test]
    fn an_idle_session_costs_the_loop_96_bytes_and_the_command_128() {
        type Inner = Either<Telnet<OkSession>, OkSession>;
        // What the function that makes a session holds: the framing, and whether it is telnet.
        type Command = Either<Proxy<Inner, (Framing, bool)>, Inner>;
        /// A session of one word.
        struct Word(#[expect(dead_code, reason = "it is only measured")] usize);
        const MARK: usize = size_of::<u64>();
        fn entry<S>() -> usize {
            // A slab's entry is this, or the next free key. In a debug build, mio's sockets have a field more.
            size_of::<Option<Connection<Socket, S>>>() + 8 - size_of::<Socket>()
        }
        assert!(entry::<Word>() + MARK <= 96 + size_of::<Word>(), "{} bytes", entry::<Word>());
        assert!(entry::<Command>() + MARK <= 128, "{} bytes", entry::<Command>());
    }
}
