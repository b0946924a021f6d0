//! How many sessions each process gets, and whether this machine has what that takes. It is known before any process
//! starts.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;

use okloop::Config;
use procfs::{Current, Meminfo};

use crate::fleet::arguments::Arguments;
use crate::fleet::message::Share;
use crate::support::{Failure, bytes, count};

/// Open files that a process has besides its sessions: a server's are its own, those of its metrics, and its refusals.
const RESERVED_FILES: u64 = 64;

/// The ports that a client process connects from. Below are those that other programs may be listening on.
pub const PORTS: RangeInclusive<u16> = 10_000..=u16::MAX;
/// The first source address. 127.0.0.1 is left to the servers and to other programs.
const FIRST_SOURCE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// How many sessions one client process opens at a time, at most. With more, each only waits longer.
const IN_FLIGHT: usize = 128;
/// What one session costs the kernel and the processes at both its ends (bytes), rounded up from what was measured.
const SESSION_MEMORY: u64 = 10 * 1024;
/// What one process costs before its first session (bytes), rounded up.
const PROCESS_MEMORY: u64 = 4 * 1024 * 1024;
/// The kernel spreads the sessions by chance. The plan allows each server five standard deviations more than its even
/// share, which chance exceeds once in 3 million times.
const DEVIATIONS: usize = 5;

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

/// Splits the sessions among client processes with an address each, or says what is missing for it.
pub fn shares(wish: &Arguments, target: SocketAddr, limits: &Limits) -> Result<Vec<Share>, Failure> {
    check_servers(wish, limits)?;
    // Each client process has the ports of one address.
    let capacity = capacity(limits).min(PORTS.len());
    let clients = wish.sessions.div_ceil(capacity).max(wish.clients).min(wish.sessions);
    check_machine(wish, clients, limits)?;

    // Even if every handshake under way is for one server, its accept queue holds them all. The kernel would drop a
    // handshake that finds the queue full, and repeat it after a second.
    let accept_queue = usize::try_from(limits.accept_queue).unwrap_or(usize::MAX);
    let in_flight = (accept_queue / clients).clamp(1, IN_FLIGHT);
    let active = wish.active.min(wish.sessions);
    Ok((0..clients)
        .zip(FIRST_SOURCE.to_bits()..)
        .map(|(client, source)| Share {
            target,
            source: Ipv4Addr::from_bits(source),
            first: start_of(client, clients, wish.sessions),
            sessions: share_of(client, clients, wish.sessions),
            active: share_of(client, clients, active),
            in_flight,
        })
        .collect())
}

/// The most sessions that one of so many servers will be given.
fn largest(sessions: usize, processes: usize) -> usize {
    let mean = sessions.div_ceil(processes);
    if processes == 1 { mean } else { mean + DEVIATIONS * mean.isqrt() }
}

fn check_servers(wish: &Arguments, limits: &Limits) -> Result<(), Failure> {
    let (capacity, &Arguments { processes, sessions, .. }) = (capacity(limits), wish);
    let fits = |processes: &usize| largest(sessions, *processes) <= capacity;
    if fits(&processes) {
        return Ok(());
    }
    let advice = (processes..sessions).find(fits);
    let advice = advice.map_or_else(String::new, |enough| format!("; --processes {enough} is enough"));
    let (wanted, largest, files) = (count(sessions), largest(sessions, processes), limits.process_files);
    Err(Failure::Impossible(format!(
        "{wanted} sessions over {processes} processes are up to {largest} each by chance, and a process that may have \
         {files} open files serves {capacity}{advice}"
    )))
}

/// The sessions that the open files of one process allow, at either end.
fn capacity(limits: &Limits) -> usize {
    usize::try_from(limits.process_files.saturating_sub(RESERVED_FILES)).unwrap_or(usize::MAX)
}

