//! One of two sessions, for a choice that is made when the program runs.

use crate::buffer::Buffer;
use crate::session::{Session, Step, Timer};

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
    fn inner(&mut self) -> Option<&mut dyn Session> {
        with_session!(self, session => Some(session))
    }

    fn answer(&mut self, input: &mut [u8], output: &mut Buffer) -> Step {
        with_session!(self, session => session.answer(input, output))
    }

    /// In each turn, so without a call through a table.
    fn timer(&mut self) -> Timer {
        with_session!(self, session => session.timer())
    }
}
