//! One session in one difficult case a test.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::panic::resume_unwind;
use std::rc::Rc;
use std::time::Duration;

use super::wire::{Happening, Rooms, Wire};
use super::{KERNELS, KEY, Scripted, World};
use crate::buffer::Buffer;
use crate::config::{
    ANSWER_BUDGET, Budgets, Config, DRAIN_BUDGET, FULL_MESSAGE, HIGH_WATER, INPUT_BUFFER, QUIET, READ_BUDGET,
    WRITE_BUDGET,
};
use crate::protocols::{BANNER, Framing, OkSession};
use crate::readiness::{Kernel, Readable, Readiness};
use crate::reason::{Reason, Timeout};
use crate::session::{AtDeadline, EndOfInput, Session, Sizes, Step, Timer};
use crate::trace::{self, Event, State};

/// More room than any answer here needs.
const ROOMY: usize = 1 << 20;

const SECOND: Duration = Duration::from_secs(1);

/// A socket that takes `room` bytes before the client reads.
fn wire(room: usize) -> Wire {
    Wire::new(Kernel::Epoll, Rooms::wide(room))
}

fn ok_session(framing: Framing, room: usize) -> Scripted<OkSession> {
    Scripted::open(OkSession::new(framing), wire(room))
}

fn session() -> Scripted<OkSession> {
    ok_session(Framing::Chunks, ROOMY)
}

/// A session over a socket that has room for the banner only, until the client reads.
fn stalled(framing: Framing) -> Scripted<OkSession> {
    ok_session(framing, BANNER.len())
}

/// Numbered lines, `length` bytes together: no two places look the same, and none looks like a prefix.
fn numbered_lines(length: usize) -> Vec<u8> {
    (0..).flat_map(|number: u32| format!("{number}\n").into_bytes()).take(length).collect()
}

impl Scripted<OkSession> {
    /// The answers that were written.
    pub(super) fn answers(&self) -> Vec<u8> {
        self.wire().down.bytes.strip_prefix(BANNER).expect("the banner comes first, whole").to_vec()
    }
}

impl<S: Session> Scripted<S> {
    fn state(&self) -> Option<State> {
        Some(self.sessions.table.get(KEY)?.state())
    }

    fn is_running(&self, timeout: Timeout) -> bool {
        self.sessions.deadlines.is_running(KEY, timeout)
    }

    fn wake(&mut self) {
        self.happen(Happening::Wake);
        self.rest();
    }
}

#[test]
fn the_banner_goes_out_in_the_first_turn() {
    let mut session = session();
    assert_eq!(session.wire().down.bytes, BANNER);
    assert!(!session.has_work(), "an idle session is not woken");
}

#[test]
#[cfg_attr(not(any(target_os = "linux", target_os = "android")), ignore = "a rule of epoll")]
fn a_short_read_is_not_followed_by_one_that_would_block() {
    let mut session = session();
    let calls = session.wire().calls;
    session.receive(b"hello\n");
    assert_eq!(session.answers(), b"OK...hello\n");
    assert_eq!(session.wire().calls - calls, 2, "a read, a write");
}

#[test]
#[cfg_attr(not(any(target_os = "linux", target_os = "android")), ignore = "a rule of epoll")]
fn a_full_socket_is_not_written_to_before_it_is_writable() {
    let mut session = stalled(Framing::Chunks);
    session.receive(b"hello\n");
    let calls = session.wire().calls;
    session.receive(b"again\n");
    assert_eq!(session.wire().calls - calls, 1, "a read");
}

#[test]
fn an_end_of_input_after_the_last_bytes_is_read_in_the_same_turn() {
    for kernel in KERNELS {
        let mut session =
            Scripted::open(OkSession::new(Framing::Chunks), Wire::new(kernel, Rooms::wide(ROOMY)));
        session.arrive(b"bye\n");
        session.end_input();
        session.iterate();
        assert_eq!(session.answers(), b"OK...bye\n");
        assert!(session.wire().down.has_ended, "{kernel:?}");
    }
}

#[test]
fn bytes_after_an_urgent_mark_are_read_without_another_event() {
    for kernel in KERNELS {
        let mut session =
            Scripted::open(OkSession::new(Framing::Chunks), Wire::new(kernel, Rooms::wide(ROOMY)));
        session.arrive(b"before");
        session.happen(Happening::Urgent);
        session.receive(b"behind");
        assert_eq!(session.answers(), b"OK...beforeOK...behind", "{kernel:?}");
    }
}

#[test]
fn interrupted_calls_are_repeated_in_the_same_turn() {
    let interrupt = || Happening::Fail(ErrorKind::Interrupted);
    let mut wire = wire(ROOMY);
    wire.happen(interrupt());
    wire.happen(interrupt());
    let mut session = Scripted::open(OkSession::new(Framing::Chunks), wire);
    assert_eq!(session.wire().down.bytes, BANNER);
    session.happen(interrupt());
    session.happen(interrupt());
    session.arrive(b"hello\n");
    session.iterate();
    assert_eq!(session.answers(), b"OK...hello\n");
}

