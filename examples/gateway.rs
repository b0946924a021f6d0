//! A gateway: each client gets a connection to the backend, and bytes flow both ways.
//!
//! ```text
//! cargo run --example line_server 9999
//! cargo run --example gateway 8888 127.0.0.1:9999
//! telnet localhost 8888
//! ```
//!
//! It shows outgoing connections, and two sessions that are joined. Each direction is a pipe in memory with a limit. The
//! session that reads from one side fills it, and wakes the other session, which empties it into its own output:
//!
//! ```text
//!   client ──► session of the client ──► pipe ──► session of the backend ──► backend
//!          ◄──                       ◄── pipe ◄──                        ◄──
//! ```
//!
//! A full pipe stops the side that fills it, and nothing else: a client that does not read can still send. The end of
//! input of one side is the end of output of the other one.

use std::cell::RefCell;
use std::collections::HashMap;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use okloop::config::HIGH_WATER;
use okloop::{Buffer, Config, EndOfInput, Origin, Reason, Server, Session, Sizes, Step, Waker};

mod terminal;

/// The most that waits in one pipe (bytes).
const PIPE: usize = 64 * 1024;

/// The two ends of a conversation, as indices.
const CLIENT: usize = 0;
const BACKEND: usize = 1;

/// What one session has for the other one.
#[derive(Default)]
struct Pipe {
    bytes: Vec<u8>,
    has_ended: bool,
}

/// What both sessions of a conversation share. The pipe with an end's index leads to this end.
#[derive(Default)]
struct Pair {
    pipes: [Pipe; 2],
    wakers: [Option<Waker>; 2],
    is_backend_open: bool,
    /// One of the two connections is over.
    has_ended: bool,
    /// What the client is told.
    error: Option<String>,
}

/// One end's session.
struct End {
    index: usize,
    pair: Rc<RefCell<Pair>>,
    has_ended_output: bool,
}

impl Pair {
    fn wake(&self, index: usize) {
        if let Some(waker) = &self.wakers[index] {
            waker.wake();
        }
    }
}

impl End {
    fn new(index: usize, pair: Rc<RefCell<Pair>>, waker: Waker) -> Self {
        pair.borrow_mut().wakers[index] = Some(waker);
        Self { index, pair, has_ended_output: false }
    }

    fn end_pipe(&self) {
        let mut pair = self.pair.borrow_mut();
        let other = 1 - self.index;
        pair.pipes[other].has_ended = true;
        pair.wake(other);
    }
}

impl Session for End {
    fn sizes(&self) -> Sizes {
        let mut sizes = Sizes::default();
        sizes.independent = true;
        sizes
    }

    fn connect_failed(&mut self, error: &io::Error) {
        self.pair.borrow_mut().error = Some(format!("The backend cannot be reached: {error}\n"));
    }

    fn greet(&mut self, _output: &mut Buffer) {
        self.pair.borrow_mut().is_backend_open |= self.index == BACKEND;
    }

    fn answer(&mut self, input: &mut [u8], output: &mut Buffer) -> Step {
        let pair = &mut *self.pair.borrow_mut();
        let other = 1 - self.index;

        // What the other one has for us.
        let incoming = &mut pair.pipes[self.index].bytes;
        let room = HIGH_WATER.saturating_sub(output.len());
        let taken = room.min(incoming.len());
        let was_full = incoming.len() >= PIPE;
        output.push(&incoming[..taken]);
        incoming.drain(..taken);
        if was_full && taken > 0 {
            pair.wake(other);
        }
        if let (true, Some(error)) = (pair.pipes[self.index].bytes.is_empty(), pair.error.take()) {
            output.push(error.as_bytes());
            return Step::Close;
        }

        // What we have for the other one.
        let outgoing = &mut pair.pipes[other];
        let given = input.len().min(PIPE - outgoing.bytes.len());
        let is_first = outgoing.bytes.is_empty();
        outgoing.bytes.extend_from_slice(&input[..given]);
        let has_input_ended = outgoing.has_ended;
        if given > 0 {
            if is_first {
                pair.wake(other);
            }
            return Step::Consumed(given);
        }

        let Pipe { bytes, has_ended: has_output_ended } = &pair.pipes[self.index];
        if *has_output_ended && bytes.is_empty() {
            if has_input_ended {
                return Step::NeedInput;
            }
            if !self.has_ended_output {
                self.has_ended_output = true;
                return Step::EndOutput;
            }
        }
        // Either the pipe is full, or our peer says nothing more and the other one still does.
        if !input.is_empty() || has_input_ended { Step::Wait } else { Step::NeedInput }
    }

    fn end_of_input(&mut self, _end: EndOfInput) {
        self.end_pipe();
    }

    fn closed(&mut self, reason: Reason) {
        self.end_pipe();
        let mut pair = self.pair.borrow_mut();
        pair.has_ended = true;
        // A reset travels on, and a connection without a client is not opened.
        let is_orderly = matches!(reason, Reason::Finished | Reason::Drained | Reason::ConnectFailed);
        let is_needed = self.index == BACKEND || pair.is_backend_open;
        if let (false, Some(other)) = (is_orderly && is_needed, &pair.wakers[1 - self.index]) {
            other.end();
        }
    }
}

fn main() {
    let [port, backend] = terminal::arguments(["PORT", "BACKEND"]);
    let backend = backend.map_or("127.0.0.1:9999".into(), |text| text.to_string_lossy().into_owned());
    let Ok(backend) = backend.parse() else {
        terminal::exit(2, format_args!("{backend}: not an address with a port, such as 127.0.0.1:9999"));
    };
    if let Err(error) = serve(terminal::port(port, 8888), backend) {
        terminal::exit(1, error);
    }
}

fn serve(port: u16, backend: SocketAddr) -> Result<(), Box<dyn Error>> {
    let server = Server::bind(Config { port, ..Config::default() })?;
    terminal::say(format_args!("Socket now listening on {}", server.local_addr()?));
    let handle = server.handle();
    let mut pairs = HashMap::<u64, Rc<RefCell<Pair>>>::new();
    server.run(|client| {
        if let Origin::Outgoing(tag) = client.origin {
            let pair = pairs.remove(&tag).unwrap_or_default();
            if pair.borrow().has_ended {
                client.waker.end();
            }
            return End::new(BACKEND, pair, client.waker);
        }
        let (tag, pair) = (client.waker.number(), Rc::<RefCell<Pair>>::default());
        match handle.connect(backend, tag) {
            Ok(()) => drop(pairs.insert(tag, Rc::clone(&pair))),
            Err(error) => pair.borrow_mut().error = Some(format!("The gateway is busy: {error}\n")),
        }
        End::new(CLIENT, pair, client.waker)
    })?;
    Ok(())
}
