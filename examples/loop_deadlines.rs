//! Many clients in one thread: a session that waits for too long ends, after the batch.
//!
//! ```text
//! cargo run --example loop_deadlines
//! telnet localhost 8888
//! ```
//!
//! Arguments: the port, and the time-out in seconds, 300 by default.
//!
//! Its idea: only `poll` waits, so it also waits for the first deadline. Each turn of a session moves its deadline. So the
//! server ends a client that is silent. It also ends a client that does not read its answers: at high water the server
//! stops reading, so the session gets no more turns.
//!
//! A session that has ended is only marked as closed. The loop frees its key after the batch, in one place. If a key were
//! free earlier, a new session could get it, and with it an event of the old session.
//!
//! What it does not do, and okloop, in `src/`, does:
//! - Survive Ctrl-S: if it stops the server's terminal, all clients wait.
//! - Stop in order (drain): when the server ends, answers can be lost.
//! - Tell clients that the server is full: they wait in the accept queue.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use okloop::protocols::{BANNER, CHUNK, PREFIX};
use slab::Slab;

mod listening;
mod terminal;

/// The listener's token. No key of the slab comes near it.
const LISTENER: Token = Token(usize::MAX);

/// The largest batch that one `poll` returns (events). More events stay in the kernel for the next one.
const EVENTS: usize = 1024;

/// The high water mark: at this much pending output the server stops reading from the session (bytes). When the socket
/// becomes writable and less is pending, reading starts again. That needs no lower mark: the kernel reports a socket
/// writable only when a good part of its buffer is free.
const HIGH_WATER: usize = 64 * 1024;

/// How much a session reads in one turn (bytes). Then it is the next session's turn.
const READ_BUDGET: usize = 64 * 1024;

/// How many clients are accepted for one event (connections). Then it is the sessions' turn.
const ACCEPT_BUDGET: usize = 64;

/// How long accepting pauses if no session ends before that.
const ACCEPT_RETRY: Duration = Duration::from_secs(1);

fn main() -> io::Result<()> {
    let [port, seconds] = terminal::arguments(["PORT", "SECONDS"]);
    let timeout = terminal::seconds(seconds, 300);
    Server::new(listening::listen(terminal::port(port, 8888)), timeout)?.run()
}

struct Server {
    poll: Poll,
    listener: TcpListener,
    /// Every session by its key, which is also its token.
    sessions: Slab<Connection>,
    /// The system has no room for one more client. Accepting goes on when a session ends, or at this time.
    accept_paused: Option<Instant>,
    /// When each session is late, and its key, sorted by time. `src/deadlines.rs` needs no sorted tree for this.
    deadlines: BTreeSet<(Instant, usize)>,
    timeout: Duration,
    /// Sessions that have closed during this batch.
    closed: Vec<usize>,
    /// When `poll` returned in this iteration. The loop reads the clock once an iteration.
    now: Instant,
    /// The loop has handled everything that happened before this time.
    caught_up_to: Instant,
}