#[test]
fn an_event_without_a_cause_changes_nothing() {
    let mut session = session();
    let asked = session.wire().asked;
    session.hint(Readiness { readable: Readable::UntilBlocked, writable: true });
    assert_eq!((session.wire().asked, session.state()), (asked, Some(State::Open)));
    assert_eq!(session.wire().down.bytes, BANNER);
}

#[test]
fn each_error_of_the_socket_ends_the_session_with_its_own_reason() {
    for (error, reason) in [
        (ErrorKind::TimedOut, Reason::PeerUnreachable),
        (ErrorKind::HostUnreachable, Reason::PeerUnreachable),
        (ErrorKind::OutOfMemory, Reason::Failed),
    ] {
        let mut session = session();
        session.happen(Happening::Fail(error));
        session.receive(b"hello\n");
        assert_eq!(session.closed, Some(reason), "{error:?}");
        assert_eq!(session.answers(), b"");
    }
}

#[test]
fn a_reset_ends_a_session_with_pending_output_before_and_after_a_half_close() {
    for half_closed in [false, true] {
        let mut session = stalled(Framing::Chunks);
        session.receive(b"hello\n");
        if half_closed {
            session.end_input();
            session.rest();
        }
        assert_eq!(session.closed, None, "an answer is pending");
        session.happen(Happening::Reset);
        session.rest();
        assert_eq!(session.closed, Some(Reason::Reset));
    }
}

#[test]
fn a_last_line_without_an_ending_is_answered_at_the_clients_end() {
    let mut session = ok_session(Framing::Lines, ROOMY);
    session.receive(b"half a li");
    session.receive(b"ne");
    assert_eq!(session.answers(), b"");
    assert_eq!(session.end(), Reason::Finished);
    assert_eq!(session.answers(), b"OK...half a line");
}

#[test]
fn a_session_keeps_its_place_until_the_clients_kernel_has_everything() {
    let mut session = session();
    session.arrive(b"hello\n");
    session.end_input();
    session.rest();
    assert_eq!(session.state(), Some(State::Lingering), "all is written, and nothing is delivered");
    assert!(session.wire().limit.is_some(), "the kernel counts");
    session.happen(Happening::Ack(BANNER.len()));
    session.rest();
    assert_eq!(session.closed, None);
    session.happen(Happening::Ack(usize::MAX));
    session.rest();
    assert_eq!(session.closed, Some(Reason::Finished), "the client need not read it");
}

#[test]
fn a_client_whose_kernel_takes_nothing_at_the_end_ends_with_the_write_time_out() {
    let mut session = session();
    session.end_input();
    session.rest();
    session.happen(Happening::GiveUp);
    session.rest();
    assert_eq!(session.closed, Some(Reason::WriteTimeout));
}

#[test]
fn a_turn_stops_at_the_read_budget_and_the_session_is_rearmed() {
    for drains in [false, true] {
        let mut session = session();
        if drains {
            // What a lingering session discards counts too.
            session.stop();
        }
        let flood = numbered_lines(4 * READ_BUDGET);
        session.arrive(&flood);
        session.iterate();
        let read = session.wire().up.read;
        assert!((READ_BUDGET..READ_BUDGET + INPUT_BUFFER).contains(&read), "{read} bytes read");
        session.rest();
        assert_eq!(session.wire().up.read, flood.len());
    }
}

#[test]
fn a_turn_stops_at_the_answer_budget_and_goes_on_without_an_event() {
    for kernel in KERNELS {
        let mut session =
            Scripted::open(OkSession::new(Framing::Lines), Wire::new(kernel, Rooms::wide(ROOMY)));
        session.arrive(&[b'\n'; 4 * ANSWER_BUDGET]);
        session.iterate();
        let answered = session.record().consumed;
        assert!(
            answered <= 2 * ANSWER_BUDGET,
            "{kernel:?}: {answered} answers in the turns for an event and a wake"
        );
        session.rest();
        assert_eq!(session.record().consumed, 4 * ANSWER_BUDGET);
    }
}

#[test]
fn a_client_that_never_reads_is_not_read_beyond_the_limits() {
    for framing in [Framing::Chunks, Framing::Lines] {
        let mut session = stalled(framing);
        session.receive(&numbered_lines(1 << 20));
        let read = session.wire().up.read;
        // Short lines fill the output sooner, because each has a prefix.
        assert!((INPUT_BUFFER..=HIGH_WATER + INPUT_BUFFER).contains(&read), "{read} bytes read");
        assert!(!session.wire().asked.expect("the session is open").readable);
    }
}

#[test]
fn reading_resumes_when_the_client_has_read_its_answers() {
    let mut session = ok_session(Framing::Chunks, 1000);
    let flood = numbered_lines(1 << 20);
    session.receive(&flood);
    assert!(session.wire().up.read < flood.len());
    session.fall_silent();
    assert_eq!(session.wire().up.read, flood.len());
    assert_eq!(session.end(), Reason::Finished);
}

