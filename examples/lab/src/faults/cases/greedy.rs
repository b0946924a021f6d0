//! Clients that are slow or want much, beside others that must not notice.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::faults::answers::Answers;
use crate::faults::case::{Beside, Checked, Outcome, Play, Stop, check, fails};
use crate::faults::client::{Client, lines};
use crate::faults::trial::{Trial, p99};
use crate::support::{bytes, time};

pub const CASES: &[Play] = &[
    Play::measured("never-reads", never_reads),
    Play::new("reads-slowly", reads_slowly).beside(Beside::Many),
    Play::measured("stalled-readers", stalled_readers),
    Play::measured("flood", flood).beside(Beside::None),
    Play::measured("crowd", crowd).of_process().beside(Beside::None),
    Play::new("urgent-data", urgent_data),
];

fn never_reads(trial: &Trial) -> Outcome {
    let other = Client::greeted(trial)?;
    other.ask(b"before\n")?;
    let client = Client::greeted(trial)?;
    let (_, grown) = growth(trial, || client.send_until_full(lines(16 << 20)))?;
    for _ in 0..10 {
        other.ask(b"are you still there?\n")?;
    }
    is_below(4, grown)
}

fn reads_slowly(trial: &Trial) -> Checked {
    const SIP: usize = 100;
    let other = Client::greeted(trial)?;
    let client = Client::greeted(trial)?;
    let sent = lines(8 << 20);
    client.send_beside(sent, || {
        let mut answers = client.answers(sent);
        for _ in 0..20 {
            answers.take(&client.sip(SIP)?)?;
            other.ask(b"are you still there?\n")?;
            thread::sleep(Duration::from_millis(100));
        }
        loop {
            match client.sip(64 << 10) {
                Ok(more) => answers.take(&more)?,
                Err(_) if answers.are_complete() => return Ok(()),
                Err(stop) => return Err(stop),
            }
        }
    })
}

fn stalled_readers(trial: &Trial) -> Outcome {
    const CLIENTS: usize = 12;
    // More than the kernel keeps for one connection: 4 MiB in the server's send buffer (`tcp_wmem`), and some in the
    // client's receive buffer.
    let sent = lines(16 << 20);
    let other = Client::greeted(trial)?;
    other.ask(b"before\n")?;
    let stalled = (0..CLIENTS).map(|_| Client::greeted(trial)).collect::<Checked<Vec<_>>>()?;
    let (taken, grown): (Vec<usize>, _) = growth(trial, || {
        thread::scope(|scope| {
            let fill = |client| scope.spawn(move || Client::send_until_full(client, sent));
            let senders: Vec<_> = stalled.iter().map(fill).collect();
            senders.into_iter().map(|sender| sender.join().expect("a sender does not panic")).collect()
        })
    })?;
    for _ in 0..10 {
        other.ask(b"are you still there?\n")?;
    }
    let outcome = is_below(16, grown)?;
    for (client, taken) in stalled.iter().zip(taken) {
        client.half_close()?;
        client.answers_and_end(&sent[..taken])?;
    }
    Ok(outcome)
}

/// The memory that was added, where it is known: less than so many MiB.
fn is_below(mebibytes: u64, grown: Option<u64>) -> Outcome {
    let figure = grown.map(|grown| format!("{} more memory", bytes(grown as f64)));
    let came = figure.clone().unwrap_or_default();
    let holds = grown.is_none_or(|grown| grown < mebibytes << 20);
    check(holds, format!("less than {mebibytes} MiB more memory"), came)?;
    Ok(figure)
}

/// How much the server's memory grows while `act` runs and shortly after.
fn growth<T>(trial: &Trial, act: impl FnOnce() -> Checked<T>) -> Checked<(T, Option<u64>)> {
    let memory = || trial.server.process.as_ref().map(|_| trial.memory()).transpose();
    let before = memory()?;
    let result = act()?;
    let grown = memory()?.zip(before).map(|(now, before)| now.saturating_sub(before));
    Ok((result, grown))
}

fn flood(trial: &Trial) -> Outcome {
    const ATTEMPTS: usize = 3;
    let typists = trial.crowd(10)?;
    let alone = p99(&Trial::answer_times(&typists, Duration::from_millis(150))?);
    // Another program may take the processor for a moment, and a flood may pause for one: the median decides.
    let mut slowest = [Duration::ZERO; ATTEMPTS];
    for beside in &mut slowest {
        *beside = beside_flood(trial, &typists)?;
    }
    slowest.sort_unstable();
    let beside = slowest[ATTEMPTS / 2];
    let figure = format!("the slowest {} beside the flood, p99 {} without", time(beside), time(alone));
    if beside < (20 * alone).max(Duration::from_millis(15)) {
        return Ok(Some(figure));
    }
    Err(fails("an answer in less than 20 times the p99 without the flood, or below 15 ms", figure))
}

