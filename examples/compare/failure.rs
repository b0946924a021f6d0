//! Why there is no figure: each way in which a server, or this machine, can fail a measurement.
//!
//! A failure is a result like any other. It goes into the server's row, and the other servers go on.

use std::fmt;

/// What went wrong, in the words of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The command could not be run at all.
    NotStarted(String),
    /// The process ended although nobody told it to.
    Died(Death),
    /// The same, before it accepted anybody.
    DiedAtStart(Death),
    /// The process runs, but nothing accepts connections on its port.
    NeverListened,
    /// Connections come about, but nobody is greeted.
    NeverGreeted,
    /// The server turned sessions away; how it did that.
    Refused(String),
    /// The server closed or reset a session in the middle of the conversation.
    Lost(String),
    /// The server did not say what it has to say; what it said instead.
    WrongAnswer(String),
    /// Nothing came for a long time; what was waited for.
    Silent(String),
    /// So many sessions need more open files than a process may have here.
    FileLimit {
        /// The files that the load and the server need each.
        needed: u64,
        /// The files that each may have.
        limit: u64,
    },
    /// The load itself failed, which is no fault of the server.
    Load(String),
    /// The operator pressed Ctrl-C.
    Interrupted,
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Death {
    /// Its exit status, or the signal that ended it.
    pub how: String,
    /// The last line that it wrote, cut where it is long, in quotation marks and safe to show in a terminal.
    pub last_words: Option<String>,
}

impl Failure {
    /// The same failure with how far the opening of the sessions had come.
    pub fn while_opening(self, greeted: usize, wanted: usize) -> Self {
        let far = |what: String| format!("{what} ({greeted} of {wanted} sessions were greeted)");
        match self {
            Self::Silent(_) if greeted == 0 => Self::NeverGreeted,
            Self::Refused(how) => Self::Refused(far(how)),
            Self::Silent(what) => Self::Silent(far(what)),
            other => other,
        }
    }

    /// The same failure with how many answers were still owed when the time was over and all that was left to do was to
    /// wait for them.
    pub fn while_parting(self, owed: usize) -> Self {
        match self {
            Self::Silent(what) => Self::Silent(format!("{what} (answers still owed: {owed})")),
            other => other,
        }
    }

    /// Whether the server never got as far as being measured: no other workload needs to be tried on it.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::NotStarted(_) | Self::DiedAtStart(_) | Self::NeverListened | Self::NeverGreeted)
    }

    /// The last words of a server that died. They are told once, and not in each of its rows.
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
            Self::NotStarted(error) => write!(f, "did not start: {error}"),
            Self::Died(death) => write!(f, "died: {}", death.how),
            Self::DiedAtStart(death) => write!(f, "died before it listened: {}", death.how),
            Self::NeverListened => write!(f, "never listened on its port"),
            Self::NeverGreeted => write!(f, "silent: accepts connections, but greets nobody"),
            Self::Refused(how) => write!(f, "refused: {how}"),
            Self::Lost(how) => write!(f, "lost a session: {how}"),
            Self::WrongAnswer(what) => write!(f, "wrong answer: {what}"),
            Self::Silent(what) => write!(f, "silent: {what}"),
            Self::FileLimit { needed, limit } => {
                write!(f, "not run: needs {needed} open files a process, the limit here is {limit}")
            }
            Self::Load(error) => write!(f, "the load failed: {error}"),
            Self::Interrupted => write!(f, "interrupted"),
        }
    }
}