mod drain {
    use super::*;

    #[test]
    fn what_has_arrived_is_answered_and_what_comes_later_than_quiet_is_not() {
        let mut session = session();
        session.arrive(b"before\n");
        session.stop();
        session.receive(b"soon\n");
        session.pass(QUIET);
        session.receive(b"after\n");
        assert_eq!(session.closed, None, "the session waits for the client's end");
        assert_eq!(session.end(), Reason::Drained);
        assert_eq!(session.answers(), b"OK...before\nOK...soon\n");
        assert_eq!(session.wire().up.unread(), 0, "unread input would cause a reset");
    }

    /// Its first request is perhaps on its way.
    #[test]
    fn a_client_that_has_just_come_is_read_for_one_second_more() {
        let mut session = session();
        session.stop();
        session.pass(QUIET / 2);
        session.receive(b"hello\n");
        session.pass(QUIET / 2);
        assert_eq!(session.end(), Reason::Drained);
        assert_eq!(session.answers(), b"OK...hello\n");
    }

    #[test]
    fn a_silent_session_ends_its_output_immediately() {
        for silence in [QUIET + SECOND, 100 * SECOND] {
            let mut session = session();
            session.receive(b"hello\n");
            session.pass(silence);
            session.stop();
            assert_eq!(session.state(), Some(State::Lingering));
            assert_eq!(session.end(), Reason::Drained);
        }
    }

    /// The window may have been closed because the loop had no time to read.
    #[test]
    fn a_client_whose_bytes_are_read_at_the_stop_has_just_spoken() {
        let mut session = session();
        session.happen(Happening::Send(b"hello\n".to_vec()));
        session.ask_to_stop();
        // The first bytes arrive after the loop has looked for events.
        session.meanwhile([Some(Happening::Carry(2))]);
        session.iterate();
        session.happen(Happening::Carry(usize::MAX));
        session.rest();
        session.pass(QUIET);
        assert_eq!(session.end(), Reason::Drained);
        assert_eq!(session.answers(), b"OK...heOK...llo\n");
    }

    /// The time does not slide: a client that goes on sending is not read for ever.
    #[test]
    fn a_client_that_has_just_spoken_is_read_for_one_second_more() {
        let mut session = session();
        session.receive(b"one\n");
        session.pass(SECOND / 2);
        session.stop();
        for piece in [b"two\n", b"3.5\n"] {
            session.pass(SECOND * 2 / 5);
            session.receive(piece);
            assert_eq!(session.state(), Some(State::Draining));
        }
        session.pass(SECOND / 5);
        assert_eq!(session.state(), Some(State::Lingering));
        assert_eq!(session.end(), Reason::Drained);
        assert_eq!(session.answers(), b"OK...one\nOK...two\nOK...3.5\n");
    }

    #[test]
    fn a_client_that_was_held_back_is_read_until_a_second_is_quiet() {
        let mut session = stalled(Framing::Lines);
        session.receive(&numbered_lines(2 * HIGH_WATER));
        session.pass(10 * SECOND);
        assert!(session.record().consumed < 2 * HIGH_WATER, "the session is at high water");
        session.stop();
        session.fall_silent();
        for _ in 0..5 {
            session.pass(SECOND * 4 / 5);
            assert_eq!(session.state(), Some(State::Draining));
            session.receive(b"more\n");
            session.fall_silent();
        }
        session.pass(QUIET);
        assert_eq!(session.state(), Some(State::Lingering));
        assert_eq!(session.end(), Reason::Drained);
        assert_eq!(session.record().consumed, 2 * HIGH_WATER + 25);
    }

    #[test]
    fn the_clients_end_in_the_quiet_time_counts_as_its_end() {
        let mut session = ok_session(Framing::Lines, ROOMY);
        session.receive(b"half a li");
        session.stop();
        assert_eq!(session.end(), Reason::Finished);
        assert_eq!(session.answers(), b"OK...half a li");
    }

    #[test]
    fn half_a_request_is_not_a_request() {
        let mut session = ok_session(Framing::Lines, ROOMY);
        session.receive(b"one\nhalf a li");
        session.stop();
        session.pass(QUIET);
        assert_eq!(session.end(), Reason::Drained);
        assert_eq!(session.answers(), b"OK...one\n");
    }

    #[test]
    fn a_slow_reader_gets_the_answers_to_everything_that_it_had_sent() {
        let flood = numbered_lines(4 * HIGH_WATER);
        let mut session = stalled(Framing::Lines);
        session.receive(&flood);
        session.stop();
        session.rest();
        assert!(!session.wire().down.has_ended);
        assert_eq!(session.end(), Reason::Finished);
        assert_eq!(session.record().consumed, flood.len());
    }

