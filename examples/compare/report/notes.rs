//! What one must know to read the figures, in sentences.

use super::{Ending, Report};
use crate::contender::{Origin, as_typed};
use crate::failure::Failure;
use crate::measure::P999_SAMPLES;
use crate::workload::KNOCKING;

/// All that is to be said about this report: first what is special about it, then what holds for each.
pub fn all(report: &Report) -> Vec<String> {
    let mut notes = Vec::new();
    if report.ending == Ending::Interrupted {
        notes.push("Interrupted: these are the figures up to then.".to_owned());
    }
    let occasion = &report.occasion;
    let command_line = as_typed(&occasion.command_line);
    notes.push(format!("{}, okloop {}: {command_line}", occasion.date, env!("CARGO_PKG_VERSION")));
    notes.push(format!("Machine: {}. Open files a process: {}.", occasion.machine, report.file_limit));
    let started_here = report.contenders.iter().filter(|server| matches!(server.origin, Origin::Program(_)));
    notes.extend(started_here.map(|server| format!("{}: {}", server.name, server.origin)));
    notes.extend(last_words(report));
    notes.push(measuring(report));
    notes.extend(GENERAL.map(str::to_owned));
    notes.push(format!(
        "Visitors close first, in order, as clients do, so TIME_WAIT stays on the load's side, spread over many loopback \
         addresses. All other sessions are reset after the measuring is over. At most {KNOCKING} connections are being made at \
         a time."
    ));
    notes
}

fn measuring(report: &Report) -> String {
    let rounds = if report.rounds > 1 {
        "the servers taking turns. Shown is the median; \u{b1} is half the distance between the least and the greatest"
    } else {
        "so nothing tells chance from a difference"
    };
    format!(
        "Each measurement took {:?} on a server started for it; rounds: {}, {rounds}. There is no warm-up: all sessions are \
         open before the time begins, but the first lines find a server that has answered none. \"n/a\": the system does \
         not tell; or, for p99.9, there were fewer than {P999_SAMPLES} answers.",
        report.time, report.rounds,
    )
}

const GENERAL: [&str; 5] = [
    "Each server of this project writes a line of log for each session, here to a file, so that is part of what a visit \
     costs; the second thread of okloop does it. --server 'quiet=PATH/okloop --log-level warn --port {port}' shows okloop \
     without it.",
    "The load is a closed loop: who waits for an answer sends nothing meanwhile, so a server that stands still for a \
     second shows one slow answer for each typist, not the many that would have been due (coordinated omission): \
     p99.9 and max are to be read together with answers/s. The typists beside a firehose type by the clock instead, \
     and their waiting counts from when a line was due. In both, each line that was due in the time is in the latency, \
     however late its answer came; only answers that came in the time are in the speed.",
    "The load is one thread that checks every byte, on the same processors as the server: answers/s is what both achieve \
     together, CPU/answer is the server's alone.",
    "A server is all processes that descend from the one that was started: their processor time, memory, threads and \
     switches are added up. Processor time of a process that has ended counts if its parent has waited for it.",
    "Memory is what the server itself has: the resident set of a single process; of several the proportional sets, in \
     which a page that they share counts once. It \
     grows by whole pages (4 KiB on most machines), so with ten sessions less than 410 B a session is not seen. Socket \
     buffers and the kernel's own stack for each thread (16 KiB on x86-64 Linux) come on top and are charged to nobody.",
];

/// What those who died said in the end, each thing once.
fn last_words(report: &Report) -> Vec<String> {
    let of_calls = report.calls.iter().map(|calls| calls.as_ref()?.as_ref().err());
    let failures = report.cells.iter().map(|cell| (cell.contender, cell.failure.as_ref()));
    let mut notes: Vec<String> = failures
        .chain(of_calls.enumerate())
        .filter_map(|(contender, failure)| {
            let words = failure.and_then(Failure::last_words)?;
            Some(format!("Last words of {}: {words} (more in logs)", report.contenders[contender].name))
        })
        .collect();
    notes.sort_unstable();
    notes.dedup();
    notes
}
