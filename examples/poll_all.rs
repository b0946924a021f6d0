//! Many clients in one thread: poll(2) watches all sockets.
//!
//! ```text
//! cargo run --example poll_all
//! telnet localhost 8888
//! ```
//!
//! Chapter 5 of NOTES.md explains it.
//!
//! What it does not do:
//! - Scale: each `poll` looks at every socket, even at the idle ones. `tiny_event_loop`, the next rung, repairs that.
//! - Limit pending output: a client that sends and never reads takes all memory. `loop_backpressure`.
//! - Accept and serve by turns: when many clients connect together, all others wait. `loop_fair`.
//! - Serve others while no descriptor is left: all clients wait during each pause of 100 ms. `loop_fair`.
//! - End a connection: a client that vanished without a word keeps its descriptor for ever. `loop_deadlines`.
//! - Survive Ctrl-S: if it stops the server's terminal, all clients wait. okloop, `src/`.
//! - Stop in order (drain): when the server ends, answers can be lost. okloop, `src/`.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use okloop::protocols::{BANNER, CHUNK, PREFIX};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

mod listening;
mod terminal;

fn main() -> io::Result<()> {
    let [port] = terminal::arguments(["PORT"]);
    Server::new(listening::listen(terminal::port(port, 8888)))?.run()
}

struct Server {
    listener: TcpListener,
    connections: Vec<Connection>,
}

impl Server {
    fn new(listener: TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self { listener, connections: Vec::new() })
    }

    fn run(mut self) -> io::Result<()> {
        loop {
            let (listener_is_ready, connections_are_ready) = self.wait()?;
            let mut ready = connections_are_ready.into_iter();
            self.connections.retain_mut(|connection| ready.next() != Some(true) || connection.turn().is_ok());
            if listener_is_ready {
                self.accept_new();
            }
        }
    }

    /// Waits until a socket is ready. Returns whether the listener is, and whether each connection is.
    fn wait(&self) -> io::Result<(bool, Vec<bool>)> {
        let mut sockets = vec![PollFd::new(&self.listener, PollFlags::IN)];
        sockets.extend(self.connections.iter().map(|each| PollFd::new(&each.stream, each.interest())));
        match poll(&mut sockets, None) {
            // Ctrl-Z and `fg`, for example. No socket is marked as ready then.
            Err(Errno::INTR) => {}
            result => _ = result?,
        }
        let mut ready = sockets.iter().map(|socket| !socket.revents().is_empty());
        Ok((ready.next() == Some(true), ready.collect()))
    }

    fn accept_new(&mut self) {
        loop {
            match unless_blocked(self.listener.accept()) {
                Ok(Some((stream, address))) => {
                    // Simplification: this write blocks, so a terminal stopped with Ctrl-S stops every client with it.
                    terminal::say(format_args!("Connected with {address}"));
                    self.connections.extend(Connection::new(stream));
                }
                Ok(None) => return,
                Err(error) => {
                    terminal::complain(format_args!("No session: {error}"));
                    // Simplification: all clients wait during this pause. Without it, `poll` would report the queued
                    // client again immediately, and the loop would spin.
                    thread::sleep(Duration::from_millis(100));
                    return;
                }
            }
        }
    }
}

struct Connection {
    stream: TcpStream,
    /// Pending output: answers that the socket has not taken yet. A thread needs no such field: `write_all` waits.
    ///
    /// Simplification: it has no limit.
    pending: Vec<u8>,
    /// The client has ended its direction. It may still read, so the server sends all pending output first.
    half_closed: bool,
}

impl Connection {
    /// A connection begins with the banner. On an error the client has left already.
    fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        // An answer leaves immediately, even while the client has not acknowledged the one before.
        stream.set_nodelay(true)?;
        Ok(Self { stream, pending: BANNER.to_vec(), half_closed: false })
    }

    /// What `poll` shall report. It depends on the state alone.
    fn interest(&self) -> PollFlags {
        match (self.reads(), self.pending.is_empty()) {
            (true, true) => PollFlags::IN,
            (true, false) => PollFlags::IN | PollFlags::OUT,
            (false, _) => PollFlags::OUT,
        }
    }

    fn reads(&self) -> bool {
        !self.half_closed
    }

    /// Writes, then reads and answers one chunk. `Err` means that the connection has ended. A normal end is also an
    /// `Err`.
    fn turn(&mut self) -> io::Result<()> {
        self.flush()?;
        if self.reads() && self.read()? {
            self.flush()?;
        }
        if self.half_closed && self.pending.is_empty() {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(())
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