impl Server {
    fn new(listener: std::net::TcpListener, timeout: Duration) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let mut listener = TcpListener::from_std(listener);
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let now = Instant::now();
        Ok(Self {
            poll,
            listener,
            sessions: Slab::new(),
            accept_paused: None,
            deadlines: BTreeSet::new(),
            timeout,
            closed: Vec::new(),
            now,
            caught_up_to: now,
        })
    }

    fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            self.wait(&mut events)?;
            for event in &events {
                match event.token() {
                    LISTENER => self.accept_new(),
                    Token(key) => self.turn(key),
                }
            }
            self.end_late_sessions();
            self.remove_closed();
        }
    }

    /// Waits until a socket is ready or something is due.
    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        let deadline = self.deadlines.first().map(|&(due, _)| due);
        let due = deadline.into_iter().chain(self.accept_paused).min();
        match self.poll.poll(events, due.map(|due| due.saturating_duration_since(self.now))) {
            // Ctrl-Z and `fg`, for example. There are no events then.
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Here `now` still holds the time from before `poll`.
            //
            // Simplification: while every batch is full, no session is late.
            Ok(()) if events.iter().count() < EVENTS => self.caught_up_to = self.now,
            result => result?,
        }
        self.now = Instant::now();
        Ok(())
    }

    fn accept_new(&mut self) {
        // A new client makes no room. The pause ends with `rearm_listener`, which reports this client again.
        if self.accept_paused.is_some() {
            return;
        }
        for _ in 0..ACCEPT_BUDGET {
            match unless_blocked(self.listener.accept()) {
                Ok(Some((stream, address))) => {
                    // Simplification: this write blocks, so a terminal stopped with Ctrl-S stops every client with it.
                    terminal::say(format_args!("Connected with {address}"));
                    self.open(stream);
                }
                Ok(None) => return,
                Err(error) if is_of_one_client(&error) => {}
                Err(error) => {
                    terminal::complain(format_args!("No session: {error}"));
                    self.accept_paused = Some(self.now + ACCEPT_RETRY);
                    return;
                }
            }
        }
        self.rearm_listener();
    }

    /// Lets epoll report the clients that are still in the queue.
    fn rearm_listener(&mut self) {
        let result = self.poll.registry().reregister(&mut self.listener, LISTENER, Interest::READABLE);
        if let Err(error) = result {
            terminal::complain(format_args!("No session: {error}"));
            self.accept_paused = Some(self.now + ACCEPT_RETRY);
        }
    }

    /// Starts a session. Its first turn writes the banner, which fits in an empty socket.
    fn open(&mut self, stream: TcpStream) {
        // An answer leaves immediately, even while the client has not acknowledged the one before.
        let _ = stream.set_nodelay(true);
        let key = self.sessions.insert(Connection::new(stream, self.now));
        self.turn(key);
    }

    /// Gives a session its turn. The session may have ended already: an event is a hint.
    fn turn(&mut self, key: usize) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        // Simplification: each turn moves the deadline, also one that moves no byte. src looks at the bytes.
        self.deadlines.remove(&(session.deadline, key));
        session.deadline = self.now + self.timeout;
        self.deadlines.insert((session.deadline, key));
        match session.turn() {
            Ok(turn) => self.update_registration(key, turn),
            Err(_) => self.close(key),
        }
    }

    /// Tells epoll what to report of a session from now on, if that has changed or the session must be re-armed.
    fn update_registration(&mut self, key: usize, turn: Turn) {
        let session = &mut self.sessions[key];
        let wanted = session.interest();
        let result = match session.registered {
            Some(interest) if interest == wanted && !turn.stopped_early => return,
            Some(_) => self.poll.registry().reregister(&mut session.stream, Token(key), wanted),
            None => self.poll.registry().register(&mut session.stream, Token(key), wanted),
        };
        session.registered = Some(wanted);
        if let Err(error) = result {
            terminal::complain(format_args!("No session: {error}"));
            self.close(key);
        }
    }

    /// Ends the sessions that were late before `caught_up_to`, not before `now`: their events may still be in the
    /// kernel. So after the `poll` that waited for a deadline, one more `poll` follows, with the time-out 0.
    ///
    /// Simplification: the kernel reports room only when a third of the socket's send buffer is free. A slow reader can
    /// be late although it reads. src limits how much waits in that buffer.
    fn end_late_sessions(&mut self) {
        while let Some(&(due, key)) = self.deadlines.first()
            && due <= self.caught_up_to
        {
            self.deadlines.pop_first();
            self.close(key);
        }
    }

    /// Marks a session as closed. It keeps its key until [`Server::remove_closed`].
    fn close(&mut self, key: usize) {
        self.closed.push(key);
    }

    /// Frees the keys of closed sessions: the one place that closes sockets.
    fn remove_closed(&mut self) {
        let have_room = !self.closed.is_empty();
        for key in self.closed.drain(..) {
            // Closing the socket also ends its registration (epoll(7), "Questions and answers"). The key may be there
            // twice: macOS and FreeBSD report a session up to twice in a batch.
            if let Some(session) = self.sessions.try_remove(key) {
                self.deadlines.remove(&(session.deadline, key));
            }
        }
        if self.accept_paused.is_some_and(|until| have_room || until <= self.now) {
            self.accept_paused = None;
            self.rearm_listener();
        }
    }
}

