//! Time-outs of one length, in the order in which they fall due.
//!
//! Whoever starts later is due later, so a queue is always sorted: the front tells `poll` how long to sleep, starting
//! anew means moving to the back, and every operation takes constant time. (Timers of many lengths would want a heap
//! or a wheel.) The queue is a doubly linked list threaded through a vector that the key indexes:
//!
//! ```text
//!   first ──► key 7, due 10.0 ◄──► key 2, due 10.4 ◄──► key 5, due 11.9 ◄── last
//! ```
//!
//! Knows keys and instants; not what a key stands for, nor what happens when it is due. A queue that is off, or that
//! nobody has entered, holds no memory.

use std::iter;
use std::time::{Duration, Instant};

/// A queue of deadlines, one for each key at most.
#[derive(Debug)]
pub struct Deadlines {
    /// How long after its start a deadline is due; `None` is never.
    length: Option<Duration>,
    nodes: Vec<Option<Node>>,
    first: Option<u32>,
    last: Option<u32>,
    running: usize,
}

#[derive(Debug, Clone, Copy)]
struct Node {
    due: Instant,
    previous: Option<u32>,
    next: Option<u32>,
}

impl Deadlines {
    /// An empty queue of deadlines due `length` after their start, or never.
    pub fn new(length: Option<Duration>) -> Self {
        Self { length, nodes: Vec::new(), first: None, last: None, running: 0 }
    }

    /// How many deadlines are running.
    pub fn len(&self) -> usize {
        self.running
    }

    /// Whether no deadline is running.
    pub fn is_empty(&self) -> bool {
        self.running == 0
    }

    /// Whether a deadline is running for `key`.
    pub fn is_running(&self, key: usize) -> bool {
        self.due_of(key).is_some()
    }

    /// Starts the deadline of `key`, anew if it is running. `now` never goes back between calls.
    ///
    /// # Panics
    ///
    /// If `key` does not fit in 32 bits: keys number open files, of which Linux allows 2³⁰ at most.
    pub fn start(&mut self, key: usize, now: Instant) {
        self.stop(key);
        // Never is also what lies further off than the clock goes.
        let Some(due) = self.length.and_then(|length| now.checked_add(length)) else { return };
        let link = u32::try_from(key).expect("keys number open files");
        if key >= self.nodes.len() {
            self.nodes.resize(key + 1, None);
        }
        self.nodes[key] = Some(Node { due, previous: self.last, next: None });
        match self.last {
            Some(last) => self.node(last).next = Some(link),
            None => self.first = Some(link),
        }
        self.last = Some(link);
        self.running += 1;
    }

    /// Stops the deadline of `key`, if one is running.
    pub fn stop(&mut self, key: usize) {
        let Some(node) = self.nodes.get_mut(key).and_then(Option::take) else { return };
        match node.previous {
            Some(previous) => self.node(previous).next = node.next,
            None => self.first = node.next,
        }
        match node.next {
            Some(next) => self.node(next).previous = node.previous,
            None => self.last = node.previous,
        }
        self.running -= 1;
    }

    /// The key whose deadline is due first.
    pub fn first(&self) -> Option<usize> {
        self.first.map(|link| link as usize)
    }

    /// When the first deadline is due.
    pub fn next_due(&self) -> Option<Instant> {
        self.first().and_then(|key| self.due_of(key))
    }

    /// The keys whose deadlines are due at `now`, in that order. They stay due until stopped or started anew.
    pub fn due(&self, now: Instant) -> impl Iterator<Item = usize> {
        let next = |&key: &usize| self.nodes[key].and_then(|node| node.next).map(|link| link as usize);
        let is_due = move |&key: &usize| self.due_of(key).is_some_and(|due| due <= now);
        iter::successors(self.first(), next).take_while(is_due)
    }

    fn due_of(&self, key: usize) -> Option<Instant> {
        self.nodes.get(key).copied().flatten().map(|node| node.due)
    }

    fn node(&mut self, link: u32) -> &mut Node {
        self.nodes[link as usize].as_mut().expect("links lead to running deadlines only")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LENGTH: Duration = Duration::from_secs(10);

    #[test]
    fn a_queue_that_is_off_never_wakes_anybody() {
        let mut off = Deadlines::new(None);
        off.start(3, Instant::now());
        assert_eq!((off.next_due(), off.len(), off.nodes.capacity()), (None, 0, 0));
    }

    #[test]
    fn starting_anew_moves_to_the_back() {
        let (mut queue, start) = (Deadlines::new(Some(LENGTH)), Instant::now());
        queue.start(1, start);
        queue.start(2, start + Duration::from_secs(1));
        queue.start(1, start + Duration::from_secs(2));
        assert_eq!(queue.next_due(), Some(start + Duration::from_secs(11)));
        assert!(queue.due(start + Duration::from_secs(30)).eq([2, 1]));
    }

    #[test]
    fn nothing_is_due_before_its_time() {
        let (mut queue, start) = (Deadlines::new(Some(LENGTH)), Instant::now());
        queue.start(1, start);
        assert_eq!(queue.due(start + LENGTH.mul_f64(0.999)).next(), None);
        assert_eq!(queue.due(start + LENGTH).next(), Some(1));
    }

    proptest! {
        /// The linked list against the plainest thing that could be right: a vector of (due, key), searched.
        #[test]
        fn any_sequence_of_calls_agrees_with_a_sorted_list(
            calls in prop::collection::vec((any::<bool>(), 0..6usize, 0..15u64), 1..200)
        ) {
            let (mut queue, mut model, mut now) = (Deadlines::new(Some(LENGTH)), Vec::new(), Instant::now());
            for (starts, key, seconds) in calls {
                now += Duration::from_secs(seconds);
                model.retain(|&(_, k)| k != key);
                if starts {
                    queue.start(key, now);
                    model.push((now + LENGTH, key));
                } else {
                    queue.stop(key);
                }
                let due: Vec<usize> = model.iter().filter(|&&(due, _)| due <= now).map(|&(_, k)| k).collect();
                prop_assert_eq!(queue.due(now).collect::<Vec<_>>(), due);
                prop_assert_eq!(queue.next_due(), model.first().map(|&(due, _)| due));
                prop_assert_eq!(queue.len(), model.len());
                prop_assert_eq!(queue.is_running(key), model.iter().any(|&(_, k)| k == key));
            }
        }
    }
}
