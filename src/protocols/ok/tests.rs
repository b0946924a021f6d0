use super::*;
use crate::conversation::Conversation;
use crate::reason::Reason;

/// Gives the session `writes` one after the other, with room for everything, then ends the input.
fn conversation(framing: Framing, writes: &[&[u8]]) -> Vec<u8> {
    let mut session = OkSession::new(framing);
    let mut output = Buffer::with_capacity(1 << 20).expect("a megabyte of memory");
    let mut input = Vec::new();
    for bytes in writes {
        input.extend_from_slice(bytes);
        answer_all(&mut session, &mut input, &mut output);
    }
    session.end_of_input(EndOfInput::Client);
    answer_all(&mut session, &mut input, &mut output);
    assert!(input.is_empty(), "everything is answered in the end");
    output.unread().to_vec()
}

fn answer_all(session: &mut OkSession, input: &mut Vec<u8>, output: &mut Buffer) {
    while let Step::Consumed(count) = session.answer(input, output) {
        input.drain(..count);
    }
}

#[test]
fn chunks_are_answered_as_they_arrive() {
    assert_eq!(conversation(Framing::Chunks, &[b"he", b"llo\n"]), b"OK...heOK...llo\n");
}

#[test]
fn no_chunk_is_longer_than_the_tutorials_recv() {
    let answer = conversation(Framing::Chunks, &[&[b'x'; 3000]]);
    let mut expected = Vec::new();
    for length in [1024, 1024, 952] {
        expected.extend([PREFIX, &vec![b'x'; length]].concat());
    }
    assert_eq!(answer, expected);
}

#[test]
fn lines_are_answered_whole_however_the_network_cut_them() {
    assert_eq!(
        conversation(Framing::Lines, &[b"on", b"e\ntwo\r\nthr", b"ee\n", b"\n", b"rest"]),
        b"OK...one\nOK...two\r\nOK...three\nOK...\nOK...rest"
    );
}

#[test]
fn a_line_longer_than_the_input_buffer_is_answered_in_pieces() {
    let (full, rest) = (vec![b'a'; INPUT_BUFFER], b"bc\n");
    assert_eq!(conversation(Framing::Lines, &[&full, rest]), [PREFIX, &full, PREFIX, rest].concat());
}

#[test]
fn only_the_line_ending_is_a_special_byte() {
    let telnet_interrupt = b"\xff\xf4\xff\xfd\x06\0\xc3(";
    for framing in [Framing::Chunks, Framing::Lines] {
        assert_eq!(conversation(framing, &[telnet_interrupt]), [PREFIX, telnet_interrupt].concat());
    }
}

#[test]
fn a_session_has_8_bytes() {
    assert_eq!(size_of::<OkSession>(), 8);
}

#[test]
fn a_line_may_take_any_time_by_default() {
    let mut conversation = Conversation::start(OkSession::new(Framing::Lines));
    conversation.send(b"half a line");
    assert_eq!(conversation.deadline(), None);
}

#[test]
fn a_line_that_never_becomes_whole_ends_the_session_in_order() {
    let mut conversation = Conversation::start(with_deadline(Framing::Lines));
    conversation.send(b"one\nhalf a line");
    assert_eq!(conversation.deadline(), Some(DEADLINE));
    conversation.pass_deadline();
    assert_eq!(conversation.received(), [BANNER, b"OK...one\n"].concat());
    assert!(conversation.has_output_ended());
    conversation.end_input();
    assert_eq!(conversation.ended(), Some(Reason::Deadline));
}

#[test]
fn the_deadline_of_a_line_starts_with_its_first_byte_only() {
    let mut session = with_deadline(Framing::Lines);
    let mut output = Buffer::with_capacity(1 << 20).expect("a megabyte of memory");
    let mut input = Vec::new();
    let mut timer_after = |bytes: &[u8]| {
        input.extend_from_slice(bytes);
        answer_all(&mut session, &mut input, &mut output);
        session.timer()
    };
    assert_eq!(timer_after(b"a whole line\n"), Timer::Keep);
    assert_eq!(timer_after(b"ha"), Timer::Start(DEADLINE));
    assert_eq!(timer_after(b"l"), Timer::Keep);
    assert_eq!(timer_after(b""), Timer::Keep);
    assert_eq!(timer_after(b"f\nthe next"), Timer::Start(DEADLINE));
    assert_eq!(timer_after(b" line\n"), Timer::Stop);
    assert_eq!(timer_after(b""), Timer::Keep);
    assert_eq!(timer_after(b"one\ntwo"), Timer::Start(DEADLINE));
    session.end_of_input(EndOfInput::Client);
    assert_eq!(session.timer(), Timer::Stop, "what the client has sent is complete");
}

#[test]
fn chunks_have_no_deadline() {
    let mut conversation = Conversation::start(with_deadline(Framing::Chunks));
    conversation.send(b"half a line");
    assert_eq!(conversation.deadline(), None);
}

const DEADLINE: Duration = Duration::from_millis(1500);

fn with_deadline(framing: Framing) -> OkSession {
    OkSession::new(framing).with_line_timeout(DEADLINE)
}
