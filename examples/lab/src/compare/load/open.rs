//! An open loop: the lines are sent by the clock, whether or not earlier ones were answered.
//!
//! A closed loop asks a slow server less often, and so it hides how long its clients would have waited (coordinated
//! omission). Here the [schedule](super::schedule) knows nothing of the answers, and a latency counts from the moment
//! when the line was due, not when it was sent. What a line waits for in the load is therefore in its latency, and the
//! load also tells how late it was.
//!
//! The load never sleeps: a sleeping thread wakes up some 50 µs late. It needs a processor of its own.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use hdrhistogram::Histogram;
use mio::{Events, Interest, Poll, Token};

use super::flood::Flood;
use super::schedule::Schedule;
use super::{OPENING, PATIENCE, SCRATCH};
use crate::compare::workload::IN_FLIGHT;
use crate::support::client::{News, Session, Sources};
use crate::support::failure::Failure;
use crate::support::interrupt::Interrupt;
use crate::support::latency;

/// Events taken from one `poll`.
const EVENTS: usize = 1024;
/// How far apart the texts of two sessions begin (bytes): a server that mixes up two sessions is seen. It is a whole
/// number of the text's lines.
const APART: u64 = 64;

/// Sessions that send lines by the clock.
pub struct OpenLoad<'a> {
    interrupt: &'a Interrupt,
    poll: Poll,
    events: Events,
    /// A client's place is its token.
    clients: Vec<Client>,
    scratch: Box<[u8]>,
    /// How many lines have no answer yet.
    unanswered: usize,
    /// When something last came.
    progress: Instant,
}

/// What became of the lines of one schedule.
#[derive(Debug)]
pub struct Slice {
    /// When the first line could be due.
    pub began: SystemTime,
    /// How long lines were due.
    pub time: Duration,
    /// For each line, from when it was due to the last byte of its answer (nanoseconds).
    pub latency: Histogram<u64>,
    /// For each line, from when it was due to when it was sent (nanoseconds).
    pub lateness: Histogram<u64>,
    /// For each line, from when it was sent to the last byte of its answer (nanoseconds).
    pub answering: Histogram<u64>,
}

/// One session, and its lines that wait.
#[derive(Debug)]
struct Client {
    session: Session,
    text: Flood,
    /// Bytes of lines that did not fit in the socket.
    unsent: usize,
    /// The lines without an answer, in order.
    waiting: VecDeque<Waiting>,
}

/// A line without an answer.
#[derive(Debug)]
struct Waiting {
    /// Where it ends in the session's text.
    end: u64,
    due: Instant,
    sent: Instant,
}

impl<'a> OpenLoad<'a> {
    /// Opens so many sessions, and waits for their banners.
    pub fn gather(
        target: SocketAddr,
        sessions: usize,
        sources: &mut Sources,
        interrupt: &'a Interrupt,
    ) -> Result<Self, Failure> {
        let mut load = Self {
            interrupt,
            poll: Poll::new().map_err(Failure::system("epoll"))?,
            events: Events::with_capacity(EVENTS),
            clients: Vec::with_capacity(sessions),
            scratch: vec![0; SCRATCH].into_boxed_slice(),
            unanswered: 0,
            progress: Instant::now(),
        };
        let mut awaited = 0;
        let deadline = Instant::now() + OPENING;
        while load.clients.len() < sessions || awaited > 0 {
            while load.clients.len() < sessions && awaited < IN_FLIGHT {
                load.open(target, sources)?;
                awaited += 1;
            }
            awaited -= load.greeted().map_err(|f| f.while_opening(load.clients.len() - awaited, sessions))?;
            if Instant::now() > deadline {
                let silence = Failure::Silent(format!("not all sessions opened within {OPENING:?}"));
                return Err(silence.while_opening(load.clients.len() - awaited, sessions));
            }
        }
        Ok(load)
    }

    /// Sends the lines of a schedule when they are due, and waits for the last answers.
    pub fn play(&mut self, schedule: Schedule, time: Duration) -> Result<Slice, Failure> {
        let mut slice = Slice {
            began: SystemTime::now(),
            time,
            latency: latency::histogram(),
            lateness: latency::histogram(),
            answering: latency::histogram(),
        };
        let start = Instant::now();
        self.progress = start;
        let mut schedule = schedule.peekable();
        while schedule.peek().is_some() || self.unanswered > 0 {
            // All answers are read before a line is sent. A load that cannot do both is then late, and does not make the
            // answers late.
            while self.serve(&mut slice)? {}
            let now = Instant::now();
            while let Some(line) = schedule.next_if(|line| start + line.due <= now) {
                let (due, sent) = (start + line.due, Instant::now());
                self.clients[line.session].say(due, sent)?;
                self.unanswered += 1;
                latency::record(&mut slice.lateness, sent - due);
            }
            if now > start + time + OPENING {
                return Err(Failure::Silent(format!("not all answers came within {OPENING:?}"))
                    .while_parting(self.unanswered));
            }
        }
        Ok(slice)
    }

    fn open(&mut self, target: SocketAddr, sources: &mut Sources) -> Result<(), Failure> {
        let stream = sources.connect(target).map_err(Failure::system("connect"))?;
        let number = self.clients.len();
        let mut session = Session::new(stream, number);
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registered = self.poll.registry().register(session.stream(), Token(number), interest);
        registered.map_err(Failure::system("epoll"))?;
        let text = Flood::starting_at(number as u64 * APART);
        self.clients.push(Client { session, text, unsent: 0, waiting: VecDeque::new() });
        Ok(())
    }

