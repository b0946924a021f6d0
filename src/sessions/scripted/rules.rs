//! What must hold, whatever happens: after each iteration, when the loop has nothing to do, and at the end of a session.
//!
//! The rules look at the world: what the client has sent and got, what the session was given and has said. They do not
//! repeat how the connection decides.

use super::wire::Asked;
use super::{KEY, Scripted};
use crate::config::QUIET;
use crate::readiness::Kernel;
use crate::reason::{Reason, Timeout};
use crate::session::Session;
use crate::trace::State;

/// What the server promises when it stops: the session gets so many bytes of what the client has sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Promise {
    /// What the client had sent, and how much of it had arrived.
    pub sent: usize,
    pub arrived: usize,
    /// The promise is about all that was sent. Otherwise it is about what had arrived.
    pub covers_sent: bool,
}

impl<S: Session> Scripted<S> {
    /// The server waits for what is on its way, if the client has just come or spoken, or if it is held back.
    pub(super) fn extend_promise(&mut self) {
        let world = self.world.borrow();
        let was_just_heard = world.now - world.heard.unwrap_or(world.accepted) < QUIET;
        let waits = was_just_heard || world.wire.up.unread() > 0 || self.is_held_back();
        self.promise.as_mut().expect("the server stops").covers_sent |= waits;
    }

    /// Output that the session has said, and that the kernel has not taken.
    pub(super) fn pending(&self) -> usize {
        let world = self.world.borrow();
        world.record.said.len() - world.wire.down.bytes.len()
    }

    /// Backpressure: the client's bytes have to wait.
    pub(super) fn is_held_back(&self) -> bool {
        let (is_full, record) = (self.pending() >= self.budgets().high_water, self.record());
        is_full && !record.is_independent || record.waits || record.left >= record.largest_request
    }

    /// What holds after every iteration.
    pub(super) fn check(&self) {
        let (world, pending, budgets) = (self.world.borrow(), self.pending(), self.budgets());
        let (wire, record) = (&world.wire, &world.record);
        assert_eq!(wire.broken.or(record.broken), None);
        let Some(connection) = self.sessions.table.get(KEY) else { return };
        let interest = connection.interest();
        assert_eq!(interest.is_none(), connection.closed().is_some(), "a session waits until it is closed");
        let Some(interest) = interest else { return };
        let (asked, state) = (Asked::from(interest), connection.state());
        assert_eq!(wire.asked, Some(asked), "the kernel reports what the session waits for");
        assert!(asked.writable || pending == 0, "pending output waits for writable");
        if is_asked(state) {
            assert!(pending <= budgets.high_water + record.largest_answer, "{pending} bytes are pending");
            let held = wire.up.read - record.consumed;
            assert!(held <= record.largest_request, "{held} bytes of input are held");
            assert!(!self.is_held_back() || !asked.readable, "the loop does not read ahead of the session");
        }
        if let (true, Some(promise), Some(read)) = (record.is_stopped, self.promise, record.ended_at) {
            let promised = if promise.covers_sent { promise.sent } else { promise.arrived };
            let is_kept = read >= promised || read >= budgets.drain as usize;
            assert!(is_kept, "{read} bytes are read, and {promised} are promised");
        }
        // The turns of one iteration: two events, a wake, another wake and its time-out, and the stop.
        assert!(record.calls <= 6 * budgets.answers, "{} calls of one session in an iteration", record.calls);
    }

