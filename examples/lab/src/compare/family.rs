//! All processes of a contender, and what they use together.
//!
//! A server may fork for each session, or be a pipeline of several programs. One contender runs at a time, so its
//! processes are those that descend from this one. A figure is none where no process has it.

use std::ops::Add;
use std::time::Duration;

use crate::support::child;
use crate::support::usage::{self, Memory, Switches};

/// The processes of the contender that runs now.
#[derive(Debug)]
pub struct Family(Vec<u32>);

impl Family {
    /// Those that run now.
    pub fn now() -> Self {
        Self(child::descendants())
    }

    /// The processor time that they have used. The time of a process that has ended counts if its parent has waited for
    /// it.
    pub fn processor_time(&self) -> Option<Duration> {
        self.sum(|process| {
            let of_ended = usage::processor_time_of_ended_children(process).unwrap_or_default();
            Some(usage::processor_time(process)? + of_ended)
        })
    }

    /// Whether there is only one process.
    pub fn is_single(&self) -> bool {
        self.0.len() == 1
    }

    /// The memory that they have in use.
    pub fn memory(&self) -> Option<Memory> {
        self.sum(usage::memory)
    }

    /// How many threads they have.
    pub fn threads(&self) -> Option<u64> {
        self.sum(usage::threads)
    }

    /// The context switches of their threads.
    pub fn switches(&self) -> Option<Switches> {
        self.sum(usage::switches)
    }

    /// A process that ends meanwhile, or is a zombie, adds nothing.
    fn sum<T: Add<Output = T>>(&self, figure: impl Fn(u32) -> Option<T>) -> Option<T> {
        self.0.iter().filter_map(|&process| figure(process)).reduce(T::add)
    }
}
