//! Sessions that are woken: by threads that make their answers, by other sessions, and to end.

use std::cell::RefCell;
use std::io::Read;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use okloop::{Buffer, Config, EndOfInput, Ending, Reason, Session, Step, Waker};

use crate::harness::{Client, Embedded, bind, eventually, loopback, session_of};

/// A line for another thread, and how its answer comes back.
struct Job {
    line: Vec<u8>,
    answer: Arc<Mutex<Option<Vec<u8>>>>,
    waker: Waker,
}

impl Job {
    /// Gives the session its answer.
    fn done(self) {
        *self.answer.lock().expect("no holder of the lock panics") = Some(self.line.to_ascii_uppercase());
        self.waker.wake();
    }
}

/// Another thread answers each line, and the rest at the end of the input.
struct Asking {
    jobs: Sender<Job>,
    waker: Waker,
    answer: Arc<Mutex<Option<Vec<u8>>>>,
    has_asked: bool,
    has_input_ended: bool,
}

impl Asking {
    fn new(jobs: &Sender<Job>, client: okloop::Client<'_>) -> Self {
        let (jobs, waker, answer) = (jobs.clone(), client.waker, Arc::default());
        Self { jobs, waker, answer, has_asked: false, has_input_ended: false }
    }

    /// The length of the next request.
    fn request(&self, input: &[u8]) -> Option<usize> {
        let line = input.iter().position(|&byte| byte == b'\n').map(|end| end + 1);
        line.or_else(|| (self.has_input_ended && !input.is_empty()).then_some(input.len()))
    }
}

impl Session for Asking {
    fn answer(&mut self, input: &mut [u8], output: &mut Buffer) -> Step {
        let Some(length) = self.request(input) else { return Step::NeedInput };
        let answer = self.answer.lock().expect("no holder of the lock panics").take();
        if let Some(answer) = answer {
            self.has_asked = false;
            output.push(&answer);
            return Step::Consumed(length);
        }
        if !self.has_asked {
            self.has_asked = true;
            let (answer, waker) = (Arc::clone(&self.answer), self.waker.clone());
            let job = Job { line: input[..length].to_vec(), answer, waker };
            self.jobs.send(job).expect("the worker lives as long as the test");
        }
        Step::Wait
    }

    fn end_of_input(&mut self, end: EndOfInput) {
        self.has_input_ended = end == EndOfInput::Client;
    }
}

/// A server whose sessions give their lines to a thread, and what that thread receives.
fn asking(config: Config) -> (Embedded, Receiver<Job>) {
    let (sender, jobs) = channel();
    (Embedded::run(bind(config), move |client| Asking::new(&sender, client)), jobs)
}

#[test]
fn pipelined_requests_that_a_thread_answers_keep_their_order_and_a_half_close_loses_none() {
    const LINES: usize = 200;
    let (server, jobs) = asking(loopback());
    // The answers of different sessions overtake each other.
    thread::spawn(move || {
        let mut held = Vec::new();
        for job in jobs {
            held.push(job);
            if held.len() == 3 {
                held.drain(..).rev().for_each(Job::done);
            }
        }
    });
    let lines = |client| -> String {
        let line = |number| format!("client {client}, line {number}\n");
        (0..LINES).map(line).collect::<Vec<_>>().concat()
    };
    let mut clients = [0, 1, 2].map(|number| {
        let mut client = Client::connect(server.port());
        client.send(lines(number).as_bytes());
        client.half_close();
        client
    });
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(String::from_utf8_lossy(&client.read_to_end()), lines(number).to_uppercase());
    }
    let (_, stats) = server.stop();
    assert_eq!(stats.closed(Reason::Finished), 3);
}

#[test]
fn a_request_that_ends_with_the_input_may_wait_for_its_answer() {
    let (server, jobs) = asking(loopback());
    let mut client = Client::connect(server.port());
    client.send(b"half a line");
    client.half_close();
    let job = jobs.recv().expect("the session asks");
    thread::sleep(Duration::from_millis(50));
    job.done();
    assert_eq!(client.read_to_end(), b"HALF A LINE");
}

