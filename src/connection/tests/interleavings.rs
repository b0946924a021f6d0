//! Properties of the state machine: whatever happens in whatever order, and on whatever system, the client gets what the
//! protocol said. After each turn the scripted session checks the limits and the interest (`Scripted::check`).

use std::io::ErrorKind;
use std::panic::resume_unwind;

use okloop::config::INPUT_BUFFER;
use okloop::platform::Kernel;
use okloop::readiness::{Readable, Readiness};
use okloop::{Buffer, Framing, OkSession, PREFIX, Reason, Session, Step};
use proptest::prelude::*;

use crate::harness::{FULL, chunks_of};
use crate::scripted::{Happening, Scripted, Socket};

proptest! {
    #[test]
    fn every_byte_is_answered_in_order_whatever_happens(
        (framing, mut session) in ok_session(), script in script(),
    ) {
        session.play(script);
        session.fall_silent();
        prop_assert_eq!(session.socket().read, session.socket().arrived.len());
        prop_assert_eq!(session.end(), Reason::Finished);
        session.check_answers(framing);
    }

    #[test]
    fn a_drain_at_any_moment_answers_everything_that_had_arrived(
        (framing, mut session) in ok_session(), before in script(), after in script(),
    ) {
        session.play(before);
        let arrived = session.socket().arrived.len();
        session.drain();
        session.play(after);
        let reason = session.end();
        let shut_down = session.socket().shut_down;
        prop_assert_eq!(reason, if shut_down.is_some() { Reason::Drained } else { Reason::Finished });
        prop_assert!(shut_down.is_none_or(|read| read >= arrived));
        session.check_answers(framing);
    }

    #[test]
    fn a_reset_at_any_moment_ends_the_session_as_a_reset(
        (_, mut session) in ok_session(), before in script(), is_drained: bool, after in script(),
    ) {
        session.play(before);
        if is_drained {
            session.drain();
        }
        session.socket().meanwhile(Happening::Reset);
        session.play(after);
        let ended_before = session.closed();
        session.happen(Happening::Reset);
        prop_assert_eq!(session.end(), ended_before.unwrap_or(Reason::Reset));
        prop_assert_ne!(ended_before, Some(Reason::Failed));
    }

    #[test]
    fn a_refused_client_gets_the_message_and_nothing_else(socket in socket(), script in script()) {
        let mut session = Scripted::refuse(socket);
        session.play(script);
        prop_assert_eq!(session.end(), Reason::Refused);
        prop_assert_eq!(&session.socket().written[..], FULL);
    }

    /// The protocol consumes and answers arbitrarily, closes, or panics.
    #[test]
    fn any_protocol_is_served_within_the_limits_and_ends(
        actions in prop::collection::vec(action(), 0..60), early in prop::collection::vec(happening(), 0..3),
        socket in socket(), before in script(), is_drained: bool, after in script(),
    ) {
        let mut session = Scripted::open(Any::new(actions), early, socket);
        session.play(before);
        if is_drained {
            session.drain();
        }
        session.play(after);
        let reason = session.end();
        let record = session.record();
        let is_delivered = record.said.len();
        match reason {
            Reason::Closed => prop_assert!(record.has_closed),
            // It panicked, or the input buffer was full when it asked for more.
            Reason::ProtocolError => prop_assert!(record.is_over || record.left == INPUT_BUFFER),
            Reason::Drained => prop_assert!(is_drained && !record.is_over),
            _ => prop_assert!(reason == Reason::Finished && !record.is_over),
        }
        let consumed = record.consumed.clone();
        drop(record);
        let socket = session.socket();
        prop_assert!(socket.arrived.starts_with(&consumed), "the protocol gets the input once, in order");
        prop_assert!(reason == Reason::ProtocolError || socket.written.len() == is_delivered);
    }
}

/// One step of a test.
#[derive(Debug, Clone)]
enum Act {
    Now(Happening),
    /// In the middle of a later turn.
    Meanwhile(Happening),
    Poll,
    /// An event without a cause: events are hints.
    Hint(Readiness),
}

impl<S: Session> Scripted<S> {
    fn play(&mut self, script: Vec<Act>) {
        for act in script {
            match act {
                Act::Now(happening) => self.happen(happening),
                Act::Meanwhile(happening) => self.socket().meanwhile(happening),
                Act::Poll => drop(self.poll()),
                Act::Hint(readiness) => drop(self.turn(readiness)),
            }
        }
    }
}

impl Scripted<OkSession> {
    /// Everything that was read before the shutdown is answered as the framing says.
    fn check_answers(&mut self, framing: Framing) {
        let (input, answers) = (self.socket().input().to_vec(), self.answers());
        match framing {
            // The network decides where the chunks end.
            Framing::Chunks => drop(chunks_of(&input, answers)),
            Framing::Lines => {
                let lines = input.split_inclusive(|&byte| byte == b'\n');
                let pieces = lines.flat_map(|line| line.chunks(INPUT_BUFFER));
                let expected: Vec<u8> = pieces.flat_map(|piece| [PREFIX, piece].concat()).collect();
                assert!(answers == expected, "each line has its answer");
            }
        }
    }
}

