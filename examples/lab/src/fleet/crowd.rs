//! The client processes, seen from the parent: their orders and their reports.

use std::env;
use std::io::{self, BufRead, BufReader, PipeWriter, Write};
use std::process::Command;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::fleet::message::{Lines, Order, Report, Share, Tally};
use crate::support::{ChildGuard, Failure, Interrupt, count, many};

/// Without news for so long, the awaited report will not come.
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
    /// Its last report. The first one says that it waits for orders: before that, its memory still grows.
    tally: Option<Tally>,
    /// The lines at the last mark, until they are taken.
    lines: Option<Lines>,
}

impl Crowd {
    /// Starts a client process for each share of the sessions, and returns when they wait for orders.
    pub fn start(shares: &[Share], interrupt: &Interrupt) -> Result<Self, Failure> {
        let (sender, reports) = channel();
        let start = |(number, share)| Client::start(number, share, sender.clone());
        let clients = shares.iter().enumerate().map(start).collect::<Result<_, _>>();
        let clients = clients.map_err(Failure::system("A client process"))?;
        let sessions = shares.iter().map(|share| share.sessions).sum();
        let mut crowd = Self { clients, reports, sessions, interrupt: interrupt.clone() };
        crowd.wait_until("the client processes", |crowd| {
            crowd.clients.iter().all(|client| client.tally.is_some())
        })?;
        Ok(crowd)
    }

    /// The process ids.
    pub fn ids(&self) -> impl Iterator<Item = u32> {
        self.clients.iter().map(|client| client.process.id())
    }

    /// Gives every process the same order.
    pub fn order(&mut self, order: &Order) -> Result<(), Failure> {
        self.clients.iter_mut().try_for_each(|client| client.send(order))
    }

    /// What has become of all sessions so far.
    pub fn tally(&self) -> Tally {
        self.clients.iter().flat_map(|client| &client.tally).fold(Tally::default(), Tally::and)
    }

    /// Waits until `done` holds for the tally, and returns the tally. A lost session ends the wait with an error.
    pub fn wait_for(&mut self, what: &str, mut done: impl FnMut(&Tally) -> bool) -> Result<Tally, Failure> {
        self.wait_until(what, |crowd| done(&crowd.tally()))?;
        Ok(self.tally())
    }

    fn wait_until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) -> Result<(), Failure> {
        let (mut last, mut news) = (self.tally(), Instant::now());
        while !done(self) {
            self.hear(Interrupt::TICK)?;
            let now = self.tally();
            if now != last {
                (last, news) = (now, Instant::now());
            } else if news.elapsed() > PATIENCE {
                let silence = format!("nothing new within {PATIENCE:?}, while waiting for {what}");
                return Err(Failure::Silent(silence));
            }
        }
        Ok(())
    }

    /// Lets the clients go on for some time.
    pub fn wait(&mut self, time: Duration) -> Result<(), Failure> {
        let until = Instant::now() + time;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            self.hear(left.min(Interrupt::TICK))?;
        }
        Ok(())
    }

    /// Sets a mark, and returns how the lines since the last one were answered.
    pub fn mark(&mut self) -> Result<Lines, Failure> {
        self.order(&Order::Mark)?;
        self.wait_until("the latencies", |crowd| crowd.clients.iter().all(|client| client.lines.is_some()))?;
        let lines = self.clients.iter_mut().filter_map(|client| client.lines.take());
        Ok(lines.reduce(Lines::and).unwrap_or_default())
    }

    /// Takes in one report, if one comes within `patience`.
    fn hear(&mut self, patience: Duration) -> Result<(), Failure> {
        self.interrupt.check()?;
        match self.reports.recv_timeout(patience) {
            Ok((number, Some(Report::Tally(tally)))) => {
                self.clients[number].tally = Some(tally);
                return self.check();
            }
            Ok((number, Some(Report::Marked(lines)))) => self.clients[number].lines = Some(lines),
            Ok((number, None)) => return Err(Failure::Died(format!("client process {number} has ended"))),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Failure::Died("every client process has ended".to_owned()));
            }
        }
        Ok(())
    }

    /// An error at the first loss.
    fn check(&self) -> Result<(), Failure> {
        let Tally { lost, first_loss, .. } = self.tally();
        let Some(how) = first_loss else { return Ok(()) };
        let sessions = many(self.sessions, "session");
        Err(Failure::Lost(format!("at least {} of {sessions}; the first: {how}", count(lost))))
    }
}

impl Client {
    fn start(number: usize, share: &Share, reports: Sender<(usize, Option<Report>)>) -> io::Result<Self> {
        let (stdin, orders) = io::pipe()?;
        let (output, stdout) = io::pipe()?;
        let mut command = Command::new(env::current_exe()?);
        command.args(["fleet-client", &serde_json::to_string(share)?]).stdin(stdin).stdout(stdout);
        let process = ChildGuard::spawn(&mut command)?;
        // The client never waits for the parent. The last message says that there are no more. It fails when the parent ends.
        thread::spawn(move || {
            let lines = BufReader::new(output).lines().map_while(Result::ok);
            let all = lines.map_while(|line| serde_json::from_str(&line).ok()).map(Some).chain([None]);
            all.map(|report| reports.send((number, report))).all(|sent| sent.is_ok())
        });
        Ok(Self { process, orders, tally: None, lines: None })
    }

    fn send(&mut self, order: &Order) -> Result<(), Failure> {
        let line = serde_json::to_string(order).expect("an order has no keys but strings");
        writeln!(self.orders, "{line}").map_err(Failure::system("An order to a client process"))
    }
}
