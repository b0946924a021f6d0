//! The session's state machine over the scripted socket, one nasty input a test.

use std::io::ErrorKind;

use okloop::config::{DRAIN_BUDGET, HIGH_WATER, INPUT_BUFFER, LOW_WATER, READ_BUDGET};
use okloop::protocol::{BANNER, FULL, Framing, PREFIX};
use okloop::readiness::{Readable, Readiness};
use okloop::reason::Reason;

use crate::harness::numbered_lines;
use crate::scripted::{Happening, Scripted};

/// A peer that keeps up.
const ROOMY: usize = 1 << 20;

const INPUT_WAITS: Readiness = Readiness { readable: Readable::UntilShort, writable: false };

fn session() -> Scripted {
    Scripted::greet(Framing::Chunks, ROOMY)
}

/// A session over a socket that has room for the banner, and then no more until the peer takes it.
fn stalled(framing: Framing) -> Scripted {
    Scripted::greet(framing, BANNER.len())
}

#[test]
fn the_banner_goes_out_in_the_first_turn() {
    let mut session = session();
    assert_eq!(session.socket().written, BANNER);
    assert!(!session.poll(), "an idle session is not woken");
}

#[test]
fn a_short_read_needs_no_second_one_to_say_that_nothing_is_left() {
    let mut session = session();
    session.receive(b"hello\n");
    assert_eq!(session.socket().answers(), b"OK...hello\n");
    assert_eq!(session.socket().calls, 3, "the banner's write, a read, a write");
}

#[test]
fn a_socket_that_was_full_is_not_written_to_before_it_has_room() {
    let mut session = stalled(Framing::Chunks);
    session.receive(b"hello\n");
    session.receive(b"again\n");
    assert_eq!(session.socket().calls, 4, "the banner's write, a read, a write in vain, a read");
}

#[test]
fn an_end_of_input_behind_the_last_bytes_is_seen_though_no_event_tells_of_it_alone() {
    let mut session = session();
    session.happen(Happening::Arrive(b"bye\n".to_vec()));
    assert_eq!(session.end(), Reason::Finished);
    assert_eq!(session.socket().answers(), b"OK...bye\n");
}

#[test]
fn bytes_behind_an_urgent_mark_do_not_wait_for_more() {
    let mut session = session();
    session.happen(Happening::Arrive(b"before".to_vec()));
    session.happen(Happening::Urgent);
    session.receive(b"behind");
    assert_eq!(session.socket().answers(), b"OK...beforeOK...behind");
}

#[test]
fn a_socket_that_takes_one_byte_at_a_time_gets_them_all_in_order() {
    let mut session = Scripted::greet(Framing::Lines, 1);
    session.receive(b"one\ntwo\n");
    assert_eq!(session.end(), Reason::Finished);
    assert_eq!(session.socket().written, [BANNER, b"OK...one\nOK...two\n"].concat());
}

#[test]
fn a_peer_that_does_not_take_the_banner_is_read_and_answered_all_the_same() {
    let mut session = Scripted::greet(Framing::Chunks, 10);
    session.receive(b"hello\n");
    assert_eq!(session.socket().read, 6);
    assert_eq!(session.end(), Reason::Finished);
    assert_eq!(session.socket().answers(), b"OK...hello\n");
}

#[test]
fn an_interrupted_read_is_taken_up_again() {
    let mut session = session();
    session.happen(Happening::Return(Err(ErrorKind::Interrupted)));
    session.receive(b"hello\n");
    assert_eq!(session.socket().answers(), b"OK...hello\n");
}

#[test]
fn an_interrupted_write_is_taken_up_again() {
    let mut session =
        Scripted::greet_after(vec![Happening::Return(Err(ErrorKind::Interrupted))], Framing::Chunks, ROOMY);
    assert_eq!(session.socket().written, b"");
    session.rest();
    assert_eq!(session.socket().written, BANNER);
}

#[test]
fn a_read_that_blocks_though_bytes_were_announced_is_taken_up_again() {
    let mut session = session();
    session.happen(Happening::Return(Err(ErrorKind::WouldBlock)));
    session.receive(b"hello\n");
    assert_eq!(session.socket().answers(), b"OK...hello\n");
}

#[test]
fn a_read_that_blocks_though_the_end_was_announced_is_taken_up_again() {
    // In front of the bytes, and between them and the end.
    for reads_before in 0..2 {
        let mut session = session();
        session.happen(Happening::Arrive(b"bye\n".to_vec()));
        for _ in 0..reads_before {
            session.socket().meanwhile(Happening::Take(0));
        }
        session.socket().meanwhile(Happening::Return(Err(ErrorKind::WouldBlock)));
        assert_eq!(session.end(), Reason::Finished);
        assert_eq!(session.socket().answers(), b"OK...bye\n");
    }
}

