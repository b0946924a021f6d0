//! The load: any number of clients on one thread and one `Poll`, every byte of every answer checked.
//!
//! It is the mirror image of the server and follows the same rules: only `poll` blocks, readiness is a hint, and a
//! client that stops early is served again. The server can be measured between its three steps:
//!
//! ```text
//!   gather: all resident clients connect, get the banner, and are silent
//!   play:   active clients send lines, floods stream, visitors come and go, until the time is over
//!   part:   the last answers come and are checked
//! ```
//!
//! Knows nothing of processes and figures.

mod client;
mod flood;
mod open;
mod schedule;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::sys::prctl;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use self::client::{Client, News};
pub use self::open::{OpenLoad, Slice};
pub use self::schedule::Schedule;
use crate::compare::workload::{IN_FLIGHT, Pace, Part, Workload};
use crate::support::client::Sources;
use crate::support::failure::Failure;
use crate::support::interrupt::Interrupt;
use crate::support::latency;

/// The load gives up a server from which nothing comes for so long. The kernel repeats a dropped handshake after one
/// second and after three, which is not yet silence.
const PATIENCE: Duration = Duration::from_secs(4);
/// How long the opening of all sessions may take, and the last answers.
const OPENING: Duration = Duration::from_secs(15);
/// Events taken from one `poll`.
const EVENTS: usize = 1024;
/// The token of the timer. Those of the clients count from 0.
const TIMER: Token = Token(usize::MAX);
/// Where floods read to: many answers in one read.
const SCRATCH: usize = 256 * 1024;

/// What the clients received.
#[derive(Debug)]
pub struct Heard {
    /// How long the load played.
    pub time: Duration,
    /// The lines that were answered, or the visits that ended, in that time.
    pub answers: u64,
    /// Those that began in that time and ended after it.
    pub late_answers: u64,
    /// The latencies of both (nanoseconds), and of each line that was due in that time but could not be sent. It counts
    /// everything that was offered.
    pub latency: Histogram<u64>,
    /// Bytes of floods' text that were answered in that time.
    pub streamed: u64,
    /// The same, after it.
    pub late_streamed: u64,
}

/// Clients at work on one server.
pub struct Load<'a> {
    target: SocketAddr,
    workload: &'a Workload,
    sources: &'a mut Sources,
    interrupt: &'a Interrupt,
    poll: Poll,
    /// A client's place is its token.
    clients: Vec<Client>,
    step: Step,
    /// How many clients the present step still waits for.
    awaited: usize,
    /// When the next line of each client is due, for those that send by the clock.
    due: BinaryHeap<Reverse<(Instant, usize)>>,
    /// Wakes the load when a line is due. The time-out of `epoll_wait` counts whole milliseconds.
    timer: TimerFd,
    /// Floods that stopped with work left. No new readiness will tell of it, so the load serves them in each turn.
    unfinished: Vec<usize>,
    scratch: Box<[u8]>,
    heard: Heard,
    /// When a client last had news.
    progress: Instant,
    /// The load has handled everything that happened before this moment. Patience compares with it, not with now: after
    /// Ctrl-Z and `fg`, the answers that came meanwhile wait in the kernel.
    caught_up_to: Instant,
    /// When the playing is over.
    end: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Gathering,
    Playing,
    Parting,
}

impl<'a> Load<'a> {
    /// A load on `target`, without a connection yet.
    pub fn new(
        target: SocketAddr,
        workload: &'a Workload,
        sources: &'a mut Sources,
        interrupt: &'a Interrupt,
    ) -> Result<Self, Failure> {
        let now = Instant::now();
        let poll = Poll::new().map_err(Failure::system("epoll"))?;
        let timer = timer(&poll).map_err(Failure::system("timerfd"))?;
        Ok(Self {
            target,
            workload,
            sources,
            interrupt,
            poll,
            clients: Vec::with_capacity(workload.sessions()),
            step: Step::Gathering,
            awaited: 0,
            due: BinaryHeap::new(),
            timer,
            unfinished: Vec::new(),
            scratch: vec![0; SCRATCH].into_boxed_slice(),
            heard: Heard {
                time: Duration::ZERO,
                answers: 0,
                late_answers: 0,
                latency: latency::histogram(),
                streamed: 0,
                late_streamed: 0,
            },
            progress: now,
            caught_up_to: now,
            end: now,
        })
    }

