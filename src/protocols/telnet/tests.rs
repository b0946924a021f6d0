use std::iter;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::config::INPUT_BUFFER;
use crate::conversation::Conversation;
use crate::protocols::{BANNER, Framing, OkSession, PREFIX};
use crate::session::{AtDeadline, Timer};

/// The banner as it goes out.
const BANNER_LINE: &[u8] = b"Welcome to the server. Type something and hit enter\r\n";

#[test]
fn commands_are_taken_out_of_the_text() {
    // No operation, data mark, break, interrupt, abort output, erase character, erase line, go ahead, and an SE
    // that ends nothing.
    for command in [241, 242, 243, 244, 245, 247, 248, 249, SE] {
        assert_eq!(answers(&[b"he", &[IAC, command], b"llo\r\n"]), b"OK...hello\r\n", "{command}");
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
        answers(&[b"one\r\ntwo\r\nthr", interrupt, b"ee\r\n"]),
        [b"OK...one\r\nOK...two\r\n", &[IAC, WILL, TIMING_MARK][..], b"OK...three\r\n"].concat()
    );
}

#[test]
fn are_you_there_has_an_answer_that_the_user_can_see() {
    assert_eq!(answers(&[b"one\r\n", &[IAC, AYT]]), b"OK...one\r\n[Yes]\r\n");
}

/// Says goodbye, ends its output, and reads on.
struct Half(bool);

impl Session for Half {
    fn answer(&mut self, input: &mut [u8], output: &mut Buffer) -> Step {
        if !mem::replace(&mut self.0, true) {
            output.push(b"bye\n");
            return Step::EndOutput;
        }
        if input.is_empty() { Step::NeedInput } else { Step::Consumed(input.len()) }
    }
}

#[test]
fn commands_behind_the_end_of_output_get_no_reply() {
    for command in [&[IAC, DO, 1][..], &[IAC, WILL, 1], &[IAC, AYT], &[IAC, DO, TIMING_MARK, b'a', IAC, AYT]]
    {
        let mut conversation = Conversation::start(Telnet::new(Half(false)));
        conversation.send(&[command, b"hello", command].concat());
        conversation.end_input();
        assert_eq!(conversation.received(), b"bye\r\n");
        assert_eq!(conversation.ended(), Some(Reason::Finished));
    }
}

/// The request comes before the session ends its output, and has no reply yet.
#[test]
fn a_command_before_the_end_of_output_stays_without_a_reply() {
    struct Last;
    impl Session for Last {
        fn answer(&mut self, input: &mut [u8], _output: &mut Buffer) -> Step {
            match &*input {
                [] => Step::NeedInput,
                b"x" => Step::EndOutput,
                _ => Step::Consumed(1),
            }
        }
    }
    let mut conversation = Conversation::start(Telnet::new(Last));
    conversation.send(&[b"x", &[IAC, AYT][..], b"hello"].concat());
    conversation.end_input();
    assert_eq!((conversation.received(), conversation.ended()), (Vec::new(), Some(Reason::Finished)));
}

#[test]
fn a_byte_255_of_the_user_is_sent_twice_in_both_directions() {
    assert_eq!(answers(&[b"\xff\xff\xff\xffa\xff\xff\r\n"]), b"OK...\xff\xff\xff\xffa\xff\xff\r\n");
    assert_eq!(heard(b"\xff\xff\xff\xffa\xff\xff\n"), b"\xff\xffa\xff\n");
}

#[test]
fn iac_before_a_byte_that_is_no_command_is_dropped_alone() {
    assert_eq!(answers(&[b"\xffhello\r\n"]), b"OK...hello\r\n");
}

/// RFC 1123, 3.3.1: CR LF and CR NUL both end a line. RFC 854: no other NUL means anything.
#[test]
fn cr_nul_reaches_the_session_as_cr_lf_and_no_other_byte_is_changed() {
    assert_eq!(answers(&[b"hello\r\0"]), b"OK...hello\r\n");
    assert_eq!(answers(&[b"a\r\0\r\0b\r\n"]), b"OK...a\r\nOK...\r\nOK...b\r\n");
    assert_eq!(heard(b"\0a\0\r\r\0\0\rb\n\r\n"), b"\0a\0\r\r\n\0\rb\n\r\n");
    assert_eq!(heard(b"a\r\xff\xf1\0b"), b"a\r\nb", "a command between the two is no text");
    assert_eq!(heard(b"a\r\xff\xff\0b"), b"a\r\xff\0b");
}

