//! What Linux tells about a running process: time on the processor, memory, threads, context switches.
//!
//! Every figure is an `Option`: another system, a process that is gone or one that is not ours has none, and a table
//! then says "n/a" instead of a number. Nothing here knows what the process does.

use std::fs;
use std::time::Duration;

use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

/// How often the scheduler took the processor from the threads of a process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Switches {
    /// The thread had nothing to do and waited.
    pub voluntary: u64,
    /// The thread had work, but it was another one's turn.
    pub involuntary: u64,
}

/// The processor time that all threads of the process have used, those that have ended included.
///
/// It is the clock of the process, exact to the nanosecond; `/proc/PID/stat` counts the same in hundredths of a second.
pub fn processor_time(process: u32) -> Option<Duration> {
    let clock = clock_getcpuclockid(Pid::from_raw(process.try_into().ok()?)).ok()?;
    clock_gettime(clock).ok().map(Duration::from)
}

/// The bytes of memory that the process has in use (resident set), as the page tables say.
///
/// `VmRSS` in `/proc/PID/status` is cheaper, but kept per processor and off by up to some hundred kilobytes, which
/// is more than ten sessions cost. What the kernel keeps for a process is in neither: socket buffers, kernel stacks.
pub fn resident_bytes(process: u32) -> Option<u64> {
    let rollup = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).ok()?;
    Some(field(&rollup, "Rss:")? * 1024)
}

/// How many threads the process has.
pub fn threads(process: u32) -> Option<u64> {
    field(&fs::read_to_string(format!("/proc/{process}/status")).ok()?, "Threads:")
}

/// The context switches of the threads that the process has now. A thread that has ended takes its count with it.
pub fn switches(process: u32) -> Option<Switches> {
    let mut sum = Switches::default();
    for task in fs::read_dir(format!("/proc/{process}/task")).ok()? {
        // A thread may end between the listing and the reading; then it counts as one that has ended.
        let Ok(status) = fs::read_to_string(task.ok()?.path().join("status")) else { continue };
        sum.voluntary += field(&status, "voluntary_ctxt_switches:")?;
        sum.involuntary += field(&status, "nonvoluntary_ctxt_switches:")?;
    }
    Some(sum)
}

/// The first number on the line that begins with `name`.
fn field(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}
