//! Up to which time the loop has handled everything that happened.
//!
//! A time-out compares a clock with what the loop has seen of a session. The session may have sent something that the
//! loop has not seen yet: more sockets can be ready than one batch holds, or the whole process was stopped for a while
//! (SIGSTOP, a frozen container) and `poll` returned without events. So time-outs compare with this time, not with now.

use std::time::Instant;

use crate::config::EVENTS;

/// The time up to which everything is handled, from the batches that `poll` returned.
#[derive(Debug)]
pub struct CaughtUp {
    to: Instant,
    /// The current run of full batches: the time before its first `poll`, and its length.
    run: Option<(Instant, usize)>,
}

impl CaughtUp {
    /// Nothing happened before `start`.
    pub fn new(start: Instant) -> Self {
        Self { to: start, run: None }
    }

    /// The loop has handled everything that happened before this time.
    pub fn to(&self) -> Instant {
        self.to
    }

    /// Notes a batch, which may be full. `asked` is the time before `poll` was called. `sources` is how many events can
    /// be in the kernel's queue: those of all sockets that are registered.
    ///
    /// A batch with room left holds everything that was ready when `poll` was called. After a full batch, more may be
    /// waiting. The kernel's queue is first in, first out, and holds each source once. So after enough full batches for
    /// all sources, everything is handled that was ready before the first of them.
    pub fn note(&mut self, asked: Instant, may_be_full: bool, sources: usize) {
        if !may_be_full {
            (self.to, self.run) = (asked, None);
            return;
        }
        let (first_asked, batches) = self.run.map_or((asked, 1), |(first, count)| (first, count + 1));
        self.run = Some((first_asked, batches));
        if batches * EVENTS >= sources {
            (self.to, self.run) = (first_asked, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_batch_with_room_left_holds_everything() {
        let start = Instant::now();
        let mut caught_up = CaughtUp::new(start);
        caught_up.note(start + Duration::from_secs(1), false, 3 * EVENTS);
        assert_eq!(caught_up.to(), start + Duration::from_secs(1));
    }

    /// A socket that became ready just after the first `poll` is last in the queue. Nothing later is certain.
    #[test]
    fn full_batches_for_all_sources_are_certain_up_to_the_first_of_them_only() {
        let start = Instant::now();
        let second = |count| start + Duration::from_secs(count);
        let mut caught_up = CaughtUp::new(start);
        let mut after = |count| {
            caught_up.note(second(count), true, 3 * EVENTS);
            caught_up.to()
        };
        assert_eq!([1, 2, 3, 4, 5, 6, 7].map(&mut after), [0, 0, 1, 1, 1, 4, 4].map(second));
        caught_up.note(second(8), false, 3 * EVENTS);
        assert_eq!(caught_up.to(), second(8));
    }
}
