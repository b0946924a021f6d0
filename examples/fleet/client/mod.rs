//! A client process: its share of the sessions on one thread and one `Poll`, every byte checked.
//!
//! It is the mirror image of the server and obeys the same rules: nothing blocks but `poll`, and readiness is a hint.
//! Orders are read in a thread of their own, which wakes the loop; reports are short, and the parent always reads.

mod orders;
mod session;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::event::Event;
use mio::{Events, Interest, Poll, Token};

use self::orders::Orders;
use self::session::{News, Session};
use crate::answers::histogram;
use crate::connect::connect_from;
use crate::failure::Failure;
use crate::message::{Lines, Order, Report, Share, Tally};
use crate::plan::PORTS;

/// How often each typist types a line: faster than people do.
const TYPING: Duration = Duration::from_millis(100);
/// How often the parent is told what has changed, at most.
const TELLING: Duration = Duration::from_millis(20);
/// Events taken from one `poll`.
const EVENTS: usize = 1024;
/// The orders' token; sessions have their place, which counts from 0.
const ORDERS: Token = Token(usize::MAX);

/// Does what it is ordered to until the orders end.
pub fn run() -> Result<(), Failure> {
    rlimit::increase_nofile_limit(u64::MAX).map_err(Failure::system("The open-file limit"))?;
    let poll = Poll::new().map_err(Failure::system("epoll"))?;
    let orders = Orders::follow(poll.registry(), ORDERS).map_err(Failure::system("The orders"))?;
    Clients::new(poll, orders).run().map_err(Failure::system("A client process"))
}

