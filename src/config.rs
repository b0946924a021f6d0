//! What can be set, and every limit that cannot, each with its unit and its reason.

use std::time::Duration;

use crate::protocol::{CHUNK, Framing, PREFIX};

/// What an operator chooses. `Config::default()` is the tutorial's server at today's size.
#[derive(Debug, Clone)]
pub struct Config {
    /// The address or name to listen on. `0.0.0.0` is the tutorial's `HOST = ''`: every IPv4 interface.
    pub host: String,
    /// The TCP port; 0 lets the system choose a free one ([`crate::Server::local_addr`] says which).
    pub port: u16,
    /// How many finished handshakes may wait to be accepted (connections). The kernel caps it at
    /// `net.core.somaxconn`. The tutorial's `listen(10)` overflows as soon as eleven clients knock at once.
    pub backlog: u32,
    /// How many sessions may be open (connections). `None` is no limit but that of open files, and a client above that
    /// waits in the backlog and is not told why.
    pub max_connections: Option<usize>,
    /// How many clients may be told at one time that the server is full (connections).
    pub max_refusals: usize,
    /// What counts as one thing to answer.
    pub framing: Framing,
    /// How long a client that is owed nothing may be silent. `None`, for ever, because an idle telnet session is the
    /// normal case.
    pub idle_timeout: Option<Duration>,
    /// How long a client may take nothing more of what we owe it. `None` is for ever. Its progress shows in steps, half of
    /// [`UNSENT`] or what its own kernel lets free up before it opens the window again: with 60 s a client must read
    /// some 3 kB a second while it is owed more than the kernel holds.
    pub write_timeout: Option<Duration>,
    /// How long a stopping server waits for owed answers to be taken and for clients to end.
    pub drain_timeout: Duration,
    /// Whether other processes of this user may listen on the same port too, the kernel spreading new sessions over
    /// them (`SO_REUSEPORT`, socket(7)).
    pub reuse_port: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            host: "0.0.0.0".to_owned(),
            port: 8888,
            backlog: 4096,
            max_connections: None,
            max_refusals: MAX_REFUSALS,
            framing: Framing::Chunks,
            idle_timeout: None,
            write_timeout: Some(Duration::from_secs(60)),
            drain_timeout: Duration::from_secs(10),
            reuse_port: false,
        }
    }
}

/// Open files that are not sessions, rounded up: the standard streams, the listener, epoll, the waker, the signals'
/// socket pair, and [`MAX_REFUSALS`] clients that are told that the server is full.
pub const RESERVED_FILES: u64 = 32;

/// Clients being told at once that the server is full (connections). One more, and the oldest of them is cut off: a
/// crowd at a full server must not use up the open files.
pub const MAX_REFUSALS: usize = 16;

/// How long a refused client has to take its refusal and end.
pub const REFUSAL_TIMEOUT: Duration = Duration::from_secs(2);

/// How much a session may have read when its turn ends (bytes); the read that reaches it may go beyond by what fits in
/// the input buffer. A firehose then waits for the others' turns.
pub const READ_BUDGET: usize = 64 * 1024;

/// How much of what a session sends is still answered once the server stops (bytes). What had arrived by then is at most
/// what the kernel holds for one socket (`net.ipv4.tcp_rmem`: 32 MiB by default, 6 MiB in older kernels); a client that
/// sends without a pause would otherwise never be through. More than [`READ_BUDGET`].
pub const DRAIN_BUDGET: u32 = 64 * 1024 * 1024;

/// The most clients that one round of the loop accepts (connections), so that a crowd knocking does not keep those inside
/// waiting. In a quiet round it is fewer ([`crate::acceptor::Acceptor::share`]).
pub const ACCEPT_BUDGET: usize = 64;

/// The most clients that are still let in when the server stops (connections): as many as the default backlog holds.
/// Without a limit a crowd that goes on knocking would keep the server from stopping.
pub const LAST_ACCEPTS: usize = 4096;

/// How long accepting pauses when the system has no room for one more, unless a session ends before that.
pub const ACCEPT_RETRY: Duration = Duration::from_secs(1);

/// Events taken from one `poll` (events). More stay in the kernel for the next round.
pub const EVENTS: usize = 1024;

/// The input buffer of a session (bytes), whole chunks. It is also the longest line that is answered in one piece.
pub const INPUT_BUFFER: usize = 16 * CHUNK;

/// Owed output from which on a session is not read any more (bytes).
pub const HIGH_WATER: usize = 64 * 1024;

/// Owed output below which a session is read again (bytes). Far enough below [`HIGH_WATER`] that reading does not
/// stop and start at every write.
pub const LOW_WATER: usize = 16 * 1024;

/// The output buffer of a session (bytes): below [`HIGH_WATER`] there is always room for the answer to all that the
/// input buffer can hold in one piece, so reading never stops for lack of room with nothing owed.
pub const OUTPUT_BUFFER: usize = HIGH_WATER + PREFIX.len() + INPUT_BUFFER;

/// How much of our output the kernel takes for one session before it can send it (bytes, `TCP_NOTSENT_LOWAT`). By itself
/// it takes megabytes, and says that there is room again only when a third of them is gone: a client that reads 10 kB a
/// second would pass for one that does not read at all, and one that does not would cost that much.
pub const UNSENT: u32 = 64 * 1024;

/// Spare pairs of buffers kept for the next sessions that need one (pairs). In a round without slow readers one pair
/// serves everybody; this many spare ones ride out a burst without asking the allocator.
pub const SPARE_BUFFERS: usize = 16;

/// How long a connection may be silent before the kernel asks whether its peer is still there (tcp(7),
/// `TCP_KEEPIDLE`). Short enough to find vanished peers the same hour, long enough to cost nothing.
pub const KEEPALIVE: Duration = Duration::from_secs(300);