#[test]
fn cr_nul_is_seen_in_two_packets_even_if_the_session_has_taken_the_cr() {
    let mut conversation = Conversation::start(Telnet::new(OkSession::new(Framing::Chunks)));
    for packet in [b"a\r", b"\0b"] {
        conversation.send(packet);
    }
    assert_eq!(conversation.received(), [BANNER_LINE, b"OK...a\rOK...\r\nb"].concat());
}

/// RFC 854: a terminal that gets LF alone stays in its column.
#[test]
fn each_lf_goes_out_as_cr_lf() {
    assert_eq!(answers(&[b"hello\n"]), b"OK...hello\r\n");
    assert_eq!(sent([&b"a\n\nb\r\nc\n\r\n"[..]]), b"a\r\n\r\nb\r\nc\r\n\r\n");
    assert_eq!(sent([&b"\n"[..], b"\r\r\n", b"\n"]), b"\r\n\r\r\n\r\n");
}

#[test]
fn an_lf_behind_the_cr_of_the_answer_before_stays_as_it_is() {
    assert_eq!(sent([&b"a\r"[..], b"", b"\nb\n"]), b"a\r\nb\r\n");
}

#[test]
fn the_last_byte_of_a_reply_is_no_cr_although_the_option_has_its_number() {
    let mut conversation = Conversation::start(Telnet::new(Script::default()));
    conversation.send(&[&b"a\r"[..], &[IAC, DO, b'\r'], b"\n"].concat());
    assert_eq!(conversation.received(), [&b"a\r"[..], &[IAC, WONT, b'\r'], b"\r\n"].concat());
}

#[test]
fn a_greeting_is_encoded() {
    let mut conversation = Conversation::start(Telnet::new(Script::greeting(b"a\xff\xffb\n\xff")));
    assert_eq!(conversation.received(), b"a\xff\xff\xff\xffb\r\n\xff\xff");
}

#[test]
fn the_last_word_is_encoded() {
    let mut conversation =
        Conversation::start(Telnet::new(Script { word: b"bye\n\xff", ..Script::default() }));
    conversation.end();
    assert_eq!(conversation.received(), b"bye\r\n\xff\xff");
    conversation.end_input();
    assert_eq!(conversation.ended(), Some(Reason::Ended));
}

#[test]
fn a_subnegotiation_is_skipped() {
    let parameters = [b'\n'; 100];
    assert_eq!(
        answers(&[b"he", &[IAC, SB, 24], &parameters, &[IAC, IAC, DO, 1], &[IAC, SE], b"llo\r\n"]),
        b"OK...hello\r\n"
    );
}

/// Clients forget the end: `IAC SB NAWS 0 80 0 24`, and then what the user types.
#[test]
fn another_command_ends_a_subnegotiation_and_is_obeyed() {
    let size = &[IAC, SB, 31, 0, 80, 0, 24];
    assert_eq!(answers(&[size, b"lost\r\n", &[IAC, DO, 1], b"hello\r\n"]), b"\xff\xfc\x01OK...hello\r\n");
    assert_eq!(answers(&[size, &[IAC, AYT], b"hello\r\n"]), b"[Yes]\r\nOK...hello\r\n");
    assert_eq!(answers(&[size, size, &[IAC, SE], b"hello\r\n"]), b"OK...hello\r\n");
    assert_eq!(answers(&[size, b"\xffhello\r\n"]), b"OK...hello\r\n");
}

#[test]
fn a_subnegotiation_that_never_ends_is_text_again_after_its_longest_length() {
    let longest = usize::from(LONGEST_SUBNEGOTIATION);
    for (length, end) in [(longest, &[][..]), (longest, &[IAC, SE]), (longest - 1, &[IAC, SE])] {
        let parameters = vec![b'x'; length];
        assert_eq!(answers(&[b"he", &[IAC, SB], &parameters, end, b"llo\r\n"]), b"OK...hello\r\n");
    }
    // A byte 255 of the parameters counts once.
    assert_eq!(answers(&[&[IAC, SB], &[IAC; 2].repeat(longest), &[IAC, AYT]]), YES);
}

#[test]
fn a_buffer_full_of_commands_neither_stalls_nor_ends_the_session() {
    let no_operations = [IAC, 241].repeat(INPUT_BUFFER);
    assert_eq!(answers(&[b"he", &no_operations, b"llo\r\n"]), b"OK...hello\r\n");
    let requests = [IAC, DO, 1].repeat(INPUT_BUFFER);
    assert_eq!(answers(&[&requests]), [IAC, WONT, 1].repeat(INPUT_BUFFER));
}

