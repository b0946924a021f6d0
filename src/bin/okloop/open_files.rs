//! How many clients the limit of open files has room for. Every session is an open file.

use std::fmt;
use std::fs;

use okloop::Config;

use crate::process;

/// The files that the server opens beside its clients' sockets: the listening socket, epoll, the waker's eventfd, and
/// the two ends of the socket pair that signals come through.
const SERVER: usize = 5;

/// A client that was just accepted. At a full server, its refusal ends the oldest refusal, but only after it was accepted.
const NEWCOMER: usize = 1;

/// The most sessions if no number is asked for (connections). Containers often allow a billion open files, and no machine
/// has memory for as many sessions. Each costs the kernel some 4 KiB while it is idle.
const MOST_BY_DEFAULT: usize = 100_000;

/// How the open files are shared out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// The most sessions that may be open (connections).
    pub connections: usize,
    /// The most clients that may be told at one time that the server is full (connections).
    pub refusals: usize,
}

impl Room {
    /// The most sessions if no number is asked for (connections).
    pub fn default_connections(self) -> usize {
        self.connections.min(MOST_BY_DEFAULT)
    }
}

/// Not even one session and one refusal fit.
#[derive(Debug, PartialEq, Eq)]
pub struct TooFew {
    limit: usize,
    open: usize,
    needed: usize,
}

impl fmt::Display for TooFew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, open, needed } = self;
        write!(
            f,
            "Too few open files: the limit is {limit}, {open} are open, and the server needs {needed} more"
        )
    }
}

impl std::error::Error for TooFew {}

/// Shares out the files of a process that has `open` files open already, and needs `others` for what is no session.
/// Refusals get [`Config::max_refusals`], at most half of the files for clients. Sessions get the rest.
pub fn room(limit: usize, open: usize, others: usize) -> Result<Room, TooFew> {
    let own = SERVER + NEWCOMER + others;
    let clients = limit.saturating_sub(open + own);
    let refusals = Config::default().max_refusals.min(clients / 2);
    if refusals == 0 {
        return Err(TooFew { limit, open, needed: own + 2 });
    }
    Ok(Room { connections: clients - refusals, refusals })
}

/// How many of the descriptors below `limit` are open. A descriptor above it, from before the limit was lowered, takes no
/// room.
pub fn count_open(limit: usize) -> usize {
    /// What every process has, where the system does not tell more.
    const STANDARD_STREAMS: usize = 3;
    match fs::read_dir("/dev/fd") {
        Ok(entries) => {
            let number = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok();
            let numbers = entries.flatten().filter_map(number);
            // One of them is the directory, and closed again by now.
            numbers.filter(|&number: &usize| number < limit).count().saturating_sub(1)
        }
        Err(error) if process::is_out_of_files(&error) => limit,
        Err(_) => STANDARD_STREAMS,
    }
}

/// How many files the process has open, where Linux tells it.
pub fn count() -> Option<usize> {
    // One of them is the directory.
    fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count().saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_limit_keeps_sixteen_files_for_refusals() {
        assert_eq!(room(1024, 3, 0), Ok(Room { connections: 1024 - 3 - 5 - 1 - 16, refusals: 16 }));
    }

    #[test]
    fn the_default_does_not_follow_an_absurd_limit() {
        for (limit, connections) in
            [(20_000, 20_000 - 25), (1_073_741_816, MOST_BY_DEFAULT), (usize::MAX, MOST_BY_DEFAULT)]
        {
            let room = room(limit, 3, 0).expect("there is room");
            assert_eq!((room.default_connections(), room.connections), (connections, limit - 25));
        }
    }

    #[test]
    fn files_that_are_open_already_take_the_room_of_sessions() {
        let connections = |open| room(128, open, 0).expect("there is room").connections;
        assert_eq!(connections(3) - connections(43), 40);
    }

    #[test]
    fn files_of_something_else_take_the_room_of_sessions() {
        let connections = |others| room(128, 3, others).expect("there is room").connections;
        assert_eq!(connections(0) - connections(22), 22);
        assert_eq!(room(31, 3, 22), Err(TooFew { limit: 31, open: 3, needed: 30 }));
    }

    #[test]
    fn a_small_limit_is_shared_by_sessions_and_refusals() {
        assert_eq!(room(11, 3, 0), Ok(Room { connections: 1, refusals: 1 }));
        assert_eq!(room(12, 3, 0), Ok(Room { connections: 2, refusals: 1 }));
        assert_eq!(room(20, 3, 0), Ok(Room { connections: 6, refusals: 5 }));
    }

    #[test]
    fn a_limit_without_room_for_a_session_and_a_refusal_is_too_low() {
        for (limit, open) in [(10, 3), (4, 3), (3, 4)] {
            assert_eq!(room(limit, open, 0), Err(TooFew { limit, open, needed: 8 }));
        }
        assert_eq!(
            TooFew { limit: 10, open: 3, needed: 8 }.to_string(),
            "Too few open files: the limit is 10, 3 are open, and the server needs 8 more"
        );
    }
}
