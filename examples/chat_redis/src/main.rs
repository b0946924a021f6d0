//! The example `chat`, past one process and one machine: Redis carries the lines between the rooms of all processes.
//!
//! ```text
//! redis-server &
//! cargo run -p chat_redis -- 8888 redis://127.0.0.1/ --reuse-port
//! cargo run -p chat_redis -- 8888 redis://127.0.0.1/ --reuse-port
//! ```
//!
//! It shows how threads bring something to a loop. Two threads wait for Redis, because its client library blocks:
//!
//! ```text
//!   the loop's thread                                  two threads
//!   the room, a line of ann's ───── channel ────────► publish ──────────┐
//!                                                                     Redis
//!   carry: into the room ◄───────── channel, wake ──── subscribe ◄──────┘
//! ```
//!
//! The threads never touch the room. What they have for it waits in a channel, and they wake the sessions. The first of
//! these that gets its turn carries all into the room.
//!
//! When Redis goes away, each process chats on for itself. Its clients are told so, and again when Redis is back. What
//! was said meanwhile stays where it was said.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io;
use std::rc::Rc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use okloop::{AtDeadline, Buffer, Config, EndOfInput, Reason, Session, Sizes, Step, Timer, Waker};
use redis::{Client, Connection, RedisResult};

#[path = "../../chat.rs"]
#[allow(dead_code, reason = "its main is not this program's")]
mod chat;
#[path = "../../serving/mod.rs"]
#[allow(clippy::duplicate_mod, reason = "the chat has it too")]
mod serving;
#[path = "../../terminal/mod.rs"]
#[allow(clippy::duplicate_mod, dead_code, reason = "the chat has it too")]
mod terminal;

use chat::{Chat, Room};

/// What Redis calls the room.
const CHANNEL: &str = "okloop-chat";
/// The speaker of the lines that came from elsewhere. No session has this number.
const ELSEWHERE: u64 = u64::MAX;
/// The longest line with its name and its ending (bytes). Others may publish more.
const LONGEST: usize = 1100;
/// How many lines wait in each direction. A thread that has more for the loop waits. The loop never waits: when Redis is
/// too slow, lines stay in this process.
const QUEUE: usize = 1024;
/// How long a thread waits for Redis to take or answer something, and how long until it tries again.
const PATIENCE: Duration = Duration::from_secs(1);
/// Each process publishes something at least this often. So it hears itself, unless Redis is away, and a connection that
/// Redis has closed is found before the next line.
const BEAT: Duration = Duration::from_secs(1);
/// When Redis has said nothing for this long, it is away, although its connection is open.
const SILENCE: Duration = Duration::from_secs(5);

const AWAY: &[u8] = b"* The other servers cannot be reached. What is said stays here\n";
const BACK: &[u8] = b"* The other servers can be reached again\n";

/// What the loop and the threads share.
#[derive(Default)]
struct Shared {
    /// Of the open sessions, by their numbers.
    wakers: Mutex<BTreeMap<u64, Waker>>,
    is_away: AtomicBool,
}

impl Shared {
    /// No holder of the lock leaves the map half changed.
    fn wakers(&self) -> MutexGuard<'_, BTreeMap<u64, Waker>> {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The loop's ends of the channels.
struct Link {
    room: Rc<RefCell<Room>>,
    outgoing: SyncSender<Vec<u8>>,
    incoming: Receiver<Vec<u8>>,
    shared: Arc<Shared>,
    /// How many lines of the room were looked at.
    carried: Cell<usize>,
}

impl Link {
    /// Carries lines in both directions.
    fn carry(&self) {
        let mut room = self.room.borrow_mut();
        let carried = self.carried.get().max(room.dropped);
        for (speaker, line) in room.lines.range(carried - room.dropped..) {
            if *speaker != ELSEWHERE {
                // It fails if the thread has too much to do.
                let _ = self.outgoing.try_send(line.clone());
            }
        }
        for line in self.incoming.try_iter().take(QUEUE) {
            room.say(ELSEWHERE, line);
        }
        self.carried.set(room.dropped + room.lines.len());
    }
}

/// A session of the chat, and a layer that carries lines in its turns.
struct Linked {
    chat: Chat,
    link: Rc<Link>,
    number: u64,
}

impl Linked {
    fn enter(link: &Rc<Link>, waker: Waker) -> Self {
        // What came before its time is not for it.
        link.carry();
        let number = waker.number();
        link.shared.wakers().insert(number, waker.clone());
        Self { chat: Chat::enter(&link.room, waker), link: Rc::clone(link), number }
    }
}

impl Session for Linked {
    fn sizes(&mut self) -> Sizes {
        self.chat.sizes()
    }

    fn is_proxied(&mut self) -> bool {
        self.chat.is_proxied()
    }

    fn connect_failed(&mut self, error: &io::Error) {
        self.chat.connect_failed(error);
    }

