//! Whatever comes in whatever order, a session answers exactly what it owes: properties of the state machine over the
//! scripted socket, which itself checks after every turn that the limits hold and that somebody would wake the session.

use std::io::ErrorKind;

use okloop::config::INPUT_BUFFER;
use okloop::protocol::{FULL, Framing, PREFIX};
use okloop::readiness::{Readable, Readiness};
use okloop::reason::Reason;
use proptest::prelude::*;

use crate::harness::chunks_of;
use crate::scripted::{Happening, Scripted};

proptest! {
    #[test]
    fn every_byte_is_answered_in_order_whatever_happens_on_the_way(mut session in session(), script in script()) {
        session.play(script);
        session.check_end();
    }

    #[test]
    fn nothing_is_lost_where_a_call_would_block_against_what_its_event_said(
        mut session in session_after(lie_or_truth()), script in script_of(lie_or_truth()),
    ) {
        session.play(script);
        session.check_end();
    }

    #[test]
    fn a_drain_at_any_moment_answers_all_that_had_arrived(
        mut session in session(), before in script(), after in script(),
    ) {
        session.play(before);
        let arrived = session.socket().arrived.len();
        session.drain();
        session.play(after);
        let reason = session.end();
        let shut_down = session.socket().shut_down;
        prop_assert_eq!(reason, if shut_down.is_some() { Reason::Drained } else { Reason::Finished });
        prop_assert!(shut_down.is_none_or(|read| read >= arrived));
        session.check_answers();
    }

    #[test]
    fn a_reset_at_any_moment_ends_the_session_and_nobody_was_told_anything_wrong(
        mut session in session(), before in script(), drained: bool, after in script(),
    ) {
        session.play(before);
        if drained {
            session.drain();
        }
        session.socket().meanwhile(Happening::Reset);
        session.play(after);
        let ended_before = session.closed();
        session.happen(Happening::Reset);
        prop_assert_eq!(session.end(), ended_before.unwrap_or(Reason::Reset));
        prop_assert_ne!(ended_before, Some(Reason::Failed));
        let socket = session.socket();
        let payload: Vec<u8> = socket.written.iter().copied().filter(|byte| !PREFIX.contains(byte)).collect();
        prop_assert!(payload.ends_with(&socket.arrived[..socket.answered]));
    }

    #[test]
    fn a_refused_client_is_told_so_and_nothing_else_whatever_it_does(room in room(), script in script()) {
        let mut session = Scripted::refuse(room);
        session.play(script);
        prop_assert_eq!(session.end(), Reason::Refused);
        prop_assert_eq!(&session.socket().written[..], FULL);
    }
}

/// One step of a session's life.
#[derive(Debug, Clone)]
enum Step {
    Now(Happening),
    /// In the middle of a turn to come.
    Meanwhile(Happening),
    Poll,
    /// An event without a cause: events are hints.
    Hint(Readiness),
}

impl Scripted {
    fn play(&mut self, script: Vec<Step>) {
        for step in script {
            match step {
                Step::Now(happening) => self.happen(happening),
                Step::Meanwhile(happening) => self.socket().meanwhile(happening),
                Step::Poll => {
                    self.poll();
                }
                Step::Hint(readiness) => {
                    self.turn(readiness);
                }
            }
        }
    }

    /// While the peer is silent all that has arrived is read, and when it ends it has been answered.
    fn check_end(&mut self) {
        self.fall_silent();
        let socket = self.socket();
        assert_eq!(socket.read, socket.arrived.len());
        assert_eq!(self.end(), Reason::Finished);
        self.check_answers();
    }

    /// All that was read, until the write side was shut down, is answered as its framing says.
    fn check_answers(&mut self) {
        let framing = self.framing;
        let socket = self.socket();
        match framing {
            // How the network cuts it is for nobody to know: any chunks will do.
            Framing::Chunks => drop(chunks_of(socket.input(), socket.answers())),
            Framing::Lines => {
                assert!(socket.answers() == answers_to_lines(socket.input()), "each line has its answer");
            }
        }
    }
}

/// What a server owes that has all of `input` before it.
fn answers_to_lines(input: &[u8]) -> Vec<u8> {
    let lines = input.split_inclusive(|&byte| byte == b'\n');
    let pieces = lines.flat_map(|line| line.chunks(INPUT_BUFFER));
    pieces.flat_map(|piece| [PREFIX, piece]).flatten().copied().collect()
}

fn session() -> impl Strategy<Value = Scripted> {
    session_after(happening().boxed())
}

fn session_after(happening: BoxedStrategy<Happening>) -> impl Strategy<Value = Scripted> {
    let framing = prop_oneof![Just(Framing::Chunks), Just(Framing::Lines)];
    let early = prop::collection::vec(happening, 0..3);
    (early, framing, room()).prop_map(|(early, framing, room)| Scripted::greet_after(early, framing, room))
}

fn room() -> impl Strategy<Value = usize> {
    prop_oneof![10..1_000usize, 1_000..20_000usize, 100_000..300_000usize]
}

fn script() -> impl Strategy<Value = Vec<Step>> {
    script_of(happening().boxed())
}

fn script_of(happening: BoxedStrategy<Happening>) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => happening.clone().prop_map(Step::Now),
        3 => happening.prop_map(Step::Meanwhile),
        5 => Just(Step::Poll),
        1 => hint().prop_map(Step::Hint),
    ];
    prop::collection::vec(step, 0..40)
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        20 => text().prop_map(Happening::Arrive),
        20 => (1..50_000usize).prop_map(Happening::Take),
        4 => Just(Happening::Urgent),
        8 => Just(Happening::Return(Err(ErrorKind::Interrupted))),
        1 => Just(Happening::End),
    ]
}

/// After urgent data `WouldBlock` is always to be expected, so it is no lie there.
fn lie_or_truth() -> BoxedStrategy<Happening> {
    let lie = Just(Happening::Return(Err(ErrorKind::WouldBlock)));
    let truth = happening().prop_filter("urgent", |happening| !matches!(happening, Happening::Urgent));
    prop_oneof![1 => lie, 4 => truth].boxed()
}

fn hint() -> impl Strategy<Value = Readiness> {
    (any::<bool>(), any::<bool>()).prop_map(|(read, writable)| {
        let readable = if read { Readable::UntilBlocked } else { Readable::No };
        Readiness { readable, writable }
    })
}

/// Lines of one length, the last one cut off. No two neighbours in a line are the same.
fn text() -> impl Strategy<Value = Vec<u8>> {
    let length = prop_oneof![4 => 1..50usize, 3 => 50..5_000usize, 1 => 5_000..50_000usize];
    let line = prop_oneof![1..10usize, 10..3_000usize, 3_000..50_000usize];
    (length, line, b'a'..=b'z').prop_map(|(length, line, first)| {
        let letters = (b'a'..=b'z').cycle().skip(usize::from(first - b'a'));
        letters
            .take(length)
            .enumerate()
            .map(|(at, letter)| if (at + 1) % line == 0 { b'\n' } else { letter })
            .collect()
    })
}
