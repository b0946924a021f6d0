//! The laboratory: what a readiness loop costs and what a thread for each connection costs, measured on your machine.
//!
//! ```text
//! cargo run --release --example compare
//! cargo run --release --example compare -- --quick
//! cargo run --release --example compare -- --server 'python=python3 server.py {port}'
//! ```
//!
//! Every server gets the same load in turn, and every byte of every answer is checked. In the end there are tables in
//! the terminal, and in `target/compare` a page with pictures (`report.html`) and all figures (`results.json`).
//!
//! ```text
//!   arguments, ladder ──► contenders            who is compared
//!   workload ──► load (clients on one Poll) ──► what was heard
//!   contender (child processes) + family   ──► what it cost        measure: both together, once
//!   rounds: all of that in turn, several times; syscalls: counted apart
//!   report: table, page with pictures, JSON
//! ```
//!
//! Read `measure` first, then `load`, which is the client's half of a readiness loop.

// A figure is a number for people: that a count beyond 2^53 would lose its last digit is no loss.
#![allow(clippy::cast_precision_loss)]

mod arguments;
mod contender;
mod failure;
mod family;
mod figures;
mod ladder;
mod load;
mod measure;
mod report;
mod rounds;
mod syscalls;
mod workload;

#[path = "../support/cargo.rs"]
mod cargo;
#[path = "../support/child.rs"]
mod child;
#[path = "../support/connect.rs"]
mod connect;
#[path = "../support/machine.rs"]
mod machine;
#[path = "../support/procfs.rs"]
mod procfs;