    #[test]
    fn the_session_learns_that_nothing_more_has_arrived_although_no_event_says_it() {
        // One read budget, more than the high water mark lets in, and as much as one read takes.
        for length in [READ_BUDGET, 4 * HIGH_WATER, INPUT_BUFFER] {
            for room in [BANNER.len(), ROOMY] {
                let mut session = ok_session(Framing::Chunks, room);
                session.arrive(&numbered_lines(length));
                session.stop();
                session.fall_silent();
                session.pass(QUIET);
                assert!(session.wire().down.has_ended, "{length} bytes, {room} of room");
                assert_eq!(session.record().consumed, length);
            }
        }
    }

    #[test]
    fn a_flood_is_answered_up_to_the_drain_budget() {
        const DRAIN: u32 = DRAIN_BUDGET / 16;
        let budgets = Budgets { drain: DRAIN, ..Budgets::DEFAULT };
        let new_session = |_: &_| OkSession::new(Framing::Chunks);
        let mut session = Scripted::start(Config::default(), budgets, wire(ROOMY), new_session);
        session.receive(b"x");
        session.stop();
        session.arrive(&vec![b'x'; DRAIN as usize + HIGH_WATER]);
        session.fall_silent();
        assert_eq!(session.state(), Some(State::Lingering));
        let beyond = session.record().consumed - DRAIN as usize;
        assert!(beyond <= INPUT_BUFFER, "{beyond} bytes more were answered");
    }

    #[test]
    fn the_drain_ends_with_its_budget_although_no_event_follows() {
        let budgets = Budgets { drain: 5, ..Budgets::DEFAULT };
        let new_session = |_: &_| OkSession::new(Framing::Chunks);
        let mut session = Scripted::start(Config::default(), budgets, wire(ROOMY), new_session);
        session.receive(b"x");
        session.stop();
        session.receive(b"hello");
        assert_eq!(session.state(), Some(State::Lingering));
    }

    #[test]
    fn a_half_closed_session_delivers_its_pending_output() {
        let mut session = stalled(Framing::Chunks);
        session.receive(b"hello\n");
        session.end_input();
        session.rest();
        session.stop();
        assert_eq!(session.end(), Reason::Finished);
        assert_eq!(session.answers(), b"OK...hello\n");
    }

    #[test]
    fn a_reset_between_the_last_read_and_the_shutdown_is_counted_as_a_reset() {
        let mut session = session();
        session.pass(QUIET + SECOND);
        session.meanwhile([None, Some(Happening::Reset)]);
        session.stop();
        assert_eq!(session.closed, Some(Reason::Reset));
    }

    #[test]
    fn a_reset_ends_a_session_that_lingers() {
        let mut session = session();
        session.stop();
        session.happen(Happening::Reset);
        session.rest();
        assert_eq!(session.closed, Some(Reason::Reset));
    }
}

#[test]
fn a_refused_client_gets_the_message_and_its_input_is_discarded() {
    let config = Config { max_connections: 0, ..Config::default() };
    let new_session = |_: &_| OkSession::new(Framing::Chunks);
    let mut session = Scripted::start(config.clone(), Budgets::DEFAULT, wire(3), new_session);
    session.receive(b"hello\n");
    assert_eq!(session.end(), Reason::Refused);
    assert_eq!(session.wire().down.bytes, FULL_MESSAGE.as_bytes());
    assert_eq!(session.wire().up.read, 6, "unread input would cause a reset, which can destroy the message");
}

/// Answers each byte with 100 kB, and the byte `q` with a last word.
#[derive(Debug)]
struct Verbose;

impl Verbose {
    const ANSWER: usize = 100_000;
}

impl Session for Verbose {
    fn sizes(&mut self) -> Sizes {
        Sizes::new(INPUT_BUFFER, Self::ANSWER)
    }

    fn answer(&mut self, input: &mut [u8], output: &mut Buffer) -> Step {
        match input {
            [] => Step::NeedInput,
            [b'q', ..] => {
                output.push(b"bye");
                Step::Close
            }
            _ => {
                output.push(&vec![b'v'; Self::ANSWER]);
                Step::Consumed(1)
            }
        }
    }
}

#[test]
fn a_turn_stops_at_the_write_budget_and_the_session_is_rearmed() {
    let mut session = Scripted::open(Verbose, wire(100 * Verbose::ANSWER));
    session.arrive(&[b'x'; 20]);
    session.iterate();
    let most = WRITE_BUDGET + HIGH_WATER + Verbose::ANSWER;
    let written = session.wire().down.bytes.len();
    assert!((WRITE_BUDGET..most).contains(&written), "{written} bytes written");
    session.rest();
    assert_eq!(session.wire().down.bytes.len(), 20 * Verbose::ANSWER);
}

