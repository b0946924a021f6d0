//! What the tests stand on: a [`Process`] or an [`Embedded`] server that ends with its test, and a [`Client`] that never
//! waits for ever.
//!
//! Knows the banner and the prefix of the protocol, and nothing of any one server.

mod payload;
mod process;

use std::io::{self, ErrorKind, Read, Write};
use std::iter;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use okloop::protocol::{BANNER, PREFIX};
use okloop::{Config, Ending, Handle, Server, Stats};
use socket2::SockRef;

pub use self::payload::{chunks_of, numbered_lines};
pub use self::process::{Finished, Process, binary, full_device, lossy};

/// How long anything may take. Far more than it does: a busy machine is no failure.
pub const DEADLINE: Duration = Duration::from_secs(30);

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
        result.unwrap_or_else(|error| panic!("{error} instead of {}", beginning(expected)));
        let same =
            iter::zip(&received, expected).take_while(|(received, expected)| received == expected).count();
        let (wrong, right) = (beginning(&received[same..]), beginning(&expected[same..]));
        assert!(same == expected.len(), "at byte {same}: {wrong} instead of {right}");
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

    /// What comes until nothing more has come for `patience`.
    pub fn receive_for(&mut self, patience: Duration) -> Vec<u8> {
        let wait_for = |time| self.stream.set_read_timeout(Some(time)).expect("the time-out is not zero");
        wait_for(patience);
        let mut received = Vec::new();
        let result = (&self.stream).read_to_end(&mut received);
        wait_for(DEADLINE);
        assert!(result.is_err_and(|error| error.kind() == ErrorKind::WouldBlock), "the session goes on");
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

/// So many clients who have read their banners; all connect first, so that none waits for another's. No more than the
/// backlog holds.
pub fn crowd(count: usize, port: u16) -> Vec<Client> {
    allow_open_files();
    let mut clients: Vec<Client> = (0..count).map(|_| Client::connect(port)).collect();
    for client in &mut clients {
        client.expect(BANNER);
    }
    clients
}

/// Every client is an open file here, as it is in the server.
pub fn allow_open_files() {
    rlimit::increase_nofile_limit(u64::MAX).expect("the hard limit is ours to use");
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

/// Waits until `holds` does: for what nobody announces, such as a number in /proc.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "in vain for {DEADLINE:?}: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// As much of it as a person wants to read.
fn beginning(bytes: &[u8]) -> String {
    format!("{:?} ({} bytes)", String::from_utf8_lossy(&bytes[..bytes.len().min(60)]), bytes.len())
}
