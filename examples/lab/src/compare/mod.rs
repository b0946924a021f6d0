//! `lab compare`: what a readiness loop costs and what a thread for each connection costs, measured on your machine.
//!
//! Every server gets the same load in turn, and every byte of every answer is checked. At the end there are tables in
//! the terminal, and in `target/compare` a page with pictures (`report.html`) and all figures (`results.json`).
//!
//! ```text
//!   arguments ──► candidates                     the servers that are compared
//!   workload ──► load (clients on one Poll) ──► what the clients received
//!   server (child processes) + family, kernel ──► what it cost       measure: both together, once
//!   rounds: all of that in turn, several times
//!   sweep: growing rates, and all servers in turn; search: the highest rate that a server holds
//!   report: tables, page with pictures, JSON
//! ```
//!
//! Read `measure` first, then `load`.

mod arguments;
mod family;
mod figures;
mod kernel;
mod load;
mod measure;
mod report;
mod rounds;
mod search;
mod sweep;
mod workload;

use std::env;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::path;
use std::process::Command;

pub use self::arguments::Arguments;
use self::measure::Bench;
use self::report::Report;
use self::search::Search;
use self::workload::Workload;
use crate::support::load::Sources;
use crate::support::{
    Candidate, Failure, Interrupt, complain, machine, prepare, programs, progress, try_to_say,
};

/// The load's addresses are 127.0.0.2 to 127.0.0.17: ports enough for any load. 127.0.0.1 is left to the servers.
const HOSTS: (Ipv4Addr, u32) = (Ipv4Addr::new(127, 0, 0, 2), 16);
/// The ports of each. Well-known servers are below. Above are the ports that the kernel chooses, for the servers here
/// too: a server without `SO_REUSEADDR` must not find its port in `TIME_WAIT`.
const PORTS: RangeInclusive<u16> = 10_000..=29_999;

/// Runs the comparison.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let (contenders, own) = arguments.contenders()?;
    // std knows no calendar.
    let date = Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"]).output();
    let date = date.map_err(Failure::system("date"))?.stdout;
    let date = String::from_utf8_lossy(&date).trim().to_owned();
    let (machine, was_busy) = (machine::description(), machine::was_busy());
    let logs = arguments.output.join("logs");
    [Some(&logs), arguments.publish.as_ref()].into_iter().flatten().try_for_each(|d| prepare(d))?;

    let interrupt = Interrupt::catch()?;
    complain("Building the servers ...");
    programs::build(contenders[..own].iter().map(Candidate::program), &interrupt)?;
    let file_limit = rlimit::increase_nofile_limit(u64::MAX);
    let file_limit = file_limit.map_err(Failure::system("The limit of open files"))?;
    let bench = Bench {
        time: arguments.time(),
        logs,
        file_limit,
        end_of_session: kernel::end_of_session(file_limit).map_err(Failure::system("A session"))?,
        sources: Sources::new(HOSTS.0, HOSTS.1, PORTS),
        interrupt,
    };
    if was_busy {
        complain("This machine was busy in the last minute. If it still is, the figures will show it.");
    }
    let report = measure_all(arguments, date, machine, contenders, &bench);
    tell(arguments, &report)?;
    let objections = report.objections(own);
    match report.interrupted {
        true => Err(Failure::Interrupted),
        false if objections.is_empty() => Ok(()),
        false => Err(Failure::Judged(objections.join("\n"))),
    }
}

/// Writes the files and shows the tables, each also when the other fails.
fn tell(arguments: &Arguments, report: &Report) -> Result<(), Failure> {
    // The files first: a reader of `| head` gets them too.
    let written = report.write(&arguments.output);
    let published = arguments.publish.as_ref().map_or(Ok(()), |directory| report.publish(directory));
    let place = path::absolute(&arguments.output).unwrap_or_else(|_| arguments.output.clone());
    let shown = try_to_say(format_args!(
        "{}\nPictures: file://{place}/report.html\nFigures:  {place}/results.json",
        report.tables(),
        place = place.display()
    ));
    written.and(published).and(shown)
}

fn measure_all(
    arguments: &Arguments,
    date: String,
    machine: String,
    contenders: Vec<Candidate>,
    bench: &Bench,
) -> Report {
    let sessions = arguments.sessions(bench.file_limit);
    let workloads = Workload::of_a_round(&sessions, arguments.active as usize, arguments.chat_clients());
    let rounds = arguments.rounds();

    let mut cells = rounds::empty_cells(&contenders, &workloads);
    let steps_of_a_round = cells.len() + sweep::TURNS;
    let steps = rounds * steps_of_a_round;
    let progress = progress("{elapsed} [{bar:20}] {pos}/{len} {wide_msg}", steps);
    let begin = |what: String, place: usize| {
        progress.set_position(place as u64);
        if progress.is_hidden() {
            complain(format_args!("{}/{steps}: {what}", place + 1));
        }
        progress.set_message(what);
    };
    let mut searches: Vec<_> = contenders.iter().map(|_| Ok(Search::default())).collect();
    for round in 0..rounds {
        let start = round * steps_of_a_round;
        rounds::play_round(bench, &contenders, &mut cells, round, |contender, workload, place| {
            begin(format!("{workload}: {}", contender.name), start + place);
        });
        let start = start + cells.len();
        sweep::play_round(bench, &contenders, &cells, &mut searches, |turn| {
            begin("growing rates: all servers in turn".to_owned(), start + turn);
        });
        if bench.interrupt.is_asked() {
            break;
        }
    }
    progress.finish_and_clear();

    let interrupted = bench.interrupt.is_asked();
    let (file_limit, end_of_session, time) = (bench.file_limit, bench.end_of_session, bench.time);
    let sweeps = searches.into_iter().map(|search| search.map(Search::finish).transpose()).collect();
    let command_line = env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    Report {
        date,
        command_line,
        machine,
        file_limit,
        end_of_session,
        rounds,
        time,
        contenders,
        cells,
        sweeps,
        interrupted,
    }
}
