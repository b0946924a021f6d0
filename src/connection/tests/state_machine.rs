//! The state machine of a session over the scripted socket, one difficult case a test.

use std::io::ErrorKind;

use okloop::config::{DRAIN_BUDGET, HIGH_WATER, INPUT_BUFFER, READ_BUDGET, WRITE_BUDGET};
use okloop::platform::Kernel;
use okloop::readiness::{Readable, Readiness};
use okloop::{BANNER, Buffer, Framing, OkSession, Reason, Session, Step};

use crate::harness::{FULL, numbered_lines};
use crate::scripted::{Happening, Scripted, Socket};

/// More room than any answer here needs.
const ROOMY: usize = 1 << 20;

const READABLE: Readiness = Readiness { readable: Readable::UntilShort, writable: false };

fn session() -> Scripted<OkSession> {
    Scripted::greet(Framing::Chunks, ROOMY)
}

/// A session over a socket that has room for the banner only, until the client reads.
fn stalled(framing: Framing) -> Scripted<OkSession> {
    Scripted::greet(framing, BANNER.len())
}

#[test]
fn the_banner_goes_out_in_the_first_turn() {
    let mut session = session();
    assert_eq!(session.socket().written, BANNER);
    assert!(!session.poll(), "an idle session is not woken");
}

#[test]
#[cfg_attr(not(any(target_os = "linux", target_os = "android")), ignore = "a rule of epoll")]
fn a_short_read_is_not_followed_by_one_that_would_block() {
    let mut session = session();
    session.receive(b"hello\n");
    assert_eq!(session.answers(), b"OK...hello\n");
    assert_eq!(session.socket().calls, 3, "the banner's write, a read, a write");
}

#[test]
#[cfg_attr(not(any(target_os = "linux", target_os = "android")), ignore = "a rule of epoll")]
fn a_full_socket_is_not_written_to_before_it_is_writable() {
    let mut session = stalled(Framing::Chunks);
    session.receive(b"hello\n");
    session.receive(b"again\n");
    assert_eq!(session.socket().calls, 4, "the banner's write, a read, a write that would block, a read");
}

#[test]
fn an_end_of_input_after_the_last_bytes_is_read_in_the_same_turn() {
    let mut session = session();
    session.happen(Happening::Arrive(b"bye\n".to_vec()));
    assert_eq!(session.end(), Reason::Finished);
    assert_eq!(session.answers(), b"OK...bye\n");
}

#[test]
fn bytes_after_an_urgent_mark_are_read_without_another_event() {
    for kernel in [Kernel::HERE, Kernel::Kqueue, Kernel::Iocp] {
        let protocol = OkSession::new(Framing::Chunks);
        let mut session = Scripted::open(protocol, Vec::new(), Socket::new(kernel, ROOMY));
        session.happen(Happening::Arrive(b"before".to_vec()));
        session.happen(Happening::Urgent);
        session.receive(b"behind");
        assert_eq!(session.answers(), b"OK...beforeOK...behind", "{kernel:?}");
    }
}

#[test]
fn interrupted_calls_are_repeated_in_the_same_turn() {
    let interrupt = || vec![Happening::Fail(ErrorKind::Interrupted), Happening::Fail(ErrorKind::Interrupted)];
    let mut session = Scripted::open(OkSession::new(Framing::Chunks), interrupt(), ROOMY);
    assert_eq!(session.socket().written, BANNER);
    for failure in interrupt() {
        session.happen(failure);
    }
    session.happen(Happening::Arrive(b"hello\n".to_vec()));
    assert!(session.poll());
    assert_eq!(session.answers(), b"OK...hello\n");
}

#[test]
fn an_event_without_a_cause_changes_nothing() {
    let mut session = session();
    let interest = session.interest();
    session.turn(Readiness { readable: Readable::UntilBlocked, writable: true });
    assert_eq!((session.interest(), session.closed()), (interest, None));
    assert_eq!(session.socket().written, BANNER);
}

#[test]
fn each_error_of_the_socket_ends_the_session_with_its_own_reason() {
    for (error, reason) in [
        (ErrorKind::ConnectionReset, Reason::Reset),
        (ErrorKind::BrokenPipe, Reason::Reset),
        (ErrorKind::TimedOut, Reason::PeerUnreachable),
        (ErrorKind::HostUnreachable, Reason::PeerUnreachable),
        (ErrorKind::OutOfMemory, Reason::Failed),
    ] {
        let mut session = session();
        session.happen(Happening::Fail(error));
        session.receive(b"hello\n");
        assert_eq!(session.closed(), Some(reason), "{error:?}");
        assert_eq!(session.answers(), b"");
    }
}

