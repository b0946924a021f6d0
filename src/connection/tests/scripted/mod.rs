//! One session over a scripted socket. The test decides what arrives, how much the client reads, and when. No time passes.

mod recorded;
mod socket;

use std::cell::{Ref, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

use mio::Interest;
use okloop::buffer::Pool;
use okloop::config::{HIGH_WATER, INPUT_BUFFER};
use okloop::connection::{Connection, Turn};
use okloop::readiness::Readiness;
use okloop::{BANNER, Framing, OkSession, Reason, Session};

pub use self::recorded::{Record, Recorded};
pub use self::socket::{Happening, Socket};
use crate::harness::FULL;

/// More turns in a row that read and write nothing than any session here needs. A session that takes more is in a loop
/// that spins.
const MOST_IDLE_TURNS: usize = 1000;

/// A session of the protocol `S` and its socket, driven as the server drives its sessions.
#[derive(Debug)]
pub struct Scripted<S: Session> {
    connection: Connection<Socket, Recorded<S>>,
    record: Rc<RefCell<Record>>,
    /// How many written bytes were compared with the record.
    compared: usize,
    is_refused: bool,
    is_draining: bool,
    pool: Pool,
}

impl Scripted<OkSession> {
    /// A session after its first turn. The socket has `room` bytes of room before the client reads.
    pub fn greet(framing: Framing, room: usize) -> Self {
        Self::open(OkSession::new(framing), Vec::new(), room)
    }

    /// A client above the connection limit, after its first turn.
    pub fn refuse(socket: impl Into<Socket>) -> Self {
        let mut pool = Self::pool();
        let connection = Connection::refuse(socket.into(), Self::peer(), FULL, &mut pool);
        let record = Record { said: FULL.to_vec(), ..Record::default() };
        Self::start(connection, Rc::new(RefCell::new(record)), true, pool)
    }

    /// The answers that were written.
    pub fn answers(&mut self) -> &[u8] {
        self.socket().written.strip_prefix(BANNER).expect("the banner comes first, whole")
    }
}

impl<S: Session> Scripted<S> {
    /// A session after its first turn. All the `happenings` came before it.
    pub fn open(session: S, happenings: Vec<Happening>, socket: impl Into<Socket>) -> Self {
        let mut socket = socket.into();
        for happening in happenings {
            socket.happen(happening);
        }
        let record = Rc::default();
        let connection = Connection::open(socket, Self::peer(), Recorded::new(session, Rc::clone(&record)));
        Self::start(connection, record, false, Self::pool())
    }

    fn start(
        connection: Connection<Socket, Recorded<S>>,
        record: Rc<RefCell<Record>>,
        is_refused: bool,
        pool: Pool,
    ) -> Self {
        let mut session = Self { connection, record, compared: 0, is_refused, is_draining: false, pool };
        session.turn(Readiness::WRITABLE);
        session
    }

    fn pool() -> Pool {
        Pool::new(INPUT_BUFFER, HIGH_WATER + S::LARGEST_ANSWER, 1)
    }

    fn peer() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 60730))
    }

    pub fn socket(&mut self) -> &mut Socket {
        self.connection.stream_mut()
    }

    pub fn record(&self) -> Ref<'_, Record> {
        self.record.borrow()
    }

    pub fn closed(&self) -> Option<Reason> {
        self.connection.closed()
    }

    pub fn interest(&self) -> Option<Interest> {
        self.connection.interest()
    }

    /// Something happens now.
    pub fn happen(&mut self, happening: Happening) {
        self.socket().happen(happening);
    }

    /// These bytes arrive, and the session gets its turns.
    pub fn receive(&mut self, bytes: &[u8]) {
        self.happen(Happening::Arrive(bytes.to_vec()));
        self.rest();
    }

    /// One `poll`. Returns whether there was an event.
    pub fn poll(&mut self) -> bool {
        let event = self.socket().event();
        event.map(|ready| self.turn(ready)).is_some()
    }

    /// Polls until there is no event.
    pub fn rest(&mut self) {
        self.go_on_while(Self::poll);
    }

    /// Gives turns while `turn` returns true.
    fn go_on_while(&mut self, mut turn: impl FnMut(&mut Self) -> bool) {
        let (mut moved, mut idle_turns) = (0, 0);
        while turn(self) {
            let socket = self.socket();
            let now_moved = socket.read + socket.written.len();
            idle_turns = if now_moved == moved { idle_turns + 1 } else { 0 };
            moved = now_moved;
            assert!(idle_turns < MOST_IDLE_TURNS, "the loop spins: {:?}", self.interest());
        }
    }

    /// What the server does with every session when it stops.
    pub fn drain(&mut self) {
        self.is_draining = true;
        self.connection.drain();
        self.turn(Readiness::READABLE);
    }

    /// What the server does with a readiness, in `turn` and `update_registration`.
    pub fn turn(&mut self, ready: Readiness) -> Turn {
        if self.closed().is_some() {
            return Turn::default();
        }
        let turn = self.connection.turn(ready, &mut self.pool);
        if let Some(wanted) = self.interest() {
            self.socket().register(wanted, turn.stopped_early);
        }
        self.check();
        turn
    }

    /// What holds after every turn.
    fn check(&mut self) {
        let (interest, record) = (self.interest(), Rc::clone(&self.record));
        let (record, compared) = (record.borrow(), self.compared);
        let (is_refused, is_draining) = (self.is_refused, self.is_draining);
        let socket = self.socket();

        assert_eq!(socket.broken.or(record.broken), None);
        let written = &socket.written[compared..];
        assert!(
            record.said[compared..].starts_with(written),
            "the client gets what the protocol said, in order"
        );
        let pending = record.said.len() - socket.written.len();
        let (read, is_answered) = (socket.read, !record.is_over && !is_refused && socket.shut_down.is_none());
        self.compared += written.len();

        assert_eq!(interest.is_none(), self.closed().is_some(), "a session waits until it is closed");
        let Some(interest) = interest else { return };
        assert!(interest.is_writable() || pending == 0, "pending output waits for writable");
        assert!(pending > 0 || is_draining || !interest.is_writable(), "an idle session does not");
        assert!(pending <= HIGH_WATER + S::LARGEST_ANSWER, "{pending} bytes are pending");
        if is_answered {
            let held = read - record.consumed.len();
            assert!(held <= INPUT_BUFFER, "{held} bytes of input are held");
            assert_eq!(held, record.left, "the protocol has been given all that was read");
            assert!(pending > 0 || record.needs_input, "the protocol is asked until it can do no more");
            assert!(pending < HIGH_WATER || !interest.is_readable(), "much pending output stops the reading");
        }
    }

    /// The client sends nothing more and reads everything, until there is no event.
    pub fn fall_silent(&mut self) {
        self.go_on_while(|session| {
            session.happen(Happening::Take(usize::MAX));
            session.poll()
        });
    }

    /// The client ends its direction and reads everything. Returns why the session ended.
    pub fn end(&mut self) -> Reason {
        self.happen(Happening::End);
        self.go_on_while(|session| {
            session.happen(Happening::Take(usize::MAX));
            let is_open = session.closed().is_none();
            let waits_for = session.interest();
            assert!(!is_open || session.poll(), "no event would ever come for this session: {waits_for:?}");
            is_open
        });
        self.closed().expect("it goes on until it is closed")
    }
}
