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
    /// The session took this many bytes from the front of its input. The loop calls `answer` again while there is room
    /// for another answer. 0 without an answer means the same as [`Step::NeedInput`].
    Consumed(usize),
    /// The session needs more input before it can go on. The loop calls again when more has arrived.
    NeedInput,
    /// The session ends. The loop sends all pending output, then ends the connection politely: the client gets
    /// everything, although it may still be sending.
    Close,
}

/// One session's side of the conversation.
///
/// The loop calls [`greet`](Session::greet) once, then [`answer`](Session::answer) when bytes have arrived or output
/// has been written.
///
/// # A session that goes wrong
///
/// A session ends alone, with [`Reason::ProtocolError`](crate::Reason::ProtocolError), after each of these mistakes:
///
/// - One of its methods panics.
/// - It appends more than [`LARGEST_ANSWER`](Session::LARGEST_ANSWER), and [`Buffer::push`] panics.
/// - It consumes more than its input.
/// - It asks for more input although the input buffer is full.
///
/// The loop then closes the session immediately, without a message to the client, and its pending output is lost. All
/// other sessions go on. (This does not hold for a panic in its `Drop`, or with `panic = "abort"`.)
pub trait Session {
    /// The most that one call of [`greet`](Session::greet) or [`answer`](Session::answer) appends (bytes). Before each
    /// call, the output buffer has at least this much room.
    const LARGEST_ANSWER: usize = 2 * INPUT_BUFFER;

    /// Appends what the client reads first. Without this method, the client must send first.
    fn greet(&mut self, output: &mut Buffer) {
        let _ = output;
    }

    /// Answers the next request in `input`, one at a time.
    ///
    /// `input` holds all bytes that have arrived and are not consumed yet. A request may be there whole, in part, or
    /// together with the next ones, because TCP keeps no boundaries. `input` can also be empty: at the start, after a
    /// write, and at the end of input. [`Step::NeedInput`] is right then.
    ///
    /// `input` has at most [`INPUT_BUFFER`] bytes, 16 KiB. So this is the longest request. If a session needs more
    /// input when the buffer is full, it ends. To end a long request with a message, count its bytes and return
    /// [`Step::Close`] earlier, as the example `line_server` does.
    ///
    /// A session that searches for the end of its request should remember how far it has searched, because a client may
    /// send one byte at a time.
    ///
    /// `input` is mutable for layers that decode in place, as [`Telnet`](crate::Telnet) does. The loop gives bytes that
    /// are not consumed to the session again, as the session left them.
    fn answer(&mut self, input: &mut [u8], output: &mut Buffer) -> Step;

    /// No more input follows: the client has ended its direction, or the server drains. The loop then calls
    /// [`answer`](Session::answer) until it asks for more input, at least once, also with empty input.
    fn end_of_input(&mut self) {}
}
