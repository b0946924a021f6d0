//! The proof that each case can fail: a correct plain server passes all of them, and a server that is broken in one way
//! fails exactly the cases that it should.

#![cfg(target_os = "linux")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError, RwLock};
use std::thread;

use self::cargo::cargo;

#[path = "../../../tests/it/harness/cargo.rs"]
mod cargo;

/// What is broken, which cases it must fail, and which it may fail besides, depending on times.
const MUTANTS: [(&str, &[&str], &[&str]); 41] = [
    (
        "greets-twice",
        &["greeting"],
        &[
            "many-in-one",
            "reads-slowly",
            "stalled-readers",
            "crowd",
            "few-open-files",
            "no-files-left",
            "idle",
        ],
    ),
    ("waits-for-newline", &["no-newline", "split-request"], &["stop-behind-window"]),
    ("ascii-only", &["not-text"], &[]),
    ("ignores-empty-lines", &["split-request", "byte-by-byte"], &STREAMS),
    ("fifty-lines", &["many-in-one"], &STREAMS),
    ("ends-byte-senders", &["byte-by-byte"], &[]),
    ("long-chunks", &["long-message", "late-reader", "half-close"], &STREAMS),
    ("impatient-writer", &["late-reader", "reads-slowly"], &STREAMS),
    ("closes-at-half-close", &["half-close", "half-close-early", "data-and-end"], &STREAMS),
    ("closes-early-half-close", &["half-close-early"], &[]),
    ("misses-the-end", &["data-and-end"], &["half-close-early"]),
    ("exits-on-lost-client", &["reset-in-queue"], &["reset-mid-answer", "reset-unread"]),
    ("exits-on-write-error", &["reset-mid-answer"], &["reset-in-queue", "reset-unread"]),
    ("exits-on-read-error", &["reset-unread"], &["reset-in-queue", "reset-mid-answer"]),
    ("lingers-shortly", &["polite-close"], &[]),
    ("no-keepalive", &["vanished"], &[]),
    (
        "buffers-all",
        &["never-reads", "stalled-readers"],
        &["polite-close", "few-open-files", "no-files-left", "ten-thousand", "sigterm", "sigterm-twice"],
    ),
    ("closes-slow-readers", &["reads-slowly"], &["stalled-readers"]),
    ("few-writers", &["stalled-readers"], &[]),
    ("unfair", &["flood"], &["never-reads", "reads-slowly", "stalled-readers", "sigterm", "sigterm-twice"]),
    ("accepts-all-first", &["crowd"], &["few-open-files", "no-files-left", "sigterm", "sigterm-twice"]),
    ("closes-on-urgent", &["urgent-data"], &[]),
    ("resets-when-full", &["few-open-files"], &[]),
    ("spins", &["few-open-files", "no-files-left"], &[]),
    ("waits-for-an-end", &["no-files-left"], &[]),
    ("exits-on-full-memory", &["memory-limit"], &[]),
    ("keeps-a-bit-for-each-file", &["billion-files"], &[]),
    ("five-thousand", &["ten-thousand"], &[]),
    ("polls", &["idle"], &[]),
    ("leaks-files", &["after-a-crowd"], &[]),
    ("leaks-memory", &["after-a-crowd"], &[]),
    ("no-signals", &["sigterm", "sigterm-twice", "stop-behind-window"], &[]),
    ("forgets-the-window", &["stop-behind-window"], &[]),
    ("second-signal-kills", &["sigterm-twice"], &[]),
    ("waits-for-all", &["stop-unread"], &[]),
    ("no-reuse", &["restart"], &[]),
    ("exits-on-continue", &["reset-unread", "stop-and-go"], &[]),
    ("exits-on-broken-pipe", &["stdout-closed"], &[]),
    ("exits-on-full-disk", &["stdout-full"], &[]),
    ("waits-for-log", &["stdout-unread"], &[]),
    ("logs-to-client", &["no-standard-streams"], &[]),
];

