//! A server that has less than its clients ask for.

use std::thread;
use std::time::{Duration, Instant};

use rlimit::Resource;

use crate::faults::case::{Beside, Checked, Outcome, Play, cannot_run, check, fails};
use crate::faults::cases::process::{exit, terminate};
use crate::faults::client::{Client, Reception};
use crate::faults::trial::Trial;
use crate::support::server::allows_a_billion;
use crate::support::{Process, Setup, bytes, time, usage, waiting_clients};

pub const CASES: &[Play] = &[
    Play::measured("few-open-files", few_open_files).with(Setup::OpenFiles(64)).beside(Beside::Many),
    Play::measured("no-files-left", no_files_left).of_process().beside(Beside::Many),
    Play::measured("memory-limit", memory_limit).of_process().beside(Beside::Many),
    Play::measured("billion-files", billion_files).with(Setup::BillionFiles),
    Play::measured("ten-thousand", ten_thousand).beside(Beside::None),
];

const MESSAGE: &[u8] = b"is there room?\n";

/// How long the server is watched while it has nothing to do.
const WATCH: Duration = Duration::from_millis(500);

/// A server that waits uses no processor time. One that asks again and again uses all of it.
fn does_not_spin(trial: &Trial) -> Checked<Duration> {
    let before = trial.look(usage::processor_time)?;
    thread::sleep(WATCH);
    let used = trial.look(usage::processor_time)?.saturating_sub(before);
    check(
        used < WATCH / 5,
        format!("hardly any processor time in {} without anything to do", time(WATCH)),
        format!("{} of processor time", time(used)),
    )?;
    Ok(used)
}

/// Limits a resource of the running process; returns the limit that it had.
fn limit(trial: &Trial, resource: Resource, limit: u64) -> Checked<u64> {
    let mut before = (0, 0);
    let id = trial.guard()?.id().cast_signed();
    rlimit::prlimit(id, resource, None, Some((&mut before.0, &mut before.1)))
        .and_then(|()| rlimit::prlimit(id, resource, Some((limit, before.1)), None))
        .map_err(|error| cannot_run(format!("prlimit: {error}")))?;
    Ok(before.0)
}

fn few_open_files(trial: &Trial) -> Outcome {
    const CLIENTS: usize = 128;
    let clients = (0..CLIENTS).map(|_| Client::begin(trial)).collect::<Result<Vec<_>, _>>()?;
    thread::sleep(Duration::from_millis(100));
    let used = does_not_spin(trial)?;
    let (mut served, mut refused) = (0, 0);
    let mut inside = Vec::new();
    for (number, client) in clients.into_iter().enumerate() {
        client.try_to_send(MESSAGE)?;
        let mut reception = client.reception(MESSAGE, Duration::from_millis(200))?;
        if reception == Reception::Silence {
            inside.clear();
            reception = client.reception(MESSAGE, trial.patience)?;
        }
        match reception {
            Reception::Answered => served += 1,
            Reception::Refused => refused += 1,
            Reception::Silence => {
                let came =
                    format!("client {} waits in vain though the {number} before it have left", number + 1);
                return Err(fails("each client is served or refused", came));
            }
        }
        inside.push(client);
    }
    let figure = format!("{served} served, {refused} refused, {} of processor time", time(used));
    check(served >= 16, "at least 16 clients are served", &figure)?;
    Ok(Some(figure))
}

fn no_files_left(trial: &Trial) -> Outcome {
    const WAITING: usize = 20;
    let inside = trial.crowd(20)?;
    let before = limit(trial, Resource::NOFILE, trial.look(usage::next_file)?)?;
    let waiting = (0..WAITING).map(|_| Client::begin(trial)).collect::<Result<Vec<_>, _>>()?;
    thread::sleep(Duration::from_millis(20));
    for client in &inside {
        client.ask(b"are you still there?\n")?;
    }
    let used = does_not_spin(trial)?;
    limit(trial, Resource::NOFILE, before)?;
    let mut served = 0;
    for client in &waiting {
        client.try_to_send(MESSAGE)?;
        match client.reception(MESSAGE, trial.patience)? {
            Reception::Answered => served += 1,
            Reception::Refused => {}
            Reception::Silence => {
                return Err(fails(
                    "the waiting clients are served when files are free again",
                    "one of them waits in vain",
                ));
            }
        }
    }
    let figure = format!("{served} of {WAITING} waiting clients served, {} of processor time", time(used));
    for client in &inside {
        client.ask(b"are you still there?\n")?;
    }
    trial.serves_the_next()?;
    Ok(Some(figure))
}

