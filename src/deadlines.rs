//! The time-outs of all sessions, in the order in which they fall due.
//!
//! A session has one time-out at a time. All time-outs of one kind have the same length, so a later start is always due
//! later, and each kind is a sorted list. The first of each list says how long `poll` may wait. To start again means to
//! move to the end. Each operation takes constant time. (Time-outs of many lengths would need a heap or a wheel.)
//!
//! The lists are doubly linked, through one vector with a place for each key:
//!
//! ```text
//!   idle:   first ──► key 7, due 10.0 ◄──► key 2, due 10.4 ◄──► key 5, due 11.9 ◄── last
//!   write:  first ──► key 3, due 61.2 ◄── last
//! ```

use std::collections::TryReserveError;
use std::time::{Duration, Instant};

use crate::reason::Reason;
use crate::trace::{Event, step};

/// The kinds of time-out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timeout {
    /// No output is pending: the client must send something.
    Idle,
    /// Output is pending: the client must read.
    Write,
    /// The protocol has ended the session, or the client is refused: the client must end its direction.
    Linger,
}

impl Timeout {
    /// Why a session ends that is late.
    pub fn reason(self) -> Reason {
        match self {
            Self::Idle => Reason::IdleTimeout,
            Self::Write => Reason::WriteTimeout,
            Self::Linger => Reason::Closed,
        }
    }
}

/// The time-outs that are running, by the keys of their sessions.
#[derive(Debug)]
pub struct Deadlines {
    lists: [List; 3],
    nodes: Vec<Option<Node>>,
}

/// All time-outs of one kind.
#[derive(Debug, Clone, Copy)]
struct List {
    /// How long after its start a time-out is due; `None` is never.
    length: Option<Duration>,
    first: Option<u32>,
    last: Option<u32>,
}

#[derive(Debug, Clone, Copy)]
struct Node {
    due: Instant,
    kind: Timeout,
    previous: Option<u32>,
    next: Option<u32>,
}

impl Deadlines {
    /// No running time-out. `lengths` are those of the kinds, in the order of [`Timeout`]; `None` is never. Keys are below
    /// `capacity`: the memory for them is reserved here, and used when the first time-out of a key starts.
    pub fn new(lengths: [Option<Duration>; 3], capacity: usize) -> Result<Self, TryReserveError> {
        let mut nodes = Vec::new();
        nodes.try_reserve_exact(capacity)?;
        Ok(Self { lists: lengths.map(|length| List { length, first: None, last: None }), nodes })
    }

    /// Brings the time-out of a session up to date: `kind` is the one that applies now, and `restart` says whether it
    /// starts again if it is running. `now` never goes back between calls.
    pub fn update(&mut self, key: usize, kind: Timeout, restart: bool, now: Instant) {
        let is_running = self.nodes.get(key).copied().flatten().is_some_and(|node| node.kind == kind);
        if restart || !is_running {
            self.start(key, kind, now);
        }
    }

    fn start(&mut self, key: usize, kind: Timeout, now: Instant) {
        self.stop(key);
        let list = self.lists[kind as usize];
        // A time beyond the end of the clock is never, too.
        let Some(due) = list.length.and_then(|length| now.checked_add(length)) else { return };
        step!(Event::TimeoutStarted { key, timeout: kind, length: due - now });
        let link = u32::try_from(key).expect("keys number open files, of which Linux allows at most 2^30");
        if key >= self.nodes.len() {
            self.nodes.resize(key + 1, None);
        }
        self.nodes[key] = Some(Node { due, kind, previous: list.last, next: None });
        match list.last {
            Some(before) => self.node(before).next = Some(link),
            None => self.lists[kind as usize].first = Some(link),
        }
        self.lists[kind as usize].last = Some(link);
    }

    /// Stops the time-out of a session, if one is running.
    pub fn stop(&mut self, key: usize) {
        let Some(node) = self.nodes.get_mut(key).and_then(Option::take) else { return };
        let list = node.kind as usize;
        match node.previous {
            Some(previous) => self.node(previous).next = node.next,
            None => self.lists[list].first = node.next,
        }
        match node.next {
            Some(next) => self.node(next).previous = node.previous,
            None => self.lists[list].last = node.previous,
        }
    }

