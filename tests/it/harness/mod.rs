//! What the tests stand on: a [`Process`] or an [`Embedded`] server that ends with its test, and a [`Client`] that never
//! waits for ever.
//!
//! Knows the banner and the prefix of the protocol, and nothing of any one server.

mod payload;

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use okloop::protocol::{BANNER, PREFIX};
use okloop::{Config, Ending, Handle, Server, Stats};
use socket2::SockRef;

pub use self::payload::{chunks_of, numbered_lines};

/// How long anything may take. Far more than it does: a busy machine is no failure.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// The path of the server, `okloop`, or of an example.
pub fn binary(name: &str) -> PathBuf {
    let server = Path::new(env!("CARGO_BIN_EXE_okloop"));
    if name == "okloop" {
        return server.into();
    }
    let example =
        server.with_file_name("examples").join(name).with_extension(std::env::consts::EXE_EXTENSION);
    assert!(example.exists(), "{} is missing: run `cargo build --examples` first", example.display());
    example
}

/// Builds an example and returns its path. For one that has unit tests `cargo test` builds only those.
pub fn build_example(name: &str) -> PathBuf {
    let profile = if cfg!(debug_assertions) { "dev" } else { "release" };
    let mut cargo = Command::new(env!("CARGO"));
    let status = cargo.args(["build", "--quiet", "--profile", profile, "--example", name]).status();
    assert!(status.expect("cargo runs, as it runs this").success());
    binary(name)
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

impl Process {
    /// Starts the server or an example; see [`binary`].
    pub fn start(name: &str, arguments: &[&str]) -> Self {
        // Whoever runs the tests may log as they like; the tests read what the server logs by itself.
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

    /// Waits for the end of the process: the end of both its outputs comes with it.
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
    /// Takes over a child, and collects those of its outputs that are piped and that nobody has taken.
    fn from(mut child: Child) -> Self {
        let (stdout, stderr) = (Output::collect(child.stdout.take()), Output::collect(child.stderr.take()));
        Self { child, stdout, stderr }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when it has ended already, which is as good.
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
        let deadline = Instant::now() + DEADLINE;
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

/// A server that runs in a thread of the test. Dropping it ends it at once.
pub struct Embedded {
    port: u16,
    handle: Handle,
    result: Receiver<io::Result<(Ending, Stats)>>,
}

impl Embedded {
    /// Binds a server and runs it.
    pub fn start(config: Config) -> Self {
        Self::run(Server::bind(config).expect("a port is free"))
    }

    /// Runs a server that the caller has bound.
    pub fn run(server: Server) -> Self {
        let (port, handle) = (port_of(&server), server.handle());
        let (sender, result) = channel();
        // Nobody receives the result where the test has dropped its server.
        thread::spawn(move || drop(sender.send(server.run())));
        Self { port, handle, result }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Stops the server as one SIGTERM does, and waits for its end.
    pub fn stop(self) -> (Ending, Stats) {
        self.handle.stop().expect("the loop can be woken");
        self.finish()
    }

    /// Waits for the end of a server that has been stopped by its handle.
    pub fn finish(self) -> (Ending, Stats) {
        let result = self.result.recv_timeout(DEADLINE).expect("the loop ends in time, and without a panic");
        result.expect("polling does not fail")
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        // Fails only when the loop has ended already, which is as good. The second stop is the one that does not drain.
        let _ = self.handle.stop().and_then(|()| self.handle.stop());
    }
}

/// The settings of a server that only this machine can reach, on a port that the system chooses.
pub fn loopback() -> Config {
    Config { host: Ipv4Addr::LOCALHOST.to_string(), port: 0, ..Config::default() }
}

/// The port of a server that is bound and need not run yet.
pub fn port_of(server: &Server) -> u16 {
    server.local_addr().expect("a bound server has an address").port()
}

/// One client's connection on which every read and write has a time-out.
pub struct Client {
    stream: TcpStream,
}

impl Client {
    /// Connects to a server on this machine.
    pub fn connect(port: u16) -> Self {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the server listens");
        Self::from(stream)
    }

    /// Connects and reads the banner.
    pub fn greeted(port: u16) -> Self {
        let mut client = Self::connect(port);
        client.expect(BANNER);
        client
    }

    /// Sends all of `bytes`.
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server takes what is sent");
    }

    /// Sends of `bytes` as much as the server takes while nobody reads its answers, and returns how much that is.
    pub fn send_until_full(&mut self, bytes: &[u8]) -> usize {
        let patience = |time| self.stream.set_write_timeout(Some(time)).expect("the time-out is not zero");
        patience(Duration::from_millis(300));
        let mut sent = 0;
        loop {
            match (&self.stream).write(&bytes[sent..]) {
                Ok(0) => panic!("the server has taken {sent} bytes and would take more"),
                Ok(count) => sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error} after {sent} bytes"),
            }
        }
        patience(DEADLINE);
        sent
    }

    /// Reads as many bytes as `expected` has, which must be those.
    pub fn expect(&mut self, expected: &[u8]) {
        let mut received = vec![0; expected.len()];
        let result = self.stream.read_exact(&mut received);
        result.unwrap_or_else(|error| panic!("{error} instead of {:?}", lossy(expected)));
        assert_eq!(lossy(&received), lossy(expected));
        assert_eq!(received, expected);
    }

    /// Sends a short message and reads its answer, in one piece as such a message travels.
    pub fn ask(&mut self, message: &[u8]) {
        self.send(message);
        self.expect(&[PREFIX, message].concat());
    }

    /// Ends the sending direction; answers can still come.
    pub fn half_close(&mut self) {
        self.stream.shutdown(Shutdown::Write).expect("the connection is open");
    }

    /// Sends all of `bytes` and ends the sending direction, and reads meanwhile: more than the buffers on the way can
    /// hold moves only while both ends read.
    pub fn exchange(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut sender = self.split();
        thread::scope(|scope| {
            scope.spawn(move || {
                sender.send(bytes);
                sender.half_close();
            });
            self.read_to_end()
        })
    }

    /// Everything that comes until the server closes, which must be an orderly close.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        let mut received = Vec::new();
        self.stream.read_to_end(&mut received).expect("the server closes in order and in time");
        received
    }

    /// Closes with a reset, as a client that crashes in the middle of something.
    pub fn reset(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("the socket can linger");
    }

    /// The socket, for what is not worth a word of its own here.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// The client's own address, by which the server's log calls it.
    pub fn address(&self) -> SocketAddr {
        self.stream.local_addr().expect("a connected socket has an address")
    }

    /// A second handle on the connection, to send and receive at once.
    pub fn split(&self) -> Self {
        Self::from(self.stream.try_clone().expect("a descriptor is left"))
    }
}

impl From<TcpStream> for Client {
    fn from(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(DEADLINE)).expect("the time-out is not zero");
        stream.set_write_timeout(Some(DEADLINE)).expect("the time-out is not zero");
        stream.set_nodelay(true).expect("the socket is a TCP socket");
        Self { stream }
    }
}

/// So many clients who have read their banners.
pub fn crowd(count: usize, port: u16) -> Vec<Client> {
    allow_open_files();
    (0..count).map(|_| Client::greeted(port)).collect()
}

/// Every client is an open file here, as it is in the server.
pub fn allow_open_files() {
    rlimit::increase_nofile_limit(u64::MAX).expect("the hard limit is ours to use");
}

/// Waits until `holds` does: for what nobody announces, such as a number in /proc.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "in vain for {DEADLINE:?}: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
