//! One session over a scripted socket, treated as the server treats its sessions: what arrives, what the peer takes and
//! what each system call returns is the test's to say, and no time passes.

mod socket;

use std::net::SocketAddr;

use mio::Interest;
use okloop::buffer::Pool;
use okloop::config::{HIGH_WATER, INPUT_BUFFER, OUTPUT_BUFFER};
use okloop::connection::{Connection, Turn};
use okloop::protocol::{BANNER, FULL, Framing};
use okloop::readiness::Readiness;
use okloop::reason::Reason;

pub use self::socket::{Happening, Socket};

/// More turns than any session here needs: one that takes more is in a loop that spins.
const MOST_TURNS: usize = 100_000;

/// A session and its socket.
#[derive(Debug)]
pub struct Scripted {
    connection: Connection<Socket>,
    pub framing: Framing,
    draining: bool,
    pool: Pool,
}

impl Scripted {
    /// A session that has had its first turn, over a socket with `room` bytes of room for the peer to take.
    pub fn greet(framing: Framing, room: usize) -> Self {
        Self::greet_after(Vec::new(), framing, room)
    }

    /// The same, when all this has happened before the session is accepted.
    pub fn greet_after(happenings: Vec<Happening>, framing: Framing, room: usize) -> Self {
        let mut socket = Socket::new(BANNER, room);
        for happening in happenings {
            socket.happen(happening);
        }
        let mut pool = Self::pool();
        let connection = Connection::greet(socket, Self::peer(), framing, &mut pool);
        Self::begin(connection, framing, pool)
    }

    /// A client over the connection cap, after the first turn.
    pub fn refuse(room: usize) -> Self {
        let mut pool = Self::pool();
        let connection = Connection::refuse(Socket::new(FULL, room), Self::peer(), &mut pool);
        Self::begin(connection, Framing::Chunks, pool)
    }

    fn begin(connection: Connection<Socket>, framing: Framing, pool: Pool) -> Self {
        let mut session = Self { connection, framing, draining: false, pool };
        session.turn(Readiness::WRITABLE);
        session
    }

    fn pool() -> Pool {
        Pool::new(INPUT_BUFFER, OUTPUT_BUFFER, 1)
    }

    fn peer() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 60730))
    }

    pub fn socket(&mut self) -> &mut Socket {
        self.connection.stream_mut()
    }

    pub fn closed(&self) -> Option<Reason> {
        self.connection.closed()
    }

    pub fn interest(&self) -> Option<Interest> {
        self.connection.interest()
    }

    /// Lets something happen now.
    pub fn happen(&mut self, happening: Happening) {
        self.socket().happen(happening);
    }

    /// These bytes arrive, and the session is given its turns.
    pub fn receive(&mut self, bytes: &[u8]) {
        self.happen(Happening::Arrive(bytes.to_vec()));
        self.rest();
    }

    /// One wait for events. Returns whether there was one.
    pub fn poll(&mut self) -> bool {
        let event = self.socket().event();
        event.map(|ready| self.turn(ready)).is_some()
    }

    /// Waits for events until there are none.
    pub fn rest(&mut self) {
        assert!((0..MOST_TURNS).any(|_| !self.poll()), "the loop spins");
    }

    /// What the server does with every session when it stops.
    pub fn drain(&mut self) {
        self.draining = true;
        self.connection.drain();
        self.turn(Readiness::READABLE);
    }

    /// What the server does with a readiness, in its `turn` and `settle`.
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
        let (interest, owes, framing) = (self.interest(), self.connection.owes(), self.framing);
        assert_eq!(interest.is_none(), self.closed().is_some(), "a session waits until it is closed");
        let Some(interest) = interest else { return };
        assert!(interest.is_writable() || !owes, "it waits for room while it has bytes to put there");
        assert!(
            owes || self.draining || !interest.is_writable(),
            "and only then, unless it needs a turn to find its end"
        );

        let unanswered = self.socket().unanswered();
        assert!(unanswered.len() <= HIGH_WATER + INPUT_BUFFER, "{} bytes are held", unanswered.len());
        let waits_for_more = match framing {
            Framing::Chunks => unanswered.is_empty(),
            Framing::Lines => !unanswered.contains(&b'\n'),
        };
        assert!(owes || waits_for_more, "what can be answered is answered, or owed");
    }

    /// The peer sends nothing more and takes all there is, until that wakes the session no longer.
    pub fn fall_silent(&mut self) {
        let quiet = (0..MOST_TURNS).any(|_| {
            self.happen(Happening::Take(usize::MAX));
            !self.poll()
        });
        assert!(quiet, "the loop spins");
    }

    /// The peer ends its direction and takes all there is, for as long as it takes. Returns why the session ended.
    pub fn end(&mut self) -> Reason {
        self.happen(Happening::End);
        for _ in 0..MOST_TURNS {
            self.happen(Happening::Take(usize::MAX));
            if let Some(reason) = self.closed() {
                return reason;
            }
            assert!(self.poll(), "nobody would ever wake this session: {:?}", self.interest());
        }
        panic!("the loop spins: {:?}", self.interest());
    }
}
