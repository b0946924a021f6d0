//! The trait between the loop and a protocol: what one session says.
//!
//! A protocol does no I/O. The loop reads bytes from the socket and gives them to the session, the session appends its
//! answers to a buffer, and the loop writes them. Python's asyncio calls such an object a protocol, and libraries
//! without I/O of their own (quinn-proto, h11) are built in the same way.

use std::io;
use std::time::Duration;

use crate::address::Address;
use crate::buffer::Buffer;
use crate::config::INPUT_BUFFER;
use crate::reason::Reason;

/// What a session did in one step, and what the loop does next.
///
/// An answer of any length goes out in parts:
///
/// ```
/// use okloop::conversation::Conversation;
/// use okloop::{Buffer, Session, Step};
///
/// /// Counts from 1 to a million for each byte.
/// #[derive(Default)]
/// struct Counting {
///     next: u32,
/// }
///
/// impl Session for Counting {
///     fn answer(&mut self, input: &mut [u8], output: &mut Buffer) -> Step {
///         if input.is_empty() {
///             return Step::NeedInput;
///         }
///         if self.next == 1_000_000 {
///             self.next = 0;
///             return Step::Consumed(1);
///         }
///         self.next += 1;
///         writeln!(output, "{}", self.next);
///         Step::More
///     }
/// }
///
/// let mut conversation = Conversation::start(Counting::default());
/// conversation.send(b"x");
/// assert!(conversation.received().ends_with(b"\n999999\n1000000\n"));
/// ```
///
/// A layer that gets a step which it does not know passes it on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// The session took this many bytes from the front of its input. The loop calls `answer` again. A session that took
    /// none needs more input: `Consumed(0)` is [`Step::NeedInput`].
    Consumed(usize),
    /// The session has appended a part of its answer, and took no input. The loop calls `answer` again when there is room
    /// for another part. A session sends an answer of any length in this way. A step that appends nothing is a mistake.
    More,
    /// The session needs more input before it can go on. It may have appended something. The loop calls again when more has
    /// arrived, or when the session is woken. After the end of input this ends the session: it has answered everything.
    NeedInput,
    /// Another session, a thread or a deadline makes the answer. The loop does not read from the client and does not call
    /// `answer` before the session is woken ([`Waker`](crate::Waker)) or its deadline is over. So later requests keep
    /// their order. After the end of input the session stays open until it returns another step.
    Wait,
    /// The session has said everything, and still listens. The loop sends all pending output and then ends the server's
    /// direction. It goes on to give the client's input to `answer`, which must not append anything from then on. The
    /// session took no input: it is given the same again.
    EndOutput,
    /// The session has learned who its client is, behind a proxy. It took no input. The log and all reports name this
    /// address from now on. `None`: the proxy does not tell, and they go on to name the proxy. Only a session that
    /// [is proxied](Session::is_proxied) does this, and only once.
    Introduce(Option<Address>),
    /// The client's input is not of this protocol. The loop closes the connection immediately, with
    /// [`Reason::InvalidInput`]: the client gets nothing more, and pending output is lost.
    Abort,
    /// The session ends. The loop sends all pending output, then ends the connection in order: the client gets
    /// everything, although it may still be sending.
    Close,
}

/// How large the requests and answers of a session are, and how its two directions depend on each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sizes {
    /// The longest request (bytes, below 4 GiB). The input of [`Session::answer`] never holds more. A session that needs
    /// more input when it has this much ends with [`Reason::RequestTooLarge`]. Default: 16 KiB.
    pub request: usize,
    /// The most that one call of a session's method appends (bytes, below 4 GiB). A session that appends more has made a
    /// mistake. Before each call of [`Session::answer`], the output buffer has at least this much room. Default: 32 KiB.
    pub answer: usize,
    /// Whether the session is read and called even if its client does not read. By default it is not: with much pending
    /// output (64 KiB, [`HIGH_WATER`](crate::config::HIGH_WATER)) the loop leaves the client's input in the kernel. A
    /// relay sets this, because each direction goes on for itself. Before it appends, it must ask [`Buffer::free`]. It is
    /// asked again after each write, even if it waits.
    pub independent: bool,
}

impl Default for Sizes {
    fn default() -> Self {
        Self::new(INPUT_BUFFER, 2 * INPUT_BUFFER)
    }
}

