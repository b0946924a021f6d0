//! A client that never waits without a limit, and that checks every byte.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::libc::EINPROGRESS;
use socket2::{Domain, SockRef, Socket, Type};

use super::answers::Answers;
use super::case::{Checked, MOST, Stop, check, fails, shown};
use super::trial::{LIMIT, Trial};
use crate::support::time;

/// One connection to the server on trial.
pub struct Client<'t> {
    stream: TcpStream,
    trial: &'t Trial,
    /// How many lines have been sent whose answers were asked for: a server may number its answers.
    lines: AtomicUsize,
}

/// How a server received a client that came when there was hardly room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reception {
    /// It was greeted and answered.
    Answered,
    /// The server ended the connection in order, perhaps after a word.
    Refused,
    /// Nothing came in the given time.
    Silence,
}

impl<'t> Client<'t> {
    /// Waits for the connection.
    pub fn connect(trial: &'t Trial) -> Checked<Self> {
        let stream = TcpStream::connect_timeout(&trial.server.address, trial.patience);
        Ok(Self::over(stream.map_err(|error| not_accepted(&error))?, trial))
    }

    /// Connects with a receive buffer of this size (bytes), and reads the banner. The kernel doubles the size (socket(7)).
    pub fn with_receive_buffer(size: usize, trial: &'t Trial) -> Checked<Self> {
        let address = trial.server.address;
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).map_err(own)?;
        // The window's scale is agreed on when the connection begins.
        socket.set_recv_buffer_size(size).map_err(own)?;
        let connected = socket.connect_timeout(&address.into(), trial.patience);
        connected.map_err(|error| not_accepted(&error))?;
        let client = Self::over(socket.into(), trial);
        client.greeting()?;
        Ok(client)
    }

    /// The connection is completed by the kernels while the caller does other things: a server's queue may be full now.
    pub fn begin(trial: &'t Trial) -> Checked<Self> {
        let address = trial.server.address;
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).map_err(own)?;
        socket.set_nonblocking(true).map_err(own)?;
        match socket.connect(&address.into()) {
            Err(error) if error.raw_os_error() != Some(EINPROGRESS) => return Err(not_accepted(&error)),
            _ => socket.set_nonblocking(false).map_err(own)?,
        }
        Ok(Self::over(socket.into(), trial))
    }

    /// Whether the connection that [`Self::begin`] has begun is complete.
    pub fn is_connected(&self) -> Checked<bool> {
        match self.stream.take_error().map_err(own)? {
            Some(error) => Err(not_accepted(&error)),
            None => Ok(self.stream.peer_addr().is_ok()),
        }
    }

    /// Connects, and reads the banner.
    pub fn greeted(trial: &'t Trial) -> Checked<Self> {
        let client = Self::connect(trial)?;
        client.greeting()?;
        Ok(client)
    }

    fn over(stream: TcpStream, trial: &'t Trial) -> Self {
        // It cannot fail on a socket of this kind.
        let _ = stream.set_nodelay(true);
        Self { stream, trial, lines: AtomicUsize::new(0) }
    }

    /// Reads the banner, every byte of it and none more.
    pub fn greeting(&self) -> Checked {
        let banner = &self.trial.protocol.banner;
        let fails = |came: String| Err(fails(format!("the banner, {}", shown(banner, MOST)), came));
        let mut received = Vec::new();
        while received.len() < banner.len() {
            match self.read(banner.len() - received.len(), self.trial.patience) {
                Ok(bytes) => received.extend(bytes),
                Err(end) => return fails(after(&received, &end)),
            }
            if !banner.starts_with(&received) {
                received.extend(self.read(MOST, Duration::from_millis(50)).unwrap_or_default());
                return fails(shown(&received, MOST));
            }
        }
        Ok(())
    }

    /// Sends all of it.
    pub fn send(&self, bytes: &[u8]) -> Checked {
        let (sent, error) = self.write(bytes, self.trial.patience);
        let Some(error) = error else { return Ok(()) };
        let expected = format!("the server reads {} bytes", bytes.len());
        Err(fails(expected, format!("after {sent} bytes: {}", plain(&error))))
    }

    /// Sends until the server has not read for 100 ms, or all is sent; returns how much was taken.
    pub fn send_until_full(&self, bytes: &[u8]) -> Checked<usize> {
        match self.write(bytes, Duration::from_millis(100)) {
            (_, Some(error)) if error.kind() != ErrorKind::WouldBlock => {
                Err(fails("the server keeps the connection", format!("write: {}", plain(&error))))
            }
            (taken, _) => Ok(taken),
        }
    }

    /// Sends as much as the server takes without a pause; returns how much, and why it stopped early.
    fn write(&self, bytes: &[u8], pause: Duration) -> (usize, Option<io::Error>) {
        // It cannot fail with a time above zero.
        let _ = self.stream.set_write_timeout(Some(pause));
        let mut taken = 0;
        while taken < bytes.len() {
            if self.is_late() {
                return (taken, Some(ErrorKind::WouldBlock.into()));
            }
            match (&self.stream).write(&bytes[taken..]) {
                Ok(count) => taken += count,
                Err(error) => return (taken, Some(error)),
            }
        }
        (taken, None)
    }

    /// The answers to what is sent next, for a check.
    pub fn answers<'a>(&'a self, payload: &'a [u8]) -> Answers<'a> {
        let lines = memchr::memchr_iter(b'\n', payload).count();
        let before = self.lines.fetch_add(lines, Ordering::Relaxed);
        Answers::to(payload, &self.trial.protocol, before)
    }

    /// Sends a message and reads the whole answer.
    pub fn ask(&self, message: &[u8]) -> Checked {
        self.send(message)?;
        self.answer_to(message)
    }

    /// Reads the whole answer to what has been sent.
    pub fn answer_to(&self, payload: &[u8]) -> Checked {
        self.take_answers(payload, false).map(|_| ())
    }

    /// Reads the answers to the whole payload, and then the end.
    pub fn answers_and_end(&self, payload: &[u8]) -> Checked {
        let payload = self.trial.protocol.requests(payload);
        let (answered, all) = (self.answers_until_end(payload)?, payload.len());
        check(
            answered == all,
            format!("the answers to all {all} bytes, then the end"),
            format!("the answers to {answered} bytes, then the end"),
        )
    }

    /// Reads answers until the server ends the connection in order; returns how many bytes of the payload they repeat.
    pub fn answers_until_end(&self, payload: &[u8]) -> Checked<usize> {
        self.take_answers(payload, true)
    }

    fn take_answers(&self, payload: &[u8], until_end: bool) -> Checked<usize> {
        let mut answers = self.answers(payload);
        while until_end || !answers.are_complete() {
            match self.read(64 << 10, self.trial.patience) {
                Ok(bytes) => answers.take(&bytes)?,
                Err(Ended::Closed) if until_end => break,
                Err(end) => return Err(fails(answers.awaited(), end.to_string())),
            }
        }
        Ok(answers.answered())
    }

    /// The connection stays open, and nothing comes for this long.
    pub fn silence(&self, duration: Duration) -> Checked {
        match self.read(1024, duration) {
            Err(Ended::Silence(_)) => Ok(()),
            Ok(bytes) => Err(fails("nothing more", shown(&bytes, MOST))),
            Err(end) => Err(fails("nothing more, and an open connection", end.to_string())),
        }
    }

    /// Ends the sending direction.
    pub fn half_close(&self) -> Checked {
        let ended = self.stream.shutdown(Shutdown::Write);
        ended.map_err(|error| fails("the connection is open", format!("shutdown: {}", plain(&error))))
    }

    /// Sends all of it and ends the sending direction, on another thread, while `receive` runs: more than the buffers on
    /// the way can hold moves only while both ends read.
    pub fn send_beside(&self, payload: &[u8], receive: impl FnOnce() -> Checked) -> Checked {
        thread::scope(|scope| {
            let sender = scope.spawn(|| self.send(payload).and_then(|()| self.half_close()));
            let received = receive();
            if received.is_err() {
                // The sender may still wait for room.
                let _ = self.stream.shutdown(Shutdown::Both);
            }
            received.and(sender.join().expect("a sender does not panic"))
        })
    }

    /// Sends all of it and ends the sending direction; reads only after `pause`.
    pub fn exchange(&self, payload: &[u8], pause: Duration) -> Checked {
        self.send_beside(payload, || {
            thread::sleep(pause);
            self.answers_and_end(payload)
        })
    }

    /// Closes with a reset, as the kernel does for a client that crashes with unread input.
    pub fn reset(self) {
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    /// Sends what a server may refuse to read, but not with a reset.
    pub fn try_to_send(&self, message: &[u8]) -> Checked {
        match (&self.stream).write_all(message) {
            // The kernel reports a reset once, and the read after it sees an end as if in order.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Err(fails(RECEPTION, "a reset")),
            _ => Ok(()),
        }
    }

    /// What comes for a client that has sent `message`: an answer, an end in order, or nothing in `wait`. A reset fails.
    pub fn reception(&self, message: &[u8], wait: Duration) -> Checked<Reception> {
        let mut received = Vec::new();
        loop {
            if let Some(answer) = received.strip_prefix(&self.trial.protocol.banner[..]) {
                let mut answers = Answers::to(message, &self.trial.protocol, 0);
                if answers.take(answer).is_ok() && answers.are_complete() {
                    return Ok(Reception::Answered);
                }
            }
            match self.read(4096, if received.is_empty() { wait } else { self.trial.patience }) {
                Ok(bytes) => received.extend(bytes),
                Err(Ended::Closed) => return Ok(Reception::Refused),
                Err(Ended::Silence(_)) if received.is_empty() => return Ok(Reception::Silence),
                Err(end) => return Err(fails(RECEPTION, after(&received, &end))),
            }
        }
    }

    /// Reads what has come, up to this many bytes.
    pub fn sip(&self, length: usize) -> Checked<Vec<u8>> {
        let bytes = self.read(length, self.trial.patience);
        bytes.map_err(|end| fails("more of the answers", end.to_string()))
    }

    /// Reads until the end of the connection, up to `length` bytes each time and with a pause after each.
    pub fn sip_to_the_end(&self, length: usize, pause: Duration) -> Checked<Vec<u8>> {
        let mut received = Vec::new();
        loop {
            match self.read(length, self.trial.patience) {
                Ok(bytes) => received.extend(bytes),
                Err(Ended::Closed) => return Ok(received),
                Err(end) => {
                    let came = format!("after {} bytes: {end}", received.len());
                    return Err(fails("the rest of the answers, then the end", came));
                }
            }
            thread::sleep(pause);
        }
    }

    /// Whether something has come, without waiting for it.
    pub fn has_something_to_read(&self) -> bool {
        let _ = self.stream.set_nonblocking(true);
        let peeked = self.stream.peek(&mut [0]);
        let _ = self.stream.set_nonblocking(false);
        peeked.is_ok()
    }

    /// The socket, for what is needed once.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Whether the case has used up its time.
    fn is_late(&self) -> bool {
        Instant::now() > self.trial.deadline
    }

    /// What comes next, at most so many bytes.
    fn read(&self, most: usize, wait: Duration) -> Result<Vec<u8>, Ended> {
        if self.is_late() {
            return Err(Ended::TooLate);
        }
        let _ = self.stream.set_read_timeout(Some(wait));
        let mut bytes = vec![0; most];
        loop {
            match (&self.stream).read(&mut bytes) {
                Ok(0) => return Err(Ended::Closed),
                Ok(count) => {
                    bytes.truncate(count);
                    return Ok(bytes);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(Ended::Silence(wait)),
                Err(error) => return Err(Ended::Error(plain(&error))),
            }
        }
    }
}

/// What a client expects that comes when there is hardly room.
const RECEPTION: &str = "an answer, or a refusal that ends in order";

/// Why a read returned no bytes.
#[derive(Debug)]
enum Ended {
    Closed,
    Silence(Duration),
    TooLate,
    Error(String),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => write!(f, "the end of the connection"),
            Self::Silence(wait) => write!(f, "nothing for {}", time(*wait)),
            Self::TooLate => write!(f, "no end of the case in {}", time(LIMIT)),
            Self::Error(error) => write!(f, "{error}"),
        }
    }
}

fn after(received: &[u8], end: &Ended) -> String {
    if received.is_empty() { end.to_string() } else { format!("{}, then {end}", shown(received, MOST)) }
}

/// An error of the network as a reader says it.
fn plain(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionReset => "a reset".to_owned(),
        ErrorKind::BrokenPipe => "the connection was closed".to_owned(),
        ErrorKind::WouldBlock => "nothing was read in time".to_owned(),
        _ => error.to_string(),
    }
}

fn not_accepted(error: &io::Error) -> Stop {
    fails("the server accepts a connection", format!("connect: {error}"))
}

/// Our own sockets fail, and not the server.
#[expect(clippy::needless_pass_by_value, reason = "it is called through map_err")]
fn own(error: io::Error) -> Stop {
    Stop::CannotRun(format!("a client's socket: {error}"))
}

/// The beginning of a sequence of numbered lines, at most `length` bytes and whole lines: no two places look the same.
pub fn lines(length: usize) -> &'static [u8] {
    static LINES: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let lines = (0..).flat_map(|number: u32| format!("line {number}\n").into_bytes());
        lines.take(16 << 20).collect()
    });
    let beginning = &LINES[..length];
    let end = beginning.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
    &beginning[..end]
}
