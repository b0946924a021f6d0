//! Runs each case on a fresh server, several servers together, and ends them all on Ctrl-C.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use super::case::{Beside, Case, Failure, Finding, Play, Stop, Verdict, cannot_run, fails};
use super::client::Client;
use super::report::table::Table;
use super::report::terminal;
use super::trial::{LIMIT, Trial};
use crate::support::failure::Failure as NoServer;
use crate::support::{
    Candidate, Interrupt, Origin, Server, Setup, complain, end_descendants, kill_descendants, progress,
};

/// How often a verdict that was not expected is judged again, and after which pause. A machine can be busy for many
/// seconds.
const RETRIES: usize = 2;
const PAUSE: Duration = Duration::from_secs(10);

/// What came of a run.
#[derive(Debug)]
pub struct Results {
    /// Whether Ctrl-C ended the run before its end.
    pub interrupted: bool,
    pub took: Duration,
    pub servers: Vec<Candidate>,
    pub rows: Vec<Row>,
}

/// One case, and what each server did.
#[derive(Debug)]
pub struct Row {
    pub case: Case,
    /// Whether it is the first of its group in this run.
    pub is_first: bool,
    /// In the order of the servers.
    pub findings: Vec<Finding>,
}

impl Results {
    /// Whether no case failed, and none was left without a verdict.
    pub fn are_good(&self) -> bool {
        let verdicts = self.rows.iter().flat_map(|row| &row.findings).map(Finding::verdict);
        verdicts.into_iter().all(|verdict| matches!(verdict, Verdict::Passes | Verdict::NotApplicable))
    }

    /// How often each server got each verdict, in the order of [`Verdict::ALL`].
    pub fn counts(&self) -> Vec<[usize; 4]> {
        let count = |index: usize, verdict: Verdict| {
            self.rows.iter().filter(|row| row.findings[index].verdict() == verdict).count()
        };
        (0..self.servers.len()).map(|index| Verdict::ALL.map(|verdict| count(index, verdict))).collect()
    }
}

/// How the cases are run.
pub struct Runner<'a> {
    /// How long a client waits for the next byte.
    pub patience: Duration,
    /// How many servers are tested together.
    pub jobs: usize,
    /// The directory of the servers' logs.
    pub logs: &'a Path,
    /// The verdicts that are expected.
    pub expected: Option<&'a Table>,
    /// Ctrl-C.
    pub interrupt: Interrupt,
}

