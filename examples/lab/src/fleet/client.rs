//! A client process: its share of the sessions on one thread. A thread of its own reads the orders and wakes the loop.
//! Reports are short, and the parent always reads.

use std::io;
use std::iter::Peekable;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::{Registry, Token, Waker};

use crate::fleet::message::{Lines, Order, Report, Share, Tally};
use crate::fleet::plan::PORTS;
use crate::support::load::client::{Answered, News, Part};
use crate::support::load::schedule::regular;
use crate::support::load::{Sessions, Sources};
use crate::support::{Failure, latency, try_to_say};

/// How often each active session sends a line: faster than people type.
const INTERVAL: Duration = Duration::from_millis(100);
/// How often the parent gets a report, at most.
const REPORTING: Duration = Duration::from_millis(20);
/// The orders' token. Sessions have their place, which counts from 0.
const ORDERS: Token = Token(usize::MAX - 1);

/// Holds a share of the sessions, and follows orders until they end.
pub fn run(share: &Share) -> Result<(), Failure> {
    rlimit::increase_nofile_limit(u64::MAX).map_err(Failure::system("The open-file limit"))?;
    let sessions = Sessions::new(share.target, Sources::new(share.source, 1, PORTS))?;
    let orders = follow(sessions.registry(), ORDERS).map_err(Failure::system("The orders"))?;
    let clients = Clients {
        share,
        orders,
        sessions,
        step: Step::Waiting,
        in_flight: 0,
        lines: None,
        answered: Vec::new(),
        latencies: latency::histogram(),
        marked: None,
        tally: Tally::default(),
        reported: Tally::default(),
        reported_at: Instant::now(),
    };
    clients.run()
}

type Due = Peekable<Box<dyn Iterator<Item = (Instant, usize)>>>;

struct Clients<'a> {
    share: &'a Share,
    orders: Orders,
    sessions: Sessions,
    step: Step,
    /// Sessions that wait for their banner, or for the answer to the roll call.
    in_flight: usize,
    /// When the lines of the active sessions are due, and in which places.
    lines: Option<Due>,
    answered: Vec<Answered>,
    latencies: Histogram<u64>,
    /// The last mark.
    marked: Option<Instant>,
    tally: Tally,
    reported: Tally,
    reported_at: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Waiting,
    /// Sessions open until the share is complete. Active sessions send lines in this step.
    Opening,
    /// The roll call; the next session to be called has this place.
    Calling(usize),
}

