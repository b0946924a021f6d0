//! The table of sessions with one session, in a world without time and network: the test decides what happens, and when.
//!
//! Everything above the sockets is real: [`Sessions`], the connection, its buffers, the time-outs and the wakes. The world
//! is a value ([`World`]). Two kinds of tests use it:
//!
//! - `state_machine.rs`: one difficult case a test.
//! - `interleavings.rs`: random cases with real sizes.

mod interleavings;
mod recorded;
mod rules;
mod schedules;
mod state_machine;
mod wire;

use std::cell::{Ref, RefCell};
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::mem;
use std::rc::Rc;
use std::time::{Duration, Instant};

use mio::event::Source;
use mio::{Interest, Poll, Registry, Token};
use strum::VariantArray;

use self::recorded::{Record, Recorded};
use self::rules::Promise;
use self::wire::{Happening, Wire};
use super::{Now, Sessions};
use crate::address::Address;
use crate::buffer::Pool;
use crate::config::{Budgets, Config};
use crate::connection::{Connection, Notes, Stream};
use crate::readiness::{Kernel, Readiness};
use crate::reason::Reason;
use crate::session::Session;
use crate::trace::{Cause, State};
use crate::wakes::{Waker, Wakes};

/// The kernels whose rules the tests try, on every system.
const KERNELS: [Kernel; 3] = [Kernel::Epoll, Kernel::Kqueue, Kernel::Iocp];

/// The key of the only session.
const KEY: usize = 0;

/// More iterations in a row that read and write nothing than any session here needs. A session that takes more spins.
const MOST_IDLE_ITERATIONS: usize = 1000;

/// Everything outside of the server's code.
#[derive(Debug, Clone)]
pub struct World {
    wire: Wire,
    record: Record,
    /// How many times something was published for the session.
    published: usize,
    waker: Option<Waker>,
    /// It was woken, and had no turn for that yet.
    is_woken: bool,
    now: Instant,
    accepted: Instant,
    /// When the server has read something last, and when its kernel has taken something.
    heard: Option<Instant>,
    taken: Option<Instant>,
}

impl World {
    /// How long the client has been silent, although all answers had left.
    fn silence(&self) -> Duration {
        let answered = self.taken.filter(|_| self.published == 0);
        self.now - self.heard.max(answered).unwrap_or(self.accepted)
    }

    fn happen(&mut self, happening: Happening) {
        if happening == Happening::Open {
            self.accepted = self.now;
        }
        if happening != Happening::Wake {
            return self.wire.happen(happening);
        }
        self.published += 1;
        (self.is_woken, self.record.may_go_on) = (true, true);
        self.waker.as_ref().expect("the session has begun").wake();
    }

    /// A system call begins.
    fn call(&mut self) -> &mut Wire {
        self.wire.calls += 1;
        if let Some(Some(happening)) = self.wire.meanwhile.pop_front() {
            self.happen(happening);
        }
        &mut self.wire
    }
}

/// The server's end of the connection.
#[derive(Debug, Clone)]
pub struct Socket(Rc<RefCell<World>>);

/// Its world is not a part of it.
impl Hash for Socket {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

/// The notes are about the world and the clock.
impl Hash for Notes {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut world = self.0.borrow_mut();
        let count = world.call().read(buffer)?;
        if count > 0 {
            world.heard = Some(world.now);
        }
        Ok(count)
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut world = self.0.borrow_mut();
        let World { record, wire, .. } = &mut *world;
        if !record.said[wire.down.bytes.len()..].starts_with(bytes) {
            wire.broken = Some("the client gets what the session has said, once, in order");
        }
        let count = world.call().write(bytes)?;
        world.taken = Some(world.now);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Socket {
    fn is_connected(&self) -> io::Result<bool> {
        self.0.borrow_mut().call().is_connected()
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.0.borrow_mut().call().shutdown()
    }

    fn is_delivered(&self) -> io::Result<Option<bool>> {
        self.0.borrow_mut().call().is_delivered()
    }

    fn limit_delivery(&self, timeout: Duration) {
        self.0.borrow_mut().wire.limit = Some(timeout);
    }

    fn kernel(&self) -> Kernel {
        self.0.borrow().wire.kernel()
    }
}

impl Source for Socket {
    fn register(&mut self, _: &Registry, _: Token, interest: Interest) -> io::Result<()> {
        self.0.borrow_mut().call().register(interest);
        Ok(())
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        self.register(registry, token, interest)
    }

