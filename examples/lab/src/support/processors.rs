//! A processor for the load alone.
//!
//! A load that shares its processor with the server is late when the server is busy. Then no figure tells which of the
//! two reached its limit.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::support::Failure;

/// This thread has one processor, and what it starts [beside itself](Self::beside) has the others. Dropping it gives
/// this thread all of them again.
#[derive(Debug)]
pub struct OwnProcessor {
    all: CpuSet,
    own: CpuSet,
    others: CpuSet,
}

impl OwnProcessor {
    /// Takes the last of the processors that this thread may use.
    pub fn take() -> Result<Self, Failure> {
        let all = sched_getaffinity(None).unwrap_or_default();
        let last = (0..CpuSet::MAX_CPU).rfind(|&processor| all.is_set(processor));
        let Some(last) = last.filter(|_| all.count() > 1) else {
            return Err(Failure::Impossible("the load needs a processor of its own".to_owned()));
        };
        let (mut own, mut others) = (CpuSet::new(), all);
        own.set(last);
        others.unset(last);
        let processor = Self { all, own, others };
        run_on(&processor.own)?;
        Ok(processor)
    }

    /// Does what starts processes and threads, so that they get the other processors.
    pub fn beside<T>(&self, start: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
        run_on(&self.others)?;
        let started = start();
        run_on(&self.own)?;
        started
    }
}

impl Drop for OwnProcessor {
    fn drop(&mut self) {
        // It worked before, with fewer processors.
        let _ = run_on(&self.all);
    }
}

fn run_on(processors: &CpuSet) -> Result<(), Failure> {
    let set = sched_setaffinity(None, processors);
    set.map_err(|error| Failure::system("The choice of a processor")(error.into()))
}