#[test]
fn a_session_that_closes_delivers_its_last_word_and_discards_the_rest() {
    let mut session = Scripted::open(Verbose, wire(1000));
    session.receive(b"xqx");
    assert!(!session.wire().down.has_ended, "output is pending");
    session.fall_silent();
    assert!(session.wire().down.bytes.ends_with(b"vbye"));
    session.receive(b"more");
    assert_eq!(session.wire().up.read, 7, "unread input would cause a reset");
    assert_eq!(session.closed, None, "the session waits for the client's end");
    assert_eq!(session.end(), Reason::Closed);
}

/// The client may go on sending, and read slowly: the linger time-out counts from the last byte that it gets.
#[test]
fn a_client_that_is_asked_to_end_has_the_linger_time_after_it_has_everything() {
    let mut session = Scripted::open(Verbose, wire(2 * Verbose::ANSWER));
    session.receive(b"xq");
    for _ in 0..10 {
        session.receive(b"chatter");
        session.pass(10 * SECOND);
        session.happen(Happening::Ack(1000));
        session.rest();
    }
    assert_eq!(session.closed, None, "the client lacks answers");
    session.happen(Happening::Ack(usize::MAX));
    session.rest();
    session.pass(SECOND);
    assert_eq!(session.closed, None);
    session.pass(SECOND);
    assert_eq!(session.closed, Some(Reason::LingerTimeout));
}

/// A session whose answers, and what it wants with its deadline, are given by the test.
struct Given<F> {
    sizes: Sizes,
    answer: F,
    timers: VecDeque<Timer>,
    at_deadline: AtDeadline,
    ends: Rc<RefCell<Vec<EndOfInput>>>,
}

impl<F: FnMut(&mut [u8], &mut Buffer) -> Step> Given<F> {
    fn new(answer: F) -> Self {
        let (sizes, at_deadline) = (Sizes::default(), AtDeadline::End);
        Self { sizes, answer, timers: VecDeque::new(), at_deadline, ends: Rc::default() }
    }
}

impl<F: FnMut(&mut [u8], &mut Buffer) -> Step> Session for Given<F> {
    fn sizes(&mut self) -> Sizes {
        self.sizes
    }

    fn answer(&mut self, input: &mut [u8], output: &mut Buffer) -> Step {
        (self.answer)(input, output)
    }

    fn end_of_input(&mut self, end: EndOfInput) {
        self.ends.borrow_mut().push(end);
    }

    fn ending(&mut self, _: Reason, output: &mut Buffer) {
        output.push(b"last word");
    }

    fn timer(&mut self) -> Timer {
        self.timers.pop_front().unwrap_or_default()
    }

    fn deadline(&mut self) -> AtDeadline {
        self.at_deadline
    }
}

fn given<F: FnMut(&mut [u8], &mut Buffer) -> Step>(answer: F) -> Scripted<Given<F>> {
    Scripted::open(Given::new(answer), wire(ROOMY))
}

/// Repeats each byte.
fn echo(input: &mut [u8], output: &mut Buffer) -> Step {
    output.push(input);
    Step::Consumed(input.len())
}

impl<S: Session> Scripted<S> {
    fn written(&self) -> Vec<u8> {
        self.world.borrow().wire.down.bytes.clone()
    }
}

mod waiting {
    use super::*;

    /// A session for which another one answers each byte. The loop wakes it for each answer.
    fn jobs(sizes: Sizes) -> Scripted<Given<impl FnMut(&mut [u8], &mut Buffer) -> Step>> {
        let new_session = |world: &Rc<RefCell<World>>| {
            let (world, mut answered) = (Rc::clone(world), 0);
            let answer = move |input: &mut [u8], output: &mut Buffer| match input {
                [] => Step::NeedInput,
                [byte, ..] if world.borrow().published > answered => {
                    answered += 1;
                    output.push(&[*byte]);
                    Step::Consumed(1)
                }
                _ => Step::Wait,
            };
            Given { sizes, ..Given::new(answer) }
        };
        Scripted::start(Config::default(), Budgets::DEFAULT, wire(ROOMY), new_session)
    }

    impl<S: Session> Scripted<S> {
        fn assert_at(&self, read: usize, written: &[u8]) {
            let now_read = self.wire().up.read;
            assert_eq!((now_read, &self.written()[..]), (read, written));
        }
    }

    #[test]
    fn a_session_that_waits_is_neither_read_nor_called_before_a_wake() {
        let mut session = jobs(Sizes::default());
        session.receive(b"ab");
        session.receive(b"cd");
        session.assert_at(2, b"");
        session.hint(Readiness { readable: Readable::UntilBlocked, writable: true });
        assert!(session.record().waits, "the record has no call without a wake");
        session.wake();
        session.assert_at(2, b"a");
        session.wake();
        session.assert_at(4, b"ab");
    }

    #[test]
    fn a_half_closed_session_that_waits_stays_until_it_has_answered_everything() {
        let mut session = jobs(Sizes::default());
        session.receive(b"ab");
        session.end_input();
        session.rest();
        session.wake();
        assert_eq!(session.state(), Some(State::Open), "the end waits in the kernel");
        session.wake();
        session.take(usize::MAX);
        session.rest();
        assert_eq!((session.closed, session.written()), (Some(Reason::Finished), b"ab".to_vec()));
    }

