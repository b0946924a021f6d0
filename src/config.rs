//! What can be set, and every limit, each with its unit and its reason.

use std::time::Duration;

/// What an operator chooses. `Config::default()` is the tutorial's server at today's size.
#[derive(Debug, Clone)]
pub struct Config {
    /// The address or name to listen on. A name that has several addresses is served on all of them. Default:
    /// `0.0.0.0`, the tutorial's `HOST = ''`: every IPv4 interface.
    pub host: String,
    /// The TCP port. With 0 the system chooses a free one; [`crate::Server::local_addr`] says which. Default: 8888.
    pub port: u16,
    /// How many complete handshakes may wait to be accepted (connections). The kernel lowers this to
    /// `net.core.somaxconn`. The tutorial's `listen(10)` overflows when eleven clients connect at the same time.
    /// Default: 4096.
    pub backlog: u32,
    /// How many sessions may be open at the same time (connections). Their table grows with the sessions, so a large
    /// number costs nothing. Default: 10,000.
    pub max_connections: usize,
    /// How many clients may be told at the same time that the server is full (connections). One more, and the oldest
    /// of them is closed. Default: 16.
    pub max_refusals: usize,
    /// What a client above `max_connections` is told, before its connection is closed. It goes through no session, and
    /// so through no layer: on a port for TLS it is an alert, or empty. What exceeds the output buffer is cut off.
    /// Default: [`FULL_MESSAGE`].
    pub full_message: Vec<u8>,
    /// How long a client may be silent. The time starts with the client's last byte, or when the answers to it have
    /// left the output buffer. What other sessions cause to be sent does not count. `None` is for ever: an idle telnet
    /// session is the normal case. Default: `None`.
    pub idle_timeout: Option<Duration>,
    /// How long pending output may wait while the server's kernel takes none of it, and how long the kernel may wait
    /// at the end of a session while the client's kernel takes none of it. `None` is for ever. Default: 60 s.
    ///
    /// The kernel takes output in steps, so a slow reader must read one step within this time. The step is half of
    /// [`NOTSENT_LOWAT`]. If it is more, the step is a sixteenth of the client's receive buffer: a client's kernel
    /// whose buffer was full asks for more only when this much is free (Linux `net/ipv4/tcp_output.c`,
    /// `__tcp_select_window`). With 60 s a client must read 550 B/s if its receive buffer has 128 KiB, and 35 kB/s if
    /// it has 32 MiB.
    pub write_timeout: Option<Duration>,
    /// How long an outgoing connection may take to open ([`Handle::connect`](crate::Handle::connect)). Default: 10 s.
    pub connect_timeout: Duration,
    /// How long a client has to end its direction after the server has ended its own, because the protocol closed the
    /// session or because the client was refused. The time starts when the client's kernel has everything. Where a
    /// kernel cannot tell that (all but Linux), it starts with the server's end. Default: 2 s.
    pub linger_timeout: Duration,
    /// How long a stopping server waits until clients have read their answers and ended the connection. Supervisors
    /// have a patience of their own (`docker stop`: 10 s), and this must be shorter. Default: 8 s.
    pub drain_timeout: Duration,
    /// Whether other processes of the same user may listen on the same port. The kernel then spreads new sessions over
    /// them (`SO_REUSEPORT`, socket(7)). Default: no.
    pub reuse_port: bool,
}

impl Config {
    /// Whether this system has [`Config::reuse_port`]. macOS gives all sessions to one process, and Windows lets another
    /// program take the port.
    pub const CAN_REUSE_PORT: bool =
        cfg!(any(target_os = "linux", target_os = "android", target_os = "freebsd"));
}

impl Default for Config {
    fn default() -> Self {
        Self {
            host: "0.0.0.0".to_owned(),
            port: 8888,
            backlog: 4096,
            max_connections: 10_000,
            max_refusals: 16,
            full_message: FULL_MESSAGE.into(),
            idle_timeout: None,
            write_timeout: Some(Duration::from_secs(60)),
            connect_timeout: Duration::from_secs(10),
            linger_timeout: Duration::from_secs(2),
            drain_timeout: Duration::from_secs(8),
            reuse_port: false,
        }
    }
}

/// What refused clients are told if nothing else is configured.
pub const FULL_MESSAGE: &str = "The server is full. Please try again later\n";

/// How much a session may read in one turn (bytes). The read that reaches the budget may exceed it by the size of the
/// input buffer. After that a flood waits for the turns of the other sessions.
pub const READ_BUDGET: usize = 64 * 1024;

/// How many reads a session may make in one turn. With an empty input buffer, [`READ_BUDGET`] needs five. A protocol
/// that keeps its input buffer nearly full leaves room for a few bytes in each read.
pub const READS: usize = 16;

/// How much a session may write in one turn before the next write waits for its next turn (bytes). Only a protocol
/// that answers far more than it reads reaches it. More than the output buffer holds.
pub const WRITE_BUDGET: usize = 256 * 1024;

