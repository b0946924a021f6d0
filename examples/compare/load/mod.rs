//! The load: any number of clients on one thread and one `Poll`, every byte of every answer checked.
//!
//! It is the mirror image of the server, and obeys the same rules: nothing blocks but `poll`, readiness is a hint, and
//! who stops early must remember it. Three steps, so that the server can be looked at between them:
//!
//! ```text
//!   gather: all connect, are greeted, and are silent
//!   play:   typists type, firehoses pour, visitors come and go, until the time is over
//!   part:   the last answers come and are checked, and nobody is kept waiting
//! ```
//!
//! Knows nothing of processes and figures; it is told an address and tells what it heard.

mod client;
mod firehose;
mod line;
mod sources;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::{Events, Interest, Poll, Token};

use self::client::{Client, News};
pub use self::sources::Sources;
use crate::failure::Failure;
use crate::workload::{KNOCKING, Pace, Part, Workload};

/// A server from which nothing comes for so long is given up. A dropped handshake is tried again after one second and
/// after three, and is not yet silence.
const PATIENCE: Duration = Duration::from_secs(4);
/// To connect everybody may take so long.
const OPENING: Duration = Duration::from_secs(15);
/// No wait is longer, so that Ctrl-C is seen and patience can end.
const TICK: Duration = Duration::from_millis(100);
/// Events taken from one `poll`.
const EVENTS: usize = 1024;
/// Where bytes are read to, to be checked and forgotten: many answers of a firehose in one read.
const SCRATCH: usize = 256 * 1024;

/// What was heard.
#[derive(Debug)]
pub struct Heard {
    /// How long the load played.
    pub time: Duration,
    /// The lines that were answered, or the visits that ended, in that time.
    pub answers: u64,
    /// Those that were begun in that time and were over after it.
    pub late_answers: u64,
    /// How long each of both took, and each line that was due in that time but could not even be typed: in nanoseconds.
    /// So it counts all that was offered.
    pub latency: Histogram<u64>,
    /// Bytes of text that firehoses had answered in that time.
    pub streamed: u64,
    /// The same, after it.
    pub late_streamed: u64,
}

