//! The example `lookup`: answers that threads make.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::sync_channel;
use std::time::Duration;
use std::{env, process, thread};

use nix::sys::signal::Signal;
use okloop::Reason;
use okloop::conversation::Conversation;

use crate::harness::{Client, Process, binary, eventually, lossy};

#[path = "../../examples/lookup.rs"]
#[allow(dead_code, clippy::duplicate_mod, reason = "the tests start its main as a process")]
mod program;

const GREETING: &[u8] = b"* Ask: host NAME, or file NAME\n";
const BAD: &[u8] = b"error: invalid input parameter\n";

/// How many questions the server's threads have at a time, and how many more wait for them.
const THREADS: usize = 4;
const QUEUE: usize = 64;

/// A server in a directory of its own. It has pipes that block whoever reads them, until the test writes.
struct Lookup {
    server: Process,
    directory: PathBuf,
}

impl Lookup {
    fn start(test: &str, arguments: &[&str]) -> Self {
        let directory = env::temp_dir().join(format!("okloop-{test}-{}", process::id()));
        fs::create_dir_all(&directory).expect("a directory for the test");
        fs::write(directory.join("short"), "one line\nand another\n").expect("a file for the test");
        let mut command = Command::new(binary("lookup"));
        let server = Process::spawn(command.arg("0").args(arguments).current_dir(&directory));
        Self { server, directory }
    }

    fn pipe(&self, name: &str) -> PathBuf {
        let path = self.directory.join(name);
        let status = Command::new("mkfifo").arg(&path).status().expect("coreutils are there");
        assert!(status.success(), "a pipe");
        path
    }

    fn enter(&self) -> Client {
        let mut client = Client::connect(self.server.port());
        client.expect(GREETING);
        client
    }
}

