//! What this machine allows.

use std::fs;

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
}

impl Limits {
    /// The limits of this machine.
    pub fn here() -> Result<Self, Failure> {
        let process_files =
            rlimit::Resource::NOFILE.get_hard().map_err(Failure::system("The open-file limit"))?;
        let unknown = |what: &'static str| move |error| Failure::System(format!("{what}: {error}"));
        let files = procfs::sys::fs::file_nr().map_err(unknown("fs.file-nr"))?;
        let memory = Meminfo::current().map_err(unknown("/proc/meminfo"))?;
        let accept_queue = fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap_or_default();
        Ok(Self {
            process_files,
            system_files: files.max.saturating_sub(files.allocated),
            memory: memory.mem_available.unwrap_or(memory.mem_free),
            accept_queue: accept_queue.trim().parse().unwrap_or(128).min(Config::default().backlog.into()),
        })
    }
}
