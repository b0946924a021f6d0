//! A session with a deadline of its own that comes again and again.

use std::mem;
use std::time::Duration;

use okloop::{AtDeadline, Buffer, Session, Step, Timer};

/// Says `tick` and a line ending after each period, and answers nothing.
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
    fn answer(&mut self, input: &mut [u8], output: &mut Buffer) -> Step {
        if mem::take(&mut self.is_due) {
            output.push(b"tick\n");
        }
        Step::Consumed(input.len())
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