    #[test]
    fn a_full_input_buffer_of_a_session_that_waits_is_no_mistake() {
        let mut session = jobs(Sizes::new(2, 1));
        session.receive(b"abcd");
        assert_eq!(session.wire().up.read, 2);
        for _ in 0..4 {
            session.wake();
        }
        assert_eq!((session.end(), session.written()), (Reason::Finished, b"abcd".to_vec()));
    }

    /// At the stop it is held back. The quiet time begins when it goes on.
    #[test]
    fn a_drain_holds_a_session_that_waits_until_its_wake() {
        let mut session = jobs(Sizes::default());
        session.receive(b"ab");
        session.happen(Happening::Send(b"c".to_vec()));
        session.stop();
        session.pass(5 * SECOND);
        assert_eq!(session.state(), Some(State::Draining));
        session.wake();
        session.wake();
        assert_eq!(session.state(), Some(State::Draining), "more may be on its way");
        session.happen(Happening::Carry(1));
        session.rest();
        session.wake();
        session.pass(QUIET);
        assert_eq!((session.end(), session.written()), (Reason::Drained, b"abclast word".to_vec()));
    }

    #[test]
    fn a_wake_before_the_session_waits_is_not_lost() {
        let mut session = jobs(Sizes::default());
        session.happen(Happening::Wake);
        session.receive(b"a");
        assert_eq!(session.written(), b"a");
    }

    /// The session is woken because its answer budget is used up. Before that turn it starts to wait.
    #[test]
    fn the_wake_for_a_used_up_answer_budget_does_not_end_a_wait() {
        let budgets = Budgets { answers: 1, ..Budgets::DEFAULT };
        let answer = |input: &mut [u8], output: &mut Buffer| match input {
            [] => Step::NeedInput,
            [b'a', ..] => echo(input, output),
            _ => Step::Wait,
        };
        let mut session = Scripted::start(Config::default(), budgets, wire(ROOMY), |_| Given::new(answer));
        session.sessions.means.budgets.woken = 0;
        session.arrive(b"a");
        session.iterate();
        assert!(session.has_work(), "the session goes on in another turn");
        session.arrive(b"b");
        session.iterate();
        session.sessions.means.budgets.woken = 1;
        session.rest();
        assert!(session.record().waits);
    }

    #[test]
    fn a_deadline_lets_a_session_that_waits_go_on() {
        let mut is_late = false;
        let mut session = given(move |input, output| {
            if input.is_empty() {
                return Step::NeedInput;
            }
            if !is_late {
                is_late = true;
                return Step::Wait;
            }
            echo(input, output)
        });
        let given = session.sessions.table[KEY].session_mut().expect("it has one");
        (given.session.timers, given.session.at_deadline) =
            (VecDeque::from([Timer::Start(SECOND)]), AtDeadline::GoOn);
        session.receive(b"a");
        session.pass(SECOND);
        assert_eq!(session.written(), b"a");
    }
}

mod clocks {
    use super::*;

    fn with_idle_timeout(answer: impl FnMut(&mut [u8], &mut Buffer) -> Step) -> Scripted<impl Session> {
        let config = Config { idle_timeout: Some(10 * SECOND), ..Config::default() };
        Scripted::start(config, Budgets::DEFAULT, wire(ROOMY), |_| Given::new(answer))
    }

    #[test]
    fn the_idle_time_starts_again_with_the_clients_bytes() {
        let mut session = with_idle_timeout(echo);
        for _ in 0..3 {
            session.pass(9 * SECOND);
            session.receive(b"a");
        }
        session.pass(9 * SECOND);
        assert_eq!(session.state(), Some(State::Open));
        session.pass(SECOND);
        assert_eq!(session.end(), Reason::IdleTimeout);
        assert_eq!(session.written(), b"aaalast word");
    }

    /// A session that says `news` for each wake, and echoes.
    fn with_news(
        news: &'static [u8],
        wire: Wire,
    ) -> Scripted<Given<impl FnMut(&mut [u8], &mut Buffer) -> Step>> {
        let config = Config { idle_timeout: Some(10 * SECOND), ..Config::default() };
        Scripted::start(config, Budgets::DEFAULT, wire, |world| {
            let (world, mut told) = (Rc::clone(world), 0);
            let answer = move |input: &mut [u8], output: &mut Buffer| {
                if world.borrow().published == told {
                    return echo(input, output);
                }
                told += 1;
                output.push(news);
                Step::More
            };
            Given { sizes: Sizes::new(10, news.len().max(10)), ..Given::new(answer) }
        })
    }

