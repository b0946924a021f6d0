//! Many clients in one thread: a connection that waits for too long ends.
//!
//! ```text
//! cargo run --example loop_deadlines
//! telnet localhost 8888
//! ```
//!
//! Arguments: the port, and the time-out in seconds, 300 by default. Chapter 9 of NOTES.md explains it.
//!
//! What it does not do, and okloop, in `src/`, does:
//! - Survive Ctrl-S: if it stops the server's terminal, all clients wait.
//! - Stop in order (drain): when the server ends, answers can be lost.
//! - Tell clients that the server is full: they wait in the accept queue.
//! - Save system calls: each chunk costs a read and a write.

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

/// The high water mark: at this much pending output the server stops reading from the client (bytes). When the socket
/// becomes writable and less is pending, reading starts again.
const HIGH_WATER: usize = 64 * 1024;

/// How much a connection reads in one turn (chunks). Then it is the next one's turn.
const READ_BUDGET: usize = 64;

/// How many clients are accepted for one event (connections). Then it is the turn of the others.
const ACCEPT_BUDGET: usize = 64;

/// How long accepting pauses if no connection ends before that.
const ACCEPT_RETRY: Duration = Duration::from_secs(1);

fn main() -> io::Result<()> {
    let [port, seconds] = terminal::arguments(["PORT", "SECONDS"]);
    let timeout = terminal::seconds(seconds, 300);
    Server::new(listening::listen(terminal::port(port, 8888)), timeout)?.run()
}

struct Server {
    poll: Poll,
    listener: TcpListener,
    /// Every connection by its key, which is also its token.
    connections: Slab<Connection>,
    /// The system has no room for one more client. Accepting goes on when a connection ends, or at this time.
    accept_paused: Option<Instant>,
    /// When each connection is late, and its key, sorted by time. `src/deadlines.rs` needs no sorted tree for this.
    deadlines: BTreeSet<(Instant, usize)>,
    timeout: Duration,
    /// Connections that have closed during this batch.
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
            connections: Slab::new(),
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
            self.end_late_connections();
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
            // Simplification: while every batch is full, no connection is late.
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

    /// Starts a connection. Its first turn writes the banner, which fits in an empty socket.
    fn open(&mut self, stream: TcpStream) {
        // An answer leaves immediately, even while the client has not acknowledged the one before.
        let _ = stream.set_nodelay(true);
        let key = self.connections.insert(Connection::new(stream, self.now));
        self.turn(key);
    }

    /// Gives a connection its turn. It may have ended already: an event is a hint.
    fn turn(&mut self, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        // Simplification: each turn moves the deadline, even one that moves no byte. src looks at the bytes.
        self.deadlines.remove(&(connection.deadline, key));
        connection.deadline = self.now + self.timeout;
        self.deadlines.insert((connection.deadline, key));
        match connection.turn() {
            Ok(stopped_early) => self.update_registration(key, stopped_early),
            Err(_) => self.close(key),
        }
    }

    /// Tells epoll what to report of a connection from now on, if that has changed or the connection must be re-armed.
    fn update_registration(&mut self, key: usize, stopped_early: bool) {
        let connection = &mut self.connections[key];
        let wanted = connection.interest();
        let result = match connection.registered {
            Some(interest) if interest == wanted && !stopped_early => return,
            Some(_) => self.poll.registry().reregister(&mut connection.stream, Token(key), wanted),
            None => self.poll.registry().register(&mut connection.stream, Token(key), wanted),
        };
        connection.registered = Some(wanted);
        if let Err(error) = result {
            terminal::complain(format_args!("No session: {error}"));
            self.close(key);
        }
    }

    /// Closes the connections that were late before `caught_up_to`, not before `now`: their events may still be in the
    /// kernel.
    ///
    /// Simplification: the kernel reports room only when a third of the socket's send buffer is free. A slow reader can
    /// be late although it reads. src limits how much waits in that buffer.
    fn end_late_connections(&mut self) {
        while let Some(&(due, key)) = self.deadlines.first()
            && due <= self.caught_up_to
        {
            self.deadlines.pop_first();
            self.close(key);
        }
    }

    /// Marks a connection as closed. It keeps its key until [`Server::remove_closed`].
    fn close(&mut self, key: usize) {
        self.closed.push(key);
    }

    /// Frees the keys of closed connections: the one place that closes sockets.
    fn remove_closed(&mut self) {
        let have_room = !self.closed.is_empty();
        for key in self.closed.drain(..) {
            // Closing the socket also ends its registration (epoll(7), "Questions and answers"). The key may be there
            // twice: macOS and FreeBSD report a connection up to twice in a batch.
            if let Some(connection) = self.connections.try_remove(key) {
                self.deadlines.remove(&(connection.deadline, key));
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

impl Connection {
    /// A connection begins with the banner.
    fn new(stream: TcpStream, now: Instant) -> Self {
        Self { stream, pending: BANNER.to_vec(), half_closed: false, registered: None, deadline: now }
    }

    /// What `poll` shall report. It depends on the state alone.
    fn interest(&self) -> Interest {
        match (self.reads(), self.pending.is_empty()) {
            (true, true) => Interest::READABLE,
            (true, false) => Interest::READABLE | Interest::WRITABLE,
            (false, _) => Interest::WRITABLE,
        }
    }

    fn reads(&self) -> bool {
        !self.half_closed && self.pending.len() < HIGH_WATER
    }

    /// Writes and reads until the socket would block, or until the read budget is used up. Returns whether it stopped
    /// early. `Err` means that the connection has ended. A normal end is also an `Err`.
    fn turn(&mut self) -> io::Result<bool> {
        let mut chunks = 0;
        self.flush()?;
        while self.reads() && self.read()? {
            self.flush()?;
            chunks += 1;
            if chunks == READ_BUDGET {
                return Ok(true);
            }
        }
        if self.half_closed && self.pending.is_empty() {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(false)
    }

    /// Writes as much as the socket takes.
    fn flush(&mut self) -> io::Result<()> {
        while !self.pending.is_empty() {
            let Some(count) = unless_blocked(self.stream.write(&self.pending))? else { break };
            self.pending.drain(..count);
        }
        Ok(())
    }

    /// Reads one chunk and appends its answer. Returns whether the socket may hold more.
    fn read(&mut self) -> io::Result<bool> {
        let mut chunk = [0; CHUNK];
        let Some(count) = unless_blocked(self.stream.read(&mut chunk))? else { return Ok(false) };
        if count == 0 {
            self.half_closed = true;
            return Ok(false);
        }
        self.pending.extend(PREFIX);
        self.pending.extend(&chunk[..count]);
        Ok(true)
    }
}

/// `None` where a blocking call would have waited. That is no failure: the loop serves the next client.
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
