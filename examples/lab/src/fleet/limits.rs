//! What this machine allows.

use std::fs;
use std::io::{self, ErrorKind};

use okloop::Config;
use procfs::{Current, Meminfo};

use crate::support::Failure;

/// The limits that decide how many sessions fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Open files that one process may have (the hard limit of `RLIMIT_NOFILE`).
    pub process_files: u64,
    /// Open files that all processes together may still have (`fs.file-nr`, `fs.file-max`).
    pub system_files: u64,
    /// Bytes of memory that are left (`MemAvailable`).
    pub memory: u64,
    /// Finished handshakes that may wait for one listening socket: its backlog, capped by `net.core.somaxconn`.
    pub accept_queue: u64,
    /// Connections that the firewall's connection tracking still has room for, where it tracks any.
    pub tracked: Option<u64>,
}

impl Limits {
    /// The limits of this machine.
    pub fn here() -> Result<Self, Failure> {
        let process_files =
            rlimit::Resource::NOFILE.get_hard().map_err(Failure::system("The open-file limit"))?;
        let unknown = |what: &'static str| move |error| Failure::System(format!("{what}: {error}"));
        let files = procfs::sys::fs::file_nr().map_err(unknown("fs.file-nr"))?;
        let memory = Meminfo::current().map_err(unknown("/proc/meminfo"))?;
        let accept_queue = number("/proc/sys/net/core/somaxconn").map_err(Failure::system("somaxconn"))?;
        Ok(Self {
            process_files,
            system_files: files.max.saturating_sub(files.allocated),
            memory: memory.mem_available.unwrap_or(memory.mem_free),
            accept_queue: accept_queue.min(Config::default().backlog.into()),
            tracked: tracking(),
        })
    }
}

/// The room in the connection tracking. It tracks every connection or none, loopback included: a count of 0 means none.
fn tracking() -> Option<u64> {
    let count = number("/proc/sys/net/netfilter/nf_conntrack_count").ok()?;
    let maximum = number("/proc/sys/net/netfilter/nf_conntrack_max").ok()?;
    (count > 0).then(|| maximum.saturating_sub(count))
}

/// The number in a file of one.
fn number(path: &str) -> io::Result<u64> {
    fs::read_to_string(path)?.trim().parse().map_err(|_| ErrorKind::InvalidData.into())
}
