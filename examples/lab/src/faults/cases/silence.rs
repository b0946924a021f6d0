//! A server that has nothing to do, and one that has done it.

use std::thread;
use std::time::Duration;

use crate::faults::case::{Beside, Outcome, Play, check};
use crate::faults::client::lines;
use crate::faults::trial::Trial;
use crate::support::{bytes, time, usage};

pub const CASES: &[Play] = &[
    Play::measured("idle", idle).of_process().beside(Beside::Many),
    Play::measured("after-a-crowd", after_a_crowd).of_process(),
];

fn idle(trial: &Trial) -> Outcome {
    let clients = trial.crowd(1000)?;
    thread::sleep(Duration::from_millis(200));
    let sleeps = || trial.look(usage::switches);
    let (before, busy) = (sleeps()?, trial.look(usage::processor_time)?);
    thread::sleep(Duration::from_secs(1));
    let sleeps = sleeps()?.saturating_sub(before);
    let busy = trial.look(usage::processor_time)?.saturating_sub(busy);
    let figure = format!("{sleeps} wake-ups, {} of processor time in a second", time(busy));
    check(sleeps <= 2 && busy < Duration::from_millis(5), "no wake-up and no processor time", &figure)?;
    for client in clients.iter().step_by(10) {
        client.ask(b"are you still there?\n")?;
    }
    Ok(Some(figure))
}

fn after_a_crowd(trial: &Trial) -> Outcome {
    trial.serves_the_next()?;
    // The server closes its end of that session a moment later.
    thread::sleep(Duration::from_millis(50));
    let files = trial.look(usage::open_files)?;
    let mut after_first = None;
    for _ in 0..3 {
        let crowd = trial.crowd(300)?;
        for client in &crowd {
            client.ask(lines(16 << 10))?;
        }
        drop(crowd);
        let closed = trial.eventually(|| Ok(trial.look(usage::open_files)? <= files))?;
        check(
            closed,
            format!("{files} open files, as before"),
            format!("{} open files", trial.look(usage::open_files)?),
        )?;
        after_first.get_or_insert(trial.memory()?);
    }
    let first = after_first.unwrap_or(0);
    let grown = |now: u64| now.saturating_sub(first);
    let bounded = trial.eventually(|| Ok(grown(trial.memory()?) < 2 << 20))?;
    let figure =
        format!("{files} open files as before, {} more memory", bytes(grown(trial.memory()?) as f64));
    check(bounded, "less than 2 MiB more memory than after the first crowd", &figure)?;
    Ok(Some(figure))
}
