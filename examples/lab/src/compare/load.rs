//! The load on one server. The server can be measured between its three steps:
//!
//! ```text
//!   gather: all resident clients connect, get the banner, and are silent
//!   play:   clients send lines, floods stream, visitors come and go, until the time is over
//!   part:   the last answers come and are checked
//! ```
//!
//! In a closed loop a client sends its next line after the answer to the last one. A closed loop asks a slow server less
//! often, and so it hides how long its clients would have waited (coordinated omission). In an open loop the
//! [schedule](crate::support::load::schedule) knows nothing of the answers, and a latency counts from the moment when the
//! line was due, not when it was sent. What a line waits for in the load is therefore in its latency, and the load also
//! tells how late it was.
//!
//! A chat is spoken in rounds: the speakers say the lines of a round together, and those of the next one when all clients
//! that read have all lines.
//!
//! Knows nothing of processes and figures.

use std::net::SocketAddr;
use std::time::{Duration, Instant};
use std::{iter, mem};

use hdrhistogram::Histogram;

use crate::compare::workload::{IN_FLIGHT, Role, Workload};
use crate::support::load::client::{Answered, Client, News};
use crate::support::load::schedule::Line;
use crate::support::load::{Sessions, Sources};
use crate::support::{Failure, Interrupt, latency, many};

/// The load gives up a server from which nothing comes for so long. The kernel repeats a dropped handshake after one
/// second and after three, which is not yet silence.
const PATIENCE: Duration = Duration::from_secs(4);
/// How long the opening of all sessions may take, and the last answers.
const OPENING: Duration = Duration::from_secs(15);

/// What the clients received.
#[derive(Debug)]
pub struct Heard {
    /// How long it played.
    pub time: Duration,
    /// The lines that were answered, or the visits that ended.
    pub answers: Count,
    /// For each, from when it was due to the last byte of its answer (nanoseconds).
    pub latency: Histogram<u64>,
    /// For each line of an open loop, from when it was due to when it was sent (nanoseconds).
    pub lateness: Histogram<u64>,
    /// The same from then on.
    pub answering: Histogram<u64>,
    /// Bytes of floods' text that were answered.
    pub streamed: Count,
    /// Lines of a chat that clients got.
    pub delivered: Count,
    /// For each round of a chat, how long it took until half of the clients had all lines (nanoseconds).
    pub to_half: Histogram<u64>,
    /// The same until the last client had them.
    pub to_last: Histogram<u64>,
}

/// How many there were in the time of the load, and how many of those that began in it came later.
#[derive(Debug, Default)]
pub struct Count {
    in_time: u64,
    late: u64,
}

impl Count {
    pub fn in_time(&self) -> f64 {
        self.in_time as f64
    }

    pub fn all(&self) -> f64 {
        (self.in_time + self.late) as f64
    }

    fn add(&mut self, count: u64, step: Step) {
        *if step == Step::Parting { &mut self.late } else { &mut self.in_time } += count;
    }
}

/// Clients at work on one server.
pub struct Load<'a> {
    workload: &'a Workload,
    interrupt: &'a Interrupt,
    sessions: Sessions,
    step: Step,
    /// Whether the load waits for events, or asks for them all the time.
    sleeps: bool,
    /// How many clients, or answers, the present step still waits for.
    awaited: usize,
    /// Floods that stopped with work left. No new readiness will tell of it, so the load serves them in each turn.
    unfinished: Vec<usize>,
    round: Round,
    answered: Vec<Answered>,
    heard: Heard,
    /// When a client last had news.
    progress: Instant,
    /// The load has handled everything that happened before this moment. Patience compares with it, not with now: after
    /// Ctrl-Z and `fg`, the answers that came meanwhile wait in the kernel.
    caught_up_to: Instant,
}

/// A round of a chat.
struct Round {
    began: Instant,
    /// How many clients have not all of its lines.
    lacking: usize,
    /// How many lines were said in this round and in those before.
    said: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Gathering,
    Playing,
    Parting,
}

impl Heard {
    /// Nothing.
    pub fn nothing() -> Self {
        Self {
            time: Duration::ZERO,
            answers: Count::default(),
            latency: latency::histogram(),
            lateness: latency::histogram(),
            answering: latency::histogram(),
            streamed: Count::default(),
            delivered: Count::default(),
            to_half: latency::histogram(),
            to_last: latency::histogram(),
        }
    }
}

