//! A gateway: each client gets a connection to the backend, and bytes flow both ways.
//!
//! ```text
//! cargo run --example line_server 9999
//! cargo run --example gateway 8888 127.0.0.1:9999
//! telnet localhost 8888
//! ```
//!
//! It shows connections that the server opens itself, and two sessions that are joined. Each direction is a pipe in memory
//! with a limit. The session that reads from one side fills it, and wakes the other session, which empties it into its own
//! output:
//!
//! ```text
//!   client ──► session of the client ──► pipe ──► session of the backend ──► backend
//!          ◄──                       ◄── pipe ◄──                        ◄──
//! ```
//!
//! A full pipe stops the side that fills it, and nothing else: a client that does not read can still send. When one side
//! ends its direction, the other side gets the rest of the pipe and then the same end. When one connection fails, the other
//! one ends too.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use okloop::config::HIGH_WATER;
use okloop::{Buffer, Client, Config, EndOfInput, Handle, Origin, Reason, Session, Sizes, Step, Waker};

mod serving;
mod terminal;

/// The most that waits in one pipe (bytes).
const PIPE: usize = 64 * 1024;

/// Each client has one to the gateway, and the gateway has one to the backend.
const CONNECTIONS: usize = 2 * 10_000;

/// What one session has for the other one.
#[derive(Default)]
struct Pipe {
    bytes: Vec<u8>,
    /// No more follows.
    has_ended: bool,
    /// Wakes the session that empties it. `None` until that session is made.
    reader: Option<Waker>,
}

/// The session of one side.
#[derive(Default)]
pub struct Side {
    incoming: Rc<RefCell<Pipe>>,
    outgoing: Rc<RefCell<Pipe>>,
    has_ended_output: bool,
}

impl Side {
    fn other(&self) -> Self {
        let (incoming, outgoing) = (Rc::clone(&self.outgoing), Rc::clone(&self.incoming));
        Self { incoming, outgoing, has_ended_output: false }
    }

    /// Moves at most `room` bytes from the other side to the output.
    fn take(&self, room: usize, output: &mut Buffer) {
        let bytes = &mut self.incoming.borrow_mut().bytes;
        let (was_full, count) = (bytes.len() == PIPE, bytes.len().min(room));
        output.push(&bytes[..count]);
        bytes.drain(..count);
        if was_full && count > 0 {
            // The other session may wait for room.
            self.outgoing.borrow().reader.iter().for_each(Waker::wake);
        }
    }

    /// Gives the other side as much as the pipe has room for. Returns how many bytes.
    fn give(&self, input: &[u8]) -> usize {
        let mut pipe = self.outgoing.borrow_mut();
        let (was_empty, count) = (pipe.bytes.is_empty(), input.len().min(PIPE - pipe.bytes.len()));
        pipe.bytes.extend_from_slice(&input[..count]);
        if was_empty && count > 0 {
            pipe.reader.iter().for_each(Waker::wake);
        }
        count
    }
}

impl Session for Side {
    fn sizes(&mut self) -> Sizes {
        let mut sizes = Sizes::new(PIPE, PIPE);
        sizes.independent = true;
        sizes
    }

    fn connect_failed(&mut self, error: &io::Error) {
        self.give(format!("The backend cannot be reached: {error}\n").as_bytes());
    }

    fn answer(&mut self, input: &mut [u8], output: &mut Buffer) -> Step {
        // What fits above high water is for `ending`.
        self.take(HIGH_WATER.saturating_sub(output.len()), output);
        let given = self.give(input);
        if given > 0 {
            return Step::Consumed(given);
        }
        let (incoming, outgoing) = (self.incoming.borrow(), self.outgoing.borrow());
        let is_output_complete = incoming.has_ended && incoming.bytes.is_empty();
        match (outgoing.has_ended, is_output_complete) {
            // Both directions have ended, and the session ends.
            (true, true) => Step::NeedInput,
            (false, true) if !self.has_ended_output => {
                self.has_ended_output = true;
                Step::EndOutput
            }
            (false, _) if input.is_empty() => Step::NeedInput,
            // The pipe is full, or only the other side still speaks.
            _ => Step::Wait,
        }
    }

    fn end_of_input(&mut self, _: EndOfInput) {
        let mut pipe = self.outgoing.borrow_mut();
        pipe.has_ended = true;
        pipe.reader.iter().for_each(Waker::wake);
    }

    /// The other connection has failed. What it said before that still goes out.
    fn ending(&mut self, _: Reason, output: &mut Buffer) {
        self.take(PIPE, output);
    }

    fn closed(&mut self, reason: Reason) {
        if !matches!(reason, Reason::Finished | Reason::Drained) {
            self.outgoing.borrow().reader.iter().for_each(Waker::end);
        }
    }
}

/// Makes the sessions of both sides.
pub fn gateway(handle: Handle, backend: SocketAddr) -> impl FnMut(Client<'_>) -> Side {
    let mut connecting = HashMap::new();
    move |client| {
        let side = if let Origin::Outgoing(tag) = client.origin {
            connecting.remove(&tag).unwrap_or_default()
        } else {
            let (side, tag) = (Side::default(), client.waker.number());
            match handle.connect(backend, tag) {
                Ok(()) => _ = connecting.insert(tag, side.other()),
                Err(error) => side.other().connect_failed(&io::Error::other(error)),
            }
            side
        };
        if Rc::strong_count(&side.incoming) == 1 {
            // There is no session of the other side, or it is over.
            client.waker.end();
        }
        side.incoming.borrow_mut().reader = Some(client.waker);
        side
    }
}

fn main() {
    let [port, backend] = terminal::arguments(["PORT", "BACKEND"]);
    let backend = backend.map_or("127.0.0.1:9999".into(), |text| text.to_string_lossy().into_owned());
    let Ok(backend) = backend.parse() else {
        terminal::exit(2, format_args!("{backend}: not an address with a port, such as 127.0.0.1:9999"));
    };
    let port = terminal::port(port, 8888);
    let server = serving::bind(Config { port, max_connections: CONNECTIONS, ..Config::default() });
    let sessions = gateway(server.handle(), backend);
    server.run(sessions).unwrap_or_else(|error| terminal::exit(1, error));
}
