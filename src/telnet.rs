//! Telnet's commands, as a layer around any session: it takes them out of the input and refuses every option.
//!
//! ```text
//!   client:  I A C  I P      IAC DO x    h e l l o \r \n      input
//!                              │                              ▲ │ ▼
//!   Telnet:        (ignored)   └─► IAC WONT x     the inner session: hello\r\n
//! ```
//!
//! A telnet client mixes commands into what its user types (RFC 854). Each command starts with byte 255, which is named
//! IAC ("interpret as command"). A byte 255 of the user's own is sent twice.
//!
//! The commands are removed in place, so the layer needs no memory of its own:
//!
//! ```text
//!   0          decoded        decoded + gap        input.len()
//!   +-------------+------------------+-------------------+
//!   |   decoded   |       gap        |        raw        |
//!   +-------------+------------------+-------------------+
//!     the inner     left behind by      ◄── decoded and
//!   session's input    commands          moved to the left
//! ```
//!
//! Line endings stay as they are, in both directions: `\r\n`, and also `\r\0`, which means a carriage return alone
//! (RFC 854, "The NVT printer and keyboard").

use crate::buffer::Buffer;
use crate::session::{Session, Step};

/// Ends a subnegotiation.
const SE: u8 = 240;
/// "Are you there?"
const AYT: u8 = 246;
/// Starts a subnegotiation: parameters of an option.
const SB: u8 = 250;
const WILL: u8 = 251;
const WONT: u8 = 252;
const DO: u8 = 253;
const DONT: u8 = 254;
const IAC: u8 = 255;

/// The option with which a client asks how far the server has got (RFC 860).
const TIMING_MARK: u8 = 6;

/// The answer to "Are you there?": RFC 854 wants something that the user can see.
const YES: &[u8] = b"[Yes]\r\n";

/// A session with telnet clients. The inner session gets what the user typed, without telnet commands.
///
/// Every option is refused, with one answer for each request and none for anything else, so no negotiation can loop
/// (RFC 1143). The client then works as it does without negotiation: it echoes what its user types, and sends whole
/// lines. Only `DO TIMING-MARK` is granted. Debian's client sends it after Ctrl-C, and shows nothing before the reply.
///
/// The reply to a command comes after the answers to the input before the command, as RFC 860 requires.
#[derive(Debug)]
pub struct Telnet<S> {
    inner: S,
    state: State,
    /// How many bytes at the front of the input are decoded (bytes). They are the inner session's input.
    decoded: u32,
    /// How many bytes behind them are left over from commands (bytes).
    gap: u32,
    /// How many decoded bytes the inner session had when it asked for more. Without this it would search them again for
    /// each command with a reply.
    searched: Option<u32>,
    /// The input is complete, and the inner session does not know it yet.
    ended: bool,
}

/// Where in a command the raw input starts.
#[derive(Debug, Clone, Copy)]
enum State {
    Data,
    /// Behind IAC.
    Command,
    /// Behind IAC and WILL, WONT, DO or DONT. The option follows.
    Negotiation(u8),
    Subnegotiation,
    /// In a subnegotiation, behind IAC.
    SubnegotiationCommand,
    /// Behind "Are you there?", which has no answer yet.
    AreYouThere,
    /// Behind a request, which has no reply yet. The reply is IAC and these two bytes.
    Request([u8; 2]),
}

impl State {
    fn needs_reply(self) -> bool {
        matches!(self, Self::AreYouThere | Self::Request(_))
    }
}

impl<S> Telnet<S> {
    /// A layer around `inner`.
    pub fn new(inner: S) -> Self {
        Self { inner, state: State::Data, decoded: 0, gap: 0, searched: None, ended: false }
    }

    /// Decodes raw input up to the next command that needs a reply.
    fn decode(&mut self, input: &mut [u8]) {
        let mut decoded = self.decoded as usize;
        let mut raw = decoded + self.gap as usize;
        // Most input holds no command, and a search for IAC costs far less than decoding.
        if self.gap == 0 && matches!(self.state, State::Data) && !input[raw..].contains(&IAC) {
            self.decoded = to_u32(input.len());
            return;
        }
        while let Some(&byte) = input.get(raw) {
            self.state = match (self.state, byte) {
                (State::AreYouThere | State::Request(_), _) => break,
                (State::Data, IAC) => State::Command,
                // A byte below SE is no command. It is data, so only the IAC before it is lost.
                (State::Data, _) | (State::Command, IAC | ..SE) => {
                    input[decoded] = byte;
                    decoded += 1;
                    State::Data
                }
                (State::Command, WILL | WONT | DO | DONT) => State::Negotiation(byte),
                (State::Command, SB) => State::Subnegotiation,
                (State::Command, AYT) => State::AreYouThere,
                (State::Negotiation(DO), TIMING_MARK) => State::Request([WILL, TIMING_MARK]),
                (State::Negotiation(DO), option) => State::Request([WONT, option]),
                (State::Negotiation(WILL), option) => State::Request([DONT, option]),
                // No reply to a refusal of what never was on (RFC 1143).
                (State::Command | State::Negotiation(_), _) | (State::SubnegotiationCommand, SE) => {
                    State::Data
                }
                (State::Subnegotiation, IAC) => State::SubnegotiationCommand,
                (State::Subnegotiation | State::SubnegotiationCommand, _) => State::Subnegotiation,
            };
            raw += 1;
        }
        self.decoded = to_u32(decoded);
        self.gap = to_u32(raw - decoded);
    }

    /// Appends the reply to the command behind which decoding has stopped. Returns whether there was one.
    fn reply(&mut self, output: &mut Buffer) -> bool {
        match self.state {
            State::AreYouThere => output.push(YES),
            State::Request([verb, option]) => output.push(&[IAC, verb, option]),
            _ => return false,
        }
        self.state = State::Data;
        true
    }

