//! What the parts of the laboratory share. Nothing here knows a part.
//!
//! | module | what it has |
//! |---|---|
//! | [`candidates`] | the servers that are tried, and the options that add some |
//! | [`programs`] | where the project's programs are, and that they are up to date |
//! | [`server`] | the one way to start a server |
//! | [`child`] | a child process that ends with its guard |
//! | [`log`] | what a server writes |
//! | [`sockets`] | the kernel's table of TCP sockets |
//! | [`protocol`] | what a server says |
//! | [`load`] | the one load engine: any number of clients, each byte checked |
//! | [`failure`] | each way in which a server, or this machine, can fail |
//! | [`interrupt`] | Ctrl-C |
//! | [`processors`] | a processor for the load alone |
//! | [`latency`] | latencies in a histogram |
//! | [`usage`] | what a process uses: processor time, memory, threads |
//! | [`machine`] | the machine's description |
//! | [`output`] | lines, progress and files |
//! | [`picture`] | the one way to draw |
//! | [`words`] | numbers as text |

pub mod candidates;
pub mod child;
pub mod failure;
pub mod interrupt;
pub mod latency;
pub mod load;
pub mod log;
pub mod machine;
pub mod output;
pub mod picture;
pub mod processors;
pub mod programs;
pub mod protocol;
pub mod server;
pub mod sockets;
pub mod usage;
pub mod words;

pub use self::candidates::{Added, By, Candidate, Origin};
pub use self::child::{ChildGuard, Descendants, end_descendants, kill_descendants};
pub use self::failure::Failure;
pub use self::interrupt::Interrupt;
pub use self::log::Log;
pub use self::output::{complain, prepare, progress, say, try_to_say, write};
pub use self::processors::OwnProcessor;
pub use self::protocol::{Answer, BANNER, CHUNK, End, FULL_MESSAGE, Framing, PREFIX, Protocol};
pub use self::server::{Process, Server, Setup, as_typed};
pub use self::sockets::{has_timer, is_listening, waiting_clients};
pub use self::words::{bytes, count, in_microseconds, many, microseconds, thousands, time};
