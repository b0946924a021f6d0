//! What handles ask the loop for: to stop, to report, and to open outgoing connections.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU8};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::config::CONNECT_QUEUE;

pub(crate) const STOP: u8 = 1;
pub(crate) const STOP_NOW: u8 = 2;
pub(crate) const REPORT: u8 = 4;
const CONNECT: u8 = 8;

/// What the loop is asked to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    /// To stop after a drain.
    pub stop: bool,
    /// To stop immediately.
    pub stop_now: bool,
    /// To log the counters.
    pub report: bool,
}

/// Too many outgoing connections are asked for and not begun yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectQueueFull;

impl fmt::Display for ConnectQueueFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("too many outgoing connections wait")
    }
}

impl std::error::Error for ConnectQueueFull {}

/// What is asked for, until the loop takes it.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    flags: AtomicU8,
    /// A stop was asked for, and stays so.
    is_stopping: AtomicBool,
    /// Outgoing connections, at most [`CONNECT_QUEUE`]: the address and the tag.
    connects: Mutex<VecDeque<(SocketAddr, u64)>>,
}

impl Requests {
    /// Asks for a stop, a report or a look at the connections. The loop must be woken then.
    pub fn ask(&self, request: u8) {
        if request & (STOP | STOP_NOW) != 0 {
            self.is_stopping.store(true, Relaxed);
        }
        // SeqCst puts this and the look at `is_asleep` into one order with what `fall_asleep` does.
        self.flags.fetch_or(request, SeqCst);
    }

    /// Asks for an outgoing connection.
    pub fn connect(&self, address: SocketAddr, tag: u64) -> Result<(), ConnectQueueFull> {
        let mut connects = self.lock_connects();
        if connects.len() >= CONNECT_QUEUE {
            return Err(ConnectQueueFull);
        }
        connects.push_back((address, tag));
        drop(connects);
        self.ask(CONNECT);
        Ok(())
    }

    /// Whether a stop was asked for.
    pub fn is_stopping(&self) -> bool {
        self.is_stopping.load(Relaxed)
    }

    /// Whether nothing is asked for that the loop can do now. It cannot begin another outgoing connection unless
    /// `may_connect`.
    pub fn is_empty(&self, may_connect: bool) -> bool {
        let ignored = if may_connect { 0 } else { CONNECT };
        self.flags.load(SeqCst) & !ignored == 0
    }

    /// The next outgoing connection that is asked for: its address and its tag.
    pub fn next_connect(&self) -> Option<(SocketAddr, u64)> {
        if self.flags.load(Relaxed) & CONNECT == 0 {
            return None;
        }
        let mut connects = self.lock_connects();
        let next = connects.pop_front();
        if connects.is_empty() {
            self.flags.fetch_and(!CONNECT, SeqCst);
        }
        next
    }

    /// What was asked for since the last call, if anything.
    pub fn take(&self) -> Option<Asked> {
        if self.flags.load(Relaxed) & !CONNECT == 0 {
            return None;
        }
        let asked = self.flags.fetch_and(CONNECT, SeqCst);
        let is_asked = |request| asked & request != 0;
        Some(Asked { stop: is_asked(STOP), stop_now: is_asked(STOP_NOW), report: is_asked(REPORT) })
    }

    /// No holder of the lock leaves the list half changed.
    fn lock_connects(&self) -> MutexGuard<'_, VecDeque<(SocketAddr, u64)>> {
        self.connects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
