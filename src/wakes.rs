//! What reaches the loop from outside the network: a session that is woken, by another session or by another thread, and
//! what handles ask for ([`Requests`]).
//!
//! A wake carries no data. It sets a mark at the session's key, and the loop gives the session a turn. Many wakes before
//! that turn are one turn. The marked keys form a list, through the marks themselves, so there is no queue that could be
//! full and no memory that grows with the wakes:
//!
//! ```text
//!   first ──► key 7 ──► key 2 ──► key 5 ──► end          wake(9):  first ──► key 9 ──► key 7 ──► …
//! ```
//!
//! A thread that wakes adds a key in front. The loop takes the whole list at a time.
//!
//! Only a loop that sleeps in `poll` must be woken with a system call. Both sides set a flag and then look at the other
//! one's, so one of them always sees the other: the loop notes that it sleeps and then looks at the list; a thread changes
//! the list and then looks whether the loop sleeps.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::io;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::sync::{Arc, OnceLock};

use mio::{Registry, Token};

use crate::requests::Requests;
use crate::stats::Counters;

/// Keys are below this. Linux allows 2^30 open files at most.
pub(crate) const MOST_KEYS: usize = NO_KEY as usize;

/// The end of the list, as a key.
const NO_KEY: u32 = (1 << 29) - 1;

/// The key is in the list.
const LISTED: u64 = 1 << 29;
/// Its session is to get a turn.
const WOKEN: u64 = 1 << 30;
/// Its session is to end.
const END: u64 = 1 << 31;
/// Where the session's generation begins, above the next key of the list and the flags. A key is given to many sessions
/// one after the other, and each has a generation of its own.
const GENERATION: u32 = 32;

fn generation_of(word: u64) -> u32 {
    (word >> GENERATION) as u32
}

/// The key behind this one in the list.
#[expect(clippy::cast_possible_truncation, reason = "a key has 29 bits")]
fn next_of(word: u64) -> u32 {
    (word & u64::from(NO_KEY)) as u32
}

/// The first block has so many marks, and each further one twice as many as the one before.
const FIRST_BLOCK: usize = 1024;
const BLOCKS: usize = 20;

/// What the loop, the handles and the wakers share.
pub(crate) struct Shared {
    /// One mark for each key, in blocks that stay where they are.
    blocks: [OnceLock<Box<[AtomicU64]>>; BLOCKS],
    first: AtomicU32,
    /// The loop sleeps, or is about to, and has not been woken yet.
    is_asleep: AtomicBool,
    pub requests: Requests,
    waker: mio::Waker,
    pub counters: Counters,
}

/// A mark's block, and its place there.
fn place_of(key: usize) -> (usize, usize) {
    let block = (key / FIRST_BLOCK + 1).ilog2() as usize;
    (block, key - FIRST_BLOCK * ((1 << block) - 1))
}

/// A mark in front of the key `next` of the list.
fn linked(word: u64, next: u32) -> u64 {
    word & !u64::from(NO_KEY) | u64::from(next)
}

impl Shared {
    fn mark(&self, key: u32) -> Option<&AtomicU64> {
        let (block, place) = place_of(key as usize);
        self.blocks.get(block)?.get().map(|marks| &marks[place])
    }

    /// Sets `flags` at a session's mark, and adds the key to the list if it is not there. Nothing happens if the session
    /// has ended.
    fn wake(&self, key: u32, generation: u32, flags: u64) {
        let Some(mark) = self.mark(key) else { return };
        // Here and below, SeqCst puts this and the look at `is_asleep` into one order with what `fall_asleep` does.
        let mut next = self.first.load(SeqCst);
        let set = |word: u64| {
            let is_listed = word & LISTED != 0;
            let marked = if is_listed { word | flags } else { linked(word, next) | flags | LISTED };
            (generation_of(word) == generation).then_some(marked)
        };
        // Only the thread that has set LISTED adds the key.
        if mark.fetch_update(SeqCst, SeqCst, set).is_ok_and(|before| before & LISTED == 0) {
            while let Err(first) = self.first.compare_exchange_weak(next, key, SeqCst, SeqCst) {
                next = first;
                let _ = mark.fetch_update(SeqCst, SeqCst, |word| Some(linked(word, next)));
            }
        }
        self.wake_loop();
    }