    fn deregister(&mut self, _: &Registry) -> io::Result<()> {
        Ok(())
    }
}

/// A server with one session of the protocol `S`.
struct Scripted<S: Session> {
    sessions: Sessions<Recorded<S>, Socket>,
    world: Rc<RefCell<World>>,
    poll: Poll,
    now: Instant,
    /// A stop was asked for, and the session does not drain yet.
    is_stopping: bool,
    /// What the server has promised at its stop.
    promise: Option<Promise>,
    closed: Option<Reason>,
}

impl<S: Session> Scripted<S> {
    /// A session after its first turn.
    fn open(session: S, wire: Wire) -> Self {
        Self::start(Config::default(), Budgets::DEFAULT, wire, |_| session)
    }

    /// A server after it has accepted its only client, or has begun its only outgoing connection. `new_session` may keep
    /// the world.
    fn start(
        config: Config,
        budgets: Budgets,
        wire: Wire,
        new_session: impl FnOnce(&Rc<RefCell<World>>) -> S,
    ) -> Self {
        let is_full = config.max_connections == 0;
        let said = if is_full { config.full_message.clone() } else { Vec::new() };
        let record = Record { said, ..Record::default() };
        let now = Instant::now();
        let world = World {
            wire,
            record,
            published: 0,
            waker: None,
            is_woken: false,
            now,
            accepted: now,
            heard: None,
            taken: None,
        };
        let world = Rc::new(RefCell::new(world));
        let poll = Poll::new().expect("a descriptor is left");
        let wakes = Wakes::new(poll.registry(), Token(1)).expect("a descriptor is left");
        let mut sessions = Sessions::new(config, wakes, now);
        sessions.means.budgets = budgets;
        if !is_full {
            // As large as the session needs them.
            sessions.means.input = Pool::new(0, 16);
            sessions.means.output = Pool::new(0, 16);
        }
        let (is_stopping, promise, closed) = (false, None, None);
        let mut scripted =
            Self { sessions, world: Rc::clone(&world), poll, now, is_stopping, promise, closed };
        let new_session = |waker, _: &Socket| {
            world.borrow_mut().waker = Some(waker);
            Recorded::new(new_session(&world), Rc::clone(&world))
        };
        let client = (Socket(Rc::clone(&world)), Address::Unix);
        let now = Now { time: now, registry: scripted.poll.registry() };
        let is_open = world.borrow().wire.is_open;
        if is_open {
            scripted.sessions.admit(client, new_session, now).expect("there is memory for one session");
        } else {
            let own = scripted.sessions.wakes.waker(KEY).expect("there is memory for a mark");
            let session = new_session(own, &client.0);
            scripted.sessions.begin(KEY, client, session, now);
        }
        scripted.end_iteration();
        scripted
    }

    fn wire(&self) -> Ref<'_, Wire> {
        Ref::map(self.world.borrow(), |world| &world.wire)
    }

    fn record(&self) -> Ref<'_, Record> {
        Ref::map(self.world.borrow(), |world| &world.record)
    }

    fn budgets(&self) -> &Budgets {
        &self.sessions.means.budgets
    }

    fn config(&self) -> &Config {
        &self.sessions.config
    }

    /// Something happens now.
    fn happen(&mut self, happening: Happening) {
        self.world.borrow_mut().happen(happening);
    }

    /// These happen in the middle of a turn: each just before one of the next system calls.
    fn meanwhile(&mut self, happenings: impl IntoIterator<Item = Option<Happening>>) {
        self.world.borrow_mut().wire.meanwhile.extend(happenings);
    }

    /// The server is asked to stop.
    fn ask_to_stop(&mut self) {
        let wire = self.wire();
        let promise = Promise { sent: wire.up.bytes.len(), arrived: wire.up.arrived, covers_sent: false };
        drop(wire);
        (self.is_stopping, self.promise) = (true, Some(promise));
    }

