//! A session that notes what it is told and what it says, and checks the order of the calls.

use std::cell::RefCell;
use std::hash::{Hash, Hasher};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use super::World;
use crate::buffer::Buffer;
use crate::reason::Reason;
use crate::session::{AtDeadline, EndOfInput, Session, Sizes, Step, Timer};

/// What a session was given, and what it said.
#[derive(Debug, Clone, Default, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "facts about a session, each on its own")]
pub struct Record {
    /// Everything that it has appended to its output. A refused client has no session: the message.
    pub said: Vec<u8>,
    /// How many bytes it has consumed.
    pub consumed: usize,
    /// How many bytes of its last input it has left there.
    pub left: usize,
    /// Whether it could do no more at its last call, and said so.
    pub needs_input: bool,
    /// Whether its last step was [`Step::Wait`].
    pub waits: bool,
    /// Whether something has happened that lets a waiting session go on.
    pub may_go_on: bool,
    /// Whether its own deadline is running.
    pub has_deadline: bool,
    /// Whether it has ended its output.
    pub has_ended_output: bool,
    /// Whether it has closed the session.
    pub has_closed: bool,
    /// Whether it is never called again: it has closed, or its last call panicked.
    pub is_over: bool,
    /// How much the server had read when it told the session that no more follows, and whether its stop was the reason.
    pub ended_at: Option<usize>,
    pub is_stopped: bool,
    /// Whether it was told that its outgoing connection could not be opened.
    pub has_failed: bool,
    /// Why the server has ended it, and how long the client had been silent.
    pub ending: Option<(Reason, Duration)>,
    /// What it was told last.
    pub closed: Option<Reason>,
    /// [`Sizes::request`], [`Sizes::answer`] and [`Sizes::independent`].
    pub largest_request: usize,
    pub largest_answer: usize,
    pub is_independent: bool,
    /// How many times `answer` was called in this iteration.
    pub calls: usize,
    /// The rule that a call of it has broken. (The loop would catch a panic here.)
    pub broken: Option<&'static str>,
}

impl Record {
    fn expect(&mut self, holds: bool, rule: &'static str) {
        if !holds {
            self.broken.get_or_insert(rule);
        }
    }
}

/// A session of the protocol `S`, recorded.
#[derive(Debug, Clone)]
pub struct Recorded<S> {
    pub session: S,
    world: Rc<RefCell<World>>,
}

impl<S> Recorded<S> {
    pub fn new(session: S, world: Rc<RefCell<World>>) -> Self {
        Self { session, world }
    }

    fn record<R>(&self, note: impl FnOnce(&mut Record) -> R) -> R {
        note(&mut self.world.borrow_mut().record)
    }

    /// Calls the session, and notes what it has appended.
    fn note<R>(&mut self, output: &mut Buffer, call: impl FnOnce(&mut S, &mut Buffer) -> R) -> R {
        let pending = output.len();
        let is_open = self.world.borrow().wire.is_open;
        self.record(|record| {
            record.expect(is_open, "a session is not called before its connection is open");
            record.expect(!record.is_over, "a session that is over is not called again");
            record.is_over = true;
        });
        let result = call(&mut self.session, output);
        self.record(|record| {
            record.said.extend(&output.unread()[pending..]);
            record.is_over = false;
        });
        result
    }
}

/// Its world is not a part of it.
impl<S: Hash> Hash for Recorded<S> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.session.hash(state);
    }
}

impl<S: Session> Session for Recorded<S> {
    fn sizes(&mut self) -> Sizes {
        let sizes = self.session.sizes();
        self.record(|record| {
            (record.largest_request, record.largest_answer) = (sizes.request, sizes.answer);
            record.is_independent = sizes.independent;
        });
        sizes
    }

    fn greet(&mut self, output: &mut Buffer) {
        self.note(output, S::greet);
    }

