//! Telnet, as a layer around any session: it takes commands out of the input, refuses every option, and gives lines their
//! endings.
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
//! A line ends with CR LF on the way (RFC 854, "The NVT printer and keyboard"). An LF of the inner session that is not
//! behind a CR is sent as CR LF: a terminal that gets LF alone moves down, but not to the left. Clients end a line with
//! CR LF or with CR NUL, and a server must treat both in the same way (RFC 1123, 3.3.1). So CR NUL reaches the inner
//! session as CR LF.

use std::mem;

use memchr::{memchr2, memchr2_iter, memrchr2};

use crate::buffer::Buffer;
use crate::reason::Reason;
use crate::session::{EndOfInput, Session, Sizes, Step};

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

/// The longest subnegotiation (bytes). Behind so many bytes the input is text again: the client has forgotten the end.
/// Every option is refused, so no client has a reason to send a long one.
const LONGEST_SUBNEGOTIATION: u16 = 1024;

/// A session with telnet clients. The inner session gets what the user typed, without telnet commands.
///
/// Every option is refused, with one answer for each request and none for anything else, so no negotiation can loop
/// (RFC 1143). The client then works as it does without negotiation: it echoes what its user types, and sends whole
/// lines. Only `DO TIMING-MARK` is granted. Debian's client sends it after Ctrl-C, and shows nothing before the reply.
///
/// The reply to a command comes after the answers to the input before the command, as RFC 860 requires.
///
/// | from the client | to the inner session | | from the inner session | to the client |
/// |---|---|---|---|---|
/// | CR LF | CR LF | | LF | CR LF |
/// | CR NUL | CR LF | | CR LF | CR LF |
/// | CR alone, backspace, DEL | as it is | | CR alone | as it is |
/// | 255 255 | 255 | | 255 | 255 255 |
/// | a command | nothing | | | |
///
/// So the inner session ends its lines with LF, and takes the CR of a client's line off. Its largest answer is its own: the
/// layer has room for twice as much.
#[derive(Debug)]
pub struct Telnet<S> {
    inner: S,
    state: State,
    /// How many bytes at the front of the input are decoded (bytes). They are the inner session's input.
    decoded: u32,
    /// How many bytes behind them are left over from commands (bytes).
    gap: u32,
    /// The input is complete, and the inner session does not know it yet.
    end: Option<EndOfInput>,
    /// The inner session has ended its output: commands get no replies any more.
    has_ended_output: bool,
    /// The last byte of the decoded input is CR.
    has_read_cr: bool,
    /// The last byte of the output is CR.
    has_written_cr: bool,
}

