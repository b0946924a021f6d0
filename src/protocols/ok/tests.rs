use super::*;

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
