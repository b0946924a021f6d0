//! The table of all sessions: their turns, their registrations, their time-outs, and their ends.
//!
//! This is the only file that knows the slab.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use log::{Level, warn};
use mio::event::Source;
use mio::{Interest, Registry, Token};
use slab::Slab;

use crate::address::Address;
use crate::buffer::Pool;
use crate::client::Client;
use crate::config::{
    Budgets, Config, DRAIN_SCAN, END_BUDGET, EVENTS, HIGH_WATER, INPUT_BUFFER, QUIET, SPARE_BUFFERS,
    WAKE_BUDGET,
};
use crate::connection::{Clock, Connection, Means, Turn};
use crate::deadlines::Deadlines;
use crate::readiness::Readiness;
use crate::reason::{Reason, Timeout};
use crate::session::{Session, Timer};
use crate::socket::Socket;
use crate::stats::Counters;
use crate::trace::{Cause, Event, step};
use crate::wakes::{MOST_KEYS, Wakes};

/// The moment of an iteration, and the registry that all sockets are registered with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now<'a> {
    pub time: Instant,
    pub registry: &'a Registry,
}

/// All sessions of a server, by their keys, which are also their tokens.
pub(crate) struct Sessions<S> {
    table: Slab<Registered<S>>,
    /// Sessions that have ended in this iteration. They keep their keys until the batch is over. If a key were reused
    /// during the batch, the new session would get the old session's events.
    ended: Vec<usize>,
    /// Clients that are told that the server is full, the oldest first. They are in the table too.
    refused: VecDeque<usize>,
    deadlines: Deadlines,
    pub wakes: Wakes,
    means: Means,
    started: Instant,
    config: Config,
}

/// A connection, and its registration.
#[derive(Debug)]
struct Registered<S> {
    connection: Connection<Socket, S>,
    /// What the kernel reports. `None` before the first turn.
    interest: Option<Interest>,
    /// When it last read something (milliseconds since the start).
    last_read: u32,
}

impl<S: Session> Sessions<S> {
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
        (socket, peer): (Socket, Address),
        listener: usize,
        new_session: impl FnOnce(Client<'_>) -> S,
        now: Now<'_>,
    ) -> io::Result<usize> {
        Counters::add(&self.wakes.counters().accepted, 1);
        self.reserve_place()?;
        let (key, open) = (self.table.vacant_key(), self.open());
        let is_full = open >= self.config.max_connections;
        let connection = if is_full {
            step!(Level::Debug, Event::Refused { key, peer, open });
            Connection::refuse(socket, peer, self.config.full_message.as_bytes(), &mut self.means)
        } else {
            let waker = self.wakes.waker(key)?;
            step!(Level::Info, Event::Opened { key, peer });
            let session = new_session(Client::new(peer, listener, waker, &socket));
            Connection::open(socket, peer, session, &mut self.means)
        };
        if connection.closed().is_some() {
            self.ended.push(key);
        }
        self.table.insert(Registered { connection, interest: None, last_read: 0 });
        if is_full {
            self.refused.push_back(key);
        }
        self.wakes.counters().set_open(self.open());
        self.turn(key, Cause::Ready(Readiness::WRITABLE), now);
        let has_no_memory = self.table[key].connection.closed() == Some(Reason::OutOfMemory);
        if self.refused.len() > self.config.max_refusals
            && let Some(&oldest) = self.refused.front()
        {
            self.close(oldest, Reason::Refused);
        }
        if has_no_memory { Err(io::ErrorKind::OutOfMemory.into()) } else { Ok(key) }
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
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let more = length.max(64);
        Vec::<Option<Registered<S>>>::new().try_reserve_exact(length + more)?;
        self.table.reserve_exact(more);
        Ok(())
    }

    /// Gives a session its turn. Events are hints: the key may belong to a session that has ended, or to none.
    pub fn turn(&mut self, key: usize, cause: Cause, now: Now<'_>) {
        self.turn_counting_from(key, cause, now, now.time);
    }

