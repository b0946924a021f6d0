//! A run of the laboratory that ends with its test, and whose output is collected while it runs.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Condvar, LazyLock, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use procfs::net::{TcpNetEntry, TcpState};
use procfs::process::{FDTarget, Process, all_processes};

use crate::cargo::cargo;

/// How long a test waits for anything. Far longer than it takes, because a busy machine is no failure.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// How many runs the machine has room for. Most of them wait most of the time.
const PLACES: usize = 4;

static FREE: Mutex<usize> = Mutex::new(PLACES);
static FREED: Condvar = Condvar::new();

/// A run's places on the machine.
pub struct Turn(usize);

impl Turn {
    /// Waits until there is room for one more run.
    pub fn beside_others() -> Self {
        Self::take(1)
    }

    /// Waits until nothing else runs: the run measures servers, and must not measure other tests.
    fn alone() -> Self {
        Self::take(PLACES)
    }

    fn take(places: usize) -> Self {
        let free = FREE.lock().expect(NO_PANIC);
        *FREED.wait_while(free, |free| *free < places).expect(NO_PANIC) -= places;
        Self(places)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *FREE.lock().expect(NO_PANIC) += self.0;
        FREED.notify_all();
    }
}

const NO_PANIC: &str = "no holder of the lock panics";

/// The project's other programs, built once. `cargo test -p lab` builds only the laboratory.
static PROGRAMS: LazyLock<PathBuf> = LazyLock::new(|| {
    let directory = Path::new(env!("CARGO_BIN_EXE_lab")).parent().expect("it is in target/debug, say");
    let profile = if cfg!(debug_assertions) { "dev" } else { "release" };
    let mut cargo = cargo();
    cargo.args(["build", "--quiet", "--package", "okloop", "--bin", "okloop", "--profile", profile]);
    let examples = ["thread_per_connection", "poll_all", "tiny_event_loop", "chat", "gateway", "line_server"];
    for example in examples {
        cargo.args(["--example", example]);
    }
    cargo.args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml")]);
    let status = cargo.arg("--target-dir").arg(directory.join("..")).status();
    assert!(status.expect("cargo runs, as it runs this").success());
    directory.to_owned()
});

/// The path of a program, relative to the laboratory: `okloop`, or `examples/NAME`.
pub fn program(name: &str) -> PathBuf {
    PROGRAMS.join(name)
}

/// A run of the laboratory that the test describes further.
pub fn lab(arguments: &[&str]) -> Command {
    lab_under("env", arguments)
}

/// The same, started by a command that becomes its last arguments.
pub fn lab_under(runner: &str, arguments: &[&str]) -> Command {
    let mut words = runner.split(' ');
    let mut command = Command::new(words.next().expect("it has a name"));
    // The programs are built; the laboratory need not ask cargo.
    command.args(words).arg(program("lab")).args(arguments).env_remove("CARGO");
    command
}

/// A process whose output is collected while it runs. Dropping it kills it.
pub struct Running {
    child: Child,
    stdout: Output,
    stderr: Output,
    _turn: Turn,
}

/// What a process left behind.
pub struct Finished {
    /// The exit status, or none if a signal ended the process.
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Starts a command when there is room for it.
pub fn start(command: &mut Command) -> Running {
    start_in(Turn::beside_others(), command)
}

/// Starts a command when no other one runs.
pub fn start_alone(command: &mut Command) -> Running {
    start_in(Turn::alone(), command)
}

fn start_in(turn: Turn, command: &mut Command) -> Running {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    let (stdout, stderr) = (Output::of(child.stdout.take()), Output::of(child.stderr.take()));
    Running { child, stdout, stderr, _turn: turn }
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Finished {
    start(command).finish()
}

/// Runs a command to its end while no other one runs.
pub fn run_alone(command: &mut Command) -> Finished {
    start_alone(command).finish()
}

impl Running {
    /// Waits for a line on standard output with `text` in it.
    pub fn line_with(&mut self, text: &str) -> String {
        self.stdout.line_with(text).unwrap_or_else(|| panic!("no {text:?} in {}", self.stdout.so_far))
    }

    /// The same for standard error.
    pub fn complaint_with(&mut self, text: &str) -> String {
        self.stderr.line_with(text).unwrap_or_else(|| panic!("no {text:?} in {}", self.stderr.so_far))
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends the process a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.id().cast_signed()), signal).expect("the child is ours to signal");
    }

    /// Waits for the end of both outputs, which comes with the end of the process.
    pub fn finish(mut self) -> Finished {
        let ended = self.stdout.end() && self.stderr.end();
        let (stdout, stderr) =
            [&mut self.stdout, &mut self.stderr].map(|output| output.so_far.clone()).into();
        assert!(ended, "still running, with {stdout}{stderr}");
        let status = self.child.wait().expect("the child is ours to wait for").code();
        Finished { status, stdout, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only after its end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One output of a process. A thread of its own reads it, so that the process never waits for the test.
struct Output {
    lines: Receiver<String>,
    so_far: String,
}

impl Output {
    fn of(source: Option<impl Read + Send + 'static>) -> Self {
        let (sender, lines) = channel();
        let mut source = BufReader::new(source.expect("it is piped"));
        thread::spawn(move || {
            let mut line = Vec::new();
            while source.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
                // It fails only after the test.
                let _ = sender.send(String::from_utf8_lossy(&line).into_owned());
                line.clear();
            }
        });
        Self { lines, so_far: String::new() }
    }

    fn line_with(&mut self, text: &str) -> Option<String> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let line = self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok()?;
            self.so_far += &line;
            if line.contains(text) {
                return Some(line);
            }
        }
    }

    /// Whether the output ends in time.
    fn end(&mut self) -> bool {
        let deadline = Instant::now() + 2 * DEADLINE;
        while let Ok(line) = self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            self.so_far += &line;
        }
        Instant::now() < deadline
    }
}

/// The variable whose value tells a run's processes from all others. Children inherit it.
pub const MARK: &str = "LABORATORY_MARK";

/// The processes with this mark.
pub fn marked(mark: &str) -> Vec<Pid> {
    let is_marked = |process: &Process| {
        process
            .environ()
            .is_ok_and(|variables| variables.get(OsStr::new(MARK)).is_some_and(|value| value == mark))
    };
    let processes = all_processes().expect("Linux").filter_map(Result::ok).filter(is_marked);
    processes.map(|process| Pid::from_raw(process.pid())).collect()
}

/// Where these processes listen. The list of all sockets of the machine is long: it is read once.
pub fn listening(processes: &[Pid]) -> Vec<SocketAddr> {
    let processes = processes.iter().filter_map(|process| Process::new(process.as_raw()).ok());
    let files = processes.filter_map(|process| process.fd().ok()).flatten();
    let sockets: Vec<_> = files.filter_map(|file| file.ok().map(|file| file.target)).collect();
    let all = procfs::net::tcp().expect("Linux").into_iter().chain(procfs::net::tcp6().into_iter().flatten());
    let ours = |entry: &TcpNetEntry| {
        entry.state == TcpState::Listen && sockets.contains(&FDTarget::Socket(entry.inode))
    };
    all.filter(ours).map(|entry| entry.local_address).collect()
}

/// Waits until `holds` does, for what no event tells.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}
