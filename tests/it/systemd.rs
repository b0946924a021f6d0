//! The committed systemd unit, judged by systemd's own tools: no system has to run under systemd for that.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use nix::sys::signal::Signal;
use okloop::config::{HIGH_WATER, INPUT_BUFFER};
use okloop::protocols::PREFIX;

use crate::harness::{Client, Process, binary};

const UNIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/deploy/okloop@.service");
const SYSCTLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/deploy/sysctl.conf");

#[test]
#[ignore = "needs systemd-analyze; .ci/run runs it where it is"]
fn the_unit_is_understood_whole() {
    let Some(output) = analyze(&["verify".as_ref(), &unit_of("verify")]) else { return };
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaints.is_empty(), "{}: {complaints}", output.status);
}

#[test]
#[ignore = "needs systemd-analyze; .ci/run runs it where it is"]
fn the_unit_leaves_little_exposed() {
    // On systemd's scale from 0 (nothing) to 100; a unit without any hardening has 96.
    let arguments = ["security", "--offline=true", "--threshold=15", "--no-pager"].map(Path::new);
    let unit = unit_of("security");
    let Some(output) = analyze(&[&arguments[..], &[&unit]].concat()) else { return };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// A session at its worst fills its buffers in the process and in the kernel, and systemd counts both.
#[test]
fn the_units_limits_have_room_for_every_session_at_its_worst() {
    /// A socket without bytes, its file and its entry in epoll.
    const IDLE: usize = 4200;
    /// The standard streams, the files of the server itself, and clients that are being refused.
    const OTHER_FILES: u64 = 32;
    let unit = fs::read_to_string(UNIT).expect("the unit is committed");
    let of_unit = |key| value(&unit, key);
    let sessions: usize = option(&unit, "--max-connections").parse().expect("it is a number");
    let files: u64 = of_unit("LimitNOFILE=").parse().expect("it is a number");
    let gibibytes: usize =
        of_unit("MemoryMax=").strip_suffix('G').expect("in GiB").parse().expect("it is a number");

    let sysctls = fs::read_to_string(SYSCTLS).expect("the sysctls are committed");
    let most = |key| -> usize {
        let three_numbers = value(&sysctls, key);
        three_numbers.split(' ').next_back().expect("there are three").parse().expect("it is a number")
    };
    let in_kernel = IDLE + most("net.ipv4.tcp_rmem = ") + most("net.ipv4.tcp_wmem = ");
    let at_worst = INPUT_BUFFER + HIGH_WATER + PREFIX.len() + INPUT_BUFFER + in_kernel;
    assert!(sessions as u64 + OTHER_FILES <= files, "{sessions} sessions, {files} open files");
    assert!(
        sessions * at_worst <= gibibytes << 30,
        "{sessions} sessions of {at_worst} bytes, {gibibytes} GiB"
    );
}

/// Otherwise it kills, and the counters are lost.
#[test]
fn systemd_waits_longer_than_the_server_drains() {
    let unit = fs::read_to_string(UNIT).expect("the unit is committed");
    let seconds = |text: &str| text.parse::<f64>().expect("it is a number of seconds");
    let (drain, patience) = (option(&unit, "--drain-timeout"), value(&unit, "TimeoutStopSec="));
    assert!(seconds(drain) + 1.0 <= seconds(patience), "{drain} s to drain, {patience} s to wait");
}

#[test]
#[ignore = "needs systemd-analyze and strace; .ci/run installs and runs it"]
fn every_system_call_of_the_server_is_one_that_the_unit_allows() {
    if analyze(&["--version".as_ref()]).is_none() {
        return;
    }
    let unit = fs::read_to_string(UNIT).expect("the unit is committed");
    let mut allowed = BTreeSet::new();
    for filter in unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")) {
        let names = members(filter.trim_start_matches('~'));
        if filter.starts_with('~') {
            allowed = &allowed - &names;
        } else {
            allowed.extend(names);
        }
    }
    let refused: Vec<String> = system_calls().into_iter().filter(|name| !allowed.contains(name)).collect();
    assert_eq!(refused, Vec::<String>::new());
}

/// What follows this option in the command line of the unit.
fn option<'a>(unit: &'a str, option: &str) -> &'a str {
    let mut words = value(unit, "ExecStart=").split(' ').skip_while(|word| *word != option);
    words.nth(1).expect("the unit has this option")
}

/// What a line of a file says behind `key`.
fn value<'a>(file: &'a str, key: &str) -> &'a str {
    file.lines().find_map(|line| line.strip_prefix(key)).expect("the file sets it")
}

/// The names of the system calls in a list of names and sets of them.
fn members(list: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for word in list.split_whitespace() {
        if word.starts_with('@') {
            let output = analyze(&["syscall-filter".as_ref(), word.as_ref()]).expect("it was there just now");
            let text = String::from_utf8(output.stdout).expect("names are ASCII");
            // The first line repeats the set's name; comments and members, other sets among them, are indented.
            let lines = text.lines().filter(|line| line.starts_with(' ') && !line.trim().starts_with('#'));
            lines.for_each(|line| names.extend(members(line)));
        } else {
            names.insert(word.to_owned());
        }
    }
    names
}

/// The system calls that a server makes from its start, through a session and a report, to the end of its drain.
fn system_calls() -> BTreeSet<String> {
    let trace = directory("strace").join("trace");
    let mut command = Command::new("strace");
    // Without a tracer between us and the server, signals reach the server.
    command.args(["-D", "-f", "-qq", "-e", "signal=none", "-o"]).arg(&trace).arg(binary("okloop"));
    let server = Process::spawn(command.args(["--host", "127.0.0.1", "--port", "0", "--reuse-port"]));
    let mut client = Client::greeted(server.port());
    client.ask(b"hello");
    server.signal(Signal::SIGUSR1);
    server.line_with("open=1 ");
    server.signal(Signal::SIGTERM);
    assert_eq!(client.read_to_end(), b"");
    drop(client);
    assert_eq!(server.finish().status, Some(0));

    let trace = fs::read_to_string(&trace).expect("strace has written it");
    let calls = trace.lines().filter_map(|line| line.split_whitespace().nth(1)?.split_once('('));
    // What runs before the filter is in force: systemd itself executes the program.
    calls.map(|(name, _)| name.to_owned()).filter(|name| name != "execve").collect()
}

/// Runs systemd-analyze; `None`, and a word about it, where there is none.
fn analyze(arguments: &[&Path]) -> Option<Output> {
    match Command::new("systemd-analyze").args(arguments).output() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            eprintln!("skipped: there is no systemd-analyze here");
            None
        }
        output => Some(output.expect("systemd-analyze starts")),
    }
}

/// A copy of the unit that starts the program that was built here, because systemd looks whether there is one.
fn unit_of(test: &str) -> PathBuf {
    let unit = fs::read_to_string(UNIT).expect("the unit is committed");
    let program = binary("okloop");
    let copy = directory(test).join("okloop@.service");
    let adapted = unit.replace("/usr/local/bin/okloop", program.to_str().expect("the path is valid UTF-8"));
    fs::write(&copy, adapted).expect("the directory is ours");
    copy
}

/// A directory of this test's own.
fn directory(test: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("systemd-{test}"));
    fs::create_dir_all(&directory).expect("cargo gives the tests a directory");
    directory
}
