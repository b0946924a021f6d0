//! A single-threaded readiness loop on raw [mio] that greets every telnet session with a banner and answers `OK...` to
//! whatever it is sent. It is the missing last chapter of a socket tutorial that ends with a thread for each client,
//! and it is written to be read: by those who study non-blocking I/O, run it for very many sessions, or compare it with
//! the threads.
//!
//! # One byte's way through
//!
//! ```text
//!        kernel                                    okloop
//!  ┌───────────────┐  token   ┌──────────────────────────────────────────────────────┐
//!  │ epoll         ├─────────►│ Server: wait ─► look the token up in the slab        │
//!  │               │          │   ▲                      │ turn(readiness)           │
//!  │               │ interest │   │                      ▼                           │
//!  │               │◄─────────┼─ settle ◄──── Connection (one session's state)       │
//!  └───────────────┘          │                │                    ▲                │
//!  ┌───────────────┐   read   │                ▼                    │                │
//!  │ the session's ├─────────►│  input Buffer ──► Session::answer ──┤                │
//!  │ socket        │   write  │                                     ▼                │
//!  │               │◄─────────┼──────────────────────────── output Buffer            │
//!  └───────────────┘          └──────────────────────────────────────────────────────┘
//! ```
//!
//! The kernel says that a socket may be ready ([`Server::run`] waits for nothing else). The session of that token gets
//! one fair turn ([`connection::Connection::turn`]): it reads into its input buffer, the protocol
//! ([`protocol::Session::answer`]) takes the bytes from there and appends the answer to the output buffer, and that is
//! written at once, as far as the socket takes it. If bytes remain, [`connection::Connection::interest`] adds WRITABLE,
//! and the next readiness continues there. No byte takes a step back, and there is no second way.
//!
//! # The order to read in
//!
//! 1. [`protocol`]: the conversation. Bytes in, answers out; no socket, no clock, no log.
//! 2. [`buffer`]: the byte queue both directions use, and the pool that idle sessions give theirs back to.
//! 3. [`readiness`] and [`connection`]: one session's state machine over anything that reads and writes.
//! 4. [`deadlines`] and [`timeouts`]: a queue in which they fall due in order, and which one a session is under.
//! 5. [`acceptor`]: the listening socket, and what each accept error means.
//! 6. [`server`]: the loop that brings them together. With this, the rest is detail:
//! 7. [`control`] (signals and handles), [`config`] (every setting and every limit), [`reason`] and [`stats`] (why
//!    sessions ended, and how many), [`error`] (why a server cannot start), [`logging`] (the terminal is a peer too).
//!
//! NOTES.md beside the code is the course: from the first socket call to the rules of edge-triggered readiness.
//!
//! # What holds everywhere
//!
//! - Nothing blocks except `poll`. One thread runs the loop.
//! - Interest is derived from a session's state by one pure function.
//! - Every buffer, every queue, every turn and every batch has a limit, and the limits stand in [`config`].
//! - One place closes a socket, after the batch of events is through.
//! - The clock is read once a round and handed down.
//! - An idle session costs its slab entry and nothing on the heap, unless half a line of it waits or a time-out runs.
//!
//! # Embedding
//!
//! ```
//! use okloop::{Config, Ending, Server};
//! use std::thread;
//!
//! let config = Config { host: "127.0.0.1".to_owned(), port: 0, ..Config::default() };
//! let server = Server::bind(config)?;
//! println!("telnet {}", server.local_addr()?);
//!
//! let handle = server.handle();
//! let running = thread::spawn(move || server.run());
//! handle.stop()?;
//! let (ending, stats) = running.join().expect("the loop does not panic")?;
//! assert_eq!(ending, Ending::Drained);
//! println!("{stats}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

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

pub use buffer::Buffer;
pub use config::{Config, INPUT_BUFFER};
pub use control::Handle;
pub use error::StartError;
pub use ok::{BANNER, CHUNK, Framing, OkSession, PREFIX};
pub use reason::Reason;
pub use server::{Ending, Server};
pub use session::{Session, Step};
pub use stats::{ParseStatsError, Stats};