    #[test]
    fn a_client_that_has_to_wait_for_the_server_is_not_idle() {
        static NEWS: [u8; 2 * HIGH_WATER] = [b'n'; 2 * HIGH_WATER];
        let mut session = with_news(&NEWS, wire(HIGH_WATER));
        session.wake();
        session.receive(b"hello");
        assert_eq!(session.wire().up.unread(), 5, "the session is at high water");
        session.pass(10 * SECOND);
        session.fall_silent();
        assert!(session.written().ends_with(b"hello"));
        session.pass(10 * SECOND);
        assert_eq!(session.end(), Reason::IdleTimeout);
    }

    /// The event is not there yet, because the session is read again only now.
    #[test]
    fn what_has_arrived_is_read_before_a_client_is_idle() {
        let mut session = with_news(b"", wire(ROOMY));
        session.meanwhile([Some(Happening::Carry(5))]);
        session.happen(Happening::Send(b"hello".to_vec()));
        session.pass(10 * SECOND);
        assert_eq!(session.written(), b"hello");
        session.rest();
        session.pass(10 * SECOND);
        assert_eq!(session.end(), Reason::IdleTimeout);
    }

    /// An idle client in a busy room is still idle.
    #[test]
    fn what_others_say_does_not_start_the_idle_time_again() {
        let mut session = with_news(b"news ", wire(ROOMY));
        for _ in 0..3 {
            session.pass(3 * SECOND);
            session.wake();
        }
        session.pass(SECOND);
        assert_eq!(
            (session.end(), session.written()),
            (Reason::IdleTimeout, b"news news news last word".to_vec())
        );
    }

    /// The client has to read before it can know what to send next.
    #[test]
    fn the_idle_time_starts_when_the_answers_have_left() {
        let config = Config { idle_timeout: Some(10 * SECOND), ..Config::default() };
        let mut session = Scripted::start(config, Budgets::DEFAULT, wire(4), |_| Given::new(echo));
        session.receive(b"eight bytes");
        for _ in 0..2 {
            session.pass(9 * SECOND);
            assert!(!session.is_running(Timeout::Idle));
            session.take(4);
            session.rest();
        }
        session.pass(9 * SECOND);
        assert_eq!(session.state(), Some(State::Open));
        session.pass(SECOND);
        assert_eq!(session.end(), Reason::IdleTimeout);
    }

    #[test]
    fn a_client_that_reads_nothing_ends_with_the_write_time_out() {
        let mut session = Scripted::open(Given::new(echo), wire(4));
        session.receive(b"eight bytes");
        session.pass(59 * SECOND);
        session.take(2);
        session.rest();
        session.pass(59 * SECOND);
        assert_eq!(session.closed, None);
        session.receive(b"more");
        session.pass(SECOND);
        assert_eq!(session.closed, Some(Reason::WriteTimeout), "sending is not reading");
    }

    /// Many others are woken too, so the wake has no turn before the deadline is over.
    #[test]
    fn a_wake_before_a_deadline_comes_first_and_may_stop_it() {
        for (timer, is_over) in [(Timer::Stop, false), (Timer::Keep, true), (Timer::Start(SECOND), false)] {
            let mut session = given(|_, _| Step::NeedInput);
            let given = session.sessions.table[KEY].session_mut().expect("it has one");
            given.session.timers = VecDeque::from([Timer::Start(SECOND), timer]);
            session.receive(b"a");
            session.sessions.means.budgets.woken = 0;
            session.happen(Happening::Wake);
            session.pass(SECOND);
            assert_eq!(session.state() == Some(State::Lingering), is_over, "{timer:?}");
        }
    }

    #[test]
    fn a_wake_that_has_no_turn_does_not_start_the_idle_time_again() {
        let mut session = with_idle_timeout(|_, _| Step::NeedInput);
        session.sessions.means.budgets.woken = 0;
        session.happen(Happening::Wake);
        session.pass(10 * SECOND);
        session.sessions.means.budgets.woken = 1;
        assert_eq!(session.end(), Reason::IdleTimeout);
    }

    /// The deadlines are at 1, 2 and 3 seconds, although the loop is late each time.
    #[test]
    fn a_deadline_that_starts_again_does_not_drift() {
        let mut session =
            given(|input, output| if input.is_empty() { Step::NeedInput } else { echo(input, output) });
        let given = session.sessions.table[KEY].session_mut().expect("it has one");
        given.session.timers = VecDeque::from([Timer::Start(SECOND); 4]);
        given.session.at_deadline = AtDeadline::GoOn;
        session.receive(b"a");
        let start = session.now;
        for second in 1..=3 {
            session.pass(start + (second * SECOND + SECOND / 10 * 3) - session.now);
            let due = session.sessions.deadlines.next_due().expect("it starts again");
            assert_eq!(due - start, (second + 1) * SECOND);
        }
    }

    #[test]
    fn a_deadline_ends_the_session_with_its_last_word() {
        let mut session = given(|_, _| Step::NeedInput);
        session.sessions.table[KEY].session_mut().expect("it has one").session.timers =
            VecDeque::from([Timer::Start(SECOND)]);
        session.receive(b"half a requ");
        session.pass(SECOND);
        assert_eq!((session.end(), session.written()), (Reason::Deadline, b"last word".to_vec()));
    }
}