    fn greet(&mut self, output: &mut Buffer) {
        self.chat.greet(output);
        if self.link.shared.is_away.load(SeqCst) {
            output.push(AWAY);
        }
    }

    fn answer(&mut self, input: &mut [u8], output: &mut Buffer) -> Step {
        let step = self.chat.answer(input, output);
        self.link.carry();
        step
    }

    fn end_of_input(&mut self, end: EndOfInput) {
        self.chat.end_of_input(end);
    }

    fn ending(&mut self, reason: Reason, output: &mut Buffer) {
        self.chat.ending(reason, output);
    }

    fn closed(&mut self, reason: Reason) {
        self.chat.closed(reason);
    }

    fn timer(&mut self) -> Timer {
        self.chat.timer()
    }

    fn deadline(&mut self) -> AtDeadline {
        self.chat.deadline()
    }
}

impl Drop for Linked {
    fn drop(&mut self) {
        self.link.shared.wakers().remove(&self.number);
    }
}

/// What the threads know of Redis and of the loop.
#[derive(Clone)]
struct Relay {
    redis: Client,
    /// In front of each line that this process publishes. Redis sends these lines back to it, and it drops them. The marks
    /// of all processes have the same length.
    mark: Vec<u8>,
    incoming: SyncSender<Vec<u8>>,
    shared: Arc<Shared>,
}

impl Relay {
    /// Gives the sessions a line. Without sessions, nobody misses it.
    fn tell(&self, line: &[u8]) {
        if self.shared.wakers().is_empty() {
            return;
        }
        // It waits while the queue is full, and fails after the loop's end.
        let _ = self.incoming.send(line.to_vec());
        self.shared.wakers().values().for_each(Waker::wake);
    }

    /// Takes lines from Redis, and tries again when it goes away.
    fn keep_subscribing(&self) {
        loop {
            // It returns with an error only.
            let _ = self.subscribe();
            if !self.shared.is_away.swap(true, SeqCst) {
                self.tell(AWAY);
            }
            thread::sleep(PATIENCE);
        }
    }

    fn subscribe(&self) -> RedisResult<()> {
        let mut connection = self.redis.get_connection_with_timeout(PATIENCE)?;
        let mut subscription = connection.as_pubsub();
        subscription.set_read_timeout(Some(SILENCE))?;
        subscription.subscribe(CHANNEL)?;
        if self.shared.is_away.swap(false, SeqCst) {
            self.tell(BACK);
        }
        loop {
            let message = subscription.get_message()?;
            match message.get_payload_bytes().split_at_checked(self.mark.len()) {
                Some((mark, line)) if mark != self.mark && (1..=LONGEST).contains(&line.len()) => {
                    self.tell(line);
                }
                _ => {}
            }
        }
    }

    fn connect(&self) -> RedisResult<Connection> {
        let connection = self.redis.get_connection_with_timeout(PATIENCE)?;
        connection.set_read_timeout(Some(PATIENCE))?;
        connection.set_write_timeout(Some(PATIENCE))?;
        Ok(connection)
    }

    /// Publishes lines until the loop ends. While Redis is away, they are dropped.
    fn keep_publishing(&self, outgoing: &Receiver<Vec<u8>>) {
        let mut connection = None;
        loop {
            let line = match outgoing.recv_timeout(BEAT) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => Vec::new(),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if connection.is_none() {
                connection = self.connect().ok();
            }
            let mut publish = redis::cmd("PUBLISH");
            publish.arg(CHANNEL).arg([&self.mark[..], &line].concat());
            if connection.as_mut().is_none_or(|open| publish.exec(open).is_err()) {
                connection = None;
            }
        }
    }
}

fn main() {
    let [port, redis, reuse_port, telnet] =
        terminal::arguments(["PORT", "REDIS", "--reuse-port", "--telnet"]);
    let redis = redis.map_or("redis://127.0.0.1/".into(), |url| url.to_string_lossy().into_owned());
    let redis = Client::open(redis).unwrap_or_else(|error| terminal::exit(2, error));
    // Far from any other process's: this is how the standard library gets random bytes.
    let mark = format!("{:016x}", RandomState::new().hash_one(0)).into_bytes();

    let (outgoing, published) = sync_channel(QUEUE);
    let (received, incoming) = sync_channel(QUEUE);
    let shared = Arc::<Shared>::default();
    let relay = Relay { redis, mark, incoming: received, shared: Arc::clone(&shared) };
    let other = relay.clone();
    thread::spawn(move || relay.keep_subscribing());
    thread::spawn(move || other.keep_publishing(&published));

    let config =
        Config { port: terminal::port(port, 8888), reuse_port: reuse_port.is_some(), ..Config::default() };
    let (room, carried) = (Rc::default(), Cell::default());
    let link = Rc::new(Link { room, outgoing, incoming, shared, carried });
    serving::serve(config, telnet.is_some(), |client| Linked::enter(&link, client.waker));
}