/// Where in a command the raw input starts.
#[derive(Debug, Clone, Copy)]
enum State {
    Data,
    /// Behind IAC.
    Command,
    /// Behind IAC and WILL, WONT, DO or DONT. The option follows.
    Negotiation(u8),
    /// In a subnegotiation, which has at most so many bytes more.
    Subnegotiation(u16),
    /// In a subnegotiation, behind IAC.
    SubnegotiationCommand(u16),
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
        Self {
            inner,
            state: State::Data,
            decoded: 0,
            gap: 0,
            end: None,
            has_ended_output: false,
            has_read_cr: false,
            has_written_cr: false,
        }
    }

    /// Decodes raw input up to the next command that needs a reply.
    fn decode(&mut self, input: &mut [u8]) {
        let mut decoded = self.decoded as usize;
        let mut raw = decoded + self.gap as usize;
        // Most input holds neither IAC nor NUL, and a search for them costs far less than decoding.
        if self.gap == 0 && matches!(self.state, State::Data) && memchr2(IAC, 0, &input[raw..]).is_none() {
            self.decoded = to_u32(input.len());
            self.has_read_cr = input[raw..].last().map_or(self.has_read_cr, |&byte| byte == b'\r');
            return;
        }
        while let Some(&byte) = input.get(raw) {
            self.state = match (self.state, byte) {
                (State::AreYouThere | State::Request(_), _) => break,
                (State::Data, IAC) => State::Command,
                // A byte below SE is no command. It is data, so only the IAC before it is lost.
                (State::Data, _)
                | (State::Command, IAC)
                | (State::Command | State::SubnegotiationCommand(_), ..SE) => {
                    input[decoded] = if self.has_read_cr && byte == 0 { b'\n' } else { byte };
                    self.has_read_cr = byte == b'\r';
                    decoded += 1;
                    State::Data
                }
                (State::Subnegotiation(left), IAC) => State::SubnegotiationCommand(left),
                (State::Subnegotiation(1), _) | (State::SubnegotiationCommand(1), IAC) => State::Data,
                (State::Subnegotiation(left), _) | (State::SubnegotiationCommand(left), IAC) => {
                    State::Subnegotiation(left - 1)
                }
                // A command in a subnegotiation ends it: the client has forgotten the end.
                (State::Command | State::SubnegotiationCommand(_), command) => match command {
                    WILL | WONT | DO | DONT => State::Negotiation(command),
                    SB => State::Subnegotiation(LONGEST_SUBNEGOTIATION),
                    AYT => State::AreYouThere,
                    _ => State::Data,
                },
                (State::Negotiation(DO), TIMING_MARK) => State::Request([WILL, TIMING_MARK]),
                (State::Negotiation(DO), option) => State::Request([WONT, option]),
                (State::Negotiation(WILL), option) => State::Request([DONT, option]),
                // No reply to a refusal of what never was on (RFC 1143).
                (State::Negotiation(_), _) => State::Data,
            };
            self.skip_reply_after_end();
            raw += 1;
        }
        self.decoded = to_u32(decoded);
        self.gap = to_u32(raw - decoded);
    }

    /// Behind the end of output nothing is appended.
    fn skip_reply_after_end(&mut self) {
        if self.has_ended_output && self.state.needs_reply() {
            self.state = State::Data;
        }
    }

    /// Appends the reply to the command behind which decoding has stopped. Returns whether there was one.
    fn reply(&mut self, output: &mut Buffer) -> bool {
        match self.state {
            State::AreYouThere => output.push(YES),
            State::Request([verb, option]) => output.push(&[IAC, verb, option]),
            _ => return false,
        }
        self.has_written_cr = false;
        self.state = State::Data;
        true
    }

    /// Moves the decoded bytes to the raw ones. Returns the size of the gap, which is in front of them now.
    fn close_gap(&mut self, input: &mut [u8]) -> usize {
        let gap = mem::take(&mut self.gap) as usize;
        if gap > 0 {
            input.copy_within(..self.decoded as usize, gap);
        }
        gap
    }

    /// Encodes what the inner session has appended behind the first `pending` bytes, in place: each IAC is doubled, and
    /// each LF that is not behind a CR becomes CR LF.
    fn encode(&mut self, output: &mut Buffer, pending: usize) {
        let appended = &output.unread()[pending..];
        let Some(&last) = appended.last() else { return };
        let had_written_cr = mem::replace(&mut self.has_written_cr, last == b'\r');
        // What is added before the byte at `index`.
        let addition = |bytes: &[u8], index: usize| {
            let is_behind_cr = if index == 0 { had_written_cr } else { bytes[index - 1] == b'\r' };
            match bytes[index] {
                IAC => Some(IAC),
                b'\n' if !is_behind_cr => Some(b'\r'),
                _ => None,
            }
        };
        let has_addition = |&index: &usize| addition(appended, index).is_some();
        let mut added = memchr2_iter(IAC, b'\n', appended).filter(has_addition).count();
        let mut end = appended.len();
        (0..added).for_each(|_| output.push(b"\0"));
        let bytes = &mut output.unread_mut()[pending..];
        // From the end on, each piece moves right by the number of bytes that are added before it.
        let mut searched = end;
        while added > 0
            && let Some(index) = memrchr2(IAC, b'\n', &bytes[..searched])
        {
            searched = index;
            if let Some(addition) = addition(bytes, index) {
                bytes.copy_within(index..end, index + added);
                added -= 1;
                bytes[index + added] = addition;
                end = index;
            }
        }
    }
}

impl<S: Session> Session for Telnet<S> {
    fn inner(&mut self) -> Option<&mut dyn Session> {
        Some(&mut self.inner)
    }

    fn sizes(&mut self) -> Sizes {
        let inner = self.inner.sizes();
        // All bytes of an answer may be 255.
        let answer = inner.answer.saturating_mul(2).saturating_add(YES.len());
        Sizes { answer, ..inner }
    }

    fn greet(&mut self, output: &mut Buffer) {
        let pending = output.len();
        self.inner.greet(output);
        self.encode(output, pending);
    }

    fn answer(&mut self, input: &mut [u8], output: &mut Buffer) -> Step {
        self.decode(input);
        // Without a reply to make, all input is decoded.
        if !self.state.needs_reply()
            && let Some(end) = self.end.take()
        {
            self.inner.end_of_input(end);
        }
        let pending = output.len();
        let step = self.inner.answer(&mut input[..self.decoded as usize], output);
        self.encode(output, pending);
        match step {
            Step::Consumed(count) if count > 0 => {
                assert!(count <= self.decoded as usize, "consumed {count} of {} bytes", self.decoded);
                self.decoded -= to_u32(count);
                step
            }
            Step::Consumed(_) | Step::NeedInput => {
                // Nothing before the command can be answered any more, so the reply is next.
                if self.reply(output) {
                    return Step::More;
                }
                // All raw input is decoded. New input comes behind it, so the gap moves to the front and is consumed.
                match self.close_gap(input) {
                    0 => Step::NeedInput,
                    gap => Step::Consumed(gap),
                }
            }
            _ => {
                self.has_ended_output |= step == Step::EndOutput;
                self.skip_reply_after_end();
                step
            }
        }
    }

    fn end_of_input(&mut self, end: EndOfInput) {
        self.end = Some(end);
    }

    fn ending(&mut self, reason: Reason, output: &mut Buffer) {
        let pending = output.len();
        self.inner.ending(reason, output);
        self.encode(output, pending);
    }
}

fn to_u32(count: usize) -> u32 {
    count.try_into().expect("the input buffer is far smaller")
}

#[cfg(test)]
mod tests;