impl Runner<'_> {
    /// Runs the cases one after the other. A verdict other than the expected one is judged again. An interrupt ends the
    /// servers; the cases then fail soon, and the rows before are the result.
    pub fn run(&self, servers: Vec<Candidate>, cases: &[Case]) -> Results {
        let start = Instant::now();
        let bar = progress("{elapsed_precise} {bar:40} {pos}/{len} {msg}", servers.len() * cases.len());
        terminal::head(&servers);

        let mut rows = Vec::new();
        let mut group = "";
        self.ending_all_servers(|| {
            for case in cases {
                bar.set_message(format!("{} {}", case.number, case.name));
                let jobs = match case.play.beside {
                    Beside::None => 1,
                    Beside::Few => self.jobs,
                    Beside::Many => 4 * self.jobs,
                };
                let mut findings = self.row(&servers, case, jobs, &bar);
                for (server, finding) in servers.iter().zip(&mut findings) {
                    let name = &case.name;
                    let Some(expected) = self.expected.and_then(|table| table.verdict(name, &server.name))
                    else {
                        continue;
                    };
                    // Beside other work of the machine, a client or a server can be too slow to judge.
                    for _ in 0..RETRIES {
                        if finding.verdict() == expected || self.interrupt.wait(PAUSE).is_err() {
                            break;
                        }
                        let sign = finding.verdict().sign();
                        let again = format!("{name}, {}: {sign} came, and is judged again", server.name);
                        bar.suspend(|| complain(again));
                        *finding = self.judge(server, name, &case.play);
                    }
                }
                // Servers that left their process group. No guard is alive between two rows.
                end_descendants();
                if self.interrupt.is_asked() {
                    break;
                }
                let row = Row { case: case.clone(), is_first: case.group != group, findings };
                bar.suspend(|| terminal::row(&row));
                group = &case.group;
                rows.push(row);
            }
        });
        bar.finish_and_clear();
        Results { servers, rows, interrupted: self.interrupt.is_asked(), took: start.elapsed() }
    }

    /// Kills all servers on an interrupt, so that `act` ends soon.
    fn ending_all_servers(&self, act: impl FnOnce()) {
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    if self.interrupt.is_asked() {
                        kill_descendants();
                    }
                    thread::sleep(Interrupt::TICK);
                }
            });
            act();
            over.store(true, Ordering::Relaxed);
        });
    }

    fn row(&self, servers: &[Candidate], case: &Case, jobs: usize, bar: &ProgressBar) -> Vec<Finding> {
        let next = AtomicUsize::new(0);
        let findings = Mutex::new(vec![None; servers.len()]);
        thread::scope(|scope| {
            for _ in 0..jobs.min(servers.len()) {
                scope.spawn(|| {
                    while let Some((index, server)) =
                        servers.iter().enumerate().nth(next.fetch_add(1, Ordering::Relaxed))
                    {
                        let finding = self.judge(server, &case.name, &case.play);
                        findings.lock().expect("no holder panics")[index] = Some(finding);
                        bar.inc(1);
                    }
                });
            }
        });
        let findings = findings.into_inner().expect("no holder has panicked");
        findings.into_iter().map(|finding| finding.expect("every server had its turn")).collect()
    }

    fn judge(&self, server: &Candidate, name: &str, play: &Play) -> Finding {
        let start = Instant::now();
        let outcome = if play.needs_process && matches!(server.origin, Origin::Address(_)) {
            let why = "it needs the server's process, and only an address is known".to_owned();
            Err(Stop::NotApplicable(why))
        } else {
            let trial = self.trial(server, play.setup, name);
            trial.and_then(|trial| trial.explained(play.run(&trial)))
        };
        Finding { server: server.name.clone(), outcome, took: start.elapsed() }
    }

    /// Why servers cannot be tested, a line for each: one does not start, ends, or greets in another way than its description
    /// says.
    pub fn objections(&self, servers: &[Candidate]) -> Vec<String> {
        let play = Play::new("start", |trial| Client::greeted(trial).map(drop));
        let mut objections = Vec::new();
        self.ending_all_servers(|| {
            for server in servers {
                let why = match self.judge(server, play.name, &play).outcome {
                    Ok(_) => continue,
                    Err(Stop::Fails(Failure { expected, came })) => {
                        format!("expected: {expected}; came: {came}")
                    }
                    Err(Stop::NotApplicable(why) | Stop::CannotRun(why)) => why,
                };
                objections.push(format!("{}: {why}", server.name));
            }
        });
        objections
    }

    fn trial(&self, server: &Candidate, setup: Setup, case: &str) -> Result<Trial, Stop> {
        let mut origin = server.origin.clone();
        if let (Origin::Command(words), Some((name, more))) = (&mut origin, server.more)
            && name == case
        {
            words.push(more.to_owned());
        }
        let log = self.logs.join(format!("{case} {}.log", server.name).replace(' ', "-"));
        let started =
            Server::start(&origin, setup, &log, &self.interrupt).map_err(|failure| match failure {
                NoServer::Unusable(why) if setup != Setup::Plain => {
                    fails("the server starts and listens", why)
                }
                failure => cannot_run(failure.to_string()),
            })?;
        let deadline = Instant::now() + LIMIT;
        let (protocol, interrupt) = (server.protocol.clone(), self.interrupt.clone());
        Ok(Trial { server: started, protocol, patience: self.patience, deadline, interrupt })
    }
}
