//! The states of a connection, and what follows from a state alone.
//!
//! ```text
//!   New ── greeted ─► Open ── the client's end ──────────────────► InputEnded ── all answered ─┐
//!                     │  │                                          ▲       ▲                  │
//!                     │  └─ stop ─► Draining ── the client's end ───┘       │                  │
//!                     │                └── nothing more is on its way ──────┘                  │
//!                     │                                                                        ▼
//!                     └─ Step::Close, a time-out, Waker::end ────────────────────────────► Finishing
//!                                                                                              │
//!                           Closed ◄── the client has everything, and has ended ── Lingering ◄─┘ no pending output
//! ```
//!
//! An error, or the server's end, leads from every state to Closed. A refused client starts in Finishing. An outgoing
//! connection starts in Connecting, before New. The protocol is called in Open, Draining and
//! `InputEnded`.

use crate::reason::Reason;
use crate::trace;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub(super) enum State {
    /// An outgoing connection is not open yet.
    Connecting,
    /// The protocol has not greeted yet.
    New,
    /// The session reads and answers.
    Open,
    /// The server stops. The session reads and answers what the client had sent, at most this many bytes more.
    Draining {
        budget: u32,
        /// The client has just come, or has just sent something, so more may be on its way.
        was_just_heard: bool,
        /// The client was held back, and what it could not send starts its way only when we read.
        was_held_back: bool,
    },
    /// No more input follows: the client has ended its direction (`Finished`), or the drain has (`Drained`). The session
    /// answers what it has.
    InputEnded(Reason),
    /// The protocol has said everything. The pending output is sent, and nothing is read.
    Finishing(Reason),
    /// The server has ended its direction. It reads and discards what the client still sends. A close with unread input
    /// would make the kernel send a reset, which can destroy our last bytes on their way (RFC 1122, 4.2.2.13; RFC 2525,
    /// 2.17). The connection is over when the client's kernel has everything and the client has ended its direction.
    Lingering {
        reason: Reason,
        has_input_ended: bool,
        /// The client's kernel has everything, or ours cannot tell.
        is_delivered: bool,
    },
    Closed(Reason),
}

/// Whether the session is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub(super) enum Pause {
    No,
    /// It waits for an answer that is made elsewhere (`Step::Wait`).
    Wait,
    /// The last turn used up its answer budget, and the loop wakes it. It is not called before: if it began to wait now,
    /// that wake would look like the one that it waits for.
    Budget,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub(super) enum OutputEnd {
    /// The session does not know its client yet (`Step::Introduce`), and says nothing.
    NotBegun,
    Open,
    /// The pending output goes first.
    Wanted,
    Done,
}

impl State {
    pub fn is_draining(self) -> bool {
        matches!(self, State::Draining { .. })
    }

    /// While draining: whether more may be on its way. The session is then read for a quiet time.
    pub fn expects_input(self) -> bool {
        matches!(self, State::Draining { was_just_heard, was_held_back, .. } if was_just_heard || was_held_back)
    }

    /// Whether the protocol is called in this state.
    pub fn is_answered(self) -> bool {
        matches!(self, State::Open | State::Draining { .. } | State::InputEnded(_))
    }

    /// Notes that a draining session has read `count` bytes. Returns whether they are its last ones.
    pub fn uses_up_drain_budget(&mut self, count: usize) -> bool {
        let State::Draining { budget, was_just_heard, .. } = self else { return false };
        *was_just_heard = true;
        *budget = budget.saturating_sub(u32::try_from(count).unwrap_or(u32::MAX));
        *budget == 0
    }
}

impl From<State> for trace::State {
    fn from(state: State) -> Self {
        match state {
            State::Connecting => Self::Connecting,
            State::New => Self::New,
            State::Open => Self::Open,
            State::Draining { .. } => Self::Draining,
            State::InputEnded(_) => Self::InputEnded,
            State::Finishing(_) => Self::Finishing,
            State::Lingering { .. } => Self::Lingering,
            State::Closed(_) => Self::Closed,
        }
    }
}
