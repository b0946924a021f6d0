//! The time-outs of all sessions, and which one is due next.
//!
//! A session has several time-outs, which run side by side. To start one again is the most common operation, so it only
//! writes the new time into the session's node. A heap orders the sessions by the time at which each of them was last
//! looked at. This time may be too early, but never too late:
//!
//! ```text
//!   heap:   key 7, look at 10.0        key 7:  idle 40.0, write never, own 12.5, …
//!            ├── key 2, look at 12.0
//!            └── key 5, look at 11.9
//! ```
//!
//! [`Deadlines::next_due`] looks at the first one. If its time-outs are later than its place, it moves down, and the next
//! one becomes the first, until the first place is right. So `poll` never wakes for a time-out that is not due.

use std::collections::TryReserveError;
use std::time::{Duration, Instant};

use crate::reason::Timeout;

/// A time, in nanoseconds since the start.
type Nanos = u64;

const NEVER: Nanos = Nanos::MAX;

/// How many time-outs of a session run side by side. Some share a slot, because a session has only one of them at a time:
/// a draining session has no idle time-out, and one that lingers or is being opened has no pending output.
const SLOTS: usize = 3;

fn slot(kind: Timeout) -> usize {
    match kind {
        Timeout::Idle | Timeout::Quiet => 0,
        Timeout::Write | Timeout::Linger | Timeout::Connect => 1,
        Timeout::Own => 2,
    }
}

/// The time-outs that are running, by the keys of their sessions.
#[derive(Debug)]
pub(crate) struct Deadlines {
    start: Instant,
    nodes: Vec<Node>,
    /// A binary heap of keys: each is due no earlier than the one at half its index.
    heap: Vec<u32>,
}

/// One session's time-outs.
#[derive(Debug, Clone, Copy)]
struct Node {
    due: [Nanos; SLOTS],
    kinds: [Timeout; SLOTS],
    /// The time that its place in the heap stands for: no time-out is due before it.
    look_at: Nanos,
    place: u32,
}

impl Node {
    const EMPTY: Self = Self {
        due: [NEVER; SLOTS],
        kinds: [Timeout::Idle, Timeout::Write, Timeout::Own],
        look_at: NEVER,
        place: u32::MAX,
    };

    fn first_due(&self) -> Nanos {
        self.due.into_iter().min().unwrap_or(NEVER)
    }

    fn is_in_heap(&self) -> bool {
        self.place != u32::MAX
    }
}

impl Deadlines {
    /// No running time-out. No time before `start` is used.
    pub fn new(start: Instant) -> Self {
        Self { start, nodes: Vec::new(), heap: Vec::new() }
    }

    /// Starts a time-out of a session that is over at `due`, or starts it again.
    ///
    /// # Errors
    ///
    /// If there is no memory for it.
    pub fn start(&mut self, key: usize, kind: Timeout, due: Instant) -> Result<(), TryReserveError> {
        if key >= self.nodes.len() {
            self.nodes.try_reserve(key + 1 - self.nodes.len())?;
            self.nodes.resize(key + 1, Node::EMPTY);
        }
        if !self.nodes[key].is_in_heap() {
            self.heap.try_reserve(1)?;
        }
        let due = Nanos::try_from(due.saturating_duration_since(self.start).as_nanos()).unwrap_or(NEVER - 1);
        let node = &mut self.nodes[key];
        (node.due[slot(kind)], node.kinds[slot(kind)]) = (due, kind);
        if !node.is_in_heap() {
            node.look_at = due;
            self.heap.push(u32::try_from(key).expect("keys are below 2^29"));
            self.move_up(self.heap.len() - 1);
        } else if due < node.look_at {
            node.look_at = due;
            let place = node.place;
            self.move_up(place as usize);
        }
        Ok(())
    }

    /// Whether this time-out of a session is running.
    pub fn is_running(&self, key: usize, kind: Timeout) -> bool {
        self.due(key, kind).is_some()
    }

    /// When this time-out of a session is due, if it is running.
    pub fn due(&self, key: usize, kind: Timeout) -> Option<Instant> {
        let node = self.nodes.get(key)?;
        let (due, is_kind) = (node.due[slot(kind)], node.kinds[slot(kind)] == kind);
        (due != NEVER && is_kind).then(|| self.start + Duration::from_nanos(due))
    }

    /// Stops a time-out of a session, if it is running.
    pub fn stop(&mut self, key: usize, kind: Timeout) {
        if self.is_running(key, kind) {
            self.nodes[key].due[slot(kind)] = NEVER;
        }
    }

    /// Stops all time-outs of a session.
    pub fn stop_all(&mut self, key: usize) {
        if let Some(node) = self.nodes.get_mut(key) {
            node.due = [NEVER; SLOTS];
        }
    }

    /// When the first time-out is due; `None` if none is running.
    pub fn next_due(&mut self) -> Option<Instant> {
        self.find_first().map(|(_, due)| self.start + Duration::from_nanos(due))
    }

    /// A session whose time-out is due at `now`, if there is one, and since when.
    pub fn first_late(&mut self, now: Instant) -> Option<(usize, Timeout, Instant)> {
        let (key, due) = self.find_first()?;
        let node = &self.nodes[key];
        let index = node.due.iter().position(|&at| at == due)?;
        let since = self.start + Duration::from_nanos(due);
        (since <= now).then_some((key, node.kinds[index], since))
    }