#[test]
fn a_session_that_waits_is_not_read() {
    let (server, jobs) = asking(loopback());
    let mut client = Client::connect(server.port());
    client.send(b"first\n");
    let job = jobs.recv().expect("the session asks");
    client.send_until_full(&b"next\n".repeat(4 << 20));
    assert_eq!(server.stats().bytes_in, 6);
    job.done();
    client.expect(b"FIRST\n");
}

/// It does not read, and has nothing to write. Windows tells an error to a read or a write only.
#[cfg(unix)]
#[test]
fn a_reset_ends_a_session_that_waits() {
    let (server, jobs) = asking(loopback());
    for is_half_closed in [false, true] {
        let mut client = Client::connect(server.port());
        client.send(b"first\n");
        let _job = jobs.recv().expect("the session asks");
        if is_half_closed {
            client.half_close();
        }
        let resets = server.stats().closed(Reason::Reset);
        client.reset();
        eventually("the session is over", || server.stats().closed(Reason::Reset) == resets + 1);
    }
}

#[test]
fn a_stopping_server_waits_for_the_answer_of_a_thread() {
    let (server, jobs) = asking(loopback());
    let mut client = Client::connect(server.port());
    client.send(b"first\nsecond\n");
    let job = jobs.recv().expect("the session asks");
    let stopping = thread::spawn(move || server.stop());
    thread::sleep(Duration::from_millis(100));
    job.done();
    client.expect(b"FIRST\n");
    jobs.recv().expect("the session asks again").done();
    assert_eq!(client.read_to_end(), b"SECOND\n");
    drop(client);
    let (ending, stats) = stopping.join().expect("the server ends");
    assert_eq!((ending, stats.closed(Reason::Drained)), (Ending::Drained, 1));
}

#[test]
fn a_session_whose_answer_never_comes_is_held_until_the_drain_time_out() {
    let (server, _jobs) = asking(Config { drain_timeout: Duration::from_millis(200), ..loopback() });
    let mut client = Client::connect(server.port());
    client.send(b"first\n");
    eventually("the server has read it", || server.stats().bytes_in == 6);
    let (ending, stats) = server.stop();
    assert_eq!((ending, stats.closed(Reason::DrainTimeout)), (Ending::TimedOut, 1));
}

/// Each thread adds to one number and wakes. A lost wake would leave the client with an older number.
#[test]
fn no_wake_of_four_threads_is_lost() {
    const THREADS: u64 = 4;
    const WAKES: u64 = 20_000;
    let produced = Arc::new(AtomicU64::new(0));
    let (sender, wakers) = channel();
    let shown = Arc::clone(&produced);
    let server = Embedded::run(bind(loopback()), move |client| {
        sender.send(client.waker).expect("the test waits for it");
        let (produced, mut seen) = (Arc::clone(&shown), 0);
        session_of(move |_, output| {
            let number = produced.load(Ordering::SeqCst);
            if number == seen {
                return Step::NeedInput;
            }
            seen = number;
            writeln!(output, "{number}");
            Step::More
        })
    });
    let client = Client::connect(server.port());
    let waker: Waker = wakers.recv().expect("there is a session");
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..WAKES {
                    produced.fetch_add(1, Ordering::SeqCst);
                    waker.wake();
                }
            });
        }
        let mut received = Vec::new();
        let last = format!("{}\n", THREADS * WAKES);
        while !received.ends_with(last.as_bytes()) {
            let mut chunk = [0; 4096];
            let count = client.stream().read(&mut chunk).expect("the last number comes");
            received.extend(&chunk[..count]);
        }
    });
}

/// What one client says, all others hear, in the same order. It stands once, and each session copies it in its own turn.
#[test]
fn sessions_that_share_an_rc_wake_each_other() {
    const CLIENTS: usize = 10;
    #[derive(Default)]
    struct Room {
        said: Vec<u8>,
        members: Vec<Waker>,
    }
    let server = Embedded::run_by(bind(loopback()), |server| {
        let room = Rc::new(RefCell::new(Room::default()));
        server.run(|client| {
            room.borrow_mut().members.push(client.waker);
            let (room, mut heard) = (Rc::clone(&room), 0);
            session_of(move |input, output| {
                let mut room = room.borrow_mut();
                if !input.is_empty() {
                    room.said.extend_from_slice(input);
                    room.members.iter().for_each(Waker::wake);
                    return Step::Consumed(input.len());
                }
                let news = &room.said[heard..];
                let part = &news[..news.len().min(1000)];
                output.push(part);
                heard += part.len();
                if part.is_empty() { Step::NeedInput } else { Step::More }
            })
        })
    });
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| Client::connect(server.port())).collect();
    for turn in 0..20 {
        let line = vec![b'a' + turn; 1 + 100 * usize::from(turn)];
        clients[usize::from(turn) % CLIENTS].send(&line);
        for client in &mut clients {
            client.expect(&line);
        }
    }
}