impl Clients<'_> {
    fn run(mut self) -> Result<(), Failure> {
        report(&Report::Tally(self.tally.clone()))?;
        loop {
            let report = (self.tally != self.reported).then(|| self.reported_at + REPORTING);
            let limit = report.map(|report| report.saturating_duration_since(Instant::now()));
            let due = self.lines.as_mut().and_then(|lines| Some(lines.peek()?.0));
            for (place, is_closing) in self.sessions.wait(limit, due)?.0 {
                if Token(place) != ORDERS {
                    self.serve(place, is_closing);
                } else if !self.obey()? {
                    return Ok(());
                }
            }
            self.send_due_lines();
            self.go_on();
            self.report()?;
        }
    }

    /// Follows the parent's orders; says whether there may be more.
    fn obey(&mut self) -> Result<bool, Failure> {
        loop {
            match self.orders.0.try_recv() {
                // The parent has ended.
                Err(TryRecvError::Disconnected) => return Ok(false),
                Err(TryRecvError::Empty) => return Ok(true),
                Ok(Order::Open) => self.step = Step::Opening,
                Ok(Order::Send) => {
                    let start = Instant::now();
                    let lines = regular(INTERVAL, self.share.active, Duration::MAX);
                    let lines = lines.map(move |line| (start + line.due, line.session));
                    self.lines = Some((Box::new(lines) as Box<dyn Iterator<Item = _>>).peekable());
                }
                Ok(Order::Mark) => {
                    self.marked = Some(Instant::now());
                    report(&Report::Marked(self.lines_at_mark()))?;
                    self.latencies.reset();
                }
                Ok(Order::CallRoll) => (self.lines, self.step) = (None, Step::Calling(0)),
            }
        }
    }

    fn lines_at_mark(&mut self) -> Lines {
        let recorded = self.latencies.iter_recorded();
        let latencies = recorded.map(|value| (value.value_iterated_to(), value.count_at_value())).collect();
        let (mut waiting, mut oldest) = (0, Duration::ZERO);
        for place in 0..self.sessions.len().min(self.share.active) {
            if let Some(client) = self.sessions.client(place) {
                waiting += client.unanswered();
                oldest = oldest.max(client.oldest().map_or(Duration::ZERO, |due| due.elapsed()));
            }
        }
        Lines { latencies, waiting, oldest }
    }

    fn send_due_lines(&mut self) {
        while let Some(lines) = &mut self.lines
            && let Some((due, place)) = lines.next_if(|(due, _)| *due <= Instant::now())
        {
            self.say(place, due);
        }
    }

    fn say(&mut self, place: usize, due: Instant) {
        let client = self.sessions.client(place).filter(|client| client.is_greeted());
        if let Some(Err(failure)) = client.map(|client| client.say(due)) {
            self.end(place, Some(&failure.to_string()));
        }
    }

    /// Keeps as many sessions in flight as allowed.
    fn go_on(&mut self) {
        while self.in_flight < self.share.in_flight {
            match self.step {
                Step::Opening if self.sessions.len() < self.share.sessions => self.open(),
                Step::Calling(place) if place < self.sessions.len() => {
                    self.step = Step::Calling(place + 1);
                    let Some(client) = self.sessions.client(place) else { continue };
                    self.in_flight += 1;
                    // The last answers to an active session are as good.
                    if client.unanswered() == 0 {
                        self.say(place, Instant::now());
                    }
                }
                _ => return,
            }
        }
    }

    fn open(&mut self) {
        let place = self.sessions.len();
        match self.sessions.open(place, Part::Lines, self.share.first + place) {
            Ok(()) => self.in_flight += 1,
            Err(failure) => {
                self.sessions.remove(place);
                self.lose(format!("a session was not opened: {failure}"));
            }
        }
    }

    /// Reads what has come for a session.
    fn serve(&mut self, place: usize, is_closing: bool) {
        loop {
            match self.sessions.turn(place, &mut self.answered) {
                Ok(News::Nothing) => return,
                Ok(News::Part | News::Streamed(_) | News::Heard { .. } | News::Left) => {}
                Ok(News::Greeted) => {
                    self.in_flight -= 1;
                    self.tally.greeted += 1;
                    let due = self.sessions.client(place).map(|client| client.due());
                    self.tally.slowest =
                        self.tally.slowest.max(due.map_or(Duration::ZERO, |due| due.elapsed()));
                }
                Ok(News::Answered) => self.count(place),
                Ok(News::Ended) => {
                    let wrong = self.judge_end(place);
                    self.end(place, wrong);
                }
                Err(failure) => self.end(place, Some(&failure.to_string())),
            }
            if !is_closing {
                return;
            }
        }
    }

    fn count(&mut self, place: usize) {
        let is_called = match self.step {
            Step::Waiting | Step::Opening => {
                let latencies = self.answered.iter().map(|answered| answered.latency);
                latencies.for_each(|latency| latency::record(&mut self.latencies, latency));
                false
            }
            // It may be the last line of an active session, answered before the roll call came to it.
            Step::Calling(next) => place < next,
        };
        self.answered.clear();
        if is_called && self.sessions.client(place).is_some_and(|client| client.unanswered() == 0) {
            self.in_flight -= 1;
            self.tally.called += 1;
        }
    }

    /// What is wrong with the end of a session; `None` if it ended in order. A server may end a session after a mark,
    /// when it has answered every line that was sent before.
    fn judge_end(&mut self, place: usize) -> Option<&'static str> {
        let (marked, client) = (self.marked, self.sessions.client(place)?);
        match marked {
            None => Some("ended before its server was told to stop"),
            Some(_) if !client.is_greeted() => Some("ended before its banner"),
            Some(marked) if client.oldest().is_some_and(|due| due < marked) => {
                Some("ended without an answer to its last line")
            }
            Some(_) => None,
        }
    }

    /// Removes a session that has ended: in order, or lost for the given reason.
    fn end(&mut self, place: usize, lost: Option<&str>) {
        let Some(client) = self.sessions.remove(place) else { return };
        let is_greeted = client.is_greeted();
        let is_awaited = match self.step {
            Step::Waiting | Step::Opening => !is_greeted,
            Step::Calling(next) => place < next && (client.unanswered() > 0 || !is_greeted),
        };
        self.in_flight -= usize::from(is_awaited);
        if let Some(how) = lost {
            self.lose(format!("session {} {how}", self.share.first + place));
        } else {
            self.tally.ended += 1;
            self.tally.crossed += usize::from(client.unanswered() > 0);
        }
    }

    fn lose(&mut self, how: String) {
        self.tally.lost += 1;
        self.tally.first_loss.get_or_insert(how);
    }

    fn report(&mut self) -> Result<(), Failure> {
        if self.tally != self.reported && self.reported_at.elapsed() >= REPORTING {
            report(&Report::Tally(self.tally.clone()))?;
            self.reported = self.tally.clone();
            self.reported_at = Instant::now();
        }
        Ok(())
    }
}

/// The orders, in their order, and what wakes the loop for them: a dropped waker would take its last wake with it.
type Orders = (Receiver<Order>, Arc<Waker>);

/// Reads orders in a thread of its own, which wakes the loop for each and for their end.
fn follow(registry: &Registry, token: Token) -> io::Result<Orders> {
    let waker = Arc::new(Waker::new(registry, token)?);
    let (sender, received) = channel();
    let orders = (received, Arc::clone(&waker));
    thread::spawn(move || {
        let lines = io::stdin().lines().map_while(Result::ok);
        for order in lines.map_while(|line| serde_json::from_str(&line).ok()) {
            if sender.send(order).is_err() {
                return;
            }
            // After a failed wake, the next one brings this order too.
            let _ = waker.wake();
        }
        drop(sender);
        let _ = waker.wake();
    });
    Ok(orders)
}

/// Sends a report to the parent.
fn report(report: &Report) -> Result<(), Failure> {
    try_to_say(serde_json::to_string(report).expect("a report has no keys but strings"))
}
