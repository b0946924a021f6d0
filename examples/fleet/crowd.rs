//! The client processes, seen from the parent: their orders, and what they report.

use std::env;
use std::io::{self, BufRead, BufReader, PipeReader, PipeWriter, Write};
use std::process::Command;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::child::ChildGuard;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::message::{Order, Report, Share, Tally};

/// Without any news for so long, something that was waited for will not come.
const PATIENCE: Duration = Duration::from_secs(60);

/// All client processes. Dropping it ends them.
#[derive(Debug)]
pub struct Crowd {
    clients: Vec<Client>,
    reports: Receiver<(usize, Option<Report>)>,
    interrupt: Interrupt,
}

#[derive(Debug)]
struct Client {
    process: ChildGuard,
    orders: PipeWriter,
    /// As it last reported.
    tally: Tally,
    /// The latencies that it was last asked for, until they are taken.
    latencies: Option<Vec<(u64, u64)>>,
}

impl Crowd {
    /// Starts so many client processes, which wait for orders.
    pub fn start(processes: usize, interrupt: &Interrupt) -> Result<Self, Failure> {
        let (sender, reports) = channel();
        let clients = (0..processes)
            .map(|number| Client::start(number, sender.clone()).map_err(Failure::system("A client process")))
            .collect::<Result<_, _>>()?;
        Ok(Self { clients, reports, interrupt: interrupt.clone() })
    }

    /// The process ids.
    pub fn ids(&self) -> impl Iterator<Item = u32> {
        self.clients.iter().map(|client| client.process.id())
    }

    /// Has each process open its share of the sessions.
    pub fn open(&mut self, shares: &[Share]) -> Result<(), Failure> {
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

    /// Sets a mark, and returns the latencies since the last one, in nanoseconds.
    pub fn mark(&mut self) -> Result<Histogram<u64>, Failure> {
        self.order(&Order::Mark)?;
        let deadline = Instant::now() + PATIENCE;
        while self.clients.iter().any(|client| client.latencies.is_none()) {
            self.hear(Interrupt::TICK)?;
            if Instant::now() > deadline {
                return Err(Failure::Silent("the latencies".to_owned()));
            }
        }
        let mut all = histogram();
        for (latency, count) in self.clients.iter_mut().filter_map(|client| client.latencies.take()).flatten()
        {
            all.record_n(latency, count).expect("it comes from a histogram with the same bounds");
        }
        Ok(all)
    }

    /// Takes in one report, if one comes within `patience`.
    fn hear(&mut self, patience: Duration) -> Result<(), Failure> {
        self.interrupt.check()?;
        match self.reports.recv_timeout(patience) {
            Ok((number, Some(Report::Tally(tally)))) => {
                self.clients[number].tally = tally;
                return self.check();
            }
            Ok((number, Some(Report::Marked(latencies)))) => self.clients[number].latencies = Some(latencies),
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

    fn check(&self) -> Result<(), Failure> {
        let Tally { lost, greeted, first_loss, .. } = self.tally();
        match first_loss {
            None => Ok(()),
            Some(how) => Err(Failure::Lost(format!("{lost} of {greeted} sessions lost; the first: {how}"))),
        }
    }
}

impl Client {
    fn start(number: usize, reports: Sender<(usize, Option<Report>)>) -> io::Result<Self> {
        let (stdin, orders) = io::pipe()?;
        let (output, stdout) = io::pipe()?;
        let process =
            ChildGuard::spawn(Command::new(env::current_exe()?).arg("client").stdin(stdin).stdout(stdout))?;
        thread::spawn(move || follow(output, number, &reports));
        Ok(Self { process, orders, tally: Tally::default(), latencies: None })
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

/// From a nanosecond to a minute, to three digits.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3)
        .expect("the bounds are in order and three digits are allowed")
}
