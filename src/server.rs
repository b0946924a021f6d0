//! The readiness loop. Each round: wait, give every ready session one fair turn, clear away the dead, let newcomers in.
//!
//! The only file that knows the slab. It knows no byte of the protocol: what a session does with its turn is
//! [`Connection`]'s business, and what an accept error means is [`Acceptor`]'s.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Instant;

use log::{Level, debug, info, log, log_enabled, trace, warn};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

use crate::acceptor::{Accepted, Acceptor};
use crate::buffer::Pool;
use crate::config::{Config, EVENTS, INPUT_BUFFER, LAST_ACCEPTS, OUTPUT_BUFFER, SPARE_BUFFERS};
use crate::connection::{Connection, Turn};
use crate::control::{Control, Handle, Request};
use crate::error::StartError;
use crate::readiness::Readiness;
use crate::reason::Reason;
use crate::stats::Stats;
use crate::timeouts::Timeouts;

/// The listener's token. Sessions have their key in the slab, which counts from 0, so these never meet.
const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);
const SIGNALS: Token = Token(usize::MAX - 2);

/// The server: one thread, one `poll`, and nothing else that blocks.
pub struct Server {
    poll: Poll,
    /// The listening socket; dropped, and the port free, as soon as the server is asked to stop.
    acceptor: Option<Acceptor>,
    /// Every session by its key, which is also its token.
    sessions: Slab<Registered>,
    /// Sessions that have ended in this round. They keep their keys until the batch of events is through, and newcomers
    /// wait as long: with a key given anew within the batch would come the events meant for its last owner.
    ended: Vec<usize>,
    pool: Pool,
    timeouts: Timeouts,
    control: Control,
    phase: Phase,
    /// When this round began. The clock is read once a round.
    now: Instant,
    /// All that had happened by then has been seen. So this, not `now`, is the time by which somebody is late.
    seen: Instant,
    /// Batches in a row that had no room for one more event.
    full_batches: usize,
    started: Instant,
    /// How many sessions may be open at once.
    cap: usize,
    config: Config,
    stats: Stats,
}

/// A session, and what the kernel has been asked to report of it.
#[derive(Debug)]
struct Registered {
    connection: Connection<TcpStream>,
    /// `None` before the first turn.
    interest: Option<Interest>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Serving,
    /// No new sessions; the open ones end, at this time at the latest. `None` is further off than the clock goes.
    Draining(Option<Instant>),
    Over,
}

/// How a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Stopped once: the sessions had the time to end that `drain_timeout` gives them.
    Drained,
    /// Stopped twice: at once.
    Forced,
}

impl Server {
    /// Opens the listening socket. Clients can connect from now on; [`Server::run`] serves them.
    pub fn bind(config: Config) -> Result<Self, StartError> {
        let mut acceptor = Acceptor::bind(&config)?;
        let poll = Poll::new().map_err(StartError::Setup)?;
        acceptor.register(poll.registry(), LISTENER).map_err(StartError::Setup)?;
        let control = Control::new(poll.registry(), WAKER).map_err(StartError::Setup)?;
        let now = Instant::now();
        Ok(Self {
            poll,
            acceptor: Some(acceptor),
            sessions: Slab::new(),
            ended: Vec::new(),
            pool: Pool::new(INPUT_BUFFER, OUTPUT_BUFFER, SPARE_BUFFERS),
            timeouts: Timeouts::new(&config),
            control,
            phase: Phase::Serving,
            now,
            seen: now,
            full_batches: 0,
            started: now,
            cap: config.max_connections.unwrap_or(usize::MAX),
            config,
            stats: Stats::default(),
        })
    }