    /// The sessions whose time-out of this kind is due first, at most `most` of them, in this order, and when. It looks at
    /// every session: for a report.
    pub fn first(&self, kind: Timeout, most: usize) -> Vec<(usize, Instant)> {
        let due = |key| Some((self.due(key, kind)?, key));
        let mut running: Vec<_> = (0..self.nodes.len()).filter_map(due).collect();
        running.sort_unstable();
        running.into_iter().take(most).map(|(due, key)| (key, due)).collect()
    }

    /// The session whose time-out is due first. The first place of the heap is right then.
    fn find_first(&mut self) -> Option<(usize, Nanos)> {
        loop {
            let key = *self.heap.first()? as usize;
            let (due, looked_at) = (self.nodes[key].first_due(), self.nodes[key].look_at);
            if due == NEVER {
                self.nodes[key].place = u32::MAX;
                self.heap.swap_remove(0);
            } else if due == looked_at {
                return Some((key, due));
            } else {
                self.nodes[key].look_at = due;
            }
            self.move_down();
        }
    }

    /// Moves the key at `place` up, before all that are later.
    fn move_up(&mut self, mut place: usize) {
        while place > 0 && self.look_at(place) < self.look_at((place - 1) / 2) {
            self.heap.swap(place, (place - 1) / 2);
            self.note_place(place);
            place = (place - 1) / 2;
        }
        self.note_place(place);
    }

    /// Moves the first key down, behind all that are earlier.
    fn move_down(&mut self) {
        let mut place = 0;
        loop {
            let children = (2 * place + 1..2 * place + 3).filter(|&child| child < self.heap.len());
            let Some(first) = children.min_by_key(|&child| self.look_at(child)) else { break };
            if self.look_at(place) <= self.look_at(first) {
                break;
            }
            self.heap.swap(place, first);
            self.note_place(place);
            place = first;
        }
        self.note_place(place);
    }

    fn look_at(&self, place: usize) -> Nanos {
        self.nodes[self.heap[place] as usize].look_at
    }

    fn note_place(&mut self, place: usize) {
        if let Some(&key) = self.heap.get(place) {
            self.nodes[key as usize].place = u32::try_from(place).expect("there are fewer than 2^29 keys");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn all_time_outs_of_a_session_cost_48_bytes_together() {
        assert!(size_of::<Node>() + size_of::<u32>() <= 48);
    }

    #[test]
    fn a_session_without_time_outs_uses_no_memory() {
        let mut deadlines = Deadlines::new(Instant::now());
        deadlines.stop(3, Timeout::Idle);
        deadlines.stop_all(3);
        assert_eq!((deadlines.next_due(), deadlines.nodes.capacity()), (None, 0));
    }

    const ALL: [Timeout; 6] =
        [Timeout::Idle, Timeout::Write, Timeout::Own, Timeout::Linger, Timeout::Connect, Timeout::Quiet];

    proptest! {
        /// The heap against the plainest model: a vector of (due, key, kind), searched.
        #[test]
        fn any_sequence_of_calls_agrees_with_a_sorted_vector(
            calls in prop::collection::vec((0..4usize, 0..12usize, 0..ALL.len(), 0..30u64, 0..15u64), 1..300)
        ) {
            let start = Instant::now();
            let at = |seconds| start + Duration::from_secs(seconds);
            let (mut deadlines, mut model, mut now) = (Deadlines::new(start), Vec::new(), 0);
            for (action, key, kind, length, passed) in calls {
                now += passed;
                let timeout = ALL[kind];
                match action {
                    0 => {
                        model.retain(|&(_, k, other)| (k, other) != (key, kind));
                        deadlines.stop(key, timeout);
                    }
                    1 => {
                        model.retain(|&(_, k, _)| k != key);
                        deadlines.stop_all(key);
                    }
                    _ => {
                        model.retain(|&(_, k, other)| k != key || slot(ALL[other]) != slot(timeout));
                        model.push((now + length, key, kind));
                        deadlines.start(key, timeout, at(now + length)).unwrap();
                    }
                }
                let running = model.iter().find(|&&(_, k, other)| (k, other) == (key, kind));
                prop_assert_eq!(deadlines.due(key, timeout), running.map(|&(due, ..)| at(due)));
                prop_assert_eq!(deadlines.next_due(), model.iter().map(|&(due, ..)| at(due)).min());
                let of_kind = model.iter().filter(|&&(.., other)| ALL[other] == timeout);
                let mut first: Vec<_> = of_kind.map(|&(due, key, _)| (at(due), key)).collect();
                first.sort_unstable();
                let found = deadlines.first(timeout, 5).into_iter().map(|(key, due)| (due, key));
                prop_assert_eq!(found.collect::<Vec<_>>(), first[..first.len().min(5)].to_vec());
                // All late ones, as the server takes them.
                let mut late = Vec::new();
                while let Some((key, kind, due)) = deadlines.first_late(at(now)) {
                    deadlines.stop(key, kind);
                    late.push((due, key, kind as usize));
                }
                prop_assert!(late.is_sorted_by_key(|&(due, ..)| due), "in the order in which they are due");
                late.sort_unstable();
                let due_now = model.iter().filter(|&&(due, ..)| due <= now);
                let mut expected: Vec<_> = due_now.map(|&(due, key, kind)| (at(due), key, kind)).collect();
                expected.sort_unstable();
                prop_assert_eq!(late, expected);
                model.retain(|&(due, ..)| due > now);
            }
        }
    }
}