/// Cases that each of them may fail on a busy machine: times decide, and what an allocator keeps at the limit.
const BUSY: [&str; 2] = ["flood", "memory-limit"];

/// Cases in which much is sent, which the kernel cuts as it likes.
const STREAMS: [&str; 13] = [
    "long-message",
    "late-reader",
    "half-close",
    "polite-close",
    "never-reads",
    "reads-slowly",
    "stalled-readers",
    "after-a-crowd",
    "sigterm",
    "sigterm-twice",
    "stop-behind-window",
    "stop-and-go",
    "reset-mid-answer",
];

/// A correct server is judged while no other test loads the machine.
static MACHINE: RwLock<()> = RwLock::new(());

#[test]
fn a_correct_server_passes_every_case() {
    let _alone = MACHINE.write().unwrap_or_else(PoisonError::into_inner);
    let plain = [server("plain", "nothing")];
    let mut run = Run::of("correct", &plain, &[]);
    // On a busy machine its answers can be late: what has failed is judged again.
    for _ in 0..2 {
        if run.status != Some(0) {
            let failed: Vec<String> = run.failed["plain"].iter().cloned().collect();
            run = Run::of("correct", &plain, &["--only", &failed.join(",")]);
        }
    }
    assert_eq!((run.status, &run.failed["plain"]), (Some(0), &BTreeSet::new()));
    assert_eq!(run.cases.len(), run.passed["plain"].len(), "no case is left without a verdict");
}