/// How long the slowest of the typing clients waits for its answer beside floods that have all sent before it.
fn beside_flood(trial: &Trial, typists: &[Client<'_>]) -> Checked<Duration> {
    let floods = (0..6).map(|_| Client::greeted(trial)).collect::<Result<Vec<_>, _>>()?;
    let ended_early = AtomicBool::new(false);
    let stop = AtomicBool::new(false);
    let end = &|result: io::Result<usize>| {
        // A flood may have to wait for the server.
        let over = result.map_or_else(|error| error.kind() != ErrorKind::WouldBlock, |count| count == 0);
        if over && !stop.load(Ordering::Relaxed) {
            ended_early.store(true, Ordering::Relaxed);
        }
        over
    };
    let slowest = thread::scope(|scope| {
        for flood in &floods {
            let mut answers = vec![0; 1 << 16];
            let _ = flood.stream().set_read_timeout(Some(trial.patience));
            scope.spawn(move || while !end(flood.stream().read(&mut answers)) {});
        }
        // The kernel then holds megabytes of each flood, whatever time the floods' threads get from now on.
        let result = trial.while_stopped(|| {
            let fill = |flood| scope.spawn(move || Client::send_until_full(flood, lines(16 << 20)));
            let senders: Vec<_> = floods.iter().map(fill).collect();
            for sender in senders {
                sender.join().expect("a sender does not panic")?;
            }
            typists.iter().try_for_each(|typist| typist.send(b"a few words\n"))
        });
        let start = Instant::now();
        for flood in &floods {
            scope.spawn(move || while !end(flood.stream().write(lines(1 << 16))) {});
        }
        let answered =
            result.and_then(|()| typists.iter().try_for_each(|typist| typist.answer_to(b"a few words\n")));
        let slowest = start.elapsed();
        stop.store(true, Ordering::Relaxed);
        for flood in &floods {
            let _ = flood.stream().shutdown(Shutdown::Both);
        }
        answered.map(|()| slowest)
    })?;
    check(
        !ended_early.load(Ordering::Relaxed),
        "the server keeps the flood's connections",
        "it ended one of them",
    )?;
    Ok(slowest)
}

fn crowd(trial: &Trial) -> Outcome {
    const CROWD: usize = 2000;
    let typist = Client::greeted(trial)?;
    // Twice: a server that serves one line a client has no client that types.
    typist.ask(b"before\n")?;
    typist.ask(b"the crowd\n")?;
    let crowd = trial.while_stopped(|| {
        let crowd = (0..CROWD).map(|_| Client::begin(trial)).collect::<Result<Vec<_>, _>>()?;
        let mut inside = 0;
        for client in &crowd {
            inside += usize::from(client.is_connected()?);
        }
        let why = || format!("its accept queue holds {inside} clients only: no crowd can wait there");
        if inside == CROWD { Ok(crowd) } else { Err(Stop::NotApplicable(why())) }
    })?;
    let (last, others) = crowd.split_last().expect("the crowd is not empty");

    if trial.protocol.banner.is_empty() {
        last.send(b"last\n")?;
    }
    let (mut answers, mut slowest) = (0, Duration::ZERO);
    // This thread types and looks for itself: another one might be told late that the crowd is inside.
    while !last.has_something_to_read() {
        let asked = Instant::now();
        typist.ask(b"a few words\n")?;
        slowest = slowest.max(asked.elapsed());
        answers += 1;
        if asked > trial.deadline {
            return Err(fails("the crowd is let in", "the last client has waited in vain"));
        }
    }
    last.greeting()?;
    if trial.protocol.banner.is_empty() {
        last.answer_to(b"last\n")?;
    }
    for client in others {
        client.greeting()?;
        client.ask(b"hello\n")?;
    }
    let figure = format!("{answers} answers, the slowest after {}", time(slowest));
    check(answers >= 12, "12 answers for the typing client while the crowd is let in", &figure)?;
    Ok(Some(figure))
}

fn urgent_data(trial: &Trial) -> Checked {
    let client = Client::greeted(trial)?;
    client.ask(b"before\n")?;
    trial.while_stopped(|| {
        client.send(b"first\n")?;
        SockRef::from(client.stream())
            .send_out_of_band(b"\xf2")
            .map_err(|error| fails("the server keeps the connection", error.to_string()))?;
        client.send(b"second\n")
    })?;
    // A server may ask for urgent bytes to stay in the stream (SO_OOBINLINE).
    let apart = b"first\nsecond\n";
    let within = b"first\n\xf2second\n";
    let apart = client.answers(apart);
    let (mut within, mut apart) = (Ok(apart.or_to(within)), Ok(apart));
    let complete = |answers: &Checked<Answers<'_>>| answers.as_ref().is_ok_and(Answers::are_complete);
    while !complete(&apart) && !complete(&within) {
        let bytes = client.sip(4096)?;
        for answers in [&mut apart, &mut within] {
            if let Ok(expected) = answers
                && let Err(stop) = expected.take(&bytes)
            {
                *answers = Err(stop);
            }
        }
        if let (Err(stop), Err(_)) = (&apart, &within) {
            return Err(stop.clone());
        }
    }
    client.ask(b"after\n")
}
