//! Sessions with a server: any number of clients on one thread and one `Poll`, every byte of every answer checked.
//!
//! It is the mirror image of the server and follows the same rules: only `poll` blocks, readiness is a hint, and a client
//! that stops early is served again. What the clients do, and when, is decided by the parts of the laboratory.
//!
//! | module | what it has |
//! |---|---|
//! | [`client`] | a client: its session, and what it does in it |
//! | [`text`], [`chat`] | what clients send, and what must come back |
//! | [`schedule`] | when lines are due |
//! | [`sources`] | the addresses and ports of the clients |

pub mod chat;
pub mod client;
pub mod schedule;
mod sources;
mod text;

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token};
use nix::sys::prctl;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use self::client::{Answered, Client, News, Part};
pub use self::sources::Sources;
use crate::support::Failure;

/// Events taken from one `poll`.
const EVENTS: usize = 1024;
/// The token of the timer. Those of the clients count from 0.
const TIMER: Token = Token(usize::MAX);
/// Where clients read to: many answers in one read.
const SCRATCH: usize = 256 * 1024;

/// Clients of one server.
pub struct Sessions {
    target: SocketAddr,
    sources: Sources,
    poll: Poll,
    events: Events,
    /// Wakes the load when a line is due. The time-out of `epoll_wait` counts whole milliseconds.
    timer: TimerFd,
    scratch: Box<[u8]>,
    /// A client's place is its token. A client that is over leaves its place empty.
    clients: Vec<Option<Client>>,
}

impl Sessions {
    /// No client yet.
    pub fn new(target: SocketAddr, sources: Sources) -> Result<Self, Failure> {
        let poll = Poll::new().map_err(Failure::system("epoll"))?;
        let timer = timer(&poll).map_err(Failure::system("timerfd"))?;
        let (events, scratch) = (Events::with_capacity(EVENTS), vec![0; SCRATCH].into_boxed_slice());
        Ok(Self { target, sources, poll, events, timer, scratch, clients: Vec::new() })
    }

    /// For the tokens of others, which are above those of the clients.
    pub fn registry(&self) -> &Registry {
        self.poll.registry()
    }

    /// How many places there are.
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// Starts a client in a place that is taken, or in the next one. Its number tells its lines from those of others.
    /// Readiness tells when the banner comes, or that the connect failed.
    pub fn open(&mut self, place: usize, part: Part, number: usize) -> Result<(), Failure> {
        if place == self.clients.len() {
            self.clients.push(None);
        }
        let client = Client::connect(self.target, &self.sources, part, number)?;
        let client = self.clients[place].insert(client);
        client.register(self.poll.registry(), Token(place)).map_err(Failure::system("epoll"))
    }

    /// The client in a place.
    pub fn client(&mut self, place: usize) -> Option<&mut Client> {
        self.clients[place].as_mut()
    }

    /// See [`Client::reset_at_close`].
    pub fn reset_at_close(&mut self) {
        self.clients.iter_mut().flatten().for_each(Client::reset_at_close);
    }

    /// Removes a client.
    pub fn remove(&mut self, place: usize) -> Option<Client> {
        self.clients[place].take()
    }

    /// Waits for readiness, no longer than `limit`, and at most until `due`, which is kept to the microsecond. Returns the
    /// tokens that are ready, and whether an end of input, or an error, is to be read there; and whether the kernel has no
    /// more of them.
    pub fn wait(
        &mut self,
        limit: Option<Duration>,
        due: Option<Instant>,
    ) -> Result<(Vec<(usize, bool)>, bool), Failure> {
        if let Some(due) = due {
            // 0 would stop the timer.
            let wait = due.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
            let expiration = Expiration::OneShot(TimeSpec::from_duration(wait));
            let set = self.timer.set(expiration, TimerSetTimeFlags::empty());
            set.map_err(|error| Failure::system("timerfd")(error.into()))?;
        }
        let is_complete = match self.poll.poll(&mut self.events, limit) {
            // A full batch may have left events in the kernel.
            Ok(()) => self.events.iter().count() < EVENTS,
            // A signal came, a SIGCONT for example. The events are still in the kernel.
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                self.events.clear();
                false
            }
            Err(error) => return Err(Failure::system("epoll")(error)),
        };
        let events = self.events.iter().filter(|event| event.token() != TIMER);
        let ready = events.map(|event| (event.token().0, event.is_read_closed() || event.is_error()));
        Ok((ready.collect(), is_complete))
    }

    /// Gives the client in a place one turn. The answers that are complete then are added to `answered`. If an end of
    /// input or an error is to be read, one turn may not be enough: the caller goes on until there is no news.
    pub fn turn(&mut self, place: usize, answered: &mut Vec<Answered>) -> Result<News, Failure> {
        match &mut self.clients[place] {
            Some(client) => client.turn(&mut self.scratch, answered),
            None => Ok(News::Nothing),
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
