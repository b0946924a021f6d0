//! Which deadline a session is under. Knows the three kinds; not what a session is.
//!
//! A session has one at a time: while it is owed nothing, it waits for its client to speak (*idle*); while it is owed
//! output, for its client to read (*owing*); and a client being refused has a short while in all.

use std::iter;
use std::time::Instant;

use crate::config::{Config, REFUSAL_TIMEOUT};
use crate::connection::Turn;
use crate::deadlines::Deadlines;
use crate::reason::Reason;

/// The deadlines of all sessions, by their keys.
#[derive(Debug)]
pub struct Timeouts {
    /// Sessions that are owed nothing, by when they have been silent for too long.
    idle: Deadlines,
    /// Sessions that are owed output, by when they have taken none for too long.
    owing: Deadlines,
    /// Clients who are being told that the server is full, by when they are cut off.
    refusals: Deadlines,
}

impl Timeouts {
    /// The configured time-outs, and no session.
    pub fn new(config: &Config) -> Self {
        Self {
            idle: Deadlines::new(config.idle_timeout),
            owing: Deadlines::new(config.write_timeout),
            refusals: Deadlines::new(Some(REFUSAL_TIMEOUT)),
        }
    }

    /// Starts the deadline of a client that is being refused. Nothing that it does puts that off.
    pub fn start_refusal(&mut self, key: usize, now: Instant) {
        self.refusals.start(key, now);
    }

    /// How many clients are being refused.
    pub fn refusals(&self) -> usize {
        self.refusals.len()
    }

    /// The client that has been refused first of those.
    pub fn oldest_refusal(&self) -> Option<usize> {
        self.refusals.first()
    }

    /// Brings a session's deadline in line with what its `turn` has moved, and whether it is owed output since.
    pub fn update(&mut self, key: usize, turn: Turn, owes: bool, now: Instant) {
        if self.refusals.is_running(key) {
            return;
        }
        let (queue, other, moved) = if owes {
            (&mut self.owing, &mut self.idle, turn.written)
        } else {
            (&mut self.idle, &mut self.owing, turn.read + turn.written)
        };
        other.stop(key);
        if moved > 0 || !queue.is_running(key) {
            queue.start(key, now);
        }
    }

    /// Forgets a session that has ended.
    pub fn stop(&mut self, key: usize) {
        for queue in [&mut self.idle, &mut self.owing, &mut self.refusals] {
            queue.stop(key);
        }
    }

    /// When the first deadline is due; `None` if none is running.
    pub fn next_due(&self) -> Option<Instant> {
        self.queues().iter().filter_map(|queue| queue.next_due()).min()
    }

    /// The sessions whose deadlines are due at `now`, and what that makes of them.
    pub fn due(&self, now: Instant) -> Vec<(usize, Reason)> {
        let reasons = [Reason::IdleTimeout, Reason::WriteTimeout, Reason::Refused];
        let due = |(queue, reason)| Deadlines::due(queue, now).map(move |key| (key, reason));
        iter::zip(self.queues(), reasons).flat_map(due).collect()
    }

    fn queues(&self) -> [&Deadlines; 3] {
        [&self.idle, &self.owing, &self.refusals]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const NOTHING: Turn = Turn { read: 0, written: 0, stopped_early: false };
    const READ: Turn = Turn { read: 1, ..NOTHING };
    const WROTE: Turn = Turn { written: 1, ..NOTHING };

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    /// Idle after 10 s, a debt after 20 s; and the time at which it begins.
    fn timeouts() -> (Timeouts, Instant) {
        let config =
            Config { idle_timeout: Some(seconds(10)), write_timeout: Some(seconds(20)), ..Config::default() };
        (Timeouts::new(&config), Instant::now())
    }

    #[test]
    fn whoever_is_owed_output_is_waited_for_to_read_and_not_to_speak() {
        let (mut timeouts, start) = timeouts();
        timeouts.update(1, READ, true, start);
        assert_eq!(timeouts.due(start + seconds(19)), []);
        assert_eq!(timeouts.due(start + seconds(20)), [(1, Reason::WriteTimeout)]);
    }

    #[test]
    fn a_debt_is_not_put_off_by_words() {
        let (mut timeouts, start) = timeouts();
        timeouts.update(1, WROTE, true, start);
        timeouts.update(1, READ, true, start + seconds(19));
        assert_eq!(timeouts.due(start + seconds(20)), [(1, Reason::WriteTimeout)]);
        timeouts.update(1, WROTE, true, start + seconds(20));
        assert_eq!(timeouts.next_due(), Some(start + seconds(40)));
    }

    #[test]
    fn silence_counts_from_the_last_byte_in_either_direction() {
        let (mut timeouts, start) = timeouts();
        timeouts.update(1, NOTHING, false, start);
        timeouts.update(1, READ, false, start + seconds(3));
        timeouts.update(1, WROTE, false, start + seconds(5));
        timeouts.update(1, NOTHING, false, start + seconds(9));
        assert_eq!(timeouts.due(start + seconds(15)), [(1, Reason::IdleTimeout)]);
    }

    #[test]
    fn a_refused_client_has_its_time_and_no_other() {
        let (mut timeouts, start) = timeouts();
        timeouts.start_refusal(1, start);
        timeouts.update(1, WROTE, false, start + seconds(1));
        assert_eq!(timeouts.due(start + REFUSAL_TIMEOUT), [(1, Reason::Refused)]);
        timeouts.stop(1);
        assert_eq!((timeouts.refusals(), timeouts.next_due()), (0, None));
    }
}
