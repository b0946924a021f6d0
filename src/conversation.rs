//! A conversation with one session, without a socket: for the tests of a protocol.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::mem;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use mio::{Poll, Token};

use crate::address::Address;
use crate::buffer::Pool;
use crate::client::{Client, Origin};
use crate::config::Budgets;
use crate::connection::{Connection, Means, Stream};
use crate::readiness::Readiness;
use crate::reason::{Reason, Timeout};
use crate::session::{Session, Timer};
use crate::trace::Cause;
use crate::wakes::Wakes;

/// Drives a session as a server does. The test says what the client sends, in which pieces, and looks at what it gets. The
/// client reads everything, unless the test makes it [stop](Conversation::stop_reading).
///
/// ```
/// use okloop::conversation::Conversation;
/// use okloop::{Buffer, Reason, Session, Step};
///
/// struct Upper;
///
/// impl Session for Upper {
///     fn answer(&mut self, input: &mut [u8], output: &mut Buffer) -> Step {
///         input.make_ascii_uppercase();
///         output.push(input);
///         Step::Consumed(input.len())
///     }
/// }
///
/// let mut conversation = Conversation::start(Upper);
/// conversation.send(b"hel");
/// conversation.send(b"lo");
/// assert_eq!(conversation.received(), b"HELLO");
/// conversation.end_input();
/// assert_eq!(conversation.ended(), Some(Reason::Finished));
/// ```
#[derive(Debug)]
pub struct Conversation<S> {
    connection: Connection<Pipe, S>,
    means: Means,
    wakes: Option<(Wakes, Poll)>,
    deadline: Option<Duration>,
    /// The time-out on what the client sends.
    clock: Option<Timeout>,
    ended: Option<Reason>,
}

impl<S: Session> Conversation<S> {
    /// The client has connected. The session greets.
    pub fn start(session: S) -> Self {
        Self::with_wakes(session, None)
    }

