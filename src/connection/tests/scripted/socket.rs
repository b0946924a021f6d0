//! The server's end of a connection, and the kernel behind it, with the rules of one system. A session that forgets to
//! re-arm gets no event here either.
//!
//! A read is short only if nothing more is there, or at an urgent mark (tcp(7)). When an event comes:
//!
//! - epoll: when the socket *becomes* ready, or is registered again while it is ready. The event says all that holds
//!   (epoll(7), edge-triggered). A full socket is writable again when a third of it is free.
//! - kqueue: the same, but reading and writing are separate filters, and each has an event of its own. There is none for
//!   urgent data.
//! - IOCP: while the socket is ready. But mio clears the interest that the event reports, until a call returns
//!   `WouldBlock` or the socket is registered again.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::mem;

use mio::Interest;
use okloop::connection::Stream;
use okloop::platform::Kernel;
use okloop::readiness::{Readable, Readiness};

/// What the client, or the network, does.
#[derive(Debug, Clone)]
pub enum Happening {
    /// These bytes arrive.
    Arrive(Vec<u8>),
    /// Urgent data leaves a mark in the stream. A read stops there although more bytes follow.
    Urgent,
    /// The client reads this many bytes, or all there are.
    Take(usize),
    /// The client ends its direction.
    End,
    /// The client resets the connection.
    Reset,
    /// The next read or write fails with this error.
    Fail(ErrorKind),
}

/// A connected socket.
#[derive(Debug)]
pub struct Socket {
    kernel: Kernel,

    /// All that the client has sent, and how much of it was read.
    pub arrived: Vec<u8>,
    pub read: usize,
    marks: VecDeque<usize>,
    ended: bool,
    reset: bool,

    /// All that was written, and how much of it the client has read.
    pub written: Vec<u8>,
    taken: usize,
    /// How many written bytes fit before the client reads.
    room: usize,
    /// Whether the loop or epoll has found the socket full. Only then does new room make an edge (`SOCK_NOSPACE`).
    found_full: bool,
    /// How much had been read when the write side was shut down.
    pub shut_down: Option<usize>,

    failures: VecDeque<ErrorKind>,
    meanwhile: VecDeque<Happening>,
    /// The first rule that a call has broken.
    pub broken: Option<&'static str>,
    /// How many times `read` and `write` were called.
    pub calls: usize,

    /// What the kernel reports.
    interest: Option<Interest>,
    listed: Listed,
}

/// What an event can come from. On epoll it is one entry in the ready list, on kqueue an entry for each filter. On IOCP
/// it is what mio still asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Listed {
    read: bool,
    write: bool,
    error: bool,
}

impl Listed {
    const EPOLL: Self = Self { read: true, write: true, error: true };

    /// mio asks for errors whatever the interest is.
    fn all_of(interest: Interest) -> Self {
        Self { read: interest.is_readable(), write: interest.is_writable(), error: true }
    }
}

impl Socket {
    /// A socket with room for `room` bytes before the client reads.
    pub fn new(kernel: Kernel, room: usize) -> Self {
        Self {
            kernel,
            arrived: Vec::new(),
            read: 0,
            marks: VecDeque::new(),
            ended: false,
            reset: false,
            written: Vec::new(),
            taken: 0,
            room,
            found_full: false,
            shut_down: None,
            failures: VecDeque::new(),
            meanwhile: VecDeque::new(),
            broken: None,
            calls: 0,
            interest: None,
            listed: Listed::default(),
        }
    }

    /// What was read to be answered.
    pub fn input(&self) -> &[u8] {
        &self.arrived[..self.shut_down.unwrap_or(self.read)]
    }