    /// Whether `poll` would return immediately.
    fn has_work(&mut self) -> bool {
        let may_sleep = self.sessions.wakes.fall_asleep(true);
        self.sessions.wakes.wake_up();
        !may_sleep || self.is_stopping || self.wire().has_event()
    }

    /// One iteration of the loop, in the order of `Loop::run`.
    fn iterate(&mut self) {
        let now = Now { time: self.now, registry: self.poll.registry() };
        let events = self.world.borrow_mut().wire.events();
        self.world.borrow_mut().record.calls = 0;
        for ready in events.into_iter().flatten() {
            self.sessions.turn(KEY, Cause::Ready(ready), now);
        }
        self.world.borrow_mut().is_woken &= self.budgets().woken == 0;
        self.sessions.turn_woken(now);
        self.sessions.turn_late(now.time, now);
        if mem::take(&mut self.is_stopping) {
            self.extend_promise();
            let now = Now { time: self.now, registry: self.poll.registry() };
            self.sessions.turn_to_drain(0, self.sessions.has_only_outgoing(), now);
        }
        self.end_iteration();
    }

    /// Time passes, and the loop goes on.
    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.world.borrow_mut().now = self.now;
        self.iterate();
    }

    /// A turn for an event that had no cause.
    fn hint(&mut self, ready: Readiness) {
        let now = Now { time: self.now, registry: self.poll.registry() };
        self.sessions.turn(KEY, Cause::Ready(ready), now);
        self.end_iteration();
    }

    fn end_iteration(&mut self) {
        self.check();
        let Some(connection) = self.sessions.table.get(KEY) else { return };
        if connection.state() == State::Draining {
            self.extend_promise();
        } else if connection.state() == State::Closed {
            let before = self.sessions.wakes.counters().read();
            self.sessions.remove_closed();
            let after = self.sessions.wakes.counters().read();
            self.closed = Reason::VARIANTS.iter().copied().find(|&it| after.closed(it) > before.closed(it));
            self.world.borrow_mut().wire.close();
            self.check_end(self.closed.expect("the end is counted"));
        }
    }
}

/// What tests with a network without limits do.
impl<S: Session> Scripted<S> {
    /// These bytes of the client arrive.
    fn arrive(&mut self, bytes: &[u8]) {
        self.happen(Happening::Send(bytes.to_vec()));
        self.happen(Happening::Carry(usize::MAX));
    }

    /// These bytes arrive, and the session gets its turns.
    fn receive(&mut self, bytes: &[u8]) {
        self.arrive(bytes);
        self.rest();
    }

    /// The end of the client's direction arrives.
    fn end_input(&mut self) {
        self.happen(Happening::End);
        self.happen(Happening::Carry(usize::MAX));
    }

    /// So many bytes to the client arrive, and the client reads them.
    fn take(&mut self, most: usize) {
        self.happen(Happening::Ack(most));
        self.happen(Happening::Read(most));
    }

    /// The server stops.
    fn stop(&mut self) {
        self.ask_to_stop();
        self.iterate();
    }

    /// Iterates until the loop has nothing to do.
    fn rest(&mut self) {
        self.rest_while(|_| {});
    }

    /// Iterates until the loop has nothing to do, and something happens before each iteration.
    fn rest_while(&mut self, mut happen: impl FnMut(&mut Self)) {
        let (mut moved, mut idle) = (0, 0);
        happen(self);
        while self.has_work() {
            self.iterate();
            let wire = self.wire();
            let now_moved = wire.up.read + wire.down.bytes.len();
            idle = if now_moved == moved { idle + 1 } else { 0 };
            moved = now_moved;
            assert!(idle < MOST_IDLE_ITERATIONS, "the loop spins: {:?}", wire.asked);
            drop(wire);
            happen(self);
        }
        self.check_rest();
    }

    /// The client sends nothing more and reads everything, until the loop has nothing to do.
    fn fall_silent(&mut self) {
        self.rest_while(|session| {
            session.happen(Happening::Carry(usize::MAX));
            session.take(usize::MAX);
        });
    }

    /// The client ends its direction and reads everything. Returns why the session ended.
    fn end(&mut self) -> Reason {
        self.happen(Happening::End);
        self.fall_silent();
        self.closed.expect("no event would ever come")
    }
}
