//! The client processes, seen from the parent: their orders, and what they report.

use std::env;
use std::io::{self, BufRead, BufReader, PipeReader, PipeWriter, Write};
use std::process::Command;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::answers::Answers;
use crate::child::ChildGuard;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::message::{Lines, Order, Report, Share, Tally};
use crate::words::{count, many};

/// Without any news for so long, something that was waited for will not come.
const PATIENCE: Duration = Duration::from_secs(60);

/// All client processes. Dropping it ends them.
#[derive(Debug)]
pub struct Crowd {
    clients: Vec<Client>,
    reports: Receiver<(usize, Option<Report>)>,
    /// How many sessions there are to be.
    sessions: usize,
    interrupt: Interrupt,
}

#[derive(Debug)]
struct Client {
    process: ChildGuard,
    orders: PipeWriter,
    /// It runs; before that its memory is not its own.
    ready: bool,
    /// As it last reported.
    tally: Tally,
    /// The lines that it was last asked for, until they are taken.
    lines: Option<Lines>,
}

impl Crowd {
    /// Starts so many client processes, and returns when they wait for orders.
    pub fn start(processes: usize, interrupt: &Interrupt) -> Result<Self, Failure> {
        let (sender, reports) = channel();
        let clients = (0..processes)
            .map(|number| Client::start(number, sender.clone()).map_err(Failure::system("A client process")))
            .collect::<Result<_, _>>()?;
        let mut crowd = Self { clients, reports, sessions: 0, interrupt: interrupt.clone() };
        crowd.wait_for_each("the client processes", |client| client.ready)?;
        Ok(crowd)
    }

    /// The process ids.
    pub fn ids(&self) -> impl Iterator<Item = u32> {
        self.clients.iter().map(|client| client.process.id())
    }

    /// Has each process open its share of the sessions.
    pub fn open(&mut self, shares: &[Share]) -> Result<(), Failure> {
        self.sessions = shares.iter().map(|share| share.sessions).sum();
        self.clients
            .iter_mut()
            .zip(shares)
            .try_for_each(|(client, share)| client.send(&Order::Open(share.clone())))
    }

    /// Gives every process the same order.
    pub fn order(&mut self, order: &Order) -> Result<(), Failure> {
        self.clients.iter_mut().try_for_each(|client| client.send(order))
    }

    /// What has become of all sessions so far.
    pub fn tally(&self) -> Tally {
        self.clients.iter().fold(Tally::default(), |sum, client| sum.and(&client.tally))
    }

    /// Waits until the tally is as `done` wants it, and returns it. `done` sees every new tally. A lost session ends
    /// the waiting at once.
    pub fn wait_for(&mut self, what: &str, mut done: impl FnMut(&Tally) -> bool) -> Result<Tally, Failure> {
        let mut tally = self.tally();
        let mut news = Instant::now();
        while !done(&tally) {
            self.hear(Interrupt::TICK)?;
            let now = self.tally();
            if now != tally {
                news = Instant::now();
            } else if news.elapsed() > PATIENCE {
                return Err(Failure::Silent(what.to_owned()));
            }
            tally = now;
        }
        Ok(tally)
    }

    /// Lets the clients do for some time what they do.
    pub fn wait(&mut self, time: Duration) -> Result<(), Failure> {
        let until = Instant::now() + time;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            self.hear(left.min(Interrupt::TICK))?;
        }
        Ok(())
    }

    /// Sets a mark, and returns how the lines since the last one were answered.
    pub fn mark(&mut self) -> Result<Answers, Failure> {
        self.order(&Order::Mark)?;
        self.wait_for_each("the latencies", |client| client.lines.is_some())?;
        let mut answers = Answers::none();
        self.clients.iter_mut().filter_map(|client| client.lines.take()).for_each(|lines| answers.add(lines));
        Ok(answers)
    }

    /// Waits until it holds for each client process.
    fn wait_for_each(&mut self, what: &str, holds: impl Fn(&Client) -> bool) -> Result<(), Failure> {
        let deadline = Instant::now() + PATIENCE;
        while !self.clients.iter().all(&holds) {
            if Instant::now() > deadline {
                return Err(Failure::Silent(what.to_owned()));
            }
            self.hear(Interrupt::TICK)?;
        }
        Ok(())
    }

    /// Takes in one report, if one comes within `patience`.
    fn hear(&mut self, patience: Duration) -> Result<(), Failure> {
        self.interrupt.check()?;
        match self.reports.recv_timeout(patience) {
            Ok((number, Some(Report::Ready))) => self.clients[number].ready = true,
            Ok((number, Some(Report::Tally(tally)))) => {
                self.clients[number].tally = tally;
                return self.check();
            }
            Ok((number, Some(Report::Marked(lines)))) => self.clients[number].lines = Some(lines),
            Ok((number, None)) => {
                return Err(Failure::Died(format!("Client process {number} ended unexpectedly")));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Failure::Died("Every client process ended unexpectedly".to_owned()));
            }
        }
        Ok(())
    }

    /// An error at the first news of a loss: those who tell us more are not waited for.
    fn check(&self) -> Result<(), Failure> {
        let Tally { lost, first_loss, .. } = self.tally();
        let Some(how) = first_loss else { return Ok(()) };
        let sessions = many(self.sessions, "session");
        Err(Failure::Lost(format!("At least {} of {sessions} lost; the first: {how}", count(lost))))
    }
}

impl Client {
    fn start(number: usize, reports: Sender<(usize, Option<Report>)>) -> io::Result<Self> {
        let (stdin, orders) = io::pipe()?;
        let (output, stdout) = io::pipe()?;
        let process =
            ChildGuard::spawn(Command::new(env::current_exe()?).arg("client").stdin(stdin).stdout(stdout))?;
        thread::spawn(move || follow(output, number, &reports));
        Ok(Self { process, orders, ready: false, tally: Tally::default(), lines: None })
    }

    fn send(&mut self, order: &Order) -> Result<(), Failure> {
        let line = serde_json::to_string(order).expect("an order has no keys but strings");
        writeln!(self.orders, "{line}").map_err(Failure::system("An order to a client process"))
    }
}

/// Passes on what a process reports, and its end.
fn follow(output: PipeReader, number: usize, reports: &Sender<(usize, Option<Report>)>) {
    let lines = BufReader::new(output).lines().map_while(Result::ok);
    for report in lines.map_while(|line| serde_json::from_str(&line).ok()) {
        if reports.send((number, Some(report))).is_err() {
            return;
        }
    }
    // Nobody may listen any more, because it is the parent that ends.
    let _ = reports.send((number, None));
}
