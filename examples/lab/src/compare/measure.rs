//! One measurement: a fresh server under one workload, and what the workload costs it.

use std::io::{self, Read};
use std::net::{Shutdown, TcpStream};
use std::path::PathBuf;
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::compare::family::{Family, Used};
use crate::compare::figures::{Figure, Figures};
use crate::compare::kernel;
use crate::compare::load::{Heard, Load};
use crate::compare::workload::{BESIDE_CHAT, BESIDE_FLOOD, BESIDE_FLOOD_INTERVAL, Kind, Workload};
use crate::support::load::Sources;
use crate::support::load::schedule::regular;
use crate::support::{
    Candidate, Descendants, Failure, Interrupt, OwnProcessor, Server, Setup, in_microseconds, usage,
};

/// Open files that are not sessions, at a server (its listener, its log) as in the load.
pub const OTHER_FILES: u64 = 40;

/// How long the visit before a measurement may take.
const VISIT: Duration = Duration::from_millis(300);

/// No server has so many threads for its processors.
const MANY_THREADS: u64 = 1000;

/// What all measurements share.
pub struct Bench {
    /// How long each load plays.
    pub time: Duration,
    /// The directory of the servers' logs.
    pub logs: PathBuf,
    /// The open files that each process may have.
    pub file_limit: u64,
    /// What the kernel holds for the load's end of a session (bytes), where the system tells.
    pub end_of_session: Option<f64>,
    /// Where the load connects from.
    pub sources: Sources,
    /// Ctrl-C.
    pub interrupt: Interrupt,
}

impl Bench {
    /// Starts the contender, loads it, ends it; returns what was measured.
    pub fn measure(&self, contender: &Candidate, workload: &Workload) -> Result<Figures, Failure> {
        let needed = workload.sessions() as u64 + OTHER_FILES;
        if needed > self.file_limit {
            let limit = self.file_limit;
            return Err(Failure::Impossible(format!(
                "needs {needed} open files a process, the limit is {limit}"
            )));
        }
        // The kernel would put the server and the load on one processor or on two, by chance, and the figures would tell which.
        // To wake another processor costs more than an answer, in a virtual machine above all, and one client and its server
        // never work at the same time: they share one. In all other workloads the load has its own. A machine may have only
        // one, and they share it then too.
        let own = OwnProcessor::take().ok();
        let descendants = Descendants;
        let start = || self.start(contender, &workload.to_string());
        let server = match &own {
            Some(own) if workload.kind != Kind::Typing => own.beside(start)?,
            _ => start()?,
        };
        let (clients, flood) = workload.without_flood();
        let load = |workload| Load::new(server.address, workload, &self.sources, &self.interrupt);
        let (mut load, mut flood) = (load(&clients)?, flood.as_ref().map(load).transpose()?);
        // One client gets answers enough in half the time.
        let time = if workload.kind == Kind::Typing { self.time / 2 } else { self.time };
        let figures = measure(&mut load, flood.as_mut(), workload, time, self.end_of_session);
        let figures = figures.map_err(|failure| server.explain(failure));
        // Before the sessions are reset: otherwise thousands of threads would wake up for it.
        drop(server);
        drop(descendants);
        drop(own);
        figures
    }

    /// Starts a contender for a measurement, and visits it once. Its log is a file of its own, so that no measurement
    /// overwrites the last words of another.
    pub fn start(&self, contender: &Candidate, measurement: &str) -> Result<Server, Failure> {
        let log = self.logs.join(format!("{} {measurement}.log", contender.name).replace(' ', "-"));
        let server = Server::start(&contender.origin, Setup::Plain, &log, &self.interrupt)?;
        match TcpStream::connect_timeout(&server.address, VISIT) {
            Ok(visitor) => {
                // The load checks what a server sends. This visit shows that the server accepts, and warms it up.
                let _ = leave_in_order(visitor);
                Ok(server)
            }
            Err(_) => Err(server.death_within(VISIT).map_or(Failure::NeverListened, Failure::DiedAtStart)),
        }
    }
}