    /// What holds when the loop has nothing to do: the session waits for an event that can come, and no longer than a
    /// time-out.
    pub(super) fn check_rest(&self) {
        let (world, pending) = (self.world.borrow(), self.pending());
        let (wire, record) = (&world.wire, &world.record);
        let Some(connection) = self.sessions.table.get(KEY) else { return };
        let (state, is_held_back) = (connection.state(), self.is_held_back());
        let is_running = |timeout| self.sessions.deadlines.is_running(KEY, timeout);

        let is_settling =
            state == State::Lingering && wire.is_delivered().is_ok_and(|known| known == Some(false));
        let asked = wire.asked.expect("it is registered");
        let has_no_interest = !asked.readable && wire.kernel().no_interest().is_writable();
        let needs_writable = pending > 0 || is_settling || has_no_interest || state == State::Connecting;
        assert_eq!(asked.writable, needs_writable, "an idle socket is always writable");

        // Nothing is left to do, and so no edge and no wake is lost.
        assert!(pending == 0 || !wire.takes_output(), "pending output waits although the socket has room");
        let has_input = wire.has_input();
        match state {
            State::Open | State::Draining => {
                assert!(is_held_back || !has_input, "input waits, and no event will tell");
            }
            State::InputEnded => {}
            State::Finishing => assert!(pending > 0, "the end of the output waits"),
            State::Lingering => {
                let is_delivered = wire.is_delivered().is_ok_and(|known| known != Some(false));
                assert!(!has_input, "input waits, and no event will tell");
                assert!(!is_delivered || !wire.up.is_end_read, "nothing is left to wait for");
            }
            State::Connecting => {
                assert!(wire.is_opening(), "an attempt that is over waits");
            }
            State::New | State::Closed => panic!("{state:?} is over after a turn"),
        }
        if is_asked(state) {
            assert!(pending > 0 || record.needs_input || record.waits, "the session could say more");
            let held = wire.up.read - record.consumed;
            assert_eq!(held, record.left, "the session has been given all that was read");
            assert!(
                state != State::InputEnded || !record.needs_input || pending > 0,
                "the session has answered all"
            );
        }

        assert_eq!(
            is_running(Timeout::Own),
            record.has_deadline && is_asked(state),
            "the session's own deadline"
        );

        // No client keeps its place for ever.
        if state == State::Connecting {
            assert!(is_running(Timeout::Connect), "no limit for an attempt");
        } else if pending > 0 {
            assert!(
                is_running(Timeout::Write) || is_running(Timeout::Linger),
                "no limit for a client that does not read"
            );
        } else if state == State::Draining && !is_held_back {
            assert!(is_running(Timeout::Quiet), "no limit for the drain");
        } else if state == State::Open && !record.waits && self.config().idle_timeout.is_some() {
            assert!(is_running(Timeout::Idle), "no limit for a silent client");
        } else if state == State::Lingering && self.promise.is_none() {
            let is_limited =
                wire.limit.is_some() && wire.kernel() == Kernel::Epoll && !wire.down.has_end_arrived;
            assert!(is_limited || is_running(Timeout::Linger), "no limit for the linger");
        }
    }

    /// Whether the reason of the end is true.
    pub(super) fn check_end(&self, reason: Reason) {
        let world = self.world.borrow();
        let (wire, record) = (&world.wire, &world.record);
        let is_told = if record.is_over && !record.has_closed { None } else { Some(reason) };
        assert!(
            record.largest_request == 0 || record.closed == is_told,
            "the session is told: {:?}",
            record.closed
        );
        if !wire.is_open {
            let is_cancelled = [Reason::Ended, Reason::Drained].contains(&reason);
            assert!(is_cancelled || reason == Reason::ConnectFailed, "it was never open: {reason:?}");
            return;
        }
        match reason {
            Reason::Finished | Reason::Closed | Reason::Drained => {
                assert!(!wire.has_reset_client, "a reset destroys the last answers");
                assert!(
                    wire.kernel() != Kernel::Epoll || wire.down.has_end_arrived,
                    "the client lacks answers"
                );
            }
            Reason::Reset => assert!(wire.failure.is_some(), "the client has reset nothing"),
            Reason::WriteTimeout if wire.failure.is_some() => assert!(!wire.down.has_end_arrived),
            Reason::WriteTimeout => {
                let stalled = world.taken.map(|taken| world.now - taken);
                assert!(stalled >= self.config().write_timeout, "the client has read something since");
            }
            Reason::IdleTimeout => {
                let silence = record.ending.map(|(_, silence)| silence);
                assert!(
                    silence.is_none() || silence >= self.config().idle_timeout,
                    "the client was not idle"
                );
            }
            Reason::LingerTimeout => assert!(record.has_closed, "the client was not asked to end"),
            _ => {}
        }
        // Every end by the server is an end in order, but for a client that does not read.
        match reason {
            Reason::Finished
            | Reason::Closed
            | Reason::Drained
            | Reason::Ended
            | Reason::Refused
            | Reason::IdleTimeout
            | Reason::Deadline
            | Reason::LingerTimeout
            | Reason::RequestTooLarge => {
                let has_said = wire.down.bytes.len() == record.said.len() && wire.down.has_ended;
                assert!(has_said || reason == Reason::Refused, "an answer is lost");
            }
            _ => {}
        }
        if let Reason::Drained
        | Reason::Ended
        | Reason::IdleTimeout
        | Reason::Deadline
        | Reason::RequestTooLarge = reason
        {
            assert!(record.ending.is_some() || record.has_ended_output, "the last word is not said");
        }
        let is_given = Some(record.consumed + record.left) == record.ended_at;
        match reason {
            Reason::Finished => assert!(is_given && wire.up.bytes.len() == wire.up.read, "input is lost"),
            Reason::Closed => assert!(record.has_closed),
            Reason::Drained => assert!(is_given && record.is_stopped, "input is lost"),
            Reason::RequestTooLarge => assert!(record.left == record.largest_request),
            Reason::ProtocolError => assert!(record.is_over),
            _ => {}
        }
    }
}

/// Whether the session is called in this state.
fn is_asked(state: State) -> bool {
    matches!(state, State::Open | State::Draining | State::InputEnded)
}