fn check_machine(wish: &Arguments, clients: usize, limits: &Limits) -> Result<(), Failure> {
    let sessions = wish.sessions as u64;
    let processes = (wish.processes + clients) as u64;
    let files = 2 * sessions + processes * RESERVED_FILES;
    let memory = sessions * SESSION_MEMORY + processes * PROCESS_MEMORY;
    let wanted = count(sessions);
    let missing = if files > limits.system_files {
        let (files, left) = (count(files), count(limits.system_files));
        format!("{wanted} sessions are {files} open files at both ends, and fs.file-max leaves {left}")
    } else if memory > limits.memory {
        let (memory, left) = (bytes(memory as f64), bytes(limits.memory as f64));
        let taken = format!("{wanted} sessions and {processes} processes take up to {memory} at both ends");
        format!("{taken}, and {left} are available")
    } else {
        return Ok(());
    };
    Err(Failure::Impossible(missing))
}

/// Where the share of one of `parts` in `whole` begins. The shares differ by one at most.
fn start_of(part: usize, parts: usize, whole: usize) -> usize {
    part * whole / parts
}

fn share_of(part: usize, parts: usize, whole: usize) -> usize {
    start_of(part + 1, parts, whole) - start_of(part, parts, whole)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MACHINE: Limits =
        Limits { process_files: 20_000, system_files: 2_466_170, memory: 23 << 30, accept_queue: 4096 };
    const MILLION: Arguments = Arguments {
        processes: 53,
        sessions: 1_000_000,
        active: 1000,
        clients: 1,
        seconds: Duration::ZERO,
        port: 8888,
    };

    fn plan(wish: &Arguments, limits: &Limits) -> Result<Vec<Share>, String> {
        shares(wish, SocketAddr::from(([127, 0, 0, 1], 8888)), limits).map_err(|failure| failure.to_string())
    }

    #[test]
    fn a_million_fits_on_a_machine_of_24_gib() {
        let shares = plan(&MILLION, &MACHINE).unwrap();
        assert_eq!(shares.len(), 51);
        assert_eq!(shares.iter().map(|share| share.sessions).sum::<usize>(), 1_000_000);
        assert_eq!(shares.iter().map(|share| share.active).sum::<usize>(), 1000);
        assert!(shares.iter().all(|share| share.sessions + 64 <= 20_000));
        assert!(shares.windows(2).all(|pair| pair[0].first + pair[0].sessions == pair[1].first));
        assert!(shares.windows(2).all(|pair| pair[0].source < pair[1].source));
        assert!(shares.iter().map(|share| share.in_flight).sum::<usize>() <= 4096);
    }

    #[test]
    fn too_few_processes_are_told_how_many_would_do() {
        let failure = plan(&Arguments { processes: 50, ..MILLION }, &MACHINE).unwrap_err();
        assert!(failure.contains("up to 20705 each"), "{failure}");
        assert!(failure.ends_with("serves 19936; --processes 52 is enough"), "{failure}");
        assert!(plan(&Arguments { processes: 52, ..MILLION }, &MACHINE).is_ok());
    }

    #[test]
    fn each_limit_of_the_machine_is_named() {
        let poor = [
            (Limits { process_files: 64, ..MACHINE }, "serves 0"),
            (Limits { system_files: 2_000_000, ..MACHINE }, "fs.file-max leaves 2,000,000"),
            (Limits { memory: 4 << 30, ..MACHINE }, "4.0 GiB are available"),
        ];
        for (limits, complaint) in poor {
            let failure = plan(&MILLION, &limits).unwrap_err();
            assert!(failure.contains(complaint), "{failure}");
        }
    }

    #[test]
    fn there_are_no_more_client_processes_than_sessions() {
        let few = Arguments { processes: 1, sessions: 3, active: 3, clients: 8, ..MILLION };
        let shares = plan(&few, &MACHINE).unwrap();
        assert!(shares.iter().all(|share| (share.sessions, share.active) == (1, 1)));
    }
}
