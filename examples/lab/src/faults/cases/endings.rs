//! Clients that end, in order or not.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::faults::case::{Beside, Checked, MOST, Outcome, Play, Stop, cannot_run, check, fails, shown};
use crate::faults::client::{Client, lines};
use crate::faults::trial::Trial;
use crate::support::{has_timer, time};

pub const CASES: &[Play] = &[
    Play::new("half-close", half_close),
    Play::new("half-close-early", half_close_early),
    Play::new("data-and-end", data_and_end),
    Play::new("reset-in-queue", reset_in_queue).of_process(),
    Play::new("reset-mid-answer", reset_mid_answer),
    Play::new("reset-unread", reset_unread),
    Play::measured("polite-close", polite_close).beside(Beside::Many),
    Play::measured("vanished", vanished).beside(Beside::Many),
];

fn half_close(trial: &Trial) -> Checked {
    let client = Client::greeted(trial)?;
    client.exchange(lines(1 << 20), Duration::from_millis(100))
}

fn half_close_early(trial: &Trial) -> Checked {
    let client = Client::connect(trial)?;
    client.send(b"all that I say\n")?;
    client.half_close()?;
    client.greeting()?;
    client.answers_and_end(b"all that I say\n")
}

fn data_and_end(trial: &Trial) -> Checked {
    for _ in 0..2000 {
        let client = Client::greeted(trial)?;
        // The kernel holds the line back until the end follows (TCP_CORK, tcp(7)).
        SockRef::from(client.stream()).set_tcp_cork(true).map_err(|error| cannot_run(error.to_string()))?;
        client.send(b"a line and the end\n")?;
        client.half_close()?;
        client.answers_and_end(b"a line and the end\n")?;
    }
    Ok(())
}

fn reset_in_queue(trial: &Trial) -> Checked {
    let waiting = trial.while_stopped(|| {
        let mut waiting = Vec::new();
        for _ in 0..3 {
            Client::connect(trial)?.reset();
            waiting.push(Client::connect(trial)?);
        }
        Ok(waiting)
    })?;
    for client in waiting {
        client.greeting()?;
        client.ask(b"I am here\n")?;
    }
    trial.serves_the_next()
}

fn reset_mid_answer(trial: &Trial) -> Checked {
    for _ in 0..10 {
        let client = Client::greeted(trial)?;
        // A server that ends the session earlier fails other cases. Here the next client counts.
        let _ = client.send_until_full(lines(1 << 20)).and_then(|_| client.sip(1000));
        client.reset();
    }
    trial.serves_the_next()
}

fn reset_unread(trial: &Trial) -> Checked {
    for _ in 0..20 {
        let client = Client::connect(trial)?;
        // A server that answers slowly is still reading when the reset comes; a fast one finds it with its next call.
        trial.while_stopped(|| client.send(lines(20_000)))?;
        client.reset();

        // A server that waits for input meets the reset in its read: the answer has arrived, and the client leaves it.
        let client = Client::greeted(trial)?;
        client.send(b"hello\n")?;
        // An error means that the server has ended, which the next client finds out.
        let _ = client.stream().peek(&mut [0]);
        client.reset();
    }
    trial.serves_the_next()
}

fn polite_close(trial: &Trial) -> Outcome {
    const LINES: usize = 120;
    let Some(end) = &trial.protocol.end else {
        return Err(Stop::NotApplicable(
            "nothing is known of how a client asks for the end (--end)".to_owned(),
        ));
    };
    let client = Client::with_receive_buffer(2048, trial)?;
    let sent = [&[b'y'; 899][..], b"\n"].concat().repeat(LINES);
    let is_over = AtomicBool::new(false);
    let start = Instant::now();
    let received = thread::scope(|scope| {
        scope.spawn(|| {
            let mut open = client.send(&sent).is_ok() && client.send(&end.request).is_ok();
            // It fails when the session is over.
            while open && !is_over.load(Ordering::Relaxed) {
                open = client.stream().write_all(b"still typing\n").is_ok();
                thread::sleep(Duration::from_millis(10));
            }
        });
        // At most 20 kB/s.
        let received = client.sip_to_the_end(1000, Duration::from_millis(50));
        is_over.store(true, Ordering::Relaxed);
        received
    })?;
    let took = start.elapsed();
    let last = &received[received.len().saturating_sub(end.goodbye.len())..];
    check(
        last == end.goodbye,
        format!("the goodbye, {}, then the end", shown(&end.goodbye, MOST)),
        format!("{}, then the end, after {} bytes", shown(last, MOST), received.len()),
    )?;
    let mut answers = client.answers(&sent);
    answers.take(&received[..received.len() - last.len()])?;
    if !answers.are_complete() {
        return Err(fails(answers.awaited(), "the goodbye"));
    }
    Ok(Some(format!("everything in {}", time(took))))
}

fn vanished(trial: &Trial) -> Outcome {
    let client = Client::greeted(trial)?;
    client.ask(b"my last words\n")?;
    let own = client.stream().local_addr().map_err(|error| cannot_run(error.to_string()))?;
    let end = Instant::now() + Duration::from_secs(2);
    while Instant::now() < end {
        match has_timer(trial.server.address, own) {
            Some(true) => return Ok(Some("keepalive".to_owned())),
            Some(false) => {}
            // The server's end of the connection is closed.
            None => return Ok(Some("ended by the server".to_owned())),
        }
        thread::sleep(Duration::from_millis(50));
    }
    check(false, "keepalive, or an end within 2 s", "neither: the session stays for ever")?;
    Ok(None)
}
