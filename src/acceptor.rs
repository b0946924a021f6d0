//! When to accept new clients from one listening socket. It knows no session.

use std::io;
use std::time::Instant;

use log::warn;
use mio::event::Source;
use mio::{Interest, Registry, Token};

use crate::address::Address;
use crate::config::{ACCEPT_BUDGET, ACCEPT_RETRY, CROWD};
use crate::socket::{Listener, Socket};
use crate::trace::{Event, step};

/// A listening socket, and when to accept from it.
#[derive(Debug)]
pub(crate) struct Acceptor {
    listener: Listener,
    token: Token,
    /// Its place among all listeners that the server was given. Some of them end before others.
    number: usize,
    /// Whether the server opened it. A listening socket that was passed in keeps its queue at a stop: the queue belongs
    /// to the next process.
    is_own: bool,
    state: State,
    /// How many clients were accepted since the last `accept` that failed, mostly because the queue was empty.
    in_a_row: usize,
}

/// A client in the accept queue causes one event, when it arrives. If the loop leaves it there, it must remember that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The queue was empty, or the listener is re-armed: the next event says when to accept.
    Waiting,
    /// The event came in this iteration.
    Ready,
    /// The system has no room for one more connection. Accepting goes on when a session ends, or at this time.
    Paused(Instant),
    /// The server stops, and the queue is empty.
    Ended,
}

impl Acceptor {
    /// Asks the kernel for an event when a client is in the listener's queue.
    pub fn register(
        mut listener: Listener,
        registry: &Registry,
        token: Token,
        number: usize,
        is_own: bool,
    ) -> io::Result<Self> {
        listener.register(registry, token, Interest::READABLE)?;
        Ok(Self { listener, token, number, is_own, state: State::Waiting, in_a_row: 0 })
    }

    /// The address that clients connect to.
    pub fn local_addr(&self) -> io::Result<Address> {
        self.listener.local_addr()
    }

    /// Its token.
    pub fn token(&self) -> Token {
        self.token
    }

    /// Its place among all listeners.
    pub fn number(&self) -> usize {
        self.number
    }

    /// Whether the server opened it itself.
    pub fn is_own(&self) -> bool {
        self.is_own
    }

    /// Remembers the listener's event.
    pub fn on_readable(&mut self) {
        step!(Event::ListenerReady);
        self.look_at_queue();
    }

    /// Accepts in this iteration. It does not end a pause: the system has as little room as before.
    pub fn look_at_queue(&mut self) {
        if self.state == State::Waiting {
            self.state = State::Ready;
        }
    }

    /// How many clients to accept in an iteration that had `events` events, and in which `ended` sessions have made room.
    ///
    /// As many as there were events, at most [`ACCEPT_BUDGET`]: new clients and open sessions get equally many turns.
    /// In a quiet iteration that is 1, and nearly always only one client waits. To accept until `WouldBlock` would cost
    /// one more `accept`, for which the kernel makes a socket and a file and discards them. That costs many times as
    /// much as [`Acceptor::rearm`]. Only in a crowd it is cheaper to accept several in one iteration.
    pub fn accept_quota(&self, now: Instant, events: usize, ended: usize) -> usize {
        let in_a_crowd = if self.in_a_row >= CROWD { CROWD } else { 1 };
        match self.state {
            State::Ready => events.clamp(in_a_crowd, ACCEPT_BUDGET),
            State::Paused(until) if ended > 0 || until <= now => ACCEPT_BUDGET,
            State::Waiting | State::Paused(_) | State::Ended => 0,
        }
    }

    /// When accepting is due without an event, if it is.
    pub fn next_due(&self) -> Option<Instant> {
        match self.state {
            State::Paused(until) => Some(until),
            State::Waiting | State::Ready | State::Ended => None,
        }
    }

    /// Whether clients may be in the queue.
    pub fn is_ready(&self) -> bool {
        self.state == State::Ready
    }

    /// Accepts no more: the server stops, and the queue is empty.
    pub fn end(&mut self) {
        self.state = State::Ended;
    }

