//! A server for very many TCP sessions in one thread: a readiness loop on raw [mio].
//!
//! The loop waits in one call, `poll`, until the kernel reports that sockets are ready. Then each ready session gets a
//! short turn. The loop knows no protocol: a program brings its own, as a type that implements [`Session`]. The command
//! `okloop` serves [`OkSession`], which answers `OK...` and the bytes that the client sent.
//!
//! # A protocol of your own
//!
//! The library alone, without what only the command needs:
//!
//! ```toml
//! [dependencies]
//! okloop = { path = "../okloop", default-features = false }
//! ```
//!
//! A complete server that answers in capital letters:
//!
//! ```no_run
//! use okloop::{Buffer, Config, Server, Session, Step};
//!
//! struct Upper;
//!
//! impl Session for Upper {
//!     fn answer(&mut self, input: &mut [u8], output: &mut Buffer) -> Step {
//!         input.make_ascii_uppercase();
//!         output.push(input);
//!         Step::Consumed(input.len())
//!     }
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     // On port 8888, until the process ends.
//!     Server::bind(Config::default(), |_address| Upper)?.run()?;
//!     Ok(())
//! }
//! ```
//!
//! A session that keeps state, with its server and one client in one program. The server adds up numbers:
//!
//! ```
//! use std::io::{Read, Write};
//! use std::net::TcpStream;
//! use std::thread;
//!
//! use okloop::{Buffer, Config, Ending, Reason, Server, Session, Step};
//!
//! /// What the server remembers of one client.
//! #[derive(Default)]
//! struct Sum {
//!     total: i64,
//! }
//!
//! impl Session for Sum {
//!     fn greet(&mut self, output: &mut Buffer) {
//!         output.push(b"One number a line\n");
//!     }
//!
//!     fn answer(&mut self, input: &mut [u8], output: &mut Buffer) -> Step {
//!         let Some(end) = input.iter().position(|&byte| byte == b'\n') else {
//!             // Only a part of the line has arrived.
//!             return Step::NeedInput;
//!         };
//!         let line = String::from_utf8_lossy(&input[..end]);
//!         let Ok(number) = line.trim().parse::<i64>() else {
//!             output.push(b"That is no number. Goodbye\n");
//!             return Step::Close;
//!         };
//!         self.total = self.total.saturating_add(number);
//!         output.push(format!("{}\n", self.total).as_bytes());
//!         Step::Consumed(end + 1)
//!     }
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     // Port 0: the system chooses a free one.
//!     let config = Config { host: "127.0.0.1".to_owned(), port: 0, ..Config::default() };
//!     let server = Server::bind(config, |_address| Sum::default())?;
//!     let (address, handle) = (server.local_addr()?, server.handle());
//!     let running = thread::spawn(move || server.run());
//!
//!     let mut client = TcpStream::connect(address)?;
//!     client.write_all(b"20\n22\nbye\n")?;
//!     let mut received = String::new();
//!     client.read_to_string(&mut received)?;
//!     assert_eq!(received, "One number a line\n20\n42\nThat is no number. Goodbye\n");
//!     drop(client);
//!
//!     handle.stop()?;
//!     let (ending, stats) = running.join().expect("the loop does not panic")?;
//!     assert_eq!(ending, Ending::Drained);
//!     assert_eq!(stats.closed(Reason::Closed), 1);
//!     Ok(())
//! }
//! ```
//!
//! What each part of the trait is for:
//!
//! | part | when the loop calls it | what it does |
//! |---|---|---|
//! | [`greet`](Session::greet) | once, first | appends what the client reads first |
//! | [`answer`](Session::answer) | when input has arrived, and after each write | answers a request, or asks for more input, or ends the session |
//! | [`end_of_input`](Session::end_of_input) | when no more input follows | notes it; then the loop calls `answer` |
//! | [`LARGEST_ANSWER`](Session::LARGEST_ANSWER) | | the most that one call appends, 32 KiB by default |
//!
//! Only `answer` is required. It must know three things:
//!
//! - **Input is limited to 16 KiB** ([`INPUT_BUFFER`]). A longer request ends the session without a message. The example
//!   `line_server` sends a message and closes before that.
//! - **Input can be empty**: at the start, after a write, and at the end of input.
//! - **Output is limited to `LARGEST_ANSWER` for each call.** Above that, [`Buffer::push`] panics. The panic ends this
//!   session only ([more](Session#a-session-that-goes-wrong)).
//!
//! The example `line_server` is one more server to copy from. A layer is a session around a session: [`Telnet::new`]
//! takes telnet commands out of the input of any other.
//!
//! What the server does for every protocol:
//!
//! - **Limits.** A client above [`Config::max_connections`] is told that the server is full. When the system has no
//!   room for one more socket, accepting pauses, and the open sessions go on.
//! - **Backpressure.** The server stops reading from a client that does not read its answers, so the answers that wait
//!   for it (its pending output) have a limit.
//! - **Turns.** Each session gets short turns, and each turn has a budget. A client that sends without a pause (a flood)
//!   stops at its budget, and the other sessions get their turns.
//! - **Time-outs.** [`Config::idle_timeout`] ends silent sessions. [`Config::write_timeout`] ends those whose client does
//!   not read.
//! - **A polite end.** After [`Step::Close`] the client gets all pending output, although it may still be sending.
//! - **Drain.** [`Handle::stop`] closes the listening socket, lets the sessions answer what has arrived, and waits until
//!   they end, at most [`Config::drain_timeout`].
//! - **Counters.** [`Stats`] counts sessions, bytes, and why each session ended ([`Reason`]).
//!
//! Signals belong to the program: catch SIGTERM, and call [`Handle::stop`]. The command `okloop` does so. The log goes
//! through the [log] crate, to the logger that the program sets up.
//!
//! # The way of a byte
//!
//! ```text
//!      kernel                                okloop
//!  ┌────────────┐  token    ┌──────────────────────────────────────────────┐
//!  │ epoll      ├──────────►│ Server ──── turn(readiness) ────► Connection │
//!  │            │◄──────────┤        ◄──── interest() ─────────            │
//!  ├────────────┤  interest │                                              │
//!  │ the        │  read     │                                              │
//!  │ client's   ├──────────►│ input Buffer ──────┐                         │
//!  │ socket     │  write    │                    ▼                         │
//!  │            │◄──────────┤ output Buffer ◄─── Session::answer           │
//!  └────────────┘           └──────────────────────────────────────────────┘
//! ```
//!
//! The kernel reports that a socket may be ready, with the session's token. [`Server::run`] finds the session in the
//! slab and gives it one turn. The connection reads into its input buffer. The protocol takes the bytes from there and
//! appends its answer to the output buffer. The connection writes as much of it as the socket takes. If output is
//! pending after that, WRITABLE joins the interest, and the next event continues there. Bytes move in one direction only,
//! along this one path.
//!
//! # The order to read in
//!
//! First NOTES.md, the course, with the programs in `examples`: chapters 1 to 9, from `google_get` to `loop_deadlines`.
//! Then, with chapter 10, these files:
//!
//! 1. `session.rs`: the trait between the loop and a protocol. `ok.rs`: the protocol of the command. Neither knows a
//!    socket or a clock.
//! 2. `buffer.rs`: the byte queue for both directions, and the pool that idle sessions return theirs to.
//! 3. `readiness.rs` and `connection.rs`: what an event says, and the state machine of one session.
//! 4. `deadlines.rs` and `caught_up.rs`: the time-outs in the order in which they are due, and the time up to which the
//!    loop has handled everything.
//! 5. `acceptor.rs`: the listening socket, and what each accept error means.
//! 6. `server.rs`: the loop, which joins all of these. After it, only details are left:
//! 7. `control.rs` (signals and handles), `config.rs` (settings and limits), `reason.rs` and `stats.rs` (why sessions
//!    ended, and how many), `listen.rs` and `error.rs` (how a server starts, and why it cannot), `telnet.rs` (a layer).
//!
//! Then chapter 11 of NOTES.md, the rules of readiness in one table. Chapter 15 has exercises.
//!
//! # Invariants
//!
//! These statements are true at any time:
//!
//! - Only `poll` blocks. One thread runs the loop.
//! - The protocol does no I/O and reads no clock. A connection knows neither `Poll` nor the slab.
//! - Interest is a pure function of a connection's state.
//! - Every buffer, queue, batch (the events of one `poll`) and retry has a limit, and the limits are in `config.rs`.
//! - One place closes sockets, after the batch.
//! - The loop reads the clock once an iteration (one `poll` and what follows) and passes the time down.
//! - An idle session costs its slab entry (at most 128 bytes), and no heap.
//! - With nothing to do, the process makes no system call.
//!
//! [mio]: https://docs.rs/mio
//! [log]: https://docs.rs/log

#[doc(hidden)]
pub mod acceptor;
#[doc(hidden)]
pub mod buffer;
mod caught_up;
#[doc(hidden)]
pub mod config;
#[doc(hidden)]
pub mod connection;
mod control;
#[doc(hidden)]
pub mod deadlines;
mod error;
mod listen;
mod ok;
#[doc(hidden)]
pub mod platform;
#[doc(hidden)]
pub mod readiness;
mod reason;
mod server;
mod session;
mod stats;
mod telnet;
pub mod trace;

pub use buffer::Buffer;
pub use config::{Config, INPUT_BUFFER};
pub use control::Handle;
pub use error::StartError;
pub use ok::{BANNER, CHUNK, Framing, OkSession, PREFIX};
pub use reason::Reason;
pub use server::{Ending, Server};
pub use session::{Session, Step};
pub use stats::{ParseStatsError, Stats};
pub use telnet::Telnet;