#[test]
fn a_write_that_blocks_though_room_was_announced_is_taken_up_again() {
    let mut session = stalled(Framing::Chunks);
    session.receive(b"hello\n");
    session.happen(Happening::Return(Err(ErrorKind::WouldBlock)));
    session.happen(Happening::Take(usize::MAX));
    session.rest();
    assert_eq!(session.socket().answers(), b"OK...hello\n");
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
fn a_write_of_zero_bytes_ends_the_session() {
    let mut session = Scripted::greet_after(vec![Happening::Return(Ok(0))], Framing::Chunks, ROOMY);
    assert_eq!(session.closed(), Some(Reason::Failed));
    assert!(!session.poll());
}

#[test]
fn each_error_of_the_socket_ends_the_session_and_is_counted_as_what_it_is() {
    for (error, reason) in [
        (ErrorKind::ConnectionReset, Reason::Reset),
        (ErrorKind::BrokenPipe, Reason::Reset),
        (ErrorKind::TimedOut, Reason::Vanished),
        (ErrorKind::HostUnreachable, Reason::Vanished),
        (ErrorKind::OutOfMemory, Reason::Failed),
    ] {
        let mut session = session();
        session.happen(Happening::Return(Err(error)));
        session.receive(b"hello\n");
        assert_eq!(session.closed(), Some(reason), "{error:?}");
        assert_eq!(session.socket().answers(), b"");
    }
}

#[test]
fn a_reset_with_answers_owed_ends_the_session() {
    let mut session = stalled(Framing::Chunks);
    session.receive(b"hello\n");
    session.happen(Happening::Reset);
    session.rest();
    assert_eq!(session.closed(), Some(Reason::Reset));
}

#[test]
fn a_reset_of_a_half_closed_peer_ends_the_session() {
    let mut session = stalled(Framing::Chunks);
    session.receive(b"hello\n");
    session.happen(Happening::End);
    session.rest();
    assert_eq!(session.closed(), None, "an answer is owed");
    session.happen(Happening::Reset);
    session.rest();
    assert_eq!(session.closed(), Some(Reason::Reset));
}

#[test]
fn a_peer_that_half_closes_before_the_banner_gets_it_whole() {
    let mut session = Scripted::greet_after(vec![Happening::End], Framing::Chunks, 10);
    assert_eq!(session.end(), Reason::Finished);
    assert_eq!(session.socket().written, BANNER);
}

#[test]
fn a_last_line_without_an_ending_is_answered_at_the_end_of_input() {
    let mut session = Scripted::greet(Framing::Lines, ROOMY);
    session.receive(b"half a li");
    session.receive(b"ne");
    assert_eq!(session.socket().answers(), b"");
    assert_eq!(session.end(), Reason::Finished);
    assert_eq!(session.socket().answers(), b"OK...half a line");
}

#[test]
fn a_firehose_is_left_after_its_share_and_comes_back_without_a_new_event() {
    let mut session = session();
    let flood = numbered_lines(4 * READ_BUDGET);
    session.happen(Happening::Arrive(flood.clone()));
    let turn = session.turn(INPUT_WAITS);
    assert!(turn.stopped_early);
    assert!((READ_BUDGET..READ_BUDGET + INPUT_BUFFER).contains(&turn.read), "{} bytes read", turn.read);
    session.rest();
    assert_eq!(session.socket().read, flood.len());
}

#[test]
fn a_firehose_whose_bytes_are_thrown_away_has_no_more_than_its_share_either() {
    let mut session = session();
    session.drain();
    session.happen(Happening::Arrive(numbered_lines(4 * READ_BUDGET)));
    let turn = session.turn(INPUT_WAITS);
    assert!(turn.stopped_early);
    assert!(turn.read < READ_BUDGET + INPUT_BUFFER, "{} bytes read", turn.read);
    assert_eq!(session.end(), Reason::Drained);
}

#[test]
fn a_peer_that_never_reads_is_not_read_beyond_the_limits() {
    for framing in [Framing::Chunks, Framing::Lines] {
        let mut session = stalled(framing);
        session.receive(&numbered_lines(1 << 20));
        let read = session.socket().read;
        // Short lines fill the output sooner, with their prefixes.
        assert!((INPUT_BUFFER..=HIGH_WATER + INPUT_BUFFER).contains(&read), "{read} bytes read");
        assert!(!session.interest().expect("the session is open").is_readable());
    }
}

#[test]
fn a_peer_that_reads_again_is_read_again_below_the_low_water_mark_and_not_before() {
    let mut session = Scripted::greet(Framing::Chunks, 1000);
    session.receive(&numbered_lines(1 << 20));
    let (held, mut taken) = (session.socket().read, 0);
    while session.socket().read == held {
        taken += 1000;
        session.happen(Happening::Take(1000));
        assert!(session.poll(), "there is room again");
    }
    assert!(taken > HIGH_WATER - LOW_WATER, "read again after {taken} bytes");
    assert_eq!(session.end(), Reason::Finished);
}

#[test]
fn a_drain_answers_what_has_arrived_and_nothing_that_comes_later() {
    let mut session = session();
    session.happen(Happening::Arrive(b"before\n".to_vec()));
    session.drain();
    session.receive(b"after\n");
    assert_eq!(session.closed(), None, "it waits for the peer's end");
    assert_eq!(session.end(), Reason::Drained);
    assert_eq!(session.socket().answers(), b"OK...before\n");
    assert_eq!(session.socket().read, 13, "what comes later is read: unread, it would cause a reset");
}

#[test]
fn a_drain_answers_a_half_line() {
    let mut session = Scripted::greet(Framing::Lines, ROOMY);
    session.receive(b"half a li");
    session.drain();
    assert_eq!(session.end(), Reason::Drained);
    assert_eq!(session.socket().answers(), b"OK...half a li");
}

#[test]
fn a_drain_of_a_silent_session_ends_its_output_at_once() {
    let mut session = session();
    session.drain();
    assert_eq!(session.socket().shut_down, Some(0));
    assert!(!session.poll());
    assert_eq!(session.end(), Reason::Drained);
}

#[test]
fn a_drain_of_a_peer_that_does_not_read_waits_for_it_and_still_answers_what_had_arrived() {
    let flood = numbered_lines(4 * HIGH_WATER);
    let mut session = stalled(Framing::Lines);
    session.receive(&flood);
    session.drain();
    session.rest();
    assert_eq!(session.socket().shut_down, None);
    assert_eq!(session.end(), Reason::Finished);
    assert_eq!(session.socket().read, flood.len());
    assert_eq!(session.socket().answered, flood.len());
}

#[test]
fn a_drain_finds_its_end_though_no_event_says_that_nothing_more_has_arrived() {
    // As much as one turn's share, more than the water marks let in, and as much as one read takes.
    for length in [READ_BUDGET, 4 * HIGH_WATER, INPUT_BUFFER] {
        for room in [BANNER.len(), ROOMY] {
            let mut session = Scripted::greet(Framing::Chunks, room);
            session.happen(Happening::Arrive(numbered_lines(length)));
            session.drain();
            while session.socket().shut_down.is_none() {
                session.happen(Happening::Take(usize::MAX));
                assert!(
                    session.poll(),
                    "{length} bytes, {room} of room: nobody would ever wake this session"
                );
            }
            assert_eq!(session.socket().answered, length);
        }
    }
}

#[test]
fn a_drain_of_a_peer_that_sends_without_a_pause_answers_its_share_and_ends() {
    let (mut session, share) = (session(), DRAIN_BUDGET as usize);
    session.happen(Happening::Arrive(vec![b'x'; share + HIGH_WATER]));
    session.drain();
    while session.socket().shut_down.is_none() {
        session.happen(Happening::Take(usize::MAX));
        assert!(session.poll(), "nobody would ever wake this session");
    }
    let answered = session.socket().answered;
    assert!((share..share + INPUT_BUFFER).contains(&answered), "{answered} bytes were answered");
}

#[test]
fn a_drain_of_a_half_closed_session_delivers_what_it_is_owed() {
    let mut session = stalled(Framing::Chunks);
    session.receive(b"hello\n");
    session.happen(Happening::End);
    session.rest();
    session.drain();
    assert_eq!(session.end(), Reason::Finished);
    assert_eq!(session.socket().answers(), b"OK...hello\n");
}

#[test]
fn a_reset_between_the_last_read_and_our_end_of_output_is_counted_as_one() {
    let mut session = session();
    let before_the_read = Happening::Take(BANNER.len());
    session.socket().meanwhile(before_the_read);
    session.socket().meanwhile(Happening::Reset);
    session.drain();
    assert_eq!(session.closed(), Some(Reason::Reset));
}

#[test]
fn a_reset_after_our_end_of_output_ends_a_drained_session() {
    let mut session = session();
    session.drain();
    session.happen(Happening::Reset);
    session.rest();
    assert_eq!(session.closed(), Some(Reason::Reset));
}

#[test]
fn a_refused_client_is_told_so_and_what_it_says_is_thrown_away() {
    let mut session = Scripted::refuse(10);
    session.receive(b"hello\n");
    assert_eq!(session.end(), Reason::Refused);
    assert_eq!(session.socket().written, FULL);
    assert_eq!(session.socket().read, 6, "unread, it would cause a reset that could destroy the refusal");
}

#[test]
fn a_line_longer_than_the_input_buffer_is_answered_in_pieces_of_it() {
    let mut session = Scripted::greet(Framing::Lines, ROOMY);
    let line = vec![b'x'; INPUT_BUFFER + 1];
    session.receive(&line);
    session.receive(b"\n");
    let (first, rest) = (&line[..INPUT_BUFFER], b"x\n");
    assert_eq!(session.socket().answers(), [PREFIX, first, PREFIX, rest].concat());
}
