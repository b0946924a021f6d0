//! What Linux tells of a running process from outside: whether it works, and what it holds. See proc(5).

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal::{SIGCONT, SIGSTOP, SIGUSR1};

use crate::harness::{Process, eventually};

/// One process's numbers.
pub struct Vitals {
    directory: PathBuf,
}

impl Vitals {
    pub fn of(process: &Process) -> Self {
        Self { directory: format!("/proc/{}", process.id()).into() }
    }

    /// The memory that is really there (bytes).
    pub fn resident_memory(&self) -> u64 {
        1024 * field(&self.read("status"), "VmRSS:")
    }

    /// The time that all its threads have spent on a processor.
    pub fn processor_time(&self) -> Duration {
        let nanoseconds =
            |schedstat: &str| schedstat.split(' ').next().and_then(|time| time.parse::<u64>().ok());
        let times = self.of_each_thread("schedstat");
        Duration::from_nanos(times.iter().map(|text| nanoseconds(text).expect("a time comes first")).sum())
    }

    /// How often one of its threads has gone to sleep: each time it was awake before.
    pub fn sleeps(&self) -> u64 {
        self.of_each_thread("status").iter().map(|text| field(text, "voluntary_ctxt_switches:")).sum()
    }

    /// The same for the thread of this name alone.
    pub fn sleeps_of(&self, name: &str) -> u64 {
        let threads = self.of_each_thread("status");
        let thread = threads.iter().find(|text| text.starts_with(&format!("Name:\t{name}\n")));
        field(thread.expect("there is such a thread"), "voluntary_ctxt_switches:")
    }

    /// How many files it has open, sockets among them.
    pub fn open_files(&self) -> usize {
        self.list("fd").len()
    }

    /// Whether the loop waits in `poll`, as nothing else in it does.
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

/// Holds the process still while `act` runs: whatever the clients do meanwhile has happened when it goes on.
pub fn while_stopped<T>(process: &Process, act: impl FnOnce() -> T) -> T {
    process.signal(SIGSTOP);
    let vitals = Vitals::of(process);
    eventually("the process is stopped", || vitals.is("stopped"));
    let result = act();
    process.signal(SIGCONT);
    result
}

/// The counters that a server logs when it is asked for them.
pub struct Report(String);

impl Report {
    /// Asks the server, and waits for its answer.
    pub fn of(process: &Process) -> Self {
        let reports = || {
            let output = String::from_utf8_lossy(&process.stdout()).into_owned();
            let lines = output.lines().filter_map(|line| line.split_once("[okloop::server] open "));
            lines.map(|(_, counters)| format!("open {counters}")).collect::<Vec<_>>()
        };
        let before = reports().len();
        process.signal(SIGUSR1);
        eventually("the counters are logged", || reports().len() > before);
        Self(reports().pop().expect("there is one more than before"))
    }

    /// The first counter of this name: who is refused is counted again when it has gone.
    pub fn count(&self, name: &str) -> u64 {
        let counters = self.0.split(", ").map(|counter| counter.trim_start_matches("closed: "));
        let mut values = counters.filter_map(|counter| counter.strip_prefix(name)?.trim_start().parse().ok());
        values.next().unwrap_or_else(|| panic!("no {name} in {}", self.0))
    }

    /// How many sessions have ended, for whatever reason.
    pub fn closed(&self) -> u64 {
        let of_closed = self.0.split_once("closed: ").and_then(|(_, rest)| rest.split_once(", bytes"));
        let (of_closed, _) = of_closed.unwrap_or_else(|| panic!("no reasons in {}", self.0));
        of_closed.split(", ").filter_map(|counter| counter.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }
}

/// The number behind `name` in a text of one `name number` a line.
fn field(text: &str, name: &str) -> u64 {
    let value =
        text.lines().find_map(|line| line.strip_prefix(name)).and_then(|rest| rest.split_whitespace().next());
    value.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no {name} in {text:?}"))
}
