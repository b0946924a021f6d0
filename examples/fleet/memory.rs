//! What memory is in use, seen from several sides, because no single figure is the whole truth.

use std::fs;

use crate::limits::meminfo;
use crate::procfs;

/// The kernel's objects that a connection consists of: the socket, its inode, its open file, its entry in epoll and
/// the head of the list of such entries.
const SOCKET_CACHES: [&str; 5] = ["TCP", "sock_inode_cache", "filp", "eventpoll_epi", "ep_head"];
/// The size of a page where slabs are counted in pages (bytes).
const PAGE: u64 = 4096;

/// Bytes in use.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// By the server processes (their resident sets).
    pub servers: u64,
    /// By the client processes.
    pub clients: u64,
    /// By the kernel's objects of a connection, those of both ends. Only root may read it (`/proc/slabinfo`).
    pub sockets: Option<u64>,
    /// By all of the kernel's objects (`Slab` in `/proc/meminfo`): the above, and what belongs to no connection. A
    /// monitor that looks into `/proc/PID/fd` makes the kernel remember each of these names, for example.
    pub kernel: u64,
    /// By nobody, or by files that could be read again (`MemFree`, `Buffers`, `Cached`): what this loses is everything.
    /// `MemAvailable` would count half of the sockets as available, for they lie in caches that can be shrunk as a rule.
    pub free: u64,
}

impl Memory {
    /// Looks; `None` where the system does not tell.
    pub fn now(servers: impl Iterator<Item = u32>, clients: impl Iterator<Item = u32>) -> Option<Self> {
        let [kernel, free, buffers, cached] = meminfo(["Slab:", "MemFree:", "Buffers:", "Cached:"])?;
        let resident = |process| procfs::memory(process).map(|memory| memory.resident);
        Some(Self {
            servers: servers.map(resident).sum::<Option<u64>>()?,
            clients: clients.map(resident).sum::<Option<u64>>()?,
            sockets: sockets(),
            kernel,
            free: free + buffers + cached,
        })
    }
}

/// The bytes in the caches of a connection's objects. Half-empty pages count whole: nobody else can use them.
fn sockets() -> Option<u64> {
    let slabinfo = fs::read_to_string("/proc/slabinfo").ok()?;
    let pages = slabinfo.lines().filter_map(|line| {
        // Name, objects in use, objects, size, objects a slab, pages a slab, …, slabs in use, slabs, …
        let fields: Vec<&str> = line.split_whitespace().collect();
        let number = |place: usize| fields.get(place)?.parse::<u64>().ok();
        SOCKET_CACHES.contains(fields.first()?).then_some(number(5)? * number(14)?)
    });
    Some(pages.sum::<u64>() * PAGE)
}
