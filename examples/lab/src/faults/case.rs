//! What a case is, and what comes of it.

use std::time::Duration;

use serde::Serialize;

use super::cases;
use super::trial::Trial;
use crate::support::server::Setup;

/// One fault: what a client does, and what a good server does.
#[derive(Debug)]
pub struct Case {
    /// A stable name, for `--only` and `--skip`.
    pub name: &'static str,
    /// What the client does, in one sentence.
    pub client: &'static str,
    /// What a good server does, and why.
    pub server: &'static str,
    /// Where the course explains it.
    pub rule: &'static str,
    /// What is needed besides an address.
    pub needs: Needs,
    /// How the server is started.
    pub setup: Setup,
    /// What may run meanwhile.
    pub beside: Beside,
    /// The client's part, and the verdict.
    pub run: fn(&Trial) -> Outcome,
}

impl Case {
    /// The most frequent kind of case, to be changed by struct update.
    pub const PLAIN: Self = Self {
        name: "",
        client: "",
        server: "",
        rule: "",
        needs: Needs::Address,
        setup: Setup::Plain,
        beside: Beside::Few,
        run: |_| Ok(None),
    };
}

/// What a case needs of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Where it listens.
    Address,
    /// That it was started here: for signals, limits and its memory.
    Process,
}

/// How many other servers may be tested meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beside {
    /// None, because times are compared.
    None,
    /// One for each processor.
    Few,
    /// Several for each processor, because the clients wait most of the time.
    Many,
}

/// Cases of one kind.
#[derive(Debug)]
pub struct Group {
    /// A stable name, for `--only` and `--skip`.
    pub name: &'static str,
    /// What its cases have in common.
    pub title: &'static str,
    /// In the order of the table.
    pub cases: &'static [Case],
}

/// All cases, in the order of the table.
pub const GROUPS: [Group; 6] = [
    cases::conversation::GROUP,
    cases::endings::GROUP,
    cases::greedy::GROUP,
    cases::resources::GROUP,
    cases::silence::GROUP,
    cases::process::GROUP,
];

/// A case that was selected, with its place in the whole table.
#[derive(Debug, Clone, Copy)]
pub struct Numbered {
    /// Of the group, from 1.
    pub group_number: usize,
    /// Within the group, from 1.
    pub case_number: usize,
    /// The group that it is in.
    pub group: &'static Group,
    /// The case itself.
    pub case: &'static Case,
}

impl Numbered {
    /// Such as 2.1.
    pub fn number(&self) -> String {
        format!("{}.{}", self.group_number, self.case_number)
    }
}

/// All cases, numbered.
pub fn all() -> impl Iterator<Item = Numbered> {
    static ALL: [Group; 6] = GROUPS;
    ALL.iter().zip(1..).flat_map(|(group, group_number)| {
        let numbered = move |(case, case_number)| Numbered { group_number, case_number, group, case };
        group.cases.iter().zip(1..).map(numbered)
    })
}

/// A figure where there is one, or why the case did not pass.
pub type Outcome = Result<Option<String>, Stop>;

/// Why a case stopped before its end.
#[derive(Debug, Clone)]
pub enum Stop {
    /// The server did something else.
    Fails(Failure),
    /// The case asks nothing of this server, or more than is known of it.
    NotApplicable(String),
    /// The case has no verdict, for a reason that is not the server's.
    CannotRun(String),
}

/// What was expected, and what came.
#[derive(Debug, Clone, Serialize)]
pub struct Failure {
    pub expected: String,
    pub came: String,
}

/// The case fails.
pub fn fails(expected: impl Into<String>, came: impl Into<String>) -> Stop {
    Stop::Fails(Failure { expected: expected.into(), came: came.into() })
}

/// The case has no verdict.
pub fn cannot_run(why: impl Into<String>) -> Stop {
    Stop::CannotRun(why.into())
}

/// Fails if `holds` is false.
pub fn check(holds: bool, expected: impl Into<String>, came: impl Into<String>) -> Result<(), Stop> {
    if holds { Ok(()) } else { Err(fails(expected, came)) }
}

/// The verdict on one server in one case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Passes,
    Fails,
    NotApplicable,
    CouldNotRun,
}

impl Verdict {
    /// All of them, in the order of a legend.
    pub const ALL: [Self; 4] = [Self::Passes, Self::Fails, Self::NotApplicable, Self::CouldNotRun];

    /// In a table.
    pub fn sign(self) -> &'static str {
        match self {
            Self::Passes => "✓",
            Self::Fails => "✗",
            Self::NotApplicable => "–",
            Self::CouldNotRun => "?",
        }
    }

    /// In a page's style sheet.
    pub fn class(self) -> &'static str {
        match self {
            Self::Passes => "passes",
            Self::Fails => "fails",
            Self::NotApplicable => "not-applicable",
            Self::CouldNotRun => "could-not-run",
        }
    }

    /// In a sentence after the server's name.
    pub fn words(self) -> &'static str {
        match self {
            Self::Passes => "passes",
            Self::Fails => "fails",
            Self::NotApplicable => "not applicable",
            Self::CouldNotRun => "could not be run",
        }
    }
}

/// What a reader is told about one server in one case.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    pub verdict: Verdict,
    /// What was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub figure: Option<String>,
    /// Why it fails.
    #[serde(flatten)]
    pub failure: Option<Failure>,
    /// Why there is no verdict.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    pub seconds: f64,
}

impl Finding {
    /// From what the case returned.
    pub fn new(outcome: Outcome, took: Duration) -> Self {
        let seconds = (took.as_secs_f64() * 1000.0).round() / 1000.0;
        let empty = Self { verdict: Verdict::Passes, figure: None, failure: None, why: None, seconds };
        match outcome {
            Ok(figure) => Self { figure, ..empty },
            Err(Stop::Fails(failure)) => Self { verdict: Verdict::Fails, failure: Some(failure), ..empty },
            Err(Stop::NotApplicable(why)) => {
                Self { verdict: Verdict::NotApplicable, why: Some(why), ..empty }
            }
            Err(Stop::CannotRun(why)) => Self { verdict: Verdict::CouldNotRun, why: Some(why), ..empty },
        }
    }
}

/// How much of a message a reader is shown (bytes).
pub const MOST: usize = 60;

/// Bytes for a reader: text in quotation marks, control characters escaped, and no more than the beginning.
pub fn shown(bytes: &[u8], most: usize) -> String {
    let beginning = bytes[..bytes.len().min(most)].escape_ascii().to_string().replace("\\'", "'");
    match bytes.len() {
        0 => "nothing".to_owned(),
        length if length > most => format!("\"{beginning}\" and {} more bytes", length - most),
        _ => format!("\"{beginning}\""),
    }
}