impl Drop for Lookup {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Answers the one that reads the pipe. Opening it waits for a reader.
fn answer(pipe: &Path, text: &str) {
    let mut pipe = OpenOptions::new().write(true).open(pipe).expect("the pipe is there");
    pipe.write_all(text.as_bytes()).expect("somebody reads the pipe");
}

/// Opens a pipe for writing as soon as a thread of the server reads it.
fn open_when_read(pipe: &Path) -> File {
    let mut opened = None;
    eventually("a thread reads the pipe", || {
        let options = OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(pipe);
        opened = options.ok();
        opened.is_some()
    });
    opened.expect("it was opened")
}

#[test]
fn hosts_and_files_are_looked_up_and_nothing_else() {
    let server = Lookup::start("answers", &[]);
    let mut client = server.enter();
    client.send(b"host 127.0.0.1\r\nfile short\n");
    client.expect(b"127.0.0.1\none line\n");
    fs::write(server.directory.join("long"), [0xff; 10_000]).expect("a file for the test");
    client.send(b"file long\n");
    client.expect(["\u{fffd}".repeat(512), "\n".to_owned()].concat().as_bytes());
    client.send(b"file missing\n");
    client.expect(b"error: No such file or directory (os error 2)\n");
    for question in ["", "host", "files short", "file ../short", "file /etc/passwd", "file .", "file ./short"]
    {
        client.send(format!("{question}\n").as_bytes());
        client.expect(BAD);
    }
}

#[test]
fn many_questions_are_answered_in_order_and_a_half_close_loses_none() {
    let server = Lookup::start("order", &[]);
    let slow = server.pipe("slow");
    let mut client = server.enter();
    for number in 0..500 {
        fs::write(server.directory.join(number.to_string()), number.to_string()).expect("a file");
    }
    client.send(b"file slow\n");
    let numbered = |prefix| (0..500).map(|number| format!("{prefix}{number}\n")).collect::<Vec<_>>().concat();
    client.send(numbered("file ").as_bytes());
    client.half_close();
    assert_eq!(client.receive_for(Duration::from_millis(200)), b"", "the first one is not there");
    answer(&slow, "at last\n");
    assert_eq!(lossy(&client.read_to_end()), "at last\n".to_owned() + &numbered(""));
}

#[test]
fn a_client_whose_answer_takes_long_delays_no_other_one() {
    let server = Lookup::start("slow", &[]);
    let slow = server.pipe("slow");
    let mut waiting = server.enter();
    waiting.send(b"file slow\n");
    let mut quick = server.enter();
    for _ in 0..20 {
        quick.send(b"file short\n");
        quick.expect(b"one line\n");
    }
    answer(&slow, "at last\n");
    waiting.expect(b"at last\n");
}

#[test]
fn a_full_queue_is_told_and_the_questions_in_it_are_answered() {
    let server = Lookup::start("busy", &[]);
    let pipes: Vec<PathBuf> =
        (0..THREADS + QUEUE).map(|number| server.pipe(&format!("slow-{number}"))).collect();
    let ask = |number: usize| {
        let mut client = server.enter();
        client.send(format!("file slow-{number}\n").as_bytes());
        client
    };
    let mut waiting: Vec<Client> = (0..THREADS).map(ask).collect();
    // Each thread has a question when its pipe has a reader.
    let held: Vec<File> = pipes[..THREADS].iter().map(|pipe| open_when_read(pipe)).collect();
    waiting.extend((THREADS..THREADS + QUEUE).map(ask));
    // It is accepted after the questions were read.
    let mut late = server.enter();
    late.send(b"host 127.0.0.1\nfile short\n");
    late.expect(b"busy\nbusy\n");

    for mut pipe in held {
        pipe.write_all(b"at last\n").expect("a thread reads the pipe");
    }
    thread::scope(|scope| {
        for pipe in &pipes[THREADS..] {
            scope.spawn(|| answer(pipe, "at last\n"));
        }
        for client in &mut waiting {
            client.expect(b"at last\n");
        }
    });
    late.send(b"file short\n");
    late.expect(b"one line\n");
}

#[test]
fn a_drain_waits_for_the_answer() {
    let server = Lookup::start("drain", &[]);
    let slow = server.pipe("slow");
    let mut client = server.enter();
    client.send(b"file slow\nfile short\n");
    let mut silent = server.enter();
    server.server.signal(Signal::SIGTERM);
    assert_eq!(silent.read_to_end(), b"* The server ends the session: drained\n");
    drop(silent);
    answer(&slow, "at last\n");
    let expected = b"at last\none line\n* The server ends the session: drained\n";
    assert_eq!(lossy(&client.read_to_end()), lossy(expected));
    client.stream().shutdown(Shutdown::Both).expect("the connection is open");
}

#[test]
fn the_first_question_must_come_in_time_and_each_minute_has_its_line() {
    let (queue, jobs) = sync_channel(1);
    let mut silent = Conversation::open(|client| program::Lookup::new(queue.clone(), client.waker));
    assert_eq!(silent.deadline(), Some(Duration::from_secs(30)));
    silent.send(b"host half a line");
    silent.pass_deadline();
    assert_eq!(silent.received(), [GREETING, b"* You have asked nothing. Goodbye\n"].concat());
    silent.end_input();
    assert_eq!(silent.ended(), Some(Reason::Deadline));

    let mut client = Conversation::open(|client| program::Lookup::new(queue.clone(), client.waker));
    client.send(b"host a\nhost b\n");
    assert_eq!(client.deadline(), Some(Duration::from_secs(60)));
    client.pass_deadline();
    assert_eq!(client.received(), [GREETING, b"* 1 questions so far\n"].concat(), "even while it waits");
    client.pass_deadline();
    assert_eq!(client.received(), b"* 1 questions so far\n");
    drop(jobs);
}

#[test]
fn telnet_clients_are_served() {
    let server = Lookup::start("telnet", &["--telnet"]);
    let mut client = Client::connect(server.server.port());
    client.expect(b"* Ask: host NAME, or file NAME\r\n");
    client.send(b"file \xff\xf1short\r\0");
    client.expect(b"one line\r\n");
}

/// A file that nobody can read is an error, and no panic.
#[test]
fn a_directory_is_an_error() {
    let server = Lookup::start("directory", &[]);
    fs::create_dir(server.directory.join("folder")).expect("a directory for the test");
    File::create(server.directory.join("empty")).expect("a file for the test");
    let mut client = server.enter();
    client.send(b"file folder\nfile empty\n");
    client.expect(b"error: Is a directory (os error 21)\n\n");
}
