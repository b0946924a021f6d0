//! What all tests use: a [`Process`] or an [`Embedded`] server that ends with its test, and a [`Client`] whose every wait
//! has a time-out.

#![allow(dead_code, unused_imports, reason = "each test binary uses a part")]

#[cfg(target_os = "linux")]
mod cargo;
mod clock;
mod flood;
mod payload;
#[cfg(target_os = "linux")]
mod process;

use std::env;
use std::io::{self, ErrorKind, Read, Write};
use std::iter;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::process::Command;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use okloop::protocols::{BANNER, Framing, OkSession, PREFIX};
use okloop::{Buffer, Config, Ending, Handle, Server, Session, Stats, Step};
use socket2::{Domain, SockRef, Socket, Type};

#[cfg(target_os = "linux")]
pub use self::cargo::cargo;
pub use self::clock::Clock;
pub use self::flood::Flood;
pub use self::payload::{chunks_of, numbered_lines};
#[cfg(target_os = "linux")]
pub use self::process::{Finished, Process, binary, full_device, lossy};

/// How long a test waits for anything. It is far more than needed: a busy machine is no failure. The tests of an exercise
/// shall fail, and wait less.
pub static DEADLINE: LazyLock<Duration> =
    LazyLock::new(|| Duration::from_secs(if env::var_os(PROGRAMS).is_some() { 8 } else { 30 }));

/// The variable for the directory of an exercise's programs. They are tested instead of those that cargo built.
pub const PROGRAMS: &str = "OKLOOP_PROGRAMS";

/// What a telnet client reads first from a server that knows it as one.
pub const TELNET_BANNER: &[u8] = b"Welcome to the server. Type something and hit enter\r\n";

/// What a refused client reads.
pub const FULL: &[u8] = okloop::config::FULL_MESSAGE.as_bytes();

/// A server that runs in a thread of the test. Dropping it ends it immediately.
pub struct Embedded {
    port: u16,
    handle: Handle,
    result: Receiver<io::Result<(Ending, Stats)>>,
}

impl Embedded {
    /// Binds a server of the `OK...` protocol and runs it.
    pub fn start(config: Config, framing: Framing) -> Self {
        Self::run_ok(bind(config), framing)
    }

    /// Runs a server of the `OK...` protocol that the caller has bound.
    pub fn run_ok(server: Server, framing: Framing) -> Self {
        Self::run(server, move |_| OkSession::new(framing))
    }

    /// Runs a server that the caller has bound, with sessions of its own.
    pub fn run<S: Session>(
        server: Server,
        new_session: impl FnMut(okloop::Client<'_>) -> S + Send + 'static,
    ) -> Self {
        Self::run_by(server, move |server| server.run(new_session))
    }

    /// Runs a server that the caller has bound. `run` makes in the server's thread what its sessions share.
    pub fn run_by(
        server: Server,
        run: impl FnOnce(Server) -> io::Result<(Ending, Stats)> + Send + 'static,
    ) -> Self {
        // A server may have no listener, or only a Unix socket.
        let port = server.local_addr().map_or(0, |address| address.port());
        let handle = server.handle();
        let (sender, result) = channel();
        // Sending fails if the test has dropped its server.
        thread::spawn(move || drop(sender.send(run(server))));
        Self { port, handle, result }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The counters as they are now.
    pub fn stats(&self) -> Stats {
        self.handle.stats()
    }

    /// Stops the server as one SIGTERM does, and waits for its end.
    pub fn stop(self) -> (Ending, Stats) {
        self.handle.stop();
        self.finish()
    }

    /// Waits for the end of a server that has been stopped by its handle.
    pub fn finish(self) -> (Ending, Stats) {
        let result = self.result.recv_timeout(*DEADLINE).expect("the loop ends in time, and without a panic");
        result.expect("polling does not fail")
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.handle.stop_now();
    }
}

/// The settings of a server that only this machine can reach, on a port that the system chooses.
pub fn loopback() -> Config {
    Config { host: Ipv4Addr::LOCALHOST.to_string(), port: 0, ..Config::default() }
}

/// A bound server.
pub fn bind(config: Config) -> Server {
    Server::bind(config).expect("a port is free")
}

/// The port of a bound server.
pub fn port_of(server: &Server) -> u16 {
    server.local_addr().expect("a bound server has an address").port()
}

/// A session whose `answer` is this function.
pub fn session_of(answer: impl FnMut(&mut [u8], &mut Buffer) -> Step) -> impl Session {
    struct Of<F>(F);
    impl<F: FnMut(&mut [u8], &mut Buffer) -> Step> Session for Of<F> {
        fn answer(&mut self, input: &mut [u8], output: &mut Buffer) -> Step {
            (self.0)(input, output)
        }
    }
    Of(answer)
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

    /// Connects a client whose kernel takes few bytes that the client does not read.
    pub fn with_small_window(port: u16) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a descriptor is left");
        socket.set_recv_buffer_size(4096).expect("the size is allowed");
        let server = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        socket.connect(&server.into()).expect("the server listens");
        Self::from(TcpStream::from(socket))
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

    /// Sends as many of `bytes` as the server takes while its answers are not read. Returns how many.
    pub fn send_until_full(&mut self, bytes: &[u8]) -> usize {
        let patience = |time| self.stream.set_write_timeout(Some(time)).expect("the time-out is not zero");
        patience(Duration::from_millis(300));
        let mut sent = 0;
        loop {
            match (&self.stream).write(&bytes[sent..]) {
                Ok(0) => panic!("the server has taken {sent} bytes and would take more"),
                Ok(count) => sent += count,
                Err(error) if is_time_out(&error) => break,
                // A machine that was suspended (signal(7), "Interruption of system calls").
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("{error} after {sent} bytes"),
            }
        }
        patience(*DEADLINE);
        sent
    }

    /// Reads exactly the bytes `expected`.
    pub fn expect(&mut self, expected: &[u8]) {
        let mut received = vec![0; expected.len()];
        let result = self.stream.read_exact(&mut received);
        result.unwrap_or_else(|error| panic!("{error} instead of {}", beginning(expected)));
        if received == expected {
            return;
        }
        let same =
            iter::zip(&received, expected).take_while(|(received, expected)| received == expected).count();
        let (wrong, right) = (beginning(&received[same..]), beginning(&expected[same..]));
        panic!("at byte {same}: {wrong} instead of {right}");
    }

    /// Sends a message of one segment, and reads its answer.
    pub fn ask(&mut self, message: &[u8]) {
        self.send(message);
        self.expect(&[PREFIX, message].concat());
    }

    /// The lines up to this one, without their endings.
    pub fn lines_until(&mut self, last: &str) -> Vec<String> {
        let mut received = Vec::new();
        while !received.ends_with([last.as_bytes(), b"\n"].concat().as_slice()) {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).expect("the session goes on");
            received.extend(byte);
        }
        String::from_utf8_lossy(&received).lines().map(str::to_owned).collect()
    }

    /// Ends the sending direction; answers can still come.
    pub fn half_close(&mut self) {
        self.stream.shutdown(Shutdown::Write).expect("the connection is open");
    }

    /// Sends all of `bytes`, ends the sending direction, and reads meanwhile: `bytes` may be more than the buffers on the
    /// way hold.
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

    /// Everything up to the server's end of output. A reset is a failure.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        let mut received = Vec::new();
        self.stream.read_to_end(&mut received).expect("the server closes in order and in time");
        received
    }