#[test]
fn each_broken_server_fails_its_own_cases() {
    /// Most of the time, their clients wait.
    const TOGETHER: usize = 4;
    let _beside = MACHINE.read().unwrap_or_else(PoisonError::into_inner);
    let fails = |name: &str, must: &[&str]| {
        let arguments = ["--patience", "2", "--only", &must.join(",")];
        let expected: BTreeSet<String> = must.iter().map(ToString::to_string).collect();
        let run = Run::of(name, &[server(name, name)], &arguments);
        run.status == Some(1) && run.failed[name] == expected
    };
    let (next, lucky) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let judge_the_next = || {
        while let Some(&(name, must, _)) = MUTANTS.get(next.fetch_add(1, Ordering::Relaxed)) {
            if !fails(name, must) {
                lucky.lock().expect("no holder panics").push((name, must));
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..TOGETHER {
            scope.spawn(judge_the_next);
        }
    });
    // On a busy machine a broken server can be lucky: its client comes too late to meet the fault. Alone it is not.
    for (name, must) in lucky.into_inner().expect("no holder panics") {
        assert!((0..3).any(|_| fails(name, must)), "{name} does not fail {must:?}");
    }
}

#[test]
fn every_case_has_a_server_that_fails_it() {
    let output = lab(&["--list"]).output().expect("the command runs");
    let list = String::from_utf8(output.stdout).expect("the list is text");
    let names = list.lines().filter_map(|line| {
        let (number, name) = line.trim().split_once(' ')?;
        number.split_once('.')?.0.parse::<usize>().ok()?;
        Some(name)
    });
    let fails: BTreeSet<&str> = MUTANTS.iter().flat_map(|(_, must, _)| *must).copied().collect();
    assert_eq!(names.collect::<BTreeSet<_>>(), fails);
}

/// Some ten minutes on two processors.
#[test]
#[ignore = "every broken server in every case takes minutes"]
fn each_broken_server_fails_no_other_case() {
    let servers: Vec<String> = MUTANTS.iter().map(|(name, ..)| server(name, name)).collect();
    let run = Run::of("matrix", &servers, &["--patience", "3"]);
    for (name, must, may) in MUTANTS {
        let failed = &run.failed[name];
        let allowed = |case: &String| [must, may, &BUSY].iter().any(|cases| cases.contains(&case.as_str()));
        assert!(must.iter().all(|case| failed.contains(*case)), "{name} fails {failed:?}");
        assert!(failed.iter().all(allowed), "{name} fails {failed:?}");
    }
}

#[test]
fn a_server_by_chunks_fails_where_lines_are_promised() {
    let _beside = MACHINE.read().unwrap_or_else(PoisonError::into_inner);
    let cases = ["no-newline", "split-request", "byte-by-byte"];
    let only = cases.join(",");
    let run = Run::of("lines", &[server("plain", "nothing")], &["--framing", "lines", "--only", &only]);
    assert_eq!(run.failed["plain"], cases.iter().map(ToString::to_string).collect());
}

#[test]
fn a_server_that_dies_is_told_as_dead_and_not_as_a_wrong_banner() {
    let output =
        lab(&["--server", &server("mortal", "exits-on-client")]).arg("--out").arg(out("mortal")).output();
    let output = output.expect("the command runs");
    let complaint = String::from_utf8(output.stderr).expect("it is text");
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{complaint}");
    assert!(
        complaint.contains("the server has ended (exit status: 3)") && !complaint.contains("--banner"),
        "{complaint}"
    );
}

#[test]
fn a_wrong_argument_ends_with_status_2() {
    for arguments in [
        ["--server", "no-command"],
        ["--server", "a=without-port"],
        ["--connect", "without-port"],
        ["--connect", "192.0.2.1:8888"],
        ["--only", "no-such-case"],
        ["--skip", "no-such-case"],
    ] {
        let status = lab(&arguments).output().expect("the command runs").status;
        assert_eq!(status.code(), Some(2), "{arguments:?}");
    }
}

/// What one run of the command found.
struct Run {
    status: Option<i32>,
    cases: Vec<String>,
    passed: BTreeMap<String, BTreeSet<String>>,
    failed: BTreeMap<String, BTreeSet<String>>,
}

impl Run {
    fn of(name: &str, servers: &[String], arguments: &[&str]) -> Self {
        let out = out(name);
        let table = out.join("table.md");
        let mut command = lab(&["--end", "quit\\n", "--goodbye", "Goodbye\\n", "--out"]);
        command.arg(&out).args(arguments).arg("--markdown").arg(&table);
        for server in servers {
            command.args(["--server", server]);
        }
        let status = command.output().expect("the command runs").status.code();
        let text = fs::read_to_string(table).expect("the command writes its table");
        let mut run = Self { status, cases: Vec::new(), passed: BTreeMap::new(), failed: BTreeMap::new() };
        let cells = |line: &str| -> Vec<String> {
            line.trim_matches(['|', ' ']).split(" | ").map(str::to_owned).collect()
        };
        let mut rows = text.lines().filter(|line| line.starts_with("| ")).map(cells);
        let servers = rows.next().expect("the table has a head");
        for row in rows.skip(1) {
            let (_, case) = row[0].split_once(' ').expect("a number and a name");
            for (server, sign) in servers.iter().zip(&row).skip(1) {
                run.passed.entry(server.clone()).or_default();
                run.failed.entry(server.clone()).or_default();
                let verdicts = if sign == "✓" { &mut run.passed } else { &mut run.failed };
                verdicts.entry(server.clone()).or_default().insert(case.to_owned());
            }
            run.cases.push(case.to_owned());
        }
        run
    }
}

fn out(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("faults").join(name)
}

fn lab(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
    command.arg("faults").args(arguments);
    command
}

fn server(name: &str, broken: &str) -> String {
    format!("{name}={} --break {broken} {{port}}", MUTANT.display())
}

/// The program, built as this test was: `cargo test --test faults` builds no examples.
static MUTANT: LazyLock<PathBuf> = LazyLock::new(|| {
    let directory = Path::new(env!("CARGO_BIN_EXE_lab")).parent().expect("a file is in a directory");
    let profile = if directory.ends_with("debug") { "dev" } else { "release" };
    let mut cargo = cargo();
    cargo.args(["build", "--quiet", "--package", "lab", "--example", "mutant", "--profile", profile]);
    cargo.args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"), "--target-dir"]);
    let status = cargo.arg(directory.join("..")).status().expect("cargo starts");
    assert!(status.success(), "cargo build: {status}");
    directory.join("examples/mutant")
});