#[test]
fn a_reset_ends_a_session_with_pending_output_before_and_after_a_half_close() {
    for half_closed in [false, true] {
        let mut session = stalled(Framing::Chunks);
        session.receive(b"hello\n");
        if half_closed {
            session.happen(Happening::End);
            session.rest();
        }
        assert_eq!(session.closed(), None, "an answer is pending");
        session.happen(Happening::Reset);
        session.rest();
        assert_eq!(session.closed(), Some(Reason::Reset));
    }
}

#[test]
fn a_last_line_without_an_ending_is_answered_at_the_end_of_input() {
    let mut session = Scripted::greet(Framing::Lines, ROOMY);
    session.receive(b"half a li");
    session.receive(b"ne");
    assert_eq!(session.answers(), b"");
    assert_eq!(session.end(), Reason::Finished);
    assert_eq!(session.answers(), b"OK...half a line");
}

#[test]
fn a_turn_stops_at_the_read_budget_and_the_session_is_rearmed() {
    for drains in [false, true] {
        let mut session = session();
        if drains {
            // What a draining session discards counts too.
            session.drain();
        }
        let flood = numbered_lines(4 * READ_BUDGET);
        session.happen(Happening::Arrive(flood.clone()));
        let turn = session.turn(READABLE);
        assert!(turn.stopped_early);
        assert!((READ_BUDGET..READ_BUDGET + INPUT_BUFFER).contains(&turn.read), "{} bytes read", turn.read);
        session.rest();
        assert_eq!(session.socket().read, flood.len());
    }
}

#[test]
fn a_client_that_never_reads_is_not_read_beyond_the_limits() {
    for framing in [Framing::Chunks, Framing::Lines] {
        let mut session = stalled(framing);
        session.receive(&numbered_lines(1 << 20));
        let read = session.socket().read;
        // Short lines fill the output sooner, because each has a prefix.
        assert!((INPUT_BUFFER..=HIGH_WATER + INPUT_BUFFER).contains(&read), "{read} bytes read");
        assert!(!session.interest().expect("the session is open").is_readable());
    }
}

#[test]
fn reading_resumes_when_the_client_has_read_its_answers() {
    let mut session = Scripted::greet(Framing::Chunks, 1000);
    let flood = numbered_lines(1 << 20);
    session.receive(&flood);
    assert!(session.socket().read < flood.len());
    session.fall_silent();
    assert_eq!(session.socket().read, flood.len());
    assert_eq!(session.end(), Reason::Finished);
}

#[test]
fn a_drain_answers_what_has_arrived_and_nothing_that_arrives_later() {
    let mut session = session();
    session.happen(Happening::Arrive(b"before\n".to_vec()));
    session.drain();
    session.receive(b"after\n");
    assert_eq!(session.closed(), None, "the session waits for the client's end");
    assert_eq!(session.end(), Reason::Drained);
    assert_eq!(session.answers(), b"OK...before\n");
    assert_eq!(session.socket().read, 13, "unread input would cause a reset");
}

#[test]
fn a_drain_answers_a_half_line() {
    let mut session = Scripted::greet(Framing::Lines, ROOMY);
    session.receive(b"half a li");
    session.drain();
    assert_eq!(session.end(), Reason::Drained);
    assert_eq!(session.answers(), b"OK...half a li");
}

#[test]
fn a_drain_of_a_silent_session_ends_its_output_immediately() {
    let mut session = session();
    session.drain();
    assert_eq!(session.socket().shut_down, Some(0));
    assert!(!session.poll());
    assert_eq!(session.end(), Reason::Drained);
}

#[test]
fn a_drain_of_a_slow_reader_waits_and_answers_everything_that_had_arrived() {
    let flood = numbered_lines(4 * HIGH_WATER);
    let mut session = stalled(Framing::Lines);
    session.receive(&flood);
    session.drain();
    session.rest();
    assert_eq!(session.socket().shut_down, None);
    assert_eq!(session.end(), Reason::Finished);
    assert_eq!(session.record().consumed, flood);
}

#[test]
fn a_drain_notices_that_nothing_more_has_arrived_although_no_event_says_it() {
    // One read budget, more than the high water mark lets in, and as much as one read takes.
    for length in [READ_BUDGET, 4 * HIGH_WATER, INPUT_BUFFER] {
        for room in [BANNER.len(), ROOMY] {
            let mut session = Scripted::greet(Framing::Chunks, room);
            session.happen(Happening::Arrive(numbered_lines(length)));
            session.drain();
            while session.socket().shut_down.is_none() {
                session.happen(Happening::Take(usize::MAX));
                assert!(session.poll(), "{length} bytes, {room} of room: no event would ever come");
            }
            assert_eq!(session.record().consumed.len(), length);
        }
    }
}

