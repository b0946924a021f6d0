//! The trait between the loop and a protocol: what one session says.
//!
//! A protocol does no I/O. The loop reads bytes from the socket and gives them to the session, the session appends its
//! answers to a buffer, and the loop writes them. Python's asyncio calls such an object a protocol, and libraries
//! without I/O of their own (quinn-proto, h11) are built in the same way.

use crate::buffer::Buffer;
use crate::config::INPUT_BUFFER;

/// What a session did in one step, and what the loop does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The session took this many bytes from the front of its input. The loop calls again while there is room for
    /// another answer. 0 without an answer means the same as [`Step::NeedInput`].
    Consumed(usize),
    /// The session needs more input before it can go on. The loop calls again when more has arrived.
    NeedInput,
    /// The session ends. The loop sends all pending output, then ends the connection politely: the client gets
    /// everything, although it may still be sending.
    Close,
}

/// One session's side of the conversation.
///
/// The loop calls [`greet`](Session::greet) once, then [`answer`](Session::answer) when bytes have arrived or output has
/// been written.
///
/// # A session that goes wrong
///
/// A session ends alone, with [`Reason::ProtocolError`](crate::Reason::ProtocolError), if one of these methods panics,
/// appends more than fits, or asks for more input although the input buffer is full. Every other session goes on. (A
/// panic in its `Drop` is not contained, and nothing is with `panic = "abort"`.)
pub trait Session {
    /// The most bytes that one call of [`greet`](Session::greet) or [`answer`](Session::answer) appends (bytes). It
    /// sizes the output buffer: before each call, at least this much is free.
    const LARGEST_ANSWER: usize = 2 * INPUT_BUFFER;

    /// Appends what the client reads first. Without this method the client reads nothing before it has spoken.
    fn greet(&mut self, output: &mut Buffer) {
        let _ = output;
    }

    /// Answers the next request in `input`, one at a time.
    ///
    /// A session that searches for the end of its request should remember how far it has searched: a client may send
    /// one byte at a time.
    ///
    /// `input` holds all bytes that have arrived and are not consumed yet, at most [`INPUT_BUFFER`] of them. A
    /// request may be there whole, in part, or together with the next ones: TCP keeps no boundaries. `input` is
    /// mutable for layers that decode in place, as [`Telnet`](crate::Telnet) does; bytes that the session has not
    /// consumed are given to it again, as it left them.
    fn answer(&mut self, input: &mut [u8], output: &mut Buffer) -> Step;

    /// Hears that the client has ended its direction, or that the server drains: no more input follows. The loop
    /// then calls [`answer`](Session::answer) until it asks for more input, at least once, also with empty input.
    fn end_of_input(&mut self) {}
}
