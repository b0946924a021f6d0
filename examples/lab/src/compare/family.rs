//! All processes of a contender, and what they use together.
//!
//! A server may fork for each session, or be a pipeline of several programs. One contender runs at a time, so its
//! processes are those that descend from this one. A figure is none where no process has it.

use std::ops::Add;
use std::time::Duration;

use crate::support::usage;

/// The processes of the contender that runs now.
#[derive(Debug)]
pub struct Family(pub Vec<u32>);

/// What they have used up to a moment: processor time, and how often a thread went to wait; none where the system does not tell.
pub struct Used(pub Option<Duration>, pub Option<u64>);

impl Used {
    /// Since an earlier moment.
    pub fn since(&self, earlier: &Self) -> Self {
        Self(
            self.0.zip(earlier.0).map(|(now, then)| now.saturating_sub(then)),
            self.1.zip(earlier.1).map(|(now, then)| now.saturating_sub(then)),
        )
    }
}

impl Family {
    /// Those that run now.
    pub fn now() -> Self {
        Self(usage::descendants())
    }

    /// What they have used until now.
    pub fn used(&self) -> Used {
        // The clock last: it takes a while to add up the switches of ten thousand threads.
        let switches = self.of_each(usage::switches).reduce(u64::add);
        // The time of a process that has ended counts if its parent has waited for it.
        let time = |process| {
            let of_ended = usage::processor_time_of_ended_children(process).unwrap_or_default();
            Some(usage::processor_time(process)? + of_ended)
        };
        Used(self.of_each(time).reduce(Duration::add), switches)
    }

    /// The memory that they have in use: see [`usage::memory`].
    pub fn memory(&self) -> Option<[u64; 2]> {
        self.of_each(usage::memory).reduce(|[a, b], [c, d]| [a + c, b + d])
    }

    /// How many threads they have.
    pub fn threads(&self) -> Option<u64> {
        self.of_each(usage::threads).reduce(u64::add)
    }

    /// A process that ends meanwhile, or is a zombie, adds nothing.
    fn of_each<T>(&self, figure: impl Fn(u32) -> Option<T>) -> impl Iterator<Item = T> {
        self.0.iter().filter_map(move |&process| figure(process))
    }
}