/// Ends the session as a client does, and reads on to the server's end: no reset before the measurement begins. A server
/// that never ends its output is left after a while.
fn leave_in_order(mut visitor: TcpStream) -> io::Result<()> {
    let deadline = Instant::now() + VISIT;
    visitor.set_read_timeout(Some(VISIT))?;
    visitor.shutdown(Shutdown::Write)?;
    let mut received = [0; 256];
    while visitor.read(&mut received)? > 0 && Instant::now() < deadline {}
    Ok(())
}

/// Lets the load come, play and go, and reads the server's figures in between. A flood beside it plays in a thread of its
/// own: the clients would otherwise wait for their own load, which checks what the flood gets.
fn measure(
    load: &mut Load<'_>,
    mut flood: Option<&mut Load<'_>>,
    workload: &Workload,
    time: Duration,
    end_of_session: Option<f64>,
) -> Result<Figures, Failure> {
    let mut figures = Figures::default();
    let empty = Family::now().memory();
    let counts_kernel = workload.kind == Kind::Typing && workload.sessions() >= kernel::LEAST_SESSIONS;
    let kernel_empty = counts_kernel.then(kernel::settled).flatten();
    let opening = load.gather().map_err(hint_at_threads)?;
    if let Some(flood) = &mut flood {
        flood.gather()?;
    }
    // Before anything is read about the threads: each of them would get entries in the kernel's table of files.
    let kernel_idle = counts_kernel.then(kernel::settled).flatten();
    let family = Family::now();
    let idle = family.memory();
    if workload.residents() > 0 {
        figures.note(Figure::OPENING, in_microseconds(opening));
    }
    let bytes = |[resident, proportional]: [u64; 2]| {
        if family.is_single() { resident as f64 } else { proportional as f64 }
    };
    figures.note(Figure::MEMORY, idle.map(bytes));
    let sessions = workload.sessions() as f64;
    if let (Kind::Typing, Some(empty), Some(idle)) = (workload.kind, empty, idle) {
        figures.note(Figure::MEMORY_PER_SESSION, (bytes(idle) - bytes(empty)) / sessions);
    }
    if let (Some(empty), Some(idle)) = (kernel_empty, kernel_idle) {
        let [stacks, page_tables, objects] = kernel::growth(empty, idle).map(|grown| grown / sessions);
        figures.note(Figure::STACKS_PER_SESSION, stacks);
        figures.note(Figure::PAGE_TABLES_PER_SESSION, page_tables);
        figures.note(Figure::OBJECTS_PER_SESSION, end_of_session.map(|end| objects - end));
    }
    figures.note(Figure::THREADS, family.threads().map(|threads| threads as f64));

    let before = Family::now().used();
    let own_before = own_processor_time();
    thread::scope(|threads| {
        let flood = flood.as_mut().map(|flood| {
            threads.spawn(|| {
                // The clients' thread goes first: its latencies are measured (nice(2), which is for a thread on Linux).
                rustix::process::nice(19).map_err(|error| Failure::system("nice")(error.into()))?;
                flood.play(time)
            })
        });
        match workload.kind {
            Kind::Fairness => {
                load.play_lines(time, regular(BESIDE_FLOOD_INTERVAL, BESIDE_FLOOD, time), true)?;
            }
            Kind::Chat => {
                load.play_lines(time, regular(BESIDE_FLOOD_INTERVAL, BESIDE_CHAT, Duration::MAX), true)?;
            }
            _ => load.play(time)?,
        }
        flood.map_or(Ok(()), |flood| flood.join().expect("the load does not panic"))
    })?;
    let own = own_processor_time().saturating_sub(own_before);
    // To read figures takes time, so nothing is read while answers are on their way. When all have come, the server is
    // at rest, and it has used its time for them.
    let heard = load.part()?;
    let streamed = flood.map(Load::part).transpose()?.unwrap_or(heard);
    let after = Family::now();
    let used = after.used().since(&before);
    if let (Kind::Chat, Some(idle), Some(after)) = (workload.kind, idle, after.memory()) {
        figures.note(Figure::GROWTH, (bytes(after) - bytes(idle)).max(0.0));
    }
    figures.note(Figure::LOAD_PROCESSORS, own.as_secs_f64() / heard.time.as_secs_f64());
    figures.note_latency(&heard.latency);
    figures.note_speed(workload.kind, heard, streamed);
    figures.note_costs(workload.kind, heard, streamed, &used);
    Ok(figures)
}

