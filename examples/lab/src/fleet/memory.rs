//! The memory in use, counted in several ways, because no single figure is the whole truth.

use std::fs;

use procfs::{Current, Meminfo};

use crate::support::usage;

/// The kernel's objects of a connection: the socket, its inode, its open file, its entry in epoll and the head of the
/// list of such entries.
const SOCKET_CACHES: [&str; 5] = ["TCP", "sock_inode_cache", "filp", "eventpoll_epi", "ep_head"];

/// Bytes in use.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// By the server processes (their resident sets).
    pub servers: u64,
    /// By the client processes.
    pub clients: u64,
    /// By the kernel's objects of a connection, those of both ends. Only root may read it (`/proc/slabinfo`).
    pub sockets: Option<u64>,
    /// By all of the kernel's objects (`Slab` in `/proc/meminfo`), also those of no connection.
    pub kernel: u64,
    /// Free, or used for files that can be read again (`MemFree`, `Buffers`, `Cached`): everything else takes from it.
    /// `MemAvailable` would count half of the sockets as available, because the kernel can usually shrink their caches.
    pub free: u64,
}

impl Memory {
    /// The memory in use now; `None` where the system does not tell.
    pub fn now(servers: impl Iterator<Item = u32>, clients: impl Iterator<Item = u32>) -> Option<Self> {
        let machine = Meminfo::current().ok()?;
        let resident = |process| usage::memory(process).map(|[resident, _]| resident);
        Some(Self {
            servers: servers.map(resident).sum::<Option<u64>>()?,
            clients: clients.map(resident).sum::<Option<u64>>()?,
            sockets: sockets(),
            kernel: machine.slab,
            free: machine.mem_free + machine.buffers + machine.cached,
        })
    }
}

/// The bytes in the caches of a connection's objects. Half-empty pages count whole: no other object can use them.
fn sockets() -> Option<u64> {
    let slabinfo = fs::read_to_string("/proc/slabinfo").ok()?;
    let pages = slabinfo.lines().filter_map(|line| {
        // Name, objects in use, objects, size, objects a slab, pages a slab, …, slabs in use, slabs, …
        let fields: Vec<&str> = line.split_whitespace().collect();
        let number = |place: usize| fields.get(place)?.parse::<u64>().ok();
        SOCKET_CACHES.contains(fields.first()?).then_some(number(5)? * number(14)?)
    });
    Some(pages.sum::<u64>() * procfs::page_size())
}