    /// The address that clients connect to.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.acceptor.as_ref().map_or_else(|| Err(ErrorKind::NotConnected.into()), Acceptor::local_addr)
    }

    /// A handle with which another thread can stop the server.
    pub fn handle(&self) -> Handle {
        self.control.handle()
    }

    /// Lets SIGUSR1, if it is one of these signals, log the counters, and each other one stop the server as
    /// [`Handle::stop`] does. Signals belong to the whole process, so its main program decides this. From now on, and
    /// after the server has ended too, none of them has its usual effect on the process.
    pub fn watch_signals(&mut self, signals: &[i32]) -> Result<(), StartError> {
        self.control.watch_signals(self.poll.registry(), SIGNALS, signals).map_err(StartError::Setup)
    }

    /// Serves until it is stopped; returns how it ended, and the counters. Whoever is still connected then is cut off.
    ///
    /// # Errors
    ///
    /// Only if polling itself fails, or the listening socket has no address: no client, and no lack of resources, ends
    /// the loop.
    pub fn run(mut self) -> io::Result<(Ending, Stats)> {
        // Not said before this point, where signals are watched too: who reads it may rely on both.
        info!("Socket now listening on {}", self.local_addr()?);
        let mut events = Events::with_capacity(EVENTS);
        while !self.is_over() {
            self.wait(&mut events)?;
            let mut asked = false;
            for event in &events {
                match event.token() {
                    LISTENER => self.knocked(),
                    WAKER | SIGNALS => asked = true,
                    Token(key) => self.turn(key, Readiness::from(event)),
                }
            }
            // All that gives out keys or takes them back comes after the batch.
            self.expire();
            let ended = self.reap();
            let count = events.iter().count();
            let share = self.acceptor.as_ref().map_or(0, |acceptor| acceptor.share(self.now, count, ended));
            self.accept(share);
            if asked {
                self.obey();
            }
        }
        let ending = if self.phase == Phase::Over { Ending::Forced } else { Ending::Drained };
        for key in self.keys() {
            self.close(key, Reason::Cut);
        }
        self.reap();
        Ok((ending, self.report()))
    }

    fn is_over(&self) -> bool {
        match self.phase {
            Phase::Serving => false,
            Phase::Draining(until) => {
                self.sessions.is_empty() || until.is_some_and(|until| until <= self.seen)
            }
            Phase::Over => true,
        }
    }

    /// Sleeps until something is ready or due.
    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        let timeout = self.next_due().map(|due| due.saturating_duration_since(self.now));
        let asleep = log_enabled!(Level::Trace).then(Instant::now);
        match self.poll.poll(events, timeout) {
            // mio leaves this to us: no events, and the next round asks again (epoll_wait(2), EINTR).
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // `now` is still of before the call.
            Ok(()) if self.is_complete(events) => self.seen = self.now,
            result => result?,
        }
        self.now = Instant::now();
        if let Some(asleep) = asleep {
            trace!("poll: {} ready after {:?}", events.iter().count(), self.now - asleep);
        }
        Ok(())
    }

    /// Whether this batch, or it and the full ones before, had room for the events of everybody: the kernel's queue is
    /// first in, first out.
    fn is_complete(&mut self, events: &Events) -> bool {
        let is_complete = events.iter().count() < EVENTS || self.full_batches > self.sessions.len() / EVENTS;
        self.full_batches = if is_complete { 0 } else { self.full_batches + 1 };
        is_complete
    }

    /// When the loop must wake though nothing is ready. `None`, with no time-out running: no tick, no wake-up at all.
    fn next_due(&self) -> Option<Instant> {
        let accept = self.acceptor.as_ref().and_then(Acceptor::next_due);
        let drained = match self.phase {
            Phase::Draining(until) => until,
            Phase::Serving | Phase::Over => None,
        };
        [self.timeouts.next_due(), accept, drained].into_iter().flatten().min()
    }

    fn knocked(&mut self) {
        trace!("listener: ready");
        if let Some(acceptor) = &mut self.acceptor {
            acceptor.knocked();
        }
    }

    /// Accepts `share` of those who wait, and asks to be told of the others.
    fn accept(&mut self, share: usize) {
        for _ in 0..share {
            let Some(acceptor) = &mut self.acceptor else { return };
            match acceptor.accept(self.now) {
                Accepted::Client(stream, peer) => self.admit(stream, peer),
                Accepted::Lost(error) => debug!("A client was lost before it was accepted: {error}"),
                Accepted::Nobody => {
                    trace!("accept: WouldBlock");
                    break;
                }
                Accepted::Paused(error) => {
                    self.stats.accept_pauses += 1;
                    warn!("Accepting pauses at {} sessions: {error}", self.open());
                    return;
                }
                Accepted::StillPaused(error) => {
                    trace!("accept: {error}");
                    return;
                }
            }
        }
        // With a share of 0 nothing was accepted, so no event is used up.
        if share > 0
            && let Some(acceptor) = &mut self.acceptor
        {
            acceptor.rearm(self.poll.registry(), LISTENER, self.now);
        }
    }

    /// Takes a client in. Its first turn writes the banner, which nearly always fits in the empty socket whole, so that
    /// WRITABLE need not be asked for: `accept4`, `sendto` and `epoll_ctl` are all that the session costs.
    fn admit(&mut self, stream: TcpStream, peer: SocketAddr) {
        self.stats.accepted += 1;
        if self.open() < self.cap {
            info!("Connected with {peer}");
            let connection = Connection::greet(stream, peer, self.config.framing, &mut self.pool);
            let key = self.sessions.insert(Registered { connection, interest: None });
            self.stats.peak = self.stats.peak.max(self.open());
            self.turn(key, Readiness::WRITABLE);
        } else {
            self.refuse(stream, peer);
        }
        // A client that is gone again, or a refused one that was cut off, makes room for the next at once.
        self.reap();
    }

    fn refuse(&mut self, stream: TcpStream, peer: SocketAddr) {
        debug!("{peer} refused: {} sessions are open", self.open());
        self.stats.refused += 1;
        let connection = Connection::refuse(stream, peer, &mut self.pool);
        let key = self.sessions.insert(Registered { connection, interest: None });
        self.timeouts.start_refusal(key, self.now);
        self.turn(key, Readiness::WRITABLE);
        if self.timeouts.refusals() > self.config.max_refusals
            && let Some(oldest) = self.timeouts.oldest_refusal()
        {
            self.close(oldest, Reason::Refused);
        }
    }

    /// Gives a session its turn. The key may be of a session that has ended, or of none: events are hints.
    fn turn(&mut self, key: usize, ready: Readiness) {
        let Some(session) = self.sessions.get_mut(key).filter(|s| s.connection.closed().is_none()) else {
            return;
        };
        trace!("token {key}, {}: {ready:?}", session.connection.peer());
        let turn = session.connection.turn(ready, &mut self.pool);
        self.stats.bytes_in += turn.read as u64;
        self.stats.bytes_out += turn.written as u64;
        self.settle(key, turn);
    }

    /// Brings what the kernel reports, and the deadlines, in line with what the session's turn has made of it.
    fn settle(&mut self, key: usize, turn: Turn) {
        let session = &mut self.sessions[key];
        let Some(wanted) = session.connection.interest() else {
            self.ended.push(key);
            return;
        };
        if session.interest != Some(wanted) || turn.stopped_early {
            trace!("token {key}, {}: interest {wanted:?}", session.connection.peer());
            let (registry, stream) = (self.poll.registry(), session.connection.stream_mut());
            let result = match session.interest {
                None => registry.register(stream, Token(key), wanted),
                // Asking again for the same is not idle: the kernel looks anew whether the socket is ready, which
                // brings back the edge that a session used up when it stopped early.
                Some(_) => registry.reregister(stream, Token(key), wanted),
            };
            if let Err(error) = result {
                warn!("{} cannot be waited for: {error}", session.connection.peer());
                self.close(key, Reason::Failed);
                return;
            }
            session.interest = Some(wanted);
        }
        self.timeouts.update(key, turn, session.connection.owes(), self.now);
    }

    /// Ends those who are late. What they have done in time may be in the kernel still, because one batch does not hold the
    /// events of everybody, or because this process was held still for a while (SIGSTOP): hence `seen`.
    fn expire(&mut self) {
        for (key, reason) in self.timeouts.due(self.seen) {
            self.close(key, reason);
        }
    }

    fn close(&mut self, key: usize, reason: Reason) {
        let connection = &mut self.sessions[key].connection;
        if connection.closed().is_none() {
            connection.close(reason);
            self.ended.push(key);
        }
    }

    /// Clears away the sessions that have ended: the one place where a socket is closed. Closing it takes it out of
    /// epoll as well (epoll(7), "Questions and answers"), so there is nothing to deregister. Returns how many there were.
    fn reap(&mut self) -> usize {
        let count = self.ended.len();
        while let Some(key) = self.ended.pop() {
            let connection = self.sessions.remove(key).connection;
            let reason = connection.closed().expect("only ended sessions are reaped");
            self.timeouts.stop(key);
            self.stats.count_closed(reason);
            log!(reason.level(), "{} closed: {reason}", connection.peer());
        }
        count
    }

    /// Does what the operator or another thread has asked for.
    fn obey(&mut self) {
        for request in self.control.requests() {
            match (request, self.phase) {
                (Request::Report, _) => info!("{}", self.report()),
                (Request::Stop, Phase::Serving) => self.drain(),
                (Request::Stop, _) => self.phase = Phase::Over,
            }
        }
    }

    /// Begins to stop: those who have knocked are let in, as far as there are open files for them, then the port is free,
    /// and every session is given what it is still owed.
    fn drain(&mut self) {
        self.accept(LAST_ACCEPTS);
        self.acceptor = None;
        self.phase = Phase::Draining(self.now.checked_add(self.config.drain_timeout));
        info!("Stopping: {} sessions have {:?} to end", self.open(), self.config.drain_timeout);
        for key in self.keys() {
            self.sessions[key].connection.drain();
            self.turn(key, Readiness::READABLE);
        }
        self.reap();
    }

    fn keys(&self) -> Vec<usize> {
        self.sessions.iter().map(|(key, _)| key).collect()
    }

    /// How many sessions are open, without those being refused, which are in the slab as well.
    fn open(&self) -> usize {
        self.sessions.len() - self.timeouts.refusals()
    }

    fn report(&self) -> Stats {
        Stats { open: self.open(), uptime: self.now - self.started, ..self.stats.clone() }
    }
}
