//! What a case is, and what comes of it.

use std::time::Duration;

use super::cases;
use super::trial::Trial;
use crate::support::Setup;

/// One fault: what a client does, and what a good server does. The words are those of `cases.md`.
#[derive(Debug, Clone)]
pub struct Case {
    /// Its place in the table, such as 2.1.
    pub number: String,
    /// A stable name, for `--only` and `--skip`.
    pub name: String,
    /// The same for its group.
    pub group: String,
    /// What the cases of the group have in common.
    pub title: String,
    pub client: String,
    pub server: String,
    /// Where the course explains it.
    pub rule: String,
    pub play: Play,
}

/// The client's part of a case, and the verdict.
#[derive(Debug, Clone, Copy)]
pub struct Play {
    pub name: &'static str,
    run: Run,
    /// Whether it needs a process that was started here: for signals, limits and its memory.
    pub needs_process: bool,
    pub setup: Setup,
    pub beside: Beside,
}

#[derive(Debug, Clone, Copy)]
enum Run {
    Checks(fn(&Trial) -> Checked),
    Measures(fn(&Trial) -> Outcome),
}

/// How many trials may run together, with any cases and servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beside {
    /// None, because times are compared.
    None,
    /// One for each processor.
    Few,
    /// Several for each processor, because the clients wait most of the time.
    Many,
}

impl Play {
    /// A case that needs an address only.
    pub const fn new(name: &'static str, run: fn(&Trial) -> Checked) -> Self {
        Self { name, run: Run::Checks(run), needs_process: false, setup: Setup::Plain, beside: Beside::Few }
    }

    /// The same with a figure.
    pub const fn measured(name: &'static str, run: fn(&Trial) -> Outcome) -> Self {
        Self { run: Run::Measures(run), ..Self::new(name, |_| Ok(())) }
    }

    /// Plays it.
    pub fn run(&self, trial: &Trial) -> Outcome {
        match self.run {
            Run::Checks(run) => run(trial).map(|()| None),
            Run::Measures(run) => run(trial),
        }
    }

    pub const fn of_process(self) -> Self {
        Self { needs_process: true, ..self }
    }

    pub const fn with(self, setup: Setup) -> Self {
        Self { needs_process: true, setup, ..self }
    }

    pub const fn beside(self, beside: Beside) -> Self {
        Self { beside, ..self }
    }
}

/// All cases, in the order of the page.
pub fn all() -> Vec<Case> {
    const WELL_FORMED: &str = "the page is well-formed";
    let mut all = Vec::new();
    let groups = include_str!("../../cases.md").split("\n## ").skip(1);
    for (group_number, page) in (1..).zip(groups) {
        let mut cases = page.split("\n### ");
        let head = cases.next().and_then(|head| head.trim().split_once(" (")).expect(WELL_FORMED);
        for (number, page) in (1..).zip(cases) {
            let mut words = page.split("\n\n").map(|words| words.trim().replace('\n', " "));
            let mut next = || words.next().expect(WELL_FORMED);
            let (name, client, last) = (next(), next(), next());
            let (server, rule) = last.rsplit_once(" (").expect(WELL_FORMED);
            let play = cases::ALL.iter().copied().flatten().find(|play| play.name == name);
            all.push(Case {
                number: format!("{group_number}.{number}"),
                play: *play.expect("each case of the page is played"),
                name,
                group: head.1.trim_end_matches(')').to_owned(),
                title: head.0.to_owned(),
                client,
                server: server.to_owned(),
                rule: rule.trim_end_matches(')').to_owned(),
            });
        }
    }
    all
}

/// What a step of a case returns, or why the case stopped there.
pub type Checked<T = ()> = Result<T, Stop>;
/// A figure where there is one, or why the case did not pass.
pub type Outcome = Checked<Option<String>>;

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
#[derive(Debug, Clone)]
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
pub fn check(holds: bool, expected: impl Into<String>, came: impl Into<String>) -> Checked {
    if holds { Ok(()) } else { Err(fails(expected, came)) }
}

/// The verdict on one server in one case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
        ["✓", "✗", "–", "?"][self as usize]
    }

    /// In a sentence, after the server's name.
    pub fn words(self) -> &'static str {
        ["passes", "fails", "not applicable", "could not be run"][self as usize]
    }

    /// In a style sheet.
    pub fn class(self) -> String {
        self.words().replace(' ', "-")
    }
}

/// What a reader is told about one server in one case.
#[derive(Debug, Clone)]
pub struct Finding {
    pub server: String,
    pub outcome: Outcome,
    pub took: Duration,
}

impl Finding {
    pub fn verdict(&self) -> Verdict {
        match self.outcome {
            Ok(_) => Verdict::Passes,
            Err(Stop::Fails(_)) => Verdict::Fails,
            Err(Stop::NotApplicable(_)) => Verdict::NotApplicable,
            Err(Stop::CannotRun(_)) => Verdict::CouldNotRun,
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
