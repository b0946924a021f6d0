//! What Linux tells about a running process: time on the processor, memory, threads, context switches, descendants.
//!
//! Every figure is an `Option`: another system, a process that is gone or one that is not ours has none, and a table
//! then says "n/a" instead of a number. Nothing here knows what the process does.

use std::fs;
use std::ops::Add;
use std::str::SplitWhitespace;
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

impl Add for Switches {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            voluntary: self.voluntary + other.voluntary,
            involuntary: self.involuntary + other.involuntary,
        }
    }
}

/// The processor time that all threads of the process have used, those that have ended included.
///
/// It is the clock of the process, exact to the nanosecond; `/proc/PID/stat` counts the same in hundredths of a second.
pub fn processor_time(process: u32) -> Option<Duration> {
    let clock = clock_getcpuclockid(Pid::from_raw(process.try_into().ok()?)).ok()?;
    clock_gettime(clock).ok().map(Duration::from)
}

/// The processor time of the children that the process has waited for, and that those had waited for: the clocks of
/// processes that are gone. It is in hundredths of a second.
pub fn processor_time_of_the_dead(process: u32) -> Option<Duration> {
    const TICK: Duration = Duration::from_millis(10);
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // cutime and cstime, the 16th and the 17th field of proc_pid_stat(5).
    let mut ticks = fields_from_state(&stat)?.skip(13);
    let (user, system): (u32, u32) = (ticks.next()?.parse().ok()?, ticks.next()?.parse().ok()?);
    Some(TICK * (user + system))
}

/// The processes that descend from this one. A child whose parent has ended is its parent's heir's, by default that of
/// process 1.
pub fn descendants(process: u32) -> Vec<u32> {
    let numbers = fs::read_dir("/proc").into_iter().flatten().filter_map(|entry| {
        let name = entry.ok()?.file_name();
        name.to_str()?.parse().ok()
    });
    let with_parents: Vec<(u32, u32)> = numbers.filter_map(|child| Some((child, parent(child)?))).collect();
    let mut family = vec![process];
    let mut next = 0;
    while let Some(&parent) = family.get(next) {
        let children = with_parents.iter().filter(|(_, its_parent)| *its_parent == parent);
        family.extend(children.map(|(child, _)| child));
        next += 1;
    }
    family.split_off(1)
}

fn parent(process: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    fields_from_state(&stat)?.nth(1)?.parse().ok()
}

/// The fields of `/proc/PID/stat` from the third on. Before it is the program's name in brackets, which may hold
/// anything, blanks and brackets too.
fn fields_from_state(stat: &str) -> Option<SplitWhitespace<'_>> {
    Some(stat.rsplit_once(')')?.1.split_whitespace())
}

/// The bytes of memory that a process has in use, counted in two ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// With each page that it uses (resident set): exact for a single process.
    pub resident: u64,
    /// With its part of each page that several use (proportional set): the only one that adds up over processes that were
    /// forked from each other. But the part changes with who else on the machine uses the same library.
    pub proportional: u64,
}

impl Add for Memory {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            resident: self.resident + other.resident,
            proportional: self.proportional + other.proportional,
        }
    }
}

/// The memory that the process has in use, as the page tables say.
///
/// `VmRSS` in `/proc/PID/status` is cheaper, but kept per processor and off by up to some hundred kilobytes, which
/// is more than ten sessions cost. What the kernel keeps for a process is in neither: socket buffers, kernel stacks.
pub fn memory(process: u32) -> Option<Memory> {
    let rollup = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).ok()?;
    let bytes = |name| Some(field(&rollup, name)? * 1024);
    Some(Memory { resident: bytes("Rss:")?, proportional: bytes("Pss:")? })
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