/// How many answers a session may make in one turn. A read budget of empty lines is 65,536 answers, some milliseconds,
/// and the other sessions would wait for all of them.
pub const ANSWER_BUDGET: usize = 1024;

/// How much input of a session is still answered after the server has started to drain (bytes). The input that had
/// arrived by then is at most what the kernel holds for one socket (`net.ipv4.tcp_rmem`: 32 MiB by default, 6 MiB in
/// older kernels). A client that sends without a pause would never be finished. More than [`READ_BUDGET`].
pub const DRAIN_BUDGET: u32 = 64 * 1024 * 1024;

/// The most clients that one iteration accepts (connections), while the sessions wait. In a quiet iteration it is fewer
/// (`Acceptor::accept_quota`).
pub const ACCEPT_BUDGET: usize = 64;

/// After this many clients in a row, an iteration accepts as many at a time (connections). It saves a crowd the calls of
/// an iteration for each client, and costs one `accept` more when the crowd ends.
pub const CROWD: usize = 8;

/// After a stop, a session that was opened or has read something within this time before is read for as long again: more
/// may be on its way. A session that the server had held back (its window was closed) is read until nothing has come for
/// this long.
pub const QUIET: Duration = Duration::from_secs(1);

/// How long accepting pauses when the system has no room for one more connection, unless a session ends first.
pub const ACCEPT_RETRY: Duration = Duration::from_secs(1);

/// The most sessions that one iteration ends because of a time-out, or starts to drain (sessions), while the others
/// wait. To close a socket that never was read costs the kernel some 40 µs.
pub const END_BUDGET: usize = 64;

/// How many places of the table one iteration looks at when sessions start to drain (places). Most may be empty, after
/// a crowd that has left.
pub const DRAIN_SCAN: usize = 4096;

/// The most woken sessions that get a turn in one iteration (sessions), while the sessions with events wait. A broadcast
/// wakes all sessions together.
pub const WAKE_BUDGET: usize = 64;

/// How many sessions with pending output a report names (sessions).
pub const REPORTED: usize = 10;

/// How many outgoing connections may be asked for and not begun yet (connections). One more is an error to the session
/// that asks.
pub const CONNECT_QUEUE: usize = 1024;

/// How many outgoing connections may be under way at one time (connections). More wait until one of them has opened or
/// failed.
pub const MOST_CONNECTING: usize = 1024;

/// The most outgoing connections that one iteration begins (connections), while the sessions wait.
pub const CONNECT_BUDGET: usize = 64;

/// How many events one `poll` returns at most (events). More stay in the kernel for the next iteration.
pub const EVENTS: usize = 1024;

/// The longest request of a session that asks for no other length (bytes, [`Sizes`](crate::Sizes)). A larger input
/// buffer (64 KiB) made a flood no faster.
pub const INPUT_BUFFER: usize = 16 * 1024;

/// The longest header of the PROXY protocol (bytes). One of version 1 has 107 at most. One of version 2 may hold fields
/// beside the addresses, such as the name in a client's certificate.
pub const PROXY_HEADER: usize = 4096;

/// How long a proxy has to send its header. The protocol's text asks for three seconds at least, in which the kernel sends
/// a lost segment again (`HAProxy`, "The PROXY protocol", section 2).
pub const PROXY_HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// High water mark: with this much pending output a session is not read (bytes). The output buffer holds this much and
/// the largest answer, so below the mark there is always room for one more answer.
///
/// There is no low water mark, below which reading starts again. The kernel has one already: it reports a socket
/// writable only when half of [`NOTSENT_LOWAT`] is free. A second one changed no count of system calls.
pub const HIGH_WATER: usize = 64 * 1024;

/// How much output the kernel takes from one session before it can send it (bytes, `TCP_NOTSENT_LOWAT`, tcp(7)).
/// Without this limit the kernel takes megabytes, and reports room again only when a third of them is gone: a client
/// that reads 10 kB a second would look like one that does not read.
pub const NOTSENT_LOWAT: u32 = 64 * 1024;

/// Spare buffers of each direction that are kept for the next sessions (buffers). One pair serves all sessions of an
/// iteration that have nothing in flight. More are kept for bursts.
pub const SPARE_BUFFERS: usize = 16;

/// How long a connection may be silent before the kernel asks whether the client is still there (`TCP_KEEPIDLE`,
/// tcp(7)). Short enough to find a vanished client within the hour, long enough to cost nothing.
pub const KEEPALIVE: Duration = Duration::from_secs(300);

/// The limits of one turn, and where backpressure starts. The tests of all schedules use smaller ones.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budgets {
    pub high_water: usize,
    pub read: usize,
    pub reads: usize,
    pub write: usize,
    pub answers: usize,
    pub drain: u32,
    /// For all sessions together, in one iteration.
    pub woken: usize,
}

impl Budgets {
    pub const DEFAULT: Self = Self {
        high_water: HIGH_WATER,
        read: READ_BUDGET,
        reads: READS,
        write: WRITE_BUDGET,
        answers: ANSWER_BUDGET,
        drain: DRAIN_BUDGET,
        woken: WAKE_BUDGET,
    };
}