impl Sizes {
    /// Requests of at most `request` bytes, and answers of at most `answer` bytes.
    pub const fn new(request: usize, answer: usize) -> Self {
        Self { request, answer, independent: false }
    }
}

/// Why no more input follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndOfInput {
    /// The client has ended its direction. What it has sent is complete.
    Client,
    /// The server stops. The last request may be there in part only: the client may have sent the rest, which is not
    /// read any more. Half a request is not a request.
    Stop,
}

/// What a session wants with its own deadline.
///
/// ```
/// use std::time::Duration;
///
/// use okloop::conversation::Conversation;
/// use okloop::{Buffer, Reason, Session, Step, Timer};
///
/// /// The client must log in within 30 seconds.
/// struct Login {
///     timer: Timer,
/// }
///
/// impl Session for Login {
///     fn answer(&mut self, input: &mut [u8], output: &mut Buffer) -> Step {
///         if input.ends_with(b"\n") {
///             self.timer = Timer::Stop;
///             output.push(b"Welcome\n");
///         }
///         Step::Consumed(input.len())
///     }
///
///     fn timer(&mut self) -> Timer {
///         std::mem::take(&mut self.timer)
///     }
///
///     fn ending(&mut self, _reason: Reason, output: &mut Buffer) {
///         output.push(b"Too slow\n");
///     }
/// }
///
/// let mut conversation = Conversation::start(Login { timer: Timer::Start(Duration::from_secs(30)) });
/// conversation.pass_deadline();
/// assert_eq!(conversation.received(), b"Too slow\n");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Timer {
    /// The deadline stays as it is.
    #[default]
    Keep,
    /// The deadline is off.
    Stop,
    /// The deadline is over after this time. It counts from now. In the turn after the last deadline it counts from that
    /// deadline, so a clock of a session does not drift.
    Start(Duration),
}

/// What a session does when its own deadline is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtDeadline {
    /// The session ends in order, with [`Reason::Deadline`]. [`Session::ending`] has its last word.
    End,
    /// The session goes on. The loop calls [`Session::answer`], even if it waits.
    GoOn,
}

