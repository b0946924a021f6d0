//! The readiness loop. Each iteration waits for events, gives every ready session one turn, removes the sessions that
//! have ended, and accepts new clients.
//!
//! It knows no byte of the protocol: what a session does in its turn is in `connection.rs`. It knows no system either:
//! what differs between them is in `readiness.rs` and `socket.rs`.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
#[cfg(unix)]
use std::os::unix::net::UnixListener;
#[cfg(unix)]
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use log::{Level, debug, info, warn};
use mio::event::Source;
use mio::{Events, Interest, Poll, Token};

use crate::acceptor::Acceptor;
use crate::address::Address;
use crate::caught_up::CaughtUp;
use crate::client::{Client, Origin};
use crate::config::{CONNECT_BUDGET, Config, EVENTS};
use crate::error::StartError;
use crate::handle::Handle;
use crate::listen;
use crate::readiness::{Kernel, Readiness};
use crate::reason::Reason;
use crate::session::Session;
use crate::sessions::{Now, Sessions};
use crate::socket::{self, Listener, Socket};
use crate::stats::{Counters, Stats};
use crate::trace::{Cause, Event, step};
use crate::wakes::Wakes;

/// The tokens from the top down: the waker, the listeners, the watched sources. The token of a session is its key in the
/// slab, which counts from 0.
const WAKER: Token = Token(usize::MAX);
const FIRST_LISTENER: usize = usize::MAX - 1;
const FIRST_WATCHED: usize = FIRST_LISTENER - MOST_LISTENERS;
const MOST_LISTENERS: usize = 1 << 16;

/// A server that listens, and does not serve yet. [`Server::run`] serves: one thread, in which only `poll` blocks.
pub struct Server {
    poll: Poll,
    acceptors: Vec<Acceptor>,
    /// What happens when a watched source is ready.
    watched: Vec<Box<dyn FnMut() + Send>>,
    #[cfg(unix)]
    paths: Vec<RemovedFile>,
    wakes: Wakes,
    config: Config,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("acceptors", &self.acceptors).finish_non_exhaustive()
    }
}

/// How a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ending {
    /// It was stopped, and all its sessions ended in order.
    Drained,
    /// It was stopped, and the drain time-out was over before all sessions had ended.
    TimedOut,
    /// It was stopped immediately.
    Forced,
}

impl Server {
    /// A server that listens on [`Config::host`] and [`Config::port`]. Clients can connect from now on.
    ///
    /// ```
    /// # use okloop::{Config, Server};
    /// let config = Config { host: "127.0.0.1".to_owned(), port: 0, ..Config::default() };
    /// let server = Server::bind(config)?;
    /// println!("listening on {}", server.local_addr()?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If the name has no address, an address is in use, or the system has no room.
    pub fn bind(config: Config) -> Result<Self, StartError> {
        let (host, port) = (config.host.clone(), config.port);
        let mut server = Self::new(config)?;
        server.listen(&host, port)?;
        Ok(server)
    }

    /// A server without a listener. [`Config::host`] and [`Config::port`] are not used.
    ///
    /// # Errors
    ///
    /// If the system has no room.
    pub fn new(config: Config) -> Result<Self, StartError> {
        let poll = Poll::new().map_err(StartError::Setup)?;
        let wakes = Wakes::new(poll.registry(), WAKER).map_err(StartError::Setup)?;
        Ok(Self {
            poll,
            acceptors: Vec::new(),
            watched: Vec::new(),
            #[cfg(unix)]
            paths: Vec::new(),
            wakes,
            config,
        })
    }

    /// Listens on one more name or address:
    ///
    /// ```
    /// # use okloop::{Config, Server};
    /// let mut server = Server::new(Config::default())?;
    /// server.listen("127.0.0.1", 0)?;
    /// server.listen("127.0.0.1", 0)?;
    /// assert_eq!(server.local_addrs()?.len(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// [`Origin::Accepted`](crate::Origin::Accepted) counts the listeners in the order in
    /// which they were added; a name with several addresses has one for each of them.
    ///
    /// # Errors
    ///
    /// As [`Server::bind`].
    pub fn listen(&mut self, host: &str, port: u16) -> Result<(), StartError> {
        let listeners = listen::listen(host, port, &self.config)?;
        listeners.into_iter().try_for_each(|listener| self.add(listener, true))
    }