impl<'a> Load<'a> {
    /// A load on `target`, without a connection yet.
    pub fn new(
        target: SocketAddr,
        workload: &'a Workload,
        sources: &Sources,
        interrupt: &'a Interrupt,
    ) -> Result<Self, Failure> {
        let now = Instant::now();
        Ok(Self {
            workload,
            interrupt,
            sessions: Sessions::new(target, sources.clone())?,
            step: Step::Gathering,
            sleeps: true,
            awaited: 0,
            unfinished: Vec::new(),
            round: Round { began: now, lacking: 0, said: 0 },
            answered: Vec::new(),
            heard: Heard::nothing(),
            progress: now,
            caught_up_to: now,
        })
    }

    /// Connects all resident clients and waits for their banners; returns how long that took.
    pub fn gather(&mut self) -> Result<Duration, Failure> {
        let wanted = self.workload.sessions() - self.workload.count(Role::Visitor);
        let start = Instant::now();
        self.progress = start;
        while self.sessions.len() < wanted || self.awaited > 0 {
            while self.sessions.len() < wanted && self.awaited < IN_FLIGHT {
                self.open(self.sessions.len())?;
                self.awaited += 1;
            }
            let turned = self.turn_before(start + OPENING);
            turned.map_err(|failure| failure.while_opening(self.sessions.len() - self.awaited, wanted))?;
        }
        Ok(start.elapsed())
    }

    /// A turn that must not be the last one before the deadline.
    fn turn_before(&mut self, deadline: Instant) -> Result<(), Failure> {
        self.turn(Interrupt::TICK, None)?;
        let is_late = self.caught_up_to > deadline;
        if is_late { Err(Failure::Silent(format!("not all came within {OPENING:?}"))) } else { Ok(()) }
    }

    /// Lets every client do its part for `time`.
    pub fn play(&mut self, time: Duration) -> Result<(), Failure> {
        self.play_lines(time, iter::empty(), true)
    }

    /// Lets every client do its part for `time`, and sends these lines when they are due. A load with a processor of its
    /// own does not sleep: a sleeping thread wakes up some 50 µs late.
    pub fn play_lines(
        &mut self,
        time: Duration,
        lines: impl Iterator<Item = Line>,
        sleeps: bool,
    ) -> Result<(), Failure> {
        let (start, first) = (Instant::now(), self.workload.places(Role::Lines).start);
        self.heard = Heard::nothing();
        (self.step, self.progress, self.sleeps) = (Step::Playing, start, sleeps);
        self.all_say(start)?;
        self.unfinished.extend(self.workload.places(Role::Flood));
        for place in self.workload.places(Role::Visitor) {
            self.open(place)?;
        }
        let mut lines = lines.peekable();
        let end = start + time;
        while lines.peek().is_some_and(|line| line.due < time) || self.goes_on(end) {
            let now = Instant::now();
            while let Some(line) = lines.next_if(|line| start + line.due <= now) {
                let due = start + line.due;
                latency::record(&mut self.heard.lateness, due.elapsed());
                self.say(first + line.session, due)?;
            }
            let due = lines.peek().map(|line| start + line.due).filter(|_| sleeps);
            let limit = end.saturating_duration_since(now).min(Interrupt::TICK);
            // All answers are read before a line is sent. A load that cannot do both is then late, and does not make the
            // answers late.
            while !self.turn(limit, due)? {}
        }
        self.heard.time = start.elapsed();
        Ok(())
    }

    /// Waits for the answers that are still missing. All are then checked, and all are in the latency: the slowest ones
    /// are most likely among them.
    pub fn part(&mut self) -> Result<Heard, Failure> {
        self.step = Step::Parting;
        let lines = self.workload.places(Role::Active).chain(self.workload.places(Role::Lines));
        let missing = lines.filter_map(|place| self.sessions.client(place).map(|client| client.unanswered()));
        self.awaited =
            missing.sum::<usize>() + self.workload.count(Role::Flood) + self.workload.count(Role::Visitor);
        for place in self.workload.places(Role::Flood) {
            self.sessions.client(place).map_or(Ok(()), Client::leave)?;
        }
        let deadline = Instant::now() + OPENING;
        while self.awaited + self.round.lacking > 0 {
            self.turn_before(deadline).map_err(|failure| match (failure, self.round.lacking) {
                (Failure::Silent(_), lacking @ 1..) => {
                    let lacking = many(lacking, "client");
                    Failure::WrongAnswer(format!("a line is lost: {lacking} did not get every line"))
                }
                (failure, _) => failure,
            })?;
        }
        Ok(mem::replace(&mut self.heard, Heard::nothing()))
    }

