//! The memory that the kernel uses for a server, and charges to no process.
//!
//! The counters are the whole system's, so the growth while the sessions open has both ends of each session in it. The
//! load's end is always the same: a socket, its file, and its entry in epoll. [`end_of_session`] measures it once, and
//! the rest is the server's.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};
use std::{io, mem, thread};

use mio::unix::SourceFd;
use mio::{Interest, Poll, Token};
use procfs::{Current, Meminfo};
use socket2::SockRef;

/// With fewer sessions, what other programs do would be seen more than what the sessions cost.
pub const LEAST_SESSIONS: usize = 1000;
/// With so many sessions the part-filled pages of the kernel's allocator no longer count.
const SESSIONS: u64 = 4000;

/// How long the counters are watched at most, and how often.
const SETTLING: Duration = Duration::from_secs(1);
const GLANCE: Duration = Duration::from_millis(30);
/// The objects of other programs come and go too (bytes).
const NOISE: f64 = 128.0 * 1024.0;

/// The system's counters (bytes), from `/proc/meminfo`: `KernelStack`, a stack for each thread; `PageTables`; and `Slab`:
/// sockets, files, threads, and all other objects of the kernel.
pub type Memory = [f64; 3];

fn now() -> Option<Memory> {
    let counters = Meminfo::current().ok()?;
    Some([counters.kernel_stack?, counters.page_tables?, counters.slab].map(|bytes| bytes as f64))
}

/// The counters when they fall no longer. The kernel frees the objects of closed sessions a little later.
pub fn settled() -> Option<Memory> {
    let deadline = Instant::now() + SETTLING;
    let mut counters = now()?;
    loop {
        thread::sleep(GLANCE);
        let earlier = mem::replace(&mut counters, now()?);
        if earlier[2] - counters[2] < NOISE || Instant::now() > deadline {
            return Some(counters);
        }
    }
}

/// The objects of one end of an idle session (bytes): sessions whose two ends are alike, and both here.
pub fn end_of_session(file_limit: u64) -> io::Result<Option<f64>> {
    // Half of the files are left for what is open already.
    let sessions = SESSIONS.min(file_limit / 4);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let poll = Poll::new()?;
    let before = now();
    let mut ends = Vec::new();
    for _ in 0..sessions {
        for end in [TcpStream::connect(address)?, listener.accept()?.0] {
            poll.registry().register(&mut SourceFd(&end.as_raw_fd()), Token(0), Interest::READABLE)?;
            ends.push(end);
        }
    }
    let after = now();
    for end in &ends {
        // A reset: otherwise the kernel would remember each session for a minute (TIME_WAIT).
        SockRef::from(end).set_linger(Some(Duration::ZERO))?;
    }
    Ok(after.zip(before).map(|(after, before)| (after[2] - before[2]) / ends.len() as f64))
}