    /// When the first time-out is due; `None` if none is running.
    pub fn next_due(&self) -> Option<Instant> {
        self.firsts().map(|(_, node)| node.due).min()
    }

    /// A session whose time-out is due at `now`, if there is one. It stays due until it is stopped.
    pub fn next_late(&self, now: Instant) -> Option<(usize, Timeout)> {
        self.firsts().find(|(_, node)| node.due <= now).map(|(key, node)| (key, node.kind))
    }

    /// The first of each list.
    fn firsts(&self) -> impl Iterator<Item = (usize, Node)> {
        let keys = self.lists.iter().filter_map(|list| list.first);
        keys.filter_map(|link| Some((link as usize, self.nodes[link as usize]?)))
    }

    fn node(&mut self, link: u32) -> &mut Node {
        self.nodes[link as usize].as_mut().expect("links lead to running time-outs only")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    /// Idle after 10 s, unread output after 20 s, no linger time-out; and the time at which this starts.
    fn deadlines() -> (Deadlines, Instant) {
        let lengths = [Some(seconds(10)), Some(seconds(20)), None];
        (Deadlines::new(lengths, 8).expect("a few bytes of memory"), Instant::now())
    }

    #[test]
    fn a_time_out_that_is_off_uses_no_memory_and_never_falls_due() {
        let (mut deadlines, start) = deadlines();
        deadlines.update(3, Timeout::Linger, true, start);
        assert_eq!((deadlines.next_due(), deadlines.nodes.len()), (None, 0));
    }

    #[test]
    fn a_time_out_starts_again_only_when_it_is_told_to() {
        let (mut deadlines, start) = deadlines();
        deadlines.update(1, Timeout::Write, true, start);
        deadlines.update(1, Timeout::Write, false, start + seconds(19));
        assert_eq!(deadlines.next_late(start + seconds(19)), None);
        assert_eq!(deadlines.next_late(start + seconds(20)), Some((1, Timeout::Write)));
        deadlines.update(1, Timeout::Write, true, start + seconds(20));
        assert_eq!(deadlines.next_due(), Some(start + seconds(40)));
    }

    #[test]
    fn a_session_with_pending_output_has_the_write_time_out_only() {
        let (mut deadlines, start) = deadlines();
        deadlines.update(1, Timeout::Idle, true, start);
        deadlines.update(1, Timeout::Write, false, start + seconds(5));
        assert_eq!(deadlines.next_due(), Some(start + seconds(25)));
        deadlines.update(1, Timeout::Idle, false, start + seconds(6));
        assert_eq!(deadlines.next_due(), Some(start + seconds(16)));
    }

    proptest! {
        /// The linked lists against the plainest model: a vector of (due, key, kind), searched.
        #[test]
        fn any_sequence_of_calls_agrees_with_a_sorted_vector(
            calls in prop::collection::vec((0..3usize, 0..6usize, any::<bool>(), 0..15u64), 1..200)
        ) {
            let ((mut deadlines, mut now), mut model) = (deadlines(), Vec::<(Instant, usize, usize)>::new());
            for (action, key, progress, passed) in calls {
                now += seconds(passed);
                let is_running = model.iter().any(|&(_, k, kind)| (k, kind) == (key, action));
                if action == 2 {
                    deadlines.stop(key);
                } else {
                    deadlines.update(key, [Timeout::Idle, Timeout::Write][action], progress, now);
                }
                if action == 2 || progress || !is_running {
                    model.retain(|&(_, k, _)| k != key);
                }
                if action < 2 && (progress || !is_running) {
                    model.push((now + seconds(10 * (action as u64 + 1)), key, action));
                }
                prop_assert_eq!(deadlines.next_due(), model.iter().map(|&(due, ..)| due).min());
                // All late ones, as the server ends them.
                let mut late = Vec::new();
                while let Some((key, kind)) = deadlines.next_late(now) {
                    deadlines.stop(key);
                    late.push((key, kind as usize));
                }
                let mut expected: Vec<_> =
                    model.iter().filter(|&&(due, ..)| due <= now).map(|&(_, key, kind)| (key, kind)).collect();
                expected.sort_by_key(|&(_, kind)| kind);
                prop_assert_eq!(late, expected);
                model.retain(|&(due, ..)| due > now);
            }
        }
    }
}