#[test]
fn a_drain_of_a_flood_answers_the_drain_budget_and_ends() {
    let mut session = session();
    session.happen(Happening::Arrive(vec![b'x'; DRAIN_BUDGET + HIGH_WATER]));
    session.drain();
    while session.socket().shut_down.is_none() {
        session.happen(Happening::Take(usize::MAX));
        assert!(session.poll(), "no event would ever come");
    }
    let answered = session.record().consumed.len();
    assert!(
        (DRAIN_BUDGET..DRAIN_BUDGET + INPUT_BUFFER).contains(&answered),
        "{answered} bytes were answered"
    );
}

#[test]
fn a_drain_of_a_half_closed_session_delivers_the_pending_output() {
    let mut session = stalled(Framing::Chunks);
    session.receive(b"hello\n");
    session.happen(Happening::End);
    session.rest();
    session.drain();
    assert_eq!(session.end(), Reason::Finished);
    assert_eq!(session.answers(), b"OK...hello\n");
}

#[test]
fn a_reset_between_the_last_read_and_the_shutdown_is_counted_as_a_reset() {
    let mut session = session();
    session.socket().meanwhile(Happening::Take(BANNER.len()));
    session.socket().meanwhile(Happening::Reset);
    session.drain();
    assert_eq!(session.closed(), Some(Reason::Reset));
}

#[test]
fn a_reset_ends_a_session_that_lingers_after_a_drain() {
    let mut session = session();
    session.drain();
    session.happen(Happening::Reset);
    session.rest();
    assert_eq!(session.closed(), Some(Reason::Reset));
}

#[test]
fn a_refused_client_gets_the_message_and_its_input_is_discarded() {
    let mut session = Scripted::refuse(3);
    session.receive(b"hello\n");
    assert_eq!(session.end(), Reason::Refused);
    assert_eq!(session.socket().written, FULL);
    assert_eq!(session.socket().read, 6, "unread input would cause a reset, which can destroy the message");
}

/// Answers nothing, and asks for more.
#[derive(Debug)]
struct Stuck;

impl Session for Stuck {
    fn answer(&mut self, _input: &mut [u8], _output: &mut Buffer) -> Step {
        Step::NeedInput
    }
}

#[test]
fn a_protocol_that_needs_more_than_a_full_input_buffer_ends_with_an_error() {
    let mut session = Scripted::open(Stuck, Vec::new(), ROOMY);
    session.receive(&vec![b'x'; INPUT_BUFFER - 1]);
    assert_eq!(session.closed(), None);
    session.receive(b"x");
    assert_eq!(session.closed(), Some(Reason::ProtocolError));
}

/// Answers each byte with 100 kB, and the byte `q` with a last word.
#[derive(Debug)]
struct Verbose;

impl Session for Verbose {
    const LARGEST_ANSWER: usize = 100_000;

    fn answer(&mut self, input: &mut [u8], output: &mut Buffer) -> Step {
        match input {
            [] => Step::NeedInput,
            [b'q', ..] => {
                output.push(b"bye");
                Step::Close
            }
            _ => {
                output.push(&vec![b'v'; Self::LARGEST_ANSWER]);
                Step::Consumed(1)
            }
        }
    }
}

#[test]
fn a_turn_stops_at_the_write_budget_and_the_session_is_rearmed() {
    let mut session = Scripted::open(Verbose, Vec::new(), 100 * Verbose::LARGEST_ANSWER);
    session.happen(Happening::Arrive(vec![b'x'; 20]));
    let turn = session.turn(READABLE);
    assert!(turn.stopped_early);
    let most = WRITE_BUDGET + HIGH_WATER + Verbose::LARGEST_ANSWER;
    assert!((WRITE_BUDGET..most).contains(&turn.written), "{} bytes written", turn.written);
    session.rest();
    assert_eq!(session.socket().written.len(), 20 * Verbose::LARGEST_ANSWER);
}

#[test]
fn a_protocol_that_closes_delivers_its_last_word_and_discards_the_rest() {
    let mut session = Scripted::open(Verbose, Vec::new(), 1000);
    session.receive(b"xqx");
    assert_eq!(session.socket().shut_down, None, "output is pending");
    session.fall_silent();
    assert!(session.socket().written.ends_with(b"vbye"));
    session.receive(b"more");
    assert_eq!(session.socket().read, 7, "unread input would cause a reset");
    assert_eq!(session.closed(), None, "the session waits for the client's end");
    assert_eq!(session.end(), Reason::Closed);
}
