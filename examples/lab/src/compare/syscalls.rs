//! How many system calls an answer takes, counted by `strace` where it is installed.
//!
//! strace stops the server at every call, so no other figure comes from this run.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::compare::contender::{Contender, Origin, Server};
use crate::compare::load::Load;
use crate::compare::measure::Bench;
use crate::compare::workload::Workload;
use crate::support::failure::Failure;

/// How long the calls are counted.
const TIME: Duration = Duration::from_millis(300);
/// The time between two lines. A server that is stopped at every call comes to rest within it.
const INTERVAL: Duration = Duration::from_millis(4);
/// How many clients are active in the crowd.
pub const CROWD: usize = 32;

/// The calls that one server makes.
#[derive(Debug, Clone)]
pub struct Calls {
    /// When one client sends a line now and then.
    pub alone: PerAnswer,
    /// When [`CROWD`] clients send a line after each answer.
    pub crowd: PerAnswer,
}

/// How often each system call is made for an answer, by its name.
pub type PerAnswer = BTreeMap<String, f64>;

/// Whether `strace` is installed.
pub fn can_be_counted() -> bool {
    let strace = Command::new("strace").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status();
    strace.is_ok_and(|status| status.success())
}

/// Counts the calls of a server that is started for it; none if the server runs already.
pub fn count(bench: &mut Bench, contender: &Contender) -> Result<Option<Calls>, Failure> {
    if matches!(contender.origin, Origin::Address(_)) {
        return Ok(None);
    }
    let alone = count_with(bench, contender, &Workload::now_and_then(INTERVAL))?;
    let crowd = count_with(bench, contender, &Workload::ping_pong(CROWD, CROWD))?;
    Ok(Some(Calls { alone, crowd }))
}

fn count_with(bench: &mut Bench, contender: &Contender, workload: &Workload) -> Result<PerAnswer, Failure> {
    let trace = bench.logs.join(format!("{}.strace", contender.name));
    // -f: threads too. -qq: nothing but the calls.
    let strace = ["strace", "-f", "-qq", "-o", &trace.to_string_lossy()];
    let log = bench.log(contender, "under strace");
    let server = contender.under(&strace).start(log, &bench.interrupt)?;
    count_on(bench, &server, workload, &trace).map_err(|failure| server.explain(failure))
}

fn count_on(
    bench: &mut Bench,
    server: &Server,
    workload: &Workload,
    trace: &Path,
) -> Result<PerAnswer, Failure> {
    let mut load = Load::new(server.address, workload, &mut bench.sources, &bench.interrupt)?;
    load.gather()?;
    let before = read(trace).map_err(Failure::system("The trace"))?;
    load.play(TIME)?;
    load.part()?;
    let after = read(trace).map_err(Failure::system("The trace"))?;

    let answers = (load.heard().answers + load.heard().late_answers) as f64;
    let earlier = |name: &str| before.get(name).copied().unwrap_or(0);
    let made =
        after.iter().map(|(name, count)| (name, count - earlier(name))).filter(|&(_, count)| count > 0);
    Ok(made.map(|(name, count)| (name.clone(), count as f64 / answers)).collect())
}

/// The number of calls in a trace so far, by their names.
fn read(trace: &Path) -> io::Result<BTreeMap<String, u64>> {
    let mut calls = BTreeMap::new();
    let (mut trace, mut line) = (BufReader::new(File::open(trace)?), String::new());
    // A last line without an ending is a call that waits: it counts when it returns.
    while trace.read_line(&mut line)? > 0 && line.ends_with('\n') {
        if let Some(name) = call_in(&line) {
            *calls.entry(name.to_owned()).or_default() += 1;
        }
        line.clear();
    }
    Ok(calls)
}

/// The name in a line such as `4711 recvfrom(8, ...`. Other lines tell of signals, of threads that end, and of calls
/// that were counted before and go on.
fn call_in(line: &str) -> Option<&str> {
    let (_thread, call) = line.split_once(' ')?;
    let (name, _arguments) = call.trim_start().split_once('(')?;
    let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    is_name.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_call_counts_once() {
        assert_eq!(call_in("4711  recvfrom(8, \"a\", 64, 0, NULL, NULL) = 64\n"), Some("recvfrom"));
        assert_eq!(call_in("4711 recvfrom(8,  <unfinished ...>\n"), Some("recvfrom"));
        assert_eq!(call_in("4711 <... recvfrom resumed>\"a\", 64, 0, NULL, NULL) = 64\n"), None);
        assert_eq!(call_in("4711 --- SIGCHLD {si_signo=SIGCHLD} ---\n"), None);
        assert_eq!(call_in("4711 +++ exited with 0 +++\n"), None);
    }
}
