//! What a reader must know about the figures, in sentences.

use super::Report;
use crate::compare::workload::IN_FLIGHT;
use crate::support::{Origin, as_typed};

/// What is special about this report: when and where it was made, and what went wrong.
pub fn heading(report: &Report) -> Vec<String> {
    let occasion = &report.occasion;
    let command_line = as_typed(&occasion.command_line);
    let mut lines = vec![
        format!("{}, okloop {}: {command_line}", occasion.date, env!("CARGO_PKG_VERSION")),
        format!("{}. Open files a process: {}.", occasion.machine, report.file_limit),
    ];
    if report.interrupted {
        lines.push("Interrupted: these are the figures up to then.".to_owned());
    }
    let rounds = report.rounds;
    lines.push(if rounds > 1 {
        format!(
            "Compare the servers by the figures with \u{b1}: it is half the distance between the least and the greatest of \
             {rounds} rounds, in which they took turns. A smaller difference may be chance."
        )
    } else {
        "With a single round, a difference may be chance.".to_owned()
    });
    lines
}

/// What holds for every report.
pub fn caveats(report: &Report) -> Vec<String> {
    let mut notes = vec![
        format!(
            "Each measurement took {:?}, and that of a typing client half as long, on a server started for it. A slice of \
             growing rates took a third of that, on a server that ran for the round. Rounds: {}; the tables show the median. There is no warm-up. \"n/a\": the system does not tell.",
            report.time, report.rounds,
        ),
        format!(
            "In the open loop the clients send by the clock. In a closed loop a client that waits for an answer sends \
             nothing meanwhile: a server that stands still for a second shows one slow answer for each client, not the \
             many that were due (coordinated omission). The load is one thread that checks every byte. It has \
             a processor for itself, and the server has the others; only a typing client shares one with the server. It \
             makes at most {IN_FLIGHT} connections at a time.",
        ),
    ];
    notes.extend(GENERAL.map(str::to_owned));
    let started_here = report.contenders.iter().filter(|server| matches!(server.origin, Origin::Command(_)));
    notes.extend(started_here.map(|server| format!("{}: {}", server.name, server.origin)));
    notes
}

const GENERAL: [&str; 5] = [
    "A server is all processes that descend from the one that was started: their processor time, memory, threads and \
     switches are added up. The processor time of a process that has ended counts if its parent has waited for it.",
    "The memory of a process is the resident set of a single process; of several, the proportional sets, in which a \
     shared page counts once. It grows by whole pages (4 KiB).",
    "The kernel's memory is the growth of KernelStack, PageTables and Slab in /proc/meminfo, from 1,000 sessions on. \
     Slab has both ends of each session in it. The load's end is subtracted: it is measured before, with sessions whose \
     two ends are alike. Socket buffers are empty while a session is idle. Slab also grows when another program reads many \
     files meanwhile.",
    "A measurement whose sessions took longer than three seconds to open is made once.",
    "Each server logs a line for each session, here to a file. That is a part of what a visit costs. \
     --server 'quiet=PATH/okloop --log-level warn --port {port}' shows okloop without it.",
];
