//! What the loop does, step by step.
//!
//! Each step is an [`Event`]. The log prints it as one line, and a recorder on the loop's thread gets it as a value
//! ([`record_on_this_thread`]). A step that is neither logged nor recorded is not built: its cost is two comparisons.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, ErrorKind};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use mio::Interest;
use strum::IntoStaticStr;

use crate::address::Address;
pub use crate::readiness::{Readable, Readiness};
use crate::reason::Reason;
pub use crate::reason::Timeout;

/// One step of the loop. `key` is the session's key in the slab, which is also its token. A later session may get the
/// same key.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The loop calls `poll`. Without a time-out it waits until a socket is ready.
    PollStart {
        /// How long it waits at most.
        timeout: Option<Duration>,
    },
    /// `poll` has returned.
    PollEnd {
        /// How many events it brought.
        events: usize,
        /// The time since the last `poll` returned.
        after: Duration,
    },
    /// The listener's event: a client is in the accept queue.
    ListenerReady,
    /// A session's turn begins.
    Turn {
        /// The session.
        key: usize,
        /// Its client.
        peer: Address,
        /// Why it gets the turn.
        cause: Cause,
    },
    /// A read or a write.
    Call {
        /// The session's client.
        peer: Address,
        /// `read` or `write`.
        call: &'static str,
        /// How many bytes it moved. `None`: it would have blocked. A read of 0 is the end of input.
        bytes: Option<usize>,
        /// What the input buffer holds now (bytes).
        input: usize,
        /// What the output buffer holds now: the pending output (bytes).
        output: usize,
    },
    /// A call on a session's socket returned an error.
    CallFailed {
        /// The session's client.
        peer: Address,
        /// `read`, `write` or `shutdown`.
        call: &'static str,
        /// The system's message.
        error: String,
    },
    /// The session has panicked.
    Panicked {
        /// The session's client.
        peer: Address,
        /// Where, and with which text.
        report: String,
    },
    /// The protocol has answered its input. It stops when the output reaches the high water mark.
    Answered {
        /// The session's client.
        peer: Address,
        /// What the input buffer still holds (bytes).
        input: usize,
        /// What the output buffer holds now: the pending output (bytes).
        output: usize,
    },
    /// A session's state has changed.
    State {
        /// The session's client.
        peer: Address,
        /// The new state.
        state: State,
    },
    /// The protocol waits for an answer that is made elsewhere.
    Waiting {
        /// The session's client.
        peer: Address,
    },
    /// The loop asks the kernel to report this from now on.
    Interest {
        /// The session.
        key: usize,
        /// Its client.
        peer: Address,
        /// What the kernel reports.
        interest: Interest,
        /// It was the same before: the kernel is asked again, because the last event is used up.
        rearm: bool,
    },
    /// The listener is re-armed.
    ListenerRearmed,
    /// A session's time-out starts, or starts again.
    TimeoutStarted {
        /// The session.
        key: usize,
        /// Which time-out.
        timeout: Timeout,
        /// How long it is.
        length: Duration,
    },
    /// A session's time-out is over.
    TimeoutFired {
        /// The session.
        key: usize,
        /// Which time-out.
        timeout: Timeout,
    },
    /// The loop starts to accept clients.
    Accepting {
        /// How many at most.
        quota: usize,
    },
    /// `accept` returned no client.
    AcceptFailed {
        /// The accept queue is empty.
        is_empty: bool,
        /// The system's message.
        error: String,
    },
    /// Accepting pauses, because the system has no room for one more connection.
    AcceptPaused {
        /// How many sessions are open.
        open: usize,
        /// The system's message.
        error: String,
    },
    /// A client was accepted, and its session begins.
    Opened {
        /// The session.
        key: usize,
        /// Its client.
        peer: Address,
    },
    /// A proxy was accepted. Its client is not known yet.
    Proxied {
        /// The session.
        key: usize,
        /// The proxy.
        peer: Address,
    },
    /// The session has learned who its client is ([`Step::Introduce`](crate::Step::Introduce)). The next steps name the
    /// client.
    Introduced {
        /// The proxy.
        peer: Address,
        /// The client, if the proxy tells it.
        client: Option<Address>,
    },
    /// An outgoing connection was begun.
    ConnectStarted {
        /// The session.
        key: usize,
        /// Where it goes.
        peer: Address,
    },
    /// A client was accepted above the connection limit. It is told that the server is full.
    Refused {
        /// The session.
        key: usize,
        /// Its client.
        peer: Address,
        /// How many sessions are open.
        open: usize,
    },
    /// A session was removed and its socket closed.
    Closed {
        /// The session.
        key: usize,
        /// Its client.
        peer: Address,
        /// Why.
        reason: Reason,
    },
    /// The server was asked for something, by a signal or by another thread.
    Requested {
        /// To stop after a drain.
        stop: bool,
        /// To stop immediately.
        stop_now: bool,
        /// To log its counters.
        report: bool,
    },
    /// The drain begins.
    Stopping {
        /// How many sessions are open.
        open: usize,
        /// How long they have at most.
        timeout: Duration,
    },
}

