//! Clients that talk as they may: every byte of the answers is checked.

use std::thread;
use std::time::Duration;

use crate::faults::case::{Case, Group, Outcome};
use crate::faults::client::{Client, lines};
use crate::faults::trial::Trial;
use crate::support::protocol::Framing;

pub const GROUP: Group = Group {
    name: "conversation",
    title: "The conversation",
    cases: &[
        Case {
            name: "greeting",
            client: "The client connects and says nothing for 200 ms, then it says a line.",
            server: "The server sends exactly its banner without waiting for the client, and then answers: a person at a \
                     terminal must see that the connection works.",
            rule: "chapter 4",
            run: greeting,
            ..Case::PLAIN
        },
        Case {
            name: "no-newline",
            client: "The client sends five bytes that end without a newline.",
            server: "With framing by chunks the server answers them as they are; by lines it waits for the newline or the \
                     end of input. TCP does not keep lines together, so the framing is the server's work.",
            rule: "chapter 1",
            run: no_newline,
            ..Case::PLAIN
        },
        Case {
            name: "not-text",
            client: "The client sends all 256 byte values, several times.",
            server: "The server answers them unchanged: a server that decodes its input as text loses bytes or ends.",
            rule: "chapter 1",
            run: not_text,
            ..Case::PLAIN
        },
        Case {
            name: "split-request",
            client: "The client sends a line in two parts, once for every place where it can be split.",
            server: "The server answers both parts by chunks, and the whole line by lines: one read need not return what \
                     one write sent.",
            rule: "chapter 1",
            run: split_request,
            ..Case::PLAIN
        },
        Case {
            name: "many-in-one",
            client: "The client sends 100 lines in one segment.",
            server: "The server answers all of them in order: no event comes for the requests behind the first one.",
            rule: "rule 1",
            run: many_in_one,
            ..Case::PLAIN
        },
        Case {
            name: "byte-by-byte",
            client: "The client sends a line of 60 bytes, one byte each time.",
            server: "The server answers each byte by chunks, and the line by lines.",
            rule: "chapter 1",
            run: byte_by_byte,
            ..Case::PLAIN
        },
        Case {
            name: "long-message",
            client: "The client sends 5,000 bytes in one write, many times as much as a small buffer holds.",
            server: "The server answers every byte: what does not fit in one read is read with the next.",
            rule: "rule 1",
            run: long_message,
            ..Case::PLAIN
        },
        Case {
            name: "late-reader",
            client: "The client sends 16 MiB, begins to read 300 ms later, and ends its input.",
            server: "The server stops reading when it cannot write, and goes on later: the client gets every answer and \
                     then the end.",
            rule: "rule 12",
            run: late_reader,
            ..Case::PLAIN
        },
    ],
};

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
