use std::mem;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::config::INPUT_BUFFER;
use crate::conversation::Conversation;
use crate::protocols::{BANNER, Framing, OkSession, PREFIX};

#[test]
fn commands_are_taken_out_of_the_text() {
    // No operation, data mark, break, interrupt, abort output, erase character, erase line, go ahead, and an SE
    // that ends nothing.
    for command in [241, 242, 243, 244, 245, 247, 248, 249, SE] {
        assert_eq!(answers(&[b"he", &[IAC, command], b"llo\n"]), b"OK...hello\n", "{command}");
    }
}

#[test]
fn every_option_is_refused() {
    for option in (0..=255).filter(|&option| option != TIMING_MARK) {
        assert_eq!(answers(&[&[IAC, DO, option]]), [IAC, WONT, option]);
        assert_eq!(answers(&[&[IAC, WILL, option]]), [IAC, DONT, option]);
    }
}

#[test]
fn a_refusal_gets_no_reply() {
    assert_eq!(answers(&[&[IAC, DONT, 1], &[IAC, WONT, 1], &[IAC, DONT, TIMING_MARK]]), b"");
}

#[test]
fn a_timing_mark_is_granted_after_the_answers_to_the_input_before_it() {
    let interrupt = &[IAC, 244, IAC, DO, TIMING_MARK];
    assert_eq!(
        answers(&[b"one\ntwo\nthr", interrupt, b"ee\n"]),
        [b"OK...one\nOK...two\n", &[IAC, WILL, TIMING_MARK][..], b"OK...three\n"].concat()
    );
}

#[test]
fn are_you_there_has_an_answer_that_the_user_can_see() {
    assert_eq!(answers(&[b"one\n", &[IAC, AYT]]), b"OK...one\n[Yes]\r\n");
}

#[test]
fn a_byte_255_of_the_user_is_sent_twice_in_both_directions() {
    assert_eq!(answers(&[b"\xff\xff\xff\xffa\xff\xff\n"]), b"OK...\xff\xff\xff\xffa\xff\xff\n");
    let mut inner = Conversation::start(Telnet::new(Recorder::default()));
    inner.send(b"\xff\xff\xff\xffa\xff\xff\n");
    assert_eq!(inner.session.inner.heard, b"\xff\xffa\xff\n");
}

#[test]
fn a_greeting_is_encoded_too() {
    let conversation =
        Conversation::start(Telnet::new(Recorder { greeting: b"a\xff\xffb\xff", ..Recorder::default() }));
    assert_eq!(conversation.written, b"a\xff\xff\xff\xffb\xff\xff");
}

#[test]
fn pending_output_is_not_encoded_again() {
    let mut output = Buffer::with_capacity(64).expect("a page of memory");
    output.push(b"\xff\xff");
    Telnet::new(Recorder { greeting: b"\xff", ..Recorder::default() }).greet(&mut output);
    assert_eq!(output.unread(), b"\xff\xff\xff\xff");
}

#[test]
fn iac_before_a_byte_that_is_no_command_is_dropped_alone() {
    assert_eq!(answers(&[b"\xffhello\n"]), b"OK...hello\n");
}

#[test]
fn line_endings_stay_as_they_are() {
    assert_eq!(answers(&[b"a\r\nb\r\0c\n"]), b"OK...a\r\nOK...b\r\0c\n");
}

#[test]
fn a_subnegotiation_of_any_length_is_skipped() {
    let parameters = vec![b'\n'; 3 * INPUT_BUFFER];
    assert_eq!(
        answers(&[b"he", &[IAC, SB, 24], &parameters, &[IAC, IAC, SE, IAC, DO, 1], &[IAC, SE], b"llo\n"]),
        b"OK...hello\n"
    );
}

#[test]
fn a_buffer_full_of_commands_neither_stalls_nor_ends_the_session() {
    let no_operations = [IAC, 241].repeat(INPUT_BUFFER);
    assert_eq!(answers(&[b"he", &no_operations, b"llo\n"]), b"OK...hello\n");
    let requests = [IAC, DO, 1].repeat(INPUT_BUFFER);
    assert_eq!(answers(&[&requests]), [IAC, WONT, 1].repeat(INPUT_BUFFER));
}

#[test]
fn a_line_longer_than_the_input_buffer_is_answered_in_pieces() {
    let (half, rest) = (vec![b'a'; INPUT_BUFFER / 2], b"bc\n");
    assert_eq!(
        answers(&[&half, &[IAC, 241], &half, rest]),
        [PREFIX, &half, &half, PREFIX, rest].concat()
    );
}

#[test]
fn the_end_of_input_comes_after_the_input_before_it() {
    let mut conversation = Conversation::start(ok());
    conversation.session.end_of_input();
    conversation.send(&[b"half a ", &[IAC, AYT][..], b"line"].concat());
    assert_eq!(conversation.end(), [BANNER, YES, b"OK...half a line"].concat());
}

#[test]
fn a_command_cut_off_by_the_end_of_input_is_dropped() {
    for command in [&[IAC][..], &[IAC, DO], &[IAC, SB, 24], &[IAC, SB, 24, IAC]] {
        assert_eq!(answers(&[b"rest", command]), b"OK...rest");
    }
}

#[test]
fn close_ends_the_session_with_the_answer_before_it() {
    let mut conversation =
        Conversation::start(Telnet::new(Recorder { last: Some(b'q'), ..Recorder::default() }));
    conversation.send(b"abq");
    assert!(conversation.is_closed);
    assert_eq!(conversation.written, b"bye \xff\xff");
}

