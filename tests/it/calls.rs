//! Which methods of a session the loop calls, and in which order, for each way in which a session can end.

use std::cell::Cell;
use std::io::{self, Write};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use okloop::conversation::Conversation;
use okloop::protocols::Either;
use okloop::{AtDeadline, Buffer, Config, EndOfInput, Ending, Reason, Session, Sizes, Step, Timer, Waker};

use crate::harness::{Client, Embedded, bind, eventually, loopback};

/// A time-out in these tests.
const SHORT: Duration = Duration::from_millis(100);

/// The largest request of the session (bytes).
const REQUEST: usize = 100;

/// All calls of a session but those of `answer` and `timer`, and its end.
type Calls = Arc<Mutex<Vec<String>>>;

/// Notes each call, and does what the first byte of its input says.
struct Recorder {
    calls: Calls,
    waker: Waker,
    timer: Timer,
    is_over: bool,
}

impl Recorder {
    fn new(calls: &Calls, waker: Waker) -> Self {
        Self { calls: Arc::clone(calls), waker, timer: Timer::Keep, is_over: false }
    }

    fn note(&self, call: String) {
        self.calls.lock().expect("no holder of the lock panics").push(call);
    }
}

impl Session for Recorder {
    fn sizes(&mut self) -> Sizes {
        self.note("sizes".to_owned());
        Sizes::new(REQUEST, 1000)
    }

    fn greet(&mut self, output: &mut Buffer) {
        self.note("greet".to_owned());
        output.push(b"Hello\n");
    }

    fn answer(&mut self, input: &mut [u8], output: &mut Buffer) -> Step {
        assert!(!self.is_over, "answer is called after the end");
        match input {
            [] | [b'.', ..] => return Step::NeedInput,
            [b'c', ..] => return Step::Close,
            [b'w', ..] => return Step::Wait,
            [b'p', ..] => panic!("the session's own mistake"),
            [b'e', ..] => self.waker.end(),
            [b't', ..] => self.timer = Timer::Start(SHORT),
            _ => output.push(&[b'x'; 1000]),
        }
        Step::Consumed(1)
    }

    fn end_of_input(&mut self, end: EndOfInput) {
        self.note(format!("end of input: {end:?}"));
    }

    fn ending(&mut self, reason: Reason, output: &mut Buffer) {
        self.is_over = true;
        self.note(format!("ending: {reason}"));
        output.push(b"Goodbye\n");
    }

    fn connect_failed(&mut self, error: &io::Error) {
        self.note(format!("connect failed: {}", error.kind()));
    }

    fn closed(&mut self, reason: Reason) {
        self.is_over = true;
        self.note(format!("closed: {reason}"));
    }

    fn timer(&mut self) -> Timer {
        std::mem::take(&mut self.timer)
    }

    fn deadline(&mut self) -> AtDeadline {
        self.note("deadline".to_owned());
        AtDeadline::End
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // A panic here would end the test program.
        if let Ok(mut calls) = self.calls.lock() {
            calls.push("drop".to_owned());
        }
    }
}

/// A layer that changes nothing.
struct Layer(Recorder);

impl Session for Layer {
    fn inner(&mut self) -> Option<&mut dyn Session> {
        Some(&mut self.0)
    }

    fn sizes(&mut self) -> Sizes {
        self.0.sizes()
    }

    fn answer(&mut self, input: &mut [u8], output: &mut Buffer) -> Step {
        self.0.answer(input, output)
    }
}

/// A server whose sessions are called directly, through a box, a layer, or an [`Either`], and a client that has read the
/// greeting.
fn start_each(config: &Config) -> [(Embedded, Client, Calls); 4] {
    [
        start(config, |session| session),
        start(config, |session| -> Box<dyn Session> { Box::new(session) }),
        start(config, Layer),
        start(config, Either::<Recorder, Recorder>::Right),
    ]
}

fn start<S: Session>(
    config: &Config,
    wrap: impl Fn(Recorder) -> S + Send + 'static,
) -> (Embedded, Client, Calls) {
    let calls = Calls::default();
    let noted = Arc::clone(&calls);
    let server = Embedded::run(bind(config.clone()), move |client| wrap(Recorder::new(&noted, client.waker)));
    let mut client = Client::connect(server.port());
    client.expect(b"Hello\n");
    (server, client, calls)
}

/// Waits until the session has ended, and expects these calls between its greeting and its end.
fn expect(calls: &Calls, expected: &[&str]) {
    let calls = || calls.lock().expect("no holder of the lock panics").clone();
    eventually("the session is dropped", || calls().last().is_some_and(|call| call == "drop"));
    assert_eq!(calls(), [&["sizes", "greet"], expected, &["drop"]].concat());
}

#[test]
fn a_client_that_ends_its_input_gets_no_last_word() {
    for (_server, mut client, calls) in start_each(&loopback()) {
        client.half_close();
        assert_eq!(client.read_to_end(), b"");
        expect(&calls, &["end of input: Client", "closed: finished"]);
    }
}

#[test]
fn a_session_that_closes_itself_has_said_its_last_word() {
    for (_server, mut client, calls) in start_each(&loopback()) {
        client.send(b"c");
        assert_eq!(client.read_to_end(), b"");
        client.half_close();
        expect(&calls, &["closed: closed"]);
    }
}

