//! Each way in which a server, or this machine, can fail.
//!
//! In a comparison a failure is a result: it goes into the server's row, and the other servers go on. Elsewhere it ends
//! the run.

use std::fmt;
use std::io;

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The arguments do not fit together.
    Usage(String),
    /// This machine cannot do what was asked for: what is missing, with numbers.
    Impossible(String),
    /// The system refused something that the laboratory needed. No server caused it.
    System(String),
    /// The server did not start, or greets no client. It need not be tried again.
    Unusable(String),
    /// A process ended before it was told to: which, and how.
    Died(String),
    /// The server turned sessions away: how.
    Refused(String),
    /// The server ended sessions that it should have kept: which, and how.
    Lost(String),
    /// The server sent a wrong byte: which, and where.
    WrongAnswer(String),
    /// Nothing came for a long time: what was waited for.
    Silent(String),
    /// Ctrl-C, or another signal that asks for an end.
    Interrupted,
    /// The run went well, and shows that a server is not good: which.
    Judged(String),
}

impl Failure {
    /// Says what was being done when the system refused.
    pub fn system(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |error| Self::System(format!("{doing}: {error}"))
    }

    /// Adds how far the opening of the sessions had come.
    pub fn while_opening(self, greeted: usize, wanted: usize) -> Self {
        let far = |what: String| format!("{what} ({greeted} of {wanted} sessions got the banner)");
        match self {
            Self::Silent(_) if greeted == 0 => {
                Self::Unusable("accepts connections, but sends no banner".to_owned())
            }
            Self::Refused(how) => Self::Refused(far(how)),
            Self::Silent(what) => Self::Silent(far(what)),
            other => other,
        }
    }

    /// Whether the server is to blame, and not what this machine lacks or the operator.
    pub fn is_of_server(&self) -> bool {
        !matches!(self, Self::Impossible(_) | Self::System(_) | Self::Interrupted)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(what) | Self::System(what) | Self::Judged(what) => write!(f, "{what}"),
            Self::Unusable(why) | Self::Died(why) => write!(f, "{why}"),
            Self::Impossible(why) => write!(f, "not possible here: {why}"),
            Self::Refused(how) => write!(f, "refused: {how}"),
            Self::Lost(how) => write!(f, "lost a session: {how}"),
            Self::WrongAnswer(what) => write!(f, "wrong answer: {what}"),
            Self::Silent(what) => write!(f, "silent: {what}"),
            Self::Interrupted => write!(f, "interrupted"),
        }
    }
}