    /// As [`Conversation::start`], for a session that is told about its client and wakes itself or others. A session that
    /// was woken gets its turn before the next call looks at it.
    ///
    /// ```
    /// use std::cell::RefCell;
    /// use std::rc::Rc;
    ///
    /// use okloop::conversation::Conversation;
    /// use okloop::{Buffer, Session, Step, Waker};
    ///
    /// /// A session says what another one has left for it.
    /// struct Reader(Rc<RefCell<Vec<u8>>>);
    ///
    /// impl Session for Reader {
    ///     fn answer(&mut self, input: &mut [u8], output: &mut Buffer) -> Step {
    ///         output.push(&std::mem::take(&mut *self.0.borrow_mut()));
    ///         Step::NeedInput
    ///     }
    /// }
    ///
    /// let letters = Rc::new(RefCell::new(Vec::new()));
    /// let mut waker = None;
    /// let mut conversation = Conversation::open(|client| {
    ///     waker = Some(client.waker);
    ///     Reader(Rc::clone(&letters))
    /// });
    /// letters.borrow_mut().extend(b"hello");
    /// assert_eq!(conversation.received(), b"");
    /// waker.unwrap().wake();
    /// assert_eq!(conversation.received(), b"hello");
    /// ```
    ///
    /// # Panics
    ///
    /// If the process has no open file left: each conversation has a few.
    pub fn open(new_session: impl FnOnce(Client<'_>) -> S) -> Self {
        /// Each session has a number of its own.
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let poll = Poll::new().expect("an open file is left");
        let wakes = Wakes::new(poll.registry(), Token(0)).expect("an open file is left");
        let number = STARTED.fetch_add(1, Relaxed);
        let own = wakes.waker_of(0, number).expect("there is memory");
        let session = new_session(Client::new(Address::Unix, Origin::Accepted(0), own, None));
        Self::with_wakes(session, Some((wakes, poll)))
    }

    fn with_wakes(session: S, wakes: Option<(Wakes, Poll)>) -> Self {
        let budgets = Budgets::DEFAULT;
        let mut means =
            Means { input: Pool::new(0, 1), output: Pool::new(0, 1), budgets, write_timeout: None };
        let connection = Connection::open(Pipe::default(), Address::Unix, session, &mut means);
        let mut conversation = Self { connection, means, wakes, deadline: None, clock: None, ended: None };
        conversation.turn(Cause::Ready(Readiness::WRITABLE));
        conversation
    }

    /// The client sends these bytes, and they arrive in one piece.
    pub fn send(&mut self, bytes: &[u8]) {
        self.connection.stream_mut().arrived.extend(bytes);
        self.read();
    }

    /// The client ends its direction.
    pub fn end_input(&mut self) {
        self.connection.stream_mut().has_ended = true;
        self.read();
    }

    /// The client reads no more. The kernel takes `room` more bytes for it. The rest is pending output, and at high water
    /// the session is not called ([`HIGH_WATER`](crate::config::HIGH_WATER)).
    ///
    /// ```
    /// # use okloop::conversation::Conversation;
    /// # use okloop::protocols::{Framing, OkSession};
    /// let mut conversation = Conversation::start(OkSession::new(Framing::Lines));
    /// conversation.received();
    /// conversation.stop_reading(2);
    /// conversation.send(b"hello\n");
    /// assert_eq!(conversation.received(), b"OK");
    /// conversation.go_on_reading();
    /// assert_eq!(conversation.received(), b"...hello\n");
    /// ```
    pub fn stop_reading(&mut self, room: usize) {
        self.turn_woken();
        self.connection.stream_mut().room = Some(room);
    }

    /// The client reads everything again.
    pub fn go_on_reading(&mut self) {
        self.connection.stream_mut().room = None;
        self.turn(Cause::Ready(Readiness { writable: true, ..Readiness::READABLE }));
    }

    /// Somebody wakes the session.
    pub fn wake(&mut self) {
        self.turn(Cause::Woken);
        self.read();
    }

    /// The session's own deadline is over.
    ///
    /// # Panics
    ///
    /// If none is running.
    pub fn pass_deadline(&mut self) {
        self.turn_woken();
        assert!(self.deadline.take().is_some(), "the session has no deadline");
        self.turn(Cause::Timeout(Timeout::Own));
        self.read();
    }

    /// The client has been silent for as long as [`Config::idle_timeout`](crate::Config::idle_timeout).
    ///
    /// # Panics
    ///
    /// If no idle time-out is running: an answer is still to be made, or the session ends.
    pub fn pass_idle_timeout(&mut self) {
        self.turn_woken();
        assert_eq!(self.clock, Some(Timeout::Idle), "the session is not idle");
        self.turn(Cause::Timeout(Timeout::Idle));
        self.read();
    }

    /// A waker ends the session ([`Waker::end`](crate::Waker::end)).
    pub fn end(&mut self) {
        self.turn(Cause::End);
        self.read();
    }

    /// The server stops, and nothing more is on its way from the client. A session that waits is given what the client has
    /// sent after its wait.
    pub fn stop(&mut self) {
        self.turn(Cause::Stop(false));
        self.read();
    }

    /// What the client has received since the last call.
    pub fn received(&mut self) -> Vec<u8> {
        self.turn_woken();
        mem::take(&mut self.connection.stream_mut().written)
    }

    /// Whether the server has ended its direction.
    pub fn has_output_ended(&mut self) -> bool {
        self.turn_woken();
        self.connection.stream_mut().is_shut_down
    }

    /// The length of the session's own deadline, if it is running.
    pub fn deadline(&mut self) -> Option<Duration> {
        self.turn_woken();
        self.deadline
    }

    /// Why the session has ended, if it has. A session that the server ends is over when the client ends its direction
    /// too ([`Conversation::end_input`]).
    pub fn ended(&mut self) -> Option<Reason> {
        self.turn_woken();
        self.ended
    }

    /// The session, until it has ended.
    pub fn session(&mut self) -> Option<&mut S> {
        self.connection.session_mut()
    }

    fn read(&mut self) {
        self.turn(Cause::Ready(Readiness::READABLE));
    }

    /// The turns that the session's wakers have asked for.
    fn turn_woken(&mut self) {
        let next = |(wakes, _): &mut (Wakes, Poll)| {
            wakes.begin_pass();
            wakes.next_woken()
        };
        while let Some((_, is_ended)) = self.wakes.as_mut().and_then(next) {
            self.turn_once(if is_ended { Cause::End } else { Cause::Woken });
            // It may have waited, and left what had arrived.
            self.turn_once(Cause::Ready(Readiness::READABLE));
        }
    }

    fn turn(&mut self, cause: Cause) {
        self.turn_woken();
        self.turn_once(cause);
        self.turn_woken();
    }

    /// Turns until the session has nothing more to do.
    fn turn_once(&mut self, cause: Cause) {
        let (mut cause, mut may_be_ready) = (cause, false);
        while self.connection.closed().is_none() {
            let turn = self.connection.turn(cause, &mut self.means);
            match turn.timer {
                Timer::Keep => {}
                Timer::Stop => self.deadline = None,
                Timer::Start(length) => self.deadline = Some(length),
            }
            may_be_ready |= turn.stopped_early;
            self.clock = self.connection.input_clock(turn).map(|clock| clock.timeout);
            if turn.goes_on {
                cause = Cause::Woken;
            } else if mem::take(&mut may_be_ready) {
                cause = Cause::Ready(Readiness { writable: true, ..Readiness::READABLE });
            } else if self.clock == Some(Timeout::Quiet) {
                cause = Cause::Timeout(Timeout::Quiet);
            } else {
                break;
            }
        }
        if self.ended.is_none() && self.connection.closed().is_some() {
            self.ended = self.connection.closed();
            self.connection.drop_session();
        }
    }
}

/// The server's end of a connection.
#[derive(Debug, Default)]
struct Pipe {
    arrived: VecDeque<u8>,
    has_ended: bool,
    written: Vec<u8>,
    /// How many more bytes the kernel takes. `None`: the client reads everything.
    room: Option<usize>,
    is_shut_down: bool,
}

impl Read for Pipe {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if self.arrived.is_empty() && !self.has_ended {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.arrived.read(bytes)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(self.room.unwrap_or(usize::MAX));
        self.room = self.room.map(|room| room - count);
        if count == 0 { Err(ErrorKind::WouldBlock.into()) } else { self.written.write(&bytes[..count]) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Pipe {
    fn shutdown_write(&mut self) -> io::Result<()> {
        self.is_shut_down = true;
        Ok(())
    }

    fn is_delivered(&self) -> io::Result<Option<bool>> {
        Ok(Some(true))
    }

    fn limit_delivery(&self, _: Duration) {}
}