    /// Listens on a Unix socket. Its file must not exist. It is removed when the server stops.
    ///
    /// # Errors
    ///
    /// If the socket cannot be bound.
    #[cfg(unix)]
    pub fn listen_unix(&mut self, path: impl AsRef<Path>) -> Result<(), StartError> {
        let listener = listen::listen_unix(path.as_ref(), &self.config)?;
        self.paths.push(RemovedFile(path.as_ref().to_owned()));
        self.add(listener, true)
    }

    /// Serves a listening socket that exists already.
    ///
    /// ```
    /// # use okloop::{Config, Server};
    /// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// let mut server = Server::new(Config::default())?;
    /// server.adopt(listener)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// A supervisor has opened it, or a test. At a stop, clients that are still in its queue stay there, for the next
    /// process that has the socket.
    ///
    /// # Errors
    ///
    /// If the system refuses an option or the registration.
    pub fn adopt(&mut self, listener: TcpListener) -> Result<(), StartError> {
        let listener = listen::adopt(listener).map_err(StartError::Setup)?;
        self.add(listener, false)
    }

    /// As [`Server::adopt`], for a Unix socket. Its file stays where it is.
    ///
    /// # Errors
    ///
    /// If the system refuses an option or the registration.
    #[cfg(unix)]
    pub fn adopt_unix(&mut self, listener: UnixListener) -> Result<(), StartError> {
        let listener = listen::adopt_unix(listener).map_err(StartError::Setup)?;
        self.add(listener, false)
    }

    fn add(&mut self, listener: Listener, is_own: bool) -> Result<(), StartError> {
        let number = self.acceptors.len();
        let token = Token(FIRST_LISTENER - number.min(MOST_LISTENERS - 1));
        let acceptor = Acceptor::register(listener, self.poll.registry(), token, number, is_own);
        self.acceptors.push(acceptor.map_err(StartError::Setup)?);
        Ok(())
    }