    fn answer(&mut self, input: &mut [u8], output: &mut Buffer) -> Step {
        let pending = output.len();
        {
            let mut world = self.world.borrow_mut();
            let World { wire, record, .. } = &mut *world;
            record.calls += 1;
            record.expect(
                record.may_go_on || !record.waits,
                "a session that waits is not called before a wake",
            );
            let has_room = output.free() >= record.largest_answer || record.is_independent;
            record.expect(has_room, "before each call there is room for the largest answer");
            let is_next = wire.up.bytes[record.consumed..].starts_with(input);
            record.expect(is_next, "a session gets all that the client has sent, once, in order");
            let is_given = input.len() <= record.largest_request;
            record.expect(is_given, "a session gets no more than its largest request");
            record.expect(record.ending.is_none(), "nothing is answered after the last word");
        }
        let step = self.note(output, |session, output| session.answer(input, output));
        let mut world = self.world.borrow_mut();
        let is_woken = world.is_woken;
        let record = &mut world.record;
        record.left = input.len();
        if let Step::Consumed(count) = step {
            // More than there is: the loop ends the session.
            record.is_over = count > input.len();
            record.consumed += count.min(input.len());
            record.left -= count.min(input.len());
        }
        record.needs_input = matches!(step, Step::NeedInput | Step::Consumed(0));
        record.is_over |= step == Step::More && output.len() == pending;
        record.is_over |= output.len() - pending > record.largest_answer && !record.is_independent;
        record.waits = step == Step::Wait;
        record.may_go_on = is_woken;
        record.is_over |= matches!(step, Step::Introduce(_));
        record.is_over |= step == Step::EndOutput && record.has_ended_output;
        record.has_ended_output |= step == Step::EndOutput;
        record.has_closed = step == Step::Close;
        record.is_over |= record.has_closed;
        step
    }

    fn end_of_input(&mut self, end: EndOfInput) {
        self.session.end_of_input(end);
        let read = self.world.borrow().wire.up.read;
        self.record(|record| {
            record.expect(record.ended_at.is_none(), "the input ends once");
            (record.ended_at, record.is_stopped) = (Some(read), end == EndOfInput::Stop);
        });
    }

    fn ending(&mut self, reason: Reason, output: &mut Buffer) {
        self.note(output, |session, output| session.ending(reason, output));
        let mut world = self.world.borrow_mut();
        let (is_silent, silence) = (world.wire.up.unread() == 0, world.silence());
        let record = &mut world.record;
        record.expect(record.ending.is_none(), "a session has one last word");
        record.expect(
            reason != Reason::IdleTimeout || is_silent,
            "a client that has sent something is not idle",
        );
        record.ending = Some((reason, silence));
    }

    fn connect_failed(&mut self, error: &io::Error) {
        self.session.connect_failed(error);
        self.record(|record| {
            record.expect(record.said.is_empty(), "a session that has greeted is connected");
            record.expect(!record.has_failed, "a session is told once that its connection failed");
            record.has_failed = true;
        });
    }

    fn closed(&mut self, reason: Reason) {
        self.session.closed(reason);
        self.record(|record| {
            let is_mistaken = record.is_over && !record.has_closed;
            record.expect(!is_mistaken, "a session that has made a mistake is not called again");
            record.expect(record.closed.is_none(), "a session is told once that it is over");
            let is_told = record.has_failed == (reason == Reason::ConnectFailed);
            record.expect(is_told, "a session is told why its connection could not be opened");
            record.closed = Some(reason);
        });
    }

    fn timer(&mut self) -> Timer {
        let timer = self.session.timer();
        self.record(|record| match timer {
            Timer::Keep => {}
            Timer::Stop => record.has_deadline = false,
            Timer::Start(_) => record.has_deadline = true,
        });
        timer
    }

    fn deadline(&mut self) -> AtDeadline {
        let step = self.session.deadline();
        self.record(|record| {
            record.expect(record.has_deadline, "a deadline that is off is never over");
            record.has_deadline = false;
            record.may_go_on |= step == AtDeadline::GoOn;
        });
        step
    }
}