    /// A turn in which the session's own deadline, if it starts, counts from `start`.
    fn turn_counting_from(&mut self, key: usize, cause: Cause, now: Now<'_>, start: Instant) {
        let Some(session) = self.table.get_mut(key).filter(|s| s.connection.closed().is_none()) else {
            return;
        };
        step!(Event::Turn { key, peer: session.connection.peer(), cause });
        let turn = session.connection.turn(cause, &mut self.means);
        if turn.read > 0 {
            session.last_read = milliseconds(now.time - self.started);
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
        let Registered { connection, interest, .. } = &mut self.table[key];
        let Some(wanted) = connection.interest(&self.means.budgets) else {
            self.ended.push(key);
            return;
        };
        if *interest != Some(wanted) || turn.stopped_early {
            step!(Event::interest(key, connection.peer(), *interest, wanted));
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
            *interest = Some(wanted);
        }
        let input = connection.input_clock(turn, &self.means.budgets);
        let output = connection.output_clock(turn);
        self.run_clock(key, input, [Timeout::Idle, Timeout::Quiet], now.time);
        self.run_clock(key, output, [Timeout::Write, Timeout::Linger], now.time);
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

    /// Lets one of two time-outs run, or none of them.
    fn run_clock(&mut self, key: usize, clock: Option<Clock>, kinds: [Timeout; 2], now: Instant) {
        let Some(Clock { timeout, restarts }) = clock else {
            kinds.into_iter().for_each(|kind| self.deadlines.stop(key, kind));
            return;
        };
        let length = match timeout {
            Timeout::Idle => self.config.idle_timeout,
            Timeout::Write => self.config.write_timeout,
            Timeout::Linger => Some(self.config.linger_timeout),
            Timeout::Quiet => Some(QUIET),
            Timeout::Own => None,
        };
        match length {
            Some(length) if restarts || !self.deadlines.is_running(key, timeout) => {
                self.start_timeout(key, timeout, length, now);
            }
            Some(_) => {}
            // The other one of the two may be running.
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

    /// Gives woken sessions their turns, at most [`WAKE_BUDGET`] of them.
    pub fn turn_woken(&mut self, now: Now<'_>) {
        for _ in 0..WAKE_BUDGET {
            let Some((key, is_ended)) = self.wakes.next_woken() else { return };
            self.turn(key, if is_ended { Cause::End } else { Cause::Woken }, now);
        }
    }

    /// Gives a turn to sessions whose time-out was over at `late`, at most [`END_BUDGET`] of them.
    pub fn turn_late(&mut self, late: Instant, now: Now<'_>) {
        for _ in 0..END_BUDGET {
            let Some((key, timeout, since)) = self.deadlines.take_late(late) else { return };
            // A wake that waits for its turn came before the deadline was over, as far as the loop knows.
            if self.wakes.take(key) {
                self.turn(key, Cause::Woken, now);
                if self.deadlines.is_running(key, timeout) {
                    continue;
                }
            }
            step!(Event::TimeoutFired { key, timeout });
            let start = if timeout == Timeout::Own { since } else { now.time };
            self.turn_counting_from(key, Cause::Timeout(timeout), now, start);
        }
    }

    /// Lets sessions with keys from `next_key` on drain, at most [`END_BUDGET`] of them. Returns the key to go on with,
    /// or `None` if there are no more.
    pub fn turn_to_drain(&mut self, next_key: usize, now: Now<'_>) -> Option<usize> {
        let mut budget = END_BUDGET;
        let end = next_key.saturating_add(DRAIN_SCAN).min(self.table.capacity());
        for key in next_key..end {
            if let Some(session) = self.table.get(key) {
                let silent = milliseconds(now.time - self.started).wrapping_sub(session.last_read);
                let has_just_read = session.last_read > 0 && silent < milliseconds(QUIET);
                self.turn(key, Cause::Stop(has_just_read), now);
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
        if let Some(session) = self.table.get_mut(key)
            && session.connection.closed().is_none()
        {
            session.connection.close(reason);
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
            let mut connection = self.table.remove(key).connection;
            self.deadlines.stop_all(key);
            self.wakes.retire(key);
            connection.drop_session();
            let mut reason = connection.closed().expect("only closed sessions are removed");
            if let Some(index) = self.refused.iter().position(|&refused| refused == key) {
                self.refused.remove(index);
                // However it ended.
                reason = Reason::Refused;
            }
            self.wakes.counters().count_closed(reason);
            step!(reason.level(), Event::Closed { key, peer: connection.peer(), reason });
        }
        if count > 0 {
            self.wakes.counters().set_open(self.open());
        }
        count
    }
}

/// For comparisons of times that are near: it starts again after 49 days.
fn milliseconds(time: Duration) -> u32 {
    time.as_millis() as u32
}
