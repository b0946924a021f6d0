//! Many clients in one thread: poll(2) watches all sockets.
//!
//! ```text
//! cargo run --example poll_all
//! telnet localhost 8888
//! ```
//!
//! Its idea: no call waits for one client any more. The sockets are non-blocking. One call, `poll`, waits until at
//! least one of them is ready to be read or written. A thread keeps on its stack where in the conversation its client
//! is. Here a value keeps it, a [`Connection`]. When its socket is ready, the session gets one turn,
//! [`Connection::turn`].
//!
//! Readiness is level-triggered: each `poll` reports a socket as long as it is ready. So a turn may read one chunk and
//! stop. And the loop asks for "writable" only while output is pending, because an idle socket is always writable.
//!
//! What it does not do:
//! - Scale: each `poll` looks at every socket, also at the idle ones. `tiny_event_loop`, the next rung, repairs that.
//! - Stay fair: when many clients connect together, all others wait. `loop_fair`.
//! - Serve others while no descriptor is left: all sessions wait during each pause of 100 ms. `loop_fair`.
//! - End a session: a client that vanished without a word keeps its descriptor for ever. `loop_deadlines`.
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
    sessions: Vec<Connection>,
}

impl Server {
    fn new(listener: TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self { listener, sessions: Vec::new() })
    }

    fn run(mut self) -> io::Result<()> {
        loop {
            let (listener_is_ready, sessions_are_ready) = self.wait()?;
            let mut ready = sessions_are_ready.into_iter();
            self.sessions.retain_mut(|session| ready.next() != Some(true) || session.turn().is_ok());
            if listener_is_ready {
                self.accept_new();
            }
        }
    }

    /// Waits until a socket is ready. Returns whether the listener is, and whether each session is.
    fn wait(&self) -> io::Result<(bool, Vec<bool>)> {
        let mut sockets = vec![PollFd::new(&self.listener, PollFlags::IN)];
        sockets.extend(self.sessions.iter().map(|session| PollFd::new(&session.stream, session.interest())));
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
                    self.sessions.extend(Connection::new(stream));
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
    pending: Vec<u8>,
}

impl Connection {
    /// A session begins with the banner. On an error the client has left already.
    fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        // An answer leaves immediately, even while the client has not acknowledged the one before.
        stream.set_nodelay(true)?;
        Ok(Self { stream, pending: BANNER.to_vec() })
    }

    /// What `poll` shall report. A session reads only when no output is pending. So the server does not read from a
    /// client that does not read its answers, and `pending` stays small.
    fn interest(&self) -> PollFlags {
        if self.pending.is_empty() { PollFlags::IN } else { PollFlags::OUT }
    }

    /// Reads and answers one chunk, or goes on writing. `Err` means that the session has ended. A normal end is also an
    /// `Err`.
    fn turn(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            self.read()?;
        }
        self.flush()
    }

    /// Writes as much as the socket takes.
    fn flush(&mut self) -> io::Result<()> {
        while !self.pending.is_empty() {
            let Some(count) = unless_blocked(self.stream.write(&self.pending))? else { break };
            self.pending.drain(..count);
        }
        Ok(())
    }

    /// Reads one chunk and appends its answer.
    fn read(&mut self) -> io::Result<()> {
        let mut chunk = [0; CHUNK];
        let Some(count) = unless_blocked(self.stream.read(&mut chunk))? else { return Ok(()) };
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.pending.extend(PREFIX);
        self.pending.extend(&chunk[..count]);
        Ok(())
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