    fn say(&mut self, place: usize, due: Instant) -> Result<(), Failure> {
        self.sessions.client(place).map_or(Ok(()), |client| client.say(due))
    }

    /// Lets all active clients say their lines. In a chat this begins a round.
    fn all_say(&mut self, now: Instant) -> Result<(), Failure> {
        if let Some(talk) = self.workload.talk {
            let lacking = self.workload.sessions() - self.workload.count(Role::NeverReads);
            // The only speaker hears nothing.
            let lacking = if talk.speakers == 1 { lacking - 1 } else { lacking };
            let said = self.round.said + talk.speakers * talk.lines;
            self.round = Round { began: now, lacking, said };
        }
        self.workload.places(Role::Active).try_for_each(|place| self.say(place, now))
    }

    /// Whether the load plays on: until `end`, and until enough lines were said. A round that does not end is enough.
    fn goes_on(&self, end: Instant) -> bool {
        let is_enough = self.round.said >= self.workload.least_lines || self.round.began.elapsed() > PATIENCE;
        Instant::now() < end || !is_enough
    }

    /// Starts a new client in the given place.
    fn open(&mut self, place: usize) -> Result<(), Failure> {
        self.sessions.open(place, self.workload.part(place), place)
    }

    /// One turn of the loop: wait, and serve the ready clients and those with work left. Says whether the kernel has no
    /// more events.
    fn turn(&mut self, limit: Duration, due: Option<Instant>) -> Result<bool, Failure> {
        let limit = if self.sleeps && self.unfinished.is_empty() { limit } else { Duration::ZERO };
        let asked = Instant::now();
        let (ready, is_complete) = self.sessions.wait(Some(limit), due)?;
        self.interrupt.check()?;
        for (place, is_closing) in ready {
            while self.serve(place)? && is_closing {}
        }
        for place in mem::take(&mut self.unfinished) {
            self.serve(place)?;
        }
        if is_complete {
            self.caught_up_to = asked;
        }
        if self.caught_up_to.saturating_duration_since(self.progress) > PATIENCE {
            return Err(Failure::Silent(format!("nothing came for {PATIENCE:?}")));
        }
        Ok(is_complete)
    }

    /// Gives a client a turn; says whether it had news.
    fn serve(&mut self, place: usize) -> Result<bool, Failure> {
        let news = self.sessions.turn(place, &mut self.answered)?;
        if news == News::Nothing {
            return Ok(false);
        }
        self.progress = Instant::now();
        self.count(place);
        match (self.step, news) {
            (_, News::Ended) => return Err(Failure::Lost("closed by the server".to_owned())),
            (Step::Gathering, News::Greeted) => self.awaited -= 1,
            (Step::Playing, News::Answered) if self.workload.role(place) == Role::Active => {
                self.say(place, Instant::now())?;
            }
            (step, News::Heard { lines, has_all }) => {
                self.heard.delivered.add(lines, step);
                if has_all {
                    self.end_of_lines()?;
                }
            }
            (Step::Playing, News::Left) => self.open(place)?,
            // A flood leaves too, but it is not a visit.
            (Step::Parting, News::Left) if self.workload.role(place) == Role::Flood => self.awaited -= 1,
            (step, News::Streamed(bytes)) => {
                self.heard.streamed.add(bytes, step);
                // Its own readiness may have come in the same turn.
                if !self.unfinished.contains(&place) {
                    self.unfinished.push(place);
                }
            }
            _ => {}
        }
        Ok(true)
    }

    /// A client of a chat has all lines of the round.
    fn end_of_lines(&mut self) -> Result<(), Failure> {
        let took = self.round.began.elapsed();
        self.round.lacking = self.round.lacking.saturating_sub(1);
        if self.round.lacking == self.workload.sessions() / 2 {
            latency::record(&mut self.heard.to_half, took);
        }
        if self.round.lacking > 0 {
            return Ok(());
        }
        latency::record(&mut self.heard.to_last, took);
        if self.step == Step::Playing { self.all_say(Instant::now()) } else { Ok(()) }
    }

    /// Counts the answers that are complete.
    fn count(&mut self, place: usize) {
        let is_timed = self.workload.role(place) == Role::Lines;
        for answered in self.answered.drain(..) {
            latency::record(&mut self.heard.latency, answered.latency);
            if is_timed {
                latency::record(&mut self.heard.answering, answered.answering);
            }
            self.heard.answers.add(1, self.step);
            self.awaited -= usize::from(self.step == Step::Parting);
        }
    }
}