    /// Whether it accepts no more.
    pub fn has_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// Accepts one client.
    pub fn accept(&mut self) -> io::Result<(Socket, Address)> {
        let result = self.listener.accept();
        self.in_a_row = if result.is_ok() { self.in_a_row + 1 } else { 0 };
        result.inspect_err(|error| step!(Event::accept_failed(error)))
    }

    /// Asks the kernel again for an event, because the last one is used up. If clients still wait, the event comes
    /// immediately: the kernel looks at the queue when it is asked.
    pub fn rearm(&mut self, registry: &Registry, now: Instant) {
        step!(Event::ListenerRearmed);
        self.state = match self.listener.reregister(registry, self.token, Interest::READABLE) {
            Ok(()) => State::Waiting,
            Err(error) => {
                warn!("The listening socket cannot be registered: {error}");
                State::Paused(now + ACCEPT_RETRY)
            }
        };
    }

    /// Leaves the clients in the queue for a while. Without this the loop would wait for an event that is
    /// already used up. Returns whether this is a new pause.
    pub fn pause(&mut self, now: Instant) -> bool {
        let is_new = !matches!(self.state, State::Paused(_));
        self.state = State::Paused(now + ACCEPT_RETRY);
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_ends_when_a_session_ends_or_its_time_is_over() {
        let (mut acceptor, _client, poll) = with_one_waiting();
        let now = Instant::now();
        assert!(acceptor.pause(now));
        assert!(!acceptor.pause(now), "the pause goes on");
        acceptor.on_readable();
        assert_eq!(acceptor.accept_quota(now, 1, 0), 0);
        assert_eq!(acceptor.accept_quota(now, 1, 1), ACCEPT_BUDGET);
        assert_eq!(acceptor.accept_quota(now + ACCEPT_RETRY, 1, 0), ACCEPT_BUDGET);
        acceptor.rearm(poll.registry(), now);
        assert_eq!((acceptor.next_due(), acceptor.accept_quota(now, 1, 1)), (None, 0));
    }

    #[test]
    fn new_clients_and_open_sessions_share_the_loop_equally() {
        let (mut acceptor, _client, _poll) = with_one_waiting();
        assert_eq!(acceptor.accept_quota(Instant::now(), 5, 5), 0, "there was no event");
        acceptor.on_readable();
        let quotas = [1, 5, 1000].map(|events| acceptor.accept_quota(Instant::now(), events, 0));
        assert_eq!(quotas, [1, 5, ACCEPT_BUDGET]);
    }

    #[test]
    fn a_crowd_is_accepted_several_at_a_time_until_the_queue_is_empty() {
        let (mut acceptor, _first, _poll) = with_one_waiting();
        let address = acceptor.local_addr().expect("a bound socket has an address").ip().expect("TCP");
        let connect = |_| std::net::TcpStream::connect(address).expect("the backlog has room");
        let _others: Vec<_> = (1..CROWD).map(connect).collect();
        acceptor.on_readable();
        for accepted in 0..CROWD {
            assert_eq!(acceptor.accept_quota(Instant::now(), 1, 0), 1, "after {accepted}");
            acceptor.accept().expect("one waits");
        }
        let quotas = [1, 20].map(|events| acceptor.accept_quota(Instant::now(), events, 0));
        assert_eq!(quotas, [CROWD, 20]);
        acceptor.accept().expect_err("the queue is empty");
        assert_eq!(acceptor.accept_quota(Instant::now(), 1, 0), 1);
    }

    /// An acceptor, and a client in its queue.
    fn with_one_waiting() -> (Acceptor, std::net::TcpStream, mio::Poll) {
        let listener =
            mio::net::TcpListener::bind(([127, 0, 0, 1], 0).into()).expect("a free port on loopback");
        let address = listener.local_addr().expect("a bound socket has an address");
        let poll = mio::Poll::new().expect("a descriptor is left");
        let acceptor = Acceptor::register(Listener::Tcp(listener), poll.registry(), Token(0), 0, true);
        let client = std::net::TcpStream::connect(address).expect("the backlog has room");
        (acceptor.expect("a listening socket can be registered"), client, poll)
    }
}
