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
    /// The command of a server could not be run.
    NotStarted(String),
    /// A process ended before it was told to.
    Died(Death),
    /// A process ended before it accepted a session.
    DiedAtStart(Death),
    /// The process runs, but nothing accepts connections on its port.
    NeverListened,
    /// The server accepts connections, but sends no banner.
    NeverGreeted,
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

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Death {
    /// Its exit status, or the signal that ended it.
    pub how: String,
    /// The end of its last line, in quotation marks, and safe to show in a terminal.
    pub last_words: Option<String>,
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last_words = self.last_words.as_ref().map(|words| format!(", last output: {words}"));
        write!(f, "the server has ended ({}){}", self.how, last_words.unwrap_or_default())
    }
}

impl Failure {
    /// Says what was being done when the system refused.
    pub fn system(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |error| Self::System(format!("{doing}: {error}"))
    }

    /// A process that nothing is known of but its end.
    pub fn died(how: String) -> Self {
        Self::Died(Death { how, last_words: None })
    }

    /// Adds how far the opening of the sessions had come.
    pub fn while_opening(self, greeted: usize, wanted: usize) -> Self {
        let far = |what: String| format!("{what} ({greeted} of {wanted} sessions got the banner)");
        match self {
            Self::Silent(_) if greeted == 0 => Self::NeverGreeted,
            Self::Refused(how) => Self::Refused(far(how)),
            Self::Silent(what) => Self::Silent(far(what)),
            other => other,
        }
    }

    /// Adds how many answers were still missing after the measured time.
    pub fn while_parting(self, missing: usize) -> Self {
        match self {
            Self::Silent(what) => Self::Silent(format!("{what} (missing answers: {missing})")),
            other => other,
        }
    }

    /// Whether the server failed before it could be measured, so that no other workload needs to be tried.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::NotStarted(_) | Self::DiedAtStart(_) | Self::NeverListened | Self::NeverGreeted)
    }

    /// Whether the server is to blame, and not what this machine lacks or the operator.
    pub fn is_of_server(&self) -> bool {
        !matches!(self, Self::Impossible(_) | Self::System(_) | Self::Interrupted)
    }

    /// The last words of a process that died.
    pub fn last_words(&self) -> Option<&str> {
        match self {
            Self::Died(death) | Self::DiedAtStart(death) => death.last_words.as_deref(),
            _ => None,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(what) | Self::System(what) | Self::Judged(what) => write!(f, "{what}"),
            Self::Impossible(why) => write!(f, "not possible here: {why}"),
            Self::NotStarted(error) => write!(f, "did not start: {error}"),
            Self::Died(death) => write!(f, "died: {}", death.how),
            Self::DiedAtStart(death) => write!(f, "died before it listened: {}", death.how),
            Self::NeverListened => write!(f, "never listened on its port"),
            Self::NeverGreeted => write!(f, "silent: accepts connections, but sends no banner"),
            Self::Refused(how) => write!(f, "refused: {how}"),
            Self::Lost(how) => write!(f, "lost a session: {how}"),
            Self::WrongAnswer(what) => write!(f, "wrong answer: {what}"),
            Self::Silent(what) => write!(f, "silent: {what}"),
            Self::Interrupted => write!(f, "interrupted"),
        }
    }
}
