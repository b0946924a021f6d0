//! Random cases: whatever happens in whatever order, and on whatever system, the client gets what the session said. The
//! rules are in `rules.rs`.

use std::io::ErrorKind;
use std::panic::resume_unwind;

use proptest::prelude::*;

use super::wire::{Happening, Rooms, Wire};
use super::{KERNELS, Scripted};
use crate::buffer::Buffer;
use crate::config::{Budgets, Config, FULL_MESSAGE, INPUT_BUFFER, QUIET};
use crate::protocols::{CHUNK, Framing, OkSession, PREFIX};
use crate::readiness::{Readable, Readiness};
use crate::reason::Reason;
use crate::session::{Session, Sizes, Step};

proptest! {
    #[test]
    fn every_byte_is_answered_in_order_whatever_happens(
        framing in framing(), wire in wire(), script in script(),
    ) {
        let mut session = Scripted::open(OkSession::new(framing), wire);
        session.play(script);
        session.fall_silent();
        let sent = session.wire().up.bytes.len();
        prop_assert_eq!(session.wire().up.read, sent);
        prop_assert_eq!(session.end(), Reason::Finished);
        session.check_answers(framing);
    }

    #[test]
    fn a_drain_at_any_moment_answers_everything_that_had_arrived(
        framing in framing(), wire in wire(), before in script(), after in script(), ends: bool,
    ) {
        let mut session = Scripted::open(OkSession::new(framing), wire);
        session.play(before);
        session.stop();
        session.play(after);
        if !ends {
            session.fall_silent();
            session.pass(QUIET);
            prop_assert!(session.closed.is_some() || session.wire().down.has_ended);
        }
        // `check_end` knows what a drained session owes.
        prop_assert!([Reason::Drained, Reason::Finished].contains(&session.end()));
        session.check_answers(framing);
    }

    #[test]
    fn a_reset_at_any_moment_ends_the_session_as_a_reset(
        framing in framing(), wire in wire(), before in script(), is_drained: bool, after in script(),
    ) {
        let mut session = Scripted::open(OkSession::new(framing), wire);
        session.play(before);
        if is_drained {
            session.stop();
        }
        session.meanwhile([Some(Happening::Reset)]);
        session.play(after);
        let ended_before = session.closed;
        session.happen(Happening::Reset);
        prop_assert_eq!(session.end(), ended_before.unwrap_or(Reason::Reset));
        prop_assert_ne!(ended_before, Some(Reason::Failed));
    }

    #[test]
    fn a_refused_client_gets_the_message_and_nothing_else(wire in wire(), script in script()) {
        let config = Config { max_connections: 0, ..Config::default() };
        let new_session = |_: &_| OkSession::new(Framing::Chunks);
        let mut session = Scripted::start(config, Budgets::DEFAULT, wire, new_session);
        session.play(script);
        prop_assert_eq!(session.end(), Reason::Refused);
        prop_assert_eq!(&session.wire().down.bytes[..], FULL_MESSAGE.as_bytes());
    }

    /// The session consumes and answers arbitrarily, closes, or panics.
    #[test]
    fn any_session_is_served_within_the_limits_and_ends(
        actions in prop::collection::vec(action(), 0..60), wire in wire(), before in script(), is_drained: bool,
        after in script(),
    ) {
        let mut session = Scripted::open(Any::new(actions), wire);
        session.play(before);
        if is_drained {
            session.stop();
        }
        session.play(after);
        let reason = session.end();
        let (record, written) = (session.record().clone(), session.wire().down.bytes.len());
        match reason {
            Reason::Closed | Reason::RequestTooLarge => {}
            Reason::ProtocolError => return Ok(()),
            Reason::Drained => prop_assert!(is_drained && !record.is_over),
            _ => prop_assert!(reason == Reason::Finished && !record.is_over),
        }
        prop_assert_eq!(written, record.said.len());
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
                Act::Now(happening) => self.happen_now(happening),
                Act::Meanwhile(happening) => self.meanwhile([Some(happening)]),
                Act::Poll => self.iterate(),
                Act::Hint(readiness) => self.hint(readiness),
            }
        }
    }

    /// What happens reaches the other side immediately.
    fn happen_now(&mut self, happening: Happening) {
        self.happen(happening);
        self.happen(Happening::Carry(usize::MAX));
    }
}

impl Scripted<OkSession> {
    /// All that the session was given is answered as the framing says, but for half a line at a stop.
    fn check_answers(&self, framing: Framing) {
        let (input, answers) = (self.wire().up.bytes[..self.record().consumed].to_vec(), self.answers());
        if framing == Framing::Chunks {
            // The network decides where the chunks end.
            check_chunks(&input, &answers);
        } else {
            let lines = input.split_inclusive(|&byte| byte == b'\n');
            let pieces = lines.flat_map(|line| line.chunks(INPUT_BUFFER));
            let expected: Vec<u8> = pieces.flat_map(|piece| [PREFIX, piece].concat()).collect();
            assert!(answers == expected, "each line has its answer");
        }
    }
}

/// Checks that `answers` are `input` in chunks of 1 to 1024 bytes with a prefix before each. The network decides where it
/// cuts the input, so the prefixes show it, and the input may not contain one.
fn check_chunks(input: &[u8], mut answers: &[u8]) {
    let mut given: Vec<u8> = Vec::new();
    while let Some(rest) = answers.strip_prefix(PREFIX) {
        let is_prefix = |at: &usize| rest[*at..].starts_with(PREFIX);
        let end = (0..rest.len()).find(is_prefix).unwrap_or(rest.len());
        assert!((1..=CHUNK).contains(&end), "a chunk of {end} bytes");
        given.extend(&rest[..end]);
        answers = &rest[end..];
    }
    assert!(given == input, "every byte comes back in its place");
}

/// One call of a session.
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

const LARGEST_ANSWER: usize = 20_000;

/// A session that does what its list says. After that it answers all its input with one byte.
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
    fn sizes(&mut self) -> Sizes {
        Sizes::new(INPUT_BUFFER, LARGEST_ANSWER)
    }

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
            Some(Action::Panic) => resume_unwind(Box::new("a session panics")),
            None if input.is_empty() => Step::NeedInput,
            None => {
                self.say(1, output);
                Step::Consumed(input.len())
            }
        }
    }
}

fn action() -> impl Strategy<Value = Action> {
    let count = || prop_oneof![Just(0), 1..50usize, 50..=LARGEST_ANSWER];
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

fn framing() -> impl Strategy<Value = Framing> {
    prop_oneof![Just(Framing::Chunks), Just(Framing::Lines)]
}

/// A socket of any system, on which something has happened already.
fn wire() -> impl Strategy<Value = Wire> {
    let kernel = prop::sample::select(&KERNELS[..]);
    let room = prop_oneof![1..1_000usize, 1_000..20_000usize, 100_000..300_000usize];
    (kernel, room, prop::collection::vec(happening(), 0..3)).prop_map(|(kernel, room, happenings)| {
        let mut wire = Wire::new(kernel, Rooms::wide(room));
        for happening in happenings {
            wire.happen(happening);
            wire.happen(Happening::Carry(usize::MAX));
        }
        wire
    })
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
        20 => text().prop_map(Happening::Send),
        20 => (1..50_000usize).prop_map(Happening::Carry),
        20 => (1..50_000usize).prop_map(Happening::Ack),
        20 => (1..50_000usize).prop_map(Happening::Read),
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
