//! A client that never waits without a limit, and that checks every byte.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::libc::EINPROGRESS;
use socket2::{Domain, SockRef, Socket, Type};

use super::answers::Answers;
use super::case::{MOST, Stop, check, fails, shown};
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
    pub fn connect(trial: &'t Trial) -> Result<Self, Stop> {
        let stream = TcpStream::connect_timeout(&trial.server.address, trial.patience)
            .map_err(|error| fails("the server accepts a connection", format!("connect: {error}")))?;
        Ok(Self::over(stream, trial))
    }

    /// Connects with a receive buffer of this size (bytes), and reads the banner. The kernel doubles the size (socket(7)).
    pub fn with_receive_buffer(size: usize, trial: &'t Trial) -> Result<Self, Stop> {
        let socket = socket(trial.server.address)?;
        // The window's scale is agreed on when the connection begins.
        socket.set_recv_buffer_size(size).map_err(own)?;
        socket
            .connect_timeout(&trial.server.address.into(), trial.patience)
            .map_err(|error| fails("the server accepts a connection", format!("connect: {error}")))?;
        let client = Self::over(socket.into(), trial);
        client.greeting()?;
        Ok(client)
    }

    /// The connection is completed by the kernels while the caller does other things: a server's queue may be full now.
    pub fn begin(trial: &'t Trial) -> Result<Self, Stop> {
        let socket = socket(trial.server.address)?;
        socket.set_nonblocking(true).map_err(own)?;
        match socket.connect(&trial.server.address.into()) {
            Err(error) if error.raw_os_error() != Some(EINPROGRESS) => {
                return Err(fails("the server accepts a connection", format!("connect: {error}")));
            }
            _ => {}
        }
        socket.set_nonblocking(false).map_err(own)?;
        Ok(Self::over(socket.into(), trial))
    }

    /// Whether the connection that [`Self::begin`] has begun is complete.
    pub fn is_connected(&self) -> Result<bool, Stop> {
        match self.stream.take_error().map_err(own)? {
            Some(error) => Err(fails("the server accepts a connection", format!("connect: {error}"))),
            None => Ok(self.stream.peer_addr().is_ok()),
        }
    }

    /// Connects, and reads the banner.
    pub fn greeted(trial: &'t Trial) -> Result<Self, Stop> {
        let client = Self::connect(trial)?;
        client.greeting()?;
        Ok(client)
    }

    fn over(stream: TcpStream, trial: &'t Trial) -> Self {
        // Neither call can fail on a socket of this kind with a time above zero.
        let _ = stream.set_nodelay(true);
        let _ = stream.set_write_timeout(Some(trial.patience));
        Self { stream, trial, lines: AtomicUsize::new(0) }
    }

    /// Reads the banner, every byte of it and none more.
    pub fn greeting(&self) -> Result<(), Stop> {
        let banner = &self.trial.protocol.banner;
        let expected = || format!("the banner, {}", shown(banner, MOST));
        let mut received = vec![0; banner.len()];
        let mut length = 0;
        while length < banner.len() {
            match self.read(&mut received[length..], self.trial.patience) {
                Ok(count) if count > 0 => length += count,
                end => return Err(fails(expected(), after(&received[..length], &ending(end)))),
            }
            if !banner.starts_with(&received[..length]) {
                received.truncate(length);
                let mut more = [0; MOST];
                let more_length = self.read(&mut more, Duration::from_millis(50)).unwrap_or(0);
                received.extend(&more[..more_length]);
                return Err(fails(expected(), shown(&received, MOST)));
            }
        }
        Ok(())
    }

    /// Sends all of it.
    pub fn send(&self, bytes: &[u8]) -> Result<(), Stop> {
        let mut sent = 0;
        while sent < bytes.len() {
            let result = if self.is_late() {
                Err(ErrorKind::WouldBlock.into())
            } else {
                (&self.stream).write(&bytes[sent..])
            };
            match result {
                Ok(count) => sent += count,
                Err(error) => {
                    let expected = format!("the server reads {} bytes", bytes.len());
                    return Err(fails(expected, format!("after {sent} bytes: {}", plain(&error))));
                }
            }
        }
        Ok(())
    }

    /// The answers to what is sent next, for a check.
    pub fn answers<'a>(&'a self, payload: &'a [u8]) -> Answers<'a> {
        let lines = memchr::memchr_iter(b'\n', payload).count();
        let before = self.lines.fetch_add(lines, Ordering::Relaxed);
        Answers::to(payload, &self.trial.protocol, before)
    }

    /// Sends a message and reads the whole answer.
    pub fn ask(&self, message: &[u8]) -> Result<(), Stop> {
        self.send(message)?;
        self.answer_to(message)
    }

    /// Reads the whole answer to what has been sent.
    pub fn answer_to(&self, payload: &[u8]) -> Result<(), Stop> {
        let mut answers = self.answers(payload);
        let mut chunk = vec![0; 64 << 10];
        while !answers.are_complete() {
            match self.read(&mut chunk, self.trial.patience) {
                Ok(count) if count > 0 => answers.take(&chunk[..count])?,
                end => {
                    let expected =
                        format!("after {} bytes of the answers: {}", answers.answered(), answers.expected());
                    return Err(fails(expected, ending(end)));
                }
            }
        }
        Ok(())
    }

    /// Reads the answers to the whole payload, and then the end.
    pub fn answers_and_end(&self, payload: &[u8]) -> Result<(), Stop> {
        let payload = self.trial.protocol.requests(payload);
        let answered = self.answers_until_end(payload)?;
        check(
            answered == payload.len(),
            format!("the answers to all {} bytes, then the end", payload.len()),
            format!("the answers to {answered} bytes, then the end"),
        )
    }

    /// Reads answers until the server ends the connection in order; returns how many bytes of the payload they repeat.
    pub fn answers_until_end(&self, payload: &[u8]) -> Result<usize, Stop> {
        let mut answers = self.answers(payload);
        let mut chunk = vec![0; 64 << 10];
        loop {
            match self.read(&mut chunk, self.trial.patience) {
                Ok(0) => return Ok(answers.answered()),
                Ok(count) => answers.take(&chunk[..count])?,
                end => {
                    let expected = if answers.are_complete() {
                        "the end of the connection after the last answer".to_owned()
                    } else {
                        format!("after {} bytes of the answers: {}", answers.answered(), answers.expected())
                    };
                    return Err(fails(expected, ending(end)));
                }
            }
        }
    }

    /// The connection stays open, and nothing comes for this long.
    pub fn silence(&self, duration: Duration) -> Result<(), Stop> {
        let mut chunk = [0; 1024];
        match self.read(&mut chunk, duration) {
            Err(Ended::Silence(_)) => Ok(()),
            Ok(count) if count > 0 => Err(fails("nothing more", shown(&chunk[..count], MOST))),
            end => Err(fails("nothing more, and an open connection", ending(end))),
        }
    }

    /// Ends the sending direction.
    pub fn half_close(&self) -> Result<(), Stop> {
        self.stream
            .shutdown(Shutdown::Write)
            .map_err(|error| fails("the connection is open", format!("shutdown: {}", plain(&error))))
    }

    /// Sends all of it and ends the sending direction; reads only after `pause`, because more than the buffers on the
    /// way can hold moves only while both ends read.
    pub fn exchange(&self, payload: &[u8], pause: Duration) -> Result<(), Stop> {
        thread::scope(|scope| {
            let sender = scope.spawn(|| {
                self.send(payload)?;
                self.half_close()
            });
            thread::sleep(pause);
            let received = self.answers_and_end(payload);
            if received.is_err() {
                // The sender may still wait for room.
                let _ = self.stream.shutdown(Shutdown::Both);
            }
            let sent = sender.join().expect("a sender does not panic");
            received.and(sent)
        })
    }

    /// Sends until the server has not read for 100 ms, or all is sent; returns how much was taken.
    pub fn send_until_full(&self, bytes: &[u8]) -> Result<usize, Stop> {
        let _ = self.stream.set_write_timeout(Some(Duration::from_millis(100)));
        let mut taken = 0;
        let result = loop {
            if taken == bytes.len() || self.is_late() {
                break Ok(taken);
            }
            match (&self.stream).write(&bytes[taken..]) {
                Ok(count) => taken += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break Ok(taken),
                Err(error) => {
                    break Err(fails("the server keeps the connection", format!("write: {}", plain(&error))));
                }
            }
        };
        let _ = self.stream.set_write_timeout(Some(self.trial.patience));
        result
    }

    /// Closes with a reset, as the kernel does for a client that crashes with unread input.
    pub fn reset(self) {
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    /// Sends what a server may refuse to read, but not with a reset.
    pub fn try_to_send(&self, message: &[u8]) -> Result<(), Stop> {
        match (&self.stream).write_all(message) {
            // The kernel reports a reset once, and the read after it sees an end as if in order.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                Err(fails("an answer, or a refusal that ends in order", "a reset"))
            }
            _ => Ok(()),
        }
    }

    /// What comes for a client that has sent `message`: an answer, an end in order, or nothing in `wait`. A reset fails.
    pub fn reception(&self, message: &[u8], wait: Duration) -> Result<Reception, Stop> {
        let banner = &self.trial.protocol.banner;
        let mut received = Vec::new();
        let mut chunk = [0; 4096];
        loop {
            if let Some(answer) = received.strip_prefix(&banner[..]) {
                let mut answers = Answers::to(message, &self.trial.protocol, 0);
                if answers.take(answer).is_ok() && answers.are_complete() {
                    return Ok(Reception::Answered);
                }
            }
            let wait = if received.is_empty() { wait } else { self.trial.patience };
            match self.read(&mut chunk, wait) {
                Ok(0) => return Ok(Reception::Refused),
                Ok(count) => received.extend(&chunk[..count]),
                Err(Ended::Silence(_)) if received.is_empty() => return Ok(Reception::Silence),
                end => {
                    return Err(fails(
                        "an answer, or a refusal that ends in order",
                        after(&received, &ending(end)),
                    ));
                }
            }
        }
    }

    /// Reads what has come, up to this many bytes.
    pub fn sip(&self, length: usize) -> Result<Vec<u8>, Stop> {
        let mut bytes = vec![0; length];
        match self.read(&mut bytes, self.trial.patience) {
            Ok(count) if count > 0 => {
                bytes.truncate(count);
                Ok(bytes)
            }
            end => Err(fails("more of the answers", ending(end))),
        }
    }

    /// Reads until the end of the connection, up to `length` bytes each time and with a pause after each.
    pub fn sip_to_the_end(&self, length: usize, pause: Duration) -> Result<Vec<u8>, Stop> {
        let (mut received, mut chunk) = (Vec::new(), vec![0; length]);
        loop {
            match self.read(&mut chunk, self.trial.patience) {
                Ok(0) => return Ok(received),
                Ok(count) => received.extend(&chunk[..count]),
                end => {
                    let came = format!("after {} bytes: {}", received.len(), ending(end));
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

    fn read(&self, buffer: &mut [u8], wait: Duration) -> Result<usize, Ended> {
        if self.is_late() {
            return Err(Ended::TooLate);
        }
        let _ = self.stream.set_read_timeout(Some(wait));
        loop {
            match (&self.stream).read(buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(Ended::Silence(wait)),
                result => return result.map_err(|error| Ended::Error(plain(&error))),
            }
        }
    }
}

/// Why a read returned no bytes.
#[derive(Debug)]
enum Ended {
    Silence(Duration),
    TooLate,
    Error(String),
}

fn ending(result: Result<usize, Ended>) -> String {
    match result {
        Ok(_) => "the end of the connection".to_owned(),
        Err(Ended::Silence(wait)) => format!("nothing for {}", time(wait)),
        Err(Ended::TooLate) => format!("no end of the case in {}", time(LIMIT)),
        Err(Ended::Error(error)) => error,
    }
}

fn after(received: &[u8], end: &str) -> String {
    if received.is_empty() { end.to_owned() } else { format!("{}, then {end}", shown(received, MOST)) }
}

/// An error of the network as a reader says it.
fn plain(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionReset => "a reset".to_owned(),
        ErrorKind::BrokenPipe => "the connection was closed".to_owned(),
        ErrorKind::WouldBlock => "nothing was read in time".to_owned(),
        _ => error.to_string(),
    }
}

fn socket(address: SocketAddr) -> Result<Socket, Stop> {
    Socket::new(Domain::for_address(address), Type::STREAM, None).map_err(own)
}

/// Our own sockets fail, and not the server.
#[expect(clippy::needless_pass_by_value, reason = "it is called through map_err")]
fn own(error: std::io::Error) -> Stop {
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