    /// Connects all resident clients and waits for their banners; returns how long that took.
    pub fn gather(&mut self) -> Result<Duration, Failure> {
        let wanted = self.workload.residents();
        let start = Instant::now();
        self.gather_by(wanted, start + OPENING)
            .map_err(|failure| failure.while_opening(self.clients.len() - self.awaited, wanted))?;
        Ok(start.elapsed())
    }

    fn gather_by(&mut self, wanted: usize, deadline: Instant) -> Result<(), Failure> {
        let mut events = Events::with_capacity(EVENTS);
        self.progress = Instant::now();
        while self.clients.len() < wanted || self.awaited > 0 {
            while self.clients.len() < wanted && self.awaited < IN_FLIGHT {
                self.open(self.clients.len())?;
                self.awaited += 1;
            }
            self.turn(&mut events, deadline)?;
            if self.caught_up_to > deadline {
                return Err(Failure::Silent(format!("not all sessions opened within {OPENING:?}")));
            }
        }
        Ok(())
    }

    /// Lets every client do its part for `time`.
    pub fn play(&mut self, time: Duration) -> Result<(), Failure> {
        let mut events = Events::with_capacity(EVENTS);
        self.step = Step::Playing;
        let start = Instant::now();
        (self.progress, self.end) = (start, start + time);
        self.begin(start)?;
        while Instant::now() < self.end {
            self.turn(&mut events, self.end)?;
        }
        // The last turn may have taken longer, and lines may have become due in it.
        self.end = Instant::now();
        self.heard.time = self.end - start;
        self.send_due_lines()
    }

    /// Waits for the answers that are still missing. All are then checked, and all are in the latency: the slowest ones
    /// are most likely among them.
    pub fn part(&mut self) -> Result<(), Failure> {
        let mut events = Events::with_capacity(EVENTS);
        self.step = Step::Parting;
        // A client that sends by the clock and is between two lines waits for nothing.
        let between_lines = self.due.len();
        self.due.clear();
        self.awaited = self.workload.sessions() - self.workload.idle - between_lines;
        for token in self.tokens(Part::Flood) {
            self.clients[token].leave()?;
        }
        let deadline = Instant::now() + OPENING;
        while self.awaited > 0 {
            self.turn(&mut events, deadline).map_err(|failure| failure.while_parting(self.awaited))?;
            if self.caught_up_to > deadline {
                let silence = Failure::Silent(format!("not all answers came within {OPENING:?}"));
                return Err(silence.while_parting(self.awaited));
            }
        }
        Ok(())
    }

    /// What the clients have received so far.
    pub fn heard(&self) -> &Heard {
        &self.heard
    }

    fn begin(&mut self, start: Instant) -> Result<(), Failure> {
        let active = self.tokens(Part::Active);
        for (nth, token) in active.clone().enumerate() {
            match self.workload.pace {
                Pace::Closed => self.clients[token].say(start)?,
                // The first lines are spread over the interval: real clients do not send in step.
                Pace::Every(interval) => {
                    let wait = interval.mul_f64(nth as f64 / active.len() as f64);
                    self.due.push(Reverse((start + wait, token)));
                }
            }
        }
        self.unfinished.extend(self.tokens(Part::Flood));
        for token in self.tokens(Part::Visitor) {
            self.open(token)?;
        }
        Ok(())
    }

    /// The places of the clients with this part.
    fn tokens(&self, part: Part) -> Range<usize> {
        self.workload.places(part)
    }

    /// Starts a new client in the given place.
    fn open(&mut self, token: usize) -> Result<(), Failure> {
        let mut client = Client::connect(self.target, self.sources, self.workload.part(token), token)?;
        client.register(self.poll.registry(), Token(token)).map_err(Failure::system("epoll"))?;
        if token < self.clients.len() {
            self.clients[token] = client;
        } else {
            self.clients.push(client);
        }
        Ok(())
    }

    /// One turn of the loop: wait, serve the ready clients and those with work left, send the lines that are due.
    fn turn(&mut self, events: &mut Events, until: Instant) -> Result<(), Failure> {
        let wait = self.time_to_wait(until)?;
        let asked = Instant::now();
        let complete = match self.poll.poll(events, Some(wait)) {
            // A full batch may have left events in the kernel.
            Ok(()) => events.iter().count() < EVENTS,
            // A signal came, a SIGCONT for example. The events are still in the kernel.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => false,
            Err(error) => return Err(Failure::system("epoll")(error)),
        };
        self.interrupt.check()?;
        for event in events.iter().filter(|event| event.token() != TIMER) {
            self.serve(event.token().0, event.is_read_closed() || event.is_error())?;
        }
        for token in mem::take(&mut self.unfinished) {
            self.serve(token, false)?;
        }
        if complete {
            self.caught_up_to = asked;
        }
        self.send_due_lines()?;
        if self.caught_up_to.saturating_duration_since(self.progress) > PATIENCE {
            return Err(Failure::Silent(format!("nothing came for {PATIENCE:?}")));
        }
        Ok(())
    }