#[test]
#[should_panic(expected = "consumed 3 of 2 bytes")]
fn a_session_cannot_consume_more_than_its_decoded_input() {
    struct Greedy;
    impl Session for Greedy {
        fn answer(&mut self, input: &mut [u8], _: &mut Buffer) -> Step {
            Step::Consumed(input.len() + 1)
        }
    }
    Conversation::start(Telnet::new(Greedy)).receive(&[b"ab", &[IAC, AYT][..]].concat());
}

#[test]
fn two_layers_decode_twice() {
    let mut conversation = Conversation::start(Telnet::new(ok()));
    let inner_request = [IAC, IAC, DO, 1];
    conversation.send(&[b"he", &[IAC, 241][..], &inner_request, b"ll", &[IAC, AYT], b"o\n"].concat());
    let inner_reply = [IAC, IAC, WONT, 1];
    assert_eq!(conversation.end(), [BANNER, &inner_reply, YES, b"OK...hello\n"].concat());
}


proptest! {
    #[test]
    fn any_cut_of_any_input_gives_the_same_answers(
        parts in vec(part(), 0..20), sizes in vec(prop_oneof![1..4_usize, 1..40_000_usize], 1..8),
    ) {
        let (input, answers) = (encoded(&parts), expected(&parts));
        let mut conversation = Conversation::start(ok());
        let (mut rest, mut sizes) = (&input[..], sizes.iter().cycle());
        while let (Some(&size), false) = (sizes.next(), rest.is_empty()) {
            let (chunk, behind) = rest.split_at(size.min(rest.len()));
            conversation.send(chunk);
            rest = behind;
        }
        prop_assert_eq!(conversation.end(), answers);
    }
}

/// A part of what a client sends.
#[derive(Debug, Clone)]
enum Part {
    Text(Vec<u8>),
    Run(u8, usize),
    Command(u8),
    Negotiation(u8, u8),
    Subnegotiation(Vec<u8>),
}

fn part() -> impl Strategy<Value = Part> {
    let byte = prop_oneof![Just(b'\n'), Just(IAC), Just(DO), Just(SE), any::<u8>()].boxed();
    prop_oneof![
        vec(byte.clone(), 0..10).prop_map(Part::Text),
        (any::<u8>(), 0..20_000_usize).prop_map(|(byte, length)| Part::Run(byte, length)),
        (SE..SB).prop_map(Part::Command),
        (WILL..=DONT, byte.clone()).prop_map(|(verb, option)| Part::Negotiation(verb, option)),
        vec(byte, 0..10).prop_map(Part::Subnegotiation),
    ]
}

/// The parts as a client sends them.
fn encoded(parts: &[Part]) -> Vec<u8> {
    let mut input = Vec::new();
    for part in parts {
        match part {
            Part::Text(text) => input.extend(doubled(text)),
            Part::Run(byte, length) => input.extend(doubled(&vec![*byte; *length])),
            Part::Command(command) => input.extend([IAC, *command]),
            Part::Negotiation(verb, option) => input.extend([IAC, *verb, *option]),
            Part::Subnegotiation(parameters) => {
                input.extend([&[IAC, SB], &doubled(parameters)[..], &[IAC, SE]].concat());
            }
        }
    }
    input
}

/// What a client gets that sends these parts, then ends its direction.
fn expected(parts: &[Part]) -> Vec<u8> {
    let (mut answers, mut line) = (BANNER.to_vec(), Vec::new());
    for part in parts {
        let text = match part {
            Part::Text(text) => text.clone(),
            Part::Run(byte, length) => vec![*byte; *length],
            Part::Command(_) | Part::Negotiation(..) | Part::Subnegotiation(_) => Vec::new(),
        };
        for byte in text {
            line.push(byte);
            if byte == b'\n' || line.len() == INPUT_BUFFER {
                answers.extend([PREFIX, &doubled(&mem::take(&mut line))].concat());
            }
        }
        match *part {
            Part::Command(AYT) => answers.extend(YES),
            Part::Negotiation(DO, TIMING_MARK) => answers.extend([IAC, WILL, TIMING_MARK]),
            Part::Negotiation(DO, option) => answers.extend([IAC, WONT, option]),
            Part::Negotiation(WILL, option) => answers.extend([IAC, DONT, option]),
            _ => {}
        }
    }
    if !line.is_empty() {
        answers.extend([PREFIX, &doubled(&line)].concat());
    }
    answers
}

fn doubled(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().flat_map(|&byte| if byte == IAC { vec![IAC, IAC] } else { vec![byte] }).collect()
}

fn ok() -> Telnet<OkSession> {
    Telnet::new(OkSession::new(Framing::Lines))
}

/// What a client gets behind the banner that sends these parts and ends its direction. It is the same however the
/// network cuts the input.
fn answers(parts: &[&[u8]]) -> Vec<u8> {
    let input = parts.concat();
    let of_chunks = |size: usize| {
        let mut conversation = Conversation::start(ok());
        input.chunks(size).for_each(|chunk| conversation.send(chunk));
        conversation.end().split_off(BANNER.len())
    };
    let whole = of_chunks(input.len());
    assert_eq!(of_chunks(1), whole, "byte by byte");
    whole
}

/// A session that remembers what it heard, and can say goodbye.
#[derive(Default)]
struct Recorder {
    greeting: &'static [u8],
    heard: Vec<u8>,
    last: Option<u8>,
}

impl Session for Recorder {
    fn greet(&mut self, output: &mut Buffer) {
        output.push(self.greeting);
    }

    fn answer(&mut self, input: &mut [u8], output: &mut Buffer) -> Step {
        self.heard.extend_from_slice(input);
        if self.last.is_some() && self.last == input.last().copied() {
            output.push(b"bye \xff");
            return Step::Close;
        }
        Step::Consumed(input.len())
    }
}