    /// Moves the decoded bytes to the raw ones. Returns the size of the gap, which is in front of them now.
    fn close_gap(&mut self, input: &mut [u8]) -> usize {
        let gap = std::mem::take(&mut self.gap) as usize;
        if gap > 0 {
            input.copy_within(..self.decoded as usize, gap);
        }
        gap
    }
}

impl<S: Session> Session for Telnet<S> {
    /// All bytes of an answer may be 255.
    const LARGEST_ANSWER: usize = 2 * S::LARGEST_ANSWER + YES.len();

    fn greet(&mut self, output: &mut Buffer) {
        let pending = output.len();
        self.inner.greet(output);
        double_iac(output, pending);
    }

    fn answer(&mut self, input: &mut [u8], output: &mut Buffer) -> Step {
        self.decode(input);
        // Without a reply to make, all input is decoded.
        if self.ended && !self.state.needs_reply() {
            self.ended = false;
            self.searched = None;
            self.inner.end_of_input();
        }

        let pending = output.len();
        let step = if self.searched == Some(self.decoded) {
            Step::NeedInput
        } else {
            self.inner.answer(&mut input[..self.decoded as usize], output)
        };
        double_iac(output, pending);
        self.searched = None;
        match step {
            Step::Close => Step::Close,
            Step::Consumed(count) if count > 0 || output.len() > pending => {
                assert!(count <= self.decoded as usize, "consumed {count} of {} bytes", self.decoded);
                self.decoded -= to_u32(count);
                Step::Consumed(count)
            }
            Step::Consumed(_) | Step::NeedInput => {
                self.searched = Some(self.decoded);
                // Nothing before the command can be answered any more, so the reply is next.
                if self.reply(output) {
                    return Step::Consumed(0);
                }
                // All raw input is decoded. New input comes behind it, so the gap moves to the front and is consumed.
                match self.close_gap(input) {
                    0 => Step::NeedInput,
                    gap => Step::Consumed(gap),
                }
            }
        }
    }

    fn end_of_input(&mut self) {
        self.ended = true;
    }
}

/// Doubles each byte 255 in the output behind the first `pending` bytes, in place.
fn double_iac(output: &mut Buffer, pending: usize) {
    let end = output.len();
    if !output.unread()[pending..].contains(&IAC) {
        return;
    }
    for at in pending..end {
        if output.unread()[at] == IAC {
            output.push(&[IAC]);
        }
    }
    // The room for the copies is there. From the end on, each byte moves right by the number of copies before it.
    let bytes = output.unread_mut();
    let mut to = bytes.len();
    for from in (pending..end).rev() {
        if from + 1 == to {
            break;
        }
        let byte = bytes[from];
        let width = if byte == IAC { 2 } else { 1 };
        to -= width;
        bytes[to..][..width].fill(byte);
    }
}

fn to_u32(count: usize) -> u32 {
    count.try_into().expect("the input buffer is far smaller")
}

#[cfg(test)]
mod tests {
    use std::mem;

    use mio::Interest;
    use mio::net::TcpStream;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::config::INPUT_BUFFER;
    use crate::connection::Connection;
    use crate::ok::{BANNER, Framing, OkSession, PREFIX};

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
        inner.receive(b"\xff\xff\xff\xffa\xff\xff\n");
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
        conversation.receive(&[b"half a ", &[IAC, AYT][..], b"line"].concat());
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
        conversation.receive(b"abq");
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
        conversation.receive(&[b"he", &[IAC, 241][..], &inner_request, b"ll", &[IAC, AYT], b"o\n"].concat());
        let inner_reply = [IAC, IAC, WONT, 1];
        assert_eq!(conversation.end(), [BANNER, &inner_reply, YES, b"OK...hello\n"].concat());
    }

    #[test]
    fn an_idle_session_fits_in_128_bytes() {
        type Entry = Option<(Connection<TcpStream, Telnet<OkSession>>, Option<Interest>)>;
        assert!(mem::size_of::<Entry>() <= 128, "{} bytes", mem::size_of::<Entry>());
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
                conversation.receive(chunk);
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
            input.chunks(size).for_each(|chunk| conversation.receive(chunk));
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

    /// What a connection does with a session, without a socket. The output buffer has room for one answer only.
    struct Conversation<S> {
        session: S,
        input: Buffer,
        output: Buffer,
        written: Vec<u8>,
        is_closed: bool,
    }

    impl<S: Session> Conversation<S> {
        fn start(mut session: S) -> Self {
            let buffer = |size| Buffer::with_capacity(size).expect("some pages of memory");
            let (input, mut output) = (buffer(INPUT_BUFFER), buffer(S::LARGEST_ANSWER));
            session.greet(&mut output);
            let written = output.unread().to_vec();
            output.clear();
            Self { session, input, output, written, is_closed: false }
        }

        fn receive(&mut self, mut bytes: &[u8]) {
            while !bytes.is_empty() {
                self.input.read_from(&mut bytes).expect("an answered input buffer has room");
                self.answer();
            }
        }

        fn answer(&mut self) {
            while !self.is_closed {
                let step = self.session.answer(self.input.unread_mut(), &mut self.output);
                let is_silent = self.output.is_empty();
                self.written.extend_from_slice(self.output.unread());
                self.output.clear();
                match step {
                    Step::NeedInput => return,
                    Step::Consumed(0) if is_silent => return,
                    Step::Consumed(count) => self.input.consume(count),
                    Step::Close => self.is_closed = true,
                }
            }
        }

        /// Ends the client's direction. Returns all that was written.
        fn end(mut self) -> Vec<u8> {
            self.session.end_of_input();
            self.answer();
            self.written
        }
    }
}
