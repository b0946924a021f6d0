//! The readiness loop. Each iteration waits for events, gives every ready session one turn, removes the sessions that
//! have ended, and accepts new clients.
//!
//! This is the only file that knows the slab. It knows no byte of the protocol: what a session does in its turn is in
//! [`Connection`]. It knows no system either: what differs between them is in [`platform`].

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Instant;

use log::{Level, debug, info, warn};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

use crate::acceptor::Acceptor;
use crate::buffer::Pool;
use crate::caught_up::CaughtUp;
use crate::config::{
    ACCEPT_BUDGET, Config, END_BUDGET, EVENTS, HIGH_WATER, INPUT_BUFFER, LAST_ACCEPTS, LINGER_TIMEOUT,
    SPARE_BUFFERS, STOP_WINDOW,
};
use crate::connection::{Connection, Turn};
use crate::control::{Control, Handle};
use crate::deadlines::Deadlines;
use crate::error::StartError;
use crate::platform::{self, Kernel};
use crate::readiness::Readiness;
use crate::reason::Reason;
use crate::session::Session;
use crate::stats::Stats;
use crate::trace::{Event, step};

/// The token of the listener. The token of a session is its key in the slab, which counts from 0, so they never meet.
const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);
const SIGNALS: Token = Token(usize::MAX - 2);

/// A server whose sessions speak the protocol `S`. One thread runs it, and only `poll` blocks.
pub struct Server<S> {
    poll: Poll,
    /// The listening socket. After a stop it is dropped, and the port is free.
    acceptor: Option<Acceptor>,
    /// Makes the protocol's side of a new session, for a client with this address.
    new_session: Box<dyn FnMut(SocketAddr) -> S + Send>,
    /// All sessions by their keys, which are also their tokens. Its memory is reserved at the start.
    sessions: Slab<Registered<S>>,
    /// Sessions that have ended in this iteration. They keep their keys until the batch is over. If a key were reused
    /// during the batch, the new session would get the old session's events.
    ended: Vec<usize>,
    /// Clients that are told that the server is full, the oldest first. They are in the slab too.
    refused: VecDeque<usize>,
    pool: Pool,
    deadlines: Deadlines,
    control: Control,
    phase: Phase,
    /// When `poll` returned in this iteration. The loop reads the clock once an iteration.
    now: Instant,
    caught_up: CaughtUp,
    started: Instant,
    config: Config,
    stats: Stats,
}

/// A session, and its registration.
#[derive(Debug)]
struct Registered<S> {
    connection: Connection<TcpStream, S>,
    /// What the kernel reports. `None` before the first turn.
    interest: Option<Interest>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Serving,
    Draining {
        since: Instant,
        /// How many more clients may be accepted from the queue.
        accepts: usize,
        /// Sessions with smaller keys drain already.
        next_key: usize,
    },
    /// Ends immediately.
    Over,
}

/// How a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It was stopped, and waited for its sessions to end, at most for the drain time-out.
    Drained,
    /// It was stopped immediately, or a second time.
    Forced,
}

impl<S: Session> Server<S> {
    /// Opens the listening socket. Clients can connect from now on; [`Server::run`] serves them.
    ///
    /// `new_session` is called for each client. It returns the protocol's side of the session. It runs in the loop, so it
    /// must not panic.
    pub fn bind(
        config: Config,
        new_session: impl FnMut(SocketAddr) -> S + Send + 'static,
    ) -> Result<Self, StartError> {
        let mut acceptor = Acceptor::bind(&config)?;
        let poll = Poll::new().map_err(StartError::Setup)?;
        acceptor.register(poll.registry(), LISTENER).map_err(StartError::Setup)?;
        let control = Control::new(poll.registry(), WAKER).map_err(StartError::Setup)?;

        // One client more than may be refused is in the table for a moment.
        let capacity = config.max_connections.saturating_add(config.max_refusals).saturating_add(1);
        let out_of_memory = |error| StartError::Setup(io::Error::from(error));
        let mut ended = Vec::new();
        ended.try_reserve_exact(capacity).map_err(out_of_memory)?;
        // `Slab::with_capacity` cannot report that memory is out, so a vector that is at least as large tries it first.
        Vec::<(usize, Registered<S>)>::new().try_reserve_exact(capacity).map_err(out_of_memory)?;
        let timeouts = [config.idle_timeout, config.write_timeout, Some(LINGER_TIMEOUT)];
        let now = Instant::now();
        Ok(Self {
            poll,
            acceptor: Some(acceptor),
            new_session: Box::new(new_session),
            sessions: Slab::with_capacity(capacity),
            ended,
            refused: VecDeque::with_capacity(config.max_refusals + 1),
            pool: Pool::new(INPUT_BUFFER, HIGH_WATER.saturating_add(S::LARGEST_ANSWER), SPARE_BUFFERS),
            deadlines: Deadlines::new(timeouts, capacity).map_err(out_of_memory)?,
            control,
            phase: Phase::Serving,
            now,
            caught_up: CaughtUp::new(now),
            started: now,
            config,
            stats: Stats::default(),
        })
    }