struct Connection {
    stream: TcpStream,
    /// Pending output: answers that the socket has not taken yet. A thread needs no such field: `write_all` waits.
    pending: Vec<u8>,
    /// The client has ended its direction. It may still read, so the server sends all pending output first.
    half_closed: bool,
    /// The interest that epoll has been told.
    registered: Option<Interest>,
    deadline: Instant,
}

/// What one turn of a session did.
#[derive(Clone, Copy, Default)]
struct Turn {
    /// Bytes read.
    read: usize,
    /// The socket may still be ready, but its edge is used up: the session must be re-armed.
    stopped_early: bool,
}

impl Connection {
    /// A session begins with the banner.
    fn new(stream: TcpStream, now: Instant) -> Self {
        Self { stream, pending: BANNER.to_vec(), half_closed: false, registered: None, deadline: now }
    }

    /// What to wait for. It depends on the state alone.
    fn interest(&self) -> Interest {
        match (self.reads(), self.pending.is_empty()) {
            (true, true) => Interest::READABLE,
            (true, false) => Interest::READABLE | Interest::WRITABLE,
            (false, _) => Interest::WRITABLE,
        }
    }

    fn reads(&self) -> bool {
        self.pending.len() < HIGH_WATER && !self.half_closed
    }

    /// Writes and reads until the socket would block, or until the read budget is used up. `Err` means that the session
    /// has ended. A normal end is also an `Err`.
    fn turn(&mut self) -> io::Result<Turn> {
        let mut turn = Turn::default();
        let mut may_hold_more = true;
        loop {
            self.flush()?;
            if self.half_closed && self.pending.is_empty() {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            turn.stopped_early = turn.read >= READ_BUDGET;
            if turn.stopped_early || !may_hold_more || !self.reads() {
                return Ok(turn);
            }
            may_hold_more = self.read(&mut turn)?;
        }
    }

    /// Writes as much as the socket takes.
    fn flush(&mut self) -> io::Result<()> {
        while !self.pending.is_empty() {
            let Some(count) = unless_blocked(self.stream.write(&self.pending))? else { break };
            self.pending.drain(..count);
        }
        if self.pending.is_empty() {
            // An idle session holds no memory for output.
            self.pending = Vec::new();
        }
        Ok(())
    }

    /// Reads chunks and appends their answers. Returns whether the socket may hold more.
    fn read(&mut self, turn: &mut Turn) -> io::Result<bool> {
        let mut chunk = [0; CHUNK];
        while self.pending.len() < HIGH_WATER && turn.read < READ_BUDGET {
            let Some(count) = unless_blocked(self.stream.read(&mut chunk))? else { return Ok(false) };
            if count == 0 {
                self.half_closed = true;
                return Ok(false);
            }
            turn.read += count;
            self.pending.extend(PREFIX);
            self.pending.extend(&chunk[..count]);
        }
        Ok(true)
    }
}

/// `None` where a blocking call would have waited. That is no failure: the loop serves the next session.
fn unless_blocked<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether an error of accept(2) concerns one client only: the client or its network is gone, or a firewall refuses it.
/// Others hold for the next client too, above all EMFILE, ENFILE, ENOBUFS and ENOMEM.
fn is_of_one_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted
            | ErrorKind::HostUnreachable
            | ErrorKind::Interrupted
            | ErrorKind::NetworkDown
            | ErrorKind::NetworkUnreachable
            | ErrorKind::PermissionDenied
    )
}
