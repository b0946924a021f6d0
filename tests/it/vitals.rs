//! What Linux says about a running process: its memory, its processor time, its open files (proc(5)).

#![allow(dead_code, reason = "main.rs and load.rs use different parts")]

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal::{SIGCONT, SIGSTOP};

use crate::harness::{Process, eventually};

/// One process's numbers.
pub struct Vitals {
    directory: PathBuf,
}

impl Vitals {
    pub fn of(process: &Process) -> Self {
        Self { directory: format!("/proc/{}", process.id()).into() }
    }

    /// Resident memory (bytes).
    pub fn resident_memory(&self) -> u64 {
        1024 * field(&self.read("status"), "VmRSS:")
    }

    /// The most resident memory that it has had (bytes).
    pub fn peak_memory(&self) -> u64 {
        1024 * field(&self.read("status"), "VmHWM:")
    }

    /// The most address space that it has had (bytes): memory that was reserved, used or not.
    pub fn most_address_space(&self) -> u64 {
        1024 * field(&self.read("status"), "VmPeak:")
    }

    /// The time that all its threads have spent on a processor.
    pub fn processor_time(&self) -> Duration {
        self.scheduled(1)
    }

    /// The same, and the time that they have waited for a processor. A thread that spins does one or the other.
    pub fn wanted_processor_time(&self) -> Duration {
        self.scheduled(2)
    }

    /// The sum of the first numbers of the threads' `schedstat`: the time on a processor, and the time before it.
    fn scheduled(&self, numbers: usize) -> Duration {
        let nanoseconds = |text: &String| {
            text.split(' ').take(numbers).map(|time| time.parse::<u64>().expect("a time")).sum::<u64>()
        };
        Duration::from_nanos(self.of_each_thread("schedstat").iter().map(nanoseconds).sum())
    }

    /// How many times a thread of it has gone to sleep. It was awake before each of them.
    pub fn sleeps(&self) -> u64 {
        self.of_each_thread("status").iter().map(|text| field(text, "voluntary_ctxt_switches:")).sum()
    }

    /// The same for the thread of this name alone.
    pub fn sleeps_of(&self, name: &str) -> u64 {
        let threads = self.of_each_thread("status");
        let thread = threads.iter().find(|text| text.starts_with(&format!("Name:\t{name}\n")));
        field(thread.expect("there is such a thread"), "voluntary_ctxt_switches:")
    }

    /// How many files it has open, sockets included.
    pub fn open_files(&self) -> usize {
        self.list("fd").len()
    }

    /// Whether the main thread sleeps. The loop sleeps nowhere but in `poll`.
    pub fn is_asleep(&self) -> bool {
        self.is("sleeping")
    }

    fn is(&self, state: &str) -> bool {
        let status = self.read("status");
        status.lines().any(|line| line.starts_with("State:") && line.contains(state))
    }

    fn of_each_thread(&self, file: &str) -> Vec<String> {
        self.list("task").iter().map(|thread| self.read(&format!("task/{thread}/{file}"))).collect()
    }

    fn list(&self, name: &str) -> Vec<String> {
        let entries = fs::read_dir(self.directory.join(name)).expect("the process runs");
        entries
            .map(|entry| entry.expect("the process runs").file_name().to_string_lossy().into_owned())
            .collect()
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.directory.join(name)).expect("the process runs")
    }
}

/// Stops the process (SIGSTOP) while `act` runs. What the clients do meanwhile has all happened when it goes on.
pub fn while_stopped<T>(process: &Process, act: impl FnOnce() -> T) -> T {
    process.signal(SIGSTOP);
    let vitals = Vitals::of(process);
    eventually("the process is stopped", || vitals.is("stopped"));
    let result = act();
    process.signal(SIGCONT);
    result
}

/// The number behind `name` in a text with one `name number` on each line.
fn field(text: &str, name: &str) -> u64 {
    let value =
        text.lines().find_map(|line| line.strip_prefix(name)).and_then(|rest| rest.split_whitespace().next());
    value.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no {name} in {text:?}"))
}