    /// Sends the lines that are due. What is due after the end is not sent.
    fn send_due_lines(&mut self) -> Result<(), Failure> {
        while let Some(&Reverse((due, token))) = self.due.peek()
            && due <= Instant::now()
            && due < self.end
        {
            self.due.pop();
            self.clients[token].say(due)?;
        }
        Ok(())
    }

    fn time_to_wait(&self, until: Instant) -> Result<Duration, Failure> {
        if !self.unfinished.is_empty() {
            return Ok(Duration::ZERO);
        }
        let now = Instant::now();
        if let Some(&Reverse((due, _))) = self.due.peek() {
            // 0 would stop the timer.
            let wait = due.saturating_duration_since(now).max(Duration::from_nanos(1));
            let expiration = Expiration::OneShot(TimeSpec::from_duration(wait));
            self.timer
                .set(expiration, TimerSetTimeFlags::empty())
                .map_err(|error| Failure::system("timerfd")(error.into()))?;
        }
        Ok(until.saturating_duration_since(now).min(Interrupt::TICK))
    }

    fn serve(&mut self, token: usize, closing: bool) -> Result<(), Failure> {
        let news = self.clients[token].on_ready(closing, &mut self.scratch)?;
        if news == News::Nothing {
            return Ok(());
        }
        self.progress = Instant::now();
        match (self.step, news) {
            (Step::Gathering, News::Greeted) => self.awaited -= 1,
            (Step::Parting, News::Answered(latency) | News::Left(latency)) => {
                // A flood leaves too, but it is not a visit.
                if self.workload.part(token) != Part::Flood {
                    self.record_late(self.clients[token].due(), latency);
                }
                self.awaited -= 1;
            }
            (Step::Playing, News::Answered(latency)) => {
                self.record(latency);
                self.schedule_next_line(token)?;
            }
            (Step::Playing, News::Left(duration)) => {
                self.record(duration);
                self.open(token)?;
            }
            (step, News::Streamed(bytes)) => {
                let playing = step == Step::Playing;
                let streamed = if playing { &mut self.heard.streamed } else { &mut self.heard.late_streamed };
                *streamed += bytes;
                // Its own readiness may have come in the same turn.
                if !self.unfinished.contains(&token) {
                    self.unfinished.push(token);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn schedule_next_line(&mut self, token: usize) -> Result<(), Failure> {
        match self.workload.pace {
            Pace::Closed => self.clients[token].say(Instant::now()),
            // Counted from when the last line was due, not from its answer: after a late answer the next line is late
            // too, and its latency says so.
            Pace::Every(interval) => {
                self.due.push(Reverse((self.clients[token].due() + interval, token)));
                Ok(())
            }
        }
    }

    fn record(&mut self, latency: Duration) {
        self.heard.answers += 1;
        latency::record(&mut self.heard.latency, latency);
    }

    /// Records an answer that came after the end, to a line that was due before it. A client that sends by the clock
    /// could not send the lines that became due meanwhile: their latency counts too.
    fn record_late(&mut self, due: Instant, latency: Duration) {
        self.heard.late_answers += 1;
        latency::record(&mut self.heard.latency, latency);
        if let Pace::Every(interval) = self.workload.pace {
            let answered = due + latency;
            let mut due = due + interval;
            while due < self.end {
                latency::record(&mut self.heard.latency, answered - due);
                due += interval;
            }
        }
    }
}

/// A timer that reports to `poll`. The kernel may be late by 50 µs by default, and by 1 ns in this thread.
fn timer(poll: &Poll) -> io::Result<TimerFd> {
    prctl::set_timerslack(1)?;
    let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK)?;
    poll.registry().register(&mut SourceFd(&timer.as_fd().as_raw_fd()), TIMER, Interest::READABLE)?;
    Ok(timer)
}

impl Drop for Load<'_> {
    fn drop(&mut self) {
        for client in &self.clients {
            client.reset_at_close();
        }
    }
}