    /// What arrives first: nothing if it takes longer than `patience`.
    pub fn first_within(&self, patience: Duration) -> Vec<u8> {
        let wait_for = |time| self.stream.set_read_timeout(Some(time)).expect("the time-out is not zero");
        wait_for(patience);
        let mut first = vec![0; 1000];
        let count = match (&self.stream).read(&mut first) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => panic!("{error}"),
        };
        wait_for(*DEADLINE);
        first.truncate(count);
        first
    }

    /// What arrives until nothing more has arrived for `patience`.
    pub fn receive_for(&mut self, patience: Duration) -> Vec<u8> {
        let wait_for = |time| self.stream.set_read_timeout(Some(time)).expect("the time-out is not zero");
        wait_for(patience);
        let mut received = Vec::new();
        let result = (&self.stream).read_to_end(&mut received);
        wait_for(*DEADLINE);
        assert!(result.is_err_and(|error| is_time_out(&error)), "the session goes on");
        received
    }

    /// Closes with a reset, as the kernel does for a client that crashes.
    pub fn reset(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("the socket can linger");
    }

    /// The socket itself.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// The client's own address, as the server's log names it.
    pub fn address(&self) -> SocketAddr {
        self.stream.local_addr().expect("a connected socket has an address")
    }

    /// A second handle on the connection, to send and receive in two threads.
    pub fn split(&self) -> Self {
        Self::from(self.stream.try_clone().expect("a descriptor is left"))
    }
}

impl From<TcpStream> for Client {
    fn from(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(*DEADLINE)).expect("the time-out is not zero");
        stream.set_write_timeout(Some(*DEADLINE)).expect("the time-out is not zero");
        stream.set_nodelay(true).expect("the socket is a TCP socket");
        Self { stream }
    }
}

/// `count` clients that have read their banners. All of them connect first, so `count` is at most the backlog.
pub fn crowd(count: usize, port: u16) -> Vec<Client> {
    allow_open_files();
    let mut clients: Vec<Client> = (0..count).map(|_| Client::connect(port)).collect();
    for client in &mut clients {
        client.expect(BANNER);
    }
    clients
}

/// Counts how many answers `client` gets, one after the other, while `event` runs.
pub fn answers_until(client: &mut Client, event: impl FnOnce() + Send) -> usize {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            event();
            is_over.store(true, Ordering::Relaxed);
        });
        let mut answers = 0;
        while !is_over.load(Ordering::Relaxed) {
            client.ask(b"hello");
            answers += 1;
        }
        answers
    })
}

/// Raises the limit of open files: every client is an open file of the tests.
pub fn allow_open_files() {
    rlimit::increase_nofile_limit(u64::MAX).expect("the limit may be raised to the hard one");
}

/// How many of the descriptors below `limit` are open in a child process when it starts: the three standard streams, and
/// what the tests were started with.
pub fn inherited_files(limit: usize) -> usize {
    let output = Command::new("ls").arg("/dev/fd").output().expect("ls runs");
    let listing = String::from_utf8_lossy(&output.stdout).into_owned();
    let numbers = listing.lines().filter_map(|line| line.parse().ok());
    // One of them is the directory that `ls` reads.
    numbers.filter(|&number: &usize| number < limit).count() - 1
}

/// Waits until `holds` returns true: for what causes no event, such as a number in /proc.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + *DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {:?}: {what}", *DEADLINE);
        thread::sleep(Duration::from_millis(1));
    }
}

/// Whether a call took too long. Unix calls that EAGAIN.
fn is_time_out(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// The first bytes, for a message.
fn beginning(bytes: &[u8]) -> String {
    format!("{:?} ({} bytes)", String::from_utf8_lossy(&bytes[..bytes.len().min(60)]), bytes.len())
}