/// One session's side of the conversation.
///
/// Only [`answer`](Session::answer) is required. The loop calls the methods in this order:
///
/// 1. [`sizes`](Session::sizes) and [`is_proxied`](Session::is_proxied), once.
/// 2. [`greet`](Session::greet), once.
/// 3. [`answer`](Session::answer), until it returns [`Step::NeedInput`], [`Step::Wait`] or [`Step::Close`]: at the start,
///    when input has arrived, when the session is woken, when its deadline is over, and after a write that made room.
/// 4. [`end_of_input`](Session::end_of_input), at most once, if no more input follows. `answer` follows until it returns
///    [`Step::NeedInput`] or [`Step::Close`].
/// 5. [`ending`](Session::ending), at most once, if the server ends the session.
/// 6. [`closed`](Session::closed), once. Then the session is dropped.
///
/// `answer` is not called while [`HIGH_WATER`](crate::config::HIGH_WATER) or more output is pending (64 KiB): the client
/// must read first.
///
/// Which calls tell of an end:
///
/// | the end | `end_of_input` | `ending` | `closed` |
/// |---|---|---|---|
/// | The client ends its direction. | `Client` | | `Finished` |
/// | The session returns [`Step::Close`]. | | | `Closed`, or `LingerTimeout` |
/// | The server stops. | `Stop` | `Drained` | `Drained` |
/// | A request is too large, the client is idle, the deadline is over, [`Waker::end`](crate::Waker::end). | | its reason | its reason |
/// | The client resets, or does not read. The session returns [`Step::Abort`]. | | | its reason |
/// | The session makes a mistake. | | | |
///
/// # A session must never block
///
/// All sessions share one thread. A session that sleeps, waits for a lock that is held for long, reads a file from a slow
/// disk, or asks another server stops all others until it returns. Give such work to a thread, return [`Step::Wait`], and
/// let the thread wake the session.
///
/// # A session that goes wrong
///
/// A session ends alone, with [`Reason::ProtocolError`], after each of these mistakes:
///
/// - One of its methods panics, or what makes it does.
/// - It appends more than its largest answer in one call ([`Sizes::answer`]).
/// - It consumes more than its input.
/// - It returns [`Step::More`] without having appended anything.
/// - It returns [`Step::EndOutput`] twice, or appends something after it.
/// - It returns [`Step::Introduce`] twice, or is not [proxied](Session::is_proxied), or answers something before it.
///
/// The loop then closes the session immediately, without a message to the client, and its pending output is lost. None of
/// its methods is called again. Each mistake is a panic, and the log tells of it in one line of level error. All other
/// sessions go on, with two exceptions: `panic = "abort"` ends the program, and the standard library's report of a panic can block all sessions.
/// [`log_panics`](crate::log_panics) turns that report off.
///
/// # Layers
///
/// A layer is a session around a session. It has [`inner`](Session::inner), `answer`, and the methods in which it changes
/// something. All other calls reach the session inside. This layer gives each answer a number:
///
/// ```
/// use okloop::conversation::Conversation;
/// use okloop::protocols::{Framing, OkSession};
/// use okloop::{Buffer, Session, Sizes, Step};
///
/// struct Numbered<S> {
///     inner: S,
///     next: u64,
/// }
///
/// impl<S: Session> Session for Numbered<S> {
///     fn inner(&mut self) -> Option<&mut dyn Session> {
///         Some(&mut self.inner)
///     }
///
///     fn sizes(&mut self) -> Sizes {
///         let mut sizes = self.inner.sizes();
///         sizes.answer += 24;
///         sizes
///     }
///
///     fn answer(&mut self, input: &mut [u8], output: &mut Buffer) -> Step {
///         if input.contains(&b'\n') {
///             write!(output, "{} ", self.next);
///             self.next += 1;
///         }
///         self.inner.answer(input, output)
///     }
/// }
///
/// let layer = Numbered { inner: OkSession::new(Framing::Lines), next: 1 };
/// let mut conversation = Conversation::start(layer);
/// conversation.received();
/// conversation.send(b"one\ntwo\n");
/// assert_eq!(conversation.received(), b"1 OK...one\n2 OK...two\n");
/// ```
///
/// What a layer needs, for example one for TLS:
///
/// | what it does | methods |
/// |---|---|
/// | It changes the output. | `greet`, `answer` and `ending`. Otherwise the inner session's words go out as they are. |
/// | It changes the input. | `answer` and `end_of_input`. It notes the end, and passes it on when the inner session has been given all input. If the input is cut, the inner session is told [`EndOfInput::Stop`]: half a request is not a request. |
/// | It appends something of its own, or needs more input at a time. | `sizes`, which begin with those of the inner session. The layer gives the inner session at most its largest request. |
/// | It has a last word of its own. | `ending`. In `answer`, before it passes on `Close`, `EndOutput`, or the `NeedInput` after the client's end. Behind `EndOutput` it appends nothing. |
/// | It has a deadline of its own. | `timer` and `deadline`. There is one deadline for both: the inner session is asked when the layer needs it no more. If it then keeps its own, the layer says `Stop`. |
///
/// A layer that has used up input returns `Consumed`, even if the inner session got nothing. If it has only appended
/// something, as in a handshake, it returns `More`. Decoded input stays in `input`, in place: the loop gives it to the layer
/// again. For bytes that a layer keeps elsewhere it is not called again.
/// [`Telnet`](crate::protocols::Telnet) and its source are a model.
///
/// # When it is dropped
///
/// The session is dropped with its connection: after the batch of events in which it has ended, and after
/// [`closed`](Session::closed). So no method of another session is running then. A session that has entered something that
/// sessions share leaves it in its `Drop`, because `closed` is not called after a panic. Between the session's last answer
/// and its drop, its pending output is sent, and the client ends its direction. This can take as long as
/// [`write_timeout`](crate::Config::write_timeout). If others shall not see it meanwhile, it also leaves where it returns
/// [`Step::Close`], and in [`ending`](Session::ending).
pub trait Session {
    /// The session inside a [layer](Session#layers). Each method that the layer does not have is the inner session's.
    fn inner(&mut self) -> Option<&mut dyn Session> {
        None
    }

    /// How large the requests and answers are. The loop asks once, at the start.
    fn sizes(&mut self) -> Sizes {
        self.inner().map_or_else(Sizes::default, Session::sizes)
    }

