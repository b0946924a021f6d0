//! A protocol with a record of all that passes through it, so that a test can compare it with the socket.

use std::cell::RefCell;
use std::rc::Rc;

use okloop::{Buffer, Session, Step};

/// What a protocol was given, and what it said.
#[derive(Debug, Default)]
pub struct Record {
    /// Everything that it has appended to its output.
    pub said: Vec<u8>,
    /// Everything that it has consumed.
    pub consumed: Vec<u8>,
    /// How many bytes of its last input it has left there.
    pub left: usize,
    /// Whether it could do no more at its last call, and said so.
    pub needs_input: bool,
    /// Whether it has closed the session.
    pub has_closed: bool,
    /// Whether it is never called again: it has closed, or its last call panicked.
    pub is_over: bool,
    /// The rule that a call of it has broken. (The loop would catch a panic here.)
    pub broken: Option<&'static str>,
}

/// A protocol `S`, recorded.
#[derive(Debug)]
pub struct Recorded<S> {
    session: S,
    record: Rc<RefCell<Record>>,
}

impl<S> Recorded<S> {
    pub fn new(session: S, record: Rc<RefCell<Record>>) -> Self {
        Self { session, record }
    }
}

impl<S: Session> Session for Recorded<S> {
    const LARGEST_ANSWER: usize = S::LARGEST_ANSWER;

    fn greet(&mut self, output: &mut Buffer) {
        self.session.greet(output);
        self.record.borrow_mut().said.extend(output.unread());
    }

    fn answer(&mut self, input: &mut [u8], output: &mut Buffer) -> Step {
        let pending = output.len();
        {
            let mut record = self.record.borrow_mut();
            if output.free() < S::LARGEST_ANSWER {
                record.broken = Some("before each call there is room for the largest answer");
            }
            if record.is_over {
                record.broken = Some("a protocol that has ended is not called again");
            }
            record.is_over = true;
        }
        let step = self.session.answer(input, output);
        let mut record = self.record.borrow_mut();
        let answer = &output.unread()[pending..];
        record.said.extend(answer);
        record.left = input.len();
        if let Step::Consumed(count) = step {
            // More than there is: the loop ends the session.
            let Some(consumed) = input.get(..count) else { return step };
            record.consumed.extend(consumed);
            record.left -= count;
        }
        record.needs_input = step == Step::NeedInput || step == Step::Consumed(0) && answer.is_empty();
        record.has_closed = step == Step::Close;
        record.is_over = record.has_closed;
        step
    }

    fn end_of_input(&mut self) {
        self.session.end_of_input();
    }
}
