//! A [`Process`] that ends with its test, and whose output is collected while it runs.

use std::env;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, LazyLock, Mutex};
use std::thread;
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use okloop::Stats;

use super::{DEADLINE, PROGRAMS, cargo, eventually};

/// The examples, built once: `cargo test --test it` builds none.
static EXAMPLES: LazyLock<()> = LazyLock::new(|| {
    let profile = if cfg!(debug_assertions) { "dev" } else { "release" };
    let target =
        Path::new(env!("CARGO_BIN_EXE_okloop")).ancestors().nth(2).expect("it is in target/debug, say");
    let mut cargo = cargo();
    let build = cargo.args([
        "build",
        "--package=okloop",
        "--quiet",
        "--profile",
        profile,
        "--examples",
        "--target-dir",
    ]);
    let status = build.arg(target).status();
    assert!(status.expect("cargo runs, as it runs this").success());
});

/// The path of the server, `okloop`, or of an example.
pub fn binary(name: &str) -> PathBuf {
    if let Some(exercise) = env::var_os(PROGRAMS) {
        let program = Path::new(&exercise).join(name);
        if program.exists() {
            return program;
        }
    }
    let server = Path::new(env!("CARGO_BIN_EXE_okloop"));
    if name == "okloop" {
        return server.into();
    }
    LazyLock::force(&EXAMPLES);
    server.with_file_name("examples").join(name).with_extension(env::consts::EXE_EXTENSION)
}

/// A child process whose output is collected while it runs. Dropping it kills it.
pub struct Process {
    child: Child,
    stdout: Arc<Output>,
    stderr: Arc<Output>,
}

/// What a process left behind.
pub struct Finished {
    /// The exit status, or none if a signal ended the process.
    pub status: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Finished {
    /// The server's counters at its end.
    pub fn stats(&self) -> Stats {
        let stdout = lossy(&self.stdout);
        let (_, counters) = stdout.rsplit_once("open=").expect("the counters are logged");
        let line = counters.lines().next().unwrap_or_default();
        format!("open={line}").parse().expect("the line holds counters")
    }
}

impl Process {
    /// Starts the server or an example; see [`binary`].
    pub fn start(name: &str, arguments: &[&str]) -> Self {
        // The tests read the default log, whatever the environment asks for.
        Self::spawn(Command::new(binary(name)).args(arguments).env_remove("RUST_LOG"))
    }

    /// Starts the server on a port of loopback that the system chooses.
    pub fn okloop(arguments: &[&str]) -> Self {
        Self::start("okloop", &[&["--host", "127.0.0.1", "--port", "0"], arguments].concat())
    }

    /// Starts a command that the caller has prepared.
    pub fn spawn(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap_or_else(|error| panic!("{command:?} does not start: {error}")).into()
    }

    /// Waits until stdout holds a whole line with `text` in it, and returns the first such line.
    pub fn line_with(&self, text: &str) -> String {
        self.wait_for_line(&self.stdout, text)
    }

    /// The same for stderr.
    pub fn complaint_with(&self, text: &str) -> String {
        self.wait_for_line(&self.stderr, text)
    }

    fn wait_for_line(&self, output: &Output, text: &str) -> String {
        output.wait_for(|collected| collected.line_with(text)).unwrap_or_else(|| {
            let (stdout, stderr) = (self.stdout.bytes(), self.stderr.bytes());
            panic!("no line with {text:?} in {:?}, {:?}", lossy(&stdout), lossy(&stderr))
        })
    }

    /// What stdout has carried so far.
    pub fn stdout(&self) -> Vec<u8> {
        self.stdout.bytes()
    }

    /// Waits until the server says where it listens, and returns the port.
    pub fn port(&self) -> u16 {
        let line = self.line_with("Socket now listening on ");
        let port = line.rsplit(':').next().and_then(|port| port.parse().ok());
        port.unwrap_or_else(|| panic!("no port in {line:?}"))
    }

