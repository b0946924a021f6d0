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

use std::io;
use std::mem;

use crate::buffer::Buffer;
use crate::reason::Reason;
use crate::session::{AtDeadline, EndOfInput, Session, Sizes, Step, Timer};

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

/// The longest subnegotiation (bytes). What follows is text again: the client has forgotten the end. Every option is
/// refused, so no client has a reason to send a long one.
const LONGEST_SUBNEGOTIATION: u16 = 1024;

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
    /// The input is complete, and the inner session does not know it yet.
    end: Option<EndOfInput>,
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
    /// In a subnegotiation, behind so many bytes of it.
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
            has_read_cr: false,
            has_written_cr: false,
        }
    }

    /// Decodes raw input up to the next command that needs a reply.
    fn decode(&mut self, input: &mut [u8]) {
        let mut decoded = self.decoded as usize;
        let mut raw = decoded + self.gap as usize;
        // Most input holds no command, and a search for IAC costs far less than decoding.
        let is_plain = |raw: &[u8]| !raw.contains(&IAC) && !raw.contains(&0);
        if self.gap == 0 && matches!(self.state, State::Data) && is_plain(&input[raw..]) {
            self.decoded = to_u32(input.len());
            self.has_read_cr = input[raw..].last().map_or(self.has_read_cr, |&byte| byte == b'\r');
            return;
        }
        while let Some(&byte) = input.get(raw) {
            self.state = match (self.state, byte) {
                (State::AreYouThere | State::Request(_), _) => break,
                (State::Data, IAC) => State::Command,
                // A byte below SE is no command. It is data, so only the IAC before it is lost.
                (State::Data, _) | (State::Command, IAC | ..SE) => {
                    input[decoded] = if self.has_read_cr && byte == 0 { b'\n' } else { byte };
                    self.has_read_cr = byte == b'\r';
                    decoded += 1;
                    State::Data
                }
                (State::Subnegotiation(length), IAC) => State::SubnegotiationCommand(length),
                (State::Subnegotiation(length) | State::SubnegotiationCommand(length), _)
                    if length >= LONGEST_SUBNEGOTIATION =>
                {
                    State::Data
                }
                (State::Subnegotiation(length), _) | (State::SubnegotiationCommand(length), IAC) => {
                    State::Subnegotiation(length + 1)
                }
                // Another command ends a subnegotiation whose end was forgotten.
                (State::Command | State::SubnegotiationCommand(_), command) => match command {
                    WILL | WONT | DO | DONT => State::Negotiation(command),
                    SB => State::Subnegotiation(0),
                    AYT => State::AreYouThere,
                    _ => State::Data,
                },
                (State::Negotiation(DO), TIMING_MARK) => State::Request([WILL, TIMING_MARK]),
                (State::Negotiation(DO), option) => State::Request([WONT, option]),
                (State::Negotiation(WILL), option) => State::Request([DONT, option]),
                // No reply to a refusal of what never was on (RFC 1143).
                (State::Negotiation(_), _) => State::Data,
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
        let end = output.len();
        let appended = &output.unread()[pending..];
        let Some(&last) = appended.last() else { return };
        let count = |wanted: u8| appended.iter().map(|&byte| usize::from(byte == wanted)).sum::<usize>();
        let behind_cr = appended.windows(2).filter(|pair| *pair == b"\r\n").count()
            + usize::from(self.has_written_cr && appended[0] == b'\n');
        let mut added = count(IAC) + count(b'\n') - behind_cr;
        let had_written_cr = mem::replace(&mut self.has_written_cr, last == b'\r');
        (0..added).for_each(|_| output.push(b"\0"));
        // From the end on, each byte moves right by the number of bytes that are added before it.
        let bytes = output.unread_mut();
        let mut from = end;
        while added > 0 {
            from -= 1;
            let byte = bytes[from];
            bytes[from + added] = byte;
            let is_behind_cr = if from == pending { had_written_cr } else { bytes[from - 1] == b'\r' };
            let before = match byte {
                IAC => IAC,
                b'\n' if !is_behind_cr => b'\r',
                _ => continue,
            };
            added -= 1;
            bytes[from + added] = before;
        }
    }
}

impl<S: Session> Session for Telnet<S> {
    fn sizes(&self) -> Sizes {
        let inner = self.inner.sizes();
        // All bytes of an answer may be 255.
        let answer = inner.answer.saturating_mul(2).saturating_add(YES.len());
        Sizes { answer, ..inner }
    }

    fn is_proxied(&self) -> bool {
        self.inner.is_proxied()
    }

    fn connect_failed(&mut self, error: &io::Error) {
        self.inner.connect_failed(error);
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
            _ => step,
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

    fn closed(&mut self, reason: Reason) {
        self.inner.closed(reason);
    }

    fn timer(&mut self) -> Timer {
        self.inner.timer()
    }

    fn deadline(&mut self) -> AtDeadline {
        self.inner.deadline()
    }
}

fn to_u32(count: usize) -> u32 {
    count.try_into().expect("the input buffer is far smaller")
}