    /// Calls `when_ready` on the loop's thread whenever `source` is readable: signals, a timer, a pipe. It must read until
    /// `WouldBlock`, and it must not block.
    ///
    /// # Errors
    ///
    /// If the source cannot be registered.
    pub fn watch<E: Source + Send + 'static>(
        &mut self,
        mut source: E,
        mut when_ready: impl FnMut(&mut E) + Send + 'static,
    ) -> io::Result<()> {
        let token = Token(FIRST_WATCHED - self.watched.len());
        source.register(self.poll.registry(), token, Interest::READABLE)?;
        self.watched.push(Box::new(move || when_ready(&mut source)));
        Ok(())
    }

    /// The address that clients connect to. If there are several, it is the first one.
    ///
    /// # Errors
    ///
    /// If there is no listener, or if it is a Unix socket.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        let acceptor = self.acceptors.first().ok_or(ErrorKind::NotConnected)?;
        acceptor.local_addr()?.ip().ok_or_else(|| ErrorKind::Unsupported.into())
    }

    /// The addresses of all listeners, in the order in which they were added.
    ///
    /// # Errors
    ///
    /// If the system does not tell one.
    pub fn local_addrs(&self) -> io::Result<Vec<Address>> {
        self.acceptors.iter().map(Acceptor::local_addr).collect()
    }

    /// A handle that controls the server, from this thread or another one.
    pub fn handle(&self) -> Handle {
        Handle::new(&self.wakes)
    }

    /// Serves until it is stopped. Returns how it ended, and the counters. Sessions that are still open then are closed.
    ///
    /// `new_session` is called for each client, on this thread, and returns the protocol's side of the session. It must not
    /// block. If it panics, the client is gone. Sessions of one server may share an `Rc`.
    ///
    /// # Errors
    ///
    /// Only if `poll` itself fails, or a listening socket has no address. No client and no lack of resources ends the
    /// loop.
    pub fn run<S: Session>(self, new_session: impl FnMut(Client<'_>) -> S) -> io::Result<(Ending, Stats)> {
        self.run_with(new_session, None)
    }

    /// As [`Server::run`], and calls `tick` again and again, each time after `period`, with clients or without. Ticks do
    /// not drift. One that is missed by more than a period is left out. With a period of zero the loop never sleeps, and
    /// with one beyond the end of the clock there is no tick.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use okloop::protocols::{Framing, OkSession};
    /// use okloop::{Config, Server};
    ///
    /// let server = Server::bind(Config { host: "127.0.0.1".to_owned(), port: 0, ..Config::default() })?;
    /// let (handle, mut ticks) = (server.handle(), 0);
    /// let tick = || {
    ///     ticks += 1;
    ///     if ticks == 3 {
    ///         handle.stop();
    ///     }
    /// };
    /// server.run_with_tick(|_client| OkSession::new(Framing::Lines), Duration::from_millis(1), tick)?;
    /// assert_eq!(ticks, 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Server::run`].
    pub fn run_with_tick<S: Session>(
        self,
        new_session: impl FnMut(Client<'_>) -> S,
        period: Duration,
        mut tick: impl FnMut(),
    ) -> io::Result<(Ending, Stats)> {
        let next = Instant::now().checked_add(period);
        self.run_with(new_session, Some(Tick { next, period, call: &mut tick }))
    }

    fn run_with<S: Session>(
        self,
        new_session: impl FnMut(Client<'_>) -> S,
        tick: Option<Tick<'_>>,
    ) -> io::Result<(Ending, Stats)> {
        let Self { poll, acceptors, watched, wakes, config, .. } = self;
        for acceptor in &acceptors {
            // Logged here and not in `bind`, because signals are watched by now: a supervisor may rely on both.
            info!("Socket now listening on {}", acceptor.local_addr()?);
        }
        let now = Instant::now();
        let sessions = Sessions::new(config.clone(), wakes, now);
        let (phase, caught_up) = (Phase::Serving, CaughtUp::new(now));
        Loop { poll, acceptors, watched, sessions, new_session, tick, phase, now, caught_up, config }.run()
    }
}

/// A call that is due again and again.
struct Tick<'a> {
    /// `None` beyond the end of the clock.
    next: Option<Instant>,
    period: Duration,
    call: &'a mut dyn FnMut(),
}

/// The file of a Unix socket.
#[cfg(unix)]
struct RemovedFile(PathBuf);

#[cfg(unix)]
impl Drop for RemovedFile {
    fn drop(&mut self) {
        // Somebody else may have removed it.
        let _ = std::fs::remove_file(&self.0);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Serving,
    Draining {
        since: Instant,
        /// How many more clients may be accepted from the queues.
        accepts: usize,
        /// Sessions with smaller keys drain already. `None`: all do.
        next_key: Option<usize>,
        /// Whether the outgoing connections drain. The accepted ones come first, because they may need those.
        outgoing: bool,
    },
    Over(Ending),
}

/// A server that runs.
struct Loop<'a, S, F> {
    poll: Poll,
    /// The listening sockets. After a stop they are dropped, and the ports are free.
    acceptors: Vec<Acceptor>,
    watched: Vec<Box<dyn FnMut() + Send>>,
    sessions: Sessions<S>,
    /// Makes the protocol's side of a new session.
    new_session: F,
    tick: Option<Tick<'a>>,
    phase: Phase,
    /// When `poll` returned in this iteration. The loop reads the clock once an iteration.
    now: Instant,
    caught_up: CaughtUp,
    config: Config,
}

impl<S: Session, F: FnMut(Client<'_>) -> S> Loop<'_, S, F> {
    fn run(mut self) -> io::Result<(Ending, Stats)> {
        let mut events = Events::with_capacity(EVENTS);
        let ending = loop {
            if let Some(ending) = self.ending() {
                break ending;
            }
            self.wait(&mut events)?;
            let now = Now { time: self.now, registry: self.poll.registry() };
            for event in &events {
                match event.token() {
                    WAKER => {}
                    Token(number) if number > FIRST_WATCHED => {
                        self.acceptors
                            .iter_mut()
                            .filter(|acceptor| acceptor.token().0 == number)
                            .for_each(Acceptor::on_readable);
                    }
                    Token(number) => match self.watched.get_mut(FIRST_WATCHED - number) {
                        Some(when_ready) => when_ready(),
                        None => self.sessions.turn(number, Cause::Ready(Readiness::from(event)), now),
                    },
                }
            }
            self.sessions.turn_woken(now);
            self.sessions.turn_late(self.caught_up.to(), now);
            self.call_tick();
            self.continue_drain();
            // Only from here on, after the batch, are keys freed and given out.
            let ended = self.sessions.remove_closed();
            self.accept_new(events.iter().count(), ended);
            self.begin_connects();
            self.handle_requests();
            self.begin_outgoing_drain();
        };
        let reason = if ending == Ending::Forced { Reason::Forced } else { Reason::DrainTimeout };
        self.sessions.close_all(reason);
        Ok((ending, self.sessions.wakes.counters().read()))
    }

    /// How the server ends, if it ends now.
    fn ending(&self) -> Option<Ending> {
        match self.phase {
            Phase::Serving => None,
            Phase::Draining { .. } if self.acceptors.is_empty() && self.sessions.is_empty() => {
                Some(Ending::Drained)
            }
            Phase::Draining { .. } => {
                self.drain_deadline().filter(|&end| end <= self.caught_up.to()).map(|_| Ending::TimedOut)
            }
            Phase::Over(ending) => Some(ending),
        }
    }

    /// Blocks until a socket is ready, something is due, or a session is woken.
    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        let may_connect = self.sessions.may_connect();
        let may_sleep = self.sessions.wakes.fall_asleep(may_connect);
        let due = if may_sleep { self.next_due() } else { Some(self.now) };
        let timeout = due.map(|due| due.saturating_duration_since(self.now));
        let asked = self.now;
        step!(Event::PollStart { timeout });
        match self.poll.poll(events, timeout) {
            // mio reports it. There are no events, and the next iteration asks again (epoll_wait(2), EINTR).
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Ok(()) => {
                let may_be_full = Kernel::HERE.may_be_full(events.iter().count());
                let others = self.acceptors.len() + self.watched.len() + 1;
                let sources = (self.sessions.len() + others) * Kernel::HERE.events_per_socket();
                self.caught_up.note(asked, may_be_full, sources);
            }
            result => result?,
        }
        self.sessions.wakes.wake_up();
        self.now = Instant::now();
        step!(Event::PollEnd { events: events.iter().count(), after: self.now - asked });
        Ok(())
    }

    /// When the loop must go on although no socket is ready. With no time-out running this is `None`: an idle server
    /// makes no system call.
    fn next_due(&mut self) -> Option<Instant> {
        if let Phase::Draining { next_key, .. } = self.phase
            && (next_key.is_some() || self.acceptors.iter().any(Acceptor::is_ready))
        {
            return Some(self.now);
        }
        let accepting = self.acceptors.iter().filter_map(Acceptor::next_due).min();
        let tick = self.tick.as_ref().and_then(|tick| tick.next);
        [self.sessions.next_due(), accepting, tick, self.drain_deadline()].into_iter().flatten().min()
    }

    /// `None` while the server does not drain, and where the deadline is further off than the clock goes.
    fn drain_deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Draining { since, .. } => since.checked_add(self.config.drain_timeout),
            Phase::Serving | Phase::Over(_) => None,
        }
    }

    /// Accepts new clients after a batch of `events`, in which `ended` sessions have made room. A server that stops closes
    /// a listening socket when its queue is empty.
    fn accept_new(&mut self, events: usize, ended: usize) {
        for index in 0..self.acceptors.len() {
            let quota = self.acceptors[index].accept_quota(self.now, events, ended);
            if quota == 0 {
                continue;
            }
            step!(Event::Accepting { quota });
            let result = self.accept_up_to(quota, index);
            let (open, acceptor) = (self.sessions.open(), &mut self.acceptors[index]);
            match result {
                Err(error) if error.kind() == ErrorKind::WouldBlock && self.phase != Phase::Serving => {
                    acceptor.end();
                }
                Err(error) if error.kind() != ErrorKind::WouldBlock => {
                    if acceptor.pause(self.now) {
                        Counters::add(&self.sessions.wakes.counters().accept_pauses, 1);
                        step!(Level::Warn, Event::AcceptPaused { open, error: error.to_string() });
                    }
                }
                // A server that stops asks until the queue is empty.
                _ if self.phase != Phase::Serving => {}
                _ => acceptor.rearm(self.poll.registry(), self.now),
            }
        }
        self.acceptors.retain(|acceptor| !acceptor.has_ended());
    }

    /// Accepts `quota` clients. An error says why it stopped before: the queue is empty (`WouldBlock`), or the system has
    /// no room.
    fn accept_up_to(&mut self, quota: usize, index: usize) -> io::Result<()> {
        for _ in 0..quota {
            if let Phase::Draining { accepts, .. } = &mut self.phase {
                *accepts = accepts.checked_sub(1).ok_or(ErrorKind::WouldBlock)?;
            }
            let acceptor = &mut self.acceptors[index];
            match acceptor.accept() {
                Ok((socket, peer)) => {
                    let now = Now { time: self.now, registry: self.poll.registry() };
                    let new_session = |waker, socket: &Socket| {
                        let origin = Origin::Accepted(acceptor.number());
                        (self.new_session)(Client::new(peer, origin, waker, Some(socket)))
                    };
                    let key = self.sessions.admit((socket, peer), new_session, now)?;
                    if self.phase != Phase::Serving {
                        self.sessions.turn(key, Cause::Stop(true), now);
                    }
                    // The session may have ended already. Its place must be free before the next one is accepted.
                    self.sessions.remove_closed();
                }
                Err(error) if socket::is_one_clients(&error) => {
                    debug!("A client was lost before it was accepted: {error}");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Begins outgoing connections that are asked for.
    fn begin_connects(&mut self) {
        let now = Now { time: self.now, registry: self.poll.registry() };
        for _ in 0..CONNECT_BUDGET {
            if !self.sessions.may_connect() {
                return;
            }
            let Some(connect) = self.sessions.wakes.requests().next_connect() else { return };
            if let Err(error) = self.sessions.connect(connect, &mut self.new_session, now) {
                warn!("No connection to {}: {error}", connect.0);
            }
            // It may have failed already, and its session is to know.
            self.sessions.remove_closed();
            if let Phase::Draining { next_key, outgoing: true, .. } = &mut self.phase {
                *next_key = Some(0);
            }
        }
    }

    fn call_tick(&mut self) {
        if let Some(tick) = &mut self.tick
            && let Some(due) = tick.next
            && due <= self.now
        {
            (tick.call)();
            let next = due.checked_add(tick.period).filter(|&next| next > self.now);
            tick.next = next.or_else(|| self.now.checked_add(tick.period));
        }
    }

    /// Does what the operator or another thread has asked for.
    fn handle_requests(&mut self) {
        let Some(asked) = self.sessions.wakes.requests().take() else { return };
        step!(Event::Requested { stop: asked.stop, stop_now: asked.stop_now, report: asked.report });
        if asked.report {
            info!("{}", self.sessions.wakes.counters().read());
            self.sessions.report_waiting(self.now);
        }
        if asked.stop_now {
            self.phase = Phase::Over(Ending::Forced);
        } else if asked.stop && self.phase == Phase::Serving {
            step!(
                Level::Info,
                Event::Stopping { open: self.sessions.open(), timeout: self.config.drain_timeout }
            );
            self.acceptors.retain(Acceptor::is_own);
            self.acceptors.iter_mut().for_each(Acceptor::look_at_queue);
            // A queue holds one client more than its backlog (Linux `include/net/sock.h`, `sk_acceptq_is_full`). Clients
            // that go on connecting must not keep the server from stopping.
            let accepts =
                (self.config.backlog as usize).saturating_add(1).saturating_mul(self.acceptors.len());
            self.phase = Phase::Draining { since: self.now, accepts, next_key: Some(0), outgoing: false };
        }
    }

    /// One iteration's part of the drain: sessions start to drain.
    fn continue_drain(&mut self) {
        if let Phase::Draining { next_key, outgoing, .. } = &mut self.phase {
            let now = Now { time: self.now, registry: self.poll.registry() };
            *next_key = next_key.and_then(|key| self.sessions.turn_to_drain(key, *outgoing, now));
        }
    }

    /// The outgoing connections start to drain when the last accepted session has ended. No event says so: the next
    /// iteration follows without one.
    fn begin_outgoing_drain(&mut self) {
        if let Phase::Draining { next_key: next_key @ None, outgoing: outgoing @ false, .. } = &mut self.phase
            && self.acceptors.is_empty()
            && self.sessions.has_only_outgoing()
        {
            (*next_key, *outgoing) = (Some(0), true);
        }
    }
}