#[test]
fn a_line_longer_than_the_input_buffer_is_answered_in_pieces() {
    let (half, rest) = (vec![b'a'; INPUT_BUFFER / 2], b"bc\r\n");
    assert_eq!(answers(&[&half, &[IAC, 241], &half, rest]), [PREFIX, &half, &half, PREFIX, rest].concat());
}

#[test]
fn the_largest_answer_has_room_for_all_that_the_layer_adds() {
    struct Longest(u8);
    impl Session for Longest {
        fn answer(&mut self, _: &mut [u8], output: &mut Buffer) -> Step {
            output.push(&vec![self.0; self.sizes().answer]);
            Step::NeedInput
        }
    }
    for byte in [b'\n', IAC] {
        let mut telnet = Telnet::new(Longest(byte));
        let mut output = Buffer::with_capacity(telnet.sizes().answer).expect("memory");
        assert_eq!(telnet.answer(&mut [IAC, AYT], &mut output), Step::More);
        assert!(output.unread().ends_with(&[&[byte], YES].concat()));
    }
}

#[test]
fn the_end_of_input_comes_after_the_input_before_it() {
    assert_eq!(answers(&[b"half a ", &[IAC, AYT], b"line"]), [YES, b"OK...half a line"].concat());
}

#[test]
fn the_session_is_told_a_stop_from_a_clients_end() {
    let mut conversation = Conversation::start(ok());
    conversation.send(b"one\r\nhalf a line");
    conversation.stop();
    assert_eq!(conversation.received(), [BANNER_LINE, b"OK...one\r\n"].concat());
    assert!(conversation.has_output_ended());
}

#[test]
fn a_command_cut_off_by_the_end_of_input_is_dropped() {
    for command in [&[IAC][..], &[IAC, DO], &[IAC, SB, 24], &[IAC, SB, 24, IAC]] {
        assert_eq!(answers(&[b"rest", command]), b"OK...rest");
    }
}

#[test]
fn close_ends_the_session_with_the_answer_before_it() {
    let mut conversation = Conversation::start(Telnet::new(Script { last: Some(b'q'), ..Script::default() }));
    conversation.send(&[b"abq", &[IAC, AYT][..]].concat());
    assert_eq!(conversation.received(), b"abq");
    assert!(conversation.has_output_ended());
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
    let mut output = Buffer::with_capacity(64).expect("a page of memory");
    Telnet::new(Greedy).answer(&mut [b'a', b'b', IAC, AYT], &mut output);
}

#[test]
fn two_layers_decode_twice() {
    let mut conversation = Conversation::start(Telnet::new(ok()));
    let inner_request = [IAC, IAC, DO, 1];
    conversation.send(&[b"he", &[IAC, 241][..], &inner_request, b"ll", &[IAC, AYT], b"o\r\n"].concat());
    let inner_reply = [IAC, IAC, WONT, 1];
    assert_eq!(conversation.received(), [BANNER_LINE, &inner_reply, YES, b"OK...hello\r\n"].concat());
}

/// A session that waits for its answer, and gets other wakes and a deadline meanwhile.
#[test]
fn the_layer_swallows_no_wake_and_no_deadline() {
    let mut conversation = Conversation::start(Telnet::new(Script::default()));
    conversation.session().expect("it is open").inner.waits = true;
    conversation.send(&[b"a", &[IAC, AYT][..], b"b"].concat());
    assert_eq!(conversation.deadline(), Some(Duration::from_secs(1)));
    assert_eq!(conversation.received(), b"", "the reply comes behind the answer to `a`");
    let mut tell = |news: &'static [u8]| {
        conversation.session().expect("it is open").inner.news = news;
        conversation.wake();
        conversation.received()
    };
    assert_eq!(tell(b"news\n"), b"news\r\n");
    assert_eq!(tell(b""), b"");
    conversation.session().expect("it is open").inner.waits = false;
    conversation.pass_deadline();
    assert_eq!(conversation.received(), b"late\r\na[Yes]\r\nb");
    assert_eq!(conversation.deadline(), None);
}

#[test]
fn a_wake_reaches_the_session_in_the_middle_of_a_command() {
    for input in [&b"a"[..], &[IAC], &[IAC, DO], &[IAC, SB, 1], &[b'a', IAC, 241, IAC, WILL]] {
        let mut conversation = Conversation::start(Telnet::new(Script::default()));
        conversation.send(input);
        conversation.received();
        conversation.session().expect("it is open").inner.news = b"news\n";
        conversation.wake();
        assert_eq!(conversation.received(), b"news\r\n", "{input:?}");
    }
}