    /// Whether the client is behind a proxy, and the session learns its address from the proxy ([`Step::Introduce`]). The
    /// loop asks once, at the start. It then says `Connected with` when the session has learned the address.
    fn is_proxied(&mut self) -> bool {
        self.inner().is_some_and(Session::is_proxied)
    }

    /// The session's outgoing connection could not be opened ([`Handle::connect`](crate::Handle::connect)).
    /// [`closed`](Session::closed) follows, with [`Reason::ConnectFailed`]. Instead of this, [`greet`](Session::greet) is
    /// called when the connection is open.
    fn connect_failed(&mut self, error: &io::Error) {
        if let Some(inner) = self.inner() {
            inner.connect_failed(error);
        }
    }

    /// Appends what the client reads first. Without this method, the client must send first.
    fn greet(&mut self, output: &mut Buffer) {
        if let Some(inner) = self.inner() {
            inner.greet(output);
        }
    }

    /// Answers the next request in `input`, one at a time.
    ///
    /// `input` holds all bytes that have arrived and are not consumed yet. A request may be there whole, in part, or
    /// together with the next ones, because TCP keeps no boundaries. `input` can also be empty: at the start, after a
    /// wake, after a write, and at the end of input. [`Step::NeedInput`] is right then.
    ///
    /// A session that searches for the end of its request should remember how far it has searched, because a client may
    /// send one byte at a time.
    ///
    /// `input` is mutable for layers that decode in place, as [`Telnet`](crate::protocols::Telnet) does. The loop gives
    /// bytes that are not consumed to the session again, as the session left them.
    fn answer(&mut self, input: &mut [u8], output: &mut Buffer) -> Step;

    /// No more input follows. The loop then calls [`answer`](Session::answer), even with empty input, until it needs more
    /// input.
    fn end_of_input(&mut self, end: EndOfInput) {
        if let Some(inner) = self.inner() {
            inner.end_of_input(end);
        }
    }

    /// The server ends the session: the last word. The reason is one of [`Reason::Drained`], [`Reason::RequestTooLarge`],
    /// [`Reason::IdleTimeout`], [`Reason::Deadline`] and [`Reason::Ended`]. HTTP says 408 or 413 here, TLS sends its
    /// `close_notify`. While there is no room for the largest answer, because much output is pending, the call waits until
    /// the client has read.
    fn ending(&mut self, reason: Reason, output: &mut Buffer) {
        if let Some(inner) = self.inner() {
            inner.ending(reason, output);
        }
    }

    /// The session is over, and nothing more can be sent. It is not called after a panic.
    fn closed(&mut self, reason: Reason) {
        if let Some(inner) = self.inner() {
            inner.closed(reason);
        }
    }

    /// What happens to the session's own deadline. The loop asks after each turn of the session, even after the first one,
    /// in which it greets. So a session that starts its deadline must do so once, not in each answer of this method.
    ///
    /// A protocol reads no clock. It says how long, and the loop counts.
    fn timer(&mut self) -> Timer {
        self.inner().map_or(Timer::Keep, Session::timer)
    }

    /// The session's own deadline is over.
    fn deadline(&mut self) -> AtDeadline {
        self.inner().map_or(AtDeadline::End, Session::deadline)
    }
}

/// A box holds sessions of different types in one server.
impl<S: Session + ?Sized> Session for Box<S> {
    fn sizes(&mut self) -> Sizes {
        (**self).sizes()
    }

    fn is_proxied(&mut self) -> bool {
        (**self).is_proxied()
    }

    fn connect_failed(&mut self, error: &io::Error) {
        (**self).connect_failed(error);
    }

    fn greet(&mut self, output: &mut Buffer) {
        (**self).greet(output);
    }

    fn answer(&mut self, input: &mut [u8], output: &mut Buffer) -> Step {
        (**self).answer(input, output)
    }

    fn end_of_input(&mut self, end: EndOfInput) {
        (**self).end_of_input(end);
    }

    fn ending(&mut self, reason: Reason, output: &mut Buffer) {
        (**self).ending(reason, output);
    }

    fn closed(&mut self, reason: Reason) {
        (**self).closed(reason);
    }

    fn timer(&mut self) -> Timer {
        (**self).timer()
    }

    fn deadline(&mut self) -> AtDeadline {
        (**self).deadline()
    }
}