/// Clients in the middle of their work on one server.
pub struct Load<'a> {
    target: SocketAddr,
    workload: &'a Workload,
    sources: &'a mut Sources,
    interrupted: &'a AtomicBool,
    poll: Poll,
    /// A client's place is its token.
    clients: Vec<Client>,
    step: Step,
    /// How many clients the present step still waits for.
    awaited: usize,
    /// When which typist types next, for those who type by the clock.
    due: BinaryHeap<Reverse<(Instant, usize)>>,
    /// Firehoses that stopped with work left. No new readiness will tell of it, so they are served in each turn.
    unfinished: Vec<usize>,
    scratch: Box<[u8]>,
    heard: Heard,
    /// When something last went on.
    progress: Instant,
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
    /// A load on `target`, with nobody connected yet.
    pub fn new(
        target: SocketAddr,
        workload: &'a Workload,
        sources: &'a mut Sources,
        interrupted: &'a AtomicBool,
    ) -> Result<Self, Failure> {
        let now = Instant::now();
        Ok(Self {
            target,
            workload,
            sources,
            interrupted,
            poll: Poll::new().map_err(failed)?,
            clients: Vec::with_capacity(workload.sessions()),
            step: Step::Gathering,
            awaited: 0,
            due: BinaryHeap::new(),
            unfinished: Vec::new(),
            scratch: vec![0; SCRATCH].into_boxed_slice(),
            heard: Heard {
                time: Duration::ZERO,
                answers: 0,
                late_answers: 0,
                latency: histogram(),
                streamed: 0,
                late_streamed: 0,
            },
            progress: now,
            end: now,
        })
    }

    /// Connects all who stay and waits for their banners; returns how long that took.
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
            while self.clients.len() < wanted && self.awaited < KNOCKING {
                self.open(self.clients.len())?;
                self.awaited += 1;
            }
            self.turn(&mut events, deadline)?;
            if Instant::now() > deadline {
                return Err(Failure::Silent(format!("not all sessions opened within {OPENING:?}")));
            }
        }
        Ok(())
    }

    /// Lets everybody do for `time` what he came for.
    pub fn play(&mut self, time: Duration) -> Result<(), Failure> {
        let mut events = Events::with_capacity(EVENTS);
        self.step = Step::Playing;
        let start = Instant::now();
        (self.progress, self.end) = (start, start + time);
        self.begin(start)?;
        while Instant::now() < self.end {
            self.turn(&mut events, self.end)?;
        }
        // The last turn may have gone a little beyond, and somebody's line may have become due in it.
        self.end = Instant::now();
        self.heard.time = self.end - start;
        self.type_all_due()
    }

    /// Waits for the answers that are still owed, so that all have been checked in the end and none is left out of the
    /// latency: those that take longest are most likely to be among them.
    pub fn part(&mut self) -> Result<(), Failure> {
        let mut events = Events::with_capacity(EVENTS);
        self.step = Step::Parting;
        // Who types by the clock and is between two lines is owed nothing.
        let between_lines = self.due.len();
        self.due.clear();
        self.awaited = self.workload.sessions() - self.workload.idle - between_lines;
        for token in self.tokens(Part::Firehose) {
            self.clients[token].stop()?;
        }
        let deadline = Instant::now() + OPENING;
        while self.awaited > 0 {
            self.turn(&mut events, deadline).map_err(|failure| failure.while_parting(self.awaited))?;
            if Instant::now() > deadline {
                let silence = Failure::Silent(format!("not all answers came within {OPENING:?}"));
                return Err(silence.while_parting(self.awaited));
            }
        }
        Ok(())
    }

    /// What has been heard so far.
    pub fn heard(&self) -> &Heard {
        &self.heard
    }

    fn begin(&mut self, start: Instant) -> Result<(), Failure> {
        let typists = self.tokens(Part::Typist);
        for (nth, token) in typists.clone().enumerate() {
            match self.workload.pace {
                Pace::AtOnce => self.clients[token].say(start)?,
                // The first lines are spread over the interval: people do not type in step.
                Pace::Every(interval) => {
                    let wait = interval.mul_f64(nth as f64 / typists.len() as f64);
                    self.due.push(Reverse((start + wait, token)));
                }
            }
        }
        self.unfinished.extend(self.tokens(Part::Firehose));
        for token in self.tokens(Part::Visitor) {
            self.open(token)?;
        }
        Ok(())
    }

    /// The places of the clients that do this.
    fn tokens(&self, part: Part) -> Range<usize> {
        self.workload.places(part)
    }

    /// Starts a new client in the given place.
    fn open(&mut self, token: usize) -> Result<(), Failure> {
        let mut client = Client::connect(self.target, self.sources, self.workload.part(token), token)?;
        // Both interests for good: readiness is told once a change (edge-triggered), so being writable costs nothing.
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(client.stream(), Token(token), interest).map_err(failed)?;
        if token < self.clients.len() {
            self.clients[token] = client;
        } else {
            self.clients.push(client);
        }
        Ok(())
    }

    /// One turn of the loop: wait, serve who is ready, serve who has work left, let type whose time has come.
    fn turn(&mut self, events: &mut Events, until: Instant) -> Result<(), Failure> {
        if let Err(error) = self.poll.poll(events, Some(self.time_to_wait(until)))
            && error.kind() != io::ErrorKind::Interrupted
        {
            return Err(failed(error));
        }
        if self.interrupted.load(Ordering::Relaxed) {
            return Err(Failure::Interrupted);
        }
        for event in events.iter() {
            self.serve(event.token().0, event.is_read_closed() || event.is_error())?;
        }
        for token in mem::take(&mut self.unfinished) {
            self.serve(token, false)?;
        }
        self.type_all_due()?;
        if self.progress.elapsed() > PATIENCE {
            return Err(Failure::Silent(format!("nothing came for {PATIENCE:?}")));
        }
        Ok(())
    }

    /// Lets those type whose next line is due. What is due when the time is over is no longer typed.
    fn type_all_due(&mut self) -> Result<(), Failure> {
        while let Some(&Reverse((due, token))) = self.due.peek()
            && due <= Instant::now()
            && due < self.end
        {
            self.due.pop();
            self.clients[token].say(due)?;
        }
        Ok(())
    }

    fn time_to_wait(&self, until: Instant) -> Duration {
        if !self.unfinished.is_empty() {
            return Duration::ZERO;
        }
        let next = self.due.peek().map_or(until, |&Reverse((due, _))| due.min(until));
        next.saturating_duration_since(Instant::now()).min(TICK)
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
                // A firehose leaves too, but nobody asks how long it was there.
                if self.workload.part(token) != Part::Firehose {
                    self.record_late(self.clients[token].due(), latency);
                }
                self.awaited -= 1;
            }
            (Step::Playing, News::Answered(latency)) => {
                self.record(latency);
                self.type_next(token)?;
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

    fn type_next(&mut self, token: usize) -> Result<(), Failure> {
        match self.workload.pace {
            Pace::AtOnce => self.clients[token].say(Instant::now()),
            // Counted from when the last line was due, not from when it was answered: a typist who was kept waiting is
            // late with the next line too, and its latency says so.
            Pace::Every(interval) => {
                self.due.push(Reverse((self.clients[token].due() + interval, token)));
                Ok(())
            }
        }
    }

    fn record(&mut self, latency: Duration) {
        self.heard.answers += 1;
        self.heard.latency.saturating_record(nanoseconds(latency));
    }

    /// An answer to a line that was due in time and came when the time was over. A typist who goes by the clock has been
    /// kept waiting by it with all the lines that became due in the meantime, too.
    fn record_late(&mut self, due: Instant, latency: Duration) {
        self.heard.late_answers += 1;
        self.heard.latency.saturating_record(nanoseconds(latency));
        if let Pace::Every(interval) = self.workload.pace {
            let answered = due + latency;
            let mut due = due + interval;
            while due < self.end {
                self.heard.latency.saturating_record(nanoseconds(answered - due));
                due += interval;
            }
        }
    }
}

impl Drop for Load<'_> {
    fn drop(&mut self) {
        for client in &self.clients {
            client.leave_at_once();
        }
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "it is the last use of the error, and map_err passes it so"
)]
fn failed(error: io::Error) -> Failure {
    Failure::Load(error.to_string())
}

/// The longest latency that is told from longer ones: as long as a measurement may take.
const LONGEST: Duration = Duration::from_secs(3600);

fn nanoseconds(latency: Duration) -> u64 {
    u64::try_from(latency.min(LONGEST).as_nanos()).expect("an hour has less than 2^64 nanoseconds")
}

/// From a nanosecond up, to three digits.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(nanoseconds(LONGEST), 3).expect("three digits are allowed")
}