    /// Something happens now.
    pub fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Fail(error) => self.failures.push_back(error),
            Happening::Reset => {
                self.reset = true;
                match self.kernel {
                    Kernel::Epoll => self.listed = Listed::EPOLL,
                    Kernel::Kqueue => self.became_ready(Interest::READABLE | Interest::WRITABLE),
                    Kernel::Iocp => {}
                }
            }
            _ if self.reset => {}
            Happening::Take(most) => self.take(most),
            _ if self.ended => {}
            Happening::Arrive(bytes) => {
                self.arrived.extend(bytes);
                self.became_ready(Interest::READABLE);
            }
            Happening::Urgent => {
                self.marks.push_back(self.arrived.len());
                self.became_ready(Interest::READABLE);
            }
            Happening::End => {
                self.ended = true;
                self.became_ready(Interest::READABLE);
            }
        }
    }

    /// Something happens in the middle of a turn: one happening just before each of the next system calls.
    pub fn meanwhile(&mut self, happening: Happening) {
        self.meanwhile.push_back(happening);
    }

    fn pass_time(&mut self) {
        if let Some(happening) = self.meanwhile.pop_front() {
            self.happen(happening);
        }
    }

    fn take(&mut self, most: usize) {
        let count = most.min(self.written.len() - self.taken);
        self.taken += count;
        // kqueue's filter runs at each acknowledgement, whether the socket was full or not.
        if (self.found_full || self.kernel == Kernel::Kqueue && count > 0) && self.is_writable() {
            self.found_full = false;
            self.became_ready(Interest::WRITABLE);
        }
    }

    fn free(&self) -> usize {
        self.room - (self.written.len() - self.taken)
    }

    fn is_writable(&self) -> bool {
        self.free() > 0 && self.free() >= self.room / 3
    }

    /// Registers the socket, unless nothing would change. A socket that is ready is listed immediately.
    pub fn register(&mut self, wanted: Interest, rearm: bool) {
        if rearm || self.interest != Some(wanted) {
            self.pass_time();
            self.interest = Some(wanted);
            self.listed = match (self.kernel, self.ready()) {
                (Kernel::Iocp, _) => Listed::all_of(wanted),
                (Kernel::Epoll, Some(_)) => Listed::EPOLL,
                (Kernel::Kqueue, Some(ready)) => Listed {
                    read: wanted.is_readable() && ready.readable != Readable::No,
                    write: wanted.is_writable() && ready.writable,
                    ..Listed::default()
                },
                (Kernel::Epoll | Kernel::Kqueue, None) => Listed::default(),
            };
        }
    }

    fn became_ready(&mut self, what: Interest) {
        let asked = |of: fn(Interest) -> bool| of(what) && self.interest.is_some_and(of);
        let (read, write) = (asked(Interest::is_readable), asked(Interest::is_writable));
        match self.kernel {
            Kernel::Epoll if read || write => self.listed = Listed::EPOLL,
            Kernel::Kqueue => {
                self.listed.read |= read;
                self.listed.write |= write;
            }
            Kernel::Epoll | Kernel::Iocp => {}
        }
    }

    /// `poll`: the next event, if there is one.
    pub fn event(&mut self) -> Option<Readiness> {
        let listed = mem::take(&mut self.listed);
        let ready = self.ready();
        match self.kernel {
            Kernel::Epoll => ready.filter(|_| listed == Listed::EPOLL),
            Kernel::Kqueue => {
                self.listed.write = listed.read && listed.write;
                ready.filter(|_| listed.read || listed.write).map(|ready| Readiness {
                    readable: if listed.read || self.reset { ready.readable } else { Readable::No },
                    writable: ready.writable && (!listed.read || self.reset),
                })
            }
            Kernel::Iocp => {
                let is_error = self.reset && listed.error;
                let ready = ready.unwrap_or(Readiness { readable: Readable::No, writable: false });
                let readable = if listed.read || is_error { ready.readable } else { Readable::No };
                let writable = ready.writable && (listed.write || is_error);
                self.listed = Listed {
                    read: listed.read && readable == Readable::No,
                    write: listed.write && !writable,
                    error: listed.error && !is_error,
                };
                (writable || readable != Readable::No).then_some(Readiness { readable, writable })
            }
        }
    }

    fn would_block(&mut self) -> io::Error {
        if let (Kernel::Iocp, Some(interest)) = (self.kernel, self.interest) {
            self.listed = Listed::all_of(interest);
        }
        ErrorKind::WouldBlock.into()
    }

    /// What an event would say now. An error and a hang-up are reported whatever the interest is. If epoll finds the
    /// socket full, it marks it, as a write does.
    fn ready(&mut self) -> Option<Readiness> {
        let interest = self.interest?;
        self.found_full |= !self.is_writable();
        let hung_up = self.reset || self.kernel == Kernel::Epoll && self.ended && self.shut_down.is_some();
        let urgent = self.kernel == Kernel::Epoll && interest.is_priority() && !self.marks.is_empty();
        let readable = if hung_up || interest.is_readable() && self.ended || urgent {
            Readable::UntilBlocked
        } else if interest.is_readable() && self.read < self.arrived.len() {
            self.kernel.read_until()
        } else {
            Readable::No
        };
        let writable = hung_up || interest.is_writable() && self.is_writable();
        (writable || readable != Readable::No).then_some(Readiness { readable, writable })
    }

    /// Notes what must hold. (The loop would catch a panic here.)
    fn expect(&mut self, holds: bool, rule: &'static str) {
        if !holds {
            self.broken.get_or_insert(rule);
        }
    }

    fn begin_call(&mut self) -> io::Result<()> {
        self.pass_time();
        self.calls += 1;
        self.failures.pop_front().map_or(Ok(()), |error| Err(error.into()))
    }
}

/// On the system of the tests.
impl From<usize> for Socket {
    fn from(room: usize) -> Self {
        Self::new(Kernel::HERE, room)
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.begin_call()?;
        self.expect(!buffer.is_empty(), "a read into no space returns 0, as the end of input does");
        self.marks.retain(|&mark| mark > self.read);
        let end = self.marks.front().copied().unwrap_or(self.arrived.len());
        let available = &self.arrived[self.read..end];
        match available.len().min(buffer.len()) {
            0 if self.reset => Err(ErrorKind::ConnectionReset.into()),
            0 if self.ended => Ok(0),
            0 => Err(self.would_block()),
            count => {
                buffer[..count].copy_from_slice(&available[..count]);
                self.read += count;
                Ok(count)
            }
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.begin_call()?;
        self.expect(!bytes.is_empty(), "a write of no bytes is a useless system call");
        self.expect(self.shut_down.is_none(), "nothing is written after the end of output");
        if self.reset {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let count = bytes.len().min(self.free());
        self.found_full |= count < bytes.len();
        if count == 0 {
            return Err(self.would_block());
        }
        self.written.extend(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Socket {
    fn shutdown_write(&mut self) -> io::Result<()> {
        self.pass_time();
        if self.reset {
            return Err(ErrorKind::NotConnected.into());
        }
        self.expect(self.shut_down.is_none(), "the output is ended once");
        self.shut_down = Some(self.read);
        Ok(())
    }

    fn kernel(&self) -> Kernel {
        self.kernel
    }
}