    /// A system call only if the loop sleeps, and only the first of all that wake it.
    pub fn wake_loop(&self) {
        if self.is_asleep.load(SeqCst) && self.is_asleep.swap(false, SeqCst) {
            // It does not fail for an open descriptor (eventfd(2)).
            let _ = self.waker.wake();
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// Wakes one session: the loop gives it a turn, and calls its [`answer`](crate::Session::answer).
///
/// Any thread may use it, and other sessions may in their turns, before, during and after the server's life. A wake is a
/// hint, as an event is: several wakes can be one turn. Sessions that are woken together have their turns in any order.
/// A wake runs nothing of the session itself, so the caller may hold a borrow or a lock that the session needs. It never
/// blocks and never fails. A wake of a session that has ended does nothing, and never reaches the next
/// session.
///
/// The data that the session is woken for stands elsewhere: publish it first, then wake.
///
/// ```
/// use std::sync::{Arc, Mutex};
/// use std::thread;
///
/// use okloop::conversation::Conversation;
/// use okloop::{Buffer, Session, Step, Waker};
///
/// /// A thread doubles each number.
/// struct Doubling {
///     waker: Waker,
///     /// Where the thread puts its answer. `None` before the question.
///     answer: Option<Arc<Mutex<Option<u32>>>>,
/// }
///
/// impl Session for Doubling {
///     fn answer(&mut self, input: &mut [u8], output: &mut Buffer) -> Step {
///         let Some(end) = input.iter().position(|&byte| byte == b'\n') else { return Step::NeedInput };
///         let Some(answer) = &self.answer else {
///             let number: u32 = String::from_utf8_lossy(&input[..end]).parse().unwrap_or(0);
///             let (answer, waker) = (Arc::new(Mutex::new(None)), self.waker.clone());
///             self.answer = Some(Arc::clone(&answer));
///             thread::spawn(move || {
///                 *answer.lock().unwrap() = Some(2 * number);
///                 waker.wake();
///             });
///             return Step::Wait;
///         };
///         let Some(number) = *answer.lock().unwrap() else { return Step::Wait };
///         self.answer = None;
///         writeln!(output, "{number}");
///         Step::Consumed(end + 1)
///     }
/// }
///
/// let mut conversation = Conversation::open(|client| Doubling { waker: client.waker, answer: None });
/// conversation.send(b"21\n");
/// let mut received = Vec::new();
/// while received.is_empty() {
///     received = conversation.received();
/// }
/// assert_eq!(received, b"42\n");
/// ```
#[derive(Clone)]
pub struct Waker {
    shared: Arc<Shared>,
    key: u32,
    generation: u32,
}

impl Waker {
    /// Gives the session a turn.
    pub fn wake(&self) {
        self.shared.wake(self.key, self.generation, WOKEN);
    }

    /// Ends the session in order, with [`Reason::Ended`](crate::Reason::Ended): its pending output is sent, its last word
    /// too ([`ending`](crate::Session::ending)), and its input is read no more. As after a wake, it has to wait for its
    /// turn. Before it, the session may still be called for other reasons.
    pub fn end(&self) {
        self.shared.wake(self.key, self.generation, END);
    }

    /// The session's number. No other session of this server has it.
    pub fn number(&self) -> u64 {
        u64::from(self.generation) << GENERATION | u64::from(self.key)
    }
}

impl PartialEq for Waker {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared) && self.number() == other.number()
    }
}

impl Eq for Waker {}

impl Hash for Waker {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.number().hash(state);
    }
}

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Waker({})", self.number())
    }
}

/// The loop's end of handles and wakers.
#[derive(Debug)]
pub(crate) struct Wakes {
    shared: Arc<Shared>,
    /// The rest of the list that was taken last: the sessions of this pass that had no turn yet.
    rest: u32,
}

