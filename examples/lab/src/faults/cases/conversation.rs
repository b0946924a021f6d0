//! Clients that talk as they may: every byte of the answers is checked.

use std::thread;
use std::time::Duration;

use crate::faults::case::{Outcome, Play};
use crate::faults::client::{Client, lines};
use crate::faults::trial::Trial;
use crate::support::Framing;

pub const CASES: &[Play] = &[
    Play::new("greeting", greeting),
    Play::new("no-newline", no_newline),
    Play::new("not-text", not_text),
    Play::new("split-request", split_request),
    Play::new("many-in-one", many_in_one),
    Play::new("byte-by-byte", byte_by_byte),
    Play::new("long-message", long_message),
    Play::new("late-reader", late_reader),
];

fn greeting(trial: &Trial) -> Outcome {
    let client = Client::greeted(trial)?;
    client.silence(Duration::from_millis(200))?;
    client.ask(b"hello\n")?;
    client.silence(Duration::from_millis(20))?;
    Ok(None)
}

fn no_newline(trial: &Trial) -> Outcome {
    let client = Client::greeted(trial)?;
    if trial.protocol.framing == Framing::Chunks {
        client.ask(b"hello")?;
        return Ok(None);
    }
    client.send(b"hello")?;
    client.silence(Duration::from_millis(100))?;
    client.half_close()?;
    client.answers_and_end(b"hello")?;
    Ok(None)
}

fn not_text(trial: &Trial) -> Outcome {
    let client = Client::greeted(trial)?;
    let mut bytes: Vec<u8> = (0..=255).collect();
    bytes.push(b'\n');
    for _ in 0..4 {
        client.ask(&bytes)?;
    }
    Ok(None)
}

fn split_request(trial: &Trial) -> Outcome {
    const LINE: &[u8] = b"a line in two parts\r\n";
    let client = Client::greeted(trial)?;
    for at in 1..LINE.len() {
        let (head, tail) = LINE.split_at(at);
        match trial.protocol.framing {
            Framing::Chunks => {
                client.ask(head)?;
                client.ask(tail)?;
            }
            Framing::Lines | Framing::WholeLines => {
                client.send(head)?;
                client.silence(Duration::from_millis(3))?;
                client.send(tail)?;
                client.answer_to(LINE)?;
            }
        }
    }
    Ok(None)
}

fn many_in_one(trial: &Trial) -> Outcome {
    let client = Client::greeted(trial)?;
    let requests = lines(900);
    for _ in 0..10 {
        client.ask(requests)?;
    }
    Ok(None)
}

fn byte_by_byte(trial: &Trial) -> Outcome {
    let client = Client::greeted(trial)?;
    let line = [&[b'x'; 59][..], b"\n"].concat();
    for byte in line.chunks(1) {
        client.send(byte)?;
        thread::sleep(Duration::from_micros(500));
    }
    client.answer_to(&line)?;
    Ok(None)
}

fn long_message(trial: &Trial) -> Outcome {
    let client = Client::greeted(trial)?;
    client.ask(lines(5000))?;
    client.ask(b"and a short one\n")?;
    Ok(None)
}

fn late_reader(trial: &Trial) -> Outcome {
    let client = Client::greeted(trial)?;
    client.exchange(lines(16 << 20), Duration::from_millis(300))?;
    Ok(None)
}
