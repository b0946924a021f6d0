//! Runs each case on a fresh server, several servers together, and ends them all on Ctrl-C.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{io, thread};

use indicatif::{ProgressBar, ProgressStyle};

use super::case::{Finding, Needs, Numbered, Stop, Verdict, cannot_run};
use super::child::{self, Child};
use super::report::terminal;
use super::servers::{Origin, Server};
use super::trial::{LIMIT, Trial};
use crate::support::child::end_descendants;
use crate::support::interrupt::Interrupt;

/// What came of a run.
#[derive(Debug)]
pub struct Results {
    pub servers: Vec<Server>,
    pub rows: Vec<Row>,
    /// Whether Ctrl-C ended the run before its end.
    pub interrupted: bool,
    pub took: Duration,
}

/// One case, and what each server did.
#[derive(Debug)]
pub struct Row {
    pub case: Numbered,
    /// In the order of the servers.
    pub findings: Vec<Finding>,
}

impl Results {
    /// Whether no case failed, and none was left without a verdict.
    pub fn are_good(&self) -> bool {
        let verdicts = self.rows.iter().flat_map(|row| &row.findings).map(|finding| finding.verdict);
        verdicts.into_iter().all(|verdict| matches!(verdict, Verdict::Passes | Verdict::NotApplicable))
    }

    /// How many cases each server passed.
    pub fn passed(&self) -> Vec<usize> {
        let passed = |index: usize| {
            self.rows.iter().filter(|row| row.findings[index].verdict == Verdict::Passes).count()
        };
        (0..self.servers.len()).map(passed).collect()
    }
}

/// Runs the cases one after the other, each on `jobs` servers together. An interrupt ends the servers; the cases then fail
/// soon, and the rows before are the result.
pub fn run(
    servers: Vec<Server>,
    cases: &[Numbered],
    patience: Duration,
    jobs: usize,
    interrupt: &Interrupt,
) -> Results {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                if interrupt.is_asked() {
                    child::end_all();
                    return;
                }
                thread::sleep(Interrupt::TICK);
            }
        });
        let results = run_cases(servers, cases, patience, jobs, interrupt);
        over.store(true, Ordering::Relaxed);
        results
    })
}

fn run_cases(
    servers: Vec<Server>,
    cases: &[Numbered],
    patience: Duration,
    jobs: usize,
    interrupt: &Interrupt,
) -> Results {
    let start = Instant::now();
    let style = ProgressStyle::with_template("{elapsed_precise} {bar:40} {pos}/{len} {msg}");
    let bar = ProgressBar::new((servers.len() * cases.len()) as u64);
    bar.set_style(style.expect("the template is correct"));
    bar.enable_steady_tick(Duration::from_millis(200));
    terminal::head(&servers);

    let mut rows = Vec::new();
    let mut group = "";
    for case in cases {
        bar.set_message(format!("{} {}", case.number(), case.case.name));
        let jobs = if case.case.alone { 1 } else { jobs };
        let findings = row(&servers, *case, patience, jobs, &bar);
        // Servers that left their process group. No guard is alive between two rows.
        end_descendants();
        if interrupt.is_asked() {
            break;
        }
        let row = Row { case: *case, findings };
        bar.suspend(|| {
            if case.group.name != group {
                terminal::group(case.group);
            }
            terminal::row(&row);
        });
        group = case.group.name;
        rows.push(row);
    }
    bar.finish_and_clear();
    Results { servers, rows, interrupted: interrupt.is_asked(), took: start.elapsed() }
}

fn row(
    servers: &[Server],
    case: Numbered,
    patience: Duration,
    jobs: usize,
    bar: &ProgressBar,
) -> Vec<Finding> {
    let next = AtomicUsize::new(0);
    let findings = Mutex::new(vec![None; servers.len()]);
    thread::scope(|scope| {
        for _ in 0..jobs.min(servers.len()) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(server) = servers.get(index) else { return };
                    let finding = judge(server, case, patience);
                    findings.lock().expect("no holder panics")[index] = Some(finding);
                    bar.inc(1);
                }
            });
        }
    });
    let findings = findings.into_inner().expect("no holder has panicked");
    findings.into_iter().map(|finding| finding.expect("every server had its turn")).collect()
}

fn judge(server: &Server, case: Numbered, patience: Duration) -> Finding {
    if case.case.needs == Needs::Process && matches!(server.origin, Origin::Address(_)) {
        return Finding::not_applicable("it needs the server's process, and only an address is known");
    }
    let start = Instant::now();
    let outcome = trial(server, case, patience).and_then(|trial| {
        let outcome = (case.case.run)(&trial);
        match (outcome, &trial.child) {
            (Err(Stop::Fails(mut failure)), Some(child)) => {
                // A moment later the kernel may show why the connection ended.
                let end = child.exit_within(Duration::from_millis(20)).and_then(|_| child.end());
                if let Some(end) = end.filter(|end| !failure.came.contains(end)) {
                    failure.came = format!("{}; {end}", failure.came);
                }
                Err(Stop::Fails(failure))
            }
            (outcome, _) => outcome,
        }
    });
    Finding::new(outcome, start.elapsed())
}

fn trial(server: &Server, case: Numbered, patience: Duration) -> Result<Trial, Stop> {
    let (address, child) = match &server.origin {
        Origin::Address(address) => (*address, None),
        Origin::Command(words) => {
            let port = free_port().map_err(|error| cannot_run(format!("no port is free: {error}")))?;
            let more =
                server.more.filter(|(name, _)| *name == case.case.name).map(|(_, more)| more.to_owned());
            let words: Vec<String> = words.iter().cloned().chain(more).collect();
            (
                SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
                Some(Child::start(&words, case.case.setup, port)?),
            )
        }
    };
    let deadline = Instant::now() + LIMIT;
    Ok(Trial { address, protocol: server.protocol.clone(), patience, deadline, child })
}

/// A port below those that the kernel gives to clients (`net.ipv4.ip_local_port_range`), and free on every interface.
fn free_port() -> io::Result<u16> {
    const PORTS: std::ops::Range<u16> = 10_000..32_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Two runs at the same time begin at different places, even if their numbers are neighbours.
    let first = u16::try_from(std::process::id().wrapping_mul(101) % 20_000).expect("below 20,000");
    let mut result = Err(io::ErrorKind::AddrInUse.into());
    for _ in PORTS {
        let offset = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add(first);
        let port = PORTS.start + offset % (PORTS.end - PORTS.start);
        result = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).map(|_| port);
        if result.is_ok() {
            break;
        }
    }
    result
}