#[test]
fn a_session_that_the_server_ends_has_a_last_word() {
    let idle = Config { idle_timeout: Some(SHORT), ..loopback() };
    let too_large = [b'.'; REQUEST + 1];
    for (config, sent, expected) in [
        (&idle, &b""[..], &["ending: idle_timeout", "closed: idle_timeout"][..]),
        (&loopback(), &too_large, &["ending: request_too_large", "closed: request_too_large"]),
        (&loopback(), b"t", &["deadline", "ending: deadline", "closed: deadline"]),
        (&loopback(), b"e", &["ending: ended", "closed: ended"]),
        // It waits.
        (&loopback(), b"tw", &["deadline", "ending: deadline", "closed: deadline"]),
        (&loopback(), b"ew", &["ending: ended", "closed: ended"]),
    ] {
        for (_server, mut client, calls) in start_each(config) {
            client.send(sent);
            assert_eq!(client.read_to_end(), b"Goodbye\n", "{expected:?}");
            client.half_close();
            expect(&calls, expected);
        }
    }
}

#[test]
fn a_stop_ends_the_input_and_then_the_session() {
    for (server, mut client, calls) in start_each(&loopback()) {
        let reader = thread::spawn(move || client.read_to_end());
        let (_, stats) = server.stop();
        assert_eq!(reader.join().expect("the server closes in order"), b"Goodbye\n");
        assert_eq!(stats.closed(Reason::Drained), 1);
        expect(&calls, &["end of input: Stop", "ending: drained", "closed: drained"]);
    }
}

#[test]
fn an_end_without_order_has_no_last_word() {
    for (_server, client, calls) in start_each(&loopback()) {
        client.reset();
        // wine reports the end of the input.
        if !cfg!(windows) {
            expect(&calls, &["closed: reset"]);
        }
    }
    for (_server, client, calls) in start_each(&Config { write_timeout: Some(SHORT), ..loopback() }) {
        while client.stream().write_all(&[b'x'; 10_000]).is_ok() {}
        expect(&calls, &["closed: write_timeout"]);
    }
    for (_server, mut client, calls) in start_each(&Config { linger_timeout: SHORT, ..loopback() }) {
        client.send(b"c");
        assert_eq!(client.read_to_end(), b"");
        expect(&calls, &["closed: linger_timeout"]);
    }
    for (server, mut client, calls) in start_each(&Config { drain_timeout: SHORT, ..loopback() }) {
        client.send(b"w");
        eventually("it waits", || server.stats().bytes_in == 1);
        let (ending, stats) = server.stop();
        assert_eq!((ending, stats.closed(Reason::DrainTimeout)), (Ending::TimedOut, 1));
        expect(&calls, &["closed: drain_timeout"]);
    }
    for (server, _client, calls) in start_each(&loopback()) {
        // It stops immediately.
        drop(server);
        expect(&calls, &["closed: forced"]);
    }
}

#[test]
fn nothing_is_called_after_a_panic() {
    for (server, mut client, calls) in start_each(&loopback()) {
        client.send(b"p");
        expect(&calls, &[]);
        let (_, stats) = server.stop();
        assert_eq!(stats.closed(Reason::ProtocolError), 1);
    }
}

#[test]
fn a_session_that_waits_at_a_stop_is_given_what_its_client_had_sent() {
    for has_ended in [false, true] {
        let (calls, is_ready) = (Calls::default(), Rc::new(Cell::new(false)));
        let (noted, ready) = (Arc::clone(&calls), Rc::clone(&is_ready));
        let mut conversation = Conversation::start(Job { calls: noted, is_ready: ready });
        conversation.send(b"x");
        if has_ended {
            conversation.end_input();
        }
        conversation.stop();
        assert_eq!(conversation.received(), b"");
        is_ready.set(true);
        conversation.wake();
        assert_eq!(conversation.received(), b"x");
        let end = if has_ended { "Client" } else { "Stop" };
        assert_eq!(*calls.lock().expect("no holder of the lock panics"), [end]);
    }
}

/// Waits until it is ready, then repeats its input.
struct Job {
    calls: Calls,
    is_ready: Rc<Cell<bool>>,
}

impl Session for Job {
    fn answer(&mut self, input: &mut [u8], output: &mut Buffer) -> Step {
        if !self.is_ready.get() {
            return Step::Wait;
        }
        output.push(input);
        Step::Consumed(input.len())
    }

    fn end_of_input(&mut self, end: EndOfInput) {
        self.calls.lock().expect("no holder of the lock panics").push(format!("{end:?}"));
    }
}

#[test]
fn a_conversation_passes_the_idle_time_out() {
    let mut conversation = Conversation::open(|client| Recorder::new(&Calls::default(), client.waker));
    conversation.received();
    conversation.pass_idle_timeout();
    assert_eq!(conversation.received(), b"Goodbye\n");
    conversation.end_input();
    assert_eq!(conversation.ended(), Some(Reason::IdleTimeout));
}

#[test]
fn a_layer_passes_on_that_a_connection_has_failed() {
    let calls = Calls::default();
    let mut conversation = Conversation::open(|client| Layer(Recorder::new(&calls, client.waker)));
    let session = conversation.session().expect("the session is open");
    session.connect_failed(&io::ErrorKind::ConnectionRefused.into());
    let calls = calls.lock().expect("no holder of the lock panics");
    assert_eq!(calls.last().map(String::as_str), Some("connect failed: connection refused"));
}