impl Drop for Load<'_> {
    fn drop(&mut self) {
        self.sessions.reset_at_close();
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read, Write};
    use std::net::{Ipv4Addr, TcpListener, TcpStream};
    use std::sync::{Arc, Mutex};
    use std::thread;

    use super::*;
    use crate::compare::workload::Kind;
    use crate::support::load::schedule::poisson;
    use crate::support::protocol::{BANNER, PREFIX};

    /// How long each slice is, and how long the server stands still in the middle of it.
    const TIME: Duration = Duration::from_millis(300);
    const STALL: Duration = Duration::from_millis(100);

    /// A server with a thread for each client. Nothing is answered in the 100 ms after the given moment. `change` sees
    /// each answer first.
    fn start_server(stall: Arc<Mutex<Option<Instant>>>, change: fn(&mut Vec<u8>)) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let converse = move |mut stream: TcpStream, stall: &Mutex<Option<Instant>>| -> io::Result<()> {
            stream.set_nodelay(true)?;
            stream.write_all(BANNER)?;
            let mut chunk = [0; 1024];
            while let count @ 1.. = stream.read(&mut chunk)? {
                let until = stall.lock().expect("no holder panics").map(|start| (start, start + STALL));
                if let Some((start, end)) = until
                    && start <= Instant::now()
                {
                    thread::sleep(end.saturating_duration_since(Instant::now()));
                }
                let mut answer = [PREFIX, &chunk[..count]].concat();
                change(&mut answer);
                stream.write_all(&answer)?;
            }
            Ok(())
        };
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let stall = Arc::clone(&stall);
                // It fails when the load resets its sessions.
                thread::spawn(move || converse(stream, &stall));
            }
        });
        address
    }

    fn play(
        rate: f64,
        time: Duration,
        stall_after: Option<Duration>,
        change: fn(&mut Vec<u8>),
    ) -> Result<Heard, Failure> {
        let stall = Arc::new(Mutex::new(None));
        let address = start_server(Arc::clone(&stall), change);
        let interrupt = Interrupt::default();
        let sources = Sources::new(Ipv4Addr::new(127, 0, 0, 20), 4, 10_000..=29_999);
        let workload = Workload::new(Kind::Rates, [(Role::Lines, 20)]);
        let mut load = Load::new(address, &workload, &sources, &interrupt)?;
        load.gather()?;
        *stall.lock().expect("no holder panics") = stall_after.map(|after| Instant::now() + after);
        load.play_lines(time, poisson(rate, 20, time), false)?;
        load.part()
    }

    #[test]
    fn a_server_that_stands_still_delays_every_line_that_comes_meanwhile() {
        let slice = play(2000.0, TIME, Some(TIME / 3), |_| {}).unwrap();
        // A third of the lines was due while the server stood still. A closed loop would have sent one line a session.
        assert!(slice.latency.value_at_quantile(0.99) >= 90_000_000, "{:?}", slice.latency);
        assert!(slice.latency.value_at_quantile(0.8) >= 20_000_000, "{:?}", slice.latency);
    }

    #[test]
    fn what_a_line_waits_for_in_the_load_is_in_its_latency() {
        // No load sends a million lines a second.
        let slice = play(1e6, Duration::from_millis(20), None, |_| {}).unwrap();
        let late = slice.lateness.mean();
        assert!(late > 1e6, "{late} ns");
        let sum = late + slice.answering.mean();
        let latency = slice.latency.mean();
        assert!((latency - sum).abs() < sum / 100.0, "{latency} instead of {sum} ns");
    }

    #[test]
    fn the_lines_do_not_wait_for_answers() {
        let lines = poisson(2000.0, 20, TIME).count() as u64;
        let slice = play(2000.0, TIME, Some(TIME / 3), |_| {}).unwrap();
        assert_eq!((slice.lateness.len(), slice.latency.len()), (lines, lines));
        // Less than the half of what it would be if the load had waited.
        assert!(slice.lateness.value_at_quantile(0.9) < 40_000_000, "{:?}", slice.lateness);
    }

    #[test]
    fn every_byte_is_checked() {
        let change = |answer: &mut Vec<u8>| {
            if let Some(byte) = answer.get_mut(50) {
                *byte ^= 1;
            }
        };
        let failure = play(2000.0, TIME, None, change).unwrap_err();
        assert!(matches!(failure, Failure::WrongAnswer(_)), "{failure}");
    }
}
