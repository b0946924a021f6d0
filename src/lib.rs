//! A server for very many TCP sessions in one thread: a readiness loop on raw [mio].
//!
//! The loop waits in one call, `poll`, until the kernel reports that sockets are ready. Then each ready session gets a
//! short turn. The loop knows no protocol: a program brings its own, as a type that implements [`Session`]. The command
//! `okloop` serves [`OkSession`](protocols::OkSession), which answers `OK...` and the bytes that the client sent.
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
//!     Server::bind(Config::default())?.run(|_client| Upper)?;
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
//!         writeln!(output, "{}", self.total);
//!         Step::Consumed(end + 1)
//!     }
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     // Port 0: the system chooses a free one.
//!     let config = Config { host: "127.0.0.1".to_owned(), port: 0, ..Config::default() };
//!     let server = Server::bind(config)?;
//!     let (address, handle) = (server.local_addr()?, server.handle());
//!     let running = thread::spawn(move || server.run(|_client| Sum::default()));
//!
//!     let mut client = TcpStream::connect(address)?;
//!     client.write_all(b"20\n22\nbye\n")?;
//!     let mut received = String::new();
//!     client.read_to_string(&mut received)?;
//!     assert_eq!(received, "One number a line\n20\n42\nThat is no number. Goodbye\n");
//!     drop(client);
//!
//!     handle.stop();
//!     let (ending, stats) = running.join().expect("the loop does not panic")?;
//!     assert_eq!(ending, Ending::Drained);
//!     assert_eq!(stats.closed(Reason::Closed), 1);
//!     Ok(())
//! }
//! ```
//!
//! [`Session`] says when the loop calls each method. Four rules are most important:
//!
//! - **A session never blocks.** It shares its thread with all others.
//! - **Input is limited** to the largest request, 16 KiB by default ([`Session::sizes`]). A longer request ends the
//!   session.
//! - **Output is limited** to the largest answer for each call, 32 KiB by default. A session that appends more ends, alone
//!   ([more](Session#a-session-that-goes-wrong)). An answer that is larger goes out in parts: [`Step::More`].
//! - **A session is written to in its own turn only.** Others leave something for it, and wake it ([`Waker`]).
//!
//! # Sessions that talk
//!
//! Sessions that concern each other share data. All of them run on one thread, so an `Rc<RefCell<…>>` is enough. A session
//! that has something for another one puts it there and wakes the other. The loop then gives the other session a turn, and
//! its `answer` takes what is for it:
//!
//! ```
//! use std::cell::RefCell;
//! use std::collections::BTreeMap;
//! use std::rc::Rc;
//!
//! use okloop::conversation::Conversation;
//! use okloop::{Buffer, Client, Session, Step, Waker};
//!
//! /// What a member keeps for news (bytes). What it has not taken by then is lost.
//! const MOST_NEWS: usize = 32 * 1024;
//!
//! /// The members, by the numbers of their sessions: each with its waker and its news.
//! type Room = RefCell<BTreeMap<u64, (Waker, Vec<u8>)>>;
//!
//! struct Member {
//!     room: Rc<Room>,
//!     number: u64,
//! }
//!
//! impl Member {
//!     fn enter(room: &Rc<Room>, client: Client<'_>) -> Self {
//!         let number = client.waker.number();
//!         room.borrow_mut().insert(number, (client.waker, Vec::new()));
//!         Self { room: Rc::clone(room), number }
//!     }
//! }
//!
//! impl Session for Member {
//!     fn answer(&mut self, input: &mut [u8], output: &mut Buffer) -> Step {
//!         let mut room = self.room.borrow_mut();
//!         let (_, news) = room.get_mut(&self.number).expect("it has entered");
//!         output.push(news);
//!         news.clear();
//!         let Some(end) = input.iter().position(|&byte| byte == b'\n') else { return Step::NeedInput };
//!         for (_, (waker, news)) in room.iter_mut().filter(|(number, _)| **number != self.number) {
//!             if news.len() + end < MOST_NEWS {
//!                 news.extend_from_slice(&input[..=end]);
//!             }
//!             waker.wake();
//!         }
//!         Step::Consumed(end + 1)
//!     }
//! }
//!
//! /// The room forgets the member, however its session ends.
//! impl Drop for Member {
//!     fn drop(&mut self) {
//!         self.room.borrow_mut().remove(&self.number);
//!     }
//! }
//!
//! // With a server: server.run(|client| Member::enter(&room, client))
//! let room = Rc::default();
//! let mut ann = Conversation::open(|client| Member::enter(&room, client));
//! let mut bob = Conversation::open(|client| Member::enter(&room, client));
//! ann.send(b"hello\n");
//! assert_eq!(bob.received(), b"hello\n");
//! ```
//!
//! **How much must a member keep?** The turn of a woken session comes after the batch of events, and in each iteration only
//! [`WAKE_BUDGET`](config::WAKE_BUDGET) of them get theirs. So between two turns of one member every other one can have
//! several, and in each it can answer many requests. Keep at least a few requests of every member that may speak. A member
//! whose client does not read falls behind any limit: drop what it misses, and tell it how much.
//!
//! **To let others have their turns**, a session wakes itself and returns [`Step::Wait`]. All woken sessions have a turn
//! before one of them has two. What it has not consumed, it is given again. Do this after some requests that wake others.
//! Otherwise one client that sends a thousand lines in one packet fills the room before anybody takes a line.
//!
//! The example `chat` does both for ten thousand members: a line stands in its room once. A game's world
//! moves even while no client types: [`Server::run_with_tick`] calls a function again and again, which may wake sessions.
//!
//! # Tests and layers
//!
//! [`conversation`] tests a session without a socket. The example `line_server` is one more server to copy from, and so is
//! the command's second server: `src/bin/okloop/http.rs` answers HTTP/1.1 in a hundred lines, with a deadline for half a
//! request and with many requests on a connection. A layer is a session around a session ([an example](Session#layers)):
//! [`Telnet`](protocols::Telnet) takes telnet commands out of the input of any other. The layer `Proxy` (feature
//! `proxy-protocol`) makes its session when a balancer has named the client. A layer
//! that needs scratch memory makes one [`Buffer`] for all its sessions, and shares it in an `Rc<RefCell<Buffer>>`. It clears
//! the buffer before each use, because a session may have panicked.
//!
//! # What the library does not do
//!
//! It serves TCP and Unix sockets, and no UDP. It has no TLS, and asks no name servers. One loop uses one processor: start
//! several processes on one port ([`Config::reuse_port`]), or several servers in threads.
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
//!   not read. A session has a deadline of its own ([`Session::timer`]).
//! - **An end in order.** After [`Step::Close`] the client gets all pending output, although it may still be sending. A
//!   session keeps its place until the client's kernel has everything.
//! - **Drain.** [`Handle::stop`] closes the listening sockets, lets the sessions answer what the clients had sent, and
//!   waits until they end, at most [`Config::drain_timeout`]. A session's last word is
//!   [`ending`](Session::ending) with [`Reason::Drained`].
//! - **Counters.** [`Stats`] counts sessions, bytes, and why each session ended ([`Reason`]).
//!
//! The limit of open files is the program's too: it bounds the sessions, and the library does not raise it.
//!
//! Signals belong to the program: catch SIGTERM, and call [`Handle::stop`]. With the crate `ctrlc` and its feature
//! `termination`, this is `ctrlc::set_handler(move || handle.stop())`. The command `okloop` does it with [`Server::watch`],
//! without a second thread. The log goes through the [log] crate, to the logger that the program sets
//! up. The logger must not block, and neither must the report of a panic: [`log_panics`].
//!
//! # The way of a byte
//!
//! ```text
//!      kernel                                okloop
//!  ┌────────────┐  token    ┌──────────────────────────────────────────────┐
//!  │ epoll      ├──────────►│ Sessions ─── turn(cause) ───────► Connection │
//!  │            │◄──────────┤          ◄── interest() ────────             │
//!  ├────────────┤  interest │                                              │
//!  │ the        │  read     │                                              │
//!  │ client's   ├──────────►│ input Buffer ──────┐                         │
//!  │ socket     │  write    │                    ▼                         │
//!  │            │◄──────────┤ output Buffer ◄─── Session::answer           │
//!  └────────────┘           └──────────────────────────────────────────────┘
//! ```
//!
//! The kernel reports that a socket may be ready, with the session's token. The loop finds the session in the
//! slab and gives it one turn. The connection reads into its input buffer. The protocol takes the bytes from there and
//! appends its answer to the output buffer. The connection writes as much of it as the socket takes. If output is
//! pending after that, WRITABLE joins the interest, and the next event continues there. Bytes move in one direction only,
//! along this one path.
//!
//! # The order to read in
//!
//! First NOTES.md, the course, with the programs in `examples`: chapters 1 to 9, from `google_get` to `loop_deadlines`.
//! Then, with chapters 10 to 15, these files:
//!
//! 1. `session.rs`: the trait between the loop and a protocol. `protocols/ok.rs`: the protocol of the command. Neither
//!    knows a socket or a clock.
//! 2. `buffer.rs`: the byte queue for both directions, and the pool that idle sessions return theirs to.
//! 3. `readiness.rs`: what an event says. `connection/state.rs`, `connection/turn.rs` and `connection.rs`: the state
//!    machine of one connection.
//! 4. `deadlines.rs` and `caught_up.rs`: the time-outs in the order in which they are due, and the time up to which the
//!    loop has handled everything.
//! 5. `acceptor.rs`: a listening socket, and what each accept error means. `wakes.rs`, `requests.rs` and `handle.rs`: what
//!    reaches the loop from other sessions and threads.
//! 6. `sessions.rs`: the table of all sessions. `server.rs`: the loop, which joins all of these. After it, only details
//!    are left:
//! 7. `config.rs` (settings and limits), `reason.rs` and `stats.rs` (why sessions ended, and how many), `socket.rs`,
//!    `listen.rs` and `error.rs` (how a server starts, and why it cannot), `panics.rs` (sessions that panic),
//!    `protocols/telnet.rs` and `protocols/proxy.rs` (layers), `trace.rs` (each step, for the log and a recorder).
//!
//! Then chapter 16 of NOTES.md, the rules of readiness in one table. Chapter 19 has exercises.
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
//! - An idle session costs its slab entry and its mark (at most 96 bytes beside the session's own value), and no heap.
//! - With nothing to do, the process makes no system call.
//!
//! [mio]: https://docs.rs/mio
//! [log]: https://docs.rs/log

mod acceptor;
mod address;
mod buffer;
mod caught_up;
mod client;
pub mod config;
mod connection;
pub mod conversation;
mod deadlines;
mod error;
mod handle;
mod listen;
mod panics;
pub mod protocols;
mod readiness;
mod reason;
mod requests;
mod server;
mod session;
mod sessions;
mod socket;
mod stats;
pub mod trace;
mod wakes;

pub use address::Address;
pub use buffer::Buffer;
pub use client::{Client, Origin};
pub use config::Config;
pub use error::StartError;
pub use handle::Handle;
pub use panics::log_panics;
pub use reason::Reason;
pub use requests::ConnectQueueFull;
pub use server::{Ending, Server};
pub use session::{AtDeadline, EndOfInput, Session, Sizes, Step, Timer};
pub use stats::{ParseStatsError, Stats};
pub use wakes::Waker;
