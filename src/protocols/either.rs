//! One of two sessions, for a choice that is made when the program runs.

use std::io;

use crate::buffer::Buffer;
use crate::reason::Reason;
use crate::session::{AtDeadline, EndOfInput, Session, Sizes, Step, Timer};

/// A session of one type or another. A server that puts a layer around its sessions only if an option asks for it needs
/// no box for each of them:
///
/// ```
/// use okloop::protocols::{Either, Framing, OkSession, Telnet};
///
/// let new_session = |telnet: bool| match OkSession::new(Framing::Lines) {
///     session if telnet => Either::Left(Telnet::new(session)),
///     session => Either::Right(session),
/// };
/// # new_session(true);
/// ```
#[derive(Debug)]
pub enum Either<L, R> {
    /// The one.
    Left(L),
    /// The other.
    Right(R),
}

/// Does the same with the session of either type.
macro_rules! with_session {
    ($either:expr, $session:ident => $result:expr) => {
        match $either {
            Either::Left($session) => $result,
            Either::Right($session) => $result,
        }
    };
}

impl<L: Session, R: Session> Session for Either<L, R> {
    fn sizes(&self) -> Sizes {
        with_session!(self, session => session.sizes())
    }

    fn is_proxied(&self) -> bool {
        with_session!(self, session => session.is_proxied())
    }

    fn connect_failed(&mut self, error: &io::Error) {
        with_session!(self, session => session.connect_failed(error));
    }

    fn greet(&mut self, output: &mut Buffer) {
        with_session!(self, session => session.greet(output));
    }

    fn answer(&mut self, input: &mut [u8], output: &mut Buffer) -> Step {
        with_session!(self, session => session.answer(input, output))
    }

    fn end_of_input(&mut self, end: EndOfInput) {
        with_session!(self, session => session.end_of_input(end));
    }

    fn ending(&mut self, reason: Reason, output: &mut Buffer) {
        with_session!(self, session => session.ending(reason, output));
    }

    fn closed(&mut self, reason: Reason) {
        with_session!(self, session => session.closed(reason));
    }

    fn timer(&mut self) -> Timer {
        with_session!(self, session => session.timer())
    }

    fn deadline(&mut self) -> AtDeadline {
        with_session!(self, session => session.deadline())
    }
}
