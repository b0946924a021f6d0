//! All the processes that a contender consists of, and what they use together.
//!
//! A server may fork for each session, or be a pipeline of several programs. One contender runs at a time, so its
//! processes are those that descend from this one. A figure is none where there is no such process, or where the system
//! does not tell.

use std::ops::Add;
use std::process;
use std::time::Duration;

use crate::procfs::{self, Memory, Switches};

/// The processes of the contender that runs now.
#[derive(Debug)]
pub struct Family(Vec<u32>);

impl Family {
    /// Those that there are at this moment.
    pub fn now() -> Self {
        Self(procfs::descendants(process::id()))
    }

    /// The processor time that they have used, and those that have ended: as far as their parents have waited for them,
    /// which hand the time on.
    pub fn processor_time(&self) -> Option<Duration> {
        self.sum(|process| {
            let of_the_dead = procfs::processor_time_of_the_dead(process).unwrap_or_default();
            Some(procfs::processor_time(process)? + of_the_dead)
        })
    }

    /// Whether there is one process only.
    pub fn is_single(&self) -> bool {
        self.0.len() == 1
    }

    /// The memory that they have in use.
    pub fn memory(&self) -> Option<Memory> {
        self.sum(procfs::memory)
    }

    /// How many threads they have.
    pub fn threads(&self) -> Option<u64> {
        self.sum(procfs::threads)
    }

    /// The context switches of their threads.
    pub fn switches(&self) -> Option<Switches> {
        self.sum(procfs::switches)
    }

    /// One that ends while it is looked at, or has ended and waits for its parent, has nothing to add.
    fn sum<T: Add<Output = T>>(&self, figure: impl Fn(u32) -> Option<T>) -> Option<T> {
        self.0.iter().filter_map(|&process| figure(process)).reduce(T::add)
    }
}