#[test]
fn a_request_that_is_too_large_ends_the_session_in_order() {
    let sizes = Sizes::new(4, 9);
    let given = Given { sizes, ..Given::new(|_: &mut [u8], _: &mut Buffer| Step::NeedInput) };
    let mut session = Scripted::open(given, wire(ROOMY));
    session.receive(b"abc");
    assert_eq!(session.state(), Some(State::Open));
    session.receive(b"defg");
    assert_eq!(session.state(), Some(State::Lingering));
    assert_eq!(session.wire().up.read, 7, "unread input would cause a reset");
    assert_eq!((session.end(), session.written()), (Reason::RequestTooLarge, b"last word".to_vec()));
}

#[test]
fn a_last_word_waits_for_room_for_the_largest_answer() {
    const ABOVE: usize = HIGH_WATER + 1;
    // With much room, one write takes all that is pending.
    for (room, pending, is_said) in [(1, HIGH_WATER, true), (1, ABOVE, false), (ABOVE, ABOVE, false)] {
        let answer = move |input: &mut [u8], output: &mut Buffer| {
            if input.is_empty() {
                return Step::NeedInput;
            }
            output.push(&vec![b'x'; room + pending]);
            Step::Consumed(1)
        };
        let mut session =
            Scripted::open(Given { sizes: Sizes::new(4, 200_000), ..Given::new(answer) }, wire(room));
        session.receive(b"a");
        assert_eq!(session.pending(), pending);
        session.world.borrow().waker.as_ref().expect("it has one").end();
        session.rest();
        assert_eq!(session.world.borrow().record.ending.is_some(), is_said);
        assert_eq!(session.end(), Reason::Ended);
        assert_eq!(session.written()[room + pending..], *b"last word");
    }
}

#[test]
fn each_mistake_of_a_session_ends_it_alone_and_is_told_and_it_is_not_called_again() {
    let told = Rc::new(Cell::new(0));
    let counter = Rc::clone(&told);
    trace::record_on_this_thread(move |event, _| {
        counter.set(counter.get() + usize::from(matches!(event, Event::Panicked { .. })));
    });
    let mistakes = [Step::More, Step::Consumed(2), Step::Introduce(None), Step::Close];
    for (mistake, number) in mistakes.into_iter().zip(1..) {
        let mut session = given(move |input, _| {
            match mistake {
                _ if input.is_empty() => Step::NeedInput,
                // A panic without a report on the terminal.
                Step::Close => resume_unwind(Box::new("a session panics")),
                mistake => mistake,
            }
        });
        session.receive(b"x");
        assert_eq!(
            (session.closed, session.record().closed),
            (Some(Reason::ProtocolError), None),
            "{mistake:?}"
        );
        assert_eq!(told.get(), number, "{mistake:?}");
    }
}

/// Its client reads everything, so the buffer has room for far more.
#[test]
fn an_answer_that_is_larger_than_stated_ends_the_session() {
    for (length, end) in [(10, None), (11, Some(Reason::ProtocolError))] {
        let answer = move |input: &mut [u8], output: &mut Buffer| {
            output.push(&vec![b'x'; if input.is_empty() { 0 } else { length }]);
            Step::Consumed(input.len())
        };
        let given = Given { sizes: Sizes::new(10, 10), ..Given::new(answer) };
        let mut session = Scripted::open(given, wire(ROOMY));
        session.receive(b"x");
        assert_eq!(session.closed, end, "{length}");
    }
}

#[test]
fn an_answer_in_parts_is_asked_for_when_there_is_room() {
    const PARTS: usize = 1000;
    let mut parts = 0;
    let mut session = Scripted::open(
        Given::new(move |input: &mut [u8], output: &mut Buffer| {
            if input.is_empty() {
                return Step::NeedInput;
            }
            output.push(&[b'p'; 1000]);
            parts += 1;
            if parts < PARTS { Step::More } else { Step::Consumed(1) }
        }),
        wire(5000),
    );
    session.receive(b"x");
    assert!(session.record().said.len() <= HIGH_WATER + 6000, "the parts wait for room");
    assert_eq!(session.end(), Reason::Finished);
    assert_eq!(session.written().len(), PARTS * 1000);
}

#[test]
fn independent_directions_do_not_wait_for_each_other() {
    let sizes = Sizes { independent: true, ..Sizes::new(10, 10) };
    let mut session = Scripted::open(
        Given {
            sizes,
            ..Given::new(|input: &mut [u8], output: &mut Buffer| {
                if input.is_empty() {
                    return Step::NeedInput;
                }
                output.push(&vec![b'r'; output.free()]);
                Step::Consumed(input.len())
            })
        },
        wire(1),
    );
    for count in 1..5 {
        session.receive(b"data");
        assert_eq!(session.record().consumed, 4 * count, "the output is full");
    }
    assert_eq!(session.end(), Reason::Finished);
}
