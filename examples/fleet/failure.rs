//! Why the show is over before its end.

use std::fmt;
use std::io;

/// What went wrong.
#[derive(Debug)]
pub enum Failure {
    /// This machine cannot hold what was asked for; what is missing, with numbers.
    Impossible(String),
    /// One of our processes could not be started, or the system refused something else that was needed.
    System(String, io::Error),
    /// One of our processes ended although nobody told it to; which one, and how.
    Died(String),
    /// Nothing went on for a long time; what was waited for.
    Silent(String),
    /// Something was lost on the way; what.
    Lost(String),
    /// The operator pressed Ctrl-C, ended us otherwise, or closed the terminal.
    Interrupted,
}

impl Failure {
    /// Says what was being done when the system refused.
    pub fn system(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |error| Self::System(doing, error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Impossible(why) => write!(f, "Not possible here: {why}"),
            Self::System(doing, error) => write!(f, "{doing}: {error}"),
            Self::Died(how) => write!(f, "{how}"),
            Self::Silent(what) => write!(f, "Nothing went on for a long time while waiting for {what}"),
            Self::Lost(what) => write!(f, "{what}"),
            Self::Interrupted => write!(f, "Interrupted; everything is ended"),
        }
    }
}