proptest! {
    #[test]
    fn any_cut_of_any_input_gives_the_answers_of_a_plain_model(
        parts in vec(part(), 0..20), sizes in vec(prop_oneof![1..4_usize, 1..40_000_usize], 1..8),
    ) {
        let input = parts.concat();
        let mut conversation = Conversation::start(ok());
        let (mut rest, mut sizes) = (&input[..], sizes.iter().cycle());
        while let (Some(&size), false) = (sizes.next(), rest.is_empty()) {
            let (chunk, behind) = rest.split_at(size.min(rest.len()));
            conversation.send(chunk);
            rest = behind;
        }
        conversation.end_input();
        prop_assert!(conversation.received() == expected(&input));
        prop_assert_eq!(conversation.ended(), Some(Reason::Finished));
    }

    /// With output that is pending, and with output that has left the buffer meanwhile.
    #[test]
    fn the_encoder_agrees_with_a_plain_model(
        pushes in vec((vec(byte(), 0..40), 0..90_usize), 0..20),
    ) {
        let mut output = Buffer::with_capacity(180).expect("a page of memory");
        let (mut telnet, mut sent) = (Telnet::new(Script::default()), Vec::new());
        let mut model = Terminal::default();
        for (text, written) in pushes {
            telnet.inner.greeting.clone_from(&text);
            telnet.greet(&mut output);
            model.say(&text);
            // At most 80 bytes stay pending: 180 have room for 80 more, and 20 beside.
            let written = written.max(output.len().saturating_sub(80)).min(output.len());
            sent.extend_from_slice(&output.unread()[..written]);
            output.consume(written);
        }
        sent.extend_from_slice(output.unread());
        prop_assert_eq!(sent, model.sent);
    }
}

/// The bytes that have a meaning, and others.
fn byte() -> BoxedStrategy<u8> {
    const SPECIAL: [u8; 11] = [b'\n', b'\r', 0, IAC, IAC, SB, SE, WILL, DO, AYT, TIMING_MARK];
    prop_oneof![prop::sample::select(&SPECIAL[..]), any::<u8>()].boxed()
}

/// A part of what a client sends: any bytes, or bytes as a client means them.
fn part() -> impl Strategy<Value = Vec<u8>> {
    let doubled = |text: Vec<u8>| -> Vec<u8> {
        text.into_iter().flat_map(|byte| iter::repeat_n(byte, 1 + usize::from(byte == IAC))).collect()
    };
    prop_oneof![
        vec(byte(), 0..10),
        vec(byte(), 0..10).prop_map(doubled),
        (any::<u8>(), 0..20_000_usize).prop_map(|(byte, length)| vec![byte; length]),
        (SE..SB).prop_map(|command| vec![IAC, command]),
        (WILL..=DONT, byte()).prop_map(|(verb, option)| vec![IAC, verb, option]),
        // With its end, or without.
        (vec(byte(), 0..10), any::<bool>()).prop_map(move |(parameters, has_end)| {
            let end: &[u8] = if has_end { &[IAC, SE] } else { &[] };
            [&[IAC, SB], &doubled(parameters)[..], end].concat()
        }),
    ]
}

/// What a client gets that sends this input, then ends its direction.
fn expected(input: &[u8]) -> Vec<u8> {
    let (mut rest, mut line, mut is_behind_cr) = (input, Vec::new(), false);
    let mut client = Terminal::default();
    client.say(BANNER);
    while !rest.is_empty() {
        let text;
        (text, rest) = match *rest {
            [IAC, SB, ref parameters @ ..] => (None, behind_subnegotiation(parameters)),
            [IAC, WILL..=DONT] => (None, &[][..]),
            [IAC, verb @ WILL..=DONT, option, ref rest @ ..] => {
                match (verb, option) {
                    (DO, TIMING_MARK) => client.reply(&[IAC, WILL, TIMING_MARK]),
                    (DO, _) => client.reply(&[IAC, WONT, option]),
                    (WILL, _) => client.reply(&[IAC, DONT, option]),
                    _ => {}
                }
                (None, rest)
            }
            [IAC, AYT, ref rest @ ..] => {
                client.reply(YES);
                (None, rest)
            }
            [IAC, IAC, ref rest @ ..] => (Some(IAC), rest),
            [IAC, SE..=249, ref rest @ ..] | [IAC, ref rest @ ..] => (None, rest),
            [byte, ref rest @ ..] => (Some(byte), rest),
            [] => unreachable!("it is not empty"),
        };
        let Some(byte) = text else { continue };
        line.push(if is_behind_cr && byte == 0 { b'\n' } else { byte });
        is_behind_cr = byte == b'\r';
        if line.ends_with(b"\n") || line.len() == INPUT_BUFFER {
            client.say(&[PREFIX, &mem::take(&mut line)].concat());
        }
    }
    if !line.is_empty() {
        client.say(&[PREFIX, &line].concat());
    }
    client.sent
}

