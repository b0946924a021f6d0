//! A client process: its share of the sessions on one thread and one `Poll`, every byte checked.
//!
//! It is the mirror image of the server and follows the same rules: only `poll` blocks, and readiness is a hint. A
//! thread of its own reads the orders and wakes the loop. Reports are short, and the parent always reads.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::event::Event;
use mio::{Events, Interest, Poll, Token};

use crate::fleet::message::{Lines, Order, Report, Share, Tally};
use crate::fleet::orders::{self, Orders};
use crate::fleet::plan::PORTS;
use crate::support::client::{News, Session, Sources};
use crate::support::failure::Failure;
use crate::support::latency;

/// How often each active session sends a line: faster than people type.
const INTERVAL: Duration = Duration::from_millis(100);
/// How often the parent gets a report, at most.
const REPORTING: Duration = Duration::from_millis(20);
/// Events taken from one `poll`.
const EVENTS: usize = 1024;
/// The orders' token. Sessions have their place, which counts from 0.
const ORDERS: Token = Token(usize::MAX);

/// Follows orders until they end.
pub fn run() -> Result<(), Failure> {
    rlimit::increase_nofile_limit(u64::MAX).map_err(Failure::system("The open-file limit"))?;
    let poll = Poll::new().map_err(Failure::system("epoll"))?;
    let orders = Orders::follow(poll.registry(), ORDERS).map_err(Failure::system("The orders"))?;
    Clients::new(poll, orders).run().map_err(Failure::system("A client process"))
}

struct Clients {
    poll: Poll,
    orders: Orders,
    share: Option<(Share, Sources)>,
    step: Step,
    /// A session's place is its token. A session that is over leaves its place empty.
    sessions: Vec<Option<Place>>,
    /// Sessions that wait for their banner, or for the answer to the roll call.
    in_flight: usize,
    /// When the next line of each active session is due.
    due: BinaryHeap<Reverse<(Instant, usize)>>,
    latencies: Histogram<u64>,
    /// How many marks were set.
    marks: u32,
    tally: Tally,
    reported: Tally,
    reported_at: Instant,
}

struct Place {
    session: Session,
    /// The marks that were set before its last line.
    marks: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Sessions open until the share is complete. Active sessions send lines in this step.
    Opening,
    /// The roll call; the next session to be called has this place.
    Calling(usize),
}

impl Clients {
    fn new(poll: Poll, orders: Orders) -> Self {
        Self {
            poll,
            orders,
            share: None,
            step: Step::Opening,
            sessions: Vec::new(),
            in_flight: 0,
            due: BinaryHeap::new(),
            latencies: latency::histogram(),
            marks: 0,
            tally: Tally::default(),
            reported: Tally::default(),
            reported_at: Instant::now(),
        }
    }

    fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        orders::report(&Report::Ready)?;
        loop {
            match self.poll.poll(&mut events, self.time_to_wait()) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => result?,
            }
            for event in &events {
                if event.token() == ORDERS {
                    if !self.obey()? {
                        return Ok(());
                    }
                } else {
                    self.serve(event);
                }
            }
            self.send_due_lines();
            self.go_on();
            self.report()?;
        }
    }

    /// How long nothing is due; `None` is without end.
    fn time_to_wait(&self) -> Option<Duration> {
        let now = Instant::now();
        let report = (self.tally != self.reported).then(|| self.reported_at + REPORTING);
        let line = self.due.peek().map(|&Reverse((due, _))| due);
        let next = [report, line].into_iter().flatten().min()?;
        Some(next.saturating_duration_since(now))
    }

    /// Follows the parent's orders; says whether there may be more.
    fn obey(&mut self) -> io::Result<bool> {
        while let Some(order) = self.orders.next() {
            match order {
                Order::Open(share) => {
                    self.sessions.reserve_exact(share.sessions);
                    let sources = Sources::new(share.source, 1, PORTS);
                    self.share = Some((share, sources));
                }
                Order::Send => self.start_sending(),
                Order::Mark => {
                    self.marks += 1;
                    orders::report(&Report::Marked(self.lines()))?;
                    self.latencies.reset();
                }
                Order::CallRoll => {
                    self.due.clear();
                    self.step = Step::Calling(0);
                }
            }
        }
        Ok(!self.orders.have_ended())
    }

    /// How many sessions are active: the first ones.
    fn active(&self) -> u32 {
        self.share.as_ref().map_or(0, |(share, _)| share.active)
    }

    /// The active sessions' lines at a mark.
    fn lines(&self) -> Lines {
        let recorded = self.latencies.iter_recorded();
        let active = self.sessions.iter().take(self.active() as usize).flatten();
        let waiting = active.filter(|place| place.session.awaits_answer());
        let waiting: Vec<Duration> = waiting.map(|place| place.session.due().elapsed()).collect();
        Lines {
            latencies: recorded.map(|value| (value.value_iterated_to(), value.count_at_value())).collect(),
            waiting: waiting.len(),
            oldest: waiting.into_iter().max().unwrap_or_default(),
        }
    }

    /// The first lines are spread over the interval: real clients do not send in step.
    fn start_sending(&mut self) {
        let (now, active) = (Instant::now(), self.active());
        self.due = (0..active).map(|nth| Reverse((now + INTERVAL * nth / active, nth as usize))).collect();
    }

    fn send_due_lines(&mut self) {
        while let Some(&Reverse((due, place))) = self.due.peek()
            && due <= Instant::now()
        {
            self.due.pop();
            // `poll` wakes up to a millisecond late, which the server did not cause.
            self.ask(place, Instant::now());
        }
    }

    /// Keeps as many sessions in flight as allowed.
    fn go_on(&mut self) {
        let Some((share, _)) = &self.share else { return };
        let (in_flight, sessions) = (share.in_flight, share.sessions);
        while self.in_flight < in_flight {
            match self.step {
                Step::Opening if self.sessions.len() < sessions => self.open(),
                Step::Calling(place) if place < self.sessions.len() => {
                    self.step = Step::Calling(place + 1);
                    if self.sessions[place].is_some() {
                        self.in_flight += 1;
                        self.ask(place, Instant::now());
                    }
                }
                _ => return,
            }
        }
    }

    fn open(&mut self) {
        let place = self.sessions.len();
        match self.connect(place) {
            Ok(session) => {
                self.sessions.push(Some(Place { session, marks: 0 }));
                self.in_flight += 1;
            }
            Err(error) => {
                self.sessions.push(None);
                self.lose(format!("a session was not opened: {error}"));
            }
        }
    }

    fn connect(&mut self, place: usize) -> io::Result<Session> {
        let (share, sources) = self.share.as_mut().ok_or(ErrorKind::NotFound)?;
        let mut stream = sources.connect(share.target)?;
        // Readable is enough: the banner comes as soon as there is a connection, and its failure is readable too.
        self.poll.registry().register(&mut stream, Token(place), Interest::READABLE)?;
        Ok(Session::new(stream, share.first + place))
    }

    /// Sends the next line of the session in a place, unless its last one has no answer yet.
    fn ask(&mut self, place: usize, due: Instant) {
        let Some(Place { session, marks }) = &mut self.sessions[place] else { return };
        if !session.is_greeted() || session.awaits_answer() {
            return;
        }
        *marks = self.marks;
        if let Err(failure) = session.say(due) {
            self.end(place, Some(&failure.to_string()));
        }
    }

    /// Reads what has come for a session.
    fn serve(&mut self, event: &Event) {
        let place = event.token().0;
        // A short read empties the socket, unless the end of input stands behind it (epoll(7)).
        let until_blocked = event.is_read_closed() || event.is_error();
        while let Some(Place { session, .. }) = &mut self.sessions[place] {
            let due = session.due();
            match session.read() {
                Ok(News::Nothing) => return,
                Ok(News::Part) => {}
                Ok(News::Greeted) => {
                    self.in_flight -= 1;
                    self.tally.greeted += 1;
                    self.tally.slowest = self.tally.slowest.max(due.elapsed());
                }
                Ok(News::Answered) => self.answered(place, due),
                Ok(News::Ended) => {
                    let wrong = self.judge_end(place);
                    self.end(place, wrong);
                }
                Err(failure) => self.end(place, Some(&failure.to_string())),
            }
            if !until_blocked {
                return;
            }
        }
    }

    /// What is wrong with the end of a session; `None` if it ended in order. A server may end a session after a mark,
    /// when it has answered every line that was sent before.
    fn judge_end(&self, place: usize) -> Option<&'static str> {
        let Place { session, marks } = self.sessions[place].as_ref()?;
        if self.marks == 0 {
            Some("ended before its server was told to stop")
        } else if !session.is_greeted() {
            Some("ended before its banner")
        } else if session.awaits_answer() && *marks < self.marks {
            Some("ended without an answer to its last line")
        } else {
            None
        }
    }

    fn answered(&mut self, place: usize, due: Instant) {
        match self.step {
            Step::Opening => {
                latency::record(&mut self.latencies, due.elapsed());
                let next = due + INTERVAL;
                if next > Instant::now() {
                    self.due.push(Reverse((next, place)));
                } else {
                    // After a late answer the next line is late too, and its latency says so.
                    self.ask(place, next);
                }
            }
            Step::Calling(next) if place < next => {
                self.in_flight -= 1;
                self.tally.called += 1;
            }
            // The last line of an active session, answered before the roll call came to it.
            Step::Calling(_) => {}
        }
    }

    /// Removes a session that has ended: in order, or lost for the given reason.
    fn end(&mut self, place: usize, lost: Option<&str>) {
        let Some(Place { session, .. }) = self.sessions[place].take() else { return };
        let awaited = match self.step {
            Step::Opening => !session.is_greeted(),
            Step::Calling(next) => place < next && (session.awaits_answer() || !session.is_greeted()),
        };
        self.in_flight -= usize::from(awaited);
        if let Some(how) = lost {
            self.lose(format!("session {} {how}", session.number()));
        } else {
            self.tally.ended += 1;
            self.tally.crossed += usize::from(session.awaits_answer());
        }
    }

    fn lose(&mut self, how: String) {
        self.tally.lost += 1;
        self.tally.first_loss.get_or_insert(how);
    }

    fn report(&mut self) -> io::Result<()> {
        if self.tally != self.reported && self.reported_at.elapsed() >= REPORTING {
            orders::report(&Report::Tally(self.tally.clone()))?;
            self.reported = self.tally.clone();
            self.reported_at = Instant::now();
        }
        Ok(())
    }
}