/// Why a session gets a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// Its socket has an event, or its session begins.
    Ready(Readiness),
    /// It was woken.
    Woken,
    /// A time-out of it is over.
    Timeout(Timeout),
    /// A waker ends it.
    End,
    /// The server stops. Whether the session was opened, or has read something, in the last second.
    Stop(bool),
}

/// The states of a session. `connection/state.rs` has the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, IntoStaticStr)]
#[non_exhaustive]
pub enum State {
    /// An outgoing connection is not open yet.
    Connecting,
    /// The protocol has not greeted yet.
    New,
    /// The session reads and answers.
    Open,
    /// The server stops. The session reads and answers what the client had sent.
    Draining,
    /// No more input follows. The session answers what it has.
    InputEnded,
    /// The protocol has said everything. The pending output is sent.
    Finishing,
    /// The server has ended its direction, and waits until the client has everything and ends its own.
    Lingering,
    /// The session is over.
    Closed,
}

impl Event {
    /// The [`Event::Interest`] that follows the interest `before`.
    pub(crate) fn interest(key: usize, peer: Address, before: Option<Interest>, interest: Interest) -> Self {
        Self::Interest { key, peer, interest, rearm: before == Some(interest) }
    }

    /// The [`Event::AcceptFailed`] of this error.
    pub(crate) fn accept_failed(error: &io::Error) -> Self {
        Self::AcceptFailed { is_empty: error.kind() == ErrorKind::WouldBlock, error: error.to_string() }
    }
}

