//! What this machine allows, read where Linux tells it.

use std::fs;
use std::io;
use std::str::FromStr;

use okloop::Config;

use crate::failure::Failure;

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
    /// Looks around.
    pub fn here() -> Result<Self, Failure> {
        let process_files =
            rlimit::Resource::NOFILE.get_hard().map_err(Failure::system("The open-file limit"))?;
        let [allocated, _, maximum] = numbers("/proc/sys/fs/file-nr")?;
        let [somaxconn] = numbers("/proc/sys/net/core/somaxconn")?;
        let memory = meminfo(["MemAvailable:"]).ok_or(io::ErrorKind::NotFound.into());
        let [memory] = memory.map_err(Failure::system("MemAvailable in /proc/meminfo"))?;
        Ok(Self {
            process_files,
            system_files: maximum.saturating_sub(allocated),
            memory,
            accept_queue: somaxconn.min(Config::default().backlog.into()),
            tracked: tracking(),
        })
    }
}

/// Values of `/proc/meminfo` in bytes, all of one moment.
pub fn meminfo<const N: usize>(names: [&str; N]) -> Option<[u64; N]> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let value = |name| {
        let value = text.lines().find_map(|line| line.strip_prefix(name))?;
        let kilobytes: u64 = value.split_whitespace().next()?.parse().ok()?;
        Some(kilobytes * 1024)
    };
    names.into_iter().map(value).collect::<Option<Vec<_>>>()?.try_into().ok()
}

/// The room in the connection tracking. It tracks every connection or none, loopback included, so a count of 0 means
/// that nobody has asked it to.
fn tracking() -> Option<u64> {
    let [count] = numbers("/proc/sys/net/netfilter/nf_conntrack_count").ok()?;
    let [maximum] = numbers("/proc/sys/net/netfilter/nf_conntrack_max").ok()?;
    (count > 0).then(|| u64::saturating_sub(maximum, count))
}

/// The numbers in a file of so many.
fn numbers<const N: usize>(path: &str) -> Result<[u64; N], Failure> {
    let text = fs::read_to_string(path).map_err(Failure::system(path))?;
    let numbers: Vec<u64> = text.split_whitespace().filter_map(|word| u64::from_str(word).ok()).collect();
    numbers.try_into().map_err(|_| Failure::System(path.to_owned(), io::ErrorKind::InvalidData.into()))
}
