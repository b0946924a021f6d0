//! A [`Conversation`] is as a server is: the same session, given the same pieces, says the same and is called in the same
//! order.

use std::sync::{Arc, Mutex};

use okloop::conversation::Conversation;
use okloop::{Buffer, EndOfInput, Reason, Session, Sizes, Step, Waker};
use proptest::prelude::*;

use crate::harness::{Client, Embedded, bind, eventually, loopback};

/// The largest request (bytes).
const REQUEST: usize = 20;

/// What was called, but for calls of `answer` that had nothing to answer.
type Calls = Arc<Mutex<Vec<String>>>;

/// Does what the first byte of a request says.
struct Model {
    calls: Calls,
    waker: Waker,
    part: u8,
    is_woken: bool,
    has_ended: bool,
}

impl Model {
    fn new(calls: &Calls, waker: Waker) -> Self {
        Self { calls: Arc::clone(calls), waker, part: 0, is_woken: false, has_ended: false }
    }

    fn note(&self, call: String) {
        self.calls.lock().expect("no holder panics").push(call);
    }
}

impl Session for Model {
    fn sizes(&mut self) -> Sizes {
        Sizes::new(REQUEST, 3000)
    }

    fn greet(&mut self, output: &mut Buffer) {
        output.push(b"Hello\n");
    }

    fn answer(&mut self, input: &mut [u8], output: &mut Buffer) -> Step {
        let Some(&kind) = input.first() else { return Step::NeedInput };
        if kind != b'.' {
            self.note(format!("answer {}", char::from(kind)));
        }
        let mut say = |bytes: &[u8]| {
            if !self.has_ended {
                output.push(bytes);
            }
        };
        match kind {
            // An answer in three parts.
            b'p' if !self.has_ended => {
                say(&[b'0' + self.part; 1000]);
                self.part = (self.part + 1) % 3;
                return if self.part == 0 { Step::Consumed(1) } else { Step::More };
            }
            // Two bytes are a request.
            b't' if input.len() < 2 => return Step::NeedInput,
            b't' => {
                say(b"two");
                return Step::Consumed(2);
            }
            b'w' if !self.is_woken => {
                self.is_woken = true;
                self.waker.wake();
                return Step::Wait;
            }
            b'w' => {
                self.is_woken = false;
                say(b"woken");
            }
            b'o' if !self.has_ended => {
                self.has_ended = true;
                return Step::EndOutput;
            }
            b'e' => self.waker.end(),
            b'c' => return Step::Close,
            // Never a whole request.
            b'.' => return Step::NeedInput,
            other => say(&[other; 100]),
        }
        Step::Consumed(1)
    }

    fn end_of_input(&mut self, end: EndOfInput) {
        self.note(format!("end of input: {end:?}"));
    }

    fn ending(&mut self, reason: Reason, output: &mut Buffer) {
        self.note(format!("ending: {reason}"));
        output.push(b"Goodbye\n");
    }

    fn closed(&mut self, reason: Reason) {
        self.note(format!("closed: {reason}"));
    }
}

fn in_conversation(pieces: &[Vec<u8>]) -> (Vec<u8>, Vec<String>) {
    let calls = Calls::default();
    let mut conversation = Conversation::open(|client| Model::new(&calls, client.waker));
    for piece in pieces {
        conversation.send(piece);
    }
    conversation.end_input();
    let received = conversation.received();
    assert!(conversation.ended().is_some(), "it is over");
    (received, calls.lock().expect("no holder panics").clone())
}

fn over_a_socket(server: &Embedded, calls: &Calls, pieces: &[Vec<u8>]) -> (Vec<u8>, Vec<String>) {
    calls.lock().expect("no holder panics").clear();
    let before = server.stats().bytes_in;
    let mut client = Client::connect(server.port());
    client.expect(b"Hello\n");
    let mut sent = 0;
    for piece in pieces {
        client.send(piece);
        sent += piece.len() as u64;
        eventually("the piece is read, and the turns for it are over", || {
            let stats = server.stats();
            stats.open == 0 || stats.bytes_in == before + sent
        });
    }
    client.half_close();
    let mut received = b"Hello\n".to_vec();
    received.extend(client.read_to_end());
    eventually("the session is removed", || server.stats().open == 0);
    (received, calls.lock().expect("no holder panics").clone())
}

#[test]
fn a_session_cannot_tell_a_conversation_from_a_server() {
    let calls = Calls::default();
    let noted = Arc::clone(&calls);
    let server = Embedded::run(bind(loopback()), move |client| Model::new(&noted, client.waker));
    let byte = prop_oneof![
        8 => prop::sample::select(b"aaptw".to_vec()),
        1 => prop::sample::select(b".oec".to_vec()),
    ];
    let pieces = prop::collection::vec(prop::collection::vec(byte, 1..12), 0..6);
    proptest!(ProptestConfig::with_cases(200), |(pieces in pieces)| {
        prop_assert_eq!(in_conversation(&pieces), over_a_socket(&server, &calls, &pieces));
    });
}