struct Clients {
    poll: Poll,
    orders: Orders,
    share: Option<Share>,
    step: Step,
    /// A session's place is its token. Those that are over leave their place empty.
    sessions: Vec<Option<Session>>,
    ports: RangeInclusive<u16>,
    /// Sessions that wait for their banner, or for the answer to the roll call.
    in_flight: usize,
    /// When which typist types next.
    due: BinaryHeap<Reverse<(Instant, usize)>>,
    latencies: Histogram<u64>,
    /// The marks that have been set. Each line remembers how many there were before it.
    marks: u32,
    tally: Tally,
    told: Tally,
    told_at: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Sessions are opened until the share is complete. Typing goes on in this step.
    Opening,
    /// The roll is called; the next session to be called has this place.
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
            ports: PORTS,
            in_flight: 0,
            due: BinaryHeap::new(),
            latencies: histogram(),
            marks: 0,
            tally: Tally::default(),
            told: Tally::default(),
            told_at: Instant::now(),
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
            self.type_due_lines();
            self.go_on();
            self.tell()?;
        }
    }

    /// How long nothing is due. With nobody typing and nothing to tell, that is for ever.
    fn time_to_wait(&self) -> Option<Duration> {
        let now = Instant::now();
        let telling = (self.tally != self.told).then(|| self.told_at + TELLING);
        let typing = self.due.peek().map(|&Reverse((due, _))| due);
        let next = [telling, typing].into_iter().flatten().min()?;
        Some(next.saturating_duration_since(now))
    }

    /// Does what the parent has ordered; says whether there may be more orders.
    fn obey(&mut self) -> io::Result<bool> {
        while let Some(order) = self.orders.next() {
            match order {
                Order::Open(share) => {
                    self.sessions.reserve_exact(share.sessions);
                    self.share = Some(share);
                }
                Order::Type => self.start_typing(),
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

    /// How the typists stand at a mark. The first sessions are theirs.
    fn lines(&self) -> Lines {
        let recorded = self.latencies.iter_recorded();
        let typists = self.share.as_ref().map_or(0, |share| share.typists as usize);
        let sessions = self.sessions.iter().take(typists).flatten();
        let waiting: Vec<Duration> = sessions.filter_map(Session::waits_for).collect();
        Lines {
            latencies: recorded.map(|value| (value.value_iterated_to(), value.count_at_value())).collect(),
            waiting: waiting.len(),
            oldest: waiting.into_iter().max().unwrap_or_default(),
        }
    }

    /// The typists' first lines are spread over the interval: people do not type in step.
    fn start_typing(&mut self) {
        let now = Instant::now();
        let typists = self.share.as_ref().map_or(0, |share| share.typists);
        self.due = (0..typists).map(|nth| Reverse((now + TYPING * nth / typists, nth as usize))).collect();
    }

    fn type_due_lines(&mut self) {
        while let Some(&Reverse((due, place))) = self.due.peek()
            && due <= Instant::now()
        {
            self.due.pop();
            // `poll` wakes us up to a millisecond late, which is not the server's doing.
            self.ask(place, Instant::now());
        }
    }

    /// Keeps as many sessions in flight as there may be.
    fn go_on(&mut self) {
        let Some(share) = self.share.clone() else { return };
        while self.in_flight < share.in_flight {
            match self.step {
                Step::Opening if self.sessions.len() < share.sessions => self.open(&share),
                Step::Calling(place) if place < self.sessions.len() => {
                    self.step = Step::Calling(place + 1);
                    if self.sessions[place].is_some() {
                        self.in_flight += 1;
                        // A typist who still waits for an answer is asked already.
                        self.ask(place, Instant::now());
                    }
                }
                _ => return,
            }
        }
    }

    fn open(&mut self, share: &Share) {
        let place = self.sessions.len();
        match self.connect(share, place) {
            Ok(session) => {
                self.sessions.push(Some(session));
                self.in_flight += 1;
            }
            Err(error) => {
                self.sessions.push(None);
                self.lose(format!("session {} was not opened: {error}", share.first + place));
            }
        }
    }

    /// Starts to connect from the next port that nobody else holds, for himself (`AddrInUse`) or for a connection to
    /// the same server (`AddrNotAvailable`), be it one that has just ended.
    fn connect(&mut self, share: &Share, place: usize) -> io::Result<Session> {
        let mut stream = loop {
            let none_left = || io::Error::other(format!("no port of {} is left", share.source));
            let port = self.ports.next().ok_or_else(none_left)?;
            match connect_from(SocketAddr::from((share.source, port)), share.target) {
                Err(error) if matches!(error.kind(), ErrorKind::AddrInUse | ErrorKind::AddrNotAvailable) => {}
                result => break result?,
            }
        };
        // Readable is enough: the banner comes as soon as there is a connection, and its failure is readable too.
        self.poll.registry().register(&mut stream, Token(place), Interest::READABLE)?;
        Ok(Session::new(stream, share.first + place, Instant::now()))
    }

    /// Lets the session in a place send its next line, which was due at the given time.
    fn ask(&mut self, place: usize, due: Instant) {
        let Some(session) = &mut self.sessions[place] else { return };
        if let Err(how) = session.ask(due, self.marks) {
            self.end(place, Some(how));
        }
    }

    /// Reads what has come for a session.
    fn serve(&mut self, event: &Event) {
        let place = event.token().0;
        // A short read says that there is no more, unless the end of input waits behind it (epoll(7)).
        let until_blocked = event.is_read_closed() || event.is_error();
        while let Some(session) = &mut self.sessions[place] {
            match session.read() {
                Ok(News::Nothing) => return,
                Ok(News::Part) => {}
                Ok(News::Greeted(after)) => {
                    self.in_flight -= 1;
                    self.tally.greeted += 1;
                    self.tally.slowest = self.tally.slowest.max(after);
                }
                Ok(News::Answered(due)) => self.answered(place, due),
                Ok(News::Ended) => {
                    let how = session.end(self.marks);
                    self.end(place, how);
                }
                Err(how) => self.end(place, Some(how)),
            }
            if !until_blocked {
                return;
            }
        }
    }

    fn answered(&mut self, place: usize, due: Instant) {
        match self.step {
            Step::Opening => {
                let latency = u64::try_from(due.elapsed().as_nanos()).unwrap_or(u64::MAX);
                self.latencies.saturating_record(latency);
                let next = due + TYPING;
                if next > Instant::now() {
                    self.due.push(Reverse((next, place)));
                } else {
                    // Who was kept waiting is late with the next line too, and its latency says so.
                    self.ask(place, next);
                }
            }
            Step::Calling(next) if place < next => {
                self.in_flight -= 1;
                self.tally.called += 1;
            }
            // A typist's last line, answered before the roll came to it.
            Step::Calling(_) => {}
        }
    }

    /// Clears a session away that has ended: in order, or lost in the given way.
    fn end(&mut self, place: usize, lost: Option<String>) {
        let Some(session) = self.sessions[place].take() else { return };
        let awaited = match self.step {
            Step::Opening => !session.is_greeted(),
            Step::Calling(next) => place < next && session.waits(),
        };
        self.in_flight -= usize::from(awaited);
        if let Some(how) = lost {
            self.lose(how);
        } else {
            self.tally.ended += 1;
            self.tally.crossed += usize::from(session.waits());
        }
    }

    fn lose(&mut self, how: String) {
        self.tally.lost += 1;
        self.tally.first_loss.get_or_insert(how);
    }

    fn tell(&mut self) -> io::Result<()> {
        if self.tally != self.told && self.told_at.elapsed() >= TELLING {
            orders::report(&Report::Tally(self.tally.clone()))?;
            self.told = self.tally.clone();
            self.told_at = Instant::now();
        }
        Ok(())
    }
}
