//! A session with a deadline of its own that comes again and again.

use std::mem;
use std::time::Duration;

use okloop::{AtDeadline, Buffer, Session, Step, Timer};

/// Says `tick` and a line ending after each period, and reads nothing.
pub struct Clock {
    period: Duration,
    timer: Timer,
    is_due: bool,
}

impl Clock {
    pub fn new(period: Duration) -> Self {
        Self { period, timer: Timer::Start(period), is_due: false }
    }
}

impl Session for Clock {
    fn answer(&mut self, _input: &mut [u8], output: &mut Buffer) -> Step {
        if !mem::take(&mut self.is_due) {
            return Step::Wait;
        }
        output.push(b"tick\n");
        Step::More
    }

    fn timer(&mut self) -> Timer {
        mem::take(&mut self.timer)
    }

    fn deadline(&mut self) -> AtDeadline {
        self.is_due = true;
        self.timer = Timer::Start(self.period);
        AtDeadline::GoOn
    }
}