    /// Waits for readiness; returns how many sessions got their banner.
    fn greeted(&mut self) -> Result<usize, Failure> {
        self.poll(Interrupt::TICK)?;
        let mut greeted = 0;
        for event in &self.events {
            let client = &mut self.clients[event.token().0];
            if event.is_readable() && !client.session.is_greeted() && client.read_banner()? {
                greeted += 1;
            }
        }
        Ok(greeted)
    }

    /// Reads answers that have come; returns whether there may be more.
    fn serve(&mut self, slice: &mut Slice) -> Result<bool, Failure> {
        let now = Instant::now();
        self.poll(Duration::ZERO)?;
        for event in &self.events {
            let client = &mut self.clients[event.token().0];
            if event.is_writable() {
                client.send()?;
            }
            if event.is_readable() {
                self.unanswered -= client.read(event.is_read_closed(), &mut self.scratch, slice)?;
            }
        }
        if !self.events.is_empty() {
            self.progress = now;
        } else if self.unanswered > 0 && now.saturating_duration_since(self.progress) > PATIENCE {
            let silence = Failure::Silent(format!("nothing came for {PATIENCE:?}"));
            return Err(silence.while_parting(self.unanswered));
        }
        Ok(self.events.iter().count() == EVENTS)
    }

    fn poll(&mut self, timeout: Duration) -> Result<(), Failure> {
        self.interrupt.check()?;
        match self.poll.poll(&mut self.events, Some(timeout)) {
            // A signal came, a SIGCONT for example. The events are still in the kernel.
            Err(error) if error.kind() == ErrorKind::Interrupted => self.events.clear(),
            result => result.map_err(Failure::system("epoll"))?,
        }
        Ok(())
    }
}

impl Client {
    /// Whether the banner is complete.
    fn read_banner(&mut self) -> Result<bool, Failure> {
        loop {
            match self.session.read()? {
                News::Greeted => break,
                News::Nothing => return Ok(false),
                News::Ended => return Err(Failure::Refused("closed before the banner".to_owned())),
                News::Part | News::Answered => {}
            }
        }
        // A second line does not wait for the acknowledgement of the first.
        let immediate = self.session.stream().set_nodelay(true);
        immediate.map_err(|error| Failure::Lost(error.to_string()))?;
        Ok(true)
    }

    /// Sends the next line, which was due at `due`.
    fn say(&mut self, due: Instant, sent: Instant) -> Result<(), Failure> {
        self.unsent += self.text.line_after(self.unsent);
        self.waiting.push_back(Waiting { end: self.text.position() + self.unsent as u64, due, sent });
        self.send()
    }

    /// Sends as much as fits in the socket. Readiness tells when there is room for the rest.
    fn send(&mut self) -> Result<(), Failure> {
        while self.unsent > 0 {
            let text = self.text.text();
            match self.session.stream().write(&text[..self.unsent.min(text.len())]) {
                Ok(count) => {
                    self.text.sent(count);
                    self.unsent -= count;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => lost_unless_interrupted(&error)?,
            }
        }
        Ok(())
    }

    /// Reads and checks answers, and records the latency of the lines that they complete; returns how many these are.
    /// `closing`: readiness says that an end of input is to be read.
    fn read(&mut self, closing: bool, scratch: &mut [u8], slice: &mut Slice) -> Result<usize, Failure> {
        let before = self.waiting.len();
        loop {
            match self.session.stream().read(scratch) {
                Ok(0) => return Err(Failure::Lost("closed by the server".to_owned())),
                Ok(count) => {
                    self.text.check(&scratch[..count])?;
                    let now = Instant::now();
                    while let Some(line) = self.waiting.front()
                        && line.end <= self.text.answered()
                    {
                        latency::record(&mut slice.latency, now - line.due);
                        latency::record(&mut slice.answering, now - line.sent);
                        self.waiting.pop_front();
                    }
                    // A short read has emptied the socket.
                    if count < scratch.len() && !closing {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => lost_unless_interrupted(&error)?,
            }
        }
        Ok(before - self.waiting.len())
    }
}

impl Drop for OpenLoad<'_> {
    fn drop(&mut self) {
        for client in &self.clients {
            client.session.reset_at_close();
        }
    }
}

fn lost_unless_interrupted(error: &io::Error) -> Result<(), Failure> {
    match error.kind() {
        ErrorKind::Interrupted => Ok(()),
        _ => Err(Failure::Lost(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener, TcpStream};
    use std::sync::{Arc, Mutex};
    use std::thread;

    use okloop::protocols::{BANNER, PREFIX};

    use super::*;

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
    ) -> Result<Slice, Failure> {
        let stall = Arc::new(Mutex::new(None));
        let address = start_server(Arc::clone(&stall), change);
        let interrupt = Interrupt::default();
        let mut sources = Sources::new(Ipv4Addr::new(127, 0, 0, 20), 4, 10_000..=29_999);
        let mut load = OpenLoad::gather(address, 20, &mut sources, &interrupt)?;
        *stall.lock().expect("no holder panics") = stall_after.map(|after| Instant::now() + after);
        load.play(Schedule::new(rate, 20, time), time)
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
        let lines = Schedule::new(2000.0, 20, TIME).count() as u64;
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