use std::collections::HashSet;
use std::env;
use std::fs;
use std::io::{self, Write};
use std::path;
use std::process::{self, Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use rlimit::Resource;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::arguments::Arguments;
use crate::contender::Contender;
use crate::failure::Failure;
use crate::load::Sources;
use crate::machine::Machine;
use crate::measure::Bench;
use crate::report::{Ending, Occasion, Report};
use crate::rounds::Cell;
use crate::syscalls::Calls;
use crate::workload::Workload;

fn main() -> ExitCode {
    let arguments = arguments();
    match compare(&arguments) {
        Ok(Ending::Complete) => ExitCode::SUCCESS,
        // As a shell reports a program that Ctrl-C ended.
        Ok(Ending::Interrupted) => ExitCode::from(130),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The arguments; wrong ones end the program with one line and status 2.
fn arguments() -> Arguments {
    Arguments::try_parse().unwrap_or_else(|error| {
        if error.exit_code() == 0 {
            error.exit();
        }
        refuse(error.to_string().lines().next().unwrap_or_default())
    })
}

fn refuse(message: &str) -> ! {
    eprintln!("{message}");
    process::exit(2)
}

fn compare(arguments: &Arguments) -> io::Result<Ending> {
    let added = arguments.contenders().unwrap_or_else(|message| refuse(&format!("error: {message}")));
    let contenders: Vec<_> = ladder::contenders()?.into_iter().chain(added).collect();
    let mut names = HashSet::new();
    if let Some(twice) = contenders.iter().find(|contender| !names.insert(&contender.name)) {
        refuse(&format!("error: two servers are called {}", twice.name));
    }
    let occasion = occasion();
    let logs = arguments.output.join("logs");
    fs::create_dir_all(&logs)
        .map_err(|error| io::Error::other(format!("{} cannot be made: {error}", logs.display())))?;

    // Until all that was started has ended, a signal is a wish; after that it ends us as it ends others.
    let interrupted = Arc::new(AtomicBool::new(false));
    let nothing_runs = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register_conditional_default(signal, Arc::clone(&nothing_runs))?;
        signal_hook::flag::register(signal, Arc::clone(&interrupted))?;
    }
    ladder::build(&interrupted)?;
    if interrupted.load(Ordering::Relaxed) {
        return Ok(Ending::Interrupted);
    }
    let mut bench = Bench {
        time: arguments.time(),
        logs,
        file_limit: raise_file_limit(),
        sources: Sources::new(),
        interrupted,
    };
    if occasion.machine.was_busy() {
        eprintln!("This machine was busy in the last minute. If it still is, the figures will show it.");
    }
    let report = measure_all(arguments, occasion, contenders, &mut bench);
    nothing_runs.store(true, Ordering::Relaxed);
    tell(arguments, &report)
}

/// Writes the files and shows the tables: either also when the other fails.
fn tell(arguments: &Arguments, report: &Report) -> io::Result<Ending> {
    // The files first: whoever looks only at the head of the table is to have them all the same.
    let written = report.write(&arguments.output);
    let shown = show(report, &path::absolute(&arguments.output)?.display().to_string());
    written.and(shown)?;
    Ok(report.ending)
}

fn show(report: &Report, place: &str) -> io::Result<()> {
    let mut out = io::stdout();
    writeln!(out, "{}", report.table())?;
    writeln!(out, "Pictures: file://{place}/report.html\nFigures:  {place}/results.json")
}

/// When, where and with which words this run was begun.
fn occasion() -> Occasion {
    // The library tells no more than the seconds since 1970.
    let date = Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"]).output().ok();
    let date = date.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    Occasion {
        date: date.unwrap_or_else(|| String::from("unknown")),
        command_line: env::args_os().map(|word| word.to_string_lossy().into_owned()).collect(),
        machine: Machine::here(),
    }
}

fn measure_all(
    arguments: &Arguments,
    occasion: Occasion,
    contenders: Vec<Contender>,
    bench: &mut Bench,
) -> Report {
    let sessions = arguments.sessions();
    let ping_pong = sessions.iter().map(|&sessions| Workload::ping_pong(sessions, arguments.active()));
    let workloads: Vec<_> =
        ping_pong.chain([Workload::churn(), Workload::bulk(), Workload::fairness()]).collect();
    let rounds = arguments.rounds();

    let progress = ProgressBar::new((rounds * workloads.len() * contenders.len()) as u64);
    let style = ProgressStyle::with_template("{elapsed} [{bar:20}] {pos}/{len} {wide_msg}");
    progress.set_style(style.expect("the template is well formed"));
    progress.enable_steady_tick(Duration::from_secs(1));
    let measured = rounds::run(bench, &contenders, &workloads, rounds, |contender, workload, place| {
        progress.set_position(place as u64 - 1);
        let now = format!("{workload}: {}", contender.name);
        if progress.is_hidden() {
            eprintln!("{place}/{}: {now}", progress.length().unwrap_or(0));
        }
        progress.set_message(now);
    });
    progress.set_message("counting system calls");
    let calls = count_calls(bench, &contenders, &measured);
    progress.finish_and_clear();

    let ending =
        if bench.interrupted.load(Ordering::Relaxed) { Ending::Interrupted } else { Ending::Complete };
    Report {
        occasion,
        file_limit: bench.file_limit,
        rounds,
        time: bench.time,
        contenders,
        cells: measured,
        calls,
        ending,
    }
}

/// The system calls of each contender; none where they cannot be counted.
fn count_calls(
    bench: &mut Bench,
    contenders: &[Contender],
    measured: &[Cell],
) -> Vec<Option<Result<Calls, Failure>>> {
    let interrupted = bench.interrupted.load(Ordering::Relaxed);
    if interrupted || !syscalls::can_be_counted() {
        return contenders.iter().map(|_| None).collect();
    }
    let count = |(nth, contender): (usize, &Contender)| match rounds::final_failure(measured, nth) {
        Some(failure) => Some(Err(failure)),
        None => syscalls::count(bench, contender).transpose(),
    };
    contenders.iter().enumerate().map(count).collect()
}

/// Raises the number of files that this process and its children may open as far as the system lets us; returns it.
fn raise_file_limit() -> u64 {
    rlimit::increase_nofile_limit(u64::MAX)
        .or_else(|_| Resource::NOFILE.get_soft())
        // Where there is no such limit to ask for, none binds.
        .unwrap_or(u64::MAX)
}