    /// The address that clients connect to.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.acceptor.as_ref().map_or_else(|| Err(ErrorKind::NotConnected.into()), Acceptor::local_addr)
    }

    /// A handle with which another thread controls the server.
    pub fn handle(&self) -> Handle {
        self.control.handle()
    }

    /// Lets these signals do what a [`Handle`] does: SIGUSR1 reports, all others stop. On Windows, Ctrl-C stops. Signals
    /// belong to the whole process: from now on, and after the server's end too, none of them ends the process.
    #[cfg(feature = "cli")]
    #[doc(hidden)]
    pub fn watch_signals(&mut self, signals: &[i32]) -> Result<(), StartError> {
        self.control.watch_signals(self.poll.registry(), SIGNALS, signals).map_err(StartError::Setup)
    }

    /// Serves until it is stopped. Returns how it ended, and the counters. Sessions that are still open then are closed.
    ///
    /// # Errors
    ///
    /// Only if `poll` itself fails, or the listening socket has no address. No client and no lack of resources ends
    /// the loop.
    pub fn run(mut self) -> io::Result<(Ending, Stats)> {
        // Logged here and not in `bind`, because signals are watched by now: a supervisor may rely on both.
        info!("Socket now listening on {}", self.local_addr()?);
        let mut events = Events::with_capacity(EVENTS);
        while !self.is_over() {
            self.wait(&mut events)?;
            let mut is_asked = false;
            for event in &events {
                match event.token() {
                    LISTENER => self.acceptor.iter_mut().for_each(Acceptor::on_readable),
                    WAKER | SIGNALS => is_asked = true,
                    Token(key) => self.turn(key, Readiness::from(event)),
                }
            }
            // Only from here on, after the batch, are keys freed and given out.
            self.end_late_sessions();
            self.continue_drain();
            let ended = self.remove_closed();
            self.accept_new(events.iter().count(), ended);
            if is_asked {
                self.handle_requests();
            }
        }
        let ending = if self.phase == Phase::Over { Ending::Forced } else { Ending::Drained };
        for key in 0..self.sessions.capacity() {
            self.close(key, Reason::DrainTimeout);
        }
        self.remove_closed();
        Ok((ending, self.stats()))
    }

    fn is_over(&self) -> bool {
        match self.phase {
            Phase::Serving => false,
            Phase::Draining { .. } if self.acceptor.is_none() && self.sessions.is_empty() => true,
            Phase::Draining { .. } => self.drain_deadline().is_some_and(|end| end <= self.caught_up.to()),
            Phase::Over => true,
        }
    }

    /// Blocks until a socket is ready or something is due.
    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        let timeout = self.next_due().map(|due| due.saturating_duration_since(self.now));
        let asked = self.now;
        step!(Event::PollStart { timeout });
        match self.poll.poll(events, timeout) {
            // mio reports it. There are no events, and the next iteration asks again (epoll_wait(2), EINTR).
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Ok(()) => {
                let may_be_full = Kernel::HERE.may_be_full(events.iter().count());
                // The listener, the waker and the signals are registered too.
                let sources = (self.sessions.len() + 3) * Kernel::HERE.events_per_socket();
                self.caught_up.note(asked, may_be_full, sources);
            }
            result => result?,
        }
        self.now = Instant::now();
        step!(Event::PollEnd { events: events.iter().count(), after: self.now - asked });
        Ok(())
    }

    /// When the loop must go on although no socket is ready. With no time-out running this is `None`: there is no tick,
    /// and an idle server makes no system call.
    fn next_due(&self) -> Option<Instant> {
        if matches!(self.phase, Phase::Draining { next_key, .. } if next_key < self.sessions.capacity()) {
            return Some(self.now);
        }
        let accepting = self.acceptor.as_ref().and_then(Acceptor::next_due);
        [self.deadlines.next_due(), accepting, self.drain_deadline()].into_iter().flatten().min()
    }

    /// `None` while the server does not drain, and where the deadline is further off than the clock goes.
    fn drain_deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Draining { since, .. } => since.checked_add(self.config.drain_timeout),
            Phase::Serving | Phase::Over => None,
        }
    }

    /// Accepts new clients after a batch of `events`, in which `ended` sessions have made room.
    fn accept_new(&mut self, events: usize, ended: usize) {
        let quota =
            self.acceptor.as_ref().map_or(0, |acceptor| acceptor.accept_quota(self.now, events, ended));
        if quota == 0 || self.phase != Phase::Serving {
            return;
        }
        step!(Event::Accepting { quota });
        let result = self.accept_up_to(quota);
        let open = self.open();
        let Some(acceptor) = &mut self.acceptor else { return };
        match result {
            Err(error) if error.kind() != ErrorKind::WouldBlock => {
                if acceptor.pause(self.now) {
                    self.stats.accept_pauses += 1;
                    step!(Level::Warn, Event::AcceptPaused { open, error: error.to_string() });
                }
            }
            _ => acceptor.rearm(self.poll.registry(), LISTENER, self.now),
        }
    }

    /// Accepts `quota` clients. An error says why it stopped before: the queue is empty (`WouldBlock`), or the system has
    /// no room.
    fn accept_up_to(&mut self, quota: usize) -> io::Result<()> {
        for _ in 0..quota {
            let Some(acceptor) = &mut self.acceptor else { break };
            match acceptor.accept() {
                Ok((stream, peer)) => self.admit(stream, peer)?,
                Err(error) if platform::is_one_clients(&error) => {
                    debug!("A client was lost before it was accepted: {error}");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Adds a session. Its first turn writes the greeting, which nearly always fits in the empty socket. So WRITABLE is
    /// not needed, and the session costs `accept4`, `sendto` and `epoll_ctl`.
    fn admit(&mut self, stream: TcpStream, peer: SocketAddr) -> io::Result<()> {
        self.stats.accepted += 1;
        let is_full = self.open() >= self.config.max_connections;
        let connection = if is_full {
            step!(Level::Debug, Event::Refused { key: self.sessions.vacant_key(), peer, open: self.open() });
            Connection::refuse(stream, peer, self.config.full_message.as_bytes(), &mut self.pool)
        } else {
            step!(Level::Info, Event::Opened { key: self.sessions.vacant_key(), peer });
            Connection::open(stream, peer, (self.new_session)(peer))
        };
        let key = self.sessions.insert(Registered { connection, interest: None });
        if is_full {
            self.refused.push_back(key);
        }
        self.stats.peak = self.stats.peak.max(self.open() as u64);
        self.turn(key, Readiness::WRITABLE);
        let has_no_memory = self.sessions[key].connection.closed() == Some(Reason::OutOfMemory);
        if self.refused.len() > self.config.max_refusals
            && let Some(&oldest) = self.refused.front()
        {
            self.close(oldest, Reason::Refused);
        }
        // The session may have ended already. Its place must be free before the next one is accepted.
        self.remove_closed();
        if has_no_memory { Err(ErrorKind::OutOfMemory.into()) } else { Ok(()) }
    }

    /// Gives a session its turn. Events are hints: the key may belong to a session that has ended, or to none.
    fn turn(&mut self, key: usize, ready: Readiness) {
        let Some(session) = self.sessions.get_mut(key).filter(|s| s.connection.closed().is_none()) else {
            return;
        };
        step!(Event::Turn { key, peer: session.connection.peer(), ready });
        let turn = session.connection.turn(ready, &mut self.pool);
        self.stats.bytes_in += turn.read as u64;
        self.stats.bytes_out += turn.written as u64;
        self.update_registration(key, turn);
    }

    /// Brings what the kernel reports, and the session's time-out, in line with the session's state after a turn.
    fn update_registration(&mut self, key: usize, turn: Turn) {
        let Registered { connection, interest } = &mut self.sessions[key];
        let Some(wanted) = connection.interest() else {
            self.ended.push(key);
            return;
        };
        if *interest != Some(wanted) || turn.stopped_early {
            step!(Event::interest(key, connection.peer(), *interest, wanted));
            let (registry, stream) = (self.poll.registry(), connection.stream_mut());
            let result = match interest {
                None => registry.register(stream, Token(key), wanted),
                // This also re-arms a session that stopped early: the kernel looks at the socket again, and reports it
                // if it is ready.
                Some(_) => registry.reregister(stream, Token(key), wanted),
            };
            if let Err(error) = result {
                warn!("{} cannot be registered: {error}", connection.peer());
                self.close(key, Reason::Failed);
                return;
            }
            *interest = Some(wanted);
        }
        let timeout = connection.timeout();
        self.deadlines.update(key, timeout, turn.restarts(timeout), self.now);
    }

    /// Ends sessions whose time-out is over, at most [`END_BUDGET`] of them. Late is judged by [`CaughtUp`].
    fn end_late_sessions(&mut self) {
        let now = self.caught_up.to();
        for _ in 0..END_BUDGET {
            let Some((key, timeout)) = self.deadlines.next_late(now) else { return };
            step!(Event::TimeoutFired { key, timeout });
            self.deadlines.stop(key);
            self.close(key, timeout.reason());
        }
    }

    fn close(&mut self, key: usize, reason: Reason) {
        if let Some(session) = self.sessions.get_mut(key)
            && session.connection.closed().is_none()
        {
            session.connection.close(reason);
            self.ended.push(key);
        }
    }

    /// Removes the sessions that have ended: the only place where a socket is closed. Closing it also removes it from
    /// epoll (epoll(7), "Questions and answers"), so nothing must be deregistered. Returns how many there were.
    fn remove_closed(&mut self) -> usize {
        let count = self.ended.len();
        while let Some(key) = self.ended.pop() {
            let connection = self.sessions.remove(key).connection;
            let mut reason = connection.closed().expect("only closed sessions are removed");
            self.deadlines.stop(key);
            if let Some(index) = self.refused.iter().position(|&refused| refused == key) {
                self.refused.remove(index);
                // However it ended.
                reason = Reason::Refused;
            }
            self.stats.count_closed(reason);
            step!(reason.level(), Event::Closed { key, peer: connection.peer(), reason });
        }
        count
    }

    /// Does what the operator or another thread has asked for.
    fn handle_requests(&mut self) {
        let requests = self.control.requests();
        step!(Event::Requested { stop: requests.stop, stop_now: requests.stop_now, report: requests.report });
        if requests.report {
            info!("{}", self.stats());
        }
        match self.phase {
            _ if requests.stop_now => self.phase = Phase::Over,
            Phase::Serving if requests.stop => {
                step!(Level::Info, Event::Stopping { open: self.open(), timeout: self.config.drain_timeout });
                self.phase = Phase::Draining { since: self.now, accepts: LAST_ACCEPTS, next_key: 0 };
            }
            Phase::Draining { since, .. } if requests.stop && self.now - since > STOP_WINDOW => {
                self.phase = Phase::Over;
            }
            _ => {}
        }
    }

    /// One iteration's part of the drain. First the server accepts the clients in the accept queue and frees the port.
    /// Then the sessions start to drain.
    fn continue_drain(&mut self) {
        let Phase::Draining { since, mut accepts, mut next_key } = self.phase else { return };
        if self.acceptor.is_some() {
            let quota = accepts.min(ACCEPT_BUDGET);
            accepts -= quota;
            if self.accept_up_to(quota).is_err() || accepts == 0 {
                self.acceptor = None;
            }
        } else {
            for _ in 0..END_BUDGET {
                let mut keys = next_key..self.sessions.capacity();
                let Some(key) = keys.find(|&key| self.sessions.contains(key)) else {
                    next_key = self.sessions.capacity();
                    break;
                };
                next_key = key + 1;
                self.sessions[key].connection.drain();
                self.turn(key, Readiness::READABLE);
            }
        }
        self.phase = Phase::Draining { since, accepts, next_key };
    }

    /// How many sessions are open, without the clients that are being refused.
    fn open(&self) -> usize {
        self.sessions.len() - self.refused.len()
    }

    fn stats(&self) -> Stats {
        Stats { open: self.open() as u64, uptime: self.now - self.started, ..self.stats.clone() }
    }
}