/// The second client gets the place, and the key, of the first one.
#[test]
fn a_late_wake_never_reaches_the_next_session() {
    let (sender, wakers) = channel();
    let server = Embedded::run(bind(loopback()), move |client| {
        sender.send(client.waker).expect("the test waits for it");
        let mut waits = false;
        session_of(move |input, output| {
            if waits {
                output.push(b"woken");
                return Step::Close;
            }
            waits = !input.is_empty();
            output.push(input);
            if waits { Step::Wait } else { Step::NeedInput }
        })
    });
    let mut first = Client::connect(server.port());
    let late = wakers.recv().expect("there is a session");
    first.half_close();
    assert_eq!(first.read_to_end(), b"");
    eventually("its place is free", || server.stats().open == 0);

    let mut second = Client::connect(server.port());
    let waker = wakers.recv().expect("there is a session");
    assert_ne!(late, waker);
    second.send(b"hello");
    second.expect(b"hello");
    late.wake();
    late.end();
    assert_eq!(second.receive_for(Duration::from_millis(50)), b"");
    waker.wake();
    assert_eq!(second.read_to_end(), b"woken");
}

/// The client reads nothing, so its output is full when the session is ended.
#[test]
fn a_waker_that_ends_a_slow_reader_sends_all_of_its_pending_output() {
    let (sender, wakers) = channel();
    let server = Embedded::run(bind(loopback()), move |client| {
        sender.send(client.waker).expect("the test waits for it");
        session_of(|input, output| {
            input.make_ascii_uppercase();
            output.push(input);
            Step::Consumed(input.len())
        })
    });
    let mut client = Client::connect(server.port());
    let waker = wakers.recv().expect("there is a session");
    client.send_until_full(&vec![b'x'; 64 << 20]);
    let before = server.stats();
    assert!(before.bytes_in > before.bytes_out, "output is pending");
    waker.end();
    waker.end();
    let received = client.read_to_end();
    assert!(received.iter().all(|&byte| byte == b'X'));
    assert_eq!(received.len() as u64, before.bytes_in, "what was read is answered, and nothing more is read");
    drop(client);
    let (_, stats) = server.stop();
    assert_eq!((stats.bytes_out, stats.closed(Reason::Ended)), (received.len() as u64, 1));
}

/// A wake is no sign of life from the client.
#[test]
fn wakes_do_not_keep_an_idle_client() {
    let (sender, wakers) = channel();
    let config = Config { idle_timeout: Some(Duration::from_millis(200)), ..loopback() };
    let news = Arc::new(AtomicU64::new(0));
    let said = Arc::clone(&news);
    let server = Embedded::run(bind(config), move |client| {
        sender.send(client.waker).expect("the test waits for it");
        let news = Arc::clone(&news);
        session_of(move |_, output| {
            (0..news.swap(0, Ordering::SeqCst)).for_each(|_| output.push(b"news\n"));
            Step::NeedInput
        })
    });
    let mut client = Client::connect(server.port());
    let waker: Waker = wakers.recv().expect("there is a session");
    let speaking = thread::spawn(move || {
        for _ in 0..50 {
            thread::sleep(Duration::from_millis(20));
            said.fetch_add(1, Ordering::SeqCst);
            waker.wake();
        }
    });
    let heard = client.read_to_end().len() / b"news\n".len();
    assert!((1..40).contains(&heard), "{heard} pieces of news");
    drop(client);
    speaking.join().expect("a late wake does no harm");
    let (_, stats) = server.stop();
    assert_eq!(stats.closed(Reason::IdleTimeout), 1);
}
