//! Many clients at once in one thread: the smallest readiness loop that works.
//!
//! ```text
//! cargo run --example tiny_event_loop
//! telnet localhost 8888
//! ```
//!
//! It teaches what changes from the rungs before: no call waits for one client any more. Sockets are non-blocking, and one
//! call, `poll`, waits until any of them is ready to be read or written. What a thread kept on its stack, where in the
//! conversation its client is, becomes a value in a [`Slab`], found by the token that `poll` returns.
//!
//! Readiness is edge-triggered: `poll` tells of a change once. So whoever is told must go on until `WouldBlock`, or the
//! rest is never heard of again.
//!
//! What it does not do is said where it does not do it, after the word "Simplification". okloop itself, in `src/`, is
//! this loop with each of them repaired.

use std::io::{self, ErrorKind, Read, Write};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Registry, Token};
use okloop::{BANNER, CHUNK, PREFIX};
use slab::Slab;

mod listening;

/// No slab key comes near it.
const LISTENER: Token = Token(usize::MAX);

fn main() -> io::Result<()> {
    let [port] = listening::arguments(["PORT"]);
    let listener = listening::listen(listening::port(port, 8888));
    listener.set_nonblocking(true)?;
    let mut listener = TcpListener::from_std(listener);

    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(1024);
    let mut connections = Slab::new();
    loop {
        match poll.poll(&mut events, None) {
            // Stopped with Ctrl-Z and continued with `fg`, for one.
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            result => result?,
        }
        for event in &events {
            if event.token() == LISTENER {
                if let Err(error) = accept_all(&listener, poll.registry(), &mut connections) {
                    listening::complain(format_args!("No session: {error}"));
                }
                continue;
            }
            let key = event.token().0;
            // Simplification: the key of a closed connection is free at once. That is safe as long as a connection ends
            // in its own event only, since each has one event a batch. If one could end another (a chat, a time-out),
            // the next client might be given the key of one whose event is still to come.
            if connections.get_mut(key).is_some_and(|connection: &mut Connection| connection.turn().is_err())
            {
                connections.remove(key);
            }
        }
    }
}

/// Simplification: any error ends the round like `WouldBlock`. With no descriptor left (EMFILE) the clients that wait
/// in the queue make no new edge: they wait until somebody else connects, even if descriptors are free again.
///
/// Simplification: no limit to connections but that one, and no timeout. A client that has silently gone keeps its
/// descriptor for ever.
fn accept_all(listener: &TcpListener, registry: &Registry, slab: &mut Slab<Connection>) -> io::Result<()> {
    while let Some((mut stream, address)) = unless_blocked(listener.accept())? {
        // Simplification: a blocking write, so a terminal stopped with Ctrl-S stops every client with it.
        listening::say(format_args!("Connected with {address}"));
        // An answer leaves at once, even while the client has not acknowledged the one before.
        let _ = stream.set_nodelay(true);
        let entry = slab.vacant_entry();
        // Simplification: always interested in both, so interest never changes. It costs an event for each new socket,
        // which is writable; a welcome one here, as it sends the banner.
        let interest = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut stream, Token(entry.key()), interest)?;
        entry.insert(Connection { stream, owed: BANNER.to_vec() });
    }
    Ok(())
}

struct Connection {
    stream: TcpStream,
    /// What the client has not been sent yet: what a thread would know by being inside `write_all`.
    owed: Vec<u8>,
}

impl Connection {
    /// Writes and reads until the socket would block; an error when the session is over, be it an orderly end.
    ///
    /// It reads only when nothing is owed. So a client that does not read is not read from either and `owed` stays
    /// small, and at the end of input every answer has gone out. Simplification: one write for each chunk, where a
    /// buffer for many would save system calls.
    ///
    /// Simplification: no fair turn. A client that sends as fast as it reads can keep us here, and all others waiting.
    fn turn(&mut self) -> io::Result<()> {
        let mut chunk = [0; CHUNK];
        loop {
            while !self.owed.is_empty() {
                let Some(count) = unless_blocked(self.stream.write(&self.owed))? else { return Ok(()) };
                self.owed.drain(..count);
            }
            let Some(count) = unless_blocked(self.stream.read(&mut chunk))? else { return Ok(()) };
            if count == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            self.owed.extend(PREFIX);
            self.owed.extend(&chunk[..count]);
        }
    }
}

/// `None` where a blocking call would have waited: not a failure, but the sign to serve somebody else.
fn unless_blocked<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}
