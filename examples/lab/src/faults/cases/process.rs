//! What is done to the process itself: signals, and its standard streams.

use std::process::ExitStatus;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal::SIGTERM;

use crate::faults::case::{Beside, Case, Group, Needs, Outcome, Stop, check, fails};
use crate::faults::client::{Client, lines};
use crate::faults::trial::Trial;
use crate::support::server::Setup;
use crate::support::words::time;

pub const GROUP: Group = Group {
    name: "process",
    title: "The process",
    cases: &[
        Case {
            name: "sigterm",
            client: "The server gets SIGTERM when four clients have sent lines that it has not read, and one client has \
                     not read its answers.",
            server: "The server answers what had arrived, ends each session in order, and exits with status 0: a restart \
                     loses no answer.",
            rule: "rule 9",
            needs: Needs::Process,
            run: |trial| stop_with_pending_answers(trial, 1),
            ..Case::PLAIN
        },
        Case {
            name: "sigterm-twice",
            client: "The same with two SIGTERMs in a row, as timeout(1) sends them: to its child, and to the whole group.",
            server: "The server treats them as one: it delivers the answers and exits with status 0.",
            rule: "rule 9",
            needs: Needs::Process,
            run: |trial| stop_with_pending_answers(trial, 2),
            ..Case::PLAIN
        },
        Case {
            name: "stop-unread",
            client: "The server gets SIGTERM while three clients have pending answers that they never read.",
            server: "The server ends within 15 s all the same: a supervisor kills one that does not, and with it the \
                     answers of others.",
            rule: "chapter 17",
            needs: Needs::Process,
            run: stop_unread,
            ..Case::PLAIN
        },
        Case {
            name: "restart",
            client: "The server gets SIGTERM with sessions open, and is started again on the same port.",
            server: "The server listens again: with address reuse, connections in TIME_WAIT do not keep the port.",
            rule: "chapter 17",
            needs: Needs::Process,
            run: restart,
            ..Case::PLAIN
        },
        Case {
            name: "stop-and-go",
            client: "The server is stopped (SIGSTOP) and continued; meanwhile clients talk, end their input and connect.",
            server: "The server goes on, and answers everything that has come: an interrupted wait is not an error.",
            rule: "rule 5",
            needs: Needs::Process,
            run: stop_and_go,
            ..Case::PLAIN
        },
        Case {
            name: "stdout-closed",
            client: "200 clients come while standard output is a pipe whose reader has left, as with `server | head`.",
            server: "The server serves on: a line of log that cannot be written is no reason to end.",
            rule: "rule 10",
            needs: Needs::Process,
            setup: Setup::StdoutClosed,
            run: serve_without_log,
            ..Case::PLAIN
        },
        Case {
            name: "stdout-full",
            client: "200 clients come while standard output is a disk without room (/dev/full).",
            server: "The server serves on.",
            rule: "rule 10",
            needs: Needs::Process,
            setup: Setup::StdoutFull,
            run: serve_without_log,
            ..Case::PLAIN
        },
        Case {
            name: "stdout-unread",
            client: "200 clients come while standard output is a pipe that is full, as when a terminal was stopped with \
                     Ctrl-S.",
            server: "The server serves on and drops lines: if the loop waits for its log, all clients wait with it.",
            rule: "rule 10",
            needs: Needs::Process,
            setup: Setup::StdoutUnread,
            beside: Beside::Many,
            run: serve_without_log,
        },
        Case {
            name: "no-standard-streams",
            client: "20 clients come while the server runs without descriptors 0, 1 and 2.",
            server: "The server serves on, and its log does not go to a client: the next sockets get these numbers.",
            rule: "rule 10",
            needs: Needs::Process,
            setup: Setup::NoStandardStreams,
            run: serve_without_log,
            ..Case::PLAIN
        },
    ],
};

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

fn terminate(trial: &Trial) -> Result<(), Stop> {
    trial.guard()?.signal(SIGTERM).map_err(|error| fails("the server runs", error.to_string()))
}

fn exit(trial: &Trial) -> Result<ExitStatus, Stop> {
    let status = trial.guard()?.exit_within(STOP);
    status.ok_or_else(|| fails("an end within 15 s", "the server still runs"))
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

fn restart(trial: &Trial) -> Outcome {
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
    trial.serves_the_next()?;
    Ok(None)
}

fn stop_and_go(trial: &Trial) -> Outcome {
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
    new.ask(b"a line of a new client\n")?;
    Ok(None)
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
