//! What is done to the process itself: signals, and its standard streams.

use std::process::ExitStatus;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal::SIGTERM;

use crate::faults::case::{Beside, Checked, Outcome, Play, check, fails};
use crate::faults::client::{Client, lines};
use crate::faults::trial::Trial;
use crate::support::{Framing, Setup, bytes, time};

pub const CASES: &[Play] = &[
    Play::measured("sigterm", |trial| stop_with_pending_answers(trial, 1)).of_process(),
    Play::measured("sigterm-twice", |trial| stop_with_pending_answers(trial, 2)).of_process(),
    Play::measured("stop-behind-window", stop_behind_window).of_process(),
    Play::measured("stop-unread", stop_unread).of_process(),
    Play::new("restart", restart).of_process(),
    Play::new("stop-and-go", stop_and_go).of_process(),
    Play::measured("stdout-closed", serve_without_log).with(Setup::StdoutClosed),
    Play::measured("stdout-full", serve_without_log).with(Setup::StdoutFull),
    Play::measured("stdout-unread", serve_without_log).with(Setup::StdoutUnread).beside(Beside::Many),
    Play::measured("no-standard-streams", serve_without_log).with(Setup::NoStandardStreams),
];

/// How long a server may take to stop.
const STOP: Duration = Duration::from_secs(15);

fn stop_with_pending_answers(trial: &Trial, signals: usize) -> Outcome {
    let arrived = lines(40_000);
    let sent = lines(8 << 20);
    let slow = Client::greeted(trial)?;
    let taken = slow.send_until_full(sent)?;
    let others = (0..4).map(|_| Client::greeted(trial)).collect::<Result<Vec<_>, _>>()?;
    trial.while_stopped(|| {
        for client in &others {
            client.send(arrived)?;
        }
        terminate(trial)
    })?;
    let start = Instant::now();
    for _ in 1..signals {
        // A signal that is still pending would make one of two.
        thread::sleep(Duration::from_millis(2));
        terminate(trial)?;
    }
    for client in others {
        client.answers_and_end(arrived)?;
    }
    let answered = slow.answers_until_end(&sent[..taken])?;
    check(answered > 0, "answers for the client that had not read", "none")?;
    drop(slow);
    let status = exit(trial)?;
    check(status.success(), "exit status 0", status.to_string())?;
    Ok(Some(format!("ended after {}", time(start.elapsed()))))
}

pub fn terminate(trial: &Trial) -> Checked {
    trial.guard()?.signal(SIGTERM).map_err(|error| fails("the server runs", error.to_string()))
}

pub fn exit(trial: &Trial) -> Checked<ExitStatus> {
    let status = trial.guard()?.exit_within(STOP);
    status.ok_or_else(|| fails("an end within 15 s", "the server still runs"))
}

fn stop_behind_window(trial: &Trial) -> Outcome {
    let client = Client::with_receive_buffer(4096, trial)?;
    let taken = client.send_until_full(lines(16 << 20))?;
    let sent = &lines(16 << 20)[..taken];
    let whole_lines = sent.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
    // Half a line at the server's stop is no request.
    let due = if trial.protocol.framing == Framing::Chunks { taken } else { whole_lines };
    terminate(trial)?;
    let start = Instant::now();
    let answered = client.answers_until_end(trial.protocol.requests(sent))?;
    check(
        answered >= due,
        format!("the answers to all {due} bytes, then the end"),
        format!("the answers to {answered} bytes, then the end"),
    )?;
    drop(client);
    let status = exit(trial)?;
    check(status.success(), "exit status 0", status.to_string())?;
    Ok(Some(format!("the answers to {} in {}", bytes(taken as f64), time(start.elapsed()))))
}

fn stop_unread(trial: &Trial) -> Outcome {
    let mut clients = Vec::new();
    for _ in 0..3 {
        let client = Client::greeted(trial)?;
        client.send_until_full(lines(8 << 20))?;
        clients.push(client);
    }
    let start = Instant::now();
    terminate(trial)?;
    exit(trial)?;
    Ok(Some(format!("ended after {}", time(start.elapsed()))))
}

fn restart(trial: &Trial) -> Checked {
    let clients = trial.crowd(3)?;
    terminate(trial)?;
    for client in &clients {
        // In order or not: here only the port matters.
        let _ = client.answers_until_end(b"");
    }
    drop(clients);
    exit(trial)?;
    let again = trial.server.start_again(trial.process()?, &trial.interrupt);
    let _again = again.map_err(|f| fails("the server listens on the same port again", f.to_string()))?;
    trial.serves_the_next()
}

fn stop_and_go(trial: &Trial) -> Checked {
    let inside = trial.crowd(3)?;
    for _ in 0..5 {
        trial.while_stopped(|| thread::sleep(Duration::from_millis(10)));
        inside[0].ask(b"are you still there?\n")?;
    }
    let new = trial.while_stopped(|| {
        inside[0].send(b"a line meanwhile\n")?;
        inside[1].send(b"a line and the end\n")?;
        inside[1].half_close()?;
        Client::connect(trial)
    })?;
    inside[0].answer_to(b"a line meanwhile\n")?;
    inside[1].answers_and_end(b"a line and the end\n")?;
    inside[2].ask(b"a line after it\n")?;
    new.greeting()?;
    new.ask(b"a line of a new client\n")
}

fn serve_without_log(trial: &Trial) -> Outcome {
    let start = Instant::now();
    for _ in 0..10 {
        let clients = trial.crowd(20)?;
        for client in &clients {
            client.half_close()?;
            client.answers_and_end(b"")?;
        }
    }
    Ok(Some(format!("200 sessions in {}", time(start.elapsed()))))
}
