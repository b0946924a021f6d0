//! Many clients in one thread: a turn has a limit, and accepting survives a lack of descriptors.
//!
//! ```text
//! cargo run --example loop_fair
//! telnet localhost 8888
//! ```
//!
//! Chapter 8 of NOTES.md explains it.
//!
//! What it does not do, and the rung that repairs it:
//! - Accept when another program has freed descriptors: accepting waits until a connection ends. `loop_deadlines`.
//! - End a connection: a client that vanished without a word keeps its descriptor for ever. `loop_deadlines`.
//! - Survive Ctrl-S: if it stops the server's terminal, all clients wait. okloop, `src/`.
//! - Stop in order (drain): when the server ends, answers can be lost. okloop, `src/`.

use std::io::{self, ErrorKind, Read, Write};

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

fn main() -> io::Result<()> {
    let [port] = terminal::arguments(["PORT"]);
    Server::new(listening::listen(terminal::port(port, 8888)))?.run()
}

struct Server {
    poll: Poll,
    listener: TcpListener,
    /// Every connection by its key, which is also its token.
    connections: Slab<Connection>,
    /// The system has no room for one more client. Accepting goes on when a connection ends.
    accept_paused: bool,
}

impl Server {
    fn new(listener: std::net::TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let mut listener = TcpListener::from_std(listener);
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Self { poll, listener, connections: Slab::new(), accept_paused: false })
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
        }
    }

    /// Waits until a socket is ready.
    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        match self.poll.poll(events, None) {
            // Ctrl-Z and `fg`, for example. There are no events then.
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            result => result,
        }
    }

    fn accept_new(&mut self) {
        // A new client makes no room. The pause ends with `rearm_listener`, which reports this client again.
        if self.accept_paused {
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
                // Simplification: if no connection is open, none can end, and the queued clients are stuck.
                Err(error) => {
                    terminal::complain(format_args!("No session: {error}"));
                    self.accept_paused = true;
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
            self.accept_paused = true;
        }
    }

    /// Starts a connection. Its first turn writes the banner, which fits in an empty socket.
    fn open(&mut self, stream: TcpStream) {
        // An answer leaves immediately, even while the client has not acknowledged the one before.
        let _ = stream.set_nodelay(true);
        let key = self.connections.insert(Connection::new(stream));
        self.turn(key);
    }

    /// Gives a connection its turn. It may have ended already: an event is a hint.
    fn turn(&mut self, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        match connection.turn() {
            Ok(stopped_early) => self.update_registration(key, stopped_early),
            Err(_) => self.remove(key),
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
            self.remove(key);
        }
    }

    fn remove(&mut self, key: usize) {
        // Closing the socket also ends its registration (epoll(7), "Questions and answers").
        //
        // Simplification: the key is free before the batch is over. `loop_deadlines`.
        self.connections.remove(key);
        if self.accept_paused {
            self.accept_paused = false;
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
}

impl Connection {
    /// A connection begins with the banner.
    fn new(stream: TcpStream) -> Self {
        Self { stream, pending: BANNER.to_vec(), half_closed: false, registered: None }
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