/// A server with a thread for each session may have reached the system's limits.
fn hint_at_threads(failure: Failure) -> Failure {
    match Family::now().threads() {
        Some(threads @ MANY_THREADS..) => {
            let limits = kernel::thread_limits();
            failure.with_hint(&format!("it has {threads} threads, and the limits are {limits}"))
        }
        _ => failure,
    }
}

fn own_processor_time() -> Duration {
    usage::processor_time(process::id()).unwrap_or_default()
}

impl Figures {
    fn note_latency(&mut self, latency: &Histogram<u64>) {
        self.note(Figure::SAMPLES, latency.len() as f64);
        if latency.is_empty() {
            return;
        }
        let quantile = |quantile| latency.value_at_quantile(quantile) as f64 / 1e3;
        self.note(Figure::MEDIAN, quantile(0.5));
        self.note(Figure::P99, quantile(0.99));
        self.note(Figure::SLOWEST, latency.max() as f64 / 1e3);
    }

    fn note_speed(&mut self, kind: Kind, heard: &Heard, flood: &Heard) {
        let seconds = heard.time.as_secs_f64();
        if kind == Kind::Chat {
            self.note(Figure::DELIVERIES_PER_SECOND, heard.delivered as f64 / seconds);
            for (figure, times) in [(Figure::TO_HALF, &heard.to_half), (Figure::TO_LAST, &heard.to_last)] {
                self.note(figure, times.value_at_quantile(0.5) as f64 / 1e3);
            }
        } else if kind != Kind::Bulk {
            self.note(Figure::ANSWERS_PER_SECOND, heard.answers as f64 / seconds);
        }
        if kind == Kind::Fairness {
            self.note(Figure::OFFERED_PER_SECOND, heard.latency.len() as f64 / seconds);
        }
        if matches!(kind, Kind::Bulk | Kind::Fairness) {
            self.note(Figure::MEGABYTES_PER_SECOND, flood.streamed as f64 / 1e6 / seconds);
        }
    }

    /// The server has worked for the late answers too.
    fn note_costs(&mut self, kind: Kind, heard: &Heard, flood: &Heard, used: &Used) {
        let answers = (heard.answers + heard.late_answers) as f64;
        let megabytes = (flood.streamed + flood.late_streamed) as f64 / 1e6;
        let busy = used.0.map(|time| time.as_secs_f64() / heard.time.as_secs_f64());
        self.note(Figure::SERVER_PROCESSORS, busy);
        let processor = used.0.map(in_microseconds);
        if matches!(kind, Kind::Bulk | Kind::Fairness) {
            self.note(Figure::PROCESSOR_PER_MEGABYTE, processor.map(|time| time / megabytes));
        } else if kind == Kind::Chat {
            let deliveries = (heard.delivered + heard.late_delivered) as f64;
            self.note(Figure::PROCESSOR_PER_DELIVERY, processor.map(|time| time / deliveries));
        } else {
            self.note(Figure::PROCESSOR_PER_ANSWER, processor.map(|time| time / answers));
        }
        // A thread that ends takes its count with it, so churn has no such figure.
        if let (Kind::Typing | Kind::Crowd, Some([voluntary, involuntary])) = (kind, used.1) {
            self.note(Figure::VOLUNTARY_SWITCHES, voluntary as f64 / answers);
            self.note(Figure::INVOLUNTARY_SWITCHES, involuntary as f64 / answers);
        }
    }
}
