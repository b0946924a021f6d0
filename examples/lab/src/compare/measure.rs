//! One measurement: a fresh server under one workload, and what the workload costs it.

use std::io::{self, Read};
use std::net::{Shutdown, TcpStream};
use std::path::PathBuf;
use std::process;
use std::thread;
use std::time::Duration;

use crate::compare::family::Family;
use crate::compare::figures::{Figures, Measured};
use crate::compare::kernel;
use crate::compare::load::Load;
use crate::compare::workload::{BESIDE_CHAT, BESIDE_FLOOD, INTERVAL, Kind, Role, Workload};
use crate::support::load::Sources;
use crate::support::load::schedule::regular;
use crate::support::{Candidate, Descendants, Failure, Interrupt, OwnProcessor, Server, Setup, usage};

/// Open files that are not sessions, at a server (its listener, its log) as in the load.
pub const OTHER_FILES: u64 = 40;

/// How long the visit before a measurement may take.
const VISIT: Duration = Duration::from_millis(300);

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
        let is_beside_flood = workload.kind == Kind::Fairness;
        let flood = is_beside_flood.then(|| Workload::new(Kind::Fairness, [(Role::Flood, 1)]));
        let load = |workload| Load::new(server.address, workload, &self.sources, &self.interrupt);
        let (mut load, mut flood) = (load(workload)?, flood.as_ref().map(load).transpose()?);
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
        // The load checks what a server sends. This visit shows that the server accepts, and warms it up.
        let visited = TcpStream::connect_timeout(&server.address, VISIT);
        visited.map(leave_in_order).map_err(|error| {
            let refused = || format!("accepts no connection: {error}");
            Failure::Unusable(server.death_within(VISIT).unwrap_or_else(refused))
        })?;
        Ok(server)
    }
}

/// Ends the session as a client does, and reads on to the server's end: no reset before the measurement begins. A server
/// that never ends its output is left after a while.
fn leave_in_order(visitor: TcpStream) {
    let ended = visitor.set_read_timeout(Some(VISIT)).and_then(|()| visitor.shutdown(Shutdown::Write));
    let _ = ended.and_then(|()| io::copy(&mut visitor.take(1 << 20), &mut io::sink()));
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
    let counts_kernel = workload.kind == Kind::Typing && workload.sessions() >= kernel::LEAST_SESSIONS;
    let kernel_now = || counts_kernel.then(kernel::settled).flatten();
    let empty = Family::now().memory();
    let kernel_empty = kernel_now();
    let opening = load.gather()?;
    if let Some(flood) = &mut flood {
        flood.gather()?;
    }
    // Before anything is read about the threads: each of them would get entries in the kernel's table of files.
    let kernel_idle = kernel_now();
    let family = Family::now();
    let (idle, threads) = (family.memory(), family.threads());

    let before = family.used();
    let own_before = own_processor_time();
    thread::scope(|threads| {
        let flood = flood.as_mut().map(|flood| {
            threads.spawn(|| {
                // The clients' thread goes first: its latencies are measured (nice(2), which is for a thread on Linux).
                rustix::process::nice(19).map_err(|error| Failure::system("nice")(error.into()))?;
                flood.play(time)
            })
        });
        let (sessions, end) = match workload.kind {
            Kind::Fairness => (BESIDE_FLOOD, time),
            Kind::Chat => (BESIDE_CHAT, Duration::MAX),
            _ => (0, time),
        };
        load.play_lines(time, regular(INTERVAL, sessions, end), true)?;
        flood.map_or(Ok(()), |flood| flood.join().expect("the load does not panic"))
    })?;
    let load_time = own_processor_time().saturating_sub(own_before);
    // To read figures takes time, so nothing is read while answers are on their way. When all have come, the server is
    // at rest, and it has used its time for them.
    let heard = load.part()?;
    let streamed = flood.map(Load::part).transpose()?;
    let after = Family::now();
    let sessions = workload.sessions() as f64;
    let of_family = |[resident, proportional]: [u64; 2]| {
        if family.0.len() == 1 { resident as f64 } else { proportional as f64 }
    };
    let measured = Measured {
        kind: workload.kind,
        sessions,
        heard: &heard,
        flood: streamed.as_ref().unwrap_or(&heard),
        opening,
        threads,
        memory: [empty, idle, after.memory()].map(|memory| memory.map(of_family)),
        kernel: kernel_empty
            .zip(kernel_idle)
            .map(|(empty, idle)| [0, 1, 2].map(|counter| (idle[counter] - empty[counter]) / sessions)),
        end_of_session,
        used: after.used().since(&before),
        load: load_time,
    };
    Ok(measured.figures())
}

fn own_processor_time() -> Duration {
    usage::processor_time(process::id()).unwrap_or_default()
}
