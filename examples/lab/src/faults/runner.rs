//! Runs each case on a fresh server, several trials together, and ends all servers on Ctrl-C.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

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

const NO_PANIC: &str = "no holder of the lock panics";

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
    /// How many trials run together, if they use a processor.
    pub jobs: usize,
    /// The directory of the servers' logs.
    pub logs: &'a Path,
    /// The verdicts that are expected.
    pub expected: Option<&'a Table>,
    /// Ctrl-C.
    pub interrupt: Interrupt,
}

impl Runner<'_> {
    /// Begins the trials in the order of the cases. A verdict other than the expected one is judged again. An interrupt
    /// ends the servers; the trials then fail soon, and the rows before are the result.
    pub fn run(&self, servers: Vec<Candidate>, cases: &[Case]) -> Results {
        let start = Instant::now();
        let bar = progress("{elapsed_precise} {bar:40} {pos}/{len} {msg}", servers.len() * cases.len());
        terminal::head(&servers);

        let places = Places::new(self.jobs);
        let trials = (0..cases.len()).flat_map(|row| (0..servers.len()).map(move |column| (row, column)));
        let trials = Mutex::new(trials);
        let table = Mutex::new((vec![vec![None; servers.len()]; cases.len()], Vec::<Row>::new()));
        let judge_the_next = || {
            // A trial that waits for its places holds this lock: no later trial takes them.
            let mut next = trials.lock().expect(NO_PANIC);
            let (row, column) = next.next()?;
            let (case, server) = (&cases[row], &servers[column]);
            bar.set_message(format!("{} {}", case.number, case.name));
            let taken = places.take(case.play.beside);
            drop(next);
            let mut finding = self.judge(server, &case.name, &case.play);
            drop(taken);
            let expected = self.expected.and_then(|committed| committed.verdict(&case.name, &server.name));
            for _ in 0..RETRIES {
                if expected.is_none_or(|expected| finding.verdict() == expected) {
                    break;
                }
                // Beside other work, a client or a server can be too slow to judge.
                let _next = trials.lock().expect(NO_PANIC);
                let _all = places.take(Beside::None);
                self.interrupt.wait(PAUSE).ok()?;
                let sign = finding.verdict().sign();
                let again = format!("{}, {}: {sign} came, and is judged again", case.name, server.name);
                bar.suspend(|| complain(again));
                finding = self.judge(server, &case.name, &case.play);
            }
            if self.interrupt.is_asked() {
                return None;
            }
            bar.inc(1);
            let (findings, rows) = &mut *table.lock().expect(NO_PANIC);
            findings[row][column] = Some(finding);
            // The rows are told in their order.
            while let Some(findings) = findings.get(rows.len()).and_then(|row| row.iter().cloned().collect())
            {
                let case = &cases[rows.len()];
                let is_first = rows.last().is_none_or(|before| before.case.group != case.group);
                rows.push(Row { case: case.clone(), is_first, findings });
                bar.suspend(|| terminal::row(&rows[rows.len() - 1]));
            }
            Some(())
        };
        self.ending_all_servers(|| {
            thread::scope(|scope| {
                for _ in 0..places.all {
                    scope.spawn(|| while judge_the_next().is_some() {});
                }
            });
            // Servers that left their process group.
            end_descendants();
        });
        bar.finish_and_clear();
        let (_, rows) = table.into_inner().expect(NO_PANIC);
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

/// The machine's room for trials that run together.
struct Places {
    all: usize,
    free: Mutex<usize>,
    freed: Condvar,
}

/// Gives its places back.
struct Taken<'a>(&'a Places, usize);

impl Places {
    /// A trial that mostly waits needs a quarter of a processor.
    const PARTS: usize = 4;

    fn new(jobs: usize) -> Self {
        let all = Self::PARTS * jobs;
        Self { all, free: Mutex::new(all), freed: Condvar::new() }
    }

    /// Waits until there is room for a trial.
    fn take(&self, beside: Beside) -> Taken<'_> {
        let count = match beside {
            Beside::None => self.all,
            Beside::Few => Self::PARTS,
            Beside::Many => 1,
        };
        let free = self.free.lock().expect(NO_PANIC);
        let mut free = self.freed.wait_while(free, |free| *free < count).expect(NO_PANIC);
        *free -= count;
        Taken(self, count)
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().expect(NO_PANIC) += self.1;
        self.0.freed.notify_all();
    }
}
