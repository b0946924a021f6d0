//! What a running process uses: time on the processor, memory, threads, context switches. And its descendants.
//!
//! Every figure is an `Option`. A process that has ended has none, and a table then says "n/a" instead of a number.

use std::collections::BTreeSet;
use std::process;
use std::time::Duration;

use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use procfs::process::{Process, all_processes};

fn process(id: u32) -> Option<Process> {
    Process::new(id.try_into().ok()?).ok()
}

/// The processor time that all threads of the process have used, those that have ended included.
///
/// It is the clock of the process, exact to the nanosecond; `/proc/PID/stat` counts the same in hundredths of a second.
pub fn processor_time(id: u32) -> Option<Duration> {
    let clock = clock_getcpuclockid(Pid::from_raw(id.try_into().ok()?)).ok()?;
    clock_gettime(clock).ok().map(Duration::from)
}

/// The processor time of the children that the process has waited for, and of their children (in hundredths of a
/// second).
pub fn processor_time_of_ended_children(id: u32) -> Option<Duration> {
    let stat = process(id)?.stat().ok()?;
    let ticks = u64::try_from(stat.cutime + stat.cstime).ok()?;
    Some(Duration::from_secs(ticks) / u32::try_from(procfs::ticks_per_second()).ok()?)
}

/// The processes that descend from this one.
pub fn descendants() -> Vec<u32> {
    let stats = all_processes().into_iter().flatten().filter_map(|process| process.ok()?.stat().ok());
    let number = |id: i32| u32::try_from(id).ok();
    let with_parents: Vec<(u32, u32)> =
        stats.filter_map(|stat| Some((number(stat.pid)?, number(stat.ppid)?))).collect();
    let mut family = vec![process::id()];
    let mut next = 0;
    while let Some(&parent) = family.get(next) {
        let children = with_parents.iter().filter(|(_, its_parent)| *its_parent == parent);
        family.extend(children.map(|(child, _)| child));
        next += 1;
    }
    family.split_off(1)
}

/// The bytes of memory that the process has in use, as the page tables say, counted in two ways. In the first one each page
/// in use counts whole (resident set): exact for a single process. In the second one a page that several processes use
/// counts in parts (proportional set): the sum is right for processes that were forked from each other. But a part changes
/// when another program maps the same library.
///
/// `VmRSS` in `/proc/PID/status` is cheaper, but the kernel keeps it per processor, and it is off by some hundred
/// kilobytes: more than ten sessions cost. Neither has what the kernel keeps for a process: socket buffers, stacks.
pub fn memory(id: u32) -> Option<[u64; 2]> {
    let rollup = process(id)?.smaps_rollup().ok()?.memory_map_rollup;
    let bytes = &rollup.iter().next()?.extension.map;
    Some([*bytes.get("Rss")?, *bytes.get("Pss")?])
}

/// The address space that the process has reserved (bytes).
pub fn address_space(id: u32) -> Option<u64> {
    Some(process(id)?.stat().ok()?.vsize)
}

/// How many files the process has open.
pub fn open_files(id: u32) -> Option<usize> {
    process(id)?.fd_count().ok()
}

/// The number that its next file would get. With this as the limit of open files, it can open none.
pub fn next_file(id: u32) -> Option<u64> {
    let open: BTreeSet<i32> = process(id)?.fd().ok()?.filter_map(|file| Some(file.ok()?.fd)).collect();
    let next = (0..i32::MAX).find(|number| !open.contains(number))?;
    Some(next.unsigned_abs().into())
}

/// Whether the process is stopped by a signal.
pub fn is_stopped(id: u32) -> Option<bool> {
    Some(process(id)?.stat().ok()?.state == 'T')
}

/// Whether another process traces it.
pub fn is_traced(id: u32) -> Option<bool> {
    Some(process(id)?.status().ok()?.tracerpid != 0)
}

/// How many threads the process has.
pub fn threads(id: u32) -> Option<u64> {
    Some(process(id)?.status().ok()?.threads)
}

/// How often the threads that the process has now went to wait. A thread that has ended takes its count with it.
pub fn switches(id: u32) -> Option<u64> {
    // A thread may end between the listing and the reading; then it counts as one that has ended.
    let statuses = process(id)?.tasks().ok()?.filter_map(|task| task.ok()?.status().ok());
    Some(statuses.filter_map(|status| status.voluntary_ctxt_switches).sum())
}