fn memory_limit(trial: &Trial) -> Outcome {
    const CLIENTS: usize = 400;
    const MORE: u64 = 16 << 20;
    let mut other = Client::greeted(trial)?;
    other.ask(b"before\n")?;
    let mut ended = 0;
    limit(trial, Resource::AS, trial.look(usage::address_space)? + MORE)?;
    // The last allocation that fails is sometimes a session's and sometimes the server's.
    for _ in 0..3 {
        let crowd = (0..CLIENTS).map(|_| Client::begin(trial)).collect::<Result<Vec<_>, _>>()?;
        for client in &crowd {
            // A client that was refused, even with a reset, is not what this case is about.
            let _ = client.try_to_send(b"half a line");
        }
        thread::sleep(Duration::from_millis(200));
        let asked = Instant::now();
        let answer = other.ask(b"are you still there?\n");
        check(asked.elapsed() < trial.patience, "an answer, or the end of the session", "neither")?;
        drop(crowd);
        // The server sees all of them leave before it needs memory again. If it pauses after each failed session, its
        // queue is long.
        while waiting_clients(trial.server.address) > 0 && Instant::now() < trial.deadline {
            thread::sleep(Duration::from_millis(10));
        }
        thread::sleep(Duration::from_millis(100));
        // On a busy machine its memory is free a little later.
        let mut served = Ok(());
        trial.eventually(|| {
            served = trial.serves_the_next();
            Ok(served.is_ok())
        })?;
        served?;
        if answer.is_err() {
            // There was no memory for this session either.
            ended += 1;
            other = Client::greeted(trial)?;
        }
        other.ask(b"are you still there?\n")?;
    }
    Ok(Some(format!("beside the crowd, {} of 3 sessions were answered", 3 - ended)))
}

fn billion_files(trial: &Trial) -> Outcome {
    const MORE: u64 = 16 << 20;
    const SOON: Duration = Duration::from_secs(5);
    let served = |process: &Process| {
        let client = Client::greeted(trial)?;
        let memory = usage::memory(process.guard.id());
        client.ask(MESSAGE)?;
        // A session that ends in order could keep the port.
        client.reset();
        memory.map(|[resident, _]| resident).ok_or_else(|| cannot_run("/proc does not tell its memory"))
    };
    // If strace may not trace, the server runs all the same.
    if !allows_a_billion() && !trial.look(usage::is_traced)? {
        return Err(cannot_run("strace may not trace the server"));
    }
    let process = trial.process()?;
    let memory = served(process)?;
    let stop = Instant::now();
    terminate(trial)?;
    exit(trial)?;
    let (started_in, stopped_in) = (process.started_in, stop.elapsed());
    let again = trial.server.start_again(process, &trial.interrupt);
    let again = again.map_err(|failure| cannot_run(format!("with fewer open files: {failure}")))?;
    let grown = memory.saturating_sub(served(again.process.as_ref().expect("it was started here"))?);
    let figure = format!(
        "{} more memory than with the limit here, started in {}, stopped in {}",
        bytes(grown as f64),
        time(started_in),
        time(stopped_in)
    );
    let is_quick = started_in < SOON && stopped_in < SOON;
    check(is_quick && grown < MORE, "less than 16 MiB more memory, a start and a stop within 5 s", &figure)?;
    Ok(Some(figure))
}

fn ten_thousand(trial: &Trial) -> Outcome {
    /// What else this process and the server have open.
    const OTHERS: u64 = 200;
    const TOGETHER: usize = 100;
    let (limit, _) = Resource::NOFILE.get().map_err(|error| cannot_run(error.to_string()))?;
    let count = usize::try_from(limit.saturating_sub(OTHERS).min(10_000)).expect("at most 10,000");
    let clients = trial.crowd(count)?;
    // Many of them together: a server that looks at all sockets for each batch of events is not asked to hurry.
    for clients in clients.chunks(TOGETHER) {
        clients.iter().try_for_each(|client| client.send(b"one of many\n"))?;
        clients.iter().try_for_each(|client| client.answer_to(b"one of many\n"))?;
    }
    Ok(Some(format!("{count} sessions")))
}