/// The line in the log.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PollStart { timeout: None } => write!(f, "poll: wait for an event"),
            Self::PollStart { timeout: Some(limit) } => write!(f, "poll: wait {limit:?} at most"),
            Self::PollEnd { events, after } => {
                write!(f, "poll: {events} ready, {after:?} after the last poll")
            }
            Self::ListenerReady => write!(f, "listener: ready"),
            Self::Turn { key, peer, cause: Cause::Ready(ready) } => {
                write!(f, "token {key}, {peer}: {ready:?}")
            }
            Self::Turn { key, peer, cause } => write!(f, "token {key}, {peer}: {cause:?}"),
            Self::Call { peer, call, bytes: Some(count), .. } => write!(f, "{peer}: {call} {count} bytes"),
            Self::Call { peer, call, bytes: None, .. } => write!(f, "{peer}: {call} would block"),
            Self::CallFailed { peer, call, error } => write!(f, "{peer}: {call}: {error}"),
            Self::Panicked { peer, report } => write!(f, "{peer}: its session {report}"),
            Self::Answered { peer, input, output } => {
                write!(f, "{peer}: {output} bytes of output pending, {input} of input not answered")
            }
            Self::State { peer, state } => write!(f, "{peer}: state {state:?}"),
            Self::Waiting { peer } => write!(f, "{peer}: waits for its answer"),
            Self::Interest { key, peer, interest, rearm } => {
                write!(f, "token {key}, {peer}: interest {interest:?}{}", if *rearm { " again" } else { "" })
            }
            Self::ListenerRearmed => write!(f, "listener: interest {:?}", Interest::READABLE),
            Self::TimeoutStarted { key, timeout, length } => {
                write!(f, "token {key}: {timeout:?} time-out in {length:?}")
            }
            Self::TimeoutFired { key, timeout } => write!(f, "token {key}: {timeout:?} time-out is over"),
            Self::Accepting { quota } => write!(f, "accept: {quota} clients at most"),
            Self::AcceptFailed { error, .. } => write!(f, "accept: {error}"),
            Self::AcceptPaused { open, error } => write!(f, "Accepting pauses at {open} sessions: {error}"),
            Self::Opened { peer, .. } => write!(f, "Connected with {peer}"),
            Self::Proxied { peer, .. } => write!(f, "{peer} is a proxy; its client is not known yet"),
            Self::Introduced { peer, client: Some(client) } => {
                write!(f, "Connected with {client} through {peer}")
            }
            Self::Introduced { peer, client: None } => {
                write!(f, "Connected with {peer}, a proxy that names no client")
            }
            Self::ConnectStarted { peer, .. } => write!(f, "Connecting to {peer}"),
            Self::Refused { peer, open, .. } => write!(f, "{peer} refused: {open} sessions are open"),
            Self::Closed { peer, reason, .. } => write!(f, "{peer} closed: {reason}"),
            Self::Requested { stop, stop_now, report } => {
                write!(f, "requests: stop {stop}, stop now {stop_now}, report {report}")
            }
            Self::Stopping { open, timeout } => {
                write!(f, "Stopping: {open} sessions have {timeout:?} to end")
            }
        }
    }
}

/// Where in the source a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The file, from the root of the package.
    pub file: &'static str,
    /// The line, from 1.
    pub line: u32,
}

type Recorder = Box<dyn FnMut(&Event, Place)>;

thread_local! {
    static RECORDER: RefCell<Option<Recorder>> = const { RefCell::new(None) };
}

/// Whether any thread of the process has had a recorder.
static IS_RECORDED: AtomicBool = AtomicBool::new(false);

/// Gives each step of a server that this thread runs to `recorder`, in order, whatever is logged.
pub fn record_on_this_thread(recorder: impl FnMut(&Event, Place) + 'static) {
    RECORDER.set(Some(Box::new(recorder)));
    IS_RECORDED.store(true, Relaxed);
}

pub(crate) fn is_recorded() -> bool {
    IS_RECORDED.load(Relaxed)
}

/// Gives a step to this thread's recorder, if there is one.
pub(crate) fn record(event: &Event, place: Place) {
    RECORDER.with_borrow_mut(|recorder| {
        if let Some(recorder) = recorder {
            recorder(event, place);
        }
    });
}

/// Records and logs a step of the loop.
macro_rules! step {
    ($level:expr, $event:expr) => {{
        let level = $level;
        if level <= log::max_level() || $crate::trace::is_recorded() {
            let event = $event;
            $crate::trace::record(&event, $crate::trace::Place { file: file!(), line: line!() });
            log::log!(level, "{event}");
        }
    }};
    ($event:expr) => {
        $crate::trace::step!(log::Level::Trace, $event)
    };
}
pub(crate) use step;

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    #[test]
    fn a_recorder_gets_the_steps_of_its_thread_in_order_whatever_is_logged() {
        let seen = Rc::new(RefCell::new(Vec::new()));
        let recorder = Rc::clone(&seen);
        record_on_this_thread(move |event, place| recorder.borrow_mut().push((event.clone(), place.line)));
        let line = line!();
        step!(Event::ListenerReady);
        step!(Event::ListenerRearmed);
        assert_eq!(*seen.borrow(), [(Event::ListenerReady, line + 1), (Event::ListenerRearmed, line + 2)]);
    }
}