impl Wakes {
    /// Wakes that end `poll` with `token`.
    pub fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        let shared = Shared {
            blocks: [const { OnceLock::new() }; BLOCKS],
            first: AtomicU32::new(NO_KEY),
            is_asleep: AtomicBool::new(false),
            requests: Requests::default(),
            waker: mio::Waker::new(registry, token)?,
            counters: Counters::default(),
        };
        Ok(Self { shared: Arc::new(shared), rest: NO_KEY })
    }

    /// What the handles and the wakers share with the loop.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// What the handles have asked for.
    pub fn requests(&self) -> &Requests {
        &self.shared.requests
    }

    /// The server's counters.
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// The waker of the session that has this key now.
    ///
    /// # Errors
    ///
    /// If there is no memory for its mark.
    pub fn waker(&self, key: usize) -> io::Result<Waker> {
        let (block, place) = place_of(key);
        let marks = if let Some(marks) = self.shared.blocks[block].get() {
            marks
        } else {
            let (length, mut marks) = (FIRST_BLOCK << block, Vec::new());
            marks.try_reserve_exact(length)?;
            marks.resize_with(length, || AtomicU64::new(u64::from(NO_KEY)));
            self.shared.blocks[block].get_or_init(|| marks.into_boxed_slice())
        };
        let generation = generation_of(marks[place].load(Relaxed));
        let key = u32::try_from(key).expect("keys are below MOST_KEYS");
        Ok(Waker { shared: Arc::clone(&self.shared), key, generation })
    }

    /// The waker of a session that is not a server's. Two sessions with different generations have different numbers.
    ///
    /// # Errors
    ///
    /// As [`Wakes::waker`].
    pub fn waker_of(&self, key: u32, generation: u32) -> io::Result<Waker> {
        let waker = self.waker(key as usize)?;
        if let Some(mark) = self.shared.mark(key) {
            mark.store(u64::from(generation) << GENERATION | u64::from(NO_KEY), SeqCst);
        }
        Ok(Waker { generation, ..waker })
    }

    /// The session with this key has ended. From now on its wakers do nothing.
    pub fn retire(&self, key: usize) {
        let key = u32::try_from(key).expect("keys are below MOST_KEYS");
        if let Some(mark) = self.shared.mark(key) {
            // The key stays in the list, where it may stand, without a cause.
            let next = |word: u64| Some((word & !(WOKEN | END)).wrapping_add(1 << GENERATION));
            let _ = mark.fetch_update(SeqCst, SeqCst, next);
        }
    }

    /// Wakes a session from the loop itself.
    pub fn wake(&self, key: usize) {
        let key = u32::try_from(key).expect("keys are below MOST_KEYS");
        if let Some(mark) = self.shared.mark(key) {
            let generation = generation_of(mark.load(Relaxed));
            self.shared.wake(key, generation, WOKEN);
        }
    }

    /// Begins a pass over the sessions that are woken now, unless the last pass is not finished. A session that is woken
    /// during a pass has its turn in the next one. Otherwise one session that goes on and on would have all of them.
    pub fn begin_pass(&mut self) {
        if self.rest == NO_KEY && self.shared.first.load(Relaxed) != NO_KEY {
            self.rest = self.shared.first.swap(NO_KEY, SeqCst);
        }
    }

    /// The next session of the pass, and whether it is to end.
    pub fn next_woken(&mut self) -> Option<(usize, bool)> {
        while self.rest != NO_KEY {
            let key = self.rest;
            let mark = self.shared.mark(key).expect("a listed key has a mark");
            // The link is read before another thread may list the key again.
            self.rest = next_of(mark.load(Acquire));
            let before = mark.fetch_and(!(LISTED | WOKEN | END), SeqCst);
            if before & (WOKEN | END) != 0 {
                return Some((key as usize, before & END != 0));
            }
        }
        None
    }

    /// Takes a session's wake now, before its turn in the list. Returns whether it was woken, and is not to end.
    pub fn take(&self, key: usize) -> bool {
        let mark = u32::try_from(key).ok().and_then(|key| self.shared.mark(key));
        mark.is_some_and(|mark| mark.fetch_and(!WOKEN, SeqCst) & (WOKEN | END) == WOKEN)
    }

    /// The loop is about to call `poll`. Returns whether it may sleep: no session is woken, and nothing is asked for that
    /// the loop can do now. It cannot begin another outgoing connection unless `may_connect`.
    pub fn fall_asleep(&mut self, may_connect: bool) -> bool {
        self.shared.is_asleep.store(true, SeqCst);
        let may_sleep = self.rest == NO_KEY
            && self.shared.first.load(SeqCst) == NO_KEY
            && self.shared.requests.is_empty(may_connect);
        if !may_sleep {
            self.wake_up();
        }
        may_sleep
    }

    /// `poll` has returned.
    pub fn wake_up(&self) {
        self.shared.is_asleep.store(false, Release);
    }
}

#[cfg(test)]
#[path = "wakes/tests.rs"]
mod tests;
