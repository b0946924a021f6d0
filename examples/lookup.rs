//! A server whose answers take time: it resolves host names and reads files, and both calls block.
//!
//! ```text
//! cargo run --example lookup
//! telnet localhost 8888
//! ```
//!
//! It shows how a loop calls blocking code: it does not. A session gives the question to a pool of threads and returns
//! `Step::Wait`. The thread that has the answer wakes the session:
//!
//! ```text
//!   the loop's thread                                 a thread of the pool
//!   question ──► queue ─────────────────────────────► look_up blocks here
//!   Step::Wait
//!   (other sessions get their turns)
//!   answer ◄── channel ◄───────────────────────────── send, wake
//! ```
//!
//! While a session waits, the loop does not read from its client. So a client may send many questions, and gets the
//! answers in their order. The queue has a limit. A client whose question finds it full is told that the server is busy.
//!
//! It also shows a deadline of the session's own: the first question must come in time, and each minute the client is
//! told how many it has asked.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::mem::take;
use std::net::ToSocketAddrs;
use std::panic::catch_unwind;
use std::path::{Component, Path};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use okloop::{AtDeadline, Buffer, Reason, Session, Sizes, Step, Timer, Waker};

mod serving;
mod terminal;

/// How many calls block at the same time (threads).
const THREADS: usize = 4;
/// How many questions wait for a thread. It bounds the memory, and the time that a client waits for its answer.
const QUEUE: usize = 64;
/// The longest question with its ending, and the longest answer (bytes).
const LONGEST: usize = 1024;
/// When the first question must be there.
const PATIENCE: Duration = Duration::from_secs(30);
const MINUTE: Duration = Duration::from_secs(60);

/// What a thread of the pool gets.
pub struct Job {
    question: String,
    answer: Sender<String>,
    waker: Waker,
}

/// One client's session.
pub struct Lookup {
    queue: SyncSender<Job>,
    waker: Waker,
    /// Where the answer comes from, while a thread looks for it.
    expected: Option<Receiver<String>>,
    questions: u64,
    /// What happens to its deadline next.
    timer: Timer,
    is_minute_over: bool,
}

impl Lookup {
    /// A session that puts its questions into `queue`.
    pub fn new(queue: SyncSender<Job>, waker: Waker) -> Self {
        let timer = Timer::Start(PATIENCE);
        Self { queue, waker, expected: None, questions: 0, timer, is_minute_over: false }
    }
}

impl Session for Lookup {
    fn sizes(&mut self) -> Sizes {
        Sizes::new(LONGEST, 2 * LONGEST)
    }

    fn greet(&mut self, output: &mut Buffer) {
        output.push(b"* Ask: host NAME, or file NAME\n");
    }

    fn answer(&mut self, input: &mut [u8], output: &mut Buffer) -> Step {
        if take(&mut self.is_minute_over) {
            writeln!(output, "* {} questions so far", self.questions);
            return Step::More;
        }
        if let Some(expected) = &self.expected {
            // A wake is a hint: the answer may not be there.
            let Ok(answer) = expected.try_recv() else { return Step::Wait };
            self.expected = None;
            writeln!(output, "{answer}");
            return Step::More;
        }
        let Some(end) = input.iter().position(|&byte| byte == b'\n') else { return Step::NeedInput };
        if self.questions == 0 {
            self.timer = Timer::Start(MINUTE);
        }
        self.questions += 1;
        let question = String::from_utf8_lossy(&input[..end]).trim().to_owned();
        let (answer, expected) = channel();
        match self.queue.try_send(Job { question, answer, waker: self.waker.clone() }) {
            Ok(()) => self.expected = Some(expected),
            // To wait for room would stop all sessions.
            Err(_) => output.push(b"busy\n"),
        }
        Step::Consumed(end + 1)
    }

    fn timer(&mut self) -> Timer {
        take(&mut self.timer)
    }

    fn deadline(&mut self) -> AtDeadline {
        if self.questions == 0 {
            return AtDeadline::End;
        }
        (self.timer, self.is_minute_over) = (Timer::Start(MINUTE), true);
        AtDeadline::GoOn
    }

    fn ending(&mut self, reason: Reason, output: &mut Buffer) {
        match reason {
            Reason::Deadline => output.push(b"* You have asked nothing. Goodbye\n"),
            _ => writeln!(output, "* The server ends the session: {reason}"),
        }
    }
}

/// What blocks.
fn look_up(question: &str) -> io::Result<String> {
    match question.split_once(' ') {
        Some(("host", name)) => {
            let addresses = (name, 0).to_socket_addrs()?.take(20).map(|address| address.ip().to_string());
            Ok(addresses.collect::<Vec<_>>().join(" "))
        }
        // The first line, of a file in the server's directory only.
        Some(("file", name)) if matches!(Path::new(name).components().next(), Some(Component::Normal(only)) if only == name) =>
        {
            let mut line = Vec::new();
            BufReader::new(File::open(name)?.take(LONGEST as u64 / 2)).read_until(b'\n', &mut line)?;
            Ok(String::from_utf8_lossy(&line).replace(char::is_control, ""))
        }
        _ => Err(ErrorKind::InvalidInput.into()),
    }
}

/// Answers questions until the server ends. A question that makes `look_up` panic ends no thread.
pub fn work(queue: &Mutex<Receiver<Job>>) {
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
    while let Ok(Job { question, answer, waker }) = next() {
        let result = catch_unwind(|| look_up(&question)).unwrap_or(Err(ErrorKind::Other.into()));
        // It fails if the session has ended.
        let _ = answer.send(result.unwrap_or_else(|error| format!("error: {error}")));
        waker.wake();
    }
}

fn main() {
    let (queue, jobs) = sync_channel(QUEUE);
    let jobs = Arc::new(Mutex::new(jobs));
    for _ in 0..THREADS {
        let jobs = Arc::clone(&jobs);
        thread::spawn(move || work(&jobs));
    }
    serving::run(|client| Lookup::new(queue.clone(), client.waker));
}