    /// The process's number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends the process a signal.
    pub fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.id()).expect("Linux numbers processes up to 2²² only");
        kill(Pid::from_raw(id), signal).expect("the child is ours to signal");
    }

    /// Lets the server log its counters, and returns them.
    pub fn stats(&self) -> Stats {
        let lines = || {
            let stdout = lossy(&self.stdout());
            let counters =
                stdout.lines().filter_map(|line| line.find("open=").map(|at| line[at..].to_owned()));
            counters.collect::<Vec<_>>()
        };
        let before = lines().len();
        self.signal(Signal::SIGUSR1);
        eventually("the counters are logged", || lines().len() > before);
        lines()[before].parse().expect("the line holds counters")
    }

    /// Collects from now on what comes from a standard output that the test has taken before.
    pub fn reading(mut self, stdout: impl Read + Send + 'static) -> Self {
        self.stdout = Output::collect(Some(stdout));
        self
    }

    /// Stops the server as an operator does. It must end as it should, without a complaint.
    pub fn stop(self) -> Finished {
        self.signal(Signal::SIGTERM);
        let finished = self.finish();
        assert_eq!((finished.status, &finished.stderr[..]), (Some(0), ""));
        finished
    }

    /// Waits for the end of the process, which ends both its outputs.
    pub fn finish(mut self) -> Finished {
        for output in [&self.stdout, &self.stderr] {
            let ended = output.wait_for(|output| output.ended.then_some(()));
            assert!(ended.is_some(), "still running, with {:?}", lossy(&output.bytes()));
        }
        let status = self.child.wait().expect("the child is ours to wait for").code();
        Finished { status, stdout: self.stdout.bytes(), stderr: lossy(&self.stderr.bytes()) }
    }
}

impl From<Child> for Process {
    /// Takes over a child, and collects those of its outputs that are piped and not taken.
    fn from(mut child: Child) -> Self {
        let (stdout, stderr) = (Output::collect(child.stdout.take()), Output::collect(child.stderr.take()));
        Self { child, stdout, stderr }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One output of a process, filled by a thread of its own so that the process never waits for the test.
#[derive(Default)]
struct Output {
    collected: Mutex<Collected>,
    changed: Condvar,
}

#[derive(Default)]
struct Collected {
    bytes: Vec<u8>,
    ended: bool,
}

impl Output {
    fn collect(source: Option<impl Read + Send + 'static>) -> Arc<Self> {
        let output = Arc::new(Self::default());
        let filled = Arc::clone(&output);
        thread::spawn(move || {
            let mut source = source;
            let mut chunk = [0; 4096];
            loop {
                let count = source.as_mut().map_or(0, |source| source.read(&mut chunk).unwrap_or(0));
                let mut collected = filled.collected.lock().expect("no holder of the lock panics");
                collected.bytes.extend(&chunk[..count]);
                collected.ended = count == 0;
                filled.changed.notify_all();
                if collected.ended {
                    return;
                }
            }
        });
        output
    }

    /// Waits until `look` finds something; none if the output ends or the deadline comes first.
    fn wait_for<T>(&self, look: impl Fn(&Collected) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + *DEADLINE;
        let mut collected = self.collected.lock().expect("no holder of the lock panics");
        loop {
            let found = look(&collected);
            let left = deadline.saturating_duration_since(Instant::now());
            if found.is_some() || collected.ended || left.is_zero() {
                return found;
            }
            collected = self.changed.wait_timeout(collected, left).expect("no holder of the lock panics").0;
        }
    }

    fn bytes(&self) -> Vec<u8> {
        self.collected.lock().expect("no holder of the lock panics").bytes.clone()
    }
}

impl Collected {
    fn line_with(&self, text: &str) -> Option<String> {
        let lines = self.bytes.split_inclusive(|&byte| byte == b'\n').filter(|line| line.ends_with(b"\n"));
        lines.map(|line| lossy(line.trim_ascii_end())).find(|line| line.contains(text))
    }
}

/// A disk that is full, for an output.
pub fn full_device() -> File {
    File::options().write(true).open("/dev/full").expect("Linux has this device")
}

/// What a process has written, as text.
pub fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
