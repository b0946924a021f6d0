//! One measurement: a fresh server, one workload on it, and the server's processor time, memory and threads around it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::contender::{Contender, Server};
use crate::failure::Failure;
use crate::figures::{Figure, Figures, in_microseconds};
use crate::load::{Load, Sources};
use crate::procfs;
use crate::workload::{Kind, Workload};

/// Open files that are not sessions, at a server (its listener, its log) as in the load.
const OTHER_FILES: u64 = 40;

/// What all measurements share.
pub struct Bench {
    /// How long each load plays.
    pub time: Duration,
    /// Where the servers' output goes.
    pub logs: PathBuf,
    /// The open files that each process may have.
    pub file_limit: u64,
    /// Where the load connects from.
    pub sources: Sources,
    /// Set by Ctrl-C.
    pub interrupted: Arc<AtomicBool>,
}

impl Bench {
    /// Starts the contender, loads it, ends it; returns what was measured.
    pub fn measure(&mut self, contender: &Contender, workload: &Workload) -> Result<Figures, Failure> {
        let needed = workload.sessions() as u64 + OTHER_FILES;
        if needed > self.file_limit {
            return Err(Failure::FileLimit { needed, limit: self.file_limit });
        }
        let server = contender.start(&self.logs, &self.interrupted)?;
        self.load(&server, workload).map_err(|failure| server.explain(failure))
    }

    fn load(&mut self, server: &Server, workload: &Workload) -> Result<Figures, Failure> {
        let mut figures = Figures::default();
        let process = server.process();
        let resident = || process.and_then(procfs::resident_bytes);

        let empty = resident();
        let mut load = Load::new(server.address, workload, &mut self.sources, &self.interrupted)?;
        let opening = load.gather()?;
        let idle = resident();
        if workload.residents() > 0 {
            figures.note(Figure::Opening, in_microseconds(opening));
        }
        if let (Kind::PingPong, Some(empty), Some(idle)) = (workload.kind, empty, idle) {
            figures.note(Figure::MemoryPerSession, (idle as f64 - empty as f64) / workload.sessions() as f64);
        }
        figures.note(Figure::Memory, idle.map(|bytes| bytes as f64));
        figures.note(Figure::Threads, process.and_then(procfs::threads).map(|threads| threads as f64));

        let before = Account::of(process);
        load.play(self.time)?;
        let used = Account::of(process).since(&before);
        load.part()?;

        let heard = load.heard();
        figures.note_latency(&heard.latency);
        figures.note_costs(workload.kind, &used, heard.answers, heard.streamed, heard.time);
        Ok(figures)
    }
}

/// What the server and the load have used up to a moment; each is none where the system does not tell.
struct Account {
    server: Option<Duration>,
    load: Option<Duration>,
    switches: Option<procfs::Switches>,
}

impl Account {
    fn of(process: Option<u32>) -> Self {
        // The clocks first: to add up the switches of ten thousand threads takes a while.
        let server = process.and_then(procfs::processor_time);
        let load = procfs::processor_time(std::process::id());
        Self { server, load, switches: process.and_then(procfs::switches) }
    }

    fn since(&self, earlier: &Self) -> Self {
        let between = |now: Option<Duration>, then: Option<Duration>| Some(now?.saturating_sub(then?));
        let switches = self.switches.zip(earlier.switches).map(|(now, then)| procfs::Switches {
            voluntary: now.voluntary.saturating_sub(then.voluntary),
            involuntary: now.involuntary.saturating_sub(then.involuntary),
        });
        Self {
            server: between(self.server, earlier.server),
            load: between(self.load, earlier.load),
            switches,
        }
    }
}

impl Figures {
    fn note_latency(&mut self, latency: &Histogram<u64>) {
        if latency.is_empty() {
            return;
        }
        let quantile = |quantile| latency.value_at_quantile(quantile) as f64 / 1e3;
        self.note(Figure::Median, quantile(0.5));
        self.note(Figure::P99, quantile(0.99));
        self.note(Figure::P999, quantile(0.999));
        self.note(Figure::Slowest, latency.max() as f64 / 1e3);
    }

    fn note_costs(&mut self, kind: Kind, used: &Account, answers: u64, streamed: u64, time: Duration) {
        let (answers, megabytes, seconds) = (answers as f64, streamed as f64 / 1e6, time.as_secs_f64());
        self.note(Figure::ServerProcessors, used.server.map(|server| server.as_secs_f64() / seconds));
        self.note(Figure::LoadProcessors, used.load.map(|load| load.as_secs_f64() / seconds));
        let processor = used.server.map(in_microseconds);
        if kind != Kind::Bulk {
            self.note(Figure::AnswersPerSecond, answers / seconds);
        }
        if matches!(kind, Kind::PingPong | Kind::Churn) {
            self.note(Figure::ProcessorPerAnswer, processor.map(|time| time / answers));
        } else {
            self.note(Figure::MegabytesPerSecond, megabytes / seconds);
            self.note(Figure::ProcessorPerMegabyte, processor.map(|time| time / megabytes));
        }
        // Where threads come and go, those that have gone took their count with them, so churn has no such figure.
        if let (Kind::PingPong, Some(switches)) = (kind, used.switches) {
            self.note(Figure::VoluntarySwitches, switches.voluntary as f64 / answers);
            self.note(Figure::InvoluntarySwitches, switches.involuntary as f64 / answers);
        }
    }
}
