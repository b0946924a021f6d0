//! Runs each case on a fresh server, several servers together, and ends them all on Ctrl-C.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::case::{Beside, Failure, Finding, Needs, Numbered, Setup, Stop, Verdict};
use super::child::{self, Child};
use super::client::Client;
use super::report::table::Table;
use super::report::terminal;
use super::servers::{Origin, Server};
use super::trial::{LIMIT, Trial};
use crate::support::child::end_descendants;
use crate::support::interrupt::Interrupt;

/// How often a verdict that was not expected is judged again, and after which pause. A machine can be busy for many
/// seconds.
const RETRIES: usize = 2;
const PAUSE: Duration = Duration::from_secs(10);

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

    /// How often each server got each verdict, in the order of [`Verdict::ALL`].
    pub fn counts(&self) -> Vec<[usize; 4]> {
        let count = |index: usize, verdict: Verdict| {
            self.rows.iter().filter(|row| row.findings[index].verdict == verdict).count()
        };
        (0..self.servers.len()).map(|index| Verdict::ALL.map(|verdict| count(index, verdict))).collect()
    }
}

/// Runs the cases one after the other, each on `jobs` servers together. A verdict other than the expected one is judged
/// again. An interrupt ends the servers; the cases then fail soon, and the rows before are the result.
pub fn run(
    servers: Vec<Server>,
    cases: &[Numbered],
    patience: Duration,
    jobs: usize,
    expected: Option<&Table>,
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
    ending_all_servers_on(interrupt, || {
        for case in cases {
            bar.set_message(format!("{} {}", case.number(), case.case.name));
            let jobs = match case.case.beside {
                Beside::None => 1,
                Beside::Few => jobs,
                Beside::Many => 4 * jobs,
            };
            let mut findings = row(&servers, *case, patience, jobs, &bar);
            for (server, finding) in servers.iter().zip(&mut findings) {
                let name = case.case.name;
                let Some(expected) = expected.and_then(|table| table.verdict(name, &server.name)) else {
                    continue;
                };
                // Beside other work of the machine, a client or a server can be too slow to judge.
                for _ in 0..RETRIES {
                    if finding.verdict == expected || interrupt.wait(PAUSE).is_err() {
                        break;
                    }
                    let sign = finding.verdict.sign();
                    bar.suspend(|| eprintln!("{name}, {}: {sign} came, and is judged again", server.name));
                    *finding = judge(server, *case, patience);
                }
            }
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
    });
    bar.finish_and_clear();
    Results { servers, rows, interrupted: interrupt.is_asked(), took: start.elapsed() }
}

/// Kills all servers on an interrupt, so that `act` ends soon.
fn ending_all_servers_on(interrupt: &Interrupt, act: impl FnOnce()) {
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
        act();
        over.store(true, Ordering::Relaxed);
    });
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
        let why = "it needs the server's process, and only an address is known".to_owned();
        return Finding::new(Err(Stop::NotApplicable(why)), Duration::ZERO);
    }
    let start = Instant::now();
    let more = server.more.filter(|(name, _)| *name == case.case.name).map(|(_, more)| more);
    let outcome = trial(server, more, case.case.setup, patience).and_then(|trial| {
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

/// Why servers cannot be tested, a line for each: one does not start, or greets in another way than its description says.
pub fn objections(servers: &[Server], patience: Duration, interrupt: &Interrupt) -> Vec<String> {
    let mut objections = Vec::new();
    ending_all_servers_on(interrupt, || {
        for server in servers {
            let objection = objection(server, patience).err();
            objections.extend(objection.map(|why| format!("{}: {why}", server.name)));
        }
    });
    objections
}

fn objection(server: &Server, patience: Duration) -> Result<(), String> {
    let trial = trial(server, None, Setup::Plain, patience).map_err(in_words)?;
    let client = Client::connect(&trial).map_err(in_words)?;
    client.greeting().map_err(|stop| format!("{} (--banner describes the greeting)", in_words(stop)))
}

fn in_words(stop: Stop) -> String {
    match stop {
        Stop::Fails(Failure { expected, came }) => format!("expected: {expected}; came: {came}"),
        Stop::NotApplicable(why) | Stop::CannotRun(why) => why,
    }
}

fn trial(server: &Server, more: Option<&str>, setup: Setup, patience: Duration) -> Result<Trial, Stop> {
    let (address, child) = match &server.origin {
        Origin::Address(address) => (*address, None),
        Origin::Command(words) => {
            let words: Vec<String> = words.iter().cloned().chain(more.map(str::to_owned)).collect();
            let child = Child::start(&words, setup)?;
            (child.address(), Some(child))
        }
    };
    let deadline = Instant::now() + LIMIT;
    Ok(Trial { address, protocol: server.protocol.clone(), patience, deadline, child })
}