/// One call of a protocol.
#[derive(Debug, Clone)]
enum Action {
    /// Says so many bytes, and consumes at most so many.
    Answer(usize, usize),
    NeedInput,
    /// Needs more input from now on.
    NeedInputForEver,
    /// Says so many bytes, and closes.
    Close(usize),
    /// Says that it has consumed more than there is.
    ConsumeTooMuch,
    Panic,
}

/// A protocol that does what its list says. After that it answers all its input with one byte.
#[derive(Debug)]
struct Any {
    actions: std::vec::IntoIter<Action>,
    needs_input_for_ever: bool,
    /// How many bytes it has said: each byte is its own number.
    said: usize,
}

impl Any {
    fn new(actions: Vec<Action>) -> Self {
        Self { actions: actions.into_iter(), needs_input_for_ever: false, said: 0 }
    }

    fn say(&mut self, count: usize, output: &mut Buffer) {
        let bytes: Vec<u8> = (0..=250).cycle().skip(self.said % 251).take(count).collect();
        output.push(&bytes);
        self.said += count;
    }
}

impl Session for Any {
    const LARGEST_ANSWER: usize = 20_000;

    fn answer(&mut self, input: &mut [u8], output: &mut Buffer) -> Step {
        if self.needs_input_for_ever {
            return Step::NeedInput;
        }
        match self.actions.next() {
            Some(Action::Answer(count, consumed)) => {
                self.say(count, output);
                Step::Consumed(consumed.min(input.len()))
            }
            Some(Action::NeedInput) => Step::NeedInput,
            Some(Action::NeedInputForEver) => {
                self.needs_input_for_ever = true;
                Step::NeedInput
            }
            Some(Action::Close(count)) => {
                self.say(count, output);
                Step::Close
            }
            Some(Action::ConsumeTooMuch) => Step::Consumed(input.len() + 1),
            // A panic without a report on the terminal.
            Some(Action::Panic) => resume_unwind(Box::new("a protocol panics")),
            None if input.is_empty() => Step::NeedInput,
            None => {
                self.say(1, output);
                Step::Consumed(input.len())
            }
        }
    }
}

fn action() -> impl Strategy<Value = Action> {
    let count = || prop_oneof![Just(0), 1..50usize, 50..=Any::LARGEST_ANSWER];
    let consumed = prop_oneof![Just(0), 1..50usize, 50..INPUT_BUFFER, Just(usize::MAX)];
    prop_oneof![
        60 => (count(), consumed).prop_map(|(count, consumed)| Action::Answer(count, consumed)),
        30 => Just(Action::NeedInput),
        1 => Just(Action::NeedInputForEver),
        1 => count().prop_map(Action::Close),
        1 => Just(Action::ConsumeTooMuch),
        1 => Just(Action::Panic),
    ]
}

fn ok_session() -> impl Strategy<Value = (Framing, Scripted<OkSession>)> {
    let framing = prop_oneof![Just(Framing::Chunks), Just(Framing::Lines)];
    let early = prop::collection::vec(happening(), 0..3);
    (early, framing, socket()).prop_map(|(early, framing, socket)| {
        (framing, Scripted::open(OkSession::new(framing), early, socket))
    })
}

/// A socket of any system. The rules of epoll need PRIORITY in the interest, and other systems do not have it.
fn socket() -> impl Strategy<Value = Socket> {
    let kernel = prop_oneof![Just(Kernel::HERE), Just(Kernel::Kqueue), Just(Kernel::Iocp)];
    let room = prop_oneof![1..1_000usize, 1_000..20_000usize, 100_000..300_000usize];
    (kernel, room).prop_map(|(kernel, room)| Socket::new(kernel, room))
}

fn script() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        5 => happening().prop_map(Act::Now),
        3 => happening().prop_map(Act::Meanwhile),
        5 => Just(Act::Poll),
        1 => hint().prop_map(Act::Hint),
    ];
    prop::collection::vec(act, 0..40)
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        20 => text().prop_map(Happening::Arrive),
        20 => (1..50_000usize).prop_map(Happening::Take),
        4 => Just(Happening::Urgent),
        8 => Just(Happening::Fail(ErrorKind::Interrupted)),
        1 => Just(Happening::End),
    ]
}

fn hint() -> impl Strategy<Value = Readiness> {
    (any::<bool>(), any::<bool>()).prop_map(|(read, writable)| {
        let readable = if read { Readable::UntilBlocked } else { Readable::No };
        Readiness { readable, writable }
    })
}

/// Lines of one length, the last one cut off. No two neighbours in a line are the same, and none is in a prefix.
fn text() -> impl Strategy<Value = Vec<u8>> {
    let length = prop_oneof![4 => 1..50usize, 3 => 50..5_000usize, 1 => 5_000..50_000usize];
    let line = prop_oneof![1..10usize, 10..3_000usize, 3_000..50_000usize];
    (length, line, b'a'..=b'z').prop_map(|(length, line, first)| {
        let letters = (b'a'..=b'z').cycle().skip(usize::from(first - b'a'));
        let ends_line = |at: usize| (at + 1).is_multiple_of(line);
        letters
            .take(length)
            .enumerate()
            .map(|(at, letter)| if ends_line(at) { b'\n' } else { letter })
            .collect()
    })
}