/// What follows the subnegotiation with these parameters.
fn behind_subnegotiation(mut rest: &[u8]) -> &[u8] {
    for _ in 0..LONGEST_SUBNEGOTIATION {
        rest = match rest {
            [IAC, SE, behind @ ..] => return behind,
            [IAC, IAC, behind @ ..] => behind,
            [IAC, ..] | [] => return rest,
            [_, behind @ ..] => behind,
        };
    }
    rest
}

/// What a server sends to a telnet client, byte by byte.
#[derive(Default)]
struct Terminal {
    sent: Vec<u8>,
    is_behind_cr: bool,
}

impl Terminal {
    fn say(&mut self, text: &[u8]) {
        for &byte in text {
            match byte {
                IAC => self.sent.push(IAC),
                b'\n' if !self.is_behind_cr => self.sent.push(b'\r'),
                _ => {}
            }
            self.sent.push(byte);
            self.is_behind_cr = byte == b'\r';
        }
    }

    fn reply(&mut self, command: &[u8]) {
        self.sent.extend_from_slice(command);
        self.is_behind_cr = false;
    }
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
        conversation.end_input();
        assert_eq!(conversation.ended(), Some(Reason::Finished));
        conversation.received().split_off(BANNER_LINE.len())
    };
    let whole = of_chunks(input.len());
    assert_eq!(of_chunks(1), whole, "byte by byte");
    whole
}

/// What the inner session hears if a client sends `input`, however the network cuts it.
fn heard(input: &[u8]) -> Vec<u8> {
    let of_chunks = |size: usize| {
        let mut conversation = Conversation::start(Telnet::new(Script::default()));
        input.chunks(size).for_each(|chunk| conversation.send(chunk));
        mem::take(&mut conversation.session().expect("it is open").inner.heard)
    };
    let whole = of_chunks(input.len());
    assert_eq!(of_chunks(1), whole, "byte by byte");
    whole
}

/// What a client gets if the inner session says these texts one after the other.
fn sent<const N: usize>(texts: [&'static [u8]; N]) -> Vec<u8> {
    let mut conversation = Conversation::start(Telnet::new(Script::default()));
    for text in texts {
        conversation.session().expect("it is open").inner.news = text;
        conversation.wake();
    }
    conversation.received()
}

/// A session that remembers and repeats what it hears, and says what the test has prepared.
#[derive(Default)]
struct Script {
    greeting: Vec<u8>,
    heard: Vec<u8>,
    /// It closes behind this byte.
    last: Option<u8>,
    /// It answers nothing yet, and has a deadline.
    waits: bool,
    has_timer: bool,
    is_late: bool,
    /// Said in the next turn.
    news: &'static [u8],
    /// Said if the server ends the session.
    word: &'static [u8],
}

impl Script {
    fn greeting(greeting: &[u8]) -> Self {
        Self { greeting: greeting.to_vec(), ..Self::default() }
    }
}

impl Session for Script {
    fn greet(&mut self, output: &mut Buffer) {
        output.push(&self.greeting);
    }

    fn answer(&mut self, input: &mut [u8], output: &mut Buffer) -> Step {
        output.push(mem::take(&mut self.news));
        if mem::take(&mut self.is_late) {
            output.push(b"late\n");
        }
        if self.waits {
            return Step::Wait;
        }
        output.push(input);
        self.heard.extend_from_slice(input);
        match input.last() {
            Some(last) if self.last == Some(*last) => Step::Close,
            _ => Step::Consumed(input.len()),
        }
    }

    fn ending(&mut self, _: Reason, output: &mut Buffer) {
        output.push(self.word);
    }

    fn timer(&mut self) -> Timer {
        if !self.waits || mem::replace(&mut self.has_timer, true) {
            return Timer::Keep;
        }
        Timer::Start(Duration::from_secs(1))
    }

    fn deadline(&mut self) -> AtDeadline {
        self.is_late = true;
        AtDeadline::GoOn
    }
}
